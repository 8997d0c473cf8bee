"""The lab: throw-away Debian hosts on this machine, which a deploy cannot tell from real servers."""

from .host import (
    LabHost,
    boot,
    cut_network,
    down,
    execute,
    find,
    get_secrets,
    halt,
    join_network,
    names,
    power_cut,
    renew_certificates,
    running,
    set_secrets,
    ssh_command,
    standing_on,
    start_acme,
    up,
)
from .machine import LabError
from .repository import Repository

__all__ = [
    "LabError",
    "LabHost",
    "Repository",
    "boot",
    "cut_network",
    "down",
    "execute",
    "find",
    "get_secrets",
    "halt",
    "join_network",
    "names",
    "power_cut",
    "renew_certificates",
    "running",
    "set_secrets",
    "ssh_command",
    "standing_on",
    "start_acme",
    "up",
]
