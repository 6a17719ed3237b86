#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How many pushes a second, and what one costs: a room whose members are all absent, and nginx as a push service.

usage: bench_push.py [MEMBERS [ROUNDS]]"""
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "chat"))
from client import Person, Server  # noqa: E402
from service import KEYS, free_port  # noqa: E402

NGINX = """worker_processes 1; pid %(dir)s/pid; error_log %(dir)s/error; daemon off; master_process off;
events { worker_connections 1024; }
http { access_log %(dir)s/log; keepalive_requests 1000000; client_body_temp_path %(dir)s; proxy_temp_path %(dir)s;
 fastcgi_temp_path %(dir)s; uwsgi_temp_path %(dir)s; scgi_temp_path %(dir)s;
 server { listen 127.0.0.1:%(port)d; location / { return 201; } } }
"""


def cpu(pid):
    """Of the server, and of what it has started to ask for it."""
    total = 0
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="ascii", errors="replace") as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        if pid in (int(path.split("/")[2]), int(fields[1])):
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def lines(path):
    with open(path, "rb") as f:
        return f.read().count(b"\n")


def main():
    members = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    folder, port = tempfile.mkdtemp(prefix="chatd-push-"), free_port()
    with open(os.path.join(folder, "conf"), "w", encoding="ascii") as f:
        f.write(NGINX % {"dir": folder, "port": port})
    nginx = subprocess.Popen(["nginx", "-c", os.path.join(folder, "conf")], stderr=subprocess.DEVNULL)
    names = ["user%04d" % i for i in range(members + 1)]
    block = "\n  auth-static:\n    users:\n" + "".join(
        '      - {{ login: {0}, passcode: "{0}", token: "token-of-{0}-long-enough" }}\n'.format(n) for n in names)
    block += "  presence-memory: { linger: 100ms }\n  fetch: { outside_allow: [\"127.0.0.1:%d\"] }\n" \
             "  push: { grace: 0s, interval: 100ms, hosts: [] }\n" % port
    s = Server(2, accounts=block)
    try:
        people = [Person(s, n) for n in names]
        owner = people[0]
        room = owner.rest("POST", "/api/chat/rooms", {"name": "R", "public": True, "maxMembers": members + 10}).json["id"]
        for p in people[1:]:
            p.device().close()
            assert p.rest("POST", "/api/chat/rooms/%s/join" % room).status in (200, 204)
            a = p.rest("POST", "/api/push/subscriptions", {"endpoint": "http://127.0.0.1:%d/%s" % (port, p.id), "keys": KEYS})
            assert a.status == 201, a.body
        time.sleep(2)
        d = owner.device()
        for i in range(rounds):
            had, used, begin = lines(os.path.join(folder, "log")), cpu(s.proc.pid), time.monotonic()
            d.send("/app/chat.send", {"roomId": room, "content": "to all, %d" % i})
            while lines(os.path.join(folder, "log")) < had + members:
                assert time.monotonic() < begin + 120, "they do not come"
                time.sleep(0.02)
            took = time.monotonic() - begin
            time.sleep(0.5)
            print("%d pushes in %.2f s: %.0f/s, %.0f us of CPU each, all of it counted" % (
                members, took, members / took, (cpu(s.proc.pid) - used) / members * 1e6))
    finally:
        nginx.terminate()
        nginx.wait()
        s.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
