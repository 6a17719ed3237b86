#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A back end and its server: keys, calls, bots, webhooks in, out and deciding, commands.  Prints TAP.

Usage: api_e2e.py [workers [store [test ...]]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml and the plugins
api, fetch, webhooks and slash; the other side is a server in here that checks every signature.
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "chat"))
import client  # noqa: E402
from client import Device, Person, Server, same, tap  # noqa: E402
from receiver import OLD, PLAIN, SECRET, Receiver  # noqa: E402

BOOT = "boot-secret-0123456789abcdef0123456789"
SCOPES = ["publish", "broadcast", "history", "presence", "rooms", "users", "disconnect", "keys", "as", "files"]
RECHECK = 0.3
TESTS = []

MORE = """  api:
    recheck: 300ms
    keys:
      - {{ id: boot, secret: {boot}, scopes: [{scopes}] }}
      - {{ id: few, secret: {boot}, scopes: [history] }}
  fetch: {{}}
  slash:
    commands:
      - {{ name: ask, help: "[TEXT]: asks the other side", url: "{url}/cmd", secret: "{secret}", bot: Oracle }}
  webhooks:
    retry_min: 50ms
    retry_max: 400ms
    breaker: 2
    breaker_pause: 1s
    per_room: 3
    outgoing:
      - {{ name: all, url: "{url}/out", secret: "{secret}", events: [message, change, room, presence], direct: true }}
      - {{ name: one-room, url: "{url}/plain", secret: "{plain}", old_secret: "{old}", events: [message], rooms: [watched] }}
      - {{ name: slow, url: "{url}/slow", secret: "{secret}", events: [message], rooms: [slow], timeout: 300ms }}
    deciders:
      - {{ on: message, url: "{url}/decide", secret: "{secret}", prefix: /app/chat.send, on_error: allow, timeout: 2s }}
      - {{ on: message, url: "{url}/late", secret: "{secret}", prefix: /app/chat.edit, on_error: allow, timeout: 300ms }}
      - {{ on: subscribe, url: "{url}/strict", secret: "{secret}", prefix: /user/queue/rooms, on_error: deny, timeout: 2s }}
      - {{ on: connect, url: "{url}/connect", secret: "{secret}", on_error: allow, credentials: true, timeout: 2s }}
"""
ACCOUNTS = "\n  auth-static:\n    users:\n" + "".join(
    '      - {{ login: {0}, passcode: "{0}", name: "{1}", token: "token-of-{0}-long-enough"{2} }}\n'.format(
        n, n.title(), ", admin: true" if n == "root" else "") for n in ("ann", "bob", "carol", "root"))


def test(fn):
    TESTS.append(fn)
    return fn


class Key:
    """Who calls with a key; a bot's can have a device."""

    def __init__(self, server, token, user=None):
        self.server, self.token, self.id = server, token, user
        self.login = {"Authorization": "Bearer " + token}

    def rest(self, method, path, body=None, **kw):
        return client.rest(self.server, self, method, path if path[0] == "/" else "/api/server/" + path, body, **kw)

    def do(self, method, path, body=None, status=200):
        r = self.rest(method, path, body)
        same(r.status, status, "%s %s: %s" % (method, path, r.body))
        return r.json if r.body else None

    def device(self):
        return Device(self)


def made(s, scopes, **more):
    r = s.boot.do("POST", "keys", {"name": "a test's", "scopes": scopes, **more}, 201)
    return Key(s, r["key"]), r


def bot(s, user, scopes=("publish", "history", "rooms"), **more):
    r = s.boot.do("POST", "bots", {"userId": user, "name": user.title(), "scopes": list(scopes), **more}, 201)
    return Key(s, r["key"], user)


def room(s, owner, members=(), **more):
    r = s.boot.do("POST", "rooms?as=" + owner, {"name": "a room", "public": False, **more}, 201)
    for m in members:
        s.boot.do("POST", "rooms/%s/members" % r["id"], {"userId": m}, 201)
    return r["id"]


# ---- keys ---------------------------------------------------------------------------------


CALLS = [  # the scope that is needed, method, path, body; a call that changes nothing that others need
    ("publish", "POST", "publish", {"to": "nobody-there", "content": "x"}),
    ("broadcast", "POST", "broadcast", {}),
    ("disconnect", "POST", "disconnect", {"userId": "nobody-there"}),
    ("users", "POST", "users", {}),
    ("users", "DELETE", "users/nobody-there", None),
    ("users", "GET", "users?q=nobody-there", None),
    ("users", "GET", "users/nobody-there", None),
    ("users", "PUT", "users/nobody-there/roles", {"roles": []}),
    ("users", "POST", "users/nobody-there/ban", {}),
    ("users", "DELETE", "users/nobody-there/ban", None),
    ("keys", "GET", "keys", None),
    ("keys", "POST", "keys", {}),
    ("keys", "DELETE", "keys/nobody-there", None),
    ("keys", "GET", "bots", None),
    ("keys", "POST", "bots", {}),
    ("rooms", "GET", "rooms", None),
    ("rooms", "POST", "rooms", {}),
    ("rooms", "GET", "rooms/nowhere", None),
    ("rooms", "PATCH", "rooms/nowhere", {"about": "x"}),
    ("rooms", "DELETE", "rooms/nowhere", None),
    ("rooms", "PUT", "rooms/nowhere/members/ann/role", {"role": "member"}),
    ("history", "GET", "messages/room/lobby", None),
    ("history", "GET", "messages/nothing", None),
    ("history", "GET", "conversations", None),
    ("history", "GET", "search?q=something", None),
    ("presence", "GET", "presence?users=ann", None),
    # the API that clients use, with a key
    ("rooms", "GET", "/api/chat/rooms", None),
    ("history", "GET", "/api/chat/conversations", None),
    ("presence", "GET", "/api/chat/users/ann/status", None),
    ("users", "GET", "/api/users/nobody-there", None),
    (None, "GET", "/api/chat/nothing/is/here", None),
    (None, "POST", "/api/auth/logout", {}),
]


@test
def each_call_takes_its_scope_and_no_other(s):
    keys = {scope: made(s, [scope])[0] for scope in SCOPES}
    wrong = []
    for needed, method, path, body in CALLS:
        same(client.rest(s, None, method, path if path[0] == "/" else "/api/server/" + path, body).status in (401, 404), True, path)
        for scope, key in keys.items():
            r = key.rest(method, path, body)
            forbidden = r.status == 403 and r.json["code"] == "FORBIDDEN" and "scope" in r.json["detail"]
            if needed and forbidden != (scope != needed):
                wrong.append("%s %s with %s: %d %s" % (method, path, scope, r.status, r.body[:120]))
            elif not needed and r.status < 400:
                wrong.append("%s %s with %s: %d" % (method, path, scope, r.status))
    same(wrong, [])
    r = keys["history"].rest("POST", "publish", {"to": "ann", "content": "x"})
    same(r.json["detail"], 'this key has not the scope "publish", which /api/server/publish needs')


@test
def people_make_keys_only_as_administrators(s):
    ann, root = Person(s, "ann"), Person(s, "root")
    for who, status in ((ann, 403), (Person(s), 403), (root, 201)):
        r = who.rest("POST", "/api/server/keys", {"name": "mine", "scopes": ["publish"]})
        same(r.status, status, r.body)
    same(root.rest("POST", "/api/server/publish", {"to": "ann", "content": "x"}).status, 403, "by hand it takes a key")
    k = Key(s, r.json["key"])
    same(k.do("POST", "publish", {"to": "ann", "content": "made by root"})["seq"] > 0, True)
    listed = root.rest("GET", "/api/server/keys").json["keys"]
    mine = [x for x in listed if x["id"] == r.json["id"]][0]
    same((mine["createdBy"], mine["scopes"], "key" in mine, "hash" in mine), ("root", ["publish"], False, False))
    same("lastUsedAt" in mine, True)
    same(k.rest("POST", "keys", {"name": "more", "scopes": ["publish"]}).status, 403)
    few, _ = made(s, ["keys", "history"])
    r = few.rest("POST", "keys", {"name": "more", "scopes": ["publish"]})
    same((r.status, r.json["detail"]), (422, "a key can give no scope that it has not itself"))
    for wrong in ({}, {"name": "x"}, {"name": "x", "scopes": []}, {"name": "x", "scopes": ["everything"]},
                  {"name": "", "scopes": ["keys"]}, {"name": "x", "scopes": ["keys"], "expiresIn": 0},
                  {"name": "x", "scopes": ["keys"], "perMinute": "9"}):
        same(s.boot.rest("POST", "keys", wrong).status, 422, wrong)


@test
def a_key_that_is_revoked_or_over_is_refused_within_seconds(s):
    k, r = made(s, ["publish"])
    k.do("POST", "publish", {"to": "ann", "content": "still"})
    b = bot(s, "beep")
    d = b.device()
    s.boot.do("DELETE", "keys/" + r["id"], None, 204)
    s.boot.do("DELETE", "keys/" + r["id"], None, 404)
    until = time.monotonic() + client.WAIT
    while k.rest("POST", "publish", {"to": "ann", "content": "x"}).status != 401:
        assert time.monotonic() < until, "a revoked key is still taken"
        time.sleep(0.05)
    (mine,) = [x for x in s.boot.do("GET", "bots")["keys"] if x["bot"] == "beep"]
    s.boot.do("DELETE", "keys/" + mine["id"], None, 204)
    ended = False
    try:
        while time.monotonic() < until and not ended:
            ended = d._read(until) is None
    except (ConnectionError, OSError):
        ended = True
    same(ended, True, "the session of a revoked key ends")

    def good_for_a_second():
        short, _ = made(s, ["publish"], expiresIn=1)
        return short if short.rest("POST", "publish", {"to": "ann", "content": "short"}).status == 200 else None
    short = client.until(good_for_a_second, what="one is used in its second")
    client.until(lambda: short.rest("POST", "publish", {"to": "ann", "content": "x"}).status == 401, what="it is over")
    for bad in ("ck_boot_" + BOOT[:-1], "ck_boot_", "ck__x", "ck_unknown_" + BOOT, "ck_" + BOOT):
        same(Key(s, bad).rest("GET", "keys").status, 401, bad)
    same(s.boot.rest("DELETE", "keys/boot").json["code"], "CONFIGURED")


# ---- calls ----------------------------------------------------------------------------------


@test
def what_a_back_end_says_goes_the_way_of_a_send(s):
    ann, bob = Person(s, "ann"), Person(s, "bob")
    a = ann.device()
    r = s.boot.do("POST", "publish", {"to": "ann", "content": "from the server", "clientId": "p1"})
    m = a.messages(content="from the server")
    same((m.json["id"], m.json["seq"], m.json["sender"], m.json["senderName"], m.json["bot"]),
         (r["messageId"], r["seq"], "SYSTEM", "SYSTEM", True))
    same((m.headers["epoch"], r["clientId"]), (r["epoch"], "p1"))
    again = s.boot.do("POST", "publish", {"to": "ann", "content": "from the server", "clientId": "p1"})
    same((again["messageId"], again["seq"]), (r["messageId"], r["seq"]), "sent twice, delivered once")
    same(s.boot.rest("POST", "publish", {"to": "ann", "content": "other", "clientId": "p1"}).status, 409)
    here = room(s, "ann", ["bob"])
    a.subscribe("/topic/room/" + here)
    r = s.boot.do("POST", "publish", {"roomId": here, "content": "to the room", "senderName": "\uff22illing\u202e"})
    m = a.on("/topic/room/" + here, content="to the room")
    same((m.json["senderName"], m.json["seq"]), ("Billing", r["seq"]))
    s.boot.do("POST", "publish", {"roomId": here, "content": "as bob", "as": "bob"})
    m = a.on("/topic/room/" + here, content="as bob")
    same((m.json["sender"], m.json["senderName"]), ("bob", "Bob"))
    s.boot.do("POST", "publish", {"action": "edit", "messageId": m.json["id"], "content": "changed", "as": "bob"})
    same(a.on("/topic/room/" + here, type="EDIT").json["content"], "changed")
    s.boot.do("POST", "publish", {"action": "delete", "messageId": m.json["id"]})
    same(a.on("/topic/room/" + here, type="DELETE").json["messageId"], m.json["id"])
    a.subscribe("/topic/public")
    s.boot.do("POST", "publish", {"topic": "/topic/public", "data": {"price": [1, 2]}})
    same(a.on("/topic/public").json, {"price": [1, 2]})
    for body, status, code in (({"to": "nobody-there", "content": "x"}, 404, "NOT_FOUND"),
                               ({"roomId": "nowhere", "content": "x"}, 404, "NOT_FOUND"),
                               ({"to": "ann"}, 422, "VALIDATION"), ({"content": "x"}, 422, "VALIDATION"),
                               ({"to": "ann", "content": "x" * 9000}, 413, "TOO_LARGE"),
                               ({"topic": "/app/chat.read", "data": {}}, 422, "VALIDATION"),
                               ({"topic": "/topic/room/" + here, "data": {}}, 403, "FORBIDDEN"),
                               ({"to": "ann", "content": "x", "as": "nobody-there"}, 404, "NOT_FOUND"),
                               ({"action": "steal", "to": "ann"}, 422, "VALIDATION")):
        r = s.boot.rest("POST", "publish", body)
        same((r.status, r.json["code"]), (status, code), body)
    same(s.boot.rest("POST", "publish", raw=b"{").status, 400)
    bob.device().close()
    a.close()


@test
def rooms_and_history_of_everybody(s):
    ann, bob = Person(s, "ann"), Person(s, "bob")
    d = ann.device()
    d.send("/app/chat.send", {"to": "bob", "content": "between us"})
    same(s.boot.rest("POST", "rooms", {"name": "x"}).json["detail"],
         "say with ?as=USER who shall be the owner of the room")
    here = room(s, "ann", ["bob"])
    same(ann.rest("GET", "/api/chat/rooms/" + here).json["role"], "owner")
    s.boot.do("PATCH", "rooms/" + here, {"name": "renamed", "readOnly": True})
    s.boot.do("PUT", "rooms/%s/members/bob/role" % here, {"role": "moderator"})
    same({m["userId"]: m["role"] for m in s.boot.do("GET", "rooms/%s/members?limit=10" % here)["members"]},
         {"ann": "owner", "bob": "moderator"})
    s.boot.do("DELETE", "rooms/%s/members/bob" % here, None, 204)
    s.boot.do("POST", "publish", {"roomId": here, "content": "read this"})
    page = s.boot.do("GET", "messages/room/%s?before=100" % here)
    same([m["content"] for m in page["messages"]], ["read this"])
    page = s.boot.do("GET", "messages/direct?with=bob&as=ann&before=1000000")
    same(page["messages"][-1]["content"], "between us")
    r = Key(s, "ck_few_" + BOOT).rest("GET", "messages/direct?with=bob&as=ann")
    same((r.status, "as" in r.json["detail"]), (403, True), "reading in somebody's name takes the scope as")
    s.boot.do("DELETE", "rooms/" + here, None, 204)
    s.boot.do("GET", "rooms/" + here, None, 404)
    same(bob.rest("GET", "/api/chat/rooms/" + here).status, 404)
    d.close()


@test
def people_are_made_and_shown_out(s):
    r = s.boot.do("POST", "users", {"userId": "made1", "nickname": "Made One"}, 201)
    same(r, {"userId": "made1", "nickname": "Made One"})
    same(s.boot.rest("POST", "users", {"userId": "made1", "nickname": "Again"}).status, 409)
    same(s.boot.do("POST", "users", {"nickname": "No Id"}, 201)["userId"][:5], "user_")
    for bad in ("\u202e\u200b", " \u3000 ", "x" * 33):
        same(s.boot.rest("POST", "users", {"nickname": bad}).status, 422, bad)
    same(s.boot.do("POST", "users", {"nickname": "\uff2dade\u202e \ufb01\u200bt"}, 201)["nickname"], "Made fit")
    same(s.boot.do("GET", "users/made1")["nickname"], "Made One")
    s.boot.do("POST", "users/made1/ban", {"seconds": 60}, 204)
    s.boot.do("DELETE", "users/made1/ban", None, 204)
    s.boot.do("DELETE", "users/made1", None, 204)
    s.boot.do("GET", "users/made1", None, 404)
    s.boot.do("DELETE", "users/made1", None, 404)
    carol = Person(s, "carol")
    d = carol.device()
    same(s.boot.do("GET", "presence?users=carol,nobody-there")["users"][0]["online"], True)
    s.boot.do("POST", "disconnect", {"userId": "carol", "reason": "come back later"}, 204)
    f = d.wait(lambda f: f.command == "ERROR")
    same("come back later" in (f.headers.get("message", "") + f.body.decode()), True, f)
    d.close()


@test
def a_broadcast_reaches_each_target_and_says_how(s):
    ann, bob = Person(s, "ann"), Person(s, "bob")
    a, b = ann.device(), bob.device()
    for _ in range(2):
        r = s.boot.do("POST", "broadcast", {"users": ["ann", "nobody-there", "bob"],
                                            "rooms": ["lobby", "nowhere", "no room"], "content": "to many", "clientId": "b1"})
        same([(x.get("to") or x["roomId"], x["status"]) for x in r["answers"]],
             [("lobby", 200), ("nowhere", 404), ("no room", 404), ("ann", 200), ("nobody-there", 404), ("bob", 200)])
        same(r["failed"], 3)
    same(bool(a.messages(content="to many") and b.messages(content="to many")), True)
    a.sync()
    same(a.messages(0.2, content="to many"), None, "a repeat is delivered once")
    a.subscribe("/topic/public")
    for nobody in ({"rooms": []}, {"users": []}, {"rooms": [], "users": []}):
        same(s.boot.do("POST", "broadcast", {"content": "to nobody", **nobody}), {"answers": [], "failed": 0})
    s.boot.do("POST", "broadcast", {"content": "to all"})
    m = a.on("/topic/public", content="to all").json
    same((m["type"], m["sender"]), ("SYSTEM", "SYSTEM"))
    a.close()
    b.close()


@test
def a_batch_is_answered_in_order(s):
    d = Person(s, "ann").device()
    calls = [{"id": i, "path": "publish", "body": {"to": "ann", "content": "n%d" % i}} for i in range(97)]
    calls += [{"path": "rooms?as=ann", "body": {"name": "x"}}, {"path": "/api/server/presence?users=ann"},
              {"path": "publish", "body": {"to": "nobody-there", "content": "x"}}]
    for parallel in (False, True):
        r = s.boot.do("POST", "batch", {"calls": calls, "parallel": parallel})["answers"]
        same([x["status"] for x in r], [200] * 97 + [201, 200, 404])
        same([x.get("id") for x in r], list(range(97)) + [None] * 3)
        same(r[-1]["body"]["code"], "NOT_FOUND")
        same(r[-2]["body"]["users"][0]["userId"], "ann")
        order = [x["body"]["seq"] for x in r[:97]]
        same(order == sorted(order) or parallel, True)
    for i in range(97):
        same(d.messages()is not None, True)
    for wrong in ({}, {"calls": []}, {"calls": calls + calls[:1]}):
        same(s.boot.rest("POST", "batch", wrong).status, 422)
    r = s.boot.do("POST", "batch", {"calls": [{"path": "batch", "body": {"calls": []}}, {"path": "/api/users/me"}, {},
                                              {"path": "a b"}, {"path": "publish", "body": 1}, 7,
                                              {"path": "b%61tch", "body": {"calls": calls[:1]}}]})["answers"]
    same([x["status"] for x in r], [422] * 7)
    few = Key(s, "ck_few_" + BOOT)
    r = few.do("POST", "batch", {"calls": calls[:1] + [{"path": "conversations"}]})["answers"]
    same([x["status"] for x in r], [403, 200], "each call is asked about by itself")
    d.close()


# ---- bots -----------------------------------------------------------------------------------


@test
def a_bot_is_a_member_like_others(s):
    ann = Person(s, "ann")
    a = ann.device()
    here = room(s, "ann")
    b = bot(s, "helper", nickname="Helper")
    r = b.rest("POST", "publish", {"roomId": here, "content": "let me in"})
    same((r.status, r.json["code"]), (403, "NOT_MEMBER"))
    ann.rest("POST", "/api/chat/rooms/%s/members" % here, {"userId": "helper"})
    a.subscribe("/topic/room/" + here)
    b.do("POST", "publish", {"roomId": here, "content": "over HTTP"})
    m = a.on("/topic/room/" + here, content="over HTTP").json
    same((m["sender"], m["senderName"], m["bot"]), ("helper", "Helper", True))
    d = b.device()
    d.subscribe("/topic/room/" + here)
    a.send("/app/chat.send", {"roomId": here, "content": "hello bot"})
    same(d.on("/topic/room/" + here, content="hello bot").json["sender"], "ann")
    d.send("/app/chat.send", {"roomId": here, "content": "over STOMP"})
    m = a.on("/topic/room/" + here, content="over STOMP").json
    same((m["sender"], m["bot"]), ("helper", True))
    same(b.rest("POST", "publish", {"to": "ann", "content": "x", "as": "bob"}).status, 403)
    same(b.rest("POST", "publish", {"to": "ann", "content": "x", "senderName": "Bob"}).status, 403)
    mute = bot(s, "listener", ["history"])
    e = mute.device()
    same(e.send("/app/chat.send", {"to": "ann", "content": "x"})["code"], "FORBIDDEN")
    loud = bot(s, "speaker", ["publish"])
    f = loud.device()
    same(f.subscribe("/topic/room/lobby")["code"], "FORBIDDEN")
    same(s.boot.rest("POST", "bots", {"userId": "ann", "name": "x", "scopes": ["publish"]}).status, 409)
    same(s.boot.rest("POST", "bots", {"userId": "b3", "name": "x", "scopes": ["as"]}).status, 422)
    try:
        Key(s, s.boot.token).device()
        raise AssertionError("a key of the server opens a session")
    except (ConnectionError, OSError, AttributeError):
        pass
    for x in (a, d, e, f):
        x.close()


# ---- webhooks: in ------------------------------------------------------------------------------


@test
def what_is_posted_to_a_room_is_said_there(s):
    ann, bob = Person(s, "ann"), Person(s, "bob")
    here = room(s, "ann", ["bob"])
    base = "/api/chat/rooms/%s/hooks" % here
    same(bob.rest("POST", base, {"name": "CI"}).status, 403)
    same(Person(s, "carol").rest("GET", base).status, 404, "a room that one may not know of")
    r = ann.rest("POST", base, {"name": "CI"})
    same(r.status, 201, r.body)
    path = r.json["path"]
    a = ann.device()
    a.subscribe("/topic/room/" + here)
    x = client.rest(s, None, "POST", path, {"text": "build 17 failed"})
    same((x.status, x.json["ok"]), (200, True), x.body)
    m = a.on("/topic/room/" + here, content="build 17 failed").json
    same((m["senderName"], m["bot"], m["id"]), ("CI", True, x.json["messageId"]))
    client.rest(s, None, "POST", path, {"text": "named", "username": "Jenkins"})
    same(a.on("/topic/room/" + here, content="named").json["senderName"], "Jenkins")
    for body, status in (({}, 422), ({"text": ""}, 422), ({"text": 7}, 422)):
        same(client.rest(s, None, "POST", path, body).status, status, body)
    same(client.rest(s, None, "POST", path[:-1] + ("a" if path[-1] != "a" else "b"), {"text": "x"}).status, 404)
    same(client.rest(s, None, "POST", path, raw=b'{"text":"' + b"x" * 40000 + b'"}').status, 413)
    listed = ann.rest("GET", base).json["hooks"]
    same([(h["name"], h["createdBy"], "path" in h) for h in listed], [("CI", "ann", False)])
    new = ann.rest("POST", base + "/%s/rotate" % listed[0]["id"]).json["path"]
    same((client.rest(s, None, "POST", path, {"text": "x"}).status, client.rest(s, None, "POST", new, {"text": "y"}).status),
         (404, 200))
    for n in range(2):
        same(ann.rest("POST", base, {"name": "more"}).status, 201)
    same(ann.rest("POST", base, {"name": "more"}).json["code"], "TOO_MANY")
    same(bob.rest("DELETE", base + "/" + listed[0]["id"]).status, 403)
    same(ann.rest("DELETE", base + "/" + listed[0]["id"]).status, 204)
    same(client.rest(s, None, "POST", new, {"text": "x"}).status, 404)
    a.close()


@test
def who_makes_an_address_to_speak_through_may_speak(s):
    here = room(s, "ann")
    base = "rooms/%s/hooks" % here
    rooms, _ = made(s, ["rooms"])
    both, _ = made(s, ["rooms", "publish"])
    for path in (base, "rooms/%s/h%%6foks" % here):
        r = rooms.rest("POST", path, {"name": "CI"})
        same((r.status, r.json["code"], "publish" in r.json["detail"]), (403, "FORBIDDEN", True), r.body)
    hook = both.do("POST", base, {"name": "CI"}, 201)
    same(rooms.rest("POST", base + "/%s/rotate" % hook["id"]).status, 403)
    same([h["id"] for h in rooms.do("GET", base)["hooks"]], [hook["id"]])
    rooms.do("DELETE", base + "/" + hook["id"], None, 204)
    robot = bot(s, "roomer", ["rooms"])
    s.boot.do("POST", "rooms/%s/members" % here, {"userId": "roomer"}, 201)
    s.boot.do("PUT", "rooms/%s/members/roomer/role" % here, {"role": "moderator"})
    r = robot.rest("POST", "/api/chat/" + base, {"name": "CI"})
    same((r.status, "publish" in r.json["detail"]), (403, True), r.body)


# ---- webhooks: out -----------------------------------------------------------------------------


def contents(got, begin):
    """What was said in messages that begin so; of one that was deleted nothing is left."""
    told = [e["data"].get("content", "") for e in got.events() if e["type"] == "message.created"]
    return [c for c in told if c.startswith(begin)]


@test
def what_happens_is_told_in_order(s):
    got = s.receiver
    ann = Person(s, "ann")
    d = ann.device()
    start = len(got.events())
    for i in range(20):
        d.send("/app/chat.send", {"to": "bob", "content": "told %d" % i})
    sent = d.send("/app/chat.send", {"roomId": "lobby", "content": "x"})
    d.send("/app/chat.join", {"roomId": "lobby"})
    sent = d.send("/app/chat.send", {"roomId": "lobby", "content": "in the lobby"})
    d.send("/app/chat.edit", {"messageId": sent["message-id"], "content": "edited"})
    d.send("/app/chat.react", {"messageId": sent["message-id"], "reaction": "+1"})
    about = sent["message-id"]
    assert got.until(lambda: [e for e in got.events() if e["type"] == "message.reaction" and e["data"]["messageId"] == about])
    d.send("/app/chat.delete", {"messageId": sent["message-id"]})
    assert got.until(lambda: [e for e in got.events() if e["type"] == "message.deleted" and e["data"]["messageId"] == about])
    events = got.events()[start:]
    same(contents(got, "told"), ["told %d" % i for i in range(20)])
    lobby = [e["type"] for e in events if e.get("roomId") == "lobby"]
    same(lobby[-4:], ["message.created", "message.edited", "message.reaction", "message.deleted"])
    m = [e for e in events if e["id"] == sent["message-id"]][0]
    same((m["seq"], m["epoch"], m["data"]["sender"]), (int(sent["seq"]), sent["epoch"], "ann"))
    assert got.until(lambda: [e for e in got.events() if e["type"] == "user.presence" and e["userId"] == "ann"])
    d.close()


@test
def nothing_is_lost_while_the_receiver_is_away(s):
    got = s.receiver
    watched = room(s, "ann", name="watched")
    d = Person(s, "ann").device()
    refusing = [True]
    got.answers["/out"] = lambda _: (500, {}) if refusing[0] else (200, {})
    for i in range(5):
        d.send("/app/chat.send", {"to": "bob", "content": "away %d" % i})
    assert got.until(lambda: len([1 for _, _, said in got.got["/out"] if said == 500]) >= 2), "it is tried again"
    refused = [(h["webhook-id"], body) for h, body, said in got.got["/out"] if said == 500]
    same(all(b == refused[1][1] for h, b in refused[1:] if h == refused[1][0]), True, "a repeat is the same")
    refusing[0] = False
    assert got.until(lambda: "away 4" in contents(got, "away"))
    # More than fits into one request: it goes in several, and nothing behind it waits.
    refusing[0] = True
    for i in range(40):
        s.boot.do("POST", "publish", {"as": "bob", "to": "carol", "content": "large %02d " % i + "<" * 7900})
    refusing[0] = False
    s.boot.do("POST", "publish", {"as": "bob", "to": "carol", "content": "large end"})
    assert got.until(lambda: "large end" in contents(got, "large"))
    same([c[:8] for c in contents(got, "large")], ["large %02d" % i for i in range(40)] + ["large en"])
    got.end()
    for i in range(5, 10):
        d.send("/app/chat.send", {"to": "bob", "content": "away %d" % i})
    time.sleep(0.3)
    got.begin()
    assert got.until(lambda: "away 9" in contents(got, "away"))
    told = contents(got, "away")
    same(sorted(set(told), key=told.index), ["away %d" % i for i in range(10)])
    same(watched != "", True)
    d.close()


@test
def what_was_acknowledged_is_told_after_a_kill(s):
    got = s.receiver
    if s.memory:
        return
    d = Person(s, "ann").device()
    got.end()
    for i in range(8):
        r = d.send("/app/chat.send", {"to": "bob", "content": "killed %d" % i})
        same("message-id" in r, True, r)
    s.kill()
    got.begin()
    s.begin()
    assert got.until(lambda: "killed 7" in contents(got, "killed"))
    told = contents(got, "killed")
    same(sorted(set(told), key=told.index), ["killed %d" % i for i in range(8)])
    got.answers["/slow"] = lambda _: (time.sleep(0.6), (200, {}))[1]


# ---- webhooks: deciding ---------------------------------------------------------------------------


def moderate(asked):
    content = asked["message"]["content"]
    if content == "forbidden at length":
        return 200, {"allow": False, "reason": "\uac00" * 200}
    if "forbidden" in content:
        return 200, {"allow": False, "reason": "mind your words"}
    return 200, {"allow": True, "content": content.replace("darn", "****")} if "darn" in content else {"allow": True}


@test
def another_server_decides_what_may_be_said(s):
    got = s.receiver
    got.answers["/decide"] = moderate
    d = Person(s, "ann").device()
    r = client.until(lambda: (lambda r: "code" in r and r)(d.send("/app/chat.send", {"to": "bob", "content": "forbidden words"})),
                     what="it answers in time")
    same((r["code"], r["message"]), ("FORBIDDEN", "mind your words"))
    r = d.send("/app/chat.send", {"to": "bob", "content": "forbidden at length"})
    same(r["message"], "\uac00" * 66, "a reason is cut between characters")
    d.send("/app/chat.send", {"to": "bob", "content": "oh darn it"})
    same(d.messages(sender="ann").json["content"], "oh **** it")
    _, asked, _ = got.got["/decide"][-1]
    same((asked["event"], asked["destination"], asked["user"]["id"], asked["message"]["to"]),
         ("message", "/app/chat.send", "ann", "bob"))
    d.close()


@test
def a_decider_that_is_away_costs_its_deadline_a_few_times(s):
    got = s.receiver
    d = Person(s, "ann").device()
    seen = []
    about = d.send("/app/chat.send", {"to": "bob", "content": "undecided"})["message-id"]
    got.answers["/late"] = lambda _: (seen.append(1), time.sleep(2), (200, {"allow": False}))[2]
    begin = time.monotonic()
    for i in range(12):
        r = d.send("/app/chat.edit", {"messageId": about, "content": "undecided %d" % i})
        same("code" in r, False, "on_error allow: %r" % r)
    most = 3 + (time.monotonic() - begin) / 1.0  # once more after each pause of the breaker
    same(len(seen) <= most, True, "asked %d times in spite of the breaker" % len(seen))
    got.answers["/late"] = moderate
    client.until(lambda: d.send("/app/chat.edit", {"messageId": about, "content": "forbidden"}).get("code") == "FORBIDDEN", what="it is asked again")
    got.answers["/strict"] = lambda _: (500, {})
    same(d.subscribe("/user/queue/rooms")["code"], "UNAVAILABLE", "on_error deny")
    time.sleep(1.1)
    d.close()


@test
def another_server_says_who_it_is(s):
    got = s.receiver

    def connect(asked):
        if asked.get("bearer") == "a-token-of-theirs":
            return 200, {"allow": True, "user": "theirs", "name": "From Elsewhere", "roles": "support"}
        return 200, {"allow": "user" in asked and asked["user"]["id"] != "carol"}

    got.answers["/connect"] = connect
    d = Device(Key(s, "a-token-of-theirs", "theirs"))
    same(d.connected.headers["user-name"], "theirs")
    d.close()
    f = None
    try:
        f = Device.bare(Person(s, "carol"))
        same(f.connected, None)
    except (ConnectionError, OSError, AttributeError):
        pass
    got.answers["/connect"] = lambda _: (200, {"allow": True})


# ---- commands ----------------------------------------------------------------------------------------


@test
def commands_become_something_else(s):
    got = s.receiver
    ann, bob = Person(s, "ann"), Person(s, "bob")
    a, b = ann.device(), bob.device()
    a.send("/app/chat.send", {"to": "bob", "content": "/me waves"})
    same(b.messages(sender="ann").json["content"], "_Ann waves_")
    a.send("/app/chat.send", {"to": "bob", "content": "/shrug"})
    same(b.messages(sender="ann").json["content"], "\u00af\\_(\u30c4)_/\u00af")
    a.send("/app/chat.send", {"to": "bob", "content": "//me is how it is written"})
    same(b.messages(sender="ann").json["content"], "/me is how it is written")
    a.send("/app/chat.send", {"to": "bob", "content": "/etc/passwd"})
    same(b.messages(sender="ann").json["content"], "/etc/passwd")
    r = a.send("/app/chat.send", {"to": "bob", "content": "/unknown x"})
    same((r["code"], "/help" in r["message"]), ("UNKNOWN_COMMAND", True))
    a.sync()
    a.send("/app/chat.send", {"to": "bob", "content": "/help", "clientId": "h1"})
    m = a.messages(code="COMMAND").json
    same((m["clientId"], m["receiver"], "/ask [TEXT]" in m["content"], "/me" in m["content"]), ("h1", "bob", True, True))
    got.answers["/cmd"] = lambda q: (200, {"text": "only you: " + q["text"]})
    a.send("/app/chat.send", {"to": "bob", "content": "/ask the time"})
    same(a.messages(code="COMMAND").json["content"], "only you: the time")
    got.answers["/cmd"] = lambda q: (200, {"text": "/me too: " + q["user"]["id"], "response_type": "in_channel"})
    here = room(s, "ann")
    a.subscribe("/topic/room/" + here)
    r = a.send("/app/chat.send", {"roomId": here, "content": "/ask"})
    m = a.on("/topic/room/" + here, content="/me too: ann").json
    same((m["senderName"], m["bot"], m["id"]), ("Oracle", True, r["message-id"]))
    asked = len(got.got["/cmd"])
    for where in (here, "nowhere", "no id"):
        r = b.send("/app/chat.send", {"roomId": where, "content": "/ask"})
        same((r["code"], "not a member" in r["message"]), ("NOT_MEMBER", True), "nobody speaks through a command elsewhere")
    same(len(got.got["/cmd"]), asked, "and nobody is asked for somebody who is not there")
    got.answers["/cmd"] = lambda q: (500, {})
    same(a.send("/app/chat.send", {"to": "bob", "content": "/ask"})["code"], "UNAVAILABLE")
    names = [c["name"] for c in ann.rest("GET", "/api/chat/commands").json["commands"]]
    same(names, ["help", "me", "shrug", "tableflip", "unflip", "ask"])
    same(client.rest(s, None, "GET", "/api/chat/commands").status, 401)
    a.close()
    b.close()


# ---- hostile (HOSTILE.md H179, H180, H183, H189, H190) -------------------------------------------------


@test
def what_is_hostile_is_refused_or_is_text(s):
    ann = Person(s, "ann")
    d = ann.device()
    here = room(s, "ann")
    d.subscribe("/topic/room/" + here)
    path = ann.rest("POST", "/api/chat/rooms/%s/hooks" % here, {"name": "\u202eCI\u200b"}).json["path"]
    nasty = "<b>\r\nINFO fake\u001b[31m\u202e\u200b</b>"
    seen = "<b>INFO fake[31m</b>"  # and it is shown as text
    client.rest(s, None, "POST", path, {"text": nasty, "username": nasty})
    m = d.on("/topic/room/" + here, senderName=seen).json
    same(m["content"], nasty)
    client.rest(s, None, "POST", path, {"text": "unnamed"})
    same(d.on("/topic/room/" + here, content="unnamed").json["senderName"], "CI")
    s.boot.do("POST", "publish", {"roomId": here, "content": "x", "senderName": nasty})
    same(d.on("/topic/room/" + here, senderName=seen).json["content"], "x")
    _, k = made(s, ["publish"], name=nasty)
    same(k["name"], seen)
    b = bot(s, "nasty", nickname=nasty)
    same(s.boot.do("GET", "users/nasty")["nickname"], seen)
    same(s.boot.rest("POST", "disconnect", {"userId": "nasty\r\nx"}).status, 422)
    long = "\u00e9" * 40000
    for r in (client.rest(s, None, "POST", path, {"text": "x", "username": long[:4000]}),
              s.boot.rest("POST", "publish", {"to": "ann", "content": "x", "senderName": long}),
              s.boot.rest("POST", "keys", {"name": long, "scopes": ["publish"]}),
              s.boot.rest("POST", "bots", {"userId": "b4", "name": "x", "nickname": long, "scopes": ["publish"]}),
              s.boot.rest("POST", "disconnect", {"userId": "nasty", "reason": long}),
              s.boot.rest("POST", "publish", {"to": "ann", "content": "x", "encrypted": True})):
        same(r.status, 422, r.body)
    for login, where in ((s.boot.login, "/api/server/publish"), ({}, path)):
        r = client.rest(s, None, "POST", where, raw=b"\x1f\x8b" + b"0" * 100,
                        headers={**login, "Content-Encoding": "gzip", "Content-Type": "application/json"})
        same(r.status, 415, r.body)
    for raw in (b'{"text":"\xff"}', b'{"text":"\\u0000"}', b"[" * 10000, b'{"a":' * 5000):
        r = client.rest(s, None, "POST", path, raw=raw)
        assert r.status in (400, 422), (raw[:20], r.status, r.body)
    # A reason of more than one line is one header.
    f = b.device()
    s.boot.do("POST", "disconnect", {"userId": "nasty", "reason": "two\r\nlines:\u001b[31m"}, 204)
    gone = f.wait(lambda f: f.command == "ERROR")
    same([h for h in gone.headers if h.startswith("lines")], [], gone)
    with open(os.path.join(s.dir, "log"), "rb") as log:
        same([x for x in log.read().split(b"\n") if x.startswith(b"INFO fake") or b"\x1b" in x], [])
    d.close()


@test
def every_request_was_signed(s):
    same(s.receiver.faults, [])
    same(len(s.receiver.got["/out"]) > 5, True)


def main():
    workers, store = (sys.argv[1:] + ["4", "sqlite"][len(sys.argv) - 1:])[:2]
    chosen = [t for t in TESTS if not sys.argv[3:] or t.__name__ in sys.argv[3:]]
    receiver = Receiver()
    more = MORE.format(boot=BOOT, scopes=", ".join(SCOPES), url=receiver.url(""), secret=SECRET, plain=PLAIN, old=OLD)
    server = Server(workers, memory="store" if store == "memory" else False, accounts=ACCOUNTS + more)
    server.memory, server.receiver = store == "memory", receiver
    server.boot = Key(server, "ck_boot_" + BOOT)
    for name in ("ann", "bob", "carol", "root"):
        Person(server, name).device().close()
    code = tap(chosen, server)
    receiver.end()
    return code


if __name__ == "__main__":
    sys.exit(main())
