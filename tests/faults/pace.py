# SPDX-License-Identifier: Apache-2.0
"""How slow the machine is, while something else is measured.

    with Pace() as pace:
        ...
    assert took <= 3 * pace.factor()    # 1 where there is a processor for whoever wants one
"""
import hashlib
import threading
import time

BLOCK = bytes(1 << 22)


class Pace(threading.Thread):
    """Now and then it does a little work, and sees how long that takes from when it was due: so many times longer than
    the processor needs for it."""

    def __init__(self):
        super().__init__(daemon=True)
        self.over, self.due, self.needed = threading.Event(), 0.0, 0.0

    def run(self):
        while True:
            begin = time.monotonic() + 0.4
            if self.over.wait(0.4):
                return
            before = time.thread_time()
            hashlib.sha256(BLOCK).digest()
            self.needed += time.thread_time() - before
            self.due += time.monotonic() - begin

    def factor(self):
        return max(1.0, self.due / self.needed) if self.needed else 1.0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *what):
        self.over.set()
        self.join()
