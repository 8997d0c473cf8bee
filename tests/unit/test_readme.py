"""The README tells what is true: its table of settings, and the commands it names."""

import json
import re
from pathlib import Path
from typing import Any

from fabfile import namespace
from fabfile.config.settings import Settings, Timeouts

README = Path(__file__).parents[2] / "README.md"


def settings_table() -> str:
    """The table of settings, made from the model itself."""
    limits = ", ".join(f"{name} {field.default}" for name, field in Timeouts.model_fields.items())
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if name == "timeouts" else _shown(field.default)
        more = f": {limits}" if name == "timeouts" else ""
        rows.append(f"| `{name}` | {default} | {field.description}{more} |")
    return "\n".join(rows)


def _shown(value: Any) -> str:
    return f"`{json.dumps(value)}`" if value not in (None, (), {}) else ""


def test_every_setting_is_in_the_readme() -> None:
    """The README's table of settings is the model's; where this fails, put the text it expects there."""
    between = re.search(r"<!-- settings -->\n(.*)\n<!-- /settings -->", README.read_text(), re.DOTALL)
    assert between is not None
    assert between[1] == settings_table()


def test_every_command_of_the_readme_exists() -> None:
    """No command in the README is one that `fab` does not have, and none that it has is missing there."""
    text = README.read_text()
    named = set(re.findall(r"fab (?:-H \w+ )?([a-z]+(?:\.[a-z]+)?)", text)) | set(re.findall(r"`(lab\.\w+|\w+)`", text))
    assert set(namespace.task_names) <= named
    assert set(re.findall(r"`fab -H NAME ([a-z.]+)", text)) <= set(namespace.task_names)
