#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the SockJS protocol demands of a server, and what hostile clients get.

usage: protocol.py [BUILD] [WORKERS ...]        (defaults: $CHATD_BUILD; 1 4)

The cases follow the public protocol text (sockjs-protocol) class by class; then come
inputs that no honest client sends, and STOMP over every transport.  TAP on stdout.
"""
import json
import os
import re
import sys
import time
import traceback
import urllib.parse
import uuid

from wire import Closed, Http, Server, WebSocket

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONFIG = os.path.join(ROOT, "config", "conformance.yaml")

BASE, CLOSE = "/echo", "/close"
NO_WS, COOKIE = "/disabled_websocket_echo", "/cookie_needed_echo"
FRESH = "no-store, no-cache, no-transform, must-revalidate, max-age=0"
GO_AWAY = 'c[3000,"Go away!"]'
BUSY = 'c[2010,"Another connection still open"]'
INTERRUPTED = 'c[1002,"Connection interrupted"]'
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

CASES = []
address = None  # of the server under test


def case(function):
    CASES.append(function)
    return function


# ---- helpers ----------------------------------------------------------------

def equal(have, want, what=""):
    assert have == want, f"{what} want {want!r}, have {have!r}"


def among(have, wanted):
    assert have in wanted, f"want one of {wanted!r}, have {have!r}"


def request(method, path, headers=None, body=None, version="1.1", source=None):
    c = Http(address, source)
    try:
        return c.request(method, path, headers, body, version)
    finally:
        c.close()


def GET(path, **kw):
    return request("GET", path, **kw)


def POST(path, **kw):
    return request("POST", path, **kw)


def OPTIONS(path, **kw):
    return request("OPTIONS", path, **kw)


class Stream:
    """A request whose answer comes in chunks."""

    def __init__(self, method, path, headers=None):
        self.c = Http(address)
        self.r = self.c.start(method, path, headers)
        equal(self.r.status, 200, path)
        equal((self.r["transfer-encoding"] or "").lower(), "chunked")

    def read(self):
        return self.c.chunk().decode()

    def close(self):
        self.c.close()


def session(base=BASE, server="000"):
    return f"{base}/{server}/{uuid.uuid4()}"


def opened(base=BASE, **kw):
    """The URL of a session that has been opened by polling."""
    url = session(base)
    polled(url, "o", **kw)
    return url


def polled(url, want, **kw):
    r = POST(url + "/xhr", **kw)
    equal((r.status, r.body.decode()), (200, want + "\n"), "poll:")
    return r


def sent(url, *messages, **kw):
    r = POST(url + "/xhr_send", body=json.dumps(messages), **kw)
    equal((r.status, r.body), (204, b""), "send:")
    return r


def type_is(r, want):
    equal((r["content-type"] or "").replace(" ", ""), want)


def is_fresh(r):
    equal(r["cache-control"], FRESH)
    assert not r["expires"] and not r["last-modified"]


def is_lasting(r):
    assert "public" in r["cache-control"]
    assert re.search("max-age=[1-9][0-9]{6}", r["cache-control"])
    assert r["expires"]


def has_cors(r, origin=None):
    if origin:
        equal(r["access-control-allow-origin"], origin)
        equal(r["access-control-allow-credentials"], "true")
    else:
        equal(r["access-control-allow-origin"], "*")
        assert not r["access-control-allow-credentials"]


def is_405(r):
    equal(r.status, 405)
    assert not r["content-type"] and r["allow"] and not r.body


def preflight(path, methods):
    for origin in ("test", "null"):
        r = OPTIONS(path, headers={"Access-Control-Request-Method": methods, "Origin": origin})
        among(r.status, (200, 204))
        is_lasting(r)
        assert int(r["access-control-max-age"]) > 1000000
        for method in methods.split(","):
            assert method.strip() in r["access-control-allow-methods"]
        assert not r.body
        has_cors(r, origin)


def websocket(path):
    return WebSocket(address, path)


def ws_url(base=BASE):
    return session(base) + "/websocket"


# ---- greeting, iframe, info ---------------------------------------------------

@case
def greeting():
    for path in (BASE, BASE + "/", "/ws-chat", "/ws-chat/"):
        r = GET(path)
        equal((r.status, r.body), (200, b"Welcome to SockJS!\n"), path)
        type_is(r, "text/plain;charset=UTF-8")
        assert not r["set-cookie"]


@case
def unknown_paths_are_404():
    for suffix in ("/a", "/a.html", "//", "///", "/a/a", "/a/a/", "/a/"):
        for base in (BASE, "/ws-chat"):
            equal(GET(base + suffix).status, 404, base + suffix)


IFRAME = re.compile(r'''^<!DOCTYPE html>
<html>
<head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
  <script src="(?P<url>[^"]*)"></script>
  <script>
    document.domain = document.domain;
    SockJS.bootstrap_iframe\(\);
  </script>
</head>
<body>
  <h2>Don't panic!</h2>
  <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>
</body>
</html>$''')


@case
def iframe_page():
    for name in ("/iframe.html", "/iframe-a.html", "/iframe-.html", "/iframe-0.1.2.html",
                 "/iframe-0.1.2abc-dirty.2144.html", "/iframe-a.html?t=1234",
                 "/iframe-0.1.2.html?t=123414", "/iframe-0.1.2abc-dirty.2144.html?t=qweqweq123"):
        r = GET(BASE + name)
        equal(r.status, 200, name)
        type_is(r, "text/html;charset=UTF-8")
        is_lasting(r)
        assert r["etag"] and not r["last-modified"] and not r["set-cookie"]
        match = IFRAME.match(r.body.decode().strip())
        assert match, r.body
        assert match.group("url").startswith(("/", "http"))


@case
def iframe_names_are_strict():
    for name in ("/iframe.htm", "/iframe", "/IFRAME.HTML", "/IFRAME", "/iframe.HTML",
                 "/iframe.xml", "/iframe-/.html", "/iframe.htm?<script>"):
        among(GET(BASE + name).status, (404,) if "<" not in name else (400, 404))


@case
def iframe_page_is_cached():
    tag = GET(BASE + "/iframe.html")["etag"]
    assert tag
    equal(GET(BASE + "/iframe.html")["etag"], tag)
    r = GET(BASE + "/iframe.html", headers={"If-None-Match": tag})
    equal(r.status, 304)
    assert not r["content-type"] and not r.body


@case
def info():
    for base in (BASE, "/ws-chat"):
        r = GET(base + "/info?t=1&token=x", headers={"Origin": "test"})
        equal(r.status, 200)
        type_is(r, "application/json;charset=UTF-8")
        assert not r["set-cookie"]
        is_fresh(r)
        has_cors(r, "test")
        data = json.loads(r.body)
        equal((data["websocket"], data["cookie_needed"], data["origins"]), (True, False, ["*:*"]))
        assert isinstance(data["entropy"], int) and 0 <= data["entropy"] < 2 ** 32
    has_cors(GET(BASE + "/info"))


@case
def info_entropy_differs():
    seen = {json.loads(GET(BASE + "/info").body)["entropy"] for _ in range(4)}
    assert len(seen) == 4


@case
def info_options():
    preflight(BASE + "/info", "OPTIONS, GET")
    r = OPTIONS(BASE + "/info",
                headers={"Origin": "null", "Access-Control-Request-Method": "POST"})
    among(r.status, (200, 204))
    assert not r.body
    equal(r["access-control-allow-origin"], "null")


@case
def info_says_when_websocket_is_off():
    equal(json.loads(GET(NO_WS + "/info").body)["websocket"], False)
    equal(GET(session(NO_WS) + "/websocket").status, 404)
    equal(GET(NO_WS + "/websocket").status, 404)


# ---- session URLs, protocol -------------------------------------------------

@case
def any_ids_will_do():
    r = str(uuid.uuid4())
    for part in ("/a/a" + r, "/_/_" + r, "/1/" + r, "/abcdefgh_i-j%20/abcdefg_i-j%20" + r,
                 "/%C3%A4/%e2%82%ac" + r):
        polled(BASE + part, "o")


@case
def invalid_ids_are_404():
    for suffix in ("//", "/a./a", "/a/a.", "/./.", "/", "///", "/a", "/a/b/c", "/%2E/a", "/a/%2e",
                   "/a/b%2Fc", "/a/b%00", "/1/2/3/4/5/6/7/8/9", "/a/" + "x" * 257,
                   "/" + "x" * 257 + "/a"):
        for method in ("GET", "POST"):
            equal(request(method, BASE + suffix + "/xhr").status, 404, suffix)
    polled(BASE + "/a/" + str(uuid.uuid4()) + "x" * 220, "o")


@case
def server_id_is_ignored():
    sid = str(uuid.uuid4())
    polled(f"{BASE}/000/{sid}", "o")
    sent(f"{BASE}/000/{sid}", "a")
    polled(f"{BASE}/999/{sid}", 'a["a"]')


@case
def simple_session():
    url = opened()
    sent(url, "a")
    polled(url, 'a["a"]')
    r = POST(session() + "/xhr_send", body='["a"]')
    equal((r.status, r.body), (404, b""))
    first = Http(address)
    first.ask("POST", url + "/xhr")
    time.sleep(0.25)
    polled(url, BUSY)
    sent(url, "still there")
    equal(first.finish(first.head(), "POST").body, b'a["still there"]\n')
    first.close()


@case
def closed_session_says_so_again_and_again():
    url = opened(CLOSE)
    for _ in range(3):
        polled(url, GO_AWAY)


# ---- websocket --------------------------------------------------------------

@case
def websocket_by_plain_get_is_400():
    for path in (ws_url(), BASE + "/websocket"):
        r = GET(path)
        equal((r.status, r.body), (400, b'Can "Upgrade" only to "WebSocket".'))
        r = GET(path, headers={"Upgrade": "WebSocket", "Connection": "close"})
        equal((r.status, r.body), (400, b'"Connection" must be "Upgrade".'))


@case
def websocket_by_post_is_405():
    for headers in ({"Upgrade": "WebSocket", "Connection": "Upgrade"}, {}):
        is_405(POST(ws_url(), headers=headers))
        is_405(POST(BASE + "/websocket", headers=headers))


@case
def websocket_elsewhere_is_refused():
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw=="}
    for path in (BASE + "/info", BASE + "/", session() + "/eventsource"):
        among(GET(path, headers=headers).status, (400, 404))
    r = GET(ws_url(), headers={**headers, "Sec-WebSocket-Version": "8"})
    equal((r.status, r["sec-websocket-version"]), (426, "13"))


@case
def websocket_transport():
    ws = websocket(ws_url())
    equal(ws.recv(), "o")
    ws.send('["a"]')
    equal(ws.recv(), 'a["a"]')
    ws.send('["b","c"]')
    equal([ws.recv(), ws.recv()], ['a["b"]', 'a["c"]'])
    equal(ws.response["connection"].lower(), "upgrade")
    equal(ws.response["upgrade"].lower(), "websocket")
    assert not ws.response["content-length"]
    ws.close()


@case
def websocket_close():
    ws = websocket(ws_url(CLOSE))
    equal([ws.recv(), ws.recv()], ["o", GO_AWAY])
    try:
        ws.recv()
        assert False, "it goes on"
    except Closed as end:
        equal((end.code, end.reason), (3000, "Go away!"))
    ws.close()


@case
def websocket_ignores_empty_frames():
    ws = websocket(ws_url())
    equal(ws.recv(), "o")
    for text in ("", "[]", '["a"]'):
        ws.send(text)
    equal(ws.recv(), 'a["a"]')
    ws.close()


@case
def websocket_session_ids_may_be_reused():
    url = ws_url()
    one, two = websocket(url), websocket(url)
    equal([one.recv(), two.recv()], ["o", "o"])
    one.send('["a"]')
    two.send('["b"]')
    equal([one.recv(), two.recv()], ['a["a"]', 'a["b"]'])
    one.close()
    two.close()
    three = websocket(url)
    equal(three.recv(), "o")
    three.send('["a"]')
    equal(three.recv(), 'a["a"]')
    three.close()


@case
def websocket_is_cut_by_broken_json():
    for text in ('["a', '{}', '1', '"x"', '[1]', '[null]', '[["x"]]', '["\\ud800"]'):
        ws = websocket(ws_url())
        equal(ws.recv(), "o")
        ws.send(text)
        try:
            equal(ws.recv(), None, text)
        except Closed as end:
            equal(end.code, None, text)
        ws.close()


@case
def websocket_limits():
    for text, code in ((json.dumps([""] * 1025), 1009), (b"binary", 1003)):
        ws = websocket(ws_url())
        equal(ws.recv(), "o")
        ws.send(text)
        try:
            while ws.recv().startswith("c["):
                pass
            assert False, "it goes on"
        except Closed as end:
            equal(end.code, code)
        ws.close()


@case
def websocket_and_polling_with_one_id_are_two_sessions():
    url = opened()
    ws = websocket(url + "/websocket")
    equal(ws.recv(), "o")
    ws.send('["ws"]')
    sent(url, "xhr")
    equal(ws.recv(), 'a["ws"]')
    polled(url, 'a["xhr"]')
    ws.close()


# ---- xhr --------------------------------------------------------------------

@case
def xhr_options():
    for suffix in ("/xhr", "/xhr_send", "/xhr_streaming"):
        preflight(BASE + "/abc/abc" + suffix, "OPTIONS, POST")


@case
def xhr_transport():
    url = session()
    r = polled(url, "o", headers={"Origin": "test"})
    type_is(r, "application/javascript;charset=UTF-8")
    has_cors(r, "test")
    is_fresh(r)
    r = sent(url, "x", headers={"Origin": "test"})
    type_is(r, "text/plain;charset=UTF-8")
    has_cors(r, "test")
    is_fresh(r)
    r = polled(url, 'a["x"]')
    has_cors(r)


@case
def xhr_send_needs_a_session():
    equal(POST(session() + "/xhr_send", body='["x"]').status, 404)


@case
def xhr_send_needs_good_json():
    url = opened()
    for body in ('["x', '"x"', "{}", "[1]", '[["x"]]', "[null]", '["x"],', '["\\ud800"]',
                 '["\n"]', b'["\xff"]', '[,]'):
        r = POST(url + "/xhr_send", body=body)
        equal((r.status, r.body), (500, b"Broken JSON encoding."), body)
    r = POST(url + "/xhr_send", body="")
    equal((r.status, r.body), (500, b"Payload expected."))
    sent(url, "a")
    polled(url, 'a["a"]')


@case
def xhr_send_takes_any_content_type():
    url = opened()
    types = ["text/plain", "T", "application/json", "application/xml", "",
             "application/json; charset=utf-8", "text/xml; charset=utf-8", "text/xml"]
    for t in types:
        sent(url, "a", headers={"Content-Type": t})
    polled(url, "a[" + ",".join(['"a"'] * len(types)) + "]")


@case
def xhr_request_headers_are_echoed():
    for given, want in (("a, b, c", "a, b, c"), ("", None), (None, None)):
        headers = {"Origin": "test", "Access-Control-Request-Method": "POST"}
        if given is not None:
            headers["Access-Control-Request-Headers"] = given
        r = OPTIONS(session() + "/xhr", headers=headers)
        among(r.status, (200, 204))
        has_cors(r, "test")
        equal(r["access-control-allow-headers"] or None, want)


@case
def xhr_send_may_be_empty_array():
    url = opened()
    sent(url)
    sent(url, "")
    sent(url, "a")
    polled(url, 'a["","a"]')


@case
def streaming_transport():
    url = session()
    s = Stream("POST", url + "/xhr_streaming", {"Origin": "test"})
    type_is(s.r, "application/javascript;charset=UTF-8")
    has_cors(s.r, "test")
    is_fresh(s.r)
    equal(s.read(), "h" * 2048 + "\n")
    equal(s.read(), "o\n")
    sent(url, "x")
    equal(s.read(), 'a["x"]\n')
    s.close()


@case
def streaming_response_limit():
    url = session()
    s = Stream("POST", url + "/xhr_streaming")
    assert s.read()
    equal(s.read(), "o\n")
    message = "x" * 128
    for _ in range(31):
        sent(url, message)
        equal(s.read(), f'a["{message}"]\n')
    equal(s.read(), "")
    s.close()


@case
def streaming_loses_nothing_over_the_limit():
    url = opened()
    want = [f"{i:0200}" for i in range(120)]
    for at in range(0, 120, 8):
        sent(url, *want[at:at + 8])
    have = []
    while len(have) < 120:
        s = Stream("POST", url + "/xhr_streaming")
        assert s.read().startswith("h")
        while len(have) < 120:
            frame = s.read()
            if not frame:
                break
            have += json.loads(frame[1:])
        s.close()
    equal(have, want)


# ---- eventsource, htmlfile, jsonp -------------------------------------------

@case
def eventsource_transport():
    url = session()
    s = Stream("GET", url + "/eventsource")
    equal(s.r["content-type"], "text/event-stream")
    is_fresh(s.r)
    equal(s.read(), "\r\n")
    equal(s.read(), "data: o\r\n\r\n")
    sent(url, "x")
    equal(s.read(), 'data: a["x"]\r\n\r\n')
    equal(POST(url + "/xhr_send", body=r'["  \u0000\n\r "]').status, 204)
    equal(s.read(), 'data: a["  \\u0000\\n\\r "]\r\n\r\n')
    equal(POST(url + "/xhr_send", body='["\u2028data: x"]').status, 204)
    equal(s.read(), 'data: a["\\u2028data: x"]\r\n\r\n')
    s.close()


@case
def eventsource_response_limit():
    url = session()
    s = Stream("GET", url + "/eventsource")
    assert s.read()
    equal(s.read(), "data: o\r\n\r\n")
    sent(url, "x" * 4096)
    equal(s.read(), 'data: a["' + "x" * 4096 + '"]\r\n\r\n')
    equal(s.read(), "")
    s.close()


HTML_HEAD = '''<!doctype html>
<html><head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
</head><body><h2>Don't panic!</h2>
  <script>
    document.domain = document.domain;
    var c = parent.callback;
    c.start();
    function p(d) {c.message(d);};
    window.onload = function() {c.stop();};
  </script>'''


@case
def htmlfile_transport():
    url = session()
    s = Stream("GET", url + "/htmlfile?c=%63allback")
    type_is(s.r, "text/html;charset=UTF-8")
    is_fresh(s.r)
    head = s.read()
    equal(head.strip(), HTML_HEAD)
    assert len(head) > 1024
    equal(s.read(), '<script>\np("o");\n</script>\r\n')
    sent(url, "x")
    equal(s.read(), '<script>\np("a[\\"x\\"]");\n</script>\r\n')
    sent(url, "</script>\n")
    equal(s.read(), '<script>\np("a[\\"\\u003c/script>\\\\n\\"]");\n</script>\r\n')
    s.close()


@case
def callbacks_are_checked():
    for transport in ("/htmlfile", "/jsonp"):
        for query in ("", "?c=", "?d=x"):
            r = GET(BASE + "/a/a" + transport + query)
            equal((r.status, r.body), (500, b'"callback" parameter required'))
        for bad in ("%20", "*", "abc(", "abc%28", "%3C/script%3E", "alert(1)//", "a" * 8000):
            r = GET(BASE + "/a/a" + transport + "?c=" + bad)
            if len(bad) < 8000 or r.status != 414:
                equal((r.status, r.body), (500, b'invalid "callback" parameter'), bad)


@case
def htmlfile_response_limit():
    url = session()
    s = Stream("GET", url + "/htmlfile?c=callback")
    assert s.read()
    equal(s.read(), '<script>\np("o");\n</script>\r\n')
    sent(url, "x" * 4096)
    equal(s.read(), '<script>\np("a[\\"' + "x" * 4096 + '\\"]");\n</script>\r\n')
    equal(s.read(), "")
    s.close()


def jsonp(url, want, callback="x"):
    r = GET(f"{url}/jsonp?c={callback}")
    body = "/**/x(" + json.dumps(want) + ");\r\n"
    equal((r.status, r.body.decode()), (200, body))
    equal(r["x-content-type-options"], "nosniff")
    return r


def jsonp_sent(url, body, headers=None):
    r = POST(url + "/jsonp_send", body=body, headers=headers or FORM)
    equal((r.status, r.body), (200, b"ok"))
    return r


@case
def jsonp_transport():
    url = session()
    r = jsonp(url, "o", "%78")
    type_is(r, "application/javascript;charset=UTF-8")
    is_fresh(r)
    r = jsonp_sent(url, "d=%5B%22x%22%5D")
    type_is(r, "text/plain;charset=UTF-8")
    is_fresh(r)
    jsonp(url, 'a["x"]')


@case
def jsonp_send_needs_good_json():
    url = session()
    jsonp(url, "o")
    r = POST(url + "/jsonp_send", body="d=%5B%22x", headers=FORM)
    equal((r.status, r.body), (500, b"Broken JSON encoding."))
    for body in ("", "d=", "p=p"):
        r = POST(url + "/jsonp_send", body=body, headers=FORM)
        equal((r.status, r.body), (500, b"Payload expected."))
    jsonp_sent(url, "d=%5B%22b%22%5D")
    jsonp(url, 'a["b"]')


@case
def jsonp_send_content_types():
    url = session()
    jsonp(url, "o")
    jsonp_sent(url, "d=%5B%22abc%22%5D")
    jsonp_sent(url, "p=1&d=%5B%22a+b%22%5D&q", {"Content-Type": FORM["Content-Type"] + "; charset=UTF-8"})
    jsonp_sent(url, '["%61bc"]', {"Content-Type": "text/plain"})
    jsonp(url, 'a["abc","a b","%61bc"]')


@case
def jsonp_close():
    url = session(CLOSE)
    jsonp(url, "o")
    jsonp(url, GO_AWAY)
    jsonp(url, GO_AWAY)


@case
def jsonp_send_may_be_empty_array():
    url = session()
    jsonp(url, "o")
    jsonp_sent(url, "d=%5B%5D")
    jsonp_sent(url, "d=%5B%22x%22%5D")
    jsonp(url, 'a["x"]')


# ---- cookies ----------------------------------------------------------------

def has_cookie(r, value="dummy"):
    parts = [p.strip() for p in r["set-cookie"].split(";")]
    equal((parts[0], parts[1].lower()), ("JSESSIONID=" + value, "path=/"))


@case
def cookies_are_set_where_they_are_wanted():
    for path in (COOKIE, COOKIE + "/", COOKIE + "/info", COOKIE + "/iframe.html"):
        assert not GET(path)["set-cookie"], path
    equal(json.loads(GET(COOKIE + "/info").body)["cookie_needed"], True)
    has_cookie(polled(session(COOKIE), "o"))
    has_cookie(polled(session(COOKIE), "o", headers={"Cookie": "JSESSIONID=abcdef"}), "abcdef")
    for method, name in (("POST", "/xhr_streaming"), ("GET", "/eventsource"),
                         ("GET", "/htmlfile?c=%63allback")):
        s = Stream(method, session(COOKIE) + name)
        has_cookie(s.r)
        s.close()
    url = session(COOKIE)
    has_cookie(jsonp(url, "o"))
    has_cookie(jsonp_sent(url, "d=%5B%22x%22%5D"))
    assert not polled(session(), "o", headers={"Cookie": "JSESSIONID=abcdef"})["set-cookie"]


@case
def cookies_give_back_ids_only():
    for value in ("a" * 65, "a b", "<x>", "", "a\xe4", '"x"'):
        has_cookie(polled(session(COOKIE), "o", headers={"Cookie": "JSESSIONID=" + value}))
    has_cookie(polled(session(COOKIE), "o",
                      headers={"Cookie": "a=b; JSESSIONID=" + "a" * 64}), "a" * 64)


# ---- raw websocket ----------------------------------------------------------

@case
def raw_websocket():
    ws = websocket(BASE + "/websocket")
    for message in ("Hello world!\uffff", b"\x00\xff\xfe", "", '["x"]'):
        ws.send(message)
        equal(ws.recv(), message)
    ws.close()


@case
def raw_websocket_close():
    ws = websocket(CLOSE + "/websocket")
    try:
        ws.recv()
        assert False, "it goes on"
    except Closed as end:
        equal((end.code, end.reason), (3000, "Go away!"))
    ws.close()


# ---- JSON -------------------------------------------------------------------

SERVER_ESCAPES = [c for a, b in ((0x200c, 0x200f), (0x2028, 0x202f), (0x2060, 0x206f),
                                 (0xfff0, 0xffff)) for c in range(a, b + 1)]
CLIENT_ESCAPES = [c for a, b in ((0x00, 0x1f), (0x22, 0x22), (0x5c, 0x5c), (0x7f, 0x9f),
                                 (0x0300, 0x0362), (0x0600, 0x0604), (0x2000, 0x20ff),
                                 (0xf900, 0xfad9), (0xfeff, 0xfeff), (0xfff0, 0xffff))
                  for c in range(a, b + 1)]


@case
def server_escapes_what_browsers_mangle():
    url = opened()
    text = "".join(map(chr, SERVER_ESCAPES))
    equal(POST(url + "/xhr_send", body=json.dumps([text], ensure_ascii=False)).status, 204)
    polled(url, 'a["' + "".join(f"\\u{c:04x}" for c in SERVER_ESCAPES) + '"]')


@case
def server_decodes_what_clients_escape():
    url = opened()
    escaped = "".join(f"\\u{c:04x}" for c in CLIENT_ESCAPES)
    equal(POST(url + "/xhr_send", body=f'["{escaped}"]').status, 204)
    r = POST(url + "/xhr")
    equal(json.loads(r.body[1:]), ["".join(map(chr, CLIENT_ESCAPES))])


@case
def surrogate_pairs_are_joined():
    url = opened()
    equal(POST(url + "/xhr_send", body='["\\ud83d\\ude00"]').status, 204)
    polled(url, 'a["\U0001f600"]')


# ---- closing ----------------------------------------------------------------

@case
def close_frame_unlinks_the_request():
    url = session(CLOSE)
    one = Stream("POST", url + "/xhr_streaming")
    one.read()
    equal([one.read(), one.read()], ["o\n", GO_AWAY + "\n"])
    two = Stream("POST", url + "/xhr_streaming")
    two.read()
    equal(two.read(), GO_AWAY + "\n")
    equal([one.read(), two.read()], ["", ""])


@case
def second_stream_is_refused():
    url = session()
    one = Stream("POST", url + "/xhr_streaming")
    one.read()
    equal(one.read(), "o\n")
    two = Stream("POST", url + "/xhr_streaming")
    two.read()
    equal([two.read(), two.read()], [BUSY + "\n", ""])
    sent(url, "undisturbed")
    equal(one.read(), 'a["undisturbed"]\n')
    one.close()


def after_abort(poll, frame):
    for _ in range(50):
        have = poll()
        if have != frame(BUSY):  # the server has yet to learn that the first one left
            break
        time.sleep(0.05)
    among(have, (frame("o"), frame(INTERRUPTED)))


@case
def aborted_stream_ends_the_session():
    url = session()
    one = Stream("POST", url + "/xhr_streaming")
    one.read()
    equal(one.read(), "o\n")
    one.close()

    def poll():
        s = Stream("POST", url + "/xhr_streaming")
        s.read()
        frame = s.read()
        s.close()
        return frame
    after_abort(poll, lambda f: f + "\n")


@case
def aborted_poll_ends_the_session():
    url = opened()
    one = Http(address)
    one.ask("POST", url + "/xhr")
    time.sleep(0.25)
    polled(url, BUSY)
    one.close()
    after_abort(lambda: POST(url + "/xhr").body, lambda f: (f + "\n").encode())


@case
def transports_may_change():
    url = opened()
    sent(url, "a")
    s = Stream("GET", url + "/eventsource")
    s.read()
    equal(s.read(), 'data: a["a"]\r\n\r\n')
    sent(url, "x" * 4100)
    s.read()
    equal(s.read(), "")
    sent(url, "b")
    polled(url, 'a["b"]')


# ---- HTTP 1.0 and 1.1 -------------------------------------------------------

@case
def http10_greeting():
    c = Http(address)
    r = c.start("GET", BASE, {"Connection": "Keep-Alive"}, version="1.0")
    equal(r.status, 200)
    assert not r["transfer-encoding"]
    equal(r["content-length"], "19")
    equal(c.read(19), b"Welcome to SockJS!\n")
    if (r["connection"] or "").lower() == "keep-alive":
        equal(c.start("GET", BASE, {"Connection": "Keep-Alive"}, version="1.0").status, 200)
    else:
        assert c.closed()


@case
def http10_streaming():
    c = Http(address)
    r = c.start("POST", session(CLOSE) + "/xhr_streaming", {"Connection": "Keep-Alive"},
                version="1.0")
    equal(r.status, 200)
    assert not r["transfer-encoding"] and not r["content-length"]
    equal(c.read(2049), b"h" * 2048 + b"\n")
    equal(c.read(2), b"o\n")
    equal(c.read(19), GO_AWAY.encode() + b"\n")
    assert c.closed()


@case
def http11_greeting():
    c = Http(address)
    for _ in range(3):
        r = c.request("GET", BASE, {"Connection": "Keep-Alive"})
        equal((r.status, r["content-length"], r.body), (200, "19", b"Welcome to SockJS!\n"))
        among((r["connection"] or "").lower(), ("", "keep-alive"))


@case
def http11_streaming():
    c = Http(address)
    r = c.start("POST", session(CLOSE) + "/xhr_streaming", {"Connection": "Keep-Alive"})
    equal((r.status, r["transfer-encoding"].lower()), (200, "chunked"))
    assert not r["content-length"]
    assert c.chunk().startswith(b"h")
    equal([c.chunk(), c.chunk(), c.chunk()], [b"o\n", GO_AWAY.encode() + b"\n", b""])
    equal(c.request("GET", BASE).status, 200)


@case
def one_connection_carries_a_whole_session():
    c = Http(address)
    url = session()
    for i in range(20):
        r = c.request("POST", url + "/xhr")
        equal((r.status, r.body.decode()), (200, "o\n" if i == 0 else f'a["{i - 1}"]\n'))
        equal(c.request("POST", url + "/xhr_send", body=f'["{i}"]').status, 204)


@case
def post_without_length():
    c = Http(address)
    c.send(("POST %s/xhr HTTP/1.1\r\nHost: x\r\n\r\n" % session()).encode())
    equal(c.finish(c.head(), "POST").body, b"o\n")


@case
def post_in_pieces():
    url = opened()
    for chunked in (False, True):
        c = Http(address)
        kind = "Transfer-Encoding: chunked" if chunked else "Content-Length: 7"
        c.send(f"POST {url}/xhr_send HTTP/1.1\r\nHost: x\r\n{kind}\r\n\r\n".encode())
        for byte in '["xyz"]':
            time.sleep(0.01)
            c.send(f"1\r\n{byte}\r\n".encode() if chunked else byte.encode())
        if chunked:
            c.send(b"0\r\n\r\n")
        equal(c.finish(c.head(), "POST").status, 204)
        c.close()
    polled(url, 'a["xyz","xyz"]')


# ---- inputs that no honest client sends -------------------------------------

@case
def wrong_methods_are_405():
    url = session()
    for method, path in (("GET", url + "/xhr"), ("GET", url + "/xhr_send"),
                         ("POST", url + "/eventsource"), ("POST", url + "/htmlfile"),
                         ("POST", url + "/jsonp"), ("GET", url + "/jsonp_send"),
                         ("PUT", url + "/xhr"), ("PUT", BASE), ("PUT", BASE + "/"),
                         ("PUT", BASE + "/info"), ("DELETE", BASE + "/iframe.html"),
                         ("POST", BASE + "/info"), ("PATCH", url + "/websocket"),
                         ("PUT", "/ws-chat/info"), ("HEAD", url + "/eventsource")):
        is_405(request(method, path))


@case
def a_body_that_is_too_big_ends_the_session():
    url = opened("/ws-chat")
    r = POST(url + "/xhr_send", body='["' + "x" * 65533 + '"]')
    equal(r.status, 413)
    polled(url, 'c[1009,"Message too big"]')
    polled(url, 'c[1009,"Message too big"]')
    url = opened()
    r = POST(url + "/xhr_send", body=json.dumps([""] * 1025))
    equal(r.status, 413)
    polled(url, 'c[1009,"Message too big"]')
    url = opened()
    sent(url, *[""] * 1024)


@case
def sessions_belong_to_their_maker():
    url = opened(headers={"Authorization": "Bearer mine"})
    mine = {"Authorization": "Bearer mine"}
    for headers, query in (({"Authorization": "Bearer other"}, ""), ({}, ""), ({}, "?token=mine"),
                           (mine, "?token=x")):
        equal(POST(f"{url}/xhr{query}", headers=headers).status, 404)
        equal(POST(f"{url}/xhr_send{query}", headers=headers, body='["x"]').status, 404)
    sent(url, "mine", headers=mine)
    polled(url, 'a["mine"]', headers=mine)
    url = session()
    equal(POST(url + "/xhr?token=a").body, b"o\n")
    equal(POST(url + "/xhr?token=b").status, 404)
    equal(POST(url + "/xhr_send?token=a&t=2", body='["a"]').status, 204)
    equal(POST(url + "/xhr?token=a").body, b'a["a"]\n')


@case
def sessions_belong_to_an_address():
    url = opened()
    equal(POST(url + "/xhr", source="127.0.0.2").status, 404)
    equal(POST(url + "/xhr_send", body='["x"]', source="127.0.0.2").status, 404)
    r = POST(url + "/xhr_send", body='["' + "x" * 1100000 + '"]', source="127.0.0.2")
    equal(r.status, 413)
    sent(url, "a")
    polled(url, 'a["a"]')


@case
def slow_consumers_are_closed():
    url = opened("/amplify")
    for _ in range(3):
        sent(url, "18")
    polled(url, 'c[4500,"slow consumer"]')
    equal(POST(url + "/xhr_send", body='["1"]').status, 404)


@case
def amplify():
    url = opened("/amplify")
    for n in (1, 4, 16):
        sent(url, str(n))
        polled(url, 'a["' + "x" * 2 ** n + '"]')
    s = Stream("POST", url + "/xhr_streaming")
    s.read()
    sent(url, "15", "2")
    equal(s.read(), 'a["' + "x" * 2 ** 15 + '"]\n')
    equal(s.read(), "")
    polled(url, 'a["xxxx"]')


@case
def messages_keep_their_order():
    url = opened()
    have, want = [], [f"{i}" for i in range(400)]
    c, p = Http(address), Http(address)
    for at in range(0, 400, 20):
        body = json.dumps(want[at:at + 20])
        equal(c.request("POST", url + "/xhr_send", body=body).status, 204)
        have += json.loads(p.request("POST", url + "/xhr").body[1:])
    while len(have) < 400:
        have += json.loads(p.request("POST", url + "/xhr").body[1:])
    equal(have, want)


@case
def many_sessions_at_once():
    urls = [session() for _ in range(100)]
    for url in urls:
        polled(url, "o")
    for i, url in enumerate(urls):
        sent(url, str(i))
    for i, url in enumerate(urls):
        polled(url, f'a["{i}"]')


@case
def clients_may_leave_at_any_time():
    for i in range(60):
        url = session()
        c = Http(address)
        c.ask(("POST", "GET")[i & 1], url + ("/xhr_streaming", "/eventsource")[i & 1])
        if i % 3:
            c.head()
        other = Http(address)
        other.ask("POST", url + "/xhr_send", body='["' + "x" * 3000 + '"]')
        c.close()
        other.close()
    polled(session(), "o")


# ---- STOMP ------------------------------------------------------------------

def frame(command, body="", **headers):
    lines = [command] + [f"{k.replace('_', '-')}:{v}" for k, v in headers.items()]
    return "\n".join(lines) + "\n\n" + body + "\0"


CONNECT = frame("CONNECT", accept_version="1.2", host="x", login="guest", passcode="guest",
                heart_beat="0,0")


class Client:
    """STOMP over one of the transports."""

    def __init__(self, transport, connect=CONNECT):
        self.transport, self.url, self.frames, self.stream = transport, session("/ws-chat"), [], None
        if transport == "websocket":
            self.ws = websocket(self.url + "/websocket")
        elif transport not in ("xhr", "jsonp"):
            self.open()
        equal(self.receive(), "o")
        if connect:
            self.send(connect)
            assert self.next().startswith("CONNECTED\n")

    def open(self):
        name, method = {"xhr_streaming": ("xhr_streaming", "POST"),
                        "eventsource": ("eventsource", "GET"),
                        "htmlfile": ("htmlfile?c=x", "GET")}[self.transport]
        self.stream = Stream(method, f"{self.url}/{name}")
        self.stream.read()

    def receive(self):
        """The next SockJS frame."""
        if self.transport == "websocket":
            return self.ws.recv()
        if self.transport == "xhr":
            return POST(self.url + "/xhr").body.decode()[:-1]
        if self.transport == "jsonp":
            return json.loads(GET(self.url + "/jsonp?c=x").body.decode()[6:-4])
        text = self.stream.read()
        if not text:
            self.open()
            text = self.stream.read()
        if self.transport == "eventsource":
            return text[len("data: "):-4]
        if self.transport == "htmlfile":
            return json.loads(text[len("<script>\np("):-len(");\n</script>\r\n")])
        return text[:-1]

    def send(self, *texts):
        if self.transport == "websocket":
            self.ws.send(json.dumps(texts))
        elif self.transport == "jsonp":
            jsonp_sent(self.url, "d=" + urllib.parse.quote(json.dumps(texts)))
        else:
            sent(self.url, *texts)

    def next(self):
        """The next STOMP frame."""
        while not self.frames:
            text = self.receive()
            if text != "h":
                assert text.startswith("a["), text
                self.frames += [f for f in json.loads(text[1:]) if f != "\n"]
        return self.frames.pop(0)

    def close(self):
        if self.transport == "websocket":
            self.ws.close()
        elif self.stream:
            self.stream.close()


@case
def stomp_over_every_transport():
    names = ("websocket", "xhr", "xhr_streaming", "eventsource", "htmlfile", "jsonp")
    for name in names:
        for other in names:
            topic = f"/topic/{uuid.uuid4()}"
            a, b = Client(name), Client(other)
            a.send(frame("SUBSCRIBE", id="s", destination=topic, receipt="r"))
            assert "receipt-id:r" in a.next()
            b.send(frame("SEND", "hello \u20ac \u2028 </script>\n", destination=topic))
            message = a.next()
            assert message.startswith("MESSAGE\n"), message
            assert message.endswith("\n\nhello \u20ac \u2028 </script>\n\0"), message
            a.close()
            b.close()


@case
def stomp_frames_may_be_split_and_joined():
    for name in ("websocket", "xhr_streaming"):
        a = Client(name)
        topic = f"/topic/{uuid.uuid4()}"
        text = frame("SUBSCRIBE", id="s", destination=topic, receipt="r")
        a.send(text[:3], text[3:20])
        a.send(text[20:])
        assert "receipt-id:r" in a.next()
        a.send("".join(frame("SEND", str(i), destination=topic) for i in range(50)))
        equal([a.next().split("\n\n")[1] for _ in range(50)], [f"{i}\0" for i in range(50)])
        a.send("\n", "", *["\n"] * 3)
        a.send()
        a.send(frame("SEND", "end", destination=topic))
        assert a.next().endswith("end\0")
        a.close()


@case
def stomp_sends_arrive_in_order_and_receipted():
    for name in ("xhr_streaming", "xhr", "websocket"):
        a = Client(name)
        topic = f"/topic/{uuid.uuid4()}"
        a.send(frame("SUBSCRIBE", id="s", destination=topic))
        texts = [frame("SEND", str(i), destination=topic, receipt=i) for i in range(200)]
        for at in range(0, 200, 40):
            a.send(*texts[at:at + 40])
        bodies, receipts = [], []
        while len(bodies) + len(receipts) < 400:
            f = a.next()
            if f.startswith("RECEIPT"):
                receipts.append(re.search(r"receipt-id:(\d+)", f).group(1))
            else:
                bodies.append(f.split("\n\n")[1][:-1])
        equal(bodies, [str(i) for i in range(200)])
        equal(receipts, bodies)
        a.close()


@case
def stomp_error_comes_before_the_close():
    for name in ("xhr", "xhr_streaming", "eventsource", "websocket"):
        a = Client(name, connect=None)
        a.send(frame("CONNECT", accept_version="1.2", login="guest", passcode="wrong"))
        assert a.next().startswith("ERROR\n")
        text = a.receive()
        assert text.startswith("c[1008,") or text.startswith("c[1002,"), text
        a.close()


@case
def stomp_disconnect_closes_normally():
    for name in ("xhr", "xhr_streaming", "websocket"):
        a = Client(name)
        a.send(frame("DISCONNECT", receipt="bye"))
        assert "receipt-id:bye" in a.next()
        assert a.receive().startswith("c[1000,")
        a.close()


@case
def stomp_binary_goes_as_text():
    a = Client("xhr_streaming")
    topic = f"/topic/{uuid.uuid4()}"
    a.send(frame("SUBSCRIBE", id="s", destination=topic, receipt="r"))
    a.next()
    ws = WebSocket(address, "/ws-chat", {"Sec-WebSocket-Protocol": "v12.stomp"})
    ws.send(CONNECT)
    assert ws.recv().startswith("CONNECTED\n")
    head = f"SEND\ndestination:{topic}\ncontent-length:3\n\n".encode()
    ws.send(head + b"\xff\x00x\0")
    assert a.next().endswith("\n\n\ufffd\0x\0")
    ws.close()
    a.close()


@case
def raw_websocket_given_sockjs_frames_is_an_error():
    ws = WebSocket(address, "/ws-chat/websocket")
    ws.send(json.dumps([CONNECT]))
    try:
        assert ws.recv().startswith("ERROR\n")
        ws.recv()
        assert False, "it goes on"
    except Closed as end:
        equal(end.code, 1002)
    ws.close()


# ---- other settings -----------------------------------------------------------

def with_server(workers, settings, function):
    """Runs it against a server of its own; returns the exit code and the log."""
    global address
    before = address
    server = Server(BUILD, CONFIG, {"server.workers": workers, **settings})
    address = server.address
    try:
        function(server)
    finally:
        address = before
        result = server.stop()
    equal(result[0], 0, result[1][-2000:])


OWN = []  # cases that need a server of their own: (settings, function)


def own_server(**settings):
    def add(function):
        OWN.append(({k.replace("__", "."): v for k, v in settings.items()}, function))
        return function
    return add


@own_server(sockjs__disconnect_delay="1s", sockjs__heartbeat="1s", stomp__heartbeat="60s")
def timers(_):
    url = opened()
    time.sleep(2)
    equal(POST(url + "/xhr_send", body='["x"]').status, 404)
    url = opened()
    begin = time.monotonic()
    polled(url, "h")
    assert 0.9 < time.monotonic() - begin < 1.6
    polled(url, "h")
    s = Stream("POST", session() + "/xhr_streaming")
    s.read()
    equal([s.read(), s.read(), s.read()], ["o\n", "h\n", "h\n"])
    s.close()
    ws = websocket(ws_url())
    equal([ws.recv(), ws.recv(), ws.recv()], ["o", "h", "h"])
    ws.close()
    url = opened(CLOSE)
    polled(url, GO_AWAY)
    time.sleep(1.5)
    polled(url, "o")
    for _ in range(200):
        opened()
    # STOMP heart-beats take the place of SockJS's.
    a = Client("xhr_streaming", connect=None)
    a.send(frame("CONNECT", accept_version="1.2", login="guest", passcode="guest",
                 heart_beat="60000,60000"))
    assert a.next().startswith("CONNECTED\n")
    a.stream.c.s.settimeout(2.5)
    try:
        equal(a.stream.read(), None, "a heart-beat, though STOMP has its own:")
    except TimeoutError:
        pass
    a.close()


@own_server(http__allowed_origins='["https://app.example.com"]', sockjs__jsonp="false",
            sockjs__htmlfile="false", sockjs__iframe="same-origin")
def foreign_origins(_):
    url = session()
    bad = ["https://app.example.com.evil.com", "null", "http://app.example.com",
           "https://app.example.com:8443", "https://APP.example.com", "evil"]
    for origin in bad:
        for method, path in (("GET", BASE + "/info"), ("POST", url + "/xhr"),
                             ("POST", url + "/xhr_send"), ("POST", url + "/xhr_streaming"),
                             ("GET", url + "/eventsource"), ("GET", BASE + "/iframe.html"),
                             ("OPTIONS", url + "/xhr"), ("GET", "/ws-chat/info")):
            r = request(method, path, headers={"Origin": origin})
            equal(r.status, 403, origin + path)
            assert b"ORIGIN_NOT_ALLOWED" in r.body
            assert not any(k.lower().startswith("access-control") for k, _ in r.headers)
        for path in (ws_url(), ws_url("/ws-chat"), BASE + "/websocket"):
            try:
                WebSocket(address, path, {"Origin": origin})
                assert False, origin
            except RuntimeError as e:
                assert "403" in str(e), e
    good = {"Origin": "https://app.example.com"}
    has_cors(polled(url, "o", headers=good), good["Origin"])
    has_cors(GET(BASE + "/info", headers=good), good["Origin"])
    for name in ("jsonp?c=x", "htmlfile?c=x"):
        equal(GET(f"{url}/{name}").status, 404)
    equal(POST(url + "/jsonp_send", body="d=").status, 404)
    r = GET(BASE + "/iframe.html")
    equal((r.status, r["x-frame-options"]), (200, "SAMEORIGIN"))
    assert "frame-ancestors 'self'" in r["content-security-policy"]


@own_server(sockjs__iframe="off", sockjs__cookie="true")
def no_iframe(_):
    equal(GET(BASE + "/iframe.html").status, 404)
    has_cookie(polled(session("/ws-chat"), "o"))
    equal(json.loads(GET("/ws-chat/info").body)["cookie_needed"], True)


@own_server()
def stopping(server):
    streams = [Stream("POST", session(base) + "/xhr_streaming") for base in (BASE, "/ws-chat") * 8]
    for s in streams:
        s.read()
        equal(s.read(), "o\n")
    ws = websocket(ws_url())
    equal(ws.recv(), "o")
    server.process.terminate()
    for s in streams:
        text = s.read()
        assert text.startswith("c[10"), text
        equal(s.read(), "")
    try:
        while ws.recv().startswith("c["):
            pass
    except Closed as end:
        equal(end.code, 1012)


# ---- running them -------------------------------------------------------------

def run(name, function, *args):
    try:
        function(*args)
        return True, f"{name}"
    except Exception:  # whatever it is, the next case shall run
        lines = traceback.format_exc().strip().split("\n")
        return False, name + "\n" + "\n".join("# " + line for line in lines[1:])


def main(workers_list):
    global address
    plan = len(workers_list) * (len(CASES) + len(OWN) + 1)
    print(f"1..{plan}", flush=True)
    number = failed = 0

    def report(ok, text):
        nonlocal number, failed
        number += 1
        failed += not ok
        print(("ok" if ok else "not ok"), number, "-", text, flush=True)

    settings = {"sockjs.max_body": "64 KiB", "sockjs.max_queue": "512 KiB"}
    only = os.environ.get("ONLY")
    for workers in workers_list:
        server = Server(BUILD, CONFIG, {"server.workers": workers, **settings})
        address = server.address
        for function in CASES:
            if not only or only in function.__name__:
                report(*run(f"{function.__name__} ({workers} workers)", function))
        code, log = server.stop()
        report(code == 0, f"the server ends well ({workers} workers)" + (
            "" if code == 0 else f"\n# exit code {code}\n# " + log[-8000:].replace("\n", "\n# ")))
        for own, function in OWN:
            if not only or only in function.__name__:
                report(*run(f"{function.__name__} ({workers} workers)", with_server, workers,
                            {**settings, **own}, function))
    return 1 if failed else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    BUILD = arguments.pop(0) if arguments else os.environ["CHATD_BUILD"]
    sys.exit(main([int(w) for w in arguments] or [1, 4]))
