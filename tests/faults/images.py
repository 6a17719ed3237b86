# SPDX-License-Identifier: Apache-2.0
"""What a disk may hold after the power was cut, from the log of faultrec.c, and whether that is enough.

What was synced before the cut is there.  Of what a file got since its last sync any part may be: of each sector of
512 bytes any state that it had meanwhile, each shortening or not, and a grown file may be shorter.  A name that was
made or taken away since the last sync of the folder may be there or not.  A sector is never half old and half new,
and its neighbours are not harmed: SQLite counts on that, too ("powersafe overwrite").
"""
import os
import sqlite3
import struct

SECTOR = 512
HEAD = struct.Struct("=IIIIq")
WRITE, TRUNCATE, SYNC, UNLINK, SEND = range(5)
DB, WAL, JOURNAL, FOLDER = range(4)
NAMES = {DB: "chatd.db", WAL: "chatd.db-wal", JOURNAL: "chatd.db-journal"}


class Log:
    """Records (kind, where, thread, at, bytes) in their order."""

    def __init__(self, path):
        with open(path, "rb") as f:
            raw = memoryview(f.read())
        self.records, i = [], 0
        while i < len(raw):
            kind, where, thread, n, at = HEAD.unpack_from(raw, i)
            i += HEAD.size
            self.records.append((kind, where, thread, at, raw[i:i + n]))
            i += n

    def receipts(self):
        """(number of the record that sends it, headers) of each RECEIPT."""
        rest = {}
        for i, (kind, where, thread, _, data) in enumerate(self.records):
            if kind != SEND:
                continue
            *frames, rest[thread, where] = (rest.get((thread, where), b"") + data).split(b"\0")
            for frame in frames:
                command, *lines = frame.lstrip(b"\n").partition(b"\n\n")[0].decode("utf-8", "replace").split("\n")
                if command == "RECEIPT":
                    yield i, dict(line.split(":", 1) for line in lines)

    def cuts(self, rng, n):
        """Where the power is cut, in order: a third of them anywhere, a third beside syncs, names that go and
        shortenings, a third while a checkpoint writes."""
        files = [i for i, r in enumerate(self.records) if r[0] != SEND]
        edges = [i + d for i in files if self.records[i][0] != WRITE for d in (0, 1)]
        pages = [i for i in files if self.records[i][:2] == (WRITE, DB)]
        return sorted(rng.choice(some) for _ in range(n // 3 + 1) for some in (files, edges, pages))[:n]


class File:
    """As all see it (now), as it is if the power is cut (disk), and what may have happened to it since."""

    def __init__(self):
        self.now, self.disk = bytearray(), bytearray()
        self.forget()

    def forget(self):
        self.count, self.sectors, self.shortened, self.grown = 0, {}, [], []

    def write(self, at, data):
        self.count += 1
        self.now[len(self.now):at] = bytes(max(0, at - len(self.now)))
        if at + len(data) > len(self.now):
            self.grown.append((self.count, at + len(data)))
        self.now[at:at + len(data)] = data
        for s in range(at // SECTOR, (at + len(data) - 1) // SECTOR + 1):
            self.sectors.setdefault(s, []).append((self.count, bytes(self.now[s * SECTOR:(s + 1) * SECTOR])))

    def truncate(self, n):
        self.count += 1
        (self.shortened if n < len(self.now) else self.grown).append((self.count, n))
        self.now[len(self.now):n] = bytes(max(0, n - len(self.now)))
        del self.now[n:]

    def sync(self):
        if self.shortened:
            self.disk = bytearray(self.now)
        self.disk += bytes(len(self.now) - len(self.disk))
        for s in self.sectors:
            self.disk[s * SECTOR:(s + 1) * SECTOR] = self.now[s * SECTOR:(s + 1) * SECTOR]
        self.forget()

    def image(self, rng, chance):
        """chance: that a change has come to the disk."""
        cuts = [(when, n) for when, n in self.shortened if rng.random() < chance]
        out = bytearray(self.disk)
        for _, n in cuts:
            del out[n:]
        since = cuts[-1][0] if cuts else 0
        ends = [len(out)] + [n for when, n in self.grown if when > since]
        length = max(len(out), ends[-1] if rng.random() < chance else rng.choice(ends))
        out += bytes(length - len(out))
        for s, states in self.sectors.items():
            gone = max((when for when, n in cuts if n < (s + 1) * SECTOR), default=0)
            states = [None] + [data for when, data in states if when > gone]
            data = states[-1] if rng.random() < chance else rng.choice(states[:-1] or states)
            if data is not None and s * SECTOR < length:
                out[s * SECTOR:s * SECTOR + len(data)] = data
        del out[length:]
        return out


class Disk:
    """The folder of a database.  blind: the files whose syncs are taken for none."""

    def __init__(self, blind=()):
        self.blind, self.now, self.disk, self.names = blind, {}, {}, {}

    def apply(self, record):
        kind, where, _, at, data = record
        if kind == SEND:
            return
        if kind == SYNC:
            self.sync(where)
        elif kind == UNLINK:
            self.name(where, None)
        else:
            if not self.now.get(where):
                self.name(where, File())
            if kind == WRITE:
                self.now[where].write(at, data)
            else:
                self.now[where].truncate(at)

    def name(self, where, file):
        self.now[where] = file
        self.names.setdefault(where, [self.disk.get(where)]).append(file)

    def sync(self, where):
        if where in self.blind:
            return
        if where == FOLDER:
            self.disk, self.names = dict(self.now), {}
        elif self.now.get(where):
            self.now[where].sync()

    def image(self, rng):
        """{name: bytes}"""
        chance = rng.choice((0, 0.5, 0.5, 0.9, 0.99, 1))
        files = dict(self.disk)
        for where, had in self.names.items():
            files[where] = had[-1] if rng.random() < chance else rng.choice(had[:-1])
        return {NAMES[where]: file.image(rng, chance) for where, file in files.items() if file}


def put(folder, image):
    """It alone is there then.  -shm is no part of it: SQLite makes it anew."""
    for name in (*NAMES.values(), NAMES[DB] + "-shm"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            os.unlink(path)
        if name in image:
            with open(path, "wb") as f:
                f.write(image[name])


def judge(folder, acked, sent):
    """What is wrong with the database there; None: nothing.  acked: {key: (id, seq)}, sent: {key: content}, where each
    content begins with its key and a blank."""
    db = sqlite3.connect(os.path.join(folder, NAMES[DB]), isolation_level=None)
    try:
        db.execute("PRAGMA synchronous=OFF")
        found = db.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            return "damaged: " + found
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name='words'").fetchone():
            return "lost: there are no tables" if acked else None
        return wrong_rows(db, acked, sent) or wrong_seqs(db) or wrong_words(db)
    except sqlite3.DatabaseError as e:
        return "damaged: %s" % e
    finally:
        db.close()


def wrong_rows(db, acked, sent):
    stored = {}
    for mid, seq, body in db.execute("SELECT id, seq, body FROM msg WHERE text IS NOT NULL"):
        key = body.partition('"content":"')[2].partition(" ")[0]
        if sent.get(key, "\0") not in body:
            return "unexpected: the row %s says what nobody sent" % mid
        if key in stored:
            return "duplicated: %s" % key
        stored[key] = mid, seq
    gone = [key for key, place in acked.items() if stored.get(key) != place]
    return "lost: %d of %d that were acknowledged, such as %s" % (len(gone), len(acked), gone[0]) if gone else None


def wrong_seqs(db):
    for conv, top, last, rows in db.execute(
            "SELECT c.n, c.top, max(m.seq), count(*) FROM conv c JOIN msg m ON m.conv=c.n GROUP BY c.n"):
        if not top == last == rows:
            return "holes: conversation %d has %d rows up to %d, and says %d" % (conv, rows, last, top)
    return None


def wrong_words(db):
    """The index is whole, and has each row up to its mark and none above.  Each message has the word "power"."""
    db.execute("INSERT INTO words(words) VALUES('integrity-check')")
    mark = db.execute("SELECT value FROM meta WHERE key='indexed'").fetchone()
    should = [r for r, in db.execute("SELECT pos FROM msg WHERE text IS NOT NULL AND pos<=? ORDER BY pos", mark or (0,))]
    if [r for r, in db.execute("SELECT rowid FROM words WHERE words MATCH 'power' ORDER BY rowid")] != should:
        return "words: the index has not what is below its mark, %s" % (mark,)
    return None
