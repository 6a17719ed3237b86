#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""People: profiles, roles and bans of the whole server, the first administrator, leaving.  Prints TAP.

Usage: users_e2e.py [workers [store [test ...]]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml, the plugin
users, and store-sqlite, or store-memory if the second argument says "memory".
"""
import glob
import http.client
import json
import os
import re
import sqlite3
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "chat"))
import client  # noqa: E402
from client import Device, Person, Server, same, tap, until  # noqa: E402

NAMES = ("alice", "bob", "carol", "dave", "erin")
ACCOUNTS = "\n  auth-static:\n    users:\n" + "".join(
    '      - {{ login: {0}, passcode: "{0}", name: "{1}", token: "token-of-{0}-long-enough"{2} }}\n'.format(
        n, n.title(), ", admin: true" if n == "root" else "") for n in NAMES + ("root",)) + "  users: {}\n"
LIVE = 30.0  # within so many seconds open sessions feel a change, also of a machine that stands still for some
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def known(s, *names):
    """Accounts are made when somebody logs in."""
    people = [Person(s, n) for n in names]
    for p in people:
        p.device().close()
    return people


def ends(device, seconds=LIVE):
    """The server closes the connection; how: the last frame that came, if any."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            f = device._read(end)
        except (ConnectionError, OSError):
            return last or True
        last = f or last
    return None


def server_log(s):
    s.log.flush()
    with open(os.path.join(s.dir, "log"), "rb") as f:
        return f.read().decode(errors="replace")


def audits(s, **want):
    found = [json.loads(m) for m in re.findall(r"audit (\{.*?\})\s*$", server_log(s), re.M)]
    return [a for a in found if all(a.get(k) == v for k, v in want.items())]


# ---- profiles ---------------------------------------------------------------------------


@test
def people_find_each_other(s):
    alice, bob = known(s, "alice", "bob")
    guest = Person(s)
    r = alice.rest("GET", "/api/users?q=BO")
    same((r.status, r.headers["cache-control"]), (200, "no-store"))
    same(r.json["users"], [{"userId": "bob", "nickname": "Bob", "anonymous": False}])
    same(alice.rest("GET", "/api/users?q=user_").json["users"], [], "guests")
    same([u["anonymous"] for u in alice.rest("GET", "/api/users?q=" + guest.id).json["users"]], [True])
    same(bob.rest("PATCH", "/api/users/me", {"discoverable": False}).json["discoverable"], False)
    same(alice.rest("GET", "/api/users?q=bob").json["users"], [])
    same(alice.rest("GET", "/api/users/bob").json["nickname"], "Bob", "by its id it is known")
    bob.rest("PATCH", "/api/users/me", {"discoverable": True})
    same(client.rest(s, None, "GET", "/api/users?q=bob").status, 401)


@test
def a_profile_is_changed_by_its_owner(s):
    (alice,) = known(s, "alice")
    d = alice.device()
    r = alice.rest("PATCH", "/api/users/me", {"nickname": "Alice L.", "avatar": "/img/a.png"})
    same((r.status, r.json["nickname"], r.json["avatar"]), (200, "Alice L.", "/img/a.png"))
    same(alice.rest("GET", "/api/users/alice").json["avatar"], "/img/a.png")
    d.send("/app/chat.send", {"to": "alice", "content": "who am I"})
    same(d.messages(content="who am I").json["senderName"], "Alice L.", "the open session is called so")
    same(alice.rest("PATCH", "/api/users/me", {"nickname": "system"}).status, 422)
    alice.rest("PATCH", "/api/users/me", {"nickname": "Alice", "avatar": ""})
    d.close()


# ---- power ------------------------------------------------------------------------------

CALLS = [  # method, path, body; nobody, guest, somebody, administrator
    ("GET", "/api/users?q=bob", None, 401, 200, 200, 200),
    ("GET", "/api/users/bob", None, 401, 200, 200, 200),
    ("GET", "/api/users/nobody", None, 401, 404, 404, 404),
    ("GET", "/api/users/me", None, 401, 200, 200, 200),
    ("PUT", "/api/users/carol/roles", {"roles": []}, 401, 403, 403, 200),
    ("PUT", "/api/users/nobody/roles", {"roles": []}, 401, 403, 403, 404),
    ("POST", "/api/users/nobody/ban", {}, 401, 403, 403, 404),
    ("DELETE", "/api/users/carol/ban", None, 401, 403, 403, 204),
    ("POST", "/api/users/me/admin", {"code": "no"}, 401, 403, 403, 403),
    ("DELETE", "/api/users/me", {}, 401, 422, 422, 422),
]


@test
def every_call_asks_who_calls(s):
    known(s, "bob", "carol")
    callers = [None, Person(s), Person(s, "dave"), Person(s, "root")]
    for method, path, body, *expected in CALLS:
        for who, status in zip(callers, expected):
            r = client.rest(s, who, method, path, body)
            same(r.status, status, "%s %s of %s: %s" % (method, path, who and who.id, r.body))


@test
def a_ban_ends_open_sessions_at_once(s):
    bob, root = known(s, "bob", "root")
    devices = [bob.device(), bob.device()]
    same(root.rest("POST", "/api/users/bob/ban", {"seconds": 3600, "reason": "a \"test\"\n"}).status, 204)
    for d in devices:
        assert ends(d), "a device of a banned user is still there"
    (line,) = until(lambda: audits(s, action="user.ban", target="bob", actor="root"), what="it is in the log")
    same((line["detail"], line["address"]), ("a \"test\" ", "127.0.0.1"))
    same(root.rest("DELETE", "/api/users/bob/ban").status, 204)
    until(lambda: len(audits(s, action="user.unban", target="bob")) == 1, what="it is in the log")


@test
def a_banned_guest_does_not_come_back(s):
    guest, root = Person(s), Person(s, "root")
    d = guest.device()
    same(root.rest("POST", "/api/users/%s/ban" % guest.id, {}).status, 204)
    assert ends(d)
    same((guest.rest("GET", "/api/users/me").status, guest.rest("GET", "/api/users/me").json["code"]), (403, "BANNED"))
    again = Device.__new__(Device)
    try:
        again.open(guest)
        raise AssertionError("a banned guest is in: %r" % again.connected)
    except ConnectionError:
        pass
    same([f.headers.get("code") for f in again.frames], ["BANNED"])
    root.rest("DELETE", "/api/users/%s/ban" % guest.id)
    guest.device().close()


@test
def roles_reach_open_sessions_at_once(s):
    """A moderator of the server may read what rooms keep from others; here: its REST rights come with the next login,
    its open session has the role at once, which the record and the profile show."""
    carol, root = known(s, "carol", "root")
    d = carol.device()
    r = root.rest("PUT", "/api/users/carol/roles", {"roles": ["moderator", "support"]})
    same((r.status, r.json["roles"]), (200, ["moderator", "support"]))
    same(carol.rest("GET", "/api/users/me").json["roles"], ["moderator", "support"])
    d.sync()  # it lives on
    same(root.rest("PUT", "/api/users/carol/roles", {"roles": []}).json["roles"], [])
    until(lambda: len(audits(s, action="user.roles", target="carol", detail="moderator support")) == 1, what="it is in the log")
    d.close()


# ---- the first administrator --------------------------------------------------------------


def code_file(s):
    return os.path.join(s.dir, "admin.code")


@test
def the_first_administrator_has_the_code(s):
    (dave,) = known(s, "dave")
    until(lambda: "there is no administrator yet" in server_log(s), what="the code")
    with open(code_file(s)) as f:
        code = f.read().strip()
    same(os.stat(code_file(s)).st_mode & 0o777, 0o600)
    assert code in server_log(s)
    s.kill()
    s.begin()  # it is the same after a restart
    with open(code_file(s)) as f:
        same(f.read().strip(), code)
    if s.memory:
        known(s, "dave")
    same(dave.rest("POST", "/api/users/me/admin", {"code": "0" * 32}).status, 403)

    def admitted():  # the code is put into the store beside the start
        r = dave.rest("POST", "/api/users/me/admin", {"code": code.upper()})
        return None if r.status == 403 else r
    r = until(admitted, what="the code is taken")
    same((r.status, r.json["roles"]), (200, ["admin"]), r.body)
    same(dave.rest("POST", "/api/users/me/admin", {"code": code}).status, 403, "once")
    until(lambda: not os.path.exists(code_file(s)), what="the code is over")
    until(lambda: len(audits(s, action="user.first-admin", actor="dave")) == 1, what="it is in the log")
    # Two at least are needed before one may step down.
    root = Person(s, "root")
    r = root.rest("PUT", "/api/users/dave/roles", {"roles": []})
    same((r.status, r.json["code"]), (409, "LAST_ADMIN"))
    r = dave.rest("DELETE", "/api/users/me", {"confirm": "dave"})
    same((r.status, r.json["code"]), (409, "LAST_ADMIN"))
    if not s.memory:
        s.kill()
        s.begin()
        time.sleep(0.5)
        assert not os.path.exists(code_file(s)), "there is an administrator: no new code"


# ---- leaving ----------------------------------------------------------------------------


@test
def an_export_is_all_that_one_said(s):
    alice, bob = known(s, "alice", "bob")
    d = alice.device()
    room = alice.rest("POST", "/api/chat/rooms", {"name": "exported"}).json["id"]
    for i in range(130):
        where = {"to": "bob"} if i % 2 else {"roomId": room}
        d.send("/app/chat.send", {**where, "content": "export %d \"quoted\"" % i})
    r = alice.rest("GET", "/api/users/me/export")
    same((r.status, r.headers["content-disposition"]), (200, 'attachment; filename="chatd-export.json"'))
    out = r.json
    same(out["profile"]["userId"], "alice")
    assert {"roomId": room, "name": "exported", "role": "owner"} in out["rooms"], out["rooms"]
    assert any(c.get("with") == "bob" for c in out["conversations"])
    mine = [m["message"]["content"] for m in out["messages"] if m["message"]["content"].startswith("export ")]
    same(mine, ["export %d \"quoted\"" % i for i in reversed(range(130))])
    same([m["message"].get("content") for m in bob.rest("GET", "/api/users/me/export").json["messages"]
          if m["message"].get("content", "").startswith("export ")], [], "others' messages")
    d.close()


def rss_kb(s):
    with open("/proc/%d/status" % s.proc.pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


@test
def a_reader_who_stalls_costs_a_page(s):
    (erin,) = known(s, "erin")
    d = erin.device()
    for i in range(1200):
        d.write("SEND", {"destination": "/app/chat.send"},
                json.dumps({"to": "erin", "content": "x" * 7900}).encode())
        if i % 20 == 19:
            d.sync()
    before = rss_kb(s)
    conns = []
    for _ in range(8):
        c = http.client.HTTPConnection(*s.address("http"), timeout=client.WAIT)
        c.request("GET", "/api/users/me/export", headers={"Authorization": "Bearer " + erin.token})
        conns.append(c)
    time.sleep(1)
    grown = rss_kb(s) - before
    if "ASAN_OPTIONS" in os.environ or "TSAN_OPTIONS" in os.environ:
        return  # what was freed is kept for a while there
    assert grown < 32 << 10, "8 exports of 10 MB that nobody reads took %d KiB" % grown
    print("# 8 exports of 10 MB that nobody reads: %d KiB more" % grown)
    same(len(json.loads(conns[0].getresponse().read())["messages"]), 1260)  # with those of sync()
    for c in conns:
        c.close()
    d.close()


@test
def a_deleted_account_is_gone(s):
    alice, bob, carol = known(s, "alice", "bob", "carol")
    room = carol.rest("POST", "/api/chat/rooms", {"name": "left behind"}).json["id"]
    same(bob.rest("POST", "/api/chat/rooms/%s/join" % room).status, 200)
    watch, d = bob.device(), carol.device()
    watch.subscribe("/topic/room/" + room)
    d.send("/app/chat.send", {"roomId": room, "content": "carols secret word"})
    watch.on("/topic/room/" + room, content="carols secret word")
    same(len(bob.rest("GET", "/api/chat/messages/room/" + room).json["messages"]), 1)
    same(carol.rest("DELETE", "/api/users/me", {"confirm": "bob"}).status, 422)
    same(carol.rest("DELETE", "/api/users/me", {"confirm": "carol"}).status, 204)
    assert watch.on("/topic/room/" + room, type="LEAVE", sender="carol"), "the room did not hear it"
    assert ends(d), "a session of a deleted account is still there"
    same(bob.rest("GET", "/api/users/carol").status, 404)
    same(bob.rest("GET", "/api/chat/messages/room/" + room).json["messages"], [])
    members = bob.rest("GET", "/api/chat/rooms/%s/members" % room).json["members"]
    same([(m["userId"], m["role"]) for m in members], [("bob", "owner")])
    until(lambda: len(audits(s, action="user.delete-account", actor="carol")) == 1, what="it is in the log")
    if not s.memory:
        left = 0
        for path in glob.glob(os.path.join(s.dir, "chatd.db")):
            db = sqlite3.connect("file:%s?mode=ro" % path, uri=True)
            left += db.execute("SELECT count(*) FROM msg WHERE body LIKE '%carols secret%'").fetchone()[0]
            db.close()
        same(left, 0, "rows with what she said")
    watch.close()


def main():
    workers = sys.argv[1] if len(sys.argv) > 1 else "1"
    memory = len(sys.argv) > 2 and sys.argv[2] == "memory"
    only = sys.argv[3:]
    tests = [t for t in TESTS if not only or t.__name__ in only]
    server = Server(workers, memory="store" if memory else False, accounts=ACCOUNTS)
    server.memory = memory
    return tap(tests, server)


if __name__ == "__main__":
    sys.exit(main())
