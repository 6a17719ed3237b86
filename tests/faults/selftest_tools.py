#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""faultproxy, faultpre.so and images.py do what they say.  Prints TAP."""
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from harness import BUILD, Proxy
from images import DB, FOLDER, SYNC, TRUNCATE, UNLINK, WAL, WRITE, Disk, File
from pre import Rules

TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


class Echo:
    """Sends back what it gets; closed tells how a connection ended."""

    def __init__(self):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.ends = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            conn = self.sock.accept()[0]
            threading.Thread(target=self.one, args=(conn,), daemon=True).start()

    def one(self, conn):
        try:
            while True:
                data = conn.recv(65536)
                if not data:
                    self.ends.append("fin")
                    break
                conn.sendall(data)
        except OSError:
            self.ends.append("rst")
        conn.close()


def linked(fn):
    """With a proxy before an echo, and a connection through it."""
    def run():
        echo = Echo()
        proxy = Proxy("127.0.0.1:%d" % echo.sock.getsockname()[1])
        try:
            with socket.create_connection(("127.0.0.1", proxy.port), 5) as c:
                c.settimeout(5)
                c.sendall(b"hello")
                assert c.recv(100) == b"hello"
                fn(proxy, c, echo)
        finally:
            proxy.close()
    run.__name__ = fn.__name__
    return test(run)


def silent(c, seconds=0.3):
    c.settimeout(seconds)
    try:
        return c.recv(100) and False
    except socket.timeout:
        return True
    finally:
        c.settimeout(5)


def got(c, n):
    data = b""
    while len(data) < n:
        more = c.recv(65536)
        if not more:
            break
        data += more
    return data


@linked
def what_stalls_comes_later(proxy, c, echo):
    proxy("stall up")
    c.sendall(b"later")
    assert silent(c)
    proxy("pass")
    assert c.recv(100) == b"later"


@linked
def what_a_black_hole_takes_is_gone(proxy, c, echo):
    proxy("blackhole down")
    c.sendall(b"lost")
    assert silent(c)
    proxy("pass")
    c.sendall(b"again")
    assert c.recv(100) == b"again"
    assert proxy("count").split()[1] == "1"


@linked
def a_delay_delays(proxy, c, echo):
    proxy("delay 300 up")
    begin = time.monotonic()
    c.sendall(b"x")
    assert c.recv(100) == b"x" and time.monotonic() - begin >= 0.3


@linked
def a_rate_limits(proxy, c, echo):
    proxy("rate 20000 down")
    begin = time.monotonic()
    c.sendall(b"y" * 10000)
    assert len(got(c, 10000)) == 10000 and time.monotonic() - begin >= 0.4


@linked
def corruption_changes_bytes_and_no_lengths(proxy, c, echo):
    proxy("corrupt 0.5 up")
    c.sendall(bytes(1000))
    data = got(c, 1000)
    assert len(data) == 1000 and 300 < sum(b != 0 for b in data) < 700


@linked
def what_is_truncated_ends_there(proxy, c, echo):
    proxy("truncate 3 up")
    c.sendall(b"abcdef")
    assert c.recv(100) == b"abc" and silent(c)


@linked
def a_half_close_leaves_the_other_half(proxy, c, echo):
    proxy("half-close down")
    assert c.recv(100) == b""
    c.sendall(b"up")
    time.sleep(0.2)
    assert not echo.ends


@linked
def connections_are_dropped(proxy, c, echo):
    proxy("drop-conn")
    assert c.recv(100) == b""


@linked
def connections_are_reset(proxy, c, echo):
    proxy("rst")
    try:
        c.recv(100)
        assert False, "no reset"
    except ConnectionResetError:
        pass


@linked
def what_it_does_not_know_is_refused(proxy, c, echo):
    for bad in ("fly", "delay", "delay x", "pass sideways", "rst up"):
        try:
            proxy(bad)
            assert False, bad
        except ValueError:
            pass


PROGRAM = """
import errno, os, sys, time
n = 0
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
other = os.open(sys.argv[1] + ".other", os.O_RDWR | os.O_CREAT, 0o600)
for name, call in (("write", lambda f: os.write(f, b"x")), ("pwrite", lambda f: os.pwrite(f, b"x", 0)),
                   ("fsync", os.fsync), ("fdatasync", os.fdatasync), ("ftruncate", lambda f: os.ftruncate(f, 1))):
    for f in (fd, other):
        for _ in range(4):
            try:
                call(f)
                print("ok", end=" ")
            except OSError as e:
                print(errno.errorcode[e.errno], end=" ")
try:
    os.open(sys.argv[1], os.O_RDONLY)
    print("ok", end=" ")
except OSError as e:
    print(errno.errorcode[e.errno], end=" ")
print("clock", int(time.time()))
"""


def run(rules, folder):
    return subprocess.run([sys.executable, "-c", PROGRAM, os.path.join(folder, "main.file")],
                          env=dict(os.environ, **rules.env(BUILD)), capture_output=True, text=True, timeout=20)


def ruled(fn):
    def inner():
        with tempfile.TemporaryDirectory() as folder:
            rules = Rules(os.path.join(folder, "rules"))
            fn(rules, folder)
            rules.close()
    inner.__name__ = fn.__name__
    return test(inner)


@ruled
def without_rules_all_works(rules, folder):
    assert run(rules, folder).stdout.split()[:41] == ["ok"] * 41


@ruled
def the_nth_call_on_that_path_fails_once_or_for_ever(rules, folder):
    for i, call in enumerate(("write", "pwrite", "fsync", "fdatasync", "ftruncate")):
        rules.set(i, call, "main.file", first=2, last=2 if i % 2 == 0 else 99, error=5)
    words = run(rules, folder).stdout.split()
    once, ever, fine = ["ok", "EIO", "ok", "ok"], ["ok", "EIO", "EIO", "EIO"], ["ok"] * 4
    want = []
    for i in range(5):
        want += (once if i % 2 == 0 else ever) + fine
    # ".other" holds "main.file" too, so its calls count on: once is over, for ever goes on.
    for i in (1, 3):
        want[i * 8 + 4:i * 8 + 8] = ["EIO"] * 4
    assert words[:40] == want, words
    assert rules.seen(0) == 8


@ruled
def opening_fails(rules, folder):
    rules.set(0, "open", "main.file", first=3, error=28)
    assert run(rules, folder).stdout.split()[40] == "ENOSPC"


@ruled
def a_signal_kills_and_a_delay_delays(rules, folder):
    rules.set(0, "fsync", "main", first=1, last=1, delay_ms=300)
    begin = time.monotonic()
    assert run(rules, folder).returncode == 0 and time.monotonic() - begin >= 0.3
    rules.set(0, "fdatasync", "main", first=3, signal=signal.SIGKILL)
    assert run(rules, folder).returncode == -signal.SIGKILL
    assert rules.seen(0) == 3


@ruled
def the_wall_clock_jumps(rules, folder):
    rules.clock(-86400)
    now = int(run(rules, folder).stdout.split()[-1])
    assert -86500 < now - time.time() < -86300, now


def kinds(file):
    """Of 300 images each that there is; sectors hold one kind of byte each, "-" is no such sector."""
    rng = random.Random(1)
    images = [bytes(file.image(rng, rng.random())) for _ in range(300)]
    return {"".join(chr(i[k]) if k < len(i) else "-" for k in range(0, 1024, 512)).replace("\0", "0") for i in images}


@test
def what_was_not_synced_is_on_the_disk_in_parts_and_in_any_order():
    f = File()
    f.write(0, b"a" * 1024)
    f.sync()
    assert kinds(f) == {"aa"}
    f.write(0, b"b" * 1024)
    f.write(0, b"c" * 512)
    assert kinds(f) == {x + y for x in "abc" for y in "ab"}
    f.sync()
    assert kinds(f) == {"cb"}


@test
def a_file_that_grew_or_was_cut_off_has_either_length():
    f = File()
    f.write(0, b"a" * 1024)
    assert kinds(f) == {"--", "a0", "0a", "aa", "00"}
    f.sync()
    f.truncate(0)
    assert kinds(f) == {"--", "aa"}
    f.write(0, b"b" * 512)
    assert kinds(f) == {"--", "0-", "b-", "aa", "ba"}
    f.sync()
    assert kinds(f) == {"b-"} and f.disk == f.now


@test
def a_name_is_only_sure_once_its_folder_was_synced():
    rng, disk = random.Random(1), Disk()

    def names():
        return {"".join(sorted(n[8:] or "db" for n in disk.image(rng))) for _ in range(100)}
    for record in ((WRITE, DB, 0, 0, b"a"), (SYNC, DB, 0, 0, b"")):
        disk.apply(record)
    assert names() == {"", "db"}
    disk.apply((SYNC, FOLDER, 0, 0, b""))
    assert names() == {"db"}
    for record in ((WRITE, WAL, 0, 0, b"a"), (UNLINK, WAL, 0, 0, b""), (TRUNCATE, DB, 0, 0, b"")):
        disk.apply(record)
    assert names() == {"db", "-waldb"} and disk.now[DB].now == b""


def main():
    print("1..%d" % len(TESTS))
    failed = 0
    for i, fn in enumerate(TESTS, 1):
        try:
            fn()
            print("ok %d - %s" % (i, fn.__name__.replace("_", " ")))
        except Exception:
            failed += 1
            print("not ok %d - %s\n# %s" % (i, fn.__name__.replace("_", " "),
                                            traceback.format_exc().replace("\n", "\n# ")))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
