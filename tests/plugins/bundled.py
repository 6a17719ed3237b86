#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The plugins that come with the server, those that can be turned on and off while it runs: on, what they do is done; off,
nothing of it, no descriptor, thread or process is left; on again as at first.  Speaks TAP; CHATD_BUILD names the build
directory."""
import contextlib
import http.client
import json
import os
import re
import socket
import sys
import time

import fixture
import proc
from fixture import Folder

sys.path.insert(0, os.path.join(os.path.dirname(fixture.HERE), "api"))
from receiver import SECRET, Receiver  # noqa: E402

CASES = []
KEY = "0123456789abcdef0123456789abcdef"
NAMES = ("ann", "bob", "cid", "ops")
WORKERS = (1, 3)
CONF = """  http: {{listen: ["127.0.0.1:0"]}}
  tcp: {{listen: ["127.0.0.1:0"]}}
  stomp: {{}}
  route-local: {{topics: [/topic/], queues: [/queue/]}}
  auth-static:
    users:
{users}
  admin: {{}}
  metrics: {{listen: ["127.0.0.1:0"]}}
  store-memory: {{}}
  accounts-store: {{}}
  presence-memory: {{linger: 0s}}
  chat: {{}}
  rooms: {{preset: [{{id: lobby, public: true}}]}}
  fetch: {{enabled: false, outside_allow: ["127.0.0.1:{port}"]}}
  push: {{enabled: false, grace: 50ms, interval: 50ms, retry: 50ms, hosts: [], webhook_url: "{url}/push",
         webhook_secret: "{key}"}}
  webhooks:
    enabled: false
    retry_min: 50ms
    outgoing:
      - {{name: crm, url: "{url}/out", secret: {secret}, events: [message, presence]}}
    deciders:
      - {{on: message, url: "{url}/ask", secret: {secret}, prefix: /topic/asked, timeout: 2s}}
  api: {{enabled: false, keys: [{{id: backend, secret: "{key}", scopes: [publish, disconnect, keys]}}]}}
  audit: {{enabled: false}}
  privacy: {{enabled: false}}
  presence: {{enabled: false}}
"""


def case(name):
    def keep(fn):
        CASES.append((name, fn))
        return fn
    return keep


def until(what, seconds=30):
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


class Session:
    """A STOMP session of one user; what comes meanwhile is kept."""

    def __init__(self, server, user):
        self.s = socket.create_connection(server.address("tcp"), 30)
        self.s.settimeout(30)
        self.got, self.rest = [], b""
        self.s.sendall(("CONNECT\naccept-version:1.2\nhost:x\nheart-beat:0,0\nlogin:%s\npasscode:%s-pass\n\n\0" % (
            user, user)).encode())
        frame = self.frame()
        assert frame.startswith("CONNECTED"), frame
        self.s.sendall(b"SUBSCRIBE\nid:errors\ndestination:/user/queue/errors\n\n\0")

    def frame(self):
        while b"\0" not in self.rest:
            piece = self.s.recv(65536)
            if not piece:
                return ""
            self.rest += piece
        frame, _, self.rest = self.rest.partition(b"\0")
        return frame.decode().lstrip("\n")

    def ask(self, command, body="", **headers):
        """Its RECEIPT; a refusal as its text."""
        lines = "".join("%s:%s\n" % item for item in headers.items())
        self.s.sendall(("%s\nreceipt:r\n%s\n%s\0" % (command, lines, body)).encode())
        while True:
            frame = self.frame()
            if frame.startswith("RECEIPT") or not frame or "/user/queue/errors" in frame or frame.startswith("ERROR"):
                return frame
            self.got.append(frame)

    def next(self, word, seconds=30):
        """The next message with that in it."""
        end = time.monotonic() + seconds
        while True:
            for i, frame in enumerate(self.got):
                if word in frame:
                    return self.got.pop(i)
            assert time.monotonic() < end, "no %s comes" % word
            frame = self.frame()
            assert frame, "closed"
            self.got.append(frame)

    def close(self):
        self.s.close()


def call(server, method, path, body=None, user=None, token=None):
    c = http.client.HTTPConnection(*server.address(), timeout=30)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    token = token or user and "token-of-%s-long-enough" % user
    if token:
        headers["Authorization"] = "Bearer " + token
    try:
        c.request(method, path, None if body is None else json.dumps(body), headers)
        answer = c.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text) if text else None
    finally:
        c.close()


def ctl(server, *words, code=0):
    rc, out, err = server.ctl(*words)
    assert rc == code, (words, rc, out, err)
    return out if code == 0 else err


def on(server, *names):
    for name in names:
        assert "is on" in ctl(server, "plugin", "enable", name)


def off(server, *names):
    for name in names:
        said = ctl(server, "plugin", "disable", name)
        assert "is off" in said and "waits" not in said, said


def children(pid):
    found = []
    for task in os.listdir("/proc/%d/task" % pid):
        with contextlib.suppress(OSError), open("/proc/%d/task/%s/children" % (pid, task), encoding="ascii") as f:
            found += f.read().split()
    return len(found)


def held(server):
    """Descriptors, threads and processes of the server's."""
    pid = server.proc.pid
    return len(os.listdir("/proc/%d/fd" % pid)), len(os.listdir("/proc/%d/task" % pid)), children(pid)


def numbers(server, name):
    c = http.client.HTTPConnection(*server.address("metrics"), timeout=30)
    c.request("GET", "/metrics")
    text = c.getresponse().read().decode()
    c.close()
    return {labels: float(value) for labels, value in re.findall(r"^%s(\{[^}]*\})? (\S+)$" % name, text, re.M)}


@contextlib.contextmanager
def running(workers):
    receiver = Receiver()
    users = "".join('      - {login: %s, passcode: %s-pass, name: %s, token: token-of-%s-long-enough%s}\n' % (
        n, n, n.title(), n, ", admin: true" if n == "ops" else "") for n in NAMES)
    with Folder() as f:
        conf = f.conf(CONF.format(users=users, port=receiver.port, url=receiver.url(""), key=KEY, secret=SECRET),
                      server="workers: %d" % workers)
        with fixture.Server(f, conf) as server:
            server.receiver = receiver
            # The accounts are made after the start, and whoever is not yet there cannot be written to.
            until(lambda: all(call(server, "GET", "/api/chat/users/%s/status" % n, user="ops")[0] == 200 for n in NAMES))
            receiver.secrets["/push"] = ()  # the gateway's is another way to sign
            yield server
            assert server.end()[0] == 0
            assert " ERROR " not in server.log(), server.log()
    receiver.end()


def rounds(server, plugins, works, gone):
    """On and off three times; what the server holds is what it held at first, or at the second time."""
    gone()
    before = held(server)
    for _ in range(3):
        on(server, *plugins)
        works()
        off(server, *reversed(plugins))
        gone()
        until(lambda: held(server) <= before)


def came(server, path, word, n):
    with server.receiver.lock:
        found = [body for _, body, status in server.receiver.got.get(path, []) if status == 200 and word in json.dumps(body)]
    return len(found) >= n


@case("audit: what back ends do is kept and shown; without it there is nothing to show")
def _():
    for workers in WORKERS:
        with running(workers) as server:
            n = [0]

            def works():
                n[0] += 1
                assert call(server, "POST", "/api/server/disconnect", {"userId": "bob"}, token="ck_backend_" + KEY)[0] == 204
                until(lambda: len(call(server, "GET", "/api/audit", user="ops")[1]["entries"]) >= n[0])
                assert 'plugin "audit" stays on: plugin "api" uses its service; turn that off first' in \
                    ctl(server, "plugin", "disable", "audit", code=1)

            def gone():
                assert call(server, "GET", "/api/audit", user="ops")[0] == 404
                assert call(server, "POST", "/api/server/disconnect", {"userId": "bob"}, token="ck_backend_" + KEY)[0] == 404
            rounds(server, ("audit", "api"), works, gone)
            # One chain, over all of them.
            on(server, "audit")
            entries = call(server, "GET", "/api/audit", user="ops")[1]["entries"]
            assert [e["n"] for e in entries] == [3, 2, 1] and entries[0]["prev"] == entries[1]["hash"], entries


@case("privacy: who is blocked stays so, whenever it is there")
def _():
    for workers in WORKERS:
        with running(workers) as server:
            def works():
                assert call(server, "PUT", "/api/blocks/bob", user="ann")[0] == 204
                assert [b["userId"] for b in call(server, "GET", "/api/blocks", user="ann")[1]["blocks"]] == ["bob"]

            def gone():
                assert call(server, "GET", "/api/blocks", user="ann")[0] == 404
            rounds(server, ("privacy",), works, gone)
            on(server, "privacy")
            assert [b["userId"] for b in call(server, "GET", "/api/blocks", user="ann")[1]["blocks"]] == ["bob"]


@case("presence: who watches is told of others; when it is off, that what it knows grows old; and then it may watch again")
def _():
    for workers in WORKERS:
        with running(workers) as server:
            ann, bob = Session(server, "ann"), Session(server, "bob")
            ann.ask("SUBSCRIBE", id="p", destination="/user/queue/presence")

            def works():
                assert ann.ask("SEND", '{"users":["bob"]}', destination="/app/presence.watch").startswith("RECEIPT")
                ann.next('"users"')
                for status in ("busy", "online"):
                    assert bob.ask("SEND", '{"status":"%s"}' % status,
                                   destination="/app/presence.set").startswith("RECEIPT")
                    ann.next('"status":"%s"' % status)
                assert numbers(server, "chatd_presence_watches") == {"": 1}

            def gone():
                assert "errors" in bob.ask("SEND", '{"status":"away"}', destination="/app/presence.set")
                assert numbers(server, "chatd_presence_watches") == {}
                assert call(server, "GET", "/api/chat/presence?users=bob", user="ann")[0] == 404
            gone()
            before = held(server)
            for _ in range(3):
                on(server, "presence")
                works()
                off(server, "presence")
                ann.next('"stale":true')
                gone()
                until(lambda: held(server) <= before)
            # Together with whom it asks about blocks, and who is told.
            on(server, "privacy", "presence")
            works()
            assert call(server, "PUT", "/api/blocks/ann", user="bob")[0] == 204
            ann.next('"status":"offline"')
            off(server, "presence", "privacy")


@case("push and fetch: who is absent is told by the gateway; when they are off no process asks anybody")
def _():
    for workers in WORKERS:
        with running(workers) as server:
            server.receiver.answers["/push"] = lambda body: (200, {})
            ann, n = Session(server, "ann"), [0]
            ann.ask("SUBSCRIBE", id="l", destination="/topic/room/lobby")

            def say():
                n[0] += 1
                body = json.dumps({"to": "bob", "content": "number %d." % n[0], "clientId": "c%d" % n[0]})
                said = ann.ask("SEND", body, destination="/app/chat.send")
                assert said.startswith("RECEIPT"), (said, ann.got, server.log())

            def works():
                assert call(server, "GET", "/api/push/key")[0] in (200, 503)
                assert call(server, "POST", "/api/push/subscriptions", {"kind": "fcm", "token": "t"}, user="bob")[0] in (
                    200, 201)
                say()
                until(lambda: came(server, "/push", "number %d." % n[0], 1))
                assert 'plugin "fetch" stays on: plugin "push" needs its service' in \
                    ctl(server, "plugin", "disable", "fetch", code=1)
                assert children(server.proc.pid) >= 1
                assert numbers(server, "chatd_push_total")['{result="delivered"}'] >= 1

            def gone():
                assert call(server, "GET", "/api/push/key")[0] == 404
                told = len(server.receiver.got.get("/push", []))
                say()
                time.sleep(0.3)
                assert len(server.receiver.got.get("/push", [])) == told
                assert numbers(server, "chatd_push_total") == {} and numbers(server, "chatd_fetch_under_way") == {}
                assert children(server.proc.pid) == 0
            rounds(server, ("fetch", "push"), works, gone)


@case("push that is turned off while the gateway thinks: it waits for the answer, and nothing is told twice")
def _():
    with running(2) as server:
        def slow(body):
            time.sleep(1)
            return 200, {}
        server.receiver.answers["/push"] = slow
        on(server, "fetch", "push")
        assert call(server, "POST", "/api/push/subscriptions", {"kind": "fcm", "token": "t"}, user="bob")[0] == 201
        ann = Session(server, "ann")
        ann.ask("SEND", json.dumps({"to": "bob", "content": "slow one", "clientId": "c"}),
                destination="/app/chat.send")
        until(lambda: numbers(server, "chatd_fetch_under_way") == {"": 1})
        off(server, "push", "fetch")
        assert came(server, "/push", "slow one", 1)
        on(server, "fetch", "push")
        time.sleep(1)
        assert not came(server, "/push", "slow one", 2)


@case("webhooks: what was said while they were off is sent when they are on again; deciders are asked as long as they are on")
def _():
    for workers in WORKERS:
        with running(workers) as server:
            server.receiver.answers["/out"] = lambda body: (200, {})
            server.receiver.answers["/ask"] = lambda body: (200, {"allow": False, "reason": "mind your words"})
            ann, n, first = Session(server, "ann"), [0], []

            def say():
                n[0] += 1
                body = json.dumps({"roomId": "lobby", "content": "number %d." % n[0], "clientId": "c%d" % n[0]})
                assert ann.ask("SEND", body, destination="/app/chat.send").startswith("RECEIPT")

            ann.ask("SUBSCRIBE", id="l", destination="/topic/room/lobby")
            assert call(server, "POST", "/api/chat/rooms/lobby/join", user="ann")[0] < 300

            def works():
                if not first:  # a target that is new begins with what is said once its place is kept
                    until(lambda: say() or came(server, "/out", "number ", 1))
                    first.append(n[0])
                say()
                until(lambda: came(server, "/out", "number %d." % n[0], 1))
                assert "mind your words" in ann.ask("SEND", "x", destination="/topic/asked")
                assert call(server, "GET", "/api/chat/rooms/lobby/hooks", user="ops")[0] == 200

            def gone():
                assert ann.ask("SEND", "x", destination="/topic/asked").startswith("RECEIPT")
                assert call(server, "GET", "/api/chat/rooms/lobby/hooks", user="ops")[0] == 404
                say()
            rounds(server, ("fetch", "webhooks"), works, gone)
            last = n[0]
            on(server, "fetch", "webhooks")
            until(lambda: came(server, "/out", "number %d." % last, 1))
            for i in range(first[0], last + 1):
                assert came(server, "/out", "number %d." % i, 1) and not came(server, "/out", "number %d." % i, 2), i


@case("api: keys open what they may; sessions that came with a key end with it")
def _():
    for workers in WORKERS:
        with running(workers) as server:
            token, n = "ck_backend_" + KEY, [0]

            def works():
                assert call(server, "POST", "/api/server/publish", {"roomId": "lobby", "content": "hi"}, token=token)[0] == 200
                n[0] += 1
                status, bot = call(server, "POST", "/api/server/bots",
                                   {"userId": "bot%d" % n[0], "name": "Bot", "scopes": ["publish"]}, token=token)
                assert status == 201, (status, bot)
                s = socket.create_connection(server.address("tcp"), 30)
                s.settimeout(30)
                s.sendall(("CONNECT\naccept-version:1.2\nhost:x\nheart-beat:0,0\npasscode:%s\n\n\0" % bot["key"]
                           ).encode())
                assert b"CONNECTED" in proc.read_until(s, b"\0")
                server.bots.append(s)

            def gone():
                assert call(server, "POST", "/api/server/publish", {"roomId": "lobby", "content": "hi"}, token=token)[0] == 404
                for s in server.bots:
                    while s.recv(65536):
                        pass
                    s.close()
                server.bots = []
            server.bots = []
            rounds(server, ("api",), works, gone)


if __name__ == "__main__":
    proc.main(CASES)
