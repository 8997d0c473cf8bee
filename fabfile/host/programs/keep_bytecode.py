"""Runs on the host: gives a folder of Python code the compiled files of an older one, for every source that both have.

keep_bytecode.py OLD NEW: two virtualenvs, or two releases. uv hard-links the packages of one cache, so a source that
did not change is the same file. One that git has checked out anew is told by what is in it, and gets the older one's
time, for a compiled file fits its source by time and size (PEP 3147). What is missing here, Python compiles itself.
"""

import contextlib
import filecmp
import os
import sys

old, new = sys.argv[1:]


def is_same(there, here):
    """Whether both are the same source; afterwards, they have the same time."""
    if os.path.samefile(there, here):  # noqa: PTH121 - some thousand paths: pathlib takes twice the time
        return True
    times, alone = os.stat(there), os.stat(here).st_nlink == 1  # noqa: PTH116
    if not alone or not filecmp.cmp(there, here, shallow=False):  # another link to it may have a compiled file, too
        return False
    os.utime(here, ns=(times.st_atime_ns, times.st_mtime_ns))
    return True


for folder, _, names in os.walk(new):
    there = old + folder[len(new) :]
    compiled = f"{there}/__pycache__"
    if not os.path.isdir(compiled):  # noqa: PTH112
        continue
    for name in names:
        stem, end = os.path.splitext(name)  # noqa: PTH122
        target = f"__pycache__/{stem}.{sys.implementation.cache_tag}.pyc"
        if end != ".py" or not os.path.isfile(f"{there}/{target}"):  # noqa: PTH113
            continue
        with contextlib.suppress(OSError):
            if is_same(f"{there}/{name}", f"{folder}/{name}"):
                os.makedirs(f"{folder}/__pycache__", exist_ok=True)  # noqa: PTH103
                os.link(f"{there}/{target}", f"{folder}/{target}")
