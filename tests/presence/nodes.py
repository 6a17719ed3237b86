# SPDX-License-Identifier: Apache-2.0
"""Nodes that share a Redis, people on them, and what a watcher hears.  Every scenario has servers of its own."""
import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "..", "chat")]
from backends.base import IN_CI, Missing, wait_until  # noqa: E402,F401
from backends.redis import ACL_PASSWORD, Redis, Sentinel, acl  # noqa: E402,F401
from client import BUILD, START_LIMIT, Device, Person, Server, put, rest  # noqa: E402,F401

HELD = re.compile(r"held (?:worker \d+ )?for (\d+) ms")
WAITED = 400  # ms that a loop stood still: two deadlines; a busy machine alone makes it a hundred, and now and then more
TOO_LONG = 2500
PRESENCE = "/user/queue/presence"
FULL = os.environ.get("CHATD_FULL") == "1"
LEASE = 15 if FULL else 6   # seconds; the default is 15
SWEEP_AFTER = 5             # so long after (re)connecting a node judges nobody


class Node(Server):
    """A chatd with Redis.  redis: its options as YAML; more: further plugins' lines."""

    def __init__(self, name, redis, workers=2, more="", settings=(), limits=False, lease=LEASE):
        self.name, self.frozen = name, False
        options = redis if isinstance(redis, str) else 'addresses: ["127.0.0.1:%d"], user: chatd, password: "%s"' % (redis.port, ACL_PASSWORD)
        plugins = ("  presence-memory: { enabled: false }\n"
                   "  redis: { %s }\n  presence-redis: { lease: %ds }\n  rooms: { announce: true }\n" % (options, lease)) + more
        super().__init__(workers, "server.server_id=" + name, "server.drain_timeout=100ms", *settings,
                         memory=True, edit=lambda text: put(text, plugins), limits=limits)

    def text(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()

    def freeze(self):
        self.frozen = True
        self.proc.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.proc.send_signal(signal.SIGCONT)

    def status(self, who, user):
        return rest(self, who, "GET", "/api/chat/users/%s/status" % user).json

    def ready_redis(self):
        return "redis" not in rest(self, None, "GET", "/readyz").json

    def end(self):
        """Stops, and what must not be in the log is not there."""
        if self.proc.poll() is None:
            code, log = self.stop()
            assert code == 0, "exit code %s\n%s" % (code, log[-3000:])
        else:
            log = self.stop()[1]
        assert "Sanitizer" not in log, log[-6000:]
        held = [line for line in log.splitlines() if " in worker_start" not in line and
                any(int(ms) >= WAITED for ms in HELD.findall(line))]
        # A loop that waits for Redis does so again and again; once or twice it is the machine that had no time.
        often = len(held) > 2 or any(int(ms) >= TOO_LONG for line in held for ms in HELD.findall(line))
        assert not often or self.frozen, "a loop stood still:\n" + "\n".join(held)


class Watch:
    """Who came and went, as /topic/public tells it on one node."""

    def __init__(self, node, name="dave"):
        self.person = Person(node, name)
        self.device = self.person.device()
        self.device.subscribe("/topic/public")
        self.seen = []

    def read(self, seconds=0.1):
        while True:
            f = self.device.on("/topic/public", seconds)
            if f is None:
                return self.seen
            self.seen.append((f.json["type"], f.json["sender"]))

    def of(self, user, seconds=0.1):
        return [t for t, who in self.read(seconds) if who == user]

    def until(self, kind, user, seconds):
        """How long it took; fails if it does not come."""
        begin, seconds = time.monotonic(), max(seconds, PATIENCE)
        while time.monotonic() < begin + seconds:
            if (kind, user) in self.read(0.05):
                return time.monotonic() - begin
        raise AssertionError("%s of %s did not come within %.1f s: %r" % (kind, user, seconds, self.seen))


class Eye:
    """Somebody on a node who watches people, and what it was told: (user, status, text)."""

    def __init__(self, node, *users):
        self.person = Person(node)
        self.device = self.person.device()
        self.device.subscribe(PRESENCE)
        self.seen, self.notices = [], []
        self.first = self.watch(*users)

    def watch(self, *users):
        """What it is told first, by user."""
        answer = self.device.send("/app/presence.watch", {"users": list(users)})
        assert "code" not in answer, answer
        f = self.device.wait(lambda f: f.headers.get("destination") == PRESENCE and "users" in f.json)
        return {u["userId"]: u for u in f.json["users"]}

    def read(self, seconds=0.1):
        while True:
            f = self.device.on(PRESENCE, seconds)
            if f is None:
                return self.seen
            if "userId" in f.json:
                self.seen.append((f.json["userId"], f.json["status"], f.json.get("text")))
            else:
                self.notices.append(f.json["stale"])

    def until(self, *changes, seconds=20):
        """Exactly these come, in this order."""
        end = time.monotonic() + seconds
        while len(self.read(0.05)) < len(changes) and time.monotonic() < end:
            pass
        exactly(self.seen, list(changes), "what was told")

    def noticed(self):
        self.read(0.05)
        return self.notices


def exactly(got, want, what):
    assert got == want, "%s: %r, not %r" % (what, got, want)


PATIENCE = 20  # a machine that has much else to do is given that long at least


def within(fits, seconds, what):
    begin, seconds = time.monotonic(), max(seconds, PATIENCE)
    while not fits():
        assert time.monotonic() < begin + seconds, "%s: not within %.1f s" % (what, seconds)
        time.sleep(0.05)
    return time.monotonic() - begin


class Scene:
    """Everything that one scenario has started ends with it."""

    def __init__(self):
        self.nodes, self.others = [], []

    def redis(self, *args, **kw):
        self.others.append(Redis(*args, **{"settings": [acl()], **kw}))
        return self.others[-1].start()

    def sentinel(self, master):
        self.others.append(Sentinel(master))
        return self.others[-1].start()

    def proxy(self, port):
        self.others.append(Proxy(port))
        return self.others[-1]

    def node(self, *args, **kw):
        self.nodes.append(Node(*args, **kw))
        return self.nodes[-1]

    def close(self, good):
        try:
            for r in (o for o in self.others if isinstance(o, Redis) and good and o.child and o.child.poll() is None and o.ready()):
                exactly(r.refused(), [], "refused by Redis")
            for n in self.nodes:
                if good:
                    n.end()
                elif not n.log.closed:
                    text = n.text()
                    n.stop()
                    print("".join("# %s | %s\n" % (n.name, line) for line in text.splitlines()[-12:]), end="")
        finally:
            for n in self.nodes:
                if n.proc.poll() is None:
                    n.proc.kill()
            for o in self.others:
                o.close()


class Proxy:
    """tests/faults/proxy.py in front of a port."""

    def __init__(self, port):
        path = os.path.join(HERE, "..", "faults", "proxy.py")
        self.child = subprocess.Popen([sys.executable, path, "127.0.0.1:%d" % port], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        self.port = int(self.child.stdout.readline())

    def do(self, *words):
        self.child.stdin.write(" ".join(words) + "\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline().strip()
        assert answer.startswith("ok"), answer

    def close(self):
        self.child.kill()
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()


def run(scenarios, jobs):
    """TAP; several at a time, since they mostly wait."""
    only = sys.argv[1:]
    scenarios = [s for s in scenarios if not only or any(w in s.__name__ for w in only)]
    print("1..%d" % len(scenarios), flush=True)
    failed, lock = [], threading.Lock()

    def one(number, scenario):
        name, scene, begin = scenario.__name__.replace("_", " "), Scene(), time.monotonic()
        text, good = "", False
        try:
            scenario(scene)
            good = True
            scene.close(True)
        except Missing as e:
            text = "ok %d - %s # skip %s" % (number, name, e)
            scene.close(False)
            if not IN_CI:
                with lock:
                    print(text, flush=True)
                return
            good = False
        except (Exception, SystemExit):
            text = "".join("# " + line + "\n" for line in traceback.format_exc().splitlines())
            with lock:
                if not good:
                    scene.close(False)
                good = False
        with lock:
            if not good:
                failed.append(name)
            print("%sok %d - %s (%.1f s)\n%s" % ("" if good else "not ", number, name, time.monotonic() - begin, text),
                  end="", flush=True)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for i, s in enumerate(scenarios, 1):
            pool.submit(one, i, s)
    return 1 if failed else 0
