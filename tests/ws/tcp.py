#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""STOMP over TCP and TLS on real sockets: goodbyes, slow readers, PROXY headers, draining.
Speaks TAP; CHATD_BUILD names the build directory."""
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import traceback

from wsclient import WAIT, Server, stomp

CONNECT = stomp("CONNECT", [("accept-version", "1.2"), ("host", "x"), ("login", "guest"),
                            ("passcode", "guest"), ("heart-beat", "0,0")])


def dial(address, timeout=WAIT):
    host, port = address.rsplit(":", 1)
    sock = socket.create_connection((host, int(port)), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def frame(sock):
    """The next frame with its NUL; b"" at the end.  Byte by byte, so that nothing is read ahead."""
    got = b""
    while not got.endswith(b"\0"):
        try:
            byte = sock.recv(1)
        except ConnectionResetError:
            return b"reset"
        if not byte:
            return got
        got += byte
    return got.lstrip(b"\n")


def login(sock):
    sock.sendall(CONNECT)
    got = frame(sock)
    assert got.startswith(b"CONNECTED\n"), got
    return sock


def says_error_before_the_end(server):
    with dial(server.tcp) as sock:
        login(sock)
        sock.sendall(b"NONSENSE\n\n\0" + b"x" * 100000)
        assert frame(sock).startswith(b"ERROR\n")
        assert frame(sock) == b"", "more than the error"


def disconnect_is_receipted_and_all_is_flushed(server):
    with dial(server.tcp) as sender, dial(server.tcp) as reader:
        login(reader).sendall(stomp("SUBSCRIBE", [("id", "1"), ("destination", "/topic/t"), ("receipt", "s")]))
        assert b"receipt-id:s" in frame(reader)
        one = stomp("SEND", [("destination", "/topic/t")], b"x")
        login(sender).sendall(one * 1000 + stomp("DISCONNECT", [("receipt", "bye")]))
        assert b"receipt-id:bye" in frame(sender)
        assert frame(sender) == b""
        for _ in range(1000):
            assert frame(reader).startswith(b"MESSAGE\n")


def any_split_gives_the_same(server):
    wire = CONNECT + b"\n\r\n" + stomp("SEND", [("destination", "/topic/t"), ("receipt", "r")], b"y")
    for at in range(1, len(wire), 5):
        with dial(server.tcp) as sock:
            sock.sendall(wire[:at])
            sock.sendall(wire[at:])
            assert frame(sock).startswith(b"CONNECTED\n") and b"receipt-id:r" in frame(sock), at


def descriptors_become(server, n, why):
    limit = time.monotonic() + WAIT
    while server.descriptors() != n:
        assert time.monotonic() < limit, f"{server.descriptors()}, not {n}: {why}"
        time.sleep(0.05)


def slow_reader_is_cut_off(server):
    with dial(server.tcp) as slow, dial(server.tcp) as sender:
        login(slow).sendall(stomp("SUBSCRIBE", [("id", "1"), ("destination", "/topic/s"), ("receipt", "s")]))
        assert b"receipt-id:s" in frame(slow)
        login(sender)
        one = stomp("SEND", [("destination", "/topic/s")], b"x" * 60000)
        descriptors_become(server, server.idle + 2, "those two alone")
        for _ in range(300):
            sender.sendall(one)
        sender.sendall(stomp("SEND", [("destination", "/topic/n"), ("receipt", "r")]))
        assert b"receipt-id:r" in frame(sender)
        descriptors_become(server, server.idle + 1, "the slow one is still there")


def drains(server):
    socks = [login(dial(server.tcp)) for _ in range(20)]
    assert server.stop() == 0
    for sock in socks:
        while frame(sock):
            pass
        sock.close()


def proxy_header_is_needed_from_a_proxy(server):
    with dial(server.tcp) as sock:
        sock.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 61613\r\n")
        login(sock)
    with dial(server.tcp) as sock:
        sock.sendall(CONNECT)
        assert frame(sock) in (b"", b"reset")


def speaks_tls_only(server):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(dial(server.tcp)) as sock:
        login(sock)
        body = b"z" * 60000
        sock.sendall(stomp("SUBSCRIBE", [("id", "1"), ("destination", "/topic/tls")]) +
                     stomp("SEND", [("destination", "/topic/tls")], body))
        assert frame(sock).endswith(body + b"\0")
        sock.sendall(stomp("DISCONNECT", [("receipt", "bye")]))
        assert b"receipt-id:bye" in frame(sock)
        assert sock.recv(1) == b"", "no clean end"
    with dial(server.tcp) as sock:
        sock.sendall(CONNECT)
        assert b"CONNECTED" not in frame(sock)


def plain(workers):
    return Server(workers, "broker.yaml", "server.drain_spread=500ms")


def behind_a_proxy(workers):
    return Server(workers, "broker.yaml", "tcp.proxy_from=[127.0.0.0/8]")


def with_tls(workers):
    folder = tempfile.mkdtemp(prefix="chatd-tls-")
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                    "-nodes", "-keyout", key, "-out", cert, "-days", "1", "-subj", "/CN=localhost"],
                   check=True, capture_output=True)
    try:
        return Server(workers, "broker.yaml", f"tcp.tls_cert={cert}", f"tcp.tls_key={key}")
    finally:
        shutil.rmtree(folder)


PLAN = (
    (plain, (says_error_before_the_end, disconnect_is_receipted_and_all_is_flushed,
             any_split_gives_the_same, slow_reader_is_cut_off, drains)),
    (behind_a_proxy, (proxy_header_is_needed_from_a_proxy,)),
    (with_tls, (speaks_tls_only,)),
)


def main():
    if not os.path.exists(os.path.join(os.environ.get("CHATD_BUILD", "/nowhere"), "bin", "chatd")):
        print("1..0 # SKIP CHATD_BUILD names no build directory with bin/chatd")
        return 0
    n = failed = 0
    for workers in (1, 4):
        for start, cases in PLAN:
            server = start(workers)
            server.idle = server.descriptors()
            for case in cases:
                n += 1
                try:
                    case(server)
                    print(f"ok {n} - {case.__name__} [{workers}]", flush=True)
                except Exception:
                    failed += 1
                    print(f"not ok {n} - {case.__name__} [{workers}]", flush=True)
                    for line in traceback.format_exc().rstrip().split("\n")[-5:]:
                        print(f"# {line}", flush=True)
            n += 1
            log = "" if server.log.closed else server.log_text()
            clean = server.log.closed or (server.stop() == 0 and "Sanitizer" not in log)
            failed += not clean
            print(f"{'ok' if clean else 'not ok'} {n} - {start.__name__} ends with 0 [{workers}]")
    print(f"1..{n}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
