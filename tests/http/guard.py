#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How the HTTP engine waits for the hooks request and request_as: the plugin slow-guard answers
late, or no, while bodies arrive, requests are pipelined and clients leave.  Speaks TAP."""
import os
import socket
import sys
import tempfile
import time

import hostile_http as kit
from hostile_http import request

CONFIG = """
server: { plugin_path: [%s] }
plugins:
  http: { allowed_origins: ["%s"] }
  accounts-memory: {}
  auth-static: { users: [ { login: ann, passcode: annannann, token: annannannannannann } ] }
  slow-guard: {}
"""
TESTS = []
BEARER = "Authorization: Bearer annannannannannann"
BIG = b"x" * 300000


def test(fn):
    TESTS.append(fn)
    return fn


def post(path, *headers, agent="slow", body=b"", who="?who=any"):
    length = ["Content-Length: %d" % len(body)]
    return request("POST %s%s HTTP/1.1" % (path, who), "User-Agent: " + agent, *length, *headers, body=body)


def same(a, b):
    assert a == b, "%r is not %r" % (a, b)


def asked(server, data, status):
    with server.connect() as c:
        c.send(data)
        r = c.answer()
        same((r.status, r.body[:300] if r.status != status else b""), (status, b""))
        return r


@test
def late_and_early_answers_serve_alike(server):
    for path in ("/api/slow/whole", "/api/slow/streamed"):
        for agent in ("slow", "now"):
            same(asked(server, post(path, agent=agent, body=BIG), 200).body, b"any 300000")
            same(asked(server, post(path, BEARER, agent=agent, body=BIG, who=""), 200).body, b"ann 300000")
            same(asked(server, post(path, agent=agent), 200).body, b"any 0")


@test
def a_chunked_body_waits_for_the_hooks(server):
    for path in ("/api/slow/whole", "/api/slow/streamed"):
        head = request("POST %s?who=any HTTP/1.1" % path, "User-Agent: slow", "Transfer-Encoding: chunked")
        same(asked(server, head + b"5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n", 200).body, b"any 8")


@test
def a_refusal_says_when_to_come_again_and_reads_no_body(server):
    for agent in ("early-no", "early-no now"):
        for body in (b"", b"small", BIG):
            r = asked(server, post("/api/slow/whole", agent=agent, body=body), 429)
            same((r.get("retry-after"), r.json()["code"], r.json()["retryAfterSeconds"]),
                 ("7", "RATE_LIMIT_EXCEEDED", 7))


@test
def a_caller_is_refused_once_he_is_known(server):
    for path in ("/api/slow/whole", "/api/slow/streamed"):
        for agent in ("late-no", "late-no now"):
            r = asked(server, post(path, BEARER, agent=agent, body=b"abc", who=""), 429)
            same((r.get("retry-after"), r.json()["detail"]), ("7", "too much"))
            # Who is not known is told that, and nothing of limits.
            asked(server, post(path, agent=agent, body=b"abc", who=""), 401)


@test
def pipelined_requests_are_answered_in_their_order(server):
    with server.connect() as c:
        sizes = [0, 5, 70000, 1, 0, 300000]
        for i, n in enumerate(sizes):
            path = ("/api/slow/whole", "/api/slow/streamed")[i % 2]
            c.send(post(path, agent=("slow", "now")[i % 3 == 1], body=b"y" * n))
        for n in sizes:
            r = c.answer()
            same((r.status, r.body), (200, b"any %d" % n))


@test
def the_next_request_after_a_late_refusal_is_served(server):
    with server.connect() as c:
        c.send(post("/api/slow/whole", agent="early-no") + post("/api/slow/whole"))
        same([c.answer().status, c.answer().status], [429, 200])


@test
def who_leaves_while_the_hooks_think_harms_nobody(server):
    for i in range(60):
        c = server.connect()
        c.send(post("/api/slow/whole" if i % 2 else "/api/slow/streamed", BEARER, body=b"z" * (i % 4),
                    agent=("slow", "late-no", "early-no")[i % 3], who="" if i % 5 else "?who=any"))
        time.sleep(0.02 * (i % 3))
        if i % 7 == 0:
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        c.sock.close()
    time.sleep(0.2)
    asked(server, post("/api/slow/whole"), 200)


@test
def a_client_that_shuts_its_side_down_gets_its_answer(server):
    with server.connect() as c:
        c.send(post("/api/slow/whole", body=b"abc"))
        c.sock.shutdown(socket.SHUT_WR)
        r = c.answer()
        same((r.status, r.body), (200, b"any 3"))


def main():
    build = os.environ["CHATD_BUILD"]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as conf:
        conf.write(CONFIG % (os.path.join(build, "tests", "http"), kit.ORIGIN))
        conf.flush()
        kit.CONFIG = conf.name
        print("1..%d" % (2 * (len(TESTS) + 1)))
        report = kit.Report()
        for workers in (1, 4):
            server = kit.Server(workers)

            def end(s=server):
                text = s.text()
                code = s.stop()
                assert code == 0 and "Sanitizer" not in text, "exit code %s: %s" % (code, text[-3000:])
            for fn in TESTS:
                report.line("%s, %d workers" % (fn.__name__, workers), lambda f=fn, s=server: f(s))
            report.line("the server with %d workers lived through it" % workers, end)
    sys.exit(1 if report.bad else 0)


main()
