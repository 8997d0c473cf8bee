"""Pythons that have their packages loaded, and fork for each program: importing is most of what a short one costs."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

SERVER = """
import importlib, json, os, signal, sys, traceback

for name in sys.argv[1:]:
    importlib.import_module(name)

def run(order):
    signal.alarm(order["limit"])
    os.setsid()
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for number, path in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        os.dup2(os.open(path, os.O_RDWR), number)
    sys.argv = ["-c", *order["words"]]
    try:
        exec(compile(order["code"], "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as exit:
        if isinstance(exit.code, str):
            print(exit.code, file=sys.stderr)
        return exit.code if isinstance(exit.code, int) else int(bool(exit.code))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        code = run(json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


LIMIT = 60  # seconds for one program; then it is killed


class Loaded:
    """A Python at `python` with `modules` loaded."""

    def __init__(self, python: Path, *modules: str) -> None:
        self.words = [str(python), "-c", SERVER, *modules]
        self.process: subprocess.Popen[str] | None = None

    def run(
        self, code: str, *words: object, folder: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """What `python -c CODE WORDS...` does in a folder, with an environment and with nothing to read."""
        if not self.process:
            self.process = subprocess.Popen(self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin
        assert self.process.stdout
        with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
            order = {
                "code": code, "words": [str(word) for word in words], "folder": str(folder),
                "environment": dict(environment), "out": out.name, "err": err.name, "limit": LIMIT,
            }  # fmt: skip
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            exit_code = int(self.process.stdout.readline())
            return subprocess.CompletedProcess(
                self.words, exit_code, Path(out.name).read_text(), Path(err.name).read_text()
            )

    def end(self) -> None:
        if self.process:
            self.process.communicate()
