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
    plain = {name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)}
    return subprocess.run(
        ["sh", "-euc", commands],
        cwd=folder,
        env={**plain, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def move_in(app: Path) -> None:
    """Set the tool up in an app's own repository, as its page says; the folder beside it becomes the clone."""
    (app.parent / "django-deploy").symlink_to(PROJECT)
    done = type_in(app, blocks("docs/in-your-repository.md", "sh")[0])
    assert done.returncode == 0, done.stderr
