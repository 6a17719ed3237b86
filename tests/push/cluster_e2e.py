#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pushes in a cluster: one for all nodes, and none that is lost with a node.  Speaks TAP.

usage: cluster_e2e.py [WORKERS]"""
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "chat"), os.path.join(HERE, ".."), os.path.join(HERE, "..", "ws")]
from backends.base import IN_CI, Missing  # noqa: E402
from backends.cluster import Cluster, tap  # noqa: E402
from client import ACCOUNTS, Person, rest  # noqa: E402
from push_e2e import same, say, subscribe, until  # noqa: E402
from service import KEYS, Rude  # noqa: E402

TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def at(c, name, node):
    return Person(c.nodes[node], name)


def gone(c, who):
    for n in c.nodes:
        until(lambda: not rest(n, who, "GET", "/api/chat/users/%s/status" % who.id).json.get("online"), what="gone")


@test
def all_nodes_have_one_key(c):
    keys = [until(lambda: rest(n, None, "GET", "/api/push/key").json.get("publicKey")) for n in c.nodes]
    same(len(set(keys)), 1, keys)


@test
def who_is_on_another_node_is_not_told_and_who_is_on_none_once(c):
    alice, bob = at(c, "alice", 0), at(c, "bob", 1)
    d, here = alice.device(), bob.device()
    subscribe(bob, c.rude.sub("/bob"))
    say(d, to="bob", content="you are there")
    assert here.messages(content="you are there")
    time.sleep(5)
    same(c.rude.at("/bob"), [])
    here.send("/app/chat.read", {"with": "alice", "seq": 1})
    here.close()
    gone(c, bob)
    # Both nodes have something to say, at the same time.
    carol = at(c, "carol", 1).device()
    for i in range(5):
        say(d, to="bob", content="from one node %d" % i)
        say(carol, to="bob", content="from the other %d" % i)
    until(lambda: len(c.rude.at("/bob")) == 2, what="one push for each conversation")
    time.sleep(1.5)
    same(len(c.rude.at("/bob")), 2)
    topics = [x[2]["Topic"] for x in c.rude.at("/bob")]
    same(len(set(topics)), 2, topics)
    d.close()
    carol.close()


@test
def a_room_tells_each_of_its_members_once(c):
    alice = at(c, "alice", 0)
    room = alice.rest("POST", "/api/chat/rooms", {"name": "Both", "public": True}).json["id"]
    members = [at(c, n, i) for i, n in enumerate(("bob", "carol"))]
    for m in members:
        assert m.rest("POST", "/api/chat/rooms/%s/join" % room).status in (200, 204)
        m.rest("DELETE", "/api/push/subscriptions")
        subscribe(m, c.rude.sub("/room/" + m.id))
        gone(c, m)
    d, other = alice.device(), at(c, "alice", 1).device()
    for k in range(4):
        say((d, other)[k % 2], roomId=room, content="to all %d" % k)
    for m in members:
        until(lambda: c.rude.at("/room/" + m.id), what="a push to " + m.id)
    time.sleep(1.5)
    same([len(c.rude.at("/room/" + m.id)) for m in members], [1, 1])
    d.close()
    other.close()


@test
def a_node_that_dies_takes_no_push_along(c):
    alice, bob = at(c, "alice", 1), at(c, "bob", 0)
    bob.rest("DELETE", "/api/push/subscriptions")
    subscribe(bob, {"endpoint": c.rude.url("/orphan"), "keys": KEYS})
    gone(c, bob)
    d = alice.device()
    say(d, to="bob", content="my node dies")
    time.sleep(1)  # it is a record by now, and not due yet
    c.nodes[1].kill()
    until(lambda: c.rude.at("/orphan"), what="the other node tells it")


def main():
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    rude = Rude()
    block = "  fetch: { outside_allow: [\"%s\"] }\n  push: { grace: 4s, interval: 100ms, hosts: [] }\n" % rude.allow()
    try:
        cluster = Cluster(2, "server.drain_spread=1s", workers=workers, accounts=ACCOUNTS + block).start()
    except Missing as why:
        if IN_CI:
            raise
        print("1..0 # skip %s" % why)
        return 0
    cluster.rude = rude
    try:
        # The last one was killed by a test.
        return tap(cluster, TESTS, "the node that lives ends cleanly", slice(1))
    finally:
        rude.stop()


sys.exit(main())
