#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every endpoint and destination times every kind of caller, as rights.table says; and that what was heard ends at once
when the right ends.  Prints TAP.

Usage: rights_e2e.py [workers [test ...]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml.
"""
import json
import os
import subprocess
import sys
import uuid

from client import BUILD, QUIET, ROOT, Device, Person, Server, rest, same, tap
from rights import GONE, ask, fill, gaps, listed, pattern, read_table

ACCOUNTS = ["stranger", "invited", "member", "muted", "banned", "kicked", "moder", "owner", "admin", "spare", "newcomer"]
OUTSIDERS = ("guest", "stranger", "banned", "kicked")
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


class Nobody:
    def __init__(self, server):
        self.server, self.id = server, "nobody"

    def rest(self, method, path, body=None, **kw):
        return rest(self.server, None, method, path, body, **kw)


class Cast:
    """The callers, logged in once."""

    def __init__(self, server):
        self.server = server
        self.people = {n: Person(server, n) for n in ACCOUNTS}
        self.people.update(guest=Person(server), gmember=Person(server))
        self.devices = {}
        for name, person in self.people.items():
            d = self.devices[name] = Device.bare(person)
            d.subscribe("/user/queue/errors")
        self.people["nobody"] = Nobody(server)
        self.devices["nobody"] = None

    def do(self, who, method, path, body=None, statuses=(200, 201, 204)):
        r = self.people[who].rest(method, path, body)
        assert r.status in statuses, (who, method, path, r.status, r.body)
        return r

    def send(self, who, destination, body):
        r = self.devices[who].send(destination, body)
        assert "code" not in r, (who, destination, r)
        return r

    def close(self):
        for d in self.devices.values():
            if d:
                d.close()


class Room:
    """As the callers find it: members, one muted, one shown out, one banned, one invited, and everybody spoke."""

    MEMBERS = ("gmember", "member", "muted", "banned", "kicked", "moder", "spare")

    def __init__(self, cast, public=True, read_only=False):
        self.cast, self.word = cast, "w" + uuid.uuid4().hex[:12]
        self.id = cast.do("owner", "POST", "/api/chat/rooms", {"name": "a room", "public": public}).json["id"]
        self.base = "/api/chat/rooms/" + self.id
        for name in self.MEMBERS:
            cast.do("owner", "POST", self.base + "/members", {"userId": cast.people[name].id})
        cast.do("owner", "PUT", self.base + "/members/moder/role", {"role": "moderator"})
        everybody = [p.id for n, p in cast.people.items() if n != "nobody"]
        self.messages = {}
        for name in self.MEMBERS + ("owner",):
            r = cast.send(name, "/app/chat.send", {"roomId": self.id, "content": self.word, "mentions": everybody})
            self.messages[name], self.epoch = r["message-id"], r["epoch"]
        cast.send("owner", "/app/chat.pin", {"messageId": self.messages["spare"]})
        cast.do("owner", "POST", self.base + "/mute", {"userId": "muted", "seconds": 600})
        cast.do("owner", "DELETE", self.base + "/members/kicked")
        cast.do("owner", "POST", self.base + "/ban", {"userId": "banned"})
        cast.do("owner", "POST", self.base + "/invite", {"userId": "invited"})
        if read_only:
            cast.do("owner", "PATCH", self.base, {"readOnly": True})

    def remove(self):
        self.cast.do("admin", "DELETE", self.base, statuses=(204, 404))

    def names(self, who):
        theirs = self.messages["spare"]
        return {"room": self.id, "word": self.word, "me": self.cast.people[who].id, "spare": "spare", "banned": "banned",
                "newcomer": "newcomer", "theirs": theirs, "own": self.messages.get(who, theirs), "epoch": self.epoch}


def judge(wrong, row, who, got, token):
    if token != row.cells[who]:
        wrong.append("%s, %s: %s, not %s (%s)" % (row.text, who, token, row.cells[who], got.refusal or got.body[:160]))


def run_section(s, name, make):
    """Asks all of a section; a room that was changed is made anew."""
    cast, wrong, room = s.cast, [], make()
    for row in s.table[name]:
        for who, cell in row.cells.items():
            if cell == "-":
                continue
            names = room.names(who)
            got = ask(row, cast.people[who], cast.devices[who], names)
            token = got.token(cell, (names["room"], names["word"], names["theirs"]))
            judge(wrong, row, who, got, token)
            if name == "private" and who in OUTSIDERS and got.refusal is not None:
                other = ask(row, cast.people[who], cast.devices[who], {**names, **GONE})
                if got.bare(names) != other.bare({**names, **GONE}):
                    wrong.append("%s, %s: %r tells a room from none: %r" % (row.text, who, got.bare(names), other.bare(GONE)))
            if token == "ok" and row.changes():
                room.remove()
                room = make()
    room.remove()
    assert not wrong, "%d cells\n%s" % (len(wrong), "\n".join(wrong))


def everything():
    """What chat.yaml's server says that it answers to."""
    config = os.path.join(ROOT, "config", "chat.yaml")
    return subprocess.run([os.path.join(BUILD, "bin", "chatd"), "-c", config, "--set", "server.log_level=debug",
                           "--list-hooks"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout


@test
def the_table_names_whatever_the_server_answers_to(s):
    missing, stale = gaps(s.table, everything())
    same(missing, [], "served, but in no line of rights.table")
    same(stale, [], "in rights.table, but not served")
    for name in ("private", "missing"):
        same(sorted({r.text for r in s.table["public"]} ^ {r.text for r in s.table[name]}), [], "not in public and " + name)


# Query -> what a page may be told to begin after, of a list that has such; None: that there is more is not told.
PAGED = {
    "/api/audit": "before", "/api/blocks": "after", "/api/reports": "after", "/api/users?q=nobody-at-all": None,
    "/api/chat/conversations": "before", "/api/chat/mentions": "before", "/api/chat/search?q={word}": "before",
    "/api/chat/search?q={word}&roomId={room}": "before", "/api/chat/pins?roomId={room}": "before",
    "/api/chat/messages/room/{room}": "before after", "/api/chat/messages/direct?with=spare": "before after",
    "/api/chat/messages/{theirs}/thread": "before after", "/api/chat/rooms/{room}/members": "after",
    "/api/chat/rooms/{room}/bans": "after"}
# One thing, or as much of it as there may be.
WHOLE = {
    "/api/auth/sessions", "/api/chat/commands", "/api/chat/messages/{message}", "/api/chat/presence", "/api/chat/reads",
    "/api/chat/rooms", "/api/chat/rooms/{id}", "/api/chat/rooms/{id}/hooks", "/api/chat/settings",
    "/api/chat/users/{user}/rooms", "/api/chat/users/{id}/status", "/api/keys", "/api/keys/{id}", "/api/push/key",
    "/api/push/settings", "/api/push/subscriptions", "/api/users/me", "/api/users/me/export", "/api/users/{id}"}
LIMITS = {"-1": 200, "0": 200, "1": 200, "101": 200, "1000000000": 200, "9" * 20: 200,
          "abc": 400, "1e9": 400, "1.5": 400, "": 400, "-": 400, "9" * 2000: 400}
# What is longer is refused by http: a request line has 8 KiB.
CURSORS = ["", "a%20b", "..%2F..", "%27%20OR%201%3D1", "%EF%BC%91", "x" * 6000]


def ask_page(s, path, more):
    return s.cast.people["admin"].rest("GET", path + ("&" if "?" in path else "?") + more)


@test
def every_page_is_asked_for_in_the_same_way(s):
    served = {path for method, path in listed(everything())[0] if method == "GET" and path.startswith("/api/")}
    unknown = [p for p in served if p not in WHOLE and not p.startswith(("/api/files/", "/api/server/")) and not any(
        pattern(p).match(q.partition("?")[0]) for q in PAGED)]
    same(sorted(unknown), [], "served, and neither in PAGED nor in WHOLE")
    same(sorted(WHOLE - served), [], "in WHOLE, but not served")
    room, wrong = Room(s.cast), []
    for path, cursors in PAGED.items():
        path = fill(path, room.names("admin"))
        for limit, status in LIMITS.items():
            r = ask_page(s, path, "limit=" + limit)
            if (r.status, r.status == 200 or r.json["code"]) != (status, True if status == 200 else "VALIDATION"):
                wrong.append((path, "limit=" + limit[:30], r.status, r.body[:120]))
        for cursor in (cursors or "").split():
            for value in CURSORS:
                r = ask_page(s, path, "%s=%s" % (cursor, value))
                if (r.status, r.json.get("code")) != (400, "BAD_CURSOR"):
                    wrong.append((path, "%s=%s" % (cursor, value[:30]), r.status, r.body[:120]))
    room.remove()
    assert not wrong, "%d\n%s" % (len(wrong), "\n".join(map(str, wrong)))


@test
def public_room(s):
    run_section(s, "public", lambda: Room(s.cast))


@test
def read_only_room(s):
    run_section(s, "read-only", lambda: Room(s.cast, read_only=True))


@test
def private_room(s):
    run_section(s, "private", lambda: Room(s.cast, public=False))


@test
def deleted_room_and_none(s):
    class Missing:
        def __init__(self, gone):
            self.room = Room(s.cast, public=False)
            self.room.remove()
            self.gone = gone

        def names(self, who):
            return {**self.room.names(who), **(GONE if self.gone else {})}

        def remove(self):
            pass

    for gone in (True, False):
        run_section(s, "missing", lambda: Missing(gone))


@test
def conversation_of_two_others(s):
    class Direct:
        a, b = "owner", "moder"

        def __init__(self):
            cast, self.word = s.cast, "w" + uuid.uuid4().hex[:12]
            cast.people["party"], cast.devices["party"] = cast.people[self.b], cast.devices[self.b]
            r = cast.send(self.a, "/app/chat.send", {"to": self.b, "content": self.word,
                                                    "mentions": [p.id for n, p in cast.people.items() if n != "nobody"]})
            self.theirs, self.epoch = r["message-id"], r["epoch"]
            cast.send(self.a, "/app/chat.pin", {"messageId": self.theirs})

        def names(self, who):
            return {"a": self.a, "b": self.b, "word": self.word, "theirs": self.theirs, "own": self.theirs,
                    "room": GONE["room"], "epoch": self.epoch, "me": s.cast.people[who].id}

        def remove(self):
            pass

    run_section(s, "direct", Direct)


@test
def anywhere(s):
    class Anywhere:
        def names(self, who):
            return {"spare": "spare", "room": GONE["room"], "word": GONE["room"], "theirs": GONE["theirs"],
                    "me": s.cast.people[who].id}

        def remove(self):
            pass

    run_section(s, "anywhere", Anywhere)


@test
def who_has_left_reads_what_a_stranger_reads(s):
    """Not only those who were shown out."""
    cast, wrong = s.cast, []
    room = Room(cast, public=False)
    cast.do("member", "POST", room.base + "/leave")
    cast.send("muted", "/app/chat.leave", {"roomId": room.id})
    for row in s.table["private"]:
        if row.method not in ("GET", "SUBSCRIBE"):
            continue
        for who in ("member", "muted"):
            names = room.names(who)
            got = ask(row, cast.people[who], cast.devices[who], names)
            token = got.token(row.cells["kicked"], (names["room"], names["word"], names["theirs"]))
            if token != row.cells["kicked"]:
                wrong.append((row.text, who, token))
    same(wrong, [])
    room.remove()


# ---- what was allowed ends -------------------------------------------------------------


OUT = {"kick": lambda c, base: c.do("moder", "DELETE", base + "/members/member"),
       "ban": lambda c, base: c.do("moder", "POST", base + "/ban", {"userId": "member"}),
       "leave": lambda c, base: c.do("member", "POST", base + "/leave")}


@test
def every_subscription_ends_and_no_session(s):
    """Eight devices, so that they are on several workers."""
    cast = s.cast
    for out in OUT.values():
        room = Room(cast, public=False)
        topic = "/topic/room/" + room.id
        devices = [Device.bare(cast.people["member"]) for _ in range(8)]
        for d in devices:
            d.subscribe("/user/queue/errors")
            d.subscribe("/user/queue/messages")
            assert not isinstance(d.subscribe(topic), dict)
        out(cast, room.base)
        cast.send("owner", "/app/chat.send", {"roomId": room.id, "content": "secret"})
        for d in devices:
            d.sync()
            same(d.on(topic, QUIET / 8, content="secret"), None)
            same(d.subscribe(topic)["code"], "NOT_MEMBER", "the session lives")
            d.close()
        room.remove()


def race(s, out, headers, rounds, before):
    """Subscriptions on their way while their right ends: what is said afterwards reaches nobody."""
    cast = s.cast
    devices = [Device.bare(cast.people["member"]) for _ in range(8)]
    for d in devices:
        d.subscribe("/user/queue/errors")
        d.subscribe("/user/queue/messages")
    heard = refused = 0
    for _ in range(rounds):
        room = Room(cast, public=False)
        topic = "/topic/room/" + room.id
        for _ in range(before):
            cast.devices["owner"].write("SEND", {"destination": "/app/chat.send"},
                                        json.dumps({"roomId": room.id, "content": "before"}).encode())
        if before:
            cast.send("owner", "/app/chat.send", {"roomId": room.id, "content": "last before"})
        for i, d in enumerate(devices):
            for k in range(4):
                d.write("SUBSCRIBE", {"id": "x%d" % k, "destination": topic, "receipt": "x%d" % k,
                                      **{n: v.replace("{epoch}", room.epoch) for n, v in headers.items()}})
            if i == len(devices) // 2:
                out(cast, room.base)
        end = int(cast.send("owner", "/app/chat.send", {"roomId": room.id, "content": "secret"})["seq"])
        for d in devices:
            for k in range(4):
                f = d.wait(lambda f: f.headers.get("receipt-id") == "x%d" % k or (
                    f.headers.get("destination") == "/user/queue/errors" and f.json.get("receiptId") == "x%d" % k))
                # A replay that the cut ended says nothing: the subscription is no more.
                refused += f is not None and f.command == "MESSAGE"
                heard += f is not None and f.command == "RECEIPT"
            d.sync()
            late = [f for f in d.frames if f.headers.get("destination") == topic and int(f.headers.get("seq", 0)) >= end]
            same(late, [], "said after the end of the membership")
            for k in range(4):
                d.write("UNSUBSCRIBE", {"id": "x%d" % k})
            d.frames = []
        room.remove()
    for d in devices:
        d.close()
    assert heard and refused, "nothing was raced: %d subscribed, %d refused" % (heard, refused)


@test
def a_subscribe_on_its_way_is_cut_too(s):
    for out in OUT.values():
        race(s, out, {}, 6, 0)


@test
def a_replay_on_its_way_is_cut_too(s):
    for out in OUT.values():
        race(s, out, {"since": "0", "epoch": "{epoch}"}, 3, 300)


def accounts():
    return "\n  auth-static:\n    users:\n" + "".join(
        '      - {{ login: {0}, passcode: "{0}", name: "{0}", token: "token-of-{0}-long-enough", admin: {1} }}\n'.format(
            n, "true" if n == "admin" else "false") for n in ACCOUNTS)


def main():
    workers = sys.argv[1] if len(sys.argv) > 1 else "1"
    tests = [t for t in TESTS if not sys.argv[2:] or t.__name__ in sys.argv[2:]]
    server = Server(workers, "rooms.max_refused=0", accounts=accounts())
    server.table = read_table()
    server.cast = Cast(server)
    return tap(tests, server, server.cast.close)


if __name__ == "__main__":
    sys.exit(main())
