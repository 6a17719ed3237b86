# SPDX-License-Identifier: Apache-2.0
"""A chatd of its own with chat.yaml, and small STOMP (over TCP) and REST clients."""
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CHATD_BUILD", os.path.join(ROOT, "build"))
WAIT = 60.0  # for a machine with much else to do, which may stand still for some seconds
QUIET = 0.25
START_LIMIT = 60  # seconds; a sanitizer's build on a busy machine needs many

# Accounts, which chat.yaml has not: there everybody is a guest.
ACCOUNTS = "\n  auth-static:\n    users:\n" + "".join(
    '      - {{ login: {0}, passcode: "{0}", name: "{1}", token: "token-of-{0}-long-enough" }}\n'.format(n, n.title())
    for n in ("alice", "bob", "carol", "dave"))


def put(text, block):
    """The configuration with these plugins, in the place of others of the same names."""
    names = tuple("  %s:" % n for n in re.findall(r"^  ([a-z][a-z0-9-]*):", block, re.M))
    out, skip = [], False
    for line in text.splitlines(True):
        if re.match(r"  \S", line):
            skip = line.startswith(names)
        if not skip:
            out.append(line)
    return "".join(out) + "\n" + block


class Server:
    """memory=True: nothing lasts; "store": likewise, with the accounts in the store.  begin() again
    after kill(): the same server, with what it stored.  edit: what becomes of the configuration's text.
    There are no limits unless limits=True: most suites do more than anybody may.  $CHATD_POSTGRES, the URL of a
    PostgreSQL: it stores there, each server in a schema of its own."""

    prefix, env = (), {}  # what chatd is started with, and in

    def __init__(self, workers, *settings, memory=False, accounts=None, edit=str, limits=False):
        self.dir = tempfile.mkdtemp(prefix="chatd-chat-")
        self.workers, self.settings = workers, settings
        with open(os.path.join(ROOT, "config", "chat.yaml")) as f:
            text = f.read()
        off = ("store-sqlite", "accounts-store") if memory is True else ("store-sqlite",) if memory else ()
        text = put(text, "".join("  %s: { enabled: false }\n" % n for n in off))
        if memory:
            text = put(text, "  store-memory: {}\n" + ("  accounts-memory: {}\n" if memory is True else ""))
        if not memory and os.environ.get("CHATD_POSTGRES"):
            text = put(text, "  store-sqlite: { enabled: false }\n  store-postgres: { url: \"%s\", schema: %s, start_timeout: 10s }\n"
                       % (os.environ["CHATD_POSTGRES"], os.path.basename(self.dir).replace("-", "_").lower()))
        if not limits:
            text = put(text, "  limit-rate: { enabled: false }\n")
        config = os.path.join(self.dir, "chat.yaml")
        with open(config, "w") as f:
            f.write(edit(put(text, ACCOUNTS if accounts is None else accounts)))
        self.log = open(os.path.join(self.dir, "log"), "w+b")
        self.begin()

    def begin(self):
        config, ready = os.path.join(self.dir, "chat.yaml"), os.path.join(self.dir, "ready")
        if os.path.exists(ready):
            os.unlink(ready)
        args = [os.path.join(BUILD, "bin", "chatd"), "-c", config, "--ready-file", ready]
        for s in ("http.listen=127.0.0.1:0", "tcp.listen=127.0.0.1:0", "tcp.enabled=true",
                  "server.data_dir=" + self.dir, "server.workers=%s" % self.workers, "auth-anonymous.devices=0",
                  "server.drain_grace=0s", *self.settings):
            args += ["--set", s]
        self.proc = subprocess.Popen([*self.prefix, *args], stdout=self.log, stderr=self.log,
                                     env=dict(os.environ, **self.env))
        end = time.monotonic() + START_LIMIT
        while not (os.path.exists(ready) and os.path.getsize(ready)):
            if self.proc.poll() is not None or time.monotonic() > end:
                raise SystemExit("Bail out! chatd did not start\n" + self.stop()[1])
            time.sleep(0.02)
        with open(ready) as f:
            self.ready = json.load(f)

    def address(self, kind):
        host, _, port = self.ready[kind][0].rpartition(":")
        return host, int(port)

    def kill(self):
        self.proc.kill()
        self.proc.wait()

    def stop(self):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        try:
            code = self.proc.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            code = -9
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        return code, text


def same(a, b, what=""):
    assert a == b, "%s: %r is not %r" % (what, a, b)


def until(fn, seconds=WAIT, what=""):
    """What fn gives, once it gives something."""
    end = time.monotonic() + seconds
    while True:
        got = fn()
        if got:
            return got
        assert time.monotonic() < end, "it did not happen: " + what
        time.sleep(0.03)


def tap(tests, server, before_end=lambda: None, expected=()):
    """Runs the tests on the server and ends it; prints TAP; the exit code.  A broken test hides no others.
    expected: parts of what it may log as errors."""
    failed = 0
    print("1..%d" % (len(tests) + 1))
    for i, t in enumerate(tests, 1):
        name = t.__name__.replace("_", " ")
        try:
            t(server)
            print("ok %d - %s" % (i, name), flush=True)
        except Exception:
            failed += 1
            print("not ok %d - %s" % (i, name))
            print("".join("# " + line + "\n" for line in traceback.format_exc().splitlines()), flush=True)
    before_end()
    code, log = server.stop()
    errors = [line for line in log.splitlines() if " ERROR " in line and not any(e in line for e in expected)]
    clean = code == 0 and not errors and "Sanitizer" not in log
    print("%sok %d - the server ends cleanly" % ("" if clean else "not ", len(tests) + 1))
    if not clean:
        failed += 1
        print("# exit code %s\n# %s" % (code, "\n# ".join(errors[:5] + log[-6000:].splitlines())))
    return 1 if failed else 0


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


def rest(server, who, method, path, body=None, raw=None, headers=()):
    """who: an account's or guest's Person, or None."""
    conn = http.client.HTTPConnection(*server.address("http"), timeout=WAIT)
    send = dict(headers)
    data = raw
    if body is not None:
        data = json.dumps(body).encode()
    if data is not None:
        send.setdefault("Content-Type", "application/json")
    if who:
        send["Authorization"] = "Bearer " + who.token
    conn.request(method, path, data, send)
    r = conn.getresponse()
    answer = Answer(r.status, {k.lower(): v for k, v in r.getheaders()}, r.read())
    conn.close()
    return answer


class Person:
    """Somebody who may have several devices."""

    def __init__(self, server, name=None):
        self.server = server
        self.guest = name is None
        if name:
            self.id, self.token = name, "token-of-%s-long-enough" % name
            self.login = {"login": name, "passcode": name}
        else:
            a = rest(server, None, "POST", "/api/auth/anonymous", {}).json
            self.id, self.token = a["userId"], a["accessToken"]
            self.login = {"device-token": a["deviceToken"]}

    def device(self):
        return Device(self)

    def rest(self, method, path, body=None, **kw):
        return rest(self.server, self, method, path, body, **kw)


def escape(s):
    return str(s).replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n").replace(":", "\\c")


def unescape(s):
    out, it = [], iter(s)
    for c in it:
        out.append({"n": "\n", "r": "\r", "c": ":", "\\": "\\"}[next(it)] if c == "\\" else c)
    return "".join(out)


class Frame:
    def __init__(self, command, headers, body):
        self.command, self.headers, self.body = command, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return "%s %r %r" % (self.command, self.headers, self.body[:200])


class Device:
    """One STOMP connection, subscribed to everything of its own."""

    def __init__(self, person):
        self.open(person)
        for name in ("messages", "typing", "read", "errors"):
            self.subscribe("/user/queue/" + name)

    @classmethod
    def bare(cls, person):
        """Logged in, and subscribed to nothing."""
        device = cls.__new__(cls)
        device.open(person)
        return device

    def open(self, person):
        self.person = person
        self.sock = socket.create_connection(person.server.address("tcp"), WAIT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = b""
        self.frames = []
        self.count = itertools.count()
        self.write("CONNECT", {"accept-version": "1.2", "host": "x", **person.login})
        self.connected = self.wait(lambda f: f.command == "CONNECTED")

    def write(self, command, headers, body=b""):
        plain = command in ("CONNECT",)
        self.sock.settimeout(WAIT)  # not what was left of it when something was waited for
        lines = [command] + ["%s:%s" % ((k, v) if plain else (escape(k), escape(v))) for k, v in headers.items()]
        if body:
            lines.append("content-length:%d" % len(body))
        self.sock.sendall("\n".join(lines).encode() + b"\n\n" + body + b"\0")

    def _read(self, until):
        while True:
            frame = self._cut()
            if frame:
                return frame
            left = until - time.monotonic()
            if left <= 0:
                return None
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except socket.timeout:
                return None
            if not data:
                raise ConnectionError("closed by the server")
            self.buf += data

    def _cut(self):
        self.buf = self.buf.lstrip(b"\r\n")
        end = self.buf.find(b"\n\n")
        if end < 0:
            return None
        lines = self.buf[:end].decode().split("\n")
        headers = {}
        for line in lines[1:]:
            k, _, v = line.partition(":")
            headers.setdefault(unescape(k), unescape(v))
        n = int(headers["content-length"]) if "content-length" in headers else self.buf.find(b"\0", end) - end - 2
        if n < 0 or len(self.buf) < end + 3 + n:
            return None
        body = self.buf[end + 2:end + 2 + n]
        self.buf = self.buf[end + 3 + n:]
        return Frame(lines[0], headers, body)

    def wait(self, fits, seconds=WAIT):
        """The first frame that fits, in order of arrival; the others stay. None: there was none in time."""
        for i, f in enumerate(self.frames):
            if fits(f):
                return self.frames.pop(i)
        until = time.monotonic() + seconds
        while True:
            f = self._read(until)
            if f is None:
                return None
            if fits(f):
                return f
            self.frames.append(f)

    def subscribe(self, destination, seconds=WAIT):
        """The subscription's id, or the soft error."""
        f = self.resume(destination, {}, seconds)
        return f["receipt-id"][1:] if "receipt-id" in f else f

    def resume(self, destination, headers, seconds=WAIT):
        """The RECEIPT's headers, or the soft error."""
        n = str(next(self.count))
        self.write("SUBSCRIBE", {"id": n, "destination": destination, "receipt": "s" + n, **headers})
        f = self.wait(lambda f: f.headers.get("receipt-id") == "s" + n or
                      (f.headers.get("destination") == "/user/queue/errors" and f.json.get("receiptId") == "s" + n),
                      seconds)
        return f.headers if f.command == "RECEIPT" else f.json

    def unsubscribe(self, subscription):
        """And whatever was on its way has come."""
        self.write("UNSUBSCRIBE", {"id": subscription, "receipt": "u" + subscription})
        self.wait(lambda f: f.headers.get("receipt-id") == "u" + subscription)

    def send(self, destination, body, headers=()):
        """RECEIPT headers, or the soft error's JSON (it has "code")."""
        n = "r%d" % next(self.count)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.write("SEND", {"destination": destination, "receipt": n, **dict(headers)}, data)
        f = self.wait(lambda f: f.headers.get("receipt-id") == n or
                      (f.headers.get("destination") == "/user/queue/errors" and f.json.get("receiptId") == n))
        if f is None:
            raise TimeoutError("no answer to a SEND to " + destination)
        return f.headers if f.command == "RECEIPT" else f.json

    def on(self, destination, seconds=WAIT, **want):
        """The next MESSAGE of a destination whose JSON has these members; None: none in time."""
        def fits(f):
            return f.command == "MESSAGE" and f.headers["destination"] == destination and \
                all(f.json.get(k) == v for k, v in want.items())
        return self.wait(fits, seconds)

    def messages(self, seconds=WAIT, **want):
        return self.on("/user/queue/messages", seconds, **want)

    def quiet(self, destination):
        """Nothing (more) comes there."""
        f = self.on(destination, QUIET)
        return f is None or f

    def sync(self):
        """Whatever was published before has arrived: own destinations keep their order."""
        self.send("/app/chat.send", {"to": self.person.id, "content": "sync"})
        self.messages(content="sync")

    def close(self):
        self.sock.close()
