# SPDX-License-Identifier: Apache-2.0
"""The balancer of config/nginx/chatd.conf, with the addresses of a test."""
import os
import re

from .base import Process, program

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SAMPLE = os.path.join(ROOT, "config", "nginx", "chatd.conf")
FRAME = """daemon off;
%sworker_processes 1;
error_log stderr %s;
pid %s/pid;
events { worker_connections 8192; }
http {
	access_log %s/access;
	client_body_temp_path %s/body;
	proxy_temp_path %s/proxy;
	fastcgi_temp_path %s/fastcgi;
	uwsgi_temp_path %s/uwsgi;
	scgi_temp_path %s/scgi;
	include %s/chatd.conf;
}
"""


class Nginx(Process):
    """nodes: "HOST:PORT" of each; change() takes others."""
    seconds = 20

    def __init__(self, nodes, port=None, level="warn"):
        super().__init__()
        self.nodes, self.port, self.level = list(nodes), port or self.port, level
        self.program = program("nginx")

    def configuration(self):
        """The sample with these nodes in the place of its own."""
        with open(SAMPLE, encoding="utf-8") as f:
            text = f.read()

        def upstream(m):
            line = re.search(r"^\tserver \S+(.*;)\n", m.group(0), re.M)
            rest = re.sub(r"^\tserver .*\n", "", m.group(0), flags=re.M)
            servers = "".join("\tserver %s%s\n" % (n, line.group(1)) for n in self.nodes)
            return rest.replace("\tkeepalive", servers + "\tkeepalive")
        text, n = re.subn(r"^upstream \w+ \{.*?^\}", upstream, text, flags=re.M | re.S)
        assert n == 2, "the sample has other upstreams than this expects"
        text, n = re.subn(r"^\tlisten 8080;", "\tlisten 127.0.0.1:%d;" % self.port, text, flags=re.M)
        assert n == 1, "the sample listens elsewhere than this expects"
        return text

    def write(self):
        with open(os.path.join(self.folder, "chatd.conf"), "w", encoding="utf-8") as f:
            f.write(self.configuration())
        with open(os.path.join(self.folder, "nginx.conf"), "w", encoding="utf-8") as f:
            # Its folder is its account's alone, and large bodies are buffered there.
            user = "" if os.geteuid() else "user root;\n"
            f.write(FRAME % ((user, self.level) + (self.folder,) * 8))

    def command(self):
        self.write()
        return [self.program, "-p", self.folder, "-c", os.path.join(self.folder, "nginx.conf")]

    def change(self, nodes):
        self.nodes = list(nodes)
        self.write()
        os.kill(self.child.pid, 1)

    def address(self, kind="http"):
        return self.host, self.port
