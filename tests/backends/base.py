# SPDX-License-Identifier: Apache-2.0
"""What the servers of a test have in common: a private folder, a free port, a process that ends with the test.

A server is used so:

    with Redis() as redis:                 # or .start() and .stop()
        ... redis.port ...
        redis.kill()                       # SIGKILL; start() brings it back on the same port, with its data

`Missing` says that the program is not installed: a suite skips with that reason, but in CI (CI=true) fails.
"""
import atexit
import errno
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

IN_CI = os.environ.get("CI") == "true"


class Missing(Exception):
    pass


def program(name, *folders):
    """The path of a program, or Missing."""
    path = os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/sbin", "/usr/lib/postgresql/15/bin"])
    found = shutil.which(name, path=path)
    if not found:
        raise Missing("%s is not installed; ./dev deps test installs it" % name)
    return found


def free_port(address="127.0.0.1"):
    """Below those that connections take by themselves: a server that is killed and comes back finds it free."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        first = int(f.read().split()[0])
    while True:
        port = random.randrange(first // 3, first) if first > 4096 else 0
        with socket.socket() as s:
            try:
                s.bind((address, port))
                return s.getsockname()[1]
            except OSError as e:
                if e.errno != errno.EADDRINUSE:
                    raise


def wait_until(fits, seconds, what):
    end = time.monotonic() + seconds
    while not fits():
        if time.monotonic() > end:
            raise TimeoutError("%s: not within %d s" % (what, seconds))
        time.sleep(0.05)


def accepts(port, address="127.0.0.1"):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex((address, port)) == 0


class Process:
    """One server of one test.  Subclasses give command() and ready(), and set `user` when the program will not run
    as root."""
    user = None      # the account that it runs as when the test is run by root
    seconds = 60     # until it is ready
    host = "127.0.0.1"

    def __init__(self):
        self.child = None
        self.folder = tempfile.mkdtemp(prefix="chatd-%s-" % type(self).__name__.lower())
        self.port = free_port()
        self.account = pwd.getpwnam(self.user) if self.user and os.getuid() == 0 else None
        if self.account:
            os.chown(self.folder, self.account.pw_uid, self.account.pw_gid)
        self.log = os.path.join(self.folder, "log")
        atexit.register(self.close)

    # what a subclass says
    def command(self):
        raise NotImplementedError

    def environment(self):
        return {}

    def ready(self):
        return accepts(self.port)

    # what a test does
    def start(self):
        more = {}
        if self.account:
            more = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env={**os.environ, "HOME": self.folder, **self.environment()},
                                          start_new_session=True, **more)
        end = time.monotonic() + self.seconds
        while not self.ready():
            code = self.child.poll()
            if code is not None or time.monotonic() > end:
                self.kill()
                how = "was not ready within %d s" % self.seconds if code is None else "ended with %d" % code
                raise RuntimeError("%s did not start: it %s:\n%s" % (self.child.args, how, self.text()[-3000:]))
            time.sleep(0.05)
        return self

    def run(self, *command, **more):
        """A command beside the server, as its account."""
        if self.account:
            more.update(user=self.account.pw_uid, group=self.account.pw_gid, extra_groups=[])
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True,
                              env={**os.environ, "HOME": self.folder, **self.environment()}, **more).stdout

    def signal(self, number):
        """To the whole group: SIGSTOP freezes helpers too."""
        os.killpg(self.child.pid, number)

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        self._end(signal.SIGKILL)

    def stop(self):
        self._end(signal.SIGTERM)

    def _end(self, number):
        if self.child and self.child.poll() is None:
            try:
                self.signal(signal.SIGCONT)
                self.signal(number)
                self.child.wait(30)
            except ProcessLookupError:
                pass
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
                self.child.wait(30)

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def __enter__(self):
        return self.start()

    def __exit__(self, *what):
        self.close()
