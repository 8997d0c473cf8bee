"""The git repository of a lab host, written to from outside: what somebody's `git push` would have done."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from .machine import ENV, LabError, last_line

IDENTITY = "Lab <lab@localhost>"
GIT = ("git", "-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null")


class Machine(Protocol):
    """What holds the repository: a lab host, whose module needs this one."""

    @property
    def root(self) -> Path: ...


class Repository:
    """The application's repository on a host, which the host itself clones as git://127.0.0.1/consult.git."""

    url = "git://127.0.0.1/consult.git"

    def __init__(self, host: Machine) -> None:
        self.folder = host.root / "srv/lab/git/consult.git"

    def commit(
        self,
        changes: Mapping[str, str | bytes | None],
        message: str = "Change",
        branch: str = "main",
        base: str | None = None,
    ) -> str:
        """Commit files (None deletes one) on top of the branch, or of `base`, and return the commit's id."""
        return commit(self.folder, changes, message=message, branch=branch, base=base)

    def read(self, path: str, ref: str = "main") -> str:
        """Text of a file in a commit. Raises LabError when it is not there."""
        return git(self.folder, "cat-file", "blob", f"{ref}:{path}").decode()

    def files(self, ref: str = "main") -> list[str]:
        """The paths of all files in a commit."""
        return git(self.folder, "ls-tree", "-r", "--name-only", ref).decode().splitlines()

    def tag(self, name: str, ref: str = "main") -> None:
        """Set a tag, moving it if it is there."""
        git(self.folder, "update-ref", f"refs/tags/{name}", self.sha(ref))

    def sha(self, ref: str = "main") -> str:
        """Full id of a commit. Raises LabError when there is none of that name."""
        return git(self.folder, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").decode().strip()


def bare_repository(folder: Path) -> None:
    """Make an empty bare repository whose branch will be `main`."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", ".")


def commit(
    folder: Path,
    changes: Mapping[str, str | bytes | None],
    *,
    message: str,
    branch: str = "main",
    base: str | None = None,
) -> str:
    """Commit changes to a bare repository in one `git fast-import`, and return the commit's id."""
    ref = f"refs/heads/{branch}"
    parent = base or _tip(folder, ref)
    start = [f"commit {ref}", "mark :1", f"committer {IDENTITY} now", *_data(message)]
    if parent:
        start.append(f"from {git(folder, 'rev-parse', '--verify', f'{parent}^{{commit}}').decode().strip()}")
    stream = b"".join(line.encode() + b"\n" if isinstance(line, str) else line for line in start)
    stream += b"".join(_change(path, content) for path, content in changes.items())
    stream += b"\nget-mark :1\ndone\n"
    # --force: a branch may be put on another base, as `git push --force` does.
    return (
        git(folder, "fast-import", "--quiet", "--force", "--done", "--date-format=now", stdin=stream).decode().strip()
    )


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Output of git in a bare repository. Raises LabError with git's last line."""
    # Somebody's own git settings (signing, templates) must not change what the lab commits.
    env = ENV | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_DIR": str(folder)}
    done = subprocess.run([*GIT, *arguments], input=stdin, capture_output=True, env=env, cwd=folder, check=False)
    if done.returncode:
        reason = last_line(done.stderr.decode(errors="replace")) or f"exit {done.returncode}"
        raise LabError(f"git {arguments[0]} in {folder}: {reason}")
    return done.stdout


def _tip(folder: Path, ref: str) -> str:
    return git(folder, "for-each-ref", "--format=%(objectname)", ref).decode().strip()


def _data(content: str | bytes) -> list[str | bytes]:
    raw = content.encode() if isinstance(content, str) else content
    return [f"data {len(raw)}", raw + b"\n"]


def _change(path: str, content: str | bytes | None) -> bytes:
    quoted = '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if content is None:
        return f"D {quoted}\n".encode()
    raw = content.encode() if isinstance(content, str) else content
    mode = "100755" if raw.startswith(b"#!") else "100644"
    return f"M {mode} inline {quoted}\ndata {len(raw)}\n".encode() + raw + b"\n"
