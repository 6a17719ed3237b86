#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""store-postgres on a real server: the suites of every store, and what only a server can do: be shared by nodes, be
terminated, restarted, frozen, made read-only, restored from a dump.  Speaks TAP.

usage: postgres.py [--build DIR] [WORD]        WORD: only tests whose name has it
CHATD_FULL=1: longer."""
import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests"), os.path.join(ROOT, "tests", "chat")]
from backends.base import Missing, IN_CI, free_port, wait_until  # noqa: E402
from backends.postgres import Postgres, Standby  # noqa: E402
from client import Person, Server, put, rest  # noqa: E402

FULL = os.environ.get("CHATD_FULL") == "1"
TESTS = []
BUILD = "build"


def test(fn):
    TESTS.append(fn)
    return fn


def long(fn):
    """With servers of its own, some 20 s each: in the long form alone."""
    return test(fn) if FULL else fn


def same(a, b, what=""):
    assert a == b, "%s: %r is not %r" % (what, a, b)


def built(*path):
    return os.path.join(BUILD, *path)


class Node:
    """store_node, with what it says read as it comes."""

    def __init__(self, url, schema, *what, keys=None, **options):
        """keys: with the plugin encrypt, and these."""
        env = dict(os.environ)
        if keys:
            env.update(CHATD_TEST_CIPHER=built("plugins", "encrypt.so"), CHATD_TEST_KEYS=keys)
        options = {"url": url, "schema": schema, "read_timeout": "10s", **options}
        self.errors = open(os.path.join("/tmp", "chatd-node-%d-%d.log" % (os.getpid(), random.getrandbits(40))), "w+b")
        os.unlink(self.errors.name)
        self.child = subprocess.Popen(
            [built("tests", "store", "store_node"), built("plugins", "store-postgres.so"), *map(str, what),
             *("%s=%s" % o for o in options.items())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, bufsize=1, env=env)
        self.lines, self.states, self.acks = [], [], {}
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            word = line.split()
            if word and word[0] == "ack" and line.endswith("\n"):
                self.acks[int(word[1])] = tuple(map(int, word[2:]))
            elif word and word[0] == "state" and len(word) == 2:
                self.states.append(int(word[1]))
            self.lines.append(line.rstrip("\n"))

    def wait_acks(self, n, seconds=60):
        def more():
            assert self.child.poll() is None or len(self.acks) >= n, self.log()
            return len(self.acks) >= n
        wait_until(more, seconds, "%d acknowledgements, there are %d" % (n, len(self.acks)))

    def stop(self, seconds=60):
        try:
            self.child.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise
        self.reader.join(60)
        same(self.child.returncode, 0, self.log())
        return self

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.reader.join(60)
        return self

    def log(self):
        self.errors.seek(0)
        return "\n".join(self.lines[-20:]) + self.errors.read().decode(errors="replace")[-3000:]


# ---- what must hold whatever happened ---------------------------------------------------

def rows_of(pg, schema):
    text = pg.sql("SELECT m.sender, m.client_id, m.seq, m.pos, c.key, coalesce(c.a, ''), coalesce(c.b, ''), m.node"
                  " FROM %s.msg m JOIN %s.conv c ON c.n=m.conv ORDER BY m.pos" % (schema, schema))
    rows = []
    for line in text.splitlines():
        sender, client_id, seq, pos, key, a, b, node = line.split("|")
        rows.append((sender, int(client_id), int(seq), int(pos), key, a, b, node))
    return rows


def check_rows(rows, nodes):
    """Nothing acknowledged is lost, nothing is there twice, numbers have no hole, places grow with them."""
    there, tops, inbox = {}, {}, {}
    for sender, number, seq, pos, key, a, b, node in rows:
        assert (sender, number) not in there, "twice: %s %d" % (sender, number)
        before = (inbox.get(a, 0), inbox.get(b, 0)) if a else (0, 0)
        there[sender, number] = (seq, pos, *before)
        same(seq, tops.get(key, 0) + 1, "the number after %d of %s" % (tops.get(key, 0), key))
        tops[key] = seq
        same(node, sender, "the node that wrote it")
        if a:
            inbox[a] = inbox[b] = pos
    for name, acks in nodes.items():
        for number, (seq, pos, before_a, before_b, repeated, _) in acks.items():
            assert (name, number) in there, "lost: %s %d" % (name, number)
            same((seq, pos), there[name, number][:2], "what was said of %s %d" % (name, number))
            if not repeated:
                same((before_a, before_b), there[name, number][2:], "the rows before %s %d" % (name, number))
    return len(rows)


def check(pg, schema, nodes):
    return check_rows(rows_of(pg, schema), {name: node.acks for name, node in nodes.items()})


# ---- the suites of every store -------------------------------------------------------------

UNSYNCED = []


def run_suite(_, name, **more):
    """On a server that does not sync: these ask what calls mean, and make a schema for each test."""
    if not UNSYNCED:
        UNSYNCED.append(Postgres(fsync="off", full_page_writes="off").start())
    run_suite_on(UNSYNCED[0], name, **more)


def run_suite_on(pg, name, **more):
    done = subprocess.run([built("tests", "store", name), built("plugins", "store-postgres.so"), "url=" + pg.url,
                           "schema=t@", "read_timeout=10s", "commit_timeout=30s"], capture_output=True, text=True,
                          env={**os.environ, "CMOCKA_MESSAGE_OUTPUT": "TAP", **more}, check=False)
    cases = re.findall(r"^(?:not )?ok \d+", done.stdout, re.M)
    bad = [c for c in cases if c.startswith("not")]
    assert done.returncode == 0 and cases and not bad, done.stdout[-4000:] + done.stderr[-2000:]


@test
def the_suite_of_conversations(pg):
    run_suite(pg, "test_store")


@test
def the_suite_of_conversations_when_they_are_encrypted(pg):
    run_suite(pg, "test_store", CHATD_TEST_CIPHER=built("plugins", "encrypt.so"))


@long
def the_other_suites_when_messages_are_encrypted(pg):
    for name in ("test_accounts", "test_people", "test_nodes", "test_sequencer", "test_files", "test_records"):
        run_suite(pg, name, CHATD_TEST_CIPHER=built("plugins", "encrypt.so"))


KEY = {name: "%s %s" % (name, os.urandom(32).hex()) for name in ("one", "two", "three")}


def asked(pg, schema, keys=None):
    return "\n".join(Node(pg.url, schema, "ask", "n9", keys=keys).stop().lines)


@test
def nodes_with_other_keys_undo_nothing_and_lose_nothing(pg):
    schema, one, two, three = "keyed", KEY["one"], KEY["two"], KEY["three"]
    count = lambda what: int(pg.sql("SELECT count(*) FROM %s.msg WHERE %s" % (schema, what)))  # noqa: E731
    a = Node(pg.url, schema, "append", "n1", 1, 8, keys=one)
    a.wait_acks(100)
    a.stop()
    same(count("body <> '' OR sealed IS NULL"), 0, "nothing lies there readable")
    first = pg.sql("SELECT DISTINCT encode(substr(sealed, 3, 8), 'hex') FROM %s.msg" % schema).split()
    same(len(first), 1)
    old = "encode(substr(sealed, 3, 8), 'hex') = '%s'" % first[0]
    before = count(old)
    # One node has the new key already, the other only knows it: both write, both look through the rows.
    a = Node(pg.url, schema, "append", "n1", 100000, 4, keys=one + "\n" + two + " standby")
    b = Node(pg.url, schema, "append", "n2", 200000, 4, keys=one + "\n" + two)
    wait_until(lambda: count(old + " AND pos <= %d" % before) == 0, 60, "older rows have the new key")
    a.wait_acks(50)
    a.stop()
    same(count(old + " AND pos <= %d" % before), 0, "and it stays so")
    assert count(old) > 0, "the first one wrote with its own"
    b.wait_acks(50)
    b.stop()
    c = Node(pg.url, schema, "watch", "n3", keys=one + "\n" + two)
    wait_until(lambda: count(old) == 0, 60, "all rows have the new key")
    c.stop()
    n = count("true")
    shown = asked(pg, schema, two)
    assert "open 0" in shown and "unreadable" not in shown, shown
    shown = asked(pg, schema, three)
    assert "open 0" in shown and "unreadable" in shown, shown
    same(count("true"), n)
    same(count("sealed IS NULL"), 0)
    shown = asked(pg, schema)
    assert "open 0" not in shown and "add encrypt: with its keys" in shown, shown


@test
def the_suite_of_accounts(pg):
    run_suite(pg, "test_accounts")


@test
def the_suite_of_rooms_and_people(pg):
    run_suite(pg, "test_people")


@test
def the_suite_of_files(pg):
    run_suite(pg, "test_files")


@test
def the_suite_of_records(pg):
    run_suite(pg, "test_records")


@test
def the_suite_of_nodes(pg):
    run_suite(pg, "test_nodes")


@test
def the_suite_of_the_sequencer(pg):
    run_suite(pg, "test_sequencer", CHATD_ROUNDS="60" if FULL else "6")


@test
def the_whole_server_on_it(pg):
    files = ["../upload/upload_e2e.py", "2"]
    for suite in (["store_e2e.py", "2", "3"], ["change_e2e.py", "2"], files) if FULL else (["store_e2e.py", "2", "2"], files):
        done = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "chat", suite[0]), *suite[1:]],
                              capture_output=True, text=True, check=False,
                              env={**os.environ, "CHATD_BUILD": BUILD, "CHATD_POSTGRES": pg.url})
        same(done.returncode, 0, done.stdout[-3000:] + done.stderr[-1000:])


# ---- nodes ------------------------------------------------------------------------------------

@test
def two_nodes_share_conversations_and_a_third_sees_them_in_order(pg):
    nodes = {name: Node(pg.url, "shared", "append", name, 1, 32) for name in ("one", "two")}
    watch = Node(pg.url, "shared", "watch", "three")
    for node in nodes.values():
        node.wait_acks(20000 if FULL else 1500)
    for node in nodes.values():
        node.stop()
    watch.stop()
    check(pg, "shared", nodes)
    seen = [line.split()[1:3] for line in watch.lines if line.startswith("row ")]
    rows = rows_of(pg, "shared")
    same(len(seen), len(rows), "rows that the watcher saw")
    same({int(pos) for pos, _ in seen}, {r[3] for r in rows})


@test
def what_was_acknowledged_survives_kill_9_of_a_node(pg):
    acks, first = {}, 1
    for _ in range(20):
        node = Node(pg.url, "kills", "append", "one", first, 64)
        node.wait_acks(1)
        time.sleep(random.random() * 0.15)
        node.kill()
        acks.update(node.acks)
        first = max(acks) + 1000
    check_rows(rows_of(pg, "kills"), {"one": acks})
    assert len(acks) >= 20


def under_load(pg, schema, harm, times, commit_timeout="5s"):
    nodes = {name: Node(pg.url, schema, "append", name, 1, 32, commit_timeout=commit_timeout) for name in ("one", "two")}
    for i in range(times):
        n = {name: len(node.acks) for name, node in nodes.items()}
        for name, node in nodes.items():
            node.wait_acks(n[name] + 100)
        time.sleep(random.random() * 0.1)
        harm()
    for name, node in nodes.items():
        node.wait_acks(len(node.acks) + 100)
        node.stop()
    return check(pg, schema, nodes), nodes


@test
def terminated_backends_lose_and_double_nothing(pg):
    assert under_load(pg, "ended", pg.terminate, 40 if FULL else 10)[0] > 1000


@test
def an_immediate_restart_loses_and_doubles_nothing(pg):
    _, nodes = under_load(pg, "restarted", pg.restart, 10 if FULL else 2)
    assert any(3 in node.states for node in nodes.values()), "nobody noticed"
    for node in nodes.values():
        same(node.states[-1], 0, "the state at the end")


@test
def a_killed_postmaster_loses_and_doubles_nothing(pg):
    def harm():
        pg.kill()
        pg.start()
    under_load(pg, "killed", harm, 10 if FULL else 2)


@test
def a_commit_that_was_lost_and_has_not_happened_is_done_again(pg):
    node = Node(pg.url, "undone", "append", "one", 1, 8)
    node.wait_acks(50)
    pg.sql("CREATE FUNCTION undone.fall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
           " IF random() < 0.05 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$;"
           "CREATE CONSTRAINT TRIGGER fall AFTER INSERT ON undone.msg DEFERRABLE INITIALLY DEFERRED"
           " FOR EACH ROW EXECUTE FUNCTION undone.fall()")
    node.wait_acks(len(node.acks) + 150)
    pg.sql("DROP TRIGGER fall ON undone.msg")
    node.wait_acks(len(node.acks) + 50)
    node.stop()
    assert "that commit has not happened: it is done again" in node.log(), node.log()
    same({ack[4:] for ack in node.acks.values()}, {(0, 1)}, "repeats and tries: the node's own affair")
    check(pg, "undone", {"one": node})


@test
def a_commit_that_was_lost_and_has_happened_is_acknowledged(pg):
    """It waits for a standby that there is not: when its connection is ended, it has happened here."""
    node = Node(pg.url, "done", "append", "one", 1, 8, commit_timeout="20s")
    node.wait_acks(50)
    for _ in range(5 if FULL else 2):
        pg.sql("ALTER SYSTEM SET synchronous_standby_names='nobody'")
        pg.sql("SELECT pg_reload_conf()")
        wait_until(lambda: pg.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event='SyncRep'") == "1", 60,
                   "a commit that waits")
        pg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event='SyncRep'")
        pg.sql("ALTER SYSTEM RESET synchronous_standby_names")
        pg.sql("SELECT pg_reload_conf()")
        node.wait_acks(len(node.acks) + 50)
    node.stop()
    assert "that commit has happened" in node.log(), node.log()
    same({ack[4:] for ack in node.acks.values()}, {(0, 1)}, "repeats and tries: the node's own affair")
    check(pg, "done", {"one": node})


@test
def a_frozen_server_hangs_nobody(pg):
    node = Node(pg.url, "frozen", "append", "one", 1, 16, commit_timeout="1s", read_timeout="1s")
    node.wait_acks(50)
    pg.freeze()
    try:
        wait_until(lambda: 3 in node.states, 60, "the state says that it stalls")
        began = time.monotonic()
        idle = Node(pg.url, "frozen", "ask", "two", start_timeout="2s", commit_timeout="1s")
        idle.child.wait(60)
        assert time.monotonic() - began < 50
        idle.reader.join(60)
        assert idle.lines[0].startswith("open -"), idle.lines
    finally:
        pg.thaw()
    node.wait_acks(len(node.acks) + 50)
    node.stop()
    check(pg, "frozen", {"one": node})
    # one that is told to end while it is frozen ends
    node = Node(pg.url, "frozen", "append", "two", 1, 16, commit_timeout="1s", read_timeout="1s")
    node.wait_acks(10)
    pg.freeze()
    try:
        node.child.stdin.close()
        node.child.send_signal(signal.SIGTERM)
        node.child.wait(60)
    finally:
        pg.thaw()


@test
def a_read_only_server_is_down_until_it_writes_again(pg):
    node = Node(pg.url, "readonly", "append", "one", 1, 16, commit_timeout="1s")
    node.wait_acks(50)
    pg.sql("ALTER SYSTEM SET default_transaction_read_only=on")
    pg.sql("SELECT pg_reload_conf()")
    wait_until(lambda: 3 in node.states, 60, "the state says that it stalls")
    n = len(node.acks)
    time.sleep(0.5)
    same(len(node.acks), n, "acknowledgements while it is read-only")
    pg.run(pg.program("psql"), "-Xqd", pg.socket_url, "-c", "SET default_transaction_read_only=off",
           "-c", "ALTER SYSTEM RESET default_transaction_read_only", "-c", "SELECT pg_reload_conf()")
    node.wait_acks(n + 50)
    node.stop()
    check(pg, "readonly", {"one": node})


# ---- standbys --------------------------------------------------------------------------------

def add_rows(pg, schema, name, first, n):
    node = Node(pg.url, schema, "append", name, first, 8)
    node.wait_acks(n)
    node.stop()


@long
def history_is_read_from_a_replica_that_is_not_behind(_):
    with Postgres(fsync="off") as pg, Standby(pg, fsync="off") as standby:
        add_rows(pg, "r", "one", 1, 100)
        wait_until(lambda: standby.sql("SELECT count(*) FROM r.msg") == pg.sql("SELECT count(*) FROM r.msg"), 60, "the same")
        old = ask(pg, "r", replicas=standby.url)
        same(old["page"], old["seq"])
        standby.sql("SELECT pg_wal_replay_pause()")
        add_rows(pg, "r", "one", 1001, 100)
        new = ask(pg, "r")
        assert new["page"] == new["seq"] > old["seq"], new
        found = ask(pg, "r", replicas=standby.url, replica_lag="1h")
        same((found["page"], found["seq"]), (old["seq"], new["seq"]), "history from the replica, the top from the primary")
        time.sleep(0.3)
        same(ask(pg, "r", replicas=standby.url, replica_lag="100ms")["page"], new["seq"], "with a replica that is behind")
        standby.kill()
        same(ask(pg, "r", replicas=standby.url)["page"], new["seq"], "with a replica that is down")


@long
def a_standby_that_takes_over_has_what_was_acknowledged(_):
    with Postgres() as pg, Standby(pg) as standby:
        pg.sql("ALTER SYSTEM SET synchronous_standby_names='standby'")
        pg.sql("SELECT pg_reload_conf()")
        hosts = "postgresql://chatd@127.0.0.1:%d,127.0.0.1:%d/chatd" % (pg.port, standby.port)
        nodes = {name: Node(hosts, "over", "append", name, 1, 16, commit_timeout="10s") for name in ("one", "two")}
        for node in nodes.values():
            node.wait_acks(100)
        before = ask(standby, "over", hosts)
        pg.kill()
        standby.promote()
        for node in nodes.values():
            node.wait_acks(len(node.acks) + 100)
            node.stop()
        check(standby, "over", nodes)
        same(ask(standby, "over", hosts)["epoch"], before["epoch"], "the epoch after it took over")


# ---- the schema ---------------------------------------------------------------------------------

def ask(pg, schema, url=None, **options):
    node = Node(url or pg.url, schema, "ask", "one", **options)
    node.child.wait(90)
    node.reader.join(60)
    found = {"open": int(node.lines[0].split()[1]), "log": "\n".join(node.lines[1:])}
    top = [line.split() for line in node.lines if line.startswith("top ")]
    page = [int(line.split()[1]) for line in node.lines if line.startswith("page ")]
    return {**found, "seq": int(top[0][1]), "epoch": top[0][2], "page": page[0]} if top else found


@test
def many_nodes_start_at_once_on_an_empty_database(pg):
    nodes = [Node(pg.url, "many", "ask", "n%d" % i) for i in range(8)]
    for node in nodes:
        node.child.wait(90)
        node.reader.join(60)
        same(node.lines[0], "open 0", node.log())
    same(len({line for node in nodes for line in node.lines if line.startswith("top ")}), 1, "epochs")


@long
def a_node_killed_while_it_makes_the_schema_needs_no_help(pg):
    halves = 0
    for i in range(40 if FULL else 12):
        node = Node(pg.url, "half%d" % i, "ask", "one")
        time.sleep(0.005 * i + random.random() * 0.01)
        node.kill()
        halves += not node.lines
        same(ask(pg, "half%d" % i)["open"], 0)
    print("# %d were killed before they had opened it" % halves)


def older(pg):
    """The database of an older release; what is in it, by what a server with it is asked."""
    pg.run(pg.program("psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-f", os.path.join(HERE, "postgres-3.sql"), pg.url)
    block = "  store-sqlite: { enabled: false }\n  store-postgres: { url: \"%s\", schema: older }\n" % pg.url
    return Server(2, "server.server_id=new1", edit=lambda text: put(text, block))


@test
def a_schema_of_an_older_release_is_migrated_with_what_is_in_it(pg):
    s = older(pg)
    try:
        assert ask(pg, "latest")["open"] == 0
        number = "SELECT value FROM %s.meta WHERE key='schema'"
        same(pg.sql(number % "older"), pg.sql(number % "latest"), "the number of the schema")
        alice, bob = Person(s, "alice"), Person(s, "bob")

        def get(who, path):
            return who.rest("GET", "/api/chat/" + path).json

        # rooms, their members, and how far each has read
        mine = get(bob, "conversations")["conversations"]
        room = next(c["roomId"] for c in mine if "roomId" in c)
        marks = {c.get("roomId", c.get("with")): (c["unread"], c["read"]) for c in mine}
        same(marks, {room: (5, 8), "alice": (2, 3)}, "what bob has read")
        same({m["userId"] for m in get(alice, "rooms/%s/members" % room)["members"]}, {"alice", "bob"})
        # history, as it was changed
        page = get(bob, "messages/room/%s?limit=50" % room)
        want = ["the %s of an older release" % ("horse %d" % i if i % 4 else "zebra") for i in range(12)]
        want[1], want[3] = "an edited walrus", None
        same([m.get("content") for m in page if m["type"] == "CHAT"], want[::-1])
        # search goes through the old rows
        def found(words):
            return sorted(m["content"] for m in get(alice, "search?q=%s&roomId=%s" % (words, room))["messages"])
        same(found("zebra"), ["the zebra of an older release"] * 3)
        same(found("walrus"), ["an edited walrus"])
        same(len(found("older")), 10, "without the one that was edited, and the one that is gone")
        same([m["content"] for m in get(bob, "pins?roomId=" + room)["messages"]], ["the zebra of an older release"])
        # a resume goes on where it was, and what is said now comes behind
        d = bob.device()
        r = d.resume("/topic/room/" + room, {"since": "0"})
        top = int(r["seq"])
        said = alice.device().send("/app/chat.send", {"roomId": room, "content": "a zebra of today"})
        same(int(said["seq"]), top + 1)
        same(len(found("zebra")), 4)
        # an account with its password
        who = {"email": "eve@example.org", "password": "a long password"}
        same(rest(s, None, "POST", "/api/auth/authenticate", who).status, 200, "a password of then")
        same(rest(s, None, "POST", "/api/auth/authenticate", {**who, "password": "another one"}).status, 401)
    finally:
        code, log = s.stop()
    same(code, 0, log)
    assert " ERROR " not in log and "Sanitizer" not in log, log[-3000:]


@test
def a_newer_schema_is_refused(pg):
    same(ask(pg, "newer")["open"], 0)
    pg.sql("UPDATE newer.meta SET value='99' WHERE key='schema'")
    began = time.monotonic()
    found = ask(pg, "newer")
    assert found["open"] < 0 and time.monotonic() - began < 30
    assert "its schema is number 99, this program knows up to" in found["log"], found
    assert "run the newer program" in found["log"]


@test
def a_restored_dump_has_a_new_epoch_and_its_rows(pg):
    node = Node(pg.url, "dumped", "append", "one", 1, 16)
    node.wait_acks(300)
    node.stop()
    before = ask(pg, "dumped")
    same(ask(pg, "dumped")["epoch"], before["epoch"], "the epoch after a restart")
    dump = os.path.join(pg.folder, "dump.sql")
    pg.run(pg.program("pg_dump"), "-n", "dumped", "-f", dump, pg.url)
    pg.sql("CREATE DATABASE copy")
    url = pg.url.rpartition("/")[0] + "/copy"
    pg.run(pg.program("psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-f", dump, url)
    after = ask(pg, "dumped", url)
    same(after["seq"], before["seq"])
    assert after["epoch"] != before["epoch"], "the epoch of the restored dump is the old one"
    same(ask(pg, "dumped", url)["epoch"], after["epoch"], "the new epoch stays")
    node = Node(url, "dumped", "append", "two", 1, 16)
    node.wait_acks(100)
    node.stop()
    text = pg.sql("SELECT count(*) FROM dumped.msg WHERE node='two' AND pos <="
                  " (SELECT max(pos) FROM dumped.msg WHERE node='one')", "copy")
    same(text, "0", "rows of the copy before those of the dump")


@test
def who_may_not_come_in_is_told_at_once(pg):
    began = time.monotonic()
    found = ask(pg, "x", pg.url.replace("chatd@", "nobody:hush@"))
    assert found["open"] < 0 and "nobody" in found["log"] and "hush" not in found["log"], found
    found = ask(pg, "x", pg.url.rpartition("/")[0] + "/nowhere")
    assert found["open"] < 0 and 'database "nowhere" does not exist' in found["log"], found
    found = ask(pg, "x", "postgresql://u:hush@[::1")
    assert found["open"] < 0 and "no connection string" in found["log"] and "hush" not in found["log"], found
    found = ask(pg, "No")
    assert found["open"] < 0 and "a-z, 0-9 and _" in found["log"], found
    assert time.monotonic() - began < 30


def chatd(url, folder, **options):
    """A whole server that stores there, until it ends by itself: (exit code, what it said, seconds)."""
    path = os.path.join(folder, "ends.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write("server: { data_dir: %s }\nplugins:\n  store-postgres: { url: \"%s\"%s }\n"
                % (folder, url, "".join(", %s: %s" % o for o in options.items())))
    began = time.monotonic()
    done = subprocess.run([built("bin", "chatd"), "-c", path], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


@test
def f53_a_server_without_its_database_ends_with_69(pg):
    """After start_timeout, whether nobody is at the address or the name is none."""
    for host in ("127.0.0.1:%d" % free_port(), "no-such-host.invalid"):
        with tempfile.TemporaryDirectory() as folder:
            code, said, seconds = chatd("postgresql://chatd:hush@%s/chatd" % host, folder, start_timeout="1s")
        same(code, 69, said)
        assert seconds >= 1, "it does not wait: %.1f s" % seconds
        assert re.search(r"ERROR store-postgres: .*%s" % host.partition(":")[0], said), said
        assert "hush" not in said, said


@test
def f53_a_server_that_may_not_come_in_ends_at_once(pg):
    """With 69 as well: whoever starts it again gives it the password as it is then."""
    rules = os.path.join(pg.data, "pg_hba.conf")
    with open(rules, encoding="utf-8") as f:
        before = f.read()
    pg.sql("SET password_encryption='scram-sha-256'; CREATE ROLE locked LOGIN PASSWORD 'right'")
    try:
        with open(rules, "w", encoding="utf-8") as f:
            f.write("host all locked 127.0.0.1/32 scram-sha-256\n" + before)
        pg.sql("SELECT pg_reload_conf()")
        place = "127.0.0.1:%d" % pg.port
        for url, why in (("postgresql://locked:hush@%s/chatd" % place, 'password authentication failed for user "locked"'),
                         ("postgresql://nobody:hush@%s/chatd" % place, 'role "nobody" does not exist'),
                         ("postgresql://chatd:hush@%s/nowhere" % place, 'database "nowhere" does not exist')):
            with tempfile.TemporaryDirectory() as folder:
                code, said, seconds = chatd(url, folder, start_timeout="60s")
            same(code, 69, said)
            assert why in said and "hush" not in said, said
            assert seconds < 50, "it waited %.1f s" % seconds
    finally:
        with open(rules, "w", encoding="utf-8") as f:
            f.write(before)
        pg.sql("SELECT pg_reload_conf()")


@test
def a_server_that_is_not_there_is_waited_for(pg):
    pg.stop()
    found = ask(pg, "later", start_timeout="1s")
    assert found["open"] < 0 and "is it running" in found["log"], found
    node = Node(pg.url, "later", "ask", "one", start_timeout="60s")
    time.sleep(1)
    pg.start()
    node.child.wait(90)
    node.reader.join(60)
    same(node.lines[0], "open 0", node.log())


def main():
    global BUILD
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.environ.get("CHATD_BUILD", os.path.join(ROOT, "build")))
    parser.add_argument("word", nargs="?", default="")
    args = parser.parse_args()
    BUILD = os.path.abspath(args.build)
    try:
        pg = Postgres().start()
    except Missing as e:
        print("1..1\n%sok 1 - a PostgreSQL # %s%s" % ("not " if IN_CI else "", "" if IN_CI else "skip ", e))
        return 1 if IN_CI else 0
    chosen = [fn for fn in TESTS if args.word in fn.__name__]
    failed = 0
    print("1..%d" % len(chosen))
    for i, fn in enumerate(chosen, 1):
        began = time.monotonic()
        try:
            fn(pg)
            print("ok %d - %s (%.1f s)" % (i, fn.__name__.replace("_", " "), time.monotonic() - began), flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print("not ok %d - %s\n# %s" % (i, fn.__name__, traceback.format_exc().replace("\n", "\n# ")), flush=True)
    for server in [pg, *UNSYNCED]:
        server.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
