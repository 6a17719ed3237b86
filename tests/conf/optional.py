#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every plugin can be left out: the server runs without it, or says at once who needs it.
Speaks TAP; CHATD_BUILD names the build directory."""
import os
import re

import proc

ALWAYS_ON = {"chat.yaml": ["tcp.enabled=true"], "broker.yaml": []}


def plugins(config):
    with open(os.path.join(proc.CONFIGS, config), encoding="utf-8") as f:
        return re.findall(r"^  ([a-z][a-z0-9-]*):", f.read().split("\nplugins:\n")[1], re.M)


def refused(name, said, others):
    """Each complaint stands at a plugin that needs the missing one, and names it as the remedy."""
    heads = re.findall(r":\d+:\d+: error: ([a-z0-9-]+): it needs the service ", said)
    assert heads, said
    assert all(h in others for h in heads), said
    assert re.search(r"turn it on: .*\b%s\b" % re.escape(name), said), said


def without(config, name):
    others = [p for p in plugins(config) if p != name]
    settings = ALWAYS_ON[config] + [name + ".enabled=false"]
    args = ["-c", os.path.join(proc.CONFIGS, config), "--check"]
    for s in settings:
        args += ["--set", s]
    code, _, said = proc.chatd(*args)
    if code == 78:
        refused(name, said, others)
        return
    assert code == 0, (code, said)
    with proc.Server(config, *settings) as server:
        if name != "http":
            assert server.get("/healthz") == 200
            assert server.get("/readyz") == 200
        if name != "web" and "web" in others:
            assert server.get("/") == 200
        answers = []
        if name != "tcp":
            answers.append(proc.tcp_connect(server))
        if name != "websocket":
            s, answer = proc.websocket(server)
            answers.append(answer)
            s.close()
        for answer in answers:
            # Without the plugin that knows its users nobody may come in; all else is no reason to refuse.
            want = r"ERROR\n|CONNECTED\n" if name.startswith("auth-") else r"CONNECTED\n"
            assert re.search(want, answer), answer
        code, _ = server.end()
        assert code == 0, (code, server.log())
        assert " ERROR " not in server.log(), server.log()


proc.main([("%s without %s" % (config, name), lambda config=config, name=name: without(config, name))
           for config in ALWAYS_ON for name in plugins(config)])
