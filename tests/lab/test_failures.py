"""A deploy that cannot succeed: the site serves on as before, and the caller learns what to do."""

import http.server
import json
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator

import pytest

from testbed import world
from testbed.harness import (
    FIELDS,
    HEALTHY,
    PAGE,
    SETTINGS,
    UNHEALTHY,
    UNHEALTHY_WHEN_LIVE,
    URLS,
    VIEWS,
    WSGI,
    Result,
    Site,
    interrupted,
    running,
    wait_for,
    watching_ps,
)
from testbed.lab import cut_network, join_network

pytestmark = pytest.mark.lab


def migration(name: str, sql: str) -> dict[str, str]:
    """A migration to be committed, which can be taken back."""
    return world.migration(name, f"migrations.RunSQL({sql!r}, 'SELECT 1')")


@pytest.fixture
def untouched(site: Site) -> Iterator[Site]:
    """A site of which live release, way back, processes, page and rows are the same after the test."""
    if site.deploy(branch="main").expect(0).json["status"] != "unchanged":
        wait_for(lambda: not site.leftovers())
    site.add_note(f"before {site.branch}")
    before = what_is_served(site)
    yield site
    assert what_is_served(site) == before
    assert site.notes()[0] == f"before {site.branch}"


def what_is_served(site: Site) -> tuple[object, ...]:
    good = [release for release in site.releases() if "good" in site.marks(release)]
    return site.live(), good, site.master_pid(), site.worker_pids(), site.heading()


def failed(site: Site, code: int, *words: str) -> Result:
    """The deploy of the site's branch, which ends with `code`, with a whole document, in the site as it was."""
    result = site.deploy(*words).expect(code)
    document = result.json
    assert set(document) >= FIELDS
    assert document["status"] in ("failed", "rolled_back")
    assert document["error"]
    assert document["suggestions"] or code == 5, "the next command is named"
    assert document["site_state"].startswith("as before")
    return result


@pytest.mark.parametrize(
    ("path", "old", "new", "evidence"),
    [
        (
            SETTINGS,
            "import os",
            "import os\nimport no_such_module",
            "ModuleNotFoundError: No module named 'no_such_module'",
        ),
        (WSGI, "application =", "os.environ['NOT_SET']\napplication =", "KeyError: 'NOT_SET'"),
        (URLS, "import views", "import views, no_such_view", "cannot import name 'no_such_view'"),
    ],
    ids=["settings", "wsgi", "urls"],
)
def test_code_that_does_not_import(untouched: Site, path: str, old: str, new: str, evidence: str) -> None:
    """Exit 5 before the switch, with the traceback in the document and on the screen."""
    untouched.commit(untouched.edited(path, old, new))
    result = failed(untouched, 5)
    assert evidence in "\n".join(result.json["logs"]["output"])
    assert evidence in result.err


def test_a_failing_migration(untouched: Site) -> None:
    """Exit 5, the database's own words in the output; the old release serves on and its rows are there."""
    untouched.commit(
        migration("0003_fails", "ALTER TABLE pages_note ADD COLUMN x int; SELECT 1/0") | untouched.titled("Never")
    )
    result = failed(untouched, 5)
    assert "Migrate the database" in result.json["error"]
    assert "division by zero" in "\n".join(result.json["logs"]["output"])


def test_unhealthy_before_the_switch(untouched: Site) -> None:
    """A health path that answers 503 in the proof is never shown to anybody."""
    untouched.settings["timeouts"] = {"health": 3}
    untouched.commit(untouched.edited(VIEWS, HEALTHY, UNHEALTHY))
    result = failed(untouched, 5)
    assert "/healthz answered 503" in result.text
    assert "bad day" in result.text


def test_visitors_who_would_not_get_in(untouched: Site) -> None:
    """Healthy, but broken for all who come: sent to a port that is closed, or to a page without its stylesheet."""
    untouched.commit(untouched.edited(SETTINGS, "STATIC_URL =", "SECURE_SSL_REDIRECT = True\nSTATIC_URL ="))
    document = failed(untouched, 5).json
    assert "redirects / to https://consult.lab/, but nothing on this host answers https" in document["error"]
    assert "SECURE_SSL_REDIRECT = False" in " ".join(document["suggestions"])
    missing = untouched.edited(PAGE, "</head>", '<link rel="stylesheet" href="/static/built/app.css"></head>')
    untouched.commit(missing | {SETTINGS: untouched.repository.read(SETTINGS, "main")})
    document = failed(untouched, 5).json
    assert "/ needs /static/built/app.css, which is not in /srv/consult/releases/" in document["error"]
    assert "npm run build" in " ".join(document["suggestions"])


def test_an_app_that_speaks_https_behind_a_proxy(site: Site) -> None:
    """SECURE_SSL_REDIRECT with an https `public_url`: visitors come as from the proxy; that it is not there is told."""
    site.settings |= {"public_url": "https://127.0.0.1:9", "trusted_proxies": ["127.0.0.1"]}
    site.commit(site.edited(SETTINGS, "STATIC_URL =", "SECURE_SSL_REDIRECT = True\nSTATIC_URL ="))
    result = site.deploy().expect(0)
    assert (result.json["checks"]["visitor"], result.json["visitor"]) == (True, "/ answers 200")
    assert result.json["public_trouble"] == "nobody listens there (connection refused)"
    assert "BUT https://127.0.0.1:9 did not answer as this site before this deploy either: nobody listens" in result.err
    assert site.fab("status", "--json").expect(0).json["visitor"] == "/ answers 200"
    site.deploy(branch="main").expect(0)


def test_a_public_url_of_somebody_else(site: Site, listener: tuple[int, list[str]]) -> None:
    """What answers there is another site, or is no site at all: the release stays, and the last line says it."""
    port, _ = listener
    site.settings["public_url"] = f"http://127.0.0.1:{port}"
    site.commit(site.titled("Elsewhere"))
    result = site.deploy().expect(0)
    assert result.json["public_trouble"].startswith(("RemoteProtocolError", "ReadError"))
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True).start()
        site.settings["public_url"] = f"http://127.0.0.1:{other.server_address[1]}"
        result = site.deploy().expect(0)
        other.shutdown()
    assert result.json["public_trouble"] == "another site answers there"
    assert "another site answers there" in result.err


class Other(http.server.BaseHTTPRequestHandler):
    """A site of somebody else, where everything is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_deploy_under_a_maintenance_page(site: Site) -> None:
    """It works, visitors see the page all the time, and whoever looks is told of it."""
    site.deploy(branch="main").expect(0)
    page = "/srv/consult/maintenance.html"
    site.run(f"echo 'Back soon' >{page}")
    try:
        site.commit(site.titled("Behind the page"))
        result = site.deploy().expect(0)
        assert site.get("/").text == "Back soon\n"
        status = site.fab("status").expect(0).out
        assert site.fab("status", "--json").expect(0).json["maintenance"] is True
    finally:
        site.run(f"rm {page}")
    assert result.json["visitor"] == "/ answers 200; / answers 503: the maintenance page is on"
    assert result.json["watch"]["failed"] == 0
    assert "; the maintenance page is on" in result.err
    assert page in status
    assert site.heading() == "Behind the page"


def test_a_dead_nginx_is_shown_by_its_own_log(site: Site) -> None:
    """Its journal and what it holds against its files; not gunicorn's, and there once."""
    site.run("echo 'nonsense;' >/etc/nginx/conf.d/bad.conf; systemctl restart nginx || true")
    try:
        result = site.fab("status", "--json").expect(6)
    finally:
        site.run("rm /etc/nginx/conf.d/bad.conf; systemctl restart nginx")
    document = result.json
    assert (document["failed_check"], document["suggestions"]) == ("nginx_running", [f"fab -H {site.name} provision"])
    assert 'unknown directive "nonsense"' in document["logs"]["nginx"][-2]
    assert "output" not in document["logs"]
    assert 'unknown directive "nonsense"' in result.err
    assert "gunicorn" not in result.err.partition("nginx_running fails")[2]


def test_a_boot_that_hangs(untouched: Site) -> None:
    """timeouts.boot ends the wait; what hung is gone."""
    untouched.settings["timeouts"] = {"boot": 3}
    untouched.commit(untouched.edited(WSGI, "application =", "time.sleep(1000)\napplication ="))
    result = failed(untouched, 5)
    assert "did not boot within 3 s" in result.text
    assert result.json["timing"]["total"] < 50


def test_a_lock_file_that_does_not_fit(untouched: Site) -> None:
    """A dependency that uv.lock does not know is told by uv's own words (`uv sync --frozen` installs from the lock)."""
    untouched.settings["sync_args"] = ["--locked"]
    untouched.commit(untouched.edited("apps/web/pyproject.toml", '"greeting",', '"greeting",\n    "iniconfig",'))
    result = failed(untouched, 5)
    assert "Build the virtualenv" in result.json["error"]
    assert "uv.lock" in "\n".join(result.json["logs"]["output"])


def test_a_repository_out_of_reach(untouched: Site) -> None:
    """Exit 5 names the repository."""
    untouched.run("systemctl stop lab-git.path lab-git.service")
    try:
        result = failed(untouched, 5)
    finally:
        untouched.run("systemctl start lab-git.path lab-git.service")
    assert "Fetch the repository" in result.json["error"]
    assert "127.0.0.1" in result.text


def test_what_may_go_live(site: Site) -> None:
    """Not an older commit, unless that is meant; nothing before what is required has succeeded; not every branch."""
    commit = site.commit(site.titled("Live"), "Make it live")
    site.deploy().expect(0)
    site.settings["backwards"] = False
    document = site.deploy(branch="main").expect(2).json
    assert "is older than what is live" in document["error"]
    assert (document["lacks"], document["site_state"]) == ([f"{commit[:7]} Make it live"], "as before")
    assert document["suggestions"][0].endswith(f"fab -H {site.name} deploy --branch main --backwards")
    before = site.releases()
    site.settings |= {"require": "sh -c 'echo Error: no; exit 3'", "branches": ["main", "t/*"]}
    site.commit(site.titled("Not yet"))
    assert "on this machine (exit 3): Error: no" in failed(site, 5).json["error"]
    assert site.releases() == before
    assert "branch other is none of branches: main, t/*" in site.deploy(branch="other").expect(2).json["error"]
    site.settings["require"] = "true"
    site.deploy().expect(0)
    assert site.deploy("--backwards", branch="main").expect(0).json["git_branch"] == "main"


def test_an_unknown_branch_names_the_nearest(untouched: Site) -> None:
    """Exit 2, and the name that was probably meant."""
    result = untouched.deploy(branch="mian").expect(2)
    assert "no branch, tag or commit mian" in result.json["error"]
    assert "did you mean main" in result.json["suggestions"][0]


@pytest.mark.parametrize("means", ["hup", "restart"])
def test_healthy_in_the_proof_but_not_live(site: Site, means: str) -> None:
    """Exit 6: the old release is back and answers as before, the new one is marked bad and no rollback goes there."""
    site.settings["timeouts"] = {"reload": 30, "health": 7}
    site.add_note("before it was bad")
    before, heading, master = site.live(), site.heading(), site.master_pid()
    if means == "restart":
        site.settings["unit_options"] = {"MemoryMax": "768M"}
    site.commit(site.edited(VIEWS, HEALTHY, UNHEALTHY_WHEN_LIVE) | site.titled("Ill"))
    result = failed(site, 6)
    document = result.json
    assert (document["status"], document["activation"]) == ("rolled_back", means)
    assert "/healthz answers 503" in document["error"]
    # At HUP the old workers serve all the time; in a restart there are none.
    assert bool(document["watch"]["failed"]) == (means == "restart")
    assert (site.live(), site.heading()) == (before, heading)
    assert (site.master_pid() == master) == (means == "hup")
    assert site.run("systemctl show -p MemoryMax --value consult-django").strip() == "infinity"
    bad = max(site.releases())
    assert "bad" in site.marks(bad)
    assert "good" not in site.marks(bad)
    assert site.notes()[0] == "before it was bad"
    listed = {one["id"]: one["state"] for one in site.fab("releases", "--json").expect(0).json["releases"]}
    assert (listed[before], listed[bad]) == ("live", "bad")


@pytest.mark.parametrize("means", ["hup", "restart"])
def test_a_health_path_that_takes_its_time_after_the_boot(site: Site, means: str) -> None:
    """Caches that are filled first, say: within timeouts.health that is no failure, and at HUP nobody notices."""
    if means == "restart":
        site.settings["unit_options"] = {"MemoryMax": "768M"}
    cold = (
        "    import os, time\n    if os.environ.get('RUNTIME_DIRECTORY') and time.monotonic() < WARM:\n    " + UNHEALTHY
    )
    views = site.edited(VIEWS, HEALTHY, f"{cold}\n{HEALTHY}")[VIEWS]
    site.commit({VIEWS: views + "\nimport time\nWARM = time.monotonic() + 9\n"} | site.titled("Cold"))
    document = site.deploy().expect(0).json
    assert (document["activation"], document["checks"]["http_200"]) == (means, True)
    assert bool(document["watch"]["failed"]) == (means == "restart")
    assert site.heading() == "Cold"


@pytest.mark.parametrize("means", ["hup", "restart"])
def test_what_only_the_sandbox_of_the_unit_forbids(site: Site, means: str) -> None:
    """The proof cannot see it; workers that die again and again are not watched to the end of the 90 s."""
    before, heading = site.live(), site.heading()
    if means == "restart":
        site.settings["unit_options"] = {"MemoryMax": "768M"}
    site.commit(site.edited(WSGI, "import os\n", "import os\nopen('written', 'w').close()\n"))
    result = failed(site, 6)
    again = (
        "workers in a row have died while they booted" if means == "hup" else "gunicorn has stopped 3 times in a row"
    )
    assert again in "\n".join(result.json["logs"]["output"])
    assert "Read-only file system" in "\n".join(result.json["logs"]["output"])
    assert (result.json["status"], result.json["activation"]) == ("rolled_back", means)
    assert (site.live(), site.heading()) == (before, heading)


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A port of this machine, and who connected to it."""
    callers: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                callers.append(str(address))
                connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], callers
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    "branch", ["$(reboot)", "--upload-pack=x", "", "a b", "a;b", "../x", "HEAD^{/x}", "-x", "a..b"]
)
def test_a_branch_that_could_be_a_command(site: Site, listener: tuple[int, list[str]], branch: str) -> None:
    """Exit 2 before anything is connected to: what cannot name a commit goes nowhere."""
    port, callers = listener
    site.settings |= {"address": "127.0.0.1", "port": port}
    result = site.fab("deploy", f"--branch={branch}", "--json").expect(2)
    site.settings.clear()
    assert "--branch" in result.json["error"]
    assert result.json["phase"] == "configuration"
    assert callers == []


def test_the_listener_is_seen(site: Site, listener: tuple[int, list[str]]) -> None:
    """The test above can fail: a good branch does connect there, and what answers is no SSH server: exit 3."""
    port, callers = listener
    site.settings |= {"address": "127.0.0.1", "port": port, "timeouts": {"connect": 3}}
    result = site.fab("deploy", "--branch=main", "--json").expect(3)
    site.settings.clear()
    assert callers
    assert result.json["phase"] == "connect"


def test_unknown_hosts_and_no_host(site: Site) -> None:
    """Exit 2 with the nearest name, and with those there are; nothing runs on the operator's machine."""
    result = site.fab("deploy", "--json", name=site.name[:-1]).expect(2)
    assert site.name in result.json["error"] + " ".join(result.json["suggestions"])
    process = site.start_raw("deploy", "--json")
    out, err = process.communicate(timeout=30)
    result = Result(process.returncode, out, err).expect(2)
    assert "-H" in result.json["error"]
    assert site.name in result.json["error"]


def test_a_broken_hosts_toml(site: Site) -> None:
    """Every mistake at once, each with its key path and the nearest right name: exit 2."""
    site.hosts_file = f'[environments.test.hosts.{site.name}]\nadress = "x"\nworkers = "many"\npath = "app"\n'
    result = site.fab("deploy", "--json").expect(2)
    for words in (f"{site.name}.adress", "address", f"{site.name}.workers", f"{site.name}.path"):
        assert words in result.json["error"]
    site.hosts_file = "[environments\n"
    assert "hosts.toml" in site.fab("deploy", "--json").expect(2).json["error"]


def test_a_host_that_is_down(site: Site) -> None:
    """Exit 3 within timeouts.connect, whether the port refuses or the packets vanish."""
    site.settings |= {"address": "127.0.0.1", "port": 9}
    assert "cannot reach deploy@127.0.0.1:9" in site.fab("deploy", "--json").expect(3).json["error"]
    site.settings = {"timeouts": {"connect": 2}}
    cut_network(site.host)
    try:
        document = site.fab("deploy", "--json").expect(3).json
    finally:
        join_network(site.host)
        site.settings.clear()
    assert document["phase"] == "connect"
    assert document["timing"]["total"] < 10


def test_a_host_key_that_is_not_the_known_one(site: Site) -> None:
    """Another key than the known or the pinned one, or an unknown one: exit 3, never a login."""
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPUy0bqRGv3pE1bT7dXb0yT7mM2b9Xb5p2zJ3e1kS0aB"
    known = site.folder / "known_hosts"
    real = site.host.known_hosts.read_text().split(maxsplit=1)[1].strip()
    for text, settings, words in (
        (f"{site.host.address} {other}\n", {}, "host key changed"),
        ("", {}, "unknown host key"),
        (site.host.known_hosts.read_text(), {"host_key": other}, "host key changed"),
    ):
        known.write_text(text)
        site.settings = {"known_hosts": str(known), **settings}
        assert words in site.fab("status", "--json").expect(3).json["error"]
    site.settings = {"known_hosts": str(known), "host_key": real}
    site.fab("status", "--json").expect(0)
    site.settings.clear()


def test_a_second_deploy_is_refused_while_one_runs_or_waits(site: Site) -> None:
    """Exit 7 with who, what and since when; --wait queues behind the first, and both end well."""
    until_told = "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pages_note WHERE text = 'go on') LOOP "
    until_told += "PERFORM pg_sleep(0.1); END LOOP; END $$"
    site.commit(migration("0003_slow", until_told) | site.titled("First"))
    with running(site, "deploy", "--branch", site.branch) as first:
        wait_for(lambda: migrating(site))
        error = site.deploy(branch="main").expect(7).json["error"]
        assert re.search(rf"deploy {site.branch} by ana since 20\d\d-\d\d-\d\dT", error)
        assert re.search(rf"locked +deploy {site.branch} by ana", site.fab("status").expect(0).out)
        second = site.repository.commit(site.titled("Second"), branch=f"{site.branch}-2", base="main")
        with running(site, "deploy", "--wait", "60", "--branch", f"{site.branch}-2") as waiting:
            said = waiting.stdout
            assert said
            wait_for(lambda: f"waiting for deploy {site.branch} by ana" in said.readline())
            site.add_note("go on")
            for process in (first, waiting):
                out, _ = process.communicate(timeout=60)
                assert process.returncode == 0, out
    assert site.heading() == "Second"
    assert [entry["commit"] for entry in site.history()][-1] == second


def migrating(site: Site) -> bool:
    return "manage.py migrate" in site.run("ps -eo args")


def test_a_host_locked_by_hand(untouched: Site) -> None:
    """lock refuses everybody, with the reason; unlock lets them in again."""
    site = untouched
    site.fab("lock", "--message", "the database moves", "--json").expect(0)
    try:
        for verb in ("deploy", "rollback"):
            error = site.fab(verb, "--json").expect(7).json
            assert "by ana" in error["error"]
            assert "the database moves" in error["error"]
            assert error["suggestions"] == [f"fab -H {site.name} unlock"]
        assert "the database moves" in site.fab("status").expect(0).out
        assert site.fab("lock", "--json").expect(7)
    finally:
        site.fab("unlock", "--json").expect(0)
    assert site.fab("unlock", "--json").expect(0).json["status"] == "unchanged"
    assert site.fab("deploy", "--json").expect(0).json["status"] == "unchanged"


def test_a_client_killed_during_a_migration(site: Site) -> None:
    """kill -9 of the client: the host finishes what it began, and the next deploy needs no clean-up."""
    site.add_note("before the kill")
    site.commit(migration("0003_cut", "SELECT pg_sleep(3)") | site.titled("Finished by the host"))
    with running(site, "deploy", "--branch", site.branch) as process:
        wait_for(lambda: migrating(site))
        process.kill()
        process.wait()
    wait_for(lambda: site.heading() == "Finished by the host")
    result = site.deploy("--wait", "60").expect(0)
    assert result.json["status"] == "unchanged", result.text
    assert site.notes()[0] == "before the kill"
    site.commit(site.titled("Next"))
    site.deploy().expect(0)
    assert site.heading() == "Next"


def test_ctrl_c_during_the_build(untouched: Site) -> None:
    """Exit 130: the site is as before, and neither the proof nor the release folder is left."""
    untouched.commit(untouched.edited(WSGI, "application =", "time.sleep(20)\napplication ="))
    interrupted(untouched)


def test_no_secret_is_shown_or_kept(site: Site, secrets: Callable[..., None]) -> None:
    """Not in output at any verbosity, in ps while it works, in the journal, in any file of the app, in the history."""
    secrets(SENTINEL="sentinel-4f1c")
    known = json.loads(site.run("cat /srv/lab/doppler/secrets.json"))
    password = known["DATABASE_URL"].split(":")[2].partition("@")[0]
    hidden = [site.host.doppler_token, password, known["SECRET_KEY"], known["SENTINEL"]]
    said = []
    site.environment["DOPPLER_TOKEN"] = site.host.doppler_token
    with watching_ps() as commands:
        site.commit(site.titled("With secrets"))
        said.append(site.fab("-e", "deploy", "--branch", site.branch).expect(0))
        site.commit(site.edited(URLS, "import views", "import views, no_such_view"))
        said.append(site.deploy("-e").expect(5))
        said += [site.fab("-e", verb).expect(0) for verb in ("provision", "rollback", "logs")]
        said.append(site.fab("status", "--json").expect(0))
    assert any("manage.py migrate" in line for line in commands), "ps was read while a deploy ran"
    patterns = " ".join(f"-e {word}" for word in hidden)
    # The token file is where the token belongs.
    kept = site.run(
        f"grep -rlF {patterns} /srv/consult /etc /tmp /run/consult-django /home /var/log 2>/dev/null; true"
    ).split()
    assert kept == ["/etc/consult/doppler.env"]
    for word in hidden:
        assert word not in "".join(result.text for result in said)
        assert not [line for line in commands if word in line]
        assert word not in site.run("journalctl --no-pager --output cat")
