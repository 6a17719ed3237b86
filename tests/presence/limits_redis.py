#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Limits that several nodes share, counted exactly.  Speaks TAP.

usage: limits_redis.py [WORD]...     scenarios with a WORD in their names
"""
import json
import sys
import threading
import time

from nodes import FULL, Missing, Person, exactly, run, within

SCENARIOS = []
BURST, RATE = (100, 500) if FULL else (20, 300)   # at once, a minute
SECONDS = 70 if FULL else 8
LIMITS = "  limit-rate: { authenticated_per_minute: %d, authenticated_burst: %d, warn_at: 0, close_after: 0 }\n" % (RATE, BURST)


def scenario(fn):
    SCENARIOS.append(fn)
    return fn


class Flood(threading.Thread):
    """SENDs as fast as they are answered; when each was taken."""

    def __init__(self, node, name, until):
        super().__init__()
        self.device, self.until, self.taken, self.refused, self.error = Person(node, name).device(), until, [], 0, None

    def run(self):
        try:
            while time.monotonic() < self.until:
                answer = self.device.send("/app/chat.send", {"to": self.device.person.id, "content": "x"})
                if "code" not in answer:
                    self.taken.append(time.monotonic())
                else:
                    exactly(answer["code"], "RATE_LIMIT_EXCEEDED", "the refusal")
                    assert answer["retryAfterSeconds"] >= 1
                    self.refused += 1
                    time.sleep(0.02)
        except Exception as e:
            self.error = e
        finally:
            self.device.close()


def flood(nodes, seconds, meanwhile=lambda: None, each=2):
    until = time.monotonic() + seconds
    floods = [Flood(n, "alice", until) for n in nodes for _ in range(each)]
    for f in floods:
        f.start()
    meanwhile()
    for f in floods:
        f.join()
        assert f.error is None, repr(f.error)
    return sorted(t for f in floods for t in f.taken), sum(f.refused for f in floods)


def most_in_windows(taken, extra=1.0, factor=1.0):
    """No window has more than burst + rate x T + 1."""
    for i, begin in enumerate(taken):
        for k in range(i, len(taken)):
            allowed = (BURST + RATE / 60 * (taken[k] - begin)) * factor + extra
            # Half a token for when a receipt is read, which is not when it was granted.
            assert k - i + 1 <= allowed + 0.5, "%d in %.3f s; %.1f are allowed" % (k - i + 1, taken[k] - begin, allowed)


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

    taken, refused = flood(nodes, SECONDS, meanwhile)
    most_in_windows(taken)
    least = BURST + RATE / 60 * (SECONDS - 2) * 0.9
    assert len(taken) >= least, "only %d in %.1f s, at least %.0f are due" % (len(taken), time.monotonic() - begin, least)
    assert refused > 0
    exactly(sorted(redis.lines_of("KEYS", "rate:*")), ["rate:1:auth:alice", "rate:auth:alice"], "the keys")
    ttl = int(redis.cli("PTTL", "rate:auth:alice"))
    assert 280000 < ttl <= 300000, "five minutes: %d" % ttl


@scenario
def one_node_is_no_different(s):
    redis = s.redis()
    nodes = [s.node("server1", redis, workers=4, more=LIMITS, limits=True)]
    taken, refused = flood(nodes, SECONDS, each=4)
    most_in_windows(taken)
    assert len(taken) >= BURST + RATE / 60 * (SECONDS - 1) * 0.9 and refused > 0, (len(taken), refused)


@scenario
def a_flood_does_not_reach_redis(s):
    redis = s.redis()
    a = s.node("server1", redis, more=LIMITS, limits=True)
    d = Person(a, "alice").device()
    body = json.dumps({"to": "alice", "content": "x"}).encode()
    before = calls(redis)
    n = BURST + 2000
    d.sock.sendall(b"".join(b"SEND\ndestination:/app/chat.send\nreceipt:b%d\ncontent-length:%d\n\n%s\0" % (i, len(body), body)
                            for i in range(n)))
    answers = 0
    while answers < n:
        f = d.wait(lambda f: f.headers.get("receipt-id", "").startswith("b") or
                   (f.headers.get("destination") == "/user/queue/errors" and "receiptId" in f.json))
        assert f, "%d answers" % answers
        answers += 1
    asked = calls(redis) - before
    assert asked < BURST + 100, "Redis was asked %d times for %d SENDs" % (asked, n)
    d.close()


def calls(redis):
    for line in redis.lines_of("INFO", "commandstats"):
        if line.startswith("cmdstat_evalsha:"):
            return int(line.split("calls=")[1].split(",")[0])
    return 0


@scenario
def f24_without_redis_each_node_grants_its_part(s):
    redis = s.redis()
    nodes = [s.node("server%d" % i, redis, more=LIMITS, limits=True) for i in (1, 2, 3)]
    within(lambda: len(redis.hash("active:servers")) == 3, 5, "three nodes")
    time.sleep(1.5)  # each has seen the others

    def meanwhile():
        time.sleep(SECONDS / 3)
        redis.kill()
        time.sleep(SECONDS / 3)
        redis.start()

    taken, _ = flood(nodes, SECONDS, meanwhile)
    # What Redis knew went with it: a wiped one costs one more burst at most.
    most_in_windows([t for t in taken if t < taken[0] + SECONDS * 2 / 3], factor=1.2)
    gone = [t for t in taken if SECONDS / 3 + 1 < t - taken[0] < SECONDS * 2 / 3]
    assert gone, "nothing was granted while Redis was away"
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


if __name__ == "__main__":
    try:
        sys.exit(run(SCENARIOS, 2))
    except Missing as e:
        print("1..0 # skip %s" % e)
