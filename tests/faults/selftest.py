#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The checker must be able to fail: for each of its sets a log that makes that set, and no other, not
empty.  Prints TAP."""
import io
import sys

from checker import EMPTY, Checker, Row, Store, report
from events import body_of, digest

ROOM, PRIVATE, DIRECT = "room:r", "room:p", "direct:a:b"


def row(conv, seq, sender, n, pos=None, **other):
    values = dict(conv=conv, seq=seq, pos=pos or seq, id="id-%s-%d" % (conv, seq), sender=sender,
                  said=(sender, str(n)), hash=digest(body_of(sender, n)), type="CHAT")
    values.update(other)
    return Row(**values)


def event(conv, seq, sender, kind):
    return row(conv, seq, sender, 0, said=None, type=kind)


ROWS = [row(ROOM, 1, "a", 1), row(ROOM, 2, "a", 2), row(ROOM, 3, "b", 1, pos=4),
        row(DIRECT, 1, "a", 3, pos=3), row(DIRECT, 2, "a", 4, pos=5),
        event(PRIVATE, 1, "c", "JOIN"), row(PRIVATE, 2, "a", 5, pos=7), event(PRIVATE, 3, "c", "LEAVE"),
        row(PRIVATE, 4, "a", 6, pos=9)]
MEMBERS = [(PRIVATE, "a"), (ROOM, "a"), (ROOM, "b")]


def says(client, conn, r):
    """A SEND and its RECEIPT."""
    return [("invoke", client, conn, r.conv, r.said[1], r.hash), ("ack", client, conn, r.said[1], r.id, r.seq, "e")]


def hears(client, conn, chan, r, **other):
    pos = r.pos if chan == "inbox" else "-"
    sender, n = r.said or ("-", "-")
    fields = dict(conv=r.conv, seq=r.seq, pos=pos, id=r.id, sender=sender, n=n, hash=r.hash if r.said else "-")
    fields.update(other)
    return ("recv", client, conn, chan, *fields.values())


def good():
    log = [("open", "a", "a1"), ("open", "b", "b1"), ("open", "c", "c1")]
    log += [("sub", "a", "a1", ROOM, 0, "true", 0), ("sub", "b", "b1", ROOM, 0, "true", 0)]
    log += [("sub", "b", "b1", "inbox", "-", "-", "-"), ("sub", "c", "c1", PRIVATE, 0, "true", 1)]
    for r in ROWS:
        if r.said:
            log += says(r.sender, r.sender + "1", r)
    log += [hears(u, u + "1", ROOM, r) for r in ROWS[:3] for u in "ab"]
    log += [hears("b", "b1", "inbox", r) for r in ROWS[3:5]]
    log += [hears("c", "c1", PRIVATE, r) for r in ROWS[5:8]]
    # b went away and came back with the last it had.
    log += [("close", "b", "b1", "eof"), ("open", "b", "b2"), ("sub", "b", "b2", ROOM, 3, "true", 3)]
    log += [("final", "a", ROOM), ("final", "b", ROOM), ("final", "b", "inbox")]
    return log, list(ROWS)


def without(rows, i):
    return rows[:i] + rows[i + 1:]


def lost():
    log, rows = good()
    return log + [("invoke", "a", "a1", ROOM, 9, "h"), ("ack", "a", "a1", 9, "x", 4, "e")], rows


def lost_elsewhere():
    """Acknowledged with another place than it has."""
    log, rows = good()
    return [e if e[:2] != ("ack", "b") else ("ack", "b", "b1", "1", rows[2].id, 7, "e") for e in log], rows


def undelivered():
    log, rows = good()
    return [e for e in log if e[:2] != ("recv", "b") or e[5] != 2 or e[3] != ROOM], rows


def undelivered_direct():
    log, rows = good()
    return [e for e in log if e[:2] != ("recv", "b") or e[5] != 2 or e[3] != "inbox"], rows


def duplicated():
    log, rows = good()
    return log + [hears("b", "b2", ROOM, rows[1])], rows


def duplicated_in_the_store():
    log, rows = good()
    return log, rows + [row(PRIVATE, 5, "a", 6, pos=10)]


def reordered():
    log, rows = good()
    i, j = (log.index(hears("a", "a1", ROOM, r)) for r in rows[:2])
    log[i], log[j] = log[j], log[i]
    return log, rows


def reordered_cursors():
    log, rows = good()
    rows[3] = rows[3]._replace(pos=6)
    return [hears("b", "b1", "inbox", rows[3]) if e == hears("b", "b1", "inbox", ROWS[3]) else e for e in log], rows


def reordered_sender():
    log, rows = good()
    both = says("a", "a1", rows[0]) + says("a", "a1", rows[1])
    log = [e for e in log if e not in both]
    return log[:3] + [both[2], both[0], both[1], both[3]] + log[3:], rows


def unexpected():
    log, rows = good()
    return [e if e != hears("a", "a1", ROOM, rows[0]) else hears("a", "a1", ROOM, rows[0], hash="0") for e in log], rows


def unexpected_in_the_store():
    log, rows = good()
    return log, rows + [row(PRIVATE, 5, "z", 1, pos=10)]


def leaked():
    log, rows = good()
    return log + [hears("c", "c1", PRIVATE, rows[8])], rows


def leaked_to_a_stranger():
    log, rows = good()
    return log + [hears("a.2", "a2", "inbox", row(DIRECT, 1, "a", 3, pos=3)),
                  hears("d", "d1", "inbox", rows[3])], rows


def holes():
    log, rows = good()
    gone = rows[6]
    return [e for e in log if e not in says("a", "a1", gone) + [hears("c", "c1", PRIVATE, gone)]], without(rows, 6)


def unanswered():
    log, rows = good()
    return log + [("invoke", "a", "a1", ROOM, 9, "h")], rows


def all_is_well():
    return good()


def a_return_with_history_is_no_leak():
    """c comes again and resumes: what was said in between is for members to read."""
    log, rows = good()
    rows.append(event(PRIVATE, 5, "c", "JOIN"))
    return log + [("ask", "c", "c1", PRIVATE), hears("c", "c1", PRIVATE, rows[8]), hears("c", "c1", PRIVATE, rows[9]),
                  ("sub", "c", "c1", PRIVATE, 3, "true", 5)], rows


def leaked_before_a_return():
    """The same, but heard while away."""
    log, rows = a_return_with_history_is_no_leak()
    log.insert(len(log) - 4, log.pop(len(log) - 3))
    return log, rows


def what_was_not_acknowledged_may_be_there():
    log, rows = good()
    rows.append(row(ROOM, 4, "b", 2, pos=10))
    return log + [("invoke", "b", "b2", ROOM, 2, rows[-1].hash), ("close", "b", "b2", "eof"),
                  hears("a", "a1", ROOM, rows[-1]), hears("b", "b3", ROOM, rows[-1])], rows


def a_repeat_is_answered_with_the_first_place():
    log, rows = good()
    again = says("a", "a2", rows[0])
    return log + [("open", "a", "a2")] + again + again, rows


CASES = [(f, {f.__name__.split("_")[0]}) for f in (
    lost, lost_elsewhere, undelivered, undelivered_direct, duplicated, duplicated_in_the_store, reordered,
    reordered_cursors, reordered_sender, unexpected, unexpected_in_the_store, leaked, leaked_to_a_stranger, leaked_before_a_return,
    holes, unanswered)]
CASES += [(f, set()) for f in (all_is_well, a_return_with_history_is_no_leak, what_was_not_acknowledged_may_be_there,
                               a_repeat_is_answered_with_the_first_place)]


class OtherApi:
    """An API that has forgotten a message."""

    def history(self, user, conv):
        return (r for r in ROWS if r.conv == conv and r.pos != 4)


def check(make, differ=False):
    log, rows = make()
    checker = Checker(Store(rows, [ROOM], MEMBERS))
    if differ:
        from checker import compare
        for line in compare(checker.store, OtherApi()):
            checker.bad("differing", "%s", line)
    checker.feed((i, kind, [str(f) for f in fields]) for i, (kind, *fields) in enumerate(log))
    checker.judge()
    out = io.StringIO()
    good_ = report(checker, out)
    found = {name for name in EMPTY if checker.sets[name]}
    assert good_ == (not found)
    return found, out.getvalue()


def main():
    cases = [(make.__name__, check(make), wanted) for make, wanted in CASES]
    cases.append(("differing", check(good, True), {"differing"}))
    print("1..%d" % (len(cases) + 1))
    failed = 0
    for i, (name, (found, text), wanted) in enumerate(cases, 1):
        good_ = found == wanted
        failed += not good_
        print("%sok %d - %s" % ("" if good_ else "not ", i, name.replace("_", " ")))
        if not good_:
            print("# wanted %s, found %s\n# %s" % (wanted, found, text.replace("\n", "\n# ")))
    every = set().union(*(w for _, _, w in cases)) == set(EMPTY)
    print("%sok %d - each set was made not empty once" % ("" if every else "not ", len(cases) + 1))
    return 1 if failed or not every else 0


if __name__ == "__main__":
    sys.exit(main())
