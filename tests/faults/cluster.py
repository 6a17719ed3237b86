# SPDX-License-Identifier: Apache-2.0
"""Three nodes, PostgreSQL, RabbitMQ, Redis and nginx: each of them is killed, frozen, cut off or emptied under load.

All cases share one cluster, which is healed after each; each has users and rooms of its own."""
import json
import os
import random
import re
import shutil
import signal
import time

from nodes import Wide, Wounded, name_of, ready
from client import Device, same
from harness import Person, wait_for
from pace import Pace
from wsclient import frame, open_ws, stomp
import revoked

from backends.base import IN_CI, Missing  # found by way of nodes

TESTS, CASES = [], {}
CLUSTER = PACE = None
RATE = 80


def long_case(fn):
    """In the long form alone: others of the quick form, or of other suites, are near enough."""
    return case(fn) if os.environ.get("CHATD_FULL") == "1" else fn


def tell():
    """What the nodes said last: they go on, and their logs with them."""
    for n in [n for n in CLUSTER.nodes if os.path.exists(n.log.name)]:
        lines = [line[:300] for line in n.text().splitlines() if " audit: " not in line][-25:]
        print("\n# ".join(["# %s, exit code %s:" % (n.id, n.proc.poll()), *lines]))


def case(fn):
    """fn(t, cluster, crowd): the crowd talks when it begins, and is judged after it; then the cluster is healed.
    fn returns what judges the checker's figures, or None."""
    def run(t):
        global PACE
        times = [time.monotonic()]
        crowd = Wide(CLUSTER, CASES[fn.__name__])
        times.append(time.monotonic())
        whole = None
        try:
            crowd.load(RATE)
            time.sleep(1)
            with Pace() as PACE:
                judge = fn(t, CLUSTER, crowd)
            crowd.load(0)
            times.append(time.monotonic())
            whole = CLUSTER.heal()
            times.append(time.monotonic())
            text = crowd.finish()
            times.append(time.monotonic())
            print("# whole again after %.1f s; beginning, load, heal, end: %s s; the machine is %.1f times slowed down"
                  % (whole, " ".join("%.1f" % (b - a) for a, b in zip(times, times[1:])), PACE.factor()))
            if judge:
                judge(text)
        except BaseException:
            tell()
            raise
        finally:
            if crowd.proc.poll() is None:
                crowd.close()
            shutil.rmtree(crowd.folder, ignore_errors=True)
            if whole is None:
                CLUSTER.heal()
    run.__name__ = fn.__name__
    TESTS.append(run)
    return run


def begin(workers, tests):
    global CLUSTER
    CASES.update((fn.__name__, "c" + chr(97 + i)) for i, fn in enumerate(tests))
    try:
        CLUSTER = Wounded(CASES.values(), int(workers)).start()
    except Missing as why:
        if IN_CI:
            raise
        return str(why)
    CLUSTER.heal()
    return None


def end():
    if not CLUSTER:
        return
    try:
        for code, log in CLUSTER.stop():
            assert code == 0 and "Sanitizer" not in log, "exit code %s\n%s" % (code, log[-3000:])
    finally:
        CLUSTER.close()


def figure(text, pattern):
    return float(re.search(pattern, text).group(1))


def longest_silence(text):
    return figure(text, r"without an ack ([0-9.]+) ms") / 1000


def latest(text):
    """How long after its ack a message came at the latest, to who was subscribed all the time."""
    return figure(text, r"after the ack: .* max ([0-9.]+) ms") / 1000


def at_most(seconds, what, got):
    """On a machine that has a processor for whoever wants one; else as much longer as the case's pace says."""
    seconds *= PACE.factor()
    assert got <= seconds, "%s: %.1f s, at most %.1f s are allowed" % (what, got, seconds)


@case
def f01_a_node_is_killed_and_comes_back(t, c, crowd):
    """F16 too: what it may not have handed over it sends again when it begins, and nobody gets it twice."""
    resent = 0
    for i in (0, 1, 2) * (10 if t.full else 1):
        crowd.mark("fault", "kill")
        c.nodes[i].kill()
        time.sleep(0.3)
        begin = time.monotonic()
        c.nodes[i].begin()
        crowd.mark("heal", "started")
        print("# node%d started in %.2f s" % (i + 1, time.monotonic() - begin))
        time.sleep(2)
        resent += c.number(c.nodes[i], "chatd_chat_resent_total")
    print("# %d rows were sent again" % resent)
    assert resent > 0


@case
def f04_two_of_three_nodes_are_killed(t, c, crowd):
    for turn in range(10 if t.full else 1):
        two = [c.nodes[turn % 3], c.nodes[(turn + 1) % 3]]
        crowd.mark("fault", "kill two")
        for n in two:
            n.proc.kill()
        for n in two:
            n.proc.wait()
        time.sleep(2.5)  # the third serves all
        for n in two:
            n.begin()
        crowd.mark("heal", "started")
        time.sleep(1.5)
    return lambda text: at_most(3, "the third node goes on", longest_silence(text))


@case
def f10_the_broker_is_away(t, c, crowd):
    """RECEIPTs go on, and what other nodes wrote is read from the store within 3 s."""
    ways = (c.rabbit.stop_app, c.rabbit.start_app), (c.rabbit.kill, c.rabbit.start)
    for end_it, start in ways[:2 if t.full else 1]:
        crowd.mark("fault", "broker")
        end_it()
        time.sleep(60 if t.full else 4)
        start()
        crowd.mark("heal", "started")
        time.sleep(1.5)

    def judge(text):
        at_most(2, "RECEIPTs go on", longest_silence(text))
        at_most(5, "messages come by way of the store", latest(text))
    return judge


QUEUE = '{ok, Q} = rabbit_amqqueue:lookup({resource, <<"/">>, queue, <<"chat.queue.%s">>}), '


@case
def f21_a_nodes_queue_is_deleted_and_purged(t, c, crowd):
    """What was in it is found in the store, also if nothing follows that would show the hole."""
    for node in ("node1", "node2", "node3"):
        crowd.mark("fault", "delete")
        c.rabbit.erlang((QUEUE + 'rabbit_amqqueue:delete(Q, false, false, <<"test">>).') % node)
        wait_for(lambda node=node: (c.rabbit.queue("chat.queue." + node) or {}).get("consumers") == 1, 6, "a queue again")
        crowd.mark("heal", "consumed")
    purged = 0
    for _ in range(10 if t.full else 1):
        c.proxies["rabbit"]("stall down")  # until there is something in the queue
        crowd.load(300)
        wait_for(lambda: c.rabbit.queue("chat.queue.node3").get("messages_ready", 0) > 20, 10, "a backlog")
        crowd.load(0)
        time.sleep(0.5)
        n = re.search(r"[0-9]+", c.rabbit.erlang((QUEUE + "rabbit_amqqueue:purge(Q).") % "node3"))
        c.proxies["rabbit"]("pass")
        purged += int(n.group(0))
        time.sleep(3)
    print("# %d events were purged" % purged)
    assert purged > 20, "nothing was lost"


@long_case
def f20_the_exchange_is_deleted(t, c, crowd):
    for _ in range(10 if t.full else 1):
        crowd.mark("fault", "delete")
        c.rabbit.erlang('rabbit_exchange:delete({resource, <<"/">>, exchange, <<"chat.exchange">>}, false, <<"test">>).')
        time.sleep(2)
        crowd.mark("heal", "2 s later")
    return lambda text: at_most(6, "messages come by way of the store", latest(text))


@long_case
def f12_f14_connections_to_the_broker_are_closed(t, c, crowd):
    """Those that consume, with deliveries that were not acknowledged, and then all; two for each node at the end."""
    for i in range(20 if t.full else 6):
        crowd.mark("fault", "close")
        c.rabbit.close_connections("consume" if i % 2 == 0 else "chatd ")
        time.sleep(2 if t.full else 0.6)
    wait_for(lambda: sorted(c.rabbit.connections()) == sorted(
        "chatd node%d %s" % (i, role) for i in (1, 2, 3) for role in ("consume", "publish")), 8, "two for each node")
    crowd.mark("heal", "connected")
    return lambda text: at_most(6, "messages come by way of the store", latest(text))


@case
def f15_the_broker_is_silent_for_a_node(t, c, crowd):
    """No FIN: confirms and deliveries are swallowed until the heart-beat, of 2 s here, finds out."""
    proxy, log = c.proxies["rabbit"], len(c.nodes[2].text())
    for _ in range(5 if t.full else 1):
        crowd.mark("fault", "blackhole")
        proxy("blackhole down")
        wait_for(lambda: "no connection to publish" in c.nodes[2].text()[log:] or
                 "heartbeat" in c.nodes[2].text()[log:], 8, "it is noticed")
        time.sleep(1)
        proxy("rst")
        proxy("pass")
        crowd.mark("heal", "pass")
        time.sleep(2)

    def judge(text):
        at_most(2, "RECEIPTs go on", longest_silence(text))
        at_most(6, "messages come by way of the store", latest(text))
    return judge


@long_case
def f19_a_node_publishes_late(t, c, crowd):
    """What others wrote after it waits a moment, then the store is asked."""
    c.proxies["rabbit"]("delay 3000 up")
    time.sleep(60 if t.full else 5)
    return lambda text: at_most(5, "messages come by way of the store", latest(text))


@long_case
def f22_a_nodes_queue_overflows_while_it_is_frozen(t, c, crowd):
    """Its head is dropped: what is missing is read from the store."""
    c.rabbit.erlang('rabbit_policy:set(<<"/">>, <<"short">>, <<"^chat.queue.node3$">>, '
                    '[{<<"max-length">>, 20}], 0, <<"queues">>, <<"test">>).')
    os.kill(c.nodes[2].proc.pid, signal.SIGSTOP)
    try:
        crowd.load(300)
        wait_for(lambda: c.rabbit.queue("chat.queue.node3").get("messages_ready", 0) >= 20, 15, "the queue is full")
        time.sleep(10 if t.full else 2)
        crowd.load(RATE)
    finally:
        os.kill(c.nodes[2].proc.pid, signal.SIGCONT)
    time.sleep(2)
    c.rabbit.erlang('rabbit_policy:delete(<<"/">>, <<"short">>, <<"test">>).')


@case
def f24_redis_is_away(t, c, crowd):
    """Messages and logins go on; who is online on other nodes is unknown, and is said to be."""
    # Several, as a node always knows of those who are connected to it, and one user's devices may be on every node.
    users = ["/api/chat/users/%s/status" % crowd.person(k).id for k in range(1, 9)]
    watchers = [crowd.person(0, node=n) for n in range(3)]

    def all_answers():
        return [w.rest("GET", u).json for w in watchers for u in users]
    wait_for(lambda: all(a["online"] is True for a in all_answers()), 10, "everybody is online")
    for kill in (True, False):
        crowd.mark("fault", "redis")
        if kill:
            c.redis.kill()
        else:
            c.redis.freeze()
        answers = []

        def unknown():
            answers[:] = all_answers()
            return any(a["online"] is None and a["stale"] is True for a in answers)
        try:
            wait_for(unknown, 8, "presence is unknown")
        except AssertionError as e:
            raise AssertionError("%s; Redis was %s; %s" % (e, "killed" if kill else "frozen", answers)) from e
        assert all(a["online"] in (None, True) for a in answers), answers
        crowd.cut(10)
        time.sleep(60 if t.full else 2)
        if kill:
            c.redis.start()
        else:
            c.redis.thaw()
        crowd.mark("heal", "redis")
    begin = time.monotonic()
    wait_for(lambda: all(a["online"] is True for a in all_answers()), 14, "presence is back")
    print("# presence was back %.1f s after Redis" % (time.monotonic() - begin))
    return lambda text: at_most(2, "RECEIPTs go on", longest_silence(text))


@long_case
def f26_redis_is_emptied(t, c, crowd):
    user = "/api/chat/users/%s/status" % crowd.person(1).id
    for _ in range(6 if t.full else 1):
        crowd.mark("fault", "FLUSHALL")
        c.redis.cli("FLUSHALL")
        begin = time.monotonic()
        wait_for(lambda: c.redis.cli("HLEN", "active:servers") == "3", 10, "the nodes are there again")
        wait_for(lambda: all(crowd.person(0, node=n).rest("GET", user).json["online"] is True for n in range(3)), 14,
                 "presence is back")
        print("# presence was back after %.1f s" % (time.monotonic() - begin))
    return lambda text: at_most(2, "RECEIPTs go on", longest_silence(text))


@case
def f05_broker_redis_and_a_node_at_once(t, c, crowd):
    for turn in range(10 if t.full else 1):
        node = c.nodes[turn % 3]
        crowd.mark("fault", "kill three")
        for end_it in (node.proc.kill, c.rabbit.kill, c.redis.kill):
            end_it()
        node.proc.wait()
        time.sleep(1)
        again = [node.begin, c.rabbit.start, c.redis.start]
        random.shuffle(again)
        for start in again:
            start()
        crowd.mark("heal", "started")
        time.sleep(1)
    return lambda text: at_most(4, "the other nodes go on", longest_silence(text))


@case
def f67_postgresql_ends_connections_and_starts_again(t, c, crowd):
    """Commits that were in doubt are found, and acknowledged once."""
    for _ in range(20 if t.full else 3):
        crowd.mark("fault", "terminate")
        c.postgres.terminate()
        time.sleep(0.7)
    for mode in ("immediate", "fast") * (5 if t.full else 1):
        crowd.mark("fault", "restart " + mode)
        c.postgres.restart(mode)
        crowd.mark("heal", "restarted")
        time.sleep(1.5)
    crowd.mark("fault", "kill")
    c.postgres.kill()
    c.postgres.start()
    crowd.mark("heal", "started")
    time.sleep(2)
    return lambda text: at_most(20, "acknowledged again", longest_silence(text))


def refused(device, bodies):
    """The code of the soft error that each SEND gets, and after how long; all are sent at once."""
    begin = time.monotonic()
    for i, body in enumerate(bodies):
        device.write("SEND", {"destination": "/app/chat.send", "receipt": "cut%d" % i}, json.dumps(body).encode())
    for i in range(len(bodies)):
        receipt = "cut%d" % i
        f = device.wait(lambda f: receipt in (f.headers.get("receipt-id"), f.body and f.json.get("receiptId")), 12)
        assert f and f.command == "MESSAGE", f
        yield f.json["code"], time.monotonic() - begin


def sent_away(device, seconds):
    """The connection ends within so long, and says that one is to connect again."""
    begin = time.monotonic()
    try:
        f = device.wait(lambda f: f.command == "ERROR", seconds)
        assert f and "connect again, to another one" in f.headers["message"], f
        device.wait(lambda f: False, 5)
    except ConnectionError:
        return time.monotonic() - begin
    raise AssertionError("still open")


def by_websocket(node, user):
    """Somebody logged in, by WebSocket."""
    ws = open_ws("%s:%d" % node.address("http"), "/ws-chat", 60)
    ws.send(frame(1, stomp("CONNECT", [("accept-version", "1.2"), ("host", "x"), ("login", user), ("passcode", user)])))
    opcode, text = ws.message()
    assert opcode == 1 and text.startswith(b"CONNECTED"), text
    return ws


@case
def f66_a_node_is_cut_off_from_all_but_its_clients(t, c, crowd):
    """It acknowledges nothing, says why, sends its clients away, and goes on when it can; nothing comes late."""
    node = c.nodes[2]
    mine, other = (Person(node, crowd.person(i).id).device() for i in range(2))
    browser = by_websocket(node, crowd.person(2).id)
    listener = Person(c.nodes[0], crowd.person(1).id).device()
    for p in c.proxies.values():
        p("stall")
    crowd.mark("fault", "cut off")
    begin = time.monotonic()
    # At once: who waits for the first answer may be sent away before the second.
    where = ({"roomId": crowd.rooms[0][0]}, {"to": crowd.person(1).id})
    for code, seconds in refused(mine, [{"content": "cut off", **to} for to in where]):
        print("# %s after %.1f s" % (code, seconds))
        assert code == "STORE_BUSY", code
    # It knows once a commit has not come back within commit_timeout.
    wait_for(lambda: ready(node)[0] == 503, 10, "not ready without its store")
    for d in (mine, other):
        sent_away(d, 30)
    same(browser.close_code()[0], 1013, "the close code")
    print("# clients were sent away within %.1f s" % (time.monotonic() - begin))
    time.sleep(30 if t.full else 0)
    for p in c.proxies.values():
        p("pass")
    crowd.mark("heal", "connected")
    wait_for(lambda: "clients may stay" in node.text(), 20, "it serves again")
    time.sleep(2)
    assert not listener.messages(0.1, content="cut off"), "what was refused came all the same"
    listener.close()
    def let_in():
        """After a long time the connections that read try again seconds apart."""
        try:
            return Person(node, crowd.person(0).id).device()
        except ConnectionError:
            return None
    again = wait_for(let_in, 20, "logins work again")
    assert "seq" in again.send("/app/chat.send", {"to": crowd.person(1).id, "content": "back"})
    again.close()
    # The node may have held the lock of all writers: the database takes it away after 2 s.
    return lambda text: at_most(4, "the other nodes go on", longest_silence(text))


@long_case
def f37_a_node_is_cut_off_from_redis_alone(t, c, crowd):
    """It serves on, and the others, to whom its users are nowhere, reach them all the same: what is not stored, too."""
    there, here = Person(c.nodes[2], crowd.person(0).id).device(), Person(c.nodes[0], crowd.person(1).id).device()
    c.proxies["redis"]("stall")
    crowd.mark("fault", "cut off from Redis")
    wait_for(lambda: "node3" not in c.redis.hash("active:servers"), 40, "its lease is over")

    def heard(seconds):
        here.send("/app/chat.typing", {"to": crowd.person(0).id, "typing": True})
        first = there.on("/user/queue/typing", seconds, typing=True)
        here.send("/app/chat.typing", {"to": crowd.person(0).id, "typing": False})
        return first and there.on("/user/queue/typing", seconds, typing=False)

    time.sleep(6)  # each of the others counts the leases every five seconds
    wait_for(lambda: heard(2), 20, "the others send to all")
    assert all(heard(20) for _ in range(3))
    c.proxies["redis"]("pass")
    crowd.mark("heal", "connected")
    there.close()
    here.close()
    return lambda text: at_most(10, "the other nodes go on", longest_silence(text))


@long_case
def f36_a_node_is_frozen_and_thaws(t, c, crowd):
    """Nothing twice, nothing too late; in the long form others have taken it for dead meanwhile."""
    crowd.mark("fault", "SIGSTOP")
    os.kill(c.nodes[0].proc.pid, signal.SIGSTOP)
    try:
        if t.full:
            wait_for(lambda: "node1" not in c.redis.hash("active:servers"), 20, "its lease is over")
        time.sleep(20 if t.full else 4)
    finally:
        os.kill(c.nodes[0].proc.pid, signal.SIGCONT)
    crowd.mark("heal", "SIGCONT")
    time.sleep(2)


@case
def f44_clients_resume_on_any_node(t, c, crowd):
    """All of them go and come again and again; what one said is said again with its clientId."""
    for _ in range(100 if t.full else 8):
        crowd.cut(20)
        time.sleep(0.4)

    def judge(text):
        assert " 0 gaps" in text, "not everything was replayed"
    return judge


@long_case
def f55_each_node_is_stopped_and_started(t, c, crowd):
    for _ in range(10 if t.full else 1):
        for n in c.nodes:
            crowd.mark("fault", "SIGTERM")
            assert n.term() == 0, n.text()[-3000:]
            n.begin()
            crowd.mark("heal", "started")
            time.sleep(0.5)
    return lambda text: at_most(3, "the other nodes go on", longest_silence(text))


@case
def f02_the_same_clientid_on_every_node(t, c, crowd):
    """One row and one answer, whichever node is asked, also at once; and one delivery."""
    to = crowd.person(1, node=1)
    listener = to.device()
    devices = [crowd.person(0, node=n).device() for n in range(3)]
    for i in range(100 if t.full else 20):
        body = json.dumps({"to": to.id, "content": "once %d" % i, "clientId": "everywhere-%d" % i}).encode()
        for d in devices:
            d.write("SEND", {"destination": "/app/chat.send", "receipt": "o%d" % i}, body)
        places = {(f.headers["message-id"], f.headers["seq"])
                  for f in [d.wait(lambda f: f.headers.get("receipt-id") == "o%d" % i, 10) for d in devices]}
        assert len(places) == 1, places
        f = listener.messages(content="once %d" % i)
        assert f and (f.headers["message-id"], f.headers["seq"]) in places, f
    assert not [f for f in listener.frames if f.command == "MESSAGE" and b'"once ' in f.body], "it came twice"
    for d in (*devices, listener):
        d.close()


def f59_what_is_revoked_ends_on_the_other_nodes(t):
    """Logouts, bans, roles ... within 2 s; within 5 s with Redis and broker down."""
    c = CLUSTER

    def away():
        c.redis.kill()
        c.rabbit.stop_app()
    try:
        for _ in range(3 if t.full else 1):
            revoked.table(c, 2)
        revoked.for_good(c, lambda: c.redis.cli("FLUSHALL"))
        revoked.table(c, 5, away)
        if t.full:
            # They may also just not answer.
            c.rabbit.start_app()
            c.heal()
            revoked.table(c, 5, lambda: (c.redis.freeze(), c.rabbit.freeze()))
    finally:
        for server in (c.redis, c.rabbit):
            if server.child.poll() is None:
                server.thaw()
        c.rabbit.start_app()
        c.heal()


TESTS.append(f59_what_is_revoked_ends_on_the_other_nodes)


def put_back(postgres, dump):
    """Another database takes the place of the one that is there, under its name."""
    postgres.sql("CREATE DATABASE restored", "postgres")
    postgres.run(postgres.program("psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-h", postgres.folder, "-p", str(postgres.port),
                 "-U", "chatd", "-f", dump, "restored")
    postgres.sql("UPDATE pg_database SET datallowconn=false WHERE datname='chatd'", "postgres")
    postgres.sql("DROP DATABASE chatd WITH (FORCE)", "postgres")
    postgres.sql("ALTER DATABASE restored RENAME TO chatd", "postgres")


def f35_an_old_dump_is_put_back(t):
    """A new epoch on every node: who resumes is told so, and no place is given twice within one."""
    c = CLUSTER
    user, other = (name_of(CASES["f35_an_old_dump_is_put_back"], i) for i in (0, 1))
    ann, bob = (Person(n, u) for n, u in zip(c.nodes, (user, other)))
    room = ann.rest("POST", "/api/chat/rooms", {"name": "restored", "public": True}).json["id"]
    bob.rest("POST", "/api/chat/rooms/%s/join" % room)
    topic, rows = "/topic/room/" + room, []
    speaker, listener = ann.device(), bob.device()
    listener.subscribe(topic)

    def say(n):
        r = speaker.send("/app/chat.send", {"roomId": room, "content": "m%d" % n, "clientId": "f35-%s-%d" % (room, n)})
        rows.append((r["epoch"], int(r["seq"]), r["message-id"]))
        return r
    for i in range(10):
        say(i)
    dump = os.path.join(c.postgres.folder, "dump.sql")
    c.postgres.run(c.postgres.program("pg_dump"), "-h", c.postgres.folder, "-p", str(c.postgres.port), "-U", "chatd",
                   "-f", dump, "chatd")
    for i in range(10, 20):
        top = say(i)
    listener.on(topic, content="m19")
    put_back(c.postgres, dump)
    try:
        listener.wait(lambda f: False, 20)
        raise AssertionError("whoever listened goes on as if nothing were")
    except ConnectionError:
        assert any(f.command == "ERROR" and "insufficient state" in f.headers["message"] for f in listener.frames)
    wait_for(lambda: all(ready(n)[0] == 200 for n in c.nodes), 20, "the store is back on all nodes")
    epochs = set()

    def gap(n):
        d = Device.bare(Person(n, other))
        answer = d.resume(topic, {"since": top["seq"], "epoch": top["epoch"]})
        assert answer["recovered"] == "false", answer
        assert d.on(topic).json["code"] == "HISTORY_GAP"
        epochs.add(answer["epoch"])
        d.close()
    for n in c.nodes:
        try:
            gap(n)
        except ConnectionError:  # it finds out only now, and sends its sessions away, once
            gap(n)
    assert len(epochs) == 1 and top["epoch"] not in epochs, (epochs, top)
    speaker.close()
    listener = Device.bare(bob)
    listener.subscribe(topic)
    # What was lost is sent again with its clientId, and is new; what was not is known.  The node may find out only
    # now, and sends its sessions away once.
    for last in (False, True):
        speaker = Person(c.nodes[2], user).device()
        try:
            assert say(9)["message-id"] == rows[9][2]
            speaker.wait(lambda f: False, 6)  # longer than it takes to look at the store again
            break
        except ConnectionError:
            said = [f.headers.get("message") for f in speaker.frames if f.command == "ERROR"]
            assert not last, "sent away twice: %s\n%s" % (said, c.nodes[2].text()[-3000:])
    away = 0
    for i in range(10, 20):
        assert say(i)["epoch"] in epochs
        try:
            assert listener.on(topic, content="m%d" % i)
        except ConnectionError:  # the same of the node of whoever listens; what was missed is asked for below
            away += 1
            assert away == 1, "sent away twice"
            listener = Device.bare(bob)
            listener.subscribe(topic)
    places = {}
    for epoch, seq, mid in rows:
        assert places.setdefault((epoch, seq), mid) == mid, "a place was given twice within an epoch"
    page = bob.rest("GET", "/api/chat/messages/room/%s?after=0&limit=100" % room).json["messages"]
    assert [m["content"] for m in page if m["type"] == "CHAT"] == ["m%d" % i for i in range(20)], page
    for d in (speaker, listener):
        d.close()
    c.heal()


TESTS.append(f35_an_old_dump_is_put_back)
