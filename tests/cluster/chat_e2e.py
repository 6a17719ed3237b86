#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""People on three nodes: what each of them sees must not depend on where they are.  Speaks TAP.

usage: chat_e2e.py [WORKERS [TEST ...]]"""
import glob
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "chat"), os.path.join(HERE, ".."), os.path.join(HERE, "..", "ws"), os.path.join(HERE, "..", "upload")]
from backends.base import IN_CI, Missing  # noqa: E402
from backends.cluster import Cluster, tap  # noqa: E402
from client import Device, Person, rest  # noqa: E402
from seal import signed  # noqa: E402
import thumbs_e2e  # noqa: E402
import upload_e2e as up  # noqa: E402
from wsclient import Ws, handshake, stomp, frame  # noqa: E402

TESTS = []
LOBBY = "/topic/room/lobby"


def test(fn):
    TESTS.append(fn)
    return fn


def at(c, name, node):
    return Person(c.nodes[node], name)


def room(c, owner, *members, public=True):
    """A new room, and its topic."""
    a = owner.rest("POST", "/api/chat/rooms", {"name": "Room", "public": public})
    assert a.status == 201, (a.status, a.body)
    name = a.json["id"]
    for m in members:
        if not public:
            a = owner.rest("POST", "/api/chat/rooms/%s/members" % name, {"userId": m.id})
            assert a.status in (200, 201, 204), (a.status, a.body)
        else:
            a = m.rest("POST", "/api/chat/rooms/%s/join" % name)
            assert a.status in (200, 204), (a.status, a.body)
    return name, "/topic/room/" + name


def rows(device, topic, n, seconds=15):
    """The next n frames of a topic."""
    got = []
    while len(got) < n:
        f = device.on(topic, seconds)
        assert f is not None, "only %d of %d came: %r" % (len(got), n, [x.headers.get("seq") for x in got])
        got.append(f)
    return got


def closed(device, seconds=40):
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            device.wait(lambda f: False, 0.5)
    except OSError:
        return True
    return False


@test
def a_room_is_one_room_on_all_nodes(c):
    people = [at(c, n, i) for i, n in enumerate(("alice", "bob", "carol"))]
    name, topic = room(c, people[0], *people[1:])
    devices = [p.device() for p in people]
    tops = [int(d.resume(topic, {"since": "0"})["seq"]) for d in devices]
    each = 40

    def talk(i):
        for k in range(each):
            r = devices[i].send("/app/chat.send", {"roomId": name, "content": "%d-%d" % (i, k)})
            assert "seq" in r, r
    talkers = [threading.Thread(target=talk, args=(i,)) for i in range(3)]
    for t in talkers:
        t.start()
    for t in talkers:
        t.join()
    seen = []
    for d, top in zip(devices, tops):
        frames = rows(d, topic, top + 3 * each)
        assert [int(f.headers["seq"]) for f in frames] == list(range(1, top + 3 * each + 1)), \
            [f.headers["seq"] for f in frames]
        seen.append([(f.headers["message-id"], f.body) for f in frames])
    assert seen[0] == seen[1] == seen[2], "they do not see the same"
    for d in devices:
        assert d.quiet(topic) is True
        d.close()


@test
def direct_messages_reach_every_device_once_and_in_order(c):
    alice = [at(c, "alice", 0).device(), at(c, "alice", 2).device()]
    bob, carol = at(c, "bob", 1).device(), at(c, "carol", 2).device()
    for k in range(30):
        assert "seq" in bob.send("/app/chat.send", {"to": "alice", "content": "b%d" % k})
        assert "seq" in carol.send("/app/chat.send", {"to": "alice", "content": "c%d" % k})
    for d in alice:
        frames = rows(d, "/user/queue/messages", 60)
        cursors = [int(f.headers["cursor"].split("-")[0]) for f in frames]
        assert cursors == sorted(set(cursors)), "cursors out of order: %r" % cursors
        assert [f.json["content"] for f in frames if f.json["sender"] == "bob"] == ["b%d" % k for k in range(30)]
        assert [f.json["content"] for f in frames if f.json["sender"] == "carol"] == ["c%d" % k for k in range(30)]
        assert d.quiet("/user/queue/messages") is True
    assert len(rows(bob, "/user/queue/messages", 30)) == 30  # the echo
    for d in (*alice, bob, carol):
        d.close()


@test
def a_resume_goes_on_at_another_node(c):
    alice, bob = at(c, "alice", 0), at(c, "bob", 1)
    name, topic = room(c, alice, bob)
    a, b = alice.device(), bob.device()
    a.subscribe(topic)
    for k in range(5):
        b.send("/app/chat.send", {"roomId": name, "content": "r%d" % k})
        b.send("/app/chat.send", {"to": "alice", "content": "d%d" % k})
    last = rows(a, topic, 5)[2]
    mine = rows(a, "/user/queue/messages", 5)[2]
    a.close()
    b.send("/app/chat.send", {"roomId": name, "content": "r5"})
    a = Device.bare(at(c, "alice", 2))
    r = a.resume(topic, {"since": last.headers["seq"], "epoch": last.headers["epoch"]})
    assert r["recovered"] == "true", r
    assert [f.json["content"] for f in rows(a, topic, 3)] == ["r3", "r4", "r5"]
    r = a.resume("/user/queue/messages", {"since": mine.headers["cursor"]})
    assert r["recovered"] == "true", r
    assert [f.json["content"] for f in rows(a, "/user/queue/messages", 2)] == ["d3", "d4"]
    b.send("/app/chat.send", {"roomId": name, "content": "live"})
    assert a.on(topic).json["content"] == "live"
    a.close()
    b.close()


@test
def who_is_shown_out_hears_nothing_more_on_any_node(c):
    alice, bob, carol = at(c, "alice", 0), at(c, "bob", 1), at(c, "carol", 2)
    name, topic = room(c, alice, bob, carol, public=False)
    b, d = bob.device(), carol.device()
    b.subscribe(topic)
    d.subscribe(topic)
    for k in range(3):
        b.send("/app/chat.send", {"roomId": name, "content": "before%d" % k})
    assert d.on(topic, 10, content="before2")
    assert alice.rest("DELETE", "/api/chat/rooms/%s/members/carol" % name).status == 204
    for k in range(20):
        assert "seq" in b.send("/app/chat.send", {"roomId": name, "content": "after%d" % k})
    assert b.on(topic, 10, content="after19")
    f = d.on(topic, 2)
    while f is not None:
        assert not f.json.get("content", "").startswith("after"), "leaked: %r" % f
        f = d.on(topic, 1)
    assert d.send("/app/chat.send", {"roomId": name, "content": "x"})["code"] == "NOT_MEMBER"
    assert "code" in d.resume(topic, {})
    b.close()
    d.close()


@test
def members_elsewhere_are_told_of_rooms_that_they_do_not_listen_to(c):
    alice, bob = at(c, "alice", 0), at(c, "bob", 1)
    name, _ = room(c, alice, bob)
    b = bob.device()
    b.subscribe("/user/queue/rooms")
    a = alice.device()
    a.send("/app/chat.send", {"roomId": name, "content": "psst"})
    f = b.on("/user/queue/rooms", 10, code="UNREAD", roomId=name)
    assert f and f.json["unread"] == 1 and f.json["preview"]["content"] == "psst", f
    a.close()
    b.close()


@test
def typing_and_read_marks_reach_other_nodes(c):
    a, b = at(c, "alice", 0).device(), at(c, "bob", 1).device()
    a.send("/app/chat.send", {"to": "bob", "content": "look"})
    m = b.messages(10, content="look")
    assert m
    b.send("/app/chat.typing", {"to": "alice"})
    assert a.on("/user/queue/typing", 10, sender="bob")
    b.send("/app/chat.read", {"messageId": m.json["id"]})
    assert a.on("/user/queue/read", 10)
    a.close()
    b.close()


@test
def who_looks_on_another_node_hears_of_typing(c):
    alice, bob = at(c, "alice", 0), at(c, "bob", 1)
    name, topic = room(c, alice, bob, public=False)
    a, b = alice.device(), bob.device()
    rest = a.resume(topic, {"except": "typing"})["receipt-id"][1:]
    look = a.resume(topic, {"only": "typing"})["receipt-id"][1:]
    b.send("/app/chat.typing", {"roomId": name})
    assert a.on(topic, 10, type="TYPING").headers["subscription"] == look
    b.send("/app/chat.send", {"roomId": name, "content": "done"})
    seen = [a.on(topic, 10), a.on(topic, 10)]
    assert sorted((f.headers["subscription"], f.json["type"]) for f in seen) == sorted([(rest, "CHAT"), (look, "TYPING")]), seen
    a.send("/app/chat.leave", {"roomId": name})
    a.sync()
    a.frames = []
    b.send("/app/chat.typing", {"roomId": name})
    assert a.on(topic, 2, type="TYPING") is None, "who has left hears no more"
    a.close()
    b.close()


@test
def a_trace_goes_from_node_to_node(c):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    a, b = at(c, "alice", 0).device(), at(c, "bob", 1).device()
    a.send("/app/chat.send", {"to": "bob", "content": "traced"}, {"traceparent": trace})
    assert b.messages(10, content="traced").headers["traceparent"] == trace
    a.close()
    b.close()


@test
def what_is_sent_again_at_another_node_is_the_same_message(c):
    b = at(c, "bob", 1).device()
    body = {"to": "bob", "content": "once", "clientId": "again-1"}
    first = at(c, "alice", 0).device()
    one = first.send("/app/chat.send", body)
    first.close()
    second = at(c, "alice", 2).device()
    two = second.send("/app/chat.send", body)
    assert (one["message-id"], one["seq"]) == (two["message-id"], two["seq"]), (one, two)
    assert second.send("/app/chat.send", {**body, "content": "else"})["code"] == "DUPLICATE_ID_MISMATCH"
    assert b.messages(10, content="once")
    assert b.quiet("/user/queue/messages") is True
    second.close()
    b.close()


@test
def edits_and_reactions_come_in_order_everywhere(c):
    alice, bob = at(c, "alice", 0), at(c, "bob", 1)
    name, topic = room(c, alice, bob)
    a, b = alice.device(), bob.device()
    b.subscribe(topic)
    m = a.send("/app/chat.send", {"roomId": name, "content": "teh"})["message-id"]
    a.send("/app/chat.edit", {"messageId": m, "content": "the"})
    b2 = at(c, "bob", 2).device()
    b2.send("/app/chat.react", {"messageId": m, "reaction": "+1"})
    frames = rows(b, topic, 3)
    assert [f.json["type"] for f in frames] == ["CHAT", "EDIT", "REACTION"], frames
    seqs = [int(f.headers["seq"]) for f in frames]
    assert seqs == list(range(seqs[0], seqs[0] + 3)), seqs
    for d in (a, b, b2):
        d.close()


@test
def who_is_online_is_known_everywhere(c):
    d = at(c, "dave", 1).device()
    until = time.monotonic() + 40
    answer = None
    while time.monotonic() < until:
        answer = at(c, "alice", 2).rest("GET", "/api/chat/users/dave/status").json
        if answer.get("online"):
            break
        time.sleep(0.1)
    assert answer["online"] is True, answer
    d.close()


@test
def a_guest_has_one_device_on_all_nodes(c):
    guest = Person(c.nodes[0])
    first = guest.device()
    guest.server = c.nodes[1]
    second = guest.device()
    assert closed(first), "the first device is still open"
    second.sync()
    second.close()


@test
def a_logout_ends_the_sessions_on_all_nodes(c):
    who = {"email": "eve@example.org", "password": "a long password"}
    r = rest(c.nodes[0], None, "POST", "/api/auth/register", {**who, "nickname": "Eve"})
    assert r.status == 201, (r.status, r.body)
    eve = Person.__new__(Person)
    eve.guest = False
    r = rest(c.nodes[1], None, "POST", "/api/auth/authenticate", who)
    assert r.status == 200, (r.status, r.body)
    eve.server, eve.id, eve.token = c.nodes[2], "", r.json["accessToken"]
    eve.login = {"Authorization": "Bearer " + eve.token}
    d = Device.bare(eve)
    assert d.connected is not None
    assert rest(c.nodes[0], eve, "POST", "/api/auth/logout", {}).status in (200, 204)
    assert closed(d), "the session on another node is still open"
    assert rest(c.nodes[1], eve, "GET", "/api/auth/sessions").status == 401


def enters(node, ticket):
    """Who a WebSocket with this ticket in its URL is, or the code of the refusal."""
    with Ws("%s:%d" % node.address("http"), 20) as ws:
        status, _, _ = ws.request(handshake("/ws-chat?token=" + ticket))
        assert status == 101, status
        ws.send(frame(1, stomp("CONNECT", [("accept-version", "1.2"), ("host", "x")])))
        _, answer = ws.frame()
    head = answer.decode().split("\n\n")[0].split("\n")
    fields = dict(line.split(":", 1) for line in head[1:])
    return fields["user-name"] if head[0] == "CONNECTED" else fields.get("code", head)


@test
def a_ticket_is_good_once_on_whatever_node(c):
    alice = at(c, "alice", 0)

    def ticket():
        a = alice.rest("POST", "/api/auth/ws-ticket")
        assert a.status == 200, (a.status, a.body)
        return a.json["ticket"]
    for first in (1, 0, 2):
        t = ticket()
        assert enters(c.nodes[first], t) == "alice"
        assert [enters(n, t) for n in c.nodes] == ["INVALID_TOKEN"] * 3
    for k in range(15):
        t, got, gate = ticket(), [], threading.Barrier(4)

        def try_it(node):
            gate.wait()
            got.append(enters(node, t))
        threads = [threading.Thread(target=try_it, args=(c.nodes[i],)) for i in (1, 2, k % 3, 1)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert sorted(got) == ["INVALID_TOKEN"] * 3 + ["alice"], got


@test
def files_are_on_all_nodes(c):
    """With one folder for all."""
    alice, bob, carol = at(c, "alice", 0), at(c, "bob", 1), at(c, "carol", 2)
    elsewhere = at(c, "alice", 2)
    data = thumbs_e2e.png(700, 500, 77)
    f, g = up.upload(alice, data), up.upload(bob, data)
    up.same(up.get(elsewhere, f["url"]).body == data, True, "it was uploaded at another node")
    up.same([up.get(p, f["url"]).status for p in (bob, carol)], [404, 404])

    def objects():
        return [p for p in glob.glob(os.path.join(c.files, "objects", "*", "*")) if os.path.basename(p)[:64] == up.hashlib.sha256(data).hexdigest()]
    up.until(lambda: len(objects()) == 3, what="equal files are one object with its small pictures")
    device = alice.device()
    assert "message-id" in up.attach(device, {"to": "carol"}, f["url"])
    up.same([up.get(p, f["url"]).status for p in (bob, carol)], [404, 200])
    up.same(thumbs_e2e.size_of(up.get(carol, f["thumbnail"]).body), (320, 228))
    signed = up.get(carol, f["url"] + "/url").json["url"]
    up.same([rest(n, None, "GET", signed).body == data for n in c.nodes], [True] * 3, "a signed address")
    # A resumable upload goes on at whatever node the balancer chooses.
    url = up.begin(alice, len(data))
    for k, (who, to) in enumerate(((elsewhere, 2000), (alice, 5000), (elsewhere, len(data)))):
        r = up.tus(who, "PATCH", url, data[(0, 2000, 5000)[k]:to], Upload_Offset=(0, 2000, 5000)[k])
        up.same((r.status, r.headers.get("upload-offset")), (204, str(to)))
    up.same(up.get(alice, url.replace("/tus/", "/")).body == data, True)
    # The last of them takes the bytes along, whichever node sweeps.
    for who, what in ((elsewhere, f["url"]), (bob, g["url"])):
        up.same(who.rest("DELETE", what).status, 204)
    up.same(len(objects()), 3)
    up.same(alice.rest("DELETE", url.replace("/tus/", "/")).status, 204)
    device.close()
    c.nodes[2].kill()
    c.nodes[2].begin()
    up.until(lambda: not objects(), 20, "nobody needs it any more")


@test
def f17_what_is_no_row_or_a_forged_one_reaches_nobody(c):
    """Whatever it lacks, signed as by a node; and one that lacks nothing but the signature."""
    alice, bob = at(c, "alice", 0), at(c, "bob", 1)
    name, topic = room(c, alice, bob)
    a, b = alice.device(), bob.device()
    b.subscribe(topic)
    a.send("/app/chat.send", {"roomId": name, "content": "first"})
    first = b.on(topic, content="first")
    body, key, number = b'{"type":"CHAT","sender":"alice","content":"forged"}', "chat.node2", [0]

    def say(signer="cluster " + c.key, **other):
        number[0] += 1
        row = {"chatd-v": 1, "chatd-kind": "row", "chatd-to": "topic", "chatd-from": "node9", "chatd-epoch": "9" * 16,
               "chatd-n": number[0], "chatd-topic": topic, "chatd-key": name, "id": "0192f0a0-0000-7000-8000-%012d" % number[0],
               "epoch": first.headers["epoch"], "seq": str(int(first.headers["seq"]) + 1), "pos": str(10 ** 9), "row": "1",
               "sender": "alice", "room": name}
        row.update(other)
        row = {k: v for k, v in row.items() if v is not None}
        c.rabbit.publish(key, body, signed(signer, key, body, row) if signer else row)
    for bad in ({"epoch": None}, {"epoch": "0" * 32}, {"epoch": "e" * 200}, {"id": None}, {"id": "x" * 65},
                {"sender": "s" * 200}, {"seq": None}, {"seq": "x"}, {"seq": "-1"}, {"seq": "0"}, {"seq": "9" * 30}, {"pos": "0"},
                {"pos": None}, {"row": "7"}, {"row": None}, {"flags": "-1"}, {"room": "a b"}, {"room": None},
                {"room": None, "a": "alice", "b": "bob"}, {"target": "t" * 65}, {"traceparent": "t" * 500},
                {"seq": first.headers["seq"]}):
        say(**bad)
    say(signer=None)
    say(signer="another key than the nodes', of 32 bytes or more")
    a.send("/app/chat.send", {"roomId": name, "content": "second"})
    f = b.on(topic)
    assert f.json["content"] == "second", f
    assert b.quiet(topic) is True
    log = c.nodes[1].text()
    assert 'node node9 sent a "row" that is none' in log, log[-2000:]
    assert 'that names node "node9" as its sender is refused' in log, log[-2000:]

    def left():
        q = c.rabbit.queue("chat.queue.node2")
        return q["messages_ready"] + q["messages_unacknowledged"]
    up.until(lambda: left() == 0, 20, "nothing comes round again")
    a.close()
    b.close()


@test
def what_is_beyond_the_bound_of_a_nodes_queue_is_in_the_store(c):
    """The broker is away, and far more than queue_max is said: all of it is acknowledged, and all of it comes."""
    node = c.add("route-rabbitmq.queue_max=64 KiB")
    alice, bob = Person(node, "alice"), at(c, "bob", 1)
    name, topic = room(c, alice, bob)
    a, b = alice.device(), bob.device()
    b.subscribe(topic)
    a.send("/app/chat.send", {"roomId": name, "content": "before"})
    assert b.on(topic, content="before")
    c.rabbit.stop_app()
    wanted = []
    try:
        for i in range(150):
            for to in ({"roomId": name}, {"to": "bob"}):
                text = "%d %s" % (i, "y" * 1000)
                r = a.send("/app/chat.send", {"content": text, **to})
                assert "seq" in r, r
            wanted.append(text)
        assert node.text().count("more than queue_max") == 1, node.text()[-2000:]
        for where in (topic, "/user/queue/messages"):
            assert [f.json["content"] for f in rows(b, where, 150, 60)] == wanted, "without the broker, on " + where
    finally:
        c.rabbit.start_app()
    up.until(lambda: rest(node, None, "GET", "/readyz").json == {"status": "UP"}, 60, "the broker is back")
    a.send("/app/chat.send", {"roomId": name, "content": "after"})
    f = b.on(topic)
    assert f.json["content"] == "after", f
    for where in (topic, "/user/queue/messages"):
        assert b.quiet(where) is True, "twice"
    a.close()
    b.close()


def main():
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    files = tempfile.mkdtemp(prefix="chatd-files-")
    try:
        cluster = Cluster(3, "server.drain_spread=1s", "auth-anonymous.devices=1", "upload.enabled=true", "upload.path=" + files,
                          "upload.key=" + secrets.token_hex(32), workers=workers).start()
        cluster.files = files
    except Missing as why:
        if IN_CI:
            raise
        print("1..0 # skip %s" % why)
        return 0
    try:
        return tap(cluster, [t for t in TESTS if not sys.argv[2:] or any(w in t.__name__ for w in sys.argv[2:])])
    finally:
        shutil.rmtree(files, ignore_errors=True)


sys.exit(main())
