#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A new version of a plugin's file beside the old one: who is served by which, under load as well; and what is refused.
Speaks TAP; CHATD_BUILD names the build directory, CHATD_FULL=1 goes on for longer."""
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


def rows(server, name="live"):
    return [(r["version"], r["state"], r.get("sessions")) for r in
            json.loads(ctl(server, "--json", "plugin", "list"))["plugins"] if r["plugin"] == name]


def version(server, s, dest="/topic/live"):
    found = re.search(r"^version:(.*)$", server.asked(s, "x", dest), re.M)
    return found and found.group(1)


def load(server, *more):
    return ctl(server, "plugin", "load", "live", *more)


@case("sessions that are there stay with the old version, new ones get the new one; the old one stops after its last")
def _():
    for workers in (1, 4):
        with Folder() as f:
            f.take("live")
            with f.server(ON, server="workers: %d" % workers) as server:
                old = [server.client() for _ in range(6)]
                f.replace("live-2", "live")
                assert {version(server, s) for s in old} == {"1.0"}
                assert re.search(r'plugin "live": version 2.0 is there for sessions that begin from now on; version 1.0 '
                                 r"stays for the 6 that are there, and stops when the last of them has ended",
                                 load(server))
                new = [server.client() for _ in range(4)]
                for dest in ("/topic/live", "/app/live"):
                    assert {version(server, s, dest) for s in old} == {"1.0"}, dest
                    assert {version(server, s, dest) for s in new} == {"2.0"}, dest
                assert rows(server) == [("2.0", "ON", None), ("1.0", "OLD", 6)], rows(server)
                for s in old[1:]:
                    s.close()
                proc.until(lambda: rows(server)[1:] == [("1.0", "OLD", 1)])
                assert version(server, old[0]) == "1.0" and "INFO  live: gone" not in server.log()
                old[0].close()
                proc.until(lambda: rows(server) == [("2.0", "ON", None)])
                proc.until(lambda: server.log().count("INFO  live: gone") == 1)
                assert {version(server, s) for s in new} == {"2.0"}
                assert server.end()[0] == 0
                assert server.log().count("INFO  live: gone") == 2 and " ERROR " not in server.log(), server.log()


@case("a call of an old session that waits is answered by the old version, after the new one has come")
def _():
    with Folder() as f:
        f.take("live")
        with f.server(ON, server="workers: 2") as server:
            s = server.client()
            server.send(s, "wait 600", "/topic/live", receipt="late")
            f.replace("live-2", "live")
            load(server)
            assert version(server, server.client()) == "2.0"
            assert "receipt-id:late" in proc.read_until(s, b"\0").decode()
            server.send(s, "wait 60000", "/topic/live")
            s.close()
            proc.until(lambda: "INFO  live: gone" in server.log())
            assert "stopped while calls wait" not in server.log(), server.log()


@case("--at-once: all sessions go on with the new version, and nothing waits for them")
def _():
    with Folder() as f:
        f.take("live")
        with f.server(ON, server="workers: 4") as server:
            first = server.client()
            f.replace("live-2", "live")
            load(server)
            second = server.client()
            f.replace("live")
            assert 'plugin "live": version 1.0 has taken the place of version 2.0, for all sessions' in \
                load(server, "--at-once")
            assert [version(server, s) for s in (first, second, server.client())] == ["1.0"] * 3
            assert rows(server) == [("1.0", "ON", None)]
            assert server.log().count("INFO  live: gone") == 2, server.log()


@case("off while two versions run: both are off; on again: the file that is there")
def _():
    with Folder() as f:
        f.take("live")
        with f.server(ON) as server:
            old = server.client()
            f.replace("live-2", "live")
            load(server)
            new = server.client()
            ctl(server, "plugin", "disable", "live")
            assert version(server, old) is version(server, new) is None
            assert server.log().count("INFO  live: gone") == 2, server.log()
            f.replace("live")
            ctl(server, "plugin", "enable", "live")
            assert version(server, old) == version(server, new) == "1.0"
            assert rows(server) == [("1.0", "ON", None)]


@case("what cannot be loaded changes nothing: the text says why and what to do")
def _():
    with Folder() as f:
        f.take("live")
        f.take("tied")
        with f.server(ON + "  tied: {}\n  naughty: {enabled: false}\n") as server:
            s = server.client()

            def refused(said, name="live"):
                answer = ctl(server, "plugin", "load", name, code=1)
                assert said in answer, answer
                assert version(server, s) == version(server, server.client()) == "1.0"
                assert rows(server) == [("1.0", "ON", None)], rows(server)
            refused("is what runs (version 1.0); put the new file in its place, as install(1) and mv do, and say this again")
            refused("cannot be replaced while the server runs: it is not made for that (CHATD_PLUGIN_LIVE); restart the server", "stomp")
            refused("what it registers with chatd.net/1 stays; restart the server", "tied")
            refused('plugin "naughty" is off: chatctl plugin enable begins with the file that is there', "naughty")
            refused('no plugin "nobody" is in the configuration', "nobody")
            f.replace("live-fails", "live")
            refused('plugin "live" could not start: Input/output error; the log has more')
            assert "ERROR live: this version never starts" in server.log()
            os.rename(f.path("live"), f.path("kept"))
            refused("there is no live.so in")
            f.put("live", b"no plugin at all")
            refused("it is no shared object (ELF file); version 1.0 goes on")
            f.replace("naughty", "live")
            refused('says that its name is "naughty"')
            f.replace("live-2", "live")
            os.chmod(f.path("live"), 0o777)
            refused("is writable by group or others; chmod go-w it")
            os.chmod(f.path("live"), 0o755)
            # What was refused does not stand in the way of the next one, of the same file either.
            load(server)
            assert [version(server, x) for x in (s, server.client())] == ["1.0", "2.0"]
            with open(f.path("live"), "r+b") as over:
                over.seek(0, 2)
                over.write(b"\0")
            answer = ctl(server, "plugin", "load", "live", code=1)
            assert "was written over while it is in use, so that the code that runs may be damaged: restart" in answer, answer
            assert server.end()[0] == 0


@case("a file that cp has written over takes nobody with it who does not call it")
def _():
    with Folder() as f:
        f.take("live")
        with f.server(ON) as server:
            with open(f.path("live"), "r+b") as over:  # as cp: what is mapped goes at once
                over.truncate(0)
                over.write(b"no plugin at all" * 4096)
            for words in (("load", "live"), ("load", "live", "--at-once"), ("disable", "live"), ("set", "live", "mark", "x")):
                answer = ctl(server, "plugin", *words, code=1)
                assert "live.so was written over while it is in use, so that the code that runs may be damaged" in answer, answer
            answer = ctl(server, "reload", code=1)
            assert answer.startswith("chatctl: reload rejected: ") and "was written over" in answer, answer
            assert [r for r in ctl(server, "plugin", "list").splitlines() if r.startswith("live ")], "it is listed"
            assert server.proc.poll() is None
            server.proc.kill()  # its fini() is not there any more


@case("a crash is of the version that it is of")
def _():
    with Folder() as f:
        f.take("live")
        with f.server(ON) as server:
            old = server.client()
            f.replace("live-2", "live")
            load(server)
            assert version(server, server.client()) == "2.0"
            server.send(old, "crash", "/topic/live")
            assert server.proc.wait(20) == -signal.SIGABRT
            assert 'crashed: SIGABRT: plugin "live" (version 1.0), in message_in, on worker ' in server.log(), server.log()


class Listener:
    """What was published to /topic/live, in the order in which it came."""

    def __init__(self, server):
        self.s, self.got = server.client(), []
        self.s.sendall(b"SUBSCRIBE\nid:l\ndestination:/topic/live\nreceipt:sub\n\n\0")
        assert b"RECEIPT" in proc.read_until(self.s, b"\0")
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        rest = b""
        while True:
            try:
                piece = self.s.recv(65536)
            except OSError:
                return
            if not piece:
                return
            *frames, rest = (rest + piece).split(b"\0")
            self.got += [frame.split(b"\n\n", 1)[1].decode() for frame in frames if b"\n\n" in frame]


@case("loaded again and again under load: each message is answered once and comes once, and each session keeps its version")
def _():
    with Folder() as f:
        f.take("live")
        with f.server(ON, server="workers: 4") as server:
            ears = [Listener(server) for _ in range(2)]
            stop, wrong, sent = threading.Event(), [], []

            def send(n, lasting):
                s, is_of, k = None, None, 0
                while not stop.is_set() and not wrong:
                    if s is None:
                        s, is_of = server.client(), None
                    k += 1
                    body = "%d-%d" % (n, k)
                    server.send(s, "wait 5" if k % 7 == 0 else body, "/topic/live", receipt=body)
                    answer = proc.read_until(s, b"\0").decode()
                    if "receipt-id:%s\n" % body not in answer:
                        wrong.append(answer)
                        return
                    if k % 7:
                        sent.append(body)
                        now = re.search(r"^version:(.*)$", answer, re.M).group(1)
                        if is_of not in (None, now):
                            wrong.append("%s after %s" % (now, is_of))
                        is_of = now
                    if not lasting and k % 20 == 0:
                        s.close()
                        s = None
            threads = [threading.Thread(target=send, args=(n, n < 2)) for n in range(6)]
            for t in threads:
                t.start()
            versions = 0
            for i in range(60 if FULL else 12):
                f.replace("live" if i % 2 else "live-2", "live")
                rc, out, err = server.ctl("plugin", "load", "live", *(["--at-once"] if FULL and i % 16 == 15 else []))
                # Those who last keep the first version, others go: there are never many.
                assert rc == 0 or "8 older versions already" in err, (out, err)
                versions += rc == 0
                time.sleep(0.05)
            stop.set()
            for t in threads:
                t.join()
            assert FULL or not wrong, wrong[:1]
            assert not [w for w in wrong if " after " not in w], wrong[:1]
            for ear in ears:
                proc.until(lambda ear=ear: len([x for x in ear.got if not x.startswith("wait")]) >= len(sent))
                heard = [x for x in ear.got if not x.startswith("wait")]
                assert len(set(heard)) == len(heard), "twice"
                assert set(heard) == set(sent), set(heard) ^ set(sent)
            print("# %d messages, %d versions" % (len(sent), versions))
            assert versions > 5
            assert server.end()[0] == 0
            assert " ERROR " not in server.log(), server.log()


if __name__ == "__main__":
    assert fixture.BUILT
    proc.main(CASES)
