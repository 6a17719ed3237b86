#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ, Redis, PostgreSQL, N nodes of chatd with config/cluster.yaml, and nginx before them: for tests, and
for people.

usage: cluster.py [NODES]        (./dev cluster)

    with Cluster(3) as c:
        alice = Person(c.nodes[0], "alice").device()      # as on a single server, see tests/chat/client.py
        c.nodes[1].kill(); c.nodes[1].begin()             # the same addresses, the same id
        c.rabbit.freeze()
        c.nginx.address()
"""
import concurrent.futures
import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.dirname(HERE), os.path.join(os.path.dirname(HERE), "chat")]
from backends.base import Missing, free_port  # noqa: E402
from backends.nginx import Nginx  # noqa: E402
from client import ACCOUNTS, Server, put  # noqa: E402


def backends():
    """The classes, or Missing."""
    try:
        from backends.postgres import Postgres
        from backends.rabbit import Rabbit
        from backends.redis import Redis
    except ImportError as why:
        raise Missing("the servers of a cluster are not all here: %s" % why) from None
    return Postgres, Rabbit, Redis


def at_once(calls):
    """Runs them all at the same time; the first failure is raised when all have ended."""
    with concurrent.futures.ThreadPoolExecutor(max(1, len(calls))) as pool:
        for f in [pool.submit(c) for c in calls]:
            f.result()


class Node(Server):
    """One of the nodes: its addresses stay the same when it begins again."""

    def __init__(self, cluster, number, *settings):
        self.cluster, self.id, self.workers = cluster, "node%d" % number, cluster.workers
        self.dir = tempfile.mkdtemp(prefix="chatd-%s-" % self.id)
        self.env = cluster.environment()
        self.settings = ("server.server_id=" + self.id, "http.listen=127.0.0.1:%d" % free_port(),
                         "tcp.listen=127.0.0.1:%d" % free_port(), *settings)
        with open(os.path.join(self.dir, "chat.yaml"), "w", encoding="utf-8") as f:
            f.write(cluster.configuration())
        self.log = open(os.path.join(self.dir, "log"), "w+b")
        self.begin()

    def text(self):
        with open(self.log.name, encoding="utf-8", errors="replace") as f:
            return f.read()

    def term(self):
        """SIGTERM, and its exit code once it has come."""
        self.proc.send_signal(signal.SIGTERM)
        return self.proc.wait(60)


class Cluster:
    """settings: of every node.  accounts: a block of YAML, "" for none.  edit: what becomes of the configuration."""

    def __init__(self, nodes=3, *settings, workers=2, accounts=ACCOUNTS, edit=str, limits=False):
        self.n, self.settings, self.workers = nodes, settings, workers
        self.accounts, self.edit, self.limits = accounts, edit, limits
        self.key = secrets.token_hex(32)
        self.postgres = self.rabbit = self.redis = self.nginx = None
        self.nodes = []

    # what a node is told
    def environment(self):
        return {"CHATD_POSTGRES_URL": self.postgres.url, "CHATD_RABBITMQ_PASSWORD": "guest",
                "CHATD_REDIS_PASSWORD": "none", "CHATD_CLUSTER_KEY": "cluster " + self.key, "CHATD_JWT_KEY": self.key}

    def configuration(self):
        with open(os.path.join(ROOT, "config", "cluster.yaml"), encoding="utf-8") as f:
            text = f.read()
        text = put(text, "  route-rabbitmq: { addresses: [\"127.0.0.1:%d\"], user: guest, "
                   "password: env:CHATD_RABBITMQ_PASSWORD, keys: [env:CHATD_CLUSTER_KEY] }\n"
                   "  redis: { addresses: [\"127.0.0.1:%d\"] }\n" % (self.rabbit.port, self.redis.port))
        if not self.limits:
            text = put(text, "  limit-rate: { enabled: false }\n")
        return self.edit(put(text, self.accounts) if self.accounts else text)

    def settings_of(self, i):
        """More settings of that node alone."""
        return ()

    # what a test does
    def start(self):
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self):
        classes = backends()
        self.postgres, self.rabbit, self.redis = (c() for c in classes)
        at_once([self.postgres.start, self.rabbit.start, self.redis.start])
        self.nodes = [None] * self.n

        def one(i):
            self.nodes[i] = Node(self, i + 1, *self.settings, *self.settings_of(i))
        one(0)  # makes the tables
        at_once([lambda i=i: one(i) for i in range(1, self.n)])
        self.nginx = Nginx(["%s:%d" % n.address("http") for n in self.nodes])
        self.nginx.start()

    def add(self, *settings):
        """One more node, which the balancer knows of."""
        self.nodes.append(Node(self, len(self.nodes) + 1, *self.settings, *settings))
        self.nginx.change(["%s:%d" % n.address("http") for n in self.nodes])
        return self.nodes[-1]

    def stop(self):
        """Ends the nodes; [(exit code, log)] in their order."""
        nodes, ends = [n for n in self.nodes if n], {}

        def one(n):
            ends[n] = n.stop()
        at_once([lambda n=n: one(n) for n in nodes])
        self.nodes = []
        return [ends[n] for n in nodes]

    def close(self):
        for n in [n for n in self.nodes if n]:
            with contextlib.suppress(OSError):
                n.kill()
            shutil.rmtree(n.dir, ignore_errors=True)
        self.nodes = []
        for server in (self.nginx, self.redis, self.rabbit, self.postgres):
            if server:
                server.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *what):
        self.close()


def tap(cluster, tests, last="the nodes end cleanly", ended=slice(None)):
    """Runs test(cluster), one after the other, then ends the nodes; 1 if something failed.  ended: those of which a clean
    end is asked."""
    failed, wrong = 0, []
    print("1..%d" % (len(tests) + 1))
    try:
        for i, t in enumerate(tests, 1):
            try:
                t(cluster)
                print("ok %d - %s" % (i, t.__name__.replace("_", " ")), flush=True)
            except Exception:
                failed += 1
                print("not ok %d - %s" % (i, t.__name__.replace("_", " ")))
                print("".join("# %s\n" % x for x in traceback.format_exc().splitlines()), flush=True)
        wrong = [(code, log[-3000:]) for code, log in cluster.stop()[ended] if code != 0 or "Sanitizer" in log]
        print("%sok %d - %s" % ("not " if wrong else "", len(tests) + 1, last))
        for code, log in wrong:
            print("# exit code %s\n# %s" % (code, log.replace("\n", "\n# ")))
    finally:
        cluster.close()
    return 1 if failed or wrong else 0


def show(c):
    print("open http://%s:%d/ in a browser: nginx, before" % c.nginx.address())
    for n in c.nodes:
        print("  %s  http://%s  tcp %s  chatctl --socket %s/admin.sock status"
              % (n.id, n.ready["http"][0], n.ready["tcp"][0], n.dir))
    print("PostgreSQL %s\nRabbitMQ 127.0.0.1:%d\nRedis 127.0.0.1:%d\nCtrl-C ends all of them"
          % (c.postgres.url, c.rabbit.port, c.redis.port), flush=True)


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 3
    if len(sys.argv) > 2 or not 1 <= n <= 16 or (len(sys.argv) == 2 and not sys.argv[1].isdigit()):
        sys.exit("usage: cluster.py [NODES], 1 to 16")
    cluster = Cluster(n, accounts="", limits=True)

    def on_term(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, on_term)
    print("starting PostgreSQL, RabbitMQ, Redis, %d nodes and nginx; this takes some seconds" % n, flush=True)
    try:
        cluster.start()
        show(cluster)
        while True:
            signal.pause()
    except KeyboardInterrupt:
        print("ending", flush=True)
        bad = [log[-2000:] for code, log in cluster.stop() if code != 0]
        return "\n".join(bad) or 0
    except Missing as why:
        return str(why)
    finally:
        cluster.close()


if __name__ == "__main__":
    sys.exit(main())
