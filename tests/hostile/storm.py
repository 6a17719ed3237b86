#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Everything hostile at once, while two well-behaved clients talk: nobody else may notice.

usage: storm.py [WORKERS ...] [--seconds N] [--seed N] [--only WORD]

Mutated sessions, connections cut at every byte, sessions that leave while they are logged in or
subscribed, crowds that come and go, floods that nobody reads, subscriptions that come and go.
Afterwards memory and descriptors are back, and a SIGTERM in the middle of it ends in exit code 0.
A build with sanitizers makes it a hunt for what they find: the log is read for their reports.
"""
import argparse
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from sessions import CHATD, CONNECT, ROOT, SANITIZED, conversation, masked, post, recorded, stomp

REPORTS = ("ERROR: AddressSanitizer", "LeakSanitizer", "runtime error:", "WARNING: ThreadSanitizer", "Assertion")


class Server:
    def __init__(self, config, workers):
        self.dir = tempfile.mkdtemp(prefix="chatd-storm-")
        ready = os.path.join(self.dir, "ready")
        args = [CHATD, "-c", os.path.join(ROOT, "config", config), "--ready-file", ready]
        for s in ("http.listen=127.0.0.1:0", "tcp.listen=127.0.0.1:0", "tcp.enabled=true",
                  "server.data_dir=" + self.dir, "server.workers=%d" % workers, "server.drain_grace=0s",
                  "server.drain_timeout=3s"):
            args += ["--set", s]
        if config == "chat.yaml":
            args += ["--set", "limit-rate.enabled=false"]
        with open(os.path.join(self.dir, "log"), "wb") as log:
            self.proc = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while not (os.path.exists(ready) and os.path.getsize(ready)):
            if self.proc.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the server does not start: " + self.log())
            time.sleep(0.02)
        with open(ready, encoding="utf-8") as f:
            said = json.load(f)
        self.http, self.tcp = (self.address(said[kind][0]) for kind in ("http", "tcp"))

    @staticmethod
    def address(text):
        host, _, port = text.rpartition(":")
        return host, int(port)

    def log(self):
        with open(os.path.join(self.dir, "log"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.proc.pid))

    def memory(self):
        """Resident, in KiB."""
        with open("/proc/%d/status" % self.proc.pid, encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    def end(self, seconds):
        """SIGTERM; the exit code, or None if it had to be killed."""
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        try:
            return self.proc.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if self.proc.poll() is None:
                self.proc.kill()
                self.proc.wait()

    def forget(self):
        shutil.rmtree(self.dir, ignore_errors=True)


# ---- what clients say ----------------------------------------------------


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.randint(0, 8)):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(5)
        if how == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[at:at] = rng.choice((b"\0", b"\n", b"\r\n", b":", b"\\", b"%00", b"\xff\xfe", bytes(200)))
        elif how == 2:
            del data[at:at + rng.randint(1, 40)]
        elif how == 3:
            data[at:at] = data[at:at + rng.randint(1, 200)]
        elif rng.randrange(4) == 0:
            del data[at:]
    return bytes(data)


# ---- what they do --------------------------------------------------------


def leave(sock, how):
    """0: FIN, 1: RST, 2: FIN of one side, and a little later the other."""
    try:
        if how == 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == 2:
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(0.2)
            while sock.recv(65536):
                continue
    except OSError:
        pass
    sock.close()


def say(sock, data):
    try:
        sock.sendall(data)
    except OSError:
        return False
    return True


class Storm:
    """The hostile ones; each runs in a thread until time is up."""

    def __init__(self, server, chat, seed):
        self.server, self.chat, self.seed = server, chat, seed
        self.topic = "/topic/room/lobby" if chat else "/topic/storm"
        self.send = "/app/chat.send" if chat else "/topic/storm"
        self.stop = threading.Event()
        self.counts = {}
        self.faults = []

    def run(self, seconds):
        attacks = (self.mutated, self.cut, self.crowd, self.parked, self.unread, self.fickle)
        threads = [threading.Thread(target=self.guard, args=(a,), daemon=True) for a in attacks]
        for t in threads:
            t.start()
        self.stop.wait(seconds)
        self.stop.set()
        for t in threads:
            t.join(15)

    def guard(self, attack):
        rng = random.Random("%s %s" % (self.seed, attack.__name__))
        try:
            while not self.stop.is_set():
                try:
                    self.counts[attack.__name__] = self.counts.get(attack.__name__, 0) + attack(rng)
                except OSError:
                    time.sleep(0.01)  # refused or reset: also an answer
        except Exception:  # the suite's own mistake
            self.faults.append(traceback.format_exc())

    def connect(self, address):
        sock = socket.create_connection(address, 2)
        sock.settimeout(1)
        return sock

    def session(self, rng):
        tcp, pieces = recorded(self.topic, self.send, rng)
        return self.server.tcp if tcp else self.server.http, [masked(p) if how == "w" else p for how, p in pieces]

    def mutated(self, rng):
        address, pieces = self.session(rng)
        hit = rng.randrange(len(pieces))
        sock = self.connect(address)
        for i, piece in enumerate(pieces):
            piece = mutate(rng, piece) if i == hit or rng.randrange(6) == 0 else piece
            cut = rng.randrange(len(piece) + 1)
            if not say(sock, piece[:cut]) or not say(sock, piece[cut:]):
                break
            if rng.randrange(8) == 0:
                sock.settimeout(0.02)
                try:
                    sock.recv(65536)
                except socket.timeout:
                    pass
                sock.settimeout(1)
        leave(sock, rng.randrange(3))
        return 1

    def cut(self, rng):
        address, pieces = self.session(rng)
        data = b"".join(pieces[:3])
        for n in range(rng.randrange(4), len(data), 4):
            if self.stop.is_set():
                break
            sock = self.connect(address)
            say(sock, data[:n])
            leave(sock, n // 4 % 2)
        return 1

    def crowd(self, rng):
        socks = []
        try:
            for _ in range(60):
                address, pieces = self.session(rng)
                socks.append(self.connect(address))
                if rng.randrange(3):
                    say(socks[-1], b"".join(pieces[:2]))
        finally:
            how = rng.randrange(2)
            for s in socks:
                leave(s, how)
        return len(socks)

    def parked(self, rng):
        """Leaves while a login, a subscription, a lookup or a poll is under way."""
        how = rng.randrange(4)
        frames = conversation(self.topic, self.send, "p")
        if how == 0:
            data, address = CONNECT, self.server.tcp
        elif how == 1:
            data, address = b"".join(frames[:4]), self.server.tcp
        elif how == 2:
            data, address = post("/api/chat/rooms", b'{"name":"x"}', extra="device-token: " + "0" * 32 + "\r\n"), self.server.http
        else:
            data, address = post("/ws-chat/000/%08x/xhr" % rng.getrandbits(32), b"") * 2, self.server.http
        for _ in range(10):
            sock = self.connect(address)
            say(sock, data)
            if rng.randrange(2):
                time.sleep(rng.random() / 200)
            leave(sock, rng.randrange(2))
        return 10

    def unread(self, rng):
        """Someone who never reads what others flood."""
        frames = conversation(self.topic, self.send, "u")
        readers = []
        for _ in range(3):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(1)
            sock.connect(self.server.tcp)
            readers.append(sock)
            say(sock, b"".join(frames[:2]))
        flooder = self.connect(self.server.tcp)
        say(flooder, CONNECT + stomp("SUBSCRIBE", "id:0", "destination:" + self.topic))
        body = json.dumps({"roomId": "lobby", "content": "f" * 2000}).encode()
        frame = stomp("SEND", "destination:" + self.send, "content-type:application/json", "receipt:f", body=body)
        for _ in range(150):
            if self.stop.is_set() or not say(flooder, frame):
                break
        for s in readers + [flooder]:
            leave(s, rng.randrange(2))
        return 1

    def fickle(self, rng):
        socks = [self.connect(self.server.tcp) for _ in range(4)]
        for s in socks:
            say(s, CONNECT)
        for i in range(40):
            topic = self.topic if rng.randrange(2) else "/user/queue/q%d" % rng.randrange(3)
            say(rng.choice(socks), stomp("SUBSCRIBE", "id:%d" % i, "destination:" + topic))
            if rng.randrange(2):
                say(rng.choice(socks), stomp("UNSUBSCRIBE", "id:%d" % rng.randrange(i + 1)))
        for s in socks:
            leave(s, rng.randrange(2))
        return 1


# ---- two who behave ------------------------------------------------------


class Pair:
    """One sends numbers, the other must see each once and in order; each SEND is receipted."""

    def __init__(self, server, chat):
        self.numbers, self.receipts, self.sent, self.worst = [], 0, 0, 0.0
        self.times, self.ended, self.refused = {}, [], []
        self.over, self.finished = threading.Event(), threading.Event()
        self.reader, self.writer = (self.enter(server.tcp) for _ in range(2))
        topic = "/user/queue/messages" if chat else "/topic/pair"
        self.target = "/app/chat.send" if chat else topic
        self.to = self.reader[1]
        self.ask(self.reader[0], stomp("SUBSCRIBE", "id:0", "destination:" + topic, "receipt:s"), b"RECEIPT")
        self.ask(self.writer[0], stomp("SUBSCRIBE", "id:0", "destination:/user/queue/errors", "receipt:s"), b"RECEIPT")
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self.read, self.count, self.write)]
        for t in self.threads:
            t.start()

    @staticmethod
    def ask(sock, frame, word):
        sock.sendall(frame)
        text = b""
        while word not in text or not text.rstrip(b"\n").endswith(b"\0"):
            data = sock.recv(65536)
            if not data:
                raise AssertionError("a well-behaved client was sent away: %r" % text)
            text += data
        return text

    def enter(self, address):
        sock = socket.create_connection(address, 60)
        text = self.ask(sock, CONNECT, b"CONNECTED").decode()
        names = [l.split(":", 1)[1] for l in text.split("\n") if l.startswith("user-name:")]
        return sock, names[0] if names else ""

    def frames(self, sock):
        text = b""
        sock.settimeout(0.5)
        while True:
            try:
                data = sock.recv(65536)
            except socket.timeout:
                if self.finished.is_set():
                    return
                continue
            except OSError as err:
                self.ended.append(repr(err))
                return
            if not data:
                self.ended.append("closed by the server after %r" % text[-300:])
                return
            text += data
            *whole, text = text.split(b"\0")
            yield from whole

    def read(self):
        for frame in self.frames(self.reader[0]):
            mark = frame.rfind(b"n=")
            if mark >= 0:
                n = int(frame[mark + 2:].split(b";")[0])
                self.numbers.append(n)
                self.worst = max(self.worst, time.monotonic() - self.times.get(n, time.monotonic()))

    def count(self):
        for frame in self.frames(self.writer[0]):
            self.receipts += b"RECEIPT" in frame[:12]
            if b"errorCode" in frame or b"ERROR" in frame[:8]:
                self.refused.append(frame[-300:])

    def write(self):
        while not self.over.is_set():
            text = "n=%d;" % self.sent
            body = json.dumps({"to": self.to, "content": text}).encode()
            self.times[self.sent] = time.monotonic()
            if not say(self.writer[0], stomp("SEND", "destination:" + self.target, "content-type:application/json",
                                             "receipt:r%d" % self.sent, body=body)):
                return
            self.sent += 1
            time.sleep(0.02)

    def finish(self, seconds=60):
        self.over.set()
        self.threads[2].join(10)
        end = time.monotonic() + seconds
        while time.monotonic() < end and (len(self.numbers) < self.sent or self.receipts < self.sent):
            time.sleep(0.05)
        self.finished.set()
        for sock, _ in (self.reader, self.writer):
            sock.close()
        assert not self.ended, self.ended
        assert self.sent > 10, "only %d messages were sent" % self.sent
        assert self.numbers == list(range(self.sent)), "of %d messages came %s; %d receipts, %s" % (
            self.sent, self.numbers[-40:], self.receipts, self.refused)
        assert self.receipts == self.sent, "%d receipts for %d messages" % (self.receipts, self.sent)


# ---- the suite -----------------------------------------------------------

done = 0


def check(name, fn):
    global done
    done += 1
    try:
        note = fn()
    except Exception as err:
        print("not ok %d - %s\n# failed: %s" % (done, name, str(err).replace("\n", "\n# ")), flush=True)
        return False
    print("ok %d - %s%s" % (done, name, "\n# " + note if note else ""), flush=True)
    return True


def until(fits, seconds):
    end = time.monotonic() + seconds
    while not fits() and time.monotonic() < end:
        time.sleep(0.1)
    return fits()


def half(server, data):
    """What a client reads that sends and shuts down its side at once, as nc -N does."""
    with socket.create_connection(server.http, 60) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        text = b""
        while True:
            more = sock.recv(65536)
            if not more:
                return text
            text += more


def half_closed(server, chat):
    get = b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n"
    for path in (b"/healthz", b"/ws-chat/info") + ((b"/", b"/app.js") if chat else ()):
        for _ in range(10):
            text = half(server, get % (path, b""))
            assert text.startswith(b"HTTP/1.1 200 ") or path == b"/app.js", (path, text[:200])
            assert text.startswith(b"HTTP/1.1 "), (path, text[:200])
    assert half(server, get % (b"/healthz", b"") + get % (b"/nothing", b"")).count(b"HTTP/1.1 ") == 2
    assert half(server, get[:9]) == b"", "an answer to a piece of a request"
    if not chat:
        return
    for _ in range(10):
        text = half(server, post("/api/auth/anonymous", b"{}"))
        assert text.startswith(b"HTTP/1.1 200 ") or text.startswith(b"HTTP/1.1 201 "), text[:300]
        token = json.loads(text.split(b"\r\n\r\n", 1)[1])["deviceToken"].encode()
        mine = get % (b"/api/chat/rooms", b"device-token: " + token + b"\r\n")
        text = half(server, mine)
        assert text.startswith(b"HTTP/1.1 200 ") and b"lobby" in text, text[:300]
        text = half(server, mine * 5 + get % (b"/healthz", b""))
        assert text.count(b"HTTP/1.1 200 OK") == 6, "%d answers to 6 requests" % text.count(b"HTTP/1.1 ")


def hot_topic(server, args):
    """Many senders, one topic: they are slowed down; what they send does not pile up."""
    stop, before, most = threading.Event(), server.memory(), 0
    frames = stomp("SEND", "destination:/topic/hot", body=b"x" * 100) * 500

    def send():
        with socket.create_connection(server.tcp, 5) as sock:
            sock.settimeout(5)
            say(sock, CONNECT)
            while not stop.is_set() and say(sock, frames):
                continue

    def read(sock):
        try:
            while not stop.is_set() and sock.recv(1 << 20):
                continue
        except OSError:
            pass  # too slow a reader, even so: not what this is about

    readers = [socket.create_connection(server.tcp, 5) for _ in range(2)]
    for sock in readers:
        say(sock, CONNECT + stomp("SUBSCRIBE", "id:0", "destination:/topic/hot"))
    senders = [threading.Thread(target=send, daemon=True) for _ in range(6)]
    threads = senders + [threading.Thread(target=read, args=(r,), daemon=True) for r in readers]
    for t in threads:
        t.start()
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        time.sleep(0.1)
        most = max(most, server.memory() - before)
    stop.set()
    for t in senders:
        t.join(6)
    for sock in readers:
        sock.close()
    assert most < 128 * 1024 or SANITIZED, "%d KiB piled up" % most
    return "at most %d KiB" % most


def alive(server):
    with socket.create_connection(server.http, 60) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = sock.recv(4096)
    assert text.startswith(b"HTTP/1.1 200"), text


def storm_again(server, chat, args):
    """A storm must leave nothing behind that the one before had not.  A quick machine's peak grows over the first of
    them (by 50 MiB, once or twice, then ever less), and the allocator keeps what a peak has touched; guests' accounts
    stay (a few MiB each time).  Connections that leave their buffers behind do so in every storm: one that does not
    grow is enough.  What leaks is found by LeakSanitizer at the exit."""
    Storm(server, chat, "%s warm" % args.seed).run(args.seconds * 2)
    before, said = settled(server, args), None
    for again in range(4):
        pair, storm = Pair(server, chat), Storm(server, chat, "%s again %d" % (args.seed, again))
        storm.run(args.seconds)
        pair.finish()
        assert not storm.faults, storm.faults[0]
        assert server.proc.poll() is None, "the server is gone: %s" % server.proc.returncode
        after = settled(server, args)
        alive(server)
        said = "%s; %d messages, slowest %.0f ms; %+d KiB" % (storm.counts, pair.sent, pair.worst * 1000, after - before)
        if after - before < 16384 or SANITIZED:
            return said
        before = after
    raise AssertionError("each storm leaves more behind than the one before, at last: " + said)


def settled(server, args):
    """Memory in KiB, once all that came is gone again."""
    assert until(lambda: server.descriptors() <= args.descriptors + 16, 60), \
        "%d descriptors are left, %d were at first" % (server.descriptors(), args.descriptors)
    return server.memory()


def term_amid(server, chat, args):
    storm = Storm(server, chat, "%s last" % args.seed)
    thread = threading.Thread(target=storm.run, args=(6,), daemon=True)
    thread.start()
    time.sleep(1)
    code = server.end(25)
    storm.stop.set()
    thread.join(20)
    assert code == 0, "exit code %s" % code
    return None


def clean(server):
    text = server.log()
    for line in text.splitlines():
        assert not any(r in line for r in REPORTS), text[text.index(line):][:6000]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("workers", nargs="*", type=int, default=[1, 4])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    configs = [c for c in ("chat.yaml", "broker.yaml") if args.only in c]
    print("1..%d" % (len(args.workers) * sum(4 + (c == "broker.yaml") for c in configs)), flush=True)
    good = True
    for workers in args.workers:
        for config in configs:
            name, chat = "%s, %d workers: " % (config, workers), config == "chat.yaml"
            server = Server(config, workers)
            args.descriptors = server.descriptors()
            good &= check(name + "a storm hurts nobody else and leaves nothing behind",
                          lambda: storm_again(server, chat, args))
            good &= check(name + "clients that shut their side down get their answers",
                          lambda: half_closed(server, chat))
            if not chat:
                good &= check(name + "a topic with many senders does not fill the memory", lambda: hot_topic(server, args))
            good &= check(name + "SIGTERM amid a storm: exit code 0", lambda: term_amid(server, chat, args))
            good &= check(name + "no sanitizer has anything to say", lambda: clean(server))
            server.forget()
    return 0 if good else 1


sys.exit(main())
