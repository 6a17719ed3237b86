# SPDX-License-Identifier: Apache-2.0
"""Inputs that no honest client sends, and settings of every kind."""
import json
import random
import threading
import time

import kit
from kit import (BASE, CLOSE, CONNECT, Client, GET, GO_AWAY, OPTIONS, POST, Stream, among, case, equal,
                 frame, has_cookie, has_cors, is_405, jsonp, opened, own_server, polled, request,
                 sent, session, websocket, ws_url)
from wire import Closed, Http, WebSocket

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
    sent(url, "18")
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
    c, p = Http(kit.address), Http(kit.address)
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
        c = Http(kit.address)
        c.ask(("POST", "GET")[i & 1], url + ("/xhr_streaming", "/eventsource")[i & 1])
        if i % 3:
            c.head()
        other = Http(kit.address)
        other.ask("POST", url + "/xhr_send", body='["' + "x" * 3000 + '"]')
        c.close()
        other.close()
    polled(session(), "o")


@case
def many_clients_in_disorder():
    """Requests for the same sessions from many connections, which leave when they like."""
    urls = [session(base) for base in (BASE, CLOSE, "/ws-chat", "/amplify") for _ in range(4)]
    end = time.monotonic() + 3
    trouble = []

    def client(seed):
        dice = random.Random(seed)
        while time.monotonic() < end:
            url = dice.choice(urls)
            name = dice.choice(("xhr", "xhr_streaming", "eventsource", "xhr_send", "xhr_send"))
            c = Http(kit.address)
            try:
                body = json.dumps([str(dice.randrange(12))] * dice.randrange(9))
                c.ask("GET" if name == "eventsource" else "POST", f"{url}/{name}",
                      body=body if name == "xhr_send" else None)
                c.s.settimeout(dice.choice((0.001, 0.02, 0.1)))
                if dice.randrange(3):
                    r = c.finish(c.head(), "POST")
                    if r.status not in (200, 204, 404):
                        trouble.append((name, r.status, r.body))
            except (TimeoutError, EOFError):
                pass
            except Exception as e:  # told to the main thread
                trouble.append((name, repr(e)))
            finally:
                c.close()

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(trouble[:3], [])
    polled(session(), "o")


# ---- other settings -----------------------------------------------------------

@own_server(sockjs__disconnect_delay="1s")
def sessions_are_forgotten(_):
    url = opened()
    time.sleep(2)
    equal(POST(url + "/xhr_send", body='["x"]').status, 404)
    url = opened(CLOSE)
    among(POST(url + "/xhr").body, ((GO_AWAY + "\n").encode(), b"o\n"))  # the latter for who asks a second later
    time.sleep(1.5)
    polled(url, "o")
    for _ in range(200):
        opened()


@own_server(sockjs__disconnect_delay="30s", sockjs__heartbeat="1s", stomp__heartbeat="60s")
def timers(_):
    begin = time.monotonic()
    url = opened()
    polled(url, "h")
    assert 0.9 < time.monotonic() - begin
    polled(url, "h")
    s = Stream("POST", session() + "/xhr_streaming")
    s.read()
    equal([s.read(), s.read(), s.read()], ["o\n", "h\n", "h\n"])
    s.close()
    ws = websocket(ws_url())
    equal([ws.recv(), ws.recv(), ws.recv()], ["o", "h", "h"])
    ws.close()
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
                WebSocket(kit.address, path, {"Origin": origin})
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


# "guest" as a hash: checking it takes a while and happens elsewhere, so STOMP pauses.
HASH = ("$argon2id$v=19$m=1024,t=3,p=1$kHW5eRcny8sT9aGklNxn2g$0ERP1XQ"
        "0mdL36mIl6Mk3g+iePNhZxC5ngsQZEPure90")


@own_server(**{"auth-static__users": "[{login: guest, passcode: '" + HASH + "'}]"})
def what_comes_during_a_pause_waits(_):
    for name in ("xhr_streaming", "xhr", "jsonp", "websocket"):
        a = Client(name, connect=None)
        topic = "/topic/pause-" + name
        a.send(CONNECT, frame("SUBSCRIBE", id="s", destination=topic),
               *(frame("SEND", str(i), destination=topic) for i in range(20)))
        a.send(*(frame("SEND", str(i), destination=topic) for i in range(20, 40)))
        assert a.next().startswith("CONNECTED\n")
        equal([a.next().split("\n\n")[1] for _ in range(40)], [f"{i}\0" for i in range(40)])
        a.close()
    # Leaving in the middle of it.
    for name in ("xhr_streaming", "xhr", "websocket") * 3:
        a = Client(name, connect=None)
        if name == "websocket":
            a.send(CONNECT, CONNECT)
        else:
            c = Http(kit.address)
            c.ask("POST", a.url + "/xhr_send", body=json.dumps([CONNECT, CONNECT]))
            c.close()
        a.close()
    a = Client("xhr")
    a.close()
