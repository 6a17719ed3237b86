# SPDX-License-Identifier: Apache-2.0
"""HAProxy before one server, as plain as it goes: HTTP, connections to the server are kept and shared."""
import os

from .base import Process, program

TEXT = """global
	nbthread 1
defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
	timeout http-request 10s
	retries 0
	http-reuse always
%sfrontend front
	bind 127.0.0.1:%d
	default_backend back
backend back
	server one %s
"""


class Haproxy(Process):
    """node: "HOST:PORT".  lax: forwards some of what it would refuse (accept-invalid-http-request)."""
    seconds = 20

    def __init__(self, node, lax=False):
        super().__init__()
        self.node, self.lax = node, lax
        self.program = program("haproxy")

    def command(self):
        path = os.path.join(self.folder, "haproxy.cfg")
        with open(path, "w", encoding="utf-8") as f:
            f.write(TEXT % ("\toption accept-invalid-http-request\n" if self.lax else "", self.port, self.node))
        return [self.program, "-db", "-f", path]

    def address(self, kind="http"):
        return self.host, self.port
