# SPDX-License-Identifier: Apache-2.0
"""F62, F64, F65: a plugin's hook errs, holds a worker, does not answer or crashes while people write: what was
acknowledged is there, and nobody gets it twice."""
import os
import re
import shutil
import signal
import time

from harness import BUILD, Crowd, Node, integrity, wait_for

TESTS = []
SIDE_BY_SIDE = 2


def test(fn):
    TESTS.append(fn)
    return fn


class Hooked(Node):
    """With tests/plugins/naughty.c among those who are asked about each message."""

    def __init__(self, t, how):
        self.how = how
        plugins = t.folder()
        os.chmod(plugins, 0o755)
        shutil.copyfile(os.path.join(BUILD, "tests", "plugins", "naughty.so"), os.path.join(plugins, "naughty.so"))
        os.chmod(os.path.join(plugins, "naughty.so"), 0o755)
        super().__init__(t.workers, "server.plugin_path=[%s]" % plugins)
        t.nodes.append(self)

    def accounts(self):
        return Node.accounts() + "  naughty: {%s}\n" % self.how


def acks(text):
    return int(re.search(r"acks (\d+)", text).group(1))


def suffers(t, how, said):
    """The server lives through it."""
    node = Hooked(t, how)
    crowd = Crowd(node, users=20, rooms=4, direct=0.4)
    crowd.load(100)
    time.sleep(30 if t.full else 3)
    wait_for(lambda: said in node.text(), 30, said)
    text = crowd.finish()
    assert acks(text) > 30, "too few messages to mean anything"
    assert integrity(node.db) == "ok"


@test
def f65_a_hook_errs(t):
    suffers(t, "after: 7, then: error", "ERROR naughty: message_in failed: Input/output error")


@test
def f65_a_hook_errs_and_is_passed_over(t):
    suffers(t, "after: 7, then: error, on_error: continue", "ERROR naughty: message_in failed: Input/output error")


@test
def f65_a_hook_does_not_answer(t):
    suffers(t, "after: 20, then: never, timeout: 300ms", "naughty: no answer within 300 ms in message_in")


@test
def f64_a_hook_holds_its_worker(t):
    suffers(t, "after: 50, then: spin 250", 'plugin "naughty" held worker')


@test
def f62_a_hook_crashes(t):
    """Again and again under load; each time it is named, and started again the server serves."""
    node = Hooked(t, "after: 60, then: %s" % ("abort" if t.sanitized else "'null'"))
    crowd = Crowd(node, users=20, rooms=4, direct=0.4)
    crowd.load(100)
    for _ in range(30 if t.full else 4):
        assert node.proc.wait(60) == -(signal.SIGABRT if t.sanitized else signal.SIGSEGV), node.text()[-2000:]
        crowd.mark("fault", "crash")
        assert re.search(r'ERROR core: crashed: SIG.*: plugin "naughty", in message_in, on worker \d', node.text())
        begin = time.monotonic()
        node.begin()
        print("# serves again after %.2f s" % (time.monotonic() - begin))
        crowd.mark("heal", "started")
    # It goes on without the plugin, so that what is there can be looked at.
    node.kill()
    node.settings += ("naughty.after=0",)
    node.begin()
    crowd.mark("heal", "started")
    time.sleep(0.5)
    text = crowd.finish()
    assert acks(text) > 30, "too few messages to mean anything"
    assert integrity(node.db) == "ok"
