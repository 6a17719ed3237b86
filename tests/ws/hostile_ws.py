#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hostile WebSocket handshakes and frames against a real server: each gets its exact answer and
disturbs nobody.  Speaks TAP; CHATD_BUILD names the build directory.

usage: hostile_ws.py [PART OF A TEST'S NAME]
"""
import concurrent.futures
import itertools
import os
import socket
import struct
import sys
import threading
import time
import traceback

from wsclient import (BINARY, CLOSE, PING, PONG, TEXT, WAIT, Closed, Server, Ws, close_frame, encode_key,
                      engine, frame, handshake, open_stomp, open_ws, stomp)

ORIGIN = "https://app.example.com"
WS = "/ws-chat/websocket"
LIMIT = 64 * 1024  # max_message
TESTS, WAITING = [], []


def test(fn):
    TESTS.append(fn)
    return fn


def waiting(fn):
    """Takes seconds of doing nothing: beside the others."""
    WAITING.append(fn)
    return fn


def answer(server, data):
    with Ws(server.http) as ws:
        return ws.request(data)


def refused(server, status, text, path=WS, **over):
    got, _, body = answer(server, handshake(path, **over))
    assert got == status and text in body.decode(), f"{over}: {got} {body[:300]!r}"


def fails(server, code, *frames, reason=None):
    """The frames must end the connection with this code, and then its TCP connection."""
    with open_stomp(server.http) as ws:
        ws.send(b"".join(frames))
        got, why = ws.close_code()
        assert got == code, f"{got} {why!r}, not {code}"
        if reason:
            assert reason in why, why
        ws.expect_end()


def lives(ws):
    """The connection answers a receipt, so it still works."""
    ws.send(frame(TEXT, stomp("SEND", [("destination", "/topic/void"), ("receipt", "still-here")])))
    opcode, payload = ws.message()
    assert opcode == TEXT and b"receipt-id:still-here" in payload, (opcode, payload[:200])


# ---- the handshake ------------------------------------------------------------------------------

@test
def accepts_a_correct_handshake(server):
    """RFC 6455, 4.2.2"""
    for path in ("/ws-chat", WS):
        status, headers, _ = answer(server, handshake(path))
        assert status == 101, (path, status)
        assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", headers
        assert headers["upgrade"].lower() == "websocket" and headers["connection"].lower() == "upgrade"
        assert "sec-websocket-protocol" not in headers and "sec-websocket-extensions" not in headers
    for value in ("keep-alive, Upgrade", "upgrade"):
        assert answer(server, handshake(WS, Connection=value, Upgrade="WebSocket"))[0] == 101, value


@test
def h022_no_upgrade_elsewhere(server):
    for path in ("/", "/api/auth/login", "/ws-chat/info", "/nowhere", "/ws-chat/websocket/x"):
        status, _, body = answer(server, handshake(path))
        assert status in (400, 404), (path, status, body)


@test
def h023_other_versions(server):
    for version in ("8", "0", "14", "13, 8", None, ["13", "13"]):
        status, headers, _ = answer(server, handshake(WS, Sec_WebSocket_Version=version))
        assert status == 426 and headers.get("sec-websocket-version") == "13", (version, status, headers)


@test
def h024_bad_keys(server):
    good = encode_key(b"x" * 16)
    for key in (None, "", encode_key(b"abc"), encode_key(b"x" * 17), "no base64 at all!!!!!!!=",
                good[:-1], [good, good]):
        refused(server, 400, "BAD_WS_KEY", Sec_WebSocket_Key=key)


@test
def h025_no_upgrade_at_all(server):
    status, headers, body = answer(server, handshake(WS, method="POST", Content_Length="0"))
    assert status == 405 and "GET" in headers.get("allow", "") and not body, (status, headers, body)
    refused(server, 400, 'Can "Upgrade" only to "WebSocket".', Upgrade=None)
    refused(server, 400, 'Can "Upgrade" only to "WebSocket".', Upgrade=None, Connection=None)
    refused(server, 400, '"Connection" must be "Upgrade".', Connection="close")
    refused(server, 400, "pgrade", http="HTTP/1.0")
    status, headers, body = answer(server, handshake("/ws-chat", Upgrade=None, Connection=None))
    assert (status, body) == (200, b"Welcome to SockJS!\n"), (status, body)
    assert headers["content-type"] == "text/plain; charset=UTF-8", headers


@test
def h026_subprotocols(server):
    for offer in ("", ",,,", "v12.stomp,", "a b", "v12.stomp;q=1"):
        refused(server, 400, "", Sec_WebSocket_Protocol=offer)
    status, _, _ = answer(server, handshake(WS, Sec_WebSocket_Protocol="v12.stomp\0"))
    assert status == 400, status
    status, _, _ = answer(server, handshake(WS, Sec_WebSocket_Protocol="x" * 10240))
    assert status == 431, status
    for offer, chosen in (("soap", None), ("v10.stomp, v11.stomp, v12.stomp", "v12.stomp"),
                          ("v11.stomp,v10.stomp", "v11.stomp"), (["soap", "v10.stomp"], "v10.stomp"),
                          (", ".join(f"p{i}" for i in range(1000)), None)):
        status, headers, _ = answer(server, handshake(WS, Sec_WebSocket_Protocol=offer))
        assert status == 101 and headers.get("sec-websocket-protocol") == chosen, (offer, status, headers)


@test
def h027_extensions(server):
    for offer in ("x-unknown", "permessage-deflate, permessage-deflate",
                  *(f"permessage-deflate; client_max_window_bits={n}" for n in (0, 7, 16, 99))):
        status, headers, _ = answer(server, handshake(WS, Sec_WebSocket_Extensions=offer))
        assert status == 101 and "sec-websocket-extensions" not in headers, (offer, status, headers)
    for offer in ("", ",", "a;", "a;b=", 'a;b="', "(x)"):
        refused(server, 400, "BAD_WS_EXTENSIONS", Sec_WebSocket_Extensions=offer)


@test
def h028_other_upgrades(server):
    for offer in ("foo", "h2c", "websocket, h2c", ["websocket", "websocket"], ["h2c", "websocket"]):
        refused(server, 400, "BAD_UPGRADE", Upgrade=offer, HTTP2_Settings="AAMAAABkAARAAAAAAAIAAAAA",
                Connection="Upgrade, HTTP2-Settings")


@test
def h029_frames_before_the_101(server):
    hello = frame(TEXT, stomp("CONNECT", [("accept-version", "1.2"), ("host", "x"),
                                          ("login", "guest"), ("passcode", "guest")]))
    with Ws(server.http) as ws:
        status, _, _ = ws.request(handshake(WS) + hello + frame(PING, b"early"))
        if status == 400:
            return
        seen = {ws.frame()[0], ws.frame()[0]}
        assert status == 101 and seen == {TEXT, PONG}, (status, seen)


@test
def h030_origins(server):
    for path in ("/ws-chat", WS):
        for good in (None, ORIGIN, "http://" + server.http):
            assert answer(server, handshake(path, Origin=good, Host=server.http))[0] == 101, (path, good)
        for evil in ("https://evil.example", "null", ORIGIN + ".evil.com", "https://evil@app.example.com",
                     ORIGIN + ":8443", ORIGIN.upper(), "http://app.example.com", "http://[::1]:1",
                     "https://xn--app-example.com", "", [ORIGIN, ORIGIN], [ORIGIN, "https://evil.example"]):
            refused(server, 403, "ORIGIN_NOT_ALLOWED", path, Origin=evil)


# ---- frames ------------------------------------------------------------------------------------------

@test
def h035_to_h042_broken_framing(server):
    bye = close_frame(1000)
    cases = {
        "H035 not masked": (frame(TEXT, b"\n", masked=False), "not masked"),
        "H038 fragmented ping": (frame(PING, b"a", fin=False) + frame(0, b"b"), None),
        "H038 fragmented pong": (frame(PONG, b"a", fin=False) + frame(0, b"b"), None),
        "H038 fragmented close": (frame(CLOSE, b"\x03\xe8", fin=False) + frame(0), None),
        "H039 ping of 126": (frame(PING, b"x" * 126), None),
        "H039 ping of 65,536": (frame(PING, b"x" * 65536), None),
        "H039 close of 126": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), None),
        "H040 stray continuation": (frame(0, b"\n"), None),
        "H040 stray first fragment": (frame(0, b"\n", fin=False), None),
        "H041 text within a message": (frame(TEXT, b"\n", fin=False) + frame(TEXT, b"\n"), None),
        "H042 16 bits for 5": (frame(TEXT, b"\n" * 5, wide=2), None),
        "H042 64 bits for 5": (frame(TEXT, b"\n" * 5, wide=8), None),
        "H042 64 bits for 65,535": (frame(TEXT, b"\n" * 65535, wide=8), None),
    }
    for rsv in (1, 2, 4, 7):
        cases[f"H036 reserved bits {rsv}"] = (frame(TEXT, b"\n", rsv=rsv), None)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        cases[f"H037 opcode {opcode}"] = (frame(opcode, b"\n"), None)
    for name, (data, reason) in cases.items():
        try:
            fails(server, 1002, data, bye, reason=reason)
        except Exception as e:
            raise AssertionError(f"{name}: {e}") from e


@test
def h043_lengths(server):
    for length, code in ((2**63, 1002), (2**63 - 1, 1009), (2**32, 1009), (LIMIT + 1, 1009)):
        fails(server, code, frame(TEXT, b"", length=length))
        fails(server, code, frame(BINARY, b"", length=length))


@test
def h044_many_fragments(server):
    small = frame(0, b"\n", fin=False)
    fails(server, 1009, frame(TEXT, b"\n", fin=False), small * LIMIT)
    fails(server, 1008, frame(TEXT, b"", fin=False), frame(0, b"", fin=False) * 100000)
    with open_stomp(server.http) as ws:
        ws.send(frame(TEXT, b"\n", fin=False) + small * 2000 + frame(0, b"\n"))
        lives(ws)


@test
def h045_invalid_utf8(server):
    lf = b"\n" * 20
    for bad in (b"\x80", b"\xff", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xed\xbf\xbf",
                b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xce\xba\xe1\xbd"):
        fails(server, 1007, frame(TEXT, lf + bad))
        fails(server, 1007, *(frame(TEXT if i == 0 else 0, bytes([b]), fin=i == len(bad) - 1)
                              for i, b in enumerate(bad)))


@test
def h045_invalid_utf8_is_not_waited_for(server):
    for first, second in ((b"\xce\xba", b"\xf4\x90"), (b"\xf4", b"\x90"), (b"\xed", b"\xa0")):
        with open_stomp(server.http) as ws:  # the message stays open
            ws.send(frame(TEXT, b"\n" + first, fin=False) + frame(0, second, fin=False))
            assert ws.close_code()[0] == 1007
        with open_stomp(server.http) as ws:  # so does the frame
            ws.send(frame(TEXT, b"\n" + first + second, length=1000))
            assert ws.close_code()[0] == 1007


@test
def h046_binary_frames(server):
    with open_ws(server.http) as ws:
        ws.send(frame(BINARY, stomp("CONNECT", [("accept-version", "1.2"), ("host", "x"),
                                                ("login", "guest"), ("passcode", "guest")])))
        opcode, payload = ws.message()
        assert opcode == TEXT and payload.startswith(b"CONNECTED"), payload[:100]
        body = bytes(range(256))
        ws.send(frame(BINARY, stomp("SUBSCRIBE", [("id", "b"), ("destination", "/topic/bin")])))
        ws.send(frame(BINARY, stomp("SEND", [("destination", "/topic/bin"), ("content-length", 256)], body)))
        opcode, payload = ws.message()
        assert opcode == BINARY and payload.endswith(body + b"\0"), (opcode, payload[:100])
        ws.send(frame(BINARY, b"SEND\ndestination:/topic/bin\nx:\xff\n\n\0"))
        opcode, payload = ws.message()
        assert payload.startswith(b"ERROR"), payload[:200]


@test
def h047_close_codes(server):
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        fails(server, 1002, close_frame(code))
    fails(server, 1002, frame(CLOSE, b"x"))
    for code in (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999):
        fails(server, code, close_frame(code, b"bye"))
    fails(server, None, frame(CLOSE))


@test
def h048_bad_close_reason(server):
    for bad in (b"\xff", b"ok\xce", b"\xed\xa0\x80"):
        fails(server, 1007, close_frame(1000, bad))


@test
def h049_data_after_close(server):
    send = frame(TEXT, stomp("SEND", [("destination", "/topic/late"), ("receipt", "r")]))
    with open_stomp(server.http) as other:
        other.send(frame(TEXT, stomp("SUBSCRIBE", [("id", "s"), ("destination", "/topic/late")])))
        lives(other)
        with open_stomp(server.http) as ws:
            ws.send(close_frame(1000) + send + frame(PING, b"x") + close_frame(3000))
            opcode, payload = ws.frame()
            assert (opcode, payload) == (CLOSE, b"\x03\xe8"), (opcode, payload)
            ws.expect_end()
        lives(other)  # its receipt comes first: nothing was delivered


@waiting
def h050_close_is_not_answered(server):
    with open_stomp(server.http) as ws:
        since = time.monotonic()
        ws.send(frame(TEXT, b"NONSENSE\n\n\0"))
        opcode, payload = ws.message()
        assert payload.startswith(b"ERROR"), payload[:100]
        code, _ = ws.close_code()
        assert code == 1002, code
        ws.send(frame(PING, b"still talking"))
        ws.expect_end()
        took = time.monotonic() - since
        assert took > 4, f"ended after {took:.1f} s"


@test
def h051_ping_burst(server):
    with open_stomp(server.http) as ws:
        ws.send(b"".join(frame(PING, b"%d" % i) for i in range(10000)) + frame(PING, b"last"))
        pongs, payload = 0, b""
        while payload != b"last":
            opcode, payload = ws.frame()
            assert opcode == PONG, (opcode, payload)
            pongs += 1
        assert pongs < 10000, pongs
        lives(ws)


def flood(server, one, per_second, code, why):
    """Sends at a rate, however late a turn comes; returns how long it took to be closed."""
    with open_stomp(server.http) as ws:
        ws.sock.settimeout(WAIT)
        begin, sent = time.monotonic(), 0
        while True:
            took = time.monotonic() - begin
            assert took < WAIT, "not closed"
            due = int(took * per_second) + 1
            ws.send(one * (due - sent))
            sent = due
            ws.sock.settimeout(0.05)
            try:
                got, reason = ws.close_code()
                assert (got, reason) == (code, why), (got, reason)
                return time.monotonic() - begin
            except TimeoutError:
                ws.sock.settimeout(WAIT)


@waiting
def h051_ping_flood(server):
    took = flood(server, frame(PING, b"x"), 400, 1008, "ping flood")
    assert 4 < took, took


@test
def h052_unsolicited_pongs(server):
    with open_stomp(server.http) as ws:
        ws.send(frame(PONG) + frame(PONG, b"nobody asked") * 100)
        lives(ws)


@waiting
def h053_empty_messages(server):
    with open_stomp(server.http) as ws:
        ws.send(frame(TEXT) * 10000)
        lives(ws)
    took = flood(server, frame(TEXT), 1000, 1008, "empty frame flood")
    assert 4 < took, took


def strip(payload):
    """Without what differs from one session to the next."""
    keep = [line for line in payload.split(b"\n")
            if not line.startswith((b"session:", b"message-id:", b"user-name:"))]
    return b"\n".join(keep)


def transcript(server, cut):
    """What a session sees whose bytes are cut so: (pongs, frames, the close)."""
    send = stomp("SEND", [("destination", "/topic/split")], "grüße".encode())
    until_message = b"".join((
        frame(TEXT, stomp("CONNECT", [("accept-version", "1.2"), ("host", "x"), ("login", "guest"),
                                      ("passcode", "guest"), ("heart-beat", "0,0")])),
        frame(PING, b"between"),
        frame(TEXT, stomp("SUBSCRIBE", [("id", "1"), ("destination", "/topic/split"), ("receipt", "r1")])),
        frame(TEXT, send[:40], fin=False),
        frame(PING, b"within"),
        frame(0, send[40:]),
    ))
    pongs, seen = [], []
    with open_ws(server.http) as ws:
        for piece in cut(until_message):
            ws.send(piece)
        while True:
            opcode, payload = ws.frame()
            if opcode == CLOSE:
                return sorted(pongs), seen, payload
            (pongs if opcode == PONG else seen).append(strip(payload))
            if payload.startswith(b"MESSAGE"):
                for piece in cut(frame(BINARY, stomp("DISCONNECT", [("receipt", "r2")]))):
                    ws.send(piece)


@test
def h056_any_split_gives_the_same(server):
    whole = transcript(server, lambda wire: [wire])
    assert whole[0] == [b"between", b"within"] and len(whole[1]) == 4, whole
    assert transcript(server, lambda wire: [wire[i:i + 1] for i in range(len(wire))]) == whole
    for at in range(1, 300, 7):
        got = transcript(server, lambda wire, at=at: [wire[:at], wire[at:]])
        assert got == whole, (at, got)


@test
def h057_cut_in_the_middle_of_a_frame(server):
    send = frame(TEXT, stomp("SEND", [("destination", "/topic/cut")], b"half"))
    with open_stomp(server.http) as other:
        other.send(frame(TEXT, stomp("SUBSCRIBE", [("id", "s"), ("destination", "/topic/cut")])))
        lives(other)
        before = server.descriptors()
        many = [open_stomp(server.http) for _ in range(40)]
        for i, ws in enumerate(many):
            ws.send(send[:3 + i] if i < len(send) - 3 else send[:-1])
            if i % 2:
                ws.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            ws.sock.close()
        limit = time.monotonic() + WAIT
        while server.descriptors() > before + 1 and time.monotonic() < limit:
            time.sleep(0.05)
        assert server.descriptors() <= before + 1, (before, server.descriptors())
        lives(other)


@test
def slow_consumer_is_closed(server):
    """4500, or a reset for one that still does not read."""
    with open_stomp(server.http) as slow, open_stomp(server.http) as fast:
        for ws in (slow, fast):
            ws.send(frame(TEXT, stomp("SUBSCRIBE", [("id", "s"), ("destination", "/topic/flood")])))
            lives(ws)
        one = frame(TEXT, stomp("SEND", [("destination", "/topic/flood")], b"x" * 60000))
        with open_stomp(server.http) as sender:
            for _ in range(500):  # 30 MB: max_queue is 16 MiB, and the kernel holds some more, how much depends on the moment
                sender.send(one)
                assert fast.message()[1].startswith(b"MESSAGE")
            lives(sender)
        time.sleep(2)
        received = 0
        try:
            while True:
                opcode, payload = slow.message()
                if opcode == CLOSE:
                    assert payload[:2] == struct.pack(">H", 4500), payload
                    break
                received += 1
        except Closed:
            pass
        assert received < 500, "the slow one got everything: it was never slow"
        lives(fast)


# ---- settings of their own ---------------------------------------------------------------------------

def cut_off(ws, ended):
    """Answers nothing until the connection is gone: then `ended` has when."""
    try:
        while True:
            assert ws.frame()[0] in (PING, CLOSE)
    except Closed:
        ended.append(time.monotonic())


def pings(workers):
    """A silent client is pinged, then cut off; one that answers or has heart-beats is not."""
    server = Server(workers, "broker.yaml", "websocket.ping=500ms", "websocket.pong=4s")
    begin = time.monotonic()
    try:
        with open_stomp(server.http) as silent, open_stomp(server.http) as polite, \
                open_stomp(server.http, beats="0,1000") as beating:
            assert silent.frame() == (PING, b"")
            ended = []
            reader = threading.Thread(target=cut_off, args=(silent, ended))
            reader.start()
            while reader.is_alive():
                opcode, payload = polite.frame()
                assert opcode == PING, opcode
                polite.send(frame(PONG, payload))
            assert ended and ended[0] > begin + 4, "it was not waited for, or not cut off"
            lives(polite)
            opcode, payload = beating.frame()
            assert (opcode, payload) == (TEXT, b"\n"), (opcode, payload)
    finally:
        assert server.stop() == 0


def drain(workers):
    """SIGTERM: every connection is told 1012, not all at the same moment, and the server ends well."""
    # Who sleeps meanwhile hears it all at one moment: then it is looked at again.
    spreads = []
    while not any(spread > 0.3 for spread in spreads):
        assert len(spreads) < 4, spreads
        spreads.append(drain_once(workers))


def drain_once(workers):
    """Returns for how long they were told, in seconds."""
    server = Server(workers, "broker.yaml", "server.drain_spread=1s")
    many = [open_stomp(server.http, path) for path in ("/ws-chat", WS) * 60 * workers]
    codes, times = [], []

    def await_end(ws):
        code, _ = ws.close_code()
        times.append(time.monotonic())
        codes.append(code)
        ws.send(close_frame(code))
        ws.expect_end()

    threads = [threading.Thread(target=await_end, args=(ws,)) for ws in many]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    code = server.stop()
    for thread in threads:
        thread.join(WAIT)
    for ws in many:
        ws.sock.close()
    assert code == 0, code
    assert codes == [1012] * len(many), sorted(set(codes))
    return max(times) - min(times)


# ---- running ---------------------------------------------------------------------------------------------

class Control:
    """Two bystanders who exchange messages all the while: none may be lost, doubled or turned round."""

    def __init__(self, server):
        self.sender, self.receiver = open_stomp(server.http), open_stomp(server.http)
        self.receiver.send(frame(TEXT, stomp("SUBSCRIBE", [("id", "c"), ("destination", "/topic/control")])))
        lives(self.receiver)
        self.sent, self.stopping, self.error = 0, False, None
        self.threads = [threading.Thread(target=self.send), threading.Thread(target=self.receive)]
        for thread in self.threads:
            thread.start()

    def send(self):
        while not self.stopping:
            self.sender.send(frame(TEXT, stomp("SEND", [("destination", "/topic/control")], b"%d" % self.sent)))
            self.sent += 1
            time.sleep(0.02)
        self.sender.send(frame(TEXT, stomp("SEND", [("destination", "/topic/control")], b"end")))

    def receive(self):
        try:
            for i in itertools.count():
                body = self.receiver.message()[1].rsplit(b"\n\n", 1)[1].rstrip(b"\0")
                if body == b"end":
                    assert i == self.sent, (i, self.sent)
                    return
                assert body == b"%d" % i, (body, i)
        except (AssertionError, Closed, OSError, IndexError) as e:
            self.error = e

    def stop(self):
        """Returns what went wrong, or None."""
        self.stopping = True
        for thread in self.threads:
            thread.join(WAIT)
        if any(thread.is_alive() for thread in self.threads):
            self.error = self.error or TimeoutError("not all has come")
        self.sender.sock.close()
        self.receiver.sock.close()
        return repr(self.error) if self.error else None


class Tap:
    """May be used by several threads."""

    def __init__(self, only):
        self.n, self.failed, self.only, self.lock = 0, 0, only, threading.Lock()

    def run(self, name, fn, always=False):
        if not always and self.only not in name:
            return
        since, failure = time.monotonic(), ""
        try:
            fn()
        except Exception:
            failure = traceback.format_exc()
        good, more = engine.judge("websocket", name, failure)
        took = f"{time.monotonic() - since:.1f} s"
        with self.lock:
            self.n += 1
            self.failed += not good
            print(f"{'' if good else 'not '}ok {self.n} - {name}{more}")
            print("".join(f"# {line}\n" for line in ([took] if good else failure.rstrip().split("\n")[-6:])), end="", flush=True)


def hostile(tap, workers, tag):
    server = Server(workers, "broker.yaml", f'http.allowed_origins=["{ORIGIN}"]')
    control = Control(server)
    before = server.descriptors()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for fn in WAITING:
            pool.submit(tap.run, f"{fn.__name__} {tag}", lambda fn=fn: fn(server))
        for fn in TESTS:
            tap.run(f"{fn.__name__} {tag}", lambda fn=fn: fn(server))
    disturbed = control.stop()

    def bystanders():
        assert not disturbed, disturbed

    def nothing_is_left():
        assert server.alive(), "the server died"
        limit = time.monotonic() + WAIT
        while server.descriptors() > before - 2 and time.monotonic() < limit:
            time.sleep(0.1)
        assert server.descriptors() <= before - 2, (before, server.descriptors())

    tap.run(f"bystanders saw every message in order {tag}", bystanders, always=True)
    tap.run(f"no descriptor is left behind {tag}", nothing_is_left, always=True)
    log, code = server.log_text(), server.stop()
    tap.run(f"ends with 0, without a sanitizer's complaint {tag}", lambda: check_end(code, log),
            always=True)


def check_end(code, log):
    assert code == 0, (code, log[-2000:])
    assert "Sanitizer" not in log and "runtime error" not in log, log[-4000:]


def main():
    if not os.path.exists(os.path.join(os.environ.get("CHATD_BUILD", "/nowhere"), "bin", "chatd")):
        print("1..0 # SKIP CHATD_BUILD names no build directory with bin/chatd")
        return 0
    tap = Tap(sys.argv[1] if len(sys.argv) > 1 else "")

    def all_with(workers):
        tag = "[1 worker]" if workers == 1 else f"[{workers} workers]"
        hostile(tap, workers, tag)
        tap.run(f"pings {tag}", lambda: pings(workers))
        tap.run(f"drain {tag}", lambda: drain(workers))

    # Side by side, each with servers of its own: most of the time is spent waiting for time limits.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(all_with, n) for n in (1, 4)]:
            done.result()
    print(f"1..{tap.n}")
    return 1 if tap.failed else 0


if __name__ == "__main__":
    sys.exit(main())
