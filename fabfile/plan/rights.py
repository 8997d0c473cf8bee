"""What runs as root on a host during a deploy: the one table.

The sudo lines that `provision` installs, the question whether the rights are there, and the calls (`as_root NAME` in
host/lib) all come from here. None of them takes a text from the deploying user: what `install_next` and
`install_before` install, root has staged (decision 28).
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from ..config.layout import Layout
from .activation import Kind
from .services import roller, services

SYSTEMCTL = "/usr/bin/systemctl"
NGINX = "/usr/sbin/nginx"


def root_commands(layout: Layout) -> dict[str, str]:
    """Every command that a deploy may call, by its name; also those of a process that has left hosts.toml."""
    unit, install = layout.unit, f"{layout.installer} {layout.staged}"
    return {
        "install_next": f"{install} next",
        "install_before": f"{install} before",
        "restart_service": f"{SYSTEMCTL} restart {unit}.service",
        "stop_units": f"{SYSTEMCTL} stop {unit}.socket {unit}.service",
        "restart_socket": f"{SYSTEMCTL} restart {unit}.socket",
        "reload_nginx": f"{SYSTEMCTL} reload nginx.service",
        "test_nginx": f"{NGINX} -t -q",
        "roll_processes": f"{SYSTEMCTL} start {roller(layout).units[0]}",
    }


def needed(
    layout: Layout, files: Iterable[PurePosixPath], activation: Kind, *, first: bool = False, roll: bool = False
) -> list[str]:
    """Names of the commands that a switch with these changed files and this activation runs, and its way back.

    `first` says that nothing is live yet: the way back then stops what was started. `roll` says that workers and timers
    are brought to the release, too.
    """
    files = list(files)
    names = ["install_next", "install_before"] if files else []
    if layout.site_file in files:
        names.append("reload_nginx")
    if activation in ("restart", "start", "hold"):
        names.append("restart_service")
    if activation == "start":
        names.append("restart_socket")
    if first:
        names.append("stop_units")
    if roll:
        names.append("roll_processes")
    return names


def sudo_lines(layout: Layout, user: str, *, leaving: bool = False) -> list[str]:
    """The lines of the sudoers file: to the letter what the deploying user may run as root.

    `leaving` says that the host still has processes, although hosts.toml has none: a deploy is to end them.
    """
    commands = root_commands(layout)
    if len(services(layout, leaving=leaving)) == 1:
        del commands["roll_processes"]
    return [f"{user} ALL=(root) NOPASSWD: {command}" for command in commands.values()]


def too_wide(layout: Layout, rights: Iterable[str]) -> list[str]:
    """Those of a user's `rights`, as sudo lists them, that no deploy needs, of this app or of another one."""
    any_app = root_commands(replace(layout, name="NAME")).values()
    known = "|".join(re.escape(command).replace("NAME", "[a-z0-9-]+") for command in any_app)
    return [right for right in rights if not re.fullmatch(known, right)]
