#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Chatting, rooms, typing and reading, as clients see them.  Prints TAP.

Usage: chat_e2e.py [workers]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml and four accounts.
"""
import re
import sys
import time

from client import QUIET, Person, Server, rest, same, tap

UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def make_room(who, name="a room", public=True):
    r = who.rest("POST", "/api/chat/rooms", {"name": name, "public": public})
    same(r.status, 201, r.body)
    return r.json["id"]


# ---- messages ----------------------------------------------------------------------


@test
def every_device_of_both_gets_one_copy(s):
    a, b = Person(s), Person(s)
    all_ = [a.device(), a.device(), b.device(), b.device()]
    receipt = all_[0].send("/app/chat.send", {"to": b.id, "content": "h\u00e9 <b>\u2028 \U0001F44B", "clientId": "c1"},
                           {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    frames = [d.messages() for d in all_]
    for f in frames:
        same(f.body, frames[0].body, "every copy is the same")
        same(f.headers["message-id"], receipt["message-id"])
        same(f.headers["content-type"], "application/json")
        same(f.headers["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    m = frames[0].json
    assert UUID.match(m["id"]) and TIME.match(m["timestamp"]), m
    same(m, {"id": receipt["message-id"], "clientId": "c1", "type": "CHAT", "sender": a.id, "senderId": a.id,
             "senderName": m["senderName"], "receiver": b.id, "receiverId": b.id, "status": "SENT",
             "content": "h\u00e9 <b>\u2028 \U0001F44B", "timestamp": m["timestamp"], "seq": 1, "epoch": m["epoch"]})
    assert b"<" not in frames[0].body and "\u2028".encode() not in frames[0].body, "unsafe inside HTML"
    for d in all_:
        same(d.quiet("/user/queue/messages"), True)
        d.close()


@test
def a_message_to_oneself_comes_once(s):
    a = Person(s)
    one, two = a.device(), a.device()
    one.send("/app/chat.send", {"to": a.id, "content": "note"})
    same(one.messages().json["content"], "note")
    same(two.messages().json["content"], "note")
    same(one.quiet("/user/queue/messages"), True)


@test
def the_references_names_work(s):
    a, b = Person(s), Person(s)
    da, db = a.device(), b.device()
    for body in ({"receiver": b.id, "message": "x"}, {"receiverId": b.id, "content": "x", "type": "CHAT"},
                 {"to": b.id, "receiver": b.id, "content": "x", "message": "x", "roomId": ""}):
        da.send("/app/chat.sendMessage", body)
        same(db.messages().json["content"], "x", body)


@test
def what_only_the_server_says_is_ignored(s):
    a, b = Person(s), Person(s)
    da, db = a.device(), b.device()
    forged = {"id": "mine", "sender": b.id, "senderId": b.id, "senderName": "root", "from": b.id, "userId": b.id,
              "timestamp": "2001-01-01", "seq": 7, "status": "READ", "edited": True, "deleted": True,
              "reactions": {"x": 1}, "role": "admin", "isAdmin": True}
    r = da.send("/app/chat.send", {"to": b.id, "content": "x", **forged},
                {"userId": b.id, "sender": b.id, "message-id": "mine", "subscription": "0"})
    f = db.messages()
    m = f.json
    same([m["sender"], m["senderId"], m["status"]], [a.id, a.id, "SENT"])
    assert UUID.match(m["id"]) and m["senderName"] != "root" and not m["timestamp"].startswith("2001"), m
    same(m["seq"], 1)
    for absent in ("edited", "deleted", "reactions", "role", "isAdmin", "from", "userId"):
        assert absent not in m, absent
    same(f.headers["message-id"], r["message-id"])


@test
def optional_fields_pass_through(s):
    a, b = Person(s), Person(s)
    da, db = a.device(), b.device()
    extra = {"contentType": "text/markdown", "replyTo": "0190-abc", "mentions": [a.id, b.id], "encrypted": True, "keyId": "k1",
             "attachmentUrl": "/pictures/1", "attachments": [{"url": "https://x/y", "size": 1.5, "n": [1, None, {}]}]}
    da.send("/app/chat.send", {"to": b.id, "content": "x", **extra})
    m = db.messages().json
    same({k: m[k] for k in extra}, extra)
    da.send("/app/chat.send", {"to": b.id, "attachmentUrl": "/pictures/2"})
    assert "content" not in db.messages().json


@test
def every_wrong_type_is_named(s):
    a, b = Person(s), Person(s)
    d = a.device()
    texts = ["to", "receiver", "receiverId", "roomId", "content", "message", "clientId", "type", "contentType",
             "replyTo", "attachmentUrl", "keyId", "id", "sender", "senderId", "senderName", "timestamp", "status"]
    wrong = {"text": [None, 1, 1.5, [], {}, True], "bool": [None, 1, "true", [], {}],
             "int": [None, "1", 1.5, [], {}, True], "list": [None, 1, "x", {}, True], "any": [None, 1, "x", True]}
    kinds = {**{t: "text" for t in texts}, "encrypted": "bool", "edited": "bool", "deleted": "bool", "seq": "int",
             "mentions": "list", "attachments": "list", "reactions": "any"}
    for field, kind in kinds.items():
        for value in wrong[kind]:
            e = d.send("/app/chat.send", {"to": b.id, "content": "x", field: value})
            same(e.get("code"), "VALIDATION", (field, value, e))
            assert e["message"].startswith(field + " "), e
    e = d.send("/app/chat.send", {"to": b.id, "content": 1, "clientId": "mine"})
    same(e["clientId"], "mine")


@test
def bad_values_are_refused(s):
    a, b = Person(s), Person(s)
    d = a.device()
    deep = "%s%s" % ("[" * 33, "]" * 33)
    ok = '"to":"%s","content":"x"' % b.id
    for body, code in [
            ("", "VALIDATION"), ("[]", "VALIDATION"), ("null", "VALIDATION"), ("{", "VALIDATION"), ("{}", "VALIDATION"),
            ('{%s,"to":"%s"}' % (ok, b.id), "VALIDATION"), ('{%s,"x":%s}' % (ok, deep), "VALIDATION"),
            ('{%s,"x":%s}' % (ok, "[" * 50000), "VALIDATION"), ('{%s}x' % ok, "VALIDATION"),
            ('{%s,"x":1e400}' % ok, "VALIDATION"), ('{%s,"x":99999999999999999999}' % ok, "VALIDATION"),
            ('{%s,"x":NaN}' % ok, "VALIDATION"), ('{%s,"x":01}' % ok, "VALIDATION"), ('{%s,"x":0x1}' % ok, "VALIDATION"),
            ('{%s,"x":"\\u0000"}' % ok, "VALIDATION"), ('{%s,"x":"\\ud800"}' % ok, "VALIDATION"),
            ('{"content":"x"}', "VALIDATION"), ('{"to":"%s"}' % b.id, "VALIDATION"),
            ('{"to":"%s","content":""}' % b.id, "VALIDATION"), ('{"to":"%s","content":" \\n "}' % b.id, "VALIDATION"),
            ('{"to":"%s","roomId":"lobby","content":"x"}' % b.id, "VALIDATION"),
            ('{"to":"a","receiver":"b","content":"x"}', "VALIDATION"),
            ('{%s,"message":"y"}' % ok, "VALIDATION"), ('{%s,"type":"JOIN"}' % ok, "VALIDATION"),
            ('{%s,"type":"SYSTEM"}' % ok, "VALIDATION"), ('{%s,"type":"chat"}' % ok, "VALIDATION"),
            ('{%s,"attachmentUrl":"javascript:alert(1)"}' % ok, "VALIDATION"),
            ('{%s,"attachmentUrl":"//evil"}' % ok, "VALIDATION"),
            ('{%s,"attachments":[{"url":"data:x"}]}' % ok, "VALIDATION"), ('{%s,"attachments":[1]}' % ok, "VALIDATION"),
            ('{%s,"mentions":["a b"]}' % ok, "VALIDATION"), ('{%s,"mentions":[1]}' % ok, "VALIDATION"),
            ('{%s,"replyTo":"../x"}' % ok, "VALIDATION"), ('{%s,"clientId":"%s"}' % (ok, "x" * 129), "VALIDATION"),
            ('{%s,"clientId":"a\\nb"}' % ok, "VALIDATION"),
            ('{"to":"%s","content":"%s"}' % (b.id, "x" * 8001), "TOO_LARGE"),
            ('{"to":"%s","content":"%s"}' % (b.id, "\U0001F44B" * 8193), "TOO_LARGE"),
            ('{"to":"user_nobody","content":"x"}', "NOT_FOUND"), ('{"to":"a/b","content":"x"}', "NOT_FOUND"),
            ('{"to":"*","content":"x"}', "NOT_FOUND"), ('{"roomId":"none","content":"x"}', "NOT_MEMBER"),
            ('{"roomId":"#","content":"x"}', "NOT_MEMBER"), ('{"roomId":"lobby","content":"x"}', "NOT_MEMBER")]:
        e = d.send("/app/chat.send", body.encode())
        same(e.get("code"), code, (body[:80], e))
        same(e["errorCode"], code)
        assert TIME.match(e["timestamp"]) and e["destination"] == "/app/chat.send", e
    same(d.send("/app/chat.send", b'{"to":"x","content":"\xff"}', ).get("code"), "VALIDATION")
    same("code" in d.send("/app/chat.send", {"to": b.id, "content": "\u00e9" * 8000}), False, "8,000 characters fit")


@test
def the_same_client_id_is_delivered_once(s):
    a, b = Person(s), Person(s)
    one, two, db = a.device(), a.device(), b.device()
    first = one.send("/app/chat.send", {"to": b.id, "content": "once", "clientId": "k"})["message-id"]
    same(db.messages().json["id"], first)
    for d in (one, two, a.device()):
        again = d.send("/app/chat.send", {"to": b.id, "content": "once", "clientId": "k"})
        same(again["message-id"], first)
    e = two.send("/app/chat.send", {"to": b.id, "content": "else", "clientId": "k"})
    same([e["code"], e["clientId"]], ["DUPLICATE_ID_MISMATCH", "k"])
    e = two.send("/app/chat.send", {"to": a.id, "content": "once", "clientId": "k"})
    same(e["code"], "DUPLICATE_ID_MISMATCH")
    same(db.quiet("/user/queue/messages"), True)
    other = db.send("/app/chat.send", {"to": a.id, "content": "once", "clientId": "k"})
    assert other["message-id"] != first, "another sender's ids are its own"
    same(db.messages().json["senderId"], b.id, "its echo")
    for i in range(300):
        one.write("SEND", {"destination": "/app/chat.send"}, b'{"to":"%s","content":"flood","clientId":"f"}' % b.id.encode())
    db.messages(content="flood")
    one.sync()
    same(db.quiet("/user/queue/messages"), True)


@test
def a_refused_message_does_not_use_up_its_client_id(s):
    a, b = Person(s), Person(s)
    d, db = a.device(), b.device()
    same(d.send("/app/chat.send", {"to": "user_nobody", "content": "x", "clientId": "k"})["code"], "NOT_FOUND")
    assert "message-id" in d.send("/app/chat.send", {"to": b.id, "content": "x", "clientId": "k"})
    same(db.messages().json["clientId"], "k")


@test
def order_holds_with_and_without_client_ids(s):
    a, b = Person(s), Person(s)
    da, db = a.device(), b.device()
    for i in range(200):
        client = ',"clientId":"o%d"' % i if i % 3 else ""
        da.write("SEND", {"destination": "/app/chat.send"}, b'{"to":"%s","content":"%d"%s}' % (b.id.encode(), i, client.encode()))
    same([db.messages().json["content"] for _ in range(200)], [str(i) for i in range(200)])


# ---- rooms -------------------------------------------------------------------------


@test
def join_talk_leave(s):
    a, b = Person(s), Person(s)
    da, db = a.device(), b.device()
    topic = "/topic/room/lobby"
    da.send("/app/chat.join", {"roomId": "lobby"})
    da.subscribe(topic)
    db.send("/app/chat.join", {"roomId": "lobby"})
    join = da.on(topic, type="JOIN", senderId=b.id)
    m = join.json
    assert UUID.match(m["id"]) and m["id"] == join.headers["message-id"] and TIME.match(m["timestamp"]), m
    same([m["roomId"], m["sender"], bool(m["senderName"])], ["lobby", b.id, True])
    assert "code" not in db.send("/app/chat.join", {"roomId": "lobby"}), "joining twice is fine"
    db.subscribe(topic)
    da.send("/app/chat.send", {"roomId": "lobby", "content": "hello", "clientId": "r"})
    here, there = da.on(topic, type="CHAT"), db.on(topic, type="CHAT")
    same(here.body, there.body)
    same([here.json["roomId"], here.json["clientId"], "receiver" in here.json], ["lobby", "r", False])
    same(da.quiet(topic), True)
    db.send("/app/chat.leave", {"roomId": "lobby"})
    da.on(topic, type="LEAVE", senderId=b.id)
    same(db.send("/app/chat.send", {"roomId": "lobby", "content": "x"})["code"], "NOT_MEMBER")
    same(db.send("/app/chat.leave", {"roomId": "lobby"})["code"], "NOT_MEMBER")
    same(da.send("/app/chat.join", {"roomId": "none"})["code"], "NOT_FOUND")
    same(da.send("/app/chat.join", {"roomId": "a/b"})["code"], "NOT_FOUND")
    same(da.send("/app/chat.join", {"roomId": 1})["code"], "VALIDATION")
    same(da.send("/app/chat.join", {})["code"], "VALIDATION")
    da.send("/app/chat.leave", {"roomId": "lobby"})


@test
def a_private_room_is_as_good_as_none_for_others(s):
    alice, bob, guest = Person(s, "alice"), Person(s, "bob"), Person(s)
    room = make_room(alice, "secret", public=False)
    db, dg = bob.device(), guest.device()
    for path, method in [("", "GET"), ("", "PATCH"), ("", "DELETE"), ("/join", "POST"), ("/members", "GET"),
                         ("/members/alice", "DELETE"), ("/members/alice/role", "PUT")]:
        body = {"role": "member"} if method == "PUT" else {"name": "x"} if method == "PATCH" else None
        there = bob.rest(method, "/api/chat/rooms/" + room + path, body)
        none = bob.rest(method, "/api/chat/rooms/none" + path, body)
        same([there.status, there.json["detail"], there.json["code"]], [404, none.json["detail"], none.json["code"]],
             (method, path))
        same(none.status, 404)
    for d in (db, dg):
        for dest in ("/topic/room/" + room, "/topic/room/none"):
            e = d.subscribe(dest)
            same([e["code"], e["message"]], ["NOT_MEMBER", "you are not a member of this room, or there is no such room"])
        same(d.send("/app/chat.join", {"roomId": room})["message"], d.send("/app/chat.join", {"roomId": "none"})["message"])
        same(d.send("/app/chat.send", {"roomId": room, "content": "x"})["message"],
             d.send("/app/chat.send", {"roomId": "none", "content": "x"})["message"])
        same(d.subscribe("/topic/room/a.b")["code"], "NOT_FOUND")
    assert room not in [r["id"] for r in bob.rest("GET", "/api/chat/rooms").json["rooms"]]
    same(alice.rest("DELETE", "/api/chat/rooms/" + room).status, 204)


@test
def leaving_a_private_room_ends_hearing_it(s):
    alice, bob, guest = Person(s, "alice"), Person(s, "bob"), Person(s)
    room = make_room(alice, "secret", public=False)
    topic = "/topic/room/" + room
    for p in (bob, guest):
        r = alice.rest("POST", "/api/chat/rooms/%s/members" % room, {"userId": p.id})
        same([r.status, r.json["role"]], [201, "member"], r.body)
    da, db, db2, dg = alice.device(), bob.device(), bob.device(), guest.device()
    for d in (da, db, db2, dg):
        d.subscribe(topic)
    same(alice.rest("DELETE", "/api/chat/rooms/%s/members/%s" % (room, guest.id)).status, 204)
    db.send("/app/chat.leave", {"roomId": room})
    da.on(topic, type="LEAVE", senderId=bob.id)
    for d in (db, db2, dg):
        d.on(topic, 1, type="LEAVE")
        d.frames = []
    time.sleep(QUIET)
    da.send("/app/chat.send", {"roomId": room, "content": "among us"})
    same(da.on(topic, type="CHAT").json["content"], "among us")
    for d in (db, db2, dg):
        same(d.on(topic, QUIET, type="CHAT"), None)
        same(d.subscribe(topic)["code"], "NOT_MEMBER")
        same(d.send("/app/chat.send", {"to": d.person.id, "content": "alive"}).get("code"), None)
    alice.rest("DELETE", "/api/chat/rooms/" + room)


@test
def nobody_sends_into_a_room_past_the_server(s):
    d = Person(s).device()
    for dest in ("/topic/room/lobby", "/topic/public", "/topic/x", "/queue/x", "/user/bob/queue/messages",
                 "/user/queue/messages"):
        same(d.send(dest, {"type": "SYSTEM", "content": "forged"})["code"], "FORBIDDEN", dest)


@test
def what_one_may_do_with_a_room(s):
    """Endpoint x who: everyone asks in the same state, so the order within a line matters not."""
    alice, bob, carol, dave, guest = (Person(s, n) for n in ("alice", "bob", "carol", "dave", None))
    who = {"nobody": None, "guest": guest, "stranger": dave, "member": carol, "moderator": bob, "owner": alice}

    def fresh(public):
        room = make_room(alice, "rights", public)
        base = "/api/chat/rooms/" + room
        for p in (bob, carol):
            same(alice.rest("POST", base + "/members", {"userId": p.id}).status, 201)
        same(alice.rest("PUT", base + "/members/bob/role", {"role": "moderator"}).json["role"], "moderator")
        return base

    table = [
        # method, path, body                               nobody guest stranger member moderator owner
        ("GET", "", None, True, 401, 200, 200, 200, 200, 200),
        ("GET", "", None, False, 401, 404, 404, 200, 200, 200),
        ("GET", "/members", None, True, 401, 403, 403, 200, 200, 200),
        ("GET", "/members", None, False, 401, 404, 404, 200, 200, 200),
        ("POST", "/join", None, True, 401, 200, 200, 200, 200, 200),
        ("POST", "/join", None, False, 401, 404, 404, 200, 200, 200),
        ("POST", "/leave", None, True, 401, 403, 403, 204, 204, 204),
        ("POST", "/leave", None, False, 401, 403, 403, 204, 204, 204),
        ("PATCH", "", {"name": "new"}, True, 401, 403, 403, 403, 403, 200),
        ("PATCH", "", {"name": "new"}, False, 401, 403, 404, 403, 403, 200),
        ("DELETE", "", None, True, 401, 403, 403, 403, 403, 204),
        ("DELETE", "", None, False, 401, 403, 404, 403, 403, 204),
        ("POST", "/members", {"userId": "dave"}, True, 401, 403, 403, 403, 201, 201),
        ("POST", "/members", {"userId": "dave"}, False, 401, 403, 404, 403, 201, 201),
        ("POST", "/members", {"userId": "nobody-here"}, True, 401, 403, 404, 404, 404, 404),
        ("DELETE", "/members/carol", None, True, 401, 403, 403, 204, 204, 204),
        ("DELETE", "/members/carol", None, False, 401, 403, 404, 204, 204, 204),
        ("DELETE", "/members/alice", None, True, 401, 403, 403, 403, 403, 204),
        ("DELETE", "/members/bob", None, True, 401, 403, 403, 403, 204, 204),
        ("PUT", "/members/carol/role", {"role": "moderator"}, True, 401, 403, 403, 403, 403, 200),
        ("PUT", "/members/carol/role", {"role": "moderator"}, False, 401, 403, 404, 403, 403, 200),
    ]
    for method, path, body, public, *expected in table:
        for (name, person), status in zip(who.items(), expected):
            base = fresh(public)
            r = rest(s, person, method, base + path, body)
            same(r.status, status, (method, path, "public" if public else "private", name, r.body))
            if status >= 400:
                same(r.headers["content-type"], "application/problem+json")
                assert r.json["code"] and r.json["status"] == status
            alice.rest("DELETE", base)


@test
def rooms_over_rest(s):
    alice, guest = Person(s, "alice"), Person(s)
    r = guest.rest("POST", "/api/chat/rooms", {"name": "mine"})
    same([r.status, r.json["code"]], [403, "FORBIDDEN"])
    r = alice.rest("POST", "/api/chat/rooms", {"name": "Caf\u00e9 <1>", "public": True, "owner": "bob", "id": "mine"})
    room = r.json
    same(r.status, 201)
    same(room, {"id": room["id"], "name": "Caf\u00e9 <1>", "public": True, "members": 1, "joined": True, "role": "owner", "maxMembers": 10000})
    assert re.match("^[0-9a-f]{32}$", room["id"]), room
    same(r.headers["location"], "/api/chat/rooms/" + room["id"])
    listed = {x["id"]: x for x in guest.rest("GET", "/api/chat/rooms").json["rooms"]}
    same([listed["lobby"]["public"], listed["lobby"]["name"], listed[room["id"]]["joined"]], [True, "Lobby", False])
    same("role" in listed[room["id"]], False)
    base = "/api/chat/rooms/" + room["id"]
    same(guest.rest("POST", base + "/join").json["joined"], True)
    members = alice.rest("GET", base + "/members").json
    same([(m["userId"], m["role"]) for m in members["members"]], [("alice", "owner"), (guest.id, "member")])
    same(members["members"][1]["online"], False)
    same([members["members"][0]["nickname"], members["total"]], ["Alice", 2])
    d = guest.device()
    same(alice.rest("GET", base + "/members").json["members"][1]["online"], True)
    d.subscribe("/topic/room/" + room["id"])
    same(alice.rest("PATCH", base, {"name": "New"}).json["name"], "New")
    change = d.on("/topic/room/" + room["id"], type="SYSTEM").json
    same([change["code"], change["name"]], ["ROOM_CHANGED", "New"])
    same(alice.rest("PATCH", base, {"public": False}).status, 422)
    same([x["id"] for x in guest.rest("GET", "/api/chat/users/%s/rooms" % guest.id).json["rooms"]], [room["id"]])
    same(guest.rest("GET", "/api/chat/users/alice/rooms").status, 403)
    same(alice.rest("DELETE", base).status, 204)
    same(d.on("/topic/room/" + room["id"], code="ROOM_DELETED").json["type"], "SYSTEM")
    same(alice.rest("GET", base).status, 404)
    named = alice.rest("POST", "/api/chat/rooms", {"name": " \uff21\u202ed\u200bm\nin\ufeff \ufb01"})
    same([named.status, named.json["name"]], [201, "Admin fi"])
    for bad, status in [({"name": ""}, 422), ({"name": " "}, 422), ({"name": "x" * 101}, 422), ({"name": "\u202e"}, 422),
                        ({"name": "\n"}, 422), ({"name": "\u200b \ufeff"}, 422), ({"name": 5}, 422), ({}, 422),
                        ({"name": "x", "public": "yes"}, 422), ([], 400)]:
        r = alice.rest("POST", "/api/chat/rooms", bad)
        same([r.status, r.json["code"]], [status, "VALIDATION"], bad)
    for raw, kind, status in [(b'{"name":"a","name":"b"}', "application/json", 400), (b"{", "application/json", 400),
                              (b'{"name":"\xff"}', "application/json", 400), (b'{"name":"a"}', "text/plain", 415),
                              (b'{"name":"a"}', "application/json; charset=utf-16", 415),
                              (b'{"name":"a","x":' + b"[" * 40 + b"]" * 40 + b"}", "application/json", 400)]:
        same(alice.rest("POST", "/api/chat/rooms", raw=raw, headers={"Content-Type": kind}).status, status, raw)
    same(alice.rest("GET", "/api/chat/rooms/a%2Fb").status, 404)


@test
def the_references_forms_of_rest(s):
    alice, bob = Person(s, "alice"), Person(s, "bob")
    r = alice.rest("POST", "/api/chat/rooms?roomName=old%20way&userId=alice")
    same([r.status, r.json["name"], r.json["public"]], [201, "old way", True])
    base = "/api/chat/rooms/" + r.json["id"]
    same(alice.rest("POST", "/api/chat/rooms?roomName=x&userId=bob").status, 403)
    same(bob.rest("POST", base + "/join?userId=alice").status, 403)
    same(bob.rest("POST", base + "/join?userId=bob").json["joined"], True)
    same(bob.rest("POST", base + "/leave?userId=bob").status, 204)
    alice.rest("DELETE", base)


@test
def the_owner_who_leaves_is_followed(s):
    alice, bob, carol, guest = (Person(s, n) for n in ("alice", "bob", "carol", None))
    base = "/api/chat/rooms/" + make_room(alice)
    for p in (guest, carol, bob):
        p.rest("POST", base + "/join")
    alice.rest("PUT", base + "/members/bob/role", {"role": "moderator"})
    same(alice.rest("PUT", base + "/members/%s/role" % guest.id, {"role": "moderator"}).status, 422)
    alice.rest("POST", base + "/leave")
    same(bob.rest("GET", base).json["role"], "owner")
    bob.rest("PUT", base + "/members/carol/role", {"role": "owner"})
    same([bob.rest("GET", base).json["role"], carol.rest("GET", base).json["role"]], ["moderator", "owner"])
    for p in (bob, carol):
        p.rest("POST", base + "/leave")
    same(guest.rest("GET", base).json["role"], "member")
    guest.rest("POST", base + "/leave")
    same(guest.rest("GET", base).status, 404)


@test
def guests_who_stay_away_leave_the_rooms(s):
    guest, watcher = Person(s), Person(s, "dave")
    dw, dg = watcher.device(), guest.device()
    dw.send("/app/chat.join", {"roomId": "lobby"})
    dw.subscribe("/topic/room/lobby")
    dg.send("/app/chat.join", {"roomId": "lobby"})
    dw.on("/topic/room/lobby", type="JOIN", senderId=guest.id)
    same(dw.on("/topic/room/lobby", 2.5, type="LEAVE", senderId=guest.id), None, "as long as somebody is online")
    dg.close()
    assert dw.on("/topic/room/lobby", 8, type="LEAVE", senderId=guest.id), "a guest away leaves"
    dw.send("/app/chat.leave", {"roomId": "lobby"})


@test
def who_is_online(s):
    a, b = Person(s), Person(s)
    path = "/api/chat/users/%s/status" % a.id
    same(b.rest("GET", path).json, {"userId": a.id, "online": False})
    d = a.device()
    same(b.rest("GET", path).json["online"], True)
    same(rest(s, None, "GET", path).status, 401)
    d.close()


# ---- typing and reading ------------------------------------------------------------


@test
def typing_to_a_person_is_coalesced_and_ends(s):
    a, b = Person(s), Person(s)
    da, db = a.device(), b.device()
    q = "/user/queue/typing"
    for _ in range(5):
        da.send("/app/chat.typing", {"to": b.id})
    m = db.on(q).json
    assert TIME.match(m["timestamp"]), m
    same([m["type"], m["sender"], m["senderId"], m["receiver"], m["receiverId"], m["typing"]],
         ["TYPING", a.id, a.id, b.id, b.id, True])
    same(db.on(q, QUIET), None, "coalesced")
    same(db.on(q, 2).json["typing"], False, "ends by itself")
    da.send("/app/chat.typing", {"receiver": b.id, "typing": True})
    same(db.on(q).json["typing"], True)
    da.send("/app/chat.typing", {"to": b.id, "typing": False})
    da.send("/app/chat.typing", {"to": b.id, "typing": False})
    same(db.on(q).json["typing"], False)
    same(db.quiet(q), True)
    da.send("/app/chat.typing", {"to": b.id})
    db.on(q, typing=True)
    da.send("/app/chat.send", {"to": b.id, "content": "done"})
    assert db.on(q, 0.4, typing=False), "ends with the message"
    da.send("/app/chat.typing", {"to": b.id})
    db.on(q, typing=True)
    da.close()
    assert db.on(q, 0.5, typing=False), "ends with the session"
    same(db.messages(QUIET, type="TYPING"), None)
    dc = Person(s).device()
    for body, code in [({}, "VALIDATION"), ({"to": b.id, "typing": "yes"}, "VALIDATION"), ({"to": 1}, "VALIDATION"),
                       ({"to": b.id, "roomId": "lobby"}, "VALIDATION"), ({"to": "a b"}, "NOT_FOUND"),
                       ({"roomId": "lobby"}, "NOT_MEMBER"), ({"roomId": "none"}, "NOT_MEMBER"),
                       ({"roomId": "a b"}, "NOT_MEMBER")]:
        same(dc.send("/app/chat.typing", body).get("code"), code, body)


@test
def typing_and_reading_in_a_room(s):
    a, b = Person(s), Person(s)
    da, db = a.device(), b.device()
    topic = "/topic/room/lobby"
    for d in (da, db):
        d.send("/app/chat.join", {"roomId": "lobby"})
        d.subscribe(topic)
    da.send("/app/chat.typing", {"roomId": "lobby"})
    m = db.on(topic, type="TYPING").json
    same([m["senderId"], m["roomId"], m["typing"], "receiver" in m], [a.id, "lobby", True, False])
    same(db.on(topic, 2, type="TYPING").json["typing"], False)
    said = da.send("/app/chat.send", {"roomId": "lobby", "content": "x"})["message-id"]
    db.send("/app/chat.read", {"roomId": "lobby", "messageId": said})
    m = da.on(topic, type="READ").json
    same([m["senderId"], m["messageId"], m["roomId"], m["status"]], [b.id, said, "lobby", "READ"])
    for d in (da, db):
        d.send("/app/chat.leave", {"roomId": "lobby"})
    same(db.send("/app/chat.read", {"roomId": "lobby", "messageId": said + "0"})["code"], "NOT_MEMBER")


@test
def typing_is_told_to_those_who_look(s):
    a, b, c = Person(s), Person(s), Person(s)
    da, db, dc = a.device(), b.device(), c.device()
    topic, q = "/topic/room/lobby", "/user/queue/typing"
    for d in (da, db):
        d.send("/app/chat.join", {"roomId": "lobby"})
    room = db.resume(topic, {"except": "typing"})["receipt-id"][1:]
    look = db.resume(topic, {"only": "typing"})["receipt-id"][1:]
    da.send("/app/chat.typing", {"roomId": "lobby"})
    f = db.on(topic, type="TYPING", typing=True)
    same([f.headers["subscription"], f.headers["about"]], [look, "typing"])
    da.send("/app/chat.typing", {"roomId": "lobby", "typing": False})
    same(db.on(topic, typing=False).headers["subscription"], look)
    da.send("/app/chat.send", {"roomId": "lobby", "content": "once"})
    same(db.on(topic, content="once").headers["subscription"], room)
    same(db.on(topic, QUIET), None, "and nothing twice")
    db.unsubscribe(look)
    da.send("/app/chat.typing", {"roomId": "lobby"})
    da.send("/app/chat.send", {"roomId": "lobby", "content": "unseen"})
    db.on(topic, content="unseen")
    same(db.on(topic, QUIET), None, "nobody looks")
    alice = Person(s, "alice")
    room, here = make_room(alice, "whispers", public=False), alice.device()
    topic = "/topic/room/" + room
    same(alice.rest("POST", "/api/chat/rooms/%s/members" % room, {"userId": b.id}).status, 201)
    db.resume(topic, {"only": "typing"})
    here.send("/app/chat.typing", {"roomId": room})
    assert db.on(topic, type="TYPING")
    same(alice.rest("DELETE", "/api/chat/rooms/%s/members/%s" % (room, b.id)).status, 204)
    here.send("/app/chat.typing", {"roomId": room, "typing": False})
    here.send("/app/chat.typing", {"roomId": room})
    same(db.on(topic, QUIET), None, "who was shown out does not hear it any more")
    alice.rest("DELETE", "/api/chat/rooms/" + room)
    # One's own queue: of one of those who write.
    look = db.resume(q, {"only": c.id})["receipt-id"][1:]
    for d in (da, dc):
        d.send("/app/chat.typing", {"to": b.id})
    heard = [db.on(q) for _ in range(3)]
    same(sorted(f.json["senderId"] for f in heard), sorted([a.id, c.id, c.id]))
    same([f.json["senderId"] for f in heard if f.headers["subscription"] == look], [c.id])
    da.send("/app/chat.leave", {"roomId": "lobby"})


@test
def reading_is_told_forward_and_seldom(s):
    a, b = Person(s), Person(s)
    da, db = a.device(), b.device()
    q = "/user/queue/read"
    ids = [da.send("/app/chat.send", {"to": b.id, "content": str(i)})["message-id"] for i in range(5)]
    begin = time.monotonic()
    for i in (1, 0, 2, 3, 4, 3):
        db.send("/app/chat.read", {"with": a.id, "messageId": ids[i]})
    m = da.on(q).json
    assert TIME.match(m["timestamp"]), m
    same([m["type"], m["senderId"], m["receiverId"], m["messageId"], m["status"]], ["READ", b.id, a.id, ids[1], "READ"])
    told = []
    while ids[4] not in told:
        told.append(da.on(q).json["messageId"])
    same(told, sorted(set(told), key=ids.index), "forward")
    assert len(told) <= 1 + (time.monotonic() - begin) / 1.0, told  # one in a second, the last of those that waited
    same(da.on(q, 1.2), None)
    same(db.send("/app/chat.read", {"with": a.id, "seq": 9})["code"], "VALIDATION", "there are five")
    same(da.on(q, 1.2), None)
    da.send("/app/chat.send", {"to": b.id, "content": "6"})
    db.send("/app/chat.read", {"with": a.id, "seq": 6})
    same(da.on(q).json["seq"], 6)
    for body, code in [({}, "VALIDATION"), ({"messageId": ids[0]}, None), ({"with": a.id}, "VALIDATION"),
                       ({"with": b.id, "messageId": ids[0]}, "VALIDATION"), ({"messageId": "none"}, "NOT_FOUND"),
                       ({"messageId": ids[0], "status": "SENT"}, "VALIDATION"),
                       ({"with": a.id, "seq": 0}, "VALIDATION"), ({"with": a.id, "seq": -1}, "VALIDATION"),
                       ({"with": a.id, "seq": "1"}, "VALIDATION"), ({"with": a.id, "messageId": "a b"}, "VALIDATION"),
                       ({"with": a.id, "roomId": "lobby", "seq": 1}, "VALIDATION"), ({"with": "a b", "seq": 1}, "NOT_FOUND"),
                       ({"roomId": "none", "seq": 1}, "NOT_MEMBER")]:
        same(db.send("/app/chat.read", body).get("code"), code, body)


@test
def old_clients_get_events_among_the_messages(s):
    old = Server(s.ready["workers"], "typing.legacy_queues=true", "receipts.legacy_queues=true", memory=True)
    try:
        a, b = Person(old), Person(old)
        da, db = a.device(), b.device()
        da.send("/app/chat.typing", {"to": b.id})
        assert db.messages(type="TYPING") and db.on("/user/queue/typing")
        said = db.send("/app/chat.send", {"to": a.id, "content": "x"})["message-id"]
        da.send("/app/chat.read", {"with": b.id, "messageId": said})
        assert db.messages(type="READ") and db.on("/user/queue/read")
    finally:
        same(old.stop()[0], 0, "exit code")


@test
def users_are_announced_where_that_is_wanted(s):
    loud = Server(s.ready["workers"], "rooms.announce=true", "presence-memory.linger=100ms", memory=True)
    try:
        watcher = Person(loud).device()
        watcher.subscribe("/topic/public")
        p = Person(loud)
        d = p.device()
        same(watcher.on("/topic/public", type="JOIN").json["senderId"], p.id)
        d.close()
        same(watcher.on("/topic/public", type="LEAVE").json["senderId"], p.id)
    finally:
        same(loud.stop()[0], 0, "exit code")


@test
def limits_of_rooms(s):
    small = Server(s.ready["workers"], "rooms.max_rooms=2", "rooms.max_members=2", "rooms.rooms_per_user=1", memory=True)
    try:
        alice, guests = Person(small, "alice"), [Person(small) for _ in range(3)]
        make_room(alice)
        r = alice.rest("POST", "/api/chat/rooms", {"name": "one more"})
        same([r.status, r.json["code"]], [409, "TOO_MANY_ROOMS"])
        r = alice.rest("POST", "/api/chat/rooms/lobby/join")
        same([r.status, r.json["code"]], [409, "TOO_MANY_ROOMS"])
        statuses = [g.rest("POST", "/api/chat/rooms/lobby/join").status for g in guests]
        same(statuses, [200, 200, 409])
        same(guests[2].device().send("/app/chat.join", {"roomId": "lobby"})["code"], "ROOM_FULL")
    finally:
        same(small.stop()[0], 0, "exit code")


def main():
    workers = sys.argv[1] if len(sys.argv) > 1 else "1"
    only = sys.argv[2:]
    tests = [t for t in TESTS if not only or t.__name__ in only]
    server = Server(workers, "typing.repeat=600ms", "typing.expire=900ms", "receipts.interval=700ms",
                    "rooms.guest_linger=2s", "presence-memory.linger=200ms", memory=True)
    server.ready["workers"] = workers
    return tap(tests, server)


if __name__ == "__main__":
    sys.exit(main())
