"""Mistakes in values, a line each: the key path, what is wrong, and the value where it cannot be a secret."""

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from .settings import Settings
from .table import is_secret, setting_at
from .values import Value, Values, build

WORDS = {
    "missing": "is missing",
    "string_type": "must be text",
    "string_unicode": "must be text that UTF-8 can write",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
}


def mistakes(values: Values, *, whole: bool = True) -> list[str]:
    """Return what does not fit; unless `whole`, a table may still lack what another one adds."""
    try:
        build(values)
    except ValidationError as error:
        found = [e for e in error.errors(include_url=False) if whole or not _of_a_table(e)]
        # A value of None stands for a variable that is looked up later: TOML has no such value.
        return [_told(values, e) for e in found if e["input"] is not None and not _comes_later(values, e)]
    return []


def _of_a_table(error: Any) -> bool:
    return error["type"] == "missing" or (error["type"] == "value_error" and isinstance(error["input"], dict))


def _comes_later(values: Values, error: Any) -> bool:
    return error["type"] == "missing" and error["loc"] in values


def _told(values: Values, error: Any) -> str:
    entry, rest = _nearest_value(values, error["loc"])
    where = entry.where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
    of_a_list = error["type"] == "value_error" and isinstance(error["input"], list | tuple)  # it quotes what is wrong
    unsaid = _of_a_table(error) or of_a_list or not entry.shown or error["loc"][-1] == "[key]"
    return f"{where}: {_words(error)}{'' if unsaid else not_this(error['loc'], error['input'])}"


def _nearest_value(values: Values, loc: tuple[Any, ...]) -> tuple[Value, tuple[Any, ...]]:
    """Return the value that a mistake lies in, and the way from there to the mistake."""
    path = tuple(part for part in loc if part != "[key]")
    known = next(length for length in range(len(path), -1, -1) if path[:length] in values)
    return values[path[:known]], path[known:]


def _words(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']}"
    if kind == "less_than_equal":
        return f"must be at most {context['le']}"
    text = error["msg"]
    return WORDS.get(kind, text[:1].lower() + text[1:])


def not_this(path: Iterable[Any], value: Any) -> str:
    """Return the end of a line that says what stands there, unless it may be a secret."""
    field = setting_at(Settings, path)
    return "" if field is None or is_secret(field) else f", not {shown(value)}"


def shown(value: Any) -> str:
    """Return a value as it may stand in a message: short, and nothing that a terminal would act on."""
    if isinstance(value, bool | str) or (isinstance(value, int | float) and abs(value) < 10**18):
        text = json.dumps(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    kinds = {dict: "a table", list: "a list", tuple: "a list", int: "such a large number"}
    return kinds.get(type(value), "a date or time" if hasattr(value, "isoformat") else "that")


def nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def dotted(place: tuple[str, ...]) -> str:
    """Return a key path as TOML writes it."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else shown(part) for part in place)
