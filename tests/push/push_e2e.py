#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pushes to who is absent, by a real push service and by one that misbehaves.  Prints TAP.

Usage: push_e2e.py [workers [store [test ...]]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml; store:
sqlite or memory.
"""
import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "chat"))
from client import Person, Server, rest, same, tap, until  # noqa: E402
from service import KEYS, Rude, Stock  # noqa: E402

SECRET = "a-secret-of-a-gateway"
NAMES = ["user%02d" % i for i in range(60)]
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def full(fn):
    """With CHATD_FULL=1 alone: it takes a minute, since quiet hours end with one."""
    return test(fn) if os.environ.get("CHATD_FULL") == "1" else fn


def people(s, n):
    """So many whom no other test knows; here once, and gone again."""
    found = [Person(s, s.names.pop()) for _ in range(n)]
    for p in found:
        p.device().close()
    return found


def key_of(s):
    return until(lambda: (lambda a: a.status == 200 and a.json["publicKey"])(rest(s, None, "GET", "/api/push/key")))


def subscribe(who, sub, status=201):
    a = who.rest("POST", "/api/push/subscriptions", {k: v for k, v in sub.items() if k != "clientHash"})
    same(a.status, status, a.body)
    return a.json


def on_stock(s, who):
    sub = s.stock.subscribe(key_of(s))
    subscribe(who, sub)
    return sub


def wants(who, **settings):
    a = who.rest("PUT", "/api/push/settings", settings)
    same(a.status, 200, a.body)
    return a.json


def away(s, who):
    """As soon as the server knows that the user has gone."""
    until(lambda: not rest(s, who, "GET", "/api/chat/users/%s/status" % who.id).json.get("online"), what="gone")


def say(device, **body):
    r = device.send("/app/chat.send", body)
    assert "message-id" in r, r
    return r


def room(owner, *members):
    a = owner.rest("POST", "/api/chat/rooms", {"name": "The Room", "public": True})
    same(a.status, 201, a.body)
    for m in members:
        assert m.rest("POST", "/api/chat/rooms/%s/join" % a.json["id"]).status in (200, 204)
    return a.json["id"]


def nothing_more(get, n, seconds=1.0):
    """The time is over in which it would have come."""
    time.sleep(seconds)
    same(len(get()), n, get())


def number(s, result, of="chatd_push_total"):
    """What that counter stands at; None: how many wait."""
    name = '%s{result="%s"} ' % (of, result) if result else "chatd_push_waiting "
    c = http.client.HTTPConnection(*s.address("metrics"), timeout=20)
    c.request("GET", "/metrics")
    text = c.getresponse().read().decode()
    c.close()
    return next(int(line[len(name):]) for line in text.splitlines() if line.startswith(name))


@test
def who_is_absent_is_told_and_reads_it(s):
    alice, bob = people(s, 2)
    sub = on_stock(s, bob)
    away(s, bob)
    d = alice.device()
    r = say(d, to=bob.id, content="Gr\u00fc\u00dfe \U0001f349")
    got = until(lambda: s.stock.messages(sub), what="a push")
    same(len(got), 1)
    same({k: got[0].get(k) for k in ("type", "id", "with", "sender", "senderName", "unread", "content")},
         {"type": "MESSAGE", "id": r["message-id"], "with": alice.id, "sender": alice.id, "senderName": alice.id.title(),
          "unread": 1, "content": "Gr\u00fc\u00dfe \U0001f349"})
    d.close()


@test
def who_is_there_is_not_told(s):
    alice, bob = people(s, 2)
    sub = on_stock(s, bob)
    here, d = bob.device(), alice.device()
    say(d, to=bob.id, content="here")
    assert here.messages(content="here")
    nothing_more(lambda: s.stock.messages(sub), 0)
    here.close()
    d.close()


@test
def who_was_only_thought_to_be_there_is_told(s):
    alice, bob = people(s, 2)
    sub = on_stock(s, bob)
    d = alice.device()
    here = bob.device()
    here.close()
    say(d, to=bob.id, content="just missed")  # presence lets a reload of the page pass
    got = until(lambda: s.stock.messages(sub), what="a push")
    same((got[0]["content"], len(got)), ("just missed", 1))
    # A visit without reading brings no second one of the same.
    bob.device().close()
    away(s, bob)
    nothing_more(lambda: s.stock.messages(sub), 1, 2)
    bob.rest("DELETE", "/api/push/subscriptions")
    d.close()


@test
def a_conversation_is_told_once_with_its_count(s):
    alice, bob = people(s, 2)
    sub = subscribe(bob, s.rude.sub("/collapse"))
    away(s, bob)
    d = alice.device()
    say(d, to=bob.id, content="m")
    came = until(lambda: s.rude.at("/collapse"), what="a push")
    nothing_more(lambda: s.rude.at("/collapse"), 1)
    headers = came[0][2]
    assert headers["Authorization"].startswith("vapid t=") and ", k=" + key_of(s) in headers["Authorization"]
    same((headers["Content-Encoding"], headers["TTL"], headers["Urgency"]), ("aes128gcm", "86400", "high"))
    # Another message: another push, of the same topic, which replaces the first.
    say(d, to=bob.id, content="more")
    came = until(lambda: len(s.rude.at("/collapse")) == 2 and s.rude.at("/collapse"), what="a second push")
    same(came[0][2]["Topic"], came[1][2]["Topic"])
    assert len(came[0][2]["Topic"]) <= 32
    assert bob.rest("DELETE", "/api/push/subscriptions?id=" + sub["id"]).status == 204
    d.close()


@contextlib.contextmanager
def another(s, settings):
    """A server of its own, whose pushes have these settings: a busy machine takes its time within a grace too."""
    other = Server(s.workers, memory="store" if s.memory else False, accounts=s.block.replace("push: { grace: 200ms,", "push: { %s," % settings))
    other.names, other.rude = list(NAMES), s.rude
    try:
        yield other
    finally:
        code, text = other.stop()
    same(code, 0, text[-2000:])


@test
def within_the_grace_one_may_say_more_come_back_or_read(s):
    with another(s, "grace: 4s") as t:
        alice, much, back, reads, last = people(t, 5)
        for p in (much, back, reads, last):
            subscribe(p, s.rude.sub("/grace/" + p.id))
            away(t, p)
        d = alice.device()
        for p in (back, reads):
            say(d, to=p.id, content="there")
        here, reader = back.device(), reads.device()
        reader.send("/app/chat.read", {"with": alice.id, "seq": 1})
        reader.close()
        for i in range(20):
            d.write("SEND", {"destination": "/app/chat.send"}, json.dumps({"to": much.id, "content": "m%d" % i}).encode())
        say(d, to=last.id, content="behind all of it")
        until(lambda: s.rude.at("/grace/" + last.id), what="a push")
        until(lambda: s.rude.at("/grace/" + much.id), what="a push")
        nothing_more(lambda: s.rude.at("/grace/" + much.id), 1)
        same([s.rude.at("/grace/" + p.id) for p in (back, reads)], [[], []])
        here.close()
        d.close()


@test
def rooms_mutes_and_mentions(s):
    owner, all_of_it, called, muted = people(s, 4)
    name = room(owner, all_of_it, called, muted)
    subs = [on_stock(s, p) for p in (all_of_it, called, muted)]
    wants(called, mode="mentions")
    wants(muted, conversations=[{"roomId": name, "mode": "off", "until": int(time.time() * 1000) + 3600000}])
    for p in (all_of_it, called, muted):
        away(s, p)
    d = owner.device()
    say(d, roomId=name, content="to all")
    got = until(lambda: s.stock.messages(subs[0]), what="a push of a room")
    same((got[0]["roomId"], got[0]["roomName"], got[0]["content"]), (name, "The Room", "to all"))
    nothing_more(lambda: s.stock.messages(subs[1]) + s.stock.messages(subs[2]), 0)
    say(d, roomId=name, content="both", mentions=[called.id, muted.id])
    got = until(lambda: s.stock.messages(subs[1]), what="a push of a mention")
    same((got[0]["content"], got[0]["mention"], len(got)), ("both", True, 1))
    nothing_more(lambda: s.stock.messages(subs[2]), 0)
    # The mute has its time; and who has left is told nothing.
    wants(muted, conversations=[{"roomId": name, "mode": "off", "until": 1}])
    assert all_of_it.rest("POST", "/api/chat/rooms/%s/leave" % name).status in (200, 204)
    until(lambda: len(s.stock.messages(subs[0])) == 2, what="who is told of all of it got both")
    say(d, roomId=name, content="after the mute")
    got = until(lambda: s.stock.messages(subs[2]), what="a push after the mute")
    same(got[0]["content"], "after the mute")
    nothing_more(lambda: s.stock.messages(subs[0]), 2)
    d.close()


@test
def who_is_blocked_is_not_told_and_hides_nobody(s):
    alice, bob, eve = people(s, 3)
    name = room(alice, bob, eve)
    sub = on_stock(s, bob)
    same(bob.rest("PUT", "/api/blocks/" + eve.id).status, 204)
    away(s, bob)
    a, e = alice.device(), eve.device()
    heard = say(a, roomId=name, content="lunch?")
    say(e, roomId=name, content="me too")
    got = until(lambda: s.stock.messages(sub), what="a push")
    same([(m["id"], m["sender"]) for m in got], [(heard["message-id"], alice.id)])
    say(e, roomId=name, content="hello?")
    nothing_more(lambda: s.stock.messages(sub), 1)
    a.close()
    e.close()


@test
def off_and_quiet_hours(s):
    alice, bob = people(s, 2)
    sub = on_stock(s, bob)
    d = alice.device()
    wants(bob, mode="off")
    away(s, bob)
    say(d, to=bob.id, content="off")
    nothing_more(lambda: s.stock.messages(sub), 0)
    # Two hours around now, as a clock five hours west of UTC shows them.
    there = time.gmtime(time.time() - 5 * 3600)
    quiet = {"from": "%02d:00" % there.tm_hour, "to": "%02d:00" % ((there.tm_hour + 2) % 24), "offset": -300}
    shown = wants(bob, quiet=quiet)
    same((shown["quiet"], shown["mode"]), (quiet, "all"))
    same(bob.rest("GET", "/api/push/settings").json, shown)
    put_off = number(s, "quiet")
    say(d, to=bob.id, content="quiet")
    until(lambda: number(s, "quiet") > put_off, what="it is put off")
    nothing_more(lambda: s.stock.messages(sub), 0)
    d.close()


@full
def what_quiet_hours_put_off_is_told_when_they_are_over(s):
    alice, bob = people(s, 2)
    sub = on_stock(s, bob)
    # They end with this minute, of which enough must be left.
    now = until(lambda: (lambda t: t if t % 60 < 40 else 0)(time.time()), 60, "a minute with seconds left")
    clock = [time.strftime("%H:%M", time.gmtime(now + 60 * k)) for k in (-1, 1)]
    wants(bob, quiet={"from": clock[0], "to": clock[1], "offset": 0})
    away(s, bob)
    d = alice.device()
    put_off = number(s, "quiet")
    say(d, to=bob.id, content="late at night")
    until(lambda: number(s, "quiet") > put_off, what="it is put off")
    same(s.stock.messages(sub), [])
    got = until(lambda: s.stock.messages(sub), 90, "the push when they are over")
    over = (int(now) // 60 + 1) * 60
    assert time.time() >= over, "told %.1f s early" % (over - time.time())
    same([m["content"] for m in got], ["late at night"])
    bob.rest("DELETE", "/api/push/subscriptions")
    d.close()


@test
def the_text_of_what_is_encrypted_is_not_told(s):
    alice, bob = people(s, 2)
    sub = on_stock(s, bob)
    away(s, bob)
    d = alice.device()
    say(d, to=bob.id, content="c2VjcmV0", encrypted=True, keyId="k1")
    got = until(lambda: s.stock.messages(sub), what="a push")
    assert "content" not in got[0] and got[0]["encrypted"] is True, got
    wants(bob, text=False)
    say(d, to=bob.id, content="for nobody else")
    got = until(lambda: len(s.stock.messages(sub)) == 2 and s.stock.messages(sub), what="a second push")
    assert "content" not in got[1] and "encrypted" not in got[1], got
    d.close()


@test
def a_dead_subscription_goes(s):
    alice, bob = people(s, 2)
    sub = on_stock(s, bob)
    subscribe(bob, s.rude.sub("/gone", 404))
    kept = subscribe(bob, s.rude.sub("/kept"))
    s.stock.expire(sub)
    away(s, bob)
    d = alice.device()
    say(d, to=bob.id, content="x")
    until(lambda: len(s.rude.at("/kept")) == 1, what="a push to the one that lives")
    until(lambda: [x["id"] for x in bob.rest("GET", "/api/push/subscriptions").json["subscriptions"]] == [kept["id"]],
          what="410 and 404 remove")
    d.close()


@test
def what_fails_is_tried_again_three_times_in_all(s):
    alice, bob = people(s, 2)
    bob.rest("DELETE", "/api/push/subscriptions")
    subscribe(bob, s.rude.sub("/later", 503, 201))
    subscribe(bob, s.rude.sub("/never", 500))
    subscribe(bob, s.rude.sub("/no", 403))
    subscribe(bob, s.rude.sub("/busy", (429, {"Retry-After": "2"}), 201))
    away(s, bob)
    d = alice.device()
    say(d, to=bob.id, content="x")
    until(lambda: len(s.rude.at("/never")) == 3, what="three tries")
    until(lambda: [len(s.rude.at(p)) for p in ("/later", "/no", "/busy")] == [2, 1, 2], what="two of what passes")
    nothing_more(lambda: s.rude.at("/never") + s.rude.at("/no"), 4)
    first, second = (c[0] for c in s.rude.at("/busy"))
    assert second - first >= 1.9, "Retry-After was not heeded: %r" % (second - first)
    same(len(bob.rest("GET", "/api/push/subscriptions").json["subscriptions"]), 4)
    bob.rest("DELETE", "/api/push/subscriptions")
    d.close()


@test
def f70_a_push_service_that_misbehaves_holds_up_nobody(s):
    alice, bob, carol = people(s, 3)
    target = s.rude.sub("/target")
    for path, what in (("/stall", "stall"), ("/drip", "drip"), ("/flood", "flood"),
                       ("/redirect", (301, {"Location": target["endpoint"]}))):
        subscribe(bob, s.rude.sub(path, what))
    bad_tls = {"endpoint": s.rude.url("/tls").replace("http:", "https:"), "keys": KEYS}
    subscribe(bob, bad_tls)
    subscribe(carol, s.rude.sub("/good"))
    for p in (bob, carol):
        away(s, p)
    d = alice.device()
    say(d, to=bob.id, content="x")
    until(lambda: all(s.rude.at(p) for p in ("/stall", "/drip", "/flood", "/redirect")), what="each was asked")
    slow = 0
    for i in range(50):
        begin = time.monotonic()
        say(d, to=carol.id, content="chat goes on %d" % i)
        slow += time.monotonic() - begin > 4.5
    # Who waited for the misbehaving ones, 5 s for each of their tries, would do so several times; a machine may stand still once.
    assert slow < 2, slow
    until(lambda: s.rude.at("/good"), what="others are told meanwhile")
    same((s.rude.at("/target"), s.rude.at("/tls"), len(s.rude.at("/redirect"))), ([], [], 1))
    for p in (bob, carol):
        p.rest("DELETE", "/api/push/subscriptions")
    d.close()


@test
def h181_endpoints_that_are_not_allowed(s):
    bob, = people(s, 1)
    bad = ["http://push.example.org/x", "file:///etc/passwd", "gopher://push.example.org/", "https://127.0.0.1/x",
           "https://[::1]/x", "https://169.254.169.254/latest", "https://0/", "https://2130706433/", "https://0x7f.1/",
           "https://10.1.2.3/", "https://[::ffff:127.0.0.1]/", "https://push.example.org:22/x",
           "https://a:b@push.example.org/", "https://push.example.org/" + "a" * 4096, "", "push", None,
           "https:/evil.example/x://push.example.org/", s.rude.url("/x").replace(str(s.rude.port), "1"),
           "https://push.example.org/\r\nX: y"]
    for endpoint in bad:
        sub = {"endpoint": endpoint, "keys": KEYS} if endpoint is not None else {"keys": KEYS}
        a = bob.rest("POST", "/api/push/subscriptions", sub)
        same((a.status, a.json["code"]), (400, "PUSH_ENDPOINT_NOT_ALLOWED"), endpoint)
    # A name that resolves to a private address: it may be taken, and nothing is sent there: fetch refuses the address.
    alice, = people(s, 1)
    bob.rest("DELETE", "/api/push/subscriptions")
    subscribe(bob, {"endpoint": "https://localhost/x", "keys": KEYS})
    away(s, bob)
    d = alice.device()
    refused = number(s, "refused", "chatd_fetch_requests_total")
    say(d, to=bob.id, content="to nobody there")
    until(lambda: number(s, "refused", "chatd_fetch_requests_total") > refused, 60, "the address is refused")
    d.close()
    bob.rest("DELETE", "/api/push/subscriptions")


@test
def h182_keys_that_are_none_and_too_many(s):
    bob, carol = people(s, 2)
    point = bytearray(base64.urlsafe_b64decode(KEYS["p256dh"] + "="))
    point[-1] ^= 1
    off = base64.urlsafe_b64encode(bytes(point)).decode().rstrip("=")
    for keys in ({**KEYS, "p256dh": off}, {**KEYS, "p256dh": KEYS["p256dh"][:-4]}, {**KEYS, "auth": "AAAA"},
                 {**KEYS, "auth": KEYS["auth"] + "AAAA"},
                 {**KEYS, "p256dh": KEYS["p256dh"] + "=" * 4096}, {"auth": KEYS["auth"]}, {**KEYS, "p256dh": 7}, {}, None):
        sub = dict(s.rude.sub("/keys"), keys=keys)
        if keys is None:
            del sub["keys"]
        a = bob.rest("POST", "/api/push/subscriptions", sub)
        same((a.status, a.json["code"]), (400, "PUSH_KEYS_INVALID"), keys)
    a = bob.rest("POST", "/api/push/subscriptions", raw=b"{", headers={"Content-Type": "application/json"})
    same(a.status, 422)
    bob.rest("DELETE", "/api/push/subscriptions")
    for i in range(20):
        subscribe(bob, s.rude.sub("/many/%d" % i))
    subscribe(bob, s.rude.sub("/many/3"), 200)  # the same again
    a = bob.rest("POST", "/api/push/subscriptions", s.rude.sub("/many/20"))
    same((a.status, a.json["code"]), (409, "TOO_MANY"))
    # A browser that somebody else logs in on is theirs from then on.
    subscribe(carol, s.rude.sub("/many/3"))
    same(len(bob.rest("GET", "/api/push/subscriptions").json["subscriptions"]), 19)
    same(bob.rest("DELETE", "/api/push/subscriptions").status, 204)
    same(bob.rest("GET", "/api/push/subscriptions").json, {"subscriptions": []})
    same(rest(s, None, "GET", "/api/push/subscriptions").status, 401)
    same(Person(s).rest("POST", "/api/push/subscriptions", s.rude.sub("/guest")).status, 403)
    carol.rest("DELETE", "/api/push/subscriptions")


@test
def a_gateway_gets_signed_pushes(s):
    alice, bob = people(s, 2)
    bob.rest("DELETE", "/api/push/subscriptions")
    wants(bob)
    s.rude.sub("/hook", 500, 200)
    a = bob.rest("POST", "/api/push/subscriptions", {"kind": "fcm", "token": "device-token", "device": "Phone"})
    same((a.status, a.json["kind"], a.json["device"]), (201, "fcm", "Phone"))
    same(bob.rest("POST", "/api/push/subscriptions", {"kind": "FCM", "token": "x"}).status, 422)
    same(bob.rest("POST", "/api/push/subscriptions", {"kind": "apns"}).status, 422)
    away(s, bob)
    d = alice.device()
    say(d, to=bob.id, content="hello")
    came = until(lambda: len(s.rude.at("/hook")) == 2 and s.rude.at("/hook"), what="the gateway is asked again")
    for _, _, headers, body in came:
        want = "v1=" + hmac.new(SECRET.encode(), headers["Chatd-Timestamp"].encode() + b"." + body,
                                hashlib.sha256).hexdigest()
        same(headers["Chatd-Signature"], want)
        assert abs(int(headers["Chatd-Timestamp"]) - time.time()) < 60
        got = json.loads(body)
        same((got["kind"], got["token"], got["notification"]["content"]), ("fcm", "device-token", "hello"))
    s.rude.plan["/hook"] = [410]
    say(d, to=bob.id, content="again")
    until(lambda: bob.rest("GET", "/api/push/subscriptions").json["subscriptions"] == [], what="410 of a gateway")
    d.close()


@test
def settings_that_are_none(s):
    bob, = people(s, 1)
    for bad in ({"mode": "x"}, {"quiet": {"from": "1"}}, {"conversations": [{"mode": "off"}]}, {"text": 1}):
        a = bob.rest("PUT", "/api/push/settings", bad)
        same((a.status, a.json["code"]), (422, "VALIDATION"), bad)
    same(bob.rest("PUT", "/api/push/settings", raw=b"[]", headers={"Content-Type": "application/json"}).status, 422)


@test
def f70_what_is_over_the_queue_is_counted_and_not_told(s):
    """A server whose queue holds 2: users that wait are as many, the rest are not told, and chat goes on."""
    with another(s, "queue: 2, grace: 5s") as small:
        alice, *absent = people(small, 8)
        for i, p in enumerate(absent):
            subscribe(p, s.rude.sub("/queue/%d" % i))
            away(small, p)
        d = alice.device()
        for i, p in enumerate(absent):
            say(d, to=p.id, content="x")
            if i < 2:  # they are written after the answer
                until(lambda: number(small, None) == i + 1, what="it waits")
        until(lambda: number(small, "full") == 5, what="five are over it")
        same(number(small, None), 2)
        told = until(lambda: (lambda n: n if n >= 2 else 0)(sum(len(s.rude.at("/queue/%d" % i)) for i in range(7))),
                     what="those that fitted are told")
        same(told, 2)
        until(lambda: number(small, None) == 0, what="nothing waits")
        # There is room again.
        say(d, to=absent[-1].id, content="room again")
        until(lambda: s.rude.at("/queue/6"), what="the next one is told")
        same(number(small, "full"), 5)
        d.close()


@test
def what_waits_survives_a_kill(s):
    alice, bob = people(s, 2)
    bob.rest("DELETE", "/api/push/subscriptions")
    before = key_of(s)
    s.rude.plan["/kill"] = ["stall"]
    subscribe(bob, {"endpoint": s.rude.url("/kill"), "keys": KEYS})
    away(s, bob)
    d = alice.device()
    waiting = number(s, None)
    say(d, to=bob.id, content="x")
    if s.memory:
        return
    until(lambda: number(s, None) > waiting or s.rude.at("/kill"), what="it is a record by now")
    s.kill()
    s.rude.plan["/kill"] = [201]
    s.begin()
    same(key_of(s), before, "the key is the same")
    until(lambda: s.rude.at("/kill"), what="a push after the restart")
    bob.rest("DELETE", "/api/push/subscriptions")


def main():
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    memory = len(sys.argv) > 2 and sys.argv[2] == "memory"
    names = sys.argv[3:]
    if not Stock.there():
        print("1..0 # skip web-push-testing is missing; tests/e2e/run installs it")
        return 1 if os.environ.get("CI") == "true" else 0
    stock, rude = Stock(), Rude()
    block = "\n  auth-static:\n    users:\n" + "".join(
        '      - {{ login: {0}, passcode: "{0}", name: "{1}", token: "token-of-{0}-long-enough" }}\n'.format(
            n, n.title()) for n in NAMES)
    block += "  fetch: { outside_allow: [\"%s\", \"%s\"] }\n" % (stock.allow(), rude.allow())
    block += "  presence-memory: { linger: 300ms }\n"
    block += "  push: { grace: 200ms, interval: 100ms, retry: 200ms, hosts: [], subject: \"mailto:a@example.org\", " \
             "webhook_url: \"%s\", webhook_secret: \"%s\" }\n" % (rude.url("/hook"), SECRET)
    block += "  metrics: { listen: [\"127.0.0.1:0\"] }\n"
    s = Server(workers, memory="store" if memory else False, accounts=block)
    s.names, s.block = list(NAMES), block
    s.stock, s.rude, s.memory = stock, rude, memory
    try:
        return tap([t for t in TESTS if not names or t.__name__ in names], s)
    finally:
        stock.stop()
        rude.stop()


if __name__ == "__main__":
    sys.exit(main())
