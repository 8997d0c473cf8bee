"""What a table of hosts.toml is made of: settings that say what they mean and what a change of them asks for."""

from collections.abc import Iterable, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


class Table(BaseModel):
    """A table of hosts.toml: each field is a `setting`, a table, or a dict of named tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def built_from(self) -> dict[str, Any]:
        """Return what a release is built from: a change of any of it needs a new release."""
        found: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Table):
                found[name] = value.built_from()
            elif tables_in(field):
                found[name] = {key: built for key, table in value.items() if (built := table.built_from())}
            elif needs_new_release(field):
                found[name] = value
        return found


def setting(default: Any, meaning: str, *, new_release: bool, secret: bool = False, **more: Any) -> Any:
    """Return a field of a table; `...` as its default makes it one that must be set.

    `new_release` says whether a release is built from it. What a `secret` one holds is never shown: it may be a
    password, a token or a key, on purpose or by mistake.
    """
    return Field(default, description=meaning, json_schema_extra={"new_release": new_release, "secret": secret}, **more)


def needs_new_release(field: FieldInfo) -> bool | None:
    """Return whether a change of the setting needs a new release; None when it does not say."""
    return _extra(field, "new_release")


def is_secret(field: FieldInfo) -> bool:
    return bool(_extra(field, "secret"))


def _extra(field: FieldInfo, key: str) -> Any:
    return field.json_schema_extra.get(key) if isinstance(field.json_schema_extra, dict) else None


def tables_in(field: FieldInfo) -> type[Table] | None:
    """Return what stands in the field when it is a table, or a dict of tables by name."""
    kind = get_args(field.annotation)[1] if get_origin(field.annotation) is dict else field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Table) else None


def is_table(kind: Any) -> bool:
    """Return whether a field of this type is written as a table, and so merged key by key."""
    return get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, Table))


def fields_of(kind: Any) -> dict[str, FieldInfo] | None:
    """Return the fields that a table of this type has; None when its keys are names that a person chooses."""
    return None if get_origin(kind) is dict else kind.model_fields


def type_below(kind: Any, key: str) -> Any:
    """Return the type of what stands under `key` in a table of type `kind`; None when nothing may."""
    if not is_table(kind):
        return None
    fields = fields_of(kind)
    if fields is None:
        return get_args(kind)[1]
    return fields[key].annotation if key in fields else None


def type_at(kind: Any, path: Sequence[str]) -> Any:
    """Return the type of what stands at `path` below a table of type `kind`; None when nothing may."""
    for key in path:
        kind = type_below(kind, key)
    return kind


def setting_at(kind: Any, path: Iterable[Any]) -> FieldInfo | None:
    """Return the field that holds what stands at `path` below a table of type `kind`."""
    found = None
    for key in path:
        fields = fields_of(kind) if is_table(kind) else {}
        if fields is not None:
            found = fields.get(key, found)
        kind = type_below(kind, key)
    return found
