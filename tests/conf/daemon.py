#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon as an operator and a service manager see it: exit codes, signals, draining, logs.
Speaks TAP; CHATD_BUILD names the build directory."""
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
import time

import proc
from proc import Server, chatd

CHAT = os.path.join(proc.CONFIGS, "chat.yaml")
CASES = []


def case(name):
    def keep(fn):
        CASES.append((name, fn))
        return fn
    return keep


def ended(code, said, *settings, config="broker.yaml"):
    """The server refuses to start with this exit code, and its log holds `said`."""
    s = Server(config, *settings)
    try:
        assert s.ready is None, "it started: %s" % s.ready
        assert s.proc.wait(60) == code, (s.proc.returncode, s.log())
        assert said in s.log(), s.log()
        return s.log()
    finally:
        s.__exit__()


def hang_up(server, said):
    """SIGHUP, and what the log says of it."""
    before = server.log().count(said)
    server.proc.send_signal(signal.SIGHUP)
    proc.until(lambda: server.log().count(said) > before, server.log)


@case("--version and --help answer with 0, what is no option with 64 and the usage")
def _():
    code, out, _err = chatd("--version")
    assert code == 0 and out.startswith("chatd "), out
    code, out, _err = chatd("--help")
    assert code == 0 and "--ready-file" in out, out
    for wrong in (["--chekc"], ["extra"], ["--format", "html"], ["--describe", "no-such-plugin"]):
        code, out, err = chatd(*wrong)
        assert code == 64 and not out and err, (wrong, code, err)


@case("a configuration that is not there: 78, and the path")
def _():
    code, out, err = chatd("-c", "/no/such.yaml")
    assert (code, out) == (78, "") and err == "/no/such.yaml: error: cannot be read: No such file or directory\n", err


@case("--set that fits nothing: 78, each named by itself")
def _():
    code, _out, err = chatd("-c", CHAT, "--check", "--set", "http.lisen=a", "--set", "server.workers=65",
                            "--set", "nobody.x=1", "--set", "plain")
    assert code == 78, code
    for text in ('--set http.lisen: error: http: unknown option "lisen"; did you mean "listen"?',
                 '--set server.workers: error: server: workers: "65" is not a number of workers; write 1 to 64',
                 '--set nobody.x: error: no plugin instance "nobody" is configured',
                 '--set plain: error: there is no "="'):
        assert text in err, err


@case("every plugin describes itself; the schema knows every option")
def _():
    code, out, _err = chatd("--list-plugins")
    names = [line.split()[0] for line in out.splitlines()]
    assert code == 0 and "stomp" in names and "web" in names, out
    code, out, _err = chatd("--schema")
    plugins = json.loads(out)["properties"]["plugins"]["properties"]
    for name in names:
        code, out, err = chatd("--describe", name)
        assert code == 0 and out.startswith(name) and not err, (out, err)
        assert name in plugins, name


@case("--list-hooks opens no port and shows rules before handlers")
def _():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, out, err = chatd("-c", CHAT, "--set", "http.listen=127.0.0.1:%d" % taken.getsockname()[1], "--list-hooks")
    assert code == 0 and not err, err
    assert "message_in" in out and "rules" in out and "/app/chat.send" in out, out


@case("a port that another program has: 69, the address and what to do")
def _():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        log = ended(69, 'cannot bind "%s": ' % address, "http.listen=" + address)
    assert "another program listens there; choose another port or stop it" in log, log


@case("started twice on one port: the second one says so, the first one lives")
def _():
    with Server("chat.yaml") as first:
        ended(69, "another program listens there", "http.listen=%s:%d" % first.address())
        assert first.get("/healthz") == 200


@case("two plugins on one port: 69, nothing half-started")
def _():
    with socket.create_server(("127.0.0.1", 0)) as s:
        address = "127.0.0.1:%d" % s.getsockname()[1]
    ended(69, 'cannot bind "%s": another program' % address, "http.listen=" + address, "tcp.listen=" + address)


@case("a certificate that is not there: 69, and its path; nothing half-started")
def _():
    ended(69, '/no/cert.pem": No such file or directory', "http.tls_cert=/no/cert.pem", "http.tls_key=/no/key.pem")


@case("a data folder that cannot be: 73, and why")
def _():
    ended(73, "the folder above it is missing", "server.data_dir=/no/such/data")
    ended(73, "is not a folder", "server.data_dir=/etc/passwd")


@case("a ready file that cannot be written: 73")
def _():
    with tempfile.TemporaryDirectory() as data:
        code, _out, err = chatd("-c", CHAT, "--set", "http.listen=127.0.0.1:0", "--set", "server.data_dir=" + data,
                                "--ready-file", "/no/such/ready")
    assert code == 73 and 'cannot write the ready file "/no/such/ready": No such file or directory' in err, (code, err)


@case("the ready file tells pid, server and addresses; the data folder is the server's alone")
def _():
    with Server("broker.yaml", "server.server_id=node-7") as s:
        assert s.ready["pid"] == s.proc.pid and s.ready["server_id"] == "node-7", s.ready
        assert s.ready["http"][0].startswith("127.0.0.1:") and s.ready["tcp"][0].startswith("127.0.0.1:"), s.ready
        assert stat.S_IMODE(os.stat(s.data).st_mode) == 0o700


@case("SIGTERM and SIGINT end with 0; SIGHUP is no end")
def _():
    for sig in (signal.SIGTERM, signal.SIGINT):
        with Server("chat.yaml") as s:
            hang_up(s, "SIGHUP: files with certificates, secrets and lists were read again, 0 plugins go on with what they hold")
            assert s.get("/healthz") == 200
            code, took = s.end(sig)
            assert code == 0 and took < 20, (code, took, s.log())


def make_pair(folder, name):
    cert, key = (os.path.join(folder, name + end) for end in (".crt", ".key"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                    "-out", cert, "-days", "2", "-subj", "/CN=" + name], check=True, capture_output=True)
    return cert, key


def connect_tls(server, plugin):
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls.wrap_socket(socket.create_connection(server.address(plugin), 60))


def whose(conn):
    """The name in the certificate that it was shown; Python tells no more of one that it did not verify."""
    done = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject"], input=conn.getpeercert(True),
                          capture_output=True, check=True)
    return done.stdout.decode().strip().replace(" ", "").rsplit("=", 1)[1]


@case("F09: a certificate that is replaced is in use after SIGHUP, by whoever comes then; a wrong one is refused")
def _():
    with tempfile.TemporaryDirectory() as d:
        (cert, key), (other_cert, other_key) = make_pair(d, "one"), make_pair(d, "two")
        settings = ["%s.%s=%s" % (p, o, f) for p in ("http", "tcp") for o, f in (("tls_cert", cert), ("tls_key", key))]
        with Server("broker.yaml", *settings) as s:
            old = [connect_tls(s, p) for p in ("http", "tcp")]
            os.replace(other_key, key)
            hang_up(s, 'SIGHUP: reload rejected: key "%s" does not belong to the certificate in "%s"' % (key, cert))
            assert [whose(connect_tls(s, p)) for p in ("http", "tcp")] == ["one", "one"]
            os.replace(other_cert, cert)
            hang_up(s, "SIGHUP: files with certificates, secrets and lists were read again")
            assert [whose(connect_tls(s, p)) for p in ("http", "tcp")] == ["two", "two"]
            old[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert old[0].recv(4096).startswith(b"HTTP/1.1 200 ") and [whose(o) for o in old] == ["one", "one"]
            old[1].sendall(b"CONNECT\naccept-version:1.2\nhost:x\nlogin:guest\npasscode:guest\n\n\0")
            assert old[1].recv(4096).startswith(b"CONNECTED"), s.log()
            assert s.end()[0] == 0


@case("SIGTERM with 200 WebSocket clients: each gets 1012, exit code 0 within drain_timeout")
def _():
    with Server("broker.yaml", "server.workers=4", "server.drain_timeout=5s") as s:
        clients = []
        for _ in range(200):
            c, answer = proc.websocket(s)
            assert "CONNECTED" in answer, answer
            clients.append(c)
        s.proc.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        codes = []
        for c in clients:
            codes.append(proc.close_code(c))
            c.close()
        code = s.proc.wait(30)
        took = time.monotonic() - begin
        assert codes == [1012] * 200, sorted(set(map(str, codes)))
        assert code == 0 and took < 20, (code, took, s.log())


@case("a second SIGTERM stops at once, whoever is still there")
def _():
    with Server("broker.yaml", "server.drain_timeout=1m", "server.drain_spread=30s") as s:
        clients = [proc.websocket(s)[0] for _ in range(20)]
        plain = [socket.create_connection(s.address("tcp"), 5) for _ in range(20)]
        s.proc.send_signal(signal.SIGTERM)
        s.says("draining: no new clients")  # before that two are one
        code, took = s.end()
        assert code == 0 and took < 20, (code, took, s.log())
        for c in clients + plain:
            c.close()


@case("log_format json: each line is one object with time, level and text")
def _():
    with Server("chat.yaml", "server.log_format=json", "server.log_level=debug") as s:
        proc.websocket(s)[0].close()
        s.get("/nothing-here")
        assert s.end()[0] == 0
        lines = [json.loads(line) for line in s.log().splitlines()]
        assert len(lines) >= 4, lines
        for line in lines:
            assert {"time", "level"} <= set(line), line


for workers in ("1", "4", "64"):
    @case("%s workers serve" % workers)
    def _(workers=workers):
        with Server("broker.yaml", "server.workers=" + workers) as s:
            assert s.get("/readyz") == 200
            assert "CONNECTED" in proc.tcp_connect(s)
            c, answer = proc.websocket(s)
            assert "CONNECTED" in answer
            c.close()
            assert s.end()[0] == 0, s.log()


proc.main(CASES)
