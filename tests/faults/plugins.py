# SPDX-License-Identifier: Apache-2.0
"""Plugins that come with the server are turned on and off, by chatctl and by reloading, while people write: nothing is lost
or comes twice, nobody is refused for it, and what back ends are told comes once."""
import json
import os
import re
import subprocess
import sys

from harness import BUILD, HERE, Crowd, Node, integrity

sys.path.insert(0, os.path.join(os.path.dirname(HERE), "api"))
from receiver import SECRET, Receiver  # noqa: E402

TESTS = []
# Whose service another one uses comes before it.
NAMES = ("privacy", "audit", "fetch", "presence", "typing", "receipts", "moderation", "word-filter", "keys", "push",
         "webhooks", "api", "slash")
ASIDE = ("auth-anonymous", "auth-jwt", "auth-password", "auth-refresh", "encrypt", "mail-smtp", "rules", "sockjs", "upload",
         "users", "web", "websocket")


def test(fn):
    TESTS.append(fn)
    return fn


class Shifting(Node):
    def __init__(self, t, receiver):
        words = os.path.join(t.folder(), "words")
        with open(words, "w", encoding="utf-8") as out:
            out.write("neverwritten\n")
        self.blocks = {name: "" for name in NAMES}
        self.blocks.update({
            "fetch": "outside_allow: [\"127.0.0.1:%d\"]" % receiver.port,
            "word-filter": "lists: [{file: \"%s\", action: refuse}]" % words,
            "push": "grace: 50ms, interval: 50ms, hosts: [], webhook_url: \"%s\", webhook_secret: %s" % (
                receiver.url("/push"), "s" * 32),
            "webhooks": "outgoing: [{name: all, url: \"%s\", secret: %s, direct: true}], "
                        "deciders: [{on: message, url: \"%s\", secret: %s, on_error: allow}]" % (
                            receiver.url("/out"), SECRET, receiver.url("/ask"), SECRET),
        })
        super().__init__(t.workers, *("%s.enabled=false" % name for name in ASIDE))
        t.nodes.append(self)

    def accounts(self):
        return Node.accounts() + "".join(map(self.block, NAMES))

    def block(self, name, on=False):
        return "  %s: {enabled: %s%s}\n" % (name, "true" if on else "false", self.blocks[name] and ", " + self.blocks[name])

    def ctl(self, *words):
        done = subprocess.run([os.path.join(BUILD, "bin", "chatctl"), "--socket", os.path.join(self.dir, "admin.sock"),
                               "--timeout", "100", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 and "waits" not in done.stdout, (words, done, self.text()[-2000:])
        return done.stdout

    def reload(self, on):
        """All of them at once."""
        path = os.path.join(self.dir, "chat.yaml")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        for name in NAMES:
            text = text.replace(self.block(name, not on), self.block(name, on))
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        said = self.ctl("reload")
        assert said.count("turned on" if on else "turned off") == len(NAMES), said


@test
def plugins_come_and_go(t):
    receiver = Receiver()
    receiver.secrets["/push"] = ()
    receiver.answers["/ask"] = lambda asked: (200, {"allow": True})
    node = Shifting(t, receiver)
    crowd = Crowd(node, users=20, rooms=4, direct=0.4)
    crowd.load(100 if t.quick_machine() else 20)
    for k in range(40 if t.full else 5 if t.quick_machine() else 2):
        for name in NAMES:
            node.ctl("plugin", "enable", name)
        if k == 0:  # somebody who is never here
            r = node.person(50).rest("POST", "/api/push/subscriptions", {"kind": "fcm", "token": "t"})
            assert r.status in (200, 201), r.body
        for name in reversed(NAMES):
            node.ctl("plugin", "disable", name)
        node.reload(True)
        node.reload(False)
    node.ctl("plugin", "enable", "fetch")
    node.ctl("plugin", "enable", "webhooks")
    text = crowd.finish()
    assert int(re.search(r"acks (\d+)", text).group(1)) > 30, "too few messages to mean anything"
    with open(crowd.log, encoding="utf-8") as f:
        refused = [line.split("\t")[-1].strip() for line in f if "\treject\t" in line]
    assert not refused, refused
    assert integrity(node.db) == "ok"
    assert not receiver.faults, receiver.faults
    told = [e["id"] for e in receiver.events("/out")]
    assert len(told) == len(set(told)) > 30, "%d events, %d of them different" % (len(told), len(set(told)))
    rows = json.loads(node.ctl("--json", "plugin", "list"))["plugins"]
    assert not [r for r in rows if r["errors"] or r["timeouts"]], rows
    t.end(node)
    receiver.end()
