# SPDX-License-Identifier: Apache-2.0
"""F59: rights and logins that end on one node, and the sockets that had them, which are on another."""
import concurrent.futures
import os
import re
import sys
import time

from harness import HERE, Person, wait_for

sys.path.insert(0, os.path.join(os.path.dirname(HERE), "auth"))
from people import Account, rest  # noqa: E402  found by way of harness

PUBLIC = "/topic/public"
ACTS = []


def act(fn):
    """fn(w) gets ready and returns (what ends it, how long it took until nothing got through any more)."""
    ACTS.append(fn)
    return fn


def closed(device, why, seconds):
    """It is closed, and says so; when."""
    begin = time.monotonic()
    try:
        f = device.wait(lambda f: f.command == "ERROR", seconds)
        assert f, "still open after %g s" % seconds
        assert re.search(why, f.headers["message"]), f
        device.wait(lambda f: False, 5)
    except ConnectionError:
        return time.monotonic() - begin
    raise AssertionError("an ERROR, and still open")


def ends_with(device, why):
    return lambda seconds: closed(device, why, seconds)


class World:
    """Everybody does what they do on the first node; their sockets are on the second."""

    def __init__(self, cluster):
        self.here, self.there = cluster.nodes[0], cluster.nodes[1]
        admin = Account(self.here)
        self.admin = admin.log_in()
        if not hasattr(cluster, "admin"):
            # Each start of a node puts its own code in the place of the one before.
            said = [m for n in cluster.nodes for m in re.findall(r'^(\S+Z) .*"code":"([0-9a-f]+)"', n.text(), re.M)]
            codes = list(dict.fromkeys(code for _, code in sorted(said, reverse=True)))
            answers = [self.admin.rest("POST", "/api/users/me/admin", {"code": c}).status for c in codes[:4]]
            assert 200 in answers, answers
            cluster.admin = admin
        self.admin = cluster.admin.log_in()

    def somebody(self, **more):
        return Account(self.here, **more)

    def device(self, login):
        d = Person.__new__(Person)
        d.server, d.id, d.token, d.login = self.there, login.id, getattr(login, "token", None), login.login
        return d.device()


@act
def logout(w):
    login = w.somebody().log_in()
    return lambda: login.auth("logout"), ends_with(w.device(login), "logged out")


@act
def a_device_is_ended_from_another_one(w):
    who = w.somebody()
    one, two = who.log_in(), who.log_in()
    stays = w.device(two)

    def ended(seconds, gone=w.device(one)):
        took = closed(gone, "logged out", seconds)
        stays.sync()
        return took
    return lambda: two.auth("sessions/" + one.session, method="DELETE"), ended


@act
def a_refresh_token_is_used_twice(w):
    login = w.somebody().log_in()
    spent = login.refresh_token
    login.refresh()
    login.refresh()
    device = w.device(login)
    login.refresh_token = spent
    return login.refresh, ends_with(device, "")


@act
def the_password_is_changed(w):
    who = w.somebody()
    login, other = who.log_in(), who.log_in()
    sockets = [w.device(other), w.device(who)]  # by token, and by password
    stays = w.device(login)

    def ended(seconds):
        took = max(closed(d, "", seconds) for d in sockets)
        stays.sync()
        return took
    return lambda: login.auth("password", {"old": who.password, "new": "another horse battery"}), ended


@act
def a_ban(w):
    who = w.somebody().log_in()
    return lambda: w.admin.rest("POST", "/api/users/%s/ban" % who.id, {"seconds": 600}), ends_with(w.device(who), "banned")


@act
def an_account_is_deleted(w):
    who = w.somebody()
    login = who.log_in()
    return lambda: login.rest("DELETE", "/api/users/me", {"confirm": who.id}), \
        ends_with(w.device(login), "account deleted|logged out")


@act
def a_role_is_taken_away(w):
    who = w.somebody()
    roles = "/api/users/%s/roles" % who.id
    assert w.admin.rest("PUT", roles, {"roles": ["admin"]}).status == 200
    device = w.device(who.log_in())
    assert "message-id" in device.send(PUBLIC, b"still an administrator")

    def ended(seconds):
        begin = time.monotonic()
        wait_for(lambda: device.send(PUBLIC, b"and still").get("code") == "FORBIDDEN", seconds, "no administrator any more")
        took = time.monotonic() - begin
        assert took <= seconds, "%.1f s" % took
        device.close()
        return took
    return lambda: w.admin.rest("PUT", roles, {"roles": []}), ended


@act
def shown_out_of_a_room(w):
    owner, who = w.admin, w.somebody().log_in()
    room = owner.rest("POST", "/api/chat/rooms", {"name": "r", "public": False}).json["id"]
    assert owner.rest("POST", "/api/chat/rooms/%s/members" % room, {"userId": who.id}).status == 201
    device, topic = w.device(who), "/topic/room/" + room
    device.subscribe(topic)
    speaker = Person.__new__(Person)
    speaker.server, speaker.id, speaker.login = w.here, owner.id, owner.login
    speaker = speaker.device()

    def ended(seconds):
        time.sleep(seconds)
        speaker.send("/app/chat.send", {"roomId": room, "content": "between us"})
        speaker.close()
        assert not device.on(topic, 0.7, content="between us"), "it hears what is said after the deadline"
        device.close()
        return seconds
    return lambda: owner.rest("DELETE", "/api/chat/rooms/%s/members/%s" % (room, who.id)), ended


def all_at_once(w, seconds):
    """Each row of the table: done on one node, and effective on the other within so long."""
    rows = [(fn.__name__, *fn(w)) for fn in ACTS]
    yield
    with concurrent.futures.ThreadPoolExecutor(len(rows)) as pool:
        def run(row):
            answer = row[1]()
            assert getattr(answer, "status", 200) in (200, 204, 401), (row[0], answer.status, answer.body)
            return row[2](seconds)
        took = [(row[0], pool.submit(run, row)) for row in rows]
    bad = []
    for name, f in took:
        try:
            print("# %s: %.2f s" % (name.replace("_", " "), f.result()))
        except Exception as why:
            bad.append("%s: %r" % (name, why))
    assert not bad, "\n".join(bad)


def table(cluster, seconds, between=lambda: None):
    for _ in all_at_once(World(cluster), seconds):
        between()


def for_good(cluster, forget):
    """G-RED-3: what was revoked stays so when Redis has forgotten everything: the store knows."""
    w = World(cluster)
    stays, gone, banned = (w.somebody().log_in() for _ in range(3))
    assert gone.auth("logout").status in (200, 204)
    assert w.admin.rest("POST", "/api/users/%s/ban" % banned.id, {"seconds": 600}).status in (200, 204)
    forget()

    def asks(node, login):
        return rest(node, login, "GET", "/api/chat/rooms").status
    for node in (w.here, w.there):
        assert asks(node, stays) == 200, asks(node, stays)
        for login in (gone, banned):
            wait_for(lambda n=node, x=login: asks(n, x) in (401, 403), 5, "refused on " + node.id)
    for login in (gone, banned):
        assert login.refresh().status in (401, 403), "a refresh token of before"
