#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Messages that last: order, receipts, repeats, resuming, history, and kill -9.  Prints TAP.

Usage: store_e2e.py [workers [kills]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml and store-sqlite.
"""
import random
import sys
import threading
import time
import traceback

from client import Device, Person, Server, rest, same

INBOX = "/user/queue/messages"
LOBBY = "/topic/room/lobby"
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def make_room(who, public=False):
    r = who.rest("POST", "/api/chat/rooms", {"name": "a room", "public": public})
    same(r.status, 201, r.body)
    return r.json["id"]


def drain(device, destination, n):
    out = []
    for _ in range(n):
        f = device.on(destination)
        assert f is not None, "%d of %d came" % (len(out), n)
        out.append(f)
    return out


@test
def receipts_say_where_a_message_stands(s):
    a, b = Person(s, "alice"), Person(s, "bob")
    da, db = a.device(), b.device()
    same(da.connected.headers["ack-level"], "stored")
    room = make_room(a)
    da.subscribe("/topic/room/" + room)
    for n in (1, 2, 3):
        r = da.send("/app/chat.send", {"roomId": room, "content": "m%d" % n})
        same(r["seq"], str(n), r)
        f = da.on("/topic/room/" + room, content="m%d" % n)
        same([f.headers["seq"], f.headers["epoch"], f.headers["message-id"]], [str(n), r["epoch"], r["message-id"]])
        same([f.json["seq"], f.json["epoch"]], [n, r["epoch"]])
        assert "cursor" not in f.headers
    r = da.send("/app/chat.send", {"to": "bob", "content": "x"})
    for d in (da, db):
        f = d.messages(content="x")
        same([f.headers["seq"], f.headers["message-id"]], [r["seq"], r["message-id"]])
        assert f.headers["cursor"].endswith("-" + r["epoch"]), f.headers


@test
def pipelined_messages_keep_their_order_and_share_commits(s):
    a = Person(s, "alice")
    room = make_room(a)
    d, watcher = a.device(), a.device()
    watcher.subscribe("/topic/room/" + room)
    begin = time.monotonic()
    for i in range(500):
        d.write("SEND", {"destination": "/app/chat.send", "receipt": "p%d" % i},
                b'{"roomId":"%s","content":"%d"}' % (room.encode(), i))
    for i in range(500):
        f = d.wait(lambda f: f.command == "RECEIPT" and f.headers["receipt-id"].startswith("p"))
        same([f.headers["receipt-id"], f.headers["seq"]], ["p%d" % i, str(i + 1)])
    print("# 500 receipts of one session in %.2f s" % (time.monotonic() - begin))
    for i, f in enumerate(drain(watcher, "/topic/room/" + room, 500)):
        same([f.json["seq"], f.json["content"]], [i + 1, str(i)])


@test
def everybody_sees_one_order(s):
    people = [Person(s, n) for n in ("alice", "bob", "carol", "dave")]
    room = make_room(people[0], True)
    devices = []
    for p in people:
        d = p.device()
        d.send("/app/chat.join", {"roomId": room})
        d.subscribe("/topic/room/" + room)
        devices.append(d)
    for i in range(50):
        for d in devices:
            d.write("SEND", {"destination": "/app/chat.send"}, b'{"roomId":"%s","content":"%d"}' % (room.encode(), i))
    joined = len(people) - 1  # the owner was there from the start; whoever joins is a row, too
    for d in devices:
        got = []
        while len(got) < 200:
            f = d.on("/topic/room/" + room, type="CHAT")
            assert f, "only %d came" % len(got)
            got.append(f.json["seq"])
        same(got, list(range(joined + 1, joined + 201)))


@test
def a_repeat_is_answered_with_the_first(s):
    a, b = Person(s, "alice"), Person(s, "bob")
    da, db = a.device(), b.device()
    first = da.send("/app/chat.send", {"to": "bob", "content": "once", "clientId": "k1"})
    db.messages(content="once")
    s.kill()
    s.begin()
    da, db = a.device(), b.device()
    again = da.send("/app/chat.send", {"to": "bob", "content": "once", "clientId": "k1"})
    same([again["message-id"], again["seq"], again["epoch"]], [first["message-id"], first["seq"], first["epoch"]])
    same(da.send("/app/chat.send", {"to": "bob", "content": "other", "clientId": "k1"})["code"], "DUPLICATE_ID_MISMATCH")
    same(db.quiet(INBOX), True)


@test
def a_room_is_resumed_without_hole_or_repeat(s):
    a = Person(s, "alice")
    d = a.device()
    room = make_room(a)
    topic = "/topic/room/" + room
    for i in range(20):
        r = d.send("/app/chat.send", {"roomId": room, "content": str(i)})
    stop = threading.Event()
    other = a.device()

    def talk():
        i = 20
        while not stop.is_set() and i < 900:
            other.send("/app/chat.send", {"roomId": room, "content": str(i)})
            i += 1
    t = threading.Thread(target=talk)
    t.start()
    try:
        for _ in range(20):
            c = a.device()
            since = random.randint(0, 20)
            answer = c.resume(topic, {"since": since, "epoch": r["epoch"]})
            same(answer["recovered"], "true", answer)
            same(answer["epoch"], r["epoch"])
            top = int(answer["seq"])
            got = [f.json["seq"] for f in drain(c, topic, top - since + 5)]
            same(got, list(range(since + 1, top + 6)))
            c.close()
    finally:
        stop.set()
        t.join()


@test
def what_is_not_whole_is_not_replayed(s):
    a = Person(s, "alice")
    d = a.device()
    room = make_room(a)
    topic = "/topic/room/" + room
    for i in range(1011):
        d.write("SEND", {"destination": "/app/chat.send"}, b'{"roomId":"%s","content":"x"}' % room.encode())
    top = 1012
    r = d.send("/app/chat.send", {"roomId": room, "content": "top"})
    same(r["seq"], str(top))
    for headers in ({"since": 3, "epoch": "0" * len(r["epoch"])}, {"since": 1, "epoch": r["epoch"]}):
        c = a.device()
        answer = c.resume(topic, headers)
        same([answer["recovered"], answer["first-seq"], answer["seq"], answer["epoch"]], ["false", "1", str(top), r["epoch"]])
        gap = c.on(topic).json
        same([gap["type"], gap["code"], gap["firstSeq"], gap["topSeq"], gap["epoch"]],
             ["SYSTEM", "HISTORY_GAP", 1, top, r["epoch"]])
        same(c.quiet(topic), True)
        d.send("/app/chat.send", {"roomId": room, "content": "live"})
        same(c.on(topic).json["content"], "live")
        top += 1
    for bad in ("-1", "abc", "", " 1", "1x", str(2 ** 64), str(2 ** 63)):
        same(d.resume(topic, {"since": bad}).get("code"), "VALIDATION", bad)
    same(d.resume(INBOX, {"since": "7"}).get("code"), "VALIDATION")
    c = a.device()
    c.write("SUBSCRIBE", {"id": "up", "destination": topic, "since": top + 1, "epoch": r["epoch"]})
    try:
        while c.wait(lambda f: f.command == "MESSAGE", 5):
            pass
        assert False, "still open"
    except ConnectionError:
        pass
    e = Person(s).device().resume(topic, {"since": 1})
    same(e["code"], "NOT_MEMBER", e)


@test
def direct_messages_are_resumed_by_cursor(s):
    a, b, c = (Person(s, n) for n in ("alice", "bob", "carol"))
    da, db, dc = a.device(), b.device(), c.device()
    da.send("/app/chat.send", {"to": "bob", "content": "first"})
    cursor = db.messages(content="first").headers["cursor"]
    db.close()
    for i in range(3):
        da.send("/app/chat.send", {"to": "bob", "content": "a%d" % i})
        dc.send("/app/chat.send", {"to": "bob", "content": "c%d" % i})
    n = Device.bare(b)
    answer = n.resume(INBOX, {"since": cursor})
    same(answer["recovered"], "true", answer)
    same([f.json["content"] for f in drain(n, INBOX, 6)], ["a0", "c0", "a1", "c1", "a2", "c2"])
    da.send("/app/chat.send", {"to": "bob", "content": "now"})
    same(n.on(INBOX).json["content"], "now")
    same(n.quiet(INBOX), True)


@test
def since_now_says_where_it_begins(s):
    a, b = Person(s, "alice"), Person(s, "bob")
    d = a.device()
    room = make_room(a)
    topic = "/topic/room/" + room
    r = d.send("/app/chat.send", {"roomId": room, "content": "before"})
    d.send("/app/chat.send", {"to": "bob", "content": "before"})
    c, e = a.device(), Device.bare(b)
    answer, inbox = c.resume(topic, {"since": "now"}), e.resume(INBOX, {"since": "now"})
    same([answer.get("recovered"), answer["seq"], answer["epoch"]], [None, r["seq"], r["epoch"]])
    same([c.quiet(topic), e.quiet(INBOX)], [True, True])
    c.close()
    e.close()
    d.send("/app/chat.send", {"roomId": room, "content": "meanwhile"})
    d.send("/app/chat.send", {"to": "bob", "content": "meanwhile"})
    c, e = a.device(), Device.bare(b)
    same(c.resume(topic, {"since": answer["seq"], "epoch": answer["epoch"]})["recovered"], "true")
    same(e.resume(INBOX, {"since": inbox["cursor"]})["recovered"], "true")
    same([c.on(topic).json["content"], e.on(INBOX).json["content"]], ["meanwhile", "meanwhile"])
    same([c.quiet(topic), e.quiet(INBOX)], [True, True])


@test
def history_is_paged(s):
    a, b = Person(s, "alice"), Person(s, "bob")
    d = a.device()
    room = make_room(a)
    for i in range(1, 121):
        d.write("SEND", {"destination": "/app/chat.send"}, b'{"roomId":"%s","content":"%d"}' % (room.encode(), i))
    d.send("/app/chat.send", {"roomId": room, "content": "needle in the hay"})
    base = "/api/chat/messages/room/" + room
    page = a.rest("GET", base).json
    same([m["seq"] for m in page["messages"]], list(range(72, 122)))
    same([page["before"], page["after"], page["topSeq"]], [72, 121, 121])
    page = a.rest("GET", base + "?before=72&limit=100").json
    same([m["seq"] for m in page["messages"]], list(range(1, 72)))
    assert "before" not in page, page["before"]
    page = a.rest("GET", base + "?after=119").json
    same([m["seq"] for m in page["messages"]], [120, 121])
    bare = a.rest("GET", base + "?limit=2").json
    same([m["seq"] for m in bare], [121, 120])
    same(b.rest("GET", base).status, 403)
    same(Person(s).rest("GET", base).status, 403)
    same(rest(s, None, "GET", base).status, 401)
    same(a.rest("GET", "/api/chat/messages/room/none").status, 403)
    for limit, n in (("0", 1), ("-1", 1), ("101", 100), ("1000000000", 100), ("9" * 20, 100)):
        same(len(a.rest("GET", base + "?before=1000&limit=" + limit).json["messages"]), n, limit)
    same(a.rest("GET", base + "?before=1&after=1").status, 422)
    found = a.rest("GET", "/api/chat/search?q=needle&roomId=" + room).json["messages"]
    same([m["seq"] for m in found], [121])
    same(b.rest("GET", "/api/chat/search?q=needle&roomId=" + room).status, 403)
    same(b.rest("GET", "/api/chat/search?q=needle").json["messages"], [])
    same(b.rest("GET", "/api/chat/search?q=").status, 422)


@test
def direct_history_is_for_the_two(s):
    a, b, c = (Person(s, n) for n in ("alice", "bob", "carol"))
    d = a.device()
    r = d.send("/app/chat.send", {"to": "bob", "content": "between haystacks"})
    for who, other in ((a, "bob"), (b, "alice")):
        last = who.rest("GET", "/api/chat/messages/direct?with=" + other).json["messages"][-1]
        same([last["id"], last["content"]], [r["message-id"], "between haystacks"])
        bare = who.rest("GET", "/api/chat/messages/direct?user1=alice&user2=bob").json
        same(bare[0]["id"], r["message-id"])
    same(c.rest("GET", "/api/chat/messages/direct?user1=alice&user2=bob").status, 403)
    same(c.rest("GET", "/api/chat/messages/direct?with=a.b").status, 422)
    same(c.rest("GET", "/api/chat/messages/direct?with=bob&userId=alice").status, 403)
    found = b.rest("GET", "/api/chat/search?q=haystacks").json["messages"]
    same([m["id"] for m in found], [r["message-id"]])
    same(c.rest("GET", "/api/chat/search?q=haystacks").json["messages"], [])
    mine = b.rest("GET", "/api/chat/conversations").json["conversations"]
    first = mine[0]
    same([first["with"], first["lastMessage"]["id"]], ["alice", r["message-id"]])
    assert first["unread"] >= 1, first


@test
def guests_are_the_same_after_a_restart(s):
    g = Person(s)
    d = g.device()
    same(d.connected.headers["user-name"], g.id)
    s.kill()
    s.begin()
    same(g.device().connected.headers["user-name"], g.id)


class Sender(threading.Thread):
    """Sends into the lobby, and after a kill again what was not receipted."""

    def __init__(self, server, name):
        super().__init__()
        self.person, self.name_, self.n = Person(server, name), name, 0
        self.receipted, self.unsure, self.over = {}, None, False

    def one(self, device):
        if self.unsure is None:
            self.n += 1
            self.unsure = "%s-%d" % (self.name_, self.n)
        r = device.send("/app/chat.send", {"roomId": "lobby", "content": self.unsure, "clientId": self.unsure})
        if "message-id" in r:
            self.receipted[self.unsure] = (r["message-id"], int(r["seq"]))
            self.unsure = None
        else:
            assert r["code"] in ("UNAVAILABLE", "STORE_BUSY"), r

    def run(self):
        while not self.over:
            try:
                device = self.person.device()
                device.send("/app/chat.join", {"roomId": "lobby"})
                while not self.over:
                    self.one(device)
            except (OSError, AttributeError, TimeoutError):
                time.sleep(0.02)


@test
def what_was_receipted_survives_every_kill(s):
    senders = [Sender(s, n) for n in ("alice", "bob", "carol", "dave")]
    for t in senders:
        t.start()
    try:
        for _ in range(KILLS):
            time.sleep(random.uniform(0.05, 0.5))
            s.kill()
            s.begin()
        until = time.monotonic() + 30  # on a busy machine nobody may have come to a word so far
        while not all(t.receipted for t in senders) and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        for t in senders:
            t.over = True
        for t in senders:
            t.join()
    reader, rows, after = Person(s, "alice"), [], 0
    while True:
        page = reader.rest("GET", "/api/chat/messages/room/lobby?events=true&limit=100&after=%d" % after).json["messages"]
        if not page:
            break
        rows += page
        after = page[-1]["seq"]
    same([m["seq"] for m in rows], list(range(rows[0]["seq"], rows[0]["seq"] + len(rows))), "gap-free")
    said, by_content = [m for m in rows if m["type"] == "CHAT"], {}  # the others came into the room
    for m in said:
        assert m["content"] not in by_content, "twice: " + m["content"]
        by_content[m["content"]] = (m["id"], m["seq"])
    total = 0
    for t in senders:
        total += len(t.receipted)
        for content, place in t.receipted.items():
            same(by_content.get(content), place, content)
        mine = [int(m["content"].split("-")[1]) for m in said if m["content"].startswith(t.name_ + "-")]
        same(mine, sorted(mine), "the order of " + t.name_)
    print("# %d kills, %d receipted, %d stored" % (KILLS, total, len(said)))
    assert total > KILLS, "too few messages to mean anything"


def main():
    workers = sys.argv[1] if len(sys.argv) > 1 else "4"
    print("1..%d" % (len(TESTS) + 1))
    server = Server(workers)
    failed = 0
    for i, fn in enumerate(TESTS, 1):
        name = fn.__name__.replace("_", " ")
        try:
            fn(server)
            print("ok %d - %s" % (i, name))
        except Exception:
            failed += 1
            print("not ok %d - %s" % (i, name))
            print("# " + traceback.format_exc().replace("\n", "\n# "))
        sys.stdout.flush()
    code, log = server.stop()
    good = code == 0 and "Sanitizer" not in log
    print("%sok %d - the server ends well" % ("" if good else "not ", len(TESTS) + 1))
    if failed or not good:
        print("# exit code %s\n# %s" % (code, log[-4000:].replace("\n", "\n# ")))
    return 1 if failed or not good else 0


KILLS = int(sys.argv[2]) if len(sys.argv) > 2 else 20
if __name__ == "__main__":
    sys.exit(main())
