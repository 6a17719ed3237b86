# SPDX-License-Identifier: Apache-2.0
"""The server is killed; receipts do not arrive; a receipt never leaves before its commit."""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time

from harness import Crowd, Proxy, ask, integrity, name_of

TESTS = []
SIDE_BY_SIDE = 2


def test(fn):
    TESTS.append(fn)
    return fn


@test
def f01_killed_at_random_instants(t):
    node = t.node()
    # A start on a file that nobody harmed, on this machine as busy as it is.
    node.kill()
    begin = time.monotonic()
    node.begin()
    usual = time.monotonic() - begin
    crowd = Crowd(node)
    crowd.load(200)
    starts = []
    for _ in range(100 if t.full else 20):
        time.sleep(random.uniform(0.05, 0.6))
        crowd.mark("fault", "kill")
        node.kill()
        begin = time.monotonic()
        node.begin()
        starts.append(time.monotonic() - begin)
        crowd.mark("heal", "started")
    time.sleep(0.5)
    text = crowd.finish()
    starts.sort()
    print("# restarts %.2f to %.2f s, usual start %.2f s" % (starts[0], starts[-1], usual))
    # A single one may meet a moment in which this machine has no time for it.
    assert starts[-2] <= max(2 if not t.sanitized else 20, 10 * usual), "restarts took %r s" % starts[-3:]
    assert int(re.search(r"acks (\d+)", text).group(1)) > 200, "too few messages to mean anything"
    assert integrity(node.db) == "ok"


def sweep(t, call, counts):
    """Killed by the Nth call itself, for each N."""
    node = t.node(faults=True)
    crowd = Crowd(node, users=20, rooms=4, direct=0.4)
    crowd.load(100)
    for n in counts:
        node.rules.set(0, call, "chatd.db", first=n, signal=signal.SIGKILL)
        node.proc.wait(120)  # a slow machine has fewer of them in a second
        node.rules.clear()
        node.kill()  # if it came so far that it was only killed once it served
        node.begin()
    time.sleep(0.5)
    crowd.finish()
    assert integrity(node.db) == "ok"


@test
def f01_killed_in_the_nth_fdatasync(t):
    sweep(t, "fdatasync", range(1, 201) if t.full else (1, 2, 5, 17))


@test
def f01_killed_in_the_nth_write_of_a_page(t):
    sweep(t, "pwrite", range(1, 201) if t.full else (1, 2, 3, 7, 40))


@test
def f01_the_same_with_strace(t):
    """By ptrace, so between user and kernel and not in a wrapper."""
    if not can_trace():
        return t.skip("ptrace is not permitted here")
    for n in range(1, 201, 4) if t.full else (3,):
        node = t.node(prefix=("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e",
                              "inject=fdatasync:signal=SIGKILL:when=%d" % (n + 40)))
        try:
            d = node.person(0).device()
            acked = []
            for i in range(n + 60):
                r = d.send("/app/chat.send", {"to": name_of(1), "content": str(i), "clientId": str(i)})
                acked.append((r["message-id"], int(r["seq"])))
        except (OSError, AttributeError, TimeoutError):
            pass
        node.proc.wait(20)
        stored = set(ask(node.db, "SELECT id, seq FROM msg"))
        assert not set(acked) - stored, "acknowledged, and gone"
        node.prefix = ()
        node.begin()
        t.end(node)


@test
def f03_killed_at_each_write_of_the_migration(t):
    """The next start finishes it, whichever write it was."""
    node = t.node(faults=True)
    at = 1
    while at < 400:
        node.kill()
        for name in os.listdir(node.dir):
            if name.startswith("chatd.db"):
                os.unlink(os.path.join(node.dir, name))
        node.rules.set(0, "pwrite", "chatd.db", first=at, signal=signal.SIGKILL)
        try:
            node.begin_or_die()
            if node.lives(0.5):
                break  # there were fewer writes than that
        except EOFError:
            pass
        node.rules.clear()
        node.begin()
        assert integrity(node.db) == "ok"
        assert ask(node.db, "PRAGMA user_version")[0][0] > 0
        at += 1 if t.full else 9
    node.rules.clear()
    assert at > 9, "nothing was killed"
    print("# killed at the writes up to number %d" % at)


def repeat(t, times, sockets):
    """The RECEIPT is lost behind a proxy; the same clientId comes again."""
    node = t.node()
    proxy = t.helper(Proxy(node.ready_file))
    a, b = node.person(0), node.person(1)
    listener = b.device()
    real = node.address
    body = {"to": name_of(1), "content": "once", "clientId": "the-one"}
    node.address = lambda kind: ("127.0.0.1", proxy.port) if kind == "tcp" else real(kind)
    d = a.device()
    proxy("blackhole down")
    d.write("SEND", {"destination": "/app/chat.send", "receipt": "r"}, json.dumps(body).encode())
    first = listener.messages(content="once")
    assert first, "it was not delivered"
    proxy("rst")
    proxy("pass")
    answers = []

    def send_again(device, n):
        for i in range(n):
            answers.append(device.send("/app/chat.send", body))
    devices = [a.device() for _ in range(sockets)]
    threads = [threading.Thread(target=send_again, args=(x, times)) for x in devices]
    for x in threads:
        x.start()
    for x in threads:
        x.join()
    assert {r.get("message-id") for r in answers} == {first.headers["message-id"]}, answers[:3]
    assert {r["seq"] for r in answers} == {first.headers["seq"]}
    assert listener.quiet("/user/queue/messages") is True
    assert ask(node.db, "SELECT count(*) FROM msg") == [(1,)]
    assert "UNIQUE" not in node.text()
    proxy.close()
    t.others.remove(proxy)
    t.end(node)


@test
def f02_a_lost_receipt_and_one_repeat(t):
    repeat(t, 1, 1)


@test
def f02_a_lost_receipt_and_many_repeats(t):
    repeat(t, 1000 if t.full else 10, 1)


@test
def f02_the_same_at_once_from_several_connections(t):
    repeat(t, 100 if t.full else 20, 4)


@test
def f02_the_first_time_at_once_from_two_connections(t):
    """Not even the first one is there yet: one row, one delivery, one answer for both."""
    node = t.node()
    a, b = node.person(0), node.person(1)
    listener, devices = b.device(), [a.device() for _ in range(4)]
    for i in range(200 if t.full else 40):
        body = json.dumps({"to": name_of(1), "content": "x%d" % i, "clientId": "k%d" % i}).encode()
        for d in devices:
            d.write("SEND", {"destination": "/app/chat.send", "receipt": "k%d" % i}, body)
    for i in range(200 if t.full else 40):
        places = set()
        for d in devices:
            f = d.wait(lambda f: f.headers.get("receipt-id") == "k%d" % i)
            places.add((f.headers["message-id"], f.headers["seq"]))
        assert len(places) == 1, places
        f = listener.on("/user/queue/messages")
        assert f.json["content"] == "x%d" % i and (f.headers["message-id"], f.headers["seq"]) in places
    assert listener.quiet("/user/queue/messages") is True
    t.end(node)


def can_trace():
    return shutil.which("strace") and subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True).returncode == 0


TRACED = re.compile(r"^(\d+) +([0-9.]+) (\w+)\((\d+)(?:<([^>]*)>)?.*?(?:\) += +(\S+))?")


@test
def g_ack_1_no_receipt_leaves_before_its_commit(t):
    """Seen from the kernel: the sync that has a row's bytes before it ended before its RECEIPT was written."""
    if not can_trace():
        return t.skip("ptrace is not permitted here")
    trace = os.path.join(t.folder(), "trace")
    node = t.node(prefix=("strace", "-D", "-f", "-qq", "-y", "-ttt", "-s", "200000", "-o", trace, "-e",
                          "trace=pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg", "-e", "signal=none"))
    d = node.person(0).device()
    n = 200 if t.full else 40
    for i in range(n):
        d.write("SEND", {"destination": "/app/chat.send", "receipt": "rcpt-%d-" % i},
                json.dumps({"to": name_of(1), "content": "mark-%d-" % i}).encode())
        if i % 7 == 0:
            time.sleep(0.01)
    for i in range(n):
        assert d.wait(lambda f: f.headers.get("receipt-id") == "rcpt-%d-" % i, 20)
    d.close()
    t.end(node)
    synced, written, seen = set(), set(), 0
    for line in open(trace, errors="replace"):
        if "chatd.db-wal>" in line and "pwrite64(" in line:
            written |= set(re.findall(r"mark-(\d+)-", line))
        elif "chatd.db-wal>" in line and "fdatasync(" in line and "= 0" in line or \
                "fdatasync resumed" in line and "= 0" in line:
            synced |= written
        elif "RECEIPT" in line:
            for number in re.findall(r"rcpt-(\d+)-", line):
                seen += 1
                assert number in synced, "the RECEIPT of %s left before its sync" % number
    assert seen >= n, "%d receipts seen" % seen
    print("# %d receipts left after their sync" % seen)
