"""The world fails: each trouble has its exit code, one error that names it, and leaves the site as it was."""

import re
import shlex
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from fabfile.config.inventory import Host
from fabfile.config.layout import Layout
from fabfile.config.settings import Timeouts
from fabfile.plan.lock import Lock, lock_info
from fabfile.ssh import library, login
from fabfile.ssh.connection import connect
from fabfile.ssh.runner import ConnectionLost
from testbed import bash
from testbed.bash import shell
from testbed.harness import VIEWS, WSGI, Site, interrupted, running, throw_away, wait_for
from testbed.lab import LabHost, get_secrets
from testbed.sample import sample
from testbed.traffic import Traffic
from testbed.world import (
    TIMEOUTS,
    Relay,
    answers,
    at_work,
    fails,
    healed,
    instead,
    limit,
    migration,
    psql,
    relay,
    small_disk,
    stopped,
    undone,
)

pytestmark = pytest.mark.lab

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBVlE5Gf9FdgQ1Vr0mA0RVMXpVyhDeJ5a3bbmmWlBXo4"


@pytest.fixture(scope="session")
def world(base: str, own: Callable[[str], str]) -> Iterator[LabHost]:
    """A host with the sample site, to which things are done that no other test shall find there."""
    with throw_away(own("world"), base=base) as host:
        yield host


@pytest.fixture
def site(world: LabHost, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The site with new code on a branch of its own, waiting to be deployed."""
    branch = "w/" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    site = Site(world, tmp_path, branch, settings={"timeouts": TIMEOUTS})
    site.commit(site.titled(branch))
    site.add_note(branch)
    yield site
    assert branch in site.notes()
    site.assert_sound()


def health_view(site: Site, lines: str) -> dict[str, str]:
    """The health view with `lines` before all else; `live` in them is false in the proof."""
    start = 'live = not __import__("os").environ.get("DEPLOY_PROOF")\n    '
    old = '    """Answer 200 when the database answers, else 503."""\n'
    return site.edited(VIEWS, old, f"{old}    {start}{lines}\n")


def test_the_repository_is_down(site: Site) -> None:
    """Nobody answers at the repository's address."""
    with stopped(site, "lab-git.path", "lab-git.service"):
        fails(site, 5, "Fetch the repository", "Connection refused", "git")
    healed(site)


def test_the_repository_says_nothing(site: Site) -> None:
    """A repository that takes the connection and never answers is left after timeouts.fetch, and git with it."""
    listen = "import socket, time; s = socket.create_server(('127.0.0.1', 9419)); time.sleep(600)"
    limit(site, fetch=3)
    with undone(site, f'systemd-run --quiet --unit=mute python3 -c "{listen}"', "systemctl stop mute"):
        site.settings["repo"] = "git://127.0.0.1:9419/consult.git"
        fails(site, 5, "Fetch the repository", "took longer than 3 s")
        assert site.run("pgrep -u deploy git || true") == ""
    del site.settings["repo"]
    healed(site)


def test_the_package_index_is_down(site: Site) -> None:
    """Packages that the host has had before need no index; with an empty cache the error says what is missing."""
    with instead(site, "/etc/resolv.conf", "nameserver 127.0.0.9\n"):
        healed(site)
        more = site.edited("apps/web/pyproject.toml", '"greeting",', '"greeting",\n    "iniconfig",')
        site.commit(site.titled("Cold") | site.locked(more))
        with undone(
            site,
            "mv /srv/consult/cache /srv/consult/cache.kept",
            "rm -rf /srv/consult/cache; mv /srv/consult/cache.kept /srv/consult/cache",
        ):
            fails(site, 5, "Build the virtualenv", "Failed to download", "package index")
    healed(site)


@pytest.fixture
def hasty_doppler(site: Site) -> Iterator[None]:
    """A Doppler CLI that tries again at once; the real one's 21 s of patience (decision 11) are only long."""
    edit = "sed -i 's/^BACKOFF_SECONDS = .*/BACKOFF_SECONDS = {}/' /usr/bin/doppler"
    with undone(site, edit.format("(0.1, 0.1)"), edit.format("(1.4, 2.8, 5.6, 11.2)")):
        yield


@pytest.mark.usefixtures("hasty_doppler")
def test_doppler_is_down(site: Site) -> None:
    """With the fallback file a deploy goes on; without one it ends before anything changed."""
    with stopped(site, "lab-doppler-api.service"):
        healed(site)
        site.commit(site.titled("Without a fallback"))
        site.run("rm -rf /var/lib/consult-django/doppler/fallback")
        fails(site, 5, "Doppler", "same command again")
    healed(site)


def test_the_token_was_revoked(site: Site) -> None:
    """Doppler's refusal is told, with the way to a new token."""
    with instead(site, "/srv/lab/doppler/tokens", "dp.st.lab.another\n"):
        fails(site, 5, "Invalid Service token", f"fab -H {site.name} provision")
    healed(site)


def test_the_database_is_down(site: Site) -> None:
    """Nothing is switched while the database is away."""
    live, workers = site.live(), site.worker_pids()
    with stopped(site, "postgresql"):
        document = site.deploy().expect(5).json
        assert "connection" in document["error"]
        assert "database" in document["suggestions"][0]
        assert document["site_state"] == "as before"
        assert (site.live(), site.worker_pids()) == (live, workers)
    healed(site)


def test_a_migration_fails_halfway(site: Site) -> None:
    """What had been applied stays, and the outcome says so; the old code goes on."""
    site.commit(
        migration("0003_one", "migrations.RunSQL('ALTER TABLE pages_note ADD one text')")
        | migration("0004_two", "migrations.RunSQL('ALTER TABLE nowhere ADD two text')", "0003_one")
    )
    document = fails(site, 5, "Migrate the database", "nowhere", state="as before, but the schema: pages.0003_one")
    assert "pages.0004_two had begun" in document["site_state"]
    assert document["migrations"] == ["pages.0003_one"]
    site.commit(migration("0004_two", "migrations.RunSQL('ALTER TABLE pages_note ADD two text')", "0003_one"))
    assert healed(site)["migrations"] == ["pages.0004_two"]


def test_a_migration_that_waits_for_a_lock(site: Site) -> None:
    """It waits for a moment at a time, so nobody behind it waits longer; then it is told who holds what it needs."""
    site.commit(migration("0003_waits", "migrations.RunSQL('ALTER TABLE pages_note ADD waits text')"))
    with holding(site):
        limit(site, lock=1)
        with Traffic(site.host.address, site.domain) as traffic:
            told = fails(site, 5, "Migrate the database", "pages_note was not free within 1 s, 3 times: pid ")
        assert re.search(
            r"\(consult, idle in transaction, last SELECT, since [\d:]{8} UTC, \d+ s\) holds it", told["error"]
        )
        assert re.search(r"SELECT pg_terminate_backend\(\d+\)", told["suggestions"][0])
        assert "timeouts.lock" in told["suggestions"][0]
        assert told["migrations"] == []
        assert not traffic.count().failed, "those who read notes were let in between"
        assert not at_work(site, "ALTER")
        limit(site, lock=30, migrate=5)
        fails(site, 5, "Migrate the database", "took longer than 5 s", "timeouts.migrate")
    healed(site)


def test_a_migration_that_gets_its_lock_in_the_end(site: Site) -> None:
    """It is tried again, which is said; what is written for a busy database waits as long as that takes."""
    limit(site, lock=2)
    site.commit(migration("0003_again", "migrations.RunSQL('ALTER TABLE pages_note ADD again text')"))
    with running(site, "deploy", "--branch", site.branch) as deploy:
        with holding(site):
            wait_for(lambda: at_work(site, "ALTER"))
            wait_for(lambda: not at_work(site, "ALTER"))
        said, _ = deploy.communicate(timeout=60)
    assert deploy.returncode == 0, said
    assert "  pages_note was not free within 2 s, tried again: pid" in said
    patient = "migrations.RunSQL('CREATE INDEX CONCURRENTLY patient ON pages_note (text)')"
    site.commit(migration("0004_patient", patient, "0003_again", atomic=False))
    with running(site, "deploy", "--branch", site.branch) as deploy:
        with holding(site):
            wait_for(lambda: at_work(site, "CREATE INDEX", "3 s"))
        said, _ = deploy.communicate(timeout=60)
    assert deploy.returncode == 0, said
    assert "tried again" not in said
    assert site.live() == site.releases()[-1]


def test_two_who_migrate_one_database(site: Site) -> None:
    """The second one waits until the first has ended, and says so: here a deploy, and somebody by hand."""
    until_told = "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pages_note WHERE text = 'go on') LOOP "
    until_told += "PERFORM pg_sleep(0.1); END LOOP; END $$"
    site.commit(migration("0003_first", f'migrations.RunSQL("{until_told}")'))
    with running(site, "deploy", "--branch", site.branch) as first:
        wait_for(lambda: at_work(site, "DO "))
        with running(site, "manage", "migrate --noinput") as second:
            assert second.stdout
            told = second.stdout.readline()
            assert re.match(r"note: another migrate is at work on this database \(pid \d+\): waiting for it", told)
            site.add_note("go on")
            said, _ = second.communicate(timeout=60)
            assert "No migrations to apply" in said
        said, _ = first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), said


@contextmanager
def holding(site: Site) -> Generator[None]:
    """A session of the app's own that works with the notes, and does not end its transaction meanwhile."""
    begin = "BEGIN; DELETE FROM pages_note WHERE false; SELECT count(*) FROM pages_note;"
    hold = f"(echo {shlex.quote(begin)}; sleep 300) | psql -q {get_secrets(site.host)['DATABASE_URL']}"
    with undone(
        site,
        f"systemd-run --quiet --unit=holder bash -c {shlex.quote(hold)}",
        "systemctl stop holder",
    ):
        wait_for(lambda: psql(site, "SELECT 1 FROM pg_locks WHERE relation = 'pages_note'::regclass AND granted"))
        yield


def test_the_disk_is_full(site: Site) -> None:
    """On a real small file system: before the build, while it is built, while static files are collected."""
    with small_disk(site, room=60):
        fails(site, 5, "has room for", "make room")
    with small_disk(site, room=130):
        releases = site.releases()
        site.commit({"big.bin": "x" * (140 << 20)})
        fails(site, 5, "Lay out the release", "unable to write file", "make room")
        site.commit({"big.bin": None, "apps/web/pages/static/big.bin": "x" * (64 << 20)})
        fails(site, 5, "Collect the static files", "No space left on device", "make room")
        assert set(site.releases()) <= set(releases)  # nothing of the failed ones is left
        site.commit({"apps/web/pages/static/big.bin": None})
        healed(site)


def test_there_are_no_inodes(site: Site) -> None:
    """A file system with room, but for no more files."""
    with small_disk(site, room=500, files=10000):
        site.commit({f"many/{number}": "" for number in range(10500)})
        fails(site, 5, "Lay out the release", "No space left on device", "make room")
        site.commit({f"many/{number}": None for number in range(10500)})
        healed(site)


def test_the_clock_jumps(site: Site) -> None:
    """Releases keep their order when the host's clock was ahead for a while, and rollback finds the one before."""
    first = site.live()
    with undone(
        site,
        """printf '#!/bin/sh\\nexec /usr/bin/date -d "+400 days" "$@"\\n' >/usr/local/bin/date
        chmod 755 /usr/local/bin/date""",
        "rm /usr/local/bin/date",
    ):
        ahead = healed(site)["release"]
        assert ahead[:4] > first[:4]
    site.commit(site.titled("Back in time"))
    back = healed(site)["release"]
    assert first < ahead < back
    assert site.fab("rollback", "--json").expect(0).json["release"] == ahead
    healed(site, "--force")


def test_nginx_was_broken_by_hand(site: Site) -> None:
    """Somebody else's broken site stops no code; a site change is refused, and the old file is back."""
    ours = "/etc/nginx/sites-available/consult-django"
    healed(site)  # whatever site the test before has left
    site.commit(site.titled("Beside a broken site"))
    with instead(site, "/etc/nginx/sites-enabled/broken", "server { nonsense on; }\n"):
        assert healed(site)["activation"] == "hup"
        before = site.run(f"sha256sum {ours}")
        site.settings["body_size"] = "3m"
        fails(site, 5, "Stage the changed files", "sites-enabled/broken", "nginx names")
        assert site.run(f"sha256sum {ours}") == before
    assert healed(site)["activation"] == "nginx"
    del site.settings["body_size"]
    healed(site)


def test_a_failed_migration_puts_no_old_site_back(site: Site) -> None:
    """A deploy that ends before it stages files brings back none that an earlier deploy has kept."""
    ours = "/etc/nginx/sites-available/consult-django"
    site.settings["body_size"] = "4m"
    healed(site)
    before = site.run(f"sha256sum {ours}")
    site.settings["body_size"] = "5m"
    site.commit(migration("0003_never", "migrations.RunSQL('nonsense')"))
    fails(site, 5, "Migrate the database")
    assert site.run(f"sha256sum {ours}") == before
    site.commit({"apps/web/pages/migrations/0003_never.py": None})
    del site.settings["body_size"]
    healed(site)


def test_the_unit_is_masked(site: Site) -> None:
    """Somebody's decision that the service must not run stands until they take it back."""
    unit = "/etc/systemd/system/consult-django.service"
    with undone(
        site,
        f"mv {unit} /root/; ln -s /dev/null {unit}; systemctl daemon-reload",
        f"rm {unit}; mv /root/consult-django.service {unit}; systemctl daemon-reload",
    ):
        fails(site, 4, "consult-django.service is masked", "unmask")
        assert site.run(f"readlink {unit}") == "/dev/null\n"
    healed(site)


def test_the_master_is_killed_just_before_the_switch(site: Site) -> None:
    """The deploy finds no master to reload, and the one that systemd starts serves the new release."""
    before = """
import os, pathlib
def kill(apps, editor):
    os.kill(int(pathlib.Path("/run/consult-django/gunicorn.pid").read_text()), 9)
"""
    site.commit(migration("0003_kill", "migrations.RunPython(kill)", before=before))
    master = site.master_pid()
    assert healed(site)["activation"] == "hup"
    assert site.master_pid() != master


def test_a_health_path_that_never_answers_in_the_proof(site: Site) -> None:
    """The proof's patience ends, and nothing was switched."""
    limit(site, health=2)
    site.commit(health_view(site, "__import__('time').sleep(600)"))
    fails(site, 5, "Prove that it is healthy", "/healthz answered 000, not 200")
    site.commit(site.edited(VIEWS, "SHOWN_NOTES = 100", "SHOWN_NOTES = 99"))
    healed(site)


def test_a_health_path_that_never_answers_live(site: Site) -> None:
    """Workers that never come up take no visitor away from those of before."""
    limit(site, reload=10, health=5)
    site.commit(health_view(site, "live and __import__('time').sleep(600)"))
    fails(site, 6, "See only new workers answer", "is live again", state="as before: ")
    site.commit(site.edited(VIEWS, "SHOWN_NOTES = 100", "SHOWN_NOTES = 98"))
    healed(site)


def test_a_health_path_that_flaps(site: Site) -> None:
    """Every other answer being good is not good, whichever worker gives it."""
    seen = "/run/consult-django/seen"
    flap = (
        f'if live:\n        seen = open("{seen}", "a")\n        seen.write("x")\n'
        "        if seen.tell() % 2 == 0:\n            return JsonResponse({}, status=503)"
    )
    limit(site, health=5)
    site.commit(health_view(site, flap))
    outcome = fails(site, 6, "/healthz answers 503", "is live again", state="as before: ")
    assert outcome["watch"]["failed"]
    site.run(f"rm {seen}")
    site.commit(site.edited(VIEWS, "SHOWN_NOTES = 100", "SHOWN_NOTES = 98"))
    healed(site)


def test_a_health_path_that_only_the_watch_sees_failing(site: Site) -> None:
    """The host's own checks pass, what comes in through the SSH connection does not: the old release is back."""
    # They ask with the same headers, but for those that httpx itself adds.
    refuse = 'if live and "Accept-Encoding" in _request.headers:\n        return JsonResponse({}, status=503)'
    limit(site, health=5)
    site.commit(health_view(site, refuse))
    outcome = fails(site, 6, "/healthz answers 503 through nginx", "is live again", state="as before: ")
    assert outcome["checks"]["http_200"] is False
    assert outcome["watch"]["failed"]
    site.commit(site.edited(VIEWS, "SHOWN_NOTES = 100", "SHOWN_NOTES = 97"))
    healed(site)


@pytest.mark.parametrize("how", ["known_hosts", "host_key"])
def test_the_host_key_changed(site: Site, how: str) -> None:
    """Another key than the known one is refused, with both fingerprints."""
    other = site.folder / "known_hosts"
    other.write_text(f"{site.host.address} {OTHER_KEY}\n")
    site.settings[how] = OTHER_KEY if how == "host_key" else str(other)
    fails(site, 3, "host key changed", "SHA256:", "ssh-keygen -R" if how == "known_hosts" else "in hosts.toml")
    del site.settings[how]
    healed(site)


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2p1\r\n"], ids=["at once", "after the banner"])
def test_ssh_that_accepts_and_stalls(site: Site, greeting: bytes) -> None:
    """A login that gets no answer ends after timeouts.connect."""
    with relay(None, greeting) as mute:
        site.settings |= {"address": "127.0.0.1", "port": mute.port}
        began = time.monotonic()
        fails(site, 3, f"cannot reach deploy@127.0.0.1:{mute.port}")
        assert time.monotonic() - began < 15
    del site.settings["address"], site.settings["port"]
    healed(site)


def through(way: Relay, site: Site) -> Host:
    """The host as it is reached through a relay."""
    known = site.folder / "known"
    known.write_text(site.host.known_hosts.read_text().replace(site.host.address, f"[127.0.0.1]:{way.port}"))
    key = str(site.host.key_file)
    return Host(site.name, "test", sample(address="127.0.0.1", port=way.port, key=key, known_hosts=str(known)))


@pytest.fixture(autouse=True)
def free_bash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a test's own reach the host too."""
    monkeypatch.setattr(library, "files", bash.files)


def test_ssh_that_hangs_up_on_some(site: Site) -> None:
    """A busy sshd drops logins: those are tried again."""
    with relay((site.host.address, 22)) as way:
        way.hangs_up = 3
        with connect(through(way, site)) as connection, connection.runner() as runner:
            assert runner.run([shell("speak", "echo here")])["speak"].output == "here"
        assert way.hangs_up == 0


def test_fifty_at_once(site: Site) -> None:
    """Fifty clients of one real sshd, which takes ten logins at a time: all get in, one after the other."""
    work = shell("be alone", "mkdir /tmp/alone; sleep 0.02; rmdir /tmp/alone")

    def come(number: int) -> str:
        settings = sample(
            address=site.host.address, key=str(site.host.key_file), known_hosts=str(site.host.known_hosts),
            timeouts=Timeouts(connect=60),
        )  # fmt: skip
        lock = Lock(Layout.of(settings).lock, lock_info(f"number {number}"), 300)
        with connect(Host(site.name, "test", settings)) as connection, connection.runner(lock=lock) as runner:
            return "ok" if runner.run([work])[work.id].ok else "failed"

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(come, range(50))) == ["ok"] * 50
    wait_for(lambda: site.leftovers() == "", seconds=45)


@pytest.mark.parametrize("when", ["before a command", "in a step"])
def test_a_connection_that_is_swallowed(site: Site, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """TCP acknowledges, nobody answers: the wait ends after KEEPALIVE_TIMEOUT seconds."""
    monkeypatch.setattr(login, "KEEPALIVE_TIMEOUT", 3)
    monkeypatch.setattr(login, "KEEPALIVE_INTERVAL", 1)
    with relay((site.host.address, 22)) as way:
        with connect(through(way, site)) as connection:
            began = time.monotonic()
            way.swallows = when == "before a command"
            with pytest.raises(ConnectionLost), connection.runner() as runner:  # noqa: PT012 - both may raise
                way.swallows = True
                runner.run([shell("wait", "sleep 6")])
        assert time.monotonic() - began < 30
    wait_for(lambda: site.leftovers() == "", seconds=45)


def test_sudo_asks_for_a_password(site: Site) -> None:
    """Code needs no root; what does is refused before anything changed, with the command that mends it."""
    rights = "/etc/sudoers.d/consult-django"
    healed(site)
    site.commit(site.titled("Without a right"))
    site.settings["unit_options"] = {"MemoryMax": "700M"}
    site.provision().expect(0)
    with undone(site, f"mv {rights} /root/rights", f"mv /root/rights {rights}"):
        unit_options = site.settings.pop("unit_options")
        assert healed(site)["activation"] == "hup"
        site.settings |= {"unit_options": unit_options, "admin": "nobody-here"}  # else root grants them anew
        site.commit(migration("0003_not_yet", "migrations.RunSQL('ALTER TABLE pages_note ADD not_yet text')"))
        document = fails(site, 5, "Ask sudo", "may not run", f"fab -H {site.name} provision")
        assert "migrations" not in document or not document["migrations"]
    del site.settings["admin"]
    assert healed(site)["activation"] == "restart"
    del site.settings["unit_options"]
    healed(site)


def test_app_is_a_real_folder(site: Site) -> None:
    """What somebody has put there is left alone, and the way out is told."""
    with undone(site, "mv /app /app.link; mkdir /app; touch /app/mine", "rm -r /app; mv /app.link /app"):
        document = site.deploy().expect(4).json
        assert "/app is a real folder" in document["error"]
        assert "provision" in document["suggestions"][0]
        assert site.run("ls /app") == "mine\n"
        assert answers(site)
    healed(site)


def test_the_live_link_dangles(site: Site) -> None:
    """A deploy mends it."""
    site.run("ln -sfn releases/20200101T000000Z-0000000 /srv/consult/current")
    healed(site)


def test_what_an_older_crash_left_is_swept(site: Site) -> None:
    """Half a release, half a deletion, half a link: the next deploy goes on and they are gone."""
    site.run("""
        cd /srv/consult
        mkdir -p releases/20200101T000000Z-aaaaaaa/apps releases/.trash-20200101T000000Z-bbbbbbb
        echo 'gitdir: /srv/consult/repo.git/worktrees/20200101T000000Z-aaaaaaa' >releases/20200101T000000Z-aaaaaaa/.git
        ln -s releases/20200101T000000Z-aaaaaaa current.new
        touch repo.git/shallow.lock
        chown -hR deploy:deploy releases/*2020* releases/.trash-2020* current.new repo.git/shallow.lock""")
    healed(site)
    wait_for(lambda: not re.search(r"2020|new$", site.run("ls -A /srv/consult /srv/consult/releases")))


def test_strangers_among_the_releases_stay(site: Site) -> None:
    """Whatever else lies in the folder of the releases is somebody's."""
    names = ["README", "my backup", "two\nlines", "zzz", "$(reboot)", "20200101T000000Z-ccccccc and more"]
    folder = site.host.root / "srv/consult/releases"
    for name in names:
        (folder / name).mkdir()
    (folder / "link").symlink_to("/etc")
    try:
        healed(site)
        assert {entry.name for entry in folder.iterdir()} >= {*names, "link"}
    finally:
        for name in names:
            (folder / name).rmdir()
        (folder / "link").unlink()


@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/bin/false"])
def test_a_user_without_a_login_shell(site: Site, shell: str) -> None:
    """It is told that the login itself works, and what does not."""
    with undone(site, f"usermod --shell {shell} deploy", "usermod --shell /bin/bash deploy"):
        fails(site, 4, "its login shell runs no bash", "usermod --shell /bin/bash deploy")
    healed(site)


def test_a_noisy_login(site: Site) -> None:
    """Text from the shell's own files, an odd umask and an odd language change nothing."""
    bashrc = """
        echo "Welcome back"; printf "no line end" >&2
        umask 077; export LANG=tr_TR.UTF-8 CDPATH=/ IFS=x
    """
    with (
        instead(site, "/home/deploy/.bashrc", bashrc),
        instead(site, "/etc/environment", "LC_ALL=de_DE.UTF-8\nLANGUAGE=de\n"),
    ):
        healed(site)
        assert site.get(site.stylesheet()).status_code == 200


def test_another_login_shell(site: Site) -> None:
    """A login shell that is not bash serves as well."""
    with undone(site, "usermod --shell /bin/dash deploy", "usermod --shell /bin/bash deploy"):
        healed(site)


def test_sshd_forwards_nothing(site: Site) -> None:
    """Without a way to the site the host's own checks decide, and the outcome does not pretend to have watched."""
    with undone(
        site,
        "echo 'AllowTcpForwarding no' >/etc/ssh/sshd_config.d/00-world.conf; systemctl reload ssh",
        "rm /etc/ssh/sshd_config.d/00-world.conf; systemctl reload ssh",
    ):
        result = site.deploy().expect(0)
        assert result.json["watch"] == {}
        assert "forwards nothing (AllowTcpForwarding)" in result.err
        status = site.fab("status", "--json").expect(0).json
        assert status["checks"]["http_200"] is True


@pytest.fixture
def one_session(site: Site) -> Iterator[None]:
    """An sshd that allows one session per connection."""
    with undone(
        site,
        "echo 'MaxSessions 1' >/etc/ssh/sshd_config.d/00-world.conf; systemctl reload ssh",
        "rm /etc/ssh/sshd_config.d/00-world.conf; systemctl reload ssh",
    ):
        yield


@pytest.mark.usefixtures("one_session")
def test_few_sessions(site: Site) -> None:
    """A deploy does with one session per connection."""
    assert healed(site)["watch"]["failed"] == 0


@pytest.mark.usefixtures("one_session")
def test_ctrl_c_with_few_sessions(site: Site) -> None:
    """The host cannot be told to end its step, but no further one begins, and nothing of the build is left."""
    site.commit(site.edited(WSGI, "application =", "time.sleep(4)\napplication ="))
    assert "the host cannot be told" in interrupted(site).err
    site.commit({WSGI: site.repository.read(WSGI)})
    healed(site)


def test_a_step_past_its_limit_is_ended_with_all_its_children(site: Site) -> None:
    """Also children of doppler's child that do not heed SIGTERM."""
    hang = """
if "collectstatic" in sys.argv:
    import signal, subprocess, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "4321"])
    time.sleep(4321)

"""
    limit(site, collectstatic=4)
    site.commit(site.edited("apps/web/manage.py", "from django", f"{hang}from django"))
    fails(site, 5, "Collect the static files", "took longer than 4 s", "timeouts")
    assert site.run("pgrep -u deploy -f 'sleep 4321|collectstatic' || true") == ""
    site.commit({"apps/web/manage.py": site.repository.read("apps/web/manage.py")})
    healed(site)
