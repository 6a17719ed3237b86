# SPDX-License-Identifier: Apache-2.0
"""A chatd process as an operator sees it: arguments, output, exit code, ready file; and TAP."""
import base64
import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CHATD = os.path.join(os.environ.get("CHATD_BUILD", os.path.join(ROOT, "build")), "bin", "chatd")
CONFIGS = os.path.join(ROOT, "config")
PATIENCE = 60  # seconds that a machine with much else to do is given
CONNECT = b"CONNECT\naccept-version:1.2\nhost:x\nheart-beat:0,0\n\n\0"


def chatd(*args, seconds=PATIENCE):
    """What an invocation that ends by itself says: (exit code, standard output, standard error)."""
    done = subprocess.run([CHATD, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
    return done.returncode, done.stdout, done.stderr


def until(fits, what=""):
    """What fits() gives, once it gives something."""
    end = time.monotonic() + PATIENCE
    while True:
        got = fits()
        if got:
            return got
        assert time.monotonic() < end, "it did not happen: %s" % (what() if callable(what) else what)
        time.sleep(0.02)


class Server:
    """`config` is a file of config/; the addresses are free ports, the data folder is its own."""

    def __init__(self, config, *settings):
        self.dir = tempfile.mkdtemp(prefix="chatd-conf-")
        self.data = os.path.join(self.dir, "data")
        ready = os.path.join(self.dir, "ready")
        args = [CHATD, "-c", os.path.join(CONFIGS, config), "--ready-file", ready]
        for s in ("http.listen=127.0.0.1:0", "tcp.listen=127.0.0.1:0", "server.data_dir=" + self.data,
                  "server.drain_grace=0s", *settings):
            args += ["--set", s]
        with open(os.path.join(self.dir, "log"), "wb") as log:
            self.proc = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.ready, end = None, time.monotonic() + PATIENCE
        while self.proc.poll() is None and self.ready is None and time.monotonic() < end:
            if os.path.exists(ready):
                with open(ready, encoding="utf-8") as f:
                    self.ready = json.load(f)
            time.sleep(0.02)

    def __enter__(self):
        assert self.ready, "it does not start: " + self.log()
        return self

    def __exit__(self, *_):
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def says(self, text):
        """Until its log has that."""
        until(lambda: text in self.log(), lambda: "it does not say %r:\n%s" % (text, self.log()))

    def log(self):
        with open(os.path.join(self.dir, "log"), encoding="utf-8") as f:
            return f.read()

    def address(self, kind="http"):
        host, _, port = self.ready[kind][0].rpartition(":")
        return host, int(port)

    def get(self, path):
        c = http.client.HTTPConnection(*self.address(), timeout=PATIENCE)
        c.request("GET", path)
        status = c.getresponse().status
        c.close()
        return status

    def end(self, sig=signal.SIGTERM, seconds=PATIENCE):
        """(exit code, seconds it took) after the signal."""
        begin = time.monotonic()
        self.proc.send_signal(sig)
        return self.proc.wait(seconds), time.monotonic() - begin


def read_until(s, mark, seconds=PATIENCE):
    got, s_end = b"", time.monotonic() + seconds
    while mark not in got and time.monotonic() < s_end:
        piece = s.recv(65536)
        if not piece:
            break
        got += piece
    return got


def tcp_connect(server):
    """The first frame that answers a CONNECT over TCP."""
    with socket.create_connection(server.address("tcp"), PATIENCE) as s:
        s.sendall(CONNECT)
        return read_until(s, b"\0").decode()


def websocket(server):
    """A socket that has upgraded and connected, and what it was answered."""
    s = socket.create_connection(server.address(), PATIENCE)
    s.sendall(b"GET /ws-chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) + b"\r\n\r\n")
    head = read_until(s, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101"), head
    # With a mask of zeros the payload goes out as it is.
    s.sendall(bytes([0x81, 0x80 | len(CONNECT)]) + bytes(4) + CONNECT)
    return s, read_until(s, b"\0").decode(errors="replace")


def close_code(s):
    """The code of the close frame that ends what a WebSocket still delivers."""
    got = b""
    while True:
        try:
            piece = s.recv(65536)
        except ConnectionError:
            piece = b""
        if not piece:
            return None
        got += piece
        while len(got) >= 2:
            n, at = got[1] & 127, 2
            if n == 126 and len(got) >= 4:
                n, at = struct.unpack(">H", got[2:4])[0], 4
            if len(got) < at + n:
                break
            if got[0] & 15 == 8:
                return struct.unpack(">H", got[at:at + 2])[0] if n >= 2 else None
            got = got[at + n:]


def main(cases):
    """Runs (name, function) pairs and speaks TAP."""
    bad = 0
    print("1..%d" % len(cases))
    for i, (name, case) in enumerate(cases, 1):
        try:
            case()
            print("ok %d - %s" % (i, name), flush=True)
        except Exception:  # whatever it is, the next case shall run
            bad += 1
            print("not ok %d - %s" % (i, name))
            for line in traceback.format_exc().strip().split("\n"):
                print("# " + line)
            sys.stdout.flush()
    sys.exit(1 if bad else 0)
