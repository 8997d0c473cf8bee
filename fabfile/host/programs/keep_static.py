"""Runs on the host: hard-links files with hashed names into the folder that nginx falls back to."""

import contextlib
import os
import re
import sys
from pathlib import Path

static, kept, release = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
hashed = re.compile(r"\.[0-9a-f]{8,}\.[^./]+(\.[^./]+)?$")
files = [path for path in static.rglob("*") if hashed.search(path.name) and path.is_file()]
names = sorted(str(path.relative_to(static)) for path in files)
# Listed before they are there: an earlier deploy's prune may still be at work, and deletes what no list has.
lists = kept / ".lists"
lists.mkdir(parents=True, exist_ok=True)
(lists / release).write_text("".join(f"{name}\n" for name in names))
for name in names:
    target = kept / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # the same name means the same content: that is what the hash is for
        os.link(static / name, target)
