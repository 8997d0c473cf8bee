"""The tables of docs/hosts-toml.md, made from the settings; `uv run python -m fabfile.config.reference` writes them."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo

from .settings import Settings
from .table import Table, fields_of, needs_new_release, tables_in

PAGE = Path(__file__).parents[2] / "docs/hosts-toml.md"
MARK = "<!-- From here on made from the settings: uv run python -m fabfile.config.reference -->\n"


def page() -> str:
    """Return the page as it should be: its words as they stand, its tables made anew."""
    words = PAGE.read_text().partition(MARK)[0]
    return words + MARK + "\n".join(["## Settings\n", *_table(Settings), *_inner_tables(Settings)]) + "\n"


def _inner_tables(table: type[Table]) -> Iterator[str]:
    """Yield a section for each table in a table."""
    for name, field in table.model_fields.items():
        inner = tables_in(field)
        if inner is None:
            continue
        named = f"`[app.{name}.NAME]`: " if get_origin(field.annotation) is dict else ""
        yield f"\n## {name}\n\n{named}{inner.__doc__}\n"
        yield from _table(inner)


def _table(table: type[Table]) -> Iterator[str]:
    yield "| key | type | default | new release | meaning |"
    yield "|---|---|---|---|---|"
    for name, field in (fields_of(table) or {}).items():
        cells = (
            f"`{name}`",
            _type(field.annotation, field.metadata),
            _default(field),
            _answer(field),
            field.description,
        )
        yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _answer(field: FieldInfo) -> str:
    return "see below" if tables_in(field) else "yes" if needs_new_release(field) else "no"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be set"
    return "" if field.default in (None, (), {}) or tables_in(field) else f"`{json.dumps(field.default)}`"


def _type(kind: Any, limits: Iterable[Any] = ()) -> str:
    """Return a type in words."""
    parts = get_args(kind)
    if get_origin(kind) is Annotated:
        return _type(parts[0], [limit for part in parts[1:] for limit in getattr(part, "metadata", [part])])
    if get_origin(kind) is tuple:
        return f"list of {_type(parts[0])}"
    if get_origin(kind) is dict:
        return "tables by name" if isinstance(parts[1], type) else f"table of {_type(parts[1])}"
    if NoneType in parts:
        return _type(next(part for part in parts if part is not NoneType), limits)
    if kind is int:
        low, high = (next((getattr(x, side) for x in limits if hasattr(x, side)), "") for side in ("ge", "le"))
        return f"whole number, {low} to {high}"
    return {bool: "true or false", str: "text"}.get(kind, "table")


if __name__ == "__main__":
    PAGE.write_text(page())
