#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The fault cases of one group, against real servers.  Prints TAP.

Usage: run.py GROUP [WORKERS [WORD]]; GROUP is kills, disks, power, clients, ends or cluster; WORD: only cases whose name has
it, =NAME: that one alone.  CHATD_FULL=1 in the environment: the long forms.  The server is $CHATD_BUILD/bin/chatd.

Cases with servers of their own mostly wait: where a group says so (SIDE_BY_SIDE), that many run at a time, each in a
process of its own.
"""
import concurrent.futures
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from harness import Node


class Case:
    """What a test starts is ended after it, whatever happens."""

    def __init__(self, workers):
        self.workers, self.full = workers, os.environ.get("CHATD_FULL") == "1"
        self.sanitized = any(k in os.environ for k in ("ASAN_OPTIONS", "TSAN_OPTIONS"))
        self.nodes, self.folders, self.others, self.skipped = [], [], [], None

    def quick_machine(self):
        """Not slowed down by a sanitizer."""
        return not self.sanitized

    def node(self, *settings, db=None, workers=None, **how):
        node = Node(workers or self.workers, *settings, db=db, **how)
        self.nodes.append(node)
        return node

    def folder(self):
        self.folders.append(tempfile.mkdtemp(prefix="chatd-fault-"))
        return self.folders[-1]

    def helper(self, helper):
        self.others.append(helper)
        return helper

    def skip(self, why):
        self.skipped = why

    def end(self, node):
        """Stops it; it must end well."""
        self.nodes.remove(node)
        code, log = node.stop()
        assert code == 0 and "Sanitizer" not in log, "exit code %s\n%s" % (code, log[-3000:])

    def close(self):
        for helper in self.others:
            helper.close()
        for node in self.nodes[:]:
            self.end(node)
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


def run_one(fn, workers):
    """None: it is good; else what went wrong."""
    case, wrong = Case(workers), None
    for step in (lambda: fn(case), case.close):
        try:
            step()
        except KeyboardInterrupt:
            raise
        except BaseException:
            wrong = (wrong or "") + traceback.format_exc()
    for node in case.nodes:
        wrong = (wrong or "") + node.stop()[1][-3000:]
    return wrong, case.skipped


def main():
    group, workers = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "4"
    word = sys.argv[3] if len(sys.argv) > 3 else ""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended
    module = importlib.import_module(group)
    tests = [fn for fn in module.TESTS if (word == "=" + fn.__name__ if word.startswith("=") else word in fn.__name__)]
    abreast = getattr(module, "SIDE_BY_SIDE", 1)
    if abreast > 1 and len(tests) > 1:
        return run_abreast(tests, [group, workers], abreast)
    begin = getattr(module, "begin", lambda workers, tests: None)  # what all cases share
    try:
        why = begin(workers, tests)
        if why:
            print("1..0 # skip " + why)
            return 0
        return run_all(tests, workers)
    finally:
        getattr(module, "end", lambda: None)()


def run_abreast(tests, args, abreast):
    def run(fn):
        return subprocess.run([sys.executable, __file__, *args, "=" + fn.__name__], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    print("1..%d" % len(tests))
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(abreast) as pool:
        for i, (fn, done) in enumerate(zip(tests, pool.map(run, tests)), 1):
            lines = [x for x in done.stdout.splitlines() if x != "1..1"]
            results = [x for x in lines if x.startswith(("ok 1 ", "not ok 1 "))]
            good = len(results) == 1 and results[0].startswith("ok ") and done.returncode == 0
            failed += not good
            print(results[0].replace("ok 1 ", "ok %d " % i) if results else "not ok %d - %s" % (i, fn.__name__))
            print("\n".join(x if x.startswith("#") else "# " + x for x in lines if x not in results), flush=True)
    return 1 if failed else 0


def run_all(tests, workers):
    print("1..%d" % len(tests))
    failed = 0
    for i, fn in enumerate(tests, 1):
        begin = time.monotonic()
        wrong, skipped = run_one(fn, workers)
        failed += wrong is not None
        print("%sok %d - %s%s" % ("not " if wrong else "", i, fn.__name__.replace("_", " "),
                                  " # SKIP " + skipped if skipped else ""))
        print("# %.1f s" % (time.monotonic() - begin))
        if wrong:
            print("# " + wrong.replace("\n", "\n# "))
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
