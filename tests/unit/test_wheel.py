"""The tool in an app's own repository: built, installed in a fresh environment, and used from there."""

from pathlib import Path

import pytest

from fabfile import namespace
from fabfile.config import places
from testbed.pages import blocks, move_in, type_in

PAGE = "docs/in-your-repository.md"
APP = '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.11"\n[tool.uv]\npackage = false\n'


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An app's repository in which the page's set-up was followed; its hosts.toml is the page's."""
    app = tmp_path_factory.mktemp("beside") / "shop"
    (app / "apps/web").mkdir(parents=True)
    (app / "pyproject.toml").write_text(APP)
    move_in(app)
    (app / "hosts.toml").write_text(blocks(PAGE, "toml")[0])
    return app


def test_the_page_holds(app: Path) -> None:
    """After the set-up every command of the page works, from a folder below too, and the check is of hosts.toml."""
    for command in blocks(PAGE, "sh")[1].splitlines():
        done = type_in(app / "apps/web", command)
        assert (done.returncode, done.stderr) == (0, ""), command
    done = type_in(app / "apps/web", "uv run invoke check")
    assert done.returncode == 0, done.stdout
    assert "hosts.toml: api" in done.stdout
    assert "ruff" not in done.stdout


def test_the_wheel_has_all_that_goes_to_a_host(app: Path) -> None:
    """The package has every file of fabfile but what Python makes, the templates, and no test bed."""
    package = Path(type_in(app, "uv run python -c 'import django_deploy as d; print(d.__path__[0])'").stdout.strip())
    assert package.is_relative_to(app)

    def files(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}

    assert files(package) == files(places.PACKAGE) | {f"templates/{path.name}" for path in places.ours()}
    assert not (package.parent / "testbed").exists()


def test_it_has_the_same_commands(app: Path) -> None:
    """All that `fab` has in a clone, but for the lab."""
    said = type_in(app, "uv run fab --list").stdout
    assert {name for name in namespace.task_names if "." not in name} <= set(said.split())
    assert "lab." not in said


def test_a_template_of_the_app_is_checked(app: Path) -> None:
    """The check names it, and fails when it does not render; other files of the folder are not looked at."""
    (app / "templates").mkdir()
    try:
        (app / "templates/base.html").write_text("{% broken")
        own = app / "templates/nginx-django.conf.j2"
        own.write_text((places.TEMPLATES / own.name).read_text())
        done = type_in(app, "uv run fab check")
        assert done.returncode == 0, done.stdout
        assert f"templates: with your {own}" in done.stdout
        own.write_text("{{ settings.nosuch }}")
        done = type_in(app, "uv run fab check")
        assert done.returncode == 2
        assert "api: UndefinedError" in done.stdout
    finally:
        own.unlink()


@pytest.mark.parametrize(
    ("text", "command", "message"),
    [
        ('tool = ">=99"\n', "fab -H api status", "hosts.toml asks for django-deploy >=99; this is"),
        ("[environments.l.hosts.lab]\nlab = true\n", "fab -H lab deploy", "there is no lab here: a clone"),
        ("", "fab status", "status needs to know where"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(app: Path, text: str, command: str, message: str) -> None:
    """Another version, the lab, no -H: exit 2, the reason, the next thing to do."""
    page = blocks(PAGE, "toml")[0]
    _, _, tables = page.partition("\n\n")
    (app / "hosts.toml").write_text(text + tables if text.startswith("tool") else page + text)
    try:
        done = type_in(app, f"uv run {command}")
    finally:
        (app / "hosts.toml").write_text(page)
    assert done.returncode == 2, done.stdout + done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith(message)
    assert last.startswith("  next: ")
