#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files: uploads, who may download them, hostile bodies, what crashes leave behind.  Prints TAP.

Usage: upload_e2e.py [workers [store [test ...]]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml, the plugin
upload, and store-sqlite, or store-memory if the second argument says "memory".
"""
import base64
import glob
import hashlib
import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "chat"))
import client  # noqa: E402
from client import Person, Server, same, tap, until  # noqa: E402

MIB = 1 << 20
MAX = 8 * MIB
FULL = os.environ.get("CHATD_FULL") == "1"
NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace")
ACCOUNTS = "\n  auth-static:\n    users:\n" + "".join(
    '      - {{ login: {0}, passcode: "{0}", name: "{1}", token: "token-of-{0}-long-enough" }}\n'.format(n, n.title())
    for n in NAMES) + "\n  upload: { max_size: 8 MiB, day_bytes: 1 GiB, url_ttl: 2s, uploads_per_user: 2 }\n"
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def png(seed, size=0):
    """A picture of one pixel, with as many bytes behind as are wanted."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0\1\2\3")) + chunk(b"tEXt", b"seed\0%d" % seed) + chunk(b"IEND", b"")
    return head + body + random.Random(seed).randbytes(max(0, size - len(head) - len(body)))


def thumbs_png():
    """One that has small pictures: 40 by 30 pixels."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 30, 8, 2, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress((b"\0" + b"\1\2\3" * 40) * 30)) + chunk(b"IEND", b"")


def form(data, name='filename="cat.png"', boundary="xyz", declared="image/png", field="file"):
    return (b"--%s\r\nContent-Disposition: form-data; name=\"%s\"; %s\r\nContent-Type: %s\r\n\r\n"
            % (boundary.encode(), field.encode(), name if isinstance(name, bytes) else name.encode(), declared.encode())
            + data + b"\r\n--%s--\r\n" % boundary.encode())


def post(s, who, body, boundary="xyz", **headers):
    return client.rest(s, who, "POST", "/api/files", raw=body,
                       headers={"Content-Type": "multipart/form-data; boundary=%s" % boundary, **headers})


def upload(who, data, **kw):
    r = post(who.server, who, form(data, **kw))
    assert r.status == 201, (r.status, r.body)
    return r.json


def get(who, url, **headers):
    return who.rest("GET", url, headers=headers)


def attach(device, to, *urls, **more):
    return device.send("/app/chat.send", {"content": "see", "attachments": [{"url": u} for u in urls], **to, **more})


def known(s, *names):
    people = [Person(s, n) for n in names]
    for p in people:
        p.device().close()
    return people


def objects(s):
    """Without the small pictures beside them."""
    return sorted(p for p in glob.glob(os.path.join(s.dir, "files", "objects", "*", "*")) if "-" not in os.path.basename(p))


def while_it_lasts(who, path, use):
    """What use() is answered with an address that is not over yet: they last for 2 s, in which a busy machine may not get to it."""
    def once():
        r = use(who.rest("GET", path + "/url").json["url"])
        return None if r.status == 403 and b"BAD_SIGNATURE" not in r.body else r
    return until(once, what="an address that is good")


def copies(s, data):
    """The objects that have this content: one, once those that were on their way are gone."""
    return [o for o in objects(s) if hashlib.sha256(data).hexdigest() in o]


def content(path):
    """None: it has gone meanwhile."""
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def temps(s):
    return os.listdir(os.path.join(s.dir, "files", "tmp"))


def raw(s, data, wait=True, half=True):
    """What the server says to these bytes."""
    sock = socket.create_connection(s.address("http"), client.WAIT)
    sock.sendall(data)
    if not wait:
        return sock
    got = b""
    while True:
        try:
            piece = sock.recv(65536)
        except socket.timeout:
            break
        if not piece:
            break
        got += piece
    sock.close()
    return got


def head(who, length=None, boundary="xyz", extra=""):
    return ("POST /api/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"
            "Content-Type: multipart/form-data; boundary=%s\r\n%s%s\r\n" %
            (who.token, boundary, "Content-Length: %d\r\n" % length if length is not None else "Transfer-Encoding: chunked\r\n",
             extra)).encode()


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer else None


def code(answer):
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])["code"]


# ---- up and down -------------------------------------------------------------------------


@test
def a_file_goes_up_and_comes_down(s):
    (alice,) = known(s, "alice")
    data = png(1, 3 * MIB + 17)
    r = post(s, alice, form(data))
    same(r.status, 201)
    f = r.json
    same((f["name"], f["size"], f["contentType"]), ("cat.png", len(data), "image/png"))
    same(f["url"], "/api/files/" + f["id"])
    same((r.headers["location"], r.headers["cache-control"]), (f["url"], "no-store"))
    assert re.fullmatch(r"[0-9a-f]{32}", f["id"]), f
    g = get(alice, f["url"])
    same((g.status, g.body == data), (200, True))
    same(g.headers["content-type"], "image/png")
    same(g.headers["content-length"], str(len(data)))
    same(g.headers["content-disposition"], "attachment; filename=\"cat.png\"; filename*=UTF-8''cat.png")
    same(g.headers["x-content-type-options"], "nosniff")
    same(g.headers["content-security-policy"], "sandbox; default-src 'none'")
    same(g.headers["cache-control"], "private, no-cache")
    assert get(alice, f["url"] + "?inline=1").headers["content-disposition"].startswith("inline;")
    h = alice.rest("HEAD", f["url"])
    same((h.status, h.body, h.headers["content-length"]), (200, b"", str(len(data))))
    same(os.stat(os.path.join(s.dir, "files")).st_mode & 0o777, 0o700)
    same({os.stat(o).st_mode & 0o777 for o in objects(s)}, {0o600})


@test
def bodies_may_come_in_any_pieces(s):
    (alice,) = known(s, "alice")
    data = png(2, 4096) + b"\r\n--xy\r\n--xyZ\r\r\n--" + b"\r\n--xy" * 50
    body = form(data)
    for size in (1, 2, 7, 61, 1024):
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + size]), body[i:i + size]) for i in range(0, len(body), size))
        answer = raw(s, head(alice) + chunks + b"0\r\n\r\n")
        same(status(answer), 201, answer)
        f = json.loads(answer.split(b"\r\n\r\n", 1)[1])
        same(get(alice, f["url"]).body == data, True, size)


@test
def equal_files_are_one_object(s):
    alice, bob = known(s, "alice", "bob")
    data = png(3, 100000)
    one, two = upload(alice, data), upload(bob, data, name='filename="dog.png"')
    assert one["id"] != two["id"]
    until(lambda: len(copies(s, data)) == 1, what="one object of two files")
    same(get(bob, two["url"]).headers["etag"], get(alice, one["url"]).headers["etag"])
    same(get(bob, one["url"]).status, 404, "another's file")
    same(alice.rest("DELETE", one["url"]).status, 204)
    same(get(bob, two["url"]).body == data, True)
    same(get(alice, one["url"]).status, 404)
    same(alice.rest("DELETE", two["url"]).status, 404, "another's file")
    name = copies(s, data)
    same(len(name), 1)
    with open(name[0], "rb") as f:
        same(hashlib.sha256(f.read()).hexdigest(), os.path.basename(name[0]).split(".")[0])


@test
def ranges_and_etags(s):
    (alice,) = known(s, "alice")
    data = png(4, 700001)
    url = upload(alice, data)["url"]
    etag = get(alice, url).headers["etag"]
    for spec, want in (("0-0", data[:1]), ("5-9", data[5:10]), ("700000-", data[-1:]), ("-10", data[-10:]),
                       ("699990-800000", data[-11:]), ("-9000000", data)):
        r = get(alice, url, Range="bytes=" + spec)
        same((r.status, r.body == want), (206, True), spec)
        first = len(data) - len(want) if spec[0] == "-" or spec[0] in "67" else int(spec.split("-")[0])
        same(r.headers["content-range"], "bytes %d-%d/%d" % (first, first + len(want) - 1, len(data)), spec)
    for spec in ("bytes=700001-", "bytes=9-5", "bytes=-0", "bytes=99999999999999999999-", "bytes=-", "bytes=a-b"):
        r = get(alice, url, Range=spec)
        same((r.status, r.headers["content-range"]), (416, "bytes */%d" % len(data)), spec)
    many = "bytes=" + ",".join("%d-%d" % (i, i) for i in range(1000))
    for spec in ("bytes=0-1,3-4", many, "lines=1-2", "nonsense"):
        r = get(alice, url, Range=spec)
        same((r.status, len(r.body)), (200, len(data)), spec[:30])
    for value in (etag, "W/" + etag, '"x", ' + etag, "*"):
        r = get(alice, url, **{"If-None-Match": value})
        same((r.status, r.body, r.headers["etag"]), (304, b"", etag), value)
    same(get(alice, url, **{"If-None-Match": '"x"'}).status, 200)
    same(get(alice, url, **{"If-Range": etag, "Range": "bytes=0-3"}).status, 206)
    same(get(alice, url, **{"If-Range": '"x"', "Range": "bytes=0-3"}).status, 200)


@test
def names_are_only_names(s):
    (alice,) = known(s, "alice")
    kept = objects(s)
    for sent, shown in (('filename="../../etc/passwd"', "passwd"), ('filename="C:\\x\\evil.exe"', "evil.exe"),
                        ('filename=".."', "file"), ('filename="/"', "file"), ('filename="%2e%2e%2fx"', "x"),
                        ('filename="a\\"b.txt"', 'a"b.txt'), ('filename="a%22b.txt"', 'a"b.txt'),
                        ('filename="a;b.txt"', "a;b.txt"), ('filename="고양이.png"', "고양이.png"),
                        ("filename=\"\u202egnp.exe\"", "gnp.exe"), ('filename=".htaccess"', ".htaccess"),
                        ('filename=""', "file"), ("filename=plain.txt", "plain.txt"),
                        ("filename*=UTF-8''%ea%b3%a0.txt", "고.txt"), ('filename="a%0d%0aSet-Cookie: x.txt"', "aSet-Cookie: x.txt"),
                        ('filename="%s.txt"' % ("é" * 200), "é" * 127)):
        f = upload(alice, png(5), name=sent)
        same(f["name"], shown, sent)
        g = get(alice, f["url"])
        line = g.headers["content-disposition"]
        assert re.fullmatch(r"attachment; filename=\"[ !#-:<-\[\]-~]*\"; filename\*=UTF-8''[A-Za-z0-9!#$&+.^_`|~%-]+", line), line
        assert "set-cookie" not in g.headers
    for sent in (b'filename="a\0b"', b'filename="\xff\xfe"', b"filename*=UTF-8''%zz", b"filename*=latin1''x"):
        r = post(s, alice, form(png(5), name=sent))
        same((r.status, r.json["code"]), (400, "BAD_MULTIPART"), sent)
    same([o for o in objects(s) if o not in kept and content(o) not in (png(5), None)], [])
    for name, safe in (("con.txt", "_con.txt"), (".bashrc", "_bashrc"), ("-rf", "_rf"), ("a?b*c", "a_b_c")):
        line = get(alice, upload(alice, png(5), name='filename="%s"' % name)["url"]).headers["content-disposition"]
        assert line.startswith('attachment; filename="%s"' % safe), line


@test
def the_content_says_what_it_is(s):
    (alice,) = known(s, "alice")
    before = set(objects(s))
    bad = {"html": b"<!doctype html><html><script>alert(1)</script></html>",
           "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
           "xml": b'<?xml version="1.0"?><x/>', "exe": b"MZ" + b"\0" * 58 + struct.pack("<I", 64) + b"PE\0\0" + b"\0" * 200,
           "elf": open("/bin/true", "rb").read(), "nothing": b"",
           "script": b"#!/bin/sh\nrm -rf /\n"}
    for what, data in bad.items():
        r = post(s, alice, form(data, declared="image/png"))
        same((r.status, r.json["code"]), (415, "TYPE_NOT_ALLOWED"), what)
    for data, declared, found in ((png(6), "text/html", "image/png"), (b"GIF89a\1\0\1\0\0\0\0<script>", "image/gif", "image/gif"),
                                  (b"hello\n", "application/x-sh", "text/plain"),
                                  (random.Random(1).randbytes(5000), "image/png", "application/octet-stream"), (b"%PDF-1.5\nalert(1)", "image/png", "application/pdf")):
        f = upload(alice, data, declared=declared)
        same(f["contentType"], found)
        g = get(alice, f["url"] + "?inline=1")
        same(g.headers["content-disposition"].startswith("inline") and found[:5] != "image", False, found)
    until(lambda: not temps(s), what="what was refused is gone")
    same(len(set(objects(s)) - before) <= 5, True)


# ---- who may -----------------------------------------------------------------------------


@test
def only_those_who_may_read_the_message(s):
    alice, bob, carol = known(s, "alice", "bob", "carol")
    f, data = upload(alice, png(7, 5000)), png(7, 5000)
    same([get(p, f["url"]).status for p in (alice, bob, carol)], [200, 404, 404])
    same(client.rest(s, None, "GET", f["url"]).status, 401)
    a, b = alice.device(), bob.device()
    assert "message-id" in attach(a, {"to": "bob"}, f["url"])
    m = b.messages(content="see")
    same([a["url"] for a in m.json["attachments"]], [f["url"]])
    assert "chatd-file" not in " ".join(m.headers), m.headers
    same([get(p, f["url"]).status for p in (alice, bob, carol)], [200, 200, 404])
    same(get(bob, f["url"]).body == data, True)
    # A room: as long as one is in it.
    room = alice.rest("POST", "/api/chat/rooms", {"name": "Files", "public": False}).json["id"]
    same(alice.rest("POST", "/api/chat/rooms/%s/members" % room, {"userId": "carol"}).status // 100, 2)
    carol.rest("POST", "/api/chat/rooms/%s/join" % room)
    g = upload(alice, png(8, 5000))
    assert "message-id" in attach(a, {"roomId": room}, g["url"])
    same([get(p, g["url"]).status for p in (carol, bob)], [200, 404])
    same(alice.rest("DELETE", "/api/chat/rooms/%s/members/carol" % room).status // 100, 2)
    same(get(carol, g["url"]).status, 404, "after she was put out")
    # Deleting the message takes the file from the others.
    h = upload(alice, png(9, 5000))
    sent = a.send("/app/chat.send", {"to": "bob", "attachmentUrl": h["url"] + "?inline=1"})
    same(get(bob, h["url"]).status, 200)
    assert "code" not in a.send("/app/chat.delete", {"messageId": sent["message-id"]})
    same(get(bob, h["url"]).status, 404)
    a.close()
    b.close()


@test
def nobody_sends_what_he_may_not_read(s):
    alice, bob = known(s, "alice", "bob")
    f, mine = upload(alice, png(10, 5000)), upload(bob, png(11, 5000))
    b = bob.device()
    for urls in ([f["url"]], [mine["url"], f["url"]], ["/api/files/%032x" % 0], ["/api/files/../x"], ["/api/files/"]):
        r = attach(b, {"to": "alice"}, *urls)
        same(r.get("code"), "NOT_FOUND", urls)
        assert "upload it" in r["message"], r
    r = b.send("/app/chat.sendMessage", {"to": "alice", "content": "see", "attachmentUrl": f["url"]})
    same(r.get("code"), "NOT_FOUND", "by the other name of chat.send")
    r = b.send("/app/chat.send", {"to": "bob", "content": "x"}, headers={"chatd-files": f["id"]})
    assert "message-id" in r, r
    same(get(bob, f["url"]).status, 404, "a forged header")
    assert "message-id" in attach(b, {"to": "alice"}, mine["url"], "https://elsewhere/x.png")
    for p in (bob, alice):
        same(get(p, mine["url"]).status, 200)
    # A repeat is the first message, even if the file has gone since.
    r = attach(b, {"to": "alice"}, mine["url"], clientId="again")
    same(bob.rest("DELETE", mine["url"]).status, 204)
    same(attach(b, {"to": "alice"}, mine["url"], clientId="again")["message-id"], r["message-id"])
    same(attach(b, {"to": "alice"}, mine["url"])["code"], "NOT_FOUND")
    b.close()


@test
def attachments_say_what_the_server_knows(s):
    """The sender's word counts for nothing: what is left out is filled in, what differs is refused."""
    alice, bob = known(s, "alice", "bob")
    f, t = upload(alice, thumbs_png(), name='filename="at sea.png"'), upload(alice, b"a text\n", name='filename="a.txt"')
    facts = {k: f[k] for k in ("name", "size", "contentType", "width", "height")}
    same((facts["name"], facts["width"], facts["height"]), ("at sea.png", 40, 30))
    a, b = alice.device(), bob.device()

    def say(*attachments, **more):
        return a.send("/app/chat.send", {"to": "bob", "content": "see", "attachments": list(attachments), **more})

    def heard(r):
        return b.messages(id=r["message-id"]).json["attachments"]
    same(heard(say({"url": f["url"]})), [{"url": f["url"], **facts}])
    elsewhere = {"url": "https://elsewhere/x.png", "name": "y", "size": -1, "width": "z"}
    got = heard(say(elsewhere, {"url": f["url"] + "?inline=1", "alt": "the sea", "size": None, "width": 40}, {"name": "no url"},
                    {"url": t["url"], "name": "a.txt"}))
    same(got, [elsewhere, {"url": f["url"] + "?inline=1", "alt": "the sea", **facts}, {"name": "no url"},
               {"url": t["url"], "name": "a.txt", "size": 7, "contentType": "text/plain"}])
    same(heard(say({k: v for k, v in f.items()}))[0], f, "the whole of the upload's answer")
    for where, wrong, what in (
            (f, {"name": "invoice.pdf"}, 'attachments[0]: name is "invoice.pdf", but of the file is known: "at sea.png"'),
            (f, {"size": 5}, "attachments[0]: size is 5, but of the file is known: %d" % f["size"]),
            (f, {"size": str(f["size"])}, 'attachments[0]: size is "'),
            (f, {"contentType": "text/html"}, 'contentType is "text/html", but of the file is known: "image/png"'),
            (f, {"width": 4000}, "width is 4000, but of the file is known: 40"), (f, {"height": 1}, "height is 1"),
            (f, {"thumbnail": "https://elsewhere/pixel.png"}, "thumbnail is"),
            (t, {"width": 5}, "width is 5, but nothing is known of that"),
            (f, {"name": "\u00fc" * 5000}, "name is")):
        r = say({"url": where["url"], **wrong}, clientId="c-1")
        same((r.get("code"), r.get("clientId")), ("VALIDATION", "c-1"), wrong)
        assert what in r["message"] and len(r["message"]) < 400, r["message"]
    same(say({"url": t["url"]}, {"url": f["url"], "size": 1})["message"][:14], "attachments[1]")
    # A header of his own says nothing either, and the order of what one says stays.
    r = a.send("/app/chat.send", {"to": "bob", "content": "x", "attachments": [{"url": "https://elsewhere/y"}]},
               headers={"chatd-file-facts": json.dumps({"0": {"size": 1}})})
    same(heard(r), [{"url": "https://elsewhere/y"}])
    for i in range(10):
        a.write("SEND", {"destination": "/app/chat.send"}, json.dumps(
            {"to": "bob", "content": "%d" % i, **({"attachments": [{"url": f["url"]}]} if i % 2 == 0 else {})}).encode())
    same([b.messages().json["content"] for i in range(10)], ["%d" % i for i in range(10)])
    # A message that is sent again is the same one, however much of that it says.
    r = say({"url": t["url"]}, clientId="twice")
    same(say({"url": t["url"]}, clientId="twice")["message-id"], r["message-id"])
    same(heard(r), [{"url": t["url"], "name": "a.txt", "size": 7, "contentType": "text/plain"}])
    kept = alice.rest("GET", "/api/chat/messages/" + r["message-id"]).body
    assert b'"name":"a.txt","size":7' in kept, kept
    a.close()
    b.close()


@test
def guests_read_and_do_not_upload(s):
    (alice,) = known(s, "alice")
    guest = Person(s)
    r = post(s, guest, form(png(12)))
    same(r.status, 403)
    same(post(s, None, form(png(12))).status, 401)
    f = upload(alice, png(12, 3000))
    a, g = alice.device(), guest.device()
    attach(a, {"to": guest.id}, f["url"])
    assert g.messages(content="see")
    same(get(guest, f["url"]).status, 200)
    a.close()
    g.close()


@test
def signed_addresses(s):
    alice, bob, carol = known(s, "alice", "bob", "carol")
    data = png(13, 5000)
    f, other = upload(alice, data), upload(alice, png(14, 5000))
    same(bob.rest("GET", f["url"] + "/url").status, 404)
    a = alice.device()
    attach(a, {"to": "bob"}, f["url"])
    r = bob.rest("GET", f["url"] + "/url")
    same((r.status, r.headers["cache-control"]), (200, "no-store"))
    url = r.json["url"]

    def fetch(u, method="GET"):
        return client.rest(s, None, method, u)
    r = while_it_lasts(bob, f["url"], fetch)
    same((r.status, r.body == data, r.headers["content-disposition"].split(";")[0]), (200, True, "attachment"))
    same(while_it_lasts(bob, f["url"], lambda u: fetch(u, "HEAD")).status, 200)
    path, query = url.split("?")
    bits = dict(p.split("=") for p in query.split("&"))
    flipped = bits["s"][:-1] + ("0" if bits["s"][-1] != "0" else "1")
    bad = [url + "&inline=1", url + "&", path + "?x=1&" + query, other["url"] + "?" + query, url.replace("u=bob", "u=alice"),
           url.replace("e=" + bits["e"], "e=%d" % (int(bits["e"]) + 1)), url.replace(bits["s"], flipped), url[:-1],
           url.replace(bits["s"], bits["s"].upper()), path + "?s=" + bits["s"], path + "?u=bob&e=99999999999999999999&s=" + bits["s"]]
    for u in bad:
        same((fetch(u).status, fetch(u).json["code"]), (403, "BAD_SIGNATURE"), u)
    same(fetch(url, "DELETE").status, 401, "a method that was not signed")
    # Rights are asked for when it is used.

    def asked():
        mine = carol.rest("GET", upload(carol, png(15, 3000))["url"] + "/url").json["url"]
        before = fetch(mine).status
        same(carol.rest("DELETE", mine.split("?")[0]).status, 204)
        found = (before, fetch(mine).status)
        return None if 403 in found else found  # it was over by then
    same(until(asked, what="an address that is good"), (200, 404))
    until(lambda: fetch(url).status == 403, what="the end of the signature")
    same(fetch(url).json["code"], "SIGNATURE_EXPIRED")
    a.close()


# ---- what is too much --------------------------------------------------------------------


@test
def sizes_are_bounded_early(s):
    (alice,) = known(s, "alice")
    before = set(objects(s))
    answer = raw(s, head(alice, MAX + 70000))
    same(status(answer), 413, "declared, and nothing of it sent")
    body = form(png(16, MAX + 1))
    r = post(s, alice, body)
    same((r.status, r.json["code"]), (413, "TOO_LARGE"))
    same(upload(alice, png(17, MAX))["size"], MAX)
    sock = raw(s, head(alice), wait=False)  # chunks without end
    first = form(png(18, 100))[:-20]
    sock.sendall(b"%x\r\n%s\r\n" % (len(first), first))
    sent = 0
    try:
        while sent < 4 * MAX:
            sock.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536
    except OSError:
        pass
    assert sent < 4 * MAX, "all of it was taken"
    sock.close()
    until(lambda: not temps(s), what="no partial file is left")
    same(len(set(objects(s)) - before), 1, "of all that, the one that is not too large")


@test
def a_short_body_leaves_nothing(s):
    (alice,) = known(s, "alice")
    before = set(objects(s))
    sock = raw(s, head(alice, 4 * MIB) + form(png(19, 2 * MIB))[:MIB + MIB // 2], wait=False)
    until(lambda: temps(s), what="the upload has begun")
    sock.close()
    until(lambda: not temps(s), what="no partial file is left")
    same(set(objects(s)) - before, set())


@test
def hostile_multipart(s):
    (alice,) = known(s, "alice")
    before, data = set(objects(s)), png(20, 3000)
    part = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    bad = {
        "nothing": b"", "no boundary at all": data, "no end": part + data, "half an end": part + data + b"\r\n--xyz-",
        "line feeds": form(data).replace(b"\r\n", b"\n"), "a preamble": b"hello\r\n" + form(data),
        "junk behind a boundary": form(data).replace(b"--xyz--", b"--xyzzy--", 1).replace(b"--xyz\r\n", b"--xyz \r\n"),
        "a head of 16 KiB": part[:-2] + b"X: " + b"y" * 16384 + b"\r\n\r\n" + data + b"\r\n--xyz--\r\n",
        "a head without end": b"--xyz\r\n" + b"X: y\r\n" * 3000,
        "1,000 parts": b"".join(b'--xyz\r\nContent-Disposition: form-data; name="f%d"\r\n\r\nv\r\n' % i for i in range(1000)) + b"--xyz--\r\n",
        "two file names": form(data, name='filename="a.png"; filename="b.png"'),
        "two dispositions": part[:-2] + part[7:] + data + b"\r\n--xyz--\r\n",
        "two files": part + data + b"\r\n" + part + data + b"\r\n--xyz--\r\n",
        "no name": form(data).replace(b'name="file"; ', b""), "no file": form(data).replace(b'; filename="cat.png"', b""),
        "no disposition": b"--xyz\r\nContent-Type: image/png\r\n\r\n" + data + b"\r\n--xyz--\r\n",
        "no head": b"--xyz\r\n\r\n" + data + b"\r\n--xyz--\r\n",
        "multipart inside": part[:-2] + b"Content-Type: multipart/mixed; boundary=q\r\n\r\n" + data + b"\r\n--xyz--\r\n",
        "base64": part[:-2] + b"Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--xyz--\r\n",
        "folded": part[:-2] + b"X: a\r\n b\r\n\r\n" + data + b"\r\n--xyz--\r\n",
        "NUL in the head": part[:-2] + b"X: \0\r\n\r\n" + data + b"\r\n--xyz--\r\n",
        "an open quote": form(data, name='filename="a.png'), "not form-data": form(data).replace(b"form-data", b"attachment"),
    }
    for what, body in bad.items():
        r = post(s, alice, body)
        same((r.status, r.json["code"]), (400, "BAD_MULTIPART"), what)
        assert r.json["message"].startswith(("The body is no proper multipart/form-data: ", "A request brings", "There is no file")), r.json
    for value in ("", "a" * 71, "a b ", 'a"b', "ünï"):
        r = raw(s, head(alice, 0).replace(b"boundary=xyz", b"boundary=" + value.encode()))
        same((status(r), code(r)), (400, "BAD_MULTIPART"), value)
    for kind, want in (("multipart/form-data", 400), ("multipart/form-data; boundary=a; boundary=b", 400), ("application/json", 415),
                       ("multipart/mixed; boundary=xyz", 415), ("", 415)):
        r = client.rest(s, alice, "POST", "/api/files", raw=form(data), headers={"Content-Type": kind})
        same(r.status, want, kind)
    r = client.rest(s, alice, "POST", "/api/files", raw=form(data, boundary="it's (ok)?"),
                    headers={"Content-Type": 'Multipart/Form-Data; charset=utf-8; BOUNDARY="it\'s (ok)?"'})
    same(r.status, 201)
    r = post(s, alice, b'--xyz\r\nContent-Disposition: form-data; name="note"\r\n\r\nhi\r\n' + form(data) + b"an epilogue")
    same((r.status, get(alice, r.json["url"]).body == data), (201, True))
    until(lambda: not temps(s), what="no partial file is left")
    until(lambda: len(set(objects(s)) - before) == 1, what="equal files are one object")


@test
def slots_and_quotas(s):
    (dave,) = known(s, "dave")
    socks = [raw(s, head(dave, MIB) + form(png(21, MIB))[:700000], wait=False) for _ in range(2)]
    until(lambda: len(temps(s)) == 2, what="two uploads under way")
    r = post(s, dave, form(png(22)))
    same((r.status, r.json["code"], r.headers["retry-after"]), (429, "TOO_MANY_UPLOADS", "2"))
    for sock in socks:
        sock.close()
    until(lambda: post(s, dave, form(png(22))).status == 201, what="a free place")


@test
def a_slow_upload_holds_nobody_up(s):
    alice, erin = known(s, "alice", "erin")
    sock = raw(s, head(erin, 3 * MIB), wait=False)
    body, stop = form(png(23, 3 * MIB - 400)), threading.Event()

    def drip():
        for i in range(0, 4000, 40):
            if stop.is_set():
                break
            sock.sendall(body[i:i + 40])
            time.sleep(0.01)
    t = threading.Thread(target=drip)
    t.start()
    try:
        for i in range(5):
            f = upload(alice, png(24 + i, 2 * MIB))
            same(len(get(alice, f["url"]).body), 2 * MIB)
    finally:
        stop.set()
        t.join()
        sock.close()


@test
def a_slow_disk_holds_the_sender(s):
    """Whoever sends faster than the disk writes, waits: nothing piles up in memory."""
    (frank,) = known(s, "frank")
    if not shutil.which("strace"):
        return
    tracer = subprocess.Popen(["strace", "-f", "-q", "-o", "/dev/null", "-e", "trace=pwrite64", "-e",
                               "inject=pwrite64:delay_enter=60000", "-p", str(s.proc.pid)], stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: tracer.poll() is not None or "TracerPid:\t%d" % tracer.pid in
              open("/proc/%d/status" % s.proc.pid).read(), what="strace is there")
        if tracer.poll() is not None:
            print("# strace may not attach here: %s" % tracer.stderr.read()[:100])
            return

        def peak():
            with open("/proc/%d/status" % s.proc.pid) as f:
                return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1)) * 1024
        with open("/proc/%d/clear_refs" % s.proc.pid, "w") as f:
            f.write("5")
        before, data = peak(), png(31, MAX)
        f = upload(frank, data)
        grown = peak() - before
    finally:
        tracer.send_signal(2)
        tracer.wait(client.WAIT)
    assert grown < 3 * MIB, "%d bytes for an upload of %d" % (grown, MAX)
    same(get(frank, f["url"]).body == data, True)


@test
def a_slow_download_costs_little(s):
    (alice,) = known(s, "alice")
    f = upload(alice, png(30, MAX))

    def rss():
        with open("/proc/%d/status" % s.proc.pid) as status_file:
            return int(re.search(r"VmRSS:\s+(\d+)", status_file.read()).group(1)) * 1024
    before, socks = rss(), []
    for _ in range(16):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(s.address("http"))
        sock.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % (f["url"].encode(), alice.token.encode()))
        socks.append(sock)
    for sock in socks:
        same(sock.recv(12), b"HTTP/1.1 200")
    time.sleep(0.3)
    grown = rss() - before
    assert grown < 16 * 2 * MIB, "%d bytes for 16 readers who do not read" % grown
    got, want = 0, len(get(alice, f["url"]).body)
    socks[0].settimeout(client.WAIT)
    while got < want:
        piece = socks[0].recv(1 << 16)
        assert piece
        got += len(piece)
    for sock in socks:
        sock.close()


# ---- piece by piece ------------------------------------------------------------------------


def tus(who, method, path, raw=None, **headers):
    send = {"Tus-Resumable": "1.0.0", **{k.replace("_", "-"): str(v) for k, v in headers.items()}}
    if method == "PATCH":
        send.setdefault("Content-Type", "application/offset+octet-stream")
    return client.rest(who.server, who, method, path, raw=raw, headers=send)


def begin(who, length, name="cat.png"):
    r = tus(who, "POST", "/api/files/tus", b"", Upload_Length=length,
            Upload_Metadata="filetype aW1hZ2UvcG5n,filename " + base64.b64encode(name.encode()).decode())
    assert r.status == 201, (r.status, r.body)
    assert re.fullmatch(r"/api/files/tus/[0-9a-f]{40}", r.headers["location"]), r.headers
    assert r.headers["upload-expires"].endswith(" GMT") and r.headers["tus-resumable"] == "1.0.0"
    return r.headers["location"]


def is_free(who, path, at):
    """Whoever wrote to it does so no more, and that much has come: then no bytes may be added."""
    return tus(who, "PATCH", path, b"", Upload_Offset=at).status == 204


def offset(who, path):
    r = tus(who, "HEAD", path)
    return int(r.headers["upload-offset"]) if r.status == 200 else r.status


@test
def an_upload_in_pieces(s):
    alice, bob = known(s, "alice", "bob")
    data = png(50, MIB + 5)
    url = begin(alice, len(data), "고양이.png")
    same((offset(alice, url), offset(bob, url)), (0, 404))
    at = 0
    for size in (1, 8191, 300000, 0, len(data)):
        r = tus(alice, "PATCH", url, data[at:at + size], Upload_Offset=at)
        at = min(len(data), at + size)
        same((r.status, r.headers["upload-offset"]), (204, str(at)), r.body)
        same(offset(alice, url), at)
    f = url.replace("/tus/", "/")
    g = get(alice, f)
    same((g.status, g.body == data, g.headers["content-type"]), (200, True, "image/png"))
    assert g.headers["content-disposition"].endswith("%EA%B3%A0%EC%96%91%EC%9D%B4.png")
    same(get(bob, f).status, 404)
    same(tus(alice, "PATCH", url, b"x", Upload_Offset=at).status, 404)
    until(lambda: not os.listdir(os.path.join(s.dir, "files", "tus")), what="what is whole lies elsewhere")
    same(tus(bob, "HEAD", url).status, 404)


@test
def the_next_piece_may_come_with_the_answer(s):
    """Nobody who has it finds the upload held by the one before."""
    (alice,) = known(s, "alice")
    n = 300
    url = begin(alice, n + 1)
    c = client.http.client.HTTPConnection(*s.address("http"), timeout=client.WAIT)
    for at in range(n):
        c.request("PATCH", url, b"x", {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream",
                                       "Upload-Offset": str(at), "Authorization": "Bearer " + alice.token})
        r = c.getresponse()
        r.read()
        same((r.status, r.headers["upload-offset"]), (204, str(at + 1)), at)
    c.close()
    same(tus(alice, "DELETE", url).status, 204)


@test
def pieces_that_do_not_fit(s):
    alice, bob, guest = *known(s, "alice", "bob"), Person(s)
    data = png(51, 20000)
    url = begin(alice, len(data))
    same(tus(alice, "PATCH", url, data[:9000], Upload_Offset=0).status, 204)
    r = tus(alice, "PATCH", url, data[:10], Upload_Offset=0)
    same((r.status, r.json["code"], r.headers["upload-offset"]), (409, "WRONG_OFFSET", "9000"))
    for want, kw in ((400, {"Upload_Offset": "x"}), (400, {}), (400, {"Upload_Offset": "-1"}),
                     (415, {"Upload_Offset": 9000, "Content_Type": "text/plain"}),
                     (412, {"Upload_Offset": 9000, "Tus_Resumable": "0.2.2"}),
                     (400, {"Upload_Offset": 9000, "Upload_Checksum": "crc32 AAAA"}),
                     (400, {"Upload_Offset": 9000, "Upload_Checksum": "sha1 !!!"})):
        same(tus(alice, "PATCH", url, data[9000:9010], **kw).status, want, kw)
    same(tus(bob, "PATCH", url, data[9000:], Upload_Offset=9000).status, 404)
    same(tus(bob, "DELETE", url).status, 404)
    same(tus(alice, "PATCH", url, data[9000:] + b"x", Upload_Offset=9000).status, 413)
    until(lambda: is_free(alice, url, 9000), what="nothing of it was kept")
    bad = base64.b64encode(hashlib.sha1(b"other").digest()).decode()
    r = tus(alice, "PATCH", url, data[9000:15000], Upload_Offset=9000, Upload_Checksum="sha1 " + bad)
    same((r.status, r.json["code"]), (460, "CHECKSUM_MISMATCH"))
    same(offset(alice, url), 9000)
    for kind, first, last in (("sha1", 9000, 15000), ("sha256", 15000, 20000)):
        good = base64.b64encode(hashlib.new(kind, data[first:last]).digest()).decode()
        same(tus(alice, "PATCH", url, data[first:last], Upload_Offset=first, Upload_Checksum=kind + " " + good).status, 204)
    same(get(alice, url.replace("/tus/", "/")).body == data, True)
    for kw in ({"Upload_Length": 0}, {"Upload_Length": "x"}, {"Upload_Defer_Length": 1},
               {"Upload_Length": 5, "Upload_Metadata": "filename ####"}, {"Upload_Length": 5, "Upload_Metadata": "filename " + "A" * 4000}):
        same(tus(alice, "POST", "/api/files/tus", b"", **kw).status, 400, kw)
    same(tus(alice, "POST", "/api/files/tus", b"", Upload_Length=MAX + 1).status, 413)
    same(tus(guest, "POST", "/api/files/tus", b"", Upload_Length=10).status, 403)
    r = client.rest(s, None, "OPTIONS", "/api/files/tus")
    same((r.status, r.headers["tus-version"], r.headers["tus-extension"], r.headers["tus-max-size"]),
         (204, "1.0.0", "creation,expiration,checksum,termination", str(MAX)))
    page = begin(alice, 40)
    r = tus(alice, "PATCH", page, b"<!doctype html><html><body>x</body></html>"[:40], Upload_Offset=0)
    same((r.status, r.json["code"]), (415, "TYPE_NOT_ALLOWED"))
    until(lambda: offset(alice, page) == 404, what="what is not allowed is gone")
    gone = begin(alice, 40)
    same(tus(alice, "DELETE", gone).status, 204)
    same((offset(alice, gone), tus(alice, "DELETE", gone).status), (404, 404))
    many = [begin(bob, 40) for _ in range(16)]
    r = tus(bob, "POST", "/api/files/tus", b"", Upload_Length=10)
    same((r.status, r.json["code"]), (429, "TOO_MANY_UPLOADS"))
    for u in many:
        tus(bob, "DELETE", u)


@test
def pieces_that_are_broken_off(s):
    (alice,) = known(s, "alice")
    data = png(52, 2 * MIB)
    url = begin(alice, len(data))

    def patch(at, upto, extra=""):
        sock = socket.create_connection(s.address("http"), client.WAIT)
        sock.sendall(("PATCH %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\n"
                      "Content-Type: application/offset+octet-stream\r\nUpload-Offset: %d\r\nContent-Length: %d\r\n%s\r\n"
                      % (url, alice.token, at, len(data) - at, extra)).encode() + data[at:upto])
        return sock
    sock = patch(0, 900000)

    def rests():
        at = offset(alice, url)
        time.sleep(0.2)
        return 0 < at == offset(alice, url)
    until(rests, what="some of it is there, and no more comes")
    r = tus(alice, "PATCH", url, b"x", Upload_Offset=offset(alice, url))
    same((r.status, r.json["code"]), (423, "LOCKED"), "a second writer")
    sock.close()
    until(lambda: is_free(alice, url, 900000), what="all that came is kept")
    sock = patch(900000, 900100)
    time.sleep(0.2)
    sock.close()
    until(lambda: is_free(alice, url, 900100), what="all that came is kept, also a little")
    sock = patch(900100, 1500000, "Upload-Checksum: sha1 %s\r\n" % base64.b64encode(b"x" * 20).decode())
    until(lambda: offset(alice, url) > 900100, what="some of it is there")
    sock.close()
    until(lambda: offset(alice, url) == 900100, what="what was not checked is not kept")
    s.kill()
    if s.memory:
        s.begin()
        return
    s.begin()
    same(offset(alice, url), 900100, "after a crash")
    same(tus(alice, "PATCH", url, data[900100:], Upload_Offset=900100).status, 204)
    same(get(alice, url.replace("/tus/", "/")).body == data, True)
    other = begin(alice, 100)
    s.kill()
    for p in glob.glob(os.path.join(s.dir, "files", "tus", "*")):
        age([p], 25 * 3600)
    s.begin()
    until(lambda: not os.listdir(os.path.join(s.dir, "files", "tus")), what="what has expired is gone")
    same(offset(alice, other), 404)


# ---- what is swept, and what a crash leaves ------------------------------------------------


def age(paths, seconds):
    for p in paths:
        os.utime(p, (time.time() - seconds,) * 2)


@test
def a_kill_in_mid_upload_leaves_what_the_sweep_takes(s):
    if s.memory:
        return
    (alice,) = known(s, "alice")
    kept = upload(alice, png(40, 50000))
    have = [o for o in objects(s) if hashlib.sha256(png(40, 50000)).hexdigest() in o]
    same(len(have), 1)
    socks = [raw(s, head(alice, 4 * MIB) + form(png(41, 4 * MIB))[:2 * MIB], wait=False)]
    until(lambda: temps(s), what="the upload has begun")
    s.kill()
    for sock in socks:
        sock.close()
    left = [os.path.join(s.dir, "files", "tmp", t) for t in temps(s)]
    assert left
    orphan = os.path.join(s.dir, "files", "objects", "ab", "ab" + "0" * 62 + ".0123456789abcdef")
    os.makedirs(os.path.dirname(orphan), exist_ok=True)
    young = orphan[:-1] + "0"
    for p in (orphan, young):
        with open(p, "wb") as f:
            f.write(b"x")
    age(left, 400)
    age([orphan], 4000)
    age(have, 4000)
    s.begin()
    until(lambda: not temps(s), what="what the upload has left")
    until(lambda: not os.path.exists(orphan), what="what no store knows")
    assert os.path.exists(young), "an object on its way"
    for o in have:
        assert os.path.exists(o), "an object that is needed"
    same(get(alice, kept["url"]).status, 200)
    os.unlink(young)


@test
def rows_and_objects_are_the_same(s):
    """The audit of F69, at the end of everything above."""
    if s.memory or os.environ.get("CHATD_POSTGRES"):
        return
    import sqlite3
    s.kill()  # wherever it stands
    s.begin()
    db = sqlite3.connect("file:%s?mode=ro" % os.path.join(s.dir, "chatd.db"), uri=True)
    blobs = dict(db.execute("SELECT object, size FROM blob"))
    gone = {o for o, in db.execute("SELECT object FROM object_gone")}
    bad = db.execute("SELECT count(*) FROM file f LEFT JOIN blob b ON b.hash=f.hash WHERE b.hash IS NULL").fetchone()
    loose = db.execute("SELECT count(*) FROM blob b LEFT JOIN file f ON b.hash=f.hash WHERE f.id IS NULL").fetchone()
    db.close()
    disk = {os.path.join(*p.split(os.sep)[-2:]): os.path.getsize(p) for p in objects(s)}
    same((bad, loose), ((0,), (0,)))
    same({o: n for o, n in blobs.items() if disk.get(o) != n}, {}, "rows without their bytes")
    same(set(disk) - set(blobs) - gone, set(), "bytes without a row")
    assert len(blobs) > 10


SCANNER = '''#!/bin/sh
n=$(grep -c "" "%s/scans" 2>/dev/null || echo 0)
echo x >>"%s/scans"
file=$(cat | tr -d '\\000')
case $file in
*"very bad"*) exit 1 ;;
*"stuck"*) sleep 60 ;;
*"crash"*) [ -e "%s/mended" ] || kill -9 $$ ;;
esac
exit 0
'''


def a_scanner(workers, memory):
    """A server of its own."""
    folder = tempfile.mkdtemp(prefix="chatd-scan-")
    program = os.path.join(folder, "scanner")
    with open(program, "w") as f:
        f.write(SCANNER % ((folder,) * 3))
    os.chmod(program, 0o755)
    s = Server(workers, memory=memory, accounts=ACCOUNTS.replace("max_size: 8 MiB", "scanner: [%s], scan_timeout: 60s" % program))
    try:
        alice, bob = known(s, "alice", "bob")
        a = alice.device()

        def scans():
            with open(os.path.join(folder, "scans")) as f:
                return len(f.readlines())
        def running():
            return subprocess.run(["pgrep", "-f", program], capture_output=True, check=False).stdout.split()
        good = upload(alice, b"a good text\n", name='filename="g.txt"')
        same(good["quarantined"], True)
        attach(a, {"to": "bob"}, good["url"])
        until(lambda: get(bob, good["url"]).status == 200, what="the scanner says good")
        again, n = upload(bob, b"a good text\n"), scans()
        assert "quarantined" not in again, again
        bad = upload(alice, b"a very bad text\n")
        attach(a, {"to": "bob"}, bad["url"])
        until(lambda: get(alice, bad["url"]).status == 403, what="the scanner says bad")
        same((get(alice, bad["url"]).json["code"], get(bad and bob, bad["url"]).status), ("FILE_REFUSED", 404))
        same(attach(a, {"to": "bob"}, bad["url"])["code"], "NOT_FOUND")
        r = post(s, bob, form(b"a very bad text\n"))
        same((r.status, r.json["code"]), (422, "FILE_REFUSED"))
        same(scans(), n + 1)

        def ends(text):
            """It says nothing of that, and has ended, or was ended."""
            n, device = scans(), alice.device()
            f = upload(alice, text)
            attach(device, {"to": "bob"}, f["url"])
            device.close()
            until(lambda: scans() > n, what="the scanner was asked")
            until(lambda: not running(), what="the scanner has ended, or was ended")
            same((get(alice, f["url"]).status, get(bob, f["url"]).status), (200, 404), text)
            return f
        f = ends(b"it will crash\n")
        a.close()
        with open(os.path.join(folder, "mended"), "w"):
            pass
        if not memory:  # asked again after a start
            s.kill()
            s.begin()
            until(lambda: get(bob, f["url"]).status == 200, what="the scanner is asked again")
        s.settings = ("upload.scan_timeout=1s",)  # for this one alone: on a busy machine the others may take as long
        s.kill()
        s.begin()
        known(s, "alice", "bob")
        ends(b"it gets stuck\n")
    finally:
        code, log = s.stop()
        shutil.rmtree(folder, ignore_errors=True)
    assert code == 0 and " ERROR " not in log and "Sanitizer" not in log, log[-3000:]
    assert re.search("the scanner found [0-9a-f/.]+ to be harmful", log), log[-3000:]
    assert "the scanner says nothing of" in log


def main():
    workers = sys.argv[1] if len(sys.argv) > 1 else "1"
    memory = "store" if len(sys.argv) > 2 and sys.argv[2] == "memory" else False
    words = sys.argv[3:]
    chosen = [t for t in TESTS if not words or any(w in t.__name__ for w in words)]
    if not words or "scanner" in words:
        def a_scanner_decides(_):
            a_scanner(workers, memory)
        chosen.append(a_scanner_decides)
    server = Server(workers, memory=memory, accounts=ACCOUNTS)
    server.memory = memory
    return tap(chosen, server)


if __name__ == "__main__":
    sys.exit(main())
