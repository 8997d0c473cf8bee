"""The way to a host: through which jump hosts, as whom, and which keys each of them is known by."""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..config.inventory import Host
from ..errors import ConfigError
from . import ssh_config
from .known_hosts import names_of
from .ssh_config import SshConfig

JUMP = re.compile(r"(ssh://)?((?P<user>[^@]+)@)?(\[(?P<six>[^]]+)\]|(?P<name>[^@:\[\]/]+))(:(?P<port>\d{1,5}))?/?")


@dataclass(frozen=True)
class Hop:
    """One login on the way to a host: a jump host, or the host itself."""

    host: str  # whose way it is: the name in hosts.toml
    name: str  # what ssh_config knows it by
    config: SshConfig
    host_key: str
    known_hosts: tuple[Path, ...]
    pin: str  # the setting that can pin its key, if there is one
    key: str = ""  # a file of a private key, and
    key_text: str = field(default="", repr=False)  # a private key itself, which hosts.toml has for it
    through: str = ""  # the jump hosts that hosts.toml has for it
    jump: bool = False
    may_be_missing: bool = False  # the user, whom provision makes

    @property
    def address(self) -> str:
        return self.config.address

    @property
    def port(self) -> int:
        return self.config.port

    @property
    def user(self) -> str:
        return self.config.user

    @property
    def where(self) -> str:
        """It in a sentence: user, address and port."""
        text = f"{self.user}@{bracketed(self.address)}:{self.port}"
        return f"the jump host {text}" if self.jump else text

    @property
    def known_names(self) -> tuple[str, ...]:
        """What known_hosts calls it, the surest name first."""
        return (self.config.key_alias,) if self.config.key_alias else names_of(self.address, self.port)

    @property
    def scanned(self) -> str:
        """The arguments of ssh-keyscan that ask for its key."""
        return f"-p {self.port} {self.address}" if self.port != 22 else self.address

    @property
    def ssh(self) -> str:
        """The command that shows what OpenSSH has to say."""
        port = f" -p {self.port}" if self.port != 22 else ""
        key = f" -i {self.key}" if self.key else ""
        through = f" -J {self.through}" if self.through else ""
        return f"ssh{port}{key}{through} {self.user}@{self.name}"


def hops(host: Host) -> list[Hop]:
    """The logins on the way to a host, the nearest first. Raises ConfigError."""
    settings = host.settings
    config = ssh_config.look_up(host.address, settings.user, settings.port)
    jumps = list(_jumps(settings.jump or config.proxy_jump, (host.address, config.address)))
    files = [Path(settings.known_hosts).expanduser()] if settings.known_hosts else []

    def hop(name: str, config: SshConfig, *, jump: bool) -> Hop:
        own = (*files, *config.known_hosts) or (Path("~/.ssh/known_hosts").expanduser(),)
        known_hosts = (*own, *config.global_known_hosts)
        return Hop(
            host.name,
            name,
            config,
            "" if jump else settings.host_key or "",
            known_hosts,
            pin="" if jump else "host_key",
            key=settings.key or "",
            key_text=settings.key_text or "",
            through="" if jump else settings.jump or "",
            jump=jump,
            may_be_missing=not jump and settings.user != settings.admin,
        )

    way = [hop(name, there, jump=True) for name, there in jumps]
    if way and settings.jump and "," not in settings.jump:
        way[-1] = replace(way[-1], pin="jump_host_key", host_key=settings.jump_host_key or "")
    return [*way, hop(host.address, config, jump=False)]


def bracketed(address: str) -> str:
    """An address as it stands before a port."""
    try:
        return f"[{address}]" if ipaddress.ip_address(address.partition("%")[0]).version == 6 else address
    except ValueError:
        return address


def _jumps(text: str, behind: tuple[str, ...]) -> Iterator[tuple[str, SshConfig]]:
    """The jump hosts of `text` (as ssh -J has it), the nearest first; that one may be behind another by ssh_config.

    `behind` are the names of what they lead to.
    """
    places = [_place(jump) for jump in text.split(",") if jump.strip().lower() not in ("", "none")]
    if not places:
        return
    configs = [ssh_config.look_up(*place) for place in places]
    nearest = (places[0][0], configs[0].address)
    if set(nearest) & set(behind[:2]):  # `Host *` with a ProxyJump means the jump host too
        return
    if set(nearest) & set(behind):
        raise ConfigError(f"ProxyJump goes in a circle: {' through '.join(behind[::2])} through {nearest[0]}")
    yield from _jumps(configs[0].proxy_jump, (*nearest, *behind))
    yield from ((place[0], config) for place, config in zip(places, configs, strict=True))


def _place(text: str) -> tuple[str, str | None, int | None]:
    """The name, user and port of [ssh://][USER@]NAME[:PORT]."""
    found = JUMP.fullmatch(text.strip())
    if not found:
        raise ConfigError(f"{text!r} is no jump host", hint="write it as [USER@]NAME[:PORT], as in ssh -J")
    return found["six"] or found["name"], found["user"], int(found["port"]) if found["port"] else None
