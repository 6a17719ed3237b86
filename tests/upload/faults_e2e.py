#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Uploads that are interrupted (F69): the server is killed at each step from the first byte to the row, the disk refuses,
the client leaves.  After each, what the store knows and what lies on the disk are the same.  Prints TAP.

Usage: faults_e2e.py [workers [test ...]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml, the plugin upload,
and store-sqlite; strace makes the system calls fail.
"""
import glob
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import upload_e2e as up  # noqa: E402
from upload_e2e import form, get, known, objects, png, post, same, temps, until, upload  # noqa: E402
from client import Server, tap  # noqa: E402

FILES = ["chatd-files"]
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def threads(s, *names):
    found = []
    for t in os.listdir("/proc/%d/task" % s.proc.pid):
        with open("/proc/%d/task/%s/comm" % (s.proc.pid, t)) as f:
            if f.read().strip() in names:
                found.append(t)
    assert found, names
    return found


class Fault:
    """Of the threads that handle files, or others, in a running server."""

    def __init__(self, s, call, what, names=FILES):
        self.args = [a for t in threads(s, *names) for a in ("-p", t)]
        self.proc = subprocess.Popen(["strace", *self.args, "-e", "trace=" + call, "-e", "inject=%s:%s" % (call, what)],
                                     stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        attached = 0
        while attached < len(self.args) // 2:
            line = self.proc.stderr.readline()
            assert line, "strace ended"
            attached += b"attached" in line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.send_signal(signal.SIGINT)
        self.proc.stderr.close()
        self.proc.wait(up.client.WAIT)


def may_trace():
    """Where containers forbid it there is nothing to be tried."""
    other = subprocess.Popen(["sleep", "60"])
    try:
        done = subprocess.run(["timeout", "-s", "INT", "2", "strace", "-q", "-p", str(other.pid)], capture_output=True, check=False)
        return b"Operation not permitted" not in done.stderr
    except OSError:
        return False
    finally:
        other.kill()
        other.wait()


def audit(s):
    """Rows have their bytes; returns the objects that no row knows."""
    db = sqlite3.connect("file:%s?mode=ro" % os.path.join(s.dir, "chatd.db"), uri=True)
    blobs = dict(db.execute("SELECT object, size FROM blob"))
    loose = db.execute("SELECT count(*) FROM file f LEFT JOIN blob b ON b.hash=f.hash WHERE b.hash IS NULL").fetchone()
    gone = {o for o, in db.execute("SELECT object FROM object_gone")}
    db.close()
    disk = {os.path.join(*p.split(os.sep)[-2:]): os.path.getsize(p) for p in objects(s)}
    same(loose, (0,))
    same({o: n for o, n in blobs.items() if disk.get(o) != n}, {}, "rows without their bytes")
    return set(disk) - set(blobs) - gone


def age(s, seconds):
    for p in glob.glob(os.path.join(s.dir, "files", "tmp", "*")) + glob.glob(os.path.join(s.dir, "files", "objects", "*", "*")):
        os.utime(p, (time.time() - seconds,) * 2)


@test
def killed_at_each_step(s):
    (alice,) = known(s, "alice")
    kept, data = upload(alice, png(1, 3000)), png(1, 3000)
    rest = [n for n in comms(s) if n not in ("chatd-files", "chatd-thumbs")]
    steps = (("pwrite64", 1, FILES), ("fsync", 1, FILES), ("rename", 1, FILES), ("rename", 1, ["chatd-thumbs"]),
             ("fsync", 2, FILES),  # the folder's, when the file has its place
             ("fdatasync", 1, rest))  # the row's
    for i, (call, when, names) in enumerate(steps):
        body = png(100 + i, 600000)
        with Fault(s, call, "signal=SIGKILL:when=%d" % when, names):
            try:
                r = post(s, alice, form(body))
                raise AssertionError("it was answered with %d although it was killed at %s" % (r.status, call))
            except (OSError, up.client.http.client.HTTPException):
                pass
            s.proc.wait(up.client.WAIT)
        s.begin()
        audit(s)
        same(get(alice, kept["url"]).body == data, True, call)
    age(s, 4000)
    s.kill()
    s.begin()
    until(lambda: not temps(s) and not audit(s), what="what the uploads have left")
    same(get(alice, kept["url"]).body == data, True)


def comms(s):
    names = set()
    for t in os.listdir("/proc/%d/task" % s.proc.pid):
        with open("/proc/%d/task/%s/comm" % (s.proc.pid, t)) as f:
            names.add(f.read().strip())
    return sorted(names)


@test
def the_disk_refuses(s):
    (alice,) = known(s, "alice")
    before = objects(s)
    for call, what, want in (("pwrite64", "error=ENOSPC", (507, "STORE_FULL")), ("pwrite64", "error=EDQUOT", (507, "STORE_FULL")),
                             ("fsync", "error=EIO", (503, "UNAVAILABLE")), ("rename", "error=ENOSPC", (507, "STORE_FULL")),
                             ("openat", "error=EMFILE", (503, "UNAVAILABLE"))):
        with Fault(s, call, what):
            r = post(s, alice, form(png(7, 600000)))
            same((r.status, r.json["code"]), want, call)
        until(lambda: not temps(s), what="nothing is left in tmp after %s" % call)
        same([o for o in objects(s) if o not in before], [], call)
    f = upload(alice, png(7, 600000))
    same(get(alice, f["url"]).status, 200)
    same(audit(s), set())


@test
def a_client_that_leaves(s):
    (alice,) = known(s, "alice")
    body = form(png(8, 900000))
    for n in (len(body) // 3, len(body) - 1):
        sock = up.raw(s, up.head(alice, len(body)) + body[:n], wait=False)
        until(lambda: temps(s), what="some of it is there")
        sock.close()
        until(lambda: not temps(s), what="nothing is left of it")
    same(audit(s), set())
    same(len([o for o in objects(s) if hashlib.sha256(png(8, 900000)).hexdigest() in o]), 0)


def main():
    workers = sys.argv[1] if len(sys.argv) > 1 else "4"
    words = sys.argv[2:]
    if not may_trace():
        print("1..0 # SKIP strace is missing, or may not attach")
        return 0
    return tap([t for t in TESTS if not words or any(w in t.__name__ for w in words)], Server(workers, accounts=up.ACCOUNTS))


if __name__ == "__main__":
    sys.exit(main())
