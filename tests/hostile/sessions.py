# SPDX-License-Identifier: Apache-2.0
"""Short valid sessions over every transport, for those who break them."""
import json
import os
import struct

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CHATD = os.path.join(os.environ.get("CHATD_BUILD", os.path.join(ROOT, "build")), "bin", "chatd")
with open(CHATD, "rb") as program:  # sanitizers keep what was freed for a while
    SANITIZED = bool({b"__asan_init", b"__tsan_init"} & set(program.read().split(b"\0")))
MASK = b"\x37\xfa\x21\x3d"


def stomp(command, *headers, body=b""):
    return "\n".join((command,) + headers).encode() + b"\n\n" + body + b"\0"


def masked(payload, opcode=1):
    n = len(payload)
    head = bytes([0x80 | opcode]) + (bytes([0x80 | n]) if n < 126 else b"\xfe" + struct.pack(">H", n))
    return head + MASK + bytes(c ^ MASK[i % 4] for i, c in enumerate(payload))


def post(path, body, kind="application/json", extra=""):
    return ("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n"
            % (path, kind, extra, len(body))).encode() + body


def quoted(frame):
    return json.dumps([frame.decode()]).encode()


CONNECT = stomp("CONNECT", "accept-version:1.2", "host:x", "heart-beat:0,0")
UPGRADE = (b"GET /ws-chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")


def conversation(topic, send, session):
    """The frames of a short valid session."""
    return [
        CONNECT,
        stomp("SUBSCRIBE", "id:0", "destination:" + topic, "receipt:a"),
        stomp("SUBSCRIBE", "id:1", "destination:/user/queue/messages", "ack:client-individual"),
        stomp("SEND", "destination:" + send, "content-type:application/json", "receipt:b",
              body=json.dumps({"roomId": "lobby", "content": "storm " + session}).encode()),
        stomp("BEGIN", "transaction:t"),
        stomp("SEND", "destination:" + send, "transaction:t", body=b'{"roomId":"lobby","content":"t"}'),
        stomp("COMMIT", "transaction:t"),
        stomp("UNSUBSCRIBE", "id:0"),
        stomp("DISCONNECT", "receipt:z"),
    ]


def recorded(topic, send, rng, connect=CONNECT, token=None):
    """(whether over plain TCP, pieces) of one valid session, of a random kind.  A piece is (how, bytes): "r" as it is,
    "w" the payload of a WebSocket text frame.  connect, token: of whom they are, if not of a guest."""
    name = "%08x" % rng.getrandbits(32)
    frames = [connect] + conversation(topic, send, name)[1:]
    kind = rng.randrange(6)
    base = "/ws-chat/000/" + name
    if kind == 0:
        return True, raw(frames)
    if kind == 1:
        return False, raw([UPGRADE]) + [("w", f) for f in frames] + raw([masked(struct.pack(">H", 1000), 8)])
    if kind == 2:
        upgrade = UPGRADE.replace(b"/ws-chat ", base.encode() + b"/websocket ")
        return False, raw([upgrade]) + [("w", quoted(f)) for f in frames]
    if kind == 3:
        return False, raw([post(base + "/xhr", b"")] + [
            part for f in frames for part in (post(base + "/xhr_send", quoted(f), "text/plain"), post(base + "/xhr", b""))])
    if kind == 4:
        return False, raw([post(base + "/xhr_streaming", b"")])
    return False, raw(calls("" if token is None else "Authorization: Bearer %s\r\n" % token))


def raw(pieces):
    return [("r", p) for p in pieces]


def calls(own):
    """REST as somebody; own: header lines."""
    get = "GET %s HTTP/1.1\r\nHost: x\r\n" + own + "\r\n"
    return [post("/api/auth/anonymous", b"{}"), post("/api/chat/rooms/lobby/join", b"{}", extra=own)] + [
        (get % path).encode() for path in ("/", "/healthz", "/api/chat/conversations", "/api/chat/messages/room/lobby?limit=5")] + [
        b"GET /ws-chat/info HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\n\r\n"]
