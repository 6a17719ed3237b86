#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plugin files that are no good, and places where none may lie: what is said, and that it ends in 78, or in a
warning where the plugin is optional.  Speaks TAP; CHATD_BUILD names the build directory."""
import os
import shutil
import struct

import fixture
import proc
from fixture import BUILT, Folder

CASES = []
MAJOR, MINOR = fixture.contract()
HAVE = "this server has %d.%d" % (MAJOR, MINOR)


def case(name):
    def keep(fn):
        CASES.append((name, fn))
        return fn
    return keep


def check(folder, plugins, **more):
    code, _out, err = proc.chatd("-c", folder.conf(plugins, **more), "--check")
    return code, err


def refused(folder, name, text, options="", others=""):
    """The plugin is refused with exactly this; optional, the server goes on and says it in a warning."""
    code, said = check(folder, "  %s: {%s}\n%s" % (name, options, others))
    first = said.splitlines()[0] if said else ""
    assert code == 78, (code, said)
    assert first.endswith("error: %s: %s" % (name, text)), "\n%s\n  is not\n%s" % (first, text)
    code, said = check(folder, "  good: {}\n  %s: {%soptional: true}\n%s" % (name, options and options + ", ", others))
    assert code == 0, (code, said)
    warning = [line for line in said.splitlines() if " WARN  core: " in line]
    assert len(warning) == 1 and text in warning[0], said
    assert warning[0].endswith("; going on without it (optional: true)"), warning


def bad(built, text):
    """A file of the build; {at} is where it lies."""
    @case("%s: refused" % built)
    def _():
        with Folder() as f:
            f.take("good")
            at = f.take(built)
            refused(f, built, 'plugin "%s" ' % built + text.format(at=at))


def made(name, data, text):
    """A file that is written here."""
    @case("%s: refused" % name)
    def _():
        with Folder() as f:
            f.take("good")
            with open(os.path.join(BUILT, "good.so"), "rb") as built:
                at = f.put(name, data(built.read()))
            refused(f, name, 'plugin "%s" (%s) cannot be loaded: %s' % (name, at, text))


def patched(at, fmt, *values):
    def patch(elf):
        return elf[:at] + struct.pack(fmt, *values) + elf[at + struct.calcsize(fmt):]
    return patch


made("text", lambda _elf: b"this is no plugin, but it is long enough to be one" * 20, "it is no shared object (ELF file)")
made("empty", lambda _elf: b"", "the file is empty; install it again")
made("cut-header", lambda elf: elf[:40], "the file ends after 40 bytes of at least 64: it was not copied to its end; "
     "install it again")
made("i386", lambda elf: patched(18, "<H", 3)(patched(4, "B", 1)(elf)),
     "it was built for i386, this server runs on x86-64; install the package for this processor")
made("aarch64", patched(18, "<H", 183),
     "it was built for aarch64, this server runs on x86-64; install the package for this processor")
made("program", patched(16, "<H", 2), "it is no shared object: link it with -shared")
made("headers", patched(56, "<H", 900), "its ELF header is damaged; install it again")


@case("a file that ends in its middle: refused, where the dynamic linker would be killed")
def _():
    with Folder() as f:
        f.take("good")
        with open(os.path.join(BUILT, "good.so"), "rb") as built:
            elf = built.read()
        for part in (0.1, 0.3, 0.5):
            at = f.put("half", elf[:int(len(elf) * part)])
            code, said = check(f, "  half: {}\n")
            head = 'plugin "half" (%s) cannot be loaded: the file ends after %d bytes of at least ' % (
                at, int(len(elf) * part))
            # What is cut off behind the last segment is of no matter: then it is a copy under another name.
            assert code == 78 and (head in said or (part >= 0.5 and "or is it a copy" in said)), (part, code, said)


bad("dependency", "({at}) cannot be loaded: libchatd-test-gone.so: cannot open shared object file: No such file or "
    "directory")
bad("undefined", "({at}) cannot be loaded: {at}: undefined symbol: nobody_has_this")
bad("no-symbol", "({at}) does not export chatd_plugin_v%d: it is no chatd plugin, or its build hides the symbol; see "
    "CHATD_PLUGIN in chatd/plugin.h" % MAJOR)
for other in (0, 1, 2, 999):
    if other != MAJOR:
        bad("major-%d" % other, "({at}) was built for contract %d, %s: %s" % (
            other, HAVE, "upgrade chatd" if other > MAJOR else "rebuild the plugin with this server's headers"))
bad("function", "({at}): chatd_plugin_v%d is no constant; write CHATD_PLUGIN = {{ CHATD_PLUGIN_HEADER, ... }}" % MAJOR)
bad("needs-newer", "({at}) needs ABI %d.99, %s: upgrade chatd" % (MAJOR, HAVE))
for nameless in ("no-name", "empty-name"):
    bad(nameless, '({at}): its descriptor has no name; write .name = "%s"' % nameless)
bad("other-name", '({at}) says that its name is "right-name": rename the file to right-name.so, or is it a copy of that '
    "plugin?")
bad("no-callbacks", "({at}): its descriptor has no init(): it could not do anything")
bad("worker-huge", "({at}): its worker_size of 1099511627776 bytes cannot be meant")

TABLE = "({at}): its option table is wrong: "
for table, why in (
        ("opt-type", 'option "x": its type 77 does not exist in this server'),
        ("opt-offset", 'option "x": its offset 1000 is outside of a struct of 64 bytes'),
        ("opt-across", 'option "x": its offset 60 is outside of a struct of 64 bytes'),
        ("opt-odd", 'option "x": its offset is not that of a field of its type'),
        ("opt-twice", 'option "x": it is there twice'),
        ("opt-overlap", 'option "y": it fills the same field as "x"'),
        ("opt-common", 'option "timeout": every plugin has an option of that name; choose another'),
        ("opt-choice", 'option "x": a choice needs .choices'),
        ("opt-list", 'option "x": a list needs .sub and .sub_size, which describe an item'),
        ("opt-range", 'option "x": .min is above .max'),
        ("opt-size", "its .opt_size is 4: write CHATD_PLUGIN_HEADER")):
    bad(table, TABLE + why)


@case("a descriptor whose size is not true: refused")
def _():
    for built, says in (("size-0", 0), ("size-8", 8), ("size-huge", 40000), ("tiny", None)):
        with Folder() as f:
            at = f.take(built)
            code, said = check(f, "  %s: {}\n" % built)
            head = 'plugin "%s" (%s): its descriptor is damaged (it says ' % (built, at)
            assert code == 78 and head in said, said
            assert says is None or "it says %d bytes, and has " % says in said, said
            assert said.rstrip().splitlines()[0].endswith("; write CHATD_PLUGIN_HEADER in it and rebuild it"), said


@case("a default that its own option cannot read: refused, and said whose it is")
def _():
    with Folder() as f:
        f.take("opt-default")
        code, said = check(f, "  opt-default: {}\n")
        assert code == 78 and 'default of opt-default: x' in said and '"abc"' in said, said


@case("a copy under another name: refused")
def _():
    with Folder() as f:
        f.take("good")
        at = f.take("good", "also-good")
        refused(f, "also-good", 'plugin "also-good" (%s) says that its name is "good": rename the file to good.so, or is '
                'it a copy of that plugin?' % at)


@case("two that need each other, two that provide the same, one whose provider is missing")
def _():
    with Folder() as f:
        for built in ("good", "needs-a", "needs-b", "gives-x", "gives-x-too", "needs-x"):
            f.take(built)
        code, said = check(f, "  needs-a: {}\n  needs-b: {}\n")
        assert code == 78 and 'plugins "needs-b" and "needs-a" need each other (through "test.b/1"): one of them must ' \
            "do without" in said, said
        # Without the optional one the other misses it: that one is optional too, or it is an error.
        code, said = check(f, "  good: {}\n  needs-a: {optional: true}\n  needs-b: {optional: true}\n")
        assert code == 0 and said.count("going on without it (optional: true)") == 2, said
        code, said = check(f, "  needs-a: {optional: true}\n  needs-b: {}\n")
        assert code == 78 and 'needs-b: it needs the service "test.b/1"' in said, said

        code, said = check(f, "  gives-x: {}\n  gives-x-too: {}\n")
        assert code == 78 and 'plugins "gives-x" and "gives-x-too" both provide "test.x/1": keep one, or set enabled: ' \
            "false on the other" in said, said
        code, said = check(f, "  gives-x: {}\n  gives-x-too: {optional: true}\n")
        assert code == 0 and 'plugin "gives-x-too": plugins "gives-x" and "gives-x-too" both provide "test.x/1"; going ' \
            "on without it" in said, said

        code, said = check(f, "  good: {}\n  needs-x: {optional: true}\n")
        assert code == 0 and 'plugin "needs-x": it needs the service "test.x/1", which no plugin that is turned on ' \
            "provides; going on without it" in said, said


@case("a file or folder that others may write to: refused, with the path and what to do")
def _():
    with Folder() as f:
        f.take("good")
        at = f.take("guards")
        for mode in (0o777, 0o775, 0o722):
            os.chmod(at, mode)
            refused(f, "guards", 'plugin "guards": %s is writable by group or others; chmod go-w it' % at)
        os.chmod(at, 0o755)
        for mode in (0o777, 0o775, 0o1777):
            os.chmod(f.plugins, mode)
            code, said = check(f, "  guards: {}\n")
            assert code == 78 and 'error: guards: plugin "guards": %s is writable by group or others; chmod go-w it' % f.plugins \
                in said, said
        os.chmod(f.plugins, 0o755)
        assert check(f, "  guards: {}\n")[0] == 0


@case("a file or folder of another user: refused")
def _():
    if os.geteuid() != 0:
        return
    with Folder() as f:
        f.take("good")
        at = f.take("guards")
        os.chown(at, 65534, -1)
        refused(f, "guards", 'plugin "guards": %s belongs to user 65534: it must be root\'s or user 0\'s, whom chatd runs '
                "as; chown it" % at)
        os.chown(at, 0, -1)
        os.chown(f.plugins, 65534, -1)
        code, said = check(f, "  guards: {}\n")
        assert code == 78 and "%s belongs to user 65534" % f.plugins in said, said


@case("a link inside the folder is fine, one that leads out of it is not")
def _():
    with Folder() as f:
        at = f.take("good", "good-1.2")
        os.symlink("good-1.2.so", f.path("good"))
        assert check(f, "  good: {}\n") == (0, "")
        os.unlink(f.path("good"))
        elsewhere = os.path.join(f.dir, "elsewhere.so")
        shutil.move(at, elsewhere)
        os.symlink(elsewhere, f.path("good"))
        code, said = check(f, "  good: {}\n")
        assert code == 78 and 'plugin "good": %s is a link to %s, outside its folder; copy the file, or add that folder ' \
            "to server.plugin_path" % (f.path("good"), elsewhere) in said, said
        os.unlink(elsewhere)
        code, said = check(f, "  good: {}\n")
        assert code == 78 and 'plugin "good": %s: No such file or directory' % f.path("good") in said, said


@case("a path is no name, and a relative plugin_path counts from the configuration")
def _():
    with Folder() as f:
        f.take("good")
        for name in ("../plugins/good", "./good", "/good"):
            code, said = check(f, "  x: {plugin: %s}\n" % name)
            assert code == 78 and 'x: plugin: "%s" cannot name a plugin; write its name alone, as in "http"' % name in said
        assert check(f, "  good: {}\n", path="./plugins") == (0, "")
        os.mkdir(os.path.join(f.dir, "writable"))
        os.chmod(os.path.join(f.dir, "writable"), 0o777)
        shutil.move(f.path("good"), os.path.join(f.dir, "writable", "good.so"))
        code, said = check(f, "  good: {}\n", path="./writable")
        assert code == 78 and "writable is writable by group or others" in said, said


@case("one that was built for a later minor version runs, unless it says that it needs that")
def _():
    with Folder() as f:
        f.take("newer")
        assert check(f, "  newer: {}\n") == (0, "")


@case("--describe finds a plugin in the plugin_path of the file that -c names, and says what every plugin has")
def _():
    with Folder() as f:
        f.take("good")
        code, out, err = proc.chatd("--describe", "good")
        assert code == 64 and "there is no good.so" in err, (code, err)
        code, out, err = proc.chatd("-c", f.conf("  no-such-plugin: {}\n"), "--describe", "good")
        assert code == 0 and out.startswith("good") and not err, (code, out, err)
        assert "\nEvery plugin also has: " in out and "timeout (7s)" in out, out
        code, out, err = proc.chatd("-c", os.path.join(f.dir, "none.yaml"), "--describe", "good")
        assert code == 78 and "none.yaml" in err, (code, err)


@case("a second instance of what can be there once, and a URL that nobody can ask, are found by --check")
def _():
    with Folder() as f:
        for built in ("once", "good", "opt-url"):
            f.take(built)
        assert check(f, "  once: {}\n  good: {}\n  better: {plugin: good}\n") == (0, "")
        code, said = check(f, "  once: {}\n  twice: {plugin: once}\n")
        assert code == 78 and 'twice: plugin: "once" is there already, as "once", and can be there once' in said, said
        assert check(f, "  once: {}\n  twice: {plugin: once, enabled: false}\n") == (0, "")
        assert check(f, "  opt-url: {x: \"https://example.org:8443/a?b\"}\n") == (0, "")
        code, said = check(f, "  opt-url: {x: \"http://x:99999\"}\n")
        assert code == 78 and 'opt-url: x: "http://x:99999" has a port that is none' in said, said


@case("on_error: continue is refused for who decides who somebody is, by --check, and by the start at the latest")
def _():
    with Folder() as f:
        for built in ("good", "guards", "asks-who"):
            f.take(built)
        code, said = check(f, "  guards: {on_error: continue}\n")
        assert code == 78 and '"continue" is not for this plugin: it decides who somebody is or who may what' in said, said
        assert check(f, "  guards: {on_error: reject}\n  good: {on_error: continue}\n") == (0, "")
        for real in ("auth-static", "auth-anonymous", "auth-jwt", "auth-password", "rules", "users"):
            code, said = check(f, "  %s: {on_error: continue}\n" % real)
            assert code == 78 and '"continue" is not for this plugin' in said, (real, said)
        server = f.server("  asks-who: {on_error: continue}\n")
        code, said = server.proc.wait(60), server.log()
        server.__exit__()
        assert code == 78, said
        assert "asks-who: on_error: continue is not for a plugin that is asked who may come in" in said, said


if __name__ == "__main__":
    proc.main(CASES)
