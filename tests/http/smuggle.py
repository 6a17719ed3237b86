#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""H193: requests that two servers may delimit differently (H002 to H015), through nginx, HAProxy and two careless
fronts that keep their connections to chatd.  Speaks TAP; CHATD_BUILD names the build directory.

Between the front and chatd stands a tap that reads what chatd answers.  Every answer here names the path it is to,
so for each request that hides in another one it shows who has seen it:
* an answer to a hidden request that its sender did not get was read by nobody's asking: chatd saw a request there
  where the front saw none;
* somebody else who asks through the same front, next on the same connection, gets the answer to the own question;
* where chatd says "Connection: close" it closes, and says nothing more.

usage: smuggle.py"""
import json
import os
import re
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "conf"), os.path.join(HERE, "..")]
import proc  # noqa: E402
from backends.base import IN_CI, Missing  # noqa: E402
from backends.haproxy import Haproxy  # noqa: E402
from backends.nginx import Nginx  # noqa: E402

PATIENCE = 0.1  # seconds in which a careless front wants its answer
SILENCE = 5  # seconds after which a front that waits for more is told that there is none
LAX = "\tignore_invalid_headers off;\n\tunderscores_in_headers on;\n\tproxy_request_buffering off;\n"


class LaxNginx(Nginx):
    """Passes on what the sample leaves out, and bodies as they come."""

    def configuration(self):
        text = super().configuration()
        assert "\tclient_max_body_size" in text
        return text.replace("\tclient_max_body_size", LAX + "\tclient_max_body_size", 1)


# ---- what is sent --------------------------------------------------------------------------------


def head(line, *headers, host="Host: a"):
    """Bytes and text mixed: headers as they are."""
    return b"".join(x.encode("latin-1") + b"\r\n" for x in (line, *([host] if host else []), *headers)) + b"\r\n"


def lengths_and_codings(line, hidden):
    """H004 to H007, H020: whose body is it?"""
    chunks = b"0\r\n\r\n" + hidden
    both = "Content-Length: %d" % len(chunks)
    te = "Transfer-Encoding: chunked"
    for first, second in ((te, both), (both, te), (te, "Content-Length: 5"), ("Content-Length: 0", te)):
        yield head(line, first, second) + chunks
    yield head(line, te, "Content-Length: 4") + b"%x\r\n" % len(hidden) + hidden + b"\r\n0\r\n\r\n"
    for pair in (("0", str(len(hidden))), (str(len(hidden)), "0"), ("5", "5"), ("0, %d" % len(hidden),), ("%d, 0" % len(hidden),)):
        yield head(line, *["Content-Length: " + n for n in pair]) + hidden
    for n in ("-1", "+0", "0x0", "0 5", "", "00", "9" * 20, "0\t", "1e1", "\x0b0", "0;", "0\x00"):
        yield head(line, "Content-Length: " + n) + hidden
    for coding in ("identity", "xchunked", "chunked, chunked", "gzip, chunked", "chunked, identity", "\x0bchunked", "\tchunked", "chunked\x0b",
                   '"chunked"', "Chunked", "chunked;q=1", "chunked,", ",chunked", "", "\xa0chunked"):
        yield head(line, "Transfer-Encoding: " + coding) + chunks
        yield head(line, "Transfer-Encoding: " + coding, both) + chunks
    for name in ("Transfer-Encoding : chunked", " Transfer-Encoding: chunked", "X: y\nTransfer-Encoding: chunked",
                 "X: y\rTransfer-Encoding: chunked", "Transfer_Encoding: chunked", "Transfer-Encoding\x00: chunked",
                 "Transfer-Encoding:\r\n chunked", te + "\r\n" + te, te + "\r\nTransfer-Encoding: identity"):
        yield head(line, both, name) + chunks
    for name in ("Content-Length : 0", " Content-Length: 0", "Content_Length: 0", "X: y\nContent-Length: 0", "Content-Length:\r\n 0",
                 "X: y\r\n\tContent-Length: 0"):
        yield head(line, "Content-Length: %d" % len(hidden), name) + hidden
    yield head(line.replace("1.1", "1.0"), te) + chunks
    yield head(line.replace("1.1", "1.0"), te, both) + chunks
    for chunk in (b"00000000000000000\r\n\r\n", b"0x0\r\n\r\n", b"-0\r\n\r\n", b"0;\n\r\n\r\n", b"0;x\n\n", b"0\n\n", b"0\r\n\n",
                  b"0\r\nX: y\n\n", b"0 \r\n\r\n", b"1\r\nxx\r\n0\r\n\r\n", b"2\r\nx\r\n0\r\n\r\n", b"1\r\nx\n0\r\n\r\n",
                  b"0\r\nContent-Length: 50\r\n\r\n", b"100000000000000000\r\n\r\n"):
        yield head(line, te) + chunk + hidden


def heads(path, hidden):
    """H002, H003, H011 to H015: where does the head end, and for whom is it?"""
    line = "GET %s HTTP/1.1" % path
    yield head(line, host="") + hidden
    for host in ("Host: a\r\nHost: b", "Host: a\r\nHost: a", "Host: a/b", "Host: a b", "Host: u@a", "Host:", "Host : a", " Host: a",
                 "Host: a\nHost: b", "Host: a\x00b"):
        yield head(line, host=host) + hidden
    plain = head(line, "X: y")
    for new in (b"\n", b"\r", b"\r\r\n", b"\n\r"):
        yield plain.replace(b"\r\n", new) + hidden
    for old, new in ((b"\r\n\r\n", b"\r\n\n"), (b"\r\n\r\n", b"\n\r\n"), (b"\r\n\r\n", b"\r\n\r\r\n"), (b"X: y", b"X: y\r"), (b"X: y", b"X: y\n")):
        yield plain.replace(old, new, 1) + hidden
    for header in ("X: y\r\n folded", "X : y", ": y", "X(: y", "X\xe4: y", "no colon", "X: a\x00b", "X: a\x01b", "X: a\x7fb",
                   "Connection: Content-Length", "X: y\r\n\r", "X:" + " " * 50 + "\x0b"):
        yield head(line, header) + hidden
        yield head("POST %s HTTP/1.1" % path, header, "Content-Length: %d" % len(hidden)) + hidden
    for version in ("", " HTTP/9.9", " HTTP/1.2", " HTTP/2.0", " http/1.1", " HTTP/1.1 ", "  HTTP/1.1", "\tHTTP/1.1", " HTTP/1.10", " HTTP/01.1"):
        yield head("GET " + path + version) + hidden
    yield b"\r\n\r\n" + plain + hidden
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden
    for octet in (0, 1, 9, 11, 0x1f, 0x7f, 0x80):
        yield head("GET %s%c HTTP/1.1" % (path, octet)) + hidden


def sizes(path, hidden):
    """H008 to H010: what is too large for one and not for the other."""
    for n in (8193, 40000):
        yield head("GET %s?%s HTTP/1.1" % (path, "x" * n)) + hidden
        yield head("GET %s HTTP/1.1" % path, "X: " + "y" * n) + hidden
        yield head("POST %s HTTP/1.1" % path, "X: " + "y" * n, "Content-Length: %d" % len(hidden)) + hidden
    for n in (100, 150):
        yield head("GET %s HTTP/1.1" % path, *["X%d: y" % i for i in range(n)]) + hidden
        yield head("POST %s HTTP/1.1" % path, *["X%d: y" % i for i in range(n)], "Content-Length: %d" % len(hidden)) + hidden


def attacks():
    """(number, octets): each hides GET /hidden-NUMBER, and ends in GET /last-NUMBER."""
    hidden = b"GET /hidden-NNNN HTTP/1.1\r\nHost: a\r\n\r\n"
    api = "POST /api/auth/anonymous HTTP/1.1\r\nContent-Type: application/json"
    path = "/outer-NNNN"
    every = [*lengths_and_codings("POST %s HTTP/1.1" % path, hidden), *lengths_and_codings(api, hidden),
             *heads(path, hidden), *sizes(path, hidden)]
    for number, data in enumerate(every):
        data += b"GET /last-NNNN HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        yield number, data.replace(b"NNNN", b"%04d" % number)


# ---- who stands between --------------------------------------------------------------------------


def answers(data):
    """The answers that stand whole at the beginning of `data`: [(status, head, body)], the octets left over."""
    found = []
    while b"\r\n\r\n" in data:
        top, rest = data.split(b"\r\n\r\n", 1)
        status = int(top.split(b" ", 2)[1])
        n = re.search(rb"(?im)^content-length: *(\d+)\r?$", top)
        n = int(n.group(1)) if n else 0
        if len(rest) < n:
            break
        found.append((status, top, rest[:n]))
        data = rest[n:]
    return found, data


def path_of(body):
    try:
        return json.loads(body)["path"]
    except (ValueError, KeyError, TypeError):
        return None


class Tap:
    """Passes octets on both ways; keeps what chatd said on each connection."""

    def __init__(self, to):
        self.to, self.said, self.open, self.lock = to, [], 0, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                front, _ = self.listener.accept()
            except OSError:
                return
            back, said = socket.create_connection(self.to, 10), [bytearray(), False]
            with self.lock:
                self.said.append(said)
            threading.Thread(target=self.pump, args=(front, back, None), daemon=True).start()
            threading.Thread(target=self.pump, args=(back, front, said), daemon=True).start()

    @staticmethod
    def pump(source, target, said):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                if said:
                    said[0] += data
                target.sendall(data)
        except OSError:
            pass
        if said:
            said[1] = True
        for s, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
            try:
                s.shutdown(how)
            except OSError:
                pass

    def close(self):
        self.listener.close()


class Careless:
    """A front that looks for the end of a request by one header alone, repeats every octet, and shares one connection
    to the server.  What it lets through is what chatd is up against when the front is no good."""

    def __init__(self, port, by):
        self.to, self.by, self.back, self.lock = ("127.0.0.1", port), by, None, threading.Lock()
        self.asked = set()  # the paths of what was a request for it
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    def address(self):
        return self.listener.getsockname()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def whole(self, data):
        """How many octets the first request has, 0: more are to come."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return 0
        if self.by == "Transfer-Encoding" and re.search(rb"(?i)\ntransfer-encoding[^\n]*chunked", data[:end]):
            last = data.find(b"0\r\n\r\n", end)
            return last + 5 if last >= 0 else len(data)
        n = re.search(rb"(?i)\ncontent-length[ \t]*:[ \t]*(\d+)", data[:end])
        return min(end + (int(n.group(1)) if n else 0), len(data))  # a body is sent as it comes

    def ask(self, request):
        """The octets of the next answer on the shared connection, whosever it is; None: it ended."""
        self.asked.add(request.split(b" ", 2)[1].decode("latin-1") if request.count(b" ") else "")
        if not self.back:
            self.back = socket.create_connection(self.to, 10)
            self.back.settimeout(PATIENCE)
            self.back_rest = b""
        try:
            self.back.sendall(request)
            got = self.back_rest
            while not answers(got)[0]:
                more = self.back.recv(65536)
                if not more:
                    break
                got += more
        except OSError:
            got = b""
        found, _ = answers(got)
        if not found:
            self.drop()
            return None
        n = got.find(b"\r\n\r\n") + 4 + len(found[0][2])
        self.back_rest = got[n:]
        if b"connection: close" in found[0][1].lower():
            self.drop()
        return got[:n]

    def drop(self):
        self.back.close()
        self.back = None

    def serve(self, client):
        data, rest = b"", True
        with client:
            while rest:
                n = self.whole(data)
                if not n:
                    try:
                        rest = client.recv(65536)
                    except OSError:
                        return
                    data += rest
                    continue
                last = b"Connection: close" in data[:n]
                with self.lock:  # its connection to the server is not the client's to close
                    got = self.ask(data[:n].replace(b"Connection: close", b"X-Connect1: close"))
                data = data[n:]
                try:
                    client.sendall(got or b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                except OSError:
                    return
                if not got or last or b"connection: close" in got.split(b"\r\n\r\n")[0].lower():
                    return

    def close(self):
        self.listener.close()
        if self.back:
            self.drop()


# ---- the run -------------------------------------------------------------------------------------


def talk(address, data):
    """All that comes back until the front closes."""
    got = b""
    with socket.create_connection(address, 10) as s:
        try:
            s.sendall(data)
        except OSError:
            pass  # the refusal may be there already
        s.settimeout(SILENCE)
        while True:
            try:
                more = s.recv(65536)
            except TimeoutError:
                if s.gettimeout() != SILENCE:
                    raise
                s.settimeout(30)
                s.shutdown(socket.SHUT_WR)
                continue
            except OSError:
                more = b""
            if not more:
                return got
            got += more


def victim(address, number):
    """Somebody else asks: their answer must be theirs."""
    path = "/victim-%04d" % number
    for _ in range(100):
        found, _ = answers(talk(address, b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode()))
        if found and found[0][0] != 502:  # the front's own: it lost its connection
            break
    assert found, "attack %d: nobody answered the next client" % number
    status, _, body = found[0]
    assert (status, path_of(body)) == (404, path), "attack %d: the next client got %d %r" % (number, status, body[:300])


def told(tap):
    """Of each connection to chatd its answers; and that after the last one nothing comes."""
    all_of = []
    for text, ended in list(tap.said):
        found, rest = answers(bytes(text))
        assert not rest, "chatd said half an answer: %r" % rest[:200]
        for i, (status, top, _) in enumerate(found):
            last = b"connection: close" in top.lower()
            assert not last or i == len(found) - 1, "chatd said more after Connection: close: %r" % found[i + 1][1]
            assert not last or ended, "chatd left a connection open after %d with Connection: close" % status
        all_of.append(found)
    return all_of


def differential(server, make):
    tap = Tap(server.address())
    front = None
    try:
        front = make(tap.port)
        seen_by = {}
        for number, data in attacks():
            found, _ = answers(talk(front.address(), data))
            seen_by[number] = [path_of(body) for _, _, body in found]
            victim(front.address(), number)
        settle(tap)
        conversations = told(tap)
    finally:
        tap.close()
        if front:
            front.close()
    seen = [path_of(body) for one in conversations for _, _, body in one]
    for path in (p for p in seen if p and p.startswith("/hidden-")):
        number = int(path.split("-")[1])
        assert path in seen_by[number] or path in getattr(front, "asked", ()), "attack %d: chatd answered a request that the front did not see" % number
    assert len(conversations) < len(seen), "connections are not kept: %d for %d answers" % (len(conversations), len(seen))
    refused = sum(status in (400, 413, 414, 431, 501, 505) for one in conversations for status, _, _ in one)
    return "%d attacks, %d answers of chatd on %d connections, %d of them refusals" % (
        len(seen_by), len(seen), len(conversations), refused)


def settle(tap):
    """Until no connection that chatd gives up is open."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if all(done or b"connection: close" not in bytes(text).lower() for text, done in list(tap.said)):
            return
        time.sleep(0.05)


FRONTS = [("nginx with the sample's configuration", lambda port: Nginx(["127.0.0.1:%d" % port]).start()),
          ("nginx that passes on invalid headers, and bodies as they come",
           lambda port: LaxNginx(["127.0.0.1:%d" % port]).start()),
          ("HAProxy", lambda port: Haproxy("127.0.0.1:%d" % port).start()),
          ("HAProxy with accept-invalid-http-request", lambda port: Haproxy("127.0.0.1:%d" % port, lax=True).start()),
          ("a front that goes by Content-Length alone", lambda port: Careless(port, "Content-Length")),
          ("a front that goes by Transfer-Encoding first", lambda port: Careless(port, "Transfer-Encoding"))]


def run(number, name, make, server):
    try:
        note = differential(server, make)
    except Missing as why:
        if IN_CI:
            raise
        return "ok %d - %s # SKIP %s" % (number, name, why)
    except Exception as err:  # the next front shall have its turn
        return "not ok %d - %s\n# %s: %s" % (number, name, type(err).__name__, str(err).replace("\n", "\n# "))
    return "ok %d - %s\n# %s" % (number, name, note)


def main():
    print("1..%d" % (len(FRONTS) + 1))
    with proc.Server("chat.yaml", "server.workers=4", "limit-rate.enabled=false",
                     "auth-password.enabled=false") as server:
        lines = [""] * len(FRONTS)

        def one(i):
            lines[i] = run(i + 1, *FRONTS[i], server)
        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(FRONTS))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        code, _ = server.end(seconds=30)
        good = code == 0 and "Sanitizer" not in server.log()
        lines.append("%sok %d - the server lived through it" % ("" if good else "not ", len(lines) + 1))
    print("\n".join(lines))
    sys.exit(any(line.startswith("not ") for line in lines))


main()
