#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""People who registered with a password: what the plugin users does to them and their logins.  Prints TAP.

Usage: accounts_e2e.py [workers]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml, auth-jwt, auth-password
and users.
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "auth"))
from people import PASSWORD, Account, Server, Socket, auth, tap  # noqa: E402

LIVE = 30.0  # within so many seconds open sessions feel a change, also of a machine that stands still for some
CHEAP = ("auth-password.hash_threads=0", "auth-password.argon2_memory=256 KiB", "auth-password.argon2_passes=1")
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def same(a, b, what=""):
    assert a == b, "%s: %r is not %r" % (what, a, b)


def closes(socket, code):
    begin = time.monotonic()
    same(socket.close_code(), code)
    took = time.monotonic() - begin
    assert took < LIVE, "it took %.1f s" % took


@test
def the_first_administrator_is_somebody_who_registered(s):
    s.root = Account(s, nickname="Root").log_in()
    socket = Socket(s.root)
    with open(os.path.join(s.dir, "admin.code")) as f:
        code = f.read().strip()
    same(s.root.rest("POST", "/api/users/me/admin", {"code": code}).json["roles"], ["admin"])
    same(s.root.rest("GET", "/api/users/me").json["emailVerified"], False)
    assert socket.is_open()  # it goes on as an administrator
    # The token says what it said; the store is asked.
    eve = Account(s).log_in()
    same(s.root.rest("PUT", "/api/users/%s/roles" % eve.id, {"roles": ["moderator"]}).status, 200)


@test
def a_banned_account_is_out_and_stays_out(s):
    account = Account(s)
    login = account.log_in()
    socket = Socket(login)
    same(s.root.rest("POST", "/api/users/%s/ban" % account.id, {"seconds": 3600}).status, 204)
    closes(socket, 4403)
    same(login.rest("GET", "/api/users/me").status in (401, 403), True)
    r = auth(s, "authenticate", {"email": account.address, "password": account.password})
    same((r.status, r.json["code"]), (403, "BANNED"))
    assert login.refresh().status >= 400
    same(s.root.rest("DELETE", "/api/users/%s/ban" % account.id).status, 204)
    again = Socket(account.log_in())  # at once, although the ban was about to reach late logins, too
    assert again.is_open()


@test
def a_moderator_bans_but_not_an_administrator(s):
    mod, victim = Account(s).log_in(), Account(s).log_in()
    same(mod.rest("POST", "/api/users/%s/ban" % victim.id, {}).status, 403)
    s.root.rest("PUT", "/api/users/%s/roles" % mod.id, {"roles": ["moderator"]})
    same(mod.rest("POST", "/api/users/%s/ban" % s.root.id, {}).status, 403)
    same(mod.rest("POST", "/api/users/%s/ban" % victim.id, {"reason": "x"}).status, 204)
    same(mod.rest("DELETE", "/api/users/%s/ban" % victim.id).status, 204)
    s.root.rest("PUT", "/api/users/%s/roles" % mod.id, {"roles": []})
    same(mod.rest("POST", "/api/users/%s/ban" % victim.id, {}).status, 403, "with the token of before")


@test
def nicknames_are_unique_among_the_registered(s):
    one, two = Account(s, nickname="Unique One").log_in(), Account(s).log_in()
    for alike in ("unique ONE", "\uff35nique\u3000One", "Uni\u200bque\u00ad One", "\u202eUnique One\ufeff", " Unique One "):
        r = two.rest("PATCH", "/api/users/me", {"nickname": alike})
        same((r.status, r.json["code"]), (409, "NICKNAME_TAKEN"), alike)
        r = auth(s, "register", {"email": "alike@example.org", "password": PASSWORD, "nickname": alike})
        same((r.status, r.json["code"]), (409, "NICKNAME_TAKEN"), alike)
    same(one.rest("PATCH", "/api/users/me", {"nickname": "UNIQUE one"}).status, 200, "one's own in other letters")
    same(two.rest("GET", "/api/users?q=unique").json["users"],
         [{"userId": one.id, "nickname": "UNIQUE one", "anonymous": False}])


@test
def deleting_takes_a_fresh_login(s):
    account = Account(s)
    old = account.log_in()
    socket = Socket(old)
    end = time.monotonic() + 12  # fresh_login is 10 s here
    while time.monotonic() < end:
        time.sleep(0.5)
    r = old.rest("DELETE", "/api/users/me", {"confirm": account.id})
    same((r.status, r.json["code"]), (403, "FRESH_LOGIN_NEEDED"))
    same(old.refresh().status, 200)
    same(old.rest("DELETE", "/api/users/me", {"confirm": account.id}).status, 403, "a refresh is no login")
    fresh = account.log_in()
    same(fresh.rest("DELETE", "/api/users/me", {"confirm": account.id}).status, 204)
    closes(socket, 4401)
    same([p.rest("GET", "/api/users/me").status for p in (old, fresh)], [401, 401])
    same(auth(s, "authenticate", {"email": account.address, "password": account.password}).status, 401)
    assert old.refresh().status >= 400
    Account(s, account.address)  # the address is free again
    r = s.root.rest("DELETE", "/api/users/me", {"confirm": s.root.id})
    same(r.status in (403, 409), True, "the last administrator")


def main():
    workers = sys.argv[1] if len(sys.argv) > 1 else "1"
    server = Server(workers, *CHEAP, more="  users: {fresh_login: 10s}\n")
    return tap(TESTS, server)


if __name__ == "__main__":
    sys.exit(main())
