#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""config/nginx/chatd.conf before three nodes.  They know nothing of each other here: what this looks at is
who is sent where.  Speaks TAP.

usage: balancer.py"""
import collections
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "conf"), os.path.join(HERE, "..")]
import proc  # noqa: E402
from backends.base import IN_CI, Missing  # noqa: E402
from backends.nginx import Nginx  # noqa: E402

CASES = []
CONNECT = proc.CONNECT.decode()


def case(fn):
    CASES.append((fn.__doc__, fn))
    return fn


class Setup:
    def __enter__(self):
        more = ("http.trusted_proxies=[127.0.0.1]", "limit-rate.enabled=false", "server.log_level=debug",
                "sockjs.disconnect_delay=1m")  # however slow the machine, no session ends while they are counted
        self.nodes = [proc.Server("chat.yaml", "server.workers=1", "server.server_id=node%d" % i, *more)
                      for i in (1, 2, 3)]
        for n in self.nodes:
            n.__enter__()
        self.nginx = Nginx("%s:%d" % n.address() for n in self.nodes).start()
        return self

    def __exit__(self, *what):
        self.nginx.close()
        for n in self.nodes:
            n.__exit__()

    def address(self):
        return self.nginx.address()

    def call(self, method, path, body=None, headers=()):
        c = http.client.HTTPConnection(*self.address(), timeout=10)
        c.request(method, path, body, dict(headers))
        r = c.getresponse()
        got = r.read()
        c.close()
        return r.status, got

    def who(self):
        return json.loads(self.call("GET", "/api/chat/health")[1])["serverId"]


SETUP = Setup()


@case
def _():
    """REST calls are spread; /readyz of a node is not shown"""
    assert set(SETUP.who() for _ in range(60)) == {"node1", "node2", "node3"}
    assert SETUP.call("GET", "/readyz")[0] == 404
    assert SETUP.call("GET", "/")[0] == 200


@case
def _():
    """WebSockets get through, are spread, and are not buffered"""
    spread, clients = collections.Counter(), []
    for _ in range(12):
        before = [sessions(n) for n in SETUP.nodes]
        ws, answer = proc.websocket(SETUP)
        assert "CONNECTED" in answer, answer
        clients.append(ws)
        after = [sessions(n) for n in SETUP.nodes]
        spread[[b != a for b, a in zip(before, after)].index(True)] += 1
    assert len(spread) == 3, spread
    for c in clients:
        c.close()


def sessions(node):
    """As its admin socket tells."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(os.path.join(node.data, "admin.sock"))
        s.sendall(b'{"cmd":"sessions"}\n')
        got = b""
        while not got.endswith(b"\n"):
            got += s.recv(65536)
    return json.loads(got)["total"]


@case
def _():
    """all requests of a SockJS session come to one node, sessions are spread over all"""
    used = collections.Counter()
    for i in range(40):
        session = "session-%02d-%s" % (i, os.urandom(4).hex())
        base = "/ws-chat/%03d/%s" % (i, session)
        status, got = SETUP.call("POST", base + "/xhr")
        assert (status, got) == (200, b"o\n"), (status, got)
        before = [sessions(n) for n in SETUP.nodes]
        for _ in range(2):
            status, got = SETUP.call("POST", base + "/xhr_send", json.dumps(["\n"]),
                                     [("Content-Type", "application/json")])
            assert status == 204, "a send came to another node: %d %r" % (status, got)
        assert SETUP.call("POST", base + "/xhr_send", json.dumps([CONNECT]),
                          [("Content-Type", "application/json")])[0] == 204
        status, got = SETUP.call("POST", base + "/xhr")
        assert status == 200 and b"CONNECTED" in got, "a poll came to another node: %r" % got
        after = [sessions(n) for n in SETUP.nodes]
        used[[b != a for b, a in zip(before, after)].index(True)] += 1
    assert len(used) == 3, used


@case
def _():
    """SockJS streams are not buffered: what is written comes at once"""
    s = socket.create_connection(SETUP.address(), 10)
    s.settimeout(5)
    session = os.urandom(6).hex()
    s.sendall(b"POST /ws-chat/7/%s/xhr_streaming HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
              % session.encode())
    assert b"o\n" in proc.read_until(s, b"o\n", 3)
    SETUP.call("POST", "/ws-chat/7/%s/xhr_send" % session, json.dumps([CONNECT]), [("Content-Type", "application/json")])
    assert b"CONNECTED" in proc.read_until(s, b"CONNECTED", 3)
    s.close()


@case
def _():
    """a node sees the client's address, and not what the client says it is"""
    ws, _ = proc.websocket(SETUP)
    seen = []
    for n in SETUP.nodes:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(os.path.join(n.data, "admin.sock"))
            s.sendall(b'{"cmd":"sessions"}\n')
            got = b""
            while not got.endswith(b"\n"):
                got += s.recv(65536)
        seen += [x["peer"] for x in json.loads(got)["sessions"] if x["transport"] == "websocket"]
    assert seen == ["127.0.0.1"], seen
    ws.close()


@case
def _():
    """a node is stopped while calls go on: none fails; WebSockets get 1012 and come back elsewhere"""
    node = SETUP.nodes[1]
    clients = [proc.websocket(SETUP)[0] for _ in range(9)]
    wrong, stop = [], threading.Event()

    def call_on():
        while not stop.is_set():
            status, got = SETUP.call("GET", "/api/chat/health")
            if status != 200:
                wrong.append((status, got[:200]))
    threads = [threading.Thread(target=call_on) for _ in range(2)]
    for t in threads:
        t.start()
    time.sleep(0.3)
    theirs = sessions(node)
    node.proc.send_signal(signal.SIGTERM)
    assert node.proc.wait(20) == 0, node.log()
    time.sleep(0.5)
    stop.set()
    for t in threads:
        t.join()
    assert not wrong, (len(wrong), wrong[:3])
    ended = 0
    for c in clients:
        c.settimeout(0.3)
        try:
            ended += proc.close_code(c) == 1012
        except TimeoutError:
            pass
        c.close()
    assert ended == 3 <= theirs, (ended, theirs)
    assert {SETUP.who() for _ in range(30)} == {"node1", "node3"}
    ws, answer = proc.websocket(SETUP)
    assert "CONNECTED" in answer
    ws.close()


def main():
    try:
        with SETUP:
            proc.main(CASES)
    except Missing as why:
        if IN_CI:
            raise
        print("1..0 # skip %s" % why)


main()
