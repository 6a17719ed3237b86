# SPDX-License-Identifier: Apache-2.0
"""What the cases share: requests, checks, a STOMP client, and the list of cases."""
import json
import os
import re
import select
import urllib.parse
import uuid

from wire import TIMEOUT, Http, Server, WebSocket

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


def waiting_poll(url):
    """A poll that the server knows to wait: of two at once it refuses the second one, whichever that is."""
    two = [Http(address), Http(address)]
    for c in two:
        c.ask("POST", url + "/xhr")
    ready = select.select([c.s for c in two], [], [], TIMEOUT)[0]
    waits, refused = two if two[1].s in ready else two[::-1]
    equal(refused.finish(refused.head(), "POST").body.decode(), BUSY + "\n")
    refused.close()
    return waits


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


def has_cookie(r, value="dummy"):
    parts = [p.strip() for p in r["set-cookie"].split(";")]
    equal((parts[0], parts[1].lower()), ("JSESSIONID=" + value, "path=/"))


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


# ---- servers with other settings --------------------------------------------

def with_server(build, workers, settings, function):
    """Runs it against a server of its own; returns the exit code and the log."""
    global address
    before = address
    server = Server(build, CONFIG, {"server.workers": workers, **settings})
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
