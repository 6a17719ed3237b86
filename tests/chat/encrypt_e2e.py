#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Messages that are encrypted where they lie: what can be found in the files, other keys while the server runs, kill -9,
a row that was changed.  Prints TAP.

Usage: encrypt_e2e.py [workers [WORD]]; the server is $CHATD_BUILD/bin/chatd with config/chat.yaml, store-sqlite and
encrypt.  WORD: only tests whose name has it.  CHATD_FULL=1: also what tests/store/test_store_cipher tries on the store
alone.
"""
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback

from client import BUILD, WAIT, Person, Server, put, same, until

LOBBY = "/topic/room/lobby"
WORKERS = sys.argv[1] if len(sys.argv) > 1 else "4"
SECRET = b"zebracorn"
ENDED = "all stored messages are encrypted with the active key"
TESTS = []


def test(fn):
    TESTS.append(fn)
    return fn


def long(fn):
    return test(fn) if os.environ.get("CHATD_FULL") == "1" else fn


class Keys:
    """The file of keys, outside of the server's folder."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="chatd-keys-")
        self.path = os.path.join(self.folder, "keys")
        self.lines = []

    def add(self, name):
        self.lines.append("%s %s" % (name, secrets.token_hex(32)))
        return self.write()

    def drop_first(self):
        self.lines.pop(0)
        return self.write()

    def write(self):
        part = self.path + ".part"
        with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as f:
            f.write("# keys of a test\n" + "\n".join(self.lines) + "\n")
        os.replace(part, self.path)
        return self

    def remove(self):
        os.unlink(self.path)
        os.rmdir(self.folder)


class Encrypted(Server):
    def __init__(self, keys, search="words", pace=8000, on=True):
        self.keys = keys
        block = ("  encrypt: { keys: \"file:%s\", search: %s, pace: %d }\n" % (keys.path, search, pace)
                 if on else "  encrypt: { enabled: false }\n")
        super().__init__(WORKERS, edit=lambda text: put(text, block))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.log.closed:
            self.stop()

    def set(self, old, new):
        path = os.path.join(self.dir, "chat.yaml")
        with open(path) as f:
            text = f.read()
        assert old in text, old
        with open(path, "w") as f:
            f.write(text.replace(old, new))

    def said(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()

    def wait_said(self, text, n=1):
        end = time.monotonic() + WAIT
        while self.said().count(text) < n:
            assert time.monotonic() < end, "\"%s\" was not said\n%s" % (text, self.said()[-3000:])
            time.sleep(0.05)

    def hang_up(self):
        n = self.said().count("SIGHUP: ")
        self.proc.send_signal(signal.SIGHUP)
        self.wait_said("SIGHUP: ", n + 1)

    def restart(self):
        self.proc.send_signal(signal.SIGTERM)
        same(self.proc.wait(WAIT), 0)
        self.begin()

    def database(self):
        return os.path.join(self.dir, "chatd.db")

    def find(self, word):
        """The files that have it."""
        found = []
        for folder, _, names in os.walk(self.dir):
            for name in names:
                if not os.path.isfile(os.path.join(folder, name)):
                    continue  # a socket
                with open(os.path.join(folder, name), "rb") as f:
                    if word in f.read():
                        found.append(name)
        return found

    def sql(self, text):
        db = sqlite3.connect(self.database(), timeout=WAIT)
        try:
            rows = db.execute(text).fetchall()
            db.commit()
            return rows
        finally:
            db.close()


def say(device, n, what="m"):
    device.send("/app/chat.join", {"roomId": "lobby"})
    for i in range(n):
        r = device.send("/app/chat.send", {"roomId": "lobby", "content": "%s%d is a %s" % (what, i, SECRET.decode()),
                                           "clientId": "%s%d" % (what, i)})
        assert "message-id" in r, r


def history(person):
    messages = person.rest("GET", "/api/chat/messages/room/lobby?limit=100&after=0").json["messages"]
    return [m for m in messages if m["type"] == "CHAT"]


def search(person, words):
    return person.rest("GET", "/api/chat/search?roomId=lobby&q=" + words)


@test
def nothing_that_was_said_lies_there_readable(keys):
    with Encrypted(keys.add("one")) as s:
        alice, bob = Person(s, "alice"), Person(s, "bob")
        da, db = alice.device(), bob.device()
        da.subscribe(LOBBY)
        say(da, 30)
        r = da.send("/app/chat.send", {"to": "bob", "content": "a secret %s" % SECRET.decode()})
        same(db.messages(content="a secret " + SECRET.decode()).headers["seq"], r["seq"])
        target = history(alice)[3]["id"]
        da.send("/app/chat.edit", {"messageId": target, "content": "another %s" % SECRET.decode()})
        same(search(alice, "m7").json["messages"][0]["content"], "m7 is a zebracorn")
        until(lambda: [len(search(alice, w).json["messages"]) for w in ("m7", "zebra", "another")] == [1, 0, 1], what="whole words")
        same(s.find(SECRET), [])
        same(s.sql("SELECT count(*) FROM msg WHERE sealed IS NULL AND body <> ''"), [(0,)])
        before = history(alice)
        s.restart()
        same(s.find(SECRET), [])
        same(history(Person(s, "alice")), before, "after a restart")
        same(len(search(Person(s, "alice"), "zebracorn").json["messages"]), 30)


@test
def keys_are_changed_by_a_signal_and_the_old_one_goes(keys):
    with Encrypted(keys.add("one"), pace=200) as s:
        da = Person(s, "alice").device()
        say(da, 120)
        keys.add("two")
        s.hang_up()
        say(da, 20, "while")
        s.wait_said(ENDED + " (12")
        keys.drop_first()
        s.hang_up()
        page = history(Person(s, "alice"))
        same([m["content"].endswith("zebracorn") for m in page], [True] * 100)
        r = da.send("/app/chat.send", {"roomId": "lobby", "content": "m0 is a zebracorn", "clientId": "m0"})
        assert "message-id" in r, r
        s.restart()
        same(history(Person(s, "alice")), page)
        same(len(search(Person(s, "alice"), "m7").json["messages"]), 1)
        assert "cannot be decrypted" not in s.said() and "ERROR" not in s.said(), s.said()[-2000:]
        text = s.said()
        for line in keys.lines:
            assert line.split()[1] not in text, "a key in the log"


@long
def a_bad_file_of_keys_changes_nothing(keys):
    with Encrypted(keys.add("one")) as s:
        da = Person(s, "alice").device()
        say(da, 3)
        kept = list(keys.lines)
        keys.lines = ["one 12345"]
        keys.write()
        s.proc.send_signal(signal.SIGHUP)
        s.wait_said("line 2")
        say(da, 3, "still")
        same(len(history(Person(s, "alice"))), 6)
        assert "12345" not in s.said()
        keys.lines = kept
        keys.write()


@long
def killed_while_keys_change_it_loses_nothing(keys):
    with Encrypted(keys.add("one"), pace=100) as s:
        da = Person(s, "alice").device()
        say(da, 99)
        keys.add("two")
        for i in range(3):
            s.proc.send_signal(signal.SIGHUP)
            time.sleep(0.3)
            s.kill()
            s.begin()
            da = Person(s, "alice").device()
            say(da, 1, "kill%d-" % i)
        end = time.monotonic() + 30
        while s.sql("SELECT count(DISTINCT substr(sealed, 3, 8)) FROM msg WHERE sealed IS NOT NULL") != [(1,)]:
            assert time.monotonic() < end, s.said()[-2000:]
            time.sleep(0.1)
        keys.drop_first()
        s.restart()
        page = history(Person(s, "alice"))
        same([len(page), all(m.get("content", "").endswith("zebracorn") for m in page)], [100, True])
        same(s.find(SECRET), [])


@test
def one_row_that_was_changed_is_one_message(keys):
    with Encrypted(keys.add("one")) as s:
        alice = Person(s, "alice")
        da = alice.device()
        say(da, 9)
        first = history(alice)
        s.proc.send_signal(signal.SIGTERM)
        s.proc.wait(WAIT)
        s.sql("UPDATE msg SET sealed=(SELECT sealed FROM msg WHERE id='%s') WHERE id='%s'" % (first[2]["id"], first[4]["id"]))
        s.begin()
        alice, bad = Person(s, "alice"), first[4]
        page = history(alice)
        same([m["id"] for m in page], [m["id"] for m in first])
        same([m.get("error") for m in page], [None] * 4 + ["DECRYPT_FAILED"] + [None] * 4)
        same({k: page[4].get(k) for k in ("type", "senderId", "roomId", "seq", "content")},
             {"type": "CHAT", "senderId": "alice", "roomId": "lobby", "seq": bad["seq"], "content": None})
        device = alice.device()
        device.resume(LOBBY, {"since": str(first[0]["seq"] - 1), "epoch": first[0]["epoch"]})
        replayed = [device.on(LOBBY) for _ in range(9)]
        same([int(f.headers["seq"]) for f in replayed], [m["seq"] for m in first], "a resume goes on")
        same([f.json.get("error") for f in replayed], [None] * 4 + ["DECRYPT_FAILED"] + [None] * 4)
        same(device.send("/app/chat.edit", {"messageId": bad["id"], "content": "x"})["code"], "DECRYPT_FAILED")
        assert "seq" in device.send("/app/chat.react", {"messageId": bad["id"], "reaction": "x"})
        assert "seq" in device.send("/app/chat.delete", {"messageId": bad["id"]})
        gone = alice.rest("GET", "/api/chat/messages/" + bad["id"]).json
        same([gone.get("deleted"), gone.get("error")], [True, None])
        assert "it was damaged or changed" in s.said()


@test
def search_that_is_off_says_so(keys):
    with Encrypted(keys.add("one"), search="off") as s:
        say(Person(s, "alice").device(), 3)
        r = search(Person(s, "alice"), "zebracorn")
        same([r.status, r.json["code"]], [501, "NOT_AVAILABLE"])


@test
def what_lay_there_plainly_is_encrypted_and_comes_back(keys):
    keys.add("one")
    with Encrypted(keys, on=False) as s:
        say(Person(s, "alice").device(), 50)
        time.sleep(0.6)
        assert "chatd.db" in s.find(SECRET) or "chatd.db-wal" in s.find(SECRET)
        s.set("encrypt: { enabled: false }", "encrypt: { keys: \"file:%s\", search: words }" % keys.path)
        s.restart()
        s.wait_said(ENDED)
        same(s.find(SECRET), [])
        same([len(history(Person(s, "alice"))), len(search(Person(s, "alice"), "m7").json["messages"])], [50, 1])
        s.proc.send_signal(signal.SIGTERM)
        s.proc.wait(WAIT)
        s.set("encrypt: { keys:", "encrypt: { enabled: false, keys:")
        done = subprocess.run([os.path.join(BUILD, "bin", "chatd"), "-c", os.path.join(s.dir, "chat.yaml"), "--set",
                               "server.data_dir=" + s.dir, "--set", "http.listen=127.0.0.1:0"], capture_output=True,
                              text=True, timeout=WAIT, check=False)
        same(done.returncode, 78, done.stderr)
        assert "add encrypt: with its keys:" in done.stderr, done.stderr
        s.set("enabled: false, keys:", "seal: false, keys:")
        s.begin()
        s.wait_said("the plugin encrypt can be removed")
        s.set("seal: false, keys:", "enabled: false, keys:")
        s.restart()
        same([len(history(Person(s, "alice"))), len(search(Person(s, "alice"), "zebra").json["messages"])], [50, 50])


def main():
    word = sys.argv[2] if len(sys.argv) > 2 else ""
    tests = [t for t in TESTS if word in t.__name__]
    failed = 0
    print("1..%d" % len(tests))
    for i, t in enumerate(tests, 1):
        keys = Keys()
        begin = time.monotonic()
        try:
            t(keys)
            print("ok %d - %s (%.1f s)" % (i, t.__name__.replace("_", " "), time.monotonic() - begin), flush=True)
        except Exception:
            failed += 1
            print("not ok %d - %s" % (i, t.__name__.replace("_", " ")))
            print("".join("# " + line + "\n" for line in traceback.format_exc().splitlines()), flush=True)
        keys.remove()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
