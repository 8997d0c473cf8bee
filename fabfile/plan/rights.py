"""What runs as root on a host during a deploy: the one table.

The sudo lines that `provision` installs, the question whether the rights are there, and the calls (`as_root NAME` in
host/lib) all come from here.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

from ..config.layout import Layout
from .activation import Kind
from .services import Service, services

SYSTEMCTL = "/usr/bin/systemctl"
NGINX = "/usr/sbin/nginx"
INSTALL = "/usr/bin/install -m 644 -o root -g root"


def root_commands(layout: Layout) -> dict[str, str]:
    """Every command that a deploy may call, by its name; also those of a process that has left hosts.toml."""
    return _commands(layout, services(layout, leaving=True))


def _commands(layout: Layout, of: Iterable[Service]) -> dict[str, str]:
    unit, commands = layout.unit, {}
    for service in of:
        if service.kind == "web":
            commands |= {
                "restart_service": f"{SYSTEMCTL} restart {unit}.service",
                "stop_units": f"{SYSTEMCTL} stop {unit}.socket {unit}.service",
                "restart_socket": f"{SYSTEMCTL} restart {unit}.socket",
                "reload_units": f"{SYSTEMCTL} daemon-reload",
                "reload_nginx": f"{SYSTEMCTL} reload nginx.service",
                "test_nginx": f"{NGINX} -t -q",
            }
        elif service.kind == "roller":
            commands["roll_processes"] = f"{SYSTEMCTL} start {service.units[0]}"
        commands |= {install(file): f"{INSTALL} {layout.staged / file.name} {file}" for file in service.files}
    return commands


def install(file: PurePosixPath) -> str:
    """The name of the command that installs a file from where it is staged."""
    return f"install:{file}"


def needed(
    layout: Layout, files: Iterable[PurePosixPath], activation: Kind, *, first: bool = False, roll: bool = False
) -> list[str]:
    """Names of the commands that a switch with these changed files and this activation runs, and its way back.

    `first` says that nothing is live yet: the way back then stops what was started. `roll` says that workers and timers
    are brought to the release, too.
    """
    files = list(files)
    names = [install(file) for file in files]
    if layout.site_file in files:
        names += ["test_nginx", "reload_nginx"]
    if set(files) - {layout.site_file}:
        names.append("reload_units")
    if activation in ("restart", "start"):
        names.append("restart_service")
    if activation == "start":
        names.append("restart_socket")
    if first:
        names.append("stop_units")
    if roll:
        names.append("roll_processes")
    return names


def sudo_lines(layout: Layout, user: str) -> list[str]:
    """The lines of the sudoers file: to the letter what the deploying user may run as root."""
    commands = _commands(layout, services(layout))
    return [f"{user} ALL=(root) NOPASSWD: {command}" for command in commands.values()]
