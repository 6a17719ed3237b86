# SPDX-License-Identifier: Apache-2.0
"""A chatd with auth-password, the accounts that log in there, and a mail server of its own."""
import base64
import email
import email.policy
import glob
import itertools
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), "chat"), os.path.join(os.path.dirname(HERE), "ws")]
import client  # noqa: E402
import wsclient  # noqa: E402
from client import BUILD, Device, Person, rest, tap  # noqa: E402,F401

PASSWORD = "right horse battery"
COUNT = itertools.count(1)


class Server(client.Server):
    """chat.yaml with a store and the plugins of this folder; `more` is added to the plugins."""

    def __init__(self, workers, *settings, more="", mail="  mail-file: {}\n"):
        super().__init__(workers, *settings, accounts="  auth-password: {register_per_hour: 0}\n" + mail + more)

    def log_text(self):
        self.log.flush()
        with open(os.path.join(self.dir, "log"), "rb") as f:
            return f.read().decode(errors="replace")

    def mails(self):
        """(to, subject, text) of each mail, the oldest first."""
        out = []
        for path in sorted(glob.glob(os.path.join(self.dir, "mail", "*.eml"))):
            with open(path, encoding="utf-8") as f:
                head, _, text = f.read().partition("\n\n")
            to, subject = (line.partition(": ")[2] for line in head.split("\n"))
            out.append((to, subject, text))
        return out

    def code_for(self, address, seconds=client.WAIT):
        """The newest code mailed to an address, which is waited for."""
        end = time.monotonic() + seconds
        while True:
            codes = [code_in(text) for to, _, text in self.mails() if to == address and code_in(text)]
            if codes or time.monotonic() > end:
                return codes[-1]
            time.sleep(0.02)


def code_in(text):
    found = re.search(r"one use:\s+([0-9a-z-]{30})", text)
    return found and found.group(1)


def auth(server, path, body=None, token=None, method="POST", headers=()):
    send = dict(headers)
    if token:
        send["Authorization"] = "Bearer " + token
    return rest(server, None, method, "/api/auth/" + path, body, headers=send)


class Account:
    """Somebody registered; log_in() for tokens.  As a Person it can have devices."""

    def __init__(self, server, address=None, password=PASSWORD, guest=None, **more):
        self.server, self.password = server, password
        self.address = address or "user%d@example.org" % next(COUNT)
        headers = {"Device-Token": guest.login["device-token"]} if guest else {}
        r = auth(server, "register", {"email": self.address, "password": password, **more}, headers=headers)
        assert r.status == 201, (r.status, r.body)
        self.id = r.json["userId"]
        self.login = {"login": self.address, "passcode": password}

    def log_in(self, **more):
        r = auth(self.server, "authenticate", {"email": self.address, "password": self.password, **more})
        assert r.status == 200, (r.status, r.body)
        return Login(self, r.json)


class Login:
    """One login of an account; a Person for client.Device and client.rest."""

    def __init__(self, account, tokens):
        self.account, self.server, self.id = account, account.server, account.id
        self.take(tokens)

    def take(self, tokens):
        self.token, self.refresh_token, self.session = tokens["accessToken"], tokens["refreshToken"], tokens["session"]
        self.login = {"Authorization": "Bearer " + self.token}

    def refresh(self):
        r = auth(self.server, "refresh", {"refreshToken": self.refresh_token})
        if r.status == 200:
            self.take(r.json)
        return r

    def rest(self, method, path, body=None, **kw):
        return rest(self.server, self, method, path, body, **kw)

    def auth(self, path, body=None, method="POST"):
        return auth(self.server, path, body, self.token, method)


class Socket:
    """A WebSocket of somebody, for its close code."""

    def __init__(self, person):
        self.ws = wsclient.open_ws(person.server.ready["http"][0])
        self.ws.send(wsclient.frame(wsclient.TEXT, wsclient.stomp(
            "CONNECT", [("accept-version", "1.2"), ("host", "x"), *person.login.items()])))
        opcode, data = self.ws.frame()
        assert data.startswith(b"CONNECTED"), data

    def close_code(self):
        while True:
            opcode, data = self.ws.frame()
            if opcode == wsclient.CLOSE:
                return int.from_bytes(data[:2], "big")

    def is_open(self):
        """It answers a frame that asks for a receipt."""
        self.ws.send(wsclient.frame(wsclient.TEXT, wsclient.stomp("BEGIN", [("transaction", "t"), ("receipt", "r")])))
        self.ws.send(wsclient.frame(wsclient.TEXT, wsclient.stomp("ABORT", [("transaction", "t")])))
        opcode, data = self.ws.frame()
        return data.startswith(b"RECEIPT")


class MailServer(threading.Thread):
    """SMTP, as much as a sender needs: EHLO, STARTTLS, AUTH PLAIN, one mail after the other.

    answers: what it says to MAIL FROM, one for each attempt; then 250.  Mails: self.mails, parsed.
    """

    def __init__(self, folder=None, tls=False, login=None, answers=()):
        super().__init__(daemon=True)
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.login, self.answers = login, list(answers)
        self.mails, self.raw, self.attempts, self.seen_tls = [], [], 0, False
        self.news = threading.Condition()
        self.context = None
        if tls:
            self.cert, key = os.path.join(folder, "mail.pem"), os.path.join(folder, "mail.key")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                            "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                            "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", self.cert],
                           check=True, stderr=subprocess.DEVNULL)
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(self.cert, key)
        self.start()

    def run(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            try:
                conn.settimeout(client.WAIT)
                self.serve(conn)
            except (OSError, ValueError):
                pass
            finally:
                conn.close()

    def serve(self, conn):
        f = conn.makefile("rwb")

        def say(text):
            f.write(text.encode() + b"\r\n")
            f.flush()
        say("220 test")
        while True:
            line = f.readline()
            if not line:
                return
            verb = line.split()[0].upper() if line.split() else b""
            if verb == b"EHLO":
                secure = self.context and not self.seen_tls
                say("250-test\r\n" + ("250-STARTTLS\r\n" if secure else "250-AUTH PLAIN\r\n" if self.login else "") + "250 8BITMIME")
            elif verb == b"STARTTLS" and self.context:
                say("220 go on")
                conn = self.context.wrap_socket(conn, server_side=True)
                f, self.seen_tls = conn.makefile("rwb"), True
            elif verb == b"AUTH":
                token = line.split()[2] if len(line.split()) > 2 else b""
                if not token:
                    say("334 ")
                    token = f.readline().strip()
                good = base64.b64decode(token).split(b"\0")[1:] == [x.encode() for x in self.login]
                say("235 ok" if good else "535 no")
            elif verb == b"MAIL":
                self.attempts += 1
                say(self.answers.pop(0) if self.answers else "250 ok")
            elif verb == b"DATA":
                say("354 go on")
                raw = b"".join(iter(f.readline, b".\r\n"))
                with self.news:
                    self.raw.append(raw)
                    self.mails.append(email.message_from_bytes(raw, policy=email.policy.default))
                    self.news.notify_all()
                say("250 taken")
            elif verb == b"QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")

    def wait(self, n=1, seconds=client.WAIT):
        with self.news:
            self.news.wait_for(lambda: len(self.mails) >= n, seconds)
            return list(self.mails)

    def stop(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.join(10)
