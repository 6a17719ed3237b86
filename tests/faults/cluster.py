# SPDX-License-Identifier: Apache-2.0
"""Three nodes, PostgreSQL, RabbitMQ, Redis and nginx: each of them is killed, frozen, cut off or emptied under load.

All cases share one cluster, which is healed after each; each has users and rooms of its own."""
import os
import re
import shutil
import signal
import time

from nodes import Wide, Wounded
from harness import wait_for

from backends.base import IN_CI, Missing  # found by way of nodes

TESTS, CASES = [], {}
CLUSTER = None
RATE = 80


def case(fn):
    """fn(t, cluster, crowd): the crowd talks when it begins, and is judged after it; then the cluster is healed.
    fn returns what judges the checker's figures, or None."""
    def run(t):
        times = [time.monotonic()]
        crowd = Wide(CLUSTER, CASES[fn.__name__])
        times.append(time.monotonic())
        whole = None
        try:
            crowd.load(RATE)
            time.sleep(1)
            judge = fn(t, CLUSTER, crowd)
            crowd.load(0)
            times.append(time.monotonic())
            whole = CLUSTER.heal()
            times.append(time.monotonic())
            text = crowd.finish()
            times.append(time.monotonic())
            print("# whole again after %.1f s; beginning, load, heal, end: %s s"
                  % (whole, " ".join("%.1f" % (b - a) for a, b in zip(times, times[1:]))))
            if judge:
                judge(text)
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
    assert got <= seconds, "%s: %.1f s, at most %g s are allowed" % (what, got, seconds)


@case
def f01_a_node_is_killed_and_comes_back(t, c, crowd):
    for i in (0, 1, 2) * (10 if t.full else 1):
        crowd.mark("fault", "kill")
        c.nodes[i].kill()
        time.sleep(0.3)
        begin = time.monotonic()
        c.nodes[i].begin()
        crowd.mark("heal", "started")
        print("# node%d started in %.2f s" % (i + 1, time.monotonic() - begin))
        time.sleep(1)


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
    for end_it, start in ((c.rabbit.stop_app, c.rabbit.start_app), (c.rabbit.kill, c.rabbit.start))[0 if t.full else 1:]:
        crowd.mark("fault", "broker")
        end_it()
        time.sleep(60 if t.full else 4)
        start()
        crowd.mark("heal", "started")
        time.sleep(1.5)

    def judge(text):
        at_most(1, "RECEIPTs go on", longest_silence(text))
        at_most(5, "messages come by way of the store", latest(text))
    return judge


QUEUE = '{ok, Q} = rabbit_amqqueue:lookup({resource, <<"/">>, queue, <<"chat.queue.%s">>}), '


@case
def f21_a_nodes_queue_is_purged_and_deleted(t, c, crowd):
    """What was in it is found in the store.  The node is frozen until there is something in it."""
    purged = 0
    for _ in range(10 if t.full else 1):
        crowd.load(300)
        os.kill(c.nodes[1].proc.pid, signal.SIGSTOP)
        try:
            wait_for(lambda: c.rabbit.queue("chat.queue.node2").get("messages_ready", 0) > 50, 15, "a backlog")
            purged += int(re.search(r"[0-9]+", c.rabbit.erlang((QUEUE + "rabbit_amqqueue:purge(Q).") % "node2")).group(0))
        finally:
            os.kill(c.nodes[1].proc.pid, signal.SIGCONT)
        crowd.load(RATE)
        time.sleep(1)
    print("# %d events were purged" % purged)
    for node in ("node1", "node2", "node3"):
        crowd.mark("fault", "delete")
        c.rabbit.erlang((QUEUE + 'rabbit_amqqueue:delete(Q, false, false, <<"test">>).') % node)
        time.sleep(1)
        wait_for(lambda node=node: (c.rabbit.queue("chat.queue." + node) or {}).get("consumers") == 1, 5, "a queue again")
        crowd.mark("heal", "consumed")
    assert purged > 50, "nothing was lost"
