"""The files of a repository, by their paths inside it."""

import ast
import os
import posixpath
import tomllib
import warnings
from functools import cache
from pathlib import Path
from typing import Any

SKIPPED = {"node_modules", "__pycache__", "site-packages", "venv", "env"}
LIMIT = 8_000_000  # bytes; lock files of large projects have two million


class Repository:
    """A folder with a repository in it. Paths are texts with /, seen from there."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.paths = tuple(sorted(self._walk(), key=lambda path: (path.count("/"), path)))
        self._known = frozenset(self.paths)
        self.text = cache(self._text)
        self.tree = cache(self._tree)

    def _walk(self) -> list[str]:
        found = []
        for folder, folders, names in os.walk(self.root):
            here = Path(folder)
            folders[:] = [name for name in folders if not self._is_foreign(here, name)]
            found += [(here / name).relative_to(self.root).as_posix() for name in names]
        return found

    @staticmethod
    def _is_foreign(here: Path, name: str) -> bool:
        return name in SKIPPED or name.startswith(".") or (here / name / "pyvenv.cfg").exists()

    def __contains__(self, path: str) -> bool:
        return path in self._known

    def _text(self, path: str) -> str:
        """Return the text of a file; nothing when there is none, or when it leads out of the repository."""
        place = self.root / path
        try:
            if not place.resolve().is_relative_to(self.root) or not place.is_file() or place.stat().st_size > LIMIT:
                return ""
            return place.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _tree(self, path: str) -> ast.Module:
        """Return the syntax tree of a module; an empty one when it is not Python of today."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the app's own code: of no use here
                return ast.parse(self.text(path))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return ast.Module([], [])

    def toml(self, path: str) -> dict[str, Any]:
        try:
            return tomllib.loads(self.text(path))
        except (ValueError, RecursionError):
            return {}

    def named(self, name: str, within: str = ".") -> list[str]:
        """Return the files of that name below a folder, the shallowest first."""
        start = "" if within == "." else f"{within}/"
        return [path for path in self.paths if posixpath.basename(path) == name and path.startswith(start)]

    def upwards(self, name: str, folder: str) -> str | None:
        """Return the nearest file of that name, in `folder` or above it."""
        while True:
            path = posixpath.normpath(posixpath.join(folder, name))
            if path in self:
                return path
            if folder in ("", "."):
                return None
            folder = posixpath.dirname(folder) or "."

    def module(self, dotted: str, near: str) -> str | None:
        """Return the file of a module that code in the folder `near` imports."""
        tail = dotted.replace(".", "/")
        for folder in (near, f"{near}/src", ".", "src"):
            for name in (f"{tail}.py", f"{tail}/__init__.py"):
                path = posixpath.normpath(posixpath.join(folder, name))
                if path in self:
                    return path
        ends = (f"/{tail}.py", f"/{tail}/__init__.py")
        return next((path for path in self.paths if path.endswith(ends)), None)


def is_of_tests(path: str) -> bool:
    """Return whether a path lies in a folder of tests."""
    return not {"test", "tests", "testing"}.isdisjoint(path.split("/"))


def is_below(path: str, folder: str) -> bool:
    """Return whether a path lies in a folder, or is it."""
    return folder == "." or path == folder or path.startswith(f"{folder}/")
