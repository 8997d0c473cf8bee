"""What travels to a host at the start of a run: the functions and programs of `host/`, and the app's constants."""

import gzip
import io
import re
import shlex
import tarfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ..config.layout import Layout
from ..plan.rights import root_commands
from ..plan.services import services

HOST = Path(__file__).parents[1] / "host"
# At the beginning of a file, or of what a line with a colon begins.
DOCSTRING = re.compile(rb'(\A|:\n[ \t]*)"""(.*?)"""', re.DOTALL)
# What one verb alone needs, and sends by itself: a deploy is to carry as little as it can.
SENT_BY_ADOPT = ("read_server.py", "old_secrets.py")


def archive(layout: Layout, further: Mapping[str, bytes] | None = None) -> bytes:
    """A compressed archive of the library, less than 60 kB: a runner that waits for the lock does not read it yet.

    `further` are files by their places in it; tests bring some.
    """
    content = {**files(), "context.sh": context(layout).encode(), **(further or {})}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), 6, mtime=0)  # 9 takes twice the time for 1 % less


@cache
def files() -> dict[str, bytes]:
    """The host's functions and programs, by their places in the library."""
    programs = [path for path in sorted(HOST.glob("programs/*.py")) if path.name not in SENT_BY_ADOPT]
    paths = [HOST / "main.sh", *sorted(HOST.glob("lib/*.sh")), *programs]
    content = {str(path.relative_to(HOST)): path.read_bytes() for path in paths}
    return {
        name: (without_comments if name.endswith(".sh") else without_docstrings)(data) for name, data in content.items()
    }


def without_comments(script: bytes) -> bytes:
    """A shell script whose lines of comment are empty: a fifth less to send; its lines keep their numbers."""
    return re.sub(rb"(?m)^[ \t]*#.*$", b"", script)


def without_docstrings(program: bytes) -> bytes:
    """A Python program whose docstrings are empty; its lines keep their numbers."""
    return DOCSTRING.sub(lambda found: found[1] + b'""' + b"\n" * found[2].count(b"\n"), program)


def program(name: str) -> bytes:
    """A program that a verb sends by itself, as a file of its runner."""
    return (HOST / "programs" / name).read_bytes()


def context(layout: Layout) -> str:
    """The app's constants, its files that root writes, and the table of root commands, as assignments of bash."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in layout.constants().items()]
    files = [shlex.quote(str(file)) for service in services(layout, leaving=True) for file in service.files]
    table = [f"[{shlex.quote(name)}]={shlex.quote(command)}" for name, command in root_commands(layout).items()]
    return "\n".join([*lines, "declare -a FILES=(", *files, ")", "declare -A ROOT=(", *table, ")", ""])
