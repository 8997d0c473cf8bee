"""README and docs tell what is true: the table of settings, and the commands."""

import re
import tomllib
from pathlib import Path
from typing import get_origin

import pytest

from fabfile import namespace
from fabfile.config import reference
from fabfile.config.hosts_file import load
from fabfile.config.places import PROJECT
from fabfile.config.settings import Settings, Timeouts
from fabfile.config.table import is_table
from testbed.sample import APP


def test_every_setting_is_in_the_reference() -> None:
    """The tables of docs/hosts-toml.md are the model's; `uv run python -m fabfile.config.reference` mends them."""
    text = reference.PAGE.read_text()
    assert text == reference.page()
    tables = text.partition(reference.MARK)[2]
    for name in [*Settings.model_fields, *Timeouts.model_fields]:
        assert f"\n| `{name}` | " in tables


PAGES = [*PROJECT.glob("docs/*.md"), PROJECT / "README.md"]
BLOCKS = [block for page in PAGES for block in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)]
EXAMPLES = [block for block in BLOCKS if {"app", "environments"} & set(tomllib.loads(block))]


def completed(example: str) -> str:
    """An example with what every hosts.toml has to say besides."""
    document = tomllib.loads(example)
    given = document.get("app", {}).keys()
    asked = [line for line in APP.split("\n") if line and line.split(" = ")[0] not in given]
    app = re.search(r"^\[app\].*$", example, re.MULTILINE)
    before, after = (example[: app.start()], example[app.end() :]) if app else ("", example)
    hosts = "" if "environments" in document else "[environments.e.hosts.h]"
    return "\n".join([before, "[app]", *asked, after, hosts])


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_hosts_toml(example: str, tmp_path: Path) -> None:
    """What the pages show can be copied; what shows a part is good beside the rest."""
    (tmp_path / "hosts.toml").write_text(completed(example))
    load(tmp_path / "hosts.toml", {})


def test_the_page_of_hosts_toml_begins_with_a_whole_one(tmp_path: Path) -> None:
    """An app in one folder needs no more than the first example."""
    first = re.search(r"```toml\n(.*?)```", reference.PAGE.read_text(), re.DOTALL)
    assert first
    (tmp_path / "hosts.toml").write_text(first[1])
    (host,) = load(tmp_path / "hosts.toml", {}).select("production")
    assert (host.settings.project, host.settings.path, host.settings.static_folder) == (".", "/app", "staticfiles")


def test_every_setting_that_is_a_list_or_table_has_an_example() -> None:
    """How those are written is seen, not guessed."""
    shown = " ".join(BLOCKS)
    fields = Settings.model_fields.items()
    several = [name for name, field in fields if is_table(field.annotation) or get_origin(field.annotation) is tuple]
    assert several
    assert [name for name in several if not re.search(rf"\b{name}( =|\])", shown)] == []


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
