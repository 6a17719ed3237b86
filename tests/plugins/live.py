#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plugins that are turned on, off and configured while the server runs and clients send; and what is told of all of
them: chatctl, /metrics, /readyz.  Speaks TAP; CHATD_BUILD names the build directory."""
import http.client
import json
import os
import re
import threading
import time

import fixture
import proc
from fixture import Folder

CASES = []
FULL = os.environ.get("CHATD_FULL") == "1"
OFF = "  live: {enabled: false}\n"
ON = "  live: {}\n"


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


def seen(server, s, dest="/topic/live"):
    """What the plugin put into the receipt; None: it was not there; False: there was no receipt at all."""
    answer = server.asked(s, "x", dest)
    if not answer.lstrip("\n").startswith("RECEIPT"):
        return False
    found = re.search(r"^seen:(.*)$", answer, re.M)
    return found and found.group(1)


def metrics(server):
    c = http.client.HTTPConnection(*server.address("metrics"), timeout=60)
    c.request("GET", "/metrics")
    text = c.getresponse().read().decode()
    c.close()
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", text, re.M)}


def server_with(f, plugins, **more):
    f.take("live")
    f.take("naughty")
    f.take("tied")
    return f.server(plugins, **more)


@case("on and off again, with clients connected: hooks and handlers come and go, sessions stay")
def _():
    for workers in (1, 4):
        with Folder() as f, server_with(f, OFF, server="workers: %d" % workers) as server:
            s = server.client()
            assert plugin(server, "live")["state"] == "OFF"
            assert seen(server, s) is None
            for _ in range(3):
                assert "is on; to keep it so" in ctl(server, "plugin", "enable", "live")
                assert plugin(server, "live")["state"] == "ON"
                assert seen(server, s) == "hello" and seen(server, s, "/app/live") == "hello"
                assert "is on already" in ctl(server, "plugin", "enable", "live")
                assert "is off; to keep it so" in ctl(server, "plugin", "disable", "live")
                assert plugin(server, "live")["state"] == "OFF"
                assert seen(server, s) is None
                assert "is off already" in ctl(server, "plugin", "disable", "live")
            # Without its handler the destination does not exist; the refusal is a soft error, so no receipt.
            server.send(s, "x", "/app/live", receipt="never")
            assert seen(server, s) is None
            assert server.log().count("INFO  live: gone") == 3, server.log()
            assert ctl(server, "plugin", "enable", "live")
            assert server.end()[0] == 0
            assert server.log().count("INFO  live: gone") == 4, server.log()
            assert " ERROR " not in server.log(), server.log()


@case("turned off while a call waits: it is answered first, and nobody new is asked")
def _():
    with Folder() as f, server_with(f, ON, server="workers: 2") as server:
        s, other = server.client(), server.client()
        waits = iter((3000, 20000, 60000))

        def seen_to_drain():
            """False: what was to be waited for was over before anybody could look."""
            before, done = plugin(server, "live")["calls"], []
            server.send(s, "wait %d" % next(waits), "/topic/live", receipt="late")
            proc.until(lambda: plugin(server, "live")["calls"] > before, "the call waits")
            off = threading.Thread(target=lambda: done.append(ctl(server, "plugin", "disable", "live")))
            off.start()
            proc.until(lambda: plugin(server, "live")["state"] != "ON", "it drains")
            draining = plugin(server, "live")["state"] == "DRAINING"
            assert seen(server, other) is None
            answer = proc.read_until(s, b"\0").decode()
            assert "receipt-id:late" in answer, answer
            off.join()
            assert "is off" in done[0]
            if not draining:
                ctl(server, "plugin", "enable", "live")
            return draining
        fixture.one_of(3, seen_to_drain)
        assert "stopped while calls wait" not in server.log(), server.log()


@case("on and off under load: each SEND is answered, none twice")
def _():
    with Folder() as f, server_with(f, OFF, server="workers: 4") as server:
        stop, wrong, count = threading.Event(), [], [0]

        def send(n):
            s, k = server.client(), 0
            while not stop.is_set():
                k += 1
                server.send(s, "wait 5" if k % 7 == 0 else "x", "/topic/live", receipt="%d-%d" % (n, k))
                answer = proc.read_until(s, b"\0").decode()
                if "receipt-id:%d-%d\n" % (n, k) not in answer:
                    wrong.append(answer)
                    return
            count[0] += k
        threads = [threading.Thread(target=send, args=(n,)) for n in range(6)]
        for t in threads:
            t.start()
        for _ in range(60 if FULL else 12):
            ctl(server, "plugin", "enable", "live")
            ctl(server, "plugin", "disable", "live")
        stop.set()
        for t in threads:
            t.join()
        assert not wrong, wrong[:1]
        print("# %d SENDs" % count[0])
        assert server.end()[0] == 0
        assert " ERROR " not in server.log(), server.log()


@case("what cannot be turned on or off says why, and what to do")
def _():
    with Folder() as f, server_with(f, "  naughty: {enabled: false, init: fail}\n  tied: {}\n") as server:
        made = "it is not made for that (CHATD_PLUGIN_LIVE)"
        for name, why in (("http", made), ("metrics", made),
                          ("tied", "what it registers with chatd.net/1 stays")):
            assert ctl(server, "plugin", "disable", name, code=1) == \
                'chatctl: plugin "%s" cannot be turned on or off while the server runs: %s; set enabled: in the ' \
                "configuration and restart%s\n" % (name, why, "; its README may say why" if why == made else "")
            assert plugin(server, name)["state"] == "ON"
        assert 'no plugin "nobody" is in the configuration; add it there' in ctl(server, "plugin", "enable", "nobody", code=1)
        assert 'plugin "naughty" could not start: Operation not permitted; the log has more' in \
            ctl(server, "plugin", "enable", "naughty", code=1)
        assert plugin(server, "naughty")["state"] == "OFF" and "INFO  naughty: gone" in server.log()
        for wrong in (["plugin"], ["plugin", "enable"], ["plugin", "frob", "x"], ["plugin", "set", "live", "word"]):
            assert "write: plugin list" in ctl(server, *wrong, code=64)
        assert "plugin load NAME [--at-once]" in ctl(server, "plugin", "load", code=64)
        assert server.end()[0] == 0


@case("a live option is set; a wrong value, a fixed one and an unknown one leave all as it was")
def _():
    with Folder() as f, server_with(f, "  live: {word: first}\n") as server:
        s = server.client()
        assert seen(server, s) == "first"
        assert "live.word is set; to keep it so" in ctl(server, "plugin", "set", "live", "word", "second")
        assert seen(server, s) == "second"
        for key, value, said in (
                ("word", "no", "live.word stays as it was: Invalid argument"),
                ("number", "many", 'live.number stays as it was: live: number: "many"'),
                ("number", "11", "live.number stays as it was: live: number: \"11\" is out of range"),
                ("fixed", "x", "live.fixed is read at the start only; change it in the configuration and reload: the plugin begins anew with it"),
                ("other", "x", 'plugin "live" has no option "other"; chatd --describe live lists them')):
            assert said in ctl(server, "plugin", "set", "live", key, value, code=1), (key, value)
            assert seen(server, s) == "second"
        # None of the refused values is left behind for the next change to fall over.
        ctl(server, "plugin", "set", "live", "number", "7")
        ctl(server, "plugin", "set", "live", "word", "third")
        assert seen(server, s) == "third"
        assert 'plugin "naughty" does not run' in ctl(server, "plugin", "set", "naughty", "then", "x", code=1)
        assert server.end()[0] == 0


@case("calls, errors, timeouts, slow ones, time and memory of each plugin: in chatctl and for Prometheus")
def _():
    with Folder() as f, server_with(f, ON + "  naughty: {on_error: continue, timeout: 100ms}\n") as server:
        s = server.client()
        names = "live", "naughty"

        def figures(*which):
            return {n: [plugin(server, n)[x] for x in which] for n in names}

        def one_is_slow():
            """Whoever gets no processor meanwhile is slow as well."""
            was = figures("slow", "busyMicros")
            for _ in range(200):
                server.asked(s, "x", "/topic/live")
            server.asked(s, "spin 250")
            live, bad = ([b - a for a, b in zip(was[n], now)] for n, now in figures("slow", "busyMicros").items())
            assert bad[0] >= 1 and bad[1] >= 200000, bad
            return (live[0], bad[0]) == (0, 1) and live[1] < 200000
        fixture.one_of(10, one_is_slow)
        for body in ("error", "never", "nonsense"):
            server.asked(s, body)
        live, bad = plugin(server, "live"), plugin(server, "naughty")
        assert live["calls"] >= 204 and live["errors"] == 0 and live["bytes"] > 100000, live
        assert (bad["errors"], bad["timeouts"]) == (2, 1), bad
        n = metrics(server)
        assert n['chatd_plugin_up{plugin="live"}'] == 1
        assert n['chatd_plugin_calls_total{plugin="live"}'] == live["calls"]
        assert n['chatd_plugin_errors_total{plugin="naughty"}'] == 2
        assert n['chatd_plugin_timeouts_total{plugin="naughty"}'] == 1
        assert n['chatd_plugin_slow_total{plugin="naughty"}'] == bad["slow"]
        assert abs(n['chatd_plugin_busy_seconds_total{plugin="naughty"}'] - bad["busyMicros"] / 1e6) < 1e-6
        assert n['chatd_plugin_memory_bytes{plugin="live"}'] > 100000
        before = live["bytes"]
        ctl(server, "plugin", "disable", "live")
        assert before - 100000 > plugin(server, "live")["bytes"] >= 0
        assert metrics(server)['chatd_plugin_up{plugin="live"}'] == 0
        # top: what was done in one second.
        sending = threading.Thread(target=lambda: [server.asked(s, "x", "/topic/naught") for _ in range(300)])
        sending.start()
        top = ctl(server, "plugin", "top").splitlines()
        sending.join()
        assert top[0].split()[:5] == ["PLUGIN", "STATE", "VERSION", "CALLS", "BUSY_US"], top
        row = next(line.split() for line in top if line.startswith("naughty "))
        assert 0 <= int(row[3]) <= 300, row


@case("one that was left out after crashes: in chatctl, /readyz and /metrics; enable brings it back")
def _():
    with Folder() as f:
        f.take("naughty")
        f.take("live")
        os.makedirs(os.path.join(f.data, "crashes"))
        with open(os.path.join(f.data, "crashes", "naughty"), "w", encoding="utf-8") as out:
            for _ in range(3):
                out.write("%d SIGSEGV message_in\n" % (time.time() + 5))
        with f.server("  naughty: {optional: true}\n  absent: {optional: true}\n") as server:
            assert re.search(r"^pluginsLeftOut +naughty absent$|^pluginsLeftOut +absent naughty$", ctl(server, "status"),
                             re.M), ctl(server, "status")
            c = http.client.HTTPConnection(*server.address(), timeout=60)
            c.request("GET", "/readyz")
            answer = c.getresponse()
            body = json.loads(answer.read())
            c.close()
            assert answer.status == 200 and body["status"] == "UP", body
            assert sorted(body["pluginsLeftOut"].split()) == ["absent", "naughty"], body
            row = plugin(server, "naughty")
            assert row["state"] == "LEFT_OUT" and "it crashed the server 3 times within 60 s" in row["why"], row
            assert metrics(server)['chatd_plugin_up{plugin="naughty"}'] == 0
            assert "is on" in ctl(server, "plugin", "enable", "naughty")
            assert plugin(server, "naughty")["state"] == "ON"
            assert not os.path.exists(os.path.join(f.data, "crashes", "naughty"))
            assert "there is no absent.so in" in ctl(server, "plugin", "enable", "absent", code=1)


if __name__ == "__main__":
    assert fixture.BUILT
    proc.main(CASES)
