#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rust declarations of <chatd/plugin.h>, on standard output.

usage: rust-bindings.py PATH/chatd/plugin.h [CC]

The header is plain enough for that: what the preprocessor leaves of it are opaque types, structs of
simple fields and of function pointers, and enums of constants.  Each function of the table is there
with its types; what the plugin gives is Option, as it may be missing.
"""
import os
import re
import subprocess
import sys

SIMPLE = {"void": "c_void", "char": "c_char", "int": "i32", "int32_t": "i32", "uint32_t": "u32", "int64_t": "i64",
          "uint64_t": "u64", "size_t": "usize", "unsigned": "u32"}


def split(text, at):
    """Parts of @p text at the character @p at, outside of parentheses."""
    parts, depth, part = [], 0, ""
    for c in text:
        depth += (c == "(") - (c == ")")
        if c == at and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += c
    return [p for p in parts + [part.strip()] if p]


def rust_type(c):
    """Of a C type without a name."""
    c = c.strip()
    if c.endswith("*const"):
        c = c[:-5].strip()
    if c.endswith("*"):
        inner = c[:-1].strip()
        const = re.search(r"\bconst\b", inner) and not inner.endswith("*") or inner.endswith("*const")
        return ("*const " if const else "*mut ") + rust_type(inner)
    c = re.sub(r"\b(const|struct|extern)\b", "", c).strip()
    return SIMPLE.get(c, c)


def function(result, params, optional):
    rust = []
    for p in split(params, ","):
        if p == "void":
            continue
        rust.append("..." if p == "..." else declare(p, optional=True)[1])
    result = rust_type(result)
    text = 'unsafe extern "C" fn(%s)%s' % (", ".join(rust), "" if result == "c_void" else " -> " + result)
    return "Option<%s>" % text if optional else text


def declare(text, optional):
    """(name, Rust type) of a field or a parameter, whose name may be missing."""
    m = re.match(r"^(.*?)\(\s*\*\s*(\w*)\s*\)\s*\((.*)\)$", text, re.S)
    if m:
        return m.group(2), function(m.group(1), m.group(3), optional)
    m = re.match(r"^(.*?)(\w+)?\s*\[(\w+)\]$", text, re.S)
    if m:  # an array parameter is a pointer
        return m.group(2), "*mut " + rust_type(m.group(1))
    m = re.match(r"^(.*[\s*])(\w+)$", text, re.S)
    if m and m.group(1).strip() not in ("struct", "const", "const struct", "") and m.group(2) not in SIMPLE:
        return m.group(2), rust_type(m.group(1))
    return "", rust_type(text)


def fields(body, optional):
    for line in split(body, ";"):
        if "(" in line:
            yield declare(line, optional)
            continue
        parts = split(line, ",")
        base = re.match(r"^((?:const\s+|struct\s+)*\w+)", parts[0]).group(1)
        for i, part in enumerate(parts):
            yield declare(part if i == 0 else base + " " + part, optional)


def main():
    header = sys.argv[1]
    text = subprocess.run([sys.argv[2] if len(sys.argv) > 2 else "cc", "-E", "-P", "-I",
                           os.path.dirname(os.path.dirname(os.path.abspath(header))), header],
                          check=True, capture_output=True, text=True).stdout
    text = re.sub(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)", "", text)
    text = re.sub(r"static inline[^{]*\{.*?\n\}", "", text, flags=re.S)
    print("// Made by rust-bindings.py from chatd/plugin.h: do not edit.\nuse std::os::raw::{c_char, c_void};\n")
    for name in re.findall(r"typedef struct (chatd_\w+) \1;", text):
        print("#[repr(C)]\npub struct %s {\n    _opaque: [u8; 0],\n}" % name)
    for c, name in re.findall(r"^typedef (u?int\d+_t) (chatd_\w+);", text, re.M):
        print("pub type %s = %s;" % (name, SIMPLE[c]))
    for result, name, params in re.findall(r"^typedef ([\w ]+?) (chatd_\w+)\(([^;]*)\);", text, re.M | re.S):
        print("pub type %s = %s;" % (name, function(result, params, False)))
    for body in re.findall(r"\benum\s*\{(.*?)\}", text, re.S):
        value = -1
        for part in split(body, ","):
            name, _, given = (p.strip() for p in part.partition("="))
            shift = re.match(r"^1 << (\d+)$", given)
            value = 1 << int(shift.group(1)) if shift else int(given, 0) if given else value + 1
            kind = "u32" if name.startswith("chatd_hook_") or shift else "i32"
            print("pub const %s: %s = %d;" % (name, kind, value))
    major, minor = (re.search(r"CHATD_ABI_%s (\d+)u" % x, open(header, encoding="utf-8").read()).group(1)
                    for x in ("MAJOR", "MINOR"))
    print("pub const CHATD_ABI_MAJOR: u32 = %s;\npub const CHATD_ABI_MINOR: u32 = %s;" % (major, minor))
    structs = re.findall(r"^struct (chatd_\w+)\s*\{(.*?)^\};", text, re.M | re.S)
    for name, body in structs:
        given = name in ("chatd_plugin", "chatd_router", "chatd_each", "chatd_timer")
        print("#[repr(C)]\n%spub struct %s {" % ("#[derive(Clone, Copy)]\n" if name == "chatd_str" else "", name))
        for field, kind in fields(body, given):
            # A hook or handler is a type of functions already: what C writes with a star.
            kind = re.sub(r"\*mut (chatd_\w+_fn)\b", r"\1", kind)
            print("    pub %s: %s," % ({"fn": "r#fn", "type": "r#type"}.get(field, field), kind))
        print("}")
    print("// Constants hold pointers to constants alone.\nunsafe impl Sync for chatd_plugin {}")
    print("pub const CHATD_PLUGIN_BLANK: chatd_plugin = chatd_plugin {")
    for field, kind in fields(dict(structs)["chatd_plugin"], True):
        value = {"struct_size": "std::mem::size_of::<chatd_plugin>() as u32", "abi_minor": "CHATD_ABI_MINOR",
                 "opt_size": "std::mem::size_of::<chatd_opt>()"}.get(
                     field, "None" if kind.startswith("Option") else "std::ptr::null()" if kind.startswith("*") else "0")
        print("    %s: %s," % (field, value))
    print("};")


main()
