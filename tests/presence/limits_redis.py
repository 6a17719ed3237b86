#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Limits that several nodes share, counted exactly.  Speaks TAP.

usage: limits_redis.py [WORD]...     scenarios with a WORD in their names
"""
import concurrent.futures
import hmac
import http.client
import json
import signal
import socket
import sys
import threading
import time

from nodes import FULL, Device, Missing, Person, exactly, rest, run, within
from faults.pace import Pace

SCENARIOS = []
BURST, RATE = (100, 500) if FULL else (20, 300)   # at once, a minute
SECONDS = 70 if FULL else 8
LIMITS = "  limit-rate: { authenticated_per_minute: %d, authenticated_burst: %d, warn_at: 0, close_after: 0 }\n" % (RATE, BURST)


def scenario(fn):
    SCENARIOS.append(fn)
    return fn


class Flood(threading.Thread):
    """SENDs as fast as they are answered; of each that was taken when its RECEIPT was read, and when it was sent."""

    def __init__(self, node, name, until):
        super().__init__()
        self.until, self.taken, self.refused, self.error = until, [], 0, None
        self.device = Device.bare(Person(node, name))  # 51 of them have no 204 subscriptions: those are limited, too
        self.device.subscribe("/user/queue/errors")

    def run(self):
        try:
            while time.monotonic() < self.until:
                sent = time.monotonic()
                answer = self.device.send("/app/chat.send", {"to": self.device.person.id, "content": "x"})
                if "code" not in answer:
                    self.taken.append((time.monotonic(), sent))
                else:
                    exactly(answer["code"], "RATE_LIMIT_EXCEEDED", "the refusal")
                    assert answer["retryAfterSeconds"] >= 1
                    self.refused += 1
                    time.sleep(0.02)
        except Exception as e:
            self.error = e
        finally:
            self.device.close()


def flood(nodes, seconds, meanwhile=lambda: None, each=17 if FULL else 2):
    """What was taken, in the order in which it was read; how many were refused; how slow the machine was."""
    until = time.monotonic() + seconds
    floods = [Flood(n, "alice", until) for n in nodes for _ in range(each)]
    with Pace() as pace:
        for f in floods:
            f.start()
        meanwhile()
        for f in floods:
            f.join()
            assert f.error is None, repr(f.error)
    return sorted(t for f in floods for t in f.taken), sum(f.refused for f in floods), pace.factor()


def most_in_windows(taken, extra=1.0, factor=1.0):
    """No window has more than burst + rate x T + 1; each was granted after it was sent and before it was read."""
    for i in range(len(taken)):
        begin = taken[i][1]
        for k in range(i, len(taken)):
            begin = min(begin, taken[k][1])
            allowed = (BURST + RATE / 60 * (taken[k][0] - begin)) * factor + extra
            assert k - i + 1 <= allowed, "%d in %.3f s; %.1f are allowed" % (k - i + 1, taken[k][0] - begin, allowed)


@scenario
def f29_three_nodes_grant_what_one_would(s):
    redis = s.redis()
    nodes = [s.node("server%d" % i, redis, more=LIMITS, limits=True) for i in (1, 2, 3)]
    within(lambda: len(redis.hash("active:servers")) == 3, 5, "three nodes")
    begin = time.monotonic()

    def meanwhile():
        for what in (("SCRIPT", "FLUSH"), ("CLIENT", "KILL", "TYPE", "normal"), ("SCRIPT", "FLUSH")):
            time.sleep(SECONDS / 5)
            redis.cli(*what)

    taken, refused, slow = flood(nodes, SECONDS, meanwhile)
    most_in_windows(taken)
    least = BURST + RATE / 60 * (SECONDS - 2) * 0.9 / slow
    assert len(taken) >= least, "only %d in %.1f s, at least %.0f are due" % (len(taken), time.monotonic() - begin, least)
    assert refused > 0
    exactly(sorted(redis.lines_of("KEYS", "rate:*")), ["rate:1:auth:alice", "rate:auth:alice"], "the keys")
    ttl = int(redis.cli("PTTL", "rate:auth:alice"))
    assert 280000 < ttl <= 300000, "five minutes: %d" % ttl


@scenario
def one_node_is_no_different(s):
    redis = s.redis()
    nodes = [s.node("server1", redis, workers=4, more=LIMITS, limits=True)]
    taken, refused, slow = flood(nodes, SECONDS, each=4)
    most_in_windows(taken)
    assert len(taken) >= BURST + RATE / 60 * (SECONDS - 1) * 0.9 / slow and refused > 0, (len(taken), refused)


@scenario
def a_flood_does_not_reach_redis(s):
    redis = s.redis()
    a = s.node("server1", redis, more=LIMITS, limits=True)
    d = Person(a, "alice").device()
    body = json.dumps({"to": "alice", "content": "x"}).encode()
    before, begin = calls(redis), time.monotonic()
    n = BURST + 2000
    frames = b"".join(b"SEND\ndestination:/app/chat.send\nreceipt:b%d\ncontent-length:%d\n\n%s\0" % (i, len(body), body)
                      for i in range(n))
    # Read meanwhile: who leaves half a megabyte of answers unread is shown out.
    threading.Thread(target=d.sock.sendall, args=(frames,), daemon=True).start()
    answers = 0
    while answers < n:
        f = d.wait(lambda f: f.headers.get("receipt-id", "").startswith("b") or
                   (f.headers.get("destination") == "/user/queue/errors" and "receiptId" in f.json))
        assert f, "%d answers" % answers
        answers += 1
    asked = calls(redis) - before
    # What flows in meanwhile is asked for as well, and once more than is there.
    most = BURST + 100 + 2 * RATE / 60 * (time.monotonic() - begin)
    assert asked < most < n, "Redis was asked %d times for %d SENDs" % (asked, n)
    d.close()


def calls(redis):
    for line in redis.lines_of("INFO", "commandstats"):
        if line.startswith("cmdstat_evalsha:"):
            return int(line.split("calls=")[1].split(",")[0])
    return 0


@scenario
def f51_a_clock_of_redis_that_steps_locks_nobody_out_and_lets_nobody_through(s):
    """What it leaves: buckets that are full at a time far ahead (it stepped back), or long ago, or none (forward)."""
    redis = s.redis()
    a = s.node("server1", redis, more=LIMITS, limits=True)
    d, key, hour = Person(a, "alice").device(), "rate:auth:alice", 3600 * 10 ** 6

    def takes(n):
        """At once, so that as little as may be flows in meanwhile."""
        ids = ["t%d" % next(d.count) for _ in range(n)]
        for i in ids:
            d.write("SEND", {"destination": "/app/chat.send", "receipt": i}, b'{"to":"alice","content":"x"}')
        answers = [d.wait(lambda f: i in (f.headers.get("receipt-id"), f.body.startswith(b"{") and f.json.get("receiptId")), 60)
                   for i in ids]
        return sum(f.command == "RECEIPT" for f in answers)
    begin = time.monotonic()
    taken = takes(3 * BURST)
    most = BURST + RATE / 60 * (time.monotonic() - begin) + 1
    assert BURST <= taken <= most < 3 * BURST, "%d of %.0f" % (taken, most)
    now = int("".join(w.rjust(6, "0") for w in redis.lines_of("TIME")))
    redis.cli("SET", key, str(now + hour))
    within(lambda: takes(1) == 1, BURST * 60 / RATE + 1, "let in again")
    stored = int(redis.cli("GET", key))
    assert stored < now + hour / 2, "the bucket is full at a time that may come"
    for ahead in (str(now - hour), "none"):
        redis.cli("SET", key, ahead)
        taken = takes(3 * BURST)
        most = BURST + RATE / 60 * (time.monotonic() - begin) + 1
        assert taken <= most, "%d of %.0f" % (taken, most)
        begin = time.monotonic()
    d.close()


@scenario
def f24_without_redis_each_node_grants_its_part(s):
    redis = s.redis()
    nodes = [s.node("server%d" % i, redis, more=LIMITS, limits=True) for i in (1, 2, 3)]
    within(lambda: len(redis.hash("active:servers")) == 3, 5, "three nodes")
    time.sleep(1.5)  # each has seen the others

    begin, away = time.monotonic(), []

    def meanwhile():
        time.sleep(SECONDS / 3)
        redis.kill()
        away.append(time.monotonic())
        time.sleep(SECONDS / 3)
        away.append(time.monotonic())
        redis.start()

    taken, _, _ = flood(nodes, SECONDS, meanwhile)
    # What Redis knew went with it: a wiped one costs one more burst at most.
    most_in_windows([t for t in taken if t[0] < begin + SECONDS * 2 / 3], factor=1.2)
    assert [t for t in taken if away[0] < t[1] and t[0] < away[1]], "nothing was granted while Redis was away"
    exactly(len(taken) <= (2 * BURST + RATE / 60 * SECONDS) * 1.2, True, "%d taken" % len(taken))


@scenario
def guests_are_counted_by_their_client(s):
    redis = s.redis()
    a, b = (s.node("server%d" % i, redis, limits=True, more="  limit-rate: { warn_at: 0 }\n") for i in (1, 2))
    for n in (a, b):
        d = Person(n).device()
        d.send("/app/chat.send", {"to": d.person.id, "content": "x"})
        d.close()
    keys = redis.lines_of("KEYS", "rate:*")
    exactly(len([k for k in keys if k.startswith("rate:anon:")]), 2, "keys %r" % keys)
    assert all(k.startswith(("rate:anon:", "rate:1:anon:")) for k in keys), keys


# ---- CONNECT, REST and guesses --------------------------------------------------------------

MANY = ("  limit-rate: { exempt: [], connects_burst: 12, connects_per_minute: 6, logins_burst: 6, logins_per_minute: 6,\n"
        "    calls_burst: 15, calls_per_minute: 6, user_calls_burst: 9, user_calls_per_minute: 6,\n"
        "    rest: [{ prefix: /api/auth/anonymous, methods: [POST], per_minute: 6, burst: 6 },\n"
        "           { prefix: /api/auth/authenticate, methods: [POST], per_minute: 6000, burst: 1000 }] }\n"
        "  auth-password: { hash_threads: 0, argon2_memory: 256 KiB, argon2_passes: 1, attempts: 5 }\n")
GUESSES = MANY.replace("calls_burst: 15, calls_per_minute: 6,", "calls_per_minute: 0,").replace(
    "logins_burst: 6, logins_per_minute: 6,", "logins_per_minute: 0,")
NAMES_KEY = "a secret of the nodes, of 32 bytes or more"
EVERY = 10  # seconds in which one more flows in


def connect(node, login=None, source="127.0.0.1"):
    """CONNECTED, or what the ERROR says."""
    with socket.create_connection(node.address("tcp"), 60, source_address=(source, 0)) as s:
        more = "login:%s\npasscode:wrong\n" % login if login else ""
        s.sendall(("CONNECT\naccept-version:1.2\nhost:x\n%s\n\0" % more).encode())
        got = b""
        while b"\0" not in got:
            data = s.recv(4096)
            if not data:
                break
            got += data
    return got.decode()


def call(node, method, path, body=None, token=None, source="127.0.0.1"):
    conn = http.client.HTTPConnection(*node.address("http"), timeout=60, source_address=(source, 0))
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = "Bearer " + token
    conn.request(method, path, None if body is None else json.dumps(body), headers)
    r = conn.getresponse()
    r.read()
    conn.close()
    return r.status, r.getheader("Retry-After")


def guess(node, email, source="127.0.0.1", password="wrong horse"):
    return call(node, "POST", "/api/auth/authenticate", {"email": email, "password": password}, source=source)


def granted(nodes, n, fn):
    """How many of n attempts, in turn on the nodes, met no limit; how long it took."""
    begin = time.monotonic()
    good = sum(1 for i in range(n) if fn(nodes[i % len(nodes)]))
    return good, time.monotonic() - begin


def exact(got, burst, what, every=EVERY, each=1, since=None):
    """The burst, and what has flowed in meanwhile on a slow machine; since: when the first of it was used."""
    n, took = got
    took = time.monotonic() - since if since else took
    most = burst + each * (took // every + (took > every))
    assert burst <= n <= most, "%s: %d in %.1f s, not %d" % (what, n, took, burst)


def not_limited(text):
    return "RATE_LIMIT_EXCEEDED" not in text


def three(s, redis, more, settings=()):
    nodes = [s.node("server%d" % i, redis, more=more, settings=settings, limits=True) for i in (1, 2, 3)]
    within(lambda: len(redis.hash("active:servers")) == 3, 5, "three nodes")
    return nodes


def several(s, redis, n, more, settings=()):
    if n == 3:
        return three(s, redis, more, settings)
    return [s.node("server1", redis, workers=4, more=more, settings=settings, limits=True)]


def connects_and_calls(s, n):
    redis = s.redis()
    nodes = several(s, redis, n, MANY, ("redis.names_key=" + NAMES_KEY,))
    first = time.monotonic()
    names = ("nobody%d" % i for i in range(20))  # else the account's delays come first
    exact(granted(nodes, 20, lambda n: not_limited(connect(n, next(names)))), 6, "logins")
    # Those refused cost nothing: 6 of 12 connections are left.
    exact(granted(nodes, 20, lambda n: not_limited(connect(n))), 6, "connections", since=first)
    exact(granted(nodes, 20, lambda n: not_limited(connect(n, source="127.0.0.2"))), 12, "another address")
    first = time.monotonic()
    exact(granted(nodes, 20, lambda n: call(n, "POST", "/api/auth/anonymous", {})[0] != 429), 6, "calls of a kind")
    exact(granted(nodes, 20, lambda n: call(n, "GET", "/api/chat/health")[0] != 429), 9, "calls of an address", since=first)
    token = "token-of-alice-long-enough"
    exact(granted(nodes, 20, lambda n: call(n, "GET", "/api/chat/rooms", token=token, source="127.0.0.3")[0] != 429), 9,
          "calls of a user")
    status, retry = call(nodes[0], "GET", "/api/chat/rooms", token=token, source="127.0.0.3")
    assert status == 429 and 1 <= int(retry) <= EVERY, (status, retry)
    keys = sorted(k[:k.rfind(":")] for k in redis.lines_of("KEYS", "rate:*"))
    exactly([k for k in keys if "rest" in k or "connect" in k or "login" in k],
            ["rate:connect", "rate:connect", "rate:login", "rate:rest", "rate:rest", "rate:rest1", "rate:rest:auth"],
            "keys")
    text = redis.cli("KEYS", "*")
    assert "127.0.0" not in text, text
    name = hmac.new(NAMES_KEY.encode(), b"127.0.0.2", "sha256").hexdigest()[:32]
    exactly(redis.cli("EXISTS", "rate:connect:" + name), "1", "the address' name")


@scenario
def connects_and_calls_of_three_nodes(s):
    connects_and_calls(s, 3)


@scenario
def connects_and_calls_of_one_node(s):
    connects_and_calls(s, 1)


def delayed(nodes, n, email, source):
    """The delays after wrong passwords of one account from one address; False: they were over too soon to tell."""
    answers = [guess(nodes[i % n], email, source) for i in range(5)]
    exactly([a[0] for a in answers], [401] * 5, "wrong passwords")
    fifth = time.monotonic()
    answers = [guess(nodes[i % n], email, source) for i in range(5, 8)]
    if time.monotonic() - fifth > 0.9:
        return False
    exactly(answers, [(429, "1")] * 3, "the first delay")
    time.sleep(1.05)
    # Delays are over; side by side, on all nodes, one of them is tried.
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        side = list(pool.map(lambda i: guess(nodes[i % n], email, source)[0], range(9)))
    status, retry = guess(nodes[-1], email, source)
    if time.monotonic() - begin > 1.9:
        return False
    exactly(sorted(side), [401] + [429] * 8, "side by side")
    assert (status, retry) in ((429, "2"), (429, "1")), "the second delay: %r" % ((status, retry),)
    return True


def guesses(s, n):
    redis = s.redis()
    nodes = several(s, redis, n, GUESSES)
    # The delays are short: a slow machine may be through with one before it asks again, and tries with another account.
    email = next(e for e in ("nobody%d@example.org" % k for k in range(10)) if delayed(nodes, n, e, "127.0.0.%d" % (10 + int(e[6]))))
    # The account from elsewhere: twenty, of which six are used up.
    exactly([guess(nodes[i % n], email, "127.0.1.%d" % (1 + i))[0] for i in range(16)],
            [401] * 14 + [429] * 2, "one account from everywhere")
    # Whatever account: twenty from one address.
    exactly([guess(nodes[i % n], "u%d@example.org" % i, "127.0.2.1")[0] for i in range(22)],
            [401] * 20 + [429] * 2, "one address, all accounts")
    exactly([call(nodes[i % n], "POST", "/api/auth/verify", {"code": "AAAAA"}, source="127.0.2.2")[0] for i in range(12)],
            [400] * 10 + [429] * 2, "codes")
    text = redis.cli("KEYS", "auth:*")
    assert "example" not in text and "127" not in [w for line in text.split() for w in line.split(":")], text
    exactly(sorted({k[:k.rfind(":")] for k in text.split()}),
            ["auth:fails:code:address", "auth:fails:login:account", "auth:fails:login:address", "auth:fails:login:pair"],
            "keys")
    for key in {k[:k.rfind(":")]: k for k in text.split()}.values():
        assert 0 < int(redis.cli("PTTL", key)) <= 3600000 + 60000, key
        exactly(redis.hash(key)["busy"], "0", key)


@scenario
def guesses_on_three_nodes(s):
    guesses(s, 3)


@scenario
def guesses_on_one_node(s):
    guesses(s, 1)


@scenario
def an_owner_logs_in_whatever_others_guess_on_other_nodes(s):
    redis = s.redis()
    home, other = (s.node("server%d" % i, redis, limits=True, more=GUESSES) for i in (1, 2))
    who = {"email": "ann@example.org", "password": "right horse"}
    # The other node has no such account, and counts by what was asked for: the id is the same.
    user = rest(home, None, "POST", "/api/auth/register", who).json["userId"]

    def right(source):
        return guess(home, who["email"], source, who["password"])[0]

    def wrong(source):
        return "Too many attempts" not in connect(other, user, source)
    exactly(right("127.0.3.1"), 200, "at home")
    exactly(redis.lines_of("KEYS", "auth:fails:*"), [], "a right password leaves nothing")
    exactly(len(redis.lines_of("KEYS", "auth:known:*")), 1, "but who was there")
    for _ in range(2):  # four wrong ones, and a right one begins anew
        exactly([wrong("127.0.3.1") for _ in range(4)], [True] * 4, "wrong")
        exactly(right("127.0.3.1"), 200, "right")
    # From an address that is known they do not count for the account.
    exactly([wrong("127.0.4.%d" % (1 + i)) for i in range(22)], [True] * 20 + [False] * 2, "guesses from all over")
    exactly(right("127.0.5.1"), 429, "a new address waits")
    exactly(right("127.0.3.1"), 200, "the known one does not")
    exactly(wrong("127.0.3.1"), True, "on the other node neither")


@scenario
def f25_redis_stands_still_and_dies_and_nothing_hangs(s):
    redis = s.redis()
    nodes = three(s, redis, GUESSES.replace("calls_per_minute: 0,", "calls_burst: 60, calls_per_minute: 6,"))
    time.sleep(1.5)  # each has seen the others

    def five(email, source, what):
        """Then it is a second until the next one."""
        exact(granted(nodes, 6, lambda n: guess(n, email, source)[0] == 401), 5, what, every=1)
    five("before@example.org", "127.0.0.1", "with Redis")
    times = []

    def timed(fn):
        def run_(node):
            begin = time.monotonic()
            answer = fn(node)
            times.append(time.monotonic() - begin)
            return answer
        return run_

    def shares(net):
        """The share of each of three, from a new address."""
        exact(granted(nodes, 24, timed(lambda n: not_limited(connect(n, source=net + ".1")))), 12, "connections")
        exact(granted(nodes, 24, timed(lambda n: call(n, "POST", "/api/auth/anonymous", {}, source=net + ".2")[0] != 429)), 6,
              "calls")
        # Five of a third each: two on each node.
        exact(granted(nodes, 9, timed(lambda n: guess(n, net + "@example.org", net + ".3")[0] == 401)), 6, "guesses", every=1, each=3)

    redis.child.send_signal(signal.SIGSTOP)
    for i in range(6):  # these do not wait for the answer
        with socket.create_connection(nodes[i % 3].address("http"), 60) as gone:
            gone.sendall(b"GET /api/chat/health HTTP/1.1\r\nHost: x\r\n\r\n")
        with socket.create_connection(nodes[i % 3].address("tcp"), 60) as gone:
            gone.sendall(b"CONNECT\naccept-version:1.2\nhost:x\n\n\0")
    shares("127.1.1")
    redis.child.send_signal(signal.SIGCONT)
    within(lambda: all(n.ready_redis() for n in nodes), 10, "Redis is back")
    # What the nodes granted by themselves, each tells when it is asked next: there would be five.
    more, took = granted(nodes, 9, lambda n: guess(n, "127.1.1@example.org", "127.1.1.3")[0] == 401)
    assert more <= 3 + 3 * (took // 1), "%d more guesses when Redis is back, in %.1f s" % (more, took)
    exact(granted(nodes, 12, lambda n: not_limited(connect(n, source="127.1.1.1"))), 0, "connections when Redis is back")
    redis.kill()
    within(lambda: not any(n.ready_redis() for n in nodes), 5, "Redis is away")
    shares("127.1.2")
    redis.start()
    within(lambda: all(n.ready_redis() for n in nodes), 10, "Redis is back again")
    exact(granted(nodes, 24, lambda n: not_limited(connect(n, source="127.1.3.1"))), 12, "with Redis again")
    five("after@example.org", "127.1.3.2", "with Redis again")
    # Who waits for Redis does so again and again; once or twice it is the machine that had no time.
    assert sorted(times)[-3] < 2.5, "answers took %r s" % sorted(times)[-5:]


if __name__ == "__main__":
    try:
        sys.exit(run(SCENARIOS, 4))
    except Missing as e:
        print("1..0 # skip %s" % e)
