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
    while node.number("confirmed_total") - begin < count + 1:
        time.sleep(0.005)
    c.close()
    return count / (time.monotonic() - start)


def bare(rabbit, count, size):
    out = subprocess.run([os.path.join(BUILD, "tests", "cluster", "bench-amqp"), str(rabbit.port), str(count), str(size), "1000",
                          KEY], capture_output=True, text=True, check=True)
    return float(out.stdout)


def compare(count, size, rounds):
    """The rates of each round, the ratio of the best, and whether the node ended cleanly."""
    with Rabbit() as rabbit:
        node = Plain("n1", [rabbit.port], 1, more={"queue_max": "1 GiB"})
        node.wait_up()
        # A queue that nobody consumes takes what is published: as another node's would.
        rabbit.erlang("rabbit_amqqueue:declare({resource, <<\"/\">>, queue, <<\"sink\">>}, false, false, [{<<\"x-max-length\">>, "
                      "long, 1000}], none, <<\"test\">>), rabbit_binding:add({binding, {resource, <<\"/\">>, exchange, "
                      "<<\"chat.exchange\">>}, <<\"%s\">>, {resource, <<\"/\">>, queue, <<\"sink\">>}, []}, <<\"test\">>)." % KEY)
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(bare(rabbit, count, size))
            ours.append(chatd(node, rabbit, count, size))
        code, log = node.stop()
        return {"bare": theirs, "chatd": ours, "ratio": max(ours) / max(theirs),
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
