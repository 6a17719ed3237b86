#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many clients that talk, lose their connection, come back, resume and send again; each writes what
it saw into the event log (events.py).

Usage: driver.py CONFIG.json, and commands as lines on standard input:

    load R          R messages a second from now on, 0: none
    cut N           N connections break now
    finish          wait for every answer, resume every other client, say what all have, and end

Answers on standard output: "ready" once all are subscribed, "done" after finish.  The file names the
server's --ready-file (read again at each reconnection: a restarted server has another port), or
those of several nodes, any of which is taken at each reconnection; the log, and the clients:
{"client","login","rooms","spy","ws"}.  A spy is a member of none of its rooms, and asks to listen to them
again and again.  ws: by WebSocket, through the balancer at the address "ws".
"patience": for so many seconds a connection waits for CONNECTED; "settle": so long one that lives may
wait for what was published at the end.
"""
import asyncio
import base64
import json
import os
import random
import sys

import events

INBOX = "/user/queue/messages"
NOTICES = "/user/queue/rooms"
ERRORS = "/user/queue/errors"
TOPIC = "/topic/room/"
AGAIN = ("STORE_BUSY", "STORE_FULL", "UNAVAILABLE")
IDLE, ASKING, LIVE, OUT = range(4)  # of a subscription
PENDING_MAX = 64


def cut_frame(raw):
    head, _, body = raw.lstrip(b"\r\n").partition(b"\n\n")
    lines = head.decode().split("\n")
    headers = {}
    for line in lines[1:]:
        k, _, v = line.partition(":")
        headers[k] = v.replace("\\c", ":")
    return lines[0], headers, body


class Channel:
    def __init__(self, dest):
        self.dest, self.state, self.serial = dest, IDLE, 0
        self.name = "inbox" if dest == INBOX else "room:" + dest[len(TOPIC):]
        self.epoch, self.since = None, "0"


class Wire(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, client, name):
        self.client, self.name, self.rest, self.transport = client, name, b"", None

    def connection_made(self, transport):
        self.transport = transport
        self.client.log("open", self.client.name, self.name)
        self.frame("CONNECT", {"accept-version": "1.2", "host": "x", "login": self.client.login,
                               "passcode": self.client.login})

    def frame(self, command, headers, body=b""):
        head = command + "\n" + "".join("%s:%s\n" % (k, v.replace(":", "\\c") if command != "CONNECT" else v)
                                        for k, v in headers.items())
        self.write(head.encode() + b"\n" + body + b"\0")

    def write(self, data):
        self.transport.write(data)

    def data_received(self, data):
        *raws, self.rest = (self.rest + data).split(b"\0")
        for raw in raws:
            self.client.on_frame(self, *cut_frame(raw))

    def connection_lost(self, exc):
        self.client.on_lost(self, "error" if exc else "eof")


class WebWire(Wire):
    """The same by WebSocket."""

    def __init__(self, client, name):
        super().__init__(client, name)
        self.raw, self.open = b"", False

    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"GET /ws-chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v12.stomp\r\n"
                        b"Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)) + b"\r\n\r\n")

    def piece(self, op, data):
        """Masked, with zeros."""
        n = len(data)
        size = bytes([0x80 | n]) if n < 126 else b"\xfe" + n.to_bytes(2, "big") if n < 65536 else \
            b"\xff" + n.to_bytes(8, "big")
        self.transport.write(bytes([0x80 | op]) + size + bytes(4) + data)

    def write(self, data):
        self.piece(1, data)

    def data_received(self, data):
        self.raw += data
        if not self.open:
            head, found, rest = self.raw.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.split(b"\r\n")[0]:
                self.transport.abort()
                return
            self.raw, self.open = rest, True
            super().connection_made(self.transport)
        while True:
            op, payload = self.cut()
            if op is None:
                return
            if op == 9:
                self.piece(10, payload)
            elif op == 8:
                self.client.why = payload[2:].decode(errors="replace").replace("\t", " ") or self.client.why
                self.transport.close()
            elif op in (0, 1, 2):
                super().data_received(payload)

    def cut(self):
        if len(self.raw) < 2:
            return None, b""
        n, at = self.raw[1] & 127, 2
        if n > 125:
            at = 4 if n == 126 else 10
            n = int.from_bytes(self.raw[2:at], "big")
        if len(self.raw) < at + n:
            return None, b""
        op, payload = self.raw[0] & 15, self.raw[at:at + n]
        self.raw = self.raw[at + n:]
        return op, payload

    def connection_lost(self, exc):
        if self.open:
            super().connection_lost(exc)
        else:
            self.client.on_lost(self, "refused")


class Client:
    def __init__(self, crowd, conf):
        self.crowd, self.log, self.name = crowd, crowd.log, conf["client"]
        self.login, self.user = conf["login"], events.user_of(conf["client"])
        self.spy, self.ws = conf.get("spy", False), conf.get("ws", False)
        self.rooms = [TOPIC + r for r in conf["rooms"]]
        self.chans = {d: Channel(d) for d in ([] if self.spy else [INBOX]) + self.rooms}
        self.wire, self.count, self.n, self.pending, self.why, self.over = None, 0, 0, {}, "", False

    # ---- connecting ----

    async def live(self):
        while not self.over:
            self.gone = asyncio.get_running_loop().create_future()
            self.count += 1
            name = "%s#%d" % (self.name, self.count)
            try:
                host, port = self.crowd.address(self.ws)
                kind = WebWire if self.ws else Wire
                transport, wire = await asyncio.wait_for(asyncio.get_running_loop().create_connection(
                    lambda: kind(self, name), host, port), 5)
                await self.until_gone(transport, wire)
            except (OSError, asyncio.TimeoutError, ValueError):
                pass
            await asyncio.sleep(random.uniform(0.02, 0.1))

    async def until_gone(self, transport, wire):
        patience = self.crowd.conf.get("patience")
        if patience and not (await asyncio.wait((self.gone,), timeout=patience))[0] and self.wire is not wire:
            self.why = "no CONNECTED"
            transport.abort()
        await self.gone

    def on_lost(self, wire, why):
        self.log("close", self.name, wire.name, self.why or why)
        self.wire, self.why = None, ""
        for chan in self.chans.values():
            chan.state = IDLE
        if not self.gone.done():
            self.gone.set_result(None)

    def drop(self):
        if self.wire:
            if random.random() < 0.5:
                self.wire.transport.abort()
            else:
                self.wire.transport.close()

    def on_connected(self, wire):
        self.wire = wire
        wire.frame("SUBSCRIBE", {"id": "e", "destination": ERRORS})
        if not self.spy:
            wire.frame("SUBSCRIBE", {"id": "n", "destination": NOTICES})
        for chan in self.chans.values():
            self.subscribe(chan)
        for n in sorted(self.pending):
            self.invoke(n)

    # ---- subscribing ----

    def subscribe(self, chan):
        if not self.wire or chan.state in (ASKING, LIVE):
            return
        chan.state = ASKING
        chan.serial += 1
        chan.asked = chan.since
        headers = {"id": "%s/%d" % (chan.name, chan.serial), "destination": chan.dest, "receipt": "s" + chan.dest,
                   "since": chan.since}
        if chan.epoch and chan.name != "inbox":
            headers["epoch"] = chan.epoch
        self.log("ask", self.name, self.wire.name, chan.name)
        self.wire.frame("SUBSCRIBE", headers)

    def on_subscribed(self, wire, chan, h):
        chan.state = LIVE
        chan.epoch = h.get("epoch", chan.epoch)
        since = chan.asked.partition("-")[0]
        if chan.since == "0" and chan.name == "inbox":
            chan.since = h["cursor"]
        self.log("sub", self.name, wire.name, chan.name, since, h.get("recovered", "-"), h.get("seq", "-"))
        if h.get("recovered") == "false":
            self.log("gap", self.name, wire.name, chan.name)

    def on_refused(self, chan):
        chan.state = OUT
        asyncio.get_running_loop().call_later(0.3, self.retry, chan)

    def retry(self, chan):
        if chan.state == OUT:
            self.subscribe(chan)

    def on_notice(self, m):
        """One was shown out of a room, or brought in again."""
        chan = self.chans.get(TOPIC + m.get("roomId", ""))
        if chan and m.get("type") == "LEAVE" and m.get("sender") == self.user and chan.state == LIVE:
            self.on_refused(chan)
        elif chan and m.get("type") == "JOIN" and m.get("sender") == self.user:
            self.retry(chan)

    # ---- frames ----

    def on_frame(self, wire, command, h, body):
        if command == "MESSAGE":
            if h["destination"] == ERRORS:
                self.on_error(wire, json.loads(body))
            elif h["destination"] == NOTICES:
                self.on_notice(json.loads(body))
            else:
                self.on_message(wire, h, json.loads(body))
        elif command == "RECEIPT":
            rid = h["receipt-id"]
            if rid[0] == "s":
                self.on_subscribed(wire, self.chans[rid[1:]], h)
            else:
                self.on_receipt(wire, int(rid[1:]), h)
        elif command == "CONNECTED":
            self.on_connected(wire)
        elif command == "ERROR":
            self.why = h.get("message", "ERROR").replace("\t", " ")

    def on_error(self, wire, e):
        rid = e.get("receiptId", "")
        if rid[:1] == "s":
            self.on_refused(self.chans[rid[1:]])
            return
        n = int(rid[1:])
        self.log("reject", self.name, wire.name, n, e["code"])
        if e["code"] in AGAIN:
            asyncio.get_running_loop().call_later(random.uniform(0.2, 0.4), self.again, wire, n)
        else:
            self.pending.pop(n, None)

    def again(self, wire, n):
        if self.wire is wire and n in self.pending:
            self.invoke(n)

    def on_receipt(self, wire, n, h):
        self.log("ack", self.name, wire.name, n, h["message-id"], h["seq"], h["epoch"])
        self.pending.pop(n, None)

    def on_message(self, wire, h, m):
        if m.get("code") == "HISTORY_GAP":
            return
        chan = self.chans[h["destination"]]
        conv, pos = chan.name, "-"
        if chan.name == "inbox":
            conv = events.direct(m["sender"], m["receiver"])
            chan.since = h["cursor"]
            pos = chan.since.partition("-")[0]
        else:
            chan.since = h["seq"]
        said = events.parse_body(m.get("content", "")) or ("-", "-")
        self.log("recv", self.name, wire.name, chan.name, conv, h["seq"], pos, h["message-id"], *said,
                 events.digest(m["content"]) if "content" in m else "-")

    # ---- talking ----

    def say(self, to):
        """to: a room's topic, or a user."""
        self.n += 1
        body = {"content": events.body_of(self.name, self.n), "clientId": "%s-%d" % (self.name, self.n)}
        if to.startswith(TOPIC):
            body["roomId"] = to[len(TOPIC):]
            conv = "room:" + body["roomId"]
        else:
            body["to"] = to
            conv = events.direct(self.user, to)
        self.pending[self.n] = (conv, events.digest(body["content"]), json.dumps(body).encode())
        if self.wire:
            self.invoke(self.n)

    def invoke(self, n):
        conv, digest, body = self.pending[n]
        self.log("invoke", self.name, self.wire.name, conv, n, digest)
        self.wire.frame("SEND", {"destination": "/app/chat.send", "receipt": "r%d" % n}, body)

    def settled(self):
        return not self.pending and self.wire and all(c.state in (LIVE, OUT) for c in self.chans.values())

    def finish(self):
        for chan in self.chans.values():
            if chan.state == LIVE and not self.spy:
                self.log("final", self.name, chan.name)


class Crowd:
    def __init__(self, conf):
        self.conf, self.log, self.rate = conf, events.Log(conf["log"]), 0.0
        random.seed(conf.get("seed"))
        self.clients = [Client(self, c) for c in conf["clients"]]
        self.talkers = [c for c in self.clients if not c.spy]
        self.users = sorted({c.user for c in self.talkers})

    def address(self, ws=False):
        if ws:
            return self.conf["ws"]
        ready = self.conf["ready"]
        with open(random.choice(ready) if isinstance(ready, list) else ready) as f:
            host, _, port = json.load(f)["tcp"][0].rpartition(":")
        return host, int(port)

    def say_one(self):
        client = random.choice(self.talkers)
        if len(client.pending) >= PENDING_MAX:
            return
        others = [u for u in random.sample(self.users, min(2, len(self.users))) if u != client.user]
        direct = others and random.random() < self.conf.get("direct", 0.2)
        if direct or client.rooms:
            client.say(others[0] if direct else random.choice(client.rooms))

    async def talk(self):
        due = 0.0
        while True:
            await asyncio.sleep(0.01)
            due = min(due + self.rate * 0.01, 50)
            while due >= 1:
                due -= 1
                self.say_one()

    async def flush(self):
        while not self.log.file.closed:
            self.log.flush()
            await asyncio.sleep(0.2)

    async def flap(self):
        """Those named "flap" go and come again, every so many seconds."""
        names = set(self.conf.get("flap", ()))
        flappers = [c for c in self.clients if c.name in names]
        while flappers:
            await asyncio.sleep(self.conf.get("flap_every", 0.2) / len(flappers))
            if self.rate:
                random.choice(flappers).drop()

    async def until(self, fits, seconds, what):
        for _ in range(int(seconds * 50)):
            if all(fits(c) for c in self.clients):
                return True
            await asyncio.sleep(0.02)
        late = [(c.name, len(c.pending), c.wire is not None, {n.name: n.state for n in c.chans.values()})
                for c in self.clients if not fits(c)]
        print("late: %s: %r" % (what, late[:5]), flush=True)
        return False

    async def finish(self):
        self.rate = 0
        ok = await self.until(Client.settled, 40, "answers")
        await asyncio.sleep(self.conf.get("settle", 0.7))  # it is on its way to whoever stays connected
        for c in self.clients[::2]:
            c.drop()
        await asyncio.sleep(0.2)
        ok &= await self.until(Client.settled, 20, "resuming")
        await asyncio.sleep(0.3)
        for c in self.clients:
            c.finish()
        self.log.close()
        print("done" if ok else "failed", flush=True)

    async def run(self):
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(t) for t in [c.live() for c in self.clients] + [self.talk(), self.flush(), self.flap()]]
        await self.until(Client.settled, 30, "beginning")
        print("ready", flush=True)
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while True:
            words = (await reader.readline()).split()
            if not words:
                break
            if words[0] == b"load":
                self.rate = float(words[1])
            elif words[0] == b"cut":
                for c in random.sample(self.clients, int(words[1])):
                    c.drop()
            elif words[0] == b"finish":
                await self.finish()
                break
        del tasks


def main():
    with open(sys.argv[1]) as f:
        crowd = Crowd(json.load(f))
    asyncio.run(crowd.run())
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
