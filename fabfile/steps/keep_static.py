"""Runs on the host: hard-links files with hashed names into the folder that nginx falls back to."""

import contextlib
import os
import re
import sys
from pathlib import Path

static, kept, release = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
hashed = re.compile(r"\.[0-9a-f]{8,}\.[^./]+(\.[^./]+)?$")
names = []
for path in static.rglob("*"):
    if not hashed.search(path.name) or not path.is_file():
        continue
    name = path.relative_to(static)
    names.append(str(name))
    target = kept / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # the same name means the same content: that is what the hash is for
        os.link(path, target)
lists = kept / ".lists"
lists.mkdir(parents=True, exist_ok=True)
(lists / release).write_text("".join(f"{name}\n" for name in sorted(names)))
