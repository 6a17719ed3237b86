# SPDX-License-Identifier: Apache-2.0
"""A folder of plugins of the test's own, and a server that has them besides what it needs to be talked to."""
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "conf"))
import proc  # noqa: E402

BUILD = os.environ.get("CHATD_BUILD", os.path.join(proc.ROOT, "build"))
BUILT = os.path.join(BUILD, "tests", "plugins")
BASE = """  http: {listen: ["127.0.0.1:0"]}
  tcp: {listen: ["127.0.0.1:0"]}
  stomp: {}
  route-local: {topics: [/topic/], queues: [/queue/]}
  auth-static: {allow_any: true, anonymous: true}
  admin: {}
  metrics: {listen: ["127.0.0.1:0"]}
"""


def contract():
    """(major, minor) of the headers the server was built with."""
    with open(os.path.join(proc.ROOT, "include", "chatd", "plugin.h"), encoding="utf-8") as f:
        text = f.read()
    return tuple(int(re.search(r"#define CHATD_ABI_%s (\d+)u" % part, text).group(1)) for part in ("MAJOR", "MINOR"))


def sanitized():
    """Built with a sanitizer, which has handlers and an allocator of its own?"""
    with open(os.path.join(BUILD, "bin", "chatd"), "rb") as f:
        text = f.read()
    return b"__asan_init" in text or b"__tsan_init" in text


class Folder:
    """Plugin files and configurations, private and gone at the end."""

    def __init__(self):
        self.dir = os.path.realpath(tempfile.mkdtemp(prefix="chatd-plugins-"))
        self.plugins = os.path.join(self.dir, "plugins")
        self.data = os.path.join(self.dir, "data")
        os.mkdir(self.plugins, 0o755)
        os.chmod(self.plugins, 0o755)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.plugins, name + ".so")

    def take(self, built, name=None):
        """A copy of a plugin as the build made it."""
        to = self.path(name or built)
        shutil.copyfile(os.path.join(BUILT, built + ".so"), to)
        os.chmod(to, 0o755)
        return to

    def replace(self, built, name=None):
        """The same as a package manager does it: the old file stays what it was for whoever has it open."""
        to = self.path(name or built)
        shutil.copyfile(os.path.join(BUILT, built + ".so"), to + ".new")
        os.chmod(to + ".new", 0o755)
        os.rename(to + ".new", to)
        return to

    def put(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data)
        os.chmod(self.path(name), 0o755)
        return self.path(name)

    def conf(self, plugins, path=None, server=""):
        """A configuration with these lines below "plugins"."""
        to = os.path.join(self.dir, "chat.yaml")
        with open(to, "w", encoding="utf-8") as f:
            f.write("server: {data_dir: %s, plugin_path: [%s], drain_grace: 0s%s}\nplugins:\n%s" % (
                self.data, path or self.plugins, server and ", " + server, plugins))
        return to

    def server(self, plugins, *settings, server=""):
        return Server(self, self.conf(BASE + plugins, server=server), *settings)


class Server(proc.Server):
    """With its data in the folder, so that another one can go on with it."""

    def __init__(self, folder, config, *settings):
        self.folder = folder
        super().__init__(config, "server.data_dir=" + folder.data, *settings)

    def client(self):
        s = socket.create_connection(self.address("tcp"), proc.PATIENCE)
        s.sendall(proc.CONNECT)
        answer = proc.read_until(s, b"\0")
        assert answer.startswith(b"CONNECTED"), answer
        return s

    def send(self, s, body, dest="/topic/naughty", receipt=None):
        s.sendall(("SEND\ndestination:%s\n%s\n%s\0" % (dest, receipt and "receipt:%s\n" % receipt or "", body)).encode())

    def asked(self, s, body, dest="/topic/naughty"):
        """What a SEND with a receipt is answered."""
        self.send(s, body, dest, receipt="r")
        return proc.read_until(s, b"\0").decode()

    def lines(self, word):
        return [line for line in self.log().splitlines() if word in line]

    def ctl(self, *words):
        """chatctl: (exit code, standard output, standard error)."""
        done = subprocess.run([os.path.join(BUILD, "bin", "chatctl"), "--socket",
                               os.path.join(self.folder.data, "admin.sock"), "--timeout", "100", *words],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    def unasked(self):
        """Until it has let go of whoever was at its admin socket, which is a little after the answer."""
        at = os.path.join(self.folder.data, "admin.sock")

        def alone():
            with open("/proc/net/unix", encoding="utf-8") as f:
                return sum(line.rstrip().endswith(" " + at) for line in f) == 1
        proc.until(alone, "somebody is at " + at)


def one_of(times, fits):
    """A machine that has no time for us may spoil it; what is wrong in the server spoils it each time."""
    assert any(fits() for _ in range(times)), "not once in %d times" % times
