"""Whether commands could start from a release: arguments are manage.py, and for each its name and the command.

The name is that of a process, or of the setting that the command stands in.

Runs with the release's Python and secrets, in its project folder. Programs must be in the virtualenv. Of a manage.py
command all happens but the command itself: Django is set up, the command imported, its arguments are parsed.
"""

import os
import re
import runpy
import shlex
import sys
import tempfile
import traceback
from pathlib import Path

MANAGE = "manage.py"
USAGE = re.compile("Type '.* help' for usage")  # what Django says behind its reason


def main(manage: str, processes: list[str]) -> int:
    """Say `failed: NAME: REASON` for each that could not; return the exit code."""
    failed = False
    for process in processes:
        name, _, command = process.partition(" ")
        program, *arguments = shlex.split(command)
        if program == MANAGE:
            trouble = try_manage(manage, arguments)
        else:
            path = Path(sys.executable).with_name(program)
            trouble = "" if os.access(path, os.X_OK) else f"the virtualenv has no program {program}"
        if trouble:
            sys.stdout.write(f"failed: {name}: {trouble}\n")
            failed = True
    return failed


def try_manage(manage: str, arguments: list[str]) -> str:
    """Try a manage.py command in a child of its own, for Django can be set up once; return what is wrong with it."""
    sys.stdout.flush()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        child = os.fork()
        if not child:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            run_but_execute(manage, arguments)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        said = output.read().strip()
    if not status:
        return ""
    sys.stdout.write(f"{said}\n")
    why = [line for line in said.splitlines() if not USAGE.match(line)][-1:]
    return ": ".join([f"manage.py {' '.join(arguments)} does not start", *why])


def run_but_execute(manage: str, arguments: list[str]) -> None:
    """Run manage.py with commands that do nothing, and end this process."""
    code = 1
    try:
        from django.core.management.base import BaseCommand  # ty: ignore[import-not-found] -- the release's own

        BaseCommand.execute = lambda *_arguments, **_options: None
        sys.argv = [manage, *arguments]
        sys.path[0] = str(Path(manage).resolve().parent)
        runpy.run_path(manage, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = 0 if end.code is None else 1
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # whatever it is, its last line is the evidence
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
