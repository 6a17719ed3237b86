# SPDX-License-Identifier: Apache-2.0
"""The power is cut: at many instants of a server's life, what its disk may hold then is whole and has all that was
acknowledged (F32)."""
import json
import os
import random
import signal
import threading

from client import Device
from harness import ask, name_of
from images import DB, FOLDER, NAMES, SEND, WAL, WRITE, Disk, Log, judge, put

TESTS = []
SIDE_BY_SIDE = 2
WRITERS, AT_ONCE, EVER = 4, 8, 10 ** 9
SETTINGS = "chat.max_content=20000", "chat.max_bytes=64KiB", "store-sqlite.commit_timeout=60s"


def test(fn):
    TESTS.append(fn)
    return fn


class Load:
    """Writers that send into two rooms and to each other, eight messages at once each, until the server dies or they
    have sent enough.  sent: {key: content}; read: {key: (who may read it, where)}; seen: {key: (id, seq)} of each
    RECEIPT."""

    def __init__(self, node):
        self.node, self.sent, self.read, self.seen, self.rng = node, {}, {}, {}, random.Random(32)
        self.rooms = [node.person(0).rest("POST", "/api/chat/rooms", {"name": "r", "public": True}).json["id"]
                      for _ in range(2)]
        for i in range(WRITERS):
            for room in self.rooms:
                Device.bare(node.person(i)).send("/app/chat.join", {"roomId": room})

    def message(self, key, i):
        """Each third is long: the log is to be checkpointed, and started anew."""
        words = self.rng.randbytes(self.rng.choice((20, 200, 8000))).hex()
        self.sent[key] = key + " power " + " ".join(words[k:k + 60] for k in range(0, len(words), 60))
        to = {"to": name_of((i + 1) % WRITERS)} if self.rng.random() < 0.3 else {"roomId": self.rooms[i % 2]}
        self.read[key] = i, "room/%s?" % to["roomId"] if "roomId" in to else "direct?with=%s&" % to["to"]
        return json.dumps(dict(to, content=self.sent[key], clientId=key)).encode()

    def write(self, i, count):
        try:
            device = Device.bare(self.node.person(i))
            for begin in range(0, count, AT_ONCE):
                keys = ["k%dx%dx%d" % (i, begin + k, len(self.sent)) for k in range(AT_ONCE)]
                for key in keys:
                    device.write("SEND", {"destination": "/app/chat.send", "receipt": key}, self.message(key, i))
                for key in keys:
                    f = device.wait(lambda f: f.headers.get("receipt-id") == key, 120)
                    self.seen[key] = f.headers["message-id"], int(f.headers["seq"])
            device.close()
        except OSError:
            pass  # it was killed

    def run(self, count):
        writers = [threading.Thread(target=self.write, args=(i, count)) for i in range(WRITERS)]
        for w in writers:
            w.start()
        for w in writers:
            w.join()


def lived(t, *settings, kills):
    """(node, load): it was started, stopped, and started again and killed by its own Nth such call, under load."""
    node = t.node(*SETTINGS, *settings, record=True)
    load = Load(node)
    load.run(80)
    node.proc.send_signal(signal.SIGTERM)
    assert node.proc.wait(60) == 0
    for call, count in kills:
        node.begin()
        node.rules.set(0, call, "chatd.db", first=count, signal=signal.SIGKILL)
        load.run(EVER)
        node.proc.wait(120)
        node.rules.clear()
    return node, load


def content(path):
    if not os.path.exists(path):
        return None
    with open(path, "rb") as f:
        return f.read()


class Life:
    """What was written down of it."""

    def __init__(self, node, load):
        self.load, self.log = load, Log(node.record_file)
        self.receipts = [(i, h["receipt-id"], (h["message-id"], int(h["seq"]))) for i, h in self.log.receipts()
                         if h["receipt-id"] in load.sent]
        assert load.seen.items() <= {key: place for _, key, place in self.receipts}.items(), "a RECEIPT is not in the log"
        disk = Disk()
        for r in self.log.records:
            disk.apply(r)
        for where, name in NAMES.items():
            file = disk.now.get(where)
            assert content(os.path.join(node.dir, name)) == (file and bytes(file.now)), \
                "not all that changed %s is in the log" % name

    def images(self, rng, n, blind=()):
        """(image, {key: place} of what was acknowledged before the cut) of n cuts."""
        disk, done = Disk(blind), 0
        for cut in self.log.cuts(rng, n):
            for r in self.log.records[done:cut]:
                disk.apply(r)
            done = cut
            yield disk.image(rng), {key: place for i, key, place in self.receipts if i < cut}

    def wrong(self, folder, rng, n, blind=()):
        """Of n images, what is wrong with those that are not good."""
        for image, acked in self.images(rng, n, blind):
            put(folder, image)
            found = judge(folder, acked, self.load.sent)
            if found:
                yield found


def history(node, who, where):
    """{id: message}, all that the API has."""
    found, before = {}, 2 ** 53
    while True:
        page = node.person(who).rest("GET", "/api/chat/messages/%slimit=200&before=%d" % (where, before))
        assert page.status == 200, page.body
        found.update({m["id"]: m for m in page.json["messages"]})
        if "before" not in page.json:
            return found
        before = page.json["before"]


def serves(node, life, image, acked):
    """The server starts on that image, has all that was acknowledged, finds it, and goes on behind it."""
    put(node.dir, image)
    node.begin()
    load, found = life.load, {}
    for who, where in {load.read[key] for key in acked}:
        found.update(history(node, who, where))
    for key, (mid, seq) in acked.items():
        assert mid in found and (found[mid]["seq"], found[mid]["content"]) == (seq, load.sent[key]), "lost: " + key
    for key in sorted(acked)[::max(1, len(acked) // 5)]:
        hits = node.person(load.read[key][0]).rest("GET", "/api/chat/search?q=" + key)
        assert [m["id"] for m in hits.json["messages"]] == [acked[key][0]], hits.body
    device = Device.bare(node.person(0))
    for room in load.rooms:
        top = node.person(0).rest("GET", "/api/chat/messages/room/" + room).json["topSeq"]
        assert device.send("/app/chat.send", {"roomId": room, "content": "on"})["seq"] == str(top + 1)
    device.close()
    node.kill()


@test
def f32_what_was_acknowledged_survives_a_loss_of_power(t):
    node, load = lived(t, kills=(("fdatasync", 15), ("pwrite", 7000)))
    life, rng, folder = Life(node, load), random.Random(32), t.folder()
    anew = sum(r[:2] == (WRITE, WAL) and r[3] == 0 for r in life.log.records)
    print("# %d records, the log begun %d times; %d receipts" % (len(life.log.records), anew, len(life.receipts)))
    assert anew > 2, "no log was emptied and begun anew while it lived"
    assert ask(node.db, "SELECT value FROM meta WHERE key='indexed'")[0][0] > 0, "no words were indexed"
    n = 1000 if t.full else 60
    found = list(life.wrong(folder, rng, n))
    assert not found, "%d of %d images: %s" % (len(found), n, found[:5])
    some = [image for image in life.images(rng, 60 if t.full else 8) if image[1]]
    for image, acked in some if t.full else some[-3:]:
        serves(node, life, image, acked)
    print("# %d images are whole; on %d a server went on" % (n, len(some if t.full else some[-3:])))
    # And if it did not sync one of them, or did not sync before it answered, this test would see it.
    for forgotten in (WAL, DB, FOLDER):
        assert any(life.wrong(folder, rng, 30, (forgotten,))), "without its syncs of %s all is well, too" % forgotten
    node.begin()
    t.end(node)


@test
def f33_one_thread_alone_writes_syncs_and_checkpoints(t):
    """While others read: no reader ever does."""
    node = t.node(*SETTINGS, "store-sqlite.read_timeout=60s", record=True)
    load, over, read_pages = Load(node), threading.Event(), [0, 0]

    def read(i):
        while not over.is_set():
            history(node, i, "room/%s?" % load.rooms[i % 2])
            read_pages[i] += 1
    readers = [threading.Thread(target=read, args=(i,)) for i in range(2)]
    for r in readers:
        r.start()
    load.run(240)
    over.set()
    for r in readers:
        r.join()
    records = Log(node.record_file).records
    begun = next(i for i, r in enumerate(records) if r[0] == SEND)  # the main thread makes the file, and closes it
    changes = [r for r in records[begun:] if r[0] != SEND]
    pages = sum(r[:2] == (WRITE, DB) for r in changes)
    print("# %d changes, %d of them pages in checkpoints; read %d and %d times" % (len(changes), pages, *read_pages))
    assert pages > 0 and all(read_pages), "there was no checkpoint, or nobody read"
    assert len({thread for _, _, thread, _, _ in changes}) == 1, "a reader wrote"
    t.end(node)


@test
def f32_with_synchronous_normal_something_is_lost_and_nothing_damaged(t):
    """As the option says; so the images tell the one from the other."""
    node, load = lived(t, "store-sqlite.synchronous=normal", kills=[("pwrite", 6000 if t.full else 3000)])
    found = list(Life(node, load).wrong(t.folder(), random.Random(32), 300 if t.full else 60))
    print("# %d images of those lack something, such as: %s" % (len(found), found[:1]))
    assert found, "nothing is ever lost"
    assert all(f.startswith("lost") for f in found), found
    node.begin()
    t.end(node)
