"""README and docs tell what is true: the table of settings, and the commands."""

import re

from fabfile import namespace
from fabfile.config import reference
from fabfile.config.places import PROJECT
from fabfile.config.settings import Settings, Timeouts


def test_every_setting_is_in_the_reference() -> None:
    """The tables of docs/hosts-toml.md are the model's; `uv run python -m fabfile.config.reference` mends them."""
    text = reference.PAGE.read_text()
    assert text == reference.page()
    tables = text.partition(reference.MARK)[2]
    for name in [*Settings.model_fields, *Timeouts.model_fields]:
        assert f"\n| `{name}` | " in tables


def test_every_command_of_the_readme_exists() -> None:
    """No command in the README is one that `fab` does not have, and none that it has is missing there."""
    text = (PROJECT / "README.md").read_text()
    named = set(re.findall(r"fab (?:-H \w+ )?([a-z]+(?:\.[a-z]+)?)", text)) | set(re.findall(r"`(lab\.\w+|\w+)`", text))
    assert set(namespace.task_names) <= named
    assert set(re.findall(r"`fab -H NAME ([a-z.]+)", text)) <= set(namespace.task_names)


def test_the_two_commands_need_nothing_but_a_shell() -> None:
    """Both begin with ./run, which fetches what is missing; pip, which Debian refuses, is not asked for."""
    section = (PROJECT / "README.md").read_text().partition("## Two commands")[2].partition("\n## ")[0]
    commands = section.partition("```sh\n")[2].partition("```")[0].splitlines()
    assert [command.partition(" #")[0].rstrip() for command in commands] == [
        "./run fab -H lab deploy --branch main",
        "./run just test",
    ]
