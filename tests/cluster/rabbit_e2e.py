#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""route-rabbitmq on a real RabbitMQ: two nodes that are plain brokers, a third where it is hurt.  Speaks TAP.

usage: rabbit_e2e.py [WORKERS] [WORD]     only the tests with WORD in their names
CHATD_FULL=1: the long forms too."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faults"))
import astray  # noqa: E402
import declared  # noqa: E402
import work  # noqa: E402
from plain import BUILD, KEY, Plain, free_port, wait_until  # noqa: E402
from backends.base import IN_CI, Missing  # noqa: E402
from backends.rabbit import Rabbit  # noqa: E402
from harness import Proxy  # noqa: E402
from seal import signed  # noqa: E402

FULL = os.environ.get("CHATD_FULL") == "1"
PROBE = "  cluster-probe: {}\n"
TESTS = []


BIND = ("rabbit_binding:add({binding, {resource, <<\"/\">>, exchange, <<\"chat.exchange\">>}, <<\"%s\">>, "
        "{resource, <<\"/\">>, queue, <<\"chat.queue.%s\">>}, []}, <<\"test\">>).")


def test(fn):
    TESTS.append(fn)
    return fn


def full(fn):
    return test(fn) if FULL else fn


def same(a, b, what=""):
    assert a == b, "%s: %r is not %r" % (what, a, b)


class World:
    """One broker and two nodes for all tests; a test that needs more starts it itself."""

    def __init__(self, workers):
        self.workers, self.more, self.named = workers, [], 0
        self.rabbit = Rabbit().start()
        # All that the README says a node needs.
        self.rabbit.erlang('rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"/">>, %s, <<"test">>).'
                           % ", ".join(3 * ['<<"^chat\\\\.">>']))
        self.a, self.b = self.node("n1"), self.node("n2")
        for n in (self.a, self.b):
            n.wait_up()

    def node(self, name=None, brokers=None, **options):
        places = options.pop("places", "known")
        extra = PROBE + ("  cluster-places: { places: %s, delay: %s }\n" % (places, options.pop("delay", "5ms")))
        self.named += name is None
        n = Plain(name or "n%d" % (self.named + 100), brokers or [self.rabbit.port], self.workers, extra=extra, more=options or None,
                  settings=("server.plugin_path=" + os.path.join(BUILD, "tests", "cluster"),))
        self.more.append(n)
        return n

    def drop(self, node):
        """Ends it; what its log says must be clean."""
        self.more.remove(node)
        code, log = node.stop()
        same(code, 0, "exit code of " + node.name + log[-2000:])
        assert "Sanitizer" not in log, log[-6000:]
        # The watchdog's clock also runs while the machine has no time for us; a broker holds for seconds.
        held = [int(ms) for ms in re.findall(r"held (?:worker \d+ )?for (\d+) ms", log)]
        assert max(held, default=0) < 3000, "held for %r ms\n%s" % (held, log[-6000:])
        return log

    def meet(self, dest, names=("ann", "bob")):
        """A client on each node, both subscribed; until what one says reaches the other."""
        x, y = self.a.client(names[0]), self.b.client(names[1])
        hear(y, dest, self.rabbit, "n2")
        hear(x, dest, self.rabbit, "n1")
        return x, y


def key_of(dest):
    import hashlib
    if re.fullmatch(r"/topic/room/[A-Za-z0-9_-]{1,64}", dest):
        return "chat.room." + dest[12:]
    return "chat.topic." + hashlib.sha256(dest.encode()).hexdigest()[:16]


def hear(client, dest, rabbit, node):
    """Subscribed, and the broker knows of it."""
    client.subscribe(dest)
    wait_until(lambda: key_of(dest) in rabbit.bindings("chat.queue." + node), 30, "a binding for " + dest)


def close(*clients):
    for c in clients:
        c.close()


def event(client, kind, to, body="", **headers):
    """What done() had."""
    client.put("/app/probe.event", body, kind=kind, to=to, **headers)
    return int(client.take("/user/queue/done", 1)[0])


# ---- topics ------------------------------------------------------------------------------

@test
def what_is_said_after_the_receipt_of_a_subscribe_comes(w):
    """On another node, at once, of a topic that nobody wanted before; by those who subscribe while another waits, too."""
    x, y, z = w.a.client("ann"), w.b.client("bob"), w.b.client("cid")
    for i in range(400 if FULL else 60):
        dest = "/topic/fresh/%d" % i
        first, second = (y, z) if i % 2 else (z, y)
        for c in (first, second):
            c.write("SUBSCRIBE", {"id": dest, "destination": dest, "receipt": dest})
        for c, text in (first, "1"), (second, "2"):
            assert c.wait(lambda f: f.headers.get("receipt-id") == dest), dest
            x.put(dest, text)
        same(first.take(dest, 2, 5), ["1", "2"], dest)
        assert second.wait(lambda f: f.command == "MESSAGE" and f.headers["destination"] == dest and f.body == b"2"), dest
    close(x, y, z)


@test
def a_subscribe_does_not_wait_for_a_broker_that_does_not_answer(w):
    """Once for subscribe_wait, then not at all; nor for one that is away."""
    n = w.node(subscribe_wait="1s")
    n.wait_up()
    y = n.client()

    def took(dest):
        begin = time.monotonic()
        y.subscribe(dest)
        return time.monotonic() - begin
    w.rabbit.freeze()
    first, then = took("/topic/frozen/1"), [took("/topic/frozen/%d" % i) for i in range(2, 12)]
    w.rabbit.thaw()
    assert 0.9 < first, first
    assert max(then) < 0.5, then
    same(n.number("late_bindings_total"), 1)
    x = w.a.client()
    n.wait_up()
    wait_until(lambda: key_of("/topic/frozen/11") in w.rabbit.bindings("chat.queue." + n.name), 30, "bound in the end")
    y.subscribe("/topic/again")
    x.put("/topic/again", "hello")
    same(y.on("/topic/again").body, b"hello")
    close(x, y)
    w.drop(n)
    lonely = w.node(brokers=[free_port()])
    y = lonely.client()
    assert took("/topic/alone") < 0.5
    close(y)
    w.drop(lonely)


@test
def a_topic_is_heard_on_all_nodes_with_all_its_headers(w):
    x, y = w.meet("/topic/news")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    r = x.send("/topic/news", b"hello", {"traceparent": trace, "odd": "a:b\\n c", "content-type": "text/plain"})
    here, there = (c.on("/topic/news") for c in (x, y))
    for f in (here, there):
        same((f.body, f.headers["traceparent"], f.headers["odd"], f.headers["content-type"]),
             (b"hello", trace, "a:b\\n c", "text/plain"))
        same(f.headers["message-id"], r["message-id"])
    y.put("/topic/news", b"\x00\xff\x01 back")
    same((x.on("/topic/news").body, y.on("/topic/news").body), (b"\x00\xff\x01 back",) * 2)
    big = os.urandom(50000)
    x.put("/topic/news", big)
    same(y.on("/topic/news").body, big)
    y.put("/topic/news", b"")
    same(x.on("/topic/news", 10).body, big)
    same(x.on("/topic/news").body, b"")
    same(x.quiet("/topic/news"), True, "nobody hears anything twice")
    close(x, y)


@test
def each_sender_keeps_its_order(w):
    x, y = w.meet("/topic/order")
    n = 1500
    for i in range(n):
        x.put("/topic/order", "x%d" % i)
        y.put("/topic/order", "y%d" % i)
    for c in (x, y):
        got = c.take("/topic/order", 2 * n)
        for s in "xy":
            same([g for g in got if g[0] == s], ["%s%d" % (s, i) for i in range(n)])
    close(x, y)


@test
def a_topic_is_bound_while_it_has_subscribers_and_a_little_longer(w):
    x = w.a.client()
    dest, queue = "/topic/room/r1", "chat.queue.n1"
    hear(x, dest, w.rabbit, "n1")
    sub = x.subscribe(dest)
    assert {"chat.n1", "chat.all", "chat.room.r1"} <= set(w.rabbit.bindings(queue))
    x.close()
    time.sleep(0.5)
    assert "chat.room.r1" in w.rabbit.bindings(queue), "it is unbound at once"
    y = w.a.client()
    sub = y.subscribe(dest)
    time.sleep(1.5)
    assert "chat.room.r1" in w.rabbit.bindings(queue), "unbound although somebody has come again"
    y.unsubscribe(sub)
    wait_until(lambda: "chat.room.r1" not in w.rabbit.bindings(queue), 20, "it is unbound")
    y.close()


@test
def a_stray_binding_goes_when_something_comes_by_it(w):
    w.rabbit.erlang(BIND % ("chat.room.stray", "n1"))
    assert "chat.room.stray" in w.rabbit.bindings("chat.queue.n1")
    y = w.b.client()
    y.put("/topic/room/stray", "x")
    wait_until(lambda: "chat.room.stray" not in w.rabbit.bindings("chat.queue.n1"), 20, "it is unbound")
    y.close()


@test
def what_nobody_else_wants_counts_as_confirmed(w):
    x = w.a.client()
    before = w.a.number("returned_total")
    for i in range(50):
        x.put("/topic/alone", i)
    wait_until(lambda: w.a.number("returned_total") - before == 50, 20, "50 come back")
    wait_until(lambda: w.a.number("waiting_bytes") == 0, 20, "nothing waits")
    x.close()


# ---- users -----------------------------------------------------------------------------------

@test
def a_user_is_found_on_another_node(w):
    x, y, z = w.a.client("ann"), w.b.client("n2-bob"), w.a.client("n2-bob")
    for c in (y, z):
        c.subscribe("/user/queue/probe")
    x.put("/app/probe.user", "hi", to="n2-bob", traceparent="t-1")
    for c in (y, z):
        f = c.on("/user/queue/probe")
        same((f.body, f.headers.get("traceparent")), (b"hi", "t-1"))
        same(c.quiet("/user/queue/probe"), True)
    n = 300
    for i in range(n):
        x.put("/app/probe.user", i, to="n2-bob")
    same(y.take("/user/queue/probe", n), [str(i) for i in range(n)])
    same(z.take("/user/queue/probe", n), [str(i) for i in range(n)])
    close(x, y, z)


@test
def a_user_whose_node_is_gone_is_looked_for_on_all(w):
    x, y = w.a.client("ann"), w.b.client("n9-bob")
    y.subscribe("/user/queue/probe")
    before = w.a.number("returned_total")
    x.put("/app/probe.user", "hi", to="n9-bob")
    same(y.on("/user/queue/probe").body, b"hi")
    assert w.a.number("returned_total") > before
    close(x, y)


@test
def where_nobody_knows_where_users_are_all_nodes_are_told(w):
    for places in ("none", "unknown"):
        n = w.node(places=places)
        n.wait_up()
        x, y = n.client("ann"), w.b.client("x-bob")
        y.subscribe("/user/queue/probe")
        x.put("/app/probe.user", places, to="x-bob")
        same(y.on("/user/queue/probe").body, places.encode())
        close(x, y)
        w.drop(n)


# ---- events -------------------------------------------------------------------------------------

@test
def events_reach_whom_they_are_for(w):
    x, y, z = w.a.client("n1-ann"), w.b.client("n2-bob"), w.a.client("n1-zoe")
    for c in (x, y):
        c.subscribe("/topic/probe")
    x.subscribe("/user/queue/done")
    x.subscribe("/user/queue/errors")

    def came():
        return json.loads(y.on("/topic/probe").body)

    same(event(x, "probe", "all", "one", key="k", **{"x-note": "n"}), 0)
    want = {"kind": "probe", "to": 1, "from": "n1", "key": "k", "topic": "", "users": "", "note": "n", "ephemeral": 0,
            "size": 3, "body": "one"}
    same(came(), want)
    same(event(x, "probe", "node", "two", node="n2", ephemeral="1"), 0)
    same({k: v for k, v in came().items() if k in ("to", "body", "ephemeral")}, {"to": 2, "body": "two", "ephemeral": 1})
    same(event(x, "probe", "node", "none", node="n7"), -2)
    same(event(x, "probe", "users", "three", users="n2-bob,n1-ann,n2-eve"), 0)
    f = came()
    same((f["users"], f["to"], f["body"]), ("n2-bob,n1-ann,n2-eve", 4, "three"))
    hear(y, "/topic/t9", w.rabbit, "n2")
    same(event(x, "probe", "topic", "four", topic="/topic/t9"), 0)
    same(came()["topic"], "/topic/t9")
    same(event(x, "probe", "topic", "five", topic="/topic/nobody"), 0)
    before = w.b.number("rejected_totalreason=kind")
    same(event(x, "unheard.of2", "all", "six"), 0)
    same(event(x, "probe", "all", "seven"), 0)
    same(came()["body"], "seven")
    same(w.b.number("rejected_totalreason=kind"), before + 1)
    same(x.quiet("/topic/probe"), True, "a node's own events come back")
    f = x.send("/app/probe.event", b"", {"kind": "Bad Kind", "to": "all"})
    same(f.get("code"), "REFUSED")
    close(x, y, z)


@test
def order_of_a_key_survives_slow_answers_about_users(w):
    n = w.node(delay="60ms")
    n.wait_up()
    x, y = n.client("ann"), w.b.client("bob")
    y.subscribe("/topic/probe")
    for i in range(40):
        to = {"to": "users", "users": "n2-bob"} if i % 3 == 0 else {"to": "all"}
        x.put("/app/probe.event", "k%d" % i, kind="probe", key="k", **to)
    x.put("/app/probe.event", "other", kind="probe", key="j", to="all")
    got = [json.loads(t)["body"] for t in y.take("/topic/probe", 41)]
    same([g for g in got if g[0] == "k"], ["k%d" % i for i in range(40)])
    assert got.index("other") < 40, "another key waits as well"
    close(x, y)
    w.drop(n)


# ---- several in one message -----------------------------------------------------------------------------

def held(w, send, n):
    """Sends so many while the broker is held, so that most wait."""
    w.rabbit.freeze()
    for i in range(n):
        send(i)
    time.sleep(0.3)
    w.rabbit.thaw()


def together(node, before):
    """How many events went with others, and in how many messages."""
    return tuple(int(node.number(k) - v) for k, v in zip(("batched_total", "batches_total"), before))


def so_far(node):
    return node.number("batched_total"), node.number("batches_total")


@test
def what_waits_for_a_node_goes_together_and_stays_in_order(w):
    x, y = w.a.client("ann"), w.b.client("n2-bob")
    y.subscribe("/topic/probe")
    y.subscribe("/user/queue/probe")
    before, stale, n = so_far(w.a), w.b.number("stale_total"), 400

    def send(i):
        more = {"ephemeral": "1"} if i % 7 == 0 else {}
        x.put("/app/probe.event", "k%d" % i, kind="probe", key="k%d" % (i % 3), to="node", node="n2", **more)
        x.put("/app/probe.user", "u%d" % i, to="n2-bob")
    held(w, send, n)
    got = [json.loads(t) for t in y.take("/topic/probe", n)]
    for k in range(3):
        for e in (0, 1):  # what expires and what does not cannot go together, but keeps its order
            same([int(g["body"][1:]) for g in got if g["key"] == "k%d" % k and g["ephemeral"] == e],
                 [i for i in range(n) if i % 3 == k and (i % 7 == 0) == e])
        same([int(g["body"][1:]) for g in got if g["key"] == "k%d" % k], [i for i in range(n) if i % 3 == k])
    same(y.take("/user/queue/probe", n), ["u%d" % i for i in range(n)])
    wait_until(lambda: w.a.number("waiting_bytes") == 0, 20, "all is confirmed")
    events, messages = together(w.a, before)
    print("# %d of %d events went in %d messages" % (events, 2 * n, messages))
    assert events > n and messages < events / 3, (events, messages)
    same(w.b.number("stale_total"), stale)
    same((y.quiet("/topic/probe"), y.quiet("/user/queue/probe")), (True, True))
    close(x, y)


@test
def an_idle_line_has_single_events(w):
    x, y = w.a.client("ann"), w.b.client("n2-bob")
    y.subscribe("/user/queue/probe")
    before = so_far(w.a)
    for i in range(20):
        x.put("/app/probe.user", i, to="n2-bob")
        same(y.take("/user/queue/probe", 1), [str(i)])
    same(together(w.a, before), (0, 0))
    close(x, y)


@test
def topics_go_together_where_that_is_said(w):
    n, m = w.node(batch="on"), w.node(batch="off")
    for node in (n, m):
        node.wait_up()
    y, dest = w.b.client("bob"), "/topic/many"
    hear(y, dest, w.rabbit, "n2")
    for node, grows in ((n, True), (m, False), (w.a, False)):  # auto does not know how many nodes there are
        x, before, returned = node.client("ann"), so_far(node), node.number("returned_total")

        def send(i):
            x.put(dest, "%d %s" % (i, "z" * (i % 40) * 100))
            x.put("/topic/alone", i)
        held(w, send, 300)
        same([t.split()[0] for t in y.take(dest, 300)], [str(i) for i in range(300)])
        wait_until(lambda: node.number("returned_total") - returned == 300, 20, "nobody wants the others, one by one")
        wait_until(lambda: node.number("waiting_bytes") == 0, 20, "all is confirmed")
        events, messages = together(node, before)
        assert (events > 300 and messages < events / 3) if grows else (events, messages) == (0, 0), (node.name, events, messages)
        x.close()
    same(y.quiet(dest), True)
    y.close()
    for node in (n, m):
        w.drop(node)


@test
def whom_nobody_has_heard_of_gets_single_events(w):
    """An older release does not say what it understands; nor is one believed that does not sign."""
    n = w.node(sign="off", keys="[]")
    n.wait_up()
    x, y = w.a.client("ann"), n.client("bob")
    y.subscribe("/topic/probe")
    before = so_far(w.a)
    held(w, lambda i: x.put("/app/probe.event", i, kind="probe", key="k", to="node", node=n.name), 100)
    same([json.loads(t)["body"] for t in y.take("/topic/probe", 100)], [str(i) for i in range(100)])
    same(together(w.a, before), (0, 0))
    close(x, y)
    w.drop(n)


# ---- the broker goes and comes ------------------------------------------------------------------------

def paced(client, dest, stop, sent, slowest):
    """Sends with receipts until told to stop."""
    while not stop.is_set():
        begin = time.monotonic()
        r = client.send(dest, str(len(sent)).encode())
        assert "message-id" in r, r
        slowest[0] = max(slowest[0], time.monotonic() - begin)
        sent.append(str(len(sent)))
        time.sleep(0.005)


class Load:
    """Numbers from one node to the other, while something is done to the broker."""

    def __init__(self, w, dest, node=None):
        self.dest = dest
        self.x, self.y = (node or w.a).client("ann"), w.b.client("bob")
        hear(self.y, dest, w.rabbit, "n2")
        self.x.subscribe(dest)
        self.sent, self.slowest, self.stop = [], [0], threading.Event()
        self.thread = threading.Thread(target=paced, args=(self.x, dest, self.stop, self.sent, self.slowest))
        self.thread.start()

    def finish(self, seconds=30):
        """Everything came, once and in order; nobody had to wait for the broker."""
        self.stop.set()
        self.thread.join()
        same(self.y.take(self.dest, len(self.sent), seconds), self.sent, "on the other node")
        same(self.x.take(self.dest, len(self.sent)), self.sent, "on the same node")
        same(self.y.quiet(self.dest), True)
        assert self.slowest[0] < 1, "a receipt took %.3f s" % self.slowest[0]
        print("# %d messages, slowest receipt %.1f ms" % (len(self.sent), self.slowest[0] * 1000))
        close(self.x, self.y)


@test
def f10_a_stopped_broker_delays_others_and_nobody_here(w):
    load = Load(w, "/topic/f10")
    link = w.a.client("link")
    link.subscribe("/topic/link")
    time.sleep(0.5)
    w.rabbit.stop_app()
    w.a.wait_up(0, 5)
    same(w.a.readyz(), {"status": "UP", "broker": "DOWN"})
    typing = w.a.number("dropped_totalreason=away")
    link.put("/app/probe.user", "typing", to="n2-bob", ephemeral="1")
    wait_until(lambda: w.a.number("dropped_totalreason=away") == typing + 1, 20, "what is ephemeral is dropped")
    time.sleep(60 if FULL else 2)
    w.rabbit.start_app()
    begin = time.monotonic()
    w.a.wait_up()
    w.b.wait_up()
    print("# up again %.1f s after the broker" % (time.monotonic() - begin))
    same(w.a.readyz(), {"status": "UP"})
    same(link.take("/topic/link", 2), ["down", "up"])
    load.finish()
    link.close()
    wait_until(lambda: w.a.number("waiting_bytes") == 0, 30, "nothing waits")


@test
def f10_a_broker_that_stands_still_adds_nothing_to_a_receipt(w):
    """Beside a node whose broker answers: both in turns, so that the machine is the same for both."""
    p = Proxy("127.0.0.1:%d" % w.rabbit.port)
    # On a slow machine it all takes longer than a link is usually given.
    n = w.node(None, [p.port], heartbeat="1m", confirm_timeout="10m")
    n.wait_up()
    dest, took = "/topic/pace", ([], [])
    z = w.b.client("zoe")
    hear(z, dest, w.rabbit, "n2")
    p("stall")
    pair = n.client("ann"), w.a.client("bob")
    for i in range(3000 if FULL else 400):
        for client, times, who in zip(pair, took, ("stalled", "free")):
            begin = time.monotonic()
            assert "message-id" in client.send(dest, ("%s %d" % (who, i)).encode())
            times.append(time.monotonic() - begin)
    same(n.number("up"), 1, "it has not noticed yet")
    median, p99 = ([sorted(t)[int(len(t) * q)] * 1000 for t in took] for q in (0.5, 0.99))
    print("# receipts, stalled and free: median %.1f, %.1f ms; p99 %.1f, %.1f ms" % (*median, *p99))
    assert median[0] <= median[1] + 10, "a receipt waits for the broker"
    p("pass")
    got = z.take(dest, 2 * len(took[0]), 60)
    for who in ("stalled", "free"):
        same([t for t in got if t.startswith(who)], ["%s %d" % (who, i) for i in range(len(took[0]))])
    close(*pair, z)
    w.drop(n)
    p.close()


@test
def who_serves_clients_never_talks_to_the_broker(w):
    """G-BRK-1: no call into rabbitmq-c on a worker; by the system calls on connections to the broker."""
    if not shutil.which("strace"):
        print("# skipped: no strace")
        return
    x, y = w.meet("/topic/threads")
    trace = os.path.join(w.a.dir, "trace")
    names = {t: open("/proc/%d/task/%s/comm" % (w.a.proc.pid, t)).read().strip() for t in os.listdir("/proc/%d/task" % w.a.proc.pid)}
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-yy", "-s", "0", "-o", trace, "-e", "trace=network,read,write,readv,writev",
                               "-p", str(w.a.proc.pid)], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: tracer.poll() is not None or "TracerPid:\t%d\n" % tracer.pid in open("/proc/%d/status" % w.a.proc.pid).read(),
               30, "strace is there")
    if tracer.poll() is not None:
        print("# skipped: strace may not attach here: " + tracer.stderr.read()[:100])
        return
    calls = []

    def done():
        for c in (x, y):
            c.send("/topic/threads", b"one")
        with open(trace, errors="replace") as f:
            calls[:] = re.findall(r"^(\d+) +([a-z]+)\(\d+<TCP:\[[^]]*->[^]]*:%d\]>" % w.rabbit.port, f.read(), re.M)
        return {"send", "recv"} <= {call[:4] for _, call in calls}
    try:
        wait_until(done, 60, "something was sent to the broker and read")
        hear(x, "/topic/more", w.rabbit, "n1")
        done()
    finally:
        tracer.terminate()
        tracer.wait()
    who = {names.get(tid, "a thread that has just begun") for tid, _ in calls}
    print("# %d calls by %s" % (len(calls), ", ".join(sorted(who))))
    assert not [n for n in who if "worker" in n], who
    close(x, y)


@test
def f13_a_killed_broker_loses_nothing(w):
    load = Load(w, "/topic/f13")
    time.sleep(0.5)
    w.rabbit.kill()
    time.sleep(0.5)
    w.rabbit.start()
    w.a.wait_up()
    w.b.wait_up()
    load.finish()


@test
def f11_a_broker_short_of_memory_takes_nothing_and_gives(w):
    load = Load(w, "/topic/f11")
    takes_none, takes = "the broker takes no messages for now", "the broker takes messages again"
    said = [w.a.text().count(t) for t in (takes_none, takes)]
    time.sleep(0.3)
    w.rabbit.alarm(True)
    w.a.wait_up(0, 10)
    time.sleep(30 if FULL else 2)
    w.rabbit.alarm(False)
    w.a.wait_up(1, 10)
    w.b.wait_up(1, 10)
    load.finish()
    same([w.a.text().count(t) - n for t, n in zip((takes_none, takes), said)], [1, 1], "each is said exactly once")


@test
def f12_closed_connections_come_back_two_for_each_node(w):
    load = Load(w, "/topic/f12")
    for _ in range(20 if FULL else 5):
        time.sleep(2 if FULL else 0.4)
        w.rabbit.close_connections()
    w.a.wait_up()
    w.b.wait_up()
    load.finish()
    same(sorted(w.rabbit.connections()),
         ["chatd n%d %s" % (n, r) for n in (1, 2) for r in ("consume", "publish")])
    same((w.rabbit.queue("chat.queue.n1")["consumers"], w.rabbit.queue("chat.queue.n2")["consumers"]), (1, 1))


@test
def f14_what_was_not_acknowledged_comes_again_and_is_passed_over(w):
    x, y = w.a.client("ann"), w.b.client("bob")
    y.subscribe("/topic/probe")
    stale, before, n = w.b.number("stale_total"), so_far(w.a), 120
    held(w, lambda i: x.put("/app/probe.event", i, kind="slow", to="node", node="n2", key="k"), n)
    wait_until(lambda: together(w.a, before)[0] > n / 2, 30, "most go in one message")
    time.sleep(0.2)
    w.b.proc.send_signal(signal.SIGSTOP)  # however long the broker takes
    w.rabbit.close_connections("n2 consume")
    w.b.proc.send_signal(signal.SIGCONT)
    same([json.loads(t)["body"] for t in y.take("/topic/probe", n, 30)], [str(i) for i in range(n)])
    # Most went in one message, which was not acknowledged before the last of them was done.
    wait_until(lambda: w.b.number("stale_total") > stale + n / 2, 30, "they came again")
    same(y.quiet("/topic/probe"), True, "and was done twice")
    close(x, y)


@test
def f20_a_deleted_exchange_is_made_anew(w):
    x, y = w.meet("/topic/f20")
    w.rabbit.erlang("rabbit_exchange:delete({resource, <<\"/\">>, exchange, <<\"chat.exchange\">>}, false, <<\"test\">>).")
    begin = time.monotonic()
    i = 0
    while y.on("/topic/f20", 0.1) is None:
        assert time.monotonic() - begin < 30, "not healed"
        x.put("/topic/f20", i)
        i += 1
    print("# healed in %.1f s" % (time.monotonic() - begin))
    y.put("/topic/f20", "back")
    wait_until(lambda: x.on("/topic/f20", 20).body == b"back", 20, "the other way round")
    close(x, y)


@test
def f20_bindings_lost_without_a_word_are_noticed(w):
    x, y = w.meet("/topic/f20b")
    said = len(w.b.text())
    for key in ("chat.n2", "chat.topic." + key_of("/topic/f20b")[11:]):
        w.rabbit.erlang("rabbit_binding:remove({binding, {resource, <<\"/\">>, exchange, <<\"chat.exchange\">>}, <<\"%s\">>, "
                        "{resource, <<\"/\">>, queue, <<\"chat.queue.n2\">>}, []}, <<\"test\">>)." % key)
    wait_until(lambda: "the bindings of chat.queue.n2 are gone" in w.b.text()[said:], 20, "it is noticed")
    wait_until(lambda: {"chat.n2", key_of("/topic/f20b")} <= set(w.rabbit.bindings("chat.queue.n2")), 20, "they are back")
    close(x, y)


@test
def f21_a_deleted_queue_is_made_anew_and_a_purged_one_goes_on(w):
    x, y = w.meet("/topic/f21")
    w.rabbit.erlang("{ok, Q} = rabbit_amqqueue:lookup({resource, <<\"/\">>, queue, <<\"chat.queue.n2\">>}), "
                    "rabbit_amqqueue:delete(Q, false, false, <<\"test\">>).")
    begin = time.monotonic()
    while y.on("/topic/f21", 0.1) is None:
        assert time.monotonic() - begin < 30, "not healed"
        x.put("/topic/f21", "x")
    w.rabbit.erlang("{ok, Q} = rabbit_amqqueue:lookup({resource, <<\"/\">>, queue, <<\"chat.queue.n2\">>}), "
                    "rabbit_amqqueue:purge(Q).")
    x.put("/topic/f21", "after")
    wait_until(lambda: y.on("/topic/f21", 20).body == b"after", 20, "after a purge")
    close(x, y)


@test
def f22_an_overflowing_queue_drops_its_oldest_and_goes_on(w):
    x, y = w.meet("/topic/f22")
    w.rabbit.erlang("rabbit_policy:set(<<\"/\">>, <<\"short\">>, <<\"^chat.queue.n2$\">>, "
                    "[{<<\"max-length\">>, 100}], 0, <<\"queues\">>, <<\"test\">>).")
    time.sleep(0.3)
    w.b.proc.send_signal(signal.SIGSTOP)
    n = 5000 if FULL else 1500
    for i in range(n):
        x.put("/topic/f22", i)
    wait_until(lambda: w.a.number("waiting_bytes") == 0, 20, "the broker has it all")
    w.b.proc.send_signal(signal.SIGCONT)
    x.put("/topic/f22", "end")
    got = []
    while got[-1:] != ["end"]:
        got += y.take("/topic/f22", 1)
    assert 100 <= len(got) < n, len(got)
    same(got, sorted(set(got[:-1]), key=int) + ["end"], "order, once each")
    w.rabbit.erlang("rabbit_policy:delete(<<\"/\">>, <<\"short\">>, <<\"test\">>).")
    close(x, y)


# ---- what must not come in ------------------------------------------------------------------------------

@test
def f17_poison_is_refused_and_nothing_else(w):
    x, y = w.meet("/topic/f17")
    good = {"chatd-v": 1, "chatd-kind": "topic", "chatd-to": "topic", "chatd-from": "n8", "chatd-epoch": "0" * 16,
            "chatd-n": 1, "chatd-topic": "/topic/f17"}
    bad = [({}, b""), ({}, b"{\"type\":\"CHAT\"}"), ({}, b"{not json"), (good, b"x" * (2 << 20)),
           ({**good, "chatd-v": 99}, b""), ({**good, "chatd-v": "1"}, b""), ({**good, "chatd-kind": 5}, b""),
           ({**good, "chatd-n": -1}, b""), ({**good, "chatd-from": ""}, b""), ({**good, "chatd-to": "users"}, b""),
           ({**good, "chatd-to": "users", "chatd-users": "a," * 5000}, b""), ({**good, "chatd-epoch": "e" * 200}, b""),
           ({"chatd-v": True, "x": True}, b"")]
    odd = [{"chatd-headers": "no colon\n"}, {"chatd-headers": "a:\\q\n"}, {"chatd-topic": "/nowhere/x"},
           {"chatd-headers": b"a:\xff\xfe\n"}, {"chatd-topic": "/topic/\u0000x"}, {"chatd-from": "n2"}]
    before = w.b.numbers()
    keys = ["chat.n2", "chat.all", key_of("/topic/f17")]
    for i, (headers, body) in enumerate(bad):
        w.rabbit.publish(keys[i % 3], body, headers)
    for i, more in enumerate(odd):
        w.rabbit.publish("chat.n2", b"odd", signed(KEY, "chat.n2", b"odd", {**good, "chatd-n": 100 + i, **more}))
    w.rabbit.publish("chat.n2", b"good", signed(KEY, "chat.n2", b"good", {**good, "chatd-n": 500}))
    same(y.on("/topic/f17").body, b"good")
    same(y.quiet("/topic/f17"), True)
    now = w.b.numbers()
    grown = {k: now["chatd_cluster_rejected_totalreason=" + k] - before["chatd_cluster_rejected_totalreason=" + k]
             for k in ("poison", "foreign")}
    same(grown, {"poison": 10 + 4, "foreign": 3})
    wait_until(lambda: (lambda q: q["messages_ready"] + q["messages_unacknowledged"] == 0)(w.rabbit.queue("chat.queue.n2")),
               5, "nothing comes round again")
    assert w.b.text().count("is refused:") <= 2, "said too often"
    close(x, y)


# ---- signatures -----------------------------------------------------------------------------------------

def topic_event(dest, number, **more):
    return {"chatd-v": 1, "chatd-kind": "topic", "chatd-to": "topic", "chatd-from": "n8", "chatd-epoch": "5" * 16,
            "chatd-n": number, "chatd-topic": dest, "chatd-key": dest, **more}


def refused(node):
    n = node.numbers()
    return {k: n["chatd_cluster_rejected_totalreason=" + k] for k in ("unsigned", "signature", "old", "poison")}


def grown(node, before):
    now = refused(node)
    return {k: int(now[k] - before[k]) for k in now if now[k] != before[k]}


@test
def a_forged_event_reaches_nobody(w):
    x, y = w.meet("/topic/forged")
    dest, key = "/topic/forged", key_of("/topic/forged")
    before, stale = refused(w.b), w.b.number("stale_total")

    def say(body, number, signer=KEY, when=None, by=key, **more):
        """Signed for one message; `by` and `more` are what is published."""
        headers = topic_event(dest, number)
        headers = signed(signer, key, body, headers, when) if signer else headers
        w.rabbit.publish(by, more.pop("instead", body), {**headers, **more})
    say(b"unsigned", 1, signer=None)
    say(b"another key", 2, signer="k" * 48)
    say(b"another body", 3, instead=b"another bodx")
    say(b"another sender", 4, **{"chatd-from": "n1"})
    say(b"another number", 5, **{"chatd-n": 6})
    say(b"by another key", 7, by="chat.n2")
    say(b"no signature", 8, **{"chatd-sig": "0" * 72})
    say(b"one header more", 9, seq="1")
    say(b"old", 10, when=time.time() - 16 * 60)
    say(b"ahead", 11, when=time.time() + 16 * 60)
    say(b"good", 12)
    same((x.on(dest).body, y.on(dest).body), (b"good",) * 2)
    say(b"good", 12)
    wait_until(lambda: w.b.number("stale_total") == stale + 1, 20, "what is played again is known")
    same(y.quiet(dest), True)
    same(grown(w.b, before), {"unsigned": 1, "signature": 7, "old": 2})
    w.rabbit.erlang(BIND % ("chat.n1", "n2"))
    say(b"for the other node", 13, by="chat.n1", **signed(KEY, "chat.n1", b"for the other node", topic_event(dest, 13)))
    same(x.on(dest).body, b"for the other node")
    same(y.quiet(dest), True)
    # What n1 sends itself every two seconds may have come as well.
    assert grown(w.b, before)["signature"] in (8, 9, 10), grown(w.b, before)
    w.rabbit.erlang((BIND % ("chat.n1", "n2")).replace("add(", "remove("))
    log = w.b.text()
    # Once a minute, so it may have been said of what an earlier case sent.
    assert re.search(r'WARN.*an event with routing key "[^"]+" that names node "[^"]*" as its sender is refused: ', log), log[-2000:]
    assert log.count("as its sender is refused") <= 2, "said more than once a minute"
    x.put(dest, "true")
    same(y.on(dest).body, b"true")
    close(x, y)


@test
def what_somebody_has_heard_cannot_be_played_again(w):
    x, y = w.meet("/topic/spied")
    dest, key, n = "/topic/spied", key_of("/topic/spied"), 5
    spy = subprocess.Popen([os.path.join(BUILD, "tests", "cluster", "amqp-spy"), str(w.rabbit.port), key, str(n)], text=True,
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    same(spy.stdout.readline(), "ready\n")
    for i in range(n):
        x.put(dest, "m%d" % i)
        same(y.on(dest).body, b"m%d" % i)
    same(spy.stdout.readline(), "taken\n")
    before, stale = refused(w.b), w.b.number("stale_total")
    for line in ("same " + key, "body " + key, "unsigned " + key, "same chat.n2", "same chat.all"):
        spy.stdin.write(line + "\n")
        spy.stdin.flush()
        same(spy.stdout.readline(), "done\n")
    spy.communicate(timeout=10)
    wait_until(lambda: w.b.number("stale_total") == stale + n, 20, "they are known")
    wait_until(lambda: sum(grown(w.b, before).values()) == 4 * n, 20, "the others are refused")
    same(grown(w.b, before), {"unsigned": n, "signature": 3 * n})
    same(y.quiet(dest), True)
    x.put(dest, "true")
    same(y.on(dest).body, b"true")
    close(x, y)


@test
def a_node_with_another_key_is_not_heard_and_hurts_nobody(w):
    n = w.node(keys=json.dumps(["another key than the others', of 32 bytes or more"]))
    n.wait_up()
    x, y, z = n.client("ann"), w.b.client("bob"), w.a.client("zoe")
    for c, name in ((x, n.name), (y, "n2")):
        hear(c, "/topic/wrong", w.rabbit, name)
    for i in range(30):
        x.put("/topic/wrong", "from the stranger")
        z.put("/topic/wrong", i)
    same(y.take("/topic/wrong", 30), [str(i) for i in range(30)])
    same(x.take("/topic/wrong", 30), ["from the stranger"] * 30)
    same((x.quiet("/topic/wrong"), y.quiet("/topic/wrong")), (True, True))
    assert re.search(r'that names node "(n1|n2)" as its sender is refused: it is signed with none of our keys', n.text()), n.text()
    assert grown(n, dict.fromkeys(refused(n), 0))["signature"] >= 30
    for node in (n, w.a, w.b):
        same(node.number("up"), 1)
    close(x, y, z)
    w.drop(n)


def hears(w, sender, receiver, dest):
    """Whether what one says reaches the other, which has subscribed; what follows tells that it does not."""
    x, y, z = sender.client("ann"), receiver.client("bob"), receiver.client("zoe")
    hear(y, dest, w.rabbit, receiver.name)
    x.put(dest, "across")
    found = y.on(dest, 1)
    close(x, y, z)
    return found is not None and found.body == b"across"


def again(node, **options):
    same(node.end(), 0)
    node.configure(**options)
    node.begin()
    node.wait_up()


@test
def keys_are_rotated_while_nodes_talk(w):
    old, new = "the key that goes, of 32 bytes or more..", "the key that comes, of 32 bytes or more."
    n, m = (w.node(keys=json.dumps([old])) for _ in "nm")
    for node in (n, m):
        node.wait_up()
    steps = 0
    for keys in ([old, new], [new, old], [new]):
        for node in (n, m):
            again(node, keys=json.dumps(keys))
            assert hears(w, n, m, "/topic/turn"), keys
            assert hears(w, m, n, "/topic/turn"), keys
            steps += 1
    same(steps, 6)
    for node in (n, m):
        w.drop(node)


@test
def nodes_that_do_not_sign_yet_are_let_in_for_a_while(w):
    n, m = w.node(keys="[]", sign="off"), w.node(sign="accept")
    for node in (n, m):
        node.wait_up()
    assert re.search("WARN.*events between nodes are not signed", n.text()), n.text()
    same([hears(w, a, b, "/topic/side") for a, b in ((n, m), (m, n), (m, w.b), (w.b, m), (w.b, n), (n, w.b))],
         [True, True, True, True, True, False])
    for node in (n, m):
        w.drop(node)


@test
def a_foreign_message_is_let_in_where_that_is_wanted(w):
    n = w.node(accept_foreign="true")
    n.wait_up()
    y = n.client("bob")
    y.subscribe("/topic/probe")
    hear(y, "/topic/room/r7", w.rabbit, n.name)
    w.rabbit.publish("chat.room.r7", b"hey")
    f = json.loads(y.on("/topic/probe").body)
    same((f["kind"], f["topic"], f["body"], f["from"]), ("foreign", "/topic/room/r7", "hey", ""))
    y.close()
    w.drop(n)


# ---- the wire between --------------------------------------------------------------------------------------

@test
def f15_a_link_that_has_gone_silent_is_left(w):
    p = Proxy("127.0.0.1:%d" % w.rabbit.port)
    n = w.node(None, [p.port], heartbeat="2s", confirm_timeout="3s", connect_timeout="1s")
    n.wait_up()
    load = Load(w, "/topic/f15", n)
    time.sleep(0.3)
    p("blackhole down")
    begin = time.monotonic()
    n.wait_up(0, 10)
    print("# noticed after %.1f s" % (time.monotonic() - begin))
    time.sleep(30 if FULL else 0.5)
    p("pass")
    n.wait_up(1, 30)
    load.finish()
    w.drop(n)
    p.close()


@test
def f18_broken_frames_end_a_connection_and_nothing_else(w):
    p = Proxy("127.0.0.1:%d" % w.rabbit.port)
    n = w.node(None, [p.port], connect_timeout="500ms", confirm_timeout="2s", heartbeat="2s")
    n.wait_up()
    x, y = n.client("ann"), w.b.client("bob")
    hear(x, "/topic/f18", w.rabbit, n.name)
    for command in ["corrupt %g down" % q for q in (0.01, 0.2)] + ["truncate %d down" % k for k in (9, 300)]:
        p(command)
        end = time.monotonic() + (10 if FULL else 2)
        while time.monotonic() < end:
            x.put("/topic/other", "x")
            y.put("/topic/f18", "some body that is long enough to be hit " * 5)
            time.sleep(0.01)
        p("drop-conn")
    p("pass")
    n.wait_up(1, 30)
    y.put("/topic/f18", "well")
    while x.on("/topic/f18", 20).body != b"well":  # what was corrupted in its text alone is before it
        pass
    close(x, y)
    w.drop(n)
    p.close()


@test
def a_frozen_broker_holds_nobody(w):
    x, y = w.meet("/topic/frozen")
    w.rabbit.freeze()
    begin, i, logins = time.monotonic(), 0, []
    while time.monotonic() - begin < (30 if FULL else 7):
        assert "message-id" in x.send("/topic/frozen", ("%d " % i).encode() * 200)
        if i % 20 == 0:
            late = time.monotonic()
            w.a.client("late").close()
            logins.append(time.monotonic() - late)
        i += 1
        time.sleep(0.005)
    w.rabbit.thaw()
    # The least: on a busy machine any may take long, if none waits for the broker one does not.
    assert min(logins) < 0.5, "the quickest login took %.3f s" % min(logins)
    same([t.split()[0] for t in y.take("/topic/frozen", i, 60)], [str(k) for k in range(i)])
    same(y.quiet("/topic/frozen"), True)
    w.a.wait_up()
    close(x, y)


@test
def another_address_is_tried(w):
    dead = free_port()
    n = w.node(None, [dead, w.rabbit.port])
    n.wait_up()
    w.rabbit.close_connections(n.name + " ")
    time.sleep(0.2)
    n.wait_up()
    w.drop(n)


@test
def a_full_queue_refuses_and_says_so_once(w):
    n = w.node(None, [free_port()], queue_max="64 KiB")
    x = n.client()
    x.subscribe("/topic/full")
    for i in range(300):
        x.put("/topic/full", "y" * 1000)
    same(len(x.take("/topic/full", 300)), 300)
    assert n.number("dropped_totalreason=full") > 100
    assert n.number("waiting_bytes") < 70000
    x.close()
    log = w.drop(n)
    same(log.count("more than queue_max"), 1)
    assert "events for other nodes still wait for the broker" in log, log[-2000:]


# ---- who may -----------------------------------------------------------------------------------------------

@test
def wrong_credentials_are_named_and_a_change_of_them_heals(w):
    secret = tempfile.NamedTemporaryFile("w", prefix="chatd-secret-")

    def write(text):
        secret.seek(0)
        secret.truncate()
        secret.write(text + "\n")
        secret.flush()

    def hangup(says):
        seen = len(n.text())
        n.proc.send_signal(signal.SIGHUP)
        wait_until(lambda: says in n.text()[seen:], 10, says)

    def change_password(to):
        w.rabbit.erlang('rabbit_auth_backend_internal:change_password(<<"nobody">>, <<"%s">>, <<"test">>).' % to)
    permit = ('rabbit_auth_backend_internal:set_permissions(<<"nobody">>, <<"/">>, <<"^chat">>, <<"^chat">>, <<"^chat">>, '
              '<<"test">>).')
    write("wrong")
    n = w.node(user="nobody", password="file:" + secret.name)
    time.sleep(1)
    log = n.text()
    assert re.search(r"ERROR.*the broker refuses the connection to consume \(.*ACCESS_REFUSED.*check user \"nobody\"", log), log
    same(len(re.findall(r"refuses the connection to consume", log)), 1, "once a minute")
    same(n.readyz()["broker"], "DOWN")
    w.rabbit.erlang('rabbit_auth_backend_internal:add_user(<<"nobody">>, <<"good">>, <<"test">>), ' + permit)
    write("good")
    hangup("1 plugins go on with what they hold")
    n.wait_up(1, 5)  # it does not wait for its turn
    # F23: changed while it is connected; chat goes on, and the new one is taken.
    change_password("other")
    w.rabbit.close_connections(n.name + " ")
    n.wait_up(0, 10)
    x = n.client()
    x.subscribe("/topic/f23")
    assert "message-id" in x.send("/topic/f23", b"x")
    os.chmod(secret.name, 0o644)
    write("other")
    hangup("reload rejected")
    assert "run: chmod 600 " + secret.name in n.text(), n.text()[-2000:]
    same(n.number("up"), 0)
    os.chmod(secret.name, 0o600)
    hangup("1 plugins go on with what they hold")
    n.wait_up(1, 5)
    hangup("0 plugins go on with what they hold")
    w.rabbit.erlang('rabbit_auth_backend_internal:clear_permissions(<<"nobody">>, <<"/">>, <<"test">>).')
    w.rabbit.close_connections(n.name + " ")
    n.wait_up(0, 10)
    assert "message-id" in x.send("/topic/f23", b"x")
    w.rabbit.erlang(permit)
    n.wait_up(1, 40)
    # And what is changed at the broker alone is found by itself.
    change_password("third")
    w.rabbit.close_connections(n.name + " ")
    n.wait_up(0, 10)
    change_password("other")
    n.wait_up(1, 40)
    x.close()
    w.drop(n)
    secret.close()


@test
def it_starts_without_a_broker_and_finds_it_later(w):
    p = free_port()
    n = w.node(None, [p])
    same(n.readyz(), {"status": "UP", "broker": "DOWN"})
    x = n.client()
    x.subscribe("/topic/later")
    assert "message-id" in x.send("/topic/later", b"here")
    same(x.on("/topic/later").body, b"here")
    assert re.search(r"WARN.*no connection to consume: .*127\.0\.0\.1:%d" % p, n.text()), n.text()
    x.close()
    w.drop(n)


@test
def a_second_node_of_the_same_name_does_not_start(w):
    code, log = w.twin.wait(40), w.twin_log()
    same(code, 78, log)
    assert re.search(r"node id \"n1\" is in use: another process consumes chat\.queue\.n1", log), log
    assert w.twin_seconds() < 25
    same(w.rabbit.queue("chat.queue.n1")["consumers"], 1)


@test
def a_store_that_nodes_cannot_share_does_not_start(w):
    d = tempfile.mkdtemp(prefix="chatd-node-")
    path = os.path.join(d, "chatd.yaml")
    with open(path, "w") as f:
        f.write("server:\n  data_dir: %s\nplugins:\n  store-sqlite: {}\n  route-rabbitmq: { addresses: [\"127.0.0.1:%d\"], sign: off }\n"
                % (d, w.rabbit.port))
    r = subprocess.run([os.path.join(BUILD, "bin", "chatd"), "-c", path], capture_output=True, text=True, timeout=60, check=False)
    same(r.returncode, 78, r.stdout + r.stderr)
    assert "(sqlite files cannot be shared between nodes)" in r.stdout + r.stderr, r.stderr


def openssl(d, *args):
    subprocess.run(["openssl", *args], cwd=d, check=True, capture_output=True)


def certificates(d):
    """A CA, and the broker's certificate by it for localhost."""
    for name in ("ca", "wrong"):
        openssl(d, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=" + name, "-keyout",
                name + ".key", "-out", name + ".pem")
    openssl(d, "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "csr")
    with open(d + "/ext", "w") as f:
        f.write("subjectAltName=DNS:localhost\n")
    openssl(d, "x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile",
            "ext", "-out", "cert.pem")
    for name in os.listdir(d):
        os.chmod(os.path.join(d, name), 0o644)
    os.chmod(d, 0o755)


@test
def tls_speaks_only_to_whom_it_knows(w):
    d = tempfile.mkdtemp(prefix="chatd-tls-")
    certificates(d)
    port = free_port()
    w.rabbit.erlang("rabbit_networking:start_ssl_listener({\"127.0.0.1\", %d}, [{cacertfile, \"%s/ca.pem\"}, {certfile, "
                    "\"%s/cert.pem\"}, {keyfile, \"%s/key.pem\"}], 2)." % (port, d, d, d))

    def node(host, ca):
        return w.node(addresses='["%s:%d"]' % (host, port), tls="true", ca_file=os.path.join(d, ca))

    n = node("localhost", "ca.pem")
    n.wait_up()
    x, y = n.client("ann"), w.b.client("bob")
    hear(y, "/topic/tls", w.rabbit, "n2")
    for i in range(300):
        x.put("/topic/tls", "%d %s" % (i, "z" * 2000))
    same([t.split()[0] for t in y.take("/topic/tls", 300)], [str(i) for i in range(300)])
    close(x, y)
    w.drop(n)
    for host, ca in (("127.0.0.1", "ca.pem"), ("localhost", "wrong.pem")):
        n = node(host, ca)
        time.sleep(1)
        same(n.readyz()["broker"], "DOWN", "%s with %s" % (host, ca))
        assert re.search("no connection to consume: .*(certificate|hostname|SSL)", n.text()), n.text()
        w.drop(n)


# ---- all of them ---------------------------------------------------------------------------------------------

def start_twin(w):
    """It takes 15 s to give up: beside the other tests."""
    log = tempfile.NamedTemporaryFile("w+", prefix="chatd-twin-")
    begin = time.monotonic()
    took = []
    w.twin = subprocess.Popen([*w.a.command()[:3], "--set", w.a.settings[0]], stdout=log, stderr=log)

    def wait():
        w.twin.wait()
        took.append(time.monotonic() - begin)

    threading.Thread(target=wait, daemon=True).start()
    w.twin_log = lambda: open(log.name).read()
    w.twin_seconds = lambda: took[0]


class Beside:
    """The tests about astray sessions, in a process with a broker of their own: like the others they mostly wait."""

    def __init__(self, workers):
        self.child = subprocess.Popen([sys.executable, __file__, workers, "astray"], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        self.number = len(astray.TESTS) + 1

    def show(self, after):
        """Its results, numbered after those; 1: something failed."""
        for line in self.child.communicate()[0].splitlines():
            if not line.startswith("1.."):
                print(re.sub(r"^((?:not )?ok) (\d+)", lambda m: "%s %d" % (m[1], int(m[2]) + after), line))
        return int(self.child.returncode != 0)

    def end(self):
        if self.child.poll() is None:
            self.child.terminate()
            self.child.wait()


def run(w, only, beside):
    failed = 0
    tests = [t for t in TESTS + declared.TESTS + work.TESTS + astray.TESTS if only in t.__name__ and not (beside and t in astray.TESTS)]
    # The twin must not meet a broker that is away.
    tests.sort(key=lambda t: 1 if "second_node" in t.__name__ else 0 if t in TESTS[:10] else 2) if not only else None
    print("1..%d" % (len(tests) + 1 + (beside.number if beside else 0)))
    for i, t in enumerate(tests, 1):
        name, begin = t.__name__.replace("_", " "), time.monotonic()
        try:
            t(w)
            print("ok %d - %s # %.1f s" % (i, name, time.monotonic() - begin), flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print("not ok %d - %s" % (i, name))
            print("".join("# " + line + "\n" for line in traceback.format_exc().splitlines()), flush=True)
    try:
        for n in list(w.more):
            log = w.drop(n)
            if failed:
                print("# %s:\n# %s" % (n.name, log[-3000:].replace("\n", "\n# ")))
        print("ok %d - the nodes end cleanly" % (len(tests) + 1))
    except AssertionError as e:
        failed += 1
        print("not ok %d - the nodes end cleanly\n# %s" % (len(tests) + 1, str(e).replace("\n", "\n# ")))
    failed += beside.show(len(tests) + 1) if beside else 0
    return 1 if failed else 0


def main():
    workers, only = sys.argv[1] if len(sys.argv) > 1 else "2", sys.argv[2] if len(sys.argv) > 2 else ""
    try:
        w = World(workers)
    except Missing as e:
        print("1..1\n%sok 1 - %s # SKIP %s" % ("not " if IN_CI else "", "rabbitmq", e))
        return 1 if IN_CI else 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended
    beside = None if only else Beside(workers)
    try:
        start_twin(w)
        return run(w, only, beside)
    finally:
        if beside:
            beside.end()
        if w.twin.poll() is None:
            w.twin.kill()
        for n in w.more:
            n.proc.kill()
        astray.end()
        w.rabbit.close()


if __name__ == "__main__":
    sys.exit(main())
