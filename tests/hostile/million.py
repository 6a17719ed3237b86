#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Recorded sessions broken in 0 to 8 places, and plain noise: as fast as they go, without any limit of the server's
(HOSTILE: H194, H195), then a tenth as many at a pace that leaves the machine something, while a thousand clients who
behave talk to each other (H196).  The server lives on, none of the thousand loses a message, gets one twice, in another
order or a refusal, what others have is what it was, and afterwards the server takes connections and is small as before.

usage: million.py [COUNT [WORKERS]]     COUNT: 20,000; with CHATD_FULL=1 1,000,000"""
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "chat"))
from client import BUILD, Person, Server, same, tap, until  # noqa: E402
from sessions import SANITIZED, recorded, stomp  # noqa: E402

FULL = os.environ.get("CHATD_FULL") == "1"
COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 1000000 if FULL else 20000
WORKERS = int(sys.argv[2]) if len(sys.argv) > 2 else 2
RATE = 200      # messages a second of those who behave
PACE = 500      # broken sessions a second beside them, from each of two programs
PATIENT = 3600  # seconds: a million connections, a slow machine, a sanitizer's build
# The flood is more than a busy machine's disk takes, and is told so.
TOO_MUCH = ("a commit takes longer than commit_timeout", "session_auth failed: Device or resource busy")


class Sessions:
    """A file of them, of guests and of carol, who has an account."""

    def __init__(self, server):
        rng = random.Random(1)
        carol = Person(server, "carol")
        connect = stomp("CONNECT", "accept-version:1.2", "host:x", "login:carol", "passcode:carol", "heart-beat:0,0")
        self.file = tempfile.NamedTemporaryFile(prefix="chatd-sessions-")
        for i in range(120):
            own = {"connect": connect, "token": carol.token} if i % 2 else {}
            tcp, pieces = recorded("/topic/room/lobby", "/app/chat.send", rng, **own)
            self.file.write(b"%s%d " % (b"t" if tcp else b"h", len(pieces)))
            for how, data in pieces:
                self.file.write(b"%s%d\n%s" % (how.encode(), len(data), data))
        self.file.flush()


def attack(server, count, seed, pace=0):
    return subprocess.Popen(
        [os.path.join(BUILD, "tests", "hostile", "hostile-mutate"), server.sessions.file.name, str(server.address("http")[1]),
         str(server.address("tcp")[1]), str(count), str(seed), str(pace)], stdout=subprocess.PIPE, text=True)


def crowd(server, mode, *more):
    """One line of bench-load, which counts each message that each client should have had; it fails if one is missing,
    came twice or not in order, or anybody was refused or sent away."""
    got = subprocess.run([os.path.join(BUILD, "tests", "bench", "bench-load"), mode, "%s:%d" % server.address("http"), *more],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENT, check=False)
    assert got.returncode == 0, got.stdout[-1000:] + got.stderr[-2000:]
    return json.loads(got.stdout.splitlines()[-1])


def talk(server, seconds):
    return crowd(server, "direct", "--chat", "-n", "1000", "-r", str(RATE), "-s", str(seconds), "--sources", "8")


def memory(server):
    with open("/proc/%d/status" % server.proc.pid, encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def descriptors(server):
    return len(os.listdir("/proc/%d/fd" % server.proc.pid))


class Bystanders:
    """alice and bob, with a room and a conversation of their own."""

    def __init__(self, server):
        self.alice, self.bob = (Person(server, name) for name in ("alice", "bob"))
        made = self.alice.rest("POST", "/api/chat/rooms", {"name": "Den", "private": True})
        same(made.status, 201, made.body)
        self.room = made.json["id"]
        same(self.alice.rest("POST", "/api/chat/rooms/%s/invite" % self.room, {"userId": "bob"}).status // 100, 2)
        same(self.bob.rest("POST", "/api/chat/rooms/%s/join" % self.room, {}).status // 100, 2)
        for i in range(20):
            who = (self.alice, self.bob)[i % 2]
            for to in ({"roomId": self.room}, {"to": (self.bob, self.alice)[i % 2].id}):
                device = getattr(who, "open", None) or who.device()
                who.open = device
                device.write("SEND", {"destination": "/app/chat.send", "receipt": "r%d" % i},
                             json.dumps({"content": "number %d" % i, **to}).encode())
                assert device.wait(lambda f: f.command == "RECEIPT"), "no receipt"

    def state(self):
        """All that is theirs, as they see it."""
        seen = []
        for who in (self.alice, self.bob):
            other = self.bob if who is self.alice else self.alice
            for path in ("/api/users/me", "/api/chat/rooms/" + self.room, "/api/chat/rooms/%s/members" % self.room,
                         "/api/chat/messages/room/%s?limit=100&events=true" % self.room,
                         "/api/chat/messages/direct?with=%s&limit=100" % other.id):
                answer = who.rest("GET", path)
                same(answer.status, 200, path)
                seen.append((path, answer.json))
            known = [c for c in who.rest("GET", "/api/chat/conversations?limit=100").json["conversations"]
                     if c.get("roomId") == self.room or c.get("userId") == other.id]
            assert known, "they know nothing of what they have"
            seen.append(sorted(known, key=json.dumps))
        return seen


def digest(state):
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def settled(programs):
    """What they say when all is done; the server let them in."""
    said = [json.loads(p.communicate()[0]) for p in programs]
    assert all(p.returncode == 0 for p in programs), said
    made = sum(r["made"] for r in said)
    assert sum(r["not_connected"] for r in said) < made / 100, said
    print("# %s" % said)
    return made


def a_flood_of_them_is_survived(s):
    made = settled([attack(s, COUNT // 2, seed) for seed in (1, 2)])
    same(made, COUNT // 2 * 2)
    taken = s.bystanders.alice.rest("GET", "/api/chat/messages/room/lobby").json["topSeq"]
    print("# %d messages of theirs were taken" % taken)
    assert taken > made / 100, "%d messages in the lobby, of %d sessions: they were hardly read" % (taken, made)


def those_who_behave_notice_nothing(s):
    quiet = talk(s, 5)
    storm = [attack(s, max(COUNT // 20, 5000), seed, PACE) for seed in (3, 4)]
    rounds = [talk(s, 5)]
    while any(p.poll() is None for p in storm):
        rounds.append(talk(s, 20 if FULL else 5))
    settled(storm)
    print("# latency p99 us: %s alone, %s meanwhile" % (quiet["p99_us"], [r["p99_us"] for r in rounds]))


def what_others_have_is_what_it_was(s):
    before, after = s.state, s.bystanders.state()
    if digest(before) != digest(after):
        for b, a in zip(before, after):
            assert b == a, "was %s, is %s" % (b, a)


def what_came_has_gone(s):
    until(lambda: descriptors(s) <= s.base + 16, 60, "%d descriptors, %d before" % (descriptors(s), s.base))
    again = memory(s)
    print("# %d KiB before, %d after" % (s.before, again))
    # A thousand at once leave what the allocator keeps; a connection that left 300 bytes behind would show.
    assert again - s.before < 128 * 1024 + COUNT * 0.3 or SANITIZED, "%d KiB more than before" % (again - s.before)


def joins(server):
    """Connects a second."""
    got = crowd(server, "churn", "--topic", "/user/queue/messages", "-n", "20", "-s", "3", "--settle", "0.1")
    return got["completed"] / got["seconds"]


def it_takes_new_ones_as_before(s):
    again = joins(s)
    print("# connects a second: %.0f before, %.0f after" % (s.joins, again))
    assert again > 0


def main():
    server = Server(WORKERS)
    server.sessions = Sessions(server)
    server.bystanders = Bystanders(server)
    server.state = server.bystanders.state()
    server.joins = joins(server)
    server.base, server.before = descriptors(server), memory(server)
    return tap([a_flood_of_them_is_survived, those_who_behave_notice_nothing, what_others_have_is_what_it_was, what_came_has_gone,
                it_takes_new_ones_as_before], server, expected=TOO_MUCH)


if __name__ == "__main__":
    sys.exit(main())
