#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How much anybody may do, with the limits that plugins/limit-rate/README.md shows.  Prints TAP.

Usage: limits_e2e.py [workers]; the server is $CHATD_BUILD/bin/chatd.

Counts are judged by the bucket's promise for the time that a test really took, so a slow machine
passes as well: over T seconds at most burst + rate x T + 1.
"""
import json
import socket
import sys
import time

from served import Device, Person, Server, call, client, config, run, same, wsclient

TESTS = []
ERRORS = "/user/queue/errors"


def test(fn):
    TESTS.append(fn)
    return fn


class Serving:
    def __init__(self, workers, *settings):
        self.server = Server(workers, *settings, edit=config("rules", "limit-rate"), limits=True)

    def __enter__(self):
        return self.server

    def __exit__(self, kind, *_):
        code = self.server.stop()[0]
        if not kind:
            same(code, 0, "exit code")


def burst(device, n, dest="/app/chat.send", body=None, first=0):
    """n SENDs in one write; (RECEIPTs, soft errors)."""
    data = json.dumps(body or {"to": device.person.id, "content": "x"}).encode()
    out = b""
    for i in range(first, first + n):
        out += b"SEND\ndestination:%s\nreceipt:b%d\ncontent-length:%d\n\n%s\0" % (dest.encode(), i, len(data), data)
    device.sock.sendall(out)
    receipts, errors = [], []
    while len(receipts) + len(errors) < n:
        f = device.wait(lambda f: f.headers.get("receipt-id", "").startswith("b") or
                        (f.headers.get("destination") == ERRORS and f.json.get("receiptId", "").startswith("b")))
        assert f, "%d receipts, %d errors, and no more" % (len(receipts), len(errors))
        (receipts if f.command == "RECEIPT" else errors).append(f)
    return receipts, errors


def refused_at_last(device, n, **kw):
    """So many and more, until one is refused: on a machine that stands still the bucket fills meanwhile."""
    for i in range(20):
        errors = burst(device, n, first=1000 * (i + 1), **kw)[1]
        if errors:
            return errors
    raise AssertionError("nothing is refused")


def promised(granted, begin, burst_, per_minute, least=None):
    """Not more than was promised in that time, and not fewer than a burst."""
    most = burst_ + per_minute / 60 * (time.monotonic() - begin) + 1
    assert granted <= most, "%d granted, at most %.1f promised" % (granted, most)
    assert granted >= (burst_ if least is None else least), "only %d granted" % granted


# ---- messages --------------------------------------------------------------------------


@test
def h123_a_guest_sends_100_at_once_and_200_a_minute(workers):
    with Serving(workers) as server:
        d = Device(Person(server))
        begin = time.monotonic()
        receipts, errors = burst(d, 150)
        promised(len(receipts), begin, 100, 200)
        for f in errors:
            e = f.json
            same((e["code"], e["errorCode"]), ("RATE_LIMIT_EXCEEDED",) * 2)
            assert isinstance(e["retryAfterSeconds"], int) and e["retryAfterSeconds"] >= 1, e
            same(e["destination"], "/app/chat.send")
        same(len({f.headers["receipt-id"] for f in receipts} | {f.json["receiptId"] for f in errors}), 150)
        d.close()


@test
def a_user_has_500_a_minute_over_all_devices_and_workers(workers):
    with Serving(workers) as server:
        alice = Person(server, "alice")
        devices = [Device(alice) for _ in range(4)]
        begin = time.monotonic()
        granted = 0
        for round_ in range(5):
            for d in devices:
                granted += len(burst(d, 15, first=100 * round_)[0])
        promised(granted, begin, 100, 500)
        bob = Device(Person(server, "bob"))
        assert len(burst(bob, 100)[0]) == 100, "others have their own"


@test
def who_waits_as_long_as_told_gets_in(workers):
    with Serving(workers) as server:
        d = Device(Person(server, "alice"))
        errors = refused_at_last(d, 130)
        for _ in range(3):
            time.sleep(errors[-1].json["retryAfterSeconds"])
            same(d.send("/app/chat.send", {"to": "bob", "content": "y"}).get("code"), None)
            errors = refused_at_last(d, 40)


@test
def a_refusal_leaves_the_session_and_its_subscriptions_alone(workers):
    with Serving(workers) as server:
        alice, bob = Device(Person(server, "alice")), Device(Person(server, "bob"))
        refused_at_last(alice, 150)
        bob.send("/app/chat.send", {"to": "alice", "content": "are you there?"})
        assert alice.messages(content="are you there?")
        assert isinstance(alice.subscribe("/topic/room/lobby"), str)


@test
def r16_a_reconnect_does_not_fill_the_bucket(workers):
    with Serving(workers) as server:
        alice = Person(server, "alice")
        begin = time.monotonic()
        granted = 0
        for _ in range(6):
            d = Device(alice)
            granted += len(burst(d, 60)[0])
            d.close()
        promised(granted, begin, 100, 500)


@test
def r17_typing_and_read_marks_are_limited_too(workers):
    with Serving(workers) as server:
        d = Device(Person(server, "alice"))
        begin = time.monotonic()
        receipts, _ = burst(d, 60, "/app/chat.typing", {"to": "bob"})
        promised(len(receipts), begin, 30, 120)
        begin = time.monotonic()
        receipts, errors = burst(d, 150, "/app/chat.read", {"with": "bob", "seq": 0})
        limited = [f for f in errors if f.json["code"] == "RATE_LIMIT_EXCEEDED"]
        promised(150 - len(limited), begin, 100, 600)
        same(len(burst(d, 90)[0]), 90)  # and neither takes anything from messages


@test
def a_transaction_is_no_way_round(workers):
    with Serving(workers) as server:
        d = Device(Person(server, "alice"))
        begin = time.monotonic()
        d.write("BEGIN", {"transaction": "t"})
        for i in range(150):
            d.write("SEND", {"destination": "/app/chat.send", "transaction": "t"}, b'{"to":"alice","content":"%d"}' % i)
        d.write("COMMIT", {"transaction": "t", "receipt": "c"})
        got = over = 0
        while got + over < 150:
            f = d.wait(lambda f: f.headers.get("destination") == "/user/queue/messages" or
                       (f.headers.get("destination") == ERRORS and f.json["code"] == "RATE_LIMIT_EXCEEDED"))
            got, over = got + (f.headers["destination"] != ERRORS), over + (f.headers["destination"] == ERRORS)
        promised(got, begin, 100, 500)


@test
def a_notice_comes_before_the_limit(workers):
    with Serving(workers) as server:
        d = Device(Person(server, "alice"))
        same(len(burst(d, 70)[0]), 70)
        assert d.on(ERRORS, client.QUIET) is None
        warning, n = None, 1
        while not warning and n < 50:  # more than come back meanwhile
            burst(d, 15, first=100 * n)
            warning, n = d.on(ERRORS, client.QUIET, code="RATE_LIMIT_WARNING"), n + 1
        assert warning and warning.json["errorCode"] == "RATE_LIMIT_WARNING" and "receiptId" not in warning.json
        assert d.on(ERRORS, client.QUIET) is None


# ---- connections -----------------------------------------------------------------------


def stomp_over_ws(server, source=None, **headers):
    """(Ws, its first STOMP frame, or the close code)."""
    host, port = server.address("http")
    ws = wsclient.Ws("%s:%d" % (host, port)) if not source else from_source(source, host, port)
    status, _, body = ws.request(wsclient.handshake("/ws-chat/websocket", **headers))
    assert status == 101, (status, body)
    ws.send(wsclient.frame(wsclient.TEXT, wsclient.stomp("CONNECT", [("accept-version", "1.2"), ("host", "x")])))
    _, payload = ws.message()
    return ws, payload


def from_source(source, host, port):
    ws = wsclient.Ws.__new__(wsclient.Ws)
    ws.sock = socket.create_connection((host, port), client.WAIT, source_address=(source, 0))
    ws.buf = b""
    return ws


@test
def who_goes_on_regardless_is_closed_with_4429(workers):
    with Serving(workers, "limit-rate.close_after=50") as server:
        ws, first = stomp_over_ws(server)
        assert first.startswith(b"CONNECTED"), first
        send = wsclient.stomp("SEND", [("destination", "/app/chat.send")], b'{"to":"nobody","content":"x"}')
        ws.send(wsclient.frame(wsclient.TEXT, send * 100))
        time.sleep(client.QUIET)
        ws.send(wsclient.frame(wsclient.PING, b"there?"))
        while ws.frame()[0] != wsclient.PONG:
            pass  # a hundred are allowed
        for _ in range(10):
            ws.send(wsclient.frame(wsclient.TEXT, send * 10))
        same(ws.close_code()[0], 4429)


@test
def h124_too_many_sessions_of_a_user_or_address_are_refused_with_4429(workers):
    with Serving(workers, "limit-rate.exempt=[]", "limit-rate.user_connections=3",
                 "limit-rate.address_connections=6") as server:
        alice = Person(server, "alice")
        devices = [Device.bare(alice) for _ in range(3)]
        fourth = connect(alice)
        same((fourth.command, fourth.headers["code"]), ("ERROR", "RATE_LIMIT_EXCEEDED"))
        assert b"3 at a time" in fourth.body, fourth
        devices[0].close()
        eventually(lambda: connect(alice).command == "CONNECTED")
        held = [stomp_over_ws(server, "127.0.0.9") for _ in range(6)]
        assert all(first.startswith(b"CONNECTED") for _, first in held)
        ws, first = stomp_over_ws(server, "127.0.0.9")
        assert first.startswith(b"ERROR") and b"code:RATE_LIMIT_EXCEEDED" in first, first
        same(ws.close_code()[0], 4429)
        assert stomp_over_ws(server, "127.0.0.10")[1].startswith(b"CONNECTED")


def connect(person):
    """The answer to a CONNECT."""
    d = Device.__new__(Device)
    d.person = person
    d.sock = socket.create_connection(person.server.address("tcp"), client.WAIT)
    d.buf, d.frames = b"", []
    d.write("CONNECT", {"accept-version": "1.2", "host": "x", **person.login})
    f = d.wait(lambda f: f.command in ("CONNECTED", "ERROR"))
    if f.command == "ERROR":
        d.close()
    return f


def eventually(fn):
    end = time.monotonic() + client.WAIT
    while not fn():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


@test
def connects_and_logins_of_an_address_are_limited(workers):
    with Serving(workers, "limit-rate.exempt=[]", "limit-rate.connects_burst=12", "limit-rate.connects_per_minute=1",
                 "limit-rate.logins_burst=4", "limit-rate.logins_per_minute=1") as server:
        guess = Person(server, "alice")
        guess.login = {"login": "alice", "passcode": "wrong"}
        codes = [connect(guess).headers["code"] for _ in range(6)]
        same(codes, ["UNAUTHORIZED"] * 4 + ["RATE_LIMIT_EXCEEDED"] * 2)
        right = connect(Person(server, "bob"))
        same((right.command, right.headers["code"]), ("ERROR", "RATE_LIMIT_EXCEEDED"))  # one address, one bucket
        # What the one limit refused has cost nothing of the other: 8 of 12 are left.
        codes = [stomp_over_ws(server)[1].split(b"\n")[0] for _ in range(10)]
        same(codes, [b"CONNECTED"] * 8 + [b"ERROR"] * 2)


@test
def this_machine_is_exempt_by_default(workers):
    with Serving(workers, "limit-rate.connects_burst=2", "limit-rate.connects_per_minute=1",
                 "limit-rate.user_connections=2", "limit-rate.calls_burst=2", "limit-rate.calls_per_minute=1") as server:
        alice = Person(server, "alice")
        kept = [Device.bare(alice) for _ in range(5)]
        for _ in range(8):
            same(call(server, "GET", "/api/chat/rooms", alice.token).status, 200)
        same(len(kept), 5)


@test
def subscriptions_are_limited(workers):
    with Serving(workers, "limit-rate.subscriptions_burst=6", "limit-rate.subscriptions_per_minute=60") as server:
        d = Device(Person(server, "alice"))  # four
        assert isinstance(d.subscribe("/user/queue/rooms"), str)
        assert isinstance(d.subscribe("/topic/public"), str)
        # One comes back in each second, which may be over.
        got = client.until(lambda: (lambda r: isinstance(r, dict) and r)(d.subscribe("/topic/room/lobby")), what="a refusal")
        same((got["code"], got["retryAfterSeconds"]), ("RATE_LIMIT_EXCEEDED", 1))
        time.sleep(1)
        assert isinstance(d.subscribe("/topic/room/lobby"), str)


# ---- REST ------------------------------------------------------------------------------


def refused(a):
    """The seconds to wait, having looked at the whole answer."""
    p = a.json
    same((a.status, p["status"], p["code"]), (429, 429, "RATE_LIMIT_EXCEEDED"))
    same(a.headers["content-type"], "application/problem+json")
    same(a.headers["retry-after"], str(p["retryAfterSeconds"]))
    assert p["retryAfterSeconds"] >= 1 and p["title"] and "too many calls" in p["detail"], p
    return p["retryAfterSeconds"]


@test
def r17_making_accounts_is_limited_by_address(workers):
    with Serving(workers, "limit-rate.exempt=[]") as server:
        begin = time.monotonic()
        answers = [call(server, "POST", "/api/auth/anonymous", None, {}) for _ in range(90)]
        promised(sum(a.status == 200 for a in answers), begin, 60, 60)
        def anew():
            a = call(server, "POST", "/api/auth/%61nonymous", None, {})
            return a if a.status != 200 else None
        wait = refused(client.until(anew, what="a refusal"))  # one comes back in each second
        same(call(server, "POST", "/api/auth/anonymous", None, {}, source="127.0.0.5").status, 200)
        time.sleep(wait)
        same(call(server, "POST", "/api/auth/anonymous", None, {}).status, 200)


@test
def calls_are_limited_by_address_and_by_user(workers):
    with Serving(workers, "limit-rate.exempt=[]", "limit-rate.calls_burst=20", "limit-rate.user_calls_burst=12",
                 "limit-rate.user_calls_per_minute=60") as server:
        alice, bob = Person(server, "alice"), Person(server, "bob")
        begin = time.monotonic()
        answers = [call(server, "GET", "/api/chat/rooms", alice.token) for _ in range(30)]
        promised(sum(a.status == 200 for a in answers), begin, 12, 60)
        refused([a for a in answers if a.status == 429][0])
        # From elsewhere she is the same; others from there are not.
        begin = time.monotonic()
        n = sum(call(server, "GET", "/api/chat/rooms", alice.token, source="127.0.0.5").status == 200 for _ in range(10))
        promised(n, begin, 12, 60, least=0)
        same(call(server, "GET", "/api/chat/rooms", bob.token, source="127.0.0.6").status, 200)
        begin = time.monotonic()
        n = sum(call(server, "GET", "/api/chat/health", source="127.0.0.7").status == 200 for _ in range(40))
        promised(n, begin, 20, 1200)


# ---- proxies (H033) ----------------------------------------------------------------------

LIMITED = ("limit-rate.exempt=[]", "limit-rate.calls_burst=5", "limit-rate.calls_per_minute=1")
SPOOFED = ("X-Forwarded-For", "Forwarded", "X-Real-IP")


def spoof(name, i):
    return {name: ("for=198.51.100.%d" if name == "Forwarded" else "198.51.100.%d") % i}


@test
def h033_what_a_stranger_forwards_chooses_no_key(workers):
    with Serving(workers, *LIMITED, "http.trusted_proxies=[127.0.0.2]") as server:
        n = 0
        for i in range(30):
            n += call(server, "GET", "/api/chat/health", headers=spoof(SPOOFED[i % 3], i)).status == 200
        same(n, 5)


@test
def h033_behind_a_proxy_the_right_most_address_counts(workers):
    with Serving(workers, *LIMITED, "http.trusted_proxies=[127.0.0.2]", "limit-rate.connects_burst=3",
                 "limit-rate.connects_per_minute=1") as server:
        def via(i, real):
            return {"X-Forwarded-For": "198.51.100.%d, %s" % (i, real)}
        n = sum(call(server, "GET", "/api/chat/health", source="127.0.0.2", headers=via(i, "203.0.113.9")).status == 200
                for i in range(20))
        same(n, 5)
        same(call(server, "GET", "/api/chat/health", source="127.0.0.2", headers=via(1, "203.0.113.10")).status, 200)
        firsts = [stomp_over_ws(server, "127.0.0.2", **via(i, "203.0.113.9"))[1].split(b"\n")[0] for i in range(5)]
        same(firsts, [b"CONNECTED"] * 3 + [b"ERROR"] * 2)
        # One customer's IPv6 network is one key, however many addresses it has.
        n = sum(call(server, "GET", "/api/chat/health", source="127.0.0.2",
                     headers=via(1, "2001:db8:1:2::%x" % i)).status == 200 for i in range(20))
        same(n, 5)
        same(call(server, "GET", "/api/chat/health", source="127.0.0.2", headers=via(1, "2001:db8:1:3::1")).status, 200)


def main():
    return run(TESTS, sys.argv[1] if len(sys.argv) > 1 else "1", abreast=3)


if __name__ == "__main__":
    sys.exit(main())
