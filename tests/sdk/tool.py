#!/usr/bin/env python3
"""chatd-plugin: what check finds in plugins that do one thing wrong each, and does not find in a good one; what
describe and new say.  Speaks TAP."""
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CHATD_BUILD", os.path.join(ROOT, "build"))
TOOL = os.path.join(BUILD, "bin", "chatd-plugin")
work = tempfile.mkdtemp(prefix="chatd-sdk-")
n, bad = 0, 0

# What is wrong -> the stage that finds it, and words of the finding.
ERRORS = {
    "EXPORTS": ("symbols", "exports exported_too"),
    "UNDEFINED": ("symbols", "uses nobody_has_this, which no library has"),
    "NO_SYMBOL": ("symbols", "does not export chatd_plugin_v"),
    "STACK": ("symbols", "an executable stack"),
    "CONSTRUCTOR": ("load", "crashes: signal 6 (Aborted) while: loading it"),
    "NAME": ("load", "says that its name is \"worse\""),
    "INTERFACE": ("load", ".provides has \"presence\""),
    "ITS_OWN": ("load", "provides \"chatd.http/1\" and has it in .needs"),
    "FLAGS": ("load", ".flags is 1048576"),
    "LIVE_TIED": ("load", "what is opened with \"chatd.net/1\" stays when the plugin is turned off"),
    "KEY": ("options", "option \"Number!\": a key is made of"),
    "SECRET_NUMBER": ("options", "\"number\": CHATD_O_SECRET, _PATH, _LISTEN and _URL are for texts"),
    "CHOICE": ("options", "default \"blue\" is none of its choices"),
    "LIVE": ("options", "CHATD_O_LIVE, but there is no reload()"),
    "DEFAULT": ("options", "defaults are refused"),
    "INIT_FAILS": ("rounds", "the address is taken"),
    "CRASH": ("rounds", "signal 11 (Segmentation fault) while: bad message_in"),
    "EXITS": ("rounds", "exit(3) while: bad message_in"),
    "HANGS": ("rounds", "no end within 2 s of: bad message_in"),
    "MEM": ("rounds", "pieces of mem_alloc() are left"),
    "MSG": ("rounds", "to messages"),
    "MALLOC": ("rounds", "memory grows by"),
    "FD": ("rounds", "descriptors are left open"),
    "THREAD": ("rounds", "threads go on after fini()"),
    "TIMER": ("rounds", "1 timers are left"),
    "FOREIGN": ("rounds", "now_ms() for worker 1 was called on another worker"),
    "LATE": ("rounds", "hook() is for init() only"),
    "UNLISTED": ("rounds", "chatd.rooms/1, which is neither in .needs nor in .wants"),
    "NO_ANSWER": ("rounds", "GET /api/bad/x was not answered"),
    "SWEEP": ("sweep", "signal 11 (Segmentation fault) while: bad message_in"),
    "DEPARTED": ("trouble", "signal 11"),
    "TWICE_FREED": ("trouble", ""),  # the first use of what was freed may crash before the second free is seen
    "FUZZ": ("fuzz", "text: \"\""),
    "SILENT": ("fuzz", "check() answered -22 after 0 complaints"),
}
WARNINGS = {
    "NO_VERSION": ("load", "no .version"),
    "NO_DOC": ("options", "\"number\" has no .doc"),
    "FORGETS": ("rounds", "was answered by its deadline alone"),
    "RIVALS": ("rounds", "a second instance would register /api/bad/"),
}


def ok(good, name, why=""):
    global n, bad
    n += 1
    bad += not good
    print("%sok %d - %s" % ("" if good else "not ", n, name), flush=True)
    for line in str(why).splitlines()[-15:] if not good else []:
        print("# " + line)


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, cwd=work,
                          errors="replace")


def build(what):
    """The plugin that does that wrong, in a folder of its own: its file must have its name."""
    folder = tempfile.mkdtemp(dir=work)
    so = os.path.join(folder, "bad.so")
    done = run("cc", "-std=gnu11", "-w", "-shared", "-fPIC", "-fvisibility=hidden", "-I" + os.path.join(ROOT, "include"),
               "-DBAD=" + what, "-DBAD_%s=1" % what, "-Wl,-z,%sexecstack" % ("" if what == "STACK" else "no"), "-o", so,
               os.path.join(ROOT, "tests", "sdk", "bad.c"), "-lpthread")
    return so if done.returncode == 0 else done.stdout


def check(what, *options):
    so = build(what)
    if not os.path.exists(so):
        return None, so
    done = run(TOOL, "check", so, "--rounds", "10", "--fuzz", "150", "--seed", "7", "--limit",
               "2" if what == "HANGS" else "60", *options)
    return done.returncode, done.stdout


def finds(results):
    for what, (stage, words) in {**ERRORS, **WARNINGS}.items():
        code, text = results[what].result()
        kind = "error" if what in ERRORS else "warning"
        hit = any(": %s: [%s] " % (kind, stage) in line for line in text.splitlines()) and words in text
        ok(hit and code == (what in ERRORS), "check finds %s (%s)" % (what, stage), "exit code %s\n%s" % (code, text))
    code, text = results["GOOD"].result()
    rest = [line for line in text.splitlines() if "note: [rounds] not reached: the hook message_in" not in line]
    ok(code == 0 and len(rest) == 1 and "(seed 7)" in text, "check finds nothing in a good one", text)


def answers():
    """A handler that takes one word alone, and only if a record says so."""
    refused = "note: [rounds] /app/bad.word refused every message, the last one with VALIDATION: no such word"
    word = ["--message", "/app/bad.word xyzzy"]
    for more, told in (([], True), (word, True), (["--record", "bad key xyzzy", *word], False)):
        code, text = check("PICKY", *more)
        ok(code == 0 and (refused in text) == told, "check %s with %s" % (
            "tells that all was refused" if told else "finds what is taken", " ".join(more[::2]) or "nothing"), text)


def calls():
    """A route that wants a body, and one that deletes what the others need."""
    plugin, lacks = os.path.join(BUILD, "plugins", "webhooks.so"), "no call of POST /api/chat/rooms/{id}/hooks succeeded"
    for more, told in (([], True), (["--call", 'POST /api/chat/rooms/den/hooks {"name":"x"}'], False)):
        done = run(TOOL, "check", plugin, "--rounds", "5", "--fuzz", "5", *more)
        ok(done.returncode == 0 and (lacks in done.stdout) == told, "check %s" % (
            "calls as it is told" if more else "says which route it has not come to"), done.stdout)
    done = run(TOOL, "check", plugin, "--rounds", "5", "--fuzz", "5", "--call", "PUT /api/none")
    ok("warning: [rounds] --call: there is no route for PUT /api/none" in done.stdout, "check: a call of nothing", done.stdout)


def unplayed():
    """A required text that only its author knows."""
    code, text = check("NEEDS_TRUTH")
    ok(code == 77 and "none could be made up" in text and "the truth is needed" in text and ": good" not in text,
       "check does not say good of what it could not start", "%s\n%s" % (code, text))
    code, text = check("NEEDS_TRUTH", "--options", "text: truth")
    ok(code == 0 and ": good: 10 starts and stops, 150 odd configurations of which it was started with " in text,
       "check plays it with the options that are given", "%s\n%s" % (code, text))


def other_files():
    text_file = os.path.join(work, "text.so")
    with open(text_file, "w", encoding="utf-8") as f:
        f.write("no plugin at all, " * 100)
    done = run(TOOL, "check", text_file)
    ok(done.returncode == 1 and "no shared object" in done.stdout, "check: a text is no plugin", done.stdout)
    done = run(TOOL, "check", os.path.join(work, "missing.so"))
    ok(done.returncode == 66 and "cannot be read" in done.stdout, "check: a file that is not there", done.stdout)
    for wrong in (["check"], ["check", text_file, "--rounds", "many"], ["check", text_file, "--message", "no destination"], ["check", text_file, "--record", "space key"], ["check", text_file, "--call", "PUT api"], ["nonsense"], ["new"], ["new", "Not_a_name"],
                  ["new", "x", "--kind", "thing"], ["describe"], ["describe", text_file, "--format", "poem"]):
        done = run(TOOL, *wrong)
        ok(done.returncode == 64 and done.stdout, "usage: %s is refused" % " ".join(wrong[:1] + wrong[2:]), done.stdout)
    foreign = os.path.join(BUILD, "plugins", "tcp.so")
    done = run(TOOL, "check", foreign, "--rounds", "5", "--fuzz", "5")
    ok(done.returncode == 77 and "note: [rounds] not played: it needs chatd.codec.stomp/1" in done.stdout and
       ": not played: it was never started" in done.stdout and ": good" not in done.stdout,
       "check says what it cannot play, and not that it is good", done.stdout)


def bundled():
    """Plugins of the server, which have everything: the whole check passes."""
    words = os.path.join(work, "words.txt")
    with open(words, "w", encoding="utf-8") as f:
        f.write("fool\n")
    done = run(TOOL, "check", os.path.join(BUILD, "plugins", "word-filter.so"), "--rounds", "5", "--fuzz", "5")
    ok(done.returncode == 0 and "[rounds] it is played with options that were made up" in done.stdout and
       'lists: [{file: "made-up.txt"}]' in done.stdout, "check makes up options where some are required", done.stdout)
    typing = os.path.join(BUILD, "plugins", "typing.so")
    unreached = "note: [rounds] not reached: /app/chat.typing never waited"
    done = run(TOOL, "check", typing, "--rounds", "5", "--fuzz", "5")
    ok(done.returncode == 0 and unreached not in done.stdout, "check has a room whose members a plugin can ask for",
       done.stdout)
    for name, options in (("typing", ""), ("receipts", ""), ("word-filter", "lists: [{ file: %s }]" % words)):
        done = run(TOOL, "check", os.path.join(BUILD, "plugins", name + ".so"), "--rounds", "10", "--fuzz", "50",
                   "--options", options)
        ok(done.returncode == 0, "check finds nothing wrong in " + name, done.stdout)


def describe(so):
    done = run(TOOL, "describe", so)
    ok(done.returncode == 0 and "needs: chatd.http/1, chatd.presence/1" in done.stdout and "one of red, green" in
       done.stdout, "describe: text", done.stdout)
    done = run(TOOL, "describe", so, "--format", "markdown")
    ok("| `number` | number | `1` | A number. |" in done.stdout, "describe: Markdown", done.stdout)
    done = run(TOOL, "describe", so, "--format", "schema")
    schema = json.loads(done.stdout)
    ok(schema["properties"]["choice"]["enum"] == ["red", "green"], "describe: JSON Schema", done.stdout)


def new():
    done = run(TOOL, "new", "a-b2", "--kind", "service")
    names = sorted(os.listdir(os.path.join(work, "a-b2")))
    ok(names == ["CMakeLists.txt", "README.md", "a_b2.c", "a_b2.h", "chat.yaml", "meson.build", "test_a_b2.c"],
       "new writes a project", "%s\n%s" % (names, done.stdout))
    left = [name for name in names if "@" in open(os.path.join(work, "a-b2", name), encoding="utf-8").read()
            .replace("@file", "").replace("@brief", "").replace("@p ", "")]
    ok(not left, "new fills in every placeholder", left)
    done = run(TOOL, "new", "a-b2")
    ok(done.returncode == 73 and "File exists" in done.stdout, "new overwrites nothing", done.stdout)


try:
    with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        finds({what: pool.submit(check, what) for what in ["GOOD", *ERRORS, *WARNINGS]})
    unplayed()
    answers()
    calls()
    other_files()
    bundled()
    describe(build("GOOD"))
    new()
finally:
    shutil.rmtree(work, ignore_errors=True)
print("1..%d" % n)
sys.exit(1 if bad or not n else 0)
