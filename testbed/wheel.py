"""The tool in an app's own repository, by the commands of docs/in-your-repository.md."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testbed.harness import FOREIGN, PROJECT

PAGE = PROJECT / "docs/in-your-repository.md"


def blocks(language: str) -> list[str]:
    """The page's blocks of code in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def move_in(app: Path) -> None:
    """Set the tool up in the app's repository, as the page says; the folder beside it becomes the clone."""
    (app.parent / "django-deploy").symlink_to(PROJECT)
    done = type_in(app, blocks("sh")[0])
    assert done.returncode == 0, done.stderr


def type_in(folder: Path, commands: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type commands in a folder, as somebody to whom the tool's own virtualenv is unknown."""
    return subprocess.run(
        ["sh", "-euc", commands],
        cwd=folder,
        env={**plain(os.environ), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def plain(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would tell where the tool's own virtualenv is."""
    return {name: value for name, value in environ.items() if not FOREIGN.fullmatch(name)}
