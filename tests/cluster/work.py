# SPDX-License-Identifier: Apache-2.0
"""Work queues over the nodes of rabbit_e2e.py: each message to one consumer of all."""
import hashlib
import os
import signal
import time

from plain import KEY, Plain, wait_until
from seal import signed

FULL = os.environ.get("CHATD_FULL") == "1"
TESTS = []
INDIVIDUAL = {"ack": "client-individual"}


def test(fn):
    TESTS.append(fn)
    return fn


def same(a, b, what=""):
    assert a == b, "%s: %r is not %r" % (what, a, b)


def queue_of(dest):
    return "chat.wq." + hashlib.sha256(dest.encode()).hexdigest()[:16]


def ready(w, dest):
    """How many messages wait in the broker; -1: there is no such queue."""
    q = w.rabbit.queue(queue_of(dest))
    return q["messages_ready"] if q else -1


def consumed(w, dest, n):
    wait_until(lambda: (w.rabbit.queue(queue_of(dest)) or {}).get("consumers") == n, 30, "%d nodes consume %s" % (n, dest))


def consumer(w, node, dest, nodes, headers=()):
    """A client that consumes; until that many nodes do."""
    c = node.client("consumer")
    c.resume(dest, dict(headers))
    consumed(w, dest, nodes)
    return c


def fill(client, dest, first, n):
    """With receipts, but not one by one."""
    for i in range(first, first + n):
        client.write("SEND", {"destination": dest, "receipt": "f%d" % i}, b"%d" % i)
    for i in range(first, first + n):
        r = client.wait(lambda f, i=i: f.headers.get("receipt-id") == "f%d" % i)
        assert r and r.command == "RECEIPT", r


def drain(client, dest, seconds=0.5):
    got = []
    while True:
        f = client.on(dest, seconds)
        if not f:
            return got
        got.append(f)


def ack(client, frame, yes=True):
    client.write("ACK" if yes else "NACK", {"id": frame.headers["ack"]})


def sender(node):
    """A client that hears why it is refused."""
    c = node.client()
    c.subscribe("/user/queue/errors")
    return c


def close(*clients):
    for c in clients:
        c.close()


@test
def work_each_message_goes_to_one_consumer_of_all_nodes(w):
    dest, n = "/queue/one", 3000 if FULL else 600
    c = [consumer(w, w.a, dest, 1), consumer(w, w.a, dest, 1), consumer(w, w.b, dest, 2)]
    x, y = w.a.client(), w.b.client()
    fill(x, dest, 0, n)
    fill(y, dest, n, n)
    got = [[int(f.body) for f in drain(each, dest)] for each in c]
    same(sorted(sum(got, [])), list(range(2 * n)))
    # The broker goes round the nodes, each node round its consumers.
    assert all(len(g) > 2 * n / 10 for g in got), [len(g) for g in got]
    for g in got:
        for part in ([i for i in g if i < n], [i for i in g if i >= n]):
            same(part, sorted(part), "each sender's order")
    wait_until(lambda: w.rabbit.queue(queue_of(dest))["messages_unacknowledged"] == 0, 30, "all is acknowledged")
    close(x, y, *c)
    wait_until(lambda: w.rabbit.queue(queue_of(dest))["consumers"] == 0, 30, "nobody consumes any more")


@test
def work_all_headers_and_bytes_arrive(w):
    dest = "/queue/headers"
    c, x = consumer(w, w.b, dest, 1), w.a.client()
    body = bytes(range(256)) * 100
    r = x.send(dest, body, {"odd": "a:b\\n c", "content-type": "application/x-thing", "traceparent": "00-1-2-01"})
    f = c.on(dest)
    same((f.body, f.headers["odd"], f.headers["content-type"], f.headers["traceparent"], f.headers["message-id"]),
         (body, "a:b\\n c", "application/x-thing", "00-1-2-01", r["message-id"]))
    assert "redelivered" not in f.headers
    x.send(dest, b"")
    same(c.on(dest).body, b"")
    close(c, x)


@test
def work_what_is_not_acknowledged_goes_to_another_node(w):
    dest = "/queue/again"
    third = w.node()
    third.wait_up()
    assert not [n for n in w.rabbit.connections() if "queues" in n and third.name in n], "connected before it is used"
    z, x = consumer(w, third, dest, 1, INDIVIDUAL), w.a.client()
    fill(x, dest, 0, 10)
    got = [z.on(dest) for _ in range(10)]
    for f in got[:3]:
        ack(z, f)
    ack(z, got[3], yes=False)
    again = z.on(dest)
    same((again.body, again.headers.get("redelivered")), (b"3", "true"))
    # One that leaves gives back what it has; the node's other consumer, or another node's, gets it.
    y = consumer(w, w.b, dest, 2, INDIVIDUAL)
    left = consumer(w, third, dest, 2, INDIVIDUAL)
    fill(x, dest, 10, 4)
    time.sleep(0.3)
    mine = drain(left, dest)
    left.close()
    rest = drain(y, dest) + drain(z, dest)
    same(sorted(int(f.body) for f in rest), [10, 11, 12, 13])
    assert all(f.headers.get("redelivered") == "true" for f in rest if f.body in [m.body for m in mine])
    for f in rest:
        if f in drain(y, dest, 0):
            ack(y, f)
    third.proc.send_signal(signal.SIGKILL)
    third.proc.wait()
    w.more.remove(third)
    third.stop()
    more = drain(y, dest, 2)
    same({int(f.body) for f in rest + more}, set(range(3, 14)), "all that the killed node had")
    assert all(f.headers.get("redelivered") == "true" for f in more)
    close(x, y)


@test
def work_the_broker_keeps_what_was_receipted(w):
    dest, x = "/queue/durable", sender(w.a)
    fill(x, dest, 0, 60)
    same(ready(w, dest), 60)
    taken = consumer(w, w.a, dest, 1, INDIVIDUAL)
    first = [taken.on(dest) for _ in range(50)]   # work_prefetch
    same(taken.quiet(dest), True, "more than the node may have")
    ack(taken, first[0])
    same(taken.on(dest).body, b"50")
    w.twin.wait()   # it must not meet a broker that is away
    (w.rabbit.kill if FULL else w.rabbit.stop_app)()
    refused = x.send(dest, "away")
    same(refused["code"], "UNAVAILABLE")
    took = []
    for _ in range(3):
        begin = time.monotonic()
        same(x.send(dest, "away")["code"], "UNAVAILABLE")
        took.append(time.monotonic() - begin)
    assert min(took) < 2, "who comes later need not wait: %r" % took
    (w.rabbit.start if FULL else w.rabbit.start_app)()
    # What was given before the broker died is given again; an old ack does no harm.
    ack(taken, first[1])
    taken.close()
    # It may have been given some already: they go back to their places before the next one comes.
    w.a.wait_up()
    w.b.wait_up()
    wait_until(lambda: ready(w, dest) == 59, 30, "all of them lie there")
    c = w.b.client()
    c.resume(dest, {})
    got = c.take(dest, 59, 60)
    same([int(b) for b in got], list(range(1, 60)), "all but what was acknowledged, in order")
    same(c.quiet(dest), True)
    wait_until(lambda: "code" not in x.send(dest, "again"), 30, "it is taken again")
    same(c.on(dest, 10).body, b'"again"')
    close(x, c)


@test
def work_nothing_receipted_is_lost_when_connections_break(w):
    dest, n = "/queue/broken", 4000 if FULL else 800
    x, mine, other = sender(w.a), consumer(w, w.a, dest, 1), consumer(w, w.b, dest, 2, INDIVIDUAL)
    for i in range(n):
        x.write("SEND", {"destination": dest, "receipt": "f%d" % i}, b"%d" % i)
    got, safe = [], set()
    for turn in range(6):
        try:
            if turn < 4:
                w.rabbit.close_connections(" work queues")
        except RuntimeError:
            pass   # one ended while it was asked for its name
        for f in drain(other, dest, 0.4):
            got.append(int(f.body))
            ack(other, f)
    for i in range(n):
        r = x.wait(lambda f, i=i: f.headers.get("receipt-id") == "f%d" % i or b'"f%d"' % i in f.body)
        if r.command == "RECEIPT":
            safe.add(i)
    wait_until(lambda: ready(w, dest) == 0, 20, "all is given out")
    got += [int(f.body) for f in drain(mine, dest) + drain(other, dest)]
    same(safe - set(got), set(), "lost")
    same([i for i in got if i >= n], [])
    assert len(safe) > n / 2, len(safe)
    print("# %d sent, %d receipted, %d came, %d of them again" % (n, len(safe), len(got), len(got) - len(set(got))))
    close(x, mine, other)


@test
def work_a_full_queue_refuses_and_its_bounds_stay(w):
    dest = "/queue/full"
    n = Plain("n70", [w.rabbit.port], w.workers, settings=("route-local.queue_messages=5",))
    w.more.append(n)
    n.wait_up()
    x = sender(n)
    for i in range(5):
        assert "message-id" in x.send(dest, i), i
    refused = x.send(dest, 5)
    same((refused["code"], refused["message"]), ("UNAVAILABLE", "the queue is full; try again later"))
    # A node with other bounds uses the queue as it is, and says so.
    y = consumer(w, w.b, dest, 1)
    same([f.body for f in drain(y, dest)], [b"0", b"1", b"2", b"3", b"4"])
    assert "has other bounds" in w.b.text()
    z = w.b.client()
    assert "message-id" in z.send(dest, "from the other one")
    same(y.on(dest).body, b'"from the other one"')
    x.send(dest, 6)
    same(y.on(dest).body, b"6")
    close(x, y, z)
    w.drop(n)


@test
def work_hostile_messages_are_refused_and_the_rest_goes_on(w):
    dest = "/queue/hostile"
    c, x = consumer(w, w.b, dest, 1), w.a.client()
    key = queue_of(dest)
    good = {"chatd-v": 1, "chatd-kind": "work", "chatd-to": "topic", "chatd-from": "nx", "chatd-epoch": "e",
            "chatd-n": 1, "chatd-topic": dest}
    kinds = ("poison", "foreign", "unsigned", "signature", "old")
    before = {k: w.b.number("rejected_totalreason=" + k) for k in kinds}

    def put(body, headers, signer=KEY, when=None, by=key):
        w.rabbit.publish(key, body, signed(signer, by, body, headers, when) if signer else headers)

    w.rabbit.publish(key, b"plain", {})
    put(b"not signed", good, None)
    put(b"another key", good, "k" * 48)
    put(b"of another queue", good, by=queue_of("/queue/other"))
    w.rabbit.publish(key, b"changed", signed(KEY, key, b"other", good))
    bad = [{**good, "chatd-v": 9}, {**good, "chatd-kind": "topic"}, {**good, "chatd-topic": "/queue/other"},
           {**good, "chatd-topic": b"/queue/\xff"}, {**good, "chatd-headers": b"a\xff:b\n"}, {**good, "chatd-headers": "no colon\n"},
           {**good, "chatd-users": "a"}, {k: v for k, v in good.items() if k != "chatd-topic"}]
    for headers in bad:
        put(b"x", headers)
    w.rabbit.publish(key, b"y" * (1 << 20) + b"y", good)
    # A queue keeps it for a day: only what is for nodes must be of now.
    put(b"let in", {**good, "chatd-headers": "destination:/topic/x\nsubscription:7\nok:1\n"}, when=time.time() - 7200)
    x.send(dest, "good")
    f = c.on(dest)
    same((f.body, f.headers["destination"], f.headers["ok"]), (b"let in", dest, "1"))
    same(c.on(dest).body, b'"good"')
    grown = {k: w.b.number("rejected_totalreason=" + k) - before[k] for k in kinds}
    same(grown, {"poison": len(bad) + 1, "foreign": 1, "unsigned": 1, "signature": 3, "old": 0})
    wait_until(lambda: sum(w.rabbit.queue(key)[k] for k in ("messages_ready", "messages_unacknowledged")) == 0, 30, "it is empty")
    close(c, x)


@test
def work_a_deleted_queue_is_made_again(w):
    dest = "/queue/deleted"
    c, x = consumer(w, w.b, dest, 1), w.a.client()
    x.send(dest, 1)
    same(c.on(dest).body, b"1")
    delete = "{ok, Q} = rabbit_amqqueue:lookup({resource, <<\"/\">>, queue, <<\"%s\">>}), " \
             "rabbit_amqqueue:delete(Q, false, false, <<\"test\">>)." % queue_of(dest)
    w.rabbit.erlang(delete)
    assert "message-id" in x.send(dest, 2), "its queue is made again for it"
    same(c.on(dest).body, b"2")
    w.rabbit.erlang(delete)
    consumed(w, dest, 1)
    x.send(dest, 3)
    same(c.on(dest).body, b"3")
    close(c, x)


@test
def work_a_broadcast_queue_is_no_work_queue(w):
    nodes = [Plain("n8%d" % i, [w.rabbit.port], w.workers, settings=("route-local.queue_mode=broadcast",)) for i in (0, 1)]
    w.more += nodes
    for n in nodes:
        n.wait_up()
    x, y = (n.client() for n in nodes)
    for c in (x, y):
        c.subscribe("/queue/all")
    wait_until(lambda: any(k.startswith("chat.topic.") for k in w.rabbit.bindings("chat.queue.n81")), 30, "a binding")
    x.send("/queue/all", 1)
    same([c.on("/queue/all").body for c in (x, y)], [b"1", b"1"])
    same(w.rabbit.queue(queue_of("/queue/all")), None)
    close(x, y)
    for n in nodes:
        w.drop(n)
