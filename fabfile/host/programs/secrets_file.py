r"""Runs on the host: reads and writes the file of secrets, which is also systemd's EnvironmentFile.

Takes the file and one of `read` (NAME=value of each, a NUL behind it), `names` (one a line), `set NAME FILE` (the value
is in FILE), `unset NAME`. The last two say `changed`, `same` or `none`. A line is NAME="value", with a backslash before
each of " \ $ and `: systemd and this program read the same from it.
"""

import os
import re
import sys
from pathlib import Path

LINE = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\$`]|\\["\\$`])*)"')


def read(path):
    """The secrets by name. Ends the program at a line that is none."""
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = LINE.fullmatch(line)
        if not parts:
            print(f'failed: line {number} of {path} is not NAME="value"', file=sys.stderr)
            sys.exit(1)
        found[parts[1]] = re.sub(r"\\(.)", r"\1", parts[2])
    return found


def write(path, values):
    """Write the file in place, for its folder is root's (decision 35).

    Who reads it meanwhile finds no half line of before; a full disk is told while all of it is still there.
    """
    text = "".join(f'{name}="{escaped(value)}"\n' for name, value in sorted(values.items())).encode()
    with open(os.open(path, os.O_WRONLY | os.O_NOFOLLOW), "wb", buffering=0) as file:  # noqa: PTH123
        before = os.fstat(file.fileno()).st_size
        try:
            os.posix_fallocate(file.fileno(), 0, max(len(text), before))
        except OSError:
            file.truncate(before)
            raise
        file.write(text.ljust(before, b"\n"))
        file.truncate(len(text))
        os.fsync(file.fileno())


def escaped(value):
    return re.sub(r'(["\\$`])', r"\\\1", value)


def main(place, verb, name="", file=""):
    path = Path(place)
    values = read(path)
    if verb == "read":
        sys.stdout.write("".join(f"{key}={value}\0" for key, value in values.items()))
    elif verb == "names":
        sys.stdout.write("".join(f"{key}\n" for key in sorted(values)))
    else:
        new = dict(values)
        new.pop(name, None)
        if verb == "set":
            new[name] = Path(file).read_text(encoding="utf-8")
        if new == values:
            print("same" if verb == "set" else "none")
            return
        write(path, new)
        print("changed")


main(*sys.argv[1:])
