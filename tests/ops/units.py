#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""config/systemd: how hard the units are, and that the server can live within them.  Speaks TAP."""
import errno
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "conf"))
import proc  # noqa: E402
from proc import CHATD, CONFIGS, Server  # noqa: E402

UNITS = os.path.join(CONFIGS, "systemd")
NAMES = ("chatd.service", "chatd@.service")
HELPERS = "chatd-fetch@.service", "chatd-fetch.socket"
HELPER = os.path.join(os.path.dirname(CHATD), "..", "plugins", "fetch", "chatd-fetch")
CASES = []


def case(fn):
    CASES.append((fn.__doc__, fn))
    return fn


def analyze(*args):
    done = subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def settings(name):
    with open(os.path.join(UNITS, name), encoding="utf-8") as f:
        return re.findall(r"^([A-Za-z]+)=(.*)$", f.read(), re.M)


@case
def _():
    """the exposure is at most 2.0"""
    for name in (*NAMES, HELPERS[0]):
        rc, text = analyze("security", "--offline=true", "--threshold=20", os.path.join(UNITS, name))
        level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
        assert rc == 0 and level and float(level.group(1)) <= 2.0, text[-400:]
        print("# %s: %s" % (name, level.group(1)))


@case
def _():
    """systemd finds no mistake in them"""
    with tempfile.TemporaryDirectory(prefix="chatd-units-") as folder:
        for name in NAMES + HELPERS:
            with open(os.path.join(UNITS, name), encoding="utf-8") as f:
                text = f.read().replace("/usr/bin/chatd", CHATD).replace("/usr/libexec/chatd-fetch", HELPER)
            with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
                f.write(text)
        for name in ("chatd.service", "chatd@node1.service", "chatd-fetch@1.service", HELPERS[1]):
            rc, text = analyze("verify", "--man=no", "--generators=no", "--recursive-errors=no", os.path.join(folder, name))
            wrong = [x for x in text.splitlines() if name.split(".")[0] in x or "Unknown" in x]
            assert not wrong, (name, rc, wrong)


@case
def _():
    """both harden alike, and a stop is given more time than draining takes"""
    same = [[(k, v) for k, v in settings(n) if re.match("Protect|Private|Restrict|SystemCall|Capab|NoNew|Lock|Memory"
                                                         "Deny|RemoveIPC|UMask|Limit", k)] for n in NAMES]
    assert same[0] == same[1] and len(same[0]) > 20
    out = subprocess.run([CHATD, "--describe", "server"], capture_output=True, text=True).stdout
    spent = 8
    for key in ("drain_grace", "drain_spread", "drain_timeout"):
        spent += int(re.search(key + r".*?(\d+)s", out, re.S).group(1))
    for name in NAMES:
        assert int(dict(settings(name))["TimeoutStopSec"]) > spent, (name, spent)


def filter_set(lines):
    """The calls that these SystemCallFilter= lines allow."""
    groups = {}

    def group(name):
        if name not in groups:
            rc, text = analyze("syscall-filter", name)
            assert rc == 0, text
            words = [w.strip() for w in text.splitlines()[1:] if w.strip() and not w.strip().startswith("#")]
            groups[name] = set().union(*(group(w) if w.startswith("@") else {w} for w in words))
        return groups[name]
    allowed = set()
    for line in lines:
        for word in line.lstrip("~").split():
            these = group(word) if word.startswith("@") else {word}
            allowed = allowed - these if line.startswith("~") else allowed | these
    return allowed


@case
def _():
    """what the server calls while it serves is allowed by the units"""
    if not shutil.which("strace"):
        print("# skip: no strace")
        return
    allowed = filter_set([v for k, v in settings("chatd.service") if k == "SystemCallFilter"])
    assert "accept4" in allowed and "ptrace" not in allowed and "mount" not in allowed, sorted(allowed)[:20]
    # LeakSanitizer fails in who is traced.
    unseen = mock.patch.dict(os.environ, ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0")
    with unseen, Server("chat.yaml", "server.workers=2", "tcp.enabled=true") as s:
        trace = os.path.join(s.dir, "trace")
        tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", trace, "-p", str(s.proc.pid)], stderr=subprocess.PIPE,
                                  text=True)
        time.sleep(1)
        if tracer.poll() is not None:
            print("# skip: ptrace is not permitted here")
            return
        ws, answer = proc.websocket(s)
        assert "CONNECTED" in answer and "CONNECTED" in proc.tcp_connect(s)
        ws.sendall(bytes([0x81, 0x80 | 80]) + bytes(4) + b'SEND\ndestination:/app/chat.send\n\n{"to":"x","content":"y"}'.ljust(79) + b"\0")
        for path in ("/readyz", "/", "/api/chat/health"):
            s.get(path)
        subprocess.run([os.path.join(os.path.dirname(CHATD), "chatctl"), "--socket", os.path.join(s.data, "admin.sock"),
                        "backup", os.path.join(s.dir, "copy.db")], check=True, capture_output=True)
        ws.close()
        s.proc.send_signal(signal.SIGTERM)
        assert s.proc.wait(30) == 0, s.log()
        tracer.wait(10)
        with open(trace, errors="replace") as f:
            calls = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", f.read(), re.M))
        print("# %d calls: %s" % (len(calls), " ".join(sorted(calls))))
        assert len(calls) > 15, calls
        if os.geteuid() == 0:  # SQLite gives files to their folder's owner when it runs as root; the unit does not
            calls.discard("fchown")
        assert not calls - allowed, calls - allowed


@case
def _():
    """what asks other servers lives within them too, and shuts itself in"""
    if not shutil.which("strace"):
        print("# skip: no strace")
        return
    for name in (*NAMES, HELPERS[0]):
        allowed = filter_set([v for k, v in settings(name) if k == "SystemCallFilter"])
        assert {"seccomp", "landlock_restrict_self"} <= allowed, name
    server, helper = socket.socketpair()
    with tempfile.TemporaryDirectory(prefix="chatd-units-") as folder, server:
        trace = os.path.join(folder, "trace")
        with helper:
            p = subprocess.Popen(["strace", "-f", "-qq", "-o", trace, HELPER], stdin=helper, stderr=subprocess.DEVNULL)
        server.settimeout(20)
        # As plugins/fetch/wire.h has it: the rules; then GET from a port where nobody listens.
        server.sendall(struct.pack("=IHH6I", 24, 1, 1, 10, 10, 0, 0, 0, 0))
        ready = server.recv(100)
        if not ready:
            print("# skip: ptrace is not permitted here")
            return
        assert ready[:8] == struct.pack("=IHH", 4, 2, 1), ready
        url = b"http://localhost:1/"
        server.sendall(struct.pack("=IHHQ8I", 40 + 3 + len(url), 3, 1, 7, 0, 5000, 100, 3, len(url), 0, 0, 2 ** 32 - 1) + b"GET" + url)
        answer = server.recv(100)
        assert struct.unpack("=IHHQi", answer[:20])[1:] == (4, 1, 7, -errno.ECONNREFUSED), answer
        server.close()
        p.wait(20)
        with open(trace, errors="replace") as f:
            calls = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", f.read(), re.M))
    print("# %d calls: %s" % (len(calls), " ".join(sorted(calls))))
    assert "connect" in calls and not calls - allowed, calls - allowed


if not shutil.which("systemd-analyze"):
    assert os.environ.get("CI") != "true", "systemd-analyze is not installed; ./dev deps test installs it"
    print("1..0 # skip systemd-analyze is not installed")
    sys.exit(0)
proc.main(CASES)
