"""Apps that hosts.toml puts on one server: they share its address, and must not share more."""

import itertools
from collections.abc import Iterator
from typing import Any

from .references import Reference
from .values import Values, default_path

# What two apps on one server cannot both have, as one would write over the other's files or answer in its place.
OWN = ("name", "path", "domain")


def clashes(hosts: dict[str, tuple[str, Values]]) -> Iterator[tuple[str, str]]:
    """Yield a key path and what is wrong there; `hosts` are the key path and the values of each host by its name."""
    at = [(place, values, _address(name, values)) for name, (place, values) in hosts.items()]
    for (first, left, address), (second, right, other) in itertools.combinations(at, 2):
        if address != other:
            continue
        same = [key for key in OWN if _meets(_own(left)[key], _own(right)[key])]
        if same:
            yield (
                second,
                f"is at the address of {first} and has its {' and '.join(same)} too: one would overwrite the other",
            )
        elif _answers_all(left) and _answers_all(right):
            yield second, f"is at the address of {first}, and one of the two has to say default_server = false"


def _address(host: str, values: Values) -> Any:
    """Return what tells one server from another: an address, or the variable that holds it, and a port."""
    address, port = _value(values, "address", host), _value(values, "port", None)
    return address.lower() if isinstance(address, str) else address, port


def _own(values: Values) -> dict[str, list[Any]]:
    name, aliases = _value(values, "name", None), _value(values, "aliases", [])
    path = _value(values, "path", default_path(values, name) if isinstance(name, str) else None)
    names = [_value(values, "domain", None), *(aliases if isinstance(aliases, list) else [])]
    return {"name": [name], "path": [path], "domain": names}


def _meets(left: list[Any], right: list[Any]) -> bool:
    return any(value in right for value in left if isinstance(value, str | Reference))


def _answers_all(values: Values) -> bool:
    return _value(values, "default_server", True) is True


def _value(values: Values, key: str, default: Any) -> Any:
    return values[key,].value if (key,) in values else default
