#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""chatd-plugin check over the plugins that come with the server: none has an error.  What cannot be started alone (it needs
certificates, a broker, a database) is "not played", which is no fault.  Speaks TAP; CHATD_BUILD names the build directory.

usage: bundled.py [PLUGIN ...]
"""
import glob
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CHATD_BUILD", os.path.join(ROOT, "build"))
NOT_PLAYED = 77
# It takes the socket of a connection away, and the kit's connections have none.
LEFT_OUT = {"http-lws": "its connections are libwebsockets' own"}


def main():
    found = sorted(glob.glob(os.path.join(BUILD, "plugins", "*.so")))
    chosen = [so for so in found if len(sys.argv) < 2 or os.path.basename(so)[:-3] in sys.argv[1:]]
    bad = 0
    print("1..%d" % len(chosen))
    for i, so in enumerate(chosen, 1):
        name = os.path.basename(so)[:-3]
        if name in LEFT_OUT:
            print("ok %d - %s # SKIP %s" % (i, name, LEFT_OUT[name]), flush=True)
            continue
        done = subprocess.run([os.path.join(BUILD, "bin", "chatd-plugin"), "check", so], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", timeout=300)
        good = done.returncode in (0, NOT_PLAYED)
        bad += not good
        print("%sok %d - %s%s" % ("" if good else "not ", i, name, " # SKIP it cannot be started alone"
                                  if done.returncode == NOT_PLAYED else ""), flush=True)
        for line in done.stdout.splitlines() if not good else []:
            if ": note: " not in line:
                print("# " + line[:300])
    return bad != 0


sys.exit(main())
