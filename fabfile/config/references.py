"""`{ env = "NAME" }` in hosts.toml: values that the operator's environment holds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from .settings import Settings
from .table import type_at

BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Reference:
    """A variable of the operator's environment, and what counts when it is not set."""

    variable: str
    default: Any = None


def without_references(value: Any) -> Any:
    """Return what can be checked before the environment is asked: defaults, else None."""
    if isinstance(value, list):
        return [without_references(item) for item in value]
    return value.default if isinstance(value, Reference) else value


def look_up(value: Any, key: tuple[str, ...], environ: Mapping[str, str]) -> tuple[Any, list[str]]:
    """Return `value` with what its references stand for (None, or in a list nothing), and what is not set."""
    if isinstance(value, list):
        pairs = [look_up(item, (), environ) for item in value]
        return [found for found, _ in pairs if found is not None], [name for _, unset in pairs for name in unset]
    if not isinstance(value, Reference):
        return value, []
    # A CI job hands over a secret that it does not have as an empty variable.
    if text := environ.get(value.variable):
        return from_text(key, text), []
    return value.default, [] if value.default is not None else [value.variable]


def from_text(key: tuple[str, ...], value: Any) -> Any:
    """Return text from outside as the type of the setting; what does not fit stays text."""
    if not isinstance(value, str) or not key:
        return value
    kinds = _kinds(type_at(Settings, key))
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
