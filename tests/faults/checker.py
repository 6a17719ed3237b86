#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judges the event logs of a run (events.py) against what is stored.

Usage: checker.py --db STORE [--only PREFIX] [--rest HOST:PORT --token PATTERN] LOG...

The history is read from STORE, a SQLite file (read-only) or the postgresql:// address of a database,
and, with --rest, through the API; both must be the same.  --only: of rooms whose names, and direct
messages between users whose ids, begin so; what else is stored is of other runs.  Prints each set and the figures; exit code 1 if a set that must be empty is not.

  lost         acknowledged, and not stored, or stored in another place
  undelivered  stored, the chain was resumed to its end, and did not get it
  duplicated   got twice in one chain, or stored twice
  reordered    a chain's seq (in the inbox also the cursor) falls; or one connection's messages
               were acknowledged in another order than they were sent in
  unexpected   got or stored, and never sent, or with another body or id
  leaked       got by somebody who was no member at that seq, nor became one before subscribing
  holes        a seq between 1 and the top is missing in the store
  differing    the API's history is not the store's
  unanswered   a SEND got no answer although its connection lived until the end
  recovered    not acknowledged, and stored all the same: allowed, counted
"""
import argparse
import collections
import http.client
import json
import sqlite3
import subprocess
import sys

import events

EMPTY = ("lost", "undelivered", "duplicated", "reordered", "unexpected", "leaked", "holes", "differing",
         "unanswered")
ROOM_PUBLIC = 1  # CHATD_STORE_ROOM_PUBLIC

Row = collections.namedtuple("Row", "conv seq pos id sender said hash type")
Sub = collections.namedtuple("Sub", "since recovered top")


class Store:
    """Rows by (conv, seq); intervals of membership; who may read what."""

    def __init__(self, rows, public=(), members=()):
        self.rows, self.doubled, self.public = {}, [], set(public)
        self.by_message = collections.defaultdict(list)
        for r in rows:
            if (r.conv, r.seq) in self.rows:
                self.doubled.append("%s %d is stored twice" % (r.conv, r.seq))
            self.rows[r.conv, r.seq] = r
            if r.said is not None:
                self.by_message[r.said].append(r)
        self.top = {}
        for conv, seq in self.rows:
            self.top[conv] = max(seq, self.top.get(conv, 0))
        self.stays = self._stays(members)

    def _stays(self, members):
        """(conv, user) -> [[first seq, last seq or None]]; founders have no JOIN."""
        stays = collections.defaultdict(list)
        for r in sorted(self.rows.values(), key=lambda r: r.seq):
            mine = stays[r.conv, r.sender]
            if r.type == "JOIN":
                mine.append([r.seq, None])
            elif r.type == "LEAVE":
                if not mine:
                    mine.append([0, None])
                mine[-1][1] = r.seq
        for conv, user in members:
            if not stays[conv, user]:
                stays[conv, user].append([0, None])
        return stays

    def may_have(self, user, conv, seq, top):
        """top: what the conversation's was when the subscription was made."""
        if conv.startswith("direct:"):
            return user in conv.split(":")[1:]
        return conv in self.public or any(
            (last is None or seq <= last) and (first <= seq or (top is not None and first <= top))
            for first, last in self.stays.get((conv, user), ()))


def row_of(conv, m, pos):
    """A message as the history and MESSAGE frames have it."""
    said = events.parse_body(m.get("content", "")) if m.get("type", "CHAT") == "CHAT" else None
    return Row(conv, m["seq"], pos, m["id"], m.get("sender", m.get("userId", "-")), said,
               events.digest(m.get("content", "")), m.get("type", "CHAT"))


def read_file(path):
    db = sqlite3.connect("file:%s?mode=ro" % path, uri=True)
    convs = {n: "room:" + room if room else events.direct(a, b)
             for n, room, a, b in db.execute("SELECT n, room, a, b FROM conv")}
    rows = []
    for pos, conv, seq, mid, body in db.execute("SELECT pos, conv, seq, id, body FROM msg ORDER BY pos"):
        m = json.loads(body)
        m.update(seq=seq, id=mid)
        rows.append(row_of(convs[conv], m, pos))
    public = ["room:" + r for r, flags in db.execute("SELECT id, flags FROM room") if flags & ROOM_PUBLIC]
    members = [("room:" + r, u) for r, u in db.execute("SELECT room, user FROM member WHERE role > 0")]
    db.close()
    return Store(rows, public, members)


def query(url, sql):
    """The rows, as psql reads them: each query makes one array of JSON of a row."""
    done = subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", url, "-c", sql], capture_output=True, text=True,
                          timeout=60, check=False)
    if done.returncode:
        raise OSError("psql: " + done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def read_postgres(url, only):
    convs = {n: "room:" + room if room else events.direct(a, b) for n, room, a, b in query(
        url, "SELECT json_build_array(c.n, c.room, c.a, c.b) FROM chatd.conv c LEFT JOIN chatd.room r ON r.id=c.room"
        " WHERE starts_with(r.name, '%s') OR (starts_with(c.a, '%s') AND starts_with(c.b, '%s'))" % (only, only, only))}
    rows = []
    for pos, conv, seq, mid, body in query(url, "SELECT json_build_array(pos, conv, seq, id, body) FROM chatd.msg"
                                           " ORDER BY pos"):
        if conv in convs:
            m = json.loads(body)
            m.update(seq=seq, id=mid)
            rows.append(row_of(convs[conv], m, pos))
    public = ["room:" + r for r, flags in query(url, "SELECT json_build_array(id, flags) FROM chatd.room")
              if flags & ROOM_PUBLIC]
    members = [("room:" + r, u) for r, u in query(
        url, "SELECT json_build_array(room, \"user\") FROM chatd.member WHERE role > 0")]
    return Store(rows, public, members)


class Rest:
    def __init__(self, address, pattern):
        host, _, port = address.rpartition(":")
        self.conn, self.pattern = http.client.HTTPConnection(host, int(port), timeout=10), pattern

    def page(self, user, path):
        self.conn.request("GET", path, headers={"Authorization": "Bearer " + self.pattern % user})
        r = self.conn.getresponse()
        body = r.read()
        if r.status != 200:
            raise OSError("GET %s as %s: %d %r" % (path, user, r.status, body[:200]))
        return json.loads(body)

    def history(self, user, conv):
        kind, *rest = conv.split(":")
        path = "/api/chat/messages/room/%s?" % rest[0]
        if kind == "direct":
            path = "/api/chat/messages/direct?with=%s&" % (rest[1] if rest[0] == user else rest[0])
        after = 0
        while True:
            page = self.page(user, path + "events=true&limit=100&after=%d" % after)["messages"]
            if not page:
                return
            yield from (row_of(conv, m, None) for m in page)
            after = page[-1]["seq"]


def compare(store, rest):
    """What the API and the store do not agree upon."""
    for conv in sorted(store.top):
        reader = conv.split(":")[1]
        if conv.startswith("room:"):
            now = [u for (c, u), stays in store.stays.items() if c == conv and stays and stays[-1][1] is None]
            if not now:
                continue
            reader = sorted(now)[0]
        theirs = {r.seq: r.id for r in rest.history(reader, conv)}
        mine = {s: r.id for (c, s), r in store.rows.items() if c == conv}
        for seq in sorted(set(mine) ^ set(theirs) | {s for s in mine if theirs.get(s, mine[s]) != mine[s]}):
            yield "%s %d: store %s, API %s" % (conv, seq, mine.get(seq), theirs.get(seq))


class Message:
    """What one client tried to say once, however often it was sent."""

    def __init__(self, conv, digest):
        self.conv, self.digest, self.acks, self.rejected = conv, digest, [], 0
        self.conns = set()  # on which it was sent


class Chain:
    def __init__(self):
        self.seen, self.top, self.pos, self.sub, self.final = {}, {}, 0, None, False
        self.floor, self.asking, self.early = None, False, []


class Checker:
    def __init__(self, store):
        self.store = store
        self.sets = {name: [] for name in EMPTY}
        self.messages, self.chains = {}, collections.defaultdict(Chain)
        self.sent = {}        # (conn, n) -> time of the SEND that was not answered
        self.order = collections.defaultdict(list)  # (conn, conv) -> numbers, as they were sent
        self.acked_on, self.closed = collections.defaultdict(dict), set()
        self.refused_on = set()  # connections
        self.latency, self.recvs, self.marks, self.ends = [], [], [], []
        self.acks, self.acked_at = [], {}  # their times, and of each row
        self.live, self.heard = {}, []     # (conn, chan) -> since when; what came to whom
        self.counts = collections.Counter()

    def bad(self, name, text, *args):
        self.sets[name].append(text % args)

    # ---- events ----

    def feed(self, log):
        for t, kind, fields in log:
            self.counts[kind] += 1
            getattr(self, "on_" + kind)(t, *fields)

    def on_open(self, t, client, conn):
        self.closed.discard(conn)

    def on_close(self, t, client, conn, why):
        self.closed.add(conn)
        self.ends.append(t)

    def on_fault(self, t, what):
        self.marks.append((t, "fault", what))

    def on_heal(self, t, what):
        self.marks.append((t, "heal", what))

    def on_invoke(self, t, client, conn, conv, n, digest):
        m = self.messages.setdefault((client, n), Message(conv, digest))
        if (m.conv, m.digest) != (conv, digest):
            self.bad("unexpected", "%s used number %s for two messages", client, n)
        m.conns.add(conn)
        self.sent[conn, n] = t
        self.order[conn, conv].append((client, n))

    def _answered(self, t, conn, n):
        at = self.sent.pop((conn, n), None)
        return None if at is None else t - at

    def on_ack(self, t, client, conn, n, mid, seq, epoch):
        took = self._answered(t, conn, n)
        m = self.messages.get((client, n))
        if m is None or took is None:
            self.bad("unexpected", "%s got a RECEIPT for %s, which it did not send on %s", client, n, conn)
            return
        self.latency.append(took)
        self.acks.append(t)
        self.acked_at.setdefault((m.conv, int(seq)), t)
        m.acks.append((mid, int(seq)))
        self.acked_on[conn][client, n] = int(seq)

    def on_reject(self, t, client, conn, n, code):
        self._answered(t, conn, n)
        self.ends.append(t)
        self.messages[client, n].rejected += 1
        self.refused_on.add(conn)

    def on_ask(self, t, client, conn, chan):
        self._late(self.chains[client, chan])
        self.chains[client, chan].asking = True

    def on_sub(self, t, client, conn, chan, since, recovered, top):
        chain = self.chains[client, chan]
        chain.sub = Sub(since, recovered, int(top) if top.isdigit() else None)
        self.live[conn, chan] = t
        self._late(chain)
        if chain.floor is None:
            chain.floor = int(since) if since.isdigit() else 0

    def on_gap(self, t, client, conn, chan):
        pass

    def on_final(self, t, client, chan):
        self.chains[client, chan].final = True

    def on_recv(self, t, client, conn, chan, conv, seq, pos, mid, sender, n, digest):
        chain, seq = self.chains[client, chan], int(seq)
        self.recvs.append(t)
        self.heard.append((t, conn, chan, conv, seq))
        where = "%s, %s of %s on %s" % (client, seq, conv, conn)
        if seq in chain.seen.setdefault(conv, set()):
            self.bad("duplicated", "%s came again", where)
        elif seq < chain.top.get(conv, 0):
            self.bad("reordered", "%s came after %d", where, chain.top[conv])
        elif pos.isdigit() and int(pos) < chain.pos:
            self.bad("reordered", "%s has cursor %s, after %d", where, pos, chain.pos)
        chain.seen[conv].add(seq)
        chain.top[conv] = max(seq, chain.top.get(conv, 0))
        chain.pos = max(chain.pos, int(pos)) if pos.isdigit() else chain.pos
        row = self.store.rows.get((conv, seq))
        if row is None or row.id != mid or (row.said is not None and (row.said != (sender, n) or row.hash != digest)):
            self.bad("unexpected", "%s is not what is stored", where)
        chain.early.append((where, events.user_of(client), conv, seq))
        if not chain.asking:
            self._late(chain)

    def _late(self, chain):
        """Judges whether the client may have had what it got: replayed rows when the RECEIPT has said
        how far the conversation was."""
        for where, user, conv, seq in chain.early:
            if not self.store.may_have(user, conv, seq, chain.sub and chain.sub.top):
                self.bad("leaked", "%s", where)
        chain.early, chain.asking = [], False

    # ---- the end ----

    def judge(self):
        for r in self.store.doubled:
            self.bad("duplicated", "%s", r)
        self._stored()
        self._acked()
        self._delivered()
        for chain in self.chains.values():
            self._late(chain)
        for (conn, n) in sorted(self.sent):
            if conn not in self.closed:
                self.bad("unanswered", "%s on %s", n, conn)
        return self.sets

    def _stored(self):
        for conv, top in self.store.top.items():
            missing = [s for s in range(1, top + 1) if (conv, s) not in self.store.rows]
            if missing:
                self.bad("holes", "%s: %s of %d", conv, missing[:10], top)
        for key, rows in self.store.by_message.items():
            m = self.messages.get(key)
            if m is None:
                self.bad("unexpected", "%s %s is stored, and was never sent", *key)
                continue
            if len(rows) > 1:
                self.bad("duplicated", "%s %s is stored as %s", key[0], key[1], [(r.conv, r.seq) for r in rows])
            for r in rows:
                if (r.conv, r.hash, r.sender) != (m.conv, m.digest, events.user_of(key[0])):
                    self.bad("unexpected", "%s %s is stored with another body or place", *key)
            self.counts["recovered"] += not m.acks

    def _acked(self):
        for key, m in self.messages.items():
            rows = self.store.by_message.get(key, ())
            for mid, seq in set(m.acks):
                if not any((r.id, r.seq) == (mid, seq) for r in rows):
                    self.bad("lost", "%s %s was acknowledged as %s of %s; stored: %s", key[0], key[1], seq, m.conv,
                             [r.seq for r in rows])
        for (conn, conv), sent in self.order.items():
            acked, last = self.acked_on[conn], {}
            for i, key in enumerate(sent):
                last[key] = i
            # What was refused once was given a later place, or an earlier one that was in doubt; also if the
            # refusal was on its way when the connection ended.
            row = [acked[k] for k in sorted(last, key=last.get) if k in acked and not self.messages[k].rejected
                   and not (self.messages[k].conns - {conn}) & self.refused_on]
            if row != sorted(row):
                self.bad("reordered", "%s: acknowledged as %s in %s", conn, row[:20], conv)

    def _delivered(self):
        for (client, chan), chain in self.chains.items():
            if not chain.final:
                continue
            user = events.user_of(client)
            for (conv, seq), r in self.store.rows.items():
                mine = conv == chan if chan != "inbox" else conv.startswith("direct:") and user in conv.split(":")[1:]
                at = seq if chan != "inbox" else r.pos
                if mine and at > chain.floor and seq not in chain.seen.get(conv, ()):
                    self.bad("undelivered", "%s, %d of %s", client, seq, conv)

    # ---- figures ----

    def _late_by(self):
        """How long after their acks rows came to those who were subscribed by then; sorted."""
        took = []
        for t, conn, chan, conv, seq in self.heard:
            acked, since = self.acked_at.get((conv, seq)), self.live.get((conn, chan))
            if acked is not None and since is not None and since <= acked:
                took.append(max(0, t - acked))
        return sorted(took)

    def figures(self):
        lat = sorted(self.latency) or [0]
        self.recvs.sort()
        gaps = [b - a for a, b in zip(self.recvs, self.recvs[1:])] or [0]
        ms = 1e-6
        yield "acks %d: p50 %.1f ms, p99 %.1f ms, max %.1f ms" % (
            len(self.latency), lat[len(lat) // 2] * ms, lat[len(lat) * 99 // 100] * ms, lat[-1] * ms)
        yield "deliveries %d, longest gap %.1f ms; %d rows stored; %d connections, %d refusals, %d gaps" % (
            len(self.recvs), max(gaps) * ms, len(self.store.rows), self.counts["open"], self.counts["reject"],
            self.counts["gap"])
        yield "longest time without an ack %.1f ms" % (max([b - a for a, b in zip(self.acks, self.acks[1:])] or [0]) * ms)
        late = self._late_by() or [0]
        yield "live deliveries %d, after the ack: p50 %.1f ms, p99 %.1f ms, max %.1f ms" % (
            len(late), late[len(late) // 2] * ms, late[len(late) * 99 // 100] * ms, late[-1] * ms)
        for what, at, name in (("detect", "fault", "ends"), ("heal", "heal", "recvs")):
            times = []
            for t, kind, _ in self.marks:
                after = [x for x in getattr(self, name) if x > t]
                if kind == at and after:
                    times.append((min(after) - t) * ms)
            if times:
                yield "time to %s: %s ms" % (what, " ".join("%.0f" % x for x in times[:25]))


def report(checker, out=sys.stdout):
    """True: everything that must be empty is."""
    good = True
    for name in EMPTY:
        found = checker.sets[name]
        good &= not found
        print("%-12s %d" % (name, len(found)), file=out)
        for line in found[:10]:
            print("    " + line, file=out)
    print("%-12s %d" % ("recovered", checker.counts["recovered"]), file=out)
    for line in checker.figures():
        print(line, file=out)
    return good


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--db", required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--rest")
    parser.add_argument("--token", default="token-of-%s-long-enough")
    parser.add_argument("log", nargs="+")
    args = parser.parse_args()
    checker = Checker(read_postgres(args.db, args.only) if "://" in args.db else read_file(args.db))
    if args.rest:
        for line in compare(checker.store, Rest(args.rest, args.token)):
            checker.bad("differing", "%s", line)
    for path in args.log:
        checker.feed(events.read(path))
    checker.judge()
    return 0 if report(checker) else 1


if __name__ == "__main__":
    sys.exit(main())
