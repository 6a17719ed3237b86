# SPDX-License-Identifier: Apache-2.0
"""chat.yaml with the rules and limits that the READMEs show, and what both suites need to try them."""
import concurrent.futures
import http.client
import json
import os
import re
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests", "chat"), os.path.join(ROOT, "tests", "ws")]

import client  # noqa: E402
import wsclient  # noqa: E402,F401
from client import Answer, Device, Person, Server, put, rest  # noqa: E402,F401

ADMIN = '      - { login: root, passcode: root, name: Root, token: "token-of-root-long-enough", admin: true }\n'


def readme(plugin):
    """The plugin's section as its README shows it."""
    with open(os.path.join(ROOT, "plugins", plugin, "README.md")) as f:
        block = re.search(r"```yaml\nplugins:\n(.*?)```", f.read(), re.S).group(1)
    assert block.startswith("  %s:\n" % plugin), plugin
    return block


def config(*plugins):
    """An edit= for Server: these plugins as their READMEs show them."""
    def edit(text):
        text += ADMIN
        for plugin in plugins:
            text = put(text, readme(plugin))
        return text
    return edit


def call(server, method, path, token=None, body=None, source=None, headers=()):
    """A request whose path goes out as it stands, from the loopback address `source`."""
    conn = http.client.HTTPConnection(*server.address("http"), timeout=client.WAIT,
                                      source_address=(source, 0) if source else None)
    conn.putrequest(method, path, skip_accept_encoding=True)
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        conn.putheader("Content-Type", "application/json")
        conn.putheader("Content-Length", str(len(data)))
    elif method not in ("GET", "HEAD"):
        conn.putheader("Content-Length", "0")
    if token:
        conn.putheader("Authorization", "Bearer " + token)
    for k, v in dict(headers).items():
        conn.putheader(k, v)
    conn.endheaders(data)
    r = conn.getresponse()
    answer = Answer(r.status, {k.lower(): v for k, v in r.getheaders()}, r.read())
    conn.close()
    return answer


def same(a, b, what=""):
    assert a == b, "%s: %r is not %r" % (what, a, b)


def run(tests, *args, abreast=1):
    """TAP; the exit code.  abreast: so many at a time, of tests with servers of their own."""
    def one(test):
        try:
            test(*args)
        except Exception:
            return traceback.format_exc()
        return None
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(abreast) as pool:
        for i, (test, wrong) in enumerate(zip(tests, pool.map(one, tests)), 1):
            print("%sok %d - %s" % ("not " if wrong else "", i, test.__name__.replace("_", " ")))
            if wrong:
                failed += 1
                print("".join("# " + l for l in wrong.splitlines(True)))
            sys.stdout.flush()
    print("1..%d" % len(tests))
    return 1 if failed else 0
