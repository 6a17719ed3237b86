#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plugins that have routes, memory in sessions and services: what lies with others goes and comes with them, while clients
ask.  With both HTTP engines.  Speaks TAP; CHATD_BUILD names the build directory."""
import http.client
import json
import os
import re
import shutil
import socket
import threading

import fixture
import proc
from fixture import Folder

CASES = []
FULL = os.environ.get("CHATD_FULL") == "1"
ENGINES = ("http", "http-lws")
PAGES = "  pages: {}\n"


def case(name):
    def keep(fn):
        CASES.append((name, fn))
        return fn
    return keep


def ctl(server, *words, code=0):
    rc, out, err = server.ctl(*words)
    assert rc == code, (words, rc, out, err)
    return out if code == 0 else err


def plugin(server, name):
    rows = json.loads(ctl(server, "--json", "plugin", "list"))["plugins"]
    return next(row for row in rows if row["plugin"] == name)


def ask(server, path, method="GET", body=None):
    c = http.client.HTTPConnection(*server.address(), timeout=60)
    try:
        c.request(method, path, body)
        answer = c.getresponse()
        return answer.status, answer.read().decode()
    finally:
        c.close()


def nothing(server, path):
    """The answer, without what is another's each time."""
    status, text = ask(server, path)
    body = json.loads(text)
    return status, sorted((k, v) for k, v in body.items() if k not in ("path", "requestId"))


def seen(server, s):
    """How often the plugin says that this session has asked it; None: nobody is there."""
    server.send(s, "x", "/app/pages", receipt="r")
    answer = proc.read_until(s, b"\0").decode()
    found = re.search(r"^seen:(.*)$", answer, re.M)
    return found and int(found.group(1))


def server_with(f, plugins, engine="http", server="workers: 2"):
    for name in ("pages", "needs-pages", "stays-pages"):
        f.take(name)
    base = fixture.BASE.replace("  http: {", "  http: {plugin: %s, " % engine)
    return fixture.Server(f, f.conf(base + plugins, server=server))


@case("a route comes and goes with its plugin; while it is off the path never was, also not for a wildcard")
def _():
    for engine in ENGINES:
        with Folder() as f:
            site = os.path.join(f.dir, "site")
            os.makedirs(os.path.join(site, "pages"))
            with open(os.path.join(site, "pages", "now"), "w", encoding="utf-8") as out:
                out.write("a file")
            more = "  pages: {enabled: false}\n  web: {root: %s}\n" % site
            with server_with(f, more, engine) as server:
                s = server.client()
                never = nothing(server, "/nothing/here")
                assert never[0] == 404
                for _ in range(3):
                    assert ask(server, "/pages/now") == (200, "a file"), engine
                    ctl(server, "plugin", "enable", "pages")
                    assert ask(server, "/pages/now") == (200, "1.0"), engine
                    assert ask(server, "/pages/else")[0] == 404 and ask(server, "/pages/sum")[0] == 405
                    assert ask(server, "/pages/sum", "POST", b"x" * 100000) == (200, "100000")
                    # The session's memory is new each time, whatever was in it.
                    assert [seen(server, s), seen(server, s)] == [1, 2]
                    ctl(server, "plugin", "disable", "pages")
                    status, text = ask(server, "/pages/sum", "POST", b"x")
                    assert status == 405, (engine, status, text)  # the site's, which can be read only
                ctl(server, "plugin", "disable", "web")
                for path in ("/pages/now", "/pages/sum"):
                    assert nothing(server, path) == never, (engine, path, nothing(server, path), never)
                assert plugin(server, "pages")["bytes"] == 0
                assert server.end()[0] == 0
                assert " ERROR " not in server.log(), server.log()


@case("turned off while requests are under way: they are answered, new ones get 404; what does not end is cut off")
def _():
    for engine in ENGINES:
        with Folder() as f, server_with(f, PAGES, engine, "workers: 2, drain_timeout: 1m") as server:
            got, off_said = [], []
            waits = [threading.Thread(target=lambda: got.append(ask(server, "/pages/late?ms=1000"))) for _ in range(5)]
            for t in waits:
                t.start()
            proc.until(lambda: plugin(server, "pages")["calls"] >= 5, "they wait")
            off = threading.Thread(target=lambda: off_said.append(ctl(server, "plugin", "disable", "pages")))
            off.start()
            proc.until(lambda: plugin(server, "pages")["state"] != "ON", "it goes")
            assert ask(server, "/pages/now")[0] == 404
            for t in waits + [off]:
                t.join()
            assert got == [(200, "1.0")] * 5 and "is off" in off_said[0], (engine, got, off_said)
            assert server.end()[0] == 0
        with Folder() as f, server_with(f, PAGES, engine, "workers: 2, drain_timeout: 2s") as server:
            with socket.create_connection(server.address(), proc.PATIENCE) as c:
                before = plugin(server, "pages")["calls"]
                c.sendall(b"GET /pages/late?ms=600000 HTTP/1.1\r\nHost: x\r\n\r\n")
                proc.until(lambda: plugin(server, "pages")["calls"] > before, "it is under way")
                assert "is off" in ctl(server, "plugin", "disable", "pages")
                try:
                    assert c.recv(100) == b""
                except ConnectionResetError:
                    pass
            assert plugin(server, "pages")["state"] == "OFF"
            assert server.end()[0] == 0


@case("on and off under load: each request is answered, 200 or 404, each SEND too")
def _():
    for engine in ENGINES:
        with Folder() as f, server_with(f, PAGES, engine, "workers: 4") as server:
            stop, wrong, count = threading.Event(), [], [0, 0]

            def request():
                c = http.client.HTTPConnection(*server.address(), timeout=30)
                n = 0
                while not stop.is_set() and not wrong:
                    n += 1
                    try:
                        c.request("GET", "/pages/late?ms=5" if n % 5 == 0 else "/pages/now")
                        answer = c.getresponse()
                        text = answer.read()
                    except OSError as e:
                        wrong.append(repr(e))
                        return
                    if (answer.status, text) != (200, b"1.0") and answer.status != 404:
                        wrong.append((answer.status, text))
                    count[answer.status == 404] += 1
                c.close()

            def send():
                s = server.client()
                while not stop.is_set() and not wrong:
                    server.send(s, "x", "/app/pages", receipt="a")
                    server.send(s, "x", "/topic/x", receipt="b")
                    text = ""
                    while "receipt-id:b" not in text:
                        text = proc.read_until(s, b"\0").decode()
                        if not text.lstrip("\n").startswith(("RECEIPT", "ERROR", "MESSAGE")):
                            wrong.append(text)
            threads = [threading.Thread(target=fn) for fn in (request, request, request, send, send)]
            for t in threads:
                t.start()
            for _ in range(60 if FULL else 8):
                ctl(server, "plugin", "disable", "pages")
                ctl(server, "plugin", "enable", "pages")
            stop.set()
            for t in threads:
                t.join()
            assert not wrong, (engine, wrong[:1])
            assert count[0] > 0, count
            print("# %s: %d requests were answered, %d found nothing" % (engine, *count))
            assert server.end()[0] == 0
            assert " ERROR " not in server.log(), server.log()


@case("a new version has its routes and its memory of sessions; those that are there stay with the old one")
def _():
    with Folder() as f, server_with(f, PAGES) as server:
        old = server.client()
        assert seen(server, old) == 1 and ask(server, "/pages/now") == (200, "1.0")
        f.replace("pages-2", "pages")
        ctl(server, "plugin", "load", "pages")
        new = server.client()
        assert ask(server, "/pages/now") == (200, "2.0")
        assert [seen(server, old), seen(server, new), seen(server, old), seen(server, new)] == [2, 1, 3, 2]
        old.close()
        proc.until(lambda: len([r for r in json.loads(ctl(server, "--json", "plugin", "list"))["plugins"]
                                if r["plugin"] == "pages"]) == 1, "the old one goes")
        assert seen(server, new) == 3 and ask(server, "/pages/now") == (200, "2.0")
        assert server.end()[0] == 0


@case("whose service another plugin needs stays on, and it is said whose; together they can go")
def _():
    with Folder() as f, server_with(f, PAGES + "  needs-pages: {}\n") as server:
        assert ctl(server, "plugin", "disable", "pages", code=1) == (
            'chatctl: plugin "pages" stays on: plugin "needs-pages" needs its service; turn that off first: '
            "chatctl plugin disable needs-pages\n")
        assert ask(server, "/pages/now")[0] == 200
        ctl(server, "plugin", "disable", "needs-pages")
        ctl(server, "plugin", "disable", "pages")
        assert 'needs the service "test.pages/1"' in ctl(server, "plugin", "enable", "needs-pages", code=1)
        ctl(server, "plugin", "enable", "pages")
        ctl(server, "plugin", "enable", "needs-pages")
        f.conf(fixture.BASE)
        said = ctl(server, "reload")
        assert "pages: turned off" in said and "needs-pages: turned off" in said, said
        proc.until(lambda: ask(server, "/pages/now")[0] == 404, "it goes")
        f.conf(fixture.BASE + "  stays-pages: {}\n" + PAGES)
        assert server.end()[0] == 0
    with Folder() as f, server_with(f, PAGES + "  stays-pages: {}\n") as server:
        assert 'plugin "stays-pages" needs its service; that stays on while the server runs: set enabled: in the' in \
            ctl(server, "plugin", "disable", "pages", code=1)
        shutil.copyfile(os.path.join(f.dir, "chat.yaml"), os.path.join(f.dir, "was.yaml"))
        f.conf(fixture.BASE + "  pages: {enabled: false}\n  stays-pages: {enabled: false}\n")
        assert 'pages.enabled: needs a restart (plugin "stays-pages" needs its service)' in ctl(server, "reload")
        assert ask(server, "/pages/now")[0] == 200
        assert server.end()[0] == 0


@case("requests and timers are in the plugin's figures: calls, errors, time, slow ones")
def _():
    for engine in ENGINES:
        with Folder() as f, server_with(f, PAGES, engine) as server:
            was = plugin(server, "pages")
            for _ in range(100):
                assert ask(server, "/pages/now")[0] == 200
            assert plugin(server, "pages")["calls"] == was["calls"] + 100
            tries = [0]

            def one_is_slow():
                tries[0] += 1
                was = plugin(server, "pages")
                assert ask(server, "/pages/spin")[0] == 500
                now = plugin(server, "pages")
                assert now["errors"] == tries[0] and now["busyMicros"] - was["busyMicros"] >= 200000, (was, now)
                return now["slow"] - was["slow"] == 1
            fixture.one_of(5, one_is_slow)
            assert 'plugin "pages" held worker' in server.log() and "in a request" in server.log()
            before = plugin(server, "pages")["calls"]
            assert ask(server, "/pages/late?ms=1")[0] == 200
            assert plugin(server, "pages")["calls"] == before + 2, engine
            assert server.end()[0] == 0


BUNDLED = """  store-memory: {}
  fetch: {}
  keys: {}
  typing: {}
  receipts: {}
  slash: {}
  rules: {}
  moderation: {}
  web: {}
"""
# What each of them has: a path that is not 404 while it is on.
HAS = {"keys": "/api/keys", "typing": None, "receipts": "/api/chat/reads", "slash": "/api/chat/commands", "rules": None,
       "moderation": "/api/reports", "web": "/"}


@case("the bundled ones: off and on again with clients there; paths and destinations go and come")
def _():
    with Folder() as f, f.server(BUNDLED, server="workers: 2") as server:
        s = server.client()
        for _ in range(2):
            for name, path in HAS.items():
                assert path is None or ask(server, path)[0] not in (404, 500), (name, ask(server, path))
                assert plugin(server, name)["live"], name
                ctl(server, "plugin", "disable", name)
                assert plugin(server, name)["state"] == "OFF"
                assert path is None or ask(server, path)[0] == 404, (name, ask(server, path))
                ctl(server, "plugin", "enable", name)
                assert plugin(server, name)["state"] == "ON"
        s.sendall(b"DISCONNECT\nreceipt:bye\n\n\0")
        assert b"receipt-id:bye" in proc.read_until(s, b"\0")
        assert server.end()[0] == 0
        assert " ERROR " not in server.log(), server.log()


if __name__ == "__main__":
    assert fixture.BUILT
    proc.main(CASES)
