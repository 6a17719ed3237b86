# SPDX-License-Identifier: Apache-2.0
"""Push services on this machine: npm's web-push-testing, which decrypts what comes, and one that misbehaves."""
import http.client
import http.server
import json
import os
import socket
import socketserver
import subprocess
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.join(HERE, "..", "e2e", "node_modules", "web-push-testing")
# Of RFC 8291: good keys, whose private half nobody here needs.
KEYS = {"p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "auth": "BTBZMqHH6r4Tts7J_aSIgg"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Stock:
    """A process of web-push-testing."""

    def __init__(self):
        end = time.monotonic() + 120
        while not self.begins():  # another has taken its port
            assert time.monotonic() < end, "web-push-testing does not start"

    def begins(self):
        self.port = free_port()
        self.proc = subprocess.Popen(["node", os.path.join(PACKAGE, "src", "bin", "server.js"), str(self.port)],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while self.proc.poll() is None and time.monotonic() < end:
            try:
                return self.ask("/status", {})
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
        self.stop()
        return None

    @staticmethod
    def there():
        return os.path.isdir(PACKAGE)

    def allow(self):
        return "localhost:%d" % self.port

    def ask(self, path, body):
        conn = http.client.HTTPConnection("localhost", self.port, timeout=60)
        conn.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        r = conn.getresponse()
        data = r.read()
        conn.close()
        return r.status, data

    def subscribe(self, key):
        status, data = self.ask("/subscribe", {"userVisibleOnly": "true", "applicationServerKey": key})
        assert status == 200, data
        return json.loads(data)["data"]

    def messages(self, sub):
        status, data = self.ask("/get-notifications", {"clientHash": sub["clientHash"]})
        assert status == 200, data
        return [json.loads(m) for m in json.loads(data)["data"]["messages"]]

    def expire(self, sub):
        self.ask("/expire-subscription/" + sub["clientHash"], {})

    def stop(self):
        self.proc.kill()
        self.proc.wait()


class Rude:
    """/NAME/...: answers as the behaviour of that name says, and remembers what came."""

    def __init__(self):
        rude = self
        self.came, self.lock, self.plan = [], threading.Lock(), {}
        self.stopping = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with rude.lock:
                    rude.came.append((time.monotonic(), self.path, dict(self.headers), body))
                    plan = rude.plan.get(self.path, [])
                    what = plan.pop(0) if len(plan) > 1 else plan[0] if plan else 201
                try:
                    getattr(self, what, None)() if isinstance(what, str) else self.plain(what)
                except OSError:
                    self.close_connection = True

            def plain(self, what):
                status, headers = what if isinstance(what, tuple) else (what, {})
                self.send_response(status)
                for k, v in headers.items():
                    self.send_header(k, v)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def stall(self):
                rude.stopping.wait(30)

            def drip(self):
                self.send_response(201)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                for _ in range(300):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    if rude.stopping.wait(0.1):
                        break

            def flood(self):
                self.send_response(503)
                self.send_header("Content-Length", str(10 << 20))
                self.end_headers()
                for _ in range(160):
                    self.wfile.write(b"x" * 65536)

            def log_message(self, *args):
                pass

        class Threads(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads, request_queue_size = True, 256

        self.server = Threads(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def allow(self):
        return "127.0.0.1:%d" % self.port

    def url(self, path):
        return "http://127.0.0.1:%d%s" % (self.port, path)

    def sub(self, path, *plan):
        """A subscription whose pushes are answered by the plan, the last of it again and again."""
        with self.lock:
            self.plan[path] = list(plan)
        return {"endpoint": self.url(path), "keys": KEYS}

    def at(self, path):
        with self.lock:
            return [c for c in self.came if c[1] == path]

    def stop(self):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
