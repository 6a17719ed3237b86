# SPDX-License-Identifier: Apache-2.0
"""Reads rights.table, and asks what is in it."""
import json
import os
import re

TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rights.table")
TOKENS = {"no": (401, "UNAUTHORIZED"), "wp": (401, "INVALID_CREDENTIALS"),
          "nf": (404, "NOT_FOUND"), "nm": (403, "NOT_MEMBER"), "fb": (403, "FORBIDDEN"),
          "bn": (403, "BANNED"), "mu": (403, "MUTED"), "ro": (403, "READ_ONLY"), "va": (422, "VALIDATION")}
GONE = {"room": "00000000000000000000000000000000", "theirs": "01900000-0000-7000-8000-000000000000",
        "own": "01900000-0000-7000-8000-000000000000"}


class Row:
    def __init__(self, text, cells):
        self.text, self.cells = text, cells  # cells: caller -> token
        ask, _, self.body = text.partition(" < ")
        self.method, self.target, *headers = ask.split()
        self.headers = dict(h.split("=", 1) for h in headers)
        self.is_rest = self.method not in ("SEND", "SUBSCRIBE")

    def changes(self):
        """Whether the room is not the same any more once this was done."""
        if self.is_rest:
            return self.method != "GET"
        return self.target in ("/app/chat.join", "/app/chat.leave", "/app/chat.delete")


def read_table():
    """Section -> rows; of [open] the texts of the lines."""
    sections, here, callers = {}, None, []
    with open(TABLE) as f:
        for line in f:
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            head = re.match(r"\[([a-z-]+)\](?: like ([a-z-]+))?$", line)
            if head:
                here = sections[head[1]] = list(sections[head[2]]) if head[2] else []
                like = bool(head[2])
                continue
            text, _, cells = (part.strip() for part in line.partition("|"))
            if text == "callers":
                callers = cells.split()
            elif not cells:
                here.append(text)
            else:
                tokens = cells.split()
                assert len(tokens) == len(callers), "%d cells for %d callers: %s" % (len(tokens), len(callers), line)
                row = Row(text, dict(zip(callers, tokens)))
                same = [i for i, r in enumerate(here) if r.text == text]
                assert bool(same) == like, ("only here: " if like else "twice: ") + line
                if same:
                    here[same[0]] = row
                else:
                    here.append(row)
    return sections


def fill(text, names):
    for name, value in names.items():
        text = text.replace("{%s}" % name, value)
    assert not re.search(r"\{[a-z]+\}", text), text
    return text


class Got:
    """What was answered: to compare with a token, and with what somebody else was answered."""

    def __init__(self, status, body, refusal):
        self.status, self.body, self.refusal = status, body, refusal  # refusal: JSON or None

    def token(self, expected, shows):
        if self.refusal is not None:
            code = self.refusal.get("code")
            for token, (status, name) in TOKENS.items():
                if code == name and self.status in (None, status):
                    return token
            return "%s %s" % (self.status, code)
        if expected in ("sees", "blind"):
            return "sees" if any(s in self.body for s in shows) else "blind"
        return "ok"

    def bare(self, names):
        """Without what differs from question to question."""
        refusal = {k: v for k, v in (self.refusal or {}).items()
                   if k not in ("requestId", "path", "timestamp", "receiptId", "instance")}
        text = json.dumps(refusal, sort_keys=True)
        for key in ("room", "theirs", "own"):
            text = text.replace(names[key], "{%s}" % key)
        return self.status, text


def ask(row, person, device, names):
    target = fill(row.target, names)
    body = fill(row.body, names)
    if row.is_rest:
        # Whoever asks as nobody still needs a server.
        r = person.rest(row.method, target, raw=body.encode() if body else None)
        return Got(r.status, r.body.decode(), r.json if r.status >= 400 else None)
    device.frames = []
    if row.method == "SEND":
        f = device.send(target, body.encode())
    else:
        f = device.resume(target, {k: fill(v, names) for k, v in row.headers.items()})
        if "receipt-id" in f:
            device.unsubscribe(f["receipt-id"][1:])
    return Got(None, "", f if "code" in f else None)


def listed(output):
    """What --list-hooks and the log beside it say of a server: routes, /app handlers, prefixes."""
    routes = re.findall(r"route ([A-Z]+) (/\S*)", output)
    handlers, prefixes = output.split("\nhandlers\n")[1].split("\ndestinations\n")
    return routes, [h.split()[0] for h in handlers.splitlines()], [p.split()[0] for p in prefixes.splitlines()]


def pattern(path):
    return re.compile(re.sub(r"\\\{[a-z]+\\\}", "[^/]+", re.escape(path)) + "$")


def gaps(sections, output):
    """Whatever the server answers to and the table does not name, and the other way round."""
    routes, handlers, prefixes = listed(output)
    rows = [r for name, s in sections.items() if name != "open" for r in s]
    asked = {(r.method, re.sub(r"[{}]", "", r.target.partition("?")[0])) for r in rows}
    missing = []
    for method, path in routes:
        literal = [a for a in asked if a[0] == method and pattern(path).match(a[1]) and not any(
            p != path and m == method and "{" not in p and p == a[1] for m, p in routes)]
        if not literal and "%s %s" % (method, path) not in sections["open"]:
            missing.append("%s %s" % (method, path))
    missing += ["SEND " + h for h in handlers if ("SEND", h) not in asked]
    missing += [m + " " + p for p in prefixes for m in ("SEND", "SUBSCRIBE") if not any(
        a[0] == m and a[1].startswith(p) for a in asked)]
    stale = ["%s %s" % a for a in sorted(asked) if a[1].startswith("/api/") and not any(
        m == a[0] and pattern(p).match(a[1]) for m, p in routes)]
    stale += [s for s in sections["open"] if tuple(s.split()) not in routes]
    return missing, stale
