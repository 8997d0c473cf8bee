"""What was found in a repository, on its way to a hosts.toml and to the person who asked."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """Settings for hosts.toml with a word on where each comes from; what to know, and what is still to be done.

    `to_paste` is code for a file of the app that `todo` names.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    processes: dict[str, dict[str, Any]] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)
    to_paste: str = ""

    def set(self, key: str, value: Any, comment: str = "") -> None:
        """Take a setting into hosts.toml."""
        self.settings[key] = value
        if comment:
            self.comments[key] = comment

    def add(self, key: str, value: Any, comment: str) -> None:
        """Take one more item into a setting that is a list."""
        items = self.settings.setdefault(key, [])
        if value not in items:
            items.append(value)
            self.comments[key] = ", ".join(filter(None, [self.comments.get(key, ""), comment]))
