"""hosts.toml, read whole: every mistake of the file is told at once. Nothing here connects to a host."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .inventory import Inventory
from .mistakes import dotted, mistakes, nearest, not_this
from .neighbours import clashes
from .places import DISTRIBUTION, HOSTS, hosts_file, version
from .references import Reference, without_references
from .settings import STAND_INS, Settings
from .table import fields_of, is_table, type_below
from .tool import MISTAKE, how_to_get, is_request, satisfies
from .values import Value, Values

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# What no default could know: settings of the app that every host has.
ASKED_FOR = {
    "repo": "the git address of the app",
    "name": 'names the unit, the site and the folders, like "shop"',
    "wsgi": 'what gunicorn serves, like "config.wsgi:application"',
    "domain": 'the server name, like "shop.example.com"',
}
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Inventory:
    """Read hosts.toml: `path`, else the one in use. Another version of the tool, if it asks for one, is told at once.

    ConfigError tells all mistakes of the file, one per line, each with its key path.
    """
    path = path or hosts_file(environ)
    document = _parse(path)
    _need_version(path, document.get("tool"))
    reader = _Reader()
    environments, values = reader.read(document)
    if reader.mistakes:
        raise ConfigError(
            "\n".join([f"{path.name} has mistakes:", *(f"  {line}" for line in reader.mistakes)]),
            hint=f"correct {path}, then: uv run invoke check",
        )
    return Inventory(path, environ, environments, values)


def _parse(path: Path) -> dict[str, Any]:
    hint = f"{HOSTS} stands in the working folder or above it; DJANGO_DEPLOY_HOSTS names a file elsewhere"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 at byte {error.start}", hint="save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        reason = "it nests too deep" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{path} is no TOML: {reason}", hint="correct that line, then: uv run invoke check") from None


def _need_version(path: Path, asked: Any) -> None:
    """Raise ConfigError when the file asks for another version: what this one would call a mistake may be none."""
    if is_request(asked) and not satisfies(version(), asked):
        raise ConfigError(
            f"{path.name} asks for {DISTRIBUTION} {asked}; this is {version()}",
            hint=f"{how_to_get(asked)}, or change tool in {path}",
        )


class _Reader:
    """Turns the document into values by host, and notes every mistake on the way."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    def read(self, document: dict[str, Any]) -> tuple[dict[str, list[str]], dict[str, Values]]:
        """Return the hosts of each environment, and the values of each host."""
        if not is_request(document.get("tool", ">=0")):
            self._mistake(("tool",), MISTAKE)
        for key in sorted(document.keys() - {"tool", "app", "environments"}):
            self._unknown((key,), ("tool", "app", "environments"))
        app = self._settings(("app",), document.get("app", {}))
        members: dict[str, list[str]] = {}
        hosts: dict[str, Values] = {}
        homes: dict[str, str] = {}
        for name, table in self._named_tables(("environments",), document.get("environments", {})):
            place = ("environments", name)
            base = app | self._environment(place, table)
            members[name] = []
            for host, own in self._named_tables((*place, "hosts"), table.get("hosts", {})):
                if host in homes:
                    self._mistake((*place, "hosts", host), f"this host stands in {homes[host]} already")
                homes[host] = dotted(place)
                members[name].append(host)
                hosts[host] = base | self._settings((*place, "hosts", host), own)
            if not members[name]:
                self._mistake(place, f"has no hosts: add [{dotted((*place, 'hosts'))}.NAME]")
        if not members:
            self._mistake(("environments",), "is missing: add [environments.production.hosts.NAME]")
        self._shared_names(members)
        placed = {host: (f"{homes[host]}.hosts.{dotted((host,))}", values) for host, values in hosts.items()}
        self.mistakes += [f"{place}: {words}" for place, words in clashes(placed)]
        for key, meaning in ASKED_FOR.items():
            self._missing(key, meaning, members, hosts)
        for values in hosts.values():
            self._check({(key,): Value("", STAND_INS.get(key)) for key in ASKED_FOR} | values, whole=True)
        return members, hosts

    def _mistake(self, place: tuple[str, ...], words: str) -> None:
        self.mistakes.append(f"{dotted(place)}: {words}")

    def _unknown(self, place: tuple[str, ...], known: Iterable[str]) -> None:
        self._mistake(place, f"there is no such setting{nearest(place[-1], known)}")

    def _check(self, values: Values, *, whole: bool) -> None:
        literal = {key: Value(entry.where, without_references(entry.value)) for key, entry in values.items()}
        self.mistakes += [line for line in mistakes(literal, whole=whole) if line not in self.mistakes]

    def _named_tables(self, place: tuple[str, ...], tables: Any) -> list[tuple[str, dict[str, Any]]]:
        if not isinstance(tables, dict):
            self._mistake(place, "must be a table")
            return []
        for name, table in tables.items():
            if not NAME.fullmatch(name):
                self._mistake((*place, name), "a name has letters, digits and . _ - only, at most 63")
            elif not isinstance(table, dict):
                self._mistake((*place, name), "must be a table")
        return [(n, t) for n, t in tables.items() if NAME.fullmatch(n) and isinstance(t, dict)]

    def _environment(self, place: tuple[str, ...], table: dict[str, Any]) -> Values:
        """Read the settings of an environment: all of it but its hosts."""
        own = {key: value for key, value in table.items() if key != "hosts"}
        for key in [key for key, value in own.items() if isinstance(value, dict) and NAME.fullmatch(key)]:
            if key not in Settings.model_fields:
                words = f"there is no such setting; a host stands in {dotted((*place, 'hosts', key))}"
                self._mistake((*place, key), words)
                del own[key]
        return self._settings(place, own)

    def _settings(self, place: tuple[str, ...], table: Any) -> Values:
        if not isinstance(table, dict):
            self._mistake(place, "must be a table")
            return {}
        values = self._table(place, (), Settings, table)
        self._check(values, whole=False)
        return values

    def _table(self, place: tuple[str, ...], key: tuple[str, ...], kind: Any, table: dict[str, Any]) -> Values:
        """Read a table and those in it; `key` is its place in the settings of a host."""
        values = {key: Value(dotted(place), {})}
        fields = fields_of(kind)
        for name, value in table.items():
            here, below = (*place, name), type_below(kind, name)
            if fields is not None and name not in fields:
                self._unknown(here, fields)
            elif not is_table(below):
                values[*key, name] = Value(dotted(here), self._references(here, value))
            elif isinstance(value, dict):
                values |= self._table(here, (*key, name), below, value)
            else:
                self._mistake(here, f"must be a table{not_this((*key, name), value)}")
        return values

    def _references(self, place: tuple[str, ...], value: Any) -> Any:
        if isinstance(value, list):
            return [self._references(place, item) for item in value]
        if not isinstance(value, dict) or "env" not in value:
            return value
        variable = value["env"]
        if not isinstance(variable, str) or not VARIABLE.fullmatch(variable):
            self._mistake((*place, "env"), "must be the name of an environment variable")
        for key in sorted(value.keys() - {"env", "default"}):
            self._mistake((*place, key), "only `default` may stand beside `env`")
        if isinstance(value.get("default"), dict):
            self._mistake((*place, "default"), "must be a plain value")
            return None
        return Reference(str(variable), value.get("default"))

    def _shared_names(self, members: dict[str, list[str]]) -> None:
        for environment in members:
            for other, hosts in members.items():
                if environment in hosts and (other != environment or len(hosts) > 1):
                    self._mistake(
                        ("environments", other, "hosts", environment),
                        "is also the name of an environment: -H would not know which is meant",
                    )

    def _missing(self, key: str, meaning: str, members: dict[str, list[str]], hosts: dict[str, Values]) -> None:
        lacking = [name for name, values in hosts.items() if (key,) not in values]
        if lacking and len(lacking) == len(hosts):
            self._mistake(("app", key), f"is missing: {meaning}")
            return
        for environment, names in members.items():
            for name in set(names) & set(lacking):
                self._mistake(("environments", environment, "hosts", name, key), "is missing, here and in [app]")
