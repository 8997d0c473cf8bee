"""rollback and what one looks at a host with: status, releases, logs, history."""

import pytest

from testbed.harness import FIELDS, Site

pytestmark = pytest.mark.lab


@pytest.fixture
def three(site: Site) -> list[str]:
    """Three releases of three headings, the newest live; their ids."""
    ids = []
    for title in ("One", "Two", "Three"):
        site.commit(site.titled(title))
        ids.append(site.deploy().expect(0).json["release"])
    return ids


def test_rollback_goes_back_one_by_one(site: Site, three: list[str]) -> None:
    """To the newest good release before the live one, by HUP; again, one further; rows of today stay."""
    site.add_note("before the rollback")
    master = site.master_pid()
    document = site.fab("rollback", "--json").expect(0).json
    assert set(document) >= FIELDS
    assert (document["release"], document["previous"]) == (three[1], three[2])
    assert (document["activation"], document["watch"]["failed"]) == ("hup", 0)
    assert (site.live(), site.heading(), site.master_pid()) == (three[1], "Two", master)
    assert site.get(site.stylesheet()).status_code == 200
    site.fab("rollback").expect(0)
    assert (site.live(), site.heading()) == (three[0], "One")
    assert "before the rollback" in site.notes()
    # A named one, newer than the live one; by id, by the beginning of one, by commit.
    site.fab("rollback", "--to", three[2]).expect(0)
    assert (site.live(), site.heading()) == (three[2], "Three")
    unchanged = site.fab("rollback", "--to", three[2], "--json").expect(0).json
    assert unchanged["status"] == "unchanged"
    site.fab("rollback", "--to", three[1].split("-")[1]).expect(0)
    assert site.heading() == "Two"
    entries = site.history()[-4:]
    assert [(entry["verb"], entry["release"]) for entry in entries] == [
        ("rollback", three[1]),
        ("rollback", three[0]),
        ("rollback", three[2]),
        ("rollback", three[1]),
    ]
    # A deploy after a rollback brings the newest code again, and the way back from it is not its own first release.
    listed = site.fab("releases", "--json").expect(0).json
    assert [one["state"] for one in listed["releases"]][-3:] == ["good", "live", "left"]
    site.deploy().expect(0)
    assert site.heading() == "Three"
    site.fab("rollback").expect(0)
    assert site.heading() == "Two"


def test_rollback_to_what_is_not_there(site: Site) -> None:
    """Exit 2, with the nearest name and the command that lists them; the site is untouched."""
    live = site.live()
    wrong = live[:-1] + ("0" if live[-1] != "0" else "1")
    document = site.fab("rollback", "--to", wrong, "--json").expect(2).json
    assert f"has no release {wrong}; did you mean {live}" in document["error"]
    assert document["suggestions"] == [f"fab -H {site.name} releases"]
    assert site.fab("rollback", "--to", "$(reboot)", "--json").expect(2).json["error"]
    assert site.live() == live


def test_status_says_what_is_live(site: Site) -> None:
    """The release, its branch and commit, the four checks, the workers; --json says the same; nothing is changed."""
    commit = site.commit(site.titled("Looked at"))
    site.deploy().expect(0)
    ages = site.ages()
    document = site.fab("status", "--json").expect(0).json
    text = site.fab("status").expect(0).out
    assert site.ages() == ages
    assert set(document) >= FIELDS
    assert (document["release"], document["git_commit"]) == (site.live(), commit)
    assert all(document["checks"].values())
    assert {int(pid) for pid in document["workers"]} == site.worker_pids()
    assert set(document["workers"].values()) == {site.live()}
    assert document["master"] == site.master_pid()
    for words in (site.live(), site.branch, "http_200", *map(str, site.worker_pids())):
        assert words in text


@pytest.mark.parametrize(
    ("stop", "start", "check"),
    [
        ("systemctl stop nginx", "systemctl start nginx", "nginx_running"),
        (
            "systemctl stop consult-django.socket consult-django",
            "systemctl start consult-django.socket consult-django",
            "gunicorn_socket",
        ),
        ("systemctl stop postgresql", "systemctl start postgresql", "http_200"),
    ],
    ids=["nginx", "service", "database"],
)
def test_status_of_a_site_that_is_down(site: Site, stop: str, start: str, check: str) -> None:
    """Exit 6 and the first check that fails, with the last lines of the logs and what to do next."""
    site.run(stop)
    try:
        document = site.fab("status", "--json").expect(6).json
    finally:
        site.run(start)
    assert document["failed_check"] == check
    assert document["status"] == "failed"
    assert document["checks"]["http_200"] is False
    assert document["logs"]["django_service"]
    assert "output" not in document["logs"], "the evidence is there once"
    if check == "gunicorn_socket":
        assert "connect() to unix:/run/consult/gunicorn.sock failed" in document["logs"]["nginx_error"][-1]
    assert document["suggestions"]
    site.fab("restart").expect(0)


def test_a_deploy_starts_a_service_that_was_stopped(site: Site) -> None:
    """A site that somebody stopped is up again after a deploy of what is live already."""
    site.deploy(branch="main").expect(0)
    site.run("systemctl stop consult-django.socket consult-django")
    document = site.deploy(branch="main").expect(0).json
    assert document["activation"] == "start"
    assert site.page()


def test_releases_lists_them(site: Site) -> None:
    """Every folder with its state, the live one and where rollback would go marked."""
    document = site.fab("releases", "--json").expect(0).json
    assert [one["id"] for one in document["releases"]] == site.releases()
    assert {one["id"] for one in document["releases"] if one["state"] == "live"} == {site.live()}
    assert document["release"] == site.live()
    assert f"{site.live()}  " in site.fab("releases").expect(0).out


def test_logs_shows_what_the_app_says(site: Site) -> None:
    """The journal of the service, tracebacks too, as text and in --json."""
    assert site.get("/boom/").status_code == 500
    assert "RuntimeError: boom" in site.fab("logs", "--lines", "60").expect(0).out
    assert "RuntimeError: boom" in "\n".join(site.fab("logs", "--json").expect(0).json["logs"]["django_service"])


def test_history_tells_who_what_when(site: Site) -> None:
    """One line a run: by whom, what, when, how long, how it ended."""
    commit = site.commit(site.titled("For the history"))
    site.deploy().expect(0)
    entry = site.history()[-1]
    assert (entry["by"], entry["verb"], entry["commit"]) == ("ana", "deploy", commit)
    assert (entry["branch"], entry["release"], entry["outcome"]) == (site.branch, site.live(), "live")
    assert entry["at"].startswith("20")
    assert 0 < entry["seconds"] < 120
