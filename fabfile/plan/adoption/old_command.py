"""How an old service starts its web server: which, through what, and with which settings of gunicorn. Pure."""

import ast
import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from . import unit_file

SERVERS = ("gunicorn", "uvicorn", "hypercorn", "daphne", "uwsgi", "granian", "waitress-serve")

# Settings of gunicorn whose name is not that of their option: https://docs.gunicorn.org/en/stable/settings.html
NAMES = {
    "access_logfile": "accesslog", "access_logformat": "access_log_format", "env": "raw_env",
    "error_logfile": "errorlog", "keep_alive": "keepalive", "log_config": "logconfig",
    "log_config_dict": "logconfig_dict", "log_file": "errorlog", "log_level": "loglevel", "log_syslog": "syslog",
    "log_syslog_facility": "syslog_facility", "log_syslog_prefix": "syslog_prefix", "log_syslog_to": "syslog_addr",
    "name": "proc_name", "no_sendfile": "sendfile", "pid": "pidfile", "preload": "preload_app",
    "proxy_allow_from": "proxy_allow_ips",
}  # fmt: skip
SHORT = {
    "b": "bind", "c": "config", "D": "daemon", "e": "env", "g": "group", "k": "worker_class", "m": "umask",
    "n": "name", "p": "pid", "R": "enable_stdio_inheritance", "t": "timeout", "u": "user", "w": "workers",
}  # fmt: skip
FLAGS = {
    "capture_output", "check_config", "daemon", "disable_redirect_access_to_syslog", "do_handshake_on_connect",
    "enable_stdio_inheritance", "initgroups", "log_syslog", "no_control_socket", "no_sendfile", "preload",
    "print_config", "proxy_protocol", "reload", "reuse_port", "spew", "suppress_ragged_eofs",
}  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A command line that starts a web server: its settings by gunicorn's names, as Python has them.

    `before` are the words in front of it, those of Doppler's client among them; `python` is whose gunicorn it is.
    """

    server: str = ""
    program: str = ""
    before: tuple[str, ...] = ()
    app: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def binds(self) -> list[str]:
        """Where it listens, each as gunicorn takes it."""
        found = self.settings.get("bind", [])
        return [str(each) for each in found] if isinstance(found, list) else [str(found)]

    @property
    def doppler(self) -> dict[str, str] | None:
        """The options of `doppler run` before it, by their long names; None when Doppler has no part in it."""
        names = [posixpath.basename(word) for word in self.before]
        if "doppler" not in names:
            return None
        rest = list(self.before[names.index("doppler") + 1 :])
        found = {}
        for place, word in enumerate(rest):
            option, equals, value = word.partition("=")
            if option in ("--project", "-p", "--config", "-c", "--token", "-t"):
                long = {"-p": "--project", "-c": "--config", "-t": "--token"}.get(option, option)
                found[long] = value if equals else rest[place + 1] if place + 1 < len(rest) else ""
        return found


def start(command: str, arguments: str = "") -> Start:
    """Read an ExecStart; `arguments` are those of GUNICORN_CMD_ARGS, over which the command line wins."""
    words = unit_file.words(command)
    place = _server_in(words)
    if place is None:
        inner = _script(words)
        place = _server_in(inner)
        words = [*words, *inner] if place is None else inner
    if place is None:
        return Start(before=tuple(words))
    server = posixpath.basename(words[place])
    given, app = _arguments([*shlex.split(arguments), *words[place + 1 :]])
    return Start(server, words[place], tuple(words[:place]), app, given)


def _server_in(words: list[str]) -> int | None:
    """Return which word is the server's program, or its module behind `python -m`."""
    return next((place for place, word in enumerate(words) if posixpath.basename(word) in SERVERS), None)


def _script(words: list[str]) -> list[str]:
    """Return the words of a shell's script in a command."""
    for place, word in enumerate(words[:-1]):
        if re.fullmatch(r"-[a-z]*c", word):
            try:
                return shlex.split(words[place + 1])
            except ValueError:
                return words[place + 1].split()
    return []


def _arguments(words: Iterable[str]) -> tuple[dict[str, object], str]:
    """Return gunicorn's settings on a command line, and the app that it names."""
    found: dict[str, object] = {}
    app, rest = "", list(words)
    while rest:
        word = rest.pop(0)
        if re.match(r"\d?>|[;&|<]", word):
            break  # a shell's script goes on
        if not word.startswith("-") or word == "-":
            app = word
            continue
        option, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--"):
            option, value, equals = SHORT.get(word[1], word[1]), word[2:].removeprefix("="), word[2:]
        option = option.replace("-", "_")
        if option in FLAGS:
            found[NAMES.get(option, option)] = option != "no_sendfile"
            continue
        if not equals:
            value = rest.pop(0) if rest else ""
        name = NAMES.get(option, option)
        if name in ("bind", "raw_env"):
            before = found.get(name, [])
            found[name] = [*(before if isinstance(before, list) else []), value]
        else:
            found[name] = int(value) if re.fullmatch(r"\d+", value) else value
    return found, app


def lacking(given: Mapping[str, object], conf: str) -> dict[str, object]:
    """Return those settings that a gunicorn.conf.py does not have with the same value."""
    try:
        tree = ast.parse(conf)
    except (SyntaxError, ValueError):
        return dict(given)
    there = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    there[target.id] = ast.unparse(node.value)
    return {name: value for name, value in given.items() if not _same(there.get(name), value)}


def _same(written: str | None, value: object) -> bool:
    """Return whether an expression is that value; one that only Python could work out counts as it."""
    if written is None:
        return False
    try:
        return ast.literal_eval(written) == value
    except (ValueError, SyntaxError):
        return True
