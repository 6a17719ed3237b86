# SPDX-License-Identifier: Apache-2.0
"""The server is told to stop under load, with a client that is stuck, with a disk that is."""
import json
import signal
import time

from harness import Crowd, integrity, name_of, wait_for

TESTS = []
SIDE_BY_SIDE = 2


def test(fn):
    TESTS.append(fn)
    return fn


def ended(node, seconds):
    """Its exit code, and how long it took."""
    begin = time.monotonic()
    return node.proc.wait(seconds), time.monotonic() - begin


@test
def f54_told_to_stop_under_load(t):
    """Nothing that was acknowledged is lost, nothing comes twice, and each time it ends by itself."""
    node = t.node("server.drain_grace=200ms", "server.drain_spread=1s")
    crowd = Crowd(node)
    crowd.load(200)
    slowest = 0
    for _ in range(20 if t.full else 4):
        time.sleep(1)
        crowd.mark("fault", "term")
        node.proc.send_signal(signal.SIGTERM)
        code, took = ended(node, 30)
        slowest = max(slowest, took)
        assert code == 0, (code, node.text()[-2000:])
        assert "are cut off" not in node.text(), "somebody had to be cut off: " + node.text()[-2000:]
        node.begin()
        crowd.mark("heal", "started")
    time.sleep(0.5)
    crowd.finish()
    print("# slowest end %.2f s" % slowest)
    assert integrity(node.db) == "ok"


@test
def f54_what_was_sent_before_is_answered(t):
    """The commit takes half a second: the receipts come all the same, then the end."""
    node = t.node(faults=True)
    d = node.person(0).device()
    d.send("/app/chat.send", {"to": name_of(1), "content": "first", "clientId": "k"})
    node.rules.set(0, "fdatasync", "chatd.db", first=1, last=1, delay_ms=500)
    for i in range(20):
        d.write("SEND", {"destination": "/app/chat.send", "receipt": "r%d" % i},
                json.dumps({"to": name_of(1), "content": "c%d" % i, "clientId": "k%d" % i}).encode())
    wait_for(lambda: node.rules.seen(0) > 0, 10, "the commit is under way")
    time.sleep(0.1)
    node.proc.send_signal(signal.SIGTERM)
    for i in range(20):
        assert d.wait(lambda f: f.headers.get("receipt-id") == "r%d" % i, 10), "no receipt of message %d" % i
    try:
        assert d.wait(lambda f: f.command == "ERROR", 10) is None
    except ConnectionError:
        pass
    assert ended(node, 20)[0] == 0


@test
def f54_two_signals_and_a_disk_that_does_not_answer(t):
    """Nobody needs SIGKILL: two seconds after the second one it is gone, and what was acknowledged is there."""
    node = t.node("server.drain_timeout=1m", faults=True)
    d = node.person(0).device()
    kept = d.send("/app/chat.send", {"to": name_of(1), "content": "kept", "clientId": "kept"})
    node.rules.set(0, "fdatasync", "chatd.db", delay_ms=60000)
    d.write("SEND", {"destination": "/app/chat.send", "receipt": "never"},
            json.dumps({"to": name_of(1), "content": "lost", "clientId": "lost"}).encode())
    time.sleep(0.3)
    node.proc.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert node.proc.poll() is None, "it did not wait for the message under way"
    node.proc.send_signal(signal.SIGTERM)
    code, took = ended(node, 20)
    assert code == 70 and took < 20, (code, took, node.text()[-2000:])
    assert "the server does not come to its end" in node.text()
    node.rules.clear()
    node.begin()
    again = node.person(0).device().send("/app/chat.send", {"to": name_of(1), "content": "kept", "clientId": "kept"})
    assert again["message-id"] == kept["message-id"], (kept, again)
