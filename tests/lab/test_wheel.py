"""The tool as a wheel in the app's own repository: what a clone does, it does from there."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.harness import PROJECT, Site, hosts_toml
from testbed.pages import move_in, type_in

pytestmark = pytest.mark.lab


@pytest.fixture
def app(site: Site, tmp_path: Path) -> Iterator[Path]:
    """The sample site's repository on somebody's machine, with the tool in it; afterwards the site is as before."""
    app = tmp_path / "shop"
    done = type_in(tmp_path, f"git -c safe.directory=* clone --quiet {site.repository.folder} {app}")
    assert done.returncode == 0, done.stderr
    move_in(app)
    settings = site.host_settings() | {"branch": site.branch, "sync_args": ["--frozen", "--no-dev"]}
    (app / "hosts.toml").write_text('tool = ">=0.1"\n' + hosts_toml({site.name: settings}))
    yield app
    site.deploy(branch="main").expect(0)


def test_a_deploy_from_the_apps_repository(site: Site, app: Path) -> None:
    """Status, deploy and rollback from a folder below, by the tool of its lock file, which the server does not get."""
    site.commit({name: (app / name).read_text() for name in ("pyproject.toml", "uv.lock")} | site.titled("Together"))
    (app / "templates").mkdir()
    template = (PROJECT / "templates/nginx-django.conf.j2").read_text()
    (app / "templates/nginx-django.conf.j2").write_text(f"# The shop's own.\n{template}")
    before = site.live()

    def fab(words: str) -> dict:
        done = type_in(app / "apps/web", f"uv run fab -H {site.name} {words} --json", HOME=str(site.folder))
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    document = fab("deploy")
    assert (document["status"], document["release"], document["previous"]) == ("success", site.live(), before)
    assert site.heading() == "Together"
    assert site.run("head -1 /etc/nginx/sites-available/consult-django") == "# The shop's own.\n"
    assert site.run("find -L /app/.venv -name 'django_deploy*' -o -name fabric") == ""
    assert fab("status")["release"] == site.live()
    assert fab("deploy")["activation"] == "nothing"
    assert fab("rollback")["release"] == before
    assert site.heading() != "Together"
