#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What hostile and sloppy STOMP clients get back: exact answers, and nobody else suffers.

Starts chatd ($CHATD_BUILD/bin/chatd) as a broker and as a chat server, on free ports, speaks
raw TCP and raw WebSocket to it, and prints TAP.  Needs nothing but Python.
"""
import base64
import concurrent.futures
import http.client as http_client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CHATD_BUILD", os.path.join(ROOT, "build"))
WAIT = 60.0  # for a machine with much else to do


class Server:
    def __init__(self, config, *settings):
        self.dir = tempfile.mkdtemp(prefix="chatd-stomp-")
        ready = os.path.join(self.dir, "ready")
        args = [os.path.join(BUILD, "bin", "chatd"), "-c", os.path.join(ROOT, "config", config),
                "--ready-file", ready]
        for s in ("http.listen=127.0.0.1:0", "tcp.listen=127.0.0.1:0", "server.data_dir=" + self.dir,
                  "server.drain_grace=0s", *settings):
            args += ["--set", s]
        self.log = open(os.path.join(self.dir, "log"), "w+b")
        self.proc = subprocess.Popen(args, stdout=self.log, stderr=self.log)
        end = time.monotonic() + WAIT
        while not (os.path.exists(ready) and os.path.getsize(ready)):
            if self.proc.poll() is not None or time.monotonic() > end:
                print("Bail out! chatd did not start")
                raise SystemExit(self.stop()[1])
            time.sleep(0.02)
        with open(ready) as f:
            self.ready = json.load(f)

    def address(self, kind):
        host, _, port = self.ready[kind][0].rpartition(":")
        return host, int(port)

    def stop(self):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        try:
            code = self.proc.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            code = -9
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        return code, text


class Gone(Exception):
    """The other side ended; code is the WebSocket close code, None over TCP."""

    def __init__(self, code):
        super().__init__("closed with %s" % code)
        self.code = code


class Tcp:
    name = "tcp"

    def __init__(self, server):
        self.sock = socket.create_connection(server.address("tcp"), WAIT)

    def send(self, data):
        self.sock.sendall(data)

    def recv(self, wait):
        self.sock.settimeout(max(wait, 0.001))
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            raise Gone(None)
        return data

    def close(self):
        self.sock.close()


class WebSocket:
    name = "websocket"

    def __init__(self, server, path="/ws-chat"):
        self.sock = socket.create_connection(server.address("http"), WAIT)
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                           "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                           "Sec-WebSocket-Version: 13\r\n\r\n" % key).encode())
        self.got = b""
        while b"\r\n\r\n" not in self.got:
            self.got += self.sock.recv(4096)
        head, _, self.got = self.got.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise AssertionError(head)

    def send(self, data, opcode=2):
        n = len(data)
        head = bytes([0x80 | opcode])
        if n < 126:
            head += bytes([0x80 | n])
        elif n < 65536:
            head += bytes([0x80 | 126]) + struct.pack(">H", n)
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", n)
        self.sock.sendall(head + b"\0\0\0\0" + data)  # a mask of zeros changes nothing

    def need(self, n, end):
        while len(self.got) < n:
            self.sock.settimeout(max(end - time.monotonic(), 0.001))
            data = self.sock.recv(65536)
            if not data:
                raise Gone(1006)
            self.got += data

    def recv(self, wait):
        end = time.monotonic() + wait
        while True:
            self.need(2, end)
            opcode, n = self.got[0] & 15, self.got[1]
            at = 2
            if n == 126:
                self.need(4, end)
                n, at = struct.unpack(">H", self.got[2:4])[0], 4
            elif n == 127:
                self.need(10, end)
                n, at = struct.unpack(">Q", self.got[2:10])[0], 10
            self.need(at + n, end)
            data, self.got = self.got[at:at + n], self.got[at + n:]
            if opcode == 8:
                raise Gone(struct.unpack(">H", data[:2])[0] if len(data) > 1 else 1005)
            if opcode in (1, 2):
                self.opcode = opcode
                return data

    def close(self):
        self.sock.close()


UNESCAPE = {"n": "\n", "c": ":", "\\": "\\", "r": "\r"}


def unescape(s):
    out, chars = "", iter(s)
    for c in chars:
        out += UNESCAPE[next(chars)] if c == "\\" else c
    return out


class Frame:
    def __init__(self, raw, body, plain):
        lines = raw.split("\n")
        self.command, self.headers, self.raw, self.body = lines[0], {}, raw, body
        plain = plain or self.command == "CONNECTED"
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if not plain:
                name, value = unescape(name), unescape(value)
            self.headers.setdefault(name, value)

    def __repr__(self):
        return "%s %r %r" % (self.command, self.headers, self.body)


class Client:
    def __init__(self, server, kind=Tcp, login="accept-version:1.2\n"):
        self.wire, self.buf, self.beats = kind(server), b"", []
        self.connected, self.plain = None, login == "accept-version:1.0\n"
        if login is not None:
            self.send("CONNECT\n" + login + "\n\0")
            self.connected = self.frame()
            assert self.connected.command == "CONNECTED", self.connected

    def send(self, data):
        self.wire.send(data.encode() if isinstance(data, str) else data)

    def frame(self, wait=WAIT):
        end = time.monotonic() + wait
        while True:
            while self.buf[:1] == b"\n":
                self.beats.append(time.monotonic())
                self.buf = self.buf[1:]
            head, blank, rest = self.buf.partition(b"\n\n")
            if blank:
                length = [int(x[15:]) for x in head.split(b"\n") if x.startswith(b"content-length:")]
                n = length[0] if length else rest.find(b"\0")
                if 0 <= n < len(rest):
                    assert rest[n] == 0, self.buf
                    self.buf = rest[n + 1:]
                    return Frame(head.decode(), rest[:n], self.plain)
            left = end - time.monotonic()
            if left <= 0:
                raise socket.timeout("no frame")
            self.buf += self.wire.recv(left)

    def nothing(self, wait=0.3):
        try:
            f = self.frame(wait)
        except socket.timeout:
            return
        raise AssertionError("unexpected %r" % f)

    def gone(self, wait=WAIT):
        try:
            f = self.frame(wait)
        except Gone as g:
            return g.code
        raise AssertionError("unexpected %r" % f)

    def receipt(self, rid):
        f = self.frame()
        assert f.command == "RECEIPT" and f.headers["receipt-id"] == rid, f
        return f

    def subscribe(self, dest, sid="s", extra=""):
        self.send("SUBSCRIBE\nid:%s\ndestination:%s\n%sreceipt:sub-%s\n\n\0" % (sid, dest, extra, sid))
        return self.receipt("sub-" + sid)

    def close(self):
        self.wire.close()


class Tap:
    """May be used by several threads: a server each, as most of the time is spent waiting for time limits."""

    def __init__(self):
        self.n = self.failed = 0
        self.lock = threading.Lock()

    def run(self, name, fn, *args):
        try:
            fn(*args)
            wrong = None
        except Exception as e:  # a test's failure of any kind is its result
            wrong = "  # %s: %s\n" % (type(e).__name__, str(e).replace("\n", "\\n"))
        with self.lock:
            self.n += 1
            self.failed += wrong is not None
            print("%sok %d - %s\n%s" % ("not " if wrong else "", self.n, name, wrong or ""), end="", flush=True)


# ---- faults: (name, before CONNECT?, bytes, message, body, close code) ---------------------

LOGGED_IN, FRESH = True, False
TIMEOUTS = ("CONNECT timeout", "Incomplete frame")  # what these say comes when their time is over
FAULTS = [
    ("H090 SockJS framing", FRESH, b'["CONNECT\\naccept-version:1.1,1.0\\n\\n\\u0000"]', "Bad command", None, 1002),
    ("H091 FOO", LOGGED_IN, b"FOO\n\n\0", "Bad command", 'Could not interpret command "FOO"', 1002),
    ("H091 lower case", LOGGED_IN, b"send\n\n\0", "Bad command", 'Could not interpret command "send"', 1002),
    ("H091 a space", LOGGED_IN, b"SEND \n\n\0", "Bad command", 'Could not interpret command "SEND "', 1002),
    ("H091 33 octets", LOGGED_IN, b"A" * 33, "Bad command", "Command too long", 1002),
    *[("H092 %s first" % v.decode(), FRESH, v + h + b"\n\n\0", "Illegal command",
       "You must log in using CONNECT first", 1002)
      for v, h in ((b"SEND", b"\ndestination:/topic/a"), (b"SUBSCRIBE", b"\nid:1\ndestination:/topic/a"),
                   (b"ACK", b"\nid:1"), (b"BEGIN", b"\ntransaction:1"), (b"DISCONNECT", b""))],
    ("H093 CONNECT again", LOGGED_IN, b"CONNECT\naccept-version:1.2\n\n\0", "Illegal command", "Already connected", 1002),
    ("H093 STOMP again", LOGGED_IN, b"STOMP\naccept-version:1.2\n\n\0", "Illegal command", "Already connected", 1002),
    ("H094 1.3", FRESH, b"CONNECT\naccept-version:1.3\n\n\0", "Version mismatch", "Supported versions are 1.0,1.1,1.2", 1002),
    ("H094 2.0,9", FRESH, b"CONNECT\naccept-version:2.0,9\n\n\0", "Version mismatch", None, 1002),
    *[("H095 heart-beat %s" % b, FRESH, ("CONNECT\naccept-version:1.2\nheart-beat:%s\n\n\0" % b).encode(),
       "Bad CONNECT", "Invalid heart-beat", 1002) for b in ("-1,5", "a,b", "1", "T,0", "100,10,50")],
    *[("H096 content-length %s" % v, LOGGED_IN, ("SEND\ndestination:/topic/a\ncontent-length:%s\n\nx\0" % v).encode(),
       "Bad content-length", None, 1002) for v in ("-1", "abc", "1e3")],
    ("H096 content-length 2^63", LOGGED_IN, b"SEND\ndestination:/topic/a\ncontent-length:9223372036854775808\n\n", "Frame too large", None, 1009),
    ("H096 content-length over the limit", LOGGED_IN, b"SEND\ndestination:/topic/a\ncontent-length:65536\n\n", "Frame too large", None, 1009),
    ("H096 content-length too small", LOGGED_IN, b"SEND\ndestination:/topic/a\ncontent-length:1\n\nxyz\0", "Frame must be terminated with a null octet", None, 1002),
    ("H096 content-length too large", LOGGED_IN, b"SEND\ndestination:/topic/a\ncontent-length:9\n\nxyz\0", "Incomplete frame", None, 1002),
    ("H096 no NUL", LOGGED_IN, b"SEND\ndestination:/topic/a\n\nxyz", "Incomplete frame", None, 1002),
    ("H096 8 KiB before login", FRESH, b"CONNECT\n" + b"a:" + b"b" * 4000 + b"\nc:" + b"d" * 4090 + b"\n" + b"e:" + b"f" * 200, "Frame too large", None, 1009),
    ("H097 65 headers", LOGGED_IN, b"SEND\ndestination:/topic/a\n" + b"".join(b"h%d:x\n" % i for i in range(64)) + b"\n\0", "Header limit exceeded", "64", 1002),
    ("H097 name 257", LOGGED_IN, b"SEND\n" + b"n" * 257 + b":x\n\n\0", "Header limit exceeded", "256", 1002),
    ("H097 value 4097", LOGGED_IN, b"SEND\nn:" + b"v" * 4097 + b"\n\n\0", "Header limit exceeded", "4096", 1002),
    ("H097 16 KiB of headers", LOGGED_IN, b"SEND\n" + b"".join(b"h%d:" % i + b"v" * 4000 + b"\n" for i in range(5)), "Header limit exceeded", "16384", 1002),
    ("H098 no colon", LOGGED_IN, b"SEND\nabc\n\n\0", "Malformed frame", None, 1002),
    ("H098 empty name", LOGGED_IN, b"SEND\n:abc\n\n\0", "Malformed frame", None, 1002),
    ("H098 bare CR", LOGGED_IN, b"SEND\na:b\rc\n\n\0", "Malformed frame", None, 1002),
    ("H098 NUL in a header", LOGGED_IN, b"SEND\na:b\0c\n\n\0", "Malformed frame", None, 1002),
    *[("H099 %s" % e.decode(), LOGGED_IN, b"SEND\ndestination:/topic/a\nh:" + e + b"\n\n\0", "Malformed frame",
       "Undefined escape sequence", 1002) for e in (b"\\t", b"\\0", b"x\\", b"\\x41")],
    ("H100 two content-lengths", LOGGED_IN, b"SEND\ndestination:/topic/a\ncontent-length:1\ncontent-length:2\n\nx\0", "Bad content-length", None, 1002),
    ("H102 body on SUBSCRIBE", LOGGED_IN, b"SUBSCRIBE\nid:1\ndestination:/topic/a\n\nx\0", "Malformed frame", "SUBSCRIBE must not have a body", 1002),
    ("H102 body on CONNECT", FRESH, b"CONNECT\naccept-version:1.2\n\nx\0", "Malformed frame", "CONNECT must not have a body", 1002),
    ("H102 body on ACK", LOGGED_IN, b"ACK\nid:1\n\nx\0", "Malformed frame", "ACK must not have a body", 1002),
    ("H103 no destination", LOGGED_IN, b"SEND\n\nx\0", "Missing destination", None, 1002),
    ("H103 empty", LOGGED_IN, b"SEND\ndestination:\n\nx\0", "Invalid destination", None, 1002),
    ("H103 no slash", LOGGED_IN, b"SEND\ndestination:topic/a\n\nx\0", "Invalid destination", None, 1002),
    ("H103 513 octets", LOGGED_IN, b"SEND\ndestination:/topic/" + b"a" * 506 + b"\n\nx\0", "Invalid destination", None, 1002),
    *[("H108 %s" % d, LOGGED_IN, ("SUBSCRIBE\nid:1\ndestination:%s\n\n\0" % d).encode(), "Invalid destination",
       "Wildcards are not supported", 1002) for d in ("*", "#", "**", ">", "+", "/topic/room/*")],
    ("H114 no id", LOGGED_IN, b"SUBSCRIBE\ndestination:/topic/a\n\n\0", "Missing Header", "Header 'id' is required", 1002),
    ("H114 the same id", LOGGED_IN, b"SUBSCRIBE\nid:1\ndestination:/topic/a\n\n\0SUBSCRIBE\nid:1\ndestination:/topic/b\n\n\0", "Duplicated subscription identifier", None, 1002),
    ("H114 unknown id", LOGGED_IN, b"UNSUBSCRIBE\nid:1\n\n\0", "Subscription not found", None, 1002),
    ("H114 id of 4 KiB", LOGGED_IN, b"SUBSCRIBE\nid:" + b"i" * 4096 + b"\ndestination:/topic/a\n\n\0", "Invalid header", None, 1002),
    ("H115 ack:foo", LOGGED_IN, b"SUBSCRIBE\nid:1\ndestination:/topic/a\nack:foo\n\n\0", "Invalid header", None, 1002),
    ("H115 unknown ACK", LOGGED_IN, b"ACK\nid:77\n\n\0", "Message not found", "unknown ack id", 1002),
    ("H115 unknown NACK", LOGGED_IN, b"NACK\nid:77\n\n\0", "Message not found", "unknown ack id", 1002),
    ("H116 17 transactions", LOGGED_IN, b"".join(b"BEGIN\ntransaction:%d\n\n\0" % i for i in range(17)), "Transaction limit exceeded", None, 1002),
    ("H116 1,025 frames", LOGGED_IN, b"BEGIN\ntransaction:t\n\n\0" + b"SEND\ndestination:/topic/a\ntransaction:t\n\n\0" * 1025, "Transaction too large", None, 1002),
    ("H116 COMMIT unknown", LOGGED_IN, b"COMMIT\ntransaction:t\n\n\0", "Bad transaction", None, 1002),
    ("H116 SEND in aborted", LOGGED_IN, b"BEGIN\ntransaction:t\n\n\0ABORT\ntransaction:t\n\n\0SEND\ndestination:/topic/a\ntransaction:t\n\n\0", "Bad transaction", None, 1002),
    ("H117 selector", LOGGED_IN, b"SUBSCRIBE\nid:1\ndestination:/topic/a\nselector:T(java.lang.Runtime)\n\n\0", "Unsupported header", "selector is not supported", 1002),
    *[("H121 %s" % v, LOGGED_IN, v.encode() + b"\n\n\0", "Bad command", 'Could not interpret command "%s"' % v, 1002)
      for v in ("MESSAGE", "RECEIPT", "ERROR", "CONNECTED")],
    ("H122 nothing", FRESH, b"\n", "CONNECT timeout", None, 4408),
    ("H122 half a CONNECT", FRESH, b"CONNECT\naccept-version:1.2\n", "CONNECT timeout", None, 4408),
    ("H124 129 subscriptions", LOGGED_IN, b"".join(b"SUBSCRIBE\nid:%d\ndestination:/topic/a\n\n\0" % i for i in range(129)), "Subscription limit exceeded", None, 1008),
    ("H126 header not UTF-8", LOGGED_IN, b"SEND\ndestination:/topic/a\nh:\xff\n\n\0", "Malformed frame", "Header is not UTF-8", 1007),
    ("H126 command not UTF-8", LOGGED_IN, b"SE\xc0\xaf\n\n\0", "Malformed frame", "Header is not UTF-8", 1007),
]


def fault(server, kind, row):
    _, logged_in, data, message, body, code = row
    c = Client(server, kind, "accept-version:1.2\n" if logged_in else None)
    c.send(data)
    f = c.frame()
    assert f.command == "ERROR", f
    assert f.headers["message"] == message, f
    assert f.headers["code"] and f.headers["content-type"] == "text/plain", f
    text = f.body.decode()
    assert text and "\n" not in text, f
    assert body is None or body in text, f
    if message == "Version mismatch":
        assert f.headers["version"] == "1.0,1.1,1.2", f
    got = c.gone()
    assert got in (None, code), "closed with %s" % got
    c.close()


def receipt_id_of_a_fault(server):
    for data in ("FOO\nreceipt:r\\c1\n\n\0", "SEND\nreceipt:r\\c1\n\nx\0", "SEND\nreceipt:r\\c1\nh:\\t\n\n\0",
                 "UNSUBSCRIBE\nid:9\nreceipt:r\\c1\n\n\0"):
        c = Client(server)
        c.send(data)
        assert c.frame().headers["receipt-id"] == "r:1"
        c.close()


# ---- what must work ------------------------------------------------------------------------

def versions(server):
    for asked, got in (("", "1.0"), ("accept-version:1.0,10.1\n", "1.0"), ("accept-version:1.1,1.0\n", "1.1"),
                       ("accept-version:1.0,1.1,9\n", "1.1"), ("accept-version:1.2,1.1,1.0\nhost:no.such.host\n", "1.2")):
        c = Client(server, login=asked)
        h = c.connected.headers
        assert h["version"] == got, c.connected
        for name in ("session", "server", "heart-beat", "user-name", "ack-level"):
            assert h[name], c.connected
        c.close()


def one_octet_at_a_time(server, kind):
    c = Client(server, kind, None)
    data = b"\r\n\nCONNECT\naccept-version:1.2\n\n\0\nSUBSCRIBE\nid:0\ndestination:/topic/one\nreceipt:1\n\n\0" \
           b"SEND\ndestination:/topic/one\ncontent-length:3\n\na\0b\0\n"
    for i in range(len(data)):
        c.send(data[i:i + 1])
    assert c.frame().command == "CONNECTED"
    c.receipt("1")
    f = c.frame()
    assert f.command == "MESSAGE" and f.body == b"a\0b", f
    c.close()


def first_header_wins(server):
    a = Client(server)
    a.subscribe("/topic/first", "1")
    a.subscribe("/topic/second", "2")
    a.send("SEND\ndestination:/topic/first\ndestination:/topic/second\nh:1\nh:2\nreceipt:r\nreceipt:q\n\nx\0")
    got = {f.command: f for f in (a.frame(), a.frame())}
    assert got["MESSAGE"].headers["destination"] == "/topic/first", got
    assert got["MESSAGE"].headers["h"] == "1", got
    assert got["RECEIPT"].headers["receipt-id"] == "r", got
    a.nothing()
    a.close()


def escapes_for_every_receiver(server):
    readers = {v: Client(server, login="accept-version:%s\n" % v) for v in ("1.0", "1.1", "1.2")}
    for c in readers.values():
        c.subscribe("/topic/escapes")
    a = Client(server)
    a.send("SEND\ndestination:/topic/escapes\nh\\ci:a\\c\\n\\rforged\\c1\\\\z\n\nx\0")
    f = readers["1.2"].frame()
    assert f.headers["h:i"] == "a:\n\rforged:1\\z", f
    f = readers["1.1"].frame()
    assert f.headers["h:i"] == "a:\n\rforged:1\\z", f
    raw = readers["1.0"].frame().raw
    assert "h\\ci:a:\\n\\rforged:1\\z" in raw.split("\n"), raw
    for c in readers.values():
        c.close()
    a.close()


def identity_is_the_servers(server):
    a = Client(server)
    a.subscribe("/topic/identity")
    a.send("SEND\ndestination:/topic/identity\nmessage-id:x\nsubscription:x\nredelivered:true\nuser-id:eve\n"
           "sender:eve\nsenderId:eve\nfrom:eve\nseq:9\nrole:admin\nack:1\nkept:yes\n\nx\0")
    h = a.frame().headers
    assert h["kept"] == "yes" and h["subscription"] == "s" and h["message-id"] != "x", h
    for name in ("redelivered", "user-id", "sender", "senderId", "from", "seq", "role", "ack", "receipt"):
        assert name not in h, h
    a.close()


def binary_bodies(server):
    a = Client(server, WebSocket)
    a.subscribe("/topic/bin")
    a.send(b"SEND\ndestination:/topic/bin\ncontent-length:4\n\n\xff\0\xfe\x01\0")
    f = a.frame()
    assert f.body == b"\xff\0\xfe\x01" and a.wire.opcode == 2, f
    a.send("SEND\ndestination:/topic/bin\n\nplain \u00e4\0")
    assert a.frame().body.decode() == "plain \u00e4" and a.wire.opcode == 1
    a.close()


def receipts_on_every_frame(server):
    a = Client(server)
    a.send("SUBSCRIBE\nid:s\ndestination:/topic/receipts\nreceipt:1\n\n\0BEGIN\ntransaction:t\nreceipt:2\n\n\0"
           "SEND\ndestination:/topic/receipts\ntransaction:t\nreceipt:3\n\nx\0COMMIT\ntransaction:t\nreceipt:4\n\n\0"
           "BEGIN\ntransaction:t\n\n\0ABORT\ntransaction:t\nreceipt:5\n\n\0UNSUBSCRIBE\nid:s\nreceipt:6\n\n\0"
           "SEND\ndestination:/topic/receipts\nreceipt:7\n\ny\0DISCONNECT\nreceipt:8\n\n\0SEND\nlate\n\n\0")
    ids, bodies = [], []
    try:
        while True:
            f = a.frame()
            (ids if f.command == "RECEIPT" else bodies).append(f.headers.get("receipt-id", f.body))
    except Gone:
        pass
    assert ids == [str(i) for i in range(1, 9)], ids
    assert bodies in ([b"x"], []), bodies
    a.close()


def nothing_after_unsubscribe(server):
    a, b = Client(server), Client(server)
    for i in range(20):
        a.subscribe("/topic/unsub")
        b.send("SEND\ndestination:/topic/unsub\n\nx\0" * 20)
        a.send("UNSUBSCRIBE\nid:s\nreceipt:u\n\n\0")
        while a.frame().command != "RECEIPT":
            pass
        b.send("SEND\ndestination:/topic/unsub\nreceipt:b\n\nx\0")
        b.receipt("b")
    a.nothing()
    a.close()
    b.close()


def transactions(server):
    a, b = Client(server), Client(server)
    a.subscribe("/topic/tx")
    b.send("BEGIN\ntransaction:t\n\n\0SEND\ndestination:/topic/tx\ntransaction:t\n\nin\0"
           "SEND\ndestination:/topic/tx\nreceipt:1\n\nout\0")
    b.receipt("1")
    assert a.frame().body == b"out"
    a.nothing()
    b.send("COMMIT\ntransaction:t\nreceipt:2\n\n\0")
    f = a.frame()
    assert f.body == b"in" and "transaction" not in f.headers, f
    b.receipt("2")
    b.send("BEGIN\ntransaction:u\n\n\0SEND\ndestination:/topic/tx\ntransaction:u\n\nlost\0")
    b.close()
    a.nothing()
    a.close()


def transactions_on_queues(server):
    a = Client(server)
    a.send("BEGIN\ntransaction:t\n\n\0" + "".join(
        "SEND\ndestination:/queue/tx%d\ntransaction:t\n\n%d\0" % (i % 7, i) for i in range(200)) +
        "COMMIT\ntransaction:t\nreceipt:1\n\n\0BEGIN\ntransaction:t\nreceipt:2\n\n\0")
    a.receipt("1")
    a.receipt("2")
    for q in range(7):
        a.send("SUBSCRIBE\nid:%d\ndestination:/queue/tx%d\n\n\0" % (q, q))
        for i in range(q, 200, 7):
            assert a.frame().body == b"%d" % i
    a.close()


def disconnect_closes_1000(server):
    a = Client(server, WebSocket)
    a.send("DISCONNECT\nreceipt:bye\n\n\0SEND\ndestination:/topic/a\n\nignored\0FOO\n\n\0")
    a.receipt("bye")
    assert a.gone() == 1000
    a.close()


def queue_acks(server):
    a, b = Client(server), Client(server)
    a.subscribe("/queue/acks", "q", "ack:client-individual\n")
    for body in ("1", "2"):
        b.send("SEND\ndestination:/queue/acks\nreceipt:r\n\n%s\0" % body)
        b.receipt("r")
    first, second = a.frame(), a.frame()
    assert first.headers["ack"] and first.headers["ack"] != second.headers["ack"], first
    a.send("ACK\nid:%s\nreceipt:k\n\n\0" % first.headers["ack"])
    a.receipt("k")
    a.send("ACK\nid:%s\n\n\0" % first.headers["ack"])
    f = a.frame()
    assert f.headers["message"] == "Message not found" and f.body == b"unknown ack id", f
    a.gone()
    b.send("SUBSCRIBE\nid:q\ndestination:/queue/acks\nack:client\nreceipt:q\n\n\0")
    got = {f.command: f for f in (b.frame(), b.frame())}  # what waited may come before the RECEIPT
    f = got["MESSAGE"]
    assert f.body == b"2" and f.headers["redelivered"] == "true" and "RECEIPT" in got, got
    b.send("ACK\nid:%s\nreceipt:k\n\n\0" % f.headers["ack"])
    b.receipt("k")
    b.close()


def old_clients_ack(server):
    for version, ack in (("1.0", "message-id:%s\n"), ("1.1", "message-id:%s\nsubscription:s\n")):
        a = Client(server, login="accept-version:%s\n" % version)
        a.subscribe("/queue/old", "s", "ack:client\n")
        a.send("SEND\ndestination:/queue/old\n\nx\0")
        f = a.frame()
        assert "ack" not in f.headers, f
        a.send("ACK\n" + ack % f.headers["message-id"] + "receipt:k\n\n\0")
        a.receipt("k")
        a.close()


def unnamed_subscriptions(server):
    a = Client(server, login="")
    a.send("SUBSCRIBE\ndestination:/topic/old\nreceipt:1\n\n\0SEND\ndestination:/topic/old\n\nx\0")
    a.receipt("1")
    assert a.frame().headers["subscription"]
    a.send("UNSUBSCRIBE\ndestination:/topic/old\nreceipt:2\n\n\0SEND\ndestination:/topic/old\nreceipt:3\n\nx\0")
    a.receipt("2")
    a.receipt("3")
    a.nothing()
    a.close()


def in_a_quiet_moment(case):
    """A client that sleeps, too, on a machine that does is late by itself: then once more.  What is wrong is so each time."""
    def repeated(server):
        for left in (3, 2, 1, 0):
            try:
                case(server)
                return
            except (AssertionError, KeyError, OSError):
                if not left:
                    raise
    repeated.__name__ = case.__name__
    return repeated


@in_a_quiet_moment
def beats_of_the_server(server):
    a = Client(server, login="accept-version:1.2\nheart-beat:0,1000\n")
    begin = time.monotonic()
    a.beats = []
    try:
        a.frame(4.5)
    except socket.timeout:
        pass
    gaps = sorted(y - x for x, y in zip([begin] + a.beats, a.beats))
    # One that comes late on a busy machine is followed by one that comes sooner.
    assert len(gaps) >= 3 and gaps[len(gaps) // 2] <= 1.2 and (begin + 5 - a.beats[-1]) < 3, gaps
    a.close()


@in_a_quiet_moment
def silent_client(server):
    a = Client(server, WebSocket, "accept-version:1.2\nheart-beat:1000,0\n")
    for _ in range(4):
        time.sleep(1)
        begin = time.monotonic()
        a.send("\n")
    f = a.frame()
    took = time.monotonic() - begin
    assert f.headers["message"] == "heart-beat timeout" and 2.9 < took < 15, (f, took)
    assert a.gone() == 1002
    a.close()


def beats_while_the_server_stood_still(workers):
    """F36: what clients sent meanwhile is read before they are said to have been silent."""
    server = Server("broker.yaml", "server.workers=%d" % workers)
    try:
        clients, done = [], threading.Event()

        def beat():
            while not done.wait(0.5):
                for c in list(clients):
                    c.send("\n")

        # From the first one on: it takes its time until all are there, and until each was asked.
        beating = threading.Thread(target=beat)
        beating.start()
        for kind in (Tcp, WebSocket):
            for _ in range(60):
                clients.append(Client(server, kind, "accept-version:1.2\nheart-beat:2000,0\n"))
        server.proc.send_signal(signal.SIGSTOP)
        time.sleep(8)
        server.proc.send_signal(signal.SIGCONT)
        time.sleep(2)
        for i, c in enumerate(clients):
            c.subscribe("/topic/still", "s%d" % i)
    finally:
        done.set()
        beating.join()
        for c in clients:
            c.close()
        server.proc.send_signal(signal.SIGCONT)
        code, log = server.stop()
    assert code == 0, log[-3000:]


def many_frames_in_one_message(server):
    a = Client(server, WebSocket)
    a.subscribe("/topic/many")
    a.send(b"".join(b"SEND\ndestination:/topic/many\n\n%d\0\n" % i for i in range(1000)))
    for i in range(1000):
        assert a.frame().body == b"%d" % i
    a.close()


def line_ends_without_number(server, kind):
    a = Client(server, kind)
    a.send(b"\n" * 61440)
    a.send(b"BEGIN\ntransaction:t\nreceipt:1\n\n\0")
    a.receipt("1")
    a.close()


def ten_thousand_unread_receipts(server):
    a = Client(server)
    value = "v\\c\\n\\\\" * 8
    frames = ("SEND\ndestination:/topic/unread\nreceipt:%d-" + value + "\n\nx\0")
    sent = "".join(frames % i for i in range(10000)).encode()
    a.wire.sock.setblocking(False)
    done, idle = 0, 0
    while done < len(sent) and idle < 20:  # until the server stops reading
        try:
            done += a.wire.sock.send(sent[done:done + 65536])
            idle = 0
        except BlockingIOError:
            idle += 1
            time.sleep(0.05)
    a.wire.sock.setblocking(True)
    want = 0
    while want < 10000:
        f = a.frame()
        assert f.headers["receipt-id"] == "%d-" % want + "v:\n\\" * 8, f
        want += 1
        if done < len(sent):
            a.wire.sock.settimeout(WAIT)
            done += a.wire.sock.send(sent[done:done + 4096])
    a.close()


def ten_thousand_and_gone(server):
    a, b = Client(server), Client(server)
    a.subscribe("/topic/gone")
    b.send("".join("SEND\ndestination:/topic/gone\n\n%d\0" % i for i in range(10000)))
    b.close()
    for i in range(10000):
        assert a.frame().body == b"%d" % i
    a.close()


# ---- authority, in the chat server ----------------------------------------------------------

def soft(server, frame, code):
    c = Client(server)
    c.subscribe("/user/queue/errors", "e")
    c.send(frame)
    f = c.frame()
    assert f.command == "MESSAGE" and f.headers["destination"] == "/user/queue/errors", f
    error = json.loads(f.body)
    assert error["code"] == error["errorCode"] == code and error["message"] and error["timestamp"], error
    assert error["receiptId"] == "r", error
    c.nothing(0.1)  # no RECEIPT
    c.send("BEGIN\ntransaction:t\nreceipt:alive\n\n\0")
    c.receipt("alive")
    c.close()


SOFT = [
    *[("H104 SEND to %s" % d, "SEND\ndestination:%s\nreceipt:r\n\n{}\0" % d, c) for d, c in (
        ("/topic/room/lobby", "FORBIDDEN"), ("/topic/public", "FORBIDDEN"), ("/user/eve/queue/messages", "FORBIDDEN"))],
    *[("H105 SUBSCRIBE %s" % d, "SUBSCRIBE\nid:x\ndestination:%s\nreceipt:r\n\n\0" % d, "FORBIDDEN") for d in (
        "/user/eve/queue/messages",)],
    ("unknown /app name", "SEND\ndestination:/app/no.such\nreceipt:r\n\n{}\0", "NOT_FOUND"),
]


def guest_identity(server):
    c = Client(server, login="accept-version:1.2\nuserId:admin\n")
    h = c.connected.headers
    assert h["user-name"].startswith("user_") and h["device-token"], h
    again = Client(server, login="accept-version:1.2\ndevice-token:%s\n" % h["device-token"])
    assert again.connected.headers["user-name"] == h["user-name"], again.connected
    c.close()
    again.close()


def bad_bearer(server):
    c = Client(server, WebSocket, None)
    c.send("CONNECT\naccept-version:1.2\nAuthorization:Bearer nonsense\n\n\0")
    f = c.frame()
    assert f.command == "ERROR" and f.headers["message"] == "Bad CONNECT" and f.body == b"Access refused", f
    assert c.gone() == 1008
    c.close()


def access_token(server):
    http = http_client.HTTPConnection(*server.address("http"), timeout=WAIT)
    http.request("POST", "/api/auth/anonymous", "{}", {"Content-Type": "application/json"})
    answer = http.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    http.close()
    return json.loads(body)["accessToken"]


def two_users_in_one_login(server):
    first, second = access_token(server), access_token(server)
    c = Client(server, lambda s: WebSocket(s, "/ws-chat?token=" + first), None)
    c.send("CONNECT\naccept-version:1.2\nAuthorization:Bearer %s\n\n\0" % second)
    f = c.frame()
    assert f.headers["message"] == "Bad CONNECT" and f.body == b"conflicting credentials", f
    assert c.gone() == 1008
    c.close()
    c = Client(server, lambda s: WebSocket(s, "/ws-chat?token=" + first),
               "accept-version:1.2\nAuthorization:Bearer %s\n" % first)
    assert c.connected.headers["user-name"]
    c.close()


def still_serving(server, control):
    reader, writer = control
    writer.send("SEND\ndestination:/topic/control\nreceipt:c\n\nstill here\0")
    writer.receipt("c")
    assert reader.frame().body == b"still here"
    assert server.proc.poll() is None


def clean_end(server):
    code, log = server.stop()
    assert code == 0, "exit %s\n%s" % (code, log[-2000:])
    for word in ("Sanitizer", "runtime error"):
        assert word not in log, log[-4000:]


def broker_tests(tap, workers):
    # As long as the longest case beside these: who is slow to log in is not to be taken for one that waits for the limit.
    server = Server("broker.yaml", "stomp.connect_timeout=10s", "stomp.frame_timeout=10s",
                    "server.workers=%d" % workers)
    control = (Client(server), Client(server))
    control[0].subscribe("/topic/control")
    w = " (%d workers)" % workers
    # Several at a time, and what takes seconds beside them: each has a connection of its own, and some wait for a time limit.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for fn in (beats_of_the_server, silent_client):
            pool.submit(tap.run, fn.__name__.replace("_", " ") + w, fn, server)
        pool.submit(tap.run, "beats while the server stood still" + w, beats_while_the_server_stood_still, workers)
        for row in sorted(FAULTS, key=lambda row: row[3] not in TIMEOUTS):
            for kind in (Tcp, WebSocket):
                pool.submit(tap.run, "%s, %s%s" % (row[0], kind.name, w), fault, server, kind, row)
    tap.run("other clients felt nothing" + w, still_serving, server, control)
    for fn in (receipt_id_of_a_fault, versions, first_header_wins, escapes_for_every_receiver, identity_is_the_servers,
               binary_bodies, receipts_on_every_frame, nothing_after_unsubscribe, transactions,
               transactions_on_queues, disconnect_closes_1000,
               queue_acks, old_clients_ack, unnamed_subscriptions,
               many_frames_in_one_message, ten_thousand_unread_receipts, ten_thousand_and_gone):
        tap.run(fn.__name__.replace("_", " ") + w, fn, server)
    for fn in (one_octet_at_a_time, line_ends_without_number):
        for kind in (Tcp, WebSocket):
            tap.run("%s, %s%s" % (fn.__name__.replace("_", " "), kind.name, w), fn, server, kind)
    tap.run("other clients felt nothing at all" + w, still_serving, server, control)
    for c in control:
        c.close()
    tap.run("SIGTERM ends it with 0" + w, clean_end, server)


def chat_tests(tap):
    server = Server("chat.yaml", "tcp.enabled=true")
    for name, frame, code in SOFT:
        tap.run(name + " is a soft " + code, soft, server, frame, code)
    tap.run("a guest is who the server says", guest_identity, server)
    tap.run("a bad bearer is refused with 1008", bad_bearer, server)
    tap.run("H128 two users in one login", two_users_in_one_login, server)
    tap.run("SIGTERM ends the chat server with 0", clean_end, server)


def main():
    tap = Tap()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(broker_tests, tap, 1), pool.submit(broker_tests, tap, 4), pool.submit(chat_tests, tap)]:
            done.result()
    print("1..%d" % tap.n)
    sys.exit(tap.failed != 0)


if __name__ == "__main__":
    main()
