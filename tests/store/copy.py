#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""chatd-store-copy: a conversation, accounts and logins that began on SQLite go on on PostgreSQL; what it refuses; that
it notices what did not arrive.  Speaks TAP.

usage: copy.py [--build DIR] [WORD]        WORD: only tests whose name has it"""
import argparse
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests"), os.path.join(ROOT, "tests", "auth"), os.path.join(ROOT, "tests", "chat")]
os.environ.pop("CHATD_POSTGRES", None)  # each server here says itself where it stores
from backends.base import Missing, IN_CI  # noqa: E402
from backends.postgres import Postgres  # noqa: E402
import client  # noqa: E402
import people  # noqa: E402
from client import Device, Person, same  # noqa: E402

TESTS = []
DIRECT = "/api/chat/messages/direct?with=%s&limit=50"
INBOX = "/user/queue/messages"
UP = "\U0001F44D"


def test(fn):
    TESTS.append(fn)
    return fn


def program(name):
    return os.path.join(client.BUILD, "bin", name)


def copy(*args, code=0, env=None, command=None):
    """What it prints; both streams, when it is meant to refuse."""
    done = subprocess.run([*(command or [program("chatd-store-copy")]), *args], capture_output=True, text=True, check=False,
                          env={**os.environ, **(env or {})}, timeout=300)
    same(done.returncode, code, done.stdout + done.stderr)
    return done.stdout if code == 0 else done.stdout + done.stderr


def start():
    return client.Server(2, "auth-password.hash_threads=0", "auth-password.argon2_memory=256 KiB",
                         "auth-password.argon2_passes=1",
                         accounts=client.ACCOUNTS + "  auth-password: {register_per_hour: 0}\n  mail-file: {}\n")


def end(server):
    server.proc.terminate()
    same(server.proc.wait(60), 0)


def on_postgres(server, url, schema):
    path = os.path.join(server.dir, "chat.yaml")
    with open(path) as f:
        text = f.read()
    with open(path, "w") as f:
        f.write(client.put(text, "  store-sqlite: { enabled: false }\n"
                                 "  store-postgres: { url: \"%s\", schema: %s, start_timeout: 10s }\n" % (url, schema)))


class Story:
    """What people did, and what they must find again."""

    def __init__(self, server):
        self.s = server
        self.alice, self.bob = Person(server, "alice"), Person(server, "bob")
        self.guest = Person(server)
        self.account = people.Account(server, "Ann@Example.org", nickname="Ann \u00e9")
        self.login = self.account.log_in(device="phone")
        a, b = self.alice.device(), self.bob.device()
        self.room = self.alice.rest("POST", "/api/chat/rooms", {"name": "a\troom \\ of\nmine", "public": True}).json["id"]
        same(self.alice.rest("POST", self.base() + "/members", {"userId": "bob"}).status, 201)
        self.topic = "/topic/room/" + self.room
        self.first = self.say(a, "frist @bob \\N \t tab", clientId="k1")
        self.pinned = self.say(a, "caf\u00e9 \u4f60\u597d \U0001F600 back\\slash\r\nline", mentions=["bob"])
        gone = self.say(b, "password secret")
        for i in range(120):
            b.write("SEND", {"destination": "/app/chat.send"}, b'{"roomId":"%s","content":"n%d"}' % (self.room.encode(), i))
        self.say(b, "the last of many")
        for where, body in (("edit", {"messageId": self.first["message-id"], "content": "first it is", "clientId": "e1"}),
                            ("delete", {"messageId": gone["message-id"]}),
                            ("react", {"messageId": self.pinned["message-id"], "reaction": UP}),
                            ("pin", {"messageId": self.pinned["message-id"]})):
            device = b if where == "delete" else a
            answer = device.send("/app/chat." + where, body)
            assert "code" not in answer, (where, answer)
        g = self.guest.device()
        assert "message-id" in g.send("/app/chat.send", {"to": "bob", "content": "a guest was here"})
        self.direct = a.send("/app/chat.send", {"to": "bob", "content": "just us", "clientId": "d1"})
        self.cursor = b.messages(content="just us").headers["cursor"]
        a.send("/app/chat.send", {"to": "bob", "content": "while bob was away"})
        self.top = self.say(a, "top")
        a.send("/app/chat.read", {"roomId": self.room, "messageId": self.top["message-id"]})
        for d in (a, b, g):
            d.close()
        self.seen = self.look()

    def base(self):
        return "/api/chat/rooms/" + self.room

    def say(self, device, text, **more):
        r = device.send("/app/chat.send", {"roomId": self.room, "content": text, **more})
        assert "message-id" in r, r
        return r

    def look(self):
        """What alice and bob are shown."""
        shared = ["/api/chat/messages/room/%s?limit=100&before=100000" % self.room,
                 "/api/chat/messages/room/%s?limit=100&after=0" % self.room, "/api/chat/mentions",
                 "/api/chat/pins?roomId=" + self.room, "/api/chat/rooms", self.base(), self.base() + "/members",
                 "/api/chat/messages/" + self.pinned["message-id"], "/api/chat/conversations"]
        shared += ["/api/chat/search?q=" + q for q in ("first", "frist", "caf", "cafe", "n1", "password", "just%20us", "%E4%BD%A0")]
        found = {}
        for p, other in ((self.alice, self.bob), (self.bob, self.alice)):
            for path in [*shared, DIRECT % other.id]:
                r = p.rest("GET", path)
                same(r.status, 200, (path, r.body))
                found[p.id, path] = json.loads(r.body, object_hook=lambda o: {k: v for k, v in o.items() if k != "online"})
        return found


def check_the_same(story):
    now = story.look()
    for key, then in story.seen.items():
        same(now[key], then, key)
    for key, answer in now.items():
        if "?q=" in key[1]:
            gone = key[1].endswith(("=frist", "=password"))
            same(bool(answer["messages"]), not gone, key)


def check_repeats(story):
    a, b = story.alice.device(), Device.bare(story.bob)
    again = a.send("/app/chat.send", {"roomId": story.room, "content": "frist @bob \\N \t tab", "clientId": "k1"})
    same([again[k] for k in ("message-id", "seq", "epoch")], [story.first[k] for k in ("message-id", "seq", "epoch")])
    again = a.send("/app/chat.send", {"to": "bob", "content": "just us", "clientId": "d1"})
    same(again["message-id"], story.direct["message-id"])
    same(a.send("/app/chat.send", {"to": "bob", "content": "other", "clientId": "d1"})["code"], "DUPLICATE_ID_MISMATCH")
    answer = b.resume(story.topic, {"since": int(story.top["seq"]) - 3, "epoch": story.top["epoch"]})
    same([answer["recovered"], answer["epoch"]], ["true", story.top["epoch"]], answer)
    top = int(answer["seq"])
    same(top, story.seen["alice", "/api/chat/messages/room/%s?limit=100&before=100000" % story.room]["topSeq"])
    answer = b.resume(INBOX, {"since": story.cursor})
    same(answer["recovered"], "true", answer)
    same(b.on(INBOX).json["content"], "while bob was away")
    same(int(story.say(a, "and on it goes")["seq"]), top + 1)
    assert b.on(story.topic, content="and on it goes")
    a.send("/app/chat.send", {"to": "bob", "content": "new here"})
    assert b.on(INBOX, content="new here")


def check_logins(story):
    same(Device(story.guest).connected.headers["user-name"], story.guest.id)
    same(story.login.rest("GET", "/api/chat/rooms").status, 200)
    same(story.login.refresh().status, 200)
    same(story.account.log_in().id, story.account.id)
    r = people.auth(story.s, "authenticate", {"email": "ann@example.org", "password": "not that one"})
    same(r.status, 401)
    same(people.auth(story.s, "register", {"email": "ANN@example.org", "password": "another one"}).status, 409)


def add_by_hand(path):
    """What the server keeps only at times: a row of each of the other tables."""
    with sqlite3.connect(path) as f:
        f.execute("INSERT INTO dedupe VALUES('alice', 'old', x'00ff5c0a', 'some-id', 1, 1, 1, 1)")
        f.execute("INSERT INTO outbox(pos, route, headers, body, owner, held) VALUES(1, 'r', '{}', 'b', NULL, 0)")
        f.execute("INSERT INTO gone VALUES('nobody', 1)")
        f.execute("INSERT INTO node VALUES('one', 3, 'who', 5, 2)")
        f.execute("INSERT INTO blob VALUES('a-hash', 'aa/a.1', 'image/png', 5, 0, '{}', 1)")
        f.execute("INSERT INTO file VALUES('f', 'a-hash', 'alice', '고양이.png', 5, 1, NULL)")
        f.execute("INSERT INTO attach VALUES('f', 1)")
        f.execute("INSERT INTO object_gone VALUES('bb/b.1')")
        f.execute("INSERT INTO file_day VALUES('alice', 20000, 5)")
        f.execute("INSERT OR REPLACE INTO touched VALUES('nobody', 1000000, 7)")
        f.execute("INSERT INTO record VALUES('a.b', 'key', x'00ff5c0a', 'alice', 5, NULL, 3, 1, 1)")
        f.execute("UPDATE msg SET sealed=x'0100ff0a5c', body='', text='0123456789ab' WHERE pos=(SELECT max(pos) FROM msg)")
        f.execute("INSERT INTO secret VALUES(1, 'hash', NULL, 'data', 4102444800000)")
        f.execute("UPDATE msg SET text='with' || char(0) || 'zero' WHERE pos=(SELECT max(pos) FROM msg WHERE text IS NOT NULL)")


@test
def a_conversation_goes_on_where_it_was(pg, kept):
    s = start()
    try:
        story = Story(s)
        path = os.path.join(s.dir, "chatd.db")
        shown = copy(path, pg.url, code=69)
        assert "is in use by a chatd; stop that one first" in shown, shown
        end(s)
        shutil.copy(path, kept)
        before = hashlib.sha256(open(path, "rb").read()).hexdigest()
        shown = copy(path, pg.url)
        same(hashlib.sha256(open(path, "rb").read()).hexdigest(), before, "the file was changed")
        counts = {w[0]: (int(w[1]), w[2]) for w in map(str.split, shown.splitlines()[1:16])}
        same(counts["account"], (sqlite3.connect(kept).execute("SELECT count(*) FROM account").fetchone()[0], "ok"), shown)
        assert counts["msg"][0] > 125 and counts["reaction"][0] == 1 and counts["pin"][0] == 1, shown
        assert counts["cursor"][0] and counts["login"][0] and counts["member"][0], shown
        on_postgres(s, pg.url, "chatd")
        s.begin()
        check_the_same(story)
        check_repeats(story)
        check_logins(story)
        end(s)
        same(pg.sql("SELECT count(*) FROM pg_indexes WHERE schemaname='chatd' AND indexname IN ('msg_words', 'msg_node',"
                    " 'account_lower', 'conv_last')"), "4", "indexes")
        shown = copy(path, pg.url, code=69)
        assert "has rows already" in shown and "--schema" in shown and "DROP SCHEMA" in shown, shown
    finally:
        s.stop()


@test
def every_table_goes_over_as_it_is(pg, kept):
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(kept, os.path.join(folder, "chatd.db"))
        add_by_hand(path)
        shown = copy(path, pg.url, "--schema", "every")
        tables = [line.split() for line in shown.splitlines()[1:23]]
        same([t[2] for t in tables], ["ok"] * 22, shown)
        assert not [t for t in tables if int(t[1]) == 0], shown
        f = sqlite3.connect(path)
        same(pg.sql("SELECT last_value FROM every.place"), str(f.execute(
            "SELECT max((SELECT max(pos) FROM msg), (SELECT max(max(last_pos, msg_pos, gone_pos)) FROM conv))").fetchone()[0]))
        same(pg.sql("SELECT count(*) FROM every.msg WHERE node <> 'one'"), "0", "the node that wrote them")
        same(pg.sql("SELECT handed FROM every.node"), "2")
        same(pg.sql("SELECT encode(hash, 'hex') FROM every.dedupe WHERE client_id='old'"), "00ff5c0a")
        same(pg.sql("SELECT encode(value, 'hex') FROM every.record WHERE key='key'"), "00ff5c0a")
        same(pg.sql("SELECT count(*) FROM every.msg WHERE text='with zero' AND words @@ 'zero'"), "1")
        same(pg.sql("SELECT value FROM every.meta WHERE key='epoch'"),
             f.execute("SELECT value FROM meta WHERE key='epoch'").fetchone()[0])
        # what the tables of the file and the program's list have: neither may forget one of the other
        named = {r[0] for r in f.execute("SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite%'"
                                         " AND name NOT LIKE 'words%'")} - {"meta", "said"}  # who said what goes with the words
        same({t[0] for t in tables}, named, "tables")


@test
def chatctl_does_it_too_and_a_backup_gets_a_new_epoch(pg, kept):
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(kept, os.path.join(folder, "chatd.db"))
        with sqlite3.connect(path) as f:
            f.execute("INSERT INTO meta VALUES('copy', 1)")
        pg.sql("CREATE DATABASE other")
        url = pg.url.rpartition("/")[0] + "/other"
        shown = copy("store", "copy", path, url, command=[program("chatctl")])
        assert "is a backup" in shown, shown
        epoch = pg.sql("SELECT value FROM chatd.meta WHERE key='epoch'", "other")
        assert len(epoch) == 32 and epoch != sqlite3.connect(path).execute(
            "SELECT value FROM meta WHERE key='epoch'").fetchone()[0], epoch


@test
def what_did_not_arrive_is_noticed_and_nothing_stays(pg, kept):
    copy(kept, pg.url, "--schema", "broken")
    pg.sql("TRUNCATE broken.account, broken.login, broken.secret, broken.room, broken.member, broken.conv, broken.msg,"
           " broken.dedupe, broken.cursor, broken.mention, broken.pin, broken.reaction, broken.outbox, broken.gone, broken.node,"
           " broken.touched, broken.record, broken.blob, broken.file, broken.attach")
    for harm, says in (("IF NEW.seq = 5 THEN RETURN NULL; END IF; RETURN NEW", "arrived"),
                       ("IF NEW.seq = 5 THEN NEW.body := NEW.body || ' '; END IF; RETURN NEW", "DIFFERS\n")):
        pg.sql("CREATE OR REPLACE FUNCTION broken.harm() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s; END $$;"
               "CREATE OR REPLACE TRIGGER harm BEFORE INSERT ON broken.msg FOR EACH ROW EXECUTE FUNCTION broken.harm()" % harm)
        shown = copy(kept, pg.url, "--schema", "broken", code=65)
        assert says in shown and "Nothing was copied" in shown, shown
        same(pg.sql("SELECT (SELECT count(*) FROM broken.msg) + (SELECT count(*) FROM broken.account)"), "0")
    pg.sql("DROP TRIGGER harm ON broken.msg")
    copy(kept, pg.url, "--schema", "broken")


@test
def what_is_refused_says_what_to_do(pg, kept):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.db")
        shown = copy(path, pg.url, code=74)
        assert "No such file" in shown and "chatd.db" in shown, shown
        for text, says in (("UPDATE account SET nickname=CAST(x'ff' AS TEXT)", "table account, the row whose id is"),
                           ("PRAGMA user_version=6", "its schema is number 6, this program copies number"),
                           ("PRAGMA user_version=99", "that came with the chatd which wrote it"),
                           ("PRAGMA application_id=0", "is not a file of chatd's")):
            shutil.copy(kept, path)
            with sqlite3.connect(path) as f:
                f.execute(text)
            f.close()
            shown = copy(path, pg.url, "--schema", "refused", code=65)
            assert says in shown, shown
        with open(path, "w") as f:
            f.write("no database, but long enough to look like one " * 100)
        assert "cannot be read" in copy(path, pg.url, code=65)
    for args in ([], [kept], [kept, pg.url, "x"], [kept, pg.url, "--nonsense"], [kept, pg.url, "--schema", "No"],
                 [kept, "postgresql://u:hush@[::1"], [kept, "nonsense=hush"]):
        shown = copy(*args, code=64)
        assert "chatd-store-copy: " in shown and "hush" not in shown.replace("nonsense=hush", ""), shown
    for url, says in ((pg.url.replace("chatd@", "nobody:hush@"), "nobody"), ("postgresql://u:hush@127.0.0.1:1/x", "127.0.0.1:1/x"),
                      (pg.url.rpartition("/")[0] + "/nowhere", 'database "nowhere" does not exist')):
        shown = copy(kept, url, code=69)
        assert says in shown and "hush" not in shown, shown
    pg.sql("CREATE SCHEMA newer; CREATE TABLE newer.meta(key text PRIMARY KEY, value text NOT NULL);"
           "INSERT INTO newer.meta VALUES('schema', '99')")
    assert "its schema is number 99" in copy(kept, pg.url, "--schema", "newer", code=69)
    assert "--schema NAME" in copy("--help")


@test
def a_chatd_on_the_target_is_noticed(pg, kept):
    s = start()
    try:
        end(s)
        on_postgres(s, pg.url, "busy")
        s.begin()
        assert "stop that chatd" in copy(kept, pg.url, "--schema", "busy", code=69)
        end(s)
    finally:
        s.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=client.BUILD)
    parser.add_argument("word", nargs="?", default="")
    args = parser.parse_args()
    client.BUILD = os.path.abspath(args.build)
    try:
        pg = Postgres(fsync="off").start()
    except Missing as e:
        print("1..1\n%sok 1 - a PostgreSQL # %s%s" % ("not " if IN_CI else "", "" if IN_CI else "skip ", e))
        return 1 if IN_CI else 0
    # The first test leaves the file that the others copy.
    chosen = [fn for i, fn in enumerate(TESTS) if i == 0 or args.word in fn.__name__]
    failed = 0
    print("1..%d" % len(chosen))
    with tempfile.TemporaryDirectory(prefix="chatd-copy-") as folder:
        for i, fn in enumerate(chosen, 1):
            try:
                fn(pg, os.path.join(folder, "chatd.db"))
                print("ok %d - %s" % (i, fn.__name__.replace("_", " ")), flush=True)
            except Exception:  # pylint: disable=broad-except
                failed += 1
                print("not ok %d - %s\n# %s" % (i, fn.__name__, traceback.format_exc().replace("\n", "\n# ")), flush=True)
    pg.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
