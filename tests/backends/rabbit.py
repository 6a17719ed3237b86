# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ node of a test's own, light and without plugins, with an epmd of its own."""
import os
import re
import signal
import subprocess

from .base import Process, accepts, free_port, program

class Rabbit(Process):
    """user guest, password guest, vhost /.  tls: (ca, cert, key) files for a second port, .tls_port.

    ctl() is rabbitmqctl, which takes seconds to start; erlang() evaluates Erlang in the node at once."""
    user = "rabbitmq"
    seconds = 120
    schedulers = 1   # of Erlang: how many cores it may use at once

    def __init__(self, tls=None):
        self.server = program("rabbitmq-server", "/usr/lib/rabbitmq/bin")
        self.ctl_program = program("rabbitmqctl", "/usr/lib/rabbitmq/bin")
        self.epmd_program = program("epmd", "/usr/lib/erlang/bin")
        self.call_program = program("erl_call", "/usr/lib/erlang/bin")
        super().__init__()
        self.epmd, self.tls = None, tls
        self.epmd_port, self.dist_port = free_port(), free_port()
        self.tls_port = free_port() if tls else None
        self.name = "t%d" % self.port
        self.cookie = "c%d" % self.epmd_port
        self.configure()

    def configure(self):
        lines = ["listeners.tcp.1 = 127.0.0.1:%d" % self.port, "loopback_users = none", "log.file = false",
                 "log.console = true", "log.console.level = warning", "num_acceptors.tcp = 2",
                 # Whatever this machine lacks is not what is tested.
                 "disk_free_limit.absolute = 1MB", "vm_memory_high_watermark.absolute = 1GB"]
        if self.tls:
            ca, cert, key = self.tls
            lines += ["listeners.ssl.1 = 127.0.0.1:%d" % self.tls_port, "ssl_options.cacertfile = " + ca,
                      "ssl_options.certfile = " + cert, "ssl_options.keyfile = " + key,
                      "ssl_options.verify = verify_peer", "ssl_options.fail_if_no_peer_cert = false"]
        self.put("rabbitmq.conf", "\n".join(lines) + "\n")
        self.put("env.conf", "")
        self.put("plugins", "[].\n")
        self.put(".erlang.cookie", self.cookie, 0o400)

    def put(self, name, text, mode=0o644):
        path = os.path.join(self.folder, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def environment(self):
        f = self.folder
        return {
            "RABBITMQ_NODENAME": self.name + "@localhost", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port), "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_CONF_ENV_FILE": f + "/env.conf", "RABBITMQ_CONFIG_FILE": f + "/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f + "/advanced.config", "RABBITMQ_MNESIA_BASE": f + "/mnesia",
            "RABBITMQ_LOG_BASE": f + "/logs", "RABBITMQ_LOGS": "-", "RABBITMQ_ENABLED_PLUGINS_FILE": f + "/plugins",
            "RABBITMQ_PID_FILE": f + "/pid", "RABBITMQ_GENERATED_CONFIG_DIR": f + "/generated",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S {0}:{0} +sbwt none +sbwtdcpu none +sbwtdio none +A 4 "
                                                   "-kernel inet_dist_use_interface {{127,0,0,1}}".format(self.schedulers),
            "ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_CRASH_DUMP_SECONDS": "0",
            "LANG": "C.UTF-8",
        }

    def command(self):
        return [self.server]

    def ready(self):
        return accepts(self.port) and self.erlang("rabbit:is_running().", check=False).strip() == "true"

    def start(self):
        self.start_epmd()
        return super().start()

    def start_epmd(self):
        if self.epmd and self.epmd.poll() is None:
            return
        more = {}
        if self.account:
            more = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
        # In the foreground, so that it ends with the test; else the first Erlang makes a daemon.
        self.epmd = subprocess.Popen([self.epmd_program, "-port", str(self.epmd_port), "-address", "127.0.0.1"],
                                     cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL, start_new_session=True, **more)

    def ctl(self, *args):
        return self.run(self.ctl_program, "-q", "-n", self.name + "@localhost", *args, timeout=120)

    def erlang(self, code, check=True):
        """What `code`, which ends in a full stop, evaluates to."""
        env = {**os.environ, "HOME": self.folder, **self.environment()}
        out = subprocess.run([self.call_program, "-c", self.cookie, "-address", "localhost:%d" % self.dist_port,
                              "-timeout", "60", "-e"], input=code + "\n", capture_output=True, text=True, env=env, check=False)
        if check and not out.stdout.startswith("{ok, "):
            raise RuntimeError("%s: %s%s" % (code, out.stdout, out.stderr))
        return out.stdout[5:-1]

    def stop_app(self):
        self.erlang("rabbit:stop().")

    def start_app(self):
        self.erlang("rabbit:start().")

    def connections(self):
        """The names that clients gave their connections."""
        text = self.erlang("[begin [{_, P}] = rabbit_networking:connection_info(C, [client_properties]), "
                           "case lists:keyfind(<<\"connection_name\">>, 1, P) of {_, _, N} -> binary_to_list(N); _ -> [] end end "
                           "|| C <- rabbit_networking:connections()].")
        return re.findall(r'"([^"]*)"', text)

    def close_connections(self, name="chatd ", why="a test ends it"):
        """Those whose names contain this."""
        self.erlang("[rabbit_networking:close_connection(C, \"%s\") || C <- rabbit_networking:connections(), begin "
                    "[{_, P}] = rabbit_networking:connection_info(C, [client_properties]), case lists:keyfind("
                    "<<\"connection_name\">>, 1, P) of {_, _, N} -> binary:match(N, <<\"%s\">>) /= nomatch; _ -> false end "
                    "end]." % (why, name))

    def bindings(self, queue):
        """The keys that a queue is bound with to chat.exchange."""
        text = self.erlang("[binary_to_list(element(3, B)) || B <- rabbit_binding:list_for_source_and_destination({resource, <<\"/\">>, "
                           "exchange, <<\"chat.exchange\">>}, {resource, <<\"/\">>, queue, <<\"%s\">>})]." % queue)
        return sorted(re.findall(r'"([^"]*)"', text))

    def publish(self, key, body, headers=None):
        """As any program may."""
        def value(v):
            if isinstance(v, bool):
                return "bool, %s" % str(v).lower()
            if isinstance(v, int):
                return "%s, %d" % ("signedint" if -2**31 <= v < 2**31 else "long", v)
            data = v if isinstance(v, bytes) else v.encode()
            return "longstr, <<%s>>" % ",".join(map(str, data))
        table = ", ".join("{<<\"%s\">>, %s}" % (k, value(v)) for k, v in (headers or {}).items())
        content = "binary:copy(<<%d>>, %d)" % (body[0], len(body)) if len(body) > 1000 else \
            "<<%s>>" % ",".join(map(str, body))
        self.erlang("rabbit_basic:publish({resource, <<\"/\">>, exchange, <<\"chat.exchange\">>}, <<\"%s\">>, {'P_basic', "
                    "undefined, undefined, [%s], 2, undefined, undefined, undefined, undefined, undefined, undefined, undefined, "
                    "undefined, undefined, undefined}, %s)." % (key, table, content))

    def queue(self, name):
        """{messages_ready, messages_unacknowledged, consumers}; None: there is no such queue."""
        text = self.erlang("case rabbit_amqqueue:lookup({resource, <<\"/\">>, queue, <<\"%s\">>}) of {ok, Q} -> "
                           "rabbit_amqqueue:info(Q, [messages_ready, messages_unacknowledged, consumers]); _ -> none end."
                           % name)
        return {k: int(v) for k, v in re.findall(r"\{(\w+),\s*(\d+)\}", text)} or None

    def alarm(self, on):
        """Short of memory: publishers are blocked."""
        self.erlang("vm_memory_monitor:set_vm_memory_high_watermark({absolute, \"%s\"})." % ("1kB" if on else "1GB"))

    def _end(self, number):
        super()._end(number)
        if self.epmd and self.epmd.poll() is None:
            self.epmd.send_signal(signal.SIGKILL)
            self.epmd.wait()
