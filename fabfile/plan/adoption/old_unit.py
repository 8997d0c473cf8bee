"""How an old service runs the app: in which folder, at which address, by which settings file. Pure."""

import posixpath
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import unit_file
from .old_command import Start, start

if TYPE_CHECKING:
    from ...config.settings import Settings

DEFAULT_ADDRESS = "127.0.0.1:8000"


def texts_of(unit: Mapping[str, Any]) -> list[str]:
    """Return the text of a unit and of its drop-ins."""
    return [unit["text"], *(each["text"] for each in unit["drop_ins"])]


def started_by(unit: Mapping[str, Any]) -> Start:
    """Return how a unit starts a web server, with what its environment adds."""
    options = unit_file.options(texts_of(unit))
    arguments = unit_file.variables(options).get("GUNICORN_CMD_ARGS", "")
    commands = [start(command, arguments) for command in unit_file.every(options, "ExecStart")]
    return next((each for each in commands if each.server), Start())


def directory(unit: Mapping[str, Any]) -> str:
    """Return the folder in which a unit's gunicorn runs."""
    working = unit_file.last(unit_file.options(texts_of(unit)), "WorkingDirectory", "/").lstrip("-")
    return posixpath.normpath(posixpath.join(working, str(started_by(unit).settings.get("chdir", "."))))


def conf_of(unit: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, str]:
    """Return where gunicorn's settings file lies, and its text if that was read."""
    named = str(started_by(unit).settings.get("config", "gunicorn.conf.py")).removeprefix("file:")
    path = posixpath.normpath(posixpath.join(directory(unit), named))
    inside = posixpath.relpath(path, found["folder"]["path"])
    return path, found["folder"]["gunicorn_conf"].get(inside, "")


def addresses_of(unit: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return where the old gunicorn listens: paths of sockets first, then HOST:PORT by which the server itself asks."""
    for socket in found["sockets"]:
        if socket["service"] == unit["name"]:
            texts = [socket["text"], *(each["text"] for each in socket["drop_ins"])]
            return [_address(unit_file.last(unit_file.options(texts, "Socket"), "ListenStream"))]
    started = started_by(unit)
    if uds := started.settings.get("uds"):
        return [str(uds)]
    if "port" in started.settings:
        return [_address(f"{started.settings.get('host', '127.0.0.1')}:{started.settings['port']}")]
    written = re.search(r"(?m)^bind\s*=\s*\[?\s*[\"']([^\"']+)", conf_of(unit, found)[1])
    binds = started.binds or [written[1] if written else DEFAULT_ADDRESS]
    return sorted(map(_address, binds), key=lambda address: not address.startswith("/"))


def _address(bind: str) -> str:
    if bind.startswith(("unix:", "/")):
        return re.sub(r"^(unix:(//)?)?(/var(?=/run/))?", "", bind)
    host, _, port = bind.rpartition(":")
    return f"{'127.0.0.1' if host in ('', '0.0.0.0', '[::]', '*') else host}:{port or '8000'}"  # noqa: S104


def in_its_project(settings: "Settings", unit: Mapping[str, Any], found: Mapping[str, Any]) -> "Settings":
    """Return the settings with the project that the old service runs in, from which its static files are seen."""
    project = posixpath.relpath(directory(unit), found["folder"]["path"])
    return settings if project.startswith("..") else settings.model_copy(update={"project": project})
