"""Which versions of this tool a hosts.toml takes: `tool = ">=0.3"`, or `">=0.3, <1"`."""

import operator
import re
from typing import Any

from .places import DISTRIBUTION, IN_CLONE

COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
ONE = re.compile(r"(>=|<=|==|!=|>|<)\s*(\d{1,6}(?:\.\d{1,6}){0,5})")
MISTAKE = 'must say which versions of the tool will do, like ">=0.3" or ">=0.3, <1"'


def is_request(asked: Any) -> bool:
    """Whether `tool` is written as it must be."""
    return isinstance(asked, str) and all(ONE.fullmatch(part.strip()) for part in asked.split(","))


def satisfies(version: str, asked: str) -> bool:
    """Whether a version is one of those that are asked for; the numbers count, a suffix like rc1 does not."""
    found = [ONE.fullmatch(part.strip()) for part in asked.split(",")]
    return all(COMPARISONS[one[1]](_numbers(version), _numbers(one[2])) for one in found if one)


def how_to_get(asked: str) -> str:
    """The command that brings such a version."""
    return "git pull in the tool's clone" if IN_CLONE else f'uv add --dev "{DISTRIBUTION}{asked.replace(" ", "")}"'


def _numbers(version: str) -> tuple[int, ...]:
    """Numbers of a version, as many as any has: 1.0 is 1."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in release[0].split(".")] if release else []
    return (*numbers, *[0] * (6 - len(numbers)))
