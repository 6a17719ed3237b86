# SPDX-License-Identifier: Apache-2.0
"""A server under test, and HTTP and WebSocket clients that hide nothing of the wire."""
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

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "http"))
import engine  # pylint: disable=wrong-import-position

TIMEOUT = 60  # for a machine with much else to do


class Server:
    """chatd with the conformance configuration on a free port."""

    def __init__(self, build, config, settings):
        self.dir = tempfile.mkdtemp(prefix="chatd-sockjs-")
        ready = os.path.join(self.dir, "ready")
        command = [os.path.join(build, "bin", "chatd"), "-c", config, "--ready-file", ready]
        defaults = {"http.listen": "127.0.0.1:0", "tcp.listen": "127.0.0.1:0",
                    "server.data_dir": self.dir, "server.drain_grace": "0s"}
        for key, value in {**defaults, **settings}.items():
            command += ["--set", f"{key}={value}"]
        for setting in engine.settings():
            command += ["--set", setting]
        self.log = open(os.path.join(self.dir, "log"), "w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + TIMEOUT
        while not os.path.exists(ready) or not os.path.getsize(ready):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise RuntimeError("the server does not start:\n" + self.logged())
            time.sleep(0.02)
        with open(ready, encoding="utf-8") as f:
            host, port = json.load(f)["http"][0].rsplit(":", 1)
        self.address = (host, int(port))

    def logged(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        """Ends it; returns the exit code and the log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        text = self.logged()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        return code, text


class Response:
    def __init__(self, status, version, headers):
        self.status, self.version, self.headers, self.body = status, version, headers, None

    def __getitem__(self, name):
        """All values of a header, joined; None if there is none."""
        values = [v for k, v in self.headers if k.lower() == name.lower()]
        return ", ".join(values) if values else None


class Http:
    """One connection, on which requests are made by hand."""

    def __init__(self, address, source=None):
        self.address = address
        self.s = socket.create_connection(address, TIMEOUT, source and (source, 0))
        self.rest = b""

    def close(self):
        self.s.close()

    def send(self, data):
        self.s.sendall(data)

    def fill(self):
        data = self.s.recv(65536)
        self.rest += data
        return data

    def line(self):
        while b"\n" not in self.rest:
            if not self.fill():
                raise EOFError("closed within a line: %r" % self.rest)
        line, self.rest = self.rest.split(b"\n", 1)
        return line.rstrip(b"\r").decode("latin-1")

    def read(self, n):
        while len(self.rest) < n:
            if not self.fill():
                raise EOFError("closed within %d bytes: %r" % (n, self.rest))
        data, self.rest = self.rest[:n], self.rest[n:]
        return data

    def read_to_end(self):
        while self.fill():
            pass
        data, self.rest = self.rest, b""
        return data

    def chunk(self):
        """The next chunk; b"" is the last one."""
        data = self.read(int(self.line(), 16) + 2)
        assert data.endswith(b"\r\n"), data
        return data[:-2]

    def closed(self):
        return not self.rest and self.fill() == b""

    def head(self):
        version, status, _ = (self.line() + "  ").split(" ", 2)
        headers = []
        while True:
            line = self.line()
            if not line:
                return Response(int(status), version, headers)
            key, value = line.split(":", 1)
            headers.append((key, value.strip()))

    def start(self, method, path, headers=None, body=None, version="1.1"):
        """Sends a request and reads the head of the answer."""
        self.ask(method, path, headers, body, version)
        return self.head()

    def ask(self, method, path, headers=None, body=None, version="1.1"):
        if isinstance(body, str):
            body = body.encode()
        if body is None and method == "POST":
            body = b""
        lines = [f"{method} {path} HTTP/{version}", "Host: %s:%d" % self.address]
        lines += [f"{k}: {v}" for k, v in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8") + (body or b""))

    def finish(self, r, method):
        """Reads the body of the answer."""
        if method == "HEAD" or r.status in (101, 204, 304):
            r.body = b""
        elif (r["transfer-encoding"] or "").lower() == "chunked":
            r.body = b""
            while True:
                piece = self.chunk()
                if not piece:
                    break
                r.body += piece
        elif r["content-length"] is not None:
            r.body = self.read(int(r["content-length"]))
        else:
            r.body = self.read_to_end()
        return r

    def request(self, method, path, headers=None, body=None, version="1.1"):
        return self.finish(self.start(method, path, headers, body, version), method)


class Closed(Exception):
    """The connection ended, with a close frame's code or (None) without one."""

    def __init__(self, code, reason):
        super().__init__(code, reason)
        self.code, self.reason = code, reason


KEY = "x3JJHMbDL1EzLkh9GBhXDw=="
ACCEPT = "HSmrc0sMlYUkAGmm5OPpG2HaGWk="


class WebSocket:
    def __init__(self, address, path, headers=None):
        self.http = Http(address)
        fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                  "Sec-WebSocket-Key": KEY, **(headers or {})}
        self.response = self.http.start("GET", path, fields)
        if self.response.status != 101:
            raise RuntimeError(f"{path}: {self.response.status}")
        assert self.response["sec-websocket-accept"] == ACCEPT

    def send(self, data, opcode=None):
        if opcode is None:
            opcode = 1 if isinstance(data, str) else 2
        if isinstance(data, str):
            data = data.encode()
        n = len(data)
        size = bytes([0x80 | n]) if n < 126 else (
            b"\xfe" + struct.pack(">H", n) if n < 65536 else b"\xff" + struct.pack(">Q", n))
        mask = os.urandom(4)
        masked = bytes(b ^ mask[i & 3] for i, b in enumerate(data))
        self.http.send(bytes([0x80 | opcode]) + size + mask + masked)

    def recv(self):
        """The next message: str or bytes."""
        while True:
            try:
                first, size = self.http.read(2)
                if size == 126:
                    size = struct.unpack(">H", self.http.read(2))[0]
                elif size == 127:
                    size = struct.unpack(">Q", self.http.read(8))[0]
                data = self.http.read(size)
            except (EOFError, ConnectionError):
                raise Closed(None, "") from None
            if first == 0x81:
                return data.decode()
            if first == 0x82:
                return data
            if first == 0x88:
                code = struct.unpack(">H", data[:2])[0] if data else 1005
                raise Closed(code, data[2:].decode())
            assert first in (0x89, 0x8A), hex(first)
            if first == 0x89:
                self.send(data, 10)

    def close(self):
        self.http.close()

