#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Editing, deleting, reacting, pinning, threads and mentions.  Prints TAP.

Usage: change_e2e.py [workers [store]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml and store-sqlite, or
store-memory if the second argument says "memory".
"""
import sys
import time

from client import Person, Server, rest, same, tap

INBOX = "/user/queue/messages"
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def people(s):
    return [Person(s, n) for n in ("alice", "bob", "carol", "dave")]


class Room:
    """alice owns it, bob moderates, carol is a member, dave is not."""

    def __init__(self, s, public=True):
        self.alice, self.bob, self.carol, self.dave = people(s)
        self.id = self.alice.rest("POST", "/api/chat/rooms", {"name": "a room", "public": public}).json["id"]
        self.base, self.topic = "/api/chat/rooms/" + self.id, "/topic/room/" + self.id
        for p in (self.bob, self.carol):
            same(self.alice.rest("POST", self.base + "/members", {"userId": p.id}).status, 201)
        same(self.alice.rest("PUT", self.base + "/members/bob/role", {"role": "moderator"}).status, 200)

    def page(self, who, query=""):
        return who.rest("GET", "/api/chat/messages/room/%s%s" % (self.id, query)).json["messages"]

    def say(self, device, content="x", **more):
        r = device.send("/app/chat.send", {"roomId": self.id, "content": content, **more})
        assert "message-id" in r, r
        return r["message-id"]


def one(who, message):
    return who.rest("GET", "/api/chat/messages/" + message)


# ---- edits ------------------------------------------------------------------------------


@test
def an_edit_reaches_those_who_are_there_and_those_who_come_later(s):
    room = Room(s)
    da, dc = room.alice.device(), room.carol.device()
    dc.subscribe(room.topic)
    first = room.say(da, "frist", replyTo="01890000-0000-7000-8000-000000000000")
    said = dc.on(room.topic, type="CHAT")
    r = da.send("/app/chat.edit", {"messageId": first, "content": "first <b>", "clientId": "e1"})
    event = dc.on(room.topic, type="EDIT")
    m = event.json
    same([m["messageId"], m["content"], m["senderId"], m["roomId"], m["clientId"]], [first, "first <b>", "alice", room.id, "e1"])
    same([event.headers["message-id"], event.headers["seq"], m["seq"]], [r["message-id"], r["seq"], int(r["seq"])])
    same(int(r["seq"]), int(said.headers["seq"]) + 1)
    page = [m for m in room.page(room.bob) if m["id"] == first]
    same(len(page), 1, "an edit is no message of its own")
    same([page[0]["content"], page[0]["edited"], page[0]["seq"], page[0]["replyTo"]],
         ["first <b>", True, int(said.headers["seq"]), "01890000-0000-7000-8000-000000000000"])
    again = da.send("/app/chat.edit", {"messageId": first, "content": "first <b>", "clientId": "e1"})
    same([again["message-id"], again["seq"]], [r["message-id"], r["seq"]], "sent twice, done once")
    same(da.send("/app/chat.edit", {"messageId": first, "content": "other", "clientId": "e1"})["code"], "DUPLICATE_ID_MISMATCH")
    same(dc.quiet(room.topic), True)
    found = room.bob.rest("GET", "/api/chat/search?q=frist&roomId=" + room.id).json["messages"]
    same(found, [], "what it was before is not found")
    late = room.carol.device()
    late.resume(room.topic, {"since": str(int(said.headers["seq"]) - 1), "epoch": said.headers["epoch"]})
    replayed = [late.on(room.topic) for _ in range(2)]
    same([replayed[0].json["content"], replayed[0].json["edited"]], ["first <b>", True])
    same(replayed[1].body, event.body, "the replay gives what was given then")


@test
def only_ones_own_messages_can_be_edited(s):
    room = Room(s)
    da, db, dc, dd = (p.device() for p in (room.alice, room.bob, room.carol, room.dave))
    mine = room.say(dc)
    for d, code in ((da, "FORBIDDEN"), (db, "FORBIDDEN"), (dc, None), (dd, "NOT_MEMBER")):
        same(d.send("/app/chat.edit", {"messageId": mine, "content": "y"}).get("code"), code, d.person.id)
    for body, code in (({"messageId": "none", "content": "y"}, "NOT_FOUND"), ({"content": "y"}, "VALIDATION"),
                       ({"messageId": mine}, "VALIDATION"), ({"messageId": mine, "content": " "}, "VALIDATION"),
                       ({"messageId": 5, "content": "y"}, "VALIDATION"), ({"messageId": mine, "content": "y" * 8001}, "TOO_LARGE"),
                       ({"messageId": mine, "content": "y", "clientId": "c\n"}, "VALIDATION")):
        same(dc.send("/app/chat.edit", body)["code"], code, body)
    same(dc.send("/app/chat.edit", b"[]")["code"], "VALIDATION")
    private = Room(s, False)
    secret = private.say(private.alice.device())
    same(dd.send("/app/chat.edit", {"messageId": secret, "content": "y"})["message"],
         dd.send("/app/chat.edit", {"messageId": "none", "content": "y"})["message"], "a private room's are not there")
    dc.send("/app/chat.leave", {"roomId": room.id})
    same(dc.send("/app/chat.edit", {"messageId": mine, "content": "z"})["code"], "NOT_MEMBER", "after leaving")


@test
def direct_messages_change_for_both(s):
    alice, bob, carol, _ = people(s)
    da, da2, db, dc = alice.device(), alice.device(), bob.device(), carol.device()
    first = da.send("/app/chat.send", {"to": "bob", "content": "1"})["message-id"]
    da.send("/app/chat.edit", {"messageId": first, "content": "2"})
    db.send("/app/chat.react", {"messageId": first, "reaction": "\U0001F44D"})
    same(db.send("/app/chat.edit", {"messageId": first, "content": "3"})["code"], "FORBIDDEN")
    same(dc.send("/app/chat.react", {"messageId": first, "reaction": "x"})["code"], "NOT_FOUND")
    da.send("/app/chat.delete", {"messageId": first})
    for d in (da, da2, db):
        got = [d.messages() for _ in range(4)]
        same([f.json["type"] for f in got], ["CHAT", "EDIT", "REACTION", "DELETE"])
        same([f.json["senderId"] for f in got], ["alice", "alice", "bob", "alice"])
        same([f.json["receiverId"] for f in got], ["bob", "bob", "alice", "bob"])
        seqs = [int(f.headers["seq"]) for f in got]
        same(seqs, list(range(seqs[0], seqs[0] + 4)))
        assert all("cursor" in f.headers for f in got)
    same(dc.quiet(INBOX), True)
    m = one(bob, first).json
    same([m.get("content"), m["deleted"], "reactions" in m], [None, True, False])


# ---- deletions --------------------------------------------------------------------------


@test
def a_deleted_message_leaves_nothing_but_its_place(s):
    room = Room(s)
    da, db, dc = room.alice.device(), room.bob.device(), room.carol.device()
    since = room.say(da, "before")
    start = one(room.alice, since).json
    secret = room.say(dc, "my password", mentions=["alice"])
    dc.send("/app/chat.edit", {"messageId": secret, "content": "my passwort"})
    db.send("/app/chat.react", {"messageId": secret, "reaction": "!"})
    same(dc.send("/app/chat.delete", {"messageId": since})["code"], "FORBIDDEN", "a member deletes no one else's")
    r = db.send("/app/chat.delete", {"messageId": secret, "clientId": "d1"})
    same("seq" in r, True, "moderators delete any")
    same(db.send("/app/chat.delete", {"messageId": secret, "clientId": "d1"})["seq"], r["seq"], "once")
    same(db.send("/app/chat.delete", {"messageId": secret})["code"], "NOT_FOUND")
    same(dc.send("/app/chat.edit", {"messageId": secret, "content": "x"})["code"], "NOT_FOUND")
    same(dc.send("/app/chat.react", {"messageId": secret, "reaction": "x"})["code"], "NOT_FOUND")
    stone = [m for m in room.page(room.alice) if m["id"] == secret][0]
    same([stone["deleted"], stone["senderId"], "content" in stone, "mentions" in stone], [True, "carol", False, False])
    same(room.alice.rest("GET", "/api/chat/search?q=password&roomId=" + room.id).json["messages"], [])
    late = room.alice.device()
    late.resume(room.topic, {"since": str(start["seq"]), "epoch": start["epoch"]})
    rows = [late.on(room.topic) for _ in range(4)]
    same([f.json["type"] for f in rows], ["CHAT", "EDIT", "REACTION", "DELETE"])
    for f in rows:
        assert b"passwor" not in f.body, f
    same(rows[3].json["senderId"], "bob")
    same([m for m in room.alice.rest("GET", "/api/chat/mentions").json["messages"] if m["id"] == secret], [])


# ---- reactions --------------------------------------------------------------------------


@test
def reactions_are_counted_by_who(s):
    room = Room(s)
    da, db, dc = room.alice.device(), room.bob.device(), room.carol.device()
    dc.subscribe(room.topic)
    m = room.say(da)
    dc.on(room.topic, type="CHAT")
    up, heart = "\U0001F44D", "\u2764\ufe0f"
    for d, reaction in ((da, up), (db, up), (dc, heart)):
        r = d.send("/app/chat.react", {"messageId": m, "reaction": reaction})
        event = dc.on(room.topic, type="REACTION").json
        same([event["reaction"], event["removed"], event["senderId"], event["seq"]], [reaction, False, d.person.id, int(r["seq"])])
    same(one(room.bob, m).json["reactions"], {up: ["alice", "bob"], heart: ["carol"]})
    r = db.send("/app/chat.react", {"messageId": m, "reaction": up})
    same(["code" in r, "seq" in r], [False, False], "once more changes nothing")
    same(db.send("/app/chat.react", {"messageId": m, "reaction": up, "remove": True}).get("code"), None)
    same(dc.on(room.topic, type="REACTION").json["removed"], True)
    same(one(room.bob, m).json["reactions"], {up: ["alice"], heart: ["carol"]})
    same(dc.quiet(room.topic), True)
    for bad in ("", " ", "x" * 65, "a\nb", 5):
        same(db.send("/app/chat.react", {"messageId": m, "reaction": bad})["code"], "VALIDATION", bad)
    same(db.send("/app/chat.react", {"messageId": m})["code"], "VALIDATION")
    same(room.bob.rest("POST", room.base + "/mute", {"userId": "carol", "seconds": 60}).status, 204)
    same(dc.send("/app/chat.react", {"messageId": m, "reaction": up})["code"], "MUTED", "who may not speak may not wave")


# ---- pins, threads, mentions, expiry ------------------------------------------------------


@test
def moderators_pin(s):
    room = Room(s)
    db, dc = room.bob.device(), room.carol.device()
    dc.subscribe(room.topic)
    a, b = room.say(dc, "a"), room.say(dc, "b")
    same(dc.send("/app/chat.pin", {"messageId": a})["code"], "FORBIDDEN")
    for m in (a, b):
        same(db.send("/app/chat.pin", {"messageId": m}).get("code"), None)
        event = dc.on(room.topic, code="PINNED").json
        same([event["type"], event["messageId"], event["senderId"]], ["SYSTEM", m, "bob"])
    pins = "/api/chat/pins?roomId=" + room.id
    same([m["id"] for m in room.carol.rest("GET", pins).json["messages"]], [b, a])
    same(db.send("/app/chat.pin", {"messageId": b}).get("code"), None)
    same(db.send("/app/chat.pin", {"messageId": b, "remove": True}).get("code"), None)
    same(dc.on(room.topic, type="SYSTEM").json["code"], "UNPINNED")
    same([m["id"] for m in room.carol.rest("GET", pins).json["messages"]], [a])
    private = Room(s, False)
    same(room.dave.rest("GET", "/api/chat/pins?roomId=" + private.id).status, 403)
    same(room.dave.rest("GET", "/api/chat/pins").status, 422)
    x = db.send("/app/chat.send", {"to": "carol", "content": "x"})["message-id"]
    same(dc.send("/app/chat.pin", {"messageId": x}).get("code"), None, "of a direct conversation: both")
    same([m["id"] for m in room.bob.rest("GET", "/api/chat/pins?with=carol").json["messages"]], [x])


@test
def threads_are_read_by_themselves(s):
    room = Room(s)
    da, db = room.alice.device(), room.bob.device()
    root = room.say(da, "root")
    other = room.say(da, "elsewhere")
    replies = [room.say(db, "reply %d" % i, threadId=root) for i in range(5)]
    page = room.carol.rest("GET", "/api/chat/messages/%s/thread" % root).json
    same([m["id"] for m in page["messages"]], [root] + replies)
    same([m.get("threadId") for m in page["messages"]], [None] + [root] * 5)
    page = room.carol.rest("GET", "/api/chat/messages/%s/thread?limit=2" % root).json
    same([m["id"] for m in page["messages"]], replies[-2:])
    page = room.carol.rest("GET", "/api/chat/messages/%s/thread?limit=2&before=%d" % (root, page["before"])).json
    same([m["id"] for m in page["messages"]], replies[1:3])
    same(len(room.page(room.carol)), 7)
    same(other in [m["id"] for m in page["messages"]], False)
    for bad in ("none", da.send("/app/chat.send", {"to": "bob", "content": "direct"})["message-id"]):
        same(db.send("/app/chat.send", {"roomId": room.id, "content": "x", "threadId": bad})["code"], "NOT_FOUND")
    private = Room(s, False)
    hidden = private.say(private.alice.device())
    for path in ("", "/thread"):
        there = room.dave.rest("GET", "/api/chat/messages/%s%s" % (hidden, path))
        none = room.dave.rest("GET", "/api/chat/messages/none" + path)
        same([there.status, there.json["detail"]], [404, none.json["detail"]])
        same(rest(s, None, "GET", "/api/chat/messages/%s%s" % (hidden, path)).status, 401)


@test
def mentions_are_found_by_whom_they_mean(s):
    room = Room(s)
    da = room.alice.device()
    m = [room.say(da, "hey @carol %d" % i, mentions=["carol", "bob"]) for i in range(3)]
    room.say(da, "nobody")
    got = room.carol.rest("GET", "/api/chat/mentions?limit=2").json
    same([x["id"] for x in got["messages"]], [m[2], m[1]])
    same(got["messages"][0]["mentions"], ["carol", "bob"])
    rest_of = room.carol.rest("GET", "/api/chat/mentions?limit=2&before=%d" % got["before"]).json
    same(rest_of["messages"][0]["id"], m[0])
    same([x for x in room.dave.rest("GET", "/api/chat/mentions").json["messages"] if x.get("roomId") == room.id], [])
    secret = Room(s, False)
    secret.say(secret.alice.device(), "about dave", mentions=["dave"])
    same([x for x in room.dave.rest("GET", "/api/chat/mentions").json["messages"] if x.get("roomId") == secret.id], [],
         "what one may not read")


@test
def messages_may_expire(s):
    room = Room(s)
    da, dc = room.alice.device(), room.carol.device()
    dc.subscribe(room.topic)
    kept, gone = room.say(da, "kept"), room.say(da, "shortlived", expiresIn=1)
    same(dc.on(room.topic, content="shortlived").json["expiresIn"], 1)
    same([m["id"] for m in room.page(room.carol)], [kept, gone])
    time.sleep(1.2)
    same([m["id"] for m in room.page(room.carol) if "content" in m], [kept])
    same(room.carol.rest("GET", "/api/chat/search?q=shortlived&roomId=" + room.id).json["messages"], [])
    assert b"shortlived" not in one(room.carol, gone).body
    for bad in (-1, 31622401, "5"):
        same(da.send("/app/chat.send", {"roomId": room.id, "content": "x", "expiresIn": bad})["code"], "VALIDATION")


@test
def history_shows_events_to_who_asks(s):
    room = Room(s)
    da = room.alice.device()
    room.say(da)
    room.dave.rest("POST", room.base + "/join")
    same([m["type"] for m in room.page(room.alice)], ["CHAT"])
    types = [m["type"] for m in room.page(room.alice, "?events=true")]
    same([types.count("CHAT"), types.count("JOIN")], [1, 3])


# ---- marks ------------------------------------------------------------------------------------


def unread(who, **want):
    for c in who.rest("GET", "/api/chat/conversations").json["conversations"]:
        if all(c.get(k) == v for k, v in want.items()):
            return [c["unread"], c["read"]]
    return None


READS = "/user/queue/read"


@test
def what_is_read_on_one_device_is_read(s):
    a, b = Person(s), Person(s)
    da, db, db2 = a.device(), b.device(), b.device()
    m = [da.send("/app/chat.send", {"to": b.id, "content": str(i)}) for i in range(5)]
    same(unread(b, **{"with": a.id}), [5, 0])
    same(unread(a, **{"with": b.id}), [0, 0], "one's own")
    assert "code" not in db.send("/app/chat.read", {"messageId": m[2]["message-id"]}), "the store knows where that is"
    same(unread(b, **{"with": a.id}), [2, 3])
    for d in (da, db2):
        event = d.on(READS).json
        same([event["type"], event["status"], event["senderId"], event["receiverId"], event["seq"], event["messageId"]],
             ["READ", "READ", b.id, a.id, 3, m[2]["message-id"]])
    db2.send("/app/chat.read", {"messageId": m[1]["message-id"]})
    same(unread(b, **{"with": a.id}), [2, 3], "never backwards")
    same(da.on(READS, 1.3), None)
    for above in (6, 10 ** 15):
        same(db.send("/app/chat.read", {"with": a.id, "seq": above})["code"], "VALIDATION", "above the top")
    same(unread(b, **{"with": a.id})[0], 2)
    db.send("/app/chat.read", {"with": a.id, "seq": 5})
    same(unread(b, **{"with": a.id}), [0, 5])
    reads = a.rest("GET", "/api/chat/reads?with=" + b.id).json
    same([reads["read"], reads["delivered"], reads["topSeq"]], [[{"userId": b.id, "seq": 5}], [], 5])


@test
def one_reads_for_oneself_alone(s):
    a, b, c = Person(s), Person(s), Person(s)
    da, db = a.device(), b.device()
    for other in (b, c):
        da.send("/app/chat.send", {"to": other.id, "content": "x"})
    named = {k: c.id for k in ("user", "userId", "sender", "senderId", "from", "reader")}
    assert "code" not in db.send("/app/chat.read", {"with": a.id, "seq": 1, **named})
    event = da.on(READS).json
    same([event[k] for k in ("sender", "senderId", "receiverId")], [b.id, b.id, a.id])
    same([unread(p, **{"with": a.id}) for p in (b, c)], [[0, 1], [1, 0]])


@test
def delivered_is_not_read(s):
    a, b = Person(s), Person(s)
    da, db = a.device(), b.device()
    m = da.send("/app/chat.send", {"to": b.id, "content": "x"})["message-id"]
    db.send("/app/chat.read", {"messageId": m, "status": "DELIVERED"})
    event = da.on(READS).json
    same([event["type"], event["status"], event["messageId"]], ["READ", "DELIVERED", m])
    same(unread(b, **{"with": a.id}), [1, 0])
    db.send("/app/chat.read", {"messageId": m})
    same(da.on(READS).json["status"], "READ")
    reads = b.rest("GET", "/api/chat/reads?with=" + a.id).json
    same([reads["read"], reads["delivered"]], [[{"userId": b.id, "seq": 1}]] * 2)


@test
def history_tells_what_was_delivered_and_read(s):
    """By the receiver, whoever looks; what a text says of it changes nothing."""
    a, b = Person(s), Person(s)
    da, db = a.device(), b.device()
    tricky = '"status":"SENT"'
    m = [da.send("/app/chat.send", {"to": b.id, "content": tricky, "clientId": tricky + str(i)}) for i in range(3)]
    db.send("/app/chat.send", {"to": a.id, "content": "back"})

    def said(who, other, more=""):
        page = who.rest("GET", "/api/chat/messages/direct?with=%s%s" % (other.id, more)).json["messages"]
        assert all(x["content"] == tricky and x["clientId"].startswith(tricky) for x in page[:3]), page
        return [x["status"] for x in page]
    same(said(a, b), ["SENT"] * 4)
    db.send("/app/chat.read", {"messageId": m[1]["message-id"], "status": "DELIVERED"})
    same(said(a, b), ["DELIVERED", "DELIVERED", "SENT", "SENT"])
    db.send("/app/chat.read", {"messageId": m[0]["message-id"]})
    for who, other in ((a, b), (b, a)):
        same(said(who, other), ["READ", "DELIVERED", "SENT", "SENT"])
        one = who.rest("GET", "/api/chat/messages/" + m[0]["message-id"]).json
        same([one["status"], one["content"]], ["READ", tricky])
    da.send("/app/chat.read", {"with": b.id, "seq": 4})
    same(said(b, a), ["READ", "DELIVERED", "SENT", "READ"])
    bare = a.rest("GET", "/api/chat/messages/direct?user1=%s&user2=%s&limit=4" % (a.id, b.id)).json
    same([x["status"] for x in bare], ["READ", "SENT", "DELIVERED", "READ"])
    da.send("/app/chat.send", {"to": a.id, "content": "a note"})
    da.send("/app/chat.read", {"with": a.id, "seq": 1})
    same([x["status"] for x in a.rest("GET", "/api/chat/messages/direct?with=" + a.id).json["messages"]], ["READ"])
    same(Person(s).rest("GET", "/api/chat/messages/" + m[0]["message-id"]).status, 404)


@test
def rooms_hear_it_from_members_alone(s):
    room = Room(s)
    da, dc, dd = room.alice.device(), room.carol.device(), room.dave.device()
    da.subscribe(room.topic)
    m = room.say(da)
    n = one(room.alice, m).json["seq"]
    dc.send("/app/chat.read", {"messageId": m})
    event = da.on(room.topic, type="READ").json
    same([event["senderId"], event["roomId"], event["seq"]], ["carol", room.id, n])
    same(unread(room.carol, roomId=room.id), [0, n])
    same(unread(room.bob, roomId=room.id), [1, 0])
    same(dd.send("/app/chat.read", {"messageId": m})["code"], "NOT_MEMBER")
    private = Room(s, False)
    secret = private.say(private.alice.device())
    same(dd.send("/app/chat.read", {"messageId": secret})["code"], "NOT_FOUND")
    for query, status in (("roomId=" + room.id, 200), ("roomId=" + private.id, 403), ("", 422), ("with=a%20b", 422),
                          ("roomId=a%20b", 403), ("with=bob&roomId=x", 422)):
        same(room.dave.rest("GET", "/api/chat/reads?" + query).status, status, query)
    same(rest(s, None, "GET", "/api/chat/reads?with=bob").status, 401)


@test
def marks_survive(s):
    if s.memory:
        return
    alice, bob, _, _ = people(s)
    m = alice.device().send("/app/chat.send", {"to": "bob", "content": "kept"})
    bob.device().send("/app/chat.read", {"messageId": m["message-id"]})
    s.kill()
    s.begin()
    same(unread(bob, **{"with": "alice"}), [0, int(m["seq"])])


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
