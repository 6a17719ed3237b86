# SPDX-License-Identifier: Apache-2.0
"""A server that is told, and asked: what webhooks and commands are sent to.  It checks every signature."""
import base64
import hashlib
import hmac
import http.server
import json
import socket
import threading
import time

SECRET = "whsec_" + base64.b64encode(b"the key of the receiver, 32 byte").decode()
OLD = "an old secret that is still known"
PLAIN = "a secret of plain text, not BASE64"


def signed_by(secret, headers, body):
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    text = b"%s.%s.%s" % (headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body)
    mac = "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    return mac in headers["webhook-signature"].split(" ")


class Receiver:
    """`answers`: what each path says: a function of the request's JSON that returns status and JSON.  `got`: what came to
    each path, (headers, JSON); it is counted when the answer has been decided on.  faults: signatures that do not fit."""

    def __init__(self, port=0):
        self.answers, self.got, self.faults, self.lock = {}, {}, [], threading.Condition(threading.RLock())
        self.port = port
        self.secrets = {"/plain": (PLAIN, OLD)}
        self.server = self.kept = None
        self.begin()

    def begin(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                outer.serve(self)

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address, request_queue_size = True, 128

            def handle_error(self, request, client_address):
                pass  # who asks may end at any time

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        if self.kept:
            self.kept.close()
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def end(self):
        """Nobody listens there any more; nor does anybody else get the port."""
        self.server.shutdown()
        self.server.server_close()
        self.kept = socket.socket()
        self.kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.kept.bind(("127.0.0.1", self.port))

    def url(self, path):
        return "http://127.0.0.1:%d%s" % (self.port, path)

    def serve(self, request):
        body = request.rfile.read(int(request.headers["content-length"] or 0))
        secrets = self.secrets.get(request.path, (SECRET,))
        wrong = [s for s in secrets if not signed_by(s, request.headers, body)]
        if wrong or secrets and abs(time.time() - int(request.headers["webhook-timestamp"])) > 60:
            self.faults.append((request.path, wrong))
        asked = json.loads(body)
        status, answer = self.answers.get(request.path, lambda _: (200, {}))(asked)
        with self.lock:
            self.got.setdefault(request.path, []).append((dict(request.headers), asked, status))
            self.lock.notify_all()
        data = json.dumps(answer).encode() if answer is not None else b""
        try:
            request.send_response(status)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data)
        except OSError:
            pass  # who asked did not wait

    def events(self, path="/out", status=200):
        """All that were taken, in the order of their requests."""
        with self.lock:
            return [e for _, body, said in self.got.get(path, []) if said == status for e in body["events"]]

    def until(self, fits, seconds=60):
        """What fits() returns once it is true."""
        end = time.monotonic() + seconds
        with self.lock:
            while True:
                found = fits()
                left = end - time.monotonic()
                if found or left <= 0:
                    return found
                self.lock.wait(left)
