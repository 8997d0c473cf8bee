"""Runs on the host: gives a new virtualenv the compiled files of another one, for every source that both have.

uv hard-links the packages of one cache, so a source that did not change is the same file. What is missing here, Python
compiles itself; a compiled file that does not fit its source (PEP 3147: by time and size), it compiles anew.
"""

import contextlib
import os
import sys

old, new = sys.argv[1:]
for folder, _, names in os.walk(new):
    there = old + folder[len(new) :]
    compiled = f"{there}/__pycache__"
    if not os.path.isdir(compiled):  # noqa: PTH112 - some thousand paths: pathlib takes twice the time
        continue
    for name in names:
        stem, end = os.path.splitext(name)  # noqa: PTH122
        target = f"__pycache__/{stem}.{sys.implementation.cache_tag}.pyc"
        with contextlib.suppress(OSError):
            if end == ".py" and os.path.samefile(f"{folder}/{name}", f"{there}/{name}"):  # noqa: PTH121
                os.makedirs(f"{folder}/__pycache__", exist_ok=True)  # noqa: PTH103
                os.link(f"{there}/{target}", f"{folder}/{target}")
