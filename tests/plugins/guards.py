#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plugins that crash, hang, hold a worker or answer nonsense: who is named, what happens to the server and to whoever
waits.  Speaks TAP; CHATD_BUILD names the build directory, CHATD_FULL=1 adds what takes long."""
import os
import re
import signal
import socket
import time

import fixture
import proc
from fixture import Folder

CASES = []
FULL = os.environ.get("CHATD_FULL") == "1"
SANITIZED = fixture.sanitized()
# A sanitizer has its own words for a bad address or a double free, and ends with its own exit code.
OURS = {"null", "overflow", "double-free", "divide"}


def case(name):
    def keep(fn):
        CASES.append((name, fn))
        return fn
    return keep


def died(server, sig):
    assert server.proc.wait(60) == -sig, (server.proc.returncode, server.log())


def crashes(how, sig, said, settings="", body=None):
    """One message makes the plugin crash; the report, and the note for the next start."""
    with Folder() as f:
        f.take("naughty")
        with f.server("  naughty: {%s}\n" % settings) as server:
            s = server.client()
            server.send(s, body or how)
            died(server, sig)
            log = server.log()
            assert re.search(r" ERROR core: crashed: " + said, log), log
            assert re.search(r" ERROR core: crashed at: .*\bnaughty\.so\+0x[0-9a-f]+", log), log
        with open(os.path.join(f.data, "crashes", "naughty"), encoding="utf-8") as note:
            assert re.fullmatch(r"\d{10,} [A-Za-z_()\" ]+\n", note.read())


IN_HOOK = r': plugin "naughty", in message_in, on worker \d\n'
for how, sig, said in (
        ("null", signal.SIGSEGV, "SIGSEGV at address 0x0" + IN_HOOK),
        ("abort", signal.SIGABRT, "SIGABRT" + IN_HOOK),
        ("overflow", signal.SIGSEGV, "SIGSEGV at address 0x[0-9a-f]+" + IN_HOOK),
        ("double-free", signal.SIGABRT, "SIGABRT" + IN_HOOK),
        ("divide", signal.SIGFPE, "SIGFPE" + IN_HOOK),
        ("exit", signal.SIGABRT, r"exit\(\) was called" + IN_HOOK),
        ("timer", signal.SIGSEGV, r'SIGSEGV at address 0x0: plugin "naughty", in a timer, on worker \d\n'),
        ("offload", signal.SIGSEGV, r'SIGSEGV at address 0x0: plugin "naughty", in offloaded work, on pool\n')):
    if not SANITIZED or how not in OURS | {"timer", "offload"}:
        case("%s: the plugin and its callback are named, and the signal is what it was" % how)(
            lambda how=how, sig=sig, said=said: crashes(how, sig, said))


@case("as JSON the report is JSON")
def _():
    import json
    with Folder() as f:
        f.take("naughty")
        with f.server("  naughty: {}\n", server="log_format: json") as server:
            server.send(server.client(), "abort")
            died(server, signal.SIGABRT)
            lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
            said = [x for x in lines if x["message"].startswith("crashed")]
            assert [x["level"] for x in said] == ["error", "error"], said
            assert 'SIGABRT: plugin "naughty", in message_in, on worker ' in said[0]["message"], said


def crash(f, plugins):
    with f.server(plugins) as server:
        server.send(server.client(), "abort")
        died(server, signal.SIGABRT)
        return server.log()


def note(f, *ages):
    """As if it had crashed so many seconds ago."""
    os.makedirs(os.path.join(f.data, "crashes"), exist_ok=True)
    with open(os.path.join(f.data, "crashes", "naughty"), "w", encoding="utf-8") as out:
        for age in ages:
            out.write("%d SIGSEGV message_in\n" % (time.time() - age))


OPTIONAL = "  naughty: {optional: true}\n"


@case("the third crash within a minute: an optional plugin is left out, the log says so and what to do")
def _():
    with Folder() as f:
        f.take("naughty")
        for _ in range(3):
            log = crash(f, OPTIONAL)
            assert "going on without it" not in log, log
        with f.server(OPTIONAL) as server:
            warning = server.lines("going on without it")
            assert len(warning) == 1 and re.search(
                r'plugin "naughty": it crashed the server 3 times within 60 s \(SIGABRT in message_in, 20\S+Z\); mend or '
                r"replace it, then: chatctl plugin enable naughty, or remove \S+/crashes/naughty and restart; going on "
                r"without it \(optional: true\)", warning[0]), server.log()
            assert server.get("/readyz") == 200
            assert server.asked(server.client(), "abort").startswith("RECEIPT"), "it is not there"
            assert server.end()[0] == 0
        # It stays out, until somebody says otherwise.
        with f.server(OPTIONAL) as server:
            assert server.lines("going on without it")
        os.unlink(os.path.join(f.data, "crashes", "naughty"))
        assert "going on without it" not in crash(f, OPTIONAL)


@case("crashes that are far apart, or of another file, leave nobody out")
def _():
    with Folder() as f:
        at = f.take("naughty")
        conf = f.conf(fixture.BASE + OPTIONAL)

        def left_out():
            code, _out, said = proc.chatd("-c", conf, "--check")
            assert code == 0, said
            return "it crashed the server 3 times within 60 s" in said
        for ages, out in (((100, 50, 0), False), ((0, 0), False), ((59, 30, 0), True), ((900, 61, 30, 0), False),
                          ((3, 2, 1, 90000), False)):
            note(f, *(age - 5 for age in ages))  # the file is older than any of them
            assert left_out() == out, (ages, out)
        note(f, *(age + 10 for age in (20, 10, 0)))
        os.utime(at)  # however long all that took
        assert not left_out(), "the file was put there after the last crash"


@case("one that is not optional, or that others need, is tried again; the log says why")
def _():
    with Folder() as f:
        f.take("naughty")
        note(f, -5, -5, -5)
        log = crash(f, "  naughty: {}\n")
        assert re.search(r'ERROR core: plugin "naughty" crashed the server 3 times within 60 s \(SIGSEGV in message_in, '
                         r"\S+\); the server is tried with it again, because it is not optional; mend or replace it, or "
                         r"set enabled: false", log), log


@case("init() that fails: 78 if the configuration is at fault, 69 if it may get better; what had started is stopped")
def _():
    for how, code in (("fail", 78), ("busy", 69)):
        with Folder() as f:
            f.take("naughty")
            server = f.server("  other: {plugin: naughty, init: %s}\n  naughty: {}\n" % how)
            assert server.proc.wait(60) == code, (server.proc.returncode, server.log())
            assert re.search(r'ERROR core: plugin "other" could not start: ', server.log()), server.log()
            assert "INFO  other: gone" in server.log(), "fini() after a failed init(), as it had set its self"
            assert not os.path.exists(os.path.join(f.dir, "ready"))
            server.__exit__()


def holds(server):
    """(threads, descriptors) of its process."""
    return tuple(len(os.listdir("/proc/%d/%s" % (server.proc.pid, what))) for what in ("task", "fd"))


@case("init() that fails in a server that runs leaves no thread and no descriptor")
def _():
    with Folder() as f:
        f.take("naughty")
        with f.server("  naughty: {enabled: false, init: busy}\n") as server:
            server.ctl("plugin", "list")
            server.unasked()
            before = holds(server)
            for _ in range(5):
                code, _out, said = server.ctl("plugin", "enable", "naughty")
                assert code == 1 and 'plugin "naughty" could not start: Device or resource busy' in said, said
            proc.until(lambda: holds(server) == before, lambda: (holds(server), before))
            assert server.log().count("INFO  naughty: gone") == 5 and server.end()[0] == 0


@case("init() that crashes, aborts or calls exit(): named")
def _():
    for how, sig, said in (("raise", signal.SIGABRT, "SIGABRT"), ("exit", signal.SIGABRT, "exit() was called"),
                           ("'null'", signal.SIGSEGV, "SIGSEGV at address 0x0")):
        if SANITIZED and how.strip("'") in OURS:
            continue
        with Folder() as f:
            f.take("naughty")
            server = f.server("  naughty: {init: %s}\n" % how)
            died(server, sig)
            assert 'ERROR core: crashed: %s: plugin "naughty", in init(), on main\n' % said in server.log(), server.log()
            server.__exit__()


if FULL:
    @case("init() that does not come back: after 10 s it is named, and the exit code is 70")
    def _():
        with Folder() as f:
            f.take("naughty")
            begin = time.monotonic()
            server = f.server("  naughty: {init: hang}\n")
            assert server.proc.wait(30) == 70, (server.proc.returncode, server.log())
            assert 9 < time.monotonic() - begin, "too early"
            assert re.search(r'ERROR core: plugin "naughty" has not come back from init\(\) within [1-9]\d{4} ms: the server '
                             r"cannot start with it \(main was at: .*naughty\.so\+0x[0-9a-f]+.*\); mend or replace it, or "
                             r"set enabled: false", server.log()), server.log()
            server.__exit__()


def stalls(server):
    import http.client
    host, port = server.address("metrics")
    c = http.client.HTTPConnection(host, port, timeout=60)
    c.request("GET", "/metrics")
    text = c.getresponse().read().decode()
    c.close()
    return int(re.search(r"^chatd_worker_stalls_total (\d+)", text, re.M).group(1))


def told_while_it_holds(f):
    """False: the machine itself had no time for the worker, or for who watches it."""
    with f.server("  naughty: {}\n", server="workers: 2") as server:
        s = server.client()
        server.asked(s, "spin 50")
        if "held worker" in server.log():
            return False
        assert server.asked(s, "spin 700").startswith("RECEIPT"), server.log()
        over = re.compile(r'WARN  core: plugin "naughty" held worker \d for ([6-9]\d\d|\d{4,}) ms in message_in\n')
        proc.until(lambda: over.search(server.log()), server.log)  # the RECEIPT leaves before
        assert stalls(server) >= 1
        return re.search(r'WARN  core: plugin "naughty" held worker \d for \d+ ms in message_in and has not returned; '
                         r"it is at: .*naughty\.so\+0x[0-9a-f]+", server.log())


@case("a hook that holds its worker is named while it does, with where it is, and again when it is over")
def _():
    with Folder() as f:
        f.take("naughty")
        fixture.one_of(5, lambda: told_while_it_holds(f))


@case("held for 2 s: aborted and named where that is wanted, and else not")
def _():
    for how in ("spin 60000", "read") if FULL else ("read",):
        with Folder() as f:
            f.take("naughty")
            with f.server("  naughty: {}\n", server="on_stall: abort") as server:
                server.send(server.client(), how)
                died(server, signal.SIGABRT)
                assert re.search(r'ERROR core: plugin "naughty": worker \d has been held for ([2-9]\d{3}|\d{5,}) ms in message_in: '
                                 r"the server is aborted, for its supervisor to start it again \(server\.on_stall\)",
                                 server.log()), server.log()
                assert re.search("crashed: SIGABRT" + IN_HOOK, server.log()), server.log()
            assert os.path.exists(os.path.join(f.data, "crashes", "naughty"))
    with Folder() as f:
        f.take("naughty")
        with f.server("  naughty: {}\n") as server:
            assert server.asked(server.client(), "spin 2600").startswith("RECEIPT"), server.log()


@case("auto is abort when a service manager listens")
def _():
    with Folder() as f:
        f.take("naughty")
        at = os.path.join(f.dir, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(at)
            os.environ["NOTIFY_SOCKET"] = at
            try:
                server = f.server("  naughty: {}\n")
            finally:
                del os.environ["NOTIFY_SOCKET"]
            with server:
                server.send(server.client(), "spin 60000")
                died(server, signal.SIGABRT)


def answers(server, body, errors):
    """(the RECEIPT came, the code of the soft error that came instead)."""
    s = server.client()
    s.sendall(b"SUBSCRIBE\nid:e\ndestination:/user/queue/errors\nreceipt:sub\n\n\0")
    proc.read_until(s, b"\0")
    answer = server.asked(s, body)
    if answer.lstrip("\n").startswith("RECEIPT"):
        assert not errors, answer
        return
    assert re.search(r'"code":"(%s)"' % errors, answer), answer


@case("what a hook answers wrongly is as on_error says: refused, or passed over; and the log says what it was")
def _():
    with Folder() as f:
        f.take("naughty")
        for policy, errors in (("reject", "INTERNAL"), ("continue", "")):
            with f.server("  naughty: {on_error: %s, timeout: 300ms}\n" % policy) as server:
                for body in ("error", "nonsense", "wait-without"):
                    answers(server, body, errors)
                answers(server, "refused", errors and "UNAVAILABLE")
                answers(server, "never", errors and "UNAVAILABLE")
                log = server.log()
                assert "ERROR naughty: message_in failed: Input/output error" in log, log
                assert "ERROR naughty: answered WAIT in message_in without suspend()" in log, log
                assert "WARN  naughty: no answer within 300 ms in message_in" in log, log


@case("a client that leaves while its message waits has sent it")
def _():
    with Folder() as f:
        f.take("naughty")
        with f.server("  naughty: {timeout: 20s}\n") as server:
            bob = server.client()
            bob.sendall(b"SUBSCRIBE\nid:1\ndestination:/topic/naughty\nreceipt:s\n\n\0")
            assert b"RECEIPT" in proc.read_until(bob, b"\0")
            for goodbye in (b"", b"DISCONNECT\n\n\0"):
                ann = server.client()
                server.send(ann, "later")
                ann.sendall(goodbye)
                ann.close()
                assert proc.read_until(bob, b"\0").endswith(b"\n\nlater\0")
            assert "no answer within" not in server.log()


@case("started again at once it serves within two seconds")
def _():
    with Folder() as f:
        f.take("naughty")
        crash(f, OPTIONAL)
        begin = time.monotonic()
        with f.server(OPTIONAL) as server:
            took = time.monotonic() - begin
            assert server.get("/readyz") == 200
        print("# ready %.2f s after a crash" % took)


if __name__ == "__main__":
    proc.main(CASES)
