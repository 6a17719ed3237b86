#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The other HTTP engine, http-lws, in short: what it adds to `http` (HTTP/2, permessage-deflate), what its configuration
refuses, and the way of a stock client.  CHATD_HTTP_ENGINE=http-lws runs the long suites on it.

Speaks TAP; CHATD_BUILD names the build directory.
usage: lws.py [PART OF A CASE'S NAME]
"""
import contextlib
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import traceback
import zlib

os.environ["CHATD_HTTP_ENGINE"] = "http-lws"
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "ws"))
from wsclient import BINARY, CLOSE, TEXT, Server, frame, open_stomp, open_ws, stomp  # pylint: disable=wrong-import-position

BUILD = os.environ.get("CHATD_BUILD", "/nowhere")
CASES = []
SEND_ERROR, RECV_ERROR = 55, 56  # of curl


def case(fn):
    CASES.append(fn)
    return fn


def curl(*args):
    return subprocess.run(["curl", "-sk", "-m", "120", *args], capture_output=True, check=True).stdout


def too_large(*args):
    """Who still sends when the refusal has been given and the connection has ended may see no more than the end: then again."""
    for _ in range(20):
        done = subprocess.run(["curl", "-sk", "-m", "120", *args], capture_output=True, check=False)
        if b" 413" in done.stdout or b" 415" in done.stdout:
            return
        assert done.returncode in (SEND_ERROR, RECV_ERROR), done
    raise AssertionError("never refused")


class Tls:
    """A certificate of its own in a folder of its own."""

    def __enter__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="chatd-lws-")
        self.cert, self.key = (os.path.join(self.dir.name, n) for n in ("cert.pem", "key.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", self.key, "-out", self.cert, "-days", "2", "-subj", "/CN=localhost"],
                       check=True, capture_output=True)
        return ["http.tls_cert=" + self.cert, "http.tls_key=" + self.key]

    def __exit__(self, *_):
        self.dir.cleanup()


@contextlib.contextmanager
def running(*args):
    server = Server(*args)
    try:
        yield server
    finally:
        log, code = server.log_text(), server.stop()
    assert code == 0 and "Sanitizer" not in log and "left something" not in log, (code, log[-3000:])


@case
def refuses_what_damages_messages():
    with Tls() as tls:
        for settings, text in ((["http.permessage_deflate=true", *tls], "damages compressed messages"),
                               (["http.http2=true"], "with TLS only")):
            args = [os.path.join(BUILD, "bin", "chatd"), "-c", os.path.join(ROOT, "config", "chat.yaml"), "--check"]
            for setting in ["http.plugin=http-lws", *settings]:
                args += ["--set", setting]
            done = subprocess.run(args, capture_output=True, text=True, check=False)
            assert done.returncode != 0 and text in done.stdout + done.stderr, (settings, done)


@case
def serves_http_1_and_2_with_tls():
    with Tls() as tls:
        with running(4, "chat.yaml", "http.http2=true", *tls) as server:
            big = os.path.join(server.dir.name, "big")
            with open(big, "wb") as f:
                f.write(b"x" * 200000)
            base = "https://" + server.http
            for flag, version in (("--http1.1", b"1.1"), ("--http2", b"2")):
                got = curl(flag, "-o", "/dev/null", "-w", "%{http_version} %{http_code}", base + "/api/chat/health")
                assert got == version + b" 200", (flag, got)
                assert b"<!doctype html>" in curl(flag, base + "/"), flag
                head = curl(flag, "-i", "-H", "Content-Type: application/json", "-d", "{}", base + "/api/auth/login")
                assert b" 422" in head and b"email is missing" in head, head
                too_large(flag, "-i", "--data-binary", "@" + big, base + "/api/auth/login")
                stream = base + "/ws-chat/000/cut%s/xhr_streaming" % flag[6]
                with subprocess.Popen(["curl", "-skN", flag, "-d", "", stream], stdout=subprocess.PIPE) as cut:
                    assert cut.stdout.readline().strip(b"h") == b"\n" and cut.stdout.readline() == b"o\n"
                    cut.kill()  # the client leaves in the midst of it
                assert curl(flag, base + "/healthz") == b'{"status":"UP"}', flag
            one, two = (curl(flag, base + "/client/client.js") for flag in ("--http1.1", "--http2"))
            assert one == two and len(one) > 1000, (len(one), len(two))


def shown(server):
    """The certificate that a new client sees."""
    return ssl.get_server_certificate(tuple(server.http.rsplit(":", 1)), timeout=60)


def hang_up(server, said):
    before = server.log_text().count(said)
    server.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 60
    while server.log_text().count(said) == before:
        assert time.monotonic() < end, server.log_text()
        time.sleep(0.02)


@case
def takes_another_certificate_after_sighup():
    one, other = Tls(), Tls()
    with one as tls, other, running(4, "chat.yaml", *tls) as server:
        first = shown(server)
        os.replace(other.key, one.key)
        hang_up(server, "SIGHUP: reload rejected")
        assert 'key "%s": ' % one.key in server.log_text() and shown(server) == first
        os.replace(other.cert, one.cert)
        hang_up(server, "SIGHUP: files with certificates")
        with open(one.cert, encoding="ascii") as f:
            second = f.read()
        assert second != first
        end = time.monotonic() + 60
        while [shown(server) for _ in range(16)] != [second] * 16:  # each worker is told by itself
            assert time.monotonic() < end
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", one.key, "-out", one.cert, "-days",
                        "2", "-subj", "/CN=localhost"], check=True, capture_output=True)
        hang_up(server, "SIGHUP: reload rejected")
        assert "of another kind than the one in use" in server.log_text() and shown(server) == second


@case
def keeps_a_connection_and_answers_in_order():
    with running(1, "chat.yaml") as server:
        urls = ["http://" + server.http + path for path in ("/healthz", "/readyz", "/nowhere", "/healthz")]
        out = curl("-w", "[%{http_code} %{num_connects}]", *urls)
        assert [out.count(x) for x in (b"[200 1]", b"[200 0]", b"[404 0]")] == [1, 2, 1], out


@case
def compresses_messages():
    with running(4, "conformance.yaml", "http.permessage_deflate=true") as server:
        with open_ws(server.http, "/echo/websocket",
                     Sec_WebSocket_Extensions="permessage-deflate") as ws:
            assert "permessage-deflate" in ws.headers["sec-websocket-extensions"], ws.headers
            out, back = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
            for n in (1, 125, 4090, 4097, 65536, 1 << 20):
                for opcode, payload in ((TEXT, b"lorem ipsum "[:n] * (n // 12 + 1)), (BINARY, os.urandom(n))):
                    payload = payload[:n]
                    packed = out.compress(payload) + out.flush(zlib.Z_SYNC_FLUSH)
                    ws.send(frame(opcode, packed[:-4], rsv=4))
                    got = b""
                    while True:
                        head = ws.take(2)
                        size = head[1] & 127
                        size = int.from_bytes(ws.take(2 if size == 126 else 8), "big") if size > 125 else size
                        got += ws.take(size)
                        if head[0] & 0x80:
                            break
                    assert back.decompress(got + b"\0\0\xff\xff") == payload, (opcode, n)


@case
def speaks_stomp_and_says_goodbye():
    with running(4, "broker.yaml") as server:
        with open_ws(server.http, Sec_WebSocket_Protocol="foo, v12.stomp, v11.stomp") as ws:
            assert ws.headers["sec-websocket-protocol"] == "v12.stomp", ws.headers
        with open_ws(server.http, Sec_WebSocket_Protocol="foo") as ws:
            assert "sec-websocket-protocol" not in ws.headers, ws.headers
        with open_stomp(server.http) as ws:
            body = b"x" * 60000
            ws.send(frame(TEXT, stomp("SUBSCRIBE", [("id", "0"), ("destination", "/topic/a")])))
            ws.send(frame(TEXT, stomp("SEND", [("destination", "/topic/a")], body)))
            _, message = ws.message()
            assert message.startswith(b"MESSAGE") and body in message, message[:200]
            server.process.terminate()
            opcode, payload = ws.message()
            while opcode != CLOSE:
                opcode, payload = ws.message()
            assert int.from_bytes(payload[:2], "big") == 1012, payload


def main():
    wanted = [fn for fn in CASES if len(sys.argv) < 2 or sys.argv[1] in fn.__name__]
    if not os.path.exists(os.path.join(BUILD, "plugins", "http-lws.so")):
        print("1..0 # SKIP http-lws is not built (libwebsockets-dev, libwebsockets-evlib-uv, libuv1-dev)")
        return 0
    print("1..%d" % len(wanted))
    failed = 0
    for n, fn in enumerate(wanted, 1):
        try:
            fn()
            print("ok %d - %s" % (n, fn.__name__), flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print("not ok %d - %s" % (n, fn.__name__))
            print("".join("# " + line + "\n" for line in traceback.format_exc().splitlines()), end="", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
