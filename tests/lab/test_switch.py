"""The switch nobody notices: visitors ask all the time while the site changes under them."""

import json
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import pytest

from testbed import load
from testbed.harness import CSS, SETTINGS, WEB, WSGI, Site, wait_for
from testbed.lab import set_secrets
from testbed.traffic import RATE, Traffic
from tests.lab import BOOT, STALL

pytestmark = pytest.mark.lab

HUP = "kill -HUP $(cat /run/consult-django/gunicorn.pid)"
IMMUTABLE = "public, max-age=31536000, immutable"
CASES = (
    ("sync", "gunicorn==20.1.0"),
    ("gevent", "gunicorn==20.1.0"),
    ("gthread", "gunicorn==23.0.0"),
    ("sync", "gunicorn>23"),
    ("gthread", "gunicorn>23"),
    ("gevent", "gunicorn>23"),
)


@pytest.fixture
def site(live: Site, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The same site with plain settings and a branch of the test's own, not yet live; whole afterwards."""
    load.plain(live)
    live.branch = "t/" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    live.commit({"BRANCH": f"{live.branch}\n"})
    yield live
    live.assert_sound()


@pytest.fixture
def boots_in(live: Site) -> Iterator[Callable[[float], None]]:
    """Changes how long the application takes to boot, in seconds."""

    def change(seconds: float) -> None:
        set_secrets(live.host, BOOT_SECONDS=str(seconds))
        live.fab("restart", "--json").expect(0)

    yield change
    change(BOOT)


@contextmanager
def visitors(site: Site, rate: int = RATE) -> Generator[Traffic]:
    """Visitors, so many a second, for the time of the block and a moment before."""
    with Traffic(site.host.address, site.domain, rate=rate) as traffic:
        time.sleep(0.5)
        yield traffic


def hup_by_hand(site: Site, command: str = HUP) -> None:
    """Reload without the tool, and wait until the old workers are gone."""
    # The master is asked for once: gunicorn takes its pid file away for a moment in a reload.
    workers = f"pgrep -P {site.master_pid()}"
    old = set(site.run(workers).split())
    site.run(command)
    wait_for(lambda: not old & set(now := site.run(workers).split()) and len(now) >= load.WORKERS)


def test_a_real_outage_is_noticed(site: Site) -> None:
    """The visitors are no fools: a plain stop of service and socket fails requests, before and after none."""
    with visitors(site) as traffic:
        stopped = time.monotonic()
        site.run("systemctl stop consult-django.socket consult-django.service")
        time.sleep(1)
        site.run("systemctl start consult-django.socket consult-django.service")
        wait_for(lambda: site.get("/healthz").status_code == 200)
        started = time.monotonic()
        time.sleep(0.5)
    assert not any(sample.trouble for sample in traffic.samples if sample.ended < stopped)
    assert traffic.count(stopped, started).failed > 20
    assert any("status 502" in trouble for trouble in traffic.count().troubles)
    assert not any(sample.trouble for sample in traffic.samples if sample.began > started)


def test_a_restart_of_the_service_alone_is_noticed_as_a_stall(site: Site) -> None:
    """The visitors see a stall too: a restart behind the socket fails nobody, and takes as long as the boot."""
    with visitors(site) as traffic:
        site.run("systemctl restart consult-django.service")
        wait_for(lambda: site.get("/healthz").status_code == 200)
    assert traffic.count().failed == 0
    assert traffic.count().slowest_ms > BOOT * 1000


def test_a_reload_without_the_tool_does_not_stall(site: Site, boots_in: Callable[[float], None]) -> None:
    """systemctl reload and kill -HUP by hand: whoever types them, nobody waits for the 3 s that the boot takes."""
    boots_in(3)
    for command in ("systemctl reload consult-django.service", HUP):
        with visitors(site) as traffic:
            hup_by_hand(site, command)
        assert (traffic.count().failed, traffic.count().troubles) == (0, ())
        assert traffic.count().slowest_ms < 1500


def test_a_second_hup_during_the_first_does_not_stall(site: Site) -> None:
    """Impatience costs nothing: HUP again while the new workers boot."""
    with visitors(site) as traffic:
        site.run(HUP)
        time.sleep(BOOT / 2)
        hup_by_hand(site)
    assert (traffic.count().failed, traffic.count().troubles) == (0, ())
    assert traffic.count().slowest_ms < STALL


def test_a_hup_into_code_that_does_not_boot_leaves_the_old_workers(site: Site) -> None:
    """Broken by hand on the server, then HUP: master and old workers serve on, and a mended file goes live by HUP."""
    master, path = site.master_pid(), f"/app/{WSGI}"
    with visitors(site) as traffic:
        site.run(f"cp {path} /tmp/wsgi; echo 'raise RuntimeError(\"broken by hand\")' >>{path}; {HUP}")
        wait_for(lambda: "broken by hand" in site.journal())
        time.sleep(2)
        assert site.master_pid() == master
        site.run(f"cp /tmp/wsgi {path}; rm /tmp/wsgi")
        hup_by_hand(site)
    assert (traffic.count().failed, traffic.count().troubles) == (0, ())
    assert traffic.count().slowest_ms < STALL
    assert site.master_pid() == master


def test_old_pages_keep_their_files(site: Site) -> None:
    """The CSS of three releases ago is served under its hash, as for ever; older than keep_static releases it is gone.

    Under its plain name only the live release's is served, and no browser may keep that unasked.
    """
    pages = []
    for colour in ("#111111", "#222222", "#333333", "#444444"):
        site.commit({CSS: f"p {{ color: {colour} }}\n"})
        site.deploy().expect(0)
        pages.append((site.stylesheet(), colour))
    assert len({path for path, _ in pages}) == 4
    for path, colour in pages:
        answer = site.get(path)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, IMMUTABLE)
        assert colour in answer.text
    plain = site.get("/static/pages/site.css")
    assert "#444444" in plain.text
    assert plain.headers["Cache-Control"] == "no-cache"
    manifest = json.loads(site.get("/static/staticfiles.json").text)
    assert f"/static/{manifest['paths']['pages/site.css']}" == pages[-1][0]

    site.settings["keep_static"] = 3
    site.commit({CSS: "p { color: #555555 }\n"})
    site.deploy().expect(0)
    wait_for(lambda: site.get(pages[1][0]).status_code == 404)
    assert [site.get(path).status_code for path, _ in pages] == [404, 404, 200, 200]


@pytest.mark.parametrize(("worker_class", "gunicorn"), CASES)
def test_hup_fails_nobody_with_any_worker_and_gunicorn(site: Site, worker_class: str, gunicorn: str) -> None:
    """The app's own gunicorn.conf.py has its say, and no request that a proxy may repeat fails in a HUP."""
    own = f'worker_class = "{worker_class}"\nthreads = {4 if worker_class == "gthread" else 1}\n'
    # pkg_resources for the old gunicorn, packaging for the new one's gevent worker.
    more = ["setuptools<81", *(["gevent", "packaging"] if worker_class == "gevent" else [])]
    packages = "".join(f'    "{name}",\n' for name in ["greeting", *more]).lstrip()
    text = site.repository.read(WEB, site.branch)
    text = text.replace('"greeting",\n', packages).replace('"gunicorn==23.0.0"', f'"{gunicorn}"')
    changes = load.locked(site, {WEB: text}, "--upgrade-package=gunicorn") | {"apps/web/gunicorn.conf.py": own}
    if worker_class == "gevent":  # where each request is a thread of its own to Django, none may keep its connection
        changes |= site.edited(SETTINGS, "conn_max_age=60", "conn_max_age=0")
    site.commit(changes)
    # Not 50: a connection to the database for each request is more than two cores can do beside a boot.
    with visitors(site, rate=15) as traffic:
        document = site.deploy().expect(0).json
        time.sleep(0.5)
        deployed = time.monotonic()
        reloaded = site.fab("reload", "--json").expect(0).json
    assert reloaded["activation"] == "hup"
    state = json.loads(site.run("cat /run/consult-django/master.json"))
    assert worker_class in state["worker_class"].lower()
    assert state["gunicorn"].startswith(re.split("[=>]+", gunicorn)[1]) or state["gunicorn"] > "23.0.0"
    failed = [sample for sample in traffic.samples if sample.trouble]
    assert [f"{one.name}: {one.trouble}" for one in failed if one.repeatable] == []
    assert reloaded["watch"]["failed"] == document["watch"]["failed"] == 0
    slowest = max((one for one in traffic.samples if one.began > deployed and not one.long), key=lambda one: one.ms)
    assert slowest.ms < STALL, f"{slowest}, HUP after {deployed}"


def test_an_nginx_that_refuses_the_site_keeps_the_old_one(site: Site) -> None:
    """A second default_server put there by hand: nginx -t fails, exit 5 with its words, and the old site stays."""
    other = "/etc/nginx/sites-enabled/zz-by-hand"
    name = "/etc/nginx/sites-available/consult-django"
    site.settings["default_server"] = False
    site.deploy().expect(0)
    before = site.run(f"cat {name}")
    site.run(
        f"echo 'server {{ listen 80 default_server; server_name other; }}' >{other}; nginx -t && systemctl reload nginx"
    )
    site.settings["default_server"] = True
    try:
        with visitors(site) as traffic:
            result = site.deploy().expect(5)
        assert "duplicate default server" in "\n".join(result.json["logs"]["output"])
        assert result.json["site_state"] == "as before"
        assert traffic.count().failed == 0
        assert site.run(f"cat {name}") == before
        site.run("nginx -t")
    finally:
        site.run(f"rm {other}; nginx -t && systemctl reload nginx")
    assert site.deploy().expect(0).json["activation"] == "nginx"


def test_the_public_address_is_watched_too(site: Site) -> None:
    """public_url set: its answers are counted beside those through SSH."""
    set_secrets(site.host, ALLOWED_HOSTS=f"consult.lab,127.0.0.1,localhost,{site.host.address}")
    site.fab("restart", "--json").expect(0)
    site.settings["public_url"] = f"http://{site.host.address}"
    site.commit(site.titled("Seen from outside"))
    site.run(": >/var/log/nginx/consult-django.access.log")
    try:
        watch = site.deploy().expect(0).json["watch"]
        assert watch["public_requests"] > 5
        assert (watch["public_failed"], watch["failed"]) == (0, 0)
        asked = site.run("grep -c 'GET /healthz.*python-httpx' /var/log/nginx/consult-django.access.log || true")
        assert int(asked) == watch["public_requests"]
    finally:
        set_secrets(site.host, ALLOWED_HOSTS="consult.lab,127.0.0.1,localhost")


def test_the_numbers_of_the_watch_are_those_of_nginx(site: Site) -> None:
    """As many requests as nginx logged, many a second, and the slowest is as slow as a restart."""
    site.run(": >/var/log/nginx/consult-django.access.log")
    document = site.fab("restart", "--json").expect(0).json
    log = site.run("cat /var/log/nginx/consult-django.access.log").splitlines()
    lines = [line for line in log if '"django-deploy (watch)"' in line]
    watch = document["watch"]
    assert watch["requests"] == len(lines) > 3
    assert watch["failed"] == sum(" 200 " not in line for line in lines) == 0
    assert watch["slowest_ms"] > BOOT * 1000
