# SPDX-License-Identifier: Apache-2.0
"""Three nodes to be hurt, one of them behind proxies, and clients that are at home on any of them."""
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from harness import BUILD, HERE, TOKEN, Crowd, Person, Proxy, wait_for

sys.path[:0] = [os.path.dirname(HERE), os.path.join(os.path.dirname(HERE), "ws")]
from backends.cluster import Cluster, at_once  # noqa: E402

USERS, ROOMS = 30, 6
CTL = os.path.join(BUILD, "bin", "chatctl")
SETTLE = 3.5  # sync_interval, and what a loaded machine adds
NODES = 3


def name_of(case, i):
    """Each case has users of its own, so that it is judged alone."""
    return "%s%02d" % (case, i)


def accounts(cases):
    names = [name_of(c, i) for c in cases for i in range(USERS)]
    return "\n  auth-static:\n    users:\n" + "".join(
        '      - {{ login: {0}, passcode: "{0}", name: "{0}", token: "{1}" }}\n'.format(n, TOKEN % n) for n in names)


class Wounded(Cluster):
    """The third node reaches its back ends through proxies alone."""

    def __init__(self, cases, workers):
        super().__init__(NODES, "server.drain_spread=1s", "chat.sync_interval=2s", "chat.isolated_after=6s",
                         "route-rabbitmq.heartbeat=2s", "auth-password.register_per_hour=0",
                         "metrics.enabled=true", "metrics.listen=127.0.0.1:0", workers=workers, accounts=accounts(cases))
        self.proxies = {}

    def settings_of(self, i):
        if i != NODES - 1:
            return ()
        for name in ("postgres", "rabbit", "redis"):
            self.proxies[name] = Proxy("127.0.0.1:%d" % getattr(self, name).port)
        at = {name: p.port for name, p in self.proxies.items()}
        return ("store-postgres.url=postgresql://chatd@127.0.0.1:%d/chatd" % at["postgres"],
                "route-rabbitmq.addresses=127.0.0.1:%d" % at["rabbit"], "route-rabbitmq.prefetch=10", "redis.addresses=127.0.0.1:%d" % at["redis"])

    def close(self):
        super().close()
        for p in self.proxies.values():
            p.close()
        self.proxies = {}

    def ctl(self, node, *args):
        done = subprocess.run([CTL, "--socket", os.path.join(node.dir, "admin.sock"), "--json", *args], timeout=60,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    @staticmethod
    def number(node, name):
        """What a node's metrics say."""
        with urllib.request.urlopen("http://%s/metrics" % node.ready["metrics"][0], timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def whole(self):
        """Every node knows of all, and all have all they need."""
        with concurrent.futures.ThreadPoolExecutor(NODES) as pool:
            return all(pool.map(self.content, self.nodes))

    def content(self, node):
        a = self.ctl(node, "nodes")
        return a and sorted(x["node"] for x in a["nodes"]) == ["node1", "node2", "node3"] and \
            all((x["state"], x["store"], x["broker"]) == ("UP", "OK", "UP") for x in a["nodes"]) and \
            ready(node) == (200, {"status": "UP"})

    def heal(self):
        """Whatever a case left behind."""
        for p in self.proxies.values():
            p("pass")
        for s in (self.postgres, self.rabbit, self.redis):
            if s.child.poll() is None:
                s.thaw()
        at_once([s.start for s in (self.postgres, self.rabbit, self.redis) if s.child.poll() is not None])
        at_once([n.begin for n in self.nodes if n.proc.poll() is not None])
        begin = time.monotonic()
        wait_for(self.whole, 40, "the cluster is whole")
        return time.monotonic() - begin


def ready(node):
    """(status, JSON) of /readyz."""
    try:
        with urllib.request.urlopen("http://%s:%d/readyz" % node.address("http"), timeout=5) as r:
            return r.status, json.load(r)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


class Wide(Crowd):
    """The clients of one case, on all nodes; a few by WebSocket through nginx."""

    def __init__(self, cluster, case, **more):
        self.cluster, self.case = cluster, case
        self.rooms = [None] * ROOMS
        at_once([lambda i=i: self.make_room(i) for i in range(ROOMS)])
        conf = {"ready": [os.path.join(n.dir, "ready") for n in cluster.nodes], "seed": 1, "patience": 6,
                "settle": SETTLE, "ws": cluster.nginx.address(), "ws_clients": 6}
        self.folder = tempfile.mkdtemp(prefix="chatd-fault-")
        self.begin(self.folder, lambda i: name_of(case, i), USERS, dict(conf, **more))

    def make_room(self, i):
        """As Crowd.make_rooms() does it, by way of another node each."""
        node = self.cluster.nodes[i % NODES]
        members = [(i + k) % USERS for k in range(0, USERS, 4)]
        owner = Person(node, name_of(self.case, members[0]))
        name = {"name": "%s room %d" % (self.case, i), "public": i % 3 != 0}
        r = wait_for(lambda: (lambda r: r.status == 201 and r)(owner.rest("POST", "/api/chat/rooms", name)), 60, "a room")
        for m in members[1:]:
            # An account of the configuration may come later, and a busy machine's store takes it at the second time.
            wait_for(lambda m=m: owner.rest("POST", "/api/chat/rooms/%s/members" % r.json["id"],
                                            {"userId": name_of(self.case, m)}).status in (200, 201, 204), 60, "a member")
        self.rooms[i] = (r.json["id"], members)

    def stored(self):
        return "--db", self.cluster.postgres.url, "--only", self.case, "--rest", "%s:%d" % self.cluster.nginx.address()

    def person(self, i, node=0):
        return Person(self.cluster.nodes[node], name_of(self.case, i))
