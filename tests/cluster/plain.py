# SPDX-License-Identifier: Apache-2.0
"""Nodes that are plain STOMP brokers with route-rabbitmq, and clients that log in as whoever they like."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path[:0] = [TESTS, os.path.join(TESTS, "chat")]
from backends.base import free_port, wait_until  # noqa: E402,F401
from client import BUILD, Device, Server  # noqa: E402

KEY = "of the nodes in tests, which have one, 48 bytes"
LINE = re.compile(r"([a-z_]+)(?:\{([^}]*)\})? (-?[0-9.]+)")

CONFIG = """
server:
  data_dir: {dir}
  workers: {workers}
  server_id: {id}
plugins:
  http: {{ listen: ["127.0.0.1:0"] }}
  websocket: {{ path: /ws-chat }}
  sockjs: {{ path: /ws-chat }}
  tcp: {{ listen: ["127.0.0.1:0"], max_queue: 64 MiB }}
  stomp: {{}}
  metrics: {{ listen: ["127.0.0.1:0"] }}
  route-local: {{ topics: [/topic/], queues: [/queue/] }}
  auth-static: {{ allow_any: true, anonymous: true }}
  route-rabbitmq:
{rabbit}
"""


class Plain(Server):
    """One node.  `brokers` are the ports of route-rabbitmq's addresses; `more` are its other options."""

    def __init__(self, name, brokers, workers=2, more=None, extra="", settings=()):
        self.dir = tempfile.mkdtemp(prefix="chatd-node-")
        self.name, self.workers, self.settings = name, workers, settings
        self.options = {"addresses": json.dumps(["127.0.0.1:%d" % p for p in brokers]), "unbind_after": "1s",
                        "keys": json.dumps([KEY]), **(more or {})}
        self.extra = extra
        self.log = open(os.path.join(self.dir, "log"), "w+b")
        self.configure()
        self.begin()

    def configure(self, **options):
        self.options.update(options)
        text = CONFIG.format(dir=self.dir, workers=self.workers, id=self.name,
                             rabbit="".join("    %s: %s\n" % o for o in self.options.items())) + self.extra
        with open(os.path.join(self.dir, "chatd.yaml"), "w") as f:
            f.write(text)

    def command(self):
        args = [os.path.join(BUILD, "bin", "chatd"), "-c", os.path.join(self.dir, "chatd.yaml"),
                "--ready-file", os.path.join(self.dir, "ready")]
        for s in self.settings:
            args += ["--set", s]
        return args

    def begin(self):
        ready = os.path.join(self.dir, "ready")
        if os.path.exists(ready):
            os.unlink(ready)
        self.proc = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log, env=dict(os.environ, **self.env))
        wait_until(lambda: self.proc.poll() is not None or (os.path.exists(ready) and os.path.getsize(ready)), 60, "start")
        if self.proc.poll() is not None:
            raise RuntimeError("chatd did not start\n" + self.text()[-3000:])
        with open(ready) as f:
            self.ready = json.load(f)

    def end(self):
        """SIGTERM, and the exit code; begin() again may follow."""
        self.proc.send_signal(signal.SIGTERM)
        return self.proc.wait(60)

    def text(self):
        with open(self.log.name, errors="replace") as f:
            return f.read()

    def numbers(self):
        host, port = self.address("metrics")
        with urllib.request.urlopen("http://%s:%d/metrics" % (host, port), timeout=10) as r:
            found = {}
            for m in LINE.finditer(r.read().decode()):
                found[m.group(1) + (m.group(2) or "").replace('"', "")] = float(m.group(3))
            return found

    def number(self, name):
        return self.numbers().get("chatd_cluster_" + name, 0)

    def wait_up(self, up=1, seconds=60):
        wait_until(lambda: self.number("up") == up, seconds, "%s is %s" % (self.name, "up" if up else "down"))

    def readyz(self):
        host, port = self.address("http")
        with urllib.request.urlopen("http://%s:%d/readyz" % (host, port), timeout=10) as r:
            return json.loads(r.read())

    def client(self, name="ann"):
        return Client(self, name)


class Client(Device):
    def __init__(self, node, name):
        self.server, self.login, self.id = node, {"login": name, "passcode": "x"}, name
        self.open(self)

    def take(self, destination, n, seconds=20):
        """The next n bodies of a destination."""
        got = []
        end = time.monotonic() + seconds
        while len(got) < n:
            f = self.wait(lambda f: f.command == "MESSAGE" and f.headers["destination"] == destination,
                          max(0.01, end - time.monotonic()))
            if f is None:
                raise TimeoutError("%d of %d came to %s: %r" % (len(got), n, destination, got[-3:]))
            got.append(f.body.decode())
        return got

    def put(self, destination, body, **headers):
        """A SEND without a receipt."""
        data = body if isinstance(body, bytes) else str(body).encode()
        self.write("SEND", {"destination": destination, **headers}, data)
