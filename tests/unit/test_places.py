"""Where hosts.toml and templates are found, and which version of the tool a hosts.toml takes."""

from pathlib import Path

import pytest

from fabfile.config import places, tool
from fabfile.config.hosts_file import load
from fabfile.errors import ConfigError
from fabfile.plan import rendering
from testbed.sample import sample

HOSTS = '[app]\nrepo = "git@x:y"\nname = "shop"\ndomain = "x.example"\nwsgi = "config.wsgi:application"\n'
HOSTS += "[environments.e.hosts.web]\n"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository of an app, with a hosts.toml; the working folder is somewhere below."""
    (tmp_path / "hosts.toml").write_text(HOSTS)
    (inner := tmp_path / "apps/web").mkdir(parents=True)
    monkeypatch.chdir(inner)
    monkeypatch.delenv("DJANGO_DEPLOY_HOSTS", raising=False)
    return tmp_path


def test_hosts_toml_is_found_upwards(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable first, then the nearest from the working folder upwards, then the clone's."""
    assert places.hosts_file({}) == app / "hosts.toml"
    assert places.hosts_file({"DJANGO_DEPLOY_HOSTS": "/elsewhere.toml"}) == Path("/elsewhere.toml")
    (app / "apps/hosts.toml").write_text(HOSTS)
    assert places.hosts_file({}) == app / "apps/hosts.toml"
    monkeypatch.chdir("/")
    assert places.hosts_file({}) == places.PROJECT / "hosts.toml"


def test_a_wheel_without_a_hosts_toml_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no clone to fall back on: what to write, and where."""
    monkeypatch.setattr(places, "IN_CLONE", False)
    monkeypatch.chdir("/")
    with pytest.raises(ConfigError, match=r"no hosts\.toml in /, nor in a folder above it") as caught:
        load(environ={})
    assert "beside the app's pyproject.toml" in caught.value.hint


def test_a_template_of_the_app_wins(app: Path) -> None:
    """One of our names in `templates` beside hosts.toml replaces ours alone; what else lies there is the app's."""
    settings = sample(repo="git@x:y")
    site = rendering.site(settings)
    (app / "templates").mkdir()
    (app / "templates/base.html").write_text("{% broken")
    assert places.replaced_templates() == []
    own = app / "templates/consult-django.socket.j2"
    own.write_text("# {{ settings.repo }}\n")
    assert places.replaced_templates() == [own]
    assert rendering.socket(settings) == "# git@x:y\n"
    assert rendering.site(settings) == site


def test_the_clones_templates_replace_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the clone the folder beside hosts.toml is the tool's own."""
    monkeypatch.delenv("DJANGO_DEPLOY_HOSTS", raising=False)
    monkeypatch.chdir(places.PROJECT)
    assert places.own_templates() == places.TEMPLATES
    assert places.replaced_templates() == []


@pytest.mark.parametrize("asked", [">=0.1", ">= 0.1, <9", "!=0.2", "==0.3.0", "<=0.3", ">0.2.9", "<0.3.1"])
def test_a_version_that_will_do(asked: str) -> None:
    """Each way of asking, several with commas; 0.3 is 0.3.0, and what follows the numbers does not count."""
    assert tool.is_request(asked)
    assert tool.satisfies("0.3", asked)
    assert tool.satisfies("0.3.0rc1", asked)


@pytest.mark.parametrize("asked", [">=0.3.1", "<0.3", ">0.3", "==0.30", "!=0.3.0", ">=0.1, <0.3", ">=0.10"])
def test_a_version_that_will_not_do(asked: str) -> None:
    """Numbers are compared, not letters."""
    assert tool.is_request(asked)
    assert not tool.satisfies("0.3", asked)


@pytest.mark.parametrize("form", [True, False], ids=["clone", "wheel"])
def test_another_version_is_told_before_all_else(app: Path, monkeypatch: pytest.MonkeyPatch, form: bool) -> None:
    """What a newer tool knows is no mistake of the file: the version is told alone, with what brings it."""
    (app / "hosts.toml").write_text(f'tool = ">=99.1"\nnews = 1\n{HOSTS}')
    monkeypatch.setattr(tool, "IN_CLONE", form)
    with pytest.raises(ConfigError) as caught:
        load(environ={})
    assert caught.value.message == f"hosts.toml asks for django-deploy >=99.1; this is {places.version()}"
    command = "git pull in the tool's clone" if form else 'uv add --dev "django-deploy>=99.1"'
    assert caught.value.hint == f"{command}, or change tool in {app / 'hosts.toml'}"


@pytest.mark.parametrize("asked", ['"0.3"', '">=x"', '""', "3", '["a"]', '"~=1"', '">=0.1,"'])
def test_a_malformed_version_is_a_mistake_like_others(app: Path, asked: str) -> None:
    """It is told with all other mistakes."""
    (app / "hosts.toml").write_text(f"tool = {asked}\nworkers = 2\n{HOSTS}")
    with pytest.raises(ConfigError) as caught:
        load(environ={})
    assert f"  tool: {tool.MISTAKE}\n" in caught.value.message
    assert "  workers: there is no such setting" in caught.value.message


def test_a_version_that_is_there_is_no_mistake(app: Path) -> None:
    """`tool` above the tables is all there is to write."""
    (app / "hosts.toml").write_text(f'tool = ">={places.version()}"\n{HOSTS}')
    assert load(environ={}).hosts == ["web"]
