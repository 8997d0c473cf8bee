"""What a unit file of systemd says: its options with their values, and the words of its commands. Pure."""

import re
import shlex
from collections.abc import Iterable, Sequence

Options = Sequence[tuple[str, str]]


def options(texts: Iterable[str], section: str = "Service") -> list[tuple[str, str]]:
    """Return the options of a section as pairs, from a unit and its drop-ins; an empty value drops those before it."""
    found: list[tuple[str, str]] = []
    for text in texts:
        inside = ""
        for line in _lines(text):
            key, equals, value = (part.strip() for part in line.partition("="))
            if line.startswith("["):
                inside = line.strip("[]")
            elif inside == section and equals:
                found = [*found, (key, value)] if value else [pair for pair in found if pair[0] != key]
    return found


def _lines(text: str) -> list[str]:
    """Return the lines without comments, also those between lines that a backslash joins."""
    lines = [line.strip() for line in text.splitlines()]
    joined = "\n".join(line for line in lines if line and line[0] not in "#;")
    return [re.sub(r"[ \t]+", " ", line) for line in joined.replace("\\\n", " ").splitlines()]


def last(found: Options, key: str, default: str = "") -> str:
    """Return the value that counts of an option that has one."""
    return next((value for name, value in reversed(found) if name == key), default)


def every(found: Options, key: str) -> list[str]:
    """Return the values of an option that may stand several times."""
    return [value for name, value in found if name == key]


def words(value: str) -> list[str]:
    """Return the words of a command or a list, as systemd splits them; the signs before a program fall away."""
    value = value.replace("%%", "%").replace("$$", "$")
    try:
        found = shlex.split(value)
    except ValueError:
        found = value.split()
    return [re.sub(r"^[@:+!|-]+", "", found[0]), *found[1:]] if found else []


def variables(found: Options) -> dict[str, str]:
    """Return what the Environment= lines set."""
    pairs = [word.partition("=") for value in every(found, "Environment") for word in words(value)]
    return {name: value for name, equals, value in pairs if equals}


def assignment(name: str, value: str) -> str:
    """Return one variable as a word of Environment=."""
    text = f"{name}={value}".replace("%", "%%")
    if not re.search(r"[\s\"'\\]", text):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
