#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The cases of the Autobahn test suite, groups 1 to 7 and 10, written from RFC 6455, against the echo
endpoint of config/conformance.yaml.  Each is sent whole, byte by byte (short ones), and cut in two.
Speaks TAP; CHATD_BUILD names the build directory."""
import os
import struct
import sys
import traceback

from wsclient import engine, BINARY, CLOSE, PING, PONG, TEXT, Server, close_frame, frame, open_ws

ECHO = "/echo/websocket"
HELLO = (TEXT, b"Hello, world!")
T = frame(*HELLO)
KOSME = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"


def fragments(opcode, pieces, between=b""):
    """One message in these fragments, with `between` after each but the last."""
    out = b""
    for i, piece in enumerate(pieces):
        last = i == len(pieces) - 1
        out += frame(opcode if i == 0 else 0, piece, fin=last) + (b"" if last else between)
    return out


def ended(code):
    return (CLOSE, code)


def group_1():
    for number, opcode in ((1, TEXT), (2, BINARY)):
        for i, n in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
            yield f"1.{number}.{i}", frame(opcode, b"*" * n), [(opcode, b"*" * n)]


def group_2():
    for i, payload in enumerate((b"", b"Hello, world!", b"\0\xff\xfe\xfd\0\xff", b"\xfe" * 125), 1):
        yield f"2.{i}", frame(PING, payload), [(PONG, payload)]
    yield "2.5", frame(PING, b"\xfe" * 126), [ended(1002)]
    yield "2.7", frame(PONG) + T, [HELLO]
    yield "2.8", frame(PONG, b"unsolicited") + T, [HELLO]
    yield "2.9", frame(PONG, b"unsolicited") + frame(PING, b"ping"), [(PONG, b"ping")]
    ten = [b"payload-%d" % i for i in range(10)]
    yield "2.10, 2.11", b"".join(frame(PING, p) for p in ten), [(PONG, p) for p in ten]


def group_3():
    yield "3.1", frame(*HELLO, rsv=1), [ended(1002)]
    yield "3.2", T + frame(*HELLO, rsv=2) + frame(PING), [HELLO, ended(1002)]
    yield "3.3", T + frame(*HELLO, rsv=3) + frame(PING), [HELLO, ended(1002)]
    yield "3.4", T + frame(*HELLO, rsv=4) + frame(PING), [HELLO, ended(1002)]
    yield "3.5", frame(BINARY, b"\xff", rsv=5), [ended(1002)]
    yield "3.6", frame(PING, b"x", rsv=6), [ended(1002)]
    yield "3.7", frame(CLOSE, b"\x03\xe8", rsv=7), [ended(1002)]


def group_4():
    for number, opcodes in ((1, (3, 4, 5, 6, 7)), (2, (11, 12, 13, 14, 15))):
        for i, opcode in enumerate(opcodes, 1):
            payload = b"" if i % 2 else b"reserved opcode payload"
            before, seen = (b"", []) if i < 3 else (T, [HELLO])
            yield f"4.{number}.{i}", before + frame(opcode, payload) + frame(PING), seen + [ended(1002)]


def group_5():
    two = (b"fragment1", b"fragment2")
    five = [b"fragment%d" % i for i in range(1, 6)]
    both = (TEXT, b"".join(two))
    yield "5.1", frame(PING, two[0], fin=False) + frame(0, two[1]), [ended(1002)]
    yield "5.2", frame(PONG, two[0], fin=False) + frame(0, two[1]), [ended(1002)]
    yield "5.3 to 5.5", fragments(TEXT, two), [both]
    yield "5.6 to 5.8", fragments(TEXT, two, frame(PING, b"ping")), [(PONG, b"ping"), both]
    yield "5.9 to 5.11", frame(0, b"x") + T, [ended(1002)]
    yield "5.12 to 5.14", frame(0, b"x", fin=False) + T, [ended(1002)]
    yield "5.15", fragments(TEXT, two) + frame(0, b"x", fin=False) + T, [both, ended(1002)]
    yield "5.16", (frame(0, b"x", fin=False) + frame(TEXT, b"y")) * 2, [ended(1002)]
    yield "5.17", (frame(0, b"x") + frame(TEXT, b"y")) * 2, [ended(1002)]
    yield "5.18", frame(TEXT, two[0], fin=False) + frame(TEXT, two[1]), [ended(1002)]
    yield "5.19, 5.20", fragments(TEXT, five, frame(PING, b"p")), [(PONG, b"p")] * 4 + [
        (TEXT, b"".join(five))]


VALID = (
    "hello$\u00a2\u20ac\U00024b62".encode(), KOSME, KOSME[:2], KOSME[:5], KOSME[:7], KOSME[:9],
    b"\0", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80", b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf",
    b"\xf4\x8f\xbf\xbf", b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd",
    *(chr(plane << 16 | low).encode() for plane in range(17) for low in (0xFFFE, 0xFFFF)),
    *("￹￺￻￼".encode()[i:i + 3] for i in range(0, 12, 3)))
INVALID = (
    KOSME[:1], KOSME[:3], KOSME[:4], KOSME[:6], KOSME[:8], KOSME[:10],
    b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf",
    b"\xfd\xbf\xbf\xbf\xbf\xbf", b"\xf4\x90\x80\x80",
    *((b"\x80\xbf" * 4)[:n] for n in range(1, 8)), bytes(range(0x80, 0xC0)),
    *(b"".join(bytes([c, 0x20]) for c in range(*r)) for r in (
        (0xC0, 0xE0), (0xE0, 0xF0), (0xF0, 0xF8), (0xF8, 0xFC), (0xFC, 0xFE))),
    b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80", b"\xdf",
    b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf", b"\xfe", b"\xff",
    b"\xfe\xfe\xff\xff", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf",
    b"\xfc\x80\x80\x80\x80\xaf", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf",
    b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf", b"\xc0\x80", b"\xe0\x80\x80",
    b"\xf0\x80\x80\x80", b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf",
    b"\xed\xb0\x80", b"\xed\xbe\x80", b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80",
    b"\xed\xad\xbf\xed\xbf\xbf", b"\xed\xae\x80\xed\xb0\x80", b"\xed\xaf\xbf\xed\xbf\xbf")


def group_6():
    long = "Hello-µ@ßöäüàá-UTF-8!!".encode()
    bad = KOSME + b"\xed\xa0\x80" + b"edited"
    yield "6.1.1", frame(TEXT), [(TEXT, b"")]
    yield "6.1.2", fragments(TEXT, [b""] * 3), [(TEXT, b"")]
    yield "6.1.3", fragments(TEXT, [b"", b"middle frame payload", b""]), [(TEXT, b"middle frame payload")]
    yield "6.2.1", frame(TEXT, long), [(TEXT, long)]
    yield "6.2.2", fragments(TEXT, [long[:12], long[12:]]), [(TEXT, long)]
    yield "6.2.3", fragments(TEXT, [bytes([b]) for b in long]), [(TEXT, long)]
    yield "6.2.4", fragments(TEXT, [bytes([b]) for b in KOSME]), [(TEXT, KOSME)]
    yield "6.3.1", frame(TEXT, bad), [ended(1007)]
    yield "6.3.2", fragments(TEXT, [bytes([b]) for b in bad]), [ended(1007)]
    # 6.4: what follows is never sent
    yield "6.4.1", frame(TEXT, KOSME, fin=False) + frame(0, b"\xf4\x90\x80\x80", fin=False), [ended(1007)]
    yield "6.4.2", frame(TEXT, KOSME + b"\xf4", fin=False) + frame(0, b"\x90", fin=False), [ended(1007)]
    yield "6.4.3", frame(TEXT, KOSME + b"\xf4\x90", length=21), [ended(1007)]
    yield "6.4.4", frame(TEXT, KOSME + b"\xf4\x90\x80", length=21), [ended(1007)]
    for i, text in enumerate(VALID):
        yield f"6.5 to 6.23 valid {i}", frame(TEXT, text), [(TEXT, text)]
    for i, text in enumerate(INVALID):
        yield f"6.5 to 6.23 invalid {i}", frame(TEXT, text), [ended(1007)]


def group_7():
    close = close_frame(1000)
    yield "7.1.1", T + close, [HELLO, ended(1000)]
    yield "7.1.2", close * 2, [ended(1000)]
    yield "7.1.3", close + frame(PING), [ended(1000)]
    yield "7.1.4", close + T, [ended(1000)]
    yield "7.1.5", frame(TEXT, b"a", fin=False) + close + frame(0, b"b"), [ended(1000)]
    yield "7.1.6", frame(TEXT, b"*" * 262144) + close + frame(PING), [(TEXT, b"*" * 262144), ended(1000)]
    yield "7.3.1", frame(CLOSE), [ended(None)]
    yield "7.3.2", frame(CLOSE, b"a"), [ended(1002)]
    yield "7.3.3", close, [ended(1000)]
    yield "7.3.4", close_frame(1000, b"Hello World!"), [ended(1000)]
    yield "7.3.5", close_frame(1000, b"*" * 123), [ended(1000)]
    yield "7.3.6", close_frame(1000, b"*" * 124), [ended(1002)]
    yield "7.5.1", close_frame(1000, KOSME + b"\xed\xa0\x80edited"), [ended(1007)]
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield f"7.7 {code}", close_frame(code), [ended(code)]
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535):
        yield f"7.9, 7.13 {code}", close_frame(code), [ended(1002)]


def group_10():
    text = b"*" * 65536
    yield "10.1.1", fragments(TEXT, [text[i:i + 1300] for i in range(0, len(text), 1300)]), [(TEXT, text)]


def cuts(wire):
    yield [wire]
    yield [wire[:len(wire) // 2], wire[len(wire) // 2:]]
    if len(wire) > 5000:
        yield [wire[i:i + 997] for i in range(0, len(wire), 997)]
    else:
        yield [wire[i:i + 1] for i in range(len(wire))]


def run_case(server, pieces, expected):
    with open_ws(server.http, ECHO) as ws:
        for piece in pieces:
            ws.send(piece)
        alive = expected[-1][0] != CLOSE
        if alive:
            ws.send(close_frame(1000))
            expected = expected + [ended(1000)]
        for want in expected:
            opcode, payload = ws.frame()
            if opcode == CLOSE:
                payload = struct.unpack(">H", payload[:2])[0] if payload else None
            assert (opcode, payload) == want, (opcode, str(payload)[:80], want[0], str(want[1])[:80])
        ws.expect_end()


def main():
    if not os.path.exists(os.path.join(os.environ.get("CHATD_BUILD", "/nowhere"), "bin", "chatd")):
        print("1..0 # SKIP CHATD_BUILD names no build directory with bin/chatd")
        return 0
    n = failed = 0
    for workers in (1, 4):
        server = Server(workers, "conformance.yaml")
        for group in (group_1, group_2, group_3, group_4, group_5, group_6, group_7, group_10):
            for name, wire, expected in group():
                n += 1
                failure = ""
                try:
                    for pieces in cuts(wire):
                        run_case(server, pieces, expected)
                except Exception:
                    failure = traceback.format_exc()
                good, more = engine.judge("autobahn", name, failure)
                failed += not good
                print(f"{'' if good else 'not '}ok {n} - {name} [{workers}]{more}", flush=True)
                for line in [] if good else failure.rstrip().split("\n")[-4:]:
                    print(f"# {line}", flush=True)
        log, code = server.log_text(), server.stop()
        n += 1
        clean = code == 0 and "Sanitizer" not in log
        failed += not clean
        print(f"{'ok' if clean else 'not ok'} {n} - ends with 0 and without a complaint [{workers}]")
    print(f"1..{n}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
