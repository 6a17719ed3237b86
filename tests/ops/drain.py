#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SIGTERM as clients, balancers and service managers see it.  Speaks TAP.

usage: drain.py [WORKERS]"""
import http.client
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "conf"))
import proc  # noqa: E402
from proc import Server  # noqa: E402

WORKERS = sys.argv[1] if len(sys.argv) > 1 else "2"
CASES = []


def case(fn):
    CASES.append((fn.__doc__, fn))
    return fn


def draining(server):
    """Until it says so: before that a second signal is none."""
    proc.until(lambda: ask(server, "/readyz") == (503, {"status": "DRAINING"}), "it is told")


def start(*settings, config="broker.yaml"):
    return Server(config, "server.workers=" + WORKERS, *settings)


def ask(server, path):
    c = http.client.HTTPConnection(*server.address(), timeout=proc.PATIENCE)
    c.request("GET", path)
    r = c.getresponse()
    body = r.read()
    c.close()
    return r.status, json.loads(body)


def subscribed(server):
    """A TCP client that may send, and see what it sends."""
    s = socket.create_connection(server.address("tcp"), proc.PATIENCE)
    s.sendall(proc.CONNECT + b"SUBSCRIBE\nid:1\ndestination:/topic/t\nreceipt:s\n\n\0")
    proc.read_until(s, b"receipt-id:s\n")
    return s


def rest_of(s):
    """All that still comes, until the end."""
    got = b""
    while True:
        try:
            piece = s.recv(65536)
        except ConnectionError:
            return got + b"<reset>"
        if not piece:
            return got
        got += piece


@case
def _():
    """in the grace /readyz says DRAINING, and clients are served as before, new ones too"""
    with start("server.drain_grace=8s") as s:
        assert ask(s, "/readyz") == (200, {"status": "UP"})
        old = subscribed(s)
        s.proc.send_signal(signal.SIGTERM)
        draining(s)
        assert ask(s, "/api/chat/health")[1]["status"] == "DRAINING"
        assert s.get("/healthz") == 200
        new = subscribed(s)
        old.sendall(b"SEND\ndestination:/topic/t\nreceipt:r\n\nhello\0")
        assert b"\n\nhello\0" in proc.read_until(new, b"hello\0")
        assert b"receipt-id:r" in proc.read_until(old, b"receipt-id:r\n")
        ws, answer = proc.websocket(s)
        assert "CONNECTED" in answer
        assert proc.close_code(ws) == 1012
        for c in (old, new):
            assert b"ERROR" not in rest_of(c) and b"<reset>" not in rest_of(c)
        ws.close()
        assert s.proc.wait(60) == 0, s.log()


@case
def _():
    """after the grace nobody gets in, while the others are still being closed"""
    with start("server.drain_grace=100ms", "server.drain_spread=5s") as s:
        many = [proc.websocket(s)[0] for _ in range(150 * int(WORKERS))]
        s.proc.send_signal(signal.SIGTERM)
        s.says("draining: no new clients")

        def closed(kind):
            """The listeners are closed a moment after it is said, in each worker."""
            try:
                socket.create_connection(s.address(kind), 2).close()
            except ConnectionRefusedError:
                return True
            return False
        for kind in ("http", "tcp"):
            proc.until(lambda kind=kind: closed(kind), "nobody new gets in: " + kind)
        assert s.proc.poll() is None
        assert [proc.close_code(c) for c in many] == [1012] * len(many)
        for c in many:
            c.close()
        assert s.proc.wait(60) == 0, s.log()


@case
def _():
    """when nobody is connected it ends at once, with the grace that is the default"""
    with start("server.drain_grace=30s") as s:
        assert s.get("/readyz") == 200
        code, took = s.end()
        assert code == 0 and took < 15, (code, took)


@case
def _():
    """SIGINT has no grace"""
    with start("server.drain_grace=30s") as s:
        c = subscribed(s)
        code, took = s.end(signal.SIGINT)
        assert code == 0 and took < 15, (code, took)
        c.close()


@case
def _():
    """1,000 clients: each gets 1012, not all at once; exit code 0"""
    with start("server.drain_spread=2s") as s:
        many = []
        for i in range(1000):
            c, answer = proc.websocket(s)
            assert "CONNECTED" in answer
            many.append(c)
        ends, codes, lock = [], [], threading.Lock()

        def wait_for(part):
            for c in part:
                code = proc.close_code(c)
                with lock:
                    ends.append(time.monotonic())
                    codes.append(code)
                c.close()
        s.proc.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        threads = [threading.Thread(target=wait_for, args=(many[i::50],)) for i in range(50)]
        for t in threads:
            t.start()
        assert s.proc.wait(30) == 0, s.log()
        took = time.monotonic() - begin
        for t in threads:
            t.join()
        assert codes == [1012] * 1000, {c: codes.count(c) for c in codes}
        assert "are cut off" not in s.log(), s.log()
        print("# closed within %.2f s, ended after %.2f s" % (max(ends) - begin, took))
        assert max(ends) - begin > 1.2, "nothing was spread"


def sockjs_get(server, session, transport):
    s = socket.create_connection(server.address(), proc.PATIENCE)
    s.sendall(b"POST /ws-chat/000/%s/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
              % (session.encode(), transport.encode()))
    return s


def sockjs_send(server, session, text):
    c = http.client.HTTPConnection(*server.address(), timeout=10)
    c.request("POST", "/ws-chat/000/%s/xhr_send" % session, json.dumps([text]), {"Content-Type": "application/json"})
    assert c.getresponse().status == 204
    c.close()


@case
def _():
    """long polls, streams and framed WebSockets of SockJS get c[1012,...]"""
    with start(config="chat.yaml") as s:
        clients = []
        for transport in ("xhr", "xhr_streaming"):
            for i in range(20):
                session = "%s-%02d-abcdefgh" % (transport, i)
                c = sockjs_get(s, session, transport)
                proc.read_until(c, b"o\n")
                sockjs_send(s, session, proc.CONNECT.decode())
                if transport == "xhr":
                    c.close()
                    c = sockjs_get(s, session, transport)
                    proc.read_until(c, b"CONNECTED")
                    c.close()
                    c = sockjs_get(s, session, transport)
                else:
                    proc.read_until(c, b"CONNECTED")
                clients.append(c)
        time.sleep(0.2)
        s.proc.send_signal(signal.SIGTERM)
        for c in clients:
            got = rest_of(c)
            assert b'c[1012,"service restart"]' in got, got
            c.close()
        assert s.proc.wait(60) == 0, s.log()
        assert "are cut off" not in s.log(), s.log()


@case
def _():
    """a client that reads nothing is cut off when drain_timeout is over; exit code 0"""
    with start("server.drain_timeout=1s", "tcp.max_queue=16 MiB", "tcp.stall=1m", "server.drain_spread=0s") as s:
        stuck, other = subscribed(s), subscribed(s)
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = b"x" * 60000
        for _ in range(100):
            other.sendall(b"SEND\ndestination:/topic/t\n\n" + body + b"\0")
            proc.read_until(other, b"x\0")
        code, took = s.end()
        assert code == 0 and 0.9 < took < 20, (code, took, s.log())
        assert "server.drain_timeout is over: 1 connections and sessions are cut off" in s.log() or \
            "server.drain_timeout is over: 2 connections" in s.log(), s.log()
        stuck.close()
        other.close()


@case
def _():
    """a second signal ends the grace and the spread"""
    with start("server.drain_grace=1m", "server.drain_spread=1m") as s:
        many = [subscribed(s) for _ in range(20)]
        s.proc.send_signal(signal.SIGTERM)
        draining(s)
        code, took = s.end()
        assert code == 0 and took < 20, (code, took, s.log())
        for c in many:
            c.close()


class Manager:
    """What systemd is to a service of Type=notify."""

    def __init__(self, watchdog_ms):
        self.dir = tempfile.TemporaryDirectory(prefix="chatd-notify-")
        path = os.path.join(self.dir.name, "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        self.lines = []
        os.environ.update(NOTIFY_SOCKET=path, WATCHDOG_USEC=str(watchdog_ms * 1000))

    def hears(self, line, seconds=60):
        end = time.monotonic() + seconds
        while line not in self.lines and time.monotonic() < end:
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            try:
                self.lines += self.sock.recv(4096).decode().split("\n")
            except socket.timeout:
                break
        return line in self.lines

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC"):
            os.environ.pop(name, None)
        self.sock.close()
        self.dir.cleanup()


@case
def _():
    """a service manager hears READY, WATCHDOG, RELOADING and STOPPING; no child inherits its address"""
    with Manager(300) as m, start() as s:
        assert m.hears("READY=1"), m.lines
        for _ in range(5):
            m.lines.clear()
            assert m.hears("WATCHDOG=1", 10), m.lines
        s.proc.send_signal(signal.SIGHUP)
        assert m.hears("RELOADING=1") and m.hears("READY=1"), m.lines
        c = subscribed(s)
        m.lines.clear()
        s.proc.send_signal(signal.SIGTERM)
        assert m.hears("STOPPING=1"), m.lines
        assert s.proc.wait(60) == 0
        c.close()


@case
def _():
    """a wrong NOTIFY_SOCKET is complained about and does no harm"""
    os.environ["NOTIFY_SOCKET"] = "/no/such/socket"
    try:
        with start() as s:
            assert s.get("/readyz") == 200
            assert 'NOTIFY_SOCKET "/no/such/socket": No such file or directory' in s.log(), s.log()
            assert s.end()[0] == 0
    finally:
        del os.environ["NOTIFY_SOCKET"]


proc.main(CASES)
