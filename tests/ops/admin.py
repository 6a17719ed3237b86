#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The plugin admin and chatctl on a real server.  Speaks TAP.

usage: admin.py [WORKERS]"""
import json
import os
import pwd
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "chat"))
from client import BUILD, Device, Person, Server, tap  # noqa: E402

CTL = os.path.join(BUILD, "bin", "chatctl")
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def ctl(server, *args, code=0, seconds=60, **how):
    """What chatctl prints; its exit code must be `code`."""
    where = ["--socket", os.path.join(server.dir, "admin.sock")] if server else []
    done = subprocess.run([CTL, *where, *args], capture_output=True, text=True, timeout=seconds,
                          stdin=subprocess.DEVNULL, **how)
    assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stdout + done.stderr


def ask(server, *args, code=0):
    return json.loads(ctl(server, "--json", *args, code=code))


def raw(server, data):
    """The answer to these bytes, one line; b"": it was hung up."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(os.path.join(server.dir, "admin.sock"))
        s.sendall(data)
        got = b""
        while not got.endswith(b"\n"):
            try:
                piece = s.recv(65536)
            except ConnectionError:
                return got
            if not piece:
                return got
            got += piece
        return got


def until(fits, seconds=60):
    end = time.monotonic() + seconds
    while not fits():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


@test
def status_tells_what_is_there(server):
    devices = [Person(server, n).device() for n in ("alice", "bob")]
    until(lambda: ask(server, "status")["sessions"] == 2)
    s = ask(server, "status")
    assert s["ok"] and s["pid"] == server.proc.pid and s["state"] == "UP" and s["store"] == "OK", s
    assert s["broker"] == "NONE" and s["workers"] == int(server.workers) and s["residentBytes"] > 1 << 20, s
    assert s["subscriptions"] == 8 and s["connections"] >= 3, s
    text = ctl(server, "status")
    assert re.search(r"^sessions +2$", text, re.M) and re.search(r"^state +UP$", text, re.M), text
    for d in devices:
        d.close()
    until(lambda: ask(server, "status")["sessions"] == 0)


@test
def nodes_is_this_node_alone(server):
    n = ask(server, "nodes")
    assert n["cluster"] is False and [x["node"] for x in n["nodes"]] == [ask(server, "status")["node"]], n
    assert ctl(server, "nodes").splitlines()[0].split()[:3] == ["NODE", "STATE", "STORE"]


@test
def sessions_are_listed_by_user_and_up_to_a_limit(server):
    devices = [Person(server, n).device() for n in ("alice", "alice", "bob", "carol", "dave", "dave")]
    guest = Person(server).device()
    until(lambda: ask(server, "sessions")["total"] == 7)
    s = ask(server, "sessions")["sessions"]
    assert sorted(x["user"] for x in s if not x["guest"]) == ["alice", "alice", "bob", "carol", "dave", "dave"], s
    assert {x["transport"] for x in s} == {"tcp"} and {x["peer"] for x in s} == {"127.0.0.1"}, s
    assert {x["session"] for x in s} == {d.connected.headers["session"] for d in devices + [guest]}, s
    assert all(x["subscriptions"] == 4 and re.fullmatch(r"\d{4}-.*Z", x["since"]) for x in s), s
    a = ask(server, "sessions", "--user", "alice")
    assert a["total"] == 2 and {x["user"] for x in a["sessions"]} == {"alice"}, a
    few = ask(server, "sessions", "--limit", "3")
    assert few["total"] == 7 and len(few["sessions"]) == 3, few
    assert ask(server, "sessions", "--user", "nobody") == {"ok": True, "sessions": [], "total": 0}
    assert ctl(server, "sessions").endswith("7 of 7\n")
    for d in devices + [guest]:
        d.close()
    until(lambda: ask(server, "sessions")["total"] == 0)


def ended_by(device):
    """The ERROR that ends it."""
    f = device.wait(lambda f: f.command == "ERROR")
    try:
        assert device.wait(lambda f: False, 30) is None
        raise AssertionError("it is still open")
    except ConnectionError:
        return f


@test
def kick_ends_all_sessions_of_a_user_and_nobody_else(server):
    alice = [Person(server, "alice").device() for _ in range(5)]
    bob = Person(server, "bob").device()
    a = ask(server, "kick", "alice", "--reason", "be nice")
    assert a == {"ok": True, "closed": 5, "othersTold": False}, a
    for d in alice:
        assert "be nice" in ended_by(d).headers["message"]
    bob.sync()
    assert "no session fits" in ctl(server, "kick", "alice", code=1)
    again = Person(server, "alice").device()  # a kick is no ban
    again.close()
    bob.close()


@test
def kick_ends_one_session(server):
    one, other = Person(server, "alice").device(), Person(server, "alice").device()
    a = ask(server, "kick", one.connected.headers["session"])
    assert a["closed"] == 1, a
    assert "closed by the operator" in ended_by(one).headers["message"]
    other.sync()
    other.close()
    assert "no session fits" in ctl(server, "kick", "--user", one.connected.headers["session"], code=1)


@test
def broadcast_reaches_everybody_who_listens(server):
    devices = [Person(server, n).device() for n in ("alice", "bob")] + [Person(server).device()]
    for d in devices:
        d.subscribe("/topic/public")
    text = 'Läuft bis 18:00 <b>"gut"</b>\nund dann nicht'
    a = ask(server, "broadcast", text)
    for d in devices:
        m = d.on("/topic/public", type="SYSTEM")
        assert m and m.json["content"] == text and m.json["sender"] == "SYSTEM" and m.json["id"] == a["id"], m
        d.close()


@test
def backup_is_a_whole_store(server):
    d = Person(server, "alice").device()
    d.send("/app/chat.send", {"to": "bob", "content": "for the backup"})
    with tempfile.TemporaryDirectory(prefix="chatd-backup-") as folder:
        path = os.path.join(folder, "copy.db")
        a = json.loads(ctl(server, "--json", "backup", "copy.db", cwd=folder))
        assert a["path"] == path and a["bytes"] == os.path.getsize(path) > 0, a
        db = sqlite3.connect(path)
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT count(*) FROM msg").fetchall()[0][0] >= 1
        db.close()
        assert "there is such a file already" in ctl(server, "backup", path, code=1)
    assert "no backup was made" in ctl(server, "backup", "/no/such/folder/copy.db", code=1)
    d.close()


@test
def what_is_no_command_is_refused(server):
    for line, why in ((b"hello\n", "no command in this line"), (b"[]\n", "no command in this line"),
                      (b'{"cmd":7}\n', "cmd must be"), (b"{}\n", "there is no such command"),
                      (b'{"cmd":"reboot"}\n', "there is no such command"),
                      (b'{"cmd":"kick"}\n', "kick needs a user or a session"),
                      (b'{"cmd":"kick","user":"a","session":"b"}\n', "and not both"),
                      (b'{"cmd":"kick","user":"a","reason":"' + b"x" * 121 + b'"}\n', "121 bytes, 120 are allowed"),
                      (b'{"cmd":"broadcast"}\n', "the text has 0 bytes"),
                      (b'{"cmd":"broadcast","text":"' + b"x" * 4001 + b'"}\n', "4001 bytes"),
                      (b'{"cmd":"backup","path":"copy"}\n', "absolute path"),
                      (b'{"cmd":"sessions","limit":0}\n', "limit is 1 to 100000"),
                      (b'{"cmd":"status","cmd":"drain"}\n', "no command in this line")):
        a = json.loads(raw(server, line))
        assert a["ok"] is False and why in a["message"], (line, a)
    assert raw(server, b"x" * 20000) == b""
    assert json.loads(raw(server, b'{"cmd":\n')) ["ok"] is False


@test
def commands_may_follow_each_other_on_one_connection(server):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(os.path.join(server.dir, "admin.sock"))
        s.sendall(b'{"cmd":"status"}\n{"cmd":"sessions"}\n{"cmd":"nodes"}\n')
        got = b""
        while got.count(b"\n") < 3:
            got += s.recv(65536)
        a = [json.loads(x) for x in got.splitlines()]
        assert "pid" in a[0] and "sessions" in a[1] and "nodes" in a[2], a


@test
def who_hangs_up_harms_nobody(server):
    for _ in range(40):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(os.path.join(server.dir, "admin.sock"))
            s.sendall(b'{"cmd":"nodes"}\n{"cmd":"sessions"}\n')

    def answers():
        try:
            return ask(server, "status")["ok"]
        except AssertionError:  # 16 of them are still being answered
            return False
    until(answers)


def as_somebody(account, fn):
    """What fn gives in a process of that account."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            os.write(w, fn())
        finally:
            os._exit(0)
    os.close(w)
    os.waitpid(pid, 0)
    with os.fdopen(r, "rb") as f:
        return f.read()


@test
def nobody_else_gets_in(server):
    path = os.path.join(server.dir, "admin.sock")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    if os.getuid() != 0:
        return
    # As if somebody had opened the modes by mistake: the kernel still tells who it is.
    other = pwd.getpwnam("nobody")
    before = stat.S_IMODE(os.stat(server.dir).st_mode)
    os.chmod(path, 0o666)
    os.chmod(server.dir, 0o755)
    try:
        got = as_somebody(other, lambda: raw(server, b'{"cmd":"status"}\n'))
    finally:
        os.chmod(server.dir, before)
        os.chmod(path, 0o600)
    assert got == b"", got
    with open(os.path.join(server.dir, "log")) as f:
        assert "refused: user %d" % other.pw_uid in f.read()


@test
def chatctl_finds_the_socket_by_the_configuration(server):
    with open(os.path.join(server.dir, "chat.yaml")) as f:
        text = f.read()
    other = os.path.join(server.dir, "other.yaml")
    with open(other, "w") as f:
        f.write(text.replace("data_dir: ./data", "data_dir: ."))
    assert json.loads(ctl(None, "-c", other, "--json", "status"))["pid"] == server.proc.pid
    with open(other, "w") as f:
        f.write(text.replace("  admin: {}", "  admin: { socket: sub/x.sock }"))
    assert os.path.join(server.dir, "sub/x.sock") in ctl(None, "-c", other, "status", code=69)
    with open(other, "w") as f:
        f.write(text.replace("  admin: {}", "  admin: { enabled: false }"))
    assert 'has no plugin "admin"' in ctl(None, "-c", other, "status", code=78)
    assert "/no/such.yaml: error" in ctl(None, "-c", "/no/such.yaml", "status", code=78)
    assert "no server listens there" in ctl(None, "--socket", "/no/such.sock", "status", code=69)


@test
def chatctl_says_how_it_is_used(server):
    assert "broadcast TEXT" in ctl(None, "help") and ctl(None, "--help") == ctl(None, "help")
    for args in ([], ["reboot"], ["kick"], ["kick", "a", "b"], ["broadcast"], ["status", "now"], ["backup"],
                 ["sessions", "--limit", "0"], ["config", "chek", "x"], ["store", "copy", "x"], ["--nonsense"]):
        assert ctl(server, *args, code=64), args
    assert ctl(None, "config", "check", os.path.join(server.dir, "chat.yaml")).endswith("chat.yaml: good\n")
    bad = os.path.join(server.dir, "bad.yaml")
    with open(bad, "w") as f:
        f.write("plugins:\n  http: { listne: [] }\n")
    assert 'did you mean "listen"?' in ctl(None, "config", "check", bad, code=78)
    if not os.path.exists(os.path.join(os.path.dirname(os.path.realpath(CTL)), "chatd-store-copy")):
        assert "comes with the plugin store-postgres" in ctl(None, "store", "copy", "a", "b", code=69)


def drain(workers):
    """The server ends as by SIGTERM; --wait waits for it; and a SIGTERM meanwhile is no second one."""
    server = Server(workers, "server.drain_spread=1s")
    d = Person(server, "alice").device()
    begin = subprocess.Popen([CTL, "--socket", os.path.join(server.dir, "admin.sock"), "--json", "drain", "--wait"],
                             stdout=subprocess.PIPE, text=True)
    told = json.loads(begin.stdout.readline())
    assert told["ok"] and told["pid"] == server.proc.pid, told
    server.proc.send_signal(signal.SIGTERM)
    try:
        d.wait(lambda f: False, 60)
        raise AssertionError("it is still open")
    except ConnectionError:
        pass
    assert server.proc.wait(60) == 0
    assert begin.wait(60) == 0
    begin.stdout.close()
    assert not os.path.exists(os.path.join(server.dir, "admin.sock")), "the socket's file is left"
    code, log = server.stop()
    assert code == 0 and "told to drain and stop" in log and "second signal" not in log, log


def main():
    workers = sys.argv[1] if len(sys.argv) > 1 else "2"

    @test
    def drain_ends_it_as_SIGTERM_does(server):
        drain(workers)

    sys.exit(tap(TESTS, Server(workers)))


main()
