"""hosts.toml: which hosts there are, and the settings of each. Nothing here connects to one."""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from fabfile.config.layout import Layout
from fabfile.config.settings import Settings, Timeouts
from fabfile.errors import ConfigError

PROJECT = Path(__file__).parents[2]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FIELDS = tuple(Settings.model_fields)
# Merged key by key; every other setting replaces the one it stands over.
TABLES = ("timeouts", "unit_options")
# May hold a password, a token or a key, on purpose or by mistake: what stands there is never shown.
UNSHOWN = ("key_text", "repo", "public_url", "unit_options", "authorized_keys")
WORDS = {
    "string_type": "must be text",
    "string_unicode": "must be text that UTF-8 can write",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
}
BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Host:
    """One host of hosts.toml with every setting resolved."""

    name: str
    environment: str
    settings: Settings

    @property
    def layout(self) -> Layout:
        return Layout.of(self.settings)

    @property
    def address(self) -> str:
        """Where SSH goes; without an address that is the host's own name, which ssh_config may know."""
        return self.settings.address or self.name


@dataclass(frozen=True)
class Reference:
    """`{ env = "NAME" }`: a value that the operator's environment holds."""

    variable: str
    default: Any = None


@dataclass(frozen=True)
class Value:
    """A value and the key path under which a person finds it."""

    where: str
    value: Any
    shown: bool = True


Values = dict[tuple[str, ...], Value]


class Inventory:
    """A hosts.toml without mistakes."""

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        environments: dict[str, list[str]],
        values: dict[str, Values],
    ) -> None:
        self.path = path
        self._environ = environ
        self._members = environments
        self._environment_of = {host: name for name, hosts in environments.items() for host in hosts}
        self._values = values

    @property
    def environments(self) -> list[str]:
        return sorted(self._members)

    @property
    def hosts(self) -> list[str]:
        return sorted(self._values)

    def select(self, names: str | Iterable[str] | None, overrides: Mapping[str, object] | None = None) -> list[Host]:
        """Return the hosts meant by `names`, each once: hosts, or environments for all of theirs.

        `overrides`, those that are not None, win over the file. ConfigError tells every unknown name at once,
        or every mistake in what the operator's environment and `overrides` hold.
        """
        options: Values = {
            (key,): Value("--" + key.replace("_", "-"), _from_text((key,), value))
            for key, value in (overrides or {}).items()
            if value is not None
        }
        chosen, mistakes = {}, []
        for name in self._expand(names):
            values, unset = self._resolve(name, options)
            mistakes += [f"{where}: the environment variable {variable} is not set" for where, variable in unset]
            mistakes += _mistakes(values)
            chosen[name] = values
        if mistakes:
            raise ConfigError(
                "\n".join(dict.fromkeys(mistakes)),
                hint=f"set or correct it; {self.path} says what comes from where",
            )
        return [Host(name, self._environment_of[name], _build(values)) for name, values in chosen.items()]

    def draft(self, name: str) -> tuple[Host, list[str]]:
        """Return a host with defaults in place of environment variables that are not set, and their names."""
        values, unset = self._resolve(name, {})
        if wrong := _mistakes(values):
            raise ConfigError("\n".join(wrong), hint=f"correct it; {self.path} says what comes from where")
        return Host(name, self._environment_of[name], _build(values)), [variable for _, variable in unset]

    def _expand(self, names: str | Iterable[str] | None) -> list[str]:
        given = names.split(",") if isinstance(names, str) else names or []
        wanted = [name.strip() for name in given if name.strip()]
        known = sorted({*self._values, *self._members})
        unknown = [
            f"{_shown(name)} is no host or environment of {self.path.name}{_nearest(name, known)}"
            for name in wanted
            if name not in known
        ]
        if unknown or not wanted:
            raise ConfigError("\n".join(unknown) or "No host is named", hint=f"-H takes: {', '.join(known)}")
        return list(dict.fromkeys(host for name in wanted for host in self._members.get(name, [name])))

    def _resolve(self, name: str, options: Values) -> tuple[Values, list[tuple[str, str]]]:
        values: Values = {}
        unset: list[tuple[str, str]] = []
        for key, entry in (self._values[name] | options).items():
            found, variables = _look_up(entry.value, key, self._environ)
            unset += [(entry.where, variable) for variable in variables]
            values[key] = Value(entry.where, found, shown=found == entry.value)
        return values, unset


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Inventory:
    """Read hosts.toml: `path`, else what DJANGO_DEPLOY_HOSTS names, else the file beside this package.

    ConfigError tells all mistakes of the file, one per line, each with its key path.
    """
    path = path or Path(environ.get("DJANGO_DEPLOY_HOSTS") or PROJECT / "hosts.toml").expanduser()
    reader = _Reader()
    environments, values = reader.read(_parse(path))
    if reader.mistakes:
        raise ConfigError(
            "\n".join([f"{path.name} has mistakes:", *(f"  {line}" for line in reader.mistakes)]),
            hint=f"correct {path}, then: uv run invoke check",
        )
    return Inventory(path, environ, environments, values)


def _parse(path: Path) -> dict[str, Any]:
    hint = "hosts.toml stands beside the fabfile folder; DJANGO_DEPLOY_HOSTS names another file"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 at byte {error.start}", hint="save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        reason = "it nests too deep" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{path} is no TOML: {reason}", hint="correct that line, then: uv run invoke check") from None


class _Reader:
    """Turns the document into values by host, and notes every mistake on the way."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    def read(self, document: dict[str, Any]) -> tuple[dict[str, list[str]], dict[str, Values]]:
        for key in sorted(document.keys() - {"app", "environments"}):
            self._unknown((key,), ("app", "environments"))
        app = self._settings(("app",), document.get("app", {}))
        members: dict[str, list[str]] = {}
        hosts: dict[str, Values] = {}
        homes: dict[str, str] = {}
        for name, table in self._named_tables(("environments",), document.get("environments", {})):
            place = ("environments", name)
            base = app | self._settings(place, table, also=("hosts",))
            members[name] = []
            for host, own in self._named_tables((*place, "hosts"), table.get("hosts", {})):
                if host in homes:
                    self._mistake((*place, "hosts", host), f"this host stands in {homes[host]} already")
                homes[host] = _dotted(place)
                members[name].append(host)
                hosts[host] = base | self._settings((*place, "hosts", host), own)
            if not members[name]:
                self._mistake(place, f"has no hosts: add [{_dotted((*place, 'hosts'))}.NAME]")
        if not members:
            self._mistake(("environments",), "is missing: add [environments.production.hosts.NAME]")
        self._shared_names(members)
        self._missing_repo(members, hosts)
        return members, hosts

    def _mistake(self, place: tuple[str, ...], words: str) -> None:
        self.mistakes.append(f"{_dotted(place)}: {words}")

    def _unknown(self, place: tuple[str, ...], known: Iterable[str]) -> None:
        self._mistake(place, f"there is no such setting{_nearest(place[-1], known)}")

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

    def _settings(self, place: tuple[str, ...], table: Any, also: tuple[str, ...] = ()) -> Values:
        if not isinstance(table, dict):
            self._mistake(place, "must be a table")
            return {}
        values: Values = {}
        for key, value in table.items():
            here = (*place, key)
            if key in also:
                continue
            if key not in FIELDS:
                if also and isinstance(value, dict) and NAME.fullmatch(key):
                    self._mistake(here, f"there is no such setting; a host stands in {_dotted((*place, 'hosts', key))}")
                else:
                    self._unknown(here, (*FIELDS, *also))
            elif key in TABLES and isinstance(value, dict):
                for inner, content in value.items():
                    values[key, inner] = Value(_dotted((*here, inner)), self._references((*here, inner), content))
            else:
                values[key,] = Value(_dotted(here), self._references(here, value))
        self.mistakes += _mistakes({key: _without_references(value) for key, value in values.items()})
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

    def _missing_repo(self, members: dict[str, list[str]], hosts: dict[str, Values]) -> None:
        lacking = [name for name, values in hosts.items() if ("repo",) not in values]
        if lacking and len(lacking) == len(hosts):
            self._mistake(("app", "repo"), "is missing: the git address of the app")
            return
        for environment, names in members.items():
            for name in set(names) & set(lacking):
                self._mistake(("environments", environment, "hosts", name, "repo"), "is missing, here and in [app]")


def _without_references(entry: Value) -> Value:
    """Return what can be checked before the environment is asked: defaults, else None."""

    def literal(value: Any) -> Any:
        if isinstance(value, list):
            return [literal(item) for item in value]
        return value.default if isinstance(value, Reference) else value

    return Value(entry.where, literal(entry.value))


def _look_up(value: Any, key: tuple[str, ...], environ: Mapping[str, str]) -> tuple[Any, list[str]]:
    """Return `value` with what its references stand for (None, or in a list nothing), and what is not set."""
    if isinstance(value, list):
        pairs = [_look_up(item, (), environ) for item in value]
        return [found for found, _ in pairs if found is not None], [name for _, unset in pairs for name in unset]
    if not isinstance(value, Reference):
        return value, []
    # A CI job hands over a secret that it does not have as an empty variable.
    if text := environ.get(value.variable):
        return _from_text(key, text), []
    return value.default, [] if value.default is not None else [value.variable]


def _from_text(key: tuple[str, ...], value: Any) -> Any:
    """Return text from outside as the type of the setting; what does not fit stays text."""
    fields = Timeouts.model_fields if key[:1] == ("timeouts",) else Settings.model_fields
    if not isinstance(value, str) or not key or key[-1] not in fields:
        return value
    kinds = _kinds(fields[key[-1]].annotation)
    if bool in kinds:
        return BOOLEANS.get(value.lower(), value)
    if int in kinds and re.fullmatch(r"[0-9]{1,18}", value.strip()):
        return int(value)
    if tuple in kinds:
        lines = value.splitlines()
        return [item.strip() for item in (lines if len(lines) > 1 else value.split(",")) if item.strip()]
    return value


def _kinds(annotation: Any) -> set[Any]:
    """Return the plain types that an annotation is made of."""
    origin = get_origin(annotation)
    if origin is tuple or not get_args(annotation):
        return {origin or annotation}
    return {kind for part in get_args(annotation) for kind in _kinds(part)}


def _build(values: Values) -> Settings:
    """Return the settings; pydantic's ValidationError tells what does not fit."""
    table: dict[str, Any] = {}
    for key, entry in values.items():
        if entry.value is None:
            continue
        value = tuple(entry.value) if isinstance(entry.value, list) else entry.value
        if len(key) > 1:
            table.setdefault(key[0], {})[key[1]] = value
        else:
            table[key[0]] = value
    # Strict: what a person writes in a file has a type, and "8" or true is no number.
    return Settings.model_validate(table, strict=True)


def _mistakes(values: Values) -> list[str]:
    """Return what does not fit, a line each: key path, reason, and the value where it cannot be a secret."""
    try:
        _build(values)
    except ValidationError as error:
        # None stands for a variable that is looked up later: TOML has no such value.
        found = [e for e in error.errors(include_url=False) if e["input"] is not None]
        return [_told(values, e["loc"], e["type"], e["input"], e.get("ctx", {}), e["msg"]) for e in found]
    return []


def _told(values: Values, loc: tuple[Any, ...], kind: str, given: Any, context: dict[str, Any], text: str) -> str:
    entry = values[loc[:2]] if loc[:2] in values else values[loc[:1]]
    where = entry.where + "".join(f"[{part}]" for part in loc if isinstance(part, int))
    if kind == "extra_forbidden":
        known = Timeouts.model_fields if loc[0] == "timeouts" else FIELDS
        return f"{where}: there is no such setting{_nearest(loc[-1], known)}"
    if kind == "value_error":
        words = str(context["error"])
    elif kind == "greater_than_equal":
        words = f"must be at least {context['ge']}"
    elif kind == "less_than_equal":
        words = f"must be at most {context['le']}"
    else:
        words = WORDS.get(kind, text[:1].lower() + text[1:])
    shown = "" if not entry.shown or loc[0] in UNSHOWN or loc[-1] == "[key]" else f", not {_shown(given)}"
    return f"{where}: {words}{shown}"


def _shown(value: Any) -> str:
    """Return a value as it may stand in a message: short, and nothing that a terminal would act on."""
    if isinstance(value, bool | str) or (isinstance(value, int | float) and abs(value) < 10**18):
        text = json.dumps(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    kinds = {dict: "a table", list: "a list", tuple: "a list", int: "such a large number"}
    return kinds.get(type(value), "a date or time" if hasattr(value, "isoformat") else "that")


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _dotted(place: tuple[str, ...]) -> str:
    """Return a key path as TOML writes it."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else _shown(part) for part in place)
