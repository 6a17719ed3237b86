# SPDX-License-Identifier: Apache-2.0
"""A Redis of the test's own, and a sentinel.

    with Redis() as redis:
        redis.cli("SET", "a", "1")         # what Redis answers, as text

    with Redis() as master, Redis(replica_of=master) as replica, Sentinel(master) as sentinel:
        sentinel.failover()                # until the replica is the master
"""
import os
import re
import subprocess

from .base import Process, program, wait_until


ACL_PASSWORD = "of-its-own"


def acl(password=ACL_PASSWORD, prefix=None):
    """The user of plugins/redis/README.md, as a line of Redis' configuration."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "plugins", "redis", "README.md")) as f:
        text = re.search(r"```\n(user chatd .*?)```", f.read(), re.S).group(1)
    words = text.replace(">PASSWORD", ">" + password).split()
    if prefix:
        words = [w for w in words if w[0] not in "~&"] + ["~%s*" % prefix, "&%s*" % prefix]
    return " ".join(words)


class Redis(Process):
    """password: demanded; tls: (certificate, key, CA) files, then there is no plain port."""

    def __init__(self, password=None, tls=None, replica_of=None, settings=()):
        super().__init__()
        self.password, self.tls, self.replica_of, self.settings = password, tls, replica_of, settings

    def lines(self):
        yield "bind 127.0.0.1"
        yield "dir %s" % self.folder
        yield "save \"\""
        yield "appendonly no"
        yield "enable-debug-command local"
        yield "repl-diskless-sync-delay 0"
        if self.tls:
            cert, key, ca = self.tls
            yield "port 0"
            yield "tls-port %d" % self.port
            yield "tls-cert-file %s" % cert
            yield "tls-key-file %s" % key
            yield "tls-ca-cert-file %s" % ca
            yield "tls-auth-clients no"
        else:
            yield "port %d" % self.port
        if self.password:
            yield "requirepass %s" % self.password
        if self.replica_of:
            yield "replicaof 127.0.0.1 %d" % self.replica_of.port
        yield from self.settings

    def command(self):
        config = os.path.join(self.folder, "redis.conf")
        if not os.path.exists(config):  # a sentinel writes into it
            with open(config, "w") as f:
                f.write("\n".join(self.lines()) + "\n")
        return [program("redis-server"), config]

    def ready(self):
        try:
            return self.cli("PING", timeout=10) == "PONG"
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False

    def cli(self, *words, timeout=30):
        args = [program("redis-cli"), "-h", "127.0.0.1", "-p", str(self.port), "-e"]
        if self.password:
            args += ["--no-auth-warning", "-a", self.password]
        if self.tls:
            args += ["--tls", "--cacert", self.tls[2]]
        return subprocess.run([*args, *words], check=True, capture_output=True, text=True,
                              timeout=timeout).stdout.rstrip("\n")

    def lines_of(self, *words):
        return [line for line in self.cli(*words).split("\n") if line]

    def hash(self, key):
        words = self.lines_of("HGETALL", key)
        return dict(zip(words[::2], words[1::2]))

    def refused(self):
        """What chatd was not allowed to do."""
        lines = self.lines_of("ACL", "LOG")
        return sorted({lines[i + 1] for i in range(len(lines) - 1) if lines[i] == "object"})

    def role(self):
        return self.lines_of("ROLE")[0]


class Sentinel(Process):
    """Watches one master, alone: quorum 1, and a second is enough to call it dead."""

    def __init__(self, master, name="mymaster"):
        super().__init__()
        self.master, self.name = master, name

    def command(self):
        config = os.path.join(self.folder, "sentinel.conf")
        if not os.path.exists(config):
            with open(config, "w") as f:
                f.write("bind 127.0.0.1\nport %d\ndir %s\n" % (self.port, self.folder) +
                        "sentinel monitor {0} 127.0.0.1 {1} 1\n"
                        "sentinel down-after-milliseconds {0} 1000\n"
                        "sentinel failover-timeout {0} 4000\n".format(self.name, self.master.port))
        return [program("redis-sentinel", "/usr/bin"), config]

    def cli(self, *words):
        return subprocess.run([program("redis-cli"), "-h", "127.0.0.1", "-p", str(self.port), "-e", *words],
                              check=True, capture_output=True, text=True, timeout=10).stdout.rstrip("\n")

    def replicas(self):
        return self.cli("SENTINEL", "replicas", self.name).count("runid")

    def master_port(self):
        return int(self.cli("SENTINEL", "get-master-addr-by-name", self.name).split("\n")[1])

    def failover(self, seconds=20):
        old = self.master_port()
        wait_until(lambda: self.replicas() > 0, seconds, "the sentinel knows a replica")
        self.cli("SENTINEL", "FAILOVER", self.name)
        wait_until(lambda: self.master_port() != old, seconds, "another master")
