"""`python -I -S usage.py REPORT WORDS...`: run a command, and write what it took into the file REPORT.

A process of its own, and a small one: at its start a child counts the memory of whoever starts it as its own.
"""

import json
import os
import sys
import time

report, *words = sys.argv[1:]
began = time.monotonic()
_, status, used = os.wait4(os.posix_spawnp(words[0], words, os.environ), 0)
ended = time.monotonic()
with open(report, "w") as file:  # noqa: PTH123 - pathlib would be most of this process
    json.dump(
        {
            "began": began,
            "seconds": ended - began,
            "cpu": used.ru_utime + used.ru_stime,
            "memory_mb": used.ru_maxrss / 1024,
        },
        file,
    )
sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)
