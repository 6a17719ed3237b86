#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hostile HTTP against a real server: each request gets its exact answer and disturbs nobody.

Speaks TAP; CHATD_BUILD names the build directory.  Every check runs against a server with one
worker and one with four; the checks of time limits run beside each other, for about 70 s.

usage: hostile_http.py [--fast] [PART OF A CHECK'S NAME]      --fast: leave out the time limits
"""
import concurrent.futures
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import traceback
import warnings

import engine

warnings.simplefilter("ignore", DeprecationWarning)  # of TLS 1.0 and 1.1, which are tried on purpose
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONFIG = os.environ.get("CHATD_CONFIG", os.path.join(ROOT, "config", "chat.yaml"))
ORIGIN = "https://app.example.com"
FULL = os.environ.get("CHATD_FULL") == "1"
TESTS, SLOW = [], []
WAIT = 60  # for a machine with much else to do


def test(fn):
    TESTS.append(fn)
    return fn


def slow(fn):
    SLOW.append(fn)
    return fn


class Server:
    def __init__(self, workers, *settings):
        self.dir = tempfile.mkdtemp(prefix="chatd-http-")
        ready = os.path.join(self.dir, "ready.json")
        self.log = open(os.path.join(self.dir, "log"), "w+b")
        values = ["http.listen=127.0.0.1:0", "server.data_dir=" + self.dir, "server.workers=%d" % workers, "server.drain_grace=0s",
                  "http.allowed_origins=[%s]" % ORIGIN, *engine.settings(), *settings]
        command = [os.path.join(os.environ["CHATD_BUILD"], "bin", "chatd"), "-c", CONFIG, "--ready-file", ready]
        for value in values:
            command += ["--set", value]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        until = time.monotonic() + WAIT
        while not (os.path.exists(ready) and os.path.getsize(ready)):
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit("Bail out! the server did not start:\n" + self.text())
            time.sleep(0.02)
        with open(ready, encoding="utf-8") as stream:
            host, port = json.load(stream)["http"][0].rsplit(":", 1)
        self.address = (host, int(port))
        self.host = "%s:%s" % (host, port)

    def text(self):
        self.log.flush()
        with open(self.log.name, encoding="utf-8", errors="replace") as stream:
            return stream.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(WAIT)
        shutil.rmtree(self.dir, ignore_errors=True)
        return code

    def connect(self):
        return Client(socket.create_connection(self.address, WAIT))


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def get(self, name):
        return next((value for key, value in self.headers if key.lower() == name), None)

    def json(self):
        return json.loads(self.body)


class Client:
    """A socket that reads one answer after the other."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer may be there already

    def more(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        return bool(data)

    def until(self, mark):
        while mark not in self.buffer:
            if not self.more():
                return None
        head, self.buffer = self.buffer.split(mark, 1)
        return head

    def exactly(self, n):
        while len(self.buffer) < n:
            assert self.more(), "cut after %d of %d octets" % (len(self.buffer), n)
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def answer(self, no_body=False):
        head = self.until(b"\r\n\r\n")
        assert head is not None, "the connection ended without an answer: %r" % self.buffer[:200]
        lines = head.decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1", lines[0]
        headers = [tuple(line.split(": ", 1)) for line in lines[1:]]
        result = Answer(int(status), headers, b"")
        assert all(len(h) == 2 and "\r" not in h[1] and "\n" not in h[1] for h in headers), headers
        if result.status == 100 or result.status == 101 or no_body or result.status in (204, 304):
            return result
        assert result.get("date") and result.get("x-content-type-options") == "nosniff", headers
        assert result.get("server") is None, headers
        if result.get("transfer-encoding") == "chunked":
            while True:
                n = int(self.until(b"\r\n"), 16)
                result.body += self.exactly(n)
                assert self.exactly(2) == b"\r\n"
                if n == 0:
                    return result
        result.body = self.exactly(int(result.get("content-length")))
        return result

    def ended(self):
        """The server closes, with nothing more to say."""
        while self.more():
            pass
        return self.buffer == b""


def request(line="GET / HTTP/1.1", *headers, host="a", body=b""):
    text = line + "\r\n" + ("Host: %s\r\n" % host if host else "") + "".join(h + "\r\n" for h in headers)
    return text.encode("latin-1") + b"\r\n" + body


def expect(server, data, status, code=None, close=True, no_body=False):
    """One request, one answer; with close the connection must end after it."""
    with server.connect() as client:
        client.send(data)
        result = client.answer(no_body)
        what = "%r: %d %r" % (data[:100], result.status, result.body[:200])
        assert result.status == status, what
        if code:
            problem = result.json()
            assert problem["code"] == code, what
            assert result.get("content-type") == "application/problem+json", what
            assert result.get("cache-control") == "no-store", what
            assert problem["status"] == status and problem["error"] == problem["title"], what
            assert problem["message"] == problem["detail"] and "path" in problem, what
            assert len(problem["requestId"]) == 16, what
        if close:
            assert result.get("connection") == "close", what
            assert client.ended(), what
        else:
            assert result.get("connection") is None, what
            client.send(request("GET /healthz HTTP/1.1"))
            assert client.answer().status == 200, what
        return result


def split_alike(server, data, status, code):
    """However it is cut, the answer is the same."""
    for cut in sorted({1, len(data) // 3, len(data) - 1}):
        with server.connect() as client:
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.send(data[:cut])
            time.sleep(0.01)
            client.send(data[cut:])
            result = client.answer()
            assert (result.status, result.json()["code"]) == (status, code), (cut, result.status, result.body)


# ---- what is served ----------------------------------------------------------------------------

@test
def serves_health_and_the_page(server):
    assert expect(server, request("GET /healthz HTTP/1.1"), 200, close=False).json() == {"status": "UP"}
    assert expect(server, request("GET /readyz HTTP/1.1"), 200, close=False).json() == {"status": "UP"}
    health = expect(server, request("GET /api/chat/health HTTP/1.1"), 200, close=False).json()
    assert health["status"] == "UP" and health["serverId"] and abs(health["timestamp"] / 1000 - time.time()) < 60
    page = expect(server, request("GET / HTTP/1.1"), 200, close=False)
    assert page.get("content-type") == "text/html; charset=utf-8" and b"<!doctype html>" in page.body.lower()
    assert "script-src 'self'" in page.get("content-security-policy"), page.headers
    head = expect(server, request("HEAD / HTTP/1.1"), 200, close=False, no_body=True)
    assert head.get("content-length") == str(len(page.body)) and head.get("etag") == page.get("etag")
    script = expect(server, request("GET /js/main.js HTTP/1.1"), 200, close=False)
    assert script.get("content-type") == "text/javascript; charset=utf-8"
    expect(server, request("GET /js/ HTTP/1.1"), 404, "NOT_FOUND", close=False)
    expect(server, request("GET /js HTTP/1.1"), 404, "NOT_FOUND", close=False)


@test
def h192_conditional_requests(server):
    tag = expect(server, request("GET / HTTP/1.1"), 200, close=False).get("etag")
    for value in (tag, "W/" + tag, '"x", ' + tag, "*"):
        with server.connect() as client:
            client.send(request("GET / HTTP/1.1", "If-None-Match: " + value))
            result = client.answer()
            assert result.status == 304 and result.get("etag") == tag, (value, result.status)
            assert result.get("content-length") is None and result.get("content-type") is None
            client.send(request("GET /healthz HTTP/1.1"))
            assert client.answer().status == 200
    for header in ('If-None-Match: "nonsense', "If-Range: x", "Accept: ;;;q=9", "Range: bytes=5-2", "If-Match: 1",
                   "If-Modified-Since: yesterday"):
        expect(server, request("GET / HTTP/1.1", header), 200, close=False)


@test
def http_1_0_is_kept_only_when_asked(server):
    with server.connect() as client:
        client.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert client.answer().get("connection") == "close" and client.ended()
    with server.connect() as client:
        for _ in range(2):
            client.send(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert client.answer().get("connection") == "keep-alive"
    with server.connect() as client:
        client.send(request("GET /healthz HTTP/1.1", "Connection: close"))
        assert client.answer().get("connection") == "close" and client.ended()


@test
def unknown_api_paths_are_not_the_pages(server):
    for method in ("GET", "POST", "DELETE"):
        expect(server, request(method + " /api/nowhere HTTP/1.1"), 404, "NOT_FOUND", close=False)


# ---- H001 to H021 ------------------------------------------------------------------------------

@test
def h001_noise(server):
    hello = bytes.fromhex("16030100c8010000c40303") + bytes(189)
    for data in (hello, bytes(8192), b"\xff\xfe" * 50, b"\x00", b"GE\x01"):
        expect(server, data, 400, "BAD_REQUEST")
    expect(server, b"A" * 9000, 414, "URI_TOO_LONG")
    dice = random.Random(1)
    for _ in range(50):
        data = bytes([dice.randrange(128, 256)]) + dice.randbytes(dice.randrange(1, 3000))
        expect(server, data, 400, "BAD_REQUEST")


@test
def h002_no_host(server):
    expect(server, b"GET / HTTP/1.1\r\n\r\n", 400, "HOST_REQUIRED")
    split_alike(server, b"GET / HTTP/1.1\r\nX: y\r\n\r\n", 400, "HOST_REQUIRED")


@test
def h003_bad_host(server):
    for second in ("a", "b"):
        expect(server, request("GET / HTTP/1.1", "Host: " + second), 400, "HOST_INVALID")
    for host in ("a/b", "a b", "u@a", "u:p@a", "a:b", "a:99999", "[::1", "a,b"):
        expect(server, request(host=host), 400, "HOST_INVALID")
    expect(server, b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "HOST_INVALID")


SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


@test
def h004_h005_ambiguous_lengths(server):
    line = "POST /api/chat/rooms HTTP/1.1"
    expect(server, request(line, "Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
           400, "AMBIGUOUS_LENGTH")
    expect(server, request(line, "Transfer-Encoding: chunked", "Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED),
           400, "AMBIGUOUS_LENGTH")
    for lengths in (("5", "6"), ("5", "5"), ("5, 5",)):
        headers = ["Content-Length: " + length for length in lengths]
        expect(server, request(line, *headers, body=b"12345" + SMUGGLED), 400, "AMBIGUOUS_LENGTH")


@test
def h006_bad_lengths(server):
    line = "POST /api/chat/rooms HTTP/1.1"
    for length in ("-1", "+5", "0x10", "5 5", ""):
        expect(server, request(line, "Content-Length: " + length, body=SMUGGLED), 400, "BAD_LENGTH")
    expect(server, request(line, "Content-Length: " + "9" * 20, body=SMUGGLED), 413, "CONTENT_TOO_LARGE")


@test
def h007_transfer_codings(server):
    line = "POST /api/chat/rooms HTTP/1.1"
    for coding in ("identity", "xchunked", "chunked, chunked", "gzip, chunked", "\x0bchunked"):
        expect(server, request(line, "Transfer-Encoding: " + coding, body=b"0\r\n\r\n" + SMUGGLED),
               501, "BAD_TRANSFER_ENCODING")
    expect(server, request("POST /api/chat/rooms HTTP/1.0", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
           400, "BAD_TRANSFER_ENCODING")


@test
def h008_long_request_lines(server):
    def line(n):
        return "GET /" + "x" * (n - len("GET / HTTP/1.1")) + " HTTP/1.1"
    expect(server, request(line(8193)), 414, "URI_TOO_LONG")
    expect(server, request(line(1 << 20)), 414, "URI_TOO_LONG")
    expect(server, request(line(8192)), 404, "NOT_FOUND", close=False)


@test
def h009_h010_large_headers(server):
    expect(server, request("GET /healthz HTTP/1.1", *["X%d: y" % i for i in range(99)]), 200, close=False)
    expect(server, request("GET /healthz HTTP/1.1", *["X%d: y" % i for i in range(100)]), 431, "HEADERS_TOO_LARGE")
    expect(server, request("GET /healthz HTTP/1.1", *["X%d: y" % i for i in range(10000)]), 431, "HEADERS_TOO_LARGE")
    third = "X: " + "y" * 8000
    rest = 16384 - len("Host: a\r\n") - 2 * (len(third) + 2) - len("X: \r\n")
    expect(server, request("GET /healthz HTTP/1.1", third, third, "X: " + "y" * rest), 200, close=False)
    expect(server, request("GET /healthz HTTP/1.1", third, third, "X: " + "y" * (rest + 1)), 431, "HEADERS_TOO_LARGE")
    expect(server, request("GET /healthz HTTP/1.1", "X: " + "y" * 8189), 200, close=False)
    expect(server, request("GET /healthz HTTP/1.1", "X: " + "y" * 8190), 431, "HEADERS_TOO_LARGE")


@test
def h011_line_ends(server):
    for data in (b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nHost: a\n\r\n", b"GET / HTTP/1.1\rHost: a\r\r",
                 b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", b"GET / HTTP/1.1\r\r\nHost: a\r\r\n\r\r\n",
                 b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\n"):
        expect(server, data, 400, "BAD_LINE_END")
        split_alike(server, data, 400, "BAD_LINE_END")


@test
def h012_h013_bad_headers(server):
    for header in ("X: y\r\n folded", "X: y\r\n\tfolded", "X : y", ": y", "X(: y", "X\u00e4: y", "no colon"):
        expect(server, request("GET / HTTP/1.1", header), 400, "BAD_HEADER")
    expect(server, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "BAD_HEADER")


@test
def h014_control_characters(server):
    for octet in [*range(0x20), 0x7f]:
        if octet not in (9, 10, 13):
            expect(server, request("GET / HTTP/1.1", "X: a%cb" % octet), 400, "BAD_HEADER")
            expect(server, request("GET /a%cb HTTP/1.1" % octet), 400, "BAD_REQUEST")


@test
def h015_versions(server):
    expect(server, b"GET /\r\n\r\n", 400, "BAD_REQUEST")
    for version in ("HTTP/9.9", "HTTP/1.2", "HTTP/2.0"):
        expect(server, request("GET / " + version), 505, "HTTP_VERSION_NOT_SUPPORTED")
    expect(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP_VERSION_NOT_SUPPORTED")
    expect(server, request("GET / http/1.1"), 400, "BAD_REQUEST")


@test
def h016_no_line_is_injected(server):
    evil = "%0d%0aSet-Cookie:x=1"
    for data in (request("GET /%s HTTP/1.1" % evil), request("GET /?a=%s HTTP/1.1" % evil),
                 request("GET /api/chat/health?x=%s HTTP/1.1" % evil),
                 request("GET /api/chat/health HTTP/1.1", "Origin: " + evil),
                 request("GET /api/chat/health HTTP/1.1", "X-Request-Id: " + evil)):
        with server.connect() as client:
            client.send(data)
            result = client.answer()
            assert result.get("set-cookie") is None and result.get("set-cookie:x=1") is None, result.headers


@test
def h017_paths(server):
    for path in ("/../etc/passwd", "/%2e%2e/", "/..%5c", "//etc", ";/..", "/;/..", "/" + "../" * 300, "/.", "/js/../js/main.js",
                 "/..%2f..%2fetc/passwd", "/js%2fmain.js/..", "/%2e%2e%2fetc%2fpasswd", "/.git/config"):
        if path.startswith(";"):
            expect(server, request("GET %s HTTP/1.1" % path), 400, "HOST_MISMATCH")
        else:
            expect(server, request("GET %s HTTP/1.1" % path), 404, "NOT_FOUND", close=False)
    for path in ("/static/%00.html", "/%c0%ae%c0%ae/", "/%zz", "/%4", "/?a=%00", "/%ff"):
        expect(server, request("GET %s HTTP/1.1" % path), 400, "BAD_REQUEST", close=False)


@test
def h018_methods(server):
    for method in ("TRACE", "CONNECT"):
        result = expect(server, request("%s / HTTP/1.1" % method), 405, "METHOD_NOT_ALLOWED", close=method == "CONNECT")
        assert result.get("allow"), result.headers
    result = expect(server, request("CONNECT a:80 HTTP/1.1"), 405, "METHOD_NOT_ALLOWED")
    assert result.get("allow")
    result = expect(server, request("OPTIONS * HTTP/1.1"), 405, "METHOD_NOT_ALLOWED", close=False)
    assert result.get("allow")
    result = expect(server, request("DELETE /healthz HTTP/1.1"), 405, "METHOD_NOT_ALLOWED", close=False)
    assert result.get("allow") == "GET, HEAD", result.headers
    for method in ("FOO", "get", "PROPFIND"):
        expect(server, request("%s / HTTP/1.1" % method), 501, "NOT_IMPLEMENTED", close=False)


@test
def h019_target_forms(server):
    expect(server, request("GET http://other/ HTTP/1.1"), 400, "HOST_MISMATCH")
    expect(server, request("GET http://a:81/ HTTP/1.1"), 400, "HOST_MISMATCH")
    expect(server, request("GET a:80 HTTP/1.1"), 400, "HOST_MISMATCH")
    expect(server, request("GET //host/path HTTP/1.1"), 400, "HOST_MISMATCH")
    expect(server, request("GET http://a/healthz HTTP/1.1"), 200, close=False)
    expect(server, request("GET HTTP://A/healthz?x HTTP/1.1"), 200, close=False)


def post(*headers, body=b"", path="/api/auth/anonymous"):
    return request("POST %s HTTP/1.1" % path, *headers, body=body)


@test
def h020_bad_chunks(server):
    json_chunked = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    for body in (b"00000000000000001\r\n", b"-1\r\n", b"5;" + b"x" * 1024 + b"\r\n", b"1\r\n{X", b"1\r\n{\n", b"\r\n", b"0x1\r\n",
                 b"0\r\nX: " + b"y" * 16384, b"0\r\n folded\r\n", b"1\n{"):
        expect(server, post(*json_chunked, body=body + SMUGGLED), 400, "BAD_CHUNK")
    with server.connect() as client:
        client.send(post(*json_chunked, body=b"1\r\n{\r\n1;x=y\r\n}\r\n0\r\nX-Trailer: y\r\n\r\n") + SMUGGLED)
        assert client.answer().status == 200 and client.answer().status == 200


@test
def h021_pipelining(server):
    with server.connect() as client:
        client.send(b"".join(request("GET /none-%d HTTP/1.1" % i) for i in range(1000)))
        for i in range(100):
            result = client.answer()
            assert result.status == 404 and result.json()["path"] == "/none-%d" % i, (i, result.body)
            assert (result.get("connection") == "close") == (i == 99), i
        assert client.ended()
    with server.connect() as client:  # answers of several kinds, some given later by another thread
        kinds = [("/", 200), ("/healthz", 200), ("/none", 404), ("/js/main.js", 200)] * 20
        client.send(b"".join(request("GET %s HTTP/1.1" % path) for path, _ in kinds))
        assert [client.answer().status for _ in kinds] == [status for _, status in kinds]


@test
def one_octet_at_a_time(server):
    body = b"{}"
    data = post("Content-Type: application/json", "Content-Length: 2", body=body) + SMUGGLED
    with server.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in data:
            client.send(bytes([octet]))
        assert client.answer().status == 200 and client.answer().status == 200


@test
def h194_mutated_requests(server):
    """Whatever comes of it, it ends, and the next client is served."""
    dice = random.Random(server.address[1])
    seeds = [post("Content-Type: application/json", "Content-Length: 2", body=b"{}"), upgrade(), SMUGGLED * 3,
             post("Transfer-Encoding: chunked", "Content-Type: application/json", body=b"2\r\n{}\r\n0\r\n\r\n"),
             request("GET /js/main.js HTTP/1.1", "Cookie: a=b; c", "Range: bytes=0-", "X-Forwarded-For: 1.2.3.4")]
    for _ in range(400):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.randrange(1, 9)):
            at = dice.randrange(len(data))
            kind = dice.randrange(4)
            if kind == 0:
                data[at] = dice.randrange(256)
            elif kind == 1:
                del data[at:at + dice.randrange(1, 5)]
            elif kind == 2:
                data[at:at] = dice.choice([b"\r\n", b"\0", b": ", b",", b"%", b"\xff", b"9" * 20])
            else:
                data[at:at] = data[at:at + dice.randrange(1, 40)]
            data = data or bytearray(b"x")
        with server.connect() as client:
            client.send(bytes(data))
            try:
                client.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            while client.more():
                pass
            assert client.buffer == b"" or client.buffer.startswith(b"HTTP/1.1 "), (bytes(data), client.buffer)
    expect(server, SMUGGLED, 200, close=False)


# ---- H022 to H034 ------------------------------------------------------------------------------

def upgrade(path="/ws-chat/websocket", line="GET %s HTTP/1.1", **over):
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    headers.update({key.replace("_", "-"): value for key, value in over.items()})
    return request(line % path, *["%s: %s" % item for item in headers.items() if item[1] is not None])


@test
def h022_no_upgrade_elsewhere(server):
    for path in ("/", "/api/auth/login", "/api/chat/health", "/healthz", "/nowhere", "/js/main.js", "/api/nowhere"):
        expect(server, upgrade(path), 404, "NOT_FOUND", close=False)
    with server.connect() as client:
        client.send(upgrade("/ws-chat/info"))
        assert client.answer().status in (400, 404)


@test
def h025_no_upgrade_without_asking(server):
    for data in (upgrade(Upgrade=None), upgrade(Connection="close"), upgrade(line="GET %s HTTP/1.0")):
        with server.connect() as client:
            client.send(data)
            assert client.answer().status == 400, data
    with server.connect() as client:
        client.send(upgrade(line="POST %s HTTP/1.1"))
        result = client.answer()
        assert result.status == 405 and result.get("allow") and result.body == b""
        assert result.get("content-type") is None


@test
def h028_only_websocket(server):
    for path in ("/", "/healthz", "/api/chat/health"):
        for offer in ("foo", "h2c", "websocket, h2c", "TLS/1.0"):
            expect(server, upgrade(path, Upgrade=offer, HTTP2_Settings="AAMAAABkAARAAAAAAAIAAAAA"), 400, "BAD_UPGRADE")
        expect(server, upgrade(path, Connection="Upgrade\r\nUpgrade: websocket"), 400, "BAD_UPGRADE")
    for path in ("/ws-chat", "/ws-chat/websocket"):
        for offer in ("foo", "h2c", "websocket, h2c"):
            with server.connect() as client:
                client.send(upgrade(path, Upgrade=offer))
                assert client.answer().status == 400, (path, offer)


@test
def h029_frames_before_the_101(server):
    ping = bytes([0x89, 0x82, 1, 2, 3, 4, ord("h") ^ 1, ord("i") ^ 2])
    for cut in (0, 1, 5):
        with server.connect() as client:
            data = upgrade()
            client.send(data + ping[:cut])
            time.sleep(0.02 if cut else 0)
            client.send(ping[cut:])
            assert client.answer().status == 101
            assert client.exactly(4) == b"\x8a\x02hi"


EVIL = ["https://evil.example", "null", ORIGIN + ".evil.com", "https://evil@app.example.com", ORIGIN + ":444",
        ORIGIN.upper(), "http://app.example.com", "https://[::1]", "https://xn--pp-example.com", ORIGIN + "/", "",
        ORIGIN + "\r\nOrigin: " + ORIGIN, "http://a:8080", "https://a", "http://A"]


@test
def h030_origins(server):
    for origin in EVIL:
        result = expect(server, request("GET /api/chat/health HTTP/1.1", "Origin: " + origin), 403, "ORIGIN_NOT_ALLOWED", close=False)
        assert not any(key.lower().startswith("access-control") for key, _ in result.headers), result.headers
    for path in ("/ws-chat/websocket", "/ws-chat"):
        for origin in EVIL:
            with server.connect() as client:
                client.send(upgrade(path, Origin=origin))
                assert client.answer().status == 403, (path, origin)
    for origin in (ORIGIN, "http://a"):
        result = expect(server, request("GET /api/chat/health HTTP/1.1", "Origin: " + origin), 200, close=False)
        assert result.get("access-control-allow-origin") == origin
        assert result.get("access-control-allow-credentials") == "true" and result.get("vary") == "Origin"
    result = expect(server, request("GET /api/chat/health HTTP/1.1", "Origin: http://a", host="a:80"), 200, close=False)
    result = expect(server, request("GET /api/chat/health HTTP/1.1"), 200, close=False)
    assert result.get("access-control-allow-origin") is None


@test
def h031_preflights(server):
    asked = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type")
    for origin in EVIL:
        result = expect(server, request("OPTIONS /api/chat/health HTTP/1.1", "Origin: " + origin, *asked), 403,
                        "ORIGIN_NOT_ALLOWED", close=False)
        assert not any(key.lower().startswith("access-control") for key, _ in result.headers), result.headers
    with server.connect() as client:
        client.send(request("OPTIONS /api/chat/health HTTP/1.1", "Origin: " + ORIGIN, *asked))
        result = client.answer()
        assert result.status == 204 and result.get("access-control-allow-origin") == ORIGIN
        assert result.get("access-control-allow-headers") == "authorization,content-type"
        assert "POST" in result.get("access-control-allow-methods") and result.get("access-control-max-age")
        client.send(request("GET /healthz HTTP/1.1"))
        assert client.answer().status == 200


@test
def h032_h152_only_json(server):
    body = b'{"nickname":"x"}'
    length = "Content-Length: %d" % len(body)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx",
                 "application/json; charset=utf-16", "application/json, text/plain", ""):
        expect(server, post("Cookie: device-token=x", "Content-Type: " + kind, length, body=body), 415,
               "UNSUPPORTED_MEDIA_TYPE", close=True)
    expect(server, post(length, body=body), 415, "UNSUPPORTED_MEDIA_TYPE")
    wide = '{"nickname":"x"}'.encode("utf-16")
    expect(server, post("Content-Type: application/json", "Content-Length: %d" % len(wide), body=wide), 400, close=False)
    for kind in ("application/json", "Application/JSON; Charset=UTF-8", 'application/json;charset="utf-8"'):
        expect(server, post("Content-Type: " + kind, length, body=body), 200, close=False)


@test
def h190_no_compressed_requests(server):
    expect(server, post("Content-Type: application/json", "Content-Encoding: gzip", "Content-Length: 5", body=b"12345"),
           415, "UNSUPPORTED_MEDIA_TYPE")


@test
def h191_expectations(server):
    expect(server, post("Content-Type: application/json", "Expect: foo", "Content-Length: 2", body=b"{}"), 417, "EXPECTATION_FAILED")
    with server.connect() as client:
        client.send(post("Content-Type: application/json", "Expect: 100-continue", "Content-Length: 2"))
        assert client.answer().status == 100
        client.send(b"{}")
        assert client.answer().status == 200
    # Refused before the body is sent: no 100.
    expect(server, post("Content-Type: text/plain", "Expect: 100-continue", "Content-Length: 2"), 415)


@test
def bodies_too_large_are_refused_early(server):
    expect(server, post("Content-Type: application/json", "Content-Length: 10000000"), 413, "CONTENT_TOO_LARGE")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    expect(server, post("Content-Type: application/json", "Transfer-Encoding: chunked", body=chunk * 2), 413, "CONTENT_TOO_LARGE")


@test
def h033_untrusted_forwarded_headers_are_ignored(server):
    hostile = ["X-Forwarded-For: " + value for value in
               ("1.2.3.4", "", ",", "unknown", "1.2.3.4:80", "[::1]", "::ffff:1.2.3.4", ", ".join(["10.0.0.1"] * 500))]
    hostile += ["Forwarded: for=\"_x\";;;=,", "Forwarded: for=1.2.3.4;proto=https", "X-Real-IP: x", "X-Forwarded-Proto: https"]
    for header in hostile:
        expect(server, request("GET /healthz HTTP/1.1", header), 200, close=False)
    # Had the scheme been believed, this would be the same origin.
    expect(server, request("GET /api/chat/health HTTP/1.1", "X-Forwarded-Proto: https", "Origin: https://a"), 403,
           "ORIGIN_NOT_ALLOWED", close=False)
    expect(server, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + SMUGGLED, 400)


def h033_trusted_forwarded_headers(workers):
    server = Server(workers, "http.trusted_proxies=[127.0.0.1]")
    try:
        origin = "Origin: https://a"
        expect(server, request("GET /api/chat/health HTTP/1.1", "X-Forwarded-Proto: https", origin), 200, close=False)
        expect(server, request("GET /api/chat/health HTTP/1.1", "Forwarded: for=1.2.3.4;proto=https", origin), 200, close=False)
        expect(server, request("GET /api/chat/health HTTP/1.1", "X-Forwarded-Proto: https, http", origin), 403,
               "ORIGIN_NOT_ALLOWED", close=False)
        for value in ("", ",", "unknown", "1.2.3.4:80", "[::1]", "::ffff:1.2.3.4", ", ".join(["127.0.0.1"] * 500)):
            expect(server, request("GET /healthz HTTP/1.1", "X-Forwarded-For: " + value), 200, close=False)
    finally:
        assert server.stop() == 0


def h033_proxy_protocol(workers):
    server = Server(workers, "http.trusted_proxies=[127.0.0.1]", "http.proxy_protocol=true")
    try:
        v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes([1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 0, 81])
        for header in (b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\n", b"PROXY UNKNOWN\r\n", v2):
            expect(server, header + SMUGGLED, 200, close=False)
        for header in (b"", b"PROXY TCP9 x\r\n", b"PROXY " + b"x" * 200, v2[:12] + b"\x31" + v2[13:]):
            with server.connect() as client:
                client.send(header + SMUGGLED)
                while client.more():
                    pass
                assert client.buffer == b"" or client.buffer.startswith(b"HTTP/1.1 400 "), client.buffer
    finally:
        assert server.stop() == 0


def h034_tls(workers):
    if not shutil.which("openssl"):
        return "the openssl command is not installed"
    folder = tempfile.mkdtemp(prefix="chatd-tls-")
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                    "-subj", "/CN=localhost"], check=True, capture_output=True)
    server = Server(workers, "http.tls_cert=" + cert, "http.tls_key=" + key)
    try:
        context = ssl.create_default_context(cafile=cert)
        context.check_hostname = False
        with context.wrap_socket(socket.create_connection(server.address, WAIT), server_hostname="unknown.example") as sock:
            client = Client(sock)
            client.send(request("GET /api/chat/health HTTP/1.1", "Origin: https://a"))
            assert client.answer().status == 200
            client.send(request("GET / HTTP/1.1") * 30)
            assert [client.answer().status for _ in range(30)] == [200] * 30
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            old.minimum_version = old.maximum_version = version
            try:
                old.wrap_socket(socket.create_connection(server.address, WAIT))
                raise AssertionError("%s was accepted" % version)
            except (ssl.SSLError, ConnectionResetError):
                pass
        with server.connect() as client:  # clear text where TLS is spoken
            client.send(SMUGGLED)
            while client.more():
                pass
            assert not client.buffer.startswith(b"HTTP"), client.buffer
        begun = time.monotonic()
        with server.connect() as client:
            client.send(b"\x16\x03\x01")
            while client.more():
                pass
        assert time.monotonic() - begun < WAIT, "a stalled handshake was not given up"
    finally:
        assert server.stop() == 0
        shutil.rmtree(folder, ignore_errors=True)


def h017_root_directory(workers):
    """web.root: the same rules for a real directory, whose links lead nowhere."""
    folder = tempfile.mkdtemp(prefix="chatd-root-")
    root = os.path.join(folder, "www")
    os.makedirs(os.path.join(root, "sub"))
    for name, text in (("secret", "outside"), ("www/index.html", "<p>mine"), ("www/sub/a b.txt", "text"), ("www/.hidden", "x")):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
            stream.write(text)
    os.symlink("../secret", os.path.join(root, "link"))
    os.symlink("..", os.path.join(root, "out"))
    server = Server(workers, "web.root=" + root)
    try:
        page = expect(server, request("GET / HTTP/1.1"), 200, close=False)
        assert page.body == b"<p>mine" and page.get("etag")
        assert expect(server, request("GET /sub/a%20b.txt HTTP/1.1"), 200, close=False).body == b"text"
        for path in ("/link", "/out/secret", "/../secret", "/%2e%2e/secret", "/..%2fsecret", "/sub/..%2f..%2fsecret", "/sub", "/sub/",
                     "/.hidden", "/sub//a%20b.txt", "/none"):
            expect(server, request("GET %s HTTP/1.1" % path), 404, "NOT_FOUND", close=False)
        with server.connect() as client:
            client.send(request("GET / HTTP/1.1") * 90)
            assert [client.answer().body for _ in range(90)] == [b"<p>mine"] * 90
        for _ in range(50):  # clients that leave while their file is read
            with server.connect() as client:
                client.send(request("GET / HTTP/1.1"))
        expect(server, request("GET / HTTP/1.1"), 200, close=False)
    finally:
        assert server.stop() == 0
        shutil.rmtree(folder, ignore_errors=True)


def h017_opened_paths(workers):
    """What the kernel is asked to open: the root, then one name at a time below it."""
    if not shutil.which("strace"):
        return "strace is not installed"
    folder = tempfile.mkdtemp(prefix="chatd-root-")
    trace = os.path.join(folder, "trace")
    root = os.path.join(folder, "www")
    os.makedirs(os.path.join(root, "sub"))
    with open(os.path.join(root, "index.html"), "w", encoding="utf-8") as stream:
        stream.write("x")
    server = Server(workers, "web.root=" + root, "upload.enabled=false")  # which opens its own folder now and then
    try:
        while "no administrator yet" not in server.text():  # its file was written, a moment after the start
            assert server.process.poll() is None, server.text()
            time.sleep(0.02)
        with subprocess.Popen(["strace", "-f", "-e", "trace=open,openat,openat2,creat", "-o", trace, "-p",
                               str(server.process.pid)], stderr=subprocess.PIPE, text=True) as tracer:
            if "attached" not in tracer.stderr.readline():
                return "strace may not attach here"
            try:
                expect(server, request("GET / HTTP/1.1"), 200, close=False)
                for path in ("/../etc/passwd", "/%2e%2e/etc/passwd", "/..%2fetc/passwd", "/sub/..%2f..%2fetc", "//etc/", "/etc/passwd",
                             "/%2fetc%2fpasswd", "/sub/%2e%2e%2findex.html", "/..%5c", "/sub/x/" + "../" * 300):
                    with server.connect() as client:
                        client.send(request("GET %s HTTP/1.1" % path))
                        assert client.answer().status in (400, 404), path
            finally:
                tracer.send_signal(signal.SIGINT)
            tracer.wait(WAIT)
        with open(trace, encoding="utf-8", errors="replace") as stream:
            names = [line.split('"')[1] for line in stream if '"' in line]
        assert root in names and "index.html" in names, names
        assert all(name == root or ("/" not in name and not name.startswith(".")) for name in names), names
    finally:
        assert server.stop() == 0
        shutil.rmtree(folder, ignore_errors=True)
    return None


def has_read(server, client):
    """Waits until the server has taken what the client has sent."""
    ours, end = client.sock.getsockname()[1], time.monotonic() + WAIT
    while True:
        with open("/proc/net/tcp", encoding="ascii") as stream:
            rows = [line.split() for line in stream][1:]
        there = [row[4] for row in rows if row[1].endswith(":%04X" % server.address[1]) and row[2].endswith(":%04X" % ours)]
        if there and there[0].endswith(":00000000"):
            return
        assert time.monotonic() < end, there
        time.sleep(0.02)


def listens_no_more(server):
    end = time.monotonic() + WAIT
    while True:
        try:
            socket.create_connection(server.address, WAIT).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return
        assert time.monotonic() < end
        time.sleep(0.02)


def overload_and_drain(workers):
    server = Server(workers, "http.max_connections=2")
    try:
        with server.connect() as one, server.connect() as two:
            for client in (one, two):
                client.send(request("GET /healthz HTTP/1.1"))
                assert client.answer().status == 200
            with server.connect() as three:
                result = three.answer()
                assert result.status == 503 and result.get("retry-after") == "5" and three.ended()
            one.send(b"GET /healthz HTTP/1.1\r\n")
            has_read(server, one)
            server.process.send_signal(signal.SIGTERM)
            listens_no_more(server)
            time.sleep(0.3)
            one.send(b"Host: a\r\n\r\n")
            result = one.answer()
            assert result.status == 200 and result.get("connection") == "close", result.headers
            assert two.ended()
    finally:
        assert server.process.wait(WAIT) == 0
        shutil.rmtree(server.dir, ignore_errors=True)


OWN_SERVER = [h033_trusted_forwarded_headers, h033_proxy_protocol, h034_tls, h017_root_directory, h017_opened_paths,
              overload_and_drain]


# ---- time limits, all at once -------------------------------------------------------------------

def took(begun, least, most):
    seconds = time.monotonic() - begun
    assert least <= seconds <= most, "after %.1f s, not %s to %s" % (seconds, least, most)


def drip(client, data, most):
    """One octet a second until the answer is there."""
    client.sock.settimeout(1)
    for octet in data[:most]:
        client.send(bytes([octet]))
        try:
            if client.more():
                break
            return
        except TimeoutError:
            pass
    client.sock.settimeout(WAIT)


@slow
def h020_slow_head(server):
    begun = time.monotonic()
    with server.connect() as client:
        drip(client, b"GET / HTTP/1.1\r\nHost: a\r\nX: yyyyyyyyyyyy", 30)
        result = client.answer()
        took(begun, 9.5, WAIT)
        assert result.status == 408 and result.json()["code"] == "REQUEST_TIMEOUT" and client.ended()


@slow
def h020_slow_body(server):
    """Each octet comes in time, the whole does not: body_timeout is 65 s, which the long form waits for."""
    own, seconds = (None, 65) if FULL else (Server(1, "http.body_timeout=20s"), 20)
    with (own or server).connect() as client:
        begun = time.monotonic()
        client.send(post("Content-Type: application/json", "Content-Length: 1000"))
        drip(client, b" " * 100, 100)
        result = client.answer()
        took(begun, seconds - 2, seconds + WAIT)
        assert result.status == 408 and result.json()["code"] == "REQUEST_TIMEOUT" and client.ended()
    assert own is None or own.stop() == 0


@slow
def h020_silence(server):
    begun = time.monotonic()
    with server.connect() as client:
        assert client.ended()
        took(begun, 9.5, WAIT)


@slow
def h191_silence_after_100(server):
    begun = time.monotonic()
    with server.connect() as client:
        client.send(post("Content-Type: application/json", "Expect: 100-continue", "Content-Length: 2"))
        assert client.answer().status == 100
        assert client.answer().status == 408 and client.ended()
        took(begun, 9.5, WAIT)


@slow
def idle_connections_end(server):
    begun = time.monotonic()
    with server.connect() as client:
        client.send(request("GET /healthz HTTP/1.1"))
        assert client.answer().status == 200
        assert client.ended()
        took(begun, 14.5, WAIT)


# ---- the run ------------------------------------------------------------------------------------

class Report:
    def __init__(self):
        self.n, self.bad = 0, 0

    def line(self, name, run):
        self.n += 1
        reason, failure = "", ""
        try:
            reason = run()
        except Exception:  # pylint: disable=broad-except
            failure = traceback.format_exc()
        good, more = engine.judge("http", name, failure)
        self.bad += not good
        print("%sok %d - %s%s" % ("" if good else "not ", self.n, name, " # SKIP " + reason if reason else more))
        if not good:
            print("".join("# " + line + "\n" for line in failure.splitlines()), end="")
        sys.stdout.flush()


def main():
    fast = "--fast" in sys.argv
    part = next((a for a in sys.argv[1:] if not a.startswith("-")), "")
    wanted = [fn for fn in TESTS if part in fn.__name__]
    own = [fn for fn in OWN_SERVER if part in fn.__name__]
    late = [] if fast else [fn for fn in SLOW if part in fn.__name__]
    print("1..%d" % (2 * (len(wanted) + len(own)) + len(late) + 2))
    report = Report()
    servers = {workers: Server(workers) for workers in (1, 4)}
    with concurrent.futures.ThreadPoolExecutor(max(len(SLOW), 1)) as pool:
        waiting = [(fn, pool.submit(fn, servers[1 + 3 * (i % 2)])) for i, fn in enumerate(late)]
        for workers, server in servers.items():
            for fn in wanted:
                report.line("%s, %d workers" % (fn.__name__, workers), lambda f=fn, s=server: f(s))
            for fn in own:
                report.line("%s, %d workers" % (fn.__name__, workers), lambda f=fn, w=workers: f(w))
        for fn, future in waiting:
            report.line(fn.__name__, future.result)

    def stop(server):
        assert server.process.poll() is None, "the server ended: " + server.text()[-2000:]
        text = server.text()
        code = server.stop()
        assert code == 0, "exit code %s: %s" % (code, text[-2000:])
        assert "Sanitizer" not in text, text[-4000:]
    for workers, server in servers.items():
        report.line("the server with %d workers lived through it" % workers, lambda s=server: stop(s))
    sys.exit(1 if report.bad else 0)


if __name__ == "__main__":
    main()
