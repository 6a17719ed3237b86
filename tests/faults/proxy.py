#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""faultproxy: a TCP proxy that does to a link what networks do.

Usage: proxy.py TARGET, TARGET being HOST:PORT or the path of a --ready-file (its "tcp" address, read
anew for each connection).  Prints its own port; then commands are lines on standard input, answered
with "ok" or "what is wrong with it":

    pass [up|down]          as it came; both directions if none is named; ends whatever was said before
    stall [up|down]         read nothing: the sender's window fills
    blackhole [up|down]     read and throw away: no FIN, no RST, no answer
    delay MS [up|down]      each piece that much later
    rate BYTES [up|down]    so many a second
    corrupt P [up|down]     each byte changed with probability P
    truncate N [up|down]    N more bytes of each connection, then nothing
    half-close [up|down]    FIN in that direction, the other goes on
    drop-conn, rst          end all connections with a FIN, or a reset
    count                   "ok CONNECTIONS UP DOWN": open ones, and bytes passed in each direction

up is from the client to the server.  What is said counts for the connections there are and for new ones.
"""
import asyncio
import json
import os
import random
import socket
import struct
import sys

DIRECTIONS = ("up", "down")
PLAIN = ("pass", "stall", "blackhole", "half-close")
NUMBERED = {"delay": float, "rate": float, "corrupt": float, "truncate": int}


class Way:
    """What happens to one direction of all connections."""

    def __init__(self):
        self.mode, self.value, self.passed, self.changed = "pass", 0, 0, asyncio.Event()

    def set(self, mode, value):
        self.mode, self.value = mode, value
        self.changed.set()
        self.changed = asyncio.Event()


class Proxy:
    def __init__(self, target):
        self.target, self.ways, self.links = target, {d: Way() for d in DIRECTIONS}, set()

    def address(self):
        where = self.target
        if where.startswith("/"):
            with open(where) as f:
                where = json.load(f)["tcp"][0]
        host, _, port = where.rpartition(":")
        return host, int(port)

    async def accept(self, reader, writer):
        try:
            far = await asyncio.open_connection(*self.address())
        except (OSError, ValueError):
            writer.transport.abort()
            return
        link = (writer, far[1])
        self.links.add(link)
        try:
            await asyncio.gather(self.pump(self.ways["up"], reader, far[1]),
                                 self.pump(self.ways["down"], far[0], writer))
        except OSError:
            pass
        finally:
            self.links.discard(link)
            for w in link:
                w.close()

    async def pump(self, way, reader, writer):
        """One direction of one connection; ends it when its source does."""
        left, was = 0, None
        while True:
            while way.mode == "stall":
                await way.changed.wait()
            # The change of a mode must be noticed while nothing comes.
            got, change = asyncio.ensure_future(reader.read(65536)), asyncio.ensure_future(way.changed.wait())
            while not got.done():
                if way.mode == "half-close" and writer.can_write_eof() and not writer.transport.is_closing():
                    writer.write_eof()
                await asyncio.wait((got, change), return_when=asyncio.FIRST_COMPLETED)
                if change.done():
                    change = asyncio.ensure_future(way.changed.wait())
            change.cancel()
            data = got.result()
            if way.mode in ("stall", "delay") and data:
                await self.hold(way)
            if not data:
                break
            if way.mode != was:
                left, was = way.value if way.mode == "truncate" else 0, way.mode
            if way.mode == "truncate":
                data, left = data[:left], max(0, left - len(data))
            await self.put(way, writer, data)
        if way.mode != "blackhole" and writer.can_write_eof():
            writer.write_eof()

    async def hold(self, way):
        if way.mode == "delay":
            await asyncio.sleep(way.value / 1000)
        while way.mode == "stall":
            await way.changed.wait()

    async def put(self, way, writer, data):
        if way.mode in ("blackhole", "half-close") or not data:
            return
        if way.mode == "corrupt":
            data = bytes(b ^ random.randint(1, 255) if random.random() < way.value else b for b in data)
        way.passed += len(data)
        step = max(1, int(way.value / 20)) if way.mode == "rate" else len(data)
        for i in range(0, len(data), step):
            writer.write(data[i:i + step])
            await writer.drain()
            if way.mode == "rate":
                await asyncio.sleep(step / way.value)

    def end(self, reset):
        for near, far in list(self.links):
            for w in (near, far):
                if reset:
                    w.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    w.transport.abort()
                else:
                    w.close()

    def command(self, words):
        name, *args = words
        if name in ("drop-conn", "rst") and not args:
            self.end(name == "rst")
            return "ok"
        if name == "count" and not args:
            return "ok %d %d %d" % (len(self.links), self.ways["up"].passed, self.ways["down"].passed)
        value = 0
        if name in NUMBERED:
            if not args:
                return "%s needs a number: %s N [up|down]" % (name, name)
            value = NUMBERED[name](args.pop(0))
        elif name not in PLAIN:
            return "no such command; see the head of proxy.py"
        if len(args) > 1 or any(a not in DIRECTIONS for a in args):
            return "a direction is up or down, not %s" % " ".join(args)
        for d in args or DIRECTIONS:
            self.ways[d].set(name, value)
        return "ok"

    async def run(self):
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while True:
            line = (await reader.readline()).decode()
            if not line:
                os._exit(0)  # without ado: the connections end with it
            try:
                print(self.command(line.split() or [""]), flush=True)
            except ValueError as e:
                print("not a number: %s" % e, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(Proxy(sys.argv[1]).run())
