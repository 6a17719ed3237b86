#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small pictures of pictures: what they show, who gets them, and pictures that are made to harm.  Prints TAP.

Usage: thumbs_e2e.py [workers [test ...]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml, the plugin upload,
and store-sqlite.
"""
import glob
import os
import shutil
import struct
import sys
import tempfile
import time
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import upload_e2e as up  # noqa: E402
from upload_e2e import get, known, post, form, same, until, upload  # noqa: E402
from client import Server, tap  # noqa: E402

TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def png(width, height, seed=0, alpha=False, interlaced=False, claimed=None):
    """Red and green above, blue and yellow below."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    more = b"\x80" if alpha else b""
    rows = [b"\0" + (a + more) * (width // 2) + (b + more) * (width - width // 2)
            for a, b in ((b"\xff\0\0", b"\0\xff\0"), (b"\0\0\xff", b"\xff\xff\0"))]
    body = rows[0] * (height // 2) + rows[1] * (height - height // 2)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *(claimed or (width, height)), 8, 6 if alpha else 2, 0, 0,
                                                             int(interlaced)))
            + chunk(b"tEXt", b"Author\0somebody who would rather not say %d" % seed)
            + chunk(b"IDAT", zlib.compress(body, 1)) + chunk(b"IEND", b""))


def size_of(webp):
    """Of a picture as chatd-thumbnail writes it."""
    assert webp[:4] == b"RIFF" and webp[8:12] == b"WEBP", webp[:16]
    kind, data = webp[12:16], webp[20:]
    if kind == b"VP8 ":
        w, h = struct.unpack("<HH", data[6:10])
        return w & 0x3fff, h & 0x3fff
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    bits = int.from_bytes(data[1:5], "little")
    return 1 + (bits & 0x3fff), 1 + (bits >> 14 & 0x3fff)


def thumbs(s, f=None):
    return sorted(glob.glob(os.path.join(s.dir, "files", "objects", "*", "*-*")))


@test
def a_picture_has_small_ones(s):
    alice, bob = known(s, "alice", "bob")
    data = png(1500, 1000)
    f = upload(alice, data)
    same((f["width"], f["height"], f["thumbnail"]), (1500, 1000, f["url"] + "/thumbnail"))
    for query, want in (("", (320, 213)), ("?size=1", (320, 213)), ("?size=320", (320, 213)), ("?size=321", (960, 640)),
                        ("?size=99999", (960, 640)), ("?size=x", (320, 213))):
        r = get(alice, f["thumbnail"] + query)
        same((r.status, r.headers["content-type"]), (200, "image/webp"), r.body[:200])
        same(size_of(r.body), want, query)
        assert b"somebody" not in r.body
    for name in ("x-content-type-options", "content-security-policy", "cross-origin-resource-policy", "cache-control"):
        same(r.headers[name], get(alice, f["url"]).headers[name], name)
    assert r.headers["content-disposition"].startswith('inline; filename="thumbnail.webp"'), r.headers
    same(alice.rest("HEAD", f["thumbnail"]).headers["content-length"], str(len(get(alice, f["thumbnail"]).body)))
    tags = [get(alice, u).headers["etag"] for u in (f["thumbnail"], f["thumbnail"] + "?size=960", f["url"])]
    same(len(set(tags)), 3, tags)
    etag = tags[0]
    same(get(alice, f["thumbnail"], **{"If-None-Match": etag}).status, 304)
    # The rights are the file's.
    same((get(bob, f["thumbnail"]).status, up.client.rest(s, None, "GET", f["thumbnail"]).status), (404, 401))
    a = alice.device()
    up.attach(a, {"to": "bob"}, f["url"])
    same(get(bob, f["thumbnail"]).status, 200)
    signed = get(bob, f["url"] + "/url").json["url"].replace("?", "/thumbnail?")
    for url in (signed.replace("?", "?size=960&size=320&"), signed + "&size=960", signed.replace("?", "?x=960&")):
        same(up.client.rest(s, None, "GET", url).status, 403, url)
    for query in ("/thumbnail?", "/thumbnail?size=960&"):
        same(up.while_it_lasts(bob, f["url"], lambda u: up.client.rest(s, None, "GET", u.replace("?", query))).status, 200, query)
    # It goes with the file, and what is small is made again.
    for p in thumbs(s):
        os.unlink(p)
    same([size_of(get(bob, f["thumbnail"] + q).body)[0] for q in ("", "?size=500")], [320, 960])
    n = len(thumbs(s))
    same(alice.rest("DELETE", f["url"]).status, 204)
    same(get(alice, f["thumbnail"]).status, 404)
    a.close()
    assert n == 2, n


@test
def equal_pictures_have_one(s):
    alice, bob = known(s, "alice", "bob")
    before = set(thumbs(s))
    one, two = upload(alice, png(400, 300, 1)), upload(bob, png(400, 300, 1))
    until(lambda: len(set(thumbs(s)) - before) == 2, what="those of the second have gone with it")
    same(get(alice, one["thumbnail"]).headers["etag"], get(bob, two["thumbnail"]).headers["etag"])
    same((two["width"], two["height"]), (400, 300))


@test
def what_has_none(s):
    (alice,) = known(s, "alice")
    for data, why in ((b"hello\n", "a text"), (b"%PDF-1.5\nx", "a paper"), (png(60, 60, claimed=(60000, 60000)), "a bomb"),
                      (png(60, 60, claimed=(60, 900)), "one that is cut off"), (png(50, 50)[:60], "not much of one"),
                      (b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + b"\0" * 99, "noise")):
        f = upload(alice, data)
        assert "width" not in f and "thumbnail" not in f, (why, f)
        for _ in range(2):
            r = get(alice, f["url"] + "/thumbnail")
            same((r.status, r.json["code"]), (404, "NO_THUMBNAIL"), why)
        same(get(alice, f["url"]).body == data, True, why)


@test
def large_ones(s):
    """As large as may be, in the memory that there is."""
    (alice,) = known(s, "alice")
    side = 9900 if up.FULL else 2000
    for data, want in ((png(side, side), True), (png(12, 12, claimed=(12000, 12000)), False), (png(1500, 1500, alpha=True), True)):
        f = upload(alice, data)
        same("thumbnail" in f, want)
    same(get(alice, "/api/files/%032x/thumbnail" % 0).status, 404)


PROGRAM = r'''#!/bin/sh
case $(tr -d '\000' | grep -ao 'CRASH\|STUCK\|MUCH\|LIES\|MINUS\|SHORT') in
CRASH) kill -ABRT $$ ;;
STUCK) sleep 60 ;;
MUCH) printf '1 1\n320 99999999\n'; head -c 20971520 /dev/zero ;;
LIES) printf '10 10\n320 40\nRIFF0000000000000000000000000000000000000' ;;
MINUS) printf -- '-1 10\n' ;;
SHORT) printf '10 10\n320 400\nRIFF0000WEBPVP8 ' ;;
esac
'''


def a_bad_program(workers):
    """What it does is no harm to the server: one of its own."""
    folder = tempfile.mkdtemp(prefix="chatd-thumb-")
    program = os.path.join(folder, "thumbnailer")
    with open(program, "w") as f:
        f.write(PROGRAM)
    os.chmod(program, 0o755)
    s = Server(workers, accounts=up.ACCOUNTS.replace(
        "max_size: 8 MiB", "thumbnailer: %s, thumbnail_timeout: 60s, thumbnails: [320], max_size: 8 MiB" % program))
    try:
        (alice,) = known(s, "alice")
        for word in (b"CRASH", b"MUCH", b"LIES", b"MINUS", b"SHORT", b"NOTHING", b"STUCK"):
            if word == b"STUCK":  # for this one alone: on a busy machine the others may take as long
                s.settings = ("upload.thumbnail_timeout=1s",)
                s.kill()
                s.begin()
            data = png(50, 50) + word
            r = post(s, alice, form(data))
            same((r.status, "thumbnail" in r.json), (201, False), word)
            same(get(alice, r.json["url"]).body == data, True, word)
            r = get(alice, r.json["url"] + "/thumbnail")
            same(r.status, 503 if word == b"STUCK" else 404, word)
        until(lambda: not [p for p in os.listdir("/proc") if p.isdigit() and program.encode() in read("/proc/%s/cmdline" % p)],
              what="none of them runs on")
    finally:
        code, log = s.stop()
        shutil.rmtree(folder, ignore_errors=True)
    assert code == 0 and " ERROR " not in log and "Sanitizer" not in log, log[-3000:]
    assert "has no small pictures" in log


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


@test
def small_ones_are_swept(s):
    (alice,) = known(s, "alice")
    before = thumbs(s)
    kept = upload(alice, png(500, 400, 2))
    have = [p for p in thumbs(s) if p not in before]
    same(len(have), 2)
    lone = os.path.join(s.dir, "files", "objects", "ab", "ab" + "0" * 62 + ".0123456789abcdef-320")
    os.makedirs(os.path.dirname(lone), exist_ok=True)
    with open(lone, "wb") as f:
        f.write(b"x")
    other = have[0].rsplit("-", 1)[0] + "-77"  # of a size that is made no more: it stays as long as its picture
    shutil.copy(have[0], other)
    for p in have + [lone, other]:
        os.utime(p, (time.time() - 4000,) * 2)
    s.kill()
    s.begin()
    until(lambda: not os.path.exists(lone), what="one that belongs to nothing")
    for p in have + [other]:
        assert os.path.exists(p), p
    gone = upload(alice, png(500, 400, 3))
    new = [p for p in thumbs(s) if p not in before + have + [other]]
    same(len(new), 2)
    same(alice.rest("DELETE", gone["url"]).status, 204)
    s.kill()
    s.begin()
    until(lambda: not any(map(os.path.exists, new)), what="those of a picture that was deleted")
    same(get(alice, kept["thumbnail"]).status, 200)


def main():
    workers = sys.argv[1] if len(sys.argv) > 1 else "4"
    words = sys.argv[2:]
    chosen = [t for t in TESTS if not words or any(w in t.__name__ for w in words)]
    if not words or "program" in words:
        def a_program_that_goes_wrong(_):
            a_bad_program(workers)
        chosen.insert(0, a_program_that_goes_wrong)
    return tap(chosen, Server(workers, accounts=up.ACCOUNTS.replace("day_bytes: 1 GiB", "day_bytes: 0")))


if __name__ == "__main__":
    sys.exit(main())
