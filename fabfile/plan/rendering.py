"""The files that a host gets, as text made from its settings alone; nothing here writes one."""

import hashlib
import html
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from textwrap import indent
from typing import TYPE_CHECKING, Any

from ..config.layout import Layout, Release
from ..config.places import TEMPLATES, hosts_file, own_templates
from ..errors import ConfigError
from . import request
from .proxies import networks
from .rights import sudo_lines
from .services import Service, patience, services

if TYPE_CHECKING:
    from jinja2 import Environment

    from ..config.settings import Settings

GUNICORN_CONF = Path(__file__).parents[1] / "host" / "gunicorn.conf.py"
ROLL = Path(__file__).parents[1] / "host/roll_processes.sh"
INSTALLER = Path(__file__).parents[1] / "host/install_files.sh"


def service(settings: "Settings") -> str:
    """Return the systemd service."""
    return _render("consult-django.service.j2", settings=settings, layout=Layout.of(settings))


def socket(settings: "Settings") -> str:
    """Return the systemd socket, which holds requests while the service restarts (decision 10)."""
    return _render("consult-django.socket.j2", settings=settings, layout=Layout.of(settings))


def site(settings: "Settings", bridge: Layout | None = None) -> str:
    """Return the nginx site; with a `bridge`, one that leads there, and to the website itself when that is gone."""
    return _render(
        "nginx-django.conf.j2",
        settings=settings,
        layout=Layout.of(settings),
        open_path=request.open_path(settings),
        mark_header=request.MARK,
        site_mark=request.mark(settings),
        proxies=networks(settings.trusted_proxies),
        include=included(settings),
        bridge=bridge,
    )


def bridge(settings: "Settings", release: Release) -> dict[str, str]:
    """Return unit and socket of a second website that serves `release`, and the site that leads there, by name."""
    layout = Layout.of(settings).bridge(release)
    return {
        layout.service_file.name: _render("consult-django.service.j2", settings=settings, layout=layout),
        layout.socket_file.name: _render("consult-django.socket.j2", settings=settings, layout=layout),
        layout.site_file.name: site(settings, layout),
    }


def maintenance_page(message: str) -> str:
    """Return the page that visitors see while the site is closed."""
    text = html.escape(message or "This site is being worked on. Please try again in a few minutes.")
    return _render("maintenance.html.j2", message=text)


def included(settings: "Settings") -> str:
    """Return the lines of `nginx_include`, beside hosts.toml. Raises ConfigError when they cannot be read."""
    if not settings.nginx_include:
        return ""
    path = hosts_file().absolute().parent / settings.nginx_include
    try:
        return indent(path.read_text(encoding="utf-8").rstrip(), "    ")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise ConfigError(
            f"nginx_include {settings.nginx_include}: {path} cannot be read: {reason}",
            hint="it is a file in the folder of hosts.toml, or below",
        ) from error


def installer() -> str:
    """Return the program by which the deploying user installs what root has staged."""
    return INSTALLER.read_text(encoding="utf-8")


def gunicorn_conf() -> str:
    """Return the settings file of gunicorn that every release gets, as `.deploy/gunicorn.conf.py`."""
    return GUNICORN_CONF.read_text(encoding="utf-8")


def gunicorn_values(settings: "Settings") -> dict[str, Any]:
    """Return what that file reads from the `gunicorn.json` beside it."""
    layout = Layout.of(settings)
    return {
        "app_path": str(layout.app),
        "releases_path": str(layout.releases),
        "project": layout.project,
        "workers": settings.workers,
        "graceful_timeout": None,
        "health_path": settings.health_path,
        "health_host": settings.domain,
        "warm_up": list(settings.warm_up),
        "digest_key_path": str(layout.digest_key),
        # An old worker's wait (decision 2) ends before the deploy's own, which then sees how it went.
        "reload_timeout": max(1, settings.timeouts.reload * 2 // 3),
    }


def gunicorn_json(settings: "Settings") -> str:
    """Return the values as text: `.deploy/gunicorn.json`."""
    return json.dumps(gunicorn_values(settings), indent=2) + "\n"


def process(settings: "Settings", name: str) -> str:
    """Return the unit of a worker's instances, or of a timer's job."""
    value = settings.processes[name]
    program, *arguments = value.argv(settings.manage)
    return _render(
        "process.service.j2",
        settings=settings,
        layout=Layout.of(settings),
        mark=mark(settings),
        unit=f"{settings.name}-{name}",
        name=name,
        process=value,
        program=program,
        arguments="".join(f" {unit_word(word)}" for word in arguments),
    )


def timer(settings: "Settings", name: str) -> str:
    """Return the timer of a process that has a schedule."""
    value = settings.processes[name]
    return _render("timer.timer.j2", settings=settings, mark=mark(settings), name=name, process=value)


def roller(settings: "Settings", script: PurePosixPath) -> str:
    """Return the unit that runs `script`, which brings workers and timers to the live release."""
    processes = settings.processes.items()
    return _render(
        "processes.service.j2",
        settings=settings,
        layout=Layout.of(settings),
        script=script,
        processes="".join(f" {value.kind}:{name}:{value.instances}" for name, value in processes),
        patience=patience(settings),
    )


def mark(settings: "Settings") -> str:
    """The first line of a process's unit files, by which `roll_processes.sh` knows them."""
    return (
        f"# A process of {settings.name}. Written by the deploy tool, which removes it when hosts.toml no longer names "
        "the process."
    )


def unit_word(word: str) -> str:
    """Return one word of a command as a unit file has it, where `%`, `$`, quotes and backslashes mean something."""
    for character, twice in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(character, twice)
    return f'"{word}"'


def files(settings: "Settings", of: Iterable[Service] | None = None) -> dict[PurePosixPath, str]:
    """Return the files that only root may write, by their place on the host; those of some services, or of all."""
    found = {}
    for each in services(Layout.of(settings)) if of is None else of:
        found.update(zip(each.files, _texts(settings, each), strict=True))
    return found


def _texts(settings: "Settings", of: Service) -> tuple[str, ...]:
    """The texts of a service's files, in their order."""
    if of.kind == "web":
        return service(settings), socket(settings), site(settings)
    if of.kind == "roller":
        return roller(settings, of.files[1]), ROLL.read_text()
    if of.kind == "timer":
        return process(settings, of.name), timer(settings, of.name)
    return (process(settings, of.name),)


def digest(text: str) -> str:
    """The SHA-256 of a text, as the host tells that of a file."""
    return hashlib.sha256(text.encode()).hexdigest()


def digests(texts: Mapping[PurePosixPath, str]) -> dict[str, str]:
    """The digests of files, by their place on the host."""
    return {str(path): digest(text) for path, text in texts.items()}


def sudoers(settings: "Settings", *, leaving: bool = False) -> str:
    """Return the sudoers file: exactly what the deploying user may run as root; `leaving` as in `sudo_lines`."""
    lines = sudo_lines(Layout.of(settings), settings.user, leaving=leaving)
    return "\n".join(["# Written by provision of the deploy tool.", *lines]) + "\n"


@cache
def _environment(*folders: Path) -> "Environment":
    # Here, because `fab --list` has no use for it and it takes 0.1 s.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folders),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 -- no HTML; what may stand in a setting is `settings`' business
    )


def _render(template: str, **variables: object) -> str:
    return _environment(own_templates(), TEMPLATES).get_template(template).render(variables)
