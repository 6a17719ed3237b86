#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files at a server that speaks S3: npm's s3rver, behind a proxy that checks every signature by AWS's rules, which s3rver
does not, and that fails when told to.  Prints TAP.

Usage: s3_e2e.py [workers [test ...]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml, the plugin upload with
backend: s3, and store-sqlite.
"""
import glob
import hashlib
import hmac
import http.client
import http.server
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import upload_e2e as up  # noqa: E402
import sealed_e2e  # noqa: E402
import thumbs_e2e  # noqa: E402
from upload_e2e import attach, form, get, known, post, same, until, upload  # noqa: E402
from client import Server, put, tap  # noqa: E402

E2E = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e")
KEY, SECRET, REGION, BUCKET = "S3RVER", "S3RVER", "eu-test-1", "chat"
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


# ---- AWS Signature Version 4, as its documentation has it ------------------------------------


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature(method, path, query, headers, signed, payload, stamp):
    canonical = "\n".join([method, path, "&".join(sorted(q if "=" in q else q + "=" for q in query.split("&") if q)),
                           "".join("%s:%s\n" % (h, " ".join(headers.get(h, "").split())) for h in signed), ";".join(signed), payload])
    scope = "%s/%s/s3/aws4_request" % (stamp[:8], REGION)
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + SECRET).encode()
    for part in (stamp[:8], REGION, "s3", "aws4_request"):
        key = mac(key, part)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def why_not(method, target, headers, body):
    """None: its signature is good."""
    path, _, query = target.partition("?")
    given = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    if "X-Amz-Signature" in given:
        rest = "&".join(q for q in query.split("&") if not q.startswith("X-Amz-Signature="))
        stamp = given["X-Amz-Date"]
        if time.time() > time.mktime(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) - time.timezone + int(given["X-Amz-Expires"]):
            return "it is over"
        want = signature("GET" if method == "HEAD" else method, path, rest, headers, given["X-Amz-SignedHeaders"].split(";"),
                         "UNSIGNED-PAYLOAD", stamp)
        return None if want == given["X-Amz-Signature"] else "not signed so"
    said = headers.get("authorization", "")
    if not said.startswith("AWS4-HMAC-SHA256 "):
        return "not signed"
    parts = dict(p.strip().split("=", 1) for p in said.split(" ", 1)[1].split(","))
    payload = headers["x-amz-content-sha256"]
    if payload != hashlib.sha256(body).hexdigest():
        return "another body than was signed"
    signed = parts["SignedHeaders"].split(";")
    if "host" not in signed or "x-amz-date" not in signed:
        return "too little is signed"
    want = signature(method, path, query, headers, signed, payload, headers["x-amz-date"])
    return None if want == parts["Signature"] else "wrong: want %s" % want


class Proxy(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, to):
        super().__init__(("127.0.0.1", 0), Handler)
        self.to, self.fail, self.seen, self.refused = to, [], [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()


    def handle_error(self, *_):
        """A client that has gone: what it was to get is nobody's."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_one(self):
        proxy = self.server
        headers = {k.lower(): v for k, v in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        proxy.seen.append((self.command, self.path))
        fail = proxy.fail[0] if proxy.fail else None
        if fail and not fail.endswith("!"):  # one with "!" stays
            proxy.fail.pop(0)
        fail = fail and fail.rstrip("!")
        if fail == "gone":
            self.close_connection = True
            return
        if fail and fail.isdigit():
            self.answer(int(fail), [], b"<Error/>")
            return
        why = why_not(self.command, self.path, headers, body)
        if why:
            proxy.refused.append((self.command, self.path, why))
            self.answer(403, [], b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
            return
        conn = http.client.HTTPConnection("127.0.0.1", proxy.to, timeout=up.client.WAIT)
        conn.request(self.command, self.path, body or None, {k: v for k, v in headers.items() if k != "connection"})
        r = conn.getresponse()
        data = r.read()
        conn.close()
        self.answer(r.status, [(k, v) for k, v in r.getheaders() if k.lower() not in ("connection", "transfer-encoding", "content-length", "date")],
                    data, cut=fail == "cut")

    def answer(self, status, headers, body, cut=False):
        self.send_response(status)
        for k, v in headers:
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = handle_one


class Store:
    """s3rver with its folder, and the proxy."""

    def __init__(self):
        program = os.path.join(E2E, "node_modules", ".bin", "s3rver")
        subprocess.run([os.path.join(E2E, "run"), "--install"], check=True, stdout=sys.stderr)
        self.dir = tempfile.mkdtemp(prefix="chatd-s3-")
        self.log = open(os.path.join(self.dir, "log"), "w+b")
        self.proxy = None
        self.proc = subprocess.Popen([program, "-d", os.path.join(self.dir, "data"), "-a", "127.0.0.1", "-p", "0", "-s",
                                      "--no-vhost-buckets", "--configure-bucket", BUCKET], stdout=self.log, stderr=self.log)
        try:
            self.port = until(self.listens, 120, "s3rver starts")
            self.proxy = Proxy(self.port)
        except BaseException:
            self.close()
            raise

    def listens(self):
        """The port, which it has chosen itself: nobody else can have taken it."""
        with open(self.log.name, errors="replace") as f:
            said = re.search(r"listening on 127\.0\.0\.1:(\d+)\n", f.read())
        return int(said.group(1)) if said else None

    def options(self, **more):
        said = dict({"backend": "s3", "s3_endpoint": "http://127.0.0.1:%d" % self.proxy.server_address[1], "s3_bucket": BUCKET,
                     "s3_prefix": "some/where/", "s3_region": REGION, "s3_key": KEY, "s3_secret": SECRET}, **more)
        return up.ACCOUNTS.replace("max_size: 8 MiB", "max_size: 8 MiB, " + ", ".join("%s: %s" % i for i in said.items()))

    def names(self, part="objects/*"):
        """Files of s3rver by the objects' names."""
        root = os.path.join(self.dir, "data", BUCKET, "some", "where")
        return {os.path.basename(p).replace("._S3rver_object", ""): p
                for p in glob.glob(os.path.join(root, part, "*._S3rver_object"))}

    def close(self):
        if self.proxy:
            self.proxy.shutdown()
            self.proxy.server_close()
        self.proc.terminate()
        self.proc.wait(up.client.WAIT)
        shutil.rmtree(self.dir, ignore_errors=True)


S3 = None


def local(s):
    return [p for part in ("tmp", "objects/*") for p in glob.glob(os.path.join(s.dir, "files", part, "*"))]


def nothing_here(*servers):
    """What was made on the way is closed and removed after the answer."""
    until(lambda: not any(map(local, servers)), what="nothing lies here")


def age(name, touched=True):
    """A piece, or what is known of an upload, as of yesterday."""
    path = S3.names("tus")[name]
    if touched and ".info" in name:
        with open(path) as o:
            text = o.read()
        with open(path, "w") as o:
            o.write(text.replace('"touched":1', '"touched":'))
    os.utime(path, (time.time() - 90000,) * 2)


def big(seed, size):
    return up.png(seed, size)


# ---- as it should be -------------------------------------------------------------------------


@test
def files_lie_there_and_nowhere_else(s):
    alice, bob = known(s, "alice", "bob")
    data = big(1, 3 * up.MIB + 17)
    f = upload(alice, data)
    hash_ = hashlib.sha256(data).hexdigest()
    here = [n for n in S3.names() if n.startswith(hash_)]
    same(sorted("-" in n for n in here), [False, True, True], here)
    nothing_here(s)
    r = get(alice, f["url"])
    same((r.status, r.body == data, r.headers["content-length"]), (200, True, str(len(data))))
    for spec, want in (("0-1", data[:2]), ("5-9", data[5:10]), ("262143-262145", data[262143:262146]), ("-10", data[-10:])):
        r = get(alice, f["url"], Range="bytes=" + spec)
        same((r.status, r.body == want), (206, True), spec)
    same(get(alice, f["url"], Range="bytes=99999999-").status, 416)
    same(alice.rest("HEAD", f["url"]).headers["content-length"], str(len(data)))
    same(get(bob, f["url"]).status, 404)
    second = upload(bob, data)
    until(lambda: len([n for n in S3.names() if n.startswith(hash_)]) == 3, what="equal files are one object")
    same(get(bob, second["url"]).body == data, True)
    same(S3.proxy.refused, [])


@test
def small_pictures_lie_there_too(s):
    (alice,) = known(s, "alice")
    f = upload(alice, thumbs_e2e.png(800, 600, 9))
    same(thumbs_e2e.size_of(get(alice, f["thumbnail"]).body), (320, 240))
    for name, path in S3.names().items():
        if name.endswith(("-320", "-960")):
            os.unlink(path)
    same(thumbs_e2e.size_of(get(alice, f["thumbnail"]).body), (320, 240), "made again from what lies there")
    g = upload(alice, b"a text\n")
    same(get(alice, g["url"] + "/thumbnail").status, 404)
    nothing_here(s)


@test
def in_pieces(s):
    (alice,) = known(s, "alice")
    data = big(3, up.MIB + 5)
    url = up.begin(alice, len(data))
    same(up.tus(alice, "PATCH", url, data[:5000], Upload_Offset=0).status, 204)
    same(up.tus(alice, "PATCH", url, data[5000:], Upload_Offset=5000).status, 204)
    same(get(alice, url.replace("/tus/", "/")).body == data, True)
    same(S3.names("tus"), {}, "what is whole lies elsewhere")
    nothing_here(s)
    # What nobody goes on with is swept; what somebody does is not.
    old, young = up.begin(alice, len(data)), up.begin(alice, len(data))
    for url in (old, young):
        same(up.tus(alice, "PATCH", url, data[:5000], Upload_Offset=0).status, 204)
    for name in S3.names("tus"):
        age(name, touched=name.startswith(old.rpartition("/")[2]))
    s.kill()
    s.begin()
    until(lambda: up.offset(alice, old) == 404, 30, "it is over")
    until(lambda: len(S3.names("tus")) == 2, what="all of it")
    same(up.offset(alice, young), 5000)
    same(up.tus(alice, "DELETE", young).status, 204)
    same(S3.names("tus"), {})


# ---- as it should not ------------------------------------------------------------------------


@test
def what_passes_is_tried_again(s):
    (alice,) = known(s, "alice")
    data = big(4, up.MIB)
    for fail in (["503"], ["gone"], ["500", "gone"]):
        S3.proxy.fail = list(fail)
        f = upload(alice, data + fail[0].encode())
        same(S3.proxy.fail, [], fail)
        same(get(alice, f["url"]).status, 200, fail)
    for fail in (["cut"], ["500"], ["gone", "cut"]):
        S3.proxy.fail = list(fail)
        same(get(alice, f["url"]).body == data + b"500", True, fail)
        same(S3.proxy.fail, [], fail)


@test
def it_is_away(s):
    alice, bob = known(s, "alice", "bob")
    kept = upload(alice, big(5, 300000))
    S3.proxy.fail = ["gone!"]
    for _ in range(4):
        r = post(s, alice, form(big(6, 300000)))
        same((r.status, r.json.get("code"), r.headers.get("retry-after")), (503, "UNAVAILABLE", "3"), r.body)
        r = get(alice, kept["url"])
        same((r.status, r.json["code"], "content-disposition" in r.headers), (503, "UNAVAILABLE", False))
    n = len(S3.proxy.seen)
    same(get(alice, kept["url"]).status, 503)
    assert len(S3.proxy.seen) - n <= 3, "it is not asked again and again"
    same((alice.rest("HEAD", kept["url"]).status, get(bob, kept["url"]).status), (200, 404))
    a = alice.device()
    assert "message-id" in attach(a, {"to": "bob"}, kept["url"]), "who chats is not kept waiting"
    a.close()
    until(lambda: not [p for p in local(s) if "tmp" in p], what="what could not be put away is not kept")
    S3.proxy.fail = []
    until(lambda: get(bob, kept["url"]).status == 200, what="it is back")
    same(get(alice, upload(alice, big(6, 300000))["url"]).status, 200)


@test
def what_nobody_needs_is_swept(s):
    (alice,) = known(s, "alice")
    kept, gone = upload(alice, big(7, 200000)), upload(alice, big(8, 200000))
    names = S3.names()
    same(alice.rest("DELETE", gone["url"]).status, 204)
    of = {k: [n for n in names if n.startswith(hashlib.sha256(big(k, 200000)).hexdigest())] for k in (7, 8)}
    same([len(of[7]), len(of[8])], [3, 3])
    sample = names[of[7][0]]
    lone = os.path.join(os.path.dirname(os.path.dirname(sample)), "05", "05" + "0" * 62 + ".0123456789abcde._S3rver_object")
    os.makedirs(os.path.dirname(lone), exist_ok=True)
    young = lone.replace("0000.0123", "0001.0123")
    for to in (lone, young):
        for suffix in ("object", "object.md5", "metadata.json"):
            if os.path.exists(sample.replace("_S3rver_object", "_S3rver_" + suffix)):
                shutil.copy(sample.replace("_S3rver_object", "_S3rver_" + suffix), to.replace("_S3rver_object", "_S3rver_" + suffix))
    for p in [lone] + [names[n] for n in of[7]]:
        os.utime(p, (time.time() - 4000,) * 2)
    s.kill()
    s.begin()
    until(lambda: not os.path.exists(lone), 30, "what no store knows")
    until(lambda: not any(n in S3.names() for n in of[8]), 30, "what was deleted")
    assert os.path.exists(young), "one on its way"
    same(get(alice, kept["url"]).status, 200)
    same(S3.proxy.refused, [])


# ---- servers of their own --------------------------------------------------------------------


def presigned(workers):
    s = Server(workers, accounts=S3.options(presigned="true", presigned_ttl="5m"))
    try:
        alice, bob = known(s, "alice", "bob")
        data = b"a text and more of it\n" * 50
        f = upload(alice, data, name='filename="grün & \\"blau\\".txt"')
        r = get(alice, f["url"])
        same((r.status, r.body, r.headers["cache-control"]), (302, b"", "no-store"))
        to = urllib.parse.urlsplit(r.headers["location"])

        def fetch(query, method="GET", headers=()):
            conn = http.client.HTTPConnection(to.hostname, to.port, timeout=up.client.WAIT)
            conn.request(method, to.path + "?" + query, headers=dict(headers))
            a = conn.getresponse()
            return a.status, a.read(), a.headers
        status, body, headers = fetch(to.query)
        same((status, body == data), (200, True), S3.proxy.refused)
        assert headers["content-disposition"].startswith("attachment; filename="), headers["content-disposition"]
        assert headers["content-disposition"].endswith("gr%C3%BCn%20&%20_blau_.txt"), headers["content-disposition"]
        same((headers["content-type"], headers["cache-control"]), ("text/plain; charset=utf-8", "private"))
        same(fetch(to.query, headers={"Range": "bytes=2-5"})[:2], (206, data[2:6]))
        refused = len(S3.proxy.refused)
        same(fetch(to.query.replace("attachment", "inline"))[0], 403)
        same(len(S3.proxy.refused), refused + 1)
        same(get(bob, f["url"]).status, 404)
        same(get(alice, f["url"], **{"If-None-Match": "*"}).status, 304)
        g = upload(alice, thumbs_e2e.png(500, 400, 11))
        same(get(alice, g["thumbnail"]).status, 200)
        S3.proxy.refused.clear()
        r = alice.rest("HEAD", f["url"])
        same((r.status, r.headers["content-length"]), (200, str(len(data))), "it was signed for GET alone")
        # Nobody is sent to a server that is away.
        S3.proxy.fail = ["gone!"]
        same(get(alice, g["thumbnail"]).status, 503)
        r = get(alice, f["url"])
        same((r.status, r.json["code"], r.headers.get("retry-after"), r.headers.get("location")), (503, "UNAVAILABLE", "3", None))
        same((get(bob, f["url"]).status, alice.rest("HEAD", f["url"]).status), (404, 200))
        S3.proxy.fail = []
        until(lambda: get(alice, f["url"]).status == 302, what="it is back")
    finally:
        code, log = s.stop()
    assert code == 0 and " ERROR " not in log and "Sanitizer" not in log, log[-3000:]


def at(url, method="GET", body=None, port=None):
    """What the S3 server says to who has an address; port: past the proxy, which checks signatures."""
    to = urllib.parse.urlsplit(url)
    conn = http.client.HTTPConnection(to.hostname, port or to.port, timeout=up.client.WAIT)
    conn.request(method, to.path + "?" + to.query, body, {"Host": to.netloc})
    r = conn.getresponse()
    answer = (r.status, r.read())
    conn.close()
    return answer


def direct(workers):
    s = Server(workers, accounts=S3.options(presigned_uploads="true", presigned_ttl="10m"))
    try:
        alice, bob = known(s, "alice", "bob")

        def wish(who, name, size, want=201):
            r = who.rest("POST", "/api/files/direct", {"name": name, "size": size})
            same(r.status, want, r.body)
            return r.json

        def complete(who, w):
            r = who.rest("POST", w["complete"], {})
            return r.status, r.json
        data = thumbs_e2e.png(600, 400, 51) + b"x" * 300000
        w = wish(alice, "../at sea.png", len(data))
        same((w["method"], w["complete"]), ("PUT", "/api/files/direct/" + w["id"]))
        same((complete(alice, w)[0], complete(alice, w)[1]["code"]), (409, "NOT_UPLOADED"), "before it is there")
        same((at(w["url"], "PUT", data[:-1])[0], at(w["url"])[0]), (403, 403), "another length, another method")
        same(at(w["url"], "PUT", data)[0], 200, S3.proxy.refused)
        S3.proxy.refused.clear()
        same([get(p, "/api/files/" + w["id"]).status for p in (alice, bob)], [404, 404], "it is no file yet")
        same(complete(bob, w)[0], 404, "another's upload")
        status, f = complete(alice, w)
        same((status, f["id"], f["name"], f["size"], f["contentType"], f["width"]), (201, w["id"], "at sea.png", len(data), "image/png", 600))
        same((get(alice, f["url"]).body == data, get(bob, f["url"]).status, get(alice, f["thumbnail"]).status), (True, 404, 200))
        until(lambda: (S3.names("tus"), local(s)) == ({}, []), what="the piece is taken away after the answer")
        same(complete(alice, w), (201, f), "said again")
        # Who has the address changes nothing any more; what he puts there is swept.
        same(at(w["url"], "PUT", b"y" * len(data))[0], 200)
        same((get(alice, f["url"]).body == data, len(S3.names("tus"))), (True, 1))
        for name in S3.names("tus"):
            age(name)
        # By what is in it, and as much as was said.
        page = b"<!doctype html><html><script>alert(1)</script></html>"
        w = wish(alice, "cat.png", len(page))
        same(at(w["url"], "PUT", page)[0], 200)
        status, why = complete(alice, w)
        same((status, why["code"]), (415, "TYPE_NOT_ALLOWED"))
        until(lambda: not any(n.startswith(w["id"]) for n in S3.names("tus")), what="what was refused is gone")
        w = wish(alice, "a.txt", 1000)
        for size in (999, 1001, 3000000):
            same(at(w["url"], "PUT", b"a" * size, S3.port)[0], 200)
            same(complete(alice, w)[1]["code"], "NOT_UPLOADED", size)
        same(at(w["url"], "PUT", b"a" * 1000, S3.port)[0], 200)
        same(complete(alice, w)[0], 201)
        until(lambda: not any(n.startswith(w["id"]) for n in S3.names("tus")), what="it counts no more as one under way")
        before = set(S3.names())
        upload(bob, b"a" * 1000)
        until(lambda: not set(S3.names()) - before, what="equal files are one object")
        # What is refused at once.
        wish(alice, "a.png", 9 * up.MIB, 413)
        for body in ({}, {"size": 0}, {"size": -1}, {"size": "5"}, {"size": 5, "name": 5}, {"size": 5, "name": "a\0b"}):
            same(alice.rest("POST", "/api/files/direct", body).json["code"], "BAD_UPLOAD", body)
        same(up.client.rest(s, None, "POST", "/api/files/direct", {"size": 5}).status, 401)
        guest = up.Person(s)
        same(guest.rest("POST", "/api/files/direct", {"size": 5}).status, 403)
        same(complete(alice, {"complete": "/api/files/direct/" + "0" * 40})[0], 404)
        w = wish(alice, "b.txt", 5)
        same(up.tus(alice, "DELETE", "/api/files/tus/" + w["id"]).status, 204)
        same(complete(alice, w)[0], 404)
        for _ in range(16):
            wish(alice, "c.txt", 5)
        same(wish(alice, "c.txt", 5, 429)["code"], "TOO_MANY_UPLOADS")
        for name in S3.names("tus"):
            age(name)
        s.kill()
        s.begin()
        until(lambda: not S3.names("tus"), 30, "what nobody went on with")
        same(S3.proxy.refused, [])
    finally:
        code, log = s.stop()
    assert code == 0 and " ERROR " not in log and "Sanitizer" not in log, log[-3000:]


def so_many_files(workers):
    """user_files counts what is there, not what is on its way: the store decides when it has come."""
    s = Server(workers, accounts=S3.options(presigned_uploads="true", presigned_ttl="10m", user_files="2"))
    try:
        alice, bob = known(s, "alice", "bob")

        def wish(who, want=201):
            r = who.rest("POST", "/api/files/direct", {"name": "a.txt", "size": 5})
            same((r.status, r.json.get("code")), (want, None if want == 201 else "QUOTA_EXCEEDED"), r.body)
            return r.json

        def complete(who, w):
            r = who.rest("POST", w["complete"], {})
            return r.status, r.json.get("code"), r.json
        three = [wish(alice) for _ in range(3)]
        for n, w in enumerate(three):
            same(at(w["url"], "PUT", b"text%d" % n)[0], 200, S3.proxy.refused)
        files = []
        for w in three[:2]:
            status, _, f = complete(alice, w)
            same(status, 201, f)
            files.append(f)
        status, code, why = complete(alice, three[2])
        same((status, code), (429, "QUOTA_EXCEEDED"), why)
        assert "as many files" in why["detail"], why
        same(get(alice, "/api/files/" + three[2]["id"]).status, 404)
        until(lambda: not S3.names("tus"), what="what was refused is gone")
        wish(alice, 429)
        same(complete(alice, three[0])[0], 201, "what is there is there")
        w = wish(bob)
        same((at(w["url"], "PUT", b"text9")[0], complete(bob, w)[0]), (200, 201), "another's count is another's")
        same(alice.rest("DELETE", files[0]["url"]).status, 204)
        w = wish(alice)
        same((at(w["url"], "PUT", b"text3")[0], complete(alice, w)[0]), (200, 201))
        wish(alice, 429)
        same(S3.proxy.refused, [])
    finally:
        code, log = s.stop()
    assert code == 0 and " ERROR " not in log and "Sanitizer" not in log, log[-3000:]


def on_two_nodes(workers):
    """Nothing but the S3 server is theirs in common: a balancer sends each request to another one."""
    nodes = [Server(workers, accounts=S3.options()) for _ in range(2)]
    try:
        people = [known(n, "alice", "bob") for n in nodes]
        data = big(21, up.MIB + 77)
        url = up.begin(people[0][0], len(data))
        cuts = [0, 1, 5000, 300000, 300001, up.MIB, len(data)]
        for i, (a, b) in enumerate(zip(cuts, cuts[1:])):
            alice = people[i % 2][0]
            same(up.offset(people[(i + 1) % 2][0], url), a)
            same(up.tus(alice, "PATCH", url, data[a:b], Upload_Offset=a + 1).status, 409)
            same(up.tus(alice, "PATCH", url, data[a:b], Upload_Offset=a).status, 204)
        same(get(alice, url.replace("/tus/", "/")).body == data, True)
        # Both were sent the same; the longer counts, whoever was told what.
        url = up.begin(people[0][0], len(data))
        threads = [threading.Thread(target=up.tus, args=(people[i][0], "PATCH", url, data[:n]), kwargs={"Upload_Offset": 0})
                   for i, n in ((0, 70000), (1, 90000))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        at = up.offset(people[0][0], url)
        assert at in (70000, 90000), at
        same(up.tus(people[1][1], "PATCH", url, data[at:], Upload_Offset=at).status, 404, "another's upload")
        same(up.tus(people[1][0], "PATCH", url, data[at:], Upload_Offset=at).status, 204)
        same(get(people[1][0], url.replace("/tus/", "/")).body == data, True)
        # It is broken off at one, and at the other it goes on from there.
        url = up.begin(people[0][0], len(data))
        sock = up.client.socket.create_connection(nodes[0].address("http"), up.client.WAIT)
        sock.sendall(("PATCH %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: "
                      "application/offset+octet-stream\r\nContent-Length: %d\r\n\r\n" % (url, people[0][0].token, len(data))).encode() + data[:600000])
        until(lambda: any(sealed_e2e.size_at(p) > 0 for p in local(nodes[0]) if "tmp" in p), what="it is written")
        sock.close()
        until(lambda: up.offset(people[1][0], url) > 0, what="what was broken off is there")
        at = up.offset(people[1][0], url)
        same(up.tus(people[1][0], "PATCH", url, data[at:], Upload_Offset=at).status, 204)
        same(get(people[1][0], url.replace("/tus/", "/")).body == data, True)
        same(S3.names("tus"), {})
        nothing_here(*nodes)
        # What cannot be put away is not lost with what was there before.
        url = up.begin(people[0][0], 20000)
        same(up.tus(people[0][0], "PATCH", url, data[:9000], Upload_Offset=0).status, 204)
        S3.proxy.fail = ["503!"]
        same(up.tus(people[0][0], "PATCH", url, data[9000:20000], Upload_Offset=9000).status, 503)
        S3.proxy.fail = []
        until(lambda: up.offset(people[1][0], url) == 9000, what="it is back")
        same(up.tus(people[1][0], "PATCH", url, data[9000:20000], Upload_Offset=9000).status, 204)
        same(S3.proxy.refused, [])
    finally:
        ends = [n.stop() for n in nodes]
    for code, log in ends:
        assert code == 0 and " ERROR " not in log and "Sanitizer" not in log, log[-3000:]


def sealed(workers):
    keys = sealed_e2e.Keys("one")
    s = Server(workers, accounts=S3.options(), edit=lambda text: put(text, "  encrypt: { keys: \"file:%s\" }\n" % keys.path))
    try:
        (alice,) = known(s, "alice")
        before = set(S3.names())
        data = sealed_e2e.text_of(40, 600000)
        f, g = upload(alice, data), upload(alice, thumbs_e2e.png(600, 400, 41))
        made = {n: p for n, p in S3.names().items() if n not in before}
        same(sorted(n.rpartition(".")[2] for n in made), ["sealed", "sealed", "sealed-320", "sealed-960"])
        for p in made.values():
            with open(p, "rb") as o:
                bytes_ = o.read()
            assert all(w not in bytes_ for w in (sealed_e2e.MARK[:12], b"IHDR", b"WEBP")), p
        same(get(alice, f["url"]).body == data, True)
        for a, b in ((0, 0), (65535, 65536), (100, 500000), (599999, 599999)):
            same(get(alice, f["url"], Range="bytes=%d-%d" % (a, b)).body == data[a:b + 1], True, (a, b))
        same(get(alice, g["thumbnail"]).body[:4], b"RIFF")
        url = up.begin(alice, len(data) + 1, "x.txt")
        same(up.tus(alice, "PATCH", url, data[:100000], Upload_Offset=0).status, 204)
        for name, p in S3.names("tus").items():
            with open(p, "rb") as o:
                assert "sealed" in name and sealed_e2e.MARK[:12] not in o.read(), name
        same(up.tus(alice, "PATCH", url, data[100000:] + b"x", Upload_Offset=100000).status, 204)
        same(get(alice, url.replace("/tus/", "/")).body == data + b"x", True)
        path = [p for n, p in made.items() if os.path.getsize(p) == 600000 + 10 * 50]
        same(len(path), 1)
        was = sealed_e2e.damage(path[0], sealed_e2e.flip(3 * sealed_e2e.RECORD + 5000))
        same(get(alice, f["url"], Range="bytes=200000-200010").json["code"], "DECRYPT_FAILED")
        same(get(alice, f["url"], Range="bytes=0-10").body, data[:11])
        sealed_e2e.damage(path[0], lambda _: was[:5 * sealed_e2e.RECORD])
        same([get(alice, f["url"], Range="bytes=%d-%d" % (a, a + 9)).json["code"] for a in (327675, 500000)], ["DECRYPT_FAILED"] * 2)
        sealed_e2e.damage(path[0], lambda _: was)
        same((get(alice, f["url"]).body == data, S3.names("tus"), S3.proxy.refused), (True, {}, []))
        mine = [p for n, p in S3.names().items() if n not in before]
        old = set.union(*map(sealed_e2e.heads_of, mine))
        keys.lines.append("two " + secrets.token_hex(32))
        keys.write()
        s.proc.send_signal(signal.SIGHUP)
        until(lambda: not any(sealed_e2e.heads_of(p) & old for p in mine), what="all are encrypted anew")
        same((get(alice, f["url"]).body == data, get(alice, g["thumbnail"]).body[:4]), (True, b"RIFF"))
    finally:
        code, log = s.stop()
        shutil.rmtree(keys.folder, ignore_errors=True)
    assert code == 0 and "Sanitizer" not in log, log[-3000:]


def a_wrong_secret(workers):
    s = Server(workers, accounts=S3.options(s3_secret="another"))
    try:
        (alice,) = known(s, "alice")
        r = post(s, alice, form(b"a text\n"))
        same((r.status, r.json["code"]), (503, "UNAVAILABLE"))
        assert S3.proxy.refused, "the proxy looks at signatures"
    finally:
        code, log = s.stop()
    assert code == 0 and "refuses the key" in log, log[-3000:]


def main():
    global S3
    workers = sys.argv[1] if len(sys.argv) > 1 else "4"
    words = sys.argv[2:]
    S3 = Store()
    try:
        chosen = [t for t in TESTS if not words or any(w in t.__name__ for w in words)]
        for name, fn in (("downloads_from_there", presigned), ("encrypted", sealed), ("on_two_nodes", on_two_nodes), ("uploads_straight_there", direct),
                         ("so_many_files_straight_there", so_many_files),
                         ("a_secret_that_is_wrong", a_wrong_secret)):
            if not words or any(w in name for w in words):
                def run(_, fn=fn):
                    S3.proxy.refused.clear()  # of the one before
                    fn(workers)
                run.__name__ = name
                chosen.append(run)
        return tap(chosen, Server(workers, accounts=S3.options()))
    finally:
        S3.close()


if __name__ == "__main__":
    sys.exit(main())
