"""link.put: a file that outlives releases, put where they find it."""

import sys
from pathlib import Path, PurePosixPath

from ..config.mistakes import nearest
from ..config.settings import Settings
from ..errors import ConfigError
from ..session.run import Run
from ..session.session import open_session
from ..steps import release

LARGEST = 100 * 1024 * 1024  # bytes


def put(run: Run, path: str, file: str) -> None:
    """Send the content and put it in place in one step; what is in it is shown nowhere."""
    name = linked_name(run.settings, path)
    content = read_content(file)
    with open_session(run, f"link.put {name}", 0) as session:
        session.runner.put("content", content)
        session.runner.run([release.put_link(name)])
        place = session.layout.shared / name
        run.outcome.details = {"path": str(place), "bytes": len(content)}
        then = "restart" if session.live else "deploy"
    run.headline(f"{place} has {len(content)} bytes")
    run.outcome.suggestions.append(f"fab -H {run.name} {then}")
    run.console.say(f"  next: fab -H {run.name} {then}")


def linked_name(settings: Settings, path: str) -> str:
    """Return `path` as the release has it. ConfigError when no release would find it there."""
    name = str(PurePosixPath(path))
    known = [*settings.linked_files, *settings.linked_folders]
    below = any(PurePosixPath(name).is_relative_to(folder) and name != folder for folder in settings.linked_folders)
    if ".." not in PurePosixPath(name).parts and (name in settings.linked_files or below):
        return name
    raise ConfigError(
        f"{path} is none of linked_files and in none of linked_dirs{nearest(name, known)}",
        hint=f'linked_files = ["{name}"] in hosts.toml, if every release is to have it',
    )


def read_content(file: str) -> bytes:
    """Read the file, or standard input. ConfigError for one that cannot be read, and for a terminal."""
    try:
        if file:
            content = Path(file).expanduser().read_bytes()
        elif sys.stdin.isatty():
            raise ConfigError("standard input is a terminal", hint="--file PATH, or: link.put ... < PATH")
        else:
            content = sys.stdin.buffer.read()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", hint="name another file with --file") from None
    if len(content) > LARGEST:
        raise ConfigError(f"{len(content) >> 20} MB are too much for link.put", hint="scp, for files over 100 MB")
    return content
