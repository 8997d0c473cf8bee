"""The pages of the documentation, for somebody who types what stands there."""

import os
import re
import subprocess
from pathlib import Path

from testbed.harness import FOREIGN, PROJECT


def blocks(page: str, language: str) -> list[str]:
    """A page's blocks of code in that language, in their order."""
    text = (PROJECT / page).read_text()
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def type_in(folder: Path, commands: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type commands in a folder, as somebody to whom the tool's own virtualenv is unknown."""
    process = start_typing(folder, commands, subprocess.PIPE, **environment)
    out, err = process.communicate("", timeout=240)
    return subprocess.CompletedProcess(commands, process.returncode, out, err)


def start_typing(folder: Path, commands: str, terminal: int, **environment: str) -> subprocess.Popen[str]:
    """The same at a terminal, of which this is one end."""
    plain = {name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)}
    return subprocess.Popen(
        ["sh", "-euc", commands],
        cwd=folder,
        env={**plain, **environment},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        text=True,
        start_new_session=True,
    )


def move_in(app: Path) -> None:
    """Set the tool up in an app's own repository, as its page says; the folder beside it becomes the clone."""
    (app.parent / "django-deploy").symlink_to(PROJECT)
    done = type_in(app, blocks("docs/in-your-repository.md", "sh")[0])
    assert done.returncode == 0, done.stderr
