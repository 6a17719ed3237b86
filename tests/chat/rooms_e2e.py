#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rooms that last, and who may do what in them.  Prints TAP.

Usage: rooms_e2e.py [workers [store]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml and store-sqlite, or
store-memory if the second argument says "memory".
"""
import sys
import time

from client import QUIET, Device, Person, Server, rest, same, tap, until

NOTICES = "/user/queue/rooms"
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def people(s):
    return [Person(s, n) for n in ("alice", "bob", "carol", "dave")]


def make_room(s, public=True):
    """alice owns it, bob moderates, carol is a member, dave is not."""
    alice, bob, carol, _ = people(s)
    r = alice.rest("POST", "/api/chat/rooms", {"name": "a room", "public": public})
    same(r.status, 201, r.body)
    base = "/api/chat/rooms/" + r.json["id"]
    for p in (bob, carol):
        same(alice.rest("POST", base + "/members", {"userId": p.id}).status, 201)
    same(alice.rest("PUT", base + "/members/bob/role", {"role": "moderator"}).status, 200)
    return r.json["id"], base


def say(device, room, content="x"):
    """The code of the refusal, or None."""
    return device.send("/app/chat.send", {"roomId": room, "content": content}).get("code")


# ---- rights --------------------------------------------------------------------------


REST = [
    # method, path, body                                              public?  nobody guest stranger member moderator owner
    ("GET", "/bans", None, True, 401, 403, 403, 403, 200, 200),
    ("GET", "/bans", None, False, 401, 404, 404, 403, 200, 200),
    ("POST", "/invite", {"userId": "dave"}, True, 401, 403, 403, 204, 204, 204),
    ("POST", "/invite", {"userId": "dave"}, False, 401, 403, 404, 204, 204, 204),
    ("POST", "/ban", {"userId": "carol"}, True, 401, 403, 403, 403, 204, 204),
    ("POST", "/ban", {"userId": "carol"}, False, 401, 403, 404, 403, 204, 204),
    ("POST", "/ban", {"userId": "bob"}, True, 401, 403, 403, 403, 403, 204),
    ("POST", "/ban", {"userId": "alice"}, True, 401, 403, 403, 403, 403, 403),
    ("POST", "/ban", {"userId": "no-one"}, True, 401, 403, 404, 404, 404, 404),
    ("DELETE", "/ban/carol", None, True, 401, 403, 403, 403, 204, 204),
    ("DELETE", "/ban/carol", None, False, 401, 403, 404, 403, 204, 204),
    ("POST", "/mute", {"userId": "carol", "seconds": 60}, True, 401, 403, 403, 403, 204, 204),
    ("POST", "/mute", {"userId": "carol", "seconds": 60}, False, 401, 403, 404, 403, 204, 204),
    ("POST", "/mute", {"userId": "alice", "seconds": 60}, True, 401, 403, 403, 403, 403, 403),
    ("PATCH", "", {"slowMode": 5}, True, 401, 403, 403, 403, 200, 200),
    ("PATCH", "", {"readOnly": True}, False, 401, 403, 404, 403, 200, 200),
    ("PATCH", "", {"about": "us"}, True, 401, 403, 403, 403, 200, 200),
    ("PATCH", "", {"retention": 86400}, True, 401, 403, 403, 403, 403, 200),
    ("PATCH", "", {"maxMembers": 5}, True, 401, 403, 403, 403, 403, 200),
    ("PATCH", "", {"public": True}, False, 401, 403, 404, 403, 403, 200),
]


@test
def what_one_may_do_over_rest(s):
    alice, bob, carol, dave = people(s)
    guest = Person(s)
    who = {"nobody": None, "guest": guest, "stranger": dave, "member": carol, "moderator": bob, "owner": alice}
    for method, path, body, public, *expected in REST:
        for (name, person), status in zip(who.items(), expected):
            _, base = make_room(s, public)
            r = rest(s, person, method, base + path, body)
            same(r.status, status, (method, path, body, "public" if public else "private", name, r.body))
            alice.rest("DELETE", base)


@test
def what_one_may_do_over_stomp(s):
    """Destination x who."""
    alice, bob, carol, dave = people(s)
    guest = Person(s)
    table = [
        # what, public?                             guest stranger member moderator owner
        ("subscribe", True, None, None, None, None, None),
        ("subscribe", False, "NOT_MEMBER", "NOT_MEMBER", None, None, None),
        ("send", True, "NOT_MEMBER", "NOT_MEMBER", None, None, None),
        ("send", False, "NOT_MEMBER", "NOT_MEMBER", None, None, None),
        ("join", True, None, None, None, None, None),
        ("join", False, "NOT_FOUND", "NOT_FOUND", None, None, None),
        ("leave", True, "NOT_MEMBER", "NOT_MEMBER", None, None, None),
        ("leave", False, "NOT_MEMBER", "NOT_MEMBER", None, None, None),
        ("history", True, None, None, None, None, None),
        ("history", False, "NOT_MEMBER", "NOT_MEMBER", None, None, None),
    ]
    devices = [p.device() for p in (guest, dave, carol, bob, alice)]
    for what, public, *expected in table:
        for d, code in zip(devices, expected):
            room, base = make_room(s, public)
            if what == "subscribe":
                r = d.subscribe("/topic/room/" + room)
                got = r.get("code") if isinstance(r, dict) else None
            elif what == "send":
                got = say(d, room)
            elif what == "history":
                r = d.person.rest("GET", "/api/chat/messages/room/" + room)
                got = r.json.get("code") if r.status >= 400 else None
            else:
                got = d.send("/app/chat." + what, {"roomId": room}).get("code")
            same(got, code, (what, public, d.person.id))
            alice.rest("DELETE", base)
    for d in devices:
        d.close()


@test
def values_are_checked(s):
    alice = Person(s, "alice")
    _, base = make_room(s)
    for method, path, body, status in [
            ("PATCH", "", {"slowMode": -2}, 422), ("PATCH", "", {"slowMode": 21601}, 422), ("PATCH", "", {"slowMode": "5"}, 422),
            ("PATCH", "", {"retention": 59}, 422), ("PATCH", "", {"maxMembers": 0}, 422), ("PATCH", "", {"maxMembers": 10001}, 422),
            ("PATCH", "", {"about": "x" * 501}, 422), ("PATCH", "", {"about": "a\x07b"}, 422), ("PATCH", "", {}, 200),
            ("POST", "/ban", {}, 422), ("POST", "/ban", {"userId": "carol", "seconds": 0}, 422),
            ("POST", "/mute", {"userId": "carol"}, 422), ("POST", "/mute", {"userId": "carol", "seconds": -5}, 422),
            ("POST", "/invite", {}, 422), ("POST", "/invite", {"userId": "a b"}, 404),
            ("PUT", "/members/carol/role", {"role": "king"}, 422), ("PUT", "/members/carol/role", {}, 422),
            ("PUT", "/members/dave/role", {"role": "member"}, 404)]:
        r = alice.rest(method, base + path, body)
        same(r.status, status, (path, body, r.body))
    same(alice.rest("DELETE", base).status, 204)


# ---- moderation ------------------------------------------------------------------------


@test
def who_is_shown_out_hears_it_and_nothing_more(s):
    for public in (True, False):
        alice, bob, carol, _ = people(s)
        room, base = make_room(s, public)
        topic = "/topic/room/" + room
        da, dc, dc2 = alice.device(), carol.device(), carol.device()
        for d in (da, dc, dc2):
            d.subscribe(topic)
            d.subscribe(NOTICES)
        same(bob.rest("DELETE", base + "/members/carol").status, 204)
        event = da.on(topic, type="LEAVE").json
        same([event["code"], event["senderId"], event["actor"], event["roomId"]], ["KICKED", "carol", "bob", room])
        for d in (dc, dc2):
            same(d.on(NOTICES, type="LEAVE").json["code"], "KICKED")
            d.frames = []
        time.sleep(QUIET)
        same(say(da, room, "without carol"), None)
        for d in (dc, dc2):
            same(d.on(topic, QUIET, type="CHAT"), None)
            same(d.send("/app/chat.send", {"to": "carol", "content": "alive"}).get("code"), None, "the session lives")
            same(say(d, room), "NOT_MEMBER")
        r = dc.subscribe(topic)
        same(isinstance(r, dict), not public, "a public room may be heard again")
        alice.rest("DELETE", base)


@test
def a_ban_holds_until_it_ends(s):
    alice, bob, carol, _ = people(s)
    room, base = make_room(s)
    topic = "/topic/room/" + room
    dc, da = carol.device(), alice.device()
    dc.subscribe(topic)
    dc.subscribe(NOTICES)
    da.subscribe(topic)
    same(bob.rest("POST", base + "/ban", {"userId": "carol", "seconds": 600}).status, 204)
    same(da.on(topic, type="LEAVE").json["code"], "BANNED")
    notice = dc.on(NOTICES).json
    assert notice["code"] == "BANNED" and notice["until"], notice
    same(dc.send("/app/chat.join", {"roomId": room})["code"], "BANNED")
    same(dc.subscribe(topic)["code"], "BANNED")
    same(say(dc, room), "BANNED")
    bans = bob.rest("GET", base + "/bans").json
    same([[b["userId"] for b in bans["bans"]], "until" in bans["bans"][0], bans["total"]], [["carol"], True, 1])
    same(bob.rest("POST", base + "/ban", {"userId": "carol", "seconds": 1}).status, 204)
    until(lambda: dc.send("/app/chat.join", {"roomId": room}).get("code") is None, what="the end of the ban")
    same(bob.rest("POST", base + "/ban", {"userId": "carol"}).status, 204)
    same(bob.rest("POST", base + "/invite", {"userId": "carol"}).json["code"], "BANNED")
    same(bob.rest("DELETE", base + "/ban/carol").status, 204)
    assert dc.on(NOTICES, code="UNBANNED")
    same(dc.send("/app/chat.join", {"roomId": room}).get("code"), None)
    alice.rest("DELETE", base)


@test
def a_mute_says_when_one_may_speak_again(s):
    alice, bob, carol, _ = people(s)
    room, base = make_room(s)
    dc = carol.device()
    dc.subscribe(NOTICES)
    same(bob.rest("POST", base + "/mute", {"userId": "carol", "seconds": 600}).status, 204)
    same(dc.on(NOTICES, code="MUTED").json["actor"], "bob")
    e = dc.send("/app/chat.send", {"roomId": room, "content": "x"})
    same(e["code"], "MUTED")
    assert 500 <= e["retryAfterSeconds"] <= 600, e
    assert carol.rest("GET", base).json["mutedUntil"]
    same(dc.send("/app/chat.leave", {"roomId": room}).get("code"), None)
    same(dc.send("/app/chat.join", {"roomId": room}).get("code"), None)
    same(say(dc, room), "MUTED", "leaving and coming back lifts no mute")
    same(bob.rest("POST", base + "/mute", {"userId": "carol", "seconds": 0}).status, 204)
    assert dc.on(NOTICES, code="UNMUTED")
    same(say(dc, room), None)
    alice.rest("DELETE", base)


@test
def members_and_bans_come_in_pages(s):
    alice, bob, carol, dave = people(s)
    room, base = make_room(s)
    for p in range(0, 3):
        same(alice.rest("POST", base + "/ban", {"userId": "dave"}).status, 204)
    seen, after = [], ""
    while True:
        page = carol.rest("GET", base + "/members?limit=2" + after).json
        seen += [m["userId"] for m in page["members"]]
        same(page["total"], 3)
        if "after" not in page:
            break
        after = "&after=" + page["after"]
    same(seen, sorted(["alice", "bob", "carol"]))
    for limit, n in (("0", 1), ("-5", 1), ("3", 3), ("99999999999999999999", 3)):
        same(len(carol.rest("GET", base + "/members?limit=" + limit).json["members"]), n, limit)
    same([p["userId"] for p in alice.rest("GET", base + "/bans?limit=1").json["bans"]], ["dave"])
    same(alice.rest("GET", base + "/bans?after=dave").json["bans"], [])


@test
def who_asks_for_rooms_of_others_again_and_again_is_closed(s):
    room, base = make_room(s, False)
    dave = people(s)[3]
    d = dave.device()
    for i in range(20):  # the first twenty are all answered
        where = room if i % 2 else "there-is-none-%d" % i
        same(d.subscribe("/topic/room/" + where)["code"], "NOT_MEMBER", i)
    try:
        f = d.wait(lambda f: f.command == "ERROR")
        assert "not yours" in f.headers["message"], f.headers
        d.wait(lambda f: False)
        raise AssertionError("still open")
    except ConnectionError:
        pass
    d = dave.device()  # nineteen in a minute are nobody's business
    for i in range(19):
        same(d.subscribe("/topic/room/" + room)["code"], "NOT_MEMBER")
    assert d.send("/app/chat.send", {"to": "dave", "content": "still here"}).get("message-id")


@test
def slow_mode_and_read_only_bind_members(s):
    alice, bob, carol, _ = people(s)
    room, base = make_room(s)
    db, dc = bob.device(), carol.device()
    dc.subscribe("/topic/room/" + room)
    same(bob.rest("PATCH", base, {"slowMode": 300}).json["slowMode"], 300)
    same(dc.on("/topic/room/" + room, code="ROOM_CHANGED").json["slowMode"], 300)
    same(say(dc, room), None)
    e = dc.send("/app/chat.send", {"roomId": room, "content": "x"})
    same(e["code"], "SLOW_MODE")
    assert 250 <= e["retryAfterSeconds"] <= 300, e
    same([say(db, room), say(db, room)], [None, None])
    same(bob.rest("PATCH", base, {"slowMode": 0, "readOnly": True}).json["readOnly"], True)
    same(say(dc, room), "READ_ONLY")
    same(say(db, room), None)
    same(bob.rest("PATCH", base, {"readOnly": False}).status, 200)
    same(say(dc, room), None)
    alice.rest("DELETE", base)


@test
def invitations_open_private_rooms(s):
    alice, _, carol, dave = people(s)
    room, base = make_room(s, False)
    dd = dave.device()
    dd.subscribe(NOTICES)
    same(dd.send("/app/chat.join", {"roomId": room})["code"], "NOT_FOUND")
    same(carol.rest("POST", base + "/invite", {"userId": "dave"}).status, 204)
    notice = dd.on(NOTICES, code="INVITED").json
    same([notice["roomId"], notice["actor"], notice["userId"]], [room, "carol", "dave"])
    listed = {r["id"]: r for r in dave.rest("GET", "/api/chat/rooms").json["rooms"]}
    same([listed[room]["invited"], listed[room]["joined"]], [True, False])
    same(dd.subscribe("/topic/room/" + room)["code"], "NOT_MEMBER", "only members hear")
    same(dave.rest("GET", base + "/members").status, 403)
    same(dd.send("/app/chat.join", {"roomId": room}).get("code"), None)
    same(say(dd, room), None)
    alice.rest("DELETE", base)


@test
def roles_are_told_and_count_at_once(s):
    alice, bob, carol, _ = people(s)
    room, base = make_room(s)
    da, dc = alice.device(), carol.device()
    da.subscribe("/topic/room/" + room)
    dc.subscribe(NOTICES)
    same(carol.rest("POST", base + "/mute", {"userId": "bob", "seconds": 5}).status, 403)
    same(alice.rest("PUT", base + "/members/carol/role", {"role": "moderator"}).json["role"], "moderator")
    event = da.on("/topic/room/" + room, code="ROLE_CHANGED").json
    same([event["userId"], event["role"], event["actor"]], ["carol", "moderator", "alice"])
    same(dc.on(NOTICES, code="ROLE_CHANGED").json["role"], "moderator")
    same(carol.rest("PATCH", base, {"slowMode": 1}).status, 200)
    same(alice.rest("PUT", base + "/members/carol/role", {"role": "member"}).status, 200)
    same(carol.rest("PATCH", base, {"slowMode": 0}).status, 403)
    r = alice.rest("PUT", base + "/members/alice/role", {"role": "member"})
    same([r.status, "owner" in r.json["detail"]], [403, True], "somebody must own it")
    alice.rest("DELETE", base)


# ---- notices -------------------------------------------------------------------------


@test
def what_one_does_on_one_device_is_told_on_the_others(s):
    alice, bob, carol, dave = people(s)
    for public in (True, False):
        here, there = carol.device(), carol.device()
        there.subscribe(NOTICES)
        r = carol.rest("POST", "/api/chat/rooms", {"name": "mine", "public": public}).json
        made = there.on(NOTICES, type="JOIN").json
        same([made["roomId"], made["senderId"]], [r["id"], "carol"], "made elsewhere")
        same(carol.rest("DELETE", "/api/chat/rooms/" + r["id"]).status, 204)
        same(there.on(NOTICES, code="ROOM_DELETED").json["roomId"], r["id"])
        room, base = make_room(s, public)
        assert there.on(NOTICES, type="JOIN", roomId=room), "brought in"
        same(here.send("/app/chat.leave", {"roomId": room}).get("code"), None)
        left = there.on(NOTICES, type="LEAVE").json
        same([left["roomId"], left["senderId"], "code" in left], [room, "carol", False])
        if public:
            same(here.send("/app/chat.join", {"roomId": room}).get("code"), None)
            same(there.on(NOTICES, type="JOIN").json["roomId"], room)
            same(here.send("/app/chat.join", {"roomId": room}).get("code"), None)
            same(there.on(NOTICES, QUIET, type="JOIN"), None, "was in it already")
        alice.rest("DELETE", base)


@test
def members_hear_of_a_deletion_without_listening_there(s):
    alice, bob, carol, dave = people(s)
    room, base = make_room(s)
    quiet = [p.device() for p in (alice, bob, carol)]
    stranger = dave.device()
    for d in quiet + [stranger]:
        d.subscribe(NOTICES)
    same(bob.rest("DELETE", base).status, 403)
    same(alice.rest("DELETE", base).status, 204)
    for d in quiet:
        same(d.on(NOTICES, code="ROOM_DELETED").json["roomId"], room)
    same(stranger.on(NOTICES, QUIET, code="ROOM_DELETED"), None)


@test
def who_does_not_listen_is_told_what_is_unread(s):
    alice, bob, carol, dave = people(s)
    room, base = make_room(s)
    topic = "/topic/room/" + room
    da, db, inside, dd = alice.device(), bob.device(), carol.device(), dave.device()
    outside = [carol.device() for _ in range(4)]  # on several workers
    for d in [da, db, inside, dd] + outside:
        d.subscribe(NOTICES)
    inside.subscribe(topic)
    same(say(da, room, "x" * 99 + "\u00e4\u00e4"), None)
    for d in outside + [db]:
        n = d.on(NOTICES, code="UNREAD")
        assert n, "a member who does not listen is told"
        same([n.json["roomId"], n.json["unread"], n.json["type"], n.json["seq"] > 0], [room, 1, "SYSTEM", True])
        same([n.json["preview"][k] for k in ("sender", "senderName", "content")], ["alice", "Alice", "x" * 99 + "\u00e4"])
    for d in (inside, dd, da):
        same(d.on(NOTICES, QUIET, code="UNREAD"), None, "listens, no member, has said it")
    # What comes fast is told as one, and what was read is not unread.
    same("code" in outside[0].send("/app/chat.read", {"roomId": room, "seq": n.json["seq"]}), False)
    for i in range(30):
        same(say(da, room, str(i)), None)
    told = []
    while not told or told[-1]["unread"] < 30:
        f = outside[1].on(NOTICES, code="UNREAD")
        assert f, told
        told.append(f.json)
    same([told[-1]["unread"], told[-1]["preview"]["content"]], [30, "29"])
    assert len(told) < 10, "30 messages, %d notices" % len(told)
    alice.rest("DELETE", base)
    for d in [da, db, inside, dd] + outside:
        d.close()


@test
def who_was_shown_out_or_reads_elsewhere_is_told_nothing(s):
    alice, bob, carol, _ = people(s)
    room, base = make_room(s, False)
    da, db, dc = alice.device(), bob.device(), carol.device()
    for d in (db, dc):
        d.subscribe(NOTICES)
    same(say(da, room, "one"), None)
    same(dc.on(NOTICES, code="UNREAD").json["unread"], 1)
    same(bob.rest("DELETE", base + "/members/carol").status, 204)
    assert dc.on(NOTICES, code="KICKED")
    same(say(da, room, "two"), None)
    assert db.on(NOTICES, code="UNREAD")
    f = db.on(NOTICES, code="UNREAD")
    same(f.json["unread"], 2)
    same(dc.on(NOTICES, QUIET, code="UNREAD"), None)
    db.send("/app/chat.read", {"roomId": room, "seq": f.json["seq"]})
    same(bob.rest("GET", "/api/chat/conversations").json["conversations"][0]["unread"], 0)
    alice.rest("DELETE", base)


# ---- the order of things -----------------------------------------------------------------


@test
def events_have_their_place_among_messages(s):
    """What a subscriber hears of a room is 1, 2, 3 ... whatever kind it is, and resuming gives the same."""
    alice, bob, carol, dave = people(s)
    room, base = make_room(s)
    topic = "/topic/room/" + room
    da, db = alice.device(), bob.device()
    r = da.resume(topic, {})
    for i in range(5):
        same(say(db, room, str(i)), None)
        dave.rest("POST", base + "/join")
        same(alice.rest("PATCH", base, {"about": "turn %d" % i}).status, 200)
        dave.rest("POST", base + "/leave")
    heard = [da.on(topic) for _ in range(20)]
    seqs = [int(f.headers["seq"]) for f in heard]
    same(seqs, list(range(seqs[0], seqs[0] + 20)))
    same([f.json.get("code") or f.json["type"] for f in heard][:4], ["CHAT", "JOIN", "ROOM_CHANGED", "LEAVE"])
    late = alice.device()
    late.resume(topic, {"since": str(seqs[4]), "epoch": heard[0].headers["epoch"]})
    again = [late.on(topic) for _ in range(15)]
    same([f.body for f in again], [f.body for f in heard[5:]])
    assert r is not None
    alice.rest("DELETE", base)


@test
def what_is_in_a_room_survives(s):
    if s.memory:
        return
    alice, bob, carol, dave = people(s)
    room, base = make_room(s, False)
    da, dg, guest = alice.device(), None, Person(s)
    dg = guest.device()
    same(dg.send("/app/chat.join", {"roomId": "lobby"}).get("code"), None)
    seq = int(da.send("/app/chat.send", {"roomId": room, "content": "kept"})["seq"])
    same(bob.rest("POST", base + "/mute", {"userId": "carol", "seconds": 600}).status, 204)
    same(alice.rest("POST", base + "/invite", {"userId": "dave"}).status, 204)
    same(alice.rest("PATCH", base, {"name": "kept", "slowMode": 7}).status, 200)
    s.kill()
    s.begin()
    same(alice.rest("GET", base).json["role"], "owner")
    r = bob.rest("GET", base).json
    same([r["name"], r["slowMode"], r["role"], r["members"]], ["kept", 7, "moderator", 3])
    assert carol.rest("GET", base).json["mutedUntil"]
    same(dave.rest("POST", base + "/join").status, 200)
    d = alice.device()
    same(int(d.send("/app/chat.send", {"roomId": room, "content": "and on"})["seq"]) > seq, True)
    same([r["id"] for r in guest.rest("GET", "/api/chat/users/%s/rooms" % guest.id).json["rooms"]], ["lobby"])
    same(alice.rest("DELETE", base).status, 204)


def main():
    workers = sys.argv[1] if len(sys.argv) > 1 else "1"
    memory = len(sys.argv) > 2 and sys.argv[2] == "memory"
    only = sys.argv[3:]
    tests = [t for t in TESTS if not only or t.__name__ in only]
    server = Server(workers, memory=memory)
    server.memory = memory
    return tap(tests, server)


if __name__ == "__main__":
    sys.exit(main())
