#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns a directory into a C table of files, so that the page is inside the plugin.

usage: embed.py ESBUILD OUTPUT.c DEPFILE DIRECTORY [NAME=DIRECTORY ...]

Files of the directories with a name are served below it; tests and what npm alone reads are left out. The modules of
js/ are joined and made small by esbuild; what is imported while the page runs stays apart. Comments are taken out of
other scripts of ours, line by line, and what can be compressed is there compressed as well.

The page asks for its parts below a name that is made of their content, so that browsers may keep them; sw-shell.js
tells its service worker which they are.
"""
import gzip
import hashlib
import json
import os
import posixpath
import re
import subprocess
import sys
import tempfile

LEFT_OUT = (".md", "~", ".d.ts", "package.json")
COMPRESSED = (".html", ".css", ".js", ".json", ".svg", ".webmanifest")
# Looked for by name, by browsers and by what is installed already.
AT_THE_TOP = re.compile(r"(index\.html|manifest\.webmanifest|sw[a-z-]*\.js)$")
# Modules that belong to the page begin here; classic scripts beside it stay by themselves.
ENTRY, CLASSIC = "js/main.js", ("js/first.js",)


def files_below(root, below=""):
    """(web path, disk path) of every file to serve, sorted."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f != "examples")
        for name in names:
            if name.startswith(".") or name.endswith(LEFT_OUT):
                continue
            path = os.path.join(folder, name)
            found.append((below + os.path.relpath(path, root).replace(os.sep, "/"), path))
    return sorted(found)


def without_comments(text):
    """Of a script of ours; lines stay where they are. Only comments that have their lines for themselves."""
    if any(line.count("`") % 2 for line in text.split("\n")):
        return text  # a text of several lines may look like a comment
    first, _, rest = text.partition("\n")
    rest = re.sub(r"^\s*/\*.*?\*/[ \t]*$", lambda m: "\n" * m[0].count("\n"), rest, flags=re.MULTILINE | re.DOTALL)
    return first + "\n" + rest


def content(name, path):
    with open(path, "rb") as stream:
        data = stream.read()
    if name.endswith(".js") and name.startswith(("js/", "client/")):
        return without_comments(data.decode()).encode()
    return data


def bundle(esbuild, roots):
    """({name: content}, [names needed before ENTRY runs, itself first]) of the page's modules."""
    with tempfile.TemporaryDirectory() as folder:
        tree, out, graph = (os.path.join(folder, name) for name in ("tree", "out", "graph.json"))
        # As the browser sees them: named directories are beside those of the page.
        os.mkdir(tree)
        for name, root in roots:
            for each in [name] if name else os.listdir(root):
                os.symlink(os.path.abspath(root if name else os.path.join(root, each)), os.path.join(tree, each))
        subprocess.run([esbuild, ENTRY, "--bundle", "--splitting", "--format=esm", "--minify", "--target=es2022",
                        "--preserve-symlinks", "--log-level=warning", "--outdir=" + os.path.join(out, "js"), "--outbase=js",
                        "--metafile=" + graph], cwd=tree, check=True)
        made = {}
        for name, path in files_below(out):
            with open(path, "rb") as stream:
                made[name] = stream.read()
        with open(graph, encoding="utf-8") as stream:
            outputs = json.load(stream)["outputs"]
    imports = {posixpath.join("js", posixpath.basename(name)): each["imports"] for name, each in outputs.items()}
    needed = [ENTRY]
    for one in needed:
        for each in imports[one]:
            other = posixpath.join("js", posixpath.basename(each["path"]))
            if each["kind"] == "import-statement" and other not in needed:
                needed.append(other)
    return made, needed


# Not kept by the service worker: of old browsers alone, and large; or for pages of others.
SELDOM = ("vendor/libsodium/", "client/")


def finish_page(files, needed):
    """Gives the page its parts' names; returns the name that they are below."""
    parts = {name: data for name, data in files.items() if not AT_THE_TOP.match(name)}
    everything = hashlib.sha256()
    for name, data in sorted(files.items()):
        everything.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    build = "b-" + everything.hexdigest()[:16] + "/"
    page = files["index.html"].decode()
    page = re.sub(r'(\s(?:href|src)=")(?=([^"#:]+)")', lambda m: m[1] + (build if m[2] in parts else ""), page)
    preload = "".join('<link rel="modulepreload" href="%s%s">\n' % (build, name) for name in needed)
    files["index.html"] = page.replace("</head>", preload + "</head>", 1).encode()
    shell = {"version": build[2:-1], "files": ["./"] + sorted(build + name for name in parts if not name.startswith(SELDOM)),
             "push": "sw-push.js" in files}
    files["sw-shell.js"] = ("self.SHELL = " + json.dumps(shell) + ";\n").encode()
    return build


def c_array(name, data):
    numbers = [str(byte) for byte in data]
    lines = [",".join(numbers[i:i + 32]) for i in range(0, len(numbers), 32)]
    return "static const unsigned char %s[] = {\n%s\n};\n" % (name, ",\n".join(lines) or "0")


def c_string(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def c_file(number, name, data):
    """(arrays, row of the table)"""
    tag = hashlib.sha256(data).hexdigest()[:32]
    arrays = c_array("data%d" % number, data)
    small = gzip.compress(data, 9, mtime=0) if name.endswith(COMPRESSED) else data
    row = "\t{ %s, data%d, %d, %s, " % (c_string(name), number, len(data), c_string('"%s"' % tag))
    if len(small) > len(data) * 9 // 10:
        return arrays, row + "NULL, 0, NULL },"
    arrays += c_array("small%d" % number, small)
    return arrays, row + "small%d, %d, %s }," % (number, len(small), c_string('"%s-gz"' % tag))


def main():
    esbuild, output, depfile, root, *more = sys.argv[1:]
    roots = [("", root)] + [(name, folder) for name, _, folder in (each.partition("=") for each in more)]
    paths = [each for name, folder in roots for each in files_below(folder, name and name + "/")]
    files = {name: content(name, path) for name, path in paths if not name.startswith("js/") or name in CLASSIC}
    modules, needed = bundle(esbuild, roots)
    files.update(modules)
    build = finish_page(files, needed)
    parts = ["/* Generated by embed.py. */\n#include \"files.h\"\n"]
    rows = []
    for number, (name, data) in enumerate(sorted(files.items())):
        arrays, row = c_file(number, name, data)
        parts.append(arrays)
        rows.append(row)
    parts.append("const struct embedded_file embedded_files[] = {\n%s\n};" % "\n".join(rows))
    parts.append("const size_t embedded_files_n = %d;" % len(rows))
    parts.append("const char embedded_build[] = %s;\n" % c_string(build))
    with open(output, "w", encoding="utf-8") as stream:
        stream.write("\n".join(parts))
    folders = {os.path.dirname(path) for _, path in paths} | {folder for _, folder in roots}
    inputs = sorted(folders) + [path for _, path in paths]
    with open(depfile, "w", encoding="utf-8") as stream:
        stream.write("%s: %s\n" % (output, " ".join(i.replace(" ", "\\ ") for i in inputs)))


main()
