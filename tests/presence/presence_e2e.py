#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What people are, and who is told, on one node.  Speaks TAP.

usage: presence_e2e.py [WORKERS [TEST]...]"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "chat"))
from client import Person, Server, rest, tap  # noqa: E402

QUEUE, WATCH, UNWATCH, SET = "/user/queue/presence", "/app/presence.watch", "/app/presence.unwatch", "/app/presence.set"
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def same(got, want, what=""):
    assert got == want, "%s: %r, not %r" % (what, got, want)


def good(answer):
    assert "code" not in answer, answer


def watcher(s, *users):
    """Somebody who watches, and what it was told first."""
    d = Person(s).device()
    d.subscribe(QUEUE)
    good(d.send(WATCH, {"users": list(users)}))
    return d, {u["userId"]: u for u in d.on(QUEUE, 0.1).json["users"]}  # it comes before the receipt


def told(d, seconds=20):
    """The next change: user, status, text."""
    f = d.on(QUEUE, seconds)
    return f and (f.json["userId"], f.json["status"], f.json.get("text"))


def a_room(owner, *members):
    room = owner.rest("POST", "/api/chat/rooms", {"name": "den", "public": True}).json["id"]
    for m in members:
        assert m.rest("POST", "/api/chat/rooms/%s/join" % room).status < 300
    return room


def gone(s, *names):
    """Whoever was here in another test has gone."""
    end, eve = time.monotonic() + 60, Person(s)
    for n in names:
        while rest(s, eve, "GET", "/api/chat/users/%s/status" % n).json["online"]:
            assert time.monotonic() < end, n + " is still online"
            time.sleep(0.05)


@test
def watchers_hear_each_change_once(s):
    watchers = [watcher(s, "alice", "bob") for _ in range(6)]
    stranger, _ = watcher(s, "carol")
    for _, first in watchers:
        same(first["bob"], {"userId": "bob", "online": False, "status": "offline"}, "never here")
    phone, tab = Person(s, "alice").device(), Person(s, "alice").device()
    good(phone.send(SET, {"status": "away"}))  # the other one is online
    good(tab.send(SET, {"status": "away", "text": "asleep"}))
    good(phone.send(SET, {"status": "busy", "text": "on the phone"}))
    good(tab.send(SET, {"status": "online"}))
    phone.close()
    for d, _ in watchers:
        same([told(d) for _ in range(4)], [("alice", "online", None), ("alice", "away", "asleep"),
                                           ("alice", "busy", "on the phone"), ("alice", "online", None)])
    tab.close()
    for d, _ in watchers:
        same(told(d), ("alice", "offline", None))
        same(d.quiet(QUEUE), True, "once")
    same(stranger.quiet(QUEUE), True, "who watches somebody else")


@test
def a_reload_is_no_event(s):
    patient = Server(s.ready["workers"], "presence-memory.linger=1m", memory=True)  # however long she takes to come back
    try:
        d, _ = watcher(patient, "alice")
        device = Person(patient, "alice").device()
        good(device.send(SET, {"status": "busy"}))
        same([told(d), told(d)], [("alice", "online", None), ("alice", "busy", None)])
        for _ in range(3):
            device.close()
            device = Person(patient, "alice").device()
            good(device.send(SET, {"status": "busy"}))  # as a page does
        same(d.quiet(QUEUE), True, "busy all the time")
        for x in (d, device):
            x.close()
    finally:
        same(patient.stop()[0], 0, "exit code")


@test
def what_came_before_the_watch_is_in_its_answer(s):
    gone(s, "alice")
    device = Person(s, "alice").device()
    good(device.send(SET, {"status": "away", "text": "<b>\u202eout</b>"}))
    d, first = watcher(s, "alice")
    same([first["alice"][k] for k in ("online", "status", "text")], [True, "away", "<b>out</b>"])
    assert first["alice"]["since"].endswith("Z"), first
    good(d.send(UNWATCH, {"users": ["alice"]}))
    good(device.send(SET, {"status": "busy"}))
    same(d.quiet(QUEUE), True, "not any more")
    device.close()


@test
def somebody_watches_oneself(s):
    gone(s, "bob")
    a, b = Person(s, "bob").device(), Person(s, "bob").device()
    a.subscribe(QUEUE)
    good(a.send(WATCH, {"users": ["bob"]}))
    same(a.on(QUEUE).json["users"][0]["status"], "online")
    good(b.send(SET, {"status": "busy", "text": "in a meeting"}))
    same(told(a), ("bob", "busy", "in a meeting"))
    a.close()
    b.close()


@test
def status_over_rest(s):
    gone(s, "alice", "bob")
    eve, device = Person(s), Person(s, "alice").device()
    good(device.send(SET, {"status": "busy", "text": "at lunch"}))
    r = eve.rest("GET", "/api/chat/users/alice/status").json
    same({k: r[k] for k in ("userId", "online", "status", "text")},
         {"userId": "alice", "online": True, "status": "busy", "text": "at lunch"})
    assert "since" in r and "lastSeen" not in r, r
    r = eve.rest("GET", "/api/chat/presence?users=alice,nobody,bob,alice")
    same([r.status, [(u["userId"], u["online"], u["status"]) for u in r.json["users"]]],
         [200, [("alice", True, "busy"), ("nobody", False, "offline"), ("bob", False, "offline")]])
    device.close()
    gone(s, "alice")
    r = eve.rest("GET", "/api/chat/users/alice/status").json
    same([r["online"], r["status"], r["lastSeen"], "text" in r], [False, "offline", r["since"], False])
    same(rest(s, None, "GET", "/api/chat/presence?users=alice").status, 401)
    for query in ("", "?users=", "?users=a%20b", "?users=" + ",".join("u%d" % i for i in range(201))):
        r = eve.rest("GET", "/api/chat/presence" + query)
        same([r.status, r.json["code"]], [422, "VALIDATION"], query[:20])
    same(eve.rest("POST", "/api/chat/presence", {}).status, 405)


@test
def mistakes_are_named(s):
    d = Person(s).device()
    same(d.send(WATCH, {"users": ["alice"]})["message"], "subscribe to /user/queue/presence first: the answer comes there")
    d.subscribe(QUEUE)
    many = ["u%d" % i for i in range(201)]
    for dest, body, part in ((WATCH, {"users": many}, "201 are too many at a time; 200 are allowed"),
                             (WATCH, {"users": ["alice", "../x"]}, "users[1] is no user id"),
                             (UNWATCH, {"users": []}, "users is missing"),
                             (SET, {"status": "offline"}, "status must be online, away or busy"),
                             (SET, {"status": "away", "text": "x" * 81}, "text has at most 80 characters"),
                             (SET, b"{\"status\":\"away\",\"status\":\"busy\"}", "duplicate key")):
        a = d.send(dest, body)
        same(a.get("code"), "VALIDATION", part)
        assert part in a["message"], a
    good(d.send(WATCH, {"users": many[:200]}))
    a = d.send(WATCH, {"users": ["one-more"]})
    assert "over the limit of 200" in a["message"], a
    for _ in range(12):
        a = d.send(SET, {"status": "away"})
    same([a["code"], a["retryAfterSeconds"] > 0], ["RATE_LIMIT_EXCEEDED", True])


@test
def only_contacts_where_that_is_wanted(s):
    shy = Server(s.ready["workers"], "presence.visible_to=contacts", memory=True)
    try:
        alice, bob, carol = (Person(shy, n) for n in ("alice", "bob", "carol"))
        a, _ = alice.device(), a_room(carol, alice)
        a.subscribe(QUEUE)
        refused = a.send(WATCH, {"users": ["carol", "bob"]})
        same([refused["code"], refused["message"]],
             ["FORBIDDEN", "bob: you have no conversation and no room with this user"])
        same(alice.rest("GET", "/api/chat/users/bob/status").status, 403)
        same(alice.rest("GET", "/api/chat/presence?users=alice,bob").status, 403)
        same(alice.rest("GET", "/api/chat/presence?users=alice,carol").status, 200)
        good(a.send("/app/chat.send", {"to": "bob", "content": "hello"}))
        good(a.send(WATCH, {"users": ["carol", "bob"]}))
        same(bob.rest("GET", "/api/chat/users/alice/status").json["online"], True)
        same(bob.rest("GET", "/api/chat/users/carol/status").json["code"], "FORBIDDEN")
    finally:
        same(shy.stop()[0], 0, "exit code")


@test
def without_the_plugin_presence_is_as_it_was(s):
    bare = Server(s.ready["workers"], "presence.enabled=false", memory=True)
    try:
        p = Person(bare)
        d = p.device()
        same(d.send(WATCH, {"users": ["alice"]})["code"], "NOT_FOUND")
        same(p.rest("GET", "/api/chat/users/%s/status" % p.id).json["online"], True)
        same(p.rest("GET", "/api/chat/presence?users=alice").status, 404)
    finally:
        same(bare.stop()[0], 0, "exit code")


def main():
    workers = sys.argv[1] if len(sys.argv) > 1 else "1"
    only = sys.argv[2:]
    server = Server(workers, "presence-memory.linger=400ms", memory=True)
    server.ready["workers"] = workers
    return tap([t for t in TESTS if not only or t.__name__ in only], server)


if __name__ == "__main__":
    sys.exit(main())
