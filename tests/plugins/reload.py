#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The configuration is read again, by SIGHUP and by "chatctl reload": what can be changed is, what takes a restart is named,
and a mistake changes nothing.  Speaks TAP; CHATD_BUILD names the build directory, CHATD_FULL=1 goes on for longer."""
import json
import os
import re
import signal
import threading
import time

import fixture
import proc
from fixture import Folder

CASES = []
FULL = os.environ.get("CHATD_FULL") == "1"
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


def states(server):
    return {r["plugin"]: r["state"] for r in json.loads(ctl(server, "--json", "plugin", "list"))["plugins"]}


def seen(server, s, dest="/topic/live"):
    found = re.search(r"^seen:(.*)$", server.asked(s, "x", dest), re.M)
    return found and found.group(1)


def write(f, plugins, server=""):
    f.conf(fixture.BASE + plugins, server=server)


def reload(server, code=0):
    """The lines of the answer, without their first, and that one."""
    first, *lines = ctl(server, "reload", code=code).strip().split("\n")
    return lines, first


def hang_up(server, *lines):
    """What one SIGHUP brings into the log; of lines what changes, which come after the first."""
    before = len(server.log())
    server.proc.send_signal(signal.SIGHUP)

    def said():
        text = server.log()[before:]
        answered = "plugins go on with what they hold" in text or "all goes on as before" in text
        return answered and all("INFO  core: SIGHUP: %s\n" % line in text for line in lines) and text
    return proc.until(said, lambda: "no answer to SIGHUP, or not %r: %s" % (lines, server.log()))


@case("live options, plugins on, off, added and removed, other options of those: in force at once; SIGHUP says the same")
def _():
    for workers in (1, 4):
        with Folder() as f:
            for name in ("live", "naughty", "good"):
                f.take(name)
            many = "workers: %d" % workers
            with f.server("  live: {word: one}\n  naughty: {enabled: false}\n", server=many) as server:
                s = server.client()
                lines, first = reload(server)
                assert lines == [] and first.endswith("1 plugins go on with what they hold; the configuration is as it was")
                write(f, "  live: {word: two}\n  naughty: {}\n", many)
                lines, first = reload(server)
                assert lines == ["live.word: changed", "naughty: turned on"], lines
                assert "of the configuration 2 changes are in force, 0 wait for a restart" in first
                assert seen(server, s) == "two" and states(server)["naughty"] == "ON"
                # An option that is read at the start: the plugin can be turned off and on, so another instance has it.
                write(f, "  live: {word: three, fixed: x, timeout: 5s, on_error: continue}\n", many)
                said = hang_up(server, "live.fixed: changed, by a new instance of the plugin", "live.timeout: changed",
                               "naughty: turned off")
                assert "live: gone" in said and seen(server, s) == "three" and "naughty" not in states(server)
                # Added, with a file that was not there at the start.
                f.take("gives-x")
                write(f, "  live: {enabled: false}\n  naughty: {}\n  gives-x: {}\n", many)
                lines, first = reload(server)
                assert lines == ["live: turned off", "naughty: turned on",
                                 "gives-x: needs a restart (it is not made for that (CHATD_PLUGIN_LIVE))"], lines
                assert seen(server, s) is None and states(server) | {"live": "OFF", "naughty": "ON", "gives-x": "OFF"} == \
                    states(server)
                assert server.end()[0] == 0 and " ERROR " not in server.log(), server.log()


@case("what takes a restart is named one by one, each time, and the rest is in force")
def _():
    with Folder() as f:
        f.take("live")
        f.take("gives-x")
        with f.server("  live: {word: one}\n  auth-refresh: {}\n") as server:
            s = server.client()
            base = fixture.BASE.replace('http: {listen: ["127.0.0.1:0"]}', 'http: {listen: ["127.0.0.1:0"], keepalive: 9s}') \
                .replace("metrics: {listen", "metrics: {order: {message_in: 3}, listen")
            f.conf(base + "  live: {word: two}\n  gives-x: {}\n", server="workers: 3, log_level: debug, stall: 3s")
            changed = ["server.log_level: changed", "live.word: changed"]
            for now in (changed, []):
                lines, first = reload(server)
                assert [x for x in lines if "changed" in x] == now, lines
                assert [x for x in lines if x not in now] == [
                    "server.workers: needs a restart",
                    "server.stall: needs a restart",
                    "auth-refresh: needs a restart (it is not made for that (CHATD_PLUGIN_LIVE))",
                    "http.keepalive: needs a restart",
                    "metrics.order: needs a restart",
                    "gives-x%s: needs a restart (it is not made for that (CHATD_PLUGIN_LIVE))" % ("" if now else ".enabled")], lines
                assert first.endswith("of the configuration %d changes are in force, 6 wait for a restart" % len(now)), first
            assert seen(server, s) == "two" and states(server)["auth-refresh"] == "ON", "what waits goes on"
            assert server.end()[0] == 0


@case("a mistake changes nothing, and is said with its place: in the answer, and in the log")
def _():
    with Folder() as f:
        for name in ("live", "naughty", "opt-range"):
            f.take(name)
        secret = os.path.join(f.dir, "secret")
        with f.server("  live: {word: one}\n") as server:
            s, at = server.client(), re.escape(os.path.join(f.dir, "chat.yaml"))
            for plugins, said in (
                    ("  live: {word: two, number: many}\n", r':10:\d+: live: number: "many" is no'),
                    ("  live: {word: two}\n  livee: {}\n", r':11:\d+: livee: there is no plugin "livee"; did you mean'),
                    ("  live: {word: two, wrod: x}\n", r':10:\d+: live: unknown option "wrod"; did you mean "word"\?'),
                    ("  live: {word: two\n", r":\d+:\d+: .*"),
                    ("  live: {word: two}\n  opt-range: {}\n", r":11:\d+: .*its option table is wrong"),
                    ("  live: {word: two, order: {message_im: 3}}\n", r":10:\d+: live: order: unknown hook"),
                    ("  live: {word: two}\n  redis: {password: 'file:%s'}\n" % secret, r":11:\d+: redis: .*cannot be read"),
                    ("  live: {word: no}\n", None),
                    ("  live: {word: two}\n  naughty: {init: fail}\n", None)):
                write(f, plugins)
                lines, first = reload(server, code=1)
                last = lines[-1]
                want = "reload rejected: " + (at + said if said else "plugin ")
                assert re.search(want, first) and last == "all goes on as before", (first, lines)
                assert seen(server, s) == "one", plugins
                log = hang_up(server)
                assert re.search("ERROR core: SIGHUP: " + want, log), log
                assert seen(server, s) == "one", plugins
            assert 'plugin "naughty" could not start: Operation not permitted' in log and "naughty: gone" in log, log
            os.rename(os.path.join(f.dir, "chat.yaml"), os.path.join(f.dir, "away"))
            assert "chat.yaml: cannot be read: No such file" in "".join(reload(server, code=1)[1:])
            write(f, "  live: {word: two}\n")
            assert reload(server)[0] == ["live.word: changed"] and seen(server, s) == "two"
            assert server.end()[0] == 0


@case("all or nothing: one plugin that refuses, or cannot start, holds back what the others would have taken")
def _():
    with Folder() as f:
        for name in ("live", "naughty"):
            f.take(name)
        with f.server("  live: {word: one}\n") as server:
            s = server.client()
            write(f, "  naughty: {}\n  live: {word: no}\n")
            _, first = reload(server, code=1)
            assert 'plugin "live" refuses what was read: Invalid argument; the log has more' in first, first
            assert seen(server, s) == "one" and "naughty" not in states(server)
            assert "INFO  naughty: gone" in server.log() and 'ERROR live: "no" is no word' in server.log()
            write(f, "  live: {word: two, timeout: 3s}\n  naughty: {init: fail}\n")
            reload(server, code=1)
            assert seen(server, s) == "one"
            write(f, "  live: {word: two, fixed: fails}\n")
            reload(server, code=1)
            assert seen(server, s) == "one"
            write(f, "  live: {word: two}\n  naughty: {}\n")
            assert reload(server)[0] == ["live.word: changed", "naughty: turned on"]
            assert server.end()[0] == 0


@case("what chatctl changed in between is undone: the file is what counts; --check does nothing but say so")
def _():
    with Folder() as f:
        for name in ("live", "naughty"):
            f.take(name)
        with f.server("  live: {word: one}\n  naughty: {enabled: false}\n") as server:
            s = server.client()
            ctl(server, "plugin", "set", "live", "word", "other")
            ctl(server, "plugin", "enable", "naughty")
            first, *lines = ctl(server, "reload", "--check").strip().split("\n")
            assert first == "good; of the configuration 2 changes would be in force, 0 wait for a restart", first
            assert lines == ["naughty: turned off", "live.word: changed"], lines
            assert seen(server, s) == "other" and states(server)["naughty"] == "ON"
            assert sorted(reload(server)[0]) == sorted(lines)
            assert seen(server, s) == "one" and states(server)["naughty"] == "OFF"
            # And set goes on from what was read last.
            write(f, "  live: {word: three}\n  naughty: {enabled: false}\n")
            reload(server)
            ctl(server, "plugin", "set", "live", "number", "7")
            assert seen(server, s) == "three"
            assert ctl(server, "reload", "--check").splitlines()[1:] == ["live.number: changed"]
            write(f, "  live: {word: three, nmuber: 7}\n")
            assert 'unknown option "nmuber"' in ctl(server, "reload", "--check", code=1)
            assert "reload takes check" not in server.log() and server.end()[0] == 0


@case("timeout: and on_error: of a plugin that is not turned off and on for it; a guard may not get continue")
def _():
    with Folder() as f:
        for name in ("naughty", "asks-who"):
            f.take(name)
        with f.server("  naughty: {timeout: 60s}\n  asks-who: {}\n") as server:
            s = server.client()
            write(f, "  naughty: {timeout: 100ms, on_error: continue}\n  asks-who: {}\n")
            assert reload(server)[0] == ["naughty.timeout: changed", "naughty.on_error: changed"]
            assert server.asked(s, "never").lstrip("\n").startswith("RECEIPT")
            assert "WARN  naughty: no answer within 100 ms in message_in" in server.log(), server.log()
            write(f, "  naughty: {timeout: 100ms}\n  asks-who: {on_error: continue}\n")
            _, first = reload(server, code=1)
            assert "asks-who.on_error: continue is not for a plugin that is asked who may come in" in first, first
            assert server.asked(s, "error").lstrip("\n").startswith("RECEIPT"), "nothing of it is in force"
            assert server.end()[0] == 0


@case("under load: by SIGHUP on, off, other options, again and again; each SEND is answered once")
def _():
    with Folder() as f:
        for name in ("live", "naughty"):
            f.take(name)
        forms = ("  live: {word: a}\n", "  live: {word: b}\n  naughty: {}\n", "  naughty: {}\n",
                 "  live: {word: c, fixed: x}\n", "  live: {word: c, fixed: y, number: 3, order: {message_in: 3}}\n",
                 "  live: {number: wrong}\n", "  live: {word: no}\n")
        with f.server(forms[0], server="workers: 4") as server:
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
            for i in range(20 * len(forms) if FULL else 3 * len(forms)):
                write(f, forms[i % len(forms)], "workers: 4")
                hang_up(server)
            stop.set()
            for t in threads:
                t.join()
            assert not wrong, wrong[:1]
            print("# %d SENDs" % count[0])
            assert server.end()[0] == 0


def rss(server):
    with open("/proc/%d/statm" % server.proc.pid, encoding="ascii") as m:
        return int(m.read().split()[1]) * 4096


@case("SIGHUP as often as one likes, and without a free descriptor: nothing grows, nothing changes")
def _():
    import resource
    with Folder() as f:
        f.take("live")
        with f.server("  live: {word: one}\n") as server:
            s, fds = server.client(), "/proc/%d/fd" % server.proc.pid
            s.sendall(b"")
            hang_up(server)
            before, small = len(os.listdir(fds)), None
            for i in range(400 if FULL else 60):
                server.proc.send_signal(signal.SIGHUP)
                time.sleep(0.005)
                if i == 30:
                    hang_up(server)
                    small = rss(server)
            for _ in range(2):  # a signal that came before the first of them is seen to before the second
                ctl(server, "reload", "--check")
            proc.until(lambda: len(os.listdir(fds)) == before, lambda: (os.listdir(fds), before))
            assert fixture.sanitized() or rss(server) - small < 2 << 20, (small, rss(server))
            soft, hard = resource.prlimit(server.proc.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(server.proc.pid, resource.RLIMIT_NOFILE, (3, hard))
            write(f, "  live: {word: two}\n")
            said = hang_up(server)
            assert re.search("ERROR core: SIGHUP: reload rejected: .*cannot be read: Too many open files", said), said
            assert seen(server, s) == "one"
            resource.prlimit(server.proc.pid, resource.RLIMIT_NOFILE, (soft, hard))
            hang_up(server, "live.word: changed")
            assert seen(server, s) == "two"
            assert server.end()[0] == 0


if __name__ == "__main__":
    assert fixture.BUILT
    proc.main(CASES)
