# SPDX-License-Identifier: Apache-2.0
"""Event logs: what clients saw, one line per event, times of CLOCK_MONOTONIC in ns.

    TIME kind field...         separated by tabs; fields never hold one; an absent field is "-"

    open    client conn
    close   client conn why
    invoke  client conn conv n hash            a SEND left; n counts the client's messages
    ack     client conn n id seq epoch         its RECEIPT
    reject  client conn n code                 its soft error
    ask     client conn chan                   a SUBSCRIBE left; what is replayed comes before its RECEIPT
    sub     client conn chan since recovered top
    gap     client conn chan                   the server cannot replay: history is read instead
    recv    client conn chan conv seq pos id sender n hash
    final   client chan                        resumed after all was sent: has everything
    fault / heal  what                         said by the test

A client is a device, "user" or "user.device".  conv is "room:ID" or "direct:A:B" (sorted); chan
is a room's conv, or "inbox" for all direct ones.  What a client hears of a chan over all its
connections is one chain.
"""
import hashlib
import time


def digest(text):
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def direct(a, b):
    return "direct:%s:%s" % tuple(sorted((a, b)))


def user_of(client):
    return client.partition(".")[0]


def body_of(user, n, size=40):
    """A content that names its sender and number, and can be told from a corrupted one."""
    text = "F %s %d " % (user, n)
    return text + "x" * max(0, size - len(text))


def parse_body(content):
    """(client, n), or None: nobody of ours said that."""
    parts = content.split(" ")
    return (parts[1], parts[2]) if len(parts) >= 3 and parts[0] == "F" else None


class Log:
    """Appends; flush() is the owner's business, a killed owner loses what was not flushed."""

    def __init__(self, path):
        self.file = open(path, "a", buffering=1 << 16)

    def __call__(self, kind, *fields):
        self.file.write("%d\t%s\t%s\n" % (time.monotonic_ns(), kind, "\t".join(map(str, fields))))

    def flush(self):
        self.file.flush()

    def close(self):
        self.file.close()


def read(path):
    with open(path) as f:
        for line in f:
            if line.endswith("\n"):
                t, kind, *fields = line[:-1].split("\t")
                yield int(t), kind, fields
