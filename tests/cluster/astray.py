# SPDX-License-Identifier: Apache-2.0
"""SockJS requests that come to another node than their session's, on the broker of rabbit_e2e.py."""
import http.client
import json
import os
import re
import subprocess
import threading
import time

from plain import TESTS as ROOT   # before the rest: it knows where that is
from plain import KEY, Plain, wait_until
from backends.nginx import Nginx
from backends.redis import ACL_PASSWORD, Redis, acl
from seal import signed

FULL = os.environ.get("CHATD_FULL") == "1"
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def same(a, b, what=""):
    assert a == b, "%s: %r is not %r" % (what, a, b)


class Astray(Nginx):
    """Each request to the next node; the sample otherwise.  sticky: the sample as it is."""
    sticky = False

    def configuration(self):
        text = super().configuration()
        if self.sticky:
            return text
        text, n = re.subn(r"^\t(hash \$chatd_session consistent|least_conn);\n", "", text, flags=re.M)
        assert n == 2, "the sample chooses in other ways than this expects"
        # Who asks again after a 503 must not land on the node that could make a new session.
        return text.replace("proxy_next_upstream error timeout http_503;", "proxy_next_upstream error timeout;")


class Fleet:
    """Redis and three nodes."""

    def __init__(self, w):
        self.w = w
        self.redis = Redis(settings=[acl()]).start()
        self.nodes = [self.node("n9%d" % i) for i in (1, 2, 3)]
        for n in self.nodes:
            n.wait_up()

    def node(self, name, *settings):
        n = Plain(name, [self.w.rabbit.port], self.w.workers,
                  extra="  redis: { addresses: [\"127.0.0.1:%d\"], user: chatd, password: %s, retry: 300ms }\n" % (self.redis.port, ACL_PASSWORD),
                  settings=("sockjs.jsonp=true", "http.trusted_proxies=[127.0.0.1]", *settings))
        self.w.more.append(n)
        return n

    def count(self, name):
        return sum(n.numbers().get("chatd_sockjs_" + name, 0) for n in self.nodes)

    def forwarded(self):
        return self.count("forwarded_totalkind=receive"), self.count("forwarded_totalkind=send")


FLEET = []
SERIAL = [0]


def fleet(w):
    if not FLEET:
        FLEET.append(Fleet(w))
    return FLEET[0]


def end():
    """After all tests."""
    while FLEET:
        FLEET.pop().redis.close()


class Answer:
    def __init__(self, r):
        self.status, self.type, self.body = r.status, r.getheader("Content-Type"), r.read().decode()


def ask(node, path, body=None, method="POST", seconds=20, **headers):
    c = http.client.HTTPConnection(*node.address("http"), timeout=seconds)
    c.request(method, "/ws-chat/" + path, body, headers)
    answer = Answer(c.getresponse())
    c.close()
    return answer


def new_id():
    SERIAL[0] += 1
    return "000/astray%d" % SERIAL[0]


def quoted(*frames):
    return json.dumps([f + "\n\n\0" if not f.endswith("\0") else f for f in frames])


def opened(node, **headers):
    """A session there, logged in and subscribed to /topic/ID."""
    sid = new_id()
    same(ask(node, sid + "/xhr", **headers).body, "o\n")
    same(ask(node, sid + "/xhr_send", quoted("CONNECT\naccept-version:1.2\nhost:x"), **headers).status, 204)
    assert "CONNECTED" in ask(node, sid + "/xhr", **headers).body
    subscribe = "SUBSCRIBE\nid:0\nreceipt:r\ndestination:/topic/" + sid
    same(ask(node, sid + "/xhr_send", quoted(subscribe), **headers).status, 204)
    assert "RECEIPT" in ask(node, sid + "/xhr", **headers).body
    return sid


def say(node, sid, text, **headers):
    return ask(node, sid + "/xhr_send", quoted("SEND\ndestination:/topic/%s\n\n%s\0" % (sid, text)), **headers)


@test
def astray_polls_and_sends_reach_the_session_from_any_node(w):
    f = fleet(w)
    a, b, c = f.nodes
    before = f.forwarded()
    sid = opened(a)
    same(f.forwarded(), before, "nothing is passed on where the session is")
    same(say(b, sid, "one").status, 204)
    got = ask(c, sid + "/xhr")
    assert got.status == 200 and got.body.startswith("a[") and "one" in got.body, got.body
    same(f.forwarded(), (before[0] + 1, before[1] + 1))
    # One that waits is answered when there is something.
    waits = []
    t = threading.Thread(target=lambda: waits.append(ask(b, sid + "/xhr")))
    t.start()
    time.sleep(0.4)
    same(waits, [])
    same(ask(c, sid + "/xhr").body, 'c[2010,"Another connection still open"]\n')
    same(say(c, sid, "two").status, 204)
    t.join(10)
    assert "two" in waits[0].body, waits
    # The same words as on the session's own node.
    for node in (a, b):
        same(ask(node, sid + "/xhr_send", "").body, "Payload expected.")
        same(ask(node, sid + "/xhr_send", "[x").body, "Broken JSON encoding.")


@test
def astray_much_comes_through_in_order(w):
    f = fleet(w)
    sid = opened(f.nodes[0])
    got, i = "", 0
    for n in (1, 300, 40):
        body = json.dumps(["SEND\ndestination:/topic/%s\n\n<%d>%s\0" % (sid, i + k, "x" * (50000 if n == 1 else 1000)) for k in range(n)])
        same(ask(f.nodes[i % 3], sid + "/xhr_send", body).status, 204)
        i += n
    turn = 0
    while "<%d>" % (i - 1) not in got:
        turn += 1
        answer = ask(f.nodes[turn % 3], sid + "/xhr")
        assert answer.status == 200 and answer.body.startswith("a["), (answer.status, answer.body[:200])
        got += answer.body
    same([int(k) for k in re.findall(r"<(\d+)>", got)], list(range(i)))


@test
def astray_every_transport_gets_its_own_kind_of_answer(w):
    f = fleet(w)
    a, b, _ = f.nodes
    sid = opened(a)
    for text, path, method, kind, begin in (
            ("1", "/xhr_streaming", "POST", "application/javascript", "h" * 2048 + "\n"),
            ("2", "/eventsource", "GET", "text/event-stream", "\r\n"),
            ("3", "/htmlfile?c=cb", "GET", "text/html", "<!"),
            ("4", "/jsonp?c=cb", "GET", "application/javascript", "/**/cb(")):
        same(say(b, sid, "t" + text).status, 204)
        got = ask(b, sid + path, method=method)
        assert got.status == 200 and got.type.startswith(kind) and got.body.startswith(begin), (path, got.type, got.body[:300])
        assert "t" + text in got.body, got.body
    got = ask(b, sid + "/jsonp_send", "d=" + json.dumps(["SEND\ndestination:/topic/%s\n\nform\0" % sid]).replace("\\", "%5C"),
              **{"Content-Type": "application/x-www-form-urlencoded"})
    same((got.status, got.body), (200, "ok"))
    assert "form" in ask(a, sid + "/xhr").body
    same(ask(b, sid + "/jsonp?c=no%20name", method="GET").status, 500)


@test
def astray_a_session_is_its_makers_from_any_node(w):
    f = fleet(w)
    a, b, _ = f.nodes
    mine = {"Authorization": "Bearer mine", "X-Forwarded-For": "192.0.2.1"}
    sid = new_id()
    same(ask(a, sid + "/xhr", **mine).body, "o\n")
    for wrong in ({}, {**mine, "Authorization": "Bearer other"}, {**mine, "X-Forwarded-For": "192.0.2.2"},
                  {"X-Forwarded-For": "192.0.2.1"}):
        for node in (a, b):
            same(ask(node, sid + "/xhr", **wrong).status, 404, "%r at %s" % (wrong, node.name))
            same(say(node, sid, "x", **wrong).status, 404)
    same(ask(b, sid + "/xhr?token=other", **mine).status, 404)
    same(ask(b, sid + "/xhr_send", quoted("CONNECT\naccept-version:1.2\nhost:x"), **mine).status, 204)
    assert "ERROR" in ask(b, sid + "/xhr", **mine).body, "a bearer that nobody knows is refused at login"


@test
def astray_who_leaves_ends_the_session(w):
    f = fleet(w)
    a, b, c = f.nodes
    sid = opened(a)
    conn = http.client.HTTPConnection(*b.address("http"))
    conn.request("POST", "/ws-chat/%s/xhr" % sid)
    time.sleep(0.4)
    conn.close()
    conn.sock = None
    wait_until(lambda: ask(c, sid + "/xhr", seconds=30).body == 'c[1002,"Connection interrupted"]\n', 10, "it is interrupted")


@test
def astray_unknown_sessions_cost_one_question_each(w):
    f = fleet(w)
    b = f.nodes[1]
    before, asked, published = f.forwarded(), f.count("lookups_total"), b.number("published_total")
    for _ in range(100):
        same(ask(b, new_id() + "/xhr_send", quoted("CONNECT\naccept-version:1.2")).status, 404)
    same(f.forwarded(), before)
    same(f.count("lookups_total"), asked + 100)
    same(b.number("published_total"), published, "other nodes hear of none")


@test
def astray_sessions_of_a_dead_node_are_gone(w):
    f = fleet(w)
    b, owner = f.nodes[1], f.node("n94")
    owner.wait_up()
    sids = [opened(owner) for _ in range(3)]
    assert "alive" in (say(b, sids[0], "alive") and ask(b, sids[0] + "/xhr").body)
    owner.proc.kill()
    owner.proc.wait()
    begin = time.monotonic()
    same(ask(b, sids[0] + "/xhr").status, 404)
    same(say(b, sids[1], "x").status, 404)
    assert time.monotonic() - begin < 30
    owner.begin()
    owner.wait_up()
    begin = time.monotonic()
    same(ask(b, sids[2] + "/xhr").status, 404)
    print("# of a node that has begun anew: %.0f ms" % ((time.monotonic() - begin) * 1000))
    w.drop(owner)


@test
def astray_without_redis_each_node_is_alone_and_then_together_again(w):
    f = fleet(w)
    a, b, _ = f.nodes
    sid = opened(a)
    f.redis.kill()
    wait_until(lambda: b.readyz().get("redis") == "DOWN", 10, "Redis is seen to be away")
    alone = opened(b)
    same(say(b, alone, "here").status, 204)
    same(say(a, alone, "there").status, 404)
    f.redis.start()

    def known():
        ask(a, sid + "/xhr_send", quoted("\n"))   # it must not end meanwhile
        return say(b, sid, "again").status == 204
    # disconnect_delay: somebody must ask.
    wait = threading.Thread(target=lambda: ask(a, sid + "/xhr"))
    wait.start()
    wait_until(known, 20, "Redis is told again who has it")
    wait.join(10)


@test
def astray_without_the_broker_nothing_is_passed_on(w):
    f = fleet(w)
    a, b, _ = f.nodes
    w.twin.wait()   # it must not meet a broker that is away
    w.rabbit.stop_app()
    b.wait_up(0, 10)
    sid = opened(a)
    same(say(b, sid, "x").status, 503)
    same(say(a, sid, "x").status, 204)
    w.rabbit.start_app()
    for n in f.nodes + [w.a, w.b]:
        n.wait_up()


@test
def astray_hostile_events_do_no_harm(w):
    f = fleet(w)
    a, b, _ = f.nodes
    sid, received = opened(a), a.number("received_total")
    base = {"chatd-v": 1, "chatd-to": "node", "chatd-from": "nx", "chatd-epoch": "evil", "path": "/ws-chat", "op": "poll",
            "session": sid.split("/")[1].encode().hex(), "transport": "xhr", "boot": "0" * 16, "id": "x.0.1"}
    odd = [{}, {"id": "i" * 300}, {"session": "zz"}, {"session": "61" * 300}, {"path": "/other"}, {"transport": "websocket"},
           {"transport": "jsonp", "callback": "a b"}, {"op": "send"}, {"op": "left"}, {"op": "x"}]
    n = 0
    for kind in ("sockjs.ask", "sockjs.re"):
        for more in odd + [{"op": "frame"}, {"op": "answer", "status": "99"}, {"op": "answer", "status": "2000"}]:
            n += 1
            headers = {**base, **more, "chatd-kind": kind, "chatd-n": n}
            w.rabbit.publish("chat." + a.name, b"[]", signed(KEY, "chat." + a.name, b"[]", headers))
    wait_until(lambda: a.number("received_total") >= received + n, 5, "they are let in")
    same(say(b, sid, "fine").status, 204)
    assert "fine" in ask(b, sid + "/xhr").body


@test
def astray_forward_false_leaves_it_to_the_balancer(w):
    f = fleet(w)
    lone = f.node("n95", "sockjs.forward=false")
    lone.wait_up()
    sid = opened(f.nodes[0])
    same(say(lone, sid, "x").status, 404)
    same(ask(lone, sid + "/xhr").body, "o\n", "another session of that name")
    w.drop(lone)


def client(url, **env):
    done = subprocess.run([os.path.join(ROOT, "e2e", "run"), "../../cluster/astray"], capture_output=True, text=True,
                          timeout=240, check=False, env={**os.environ, "ASTRAY_URL": url, **env})
    last = done.stdout.strip().splitlines()[-1] if done.stdout else done.stderr
    assert done.returncode == 0 and (", 0 failed" in last), done.stdout[-6000:] + done.stderr[-2000:]
    print("# " + last)


@test
def astray_the_stock_client_notices_nothing(w):
    f = fleet(w)
    before = f.forwarded()
    with Astray(["%s:%d" % n.address("http") for n in f.nodes]) as balancer:
        client("http://%s:%d" % balancer.address())
    after = f.forwarded()
    assert after[0] > before[0] + 4 and after[1] > before[1] + 4, (before, after)
    balancer = Astray(["%s:%d" % n.address("http") for n in f.nodes])
    balancer.sticky = True
    with balancer:
        client("http://%s:%d" % balancer.address(), **({} if FULL else {"ASTRAY_ONLY": "xhr-polling"}))
    same(f.forwarded(), after, "nothing is passed on by a balancer that keeps them apart")
