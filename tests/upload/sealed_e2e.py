#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files that are encrypted where they lie: what can be found there, ranges, damage, other keys, kill -9.  Prints TAP.

Usage: sealed_e2e.py [workers [test ...]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml, the plugins upload
and encrypt, and store-sqlite.
"""
import glob
import hashlib
import os
import random
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import upload_e2e as up  # noqa: E402
import thumbs_e2e  # noqa: E402
from upload_e2e import attach, form, get, known, post, same, until, upload  # noqa: E402
from client import Server, put, tap  # noqa: E402

CHUNK, RECORD, HEAD = 65536, 65536 + 50, 10
MARK = b"zebracorn and more of it; "
KEYS = None
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


class Keys:
    """The file of keys, outside of the server's folder."""

    def __init__(self, *names):
        self.folder = tempfile.mkdtemp(prefix="chatd-keys-")
        self.path = os.path.join(self.folder, "keys")
        self.lines = ["%s %s" % (n, secrets.token_hex(32)) for n in names]
        self.write()

    def write(self, lines=None):
        with open(os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as f:
            f.write("\n".join(lines or self.lines) + "\n")


class Sealed(Server):
    """keys None: without the plugin encrypt."""

    def __init__(self, workers, keys, **more):
        said = "max_size: 8 MiB, " + "".join("%s: %s, " % i for i in more.items())
        super().__init__(workers, accounts=up.ACCOUNTS.replace("max_size: 8 MiB, ", said),
                         edit=lambda text: put(text, "  encrypt: { keys: \"file:%s\" }\n" % keys.path) if keys else text)

    def change(self, fn):
        path = os.path.join(self.dir, "chat.yaml")
        with open(path) as f:
            text = f.read()
        assert fn(text) != text, text[-800:]
        with open(path, "w") as f:
            f.write(fn(text))

    def again(self):
        self.kill()
        self.begin()

    def said(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()

    def hang_up(self):
        n = self.said().count("keys: ")
        self.proc.send_signal(signal.SIGHUP)
        until(lambda: self.said().count("keys: ") > n, what="the keys are read again")

    def finish(self, errors=False):
        code, log = self.stop()
        assert code == 0 and "Sanitizer" not in log and (errors or " ERROR " not in log), log[-3000:]
        return log


def there(s):
    """What lies below the files' folder, and in the names."""
    found = []
    for folder, _, names in os.walk(os.path.join(s.dir, "files")):
        found += [(name, up.content(os.path.join(folder, name))) for name in names]
    return [(name, bytes_) for name, bytes_ in found if bytes_ is not None]


def text_of(seed, size):
    """Readable, so that whoever looks finds it; different everywhere, so that no chunk is another."""
    return (MARK + b"".join(b"%08d %d " % (i, seed) for i in range(size // 10)))[:size]


def sealed(s):
    return set(up.objects(s))


def size_at(path):
    """-1: it has gone meanwhile."""
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return -1


def new_one(s, who, data, **kw):
    """The file, and where it lies: the one of its size, for others may be encrypted in the background meanwhile."""
    before, n = sealed(s), len(data)
    f = upload(who, data, **kw)
    made = {p for p in sealed(s) - before if size_at(p) in (n, n + (RECORD - CHUNK) * -(-n // CHUNK))}
    same(len(made), 1, made)
    return f, made.pop()


def damage(path, fn):
    with open(path, "rb") as f:
        was = f.read()
    with open(path, "wb") as f:
        f.write(fn(was))
    return was


def flip(at):
    return lambda b: b[:at] + bytes([b[at] ^ 1]) + b[at + 1:]


def all_that_comes(s, who, url):
    """Until it is broken off."""
    sock, got = socket.create_connection(s.address("http"), up.client.WAIT), b""
    sock.sendall(("GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n" % (url, who.token)).encode())
    try:
        while piece := sock.recv(65536):
            got += piece
    except ConnectionResetError:
        pass
    sock.close()
    return got


# ---- as it should be -------------------------------------------------------------------------


@test
def nothing_lies_there_readable(s):
    (alice,) = known(s, "alice")
    data = text_of(1, 300000)
    f, path = new_one(s, alice, data)
    picture = thumbs_e2e.png(600, 400, 5)
    g, shown = new_one(s, alice, picture)
    assert get(alice, g["thumbnail"]).body[:4] == b"RIFF"
    url = up.begin(alice, 200000, "zebracorn.txt")
    same(up.tus(alice, "PATCH", url, data[:70000], Upload_Offset=0).status, 204)
    for name, bytes_ in there(s):
        for word in (MARK[:12], b"00000100 1", b"PNG", b"IHDR", b"WEBP", b"zebracorn.txt"):
            assert word not in bytes_, (name, word)
        for content in (data, picture):
            assert hashlib.sha256(content).hexdigest()[:16] not in name, name
        assert "sealed" in name, name
    same(os.path.getsize(path), 300000 + 5 * 50)
    same(sorted(os.path.basename(p).rpartition("-")[2] for p in glob.glob(shown + "-*")), ["320", "960"])
    same(get(alice, f["url"]).body == data, True)
    same(up.tus(alice, "DELETE", url).status, 204)
    same(os.listdir(os.path.join(s.dir, "files", "tus")), [])


@test
def any_part_of_it_is_had(s):
    (alice,) = known(s, "alice")
    for size in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 4 * CHUNK + 1, 9 * CHUNK + 77):
        data = text_of(size, size) if size else b""
        r = post(s, alice, form(data, name='filename="x.txt"'))
        if size == 0 and r.status == 415:
            continue  # an empty file is no text
        same(r.status, 201, (size, r.body))
        url, pick = r.json["url"], random.Random(size)
        r = get(alice, url)
        same((r.status, r.body == data, r.headers["content-length"]), (200, True, str(size)), size)
        spots = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK - 1, 4 * CHUNK, size - 1] + [pick.randrange(size or 1) for _ in range(4)]
        for a in sorted({x for x in spots if 0 <= x < size}):
            b = min(size - 1, a + pick.choice((0, 1, 17, CHUNK - 1, CHUNK, 5 * CHUNK)))
            r = get(alice, url, Range="bytes=%d-%d" % (a, b))
            same((r.status, r.body == data[a:b + 1]), (206, True), (size, a, b))
        if size:
            same(get(alice, url, Range="bytes=-9").body == data[-9:], True, size)
        same(get(alice, url, Range="bytes=%d-" % size).status, 416)


@test
def equal_files_are_one(s):
    alice, bob = known(s, "alice", "bob")
    data = text_of(7, 150000)
    f, path = new_one(s, alice, data)
    before = sealed(s)
    g = upload(bob, data)
    until(lambda: not sealed(s) - before, what="one object of two files")
    same(alice.rest("DELETE", f["url"]).status, 204)
    same((get(alice, f["url"]).status, get(bob, g["url"]).body == data), (404, True))
    assert os.path.exists(path)


@test
def in_pieces(s):
    (alice,) = known(s, "alice")
    data = text_of(8, 1000003)
    url, at, pick = up.begin(alice, len(data), "x.txt"), 0, random.Random(8)
    while at < len(data):
        n = pick.choice((1, 100, CHUNK, 100000, 300001))
        r = up.tus(alice, "PATCH", url, data[at:at + n], Upload_Offset=at)
        same(r.status, 204, r.body)
        at = min(len(data), at + n)
        same(int(r.headers["upload-offset"]), at)
        if pick.random() < 0.3 and at < len(data):
            s.again()
            same(up.offset(alice, url), at, "after kill -9")
    same(get(alice, url.replace("/tus/", "/")).body == data, True)
    same(up.offset(alice, url), len(data))
    until(lambda: not os.listdir(os.path.join(s.dir, "files", "tus")), what="no pieces are left")
    # Broken off: what came is there.
    url = up.begin(alice, len(data), "y.txt")
    sock = socket.create_connection(s.address("http"), up.client.WAIT)
    sock.sendall(("PATCH %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: "
                  "application/offset+octet-stream\r\nContent-Length: %d\r\n\r\n" % (url, alice.token, len(data))).encode() + data[:500000])
    until(lambda: any(size_at(os.path.join(s.dir, "files", "tmp", t)) > 0 for t in up.temps(s)), what="it is written")
    sock.close()
    until(lambda: up.offset(alice, url) > 0, what="what was broken off is there")
    at = up.offset(alice, url)
    assert at <= 500000, at
    r = up.tus(alice, "PATCH", url, data[at:at + 1000], Upload_Offset=at, Upload_Checksum="sha1 " + "A" * 27 + "=")
    same((r.status, up.offset(alice, url)), (460, at))
    same(up.tus(alice, "PATCH", url, data[at:], Upload_Offset=at + 1).status, 409)
    same(up.tus(alice, "PATCH", url, data[at:], Upload_Offset=at).status, 204)
    same(get(alice, url.replace("/tus/", "/")).body == data, True)
    until(lambda: not up.temps(s), what="nothing is left of it")


# ---- as it should not ------------------------------------------------------------------------


def what_is_damaged_does_not_come_out(s):
    alice, bob = known(s, "alice", "bob")
    data = text_of(9, 10 * CHUNK + 5000)
    f, path = new_one(s, alice, data)
    other, elsewhere = new_one(s, alice, text_of(10, 10 * CHUNK + 5000))
    last, i = 10 * RECORD, 6

    def swap(a, b):
        return lambda x: x[:a * RECORD] + x[b * RECORD:(b + 1) * RECORD] + x[(a + 1) * RECORD:b * RECORD] + \
            x[a * RECORD:(a + 1) * RECORD] + x[(b + 1) * RECORD:]

    with open(elsewhere, "rb") as o:
        strange = o.read()
    cases = [("a bit of its text", flip(i * RECORD + 3000), i), ("a bit of its tag", flip((i + 1) * RECORD - 1), i),
             ("a bit of its nonce", flip(i * RECORD + 20), i), ("a bit of its key's number", flip(i * RECORD + 5), i),
             ("its version", flip(i * RECORD), i), ("two chunks have changed places", swap(6, 8), i),
             ("one is there twice", lambda b: b[:6 * RECORD] + b[5 * RECORD:6 * RECORD] + b[7 * RECORD:], i),
             ("one of another file", lambda b: b[:6 * RECORD] + strange[6 * RECORD:7 * RECORD] + b[7 * RECORD:], i),
             ("the last one is gone", lambda b: b[:last], 10), ("half of the last one is gone", lambda b: b[:-2000], 10),
             ("the last ones are gone", lambda b: b[:7 * RECORD], 7), ("the end was taken out", lambda b: b[:6 * RECORD] + b[last:], i),
             ("another file", lambda _: strange, 0), ("it is plain", lambda _: data, 0), ("it is empty", lambda _: b"", 0)]
    for name, fn, bad in cases:
        was = damage(path, fn)
        r = get(alice, f["url"], Range="bytes=%d-%d" % (bad * CHUNK + 100, bad * CHUNK + 200))
        same((r.status, r.json.get("code"), "content-disposition" in r.headers), (500, "DECRYPT_FAILED", False), (name, r.body[:100]))
        whole = all_that_comes(s, alice, f["url"])
        body = whole.partition(b"\r\n\r\n")[2]
        if bad >= 4:
            assert len(body) <= bad * CHUNK and data.startswith(body), (name, len(body))
        else:
            assert b"DECRYPT_FAILED" in whole, (name, whole[:300])
        if bad > 0:
            same(get(alice, f["url"], Range="bytes=5-900").body, data[5:901], name)
        damage(path, lambda _: was)
    same(get(alice, f["url"]).body == data, True)
    assert re.search(r"[0-9a-f]{2}/[0-9a-f]{64}\.sealed is damaged: chunk 6 of it was changed, cut, or comes from elsewhere", s.said())
    # A small picture is no other's, and none at all is made of a damaged one.
    g, shown = new_one(s, alice, thumbs_e2e.png(600, 400, 6))
    damage(shown + "-320", lambda _: open(shown + "-960", "rb").read())
    same(get(alice, g["thumbnail"] + "?size=320").json["code"], "DECRYPT_FAILED")
    os.unlink(shown + "-320")
    was = damage(shown, flip(3000))
    same(get(alice, g["thumbnail"] + "?size=320").json["code"], "DECRYPT_FAILED")
    assert not os.path.exists(shown + "-320")
    damage(shown, lambda _: was)
    same(get(alice, g["thumbnail"] + "?size=320").status, 200)
    # A piece that was changed makes no file.
    url = up.begin(alice, 200000, "x.txt")
    same(up.tus(alice, "PATCH", url, data[:100000], Upload_Offset=0).status, 204)
    piece = [p for p in glob.glob(os.path.join(s.dir, "files", "tus", "*")) if ".info" not in p]
    same(len(piece), 1)
    damage(piece[0], flip(70000))
    r = up.tus(alice, "PATCH", url, data[100000:200000], Upload_Offset=100000)
    same((r.status, r.json["code"]), (500, "DECRYPT_FAILED"))
    same(get(alice, url.replace("/tus/", "/")).status, 404)
    same(get(alice, other["url"]).status, 200)


def heads_of(path):
    with open(path, "rb") as f:
        all_ = f.read()
    return {all_[at:at + HEAD] for at in range(0, len(all_), RECORD)}


def other_keys(s):
    (alice,) = known(s, "alice")
    data = text_of(11, 100000)
    f, path = new_one(s, alice, data)
    old = heads_of(path)
    KEYS.lines.append("two " + secrets.token_hex(32))
    KEYS.write()
    s.hang_up()
    g, newer = new_one(s, alice, text_of(12, 100000))
    same((len(old), len(heads_of(newer))), (1, 1))
    assert heads_of(newer) != old, "what is new has the new key"
    same([get(alice, x["url"]).status for x in (f, g)], [200, 200])
    assert os.path.exists(path)
    KEYS.write(KEYS.lines[1:])
    s.hang_up()
    same(get(alice, g["url"]).status, 200)
    r = get(alice, f["url"])
    if heads_of(path) != old:
        return  # the background was here first
    same((r.status, r.json["code"]), (500, "DECRYPT_FAILED"))
    assert re.search(r"is encrypted with the key [0-9a-f]{16}, which is not among encrypt.keys; put it back there", s.said())
    KEYS.write()
    s.hang_up()
    same(get(alice, f["url"]).body == data, True)


# ---- servers of their own --------------------------------------------------------------------


def encrypted_anew(workers):
    """Once there is another key, what has the old one gets it, and the old one can go; who reads meanwhile reads on."""
    keys = Keys("one")
    s = Sealed(workers, keys, thumbnails="[64]")
    try:
        (alice,) = known(s, "alice")
        datas = [text_of(40 + n, size) for n, size in enumerate((1, 65536, 65537, 400000, 3000000))]
        files = [upload(alice, d) for d in datas]
        picture = upload(alice, thumbs_e2e.png(200, 100))
        objects = set(glob.glob(os.path.join(s.dir, "files", "objects", "*", "*")))  # the small picture among them
        same((len(objects), get(alice, picture["thumbnail"]).status), (7, 200))
        old = set.union(*map(heads_of, objects))
        same(len(old), 1)
        keys.lines.append("two " + secrets.token_hex(32))
        keys.write()
        s.again()
        (alice,) = known(s, "alice")

        def all_new():
            for f, d in zip(files, datas):  # whatever is done to them meanwhile
                same(get(alice, f["url"]).body == d, True)
            return not any(heads_of(o) & old for o in objects)
        until(all_new, what="all have the new key")
        same(set(glob.glob(os.path.join(s.dir, "files", "objects", "*", "*"))), objects)
        until(lambda: "7 files were encrypted anew" in s.said(), what="it is said")
        assert "all files have the active key" not in s.said(), "it has not looked again"
        s.again()
        until(lambda: "all files have the active key" in s.said(), what="a round finds nothing")
        keys.write(keys.lines[1:])
        s.again()
        (alice,) = known(s, "alice")
        same([get(alice, f["url"]).body == d for f, d in zip(files, datas)], [True] * len(files))
        same(get(alice, picture["thumbnail"]).status, 200)
    finally:
        s.finish()
        shutil.rmtree(keys.folder, ignore_errors=True)


def plain_ones_too(workers):
    """What was stored before encryption was turned on is encrypted in the background, also when the server is killed over and
    over; who reads meanwhile reads on, and nothing readable stays."""
    keys = Keys("one")
    s = Sealed(workers, None, thumbnails="[64]")
    try:
        (alice,) = known(s, "alice")
        datas = [text_of(60 + n, size) for n, size in enumerate((1, 65536, 65537, 400000, 3000000))]
        files = [upload(alice, d) for d in datas]
        same(upload(alice, datas[3])["size"], 400000, "two files of one object")
        picture = upload(alice, thumbs_e2e.png(200, 100))
        damaged, path = new_one(s, alice, text_of(70, 5000))
        damage(path, flip(4000))
        s.change(lambda text: put(text, "  encrypt: { keys: \"file:%s\", pace: 1 }\n" % keys.path))

        def lie(sealed):
            return [p for p in glob.glob(os.path.join(s.dir, "files", "objects", "*", "*")) if ("sealed" in p) == sealed and p != path]

        def reads():
            for f, d in zip(files, datas):
                same(get(alice, f["url"]).body == d, True)
        kills = 0
        while lie(False):  # what was moved before goes by the sweep, which is the first thing that a server does
            n = len(lie(True))
            s.again()
            (alice,) = known(s, "alice")
            reads()
            until(lambda: len(lie(True)) > n or not lie(False), what="one more is encrypted")
            reads()
            kills += 1
        assert kills > 1, "it was killed amid it"
        s.again()
        (alice,) = known(s, "alice")
        reads()
        same(get(alice, picture["thumbnail"]).status, 200, "made again")
        until(lambda: not any(MARK[:12] in bytes_ for name, bytes_ in there(s) if name != os.path.basename(path)), what="nothing is readable")
        until(lambda: os.path.basename(path) + " is damaged" in s.said(), what="what is damaged is said to be")
        assert os.path.exists(path) and get(alice, damaged["url"]).status == 200
    finally:
        s.finish(errors=True)
        shutil.rmtree(keys.folder, ignore_errors=True)


def turned_on_and_off(workers):
    keys = Keys("one")
    s = Sealed(workers, None)
    try:
        alice, bob = known(s, "alice", "bob")
        data = [text_of(20 + i, 200000 + i) for i in range(5)]
        old, path = new_one(s, alice, data[0])
        assert "sealed" not in path
        s.change(lambda text: put(text, "  encrypt: { keys: \"file:%s\" }\n" % keys.path))
        s.again()
        same(get(alice, old["url"]).body == data[0], True, "what was stored before")
        f, path = new_one(s, alice, data[1])
        assert path.endswith(".sealed"), path
        attach(alice.device(), {"to": "bob"}, old["url"], f["url"])
        same([get(bob, x["url"]).body == d for x, d in ((old, data[0]), (f, data[1]))], [True, True])
        s.change(lambda text: text.replace("upload: { ", "upload: { encrypt: \"off\", "))
        s.again()
        plain, path = new_one(s, alice, data[2])
        assert "sealed" not in path
        same([get(alice, x["url"]).status for x in (old, f, plain)], [200] * 3)
        s.change(lambda text: text.replace("encrypt: \"off\"", "encrypt: required"))
        s.again()
        assert new_one(s, alice, data[3])[1].endswith(".sealed")
    finally:
        s.finish()
        shutil.rmtree(keys.folder, ignore_errors=True)


def what_does_not_go_together(workers):
    keys = Keys("one")
    try:
        for said, plugin, why in (
                ({"encrypt": "required"}, None, "the plugin encrypt is not configured; add it with its keys"),
                ({"encrypt": "required", "presigned": "true"}, keys, "set presigned and presigned_uploads to false, or encrypt to off"),
                ({"backend": "s3", "s3_endpoint": "http://127.0.0.1:9", "s3_key": "a", "s3_secret": "b", "presigned": "true"}, keys,
                 "upload.presigned: files are encrypted")):
            try:
                Sealed(workers, plugin, **said).stop()
            except SystemExit as e:
                assert why in str(e), e
            else:
                raise AssertionError("it started: %s" % said)
    finally:
        shutil.rmtree(keys.folder, ignore_errors=True)


SCANNER = '''#!/bin/sh
t=$(cat)
case "$t" in
*bad*) exit 1 ;;
esac
printf '%%s' "$t" | wc -c >>%s/scans
'''


def a_scanner(workers):
    """It reads what is in the file, all of it; and says nothing of what is damaged."""
    keys, folder = Keys("one"), tempfile.mkdtemp(prefix="chatd-scan-")
    program = os.path.join(folder, "scanner")
    with open(program, "w") as f:
        f.write(SCANNER % folder)
    os.chmod(program, 0o755)
    s = Sealed(workers, keys, scanner="[%s]" % program)
    try:
        alice, bob = known(s, "alice", "bob")
        a = alice.device()

        def scans():
            try:
                with open(os.path.join(folder, "scans")) as f:
                    return f.read().split()
            except OSError:
                return []
        data = text_of(30, 500000).rstrip()
        good = upload(alice, data)
        attach(a, {"to": "bob"}, good["url"])
        until(lambda: get(bob, good["url"]).status == 200, what="the scanner says good")
        same(scans(), [str(len(data))])
        bad = upload(alice, text_of(31, 300000) + b"a bad end")
        until(lambda: get(alice, bad["url"]).status == 403, what="the scanner says bad")
        # A damaged one waits, however the scanner would like what comes before.
        with open(program, "w") as f:
            f.write("#!/bin/sh\nexec 0<&-\nsleep 0.2\nexit 3\n")
        waits, path = new_one(s, alice, text_of(32, 500000))
        attach(a, {"to": "bob"}, waits["url"])
        until(lambda: "the scanner says nothing of" in s.said(), what="it was asked")
        damage(path, flip(400000))
        with open(program, "w") as f:
            f.write(SCANNER % folder)
        n = s.said().count("the scanner says nothing of")
        s.again()
        until(lambda: s.said().count("the scanner says nothing of") > n, what="it is asked again")
        same((get(bob, waits["url"]).status, len(scans())), (404, 1))
        damage(path, flip(400000))
        s.again()
        until(lambda: get(bob, waits["url"]).status == 200, what="it is good after all")
        a.close()
    finally:
        log = s.finish(errors=True)
        shutil.rmtree(keys.folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    assert re.search(r"the scanner says nothing of [0-9a-f/]+\.sealed \(signal 9\)", log), log[-3000:]
    assert "is damaged: chunk 6" in log


def main():
    global KEYS
    workers = sys.argv[1] if len(sys.argv) > 1 else "4"
    words = sys.argv[2:]
    KEYS = Keys("one")
    chosen = [t for t in TESTS if not words or any(w in t.__name__ for w in words)]
    for fn in (what_is_damaged_does_not_come_out, other_keys):
        if not words or any(w in fn.__name__ for w in words):
            def lost(_, fn=fn):
                s = Sealed(workers, KEYS)
                try:
                    fn(s)
                finally:
                    s.finish(errors=True)
            lost.__name__ = fn.__name__
            chosen.append(lost)
    for fn in (turned_on_and_off, encrypted_anew, plain_ones_too, what_does_not_go_together, a_scanner):
        if not words or any(w in fn.__name__ for w in words):
            def run(_, fn=fn):
                fn(workers)
            run.__name__ = fn.__name__
            chosen.append(run)
    try:
        return tap(chosen, Sealed(workers, KEYS))
    finally:
        shutil.rmtree(KEYS.folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
