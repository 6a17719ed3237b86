#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two nodes with api, webhooks, slash, privacy, keys and moderation: what is done on one of them is so on the other.
Speaks TAP.

usage: cluster_e2e.py [WORKERS [TEST ...]]"""
import base64
import concurrent.futures
import ctypes
import os
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "chat"), os.path.join(HERE, "..")]
import client  # noqa: E402
from api_e2e import ACCOUNTS, BOOT, SCOPES, Key, bot, made, room, same  # noqa: E402
from backends.base import IN_CI, Missing  # noqa: E402
from backends.cluster import Cluster, tap  # noqa: E402
from client import Person  # noqa: E402
from receiver import SECRET, Receiver  # noqa: E402

LIVE = client.WAIT
LEASE = 4.0  # of a machine that may stand still; longer than any request takes
TESTS = []

MORE = """  api:
    recheck: 1s
    keys:
      - {{ id: boot, secret: {boot}, scopes: [{scopes}] }}
  fetch: {{}}
  presence-redis: {{ linger: 300ms }}
  slash:
    commands:
      - {{ name: ask, help: "[TEXT]: asks the other side", url: "{url}/cmd", secret: "{secret}", bot: Oracle }}
  webhooks:
    retry_min: 50ms
    retry_max: 200ms
    lease: {lease:.0f}ms
    outgoing:
      - {{ name: all, url: "{url}/out", secret: "{secret}", events: [message, change, room, presence], direct: true,
          timeout: 3s }}
"""


def test(fn):
    TESTS.append(fn)
    return fn


def until(fn, what, seconds=LIVE):
    """What fn() returns once it is true."""
    end = time.monotonic() + seconds
    while True:
        found = fn()
        if found:
            return found
        assert time.monotonic() < end, what
        time.sleep(0.02)


def at(c, name, node):
    return Person(c.nodes[node], name)


def ok(r, *want):
    assert r.status in (want or (200,)), (r.status, r.body)
    return r.json if r.body else None


def on_other_node(key, node):
    return Key(node, key.token, key.id)


# ---- api ------------------------------------------------------------------------------------


@test
def a_key_is_good_on_both_nodes_and_revoked_on_both(c):
    one, two = c.nodes
    k, made_key = made(one, ["publish"])
    there = on_other_node(k, two)

    def answers():  # of enough calls to come to all workers, each of which remembers keys
        return {there.rest("POST", "publish", {"to": "ann", "content": "with a key of the other node"}).status for _ in range(12)}
    same(answers(), {200})
    talker = bot(one, "talker")
    session = on_other_node(talker, two).device()
    (bots,) = [x for x in two.boot.do("GET", "bots")["keys"] if x["bot"] == "talker"]
    one.boot.do("DELETE", "keys/" + made_key["id"], None, 204)
    one.boot.do("DELETE", "keys/" + bots["id"], None, 204)
    until(lambda: answers() == {401}, "the other node takes a key that was revoked")

    def ended():
        try:
            return session._read(time.monotonic() + 0.1) is None and False
        except (ConnectionError, OSError):
            return True
    until(ended, "the session of a key that was revoked goes on")


@test
def what_a_back_end_says_on_one_node_is_heard_on_the_other(c):
    one, two = c.nodes
    a, b = at(c, "ann", 0).device(), at(c, "bob", 1).device()
    for d in (a, b):
        d.subscribe("/topic/public")
    r = one.boot.do("POST", "publish", {"to": "bob", "content": "to the other node", "clientId": "c-1"})
    same(b.messages(content="to the other node").json["id"], r["messageId"])
    again = two.boot.do("POST", "publish", {"to": "bob", "content": "to the other node", "clientId": "c-1"})
    same(again["messageId"], r["messageId"], "sent through both nodes, delivered once")
    same(b.quiet("/user/queue/messages"), True)
    one.boot.do("POST", "broadcast", {"content": "to everybody"})
    for d in (a, b):
        same(d.on("/topic/public", content="to everybody").json["sender"], "SYSTEM")
    here = room(one, "ann", ["bob"])
    b.subscribe("/topic/room/" + here)
    r = two.boot.do("POST", "broadcast", {"content": "to some", "rooms": [here], "users": ["ann"]})
    same((len(r["answers"]), r["failed"]), (2, 0), r)
    a.messages(content="to some")
    b.on("/topic/room/" + here, content="to some")
    r = two.boot.do("POST", "batch", {"calls": [{"path": "publish", "body": {"to": "ann", "content": "of a batch"}},
                                                {"path": "presence?users=ann,bob"}]})["answers"]
    same([x["status"] for x in r], [200, 200])
    same([u["online"] for u in r[1]["body"]["users"]], [True, True], "whoever is on whichever node")
    a.messages(content="of a batch")
    helper = bot(one, "helper")
    ok(at(c, "ann", 0).rest("POST", "/api/chat/rooms/%s/members" % here, {"userId": "helper"}), 201)
    on_other_node(helper, two).do("POST", "publish", {"roomId": here, "content": "a bot of the other node"})
    same(b.on("/topic/room/" + here, content="a bot of the other node").json["bot"], True)
    one.boot.do("POST", "disconnect", {"userId": "bob", "reason": "come back later"}, 204)
    f = b.wait(lambda f: f.command == "ERROR")
    same("come back later" in (f.headers.get("message", "") + f.body.decode()), True, f)
    a.close()
    b.close()


# ---- webhooks -------------------------------------------------------------------------------


@test
def what_is_posted_at_one_node_is_seen_on_the_other(c):
    one, two = c.nodes
    here = room(one, "ann", ["bob"])
    path = ok(at(c, "ann", 0).rest("POST", "/api/chat/rooms/%s/hooks" % here, {"name": "CI"}), 201)["path"]
    b = at(c, "bob", 1).device()
    b.subscribe("/topic/room/" + here)
    for node, said in ((one, "built here"), (two, "built there")):
        x = ok(client.rest(node, None, "POST", path, {"text": said}))
        m = b.on("/topic/room/" + here, content=said).json
        same((m["senderName"], m["bot"], m["id"]), ("CI", True, x["messageId"]))
    (hook,) = ok(at(c, "ann", 1).rest("GET", "/api/chat/rooms/%s/hooks" % here))["hooks"]
    ok(at(c, "ann", 1).rest("DELETE", "/api/chat/rooms/%s/hooks/%s" % (here, hook["id"])), 204)
    same(client.rest(one, None, "POST", path, {"text": "x"}).status, 404, "it was removed on the other node")
    b.close()


def told(got, begin, repeats=False):
    """What was said in messages that begin so, in the order in which it was told; `repeats`: without those."""
    seen, out = set(), []
    for e in got.events():
        content = e["data"].get("content", "") if e["type"] == "message.created" else ""
        if content.startswith(begin) and not (repeats and e["id"] in seen):
            seen.add(e["id"])
            out.append(content)
    return out


def talk(person, n, begin, to):
    d = person.device()
    for i in range(n):
        r = d.send("/app/chat.send", {"to": to, "content": "%s %02d" % (begin, i)})
        assert "message-id" in r, r
    d.close()


def both_talk(c, n, begin):
    """Ann on one node and bob on the other, each into a conversation of their own."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for f in [pool.submit(talk, at(c, who, node), n, "%s %s" % (begin, who), to)
                  for node, (who, to) in enumerate((("ann", "carol"), ("bob", "root")))]:
            f.result()


def in_order(got, begin, n, repeats=False):
    for who in ("ann", "bob"):
        mine = "%s %s" % (begin, who)
        same(told(got, mine, repeats), ["%s %02d" % (mine, i) for i in range(n)])


@test
def each_row_is_told_once_and_in_order_whichever_node_wrote_it(c):
    got = c.receiver
    both_talk(c, 40, "told")
    until(lambda: len(told(got, "told")) >= 80, "everything is told")
    here = room(c.nodes[0], "ann", ["bob"])
    a, b = at(c, "ann", 0).device(), at(c, "bob", 1).device()
    m = a.send("/app/chat.send", {"roomId": here, "content": "a room's"})["message-id"]
    for d, dest, more in ((b, "react", {"reaction": "+1"}), (a, "edit", {"content": "changed"}), (a, "delete", {})):
        d.send("/app/chat." + dest, {"messageId": m, **more})
    until(lambda: [e for e in got.events() if e["type"] == "message.deleted" and e["data"]["messageId"] == m], "the change")
    a.close()
    b.close()
    until(lambda: [e for e in got.events() if e["type"] == "user.presence" and e["userId"] == "bob" and not e["online"]],
          "who went on the other node")
    time.sleep(0.3)
    in_order(got, "told", 40)
    events = got.events()  # of presence too: both nodes hear of each change, and one record is kept
    ids = [e["id"] for e in events]
    same(len(set(ids)), len(ids), "each row once")
    seqs = [e["seq"] for e in events if e.get("roomId") == here]
    same(seqs, sorted(seqs))
    same(got.faults, [])


def owner(c):
    """Which node has the lease of the target, by what the store says."""
    value = c.postgres.sql("SET search_path TO chatd; SELECT convert_from(value, 'UTF8') FROM record WHERE space='webhooks.out'")
    return [n for n in c.nodes if '"owner":"%s"' % n.id in value]


@test
def a_node_that_dies_while_it_tells_loses_nothing(c):
    got = c.receiver
    gate = threading.Event()
    got.answers["/out"] = lambda _: (gate.wait(20), (200, {}))[1]
    both_talk(c, 10, "before")
    (dead,) = until(lambda: owner(c), "a request is under way")
    i = c.nodes.index(dead)
    lives = c.nodes[1 - i]
    dead.kill()
    gate.set()
    talk(Person(lives, "ann"), 10, "after ann", "carol")
    until(lambda: "after ann 09" in told(got, "after"), "the other node goes on", LEASE + LIVE)
    dead.begin()
    talk(at(c, "bob", i), 10, "after bob", "root")
    until(lambda: "after bob 09" in told(got, "after bob"), "and what the first one writes when it is back")
    in_order(got, "before", 10, repeats=True)
    in_order(got, "after", 10, repeats=True)


# ---- slash, privacy, keys, moderation ---------------------------------------------------------


@test
def commands_are_answered_whichever_node_asks(c):
    here = room(c.nodes[0], "ann", ["bob"])
    a, b = at(c, "ann", 0).device(), at(c, "bob", 1).device()
    a.subscribe("/topic/room/" + here)
    c.receiver.answers["/cmd"] = lambda q: (200, {"text": "said for " + q["user"]["id"], "response_type": "in_channel"})
    r = b.send("/app/chat.send", {"roomId": here, "content": "/ask"})
    m = a.on("/topic/room/" + here, content="said for bob").json
    same((m["senderName"], m["sender"], m["id"]), ("Oracle", "bob", r["message-id"]))
    b.send("/app/chat.send", {"to": "ann", "content": "/me waves"})
    same(a.messages(sender="bob").json["content"], "_Bob waves_")
    c.receiver.answers["/cmd"] = lambda q: (200, {"text": "for you"})
    b.send("/app/chat.send", {"to": "ann", "content": "/ask"})
    same(b.messages(code="COMMAND").json["content"], "for you")
    same(a.quiet("/user/queue/messages"), True, "an answer to one is nobody else's")
    a.close()
    b.close()


@test
def a_block_of_one_node_is_obeyed_on_the_other(c):
    ann = at(c, "ann", 0)
    b, elsewhere = at(c, "bob", 1).device(), at(c, "bob", 0).device()

    def refused(d):
        return d.send("/app/chat.send", {"to": "ann", "content": "x"}).get("code") == "BLOCKED"
    for _ in range(3):  # on and off and on: the last one counts everywhere
        ok(ann.rest("PUT", "/api/blocks/bob"), 204)
        same(refused(elsewhere), True, "all workers of that node know at once")
        ok(ann.rest("DELETE", "/api/blocks/bob"), 204)
    ok(ann.rest("PUT", "/api/blocks/bob"), 204)
    until(lambda: refused(b), "the other node obeys")
    same(ok(at(c, "bob", 1).rest("GET", "/api/chat/users/ann/status"))["online"], False)
    same([x["userId"] for x in ok(at(c, "ann", 1).rest("GET", "/api/blocks"))["blocks"]], ["bob"])
    ok(at(c, "ann", 1).rest("DELETE", "/api/blocks/bob"), 204)
    same(refused(b), False)
    until(lambda: not refused(elsewhere), "and the first one, when it was lifted on the other")
    ok(ann.rest("PUT", "/api/chat/settings", {"readReceipts": False}))
    until(lambda: ok(at(c, "ann", 1).rest("GET", "/api/chat/settings")) == {"readReceipts": False}, "settings")
    ok(ann.rest("PUT", "/api/chat/settings", {"readReceipts": True}))
    b.close()
    elsewhere.close()


def bundle(user, prekeys):
    """A device's keys, as plugin keys asks for them (its README: the protocol)."""
    sodium = ctypes.CDLL("libsodium.so.23")
    public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
    sodium.crypto_sign_keypair(public, secret)

    def b64(raw):
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    def signed(*fields):
        text, to = b"".join(len(f).to_bytes(4, "big") + f for f in fields), ctypes.create_string_buffer(64)
        sodium.crypto_sign_detached(to, None, text, ctypes.c_ulonglong(len(text)), secret)
        return b64(to.raw)
    dh, key, me = os.urandom(32), os.urandom(32), user.encode()
    return {"device": {"identity": b64(public.raw), "dh": b64(dh), "dhSignature": signed(b"chatd-e2ee-1 dh", me, dh),
                       "prekey": {"id": 1, "key": b64(key), "signature": signed(b"chatd-e2ee-1 prekey", me, b"1", key)}},
            "prekeys": [{"id": i + 1, "key": b64(os.urandom(32))} for i in range(prekeys)]}


@test
def a_prekey_is_handed_out_once_though_both_nodes_are_asked(c):
    n = 60
    device = ok(at(c, "bob", 1).rest("PUT", "/api/keys", bundle("bob", n)))["deviceId"]
    same([d["id"] for d in ok(at(c, "ann", 0).rest("GET", "/api/keys/bob"))["devices"]], [device])

    def take(i):
        return ok(at(c, "ann", i % 2).rest("POST", "/api/keys/bob/prekeys", {"devices": [device]}))["prekeys"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        taken = [p["id"] for answer in pool.map(take, range(n + 4)) for p in answer]
    same(sorted(taken), list(range(1, n + 1)))


@test
def a_report_of_one_node_is_closed_on_the_other(c):
    r = room(c.nodes[0], "ann", ["bob", "carol"])
    b = at(c, "bob", 1).device()
    m = b.send("/app/chat.send", {"roomId": r, "content": "rude"})["message-id"]
    said = {"messageId": m, "reason": "spam"}
    rid = ok(at(c, "carol", 1).rest("POST", "/api/reports", said), 201)["id"]
    same(at(c, "carol", 0).rest("POST", "/api/reports", said).json["code"], "ALREADY_REPORTED")
    same([x["id"] for x in ok(at(c, "ann", 0).rest("GET", "/api/reports?roomId=" + r))["reports"]], [rid])
    ok(at(c, "ann", 0).rest("POST", "/api/reports/%s/resolve" % rid, {"actions": ["mute"], "seconds": 600}))
    until(lambda: b.send("/app/chat.send", {"roomId": r, "content": "x"}).get("code") == "MUTED", "muted on the other node")
    same(ok(at(c, "ann", 1).rest("GET", "/api/reports?roomId=" + r)), {"reports": []})
    trail = until(lambda: ok(at(c, "root", 1).rest("GET", "/api/audit?action=room.mute&room=" + r))["entries"], "the trail")
    same([(e["actor"], e["target"], e["node"]) for e in trail], [("ann", "bob", c.nodes[0].id)])
    b.close()


def main():
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    chosen = [t for t in TESTS if not sys.argv[2:] or t.__name__ in sys.argv[2:]]
    receiver = Receiver()
    more = MORE.format(boot=BOOT, scopes=", ".join(SCOPES), url=receiver.url(""), secret=SECRET, lease=LEASE * 1000)
    try:
        cluster = Cluster(2, "server.drain_spread=1s", workers=workers, accounts=ACCOUNTS + more).start()
    except Missing as why:
        if IN_CI:
            raise
        print("1..0 # skip %s" % why)
        return 0
    cluster.receiver = receiver
    for n in cluster.nodes:
        n.boot = Key(n, "ck_boot_" + BOOT)
    for name in ("ann", "bob", "carol", "root"):
        at(cluster, name, 0).device().close()
    try:
        return tap(cluster, chosen)
    finally:
        receiver.end()


if __name__ == "__main__":
    sys.exit(main())
