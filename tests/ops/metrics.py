#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The plugin metrics on a real server: the numbers are those of what clients did.  Speaks TAP.

usage: metrics.py [WORKERS]"""
import os
import re
import socket
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "chat"))
from client import Person, Server, rest, same  # noqa: E402

TESTS = []
LINE = re.compile(r"([a-z_]+)(?:\{([a-z_]+=\"[^\"]*\"(?:,[a-z_]+=\"[^\"]*\")*)\})? (-?[0-9.]+)")


def test(fn):
    TESTS.append(fn)
    return fn


def ask(server, data, wait=60):
    with socket.create_connection(server.address("metrics"), wait) as s:
        s.sendall(data)
        text = b""
        while True:
            piece = s.recv(65536)
            if not piece:
                return text
            text += piece


def scrape(server):
    head, _, body = ask(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
    same(int(re.search(rb"Content-Length: (\d+)", head).group(1)), len(body))
    numbers, typed, last = {}, {}, None
    for line in body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, last, kind = line.split(" ")
            assert last not in typed, "twice: " + line
            typed[last] = kind
        elif not line.startswith("# HELP "):
            m = LINE.fullmatch(line)
            assert m and m.group(1) == last, "not in its place: " + line
            numbers[m.group(1) + (m.group(2) or "")] = float(m.group(3))
    for name, kind in typed.items():
        if name.startswith("chatd_"):
            same(name.endswith("_total"), kind == "counter", name)
    return numbers


@test
def numbers_follow_what_clients_do(s):
    before = scrape(s)
    ann, bob = Person(s, "alice"), Person(s, "bob")
    a, b = ann.device(), bob.device()
    for d in (a, b):
        d.send("/app/chat.join", {"roomId": "lobby"})
        d.subscribe("/topic/room/lobby")
    for i in range(10):
        assert "message-id" in a.send("/app/chat.send", {"roomId": "lobby", "content": "m%d" % i})
    a.send("/app/chat.send", {"roomId": "nowhere", "content": "x"})
    now = scrape(s)
    grown = {k: now[k] - before[k] for k in now}
    same(grown["chatd_sessions"], 2)
    same(grown["chatd_logins_total"], 2)
    assert grown["chatd_subscriptions"] >= 2, grown
    same(grown["chatd_messages_received_total"], 13)
    same(grown["chatd_messages_refused_total"], 1)
    assert grown["chatd_deliveries_total"] >= 20, grown
    assert grown["chatd_received_bytes_total"] > 1000 and grown["chatd_sent_bytes_total"] > 1000, grown
    a.close()
    b.close()
    end = time.monotonic() + 60
    while scrape(s)["chatd_sessions"] != before["chatd_sessions"]:
        assert time.monotonic() < end, "sessions stay"
        time.sleep(0.02)
    same(scrape(s)["chatd_subscriptions"], before["chatd_subscriptions"])


@test
def the_public_listener_has_none_of_it(s):
    for path in ("/metrics", "/admin", "/admin/", "/admin/users", "/debug", "/debug/pprof/", "/debug/vars", "/actuator",
                 "/actuator/health", "/actuator/env", "/actuator/heapdump", "/actuator/..;/env", "/metrics/", "/server-status",
                 "/ws-chat/../metrics", "/%6detrics", "/api/admin", "/api/metrics", "/api/actuator/env"):
        same(rest(s, None, "GET", path).status, 404, path)
        for method in ("POST", "PUT", "DELETE"):
            a = rest(s, None, method, path)
            nothing = path.replace("metrics", "nothing") if "metrics" in path else ("/api" if path.startswith("/api") else "") + "/nothing"
            same(a.status, rest(s, None, method, nothing).status, method + " " + path)
            assert "chatd_" not in str(a.body), a.body
    a = rest(s, None, "GET", "/healthz")
    same((a.status, a.json), (200, {"status": "UP"}))  # and no version


@test
def whatever_else_is_asked_gets_a_plain_no(s):
    for data, status in ((b"GET / HTTP/1.1\r\n\r\n", b"404"), (b"GET /metricsx HTTP/1.1\r\n\r\n", b"404"),
                         (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"), (b"\0\xff\r\n\r\n", b"405"),
                         (b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 8000, b"431")):
        same(ask(s, data).split(b" ")[1], status, repr(data[:40]))
    head, _, body = ask(s, b"HEAD /metrics HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    same((head.split(b" ")[1], body), (b"200", b""))


def talk(address, data):
    """All that is answered until the end."""
    with socket.create_connection(address, 60) as sock:
        sock.sendall(data)
        while sock.recv(65536):
            pass


@test
def what_is_refused_is_counted_by_layer_and_reason(s):
    http, tcp = s.address("http"), s.address("tcp")
    upgrade = (b"GET /ws-chat/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    ann = Person(s, "alice").device()
    before = scrape(s)
    for _ in range(3):
        talk(http, b"GET / HTTP/1.1\r\n\r\n")  # no Host
    for _ in range(2):
        talk(http, b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    for _ in range(4):
        talk(tcp, b"CONNECT\naccept-version:1.2\nhost:x\nlogin:alice\npasscode:alice\n\n\0NONSENSE\n\n\0")
    for _ in range(5):
        talk(http, upgrade + b"\x81\x01x")  # not masked
    for _ in range(6):
        ann.send("/app/chat.send", {"roomId": "lobby", "content": "x", "clientId": "c" * 5000})
    now = scrape(s)
    same({k: now[k] - before[k] for k in now if k.startswith("chatd_rejected_total") and now[k] != before[k]},
         {'chatd_rejected_totallayer="http",reason="400"': 3, 'chatd_rejected_totallayer="http",reason="404"': 2,
          'chatd_rejected_totallayer="stomp",reason="BAD_COMMAND"': 4,
          'chatd_rejected_totallayer="websocket",reason="1002"': 5,
          'chatd_rejected_totallayer="chat",reason="VALIDATION"': 6})
    ann.close()


@test
def many_at_once_and_some_who_leave(s):
    bad = []

    def one(i):
        try:
            if i % 4 == 0:
                c = socket.create_connection(s.address("metrics"), 5)
                c.sendall(b"GET /metrics HTTP/1.1\r\n" + (b"\r\n" if i % 8 else b""))
                c.close()
            elif ask(s, b"GET /metrics HTTP/1.1\r\n\r\n") != b"":  # or too many at a time: closed
                pass
        except OSError:
            pass
        except Exception as e:  # pylint: disable=broad-except
            bad.append(e)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(60)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    same(bad, [])
    assert scrape(s)["chatd_connections"] >= 1


def main():
    server = Server(sys.argv[1] if len(sys.argv) > 1 else "2", "metrics.enabled=true", "metrics.listen=[127.0.0.1:0]",
                    "tcp.enabled=true", "tcp.listen=127.0.0.1:0")
    failed = 0
    print("1..%d" % (len(TESTS) + 1))
    for i, fn in enumerate(TESTS, 1):
        try:
            fn(server)
            print("ok %d - %s" % (i, fn.__name__.replace("_", " ")))
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print("not ok %d - %s\n# %s" % (i, fn.__name__, traceback.format_exc().replace("\n", "\n# ")))
    code, log = server.stop()
    good = code == 0 and "Sanitizer" not in log
    print("%sok %d - the server ends well" % ("" if good else "not ", len(TESTS) + 1))
    return 1 if failed or not good else 0


sys.exit(main())
