# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL of a test's own."""
import os
import subprocess

from . import base

BIN = "/usr/lib/postgresql/15/bin"


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Postgres(base.Process):
    """`.url` is its address over TCP, `.socket_url` that over its socket.  `settings`: more lines of postgresql.conf."""
    user = "postgres"

    def __init__(self, **settings):
        super().__init__()
        self.data = os.path.join(self.folder, "data")
        self.url = "postgresql://chatd@127.0.0.1:%d/chatd" % self.port
        self.socket_url = "host=%s port=%d user=chatd dbname=chatd" % (self.folder, self.port)
        self.settings = settings
        self.made = False

    def program(self, name):
        return base.program(name, BIN)

    def command(self):
        if not self.made:
            self.make()
        return [self.program("postgres"), "-D", self.data]

    def make(self):
        self.run(self.program("initdb"), "-D", self.data, "-U", "chatd", "-A", "trust", "-E", "UTF8",
                 "--locale=C.UTF-8", "--no-instructions")
        lines = {"listen_addresses": "'127.0.0.1'", "port": self.port, "unix_socket_directories": "'%s'" % self.folder,
                 "max_connections": 200, "shared_buffers": "64MB", "dynamic_shared_memory_type": "posix",
                 "log_min_messages": "warning", **self.settings}
        with open(os.path.join(self.data, "postgresql.auto.conf"), "a") as f:
            f.writelines("%s = %s\n" % line for line in lines.items())
        self.made = True

    def ready(self):
        return subprocess.run([self.program("pg_isready"), "-q", "-h", self.folder, "-p", str(self.port)],
                              check=False).returncode == 0 and self.has_database()

    def has_database(self):
        try:
            if self.sql("SELECT count(*) FROM pg_database WHERE datname='chatd'", "postgres") == "0":
                self.sql("CREATE DATABASE chatd", "postgres")
        except subprocess.CalledProcessError:
            return False
        return True

    def sql(self, text, database="chatd"):
        """What psql prints, unaligned."""
        return self.run(self.program("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", str(self.port),
                        "-U", "chatd", database, "-c", text).strip()

    def terminate(self):
        """Ends every connection but its own; how many there were."""
        return int(self.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                            " WHERE pid <> pg_backend_pid() AND backend_type='client backend'"))

    def restart(self, mode="immediate"):
        """By the operator's tool; the process is another one after it."""
        self.run(self.program("pg_ctl"), "-D", self.data, "-m", mode, "-w", "stop")
        self.child.wait(30)
        self.start()

    def helpers(self):
        with open("/proc/%d/task/%d/children" % (self.child.pid, self.child.pid)) as f:
            return list(map(int, f.read().split()))

    def kill(self):
        """Its helpers find out by themselves, one after the other; before that no other server starts on their shared memory."""
        left = self.helpers() if self.child and self.child.poll() is None else []
        super().kill()
        base.wait_until(lambda: not any(map(alive, left)), 60, "the helpers of a killed server end")

    def signal(self, number):
        """To its helpers too, each of which has a process group of its own."""
        if number not in (base.signal.SIGSTOP, base.signal.SIGCONT):
            super().signal(number)
            return
        for pid in [self.child.pid, *self.helpers()]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def _end(self, number):
        """SIGTERM waits for those who are connected; SIGINT does not."""
        super()._end(base.signal.SIGINT if number == base.signal.SIGTERM else number)

    def promote(self):
        self.sql("SELECT pg_promote(true, 60)", "postgres")


class Standby(Postgres):
    """A streaming standby of a server that runs."""

    def __init__(self, primary, name="standby", **settings):
        super().__init__(**settings)
        self.primary, self.name = primary, name

    def make(self):
        self.run(self.program("pg_basebackup"), "-D", self.data, "-R", "-c", "fast", "-d",
                 "%s?application_name=%s" % (self.primary.url, self.name))
        lines = {"port": self.port, "unix_socket_directories": "'%s'" % self.folder, **self.settings}
        with open(os.path.join(self.data, "postgresql.auto.conf"), "a") as f:
            f.writelines("%s = %s\n" % line for line in lines.items())
        self.made = True

    def has_database(self):
        return True
