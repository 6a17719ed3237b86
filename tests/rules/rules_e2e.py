#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who may do what, over STOMP and REST, with the rules that plugins/rules/README.md shows.  Prints TAP.

Usage: rules_e2e.py [workers]; the server is $CHATD_BUILD/bin/chatd.
"""
import sys

from served import Device, Person, Server, call, config, put, run, same

TESTS = []
GUEST, USER, ADMIN = "guest", "user", "admin"
ALL = (GUEST, USER, ADMIN)
ACCOUNTS = (USER, ADMIN)


def test(fn):
    TESTS.append(fn)
    return fn


def somebody(server, kind):
    return Person(server, {GUEST: None, USER: "alice", ADMIN: "root"}[kind])


# ---- the table of rights, as data ------------------------------------------------------

# who may; what others get is FORBIDDEN
SENDS = [
    ("/app/chat.send", ALL), ("/app/chat.sendMessage", ALL), ("/app/chat.typing", ALL), ("/app/chat.read", ALL),
    ("/app/chat.join", ALL), ("/app/chat.leave", ALL), ("/app/chat.edit", ALL), ("/app/chat.delete", ALL),
    ("/app/chat.react", ALL), ("/app/no.such.name", ALL),
    ("/topic/public", ()), ("/topic/room/lobby", ()), ("/topic/x", ()), ("/queue/x", ()),
    ("/user/queue/messages", ()), ("/user/bob/queue/messages", ()), ("/user/", ()), ("/exchange/x", ()),
    ("/amq/queue/x", ()), ("/temp-queue/x", ()), ("/reply-queue/x", ()), ("/dsub/x", ()),
    ("//app/chat.send", ()), ("/APP/chat.send", ()), ("/app%2Fchat.send", ()), ("/topic/../app/chat.send", ()),
    ("/./app/chat.send", ()),
]

SUBSCRIBES = [
    ("/user/queue/messages", ALL), ("/user/queue/errors", ALL), ("/user/queue/typing", ALL), ("/user/queue/read", ALL),
    ("/user/queue/rooms", ALL), ("/user/queue/presence", ALL), ("/topic/room/lobby", ALL), ("/topic/public", ALL),
    ("/topic/publicity", ()), ("/topic/x", ()), ("/queue/x", ()), ("/queue/messages-userx", ()),
    ("/user/bob/queue/messages", ()), ("/user/", ()), ("/app/chat.send", ()), ("/exchange/x", ()),
    ("/TOPIC/public", ()), ("/topic//public", ()), ("//topic/public", ()), ("/topic/./room/lobby", ()),
    ("/topic/%70ublic", ()), ("/topic%2Fpublic", ()), ("/topic/./public", ()), ("/topic\uff0fpublic", ()),
    ("/user/queue/../../topic/x", ALL),  # byte by byte that is an own queue of a funny name
]

# Refused by the rules for the others; those who may, the rooms may still refuse (who is no member, say)
CALLS = [
    ("GET", "/api/chat/rooms", ALL), ("GET", "/api/chat/rooms/lobby", ALL), ("GET", "/api/chat/rooms/lobby/members", ALL),
    ("POST", "/api/chat/rooms/lobby/join", ALL), ("POST", "/api/chat/rooms/lobby/leave", ALL),
    ("POST", "/api/chat/rooms", ACCOUNTS),
    ("GET", "/api/chat/conversations", ALL), ("GET", "/api/chat/messages/room/lobby", ALL),
    ("GET", "/api/chat/search?q=x", ALL),
]
# A user is no moderator of the lobby: what rules let through, rooms may still refuse.  Guests do not get that far.
MANAGING = [
    ("PATCH", "/api/chat/rooms/lobby"), ("DELETE", "/api/chat/rooms/lobby"), ("POST", "/api/chat/rooms/lobby/members"),
    ("PUT", "/api/chat/rooms/lobby/members/bob/role"),
    ("POST", "/api/chat/rooms/lobby/invite"), ("POST", "/api/chat/rooms/lobby/ban"), ("POST", "/api/chat/rooms/lobby/mute"),
    ("POST", "/api/chat/%72ooms"), ("POST", "/%61pi/chat/rooms"), ("PATCH", "/api/chat/rooms/%6cobby"),
]
# Other paths are no other way in: there is nothing there.
NOWHERE = [
    "/api/../api/chat/rooms", "/api//chat/rooms", "//api/chat/rooms/x", "/api/chat/rooms/", "/API/chat/rooms", "/api/chat/Rooms",
    "/api/chat%2Frooms", "/api/chat/rooms.", "/api/chat/./rooms", "/api/chat/rooms/%2e%2e/rooms", "/api/chat/rooms;x",
    "/api/chat/rooms%20", "/api/chat/rooms/lobby/%2e%2e/lobby/ban",
]


@test
def sends_by_the_table_h104(server):
    for kind in ALL:
        d = Device(somebody(server, kind))
        for dest, who in SENDS:
            code = d.send(dest, {}).get("code")
            if kind in who:
                assert code != "FORBIDDEN", (kind, dest, code)
            else:
                same(code, "FORBIDDEN", (kind, dest))
        same(d.send("/app/chat.send", {"to": "bob", "content": "still here"}).get("code"), None)
        d.close()


@test
def subscriptions_by_the_table_h105_h107(server):
    for kind in ALL:
        d = Device.bare(somebody(server, kind))
        assert isinstance(d.subscribe("/user/queue/errors"), str)
        for dest, who in SUBSCRIBES:
            got = d.subscribe(dest)
            if kind in who:
                assert isinstance(got, str) or got["code"] != "FORBIDDEN", (kind, dest, got)
            else:
                same(got["code"] if isinstance(got, dict) else got, "FORBIDDEN", (kind, dest))
        d.close()


@test
def wildcards_are_no_destinations_h108(server):
    for dest in ("/topic/*", "/topic/room/*", "/topic/#", "/topic/>", "/topic/**", "/topic/+"):
        d = Device.bare(somebody(server, USER))
        d.write("SUBSCRIBE", {"id": "1", "destination": dest, "receipt": "r"})
        f = d.wait(lambda f: f.command in ("ERROR", "RECEIPT"))
        same(f.command, "ERROR", dest)
        d.close()


@test
def what_is_no_destination_ends_the_connection_h107(server):
    for dest in ("app/chat.send", "\uff0fapp/chat.send", "", "topic"):
        d = Device.bare(somebody(server, USER))
        d.write("SEND", {"destination": dest, "receipt": "r"}, b"{}")
        same(d.wait(lambda f: f.command in ("ERROR", "RECEIPT")).command, "ERROR", dest)
        d.close()


@test
def no_way_leads_round_the_name_of_a_room(server):
    d = Device.bare(somebody(server, USER))
    d.subscribe("/user/queue/errors")
    for dest in ("/topic/room/../public", "/topic/room/", "/topic/room//", "/topic/room/lobby/", "/topic/room/LOBBY",
                 "/topic/room/%6cobby", "/topic/room/lobby%00", "/topic/room/../room/lobby"):
        got = d.subscribe(dest)
        assert isinstance(got, dict) and got["code"] in ("FORBIDDEN", "NOT_FOUND", "NOT_MEMBER"), (dest, got)
    d.close()


@test
def nobody_hears_what_was_refused(server):
    bob, alice = Device(Person(server, "bob")), Device(Person(server, "alice"))
    assert isinstance(bob.subscribe("/topic/public"), str)
    for dest in ("/user/bob/queue/messages", "/topic/public", "/topic/room/lobby", "/queue/x"):
        same(alice.send(dest, {"content": "forged"}).get("code"), "FORBIDDEN", dest)
    bob.sync()
    assert not [f for f in bob.frames if b"forged" in f.body], bob.frames
    bob.close()
    alice.close()


@test
def a_refusal_leaves_the_other_subscriptions_alone(server):
    bob, alice = Device(Person(server, "bob")), Device(Person(server, "alice"))
    same(bob.subscribe("/topic/secret")["code"], "FORBIDDEN")
    same(bob.send("/queue/x", {})["code"], "FORBIDDEN")
    alice.send("/app/chat.send", {"to": "bob", "content": "hello"})
    assert bob.messages(content="hello")
    bob.close()
    alice.close()


@test
def calls_by_the_table(server):
    for kind in ALL:
        p = somebody(server, kind)
        for method, path, who in CALLS:
            a = call(server, method, path, p.token, {})
            refused = b"you may not call" in a.body
            same((refused, refused and a.status), (kind not in who, kind not in who and 403), (kind, method, path, a.body))


@test
def managing_is_not_for_guests(server):
    guest, user = somebody(server, GUEST), somebody(server, USER)
    for method, path in MANAGING:
        a = call(server, method, path, guest.token, {})
        same((a.status, a.json["code"]), (403, "FORBIDDEN"), (method, path))
        assert "as a guest; log in with an account" in a.json["detail"], (method, path, a.json)
        same(a.headers["content-type"], "application/problem+json")
        a = call(server, method, path, user.token, {})
        assert "guest" not in a.body.decode(), (method, path, a.body)


@test
def other_spellings_lead_nowhere_t07(server):
    for kind in ALL:
        p = somebody(server, kind)
        for path in NOWHERE:
            for method in ("GET", "POST"):
                status = call(server, method, path, p.token, {}).status
                assert status in (400, 404, 405), (kind, method, path, status)


@test
def without_credentials_public_routes_are_open_and_others_ask_for_them(server):
    same(call(server, "POST", "/api/auth/anonymous", None, {}).status, 200)
    same(call(server, "GET", "/api/chat/health").status, 200)
    same(call(server, "POST", "/api/chat/rooms", None, {"name": "x"}).status, 401)


@test
def rules_can_close_routes_and_open_topics(workers):
    own = """  rules:
    rules:
      - { deny: call, prefix: /api/auth/anonymous }
      - { allow: send, prefix: /topic/public, who: [admin] }
      - { allow: send, prefix: /app/ }
      - { allow: subscribe, prefix: /topic/public }
      - { allow: subscribe, prefix: /user/queue/ }
      - { deny: call, prefix: "/api/chat/rooms/{id}", methods: [GET] }
      - { allow: call, prefix: /api/chat/rooms }
    fallback_call: deny
"""
    base = config("rules")
    server = Server(workers, edit=lambda text: put(base(text), own))
    try:
        for path in ("/api/auth/anonymous", "/api/auth/%61nonymous"):
            a = call(server, "POST", path, None, {})
            same((a.status, a.json["code"]), (403, "FORBIDDEN"), path)
        root, alice = somebody(server, ADMIN), somebody(server, USER)
        bob = Device(Person(server, "bob"))
        bob.subscribe("/topic/public")
        d = Device(root)
        same(d.send("/topic/public", {"content": "all hands"}).get("code"), None)
        assert bob.on("/topic/public", content="all hands")
        same(Device(alice).send("/topic/public", {})["code"], "FORBIDDEN")
        same(call(server, "GET", "/api/chat/rooms", alice.token).status, 200)
        same(call(server, "GET", "/api/chat/rooms/lobby", alice.token).status, 403)
        same(call(server, "GET", "/api/chat/conversations", alice.token).status, 403)
        same(call(server, "GET", "/api/chat/health").status, 200)
    finally:
        same(server.stop()[0], 0)


def main():
    workers = sys.argv[1] if len(sys.argv) > 1 else "1"
    server = Server(workers, edit=config("rules"))
    own = [t for t in TESTS if t is rules_can_close_routes_and_open_topics]

    def with_own(_):
        own[0](workers)
    with_own.__name__ = own[0].__name__

    def ends(_):
        same(server.stop()[0], 0)
    ends.__name__ = "the server ends cleanly"
    return run([t for t in TESTS if t not in own] + [with_own, ends], server)


if __name__ == "__main__":
    sys.exit(main())
