"""Commands of hosts.toml on a real host: what they make is in the release, and one that fails is told as such."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from testbed.harness import Site, throw_away
from testbed.world import TIMEOUTS

pytestmark = pytest.mark.lab

VIEWS = "apps/web/pages/views.py"
HEALTHY = 'return JsonResponse({"status": "ok", "release": release.ID})'
# Healthy only with a row that no migration makes, as an app that needs its groups or its first page.
NEEDS_DATA = f"""if not Note.objects.filter(text="the data").exists():
        return JsonResponse({{"status": "no data"}}, status=503)
    {HEALTHY}"""
FIXTURE = [
    {"model": "pages.note", "pk": 1, "fields": {"text": "the data", "created": "2026-01-01T00:00:00Z"}},
]
BUILD = (
    """sh -c 'mkdir -p ~/.npm; echo "body { color: teal; }" >pages/static/pages/built.css; """
    """echo "TOKEN=$DOPPLER_TOKEN"; pwd'"""
)
LOAD = "manage.py loaddata the_data"
NOTE = """manage.py shell -c 'from pages.models import Note; Note.objects.create(text="after the switch")'"""
ENDLESS = "sh -c 'sleep 98765 & wait'"


@pytest.fixture(scope="module")
def server(own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A provisioned host with nothing live, and an app whose health needs data."""
    with throw_away(own("commands")) as host:
        site = Site(host, tmp_path_factory.mktemp("commands"), "t/commands")
        site.provision().expect(0)
        changes = site.edited(VIEWS, HEALTHY, NEEDS_DATA)
        site.commit({**changes, "apps/web/pages/fixtures/the_data.json": json.dumps(FIXTURE)})
        yield site


@pytest.fixture(scope="module")
def first(server: Site) -> dict[str, Any]:
    """The documents of two first deploys, without the data and with it."""
    server.settings["timeouts"] = TIMEOUTS | {"health": 1}
    refused = server.deploy().expect(5).json
    server.settings |= {
        "timeouts": TIMEOUTS, "build": [BUILD], "before_switch": [LOAD], "after_switch": [NOTE],
    }  # fmt: skip
    return {"refused": refused, "live": server.fab("-e", "deploy", "--branch", server.branch, "--json").expect(0)}


@pytest.fixture
def site(server: Site, first: dict[str, Any]) -> Iterator[Site]:  # noqa: ARG001 - something is live
    """The same, live, with no commands but those that a test names."""
    for setting in ("build", "before_switch", "after_switch"):
        server.settings.pop(setting, None)
    server.settings["timeouts"] = TIMEOUTS
    yield server
    server.assert_sound()


def fails(site: Site, code: int, *words: str) -> dict[str, Any]:
    """A forced deploy that ends with this code and these words; return its document."""
    document = site.deploy("--force").expect(code).json
    for word in words:
        assert word in document["error"] + " ".join(document["suggestions"]), document
    return document


def nothing_sleeps(site: Site) -> bool:
    return site.run("pgrep --exact --full 'sleep 98765' || true") == ""


def test_a_first_deploy_whose_health_needs_data(server: Site, first: dict[str, Any]) -> None:
    """Refused without it; with before_switch it is there in time, and the other commands have done their part too."""
    assert "503" in first["refused"]["error"]
    live = first["live"].json
    assert {"build_1", "before_switch_1", "after_switch_1"} <= set(live["timing"])
    assert server.notes() == ["after the switch", "the data"]
    said = [line.strip() for line in first["live"].err.splitlines()]
    assert "TOKEN=" in said
    assert f"/srv/consult/releases/{live['release']}/apps/web" in said
    assert any(line.startswith("before_switch: manage.py loaddata the_data") for line in said)
    assert "Installed 1 object(s) from 1 fixture(s)" in said


@pytest.mark.usefixtures("first")
def test_what_a_build_makes_is_collected(server: Site) -> None:
    """A file that no commit has is served, under its hashed name, too."""
    assert server.get("/static/pages/built.css").text == "body { color: teal; }\n"
    listed = server.run("cat /app/apps/web/staticfiles/staticfiles.json")
    assert server.get(f"/static/{json.loads(listed)['paths']['pages/built.css']}").status_code == 200


def test_a_rollback_runs_none(site: Site) -> None:
    """Nor does a deploy of what is live; the next new release does."""
    site.deploy().expect(0)
    site.settings["after_switch"] = [NOTE]
    before = len(site.notes())
    assert site.deploy().expect(0).json["status"] == "unchanged"
    site.fab("rollback", "--json").expect(0)
    site.fab("restart", "--json").expect(0)
    assert len(site.notes()) == before
    site.deploy("--force").expect(0)
    assert len(site.notes()) == before + 1


def test_a_build_that_fails_leaves_the_site_alone(site: Site) -> None:
    """With the command and its last words; the release is gone."""
    live, releases = site.live(), site.releases()
    site.settings["build"] = ["true", "sh -c 'echo error: no such package; exit 3'"]
    failed = fails(site, 5, "build: sh -c 'echo error: no such package; exit 3': failed (exit 3)", "no such package")
    assert (site.live(), site.releases(), failed["site_state"]) == (live, releases, "as before")
    site.settings["build"] = ["npm ci"]
    fails(site, 5, "build: npm ci: failed (exit 1): npm: command not found", "apt install npm")


def test_a_command_before_the_switch_that_fails(site: Site) -> None:
    """Nothing is switched, and it is said that what it did stays."""
    live = site.live()
    site.settings["before_switch"] = [LOAD, "manage.py loaddata nowhere"]
    failed = fails(site, 5, "before_switch: manage.py loaddata nowhere: failed", "No fixture named 'nowhere' found")
    assert failed["site_state"] == "as before, and what before_switch did stays"
    assert "before_switch_1" in failed["timing"]
    assert site.live() == live


def test_a_command_that_does_not_exist_is_known_before_the_database_changes(site: Site) -> None:
    """In Django's own words, although its time would come only after the switch."""
    site.settings["after_switch"] = ["manage.py loaddat x"]
    failed = fails(site, 5, "after_switch: manage.py loaddat x does not start: Unknown command: 'loaddat'", "loaddata?")
    assert "migrate_the_database" not in failed["timing"]


def test_a_command_after_the_switch_that_fails(site: Site) -> None:
    """The new release stays live, and the exit code is one of its own."""
    site.settings["after_switch"] = ["sh -c 'echo error: no cache; exit 4'", "touch never"]
    failed = fails(site, 8, "error: no cache", "is live all the same", "deploy --force", "manage")
    assert failed["release"] == site.live()
    assert (failed["phase"], failed["status"]) == ("after_switch", "failed")
    assert "good" in site.marks(site.live())
    assert "after_switch_2" not in failed["timing"]
    assert site.history()[-1]["outcome"].startswith("live; after_switch: sh -c")
    assert site.deploy().expect(0).json["status"] == "unchanged"


@pytest.mark.parametrize(("setting", "code"), [("build", 5), ("before_switch", 5), ("after_switch", 8)])
def test_a_command_that_never_ends(site: Site, setting: str, code: int) -> None:
    """It is ended with its children, under Doppler too, and the limit to raise is named."""
    site.settings |= {setting: [ENDLESS], "timeouts": TIMEOUTS | {"commands": 2}}
    fails(site, code, f"{setting}: {ENDLESS}: failed (took longer than 2 s", "timeouts.commands in hosts.toml")
    assert nothing_sleeps(site)
