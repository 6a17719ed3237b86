# SPDX-License-Identifier: Apache-2.0
"""The rules of faultpre.so: what they are is in faultpre.c."""
import mmap
import os
import struct

CALLS = {name: i for i, name in enumerate(("open", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "calloc"), 1)}
RULES, RULE, HEAD = 16, struct.Struct("=IiiiqqqqQQ64s"), struct.Struct("=q")
EVER = 2 ** 62


class Rules:
    """The file that a program with faultpre.so looks at; rules may change while it runs."""

    def __init__(self, path):
        self.path = path
        with open(path, "wb") as f:
            f.write(bytes(HEAD.size + RULES * RULE.size))
        self.file = open(path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), 0)

    def env(self, build):
        return {"LD_PRELOAD": os.path.join(build, "tests", "faults", "faultpre.so"), "FAULTPRE": self.path}

    def _at(self, i):
        return HEAD.size + i * RULE.size

    def set(self, i, call, path="", first=1, last=EVER, every=1, caller=(0, 0), error=0, signal=0, delay_ms=0):
        """From the first to the last call of its kind that is made from now on; of so many one.  caller: where the
        code is that calls calloc()."""
        at = self._at(i)
        self.map[at:at + 4] = struct.pack("=I", 0)
        raw = RULE.pack(0, error, signal, delay_ms, first, last, every, 0, *caller, path.encode())
        self.map[at:at + RULE.size] = raw
        self.map[at:at + 4] = struct.pack("=I", CALLS[call])

    def clear(self):
        for i in range(RULES):
            self.map[self._at(i):self._at(i) + 4] = struct.pack("=I", 0)

    def seen(self, i):
        """How often rule i's call was made."""
        return RULE.unpack_from(self.map, self._at(i))[7]

    def clock(self, seconds):
        self.map[0:HEAD.size] = HEAD.pack(int(seconds * 1e9))

    def close(self):
        self.map.close()
        self.file.close()
