#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Presence over several nodes that share a Redis, and what happens when something breaks.  Speaks TAP.

usage: redis_e2e.py [WORD]...     scenarios with a WORD in their names
The leases are short unless CHATD_FULL=1."""
import concurrent.futures
import datetime
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from nodes import (FULL, LEASE, START_LIMIT, SWEEP_AFTER, Eye, Missing, Person, Watch, exactly, rest, run, acl, wait_until, within)

SCENARIOS = []


def scenario(fn):
    SCENARIOS.append(fn)
    return fn


def online(node, who, user):
    return node.status(who, user).get("online")


def epoch_of(redis, node):
    return int(redis.hash("active:servers")[node].split()[1])


@scenario
def users_are_seen_on_other_nodes(s):
    redis = s.redis()
    a, b = s.node("server1", redis, workers=1), s.node("server2", redis, workers=4)
    watch, alice = Watch(b), Person(a, "alice")
    phone = alice.device()
    exactly(online(b, watch.person, "alice"), True, "online over there")
    exactly(online(b, watch.person, "bob"), False, "somebody who is not here")
    tab = Person(b, "alice").device()
    places = redis.hash("connection:alice")
    exactly(sorted(v.split()[0] for v in places.values()), ["server1", "server2"], "both devices")
    assert all(v.split()[1] == "1" and len(v.split()) == 4 for v in places.values()), places
    phone.close()
    within(lambda: len(redis.hash("connection:alice")) == 2, 1, "the last one there lingers")
    exactly(watch.of("alice"), ["JOIN"], "one coming")
    within(lambda: len(redis.hash("connection:alice")) == 1, 7, "it is taken back")
    tab.close()
    took = watch.until("LEAVE", "alice", 8)
    assert took > 4, "the linger was cut short: %.1f s" % took
    exactly(watch.of("alice", 0.5), ["JOIN", "LEAVE"], "one coming, one going")
    exactly(online(b, watch.person, "alice"), False, "gone")
    assert int(redis.hash("presence:alice")["lastSeen"]) > 1e12


@scenario
def a_reload_on_another_node_is_no_event(s):
    redis = s.redis()
    a, b = s.node("server1", redis), s.node("server2", redis)
    watch = Watch(b)
    here, there, seconds = Person(a, "alice"), Person(b, "alice"), 60 if FULL else 6
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        here.device().close()
        there.device().close()
        time.sleep(0.05)
        exactly(online(b, watch.person, "alice"), True, "all the time")
    exactly(watch.of("alice"), ["JOIN"], "no flapping")
    watch.until("LEAVE", "alice", 9)
    exactly(watch.of("alice", 0.5), ["JOIN", "LEAVE"], "and then it has gone, once")


@scenario
def a_killed_node_is_swept(s):
    redis = s.redis()
    a, b, c = (s.node("server%d" % i, redis) for i in (1, 2, 3))
    watch, other = Watch(b), Watch(c, "carol")
    devices = [Person(a, "alice").device(), Person(a, "bob").device(), Person(b, "bob").device()]
    time.sleep(SWEEP_AFTER if not FULL else 0)
    a.kill()
    took = watch.until("LEAVE", "alice", LEASE + 3)
    assert took <= 20
    other.until("LEAVE", "alice", 10)
    for w in (watch, other):
        exactly(w.of("alice", 0.5), ["LEAVE"] if w is other and "JOIN" not in w.of("alice") else ["JOIN", "LEAVE"], "once")
        assert "LEAVE" not in w.of("bob"), "the other device of bob is there"
    within(lambda: "server1" not in redis.hash("active:servers"), 2, "its lease has gone")
    exactly(redis.cli("EXISTS", "connection:alice"), "0", "no record")
    exactly(len(redis.hash("connection:bob")), 1, "one record of bob")
    del devices


@scenario
def a_stopped_node_says_so(s):
    redis = s.redis()
    a, b = s.node("server1", redis), s.node("server2", redis)
    watch = Watch(b)
    device = Person(a, "alice").device()
    watch.until("JOIN", "alice", 10)
    a.proc.send_signal(signal.SIGTERM)
    watch.until("LEAVE", "alice", 1 + 0.2)
    exactly(a.proc.wait(60), 0, "a clean end")
    assert "server1" not in redis.hash("active:servers")
    device.close()


@scenario
def f24_redis_is_killed(s):
    redis = s.redis()
    a, b = s.node("server1", redis), s.node("server2", redis)
    watch, alice = Watch(b), Person(a, "alice")
    device = alice.device()
    watch.until("JOIN", "alice", 10)
    first = epoch_of(redis, "server1")
    redis.kill()
    within(lambda: b.status(watch.person, "alice") == {"userId": "alice", "online": None, "stale": True}, 2, "not known")
    exactly(online(a, alice, "alice"), True, "its own users a node knows")
    begin = time.monotonic()
    bob = Person(a, "bob").device()
    exactly(bob.send("/app/chat.send", {"to": "bob", "content": "x"}).get("code"), None, "messages work")
    assert time.monotonic() - begin < 4, "without Redis nobody waits for it"
    exactly(rest(a, None, "GET", "/readyz").json, {"status": "UP", "redis": "DOWN"}, "ready, and says what is missing")
    time.sleep(60 if FULL else LEASE + 2)
    assert "could not be renewed in time" in a.text(), "fenced"
    redis.start()
    within(lambda: online(b, watch.person, "alice") is True, 12, "presence is back")
    within(lambda: len(redis.hash("connection:bob")) == 1, 2, "and so is who came meanwhile")
    assert epoch_of(redis, "server1") > first, "with another epoch"
    exactly(watch.of("alice", 0.5), ["JOIN"], "for alice nothing has changed")
    exactly(watch.of("bob"), ["JOIN"], "bob came")
    device.close()
    watch.until("LEAVE", "alice", 8)
    exactly(watch.of("alice"), ["JOIN", "LEAVE"], "once")


@scenario
def f25_redis_stands_still(s):
    redis = s.redis()
    a, b = s.node("server1", redis), s.node("server2", redis)
    watch, alice = Watch(b), Person(a, "alice")
    device = alice.device()
    exactly(online(b, watch.person, "alice"), True, "before")
    for how in ("stop", "sleep"):
        if how == "stop":
            redis.freeze()
        else:
            sleeper = subprocess.Popen(["redis-cli", "-p", str(redis.port), "DEBUG", "SLEEP", "3"],
                                       stdout=subprocess.DEVNULL)
            time.sleep(0.1)
        slowest = 0
        end = time.monotonic() + (20 if FULL and how == "stop" else 3)
        while time.monotonic() < end:
            begin = time.monotonic()
            Person(a, "carol").device().close()
            device.send("/app/chat.send", {"to": "alice", "content": "x"})
            b.status(watch.person, "alice")
            slowest = max(slowest, time.monotonic() - begin)
        assert slowest < 2.5, "three things took %.2f s" % slowest
        if how == "stop":
            redis.thaw()
        else:
            sleeper.wait()
        within(lambda: online(b, watch.person, "alice") is True, 12, "back after " + how)
    assert "Redis is down" in a.text() + b.text()


@scenario
def f26_redis_is_wiped(s):
    redis = s.redis()
    a, b = s.node("server1", redis), s.node("server2", redis)
    watch, alice = Watch(b), Person(a, "alice")
    device = alice.device()
    watch.until("JOIN", "alice", 10)
    first = epoch_of(redis, "server1")
    for _ in range(3 if FULL else 2):
        redis.cli("FLUSHALL")
        within(lambda: len(redis.hash("connection:alice")) == 1, 3, "written again")
        within(lambda: online(b, watch.person, "alice") is True, 8, "and known")
    exactly(epoch_of(redis, "server1"), first, "the same epoch")
    device.close()
    redis.cli("FLUSHALL")
    watch.until("LEAVE", "alice", 12)
    exactly(watch.of("alice", 0.5), ["JOIN", "LEAVE"], "no events of the wiping")


@scenario
def f27_failover(s):
    master = s.redis()
    replica = s.redis(replica_of=master)
    sentinel = s.sentinel(master)
    options = 'sentinels: ["127.0.0.1:1", "127.0.0.1:%d"]' % sentinel.port
    a, b = s.node("server1", options), s.node("server2", options)
    watch, alice = Watch(b), Person(a, "alice")
    device = alice.device()
    exactly(online(b, watch.person, "alice"), True, "before")
    within(lambda: "alice" in replica.cli("KEYS", "connection:*"), 10, "replicated")
    first = epoch_of(master, "server1")
    wait_until(lambda: sentinel.replicas() > 0, 30, "the sentinel knows the replica")
    master.freeze()
    within(lambda: sentinel.master_port() == replica.port, 20, "failed over")
    within(lambda: online(b, watch.person, "alice") is True, 20, "presence is back")
    if FULL:  # it took less than a lease
        exactly(redis_epochs(replica, "alice"), [first], "the same epoch")
    master.thaw()
    time.sleep(2)
    exactly(online(b, watch.person, "alice"), True, "the old master is back, as a replica")
    exactly(watch.of("alice"), ["JOIN"], "no event")
    device.close()
    watch.until("LEAVE", "alice", 10)


def redis_epochs(redis, user):
    return sorted({int(v.split()[1]) for v in redis.hash("connection:" + user).values()})


@scenario
def f27_a_read_only_replica_counts_as_down(s):
    redis, other = s.redis(), s.redis()
    a = s.node("server1", redis)
    alice = Person(a, "alice")
    device = alice.device()
    redis.cli("REPLICAOF", "127.0.0.1", str(other.port))
    within(lambda: a.status(alice, "bob") == {"userId": "bob", "online": None, "stale": True}, 10, "not known")
    within(lambda: "Redis is down" in a.text() and ("READONLY" in a.text() or "replica" in a.text()), 5, "says why")
    redis.cli("REPLICAOF", "NO", "ONE")
    within(lambda: len(redis.hash("connection:alice")) == 1, 12, "written again")
    redis.cli("CLIENT", "KILL", "TYPE", "normal")
    redis.cli("SCRIPT", "FLUSH")
    within(lambda: a.status(alice, "bob").get("online") is False, 12, "and known")
    device.close()


@scenario
def f36_a_node_is_frozen_and_thawed(s):
    redis = s.redis()
    a, b = s.node("server1", redis), s.node("server2", redis)
    watch, alice = Watch(b), Person(a, "alice")
    device = alice.device()
    first = epoch_of(redis, "server1")
    time.sleep(SWEEP_AFTER if not FULL else 0)
    a.freeze()
    took = watch.until("LEAVE", "alice", LEASE + 5)
    assert took <= 20
    if FULL:
        time.sleep(40 - took)
    time.sleep(2)
    a.thaw()
    watch.until("JOIN", "alice", 1)  # of before
    within(lambda: watch.of("alice")[-1] == "JOIN" and len(watch.of("alice")) > 2, 5, "here again")
    told = watch.of("alice")  # a node that a busy machine holds up for long is gone and back once more
    exactly(told, ["JOIN", "LEAVE"] * (len(told) // 2) + ["JOIN"], "in turns")
    assert epoch_of(redis, "server1") > first, "with another epoch"
    assert "stood still" in a.text() and "could not be renewed in time" in a.text()
    exactly(device.send("/app/chat.send", {"to": "alice", "content": "x"}).get("code"), None, "its client stayed")
    within(lambda: online(b, watch.person, "alice") is True, 5, "known again")


@scenario
def f37_one_node_is_cut_off(s):
    redis = s.redis()
    proxy = s.proxy(redis.port)
    a, b = s.node("server1", 'addresses: ["127.0.0.1:%d"]' % proxy.port), s.node("server2", redis)
    watch, alice = Watch(b), Person(a, "alice")
    device = alice.device()
    watch.until("JOIN", "alice", 10)
    time.sleep(SWEEP_AFTER if not FULL else 0)
    proxy.do("blackhole")
    watch.until("LEAVE", "alice", LEASE + 6)
    exactly(online(a, alice, "alice"), True, "its own users a node knows")
    exactly(a.status(alice, "dave"), {"userId": "dave", "online": None, "stale": True}, "others it does not")
    exactly(device.send("/app/chat.send", {"to": "alice", "content": "x"}).get("code"), None, "it serves on")
    proxy.do("pass")
    proxy.do("drop-conn")
    within(lambda: watch.of("alice") == ["JOIN", "LEAVE", "JOIN"], 8, "here again")
    within(lambda: online(a, alice, "dave") is True, 12, "and knows the others")


def second(node, redis, seconds, *settings):
    """Another process with the node's configuration: exit code, log and how long it took."""
    folder = tempfile.mkdtemp(prefix="chatd-second-")
    args = [os.path.join(os.environ.get("CHATD_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build")),
                         "bin", "chatd"), "-c", os.path.join(node.dir, "chat.yaml"),
            "--set", "http.listen=127.0.0.1:0", "--set", "server.data_dir=" + folder, "--set", "server.workers=2",
            "--set", "server.server_id=" + node.name, "--set", "server.drain_timeout=100ms"]
    for setting in settings:
        args += ["--set", setting]
    begin = time.monotonic()
    p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        text = p.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        p.kill()
        p.communicate()
        raise AssertionError("the second one did not end within %d s" % seconds)
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)
    return p.returncode, text, time.monotonic() - begin


def wipe(redis, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        redis.cli("FLUSHALL")
        time.sleep(0.1)


@scenario
def f38_a_node_id_is_taken(s):
    redis = s.redis()
    a = s.node("server1", redis)
    alice = Person(a, "alice")
    device = alice.device()
    for wiped in (False, True):
        wiper = threading.Thread(target=wipe, args=(redis, 3))
        if wiped:
            wiper.start()  # until after the second one has asked
        code, text, took = second(a, redis, LEASE + 20)
        if wiped:
            wiper.join()
        exactly(code, 78, "the exit code\n" + text)
        lease = redis.hash("active:servers")["server1"].split()
        said = 'node id "server1" is held by %s:%d since ' % (lease[4], a.proc.pid)
        assert said in text and "(boot epoch %s)" % lease[1] in text, text
        assert took >= LEASE, "it waits for one lease: %.1f s" % took
        exactly(lease[6], str(a.proc.pid), "the first one has it still")
        within(lambda: len(redis.hash("connection:alice")) == 1, 2, "undisturbed")
    exactly(device.send("/app/chat.send", {"to": "alice", "content": "x"}).get("code"), None, "undisturbed")
    assert "give" not in a.text()


@scenario
def f38_a_node_id_is_taken_while_redis_was_away(s):
    redis = s.redis()
    a = s.node("server1", redis)
    device = Person(a, "alice").device()
    redis.kill()
    time.sleep(0.5)
    b = s.node("server1", redis)  # starts without Redis
    redis.start()
    codes = within(lambda: a.proc.poll() is not None or b.proc.poll() is not None, LEASE + 12, "one of them ends")
    ended, other = (a, b) if a.proc.poll() is not None else (b, a)
    exactly(ended.proc.poll(), 78, "the exit code")
    assert 'node id "server1" is held by ' in ended.text()
    time.sleep(1)
    assert other.proc.poll() is None, "the other one goes on"
    del codes, device


LITE = "  store-memory: { enabled: false }\n  store-sqlite: {}\n"


@scenario
def nodes_that_cannot_share_their_stores_are_refused(s):
    """A node with SQLite is alone on its Redis: one that comes to it is refused, whatever that stores in, and it is
    refused where others are."""
    redis = s.redis()
    a = s.node("server1", redis, more=LITE)
    device = Person(a, "alice").device()
    code, text, _ = second(a, redis, LEASE + 20, "server.server_id=server2")
    exactly(code, 78, "the exit code\n" + text)
    assert "store-postgres (sqlite files cannot be shared between nodes): node id \"server1\" is held by " in text, text
    exactly(list(redis.hash("active:servers")), ["server1"], "the one that was refused leaves nothing")
    device.subscribe("/topic/public")
    assert a.proc.poll() is None, "undisturbed"

    # While Redis is away nobody knows: then it is the later one to come that ends.
    redis.kill()
    time.sleep(0.5)
    b = s.node("server2", redis, more=LITE)
    redis.start()
    within(lambda: a.proc.poll() is not None or b.proc.poll() is not None, LEASE + 12, "one of them ends")
    ended, other = (a, b) if a.proc.poll() is not None else (b, a)
    exactly(ended.proc.wait(60), 78, "the exit code")
    assert "(sqlite files cannot be shared between nodes): node id \"%s\" is held by " % other.name in ended.text(), ended.text()
    time.sleep(1)
    assert other.proc.poll() is None, "the other one goes on"

    # After a crash the same server comes back at once under another name: who was there is no more.
    other.kill()
    c = s.node("server3", redis, more=LITE)
    within(lambda: "server3" in redis.hash("active:servers"), 10, "it is registered")
    c.kill()
    # And one that keeps nothing is refused just so while a lease says that its holder must be alone.
    redis.cli("HSET", "active:servers", "server4", "%d 1 1 i elsewhere boot 4 5 alone" % ((time.time() + LEASE * 10) * 1000))
    code, text, _ = second(a, redis, LEASE + 20, "server.server_id=server5", "store-sqlite.enabled=false",
                           "store-memory.enabled=true")
    exactly(code, 78, "the exit code\n" + text)
    assert 'node id "server4" is held by elsewhere:4' in text, text


@scenario
def who_was_there_before_redis_was_wiped_stays(s):
    redis = s.redis()
    a = s.node("server1", redis, more=LITE)
    device = Person(a, "alice").device()
    within(lambda: redis.hash("active:servers").get("server1", "0 0").split()[1] != "0", 5, "it has its epoch")
    a.freeze()
    redis.cli("FLUSHALL")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        other = pool.submit(second, a, redis, 2 * LEASE + 30, "server.server_id=server2")
        within(lambda: "server2" in redis.hash("active:servers"), START_LIMIT, "another one comes first")
        a.thaw()
        code, text, _ = other.result()
    exactly(code, 78, "the exit code\n" + text)
    assert 'config: more than one node on a Redis requires store-postgres' in text, text
    assert a.proc.poll() is None, "the first one goes on\n" + a.text()
    exactly(list(redis.hash("active:servers")), ["server1"], "who is there")
    device.subscribe("/topic/public")
    device.close()


@scenario
def a_node_of_an_older_release_is_noticed_by_one_that_must_be_alone(s):
    redis = s.redis()
    a, said = s.node("server1", redis, more=LITE), 'node "old" is on this Redis, of an older release'
    within(lambda: "server1" in redis.hash("active:servers"), 5, "it is registered")
    time.sleep(2)
    assert "older release" not in a.text(), a.text()
    redis.cli("HSET", "active:servers", "old", "%d 3 1 i elsewhere boot 4 5" % ((time.time() + 3600) * 1000))
    within(lambda: said in a.text(), 5, "it says so")
    time.sleep(3)
    exactly(a.text().count(said), 1, "once a minute")
    assert a.proc.poll() is None


def seconds_since(node, words):
    """How long ago the node's log said that."""
    line = next(line for line in node.text().splitlines() if words in line)
    said = datetime.datetime.strptime(line.split()[0], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc)
    return time.time() - said.timestamp()


@scenario
def a_restart_after_a_crash_does_not_wait(s):
    redis = s.redis()
    # A lease that outlasts the slowest start: who waited for its end would not be up in time.
    a, b = s.node("server1", redis, lease=2 * START_LIMIT), s.node("server2", redis)
    watch, alice = Watch(b), Person(a, "alice")
    before = alice.device()
    watch.until("JOIN", "alice", 10)
    first = epoch_of(redis, "server1")
    a.kill()
    a.begin()
    assert "is no more: taken over" in a.text()
    within(lambda: epoch_of(redis, "server1") > first, 5, "another epoch")
    after = alice.device()
    late = seconds_since(a, "is no more: taken over") >= 4.5
    within(lambda: redis.cli("ZCARD", "active:retired") == "0", 10, "the old epoch was swept")
    told = watch.of("alice", 1)
    # The old records stay for 5 s; a slow start may take longer than that, and then she was away.
    exactly(told, ["JOIN", "LEAVE", "JOIN"] if late and len(told) > 1 else ["JOIN"],
            "who came back at once had never gone")
    exactly(len(redis.hash("connection:alice")), 1, "the old record has gone")
    del before, after


@scenario
def f39_late_cleanup(s):
    redis = s.redis()
    a, b = s.node("server1", redis), s.node("server2", redis)
    watch = Watch(b)
    device = Person(a, "alice").device()
    watch.until("JOIN", "alice", 10)
    a.freeze()
    there = Person(b, "alice").device()
    device.close()
    time.sleep(LEASE + 3)
    a.thaw()
    end = time.monotonic() + 8
    while time.monotonic() < end:
        exactly(online(b, watch.person, "alice"), True, "all the time")
        assert any(v.startswith("server2 ") for v in redis.hash("connection:alice").values())
        time.sleep(0.2)
    exactly(watch.of("alice"), ["JOIN"], "no event")
    there.close()


@scenario
def redis_comes_later(s):
    redis = s.redis()
    redis.stop()
    a = s.node("server1", redis)
    alice = Person(a, "alice")
    device = alice.device()
    exactly(online(a, alice, "alice"), True, "its own users a node knows")
    exactly(online(a, alice, "bob"), None, "others not")
    redis.start()
    within(lambda: len(redis.hash("connection:alice")) == 1, 5, "registered")
    within(lambda: online(a, alice, "bob") is False, 2, "and knows")
    device.close()


@scenario
def many_come_at_once(s):
    redis = s.redis()
    a, b = s.node("server1", redis, workers=4), s.node("server2", redis)
    watch = Watch(b)
    guests = [Person(a) for _ in range(60)]
    devices = [g.device() for g in guests]
    redis.cli("FLUSHALL")
    within(lambda: len(redis.lines_of("KEYS", "connection:user_*")) == 60, 10, "all are written again")
    redis.cli("CLIENT", "KILL", "TYPE", "normal")
    redis.cli("CLIENT", "KILL", "TYPE", "pubsub")
    for d in devices:
        d.close()
    for g in guests:
        watch.until("LEAVE", g.id, 15)
    for g in guests:
        exactly(watch.of(g.id, 0.01), ["JOIN", "LEAVE"], "once")
    exactly(redis.lines_of("KEYS", "connection:user_*"), [], "nothing is left")


def says(device, status, text=None):
    answer = device.send("/app/presence.set", {"status": status, **({"text": text} if text else {})})
    assert "code" not in answer, answer


@scenario
def each_change_is_told_once_on_every_node(s):
    redis = s.redis()
    a, b, c = (s.node("server%d" % i, redis, workers=i) for i in (1, 2, 3))
    eyes = [Eye(n, "alice", "bob") for n in (a, b, c, c)]
    exactly(eyes[0].first["alice"], {"userId": "alice", "online": False, "status": "offline"}, "never here")
    phone, tab = Person(a, "alice").device(), Person(b, "alice").device()
    says(phone, "away")  # the other one is online
    says(tab, "away", "asleep")
    says(phone, "busy", "on the phone <&> \u00fc")
    says(tab, "online", "here")
    exactly(Eye(c, "alice").first["alice"]["text"], "on the phone <&> \u00fc", "asked for over there")
    kept = redis.hash("presence:alice")
    exactly([kept["status"], "busy" in " ".join(redis.hash("connection:alice").values())], ["busy", True], "in Redis")
    exactly(c.status(Person(c), "alice")["status"], "busy", "over REST")
    phone.close()
    changes = [("alice", "online", None), ("alice", "away", "asleep"), ("alice", "busy", "on the phone <&> \u00fc"),
               ("alice", "online", "here")]
    for eye in eyes:
        eye.until(*changes, seconds=9)  # what the phone said lingers, as it was the last device on its node
    tab.close()
    for eye in eyes:
        eye.until(*changes, ("alice", "offline", None), seconds=8)
    time.sleep(0.3)
    for eye in eyes:
        eye.until(*changes, ("alice", "offline", None))
    kept = redis.hash("presence:alice")
    exactly(sorted(kept), ["event", "lastSeen", "since"], "what is kept of who has gone")
    last = c.status(Person(c), "alice")
    exactly([last["online"], last["status"], last["lastSeen"]], [False, "offline", last["since"]], "over REST")


@scenario
def a_dead_node_takes_along_what_was_said_there(s):
    redis = s.redis()
    a, b = s.node("server1", redis), s.node("server2", redis)
    eye = Eye(b, "alice")
    there, here = Person(a, "alice").device(), Person(b, "alice").device()
    says(there, "busy", "over there")
    says(here, "away")
    eye.until(("alice", "online", None), ("alice", "busy", "over there"))
    time.sleep(SWEEP_AFTER if not FULL else 0)
    a.kill()
    eye.until(("alice", "online", None), ("alice", "busy", "over there"), ("alice", "away", None), seconds=LEASE + 5)
    here.close()


@scenario
def what_is_unknown_without_redis_is_told_when_it_is_back(s):
    redis = s.redis()
    a, b = s.node("server1", redis), s.node("server2", redis)
    eye, near = Eye(b, "alice", "bob", "carol"), Eye(a, "alice")
    alice, bob, carol = (Person(a, n).device() for n in ("alice", "bob", "carol"))
    says(carol, "busy", "at lunch")
    before = [("alice", "online", None), ("bob", "online", None), ("carol", "online", None), ("carol", "busy", "at lunch")]
    eye.until(*before)
    redis.kill()
    within(lambda: eye.noticed() == [True], 3, "it is said that nothing is known")
    late = Eye(b, "alice")
    exactly(late.first["alice"], {"userId": "alice", "online": None, "stale": True}, "not known over there")
    exactly(Eye(a, "alice").first["alice"]["status"], "online", "its own users a node knows")
    says(alice, "away", "for a while")
    bob.close()
    time.sleep(6)  # the linger, before there is a Redis again, which knows nothing
    redis.start()
    within(lambda: eye.noticed() == [True, False], 20, "it is said that all is known")
    exactly(sorted(eye.read()[len(before):]), [("alice", "away", "for a while"), ("bob", "offline", None)], "the truth")
    within(lambda: late.noticed() == [False], 5, "to the others as well")
    exactly(late.seen, [("alice", "away", "for a while")], "who did not know")
    exactly(redis.cli("XLEN", "events:presence"), "1", "that bob has gone is told; what is as it was is not")
    near.until(("alice", "online", None), ("alice", "away", "for a while"))
    says(alice, "online")
    near.until(("alice", "online", None), ("alice", "away", "for a while"), ("alice", "online", None))
    carol.close()


@scenario
def what_others_write_into_redis_hurts_nobody(s):
    redis = s.redis()
    a, b = s.node("server1", redis), s.node("server2", redis, workers=1)
    eye, device = Eye(b, "alice", "eve"), Person(a, "alice").device()
    eye.until(("alice", "online", None))
    redis.cli("HSET", "presence:eve", "status", "king", "text", "a\nb", "since", "-1", "lastSeen", "9" * 40, "event", "x")
    redis.cli("HSET", "connection:eve", "x", "server9 1 - 1 busy 99999999999999999999 " + "x" * 600)
    first = Eye(b, "eve").first["eve"]
    exactly(first, {"userId": "eve", "online": True, "status": "online"}, "what can be told")
    redis.cli("XADD", "events:presence", "*", "u", "a b", "o", "1")
    redis.cli("XADD", "events:presence", "*", "u", "eve", "s", "away", "t", "\x1b[2J")
    redis.cli("XADD", "events:presence", "*", "junk", "1")
    says(device, "busy")
    # What somebody else asked for is told, too: nobody else told that eve has come.
    eye.until(("alice", "online", None), ("eve", "online", None), ("eve", "away", None), ("alice", "busy", None))
    redis.cli("SET", "presence:alice", "not a hash")
    device.send("/app/presence.set", {"status": "online"})  # cannot be written; nothing breaks
    redis.cli("DEL", "presence:alice")
    within(lambda: a.status(Person(a), "alice")["status"] == "online", 5, "written again")
    device.close()


def certificates(folder):
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=test CA")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "redis.key", "-out", "redis.csr", "-subj", "/CN=redis")
    with open(os.path.join(folder, "san"), "w") as f:
        f.write("subjectAltName=IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "redis.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "redis.pem",
            "-days", "2", "-extfile", "san")
    return [os.path.join(folder, n) for n in ("redis.pem", "redis.key", "ca.pem")]


@scenario
def tls_and_a_password(s):
    with tempfile.TemporaryDirectory() as folder:
        tls = certificates(folder)
        redis = s.redis(password="sesame", tls=tls, settings=[acl("barley", "t:")])
        base = 'addresses: ["127.0.0.1:%d"], tls: true, prefix: "t:"' % redis.port
        good = s.node("server1", base + ', ca_file: "%s", user: chatd, password: barley' % tls[2])
        alice = Person(good, "alice")
        device = alice.device()
        within(lambda: len(redis.hash("t:connection:alice")) == 1, 2, "written")
        exactly(redis.lines_of("KEYS", "[^t]*"), [], "everything has the prefix")
        device.close()
        secret = os.path.join(folder, "secret")

        def write(text):
            with open(secret, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
                f.write(text)
        write("wrong")
        bad = s.node("server2", base + ', ca_file: "%s", password: "file:%s"' % (tls[2], secret))
        within(lambda: "refused the login: correct redis.user and redis.password (WRONGPASS" in bad.text(), 3, "the password")
        write("sesame")
        bad.proc.send_signal(signal.SIGHUP)
        within(lambda: redis.hash("t:active:servers").keys() == {"server1", "server2"}, 5, "the new password is taken")
        none = s.node("server3", base + ', ca_file: "%s"' % tls[2])
        within(lambda: "wants a password" in none.text(), 3, "no password")
        stranger = s.node("server4", base + ", password: sesame")
        within(lambda: "failed the TLS handshake or connection: " in stranger.text(), 3, "another's certificate")
        assert "sesame" not in bad.text() + stranger.text() and "barley" not in bad.text()


if __name__ == "__main__":
    try:
        sys.exit(run(SCENARIOS, 5))
    except Missing as e:
        print("1..0 # skip %s" % e)
