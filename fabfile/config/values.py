"""Values on their way from hosts.toml to the settings; each knows where a person finds it."""

from dataclasses import dataclass
from typing import Any

from .settings import Settings


@dataclass(frozen=True)
class Value:
    """A value and the key path under which a person finds it."""

    where: str
    value: Any
    shown: bool = True


# By key path, like ("timeouts", "boot"). A table stands before what it holds, with an empty dict as its value.
Values = dict[tuple[str, ...], Value]


def build(values: Values) -> Settings:
    """Return the settings; pydantic's ValidationError tells what does not fit."""
    root: dict[str, Any] = {}
    for key, entry in values.items():
        if not key or entry.value is None:
            continue
        table = root
        for part in key[:-1]:
            table = table[part]
        table[key[-1]] = _plain(entry.value)
    # Strict: what a person writes in a file has a type, and "8" or true is no number.
    return Settings.model_validate(root, strict=True)


def default_path(values: Values, name: str) -> str:
    """Return the link to the live release where no `path` is set: /app for the app that [app] names.

    Another one in the file follows its name, so that the first never moves.
    """
    return "/app" if values["name",].where == "app.name" else f"/srv/{name}/app"


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return dict(value) if isinstance(value, dict) else value
