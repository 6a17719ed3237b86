# SPDX-License-Identifier: Apache-2.0
"""The disk under the store: locked, full, failing, slow; checkpoints beside readers."""
import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

from harness import Crowd, ask, integrity, readyz, rest, wait_for

EIO = errno.EIO
TESTS = []
SIDE_BY_SIDE = 3


def test(fn):
    TESTS.append(fn)
    return fn


def cpu_of(node):
    """Seconds of processor time so far."""
    with open("/proc/%d/stat" % node.proc.pid) as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def slowest_answer(node, seconds):
    """The loops of all workers answer meanwhile: the longest /healthz in ms."""
    worst, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        assert rest(node, None, "GET", "/healthz").status == 200
        worst = max(worst, time.monotonic() - begin)
        time.sleep(0.02)
    return worst * 1000


def hold_lock(path, seconds):
    """Another program that keeps the file locked; returns when it has it."""
    code = ("import sqlite3,sys,time\ndb=sqlite3.connect(sys.argv[1],timeout=10,isolation_level=None)\n"
            "db.execute('BEGIN IMMEDIATE')\nprint('held',flush=True)\ntime.sleep(float(sys.argv[2]))\n"
            "db.execute('ROLLBACK')\n")
    proc = subprocess.Popen([sys.executable, "-c", code, path, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert proc.stdout.readline() == "held\n"
    proc.stdout.close()
    return proc


@test
def f28_a_locked_file_delays_and_then_refuses(t):
    node = t.node()
    crowd = Crowd(node, users=20, rooms=4)
    crowd.load(60)
    time.sleep(1)
    for seconds in (3, 20 if t.full else 6.5):
        crowd.mark("fault", "locked %g s" % seconds)
        lock, cpu = hold_lock(node.db, seconds), cpu_of(node)
        slow = slowest_answer(node, seconds - 0.5)
        lock.wait(seconds + 10)
        cpu = cpu_of(node) - cpu
        crowd.mark("heal", "unlocked")
        print("# locked %g s: longest answer of a loop %.0f ms, %.2f s of CPU" % (seconds, slow, cpu))
        assert cpu < seconds * 0.5, "it spins"
        time.sleep(1.5)
    text = crowd.finish()
    assert "STORE_BUSY" in open(crowd.log).read(), "a lock of more than commit_timeout refused nothing"
    assert "commit takes longer" in node.text() and text
    assert integrity(node.db) == "ok"


@test
def f28_a_short_lock_is_no_error(t):
    node = t.node()
    crowd = Crowd(node, users=10, rooms=2)
    crowd.load(40)
    time.sleep(0.5)
    hold_lock(node.db, 2).wait(20)
    time.sleep(0.5)
    crowd.finish()
    assert "\treject\t" not in open(crowd.log).read(), "acks were late, and some were refused"


class Disk:
    """A small file system, as a node's data_dir."""

    def __init__(self, node_dir):
        self.path = node_dir

    def mount(self):
        return subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", self.path],
                              capture_output=True, text=True)

    def fill(self):
        with open(os.path.join(self.path, "ballast"), "wb", buffering=0) as f:
            for size in (1 << 16, 512):
                try:
                    while True:
                        f.write(bytes(size))
                except OSError as e:
                    assert e.errno == errno.ENOSPC

    def free(self):
        os.unlink(os.path.join(self.path, "ballast"))


@test
def f30_a_full_disk_refuses_and_heals(t):
    folder = t.folder()
    disk = Disk(folder)
    mounted = disk.mount()
    if mounted.returncode != 0:
        return t.skip("no tmpfs can be mounted here: " + mounted.stderr.strip())
    try:
        node = t.node("store-sqlite.path=" + os.path.join(folder, "chatd.db"), db=os.path.join(folder, "chatd.db"))
        crowd = Crowd(node, users=20, rooms=4)
        crowd.load(60)
        time.sleep(1)
        crowd.mark("fault", "full")
        disk.fill()
        wait_for(lambda: readyz(node) == 503, 20, "/readyz says it is not ready")
        host_room = crowd.rooms[0]
        reader = node.person(host_room[1][0])
        page = reader.rest("GET", "/api/chat/messages/room/" + host_room[0])
        assert page.status == 200 and page.json["messages"], "reading goes on"
        time.sleep(1)
        disk.free()
        crowd.mark("heal", "free")
        begin = time.monotonic()
        wait_for(lambda: readyz(node) == 200, 20, "ready again")
        print("# ready %.1f s after there was space" % (time.monotonic() - begin))
        time.sleep(1)
        crowd.finish()
        assert "STORE_FULL" in open(crowd.log).read(), "nothing was refused"
        assert integrity(node.db) == "ok"
        t.end(node)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def failing_syncs(t, first, last):
    """(acknowledged, refused) with the first to last fdatasync of the log or file failing."""
    node = t.node(faults=True)
    crowd = Crowd(node, users=10, rooms=3, direct=0.5)
    crowd.load(60)
    time.sleep(0.6)
    for i, call in enumerate(("fdatasync", "fsync")):
        node.rules.set(i, call, "chatd.db", first=first, last=last, error=EIO)
    crowd.mark("fault", "EIO")
    wait_for(lambda: any(node.rules.seen(i) >= first for i in (0, 1)), 30, "the fault was met")
    time.sleep(1)
    assert node.person(0).rest("GET", "/api/chat/rooms").status == 200, "reading goes on"
    # What is in the file now is what a power loss would leave: all that was acknowledged is there.
    node.rules.clear()
    crowd.mark("heal", "EIO over")
    wait_for(lambda: readyz(node) == 200, 30, "ready again")
    time.sleep(0.8)
    crowd.finish()
    assert integrity(node.db) == "ok"
    assert "the file was checked and is whole" in node.text(), "writing went on unchecked"
    t.end(node)


@test
def f31_a_sync_that_fails_once(t):
    for k in range(1, 51) if t.full else (1, 4):
        failing_syncs(t, k, k)


@test
def f31_syncs_that_fail_for_ever(t):
    for k in range(1, 51) if t.full else (3,):
        failing_syncs(t, k, 2 ** 62)


@test
def f31_an_acknowledged_row_is_in_a_copy_taken_at_the_fault(t):
    """Each group's rows are in the files when its RECEIPT leaves: also while syncs fail."""
    node = t.node(faults=True)
    a = node.person(0)
    room = a.rest("POST", "/api/chat/rooms", {"name": "r", "public": True}).json["id"]
    d, acked = a.device(), []
    for k in range(30 if t.full else 6):
        node.rules.set(0, "fdatasync", "chatd.db", first=2 + k % 5, last=2 + k % 5, error=EIO)
        for i in range(8):
            key = "%d-%d" % (k, i)
            r = d.send("/app/chat.send", {"roomId": room, "content": key, "clientId": key})
            if "message-id" in r:
                acked.append((r["message-id"], int(r["seq"])))
            else:
                assert r["code"] == "UNAVAILABLE", r
                break
        copy = t.folder()
        for name in ("chatd.db", "chatd.db-wal"):
            shutil.copy(os.path.join(node.dir, name), copy)
        db = sqlite3.connect(os.path.join(copy, "chatd.db"))
        stored = set(db.execute("SELECT id, seq FROM msg").fetchall())
        db.close()
        assert not set(acked) - stored, "acknowledged, and not in the copy: %s" % (set(acked) - stored)
        node.rules.clear()
        wait_for(lambda: readyz(node) == 200, 30, "ready again")
    print("# %d acknowledged rows were in every copy after them" % len(acked))
    t.end(node)


READER = """
import sqlite3, sys, time
end, n, longest = time.time() + float(sys.argv[2]), 0, 0
while time.time() < end:
    db = sqlite3.connect("file:%s?mode=ro" % sys.argv[1], uri=True, timeout=10)
    for what in ["SELECT count(*), max(length(body)) FROM msg"] + ["PRAGMA integrity_check"] * (n % 10 == 0):
        began = time.monotonic()
        found = db.execute(what).fetchone()[0]
        longest = max(longest, time.monotonic() - began)
    assert n % 10 or found == "ok", found
    db.close()
    n += 1
print(n, longest)
"""


def emptied(node, person, room):
    """With no reader left, writing goes on at the log's start: it does not grow."""
    before, device = os.path.getsize(node.db + "-wal"), person.device()
    device.send("/app/chat.join", {"roomId": room})
    for n in range(1500):
        body = json.dumps({"roomId": room, "content": "z" * 12000}).encode()
        device.write("SEND", {"destination": "/app/chat.send", "receipt": "e%d" % n}, body)
        if n % 30 == 29:
            assert device.wait(lambda f: f.headers.get("receipt-id") == "e%d" % n, 30), "no receipt"
            device.frames.clear()
    after = os.path.getsize(node.db + "-wal")
    assert after <= max(before, 64 << 20), "the log grew from %d to %d with no reader" % (before, after)


@test
def f33_checkpoints_beside_readers(t):
    node = t.node("chat.max_content=20000", "chat.max_bytes=64KiB")
    seconds = 600 if t.full else 6
    a, sizes = node.person(0), []
    room = a.rest("POST", "/api/chat/rooms", {"name": "r", "public": True}).json["id"]
    readers = [subprocess.Popen([sys.executable, "-c", READER, node.db, str(seconds)], stdout=subprocess.PIPE)
               for _ in range(4 if t.full else 2)]
    stop = threading.Event()

    def write(i):
        device, n = node.person(i).device(), 0
        body = json.dumps({"roomId": room, "content": "z" * 12000}).encode()
        device.send("/app/chat.join", {"roomId": room})
        while not stop.is_set():
            for _ in range(30):
                device.write("SEND", {"destination": "/app/chat.send", "receipt": "w%d" % n}, body)
                n += 1
            f = device.wait(lambda f: f.headers.get("receipt-id") == "w%d" % (n - 1), 30)
            assert f, "no receipt"
            device.frames.clear()
    writers = [threading.Thread(target=write, args=(i,)) for i in (1, 2)]
    for w in writers:
        w.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sizes.append(os.path.getsize(node.db + "-wal"))
        assert a.rest("GET", "/api/chat/messages/room/%s?limit=20" % room).status == 200
        time.sleep(0.05)
    stop.set()
    for w in writers:
        w.join()
    longest = 0
    for r in readers:
        out = r.communicate(timeout=60)[0]
        assert r.returncode == 0, "a reader found the file damaged"
        looks, took = out.split()
        longest = max(longest, float(took))
        print("# a reader beside: %d looks, the longest %.2f s" % (int(looks), float(took)))
    rows = ask(node.db, "SELECT count(*), max(seq) FROM msg")[0]
    print("# %d rows, the log at most %.1f MiB" % (rows[0], max(sizes) / 2 ** 20))
    assert rows[0] == rows[1], rows
    # The log cannot be emptied under a reader, and the server waits 2 s at most for all of them: on a busy machine
    # looks take longer, and the log grows by what is written meanwhile.  Then it must be emptied once they are gone.
    if longest * len(readers) < 2:
        assert max(sizes) <= 64 << 20, max(sizes)
    else:
        emptied(node, a, room)
    assert integrity(node.db) == "ok"
    t.end(node)


@test
def f34_a_slow_disk_makes_groups_grow(t):
    node = t.node(faults=True)
    crowd = Crowd(node, users=30, rooms=5)
    device = node.person(30).device()
    crowd.load(100)
    time.sleep(1)
    node.rules.set(0, "fdatasync", "chatd.db", delay_ms=300)
    crowd.mark("fault", "slow")
    slow = slowest_answer(node, 10 if t.full else 3)
    groups = node.rules.seen(0)
    assert 0 < groups <= (10 if t.full else 3) / 0.3 + 2, "%d syncs" % groups
    for i in range(200):
        device.write("SEND", {"destination": "/app/chat.send", "receipt": "b%d" % i}, b'{"to":"u31","content":"at once"}')
    assert device.wait(lambda f: f.headers.get("receipt-id") == "b199", 60), "no receipt"
    shared = node.rules.seen(0) - groups
    node.rules.clear()
    crowd.mark("heal", "fast")
    time.sleep(0.5)
    text = crowd.finish()
    print("# %d syncs while slow, and %d for 200 messages at once; longest answer of a loop %.0f ms" %
          (groups, shared, slow))
    assert shared <= 20, "slow syncs are not shared"
    assert "\treject\t" not in open(crowd.log).read(), "300 ms are no reason to refuse"
    assert text
    t.end(node)


@test
def f34_a_sync_that_hangs_is_refused_and_may_have_happened(t):
    """Longer than commit_timeout: STORE_BUSY; the rows whose commit was under way come late, in order,
    in rooms and in the inbox, live and resumed."""
    node = t.node("store-sqlite.commit_timeout=1s", faults=True)
    crowd = Crowd(node, users=20, rooms=4, direct=0.6)
    crowd.load(100)
    time.sleep(1)
    for _ in range(6 if t.full else 2):
        crowd.mark("fault", "hangs")
        node.rules.set(0, "fdatasync", "chatd.db", last=1, delay_ms=1700)
        time.sleep(2.2)
        crowd.tell("cut 5")
        time.sleep(0.5)
    time.sleep(1.5)
    crowd.finish()
    assert "STORE_BUSY" in open(crowd.log).read(), "nothing was refused"
    t.end(node)


@test
def somebody_shown_out_late_hears_nothing_although_nobody_asks_again(t):
    """The commit hangs and is answered with STORE_BUSY, and happens: all that follows from it happens, too."""
    for how in ("kick", "ban", "ban of a listener", "leave"):
        node = t.node("store-sqlite.commit_timeout=1s", faults=True)
        owner, b = node.person(0), node.person(1)
        public = how == "ban of a listener"
        room = owner.rest("POST", "/api/chat/rooms", {"name": "r", "public": public}).json["id"]
        path, topic = "/api/chat/rooms/%s" % room, "/topic/room/" + room
        if not public:
            assert owner.rest("POST", path + "/members", {"userId": "u01"}).status == 201
        d, c = owner.device(), b.device()
        c.subscribe(topic)
        d.subscribe(topic)
        c.subscribe("/user/queue/rooms")
        node.rules.set(0, "fdatasync", "chatd.db", last=1, delay_ms=2500)
        if how == "leave":
            r = b.rest("POST", path + "/leave")
        elif how == "kick":
            r = owner.rest("DELETE", path + "/members/u01")
        else:
            r = owner.rest("POST", path + "/ban", {"userId": "u01"})
        assert r.status == 503 and r.json["code"] == "STORE_BUSY", r.body
        wait_for(lambda: readyz(node) == 200, 30, "commits come back")
        if not public:
            assert d.on(topic, 20, type="LEAVE").json["sender"] == "u01", how
        if how in ("kick", "ban"):
            assert c.on("/user/queue/rooms", 20, type="LEAVE"), how
        time.sleep(0.3 if not public else 1.5)
        d.send("/app/chat.send", {"roomId": room, "content": "among us"})
        assert c.on(topic, 1, content="among us") is None, "%s: heard by who was shown out" % how
        t.end(node)


@test
def who_came_in_late_is_told_to_the_room_although_nobody_speaks(t):
    """Likewise: a new member; in the long form a new role, too: the room that has two owners then has one when it is
    asked for again."""
    node = t.node("store-sqlite.commit_timeout=1s", faults=True)
    owner, b = node.person(0), node.person(1)
    room = owner.rest("POST", "/api/chat/rooms", {"name": "r"}).json["id"]
    path, topic = "/api/chat/rooms/%s" % room, "/topic/room/" + room
    d, c = owner.device(), b.device()
    d.subscribe(topic)
    c.subscribe("/user/queue/rooms")

    def hangs(who, method, where, body=None):
        node.rules.set(0, "fdatasync", "chatd.db", last=1, delay_ms=2500)
        r = who.rest(method, path + where, body)
        assert r.status == 503 and r.json["code"] == "STORE_BUSY", r.body
    hangs(b, "POST", "/join")
    assert d.on(topic, 20, type="JOIN").json["sender"] == "u01"
    assert c.on("/user/queue/rooms", 20, type="JOIN"), "nor the other devices"
    wait_for(lambda: readyz(node) == 200, 30, "commits come back")
    if t.full:
        hangs(owner, "PUT", "/members/u01/role", {"role": "owner"})
        told = d.on(topic, 20, code="ROLE_CHANGED").json
        assert [told["userId"], told["role"]] == ["u01", "owner"], told
        wait_for(lambda: readyz(node) == 200, 30, "commits come back")
        assert owner.rest("PUT", path + "/members/u01/role", {"role": "owner"}).status == 200
        roles = {m["userId"]: m["role"] for m in b.rest("GET", path + "/members").json["members"]}
        assert roles == {"u00": "moderator", "u01": "owner"}, roles
    t.end(node)
