# SPDX-License-Identifier: Apache-2.0
"""A WebSocket client that does only what it is told, right or wrong, and a server to try it on."""
import base64
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "http"))
import engine  # pylint: disable=wrong-import-position

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x37\xfa\x21\x3d"
WAIT = 60  # for a machine with much else to do


def mask(payload, key=MASK):
    n = len(payload)
    if not n:
        return b""
    whole = (key * (n // 4 + 1))[:n]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(n, "big")


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True, length=None, wide=0):
    """One client frame; `length` lies about the size, `wide` 2 or 8 forces that many bytes for it."""
    n = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if masked else 0
    if wide == 8 or (not wide and n > 0xFFFF):
        head += bytes([bit | 127]) + struct.pack(">Q", n)
    elif wide == 2 or n > 125:
        head += bytes([bit | 126]) + struct.pack(">H", n)
    else:
        head += bytes([bit | n])
    return head + (MASK + mask(payload) if masked else payload)


def close_frame(code=None, reason=b""):
    return frame(CLOSE, b"" if code is None else struct.pack(">H", code) + reason)


def stomp(command, headers=(), body=b""):
    lines = [command] + [f"{k}:{v}" for k, v in headers]
    return "\n".join(lines).encode() + b"\n\n" + body + b"\0"


def handshake(path, **over):
    """A correct request; a header is changed by name (with _ for -), removed by None, repeated by a list."""
    headers = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    method, version = over.pop("method", "GET"), over.pop("http", "HTTP/1.1")
    for name, value in over.items():
        headers[name.replace("_", "-")] = value
    lines = [f"{method} {path} {version}"]
    for name, value in headers.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                lines.append(f"{name}: {one}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


class Closed(Exception):
    """The TCP connection ended where a frame was awaited."""


class Ws:
    def __init__(self, address, timeout=WAIT):
        host, port = address.rsplit(":", 1)
        self.sock = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        """Ignores that the server may have hung up already: what it said is still to be read."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def fill(self):
        try:
            got = self.sock.recv(65536)
        except ConnectionResetError:
            raise Closed("reset") from None
        if not got:
            raise Closed("end")
        self.buf += got

    def take(self, n):
        while len(self.buf) < n:
            self.fill()
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def request(self, data):
        """Sends a request, returns (status, {header: value}, body)."""
        self.send(data)
        while b"\r\n\r\n" not in self.buf:
            self.fill()
        head, self.buf = self.buf.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
        status = int(lines[0].split()[1])
        body = b""
        if status != 101:
            body = self.take(int(headers.get("content-length", 0)))
        return status, headers, body

    def frame(self):
        """(opcode, payload) of the next frame; Closed at the end.  After a timeout within one it can be asked for again."""
        taken = []

        def take(n):
            taken.append(self.take(n))
            return taken[-1]

        try:
            return self.parse(take)
        except TimeoutError:
            self.buf = b"".join(taken) + self.buf
            raise

    def parse(self, take):
        first, second = take(2)
        assert first & 0x70 == 0, "reserved bits from the server"
        assert second & 0x80 == 0, "the server masks"
        n = second & 0x7F
        if n == 126:
            (n,) = struct.unpack(">H", take(2))
            assert n > 125, "length not in its shortest form"
        elif n == 127:
            (n,) = struct.unpack(">Q", take(8))
            assert n > 0xFFFF, "length not in its shortest form"
        assert first & 0x80, "the server fragments"
        return first & 0x0F, take(n)

    def message(self):
        """The next frame that is no ping, pong, or STOMP heart-beat."""
        while True:
            opcode, payload = self.frame()
            if opcode in (TEXT, BINARY) and payload.strip(b"\n") or opcode == CLOSE:
                return opcode, payload

    def close_code(self):
        """Reads up to the close frame: (code, reason), (None, "") for an empty one."""
        while True:
            opcode, payload = self.frame()
            if opcode == CLOSE:
                if not payload:
                    return None, ""
                return struct.unpack(">H", payload[:2])[0], payload[2:].decode()

    def expect_end(self):
        """The rest of the connection must be its end, not more data."""
        try:
            self.fill()
        except Closed:
            return
        raise AssertionError(f"data where the end was awaited: {self.buf[:80]!r}")


def open_ws(address, path="/ws-chat/websocket", timeout=WAIT, **over):
    ws = Ws(address, timeout)
    status, headers, body = ws.request(handshake(path, **over))
    assert status == 101, f"handshake: {status} {body[:200]!r}"
    ws.headers = headers
    return ws


def open_stomp(address, path="/ws-chat/websocket", beats="0,0", timeout=WAIT):
    ws = open_ws(address, path, timeout)
    ws.send(frame(TEXT, stomp("CONNECT", [
        ("accept-version", "1.2"), ("host", "localhost"), ("login", "guest"), ("passcode", "guest"),
        ("heart-beat", beats)])))
    opcode, payload = ws.message()
    assert opcode == TEXT and payload.startswith(b"CONNECTED\n"), payload[:200]
    return ws


class Server:
    """chatd on free ports with a folder of its own."""

    def __init__(self, workers, config, *settings):
        self.dir = tempfile.TemporaryDirectory(prefix="chatd-ws-")
        ready = os.path.join(self.dir.name, "ready.json")
        self.log_path = os.path.join(self.dir.name, "log")
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        command = [os.path.join(os.environ["CHATD_BUILD"], "bin", "chatd"),
                   "-c", os.path.join(root, "config", config),
                   "--set", "http.listen=127.0.0.1:0",
                   "--set", f"server.data_dir={self.dir.name}",
                   "--set", "server.drain_grace=0s",
                   "--set", f"server.workers={workers}",
                   "--ready-file", ready]
        if config == "chat.yaml":
            command += ["--set", "limit-rate.enabled=false"]
        else:
            command += ["--set", "tcp.listen=127.0.0.1:0"]
        for setting in [*engine.settings(), *settings]:
            command += ["--set", setting]
        self.log = open(self.log_path, "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.pid = self.process.pid
        limit = time.monotonic() + WAIT
        while True:
            try:
                with open(ready, encoding="utf-8") as f:
                    told = json.load(f)
                break
            except (FileNotFoundError, json.JSONDecodeError):
                if self.process.poll() is not None or time.monotonic() > limit:
                    raise RuntimeError("chatd did not start:\n" + self.log_text()) from None
                time.sleep(0.05)
        self.http = told["http"][0]
        self.tcp = told.get("tcp", [None])[0]

    def log_text(self):
        self.log.flush()
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def alive(self):
        return self.process.poll() is None

    def stop(self, timeout=WAIT):
        """SIGTERM; returns the exit code."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "killed: SIGTERM did not end it"
        self.log.close()
        self.dir.cleanup()
        return code


def encode_key(raw):
    return base64.b64encode(raw).decode()
