"""What OpenSSH would do for a host: its ssh_config, as `ssh -G` reads it. Nothing here connects."""

import getpass
import os
import pwd
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko

from ..errors import ConfigError

# Of ssh_config(5), where neither `ssh -G` nor a file says otherwise.
IDENTITIES = tuple(f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk"))
FILES = {"userknownhostsfile", "identityagent", "identityfile", "certificatefile"}
USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


@dataclass(frozen=True)
class SshConfig:
    """The options of one host that count here, with `~`, `%h` and their like filled in."""

    address: str
    port: int
    user: str
    identities: tuple[Path, ...] = ()
    certificates: tuple[Path, ...] = ()
    identities_only: bool = False
    agent: str = "SSH_AUTH_SOCK"  # or the path of a socket, or `none`
    known_hosts: tuple[Path, ...] = ()
    global_known_hosts: tuple[Path, ...] = ()
    hash_known_hosts: bool = False
    key_alias: str = ""
    proxy_jump: str = ""
    proxy_command: str = ""


def look_up(name: str, user: str | None = None, port: int | None = None) -> SshConfig:
    """What ssh_config says of `name`; a user or port given here wins. Raises ConfigError for a file with mistakes."""
    ssh = shutil.which("ssh") if _home_of_passwd() else None  # it refuses a user whom the password file does not have
    options = _asked(ssh, name, user, port) if ssh else _parsed(name)

    def first(option: str, default: str = "") -> str:
        value = next(iter(options.get(option, [])), default)
        return "" if value.lower() == "none" else value

    address = first("hostname", name)
    there = (user or first("user", _me()), port or int(first("port", "22")))
    fill_in = _Tokens({"n": name, "h": address, "r": there[0], "p": str(there[1])})
    agent = next(iter(options.get("identityagent", [])), "SSH_AUTH_SOCK")
    return SshConfig(
        address=address,
        user=there[0],
        port=there[1],
        identities=fill_in.paths(options.get("identityfile", IDENTITIES)),
        certificates=fill_in.paths(options.get("certificatefile", [])),
        identities_only=first("identitiesonly") in ("yes", "true"),
        agent=agent if agent in ("none", "SSH_AUTH_SOCK") else str(fill_in.path(agent)),
        known_hosts=fill_in.paths(_words(options, "userknownhostsfile", USER_KNOWN_HOSTS)),
        global_known_hosts=fill_in.paths(_words(options, "globalknownhostsfile", GLOBAL_KNOWN_HOSTS)),
        hash_known_hosts=first("hashknownhosts") in ("yes", "true"),
        key_alias=first("hostkeyalias"),
        proxy_jump=first("proxyjump"),
        proxy_command=fill_in.text(first("proxycommand")),
    )


def _asked(ssh: str, name: str, user: str | None, port: int | None) -> dict[str, list[str]]:
    """Ask OpenSSH itself: it knows Include, Match and what else its version has."""
    given = [*(["-l", user] if user else []), *(["-p", str(port)] if port else [])]
    command = [ssh, "-G", *_other_home(), *given, "--", name]
    answer = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if answer.returncode:
        raise ConfigError(
            f"ssh cannot read its configuration: {(answer.stderr.strip() or 'no reason given').splitlines()[0]}",
            hint=f"correct it; see: ssh -G {name}",
        )
    options = defaultdict(list)
    for line in answer.stdout.splitlines():
        option, _, value = line.partition(" ")
        options[option].append(value)
    if _other_home():
        before = re.compile(rf"(?<!\S){re.escape(str(_home_of_passwd()))}/")
        for option in FILES & options.keys():
            options[option] = [before.sub("~/", value) for value in options[option]]
    return dict(options)


def _other_home() -> list[str]:
    """OpenSSH takes the home of the password file for ~; everything else here, and every shell, takes HOME."""
    if Path.home() == _home_of_passwd():
        return []
    file = Path.home() / ".ssh/config"
    return ["-F", str(file) if file.exists() else "none"]


def _home_of_passwd() -> Path | None:
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # in containers of CI that give each job a number for a user
        return None


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _parsed(name: str) -> dict[str, list[str]]:
    """Without the program `ssh`: paramiko's reading of the user's file, which knows no Include."""
    file = Path.home() / ".ssh/config"
    if not file.exists():
        return {}
    try:
        found = paramiko.SSHConfig.from_path(str(file)).lookup(name)
    except paramiko.SSHException as error:
        raise ConfigError(f"{file} cannot be read: {error}", hint="correct it") from error
    except KeyError as error:
        raise ConfigError(f"{file} cannot be read: user {os.getuid()} has no name", hint="set USER") from error
    return {option: value if isinstance(value, list) else [value] for option, value in found.items()}


def _words(options: Mapping[str, Sequence[str]], option: str, default: Sequence[str]) -> Sequence[str]:
    """The files of an option that takes several on one line."""
    values = options.get(option)
    return default if values is None else [word for value in values for word in value.split()]


class _Tokens:
    """Fills in what ssh_config(5) calls TOKENS, `~`, and `${NAME}` of the environment."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._tokens = {"%": "%", "d": str(Path.home()), "u": _me(), **tokens}

    def text(self, text: str) -> str:
        return re.sub(r"%(.)", lambda token: self._tokens.get(token[1], token[0]), text)

    def path(self, text: str) -> Path:
        return Path(os.path.expandvars(self.text(text.strip('"')))).expanduser()

    def paths(self, texts: Sequence[str]) -> tuple[Path, ...]:
        return tuple(self.path(text) for text in texts if text.lower() != "none")
