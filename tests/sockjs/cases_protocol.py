# SPDX-License-Identifier: Apache-2.0
"""The public protocol text, class by class."""
import json
import re
import time
import uuid

import kit
from kit import (BASE, BUSY, CLOSE, COOKIE, FORM, GET, GO_AWAY, INTERRUPTED, NO_WS, OPTIONS, POST,
                 Stream, among, case, equal, frame, has_cookie, has_cors, is_405, is_fresh,
                 is_lasting, jsonp, jsonp_sent, opened, polled, preflight, request, sent, session,
                 type_is, waiting_poll, websocket, ws_url)
from wire import Closed, Http, WebSocket

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
    first = waiting_poll(url)
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
    for value in ("a" * 65, "a b", "<x>", "", "a\xe4"):
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
    for _ in range(600):
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
    one = waiting_poll(url)
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
    c = Http(kit.address)
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
    c = Http(kit.address)
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
    c = Http(kit.address)
    for _ in range(3):
        r = c.request("GET", BASE, {"Connection": "Keep-Alive"})
        equal((r.status, r["content-length"], r.body), (200, "19", b"Welcome to SockJS!\n"))
        among((r["connection"] or "").lower(), ("", "keep-alive"))


@case
def http11_streaming():
    c = Http(kit.address)
    r = c.start("POST", session(CLOSE) + "/xhr_streaming", {"Connection": "Keep-Alive"})
    equal((r.status, r["transfer-encoding"].lower()), (200, "chunked"))
    assert not r["content-length"]
    assert c.chunk().startswith(b"h")
    equal([c.chunk(), c.chunk(), c.chunk()], [b"o\n", GO_AWAY.encode() + b"\n", b""])
    equal(c.request("GET", BASE).status, 200)


@case
def one_connection_carries_a_whole_session():
    c = Http(kit.address)
    url = session()
    for i in range(20):
        r = c.request("POST", url + "/xhr")
        equal((r.status, r.body.decode()), (200, "o\n" if i == 0 else f'a["{i - 1}"]\n'))
        equal(c.request("POST", url + "/xhr_send", body=f'["{i}"]').status, 204)


@case
def post_without_length():
    c = Http(kit.address)
    c.send(("POST %s/xhr HTTP/1.1\r\nHost: x\r\n\r\n" % session()).encode())
    equal(c.finish(c.head(), "POST").body, b"o\n")


@case
def post_in_pieces():
    url = opened()
    for chunked in (False, True):
        c = Http(kit.address)
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
