# SPDX-License-Identifier: Apache-2.0
"""A chatd to be hurt, and the programs that hurt it, load it and judge it."""
import json
import os
import select
import sqlite3
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "chat"))
from client import BUILD, Person, Server, rest  # noqa: E402,F401
from pre import Rules  # noqa: E402

USERS = 60
TOKEN = "token-of-%s-long-enough"


def name_of(i):
    return "u%02d" % i


class Node(Server):
    """Sixty accounts, and faultpre.so if asked for; record: what it does to its database is written down, too."""

    def __init__(self, workers, *settings, faults=False, record=False, prefix=(), db=None):
        self.db_elsewhere = db
        self.rules, self.prefix, self.faults, self.dying = None, tuple(prefix), faults or record, False
        self.record = record
        super().__init__(workers, *settings, accounts=self.accounts())
        # They are made after the start, and whoever is not yet there cannot be written to.
        wait_for(lambda: ask(self.db, "SELECT count(*) FROM account")[0][0] >= USERS, 10, "the accounts are there")

    @staticmethod
    def accounts():
        return "\n  auth-static:\n    users:\n" + "".join(
            '      - {{ login: {0}, passcode: "{0}", name: "{0}", token: "{1}" }}\n'.format(n, TOKEN % n)
            for n in map(name_of, range(USERS)))

    def begin(self):
        self.db = self.db_elsewhere or os.path.join(self.dir, "chatd.db")
        if self.faults and not self.rules:
            self.rules = Rules(os.path.join(self.dir, "rules"))
            self.env = self.rules.env(BUILD)
            if self.record:
                self.env.update(FAULTREC=self.record_file, FAULTREC_DB=os.path.realpath(self.db))
        if self.prefix and "ASAN_OPTIONS" in os.environ:  # LeakSanitizer fails in who is traced
            self.env = dict(self.env, ASAN_OPTIONS=os.environ["ASAN_OPTIONS"] + ":detect_leaks=0")
        super().begin()

    def begin_or_die(self):
        """Like begin(); EOFError: it has ended by itself."""
        self.dying = True
        try:
            self.begin()
        except SystemExit:
            raise EOFError
        finally:
            self.dying = False

    def function(self, name):
        """Where that function of the server's own lies in its memory: (first, behind the last); None: nowhere."""
        program = os.path.join(BUILD, "bin", "chatd")
        out = subprocess.run(["nm", "-S", program], capture_output=True, text=True, check=True).stdout
        found = [line.split() for line in out.splitlines() if line.endswith(" " + name)]
        if not found:
            return None
        with open("/proc/%d/maps" % self.proc.pid) as f:
            base = next(int(line.split("-")[0], 16) for line in f if line.rstrip().endswith(os.path.realpath(program)))
        at, size = (int(x, 16) for x in found[0][:2])
        return base + at, base + at + size

    def lives(self, seconds):
        """Still there after so long?"""
        try:
            self.proc.wait(seconds)
            return False
        except subprocess.TimeoutExpired:
            return True

    @property
    def ready_file(self):
        return os.path.join(self.dir, "ready")

    @property
    def record_file(self):
        return os.path.join(self.dir, "record")

    def text(self):
        """What it has logged so far."""
        with open(self.log.name, errors="replace") as f:
            return f.read()

    def person(self, i):
        return Person(self, name_of(i))

    def stop(self):
        if self.dying:
            return 0, ""
        if self.rules:
            self.rules.close()
            self.rules = None
        return super().stop()


class Helper:
    """A program of ours that takes lines and answers lines."""

    def __init__(self, *command):
        self.proc = subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     text=True, bufsize=1)

    def line(self, seconds=60):
        if not select.select([self.proc.stdout], [], [], seconds)[0]:
            raise TimeoutError("%s does not answer" % self.proc.args[1])
        return self.proc.stdout.readline().strip()

    def tell(self, text):
        self.proc.stdin.write(text + "\n")
        self.proc.stdin.flush()

    def close(self):
        self.proc.stdin.close()
        try:
            self.proc.wait(5)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        self.proc.stdout.close()


class Proxy(Helper):
    def __init__(self, target):
        super().__init__(os.path.join(HERE, "proxy.py"), target)
        self.port = int(self.line())

    def __call__(self, command):
        self.tell(command)
        answer = self.line()
        if not answer.startswith("ok"):
            raise ValueError(answer)
        return answer


class Marks:
    """What the test did, for the checker's clock."""

    def __init__(self, path):
        self.path = path
        open(path, "w").close()

    def __call__(self, kind, what):
        with open(self.path, "a") as f:
            f.write("%d\t%s\t%s\n" % (time.monotonic_ns(), kind, what))


class Crowd(Helper):
    """driver.py, with rooms made for it."""

    def __init__(self, node, users=USERS, rooms=10, seed=1, **more):
        self.node = node
        self.rooms = self.make_rooms(node, users, rooms)
        self.begin(node.dir, name_of, users, dict({"ready": node.ready_file, "seed": seed}, **more))

    def begin(self, folder, name, users, conf):
        """The rooms are there; name: of the user with that number."""
        self.log = os.path.join(folder, "events.log")
        self.mark = Marks(os.path.join(folder, "marks.log"))
        clients = [{"client": name(i), "login": name(i), "rooms": [r for r, m in self.rooms if i in m]}
                   for i in range(users)]
        for i, (room, members) in enumerate(self.rooms):
            if i % 3 == 0:  # those are private
                stranger = next(j for j in range(users) if j not in members)
                clients.append({"client": name(stranger) + ".spy", "login": name(stranger), "rooms": [room],
                                "spy": True})
        for c in clients[:conf.get("ws_clients", 0)]:
            c["ws"] = True
        conf = dict(conf, log=self.log, clients=clients)
        path = os.path.join(folder, "driver.json")
        with open(path, "w") as f:
            json.dump(conf, f)
        Helper.__init__(self, os.path.join(HERE, "driver.py"), path)
        assert self.line() == "ready", "the clients did not come in"

    @staticmethod
    def make_rooms(node, users, n):
        """(id, members): a fifth of the users in each, the first one owns it; each third is private."""
        made = []
        for i in range(n):
            members = [(i + k) % users for k in range(0, users, 5)] if users > 5 else list(range(users))
            owner = node.person(members[0])
            r = owner.rest("POST", "/api/chat/rooms", {"name": "room %d" % i, "public": i % 3 != 0})
            assert r.status == 201, r.body
            for m in members[1:]:
                r_ = owner.rest("POST", "/api/chat/rooms/%s/members" % r.json["id"], {"userId": name_of(m)})
                assert r_.status == 201, r_.body
            made.append((r.json["id"], members))
        return made

    def stored(self):
        """Where the checker finds what is stored."""
        return "--db", self.node.db, "--rest", "%s:%d" % self.node.address("http")

    def load(self, rate):
        self.tell("load %g" % rate)

    def cut(self, n):
        self.tell("cut %d" % n)

    def finish(self):
        """What the checker says; the server lives."""
        self.tell("finish")
        said = []
        while not said or said[-1] not in ("done", "failed", ""):
            said.append(self.line(100))
        self.close()
        out = subprocess.run([sys.executable, os.path.join(HERE, "checker.py"), *self.stored(), "--token", TOKEN, self.log,
                              self.mark.path], capture_output=True, text=True, timeout=120, check=False)
        text = "\n".join(said[:-1] + [out.stdout + out.stderr])
        print("# " + text.strip().replace("\n", "\n# "))
        assert out.returncode == 0, "the checker found something"
        assert said[-1] == "done", said
        return text


def ask(path, sql):
    """The rows; of a file that others write."""
    db = sqlite3.connect("file:%s?mode=ro" % path, uri=True, timeout=10)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def integrity(path):
    return ask(path, "PRAGMA integrity_check")[0][0]


PATIENCE = 20  # a machine that has much else to do is given that long at least; what must be quicker is measured


def wait_for(fits, seconds, what):
    seconds = max(seconds, PATIENCE)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = fits()
        if got:
            return got
        time.sleep(0.05)
    raise AssertionError("not within %g s: %s" % (seconds, what))


def readyz(node):
    return rest(node, None, "GET", "/readyz").status
