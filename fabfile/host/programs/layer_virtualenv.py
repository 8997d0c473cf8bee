"""Runs on the host: makes the virtualenv of a release, into which `uv sync` may install the commit's own packages.

The packages of a shared virtualenv are links in it. What uv looks at to see what is installed, it wants as folders; and
a script starts the Python of its own virtualenv, else it would not see the packages of the commit.
"""

import os
import shutil
import sys
from pathlib import Path

shared, own = map(Path, sys.argv[1:])
packages = next(shared.glob("lib/python*/site-packages")).relative_to(shared)
LARGEST = 1024 * 1024  # bytes of a script; more has only a program


def link_files(folder):
    """Make the same folder, with rights of its own, of hard links."""
    (own / folder.relative_to(shared)).mkdir()
    for path in folder.iterdir():
        if path.is_dir():
            link_files(path)
        else:
            os.link(path, own / path.relative_to(shared))


def link(path):
    """Link to it, or have the same link if it is one to a place nearby."""
    target = os.readlink(path) if path.is_symlink() else path  # noqa: PTH115 - text, as it stands
    (own / path.relative_to(shared)).symlink_to(target)


def copy(path):
    """Copy a file, with the place of the new virtualenv where it has that of the shared one."""
    content, there = path.read_bytes(), own / path.relative_to(shared)
    there.write_bytes(content.replace(os.fsencode(shared), os.fsencode(own)))
    shutil.copymode(path, there)


(own / packages).mkdir(parents=True)
(own / "bin").mkdir()
for path in shared.iterdir():
    if path.name == "pyvenv.cfg":
        copy(path)
    elif path.name not in ("bin", "lib", ".lock", ".whole"):
        link(path)
for path in (shared / "bin").iterdir():
    if path.is_symlink() or path.stat().st_size > LARGEST:
        link(path)
    else:
        copy(path)
for path in (shared / packages).iterdir():
    if path.name.endswith((".dist-info", ".egg-info")) and path.is_dir():
        link_files(path)
    elif path.name != "__pycache__":
        link(path)
