#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The processes that ask other servers: what they are, what becomes of requests when one dies, hangs or lies, and that
none is left.  Prints TAP.

Usage: fetch_e2e.py [workers [test ...]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml and the plugin
webhooks, whose messages go to a server in here.
"""
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "chat"))
sys.path.insert(0, os.path.join(HERE, "..", "api"))
from client import BUILD, Person, Server, same, tap, until  # noqa: E402
from receiver import SECRET, Receiver  # noqa: E402

HELPER = os.path.join(BUILD, "plugins", "fetch", "chatd-fetch")
TESTS = []
MORE = """
  auth-static:
    users:
      - {{ login: ann, passcode: "ann", name: "Ann", token: "token-of-ann-long-enough" }}
  fetch: {{ {fetch} }}
  webhooks:
    retry_min: 50ms
    retry_max: 200ms
    breaker: 1000
    outgoing:
      - {{ name: all, url: "{url}/out", secret: "{secret}", events: [message], timeout: {timeout} }}
"""
# A helper that says what it was given, and then what no helper says.
LIAR = """#!%s
import os, sys
fds = {}
for n in os.listdir("/proc/self/fd"):
    try:
        fds[int(n)] = os.readlink("/proc/self/fd/" + n)
    except OSError:
        pass  # it was the list itself
with open(%r, "a") as f:
    f.write(repr((fds, dict(os.environ), len(sys.argv), os.getpgid(0) == os.getpid())) + "\\n")
os.read(0, 100000)
os.write(0, b"this is no frame, and longer than the head of one")
os.read(0, 1000)
"""


def test(fn):
    TESTS.append(fn)
    return fn


def status(pid):
    try:
        with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as f:
            return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    except OSError:
        return {}


def helpers(parent):
    """Of this process; also those that nobody has waited for yet."""
    found = []
    for path in glob.glob("/proc/[0-9]*/status"):
        pid = int(path.split("/")[2])
        s = status(pid)
        if s.get("Name") == "chatd-fetch" and int(s["PPid"]) == parent and not s["State"].startswith("Z"):
            found.append(pid)
    return sorted(found)


def is_gone(pid):
    return status(pid).get("State", "Z")[0] in "ZX"


class Told:
    """A server that has a webhook, and somebody who talks there."""

    def __init__(self, workers, fetch="", timeout="2s", receiver=None, url=None):
        self.receiver = receiver or Receiver()
        self.s = Server(workers, accounts=MORE.format(fetch=fetch, url=url or self.receiver.url(""), secret=SECRET, timeout=timeout))
        ann = Person(self.s, "ann")
        self.ann = ann.device()
        self.room = ann.rest("POST", "/api/chat/rooms", {"name": "R", "public": True}).json["id"]
        self.n = 0

    def say(self):
        self.n += 1
        text = "message %d." % self.n
        r = self.ann.send("/app/chat.send", {"roomId": self.room, "content": text})
        assert "message-id" in r, r
        return text

    def has(self, text, times=1):
        with self.receiver.lock:
            return sum(text in json.dumps(got[1]) for got in self.receiver.got.get("/out", [])) >= times

    def log(self):
        with open(os.path.join(self.s.dir, "log"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def helper(self):
        """The one that has been asked: all of this goes through one worker."""
        return until(lambda: helpers(self.s.proc.pid), what="a helper")[0]

    def arrives(self):
        text = self.say()
        until(lambda: self.has(text), what=text)

    def begins(self):
        """A target that is new is told of what comes after it has begun."""
        until(lambda: self.receiver.until(lambda text=self.say(): self.has(text), 0.5), what="the first message")
        return self

    def end(self, code=0):
        self.ann.close()
        pid = self.s.proc.pid
        got, log = self.s.stop()
        same(helpers(pid), [], "none is left")
        self.receiver.end()
        same(got, code, log[-2000:])
        assert "Sanitizer" not in log, log[-3000:]
        return log


@test
def it_is_shut_in(t):
    t.arrives()
    pid = t.helper()
    s = status(pid)
    weak = "built with a sanitizer" in t.log()
    same((s["NoNewPrivs"], s["Seccomp"]), ("1", "0" if weak else "2"), s)
    same((s["PPid"], s["Threads"]), (str(t.s.proc.pid), "1"))
    with open("/proc/%d/cmdline" % pid, "rb") as f:
        same(f.read().split(b"\0")[0], HELPER.encode())
    if os.geteuid() == 0:  # others may not look into it, not even the user whose it is
        with open("/proc/%d/environ" % pid, "rb") as f:
            same(f.read(), b"")
        links = {n: os.readlink("/proc/%d/fd/%s" % (pid, n)) for n in os.listdir("/proc/%d/fd" % pid)}
        assert {links.pop("1"), links.pop("2")} == {"/dev/null"}, links
        inside = [x for x in links.values() if x.startswith("pipe:") and list(links.values()).count(x) == 2]
        strange = [x for x in links.values() if not x.startswith(("socket:", "anon_inode:")) and x not in inside]
        same(strange, [], links)
        with open("/proc/%d/limits" % pid, encoding="ascii") as f:
            limits = f.read()
        assert re.search(r"core file size +0 +0 ", limits) and re.search(r"Max file size +0 +0 ", limits), limits


@test
def who_dies_is_replaced_and_nothing_is_lost(t):
    t.arrives()
    asked, answers = [], threading.Event()

    def answer(body):
        asked.append(json.dumps(body))
        answers.wait(20)
        return 200, {}
    t.receiver.answers["/out"] = answer
    for _ in range(3):
        pid, text = t.helper(), t.say()
        until(lambda: any(text in a for a in asked), what="it is on its way: " + text)
        os.kill(pid, signal.SIGKILL)
        answers.set()
        until(lambda: t.has(text, 2), what="once more: " + text)
        until(lambda: is_gone(pid), what="its end")
        until(lambda: t.helper() != pid, what="another one")
        answers.clear()
    until(lambda: "is gone: it was ended by signal 9; 1 requests are without an answer" in t.log(), what="it is said")
    until(lambda: "the process that asks for the server has ended; try again" in t.log(), what="it is said")
    del t.receiver.answers["/out"]
    answers.set()


@test
def who_hangs_is_ended(t):
    t.arrives()
    pid = t.helper()
    os.kill(pid, signal.SIGSTOP)
    text = t.say()
    until(lambda: t.has(text), what="in spite of it")
    until(lambda: is_gone(pid), what="its end")
    until(lambda: "is gone: it did not answer in time" in t.log(), what="it is said")


@test
def a_reload_leaves_it(t):
    t.arrives()
    pid = t.helper()
    t.s.proc.send_signal(signal.SIGHUP)
    t.arrives()
    same(t.helper(), pid)


def a_killed_server_leaves_none(workers):
    """Not even one that hangs, and so does not see its connection end."""
    t = Told(workers).begins()
    pid = t.helper()
    os.kill(pid, signal.SIGSTOP)
    t.s.kill()
    until(lambda: is_gone(pid), what="its end")
    t.end(-9)
    # Not even where somebody else has the other end of its connection.
    server, helper = socket.socketpair()
    with helper:
        p = subprocess.Popen(["sh", "-c", 'exec 3<&0; "$1" $$ <&3 & wait', "sh", HELPER], stdin=helper)
    with server:
        server.settimeout(60)
        server.sendall(struct.pack("=IHH6I", 24, 1, 1, 10, 10, 0, 0, 0, 0))  # as plugins/fetch/wire.h has it
        same(server.recv(100)[:8], struct.pack("=IHH", 4, 2, 1))
        p.kill()
        p.wait()
        same(server.recv(100), b"")


@contextlib.contextmanager
def inherits():
    """Servers that begin now have a descriptor that whoever they start would inherit."""
    Server.prefix = ("sh", "-c", 'exec 9</etc/passwd; exec "$@"', "sh")
    try:
        yield
    finally:
        Server.prefix = ()


def a_helper_that_lies(workers):
    """It gets three descriptors and nothing else; what it sends is not believed."""
    folder = tempfile.mkdtemp(prefix="chatd-fetch-")
    program, said = os.path.join(folder, "liar"), os.path.join(folder, "said")
    with open(program, "w", encoding="ascii") as f:
        f.write(LIAR % (sys.executable, said))
    os.chmod(program, 0o755)
    try:
        with inherits():
            t = Told(workers, "helper: %s" % program)
        until(lambda: t.say() and t.receiver.until(lambda: "it sent what no helper sends" in t.log(), 0.5), what="its end")
        until(lambda: os.path.getsize(said) and open(said, encoding="utf-8").read().count("\n") > 1, what="another one")
        assert not t.has("message")
        with open(said, encoding="utf-8") as f:
            fds, env, argc, leads = eval(f.readline())
        same({n: to.split("[")[0] for n, to in fds.items() if to != program}, {0: "socket:", 1: "/dev/null", 2: "/dev/null"})
        env.pop("LC_CTYPE", None)  # Python's own
        same((env, argc, leads), ({}, 2, True))
        t.end()
        until(lambda: not [p for p in glob.glob("/proc/[0-9]*/cmdline") if program.encode() in read(p)], what="none is left")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


class Elsewhere:
    """As systemd does it: whoever connects gets a chatd-fetch."""

    def __init__(self, path):
        self.procs, self.sock = [], socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                conn = self.sock.accept()[0]
            except OSError:
                return
            with conn:
                self.procs.append(subprocess.Popen([HELPER], stdin=conn, env={}))

    def end(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def somebody_else_starts_them(workers):
    """helper_socket: started by another one, they end with the connection."""
    folder = tempfile.mkdtemp(prefix="chatd-fetch-")
    there = Elsewhere(os.path.join(folder, "socket"))
    try:
        t = Told(workers, "helper_socket: %s" % os.path.join(folder, "socket")).begins()
        same((helpers(t.s.proc.pid), len(there.procs)), ([], 1))
        there.procs[0].kill()
        there.procs[0].wait()
        t.arrives()
        same(len(there.procs), 2)
        log = t.end()
        assert "it has closed its connection" in log, log[-2000:]
        same(there.procs[1].wait(60), 0)
    finally:
        there.end()
        shutil.rmtree(folder, ignore_errors=True)


def only_certificates_that_are_trusted(workers):
    """ca_file: reaches the helper, which cannot read it."""
    folder = tempfile.mkdtemp(prefix="chatd-fetch-")
    pem, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost", "-keyout", key, "-out", pem], check=True, capture_output=True)
    receiver = Receiver()
    receiver.server.handle_error = lambda *args: None  # who does not trust it hangs up
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    plain = receiver.server.socket
    receiver.server.socket = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
    url = "https://localhost:%d" % receiver.port
    try:
        t = Told(workers, receiver=receiver, url=url)
        until(lambda: t.say() and t.receiver.until(lambda: "certificate" in t.log(), 0.5), what="a refusal")
        assert not t.has("message")
        t.ann.close()
        assert t.s.stop()[0] == 0
        t = Told(workers, "ca_file: %s" % pem, receiver=receiver, url=url).begins()
        t.end()
        bad = subprocess.run([os.path.join(BUILD, "bin", "chatd"), "-c", os.path.join(HERE, "..", "..", "config", "chat.yaml"), "--set",
                              "fetch.ca_file=/no/such/file", "--set", "server.data_dir=" + folder, "--set", "http.listen=127.0.0.1:0"],
                             capture_output=True, text=True, timeout=60)
        assert bad.returncode != 0 and '"/no/such/file" cannot be read' in bad.stdout + bad.stderr, (bad.returncode, bad.stderr[-500:])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def alone(fn, workers):
    def run(_):
        fn(workers)
    run.__name__ = fn.__name__
    return run


def main():
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    own = [alone(fn, workers) for fn in (a_killed_server_leaves_none, a_helper_that_lies, somebody_else_starts_them, only_certificates_that_are_trusted)]
    chosen = [t for t in TESTS + own if not sys.argv[2:] or t.__name__ in sys.argv[2:]]
    t = Told(workers, timeout="1s").begins()
    asked = t.helper()

    def stop():
        got = t.s.stop()
        until(lambda: is_gone(asked) and not helpers(t.s.proc.pid), what="none is left")
        return got
    t.stop = stop
    return tap(chosen, t, t.ann.close)


if __name__ == "__main__":
    sys.exit(main())
