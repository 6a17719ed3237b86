#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the SockJS protocol demands of a server, and what hostile clients get.

usage: protocol.py [BUILD] [WORKERS ...]        (defaults: $CHATD_BUILD; 1 4)

ONLY=TEXT in the environment runs the cases that have TEXT in their names.  TAP on stdout.
"""
import os
import re
import subprocess
import sys
import traceback

import cases_hostile  # noqa: F401, the cases of a module register themselves
import cases_protocol  # noqa: F401
import cases_stomp  # noqa: F401
import kit
from wire import Server, engine

def run(name, function, *args):
    try:
        function(*args)
        failure = ""
    except Exception:  # whatever it is, the next case shall run
        failure = traceback.format_exc().strip()
    good, more = engine.judge("sockjs", name, failure)
    lines = [] if good else failure.split("\n")[1:]
    return good, name + more + "".join("\n# " + line for line in lines)


def main(build, workers_list):
    only = os.environ.get("ONLY", "")
    cases = [f for f in kit.CASES if only in f.__name__]
    own_cases = [(own, f) for own, f in kit.OWN if only in f.__name__]
    print(f"1..{len(workers_list) * (len(cases) + len(own_cases) + 1)}", flush=True)
    number = failed = 0

    def report(ok, text):
        nonlocal number, failed
        number += 1
        failed += not ok
        print(("ok" if ok else "not ok"), number, "-", text, flush=True)

    settings = {"sockjs.max_body": "64 KiB", "sockjs.max_queue": "512 KiB",
                "sockjs.disconnect_delay": "30s"}  # none is forgotten while a busy machine takes its time
    for workers in workers_list:
        server = Server(build, kit.CONFIG, {"server.workers": workers, **settings})
        kit.address = server.address
        for function in cases:
            report(*run(f"{function.__name__} ({workers} workers)", function))
        code, log = server.stop()
        report(code == 0, f"the server ends well ({workers} workers)" + (
            "" if code == 0 else f"\n# exit code {code}\n# " + log[-8000:].replace("\n", "\n# ")))
        for own, function in own_cases:
            report(*run(f"{function.__name__} ({workers} workers)", kit.with_server, build, workers,
                        {**settings, **own}, function))
    return 1 if failed else 0


def side_by_side(build, workers_list):
    """A process for each number of workers: most of the time is spent waiting for time limits."""
    children = [subprocess.Popen([sys.executable, __file__, build, str(w)], stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, errors="replace") for w in workers_list]
    number = 0
    for child in children:
        for line in child.communicate()[0].splitlines():
            found = re.match(r"((?:not )?ok) \d+ ", line)
            number += bool(found)
            if not line.startswith("1.."):
                print(re.sub(r"^((?:not )?ok) \d+ ", rf"\1 {number} ", line) if found else line)
    print(f"1..{number}")
    return 1 if any(child.returncode for child in children) else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    folder = arguments.pop(0) if arguments else os.environ["CHATD_BUILD"]
    wanted = [int(w) for w in arguments] or [1, 4]
    sys.exit(main(folder, wanted) if len(wanted) == 1 else side_by_side(folder, wanted))
