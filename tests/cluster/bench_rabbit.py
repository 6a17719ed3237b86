#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Publishes a second through one node's connection, beside a bare loop around the AMQP library: the same broker,
window, size and headers, in turn, the best of some rounds.

usage: bench_rabbit.py [COUNT] [SIZE] [ROUNDS]"""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from plain import BUILD, Plain  # noqa: E402
from backends.rabbit import Rabbit  # noqa: E402

import hashlib  # noqa: E402

DEST = "/topic/bench"
KEY = "chat.topic." + hashlib.sha256(DEST.encode()).hexdigest()[:16]
KEYS = (KEY, "chat.bench.2", "chat.bench.3")


def chatd(node, rabbit, count, size):
    """By what one client sends as fast as it can; it must be taken faster than it is published, so the broker is held
    meanwhile: only the publishing itself is timed."""
    c = node.client()
    begin = node.number("confirmed_total")
    rabbit.freeze()
    for _ in range(count):
        c.put(DEST, b"x" * size)
    c.write("SEND", {"destination": DEST, "receipt": "end"}, b"x")
    c.wait(lambda f: f.headers.get("receipt-id") == "end", 60)
    start = time.monotonic()
    rabbit.thaw()
    # Asked seldom: an answer is all of the node's figures, and takes CPU from what is timed.
    while node.number("confirmed_total") - begin < count + 1:
        time.sleep(0.05)
    c.close()
    return count / (time.monotonic() - start)


def loop(rabbit, count, size, window, key=KEY):
    return subprocess.Popen([os.path.join(BUILD, "tests", "cluster", "bench-amqp"), str(rabbit.port), str(count), str(size),
                             str(window), key], stdout=subprocess.PIPE, text=True)


def bare(rabbit, count, size):
    return float(loop(rabbit, count, size, 1000).communicate()[0])


def three(rabbit, count, size, window):
    """Three connections at once, each to a queue of its own; the sum."""
    loops = [loop(rabbit, count // 3, size, window, key) for key in KEYS]
    start = time.monotonic()
    for one in loops:
        if one.wait() != 0:
            raise RuntimeError("bench-amqp failed")
    return count // 3 * 3 / (time.monotonic() - start)


def compare(count, size, rounds):
    """The rates of each round, the ratio of the best, and whether the node ended cleanly."""
    with Rabbit() as rabbit:
        node = Plain("n1", [rabbit.port], 1, more={"queue_max": "1 GiB"})
        node.wait_up()
        # A queue that nobody consumes takes what is published: as another node's would.
        for key in KEYS:
            rabbit.erlang("rabbit_amqqueue:declare({{resource, <<\"/\">>, queue, <<\"sink {0}\">>}}, false, false, "
                          "[{{<<\"x-max-length\">>, long, 1000}}], none, <<\"test\">>), rabbit_binding:add({{binding, "
                          "{{resource, <<\"/\">>, exchange, <<\"chat.exchange\">>}}, <<\"{0}\">>, {{resource, <<\"/\">>, "
                          "queue, <<\"sink {0}\">>}}, []}}, <<\"test\">>).".format(key))
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(bare(rabbit, count, size))
            ours.append(chatd(node, rabbit, count, size))
        both = [three(rabbit, count, size, window) for window in (1000, 0)]
        code, log = node.stop()
        return {"bare": theirs, "chatd": ours, "ratio": max(ours) / max(theirs), "three": both[0], "unconfirmed": both[1],
                "clean": code == 0 and "Sanitizer" not in log}


def main():
    count, size, rounds = (int(a) for a in (sys.argv[1:] + ["20000", "500", "3"][len(sys.argv) - 1:]))
    r = compare(count, size, rounds)
    print("%d messages of %d bytes, window 1000: bare loop %.0f/s, chatd %.0f/s, ratio %.2f (best of %d)" %
          (count, size, max(r["bare"]), max(r["chatd"]), r["ratio"], rounds))
    print("all: bare %s, chatd %s" % ([round(t) for t in r["bare"]], [round(o) for o in r["chatd"]]))
    return 0 if r["clean"] else 1


if __name__ == "__main__":
    sys.exit(main())
