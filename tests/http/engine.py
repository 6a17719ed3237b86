# SPDX-License-Identifier: Apache-2.0
"""Which HTTP engine the suites run against: CHATD_HTTP_ENGINE=http-lws takes another than `http`, and where that one is
known to deviate, deviations.txt says so.  Such a case is run all the same: if it fails it is skipped with
the reason, and if it passes the mark is wrong."""
import fnmatch
import os

ENGINE = os.environ.get("CHATD_HTTP_ENGINE", "http")


def settings():
    """For --set."""
    return [] if ENGINE == "http" else ["http.plugin=" + ENGINE]


def _marks():
    out = []
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "deviations.txt")
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                engine, suite, pattern, reason = [part.strip() for part in line.split("|", 3)]
                out.append((engine, suite, pattern, reason))
    return out


def mark(suite, name):
    """(why this case is known to deviate with the engine, may it pass all the same?); "" if it must pass."""
    for engine, of, pattern, reason in _marks():
        if engine == ENGINE and of == suite and fnmatch.fnmatchcase(name, pattern.lstrip("~")):
            return reason, pattern.startswith("~")
    return "", True


def judge(suite, name, failure):
    """(passed, what to add to the TAP line): `failure` is what went wrong with the case, "" if nothing did."""
    reason, may_pass = mark(suite, name)
    if reason and failure:
        return True, " # SKIP deviates: " + reason
    if not may_pass:
        return False, " (deviations.txt says that it deviates here, and it does not)"
    return not failure, ""
