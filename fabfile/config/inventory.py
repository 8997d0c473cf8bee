"""Which hosts there are, and the settings of each. Nothing here connects to one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ConfigError
from .layout import Layout
from .mistakes import mistakes, nearest, shown
from .references import from_text, look_up
from .settings import STAND_INS, Settings
from .values import Value, Values, build, default_path


@dataclass(frozen=True)
class Host:
    """One host of hosts.toml with every setting resolved."""

    name: str
    environment: str
    settings: Settings

    @property
    def layout(self) -> Layout:
        return Layout.of(self.settings)

    def as_admin(self) -> "Host":
        """The same, for whoever `admin` is: the login by which a server is made ready, and an app taken off."""
        return replace(self, settings=self.settings.model_copy(update={"user": self.settings.admin}))

    def with_key(self, file: str) -> "Host":
        """The same, by another private key."""
        return replace(self, settings=self.settings.model_copy(update={"key": file, "key_text": None}))

    @property
    def address(self) -> str:
        """Where SSH goes; without an address that is the host's own name, which ssh_config may know."""
        return self.settings.address or self.name


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
            (key,): Value("--" + key.replace("_", "-"), from_text((key,), value))
            for key, value in (overrides or {}).items()
            if value is not None
        }
        chosen, wrong = {}, []
        for name in self._expand(names):
            values, unset = self._resolve(name, options)
            wrong += [f"{where}: the environment variable {variable} is not set" for where, variable in unset]
            wrong += mistakes(values)
            chosen[name] = values
        if wrong:
            raise ConfigError(
                "\n".join(dict.fromkeys(wrong)),
                hint=f"set or correct it; {self.path} says what comes from where",
            )
        return [Host(name, self._environment_of[name], _settings(values)) for name, values in chosen.items()]

    def draft(self, name: str) -> tuple[Host, list[str]]:
        """Return a host with defaults in place of environment variables that are not set, and their names."""
        values, unset = self._resolve(name, {})
        values = {
            key: replace(entry, value=STAND_INS.get(key[-1])) if entry.value is None else entry
            for key, entry in values.items()
        }
        if wrong := mistakes(values):
            raise ConfigError("\n".join(wrong), hint=f"correct it; {self.path} says what comes from where")
        return Host(name, self._environment_of[name], _settings(values)), [variable for _, variable in unset]

    def _expand(self, names: str | Iterable[str] | None) -> list[str]:
        given = names.split(",") if isinstance(names, str) else names or []
        wanted = [name.strip() for name in given if name.strip()]
        known = sorted({*self._values, *self._members})
        unknown = [
            f"{shown(name)} is no host or environment of {self.path.name}{nearest(_bare(name), known)}"
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
            found, variables = look_up(entry.value, key, self._environ)
            unset += [(entry.where, variable) for variable in variables]
            values[key] = Value(entry.where, found, shown=found == entry.value)
        return values, unset


def _settings(values: Values) -> Settings:
    """Return the settings, with the path that follows from who names the app."""
    settings = build(values)
    if ("path",) in values:
        return settings
    return settings.model_copy(update={"path": default_path(values, settings.name)})


def _bare(name: str) -> str:
    """Return a name without user and port, which Fabric takes there, and which stand in hosts.toml here."""
    return name.rpartition("@")[2].partition(":")[0]
