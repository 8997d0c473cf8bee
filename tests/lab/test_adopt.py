"""From the playbook's server to ours and back, in place: nobody who visits the site notices, and nothing is lost."""

import itertools
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed.harness import Site, watching_ps
from testbed.lab import execute
from testbed.load import a_title
from testbed.playbook import ADOPTED, BY_HAND, NOTES, Variables, deployed_by_playbook, upload
from testbed.playbook.cuts import BACK, FAULTS, THERE, Cut
from testbed.playbook.promises import assert_old, assert_ours, old_layout
from testbed.traffic import Traffic

pytestmark = pytest.mark.lab

KEEP = "keep_what_is_there"  # the first that writes something of an adopt
UNIT = "/etc/systemd/system/consult-django.service"
# Everything on the disk, but for what others than `adopt` write all the time: logs, logins, databases, the lab itself.
BUSY = "/proc /sys /dev /run /tmp /var/log /var/lib/lastlog /var/lib/nginx /var/lib/postgresql /srv/lab"
DISK = f"""
for path in {BUSY}; do set -- "$@" -path "$path" -o; done
find / -xdev \\( "$@" -false \\) -prune -o -printf '%p\\t%i %C@ %s %m %u %g %l\\n'
"""
PROCESSES = "ps -eo pid=,user:20=,args= | grep -vw -e postgres -e sshd -e systemd -e sd-pam -e ps -e grep -e sort; true"


@pytest.fixture(scope="module")
def host_name(own: Callable[[str], str]) -> str:
    return own("adopt")


@contextmanager
def old_server(name: str, folder: Path, suite: str = "bookworm", variables: Variables | None = None) -> Generator[Site]:
    """The playbook's server, with somebody who wants to take it over."""
    with deployed_by_playbook(name, suite=suite, variables=variables) as host:
        yield Site(host, folder, settings=dict(ADOPTED))


@pytest.fixture
def old(host_name: str, tmp_path: Path) -> Iterator[Site]:
    with old_server(host_name, tmp_path) as site:
        yield site


@pytest.fixture(scope="module")
def shared(own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One such server for tests that leave it as it was."""
    with old_server(own("plan"), tmp_path_factory.mktemp("plan")) as site:
        yield site


@contextmanager
def visited(site: Site, tell: Callable[[str, object], None] = lambda *_: None) -> Generator[Traffic]:
    """Visitors all the while, of whom none may have failed at the end; what they noticed is told."""
    with Traffic(site.host.address, site.domain) as traffic:
        yield traffic
    numbers = traffic.count()
    tell("requests", numbers.requests)
    tell("slowest_ms", numbers.slowest_ms)
    assert numbers.failed == 0, numbers.troubles
    assert numbers.requests > 100


def disk(site: Site) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in site.run(DISK).splitlines())


def test_the_plan_writes_nothing(shared: Site) -> None:
    """It shows what would become of unit, site and sudo, and no secret; not one file and no process is another."""
    for _ in range(20):  # so that both workers have compiled what they import late
        assert shared.page()
    before, processes = disk(shared), shared.run(PROCESSES)
    with watching_ps() as seen:
        result = shared.fab("adopt", "--plan").expect(0)
    after = disk(shared)
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} == set()
    assert shared.run(PROCESSES) == processes
    assert f"--- {UNIT}" in result.text
    for line in (
        "-ExecStart=/usr/bin/doppler run --token",
        "-RuntimeDirectory=consult",
        "+Requires=consult-django.socket",
        "-upstream django {",
        "-deploy ALL=(ALL) NOPASSWD:ALL",
        "+deploy ALL=(root) NOPASSWD: /usr/sbin/nginx -t -q",
        "apps/web/config/settings.py",
        "notes-of-sunday.txt",
        "/app.adopted",
    ):
        assert line in result.text, line
    assert shared.host.doppler_token not in result.text
    own = [line for line in seen if "gunicorn" not in line]
    assert not [line for line in own if shared.host.doppler_token in line]
    document = shared.fab("adopt", "--plan", "--json").expect(0)
    assert shared.host.doppler_token not in document.out
    assert document.json["site_state"] == "as before"


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_server_changes_hands_and_nobody_notices(
    suite: str, host_name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """No request fails; the same commit is live, with uploads, changes by hand, token, limits; deploys work."""
    with old_server(host_name, tmp_path, suite) as site:
        commit = site.repository.sha()
        with visited(site, record_property), watching_ps() as seen:
            document = site.fab("adopt", "--json").expect(0).json
        assert document["status"] == "success"
        assert document["git_commit"] == commit
        assert_ours(site, commit)
        token_shown = [line for line in seen if site.host.doppler_token in line]
        assert all("doppler run --token" in line for line in token_shown), "the old unit's alone"

        address = upload(site.host, "pictures/after.bin", b"after")
        assert site.get(address).content == b"after"
        assert BY_HAND in site.run("cat /app.adopted/apps/web/config/settings.py")
        assert site.run("cat /app.adopted/notes-of-sunday.txt") == NOTES
        patch = site.run("cat /srv/consult/local-changes.patch")
        assert f"+{BY_HAND.strip()}" in patch
        assert site.host.doppler_token not in patch
        assert re.search(r"Max open files +4096 +4096", site.run(f"cat /proc/{site.master_pid()}/limits"))

        provisioned = site.provision().expect(0).json
        assert (provisioned["status"], provisioned["changes"]) == ("unchanged", [])
        listed = {line.strip() for line in site.run("sudo -l -U deploy").splitlines() if "NOPASSWD" in line}
        given = {line.removeprefix("deploy ALL=") for line in provisioned["sudo"]}
        assert {line.replace("(root) ", "") for line in listed} == {line.replace("(root) ", "") for line in given}

        assert site.fab("adopt", "--json").expect(0).json["status"] == "unchanged"
        site.commit(site.titled("Ours"))
        assert site.deploy().expect(0).json["activation"] == "hup"
        assert site.heading() == "Ours"
        assert site.deploy().expect(0).json["status"] == "unchanged"
        assert_ours(site, site.repository.sha())


@pytest.mark.parametrize(("deploys", "tmpfiles"), [(0, False), (3, True)], ids=["straight", "after-deploys"])
def test_undo_brings_everything_back(
    deploys: int, tmpfiles: bool, host_name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """After any number of deploys, and no request fails; but for what the app wrote since, each byte is as it was."""
    with old_server(host_name, tmp_path, variables=Variables(tmpfiles=tmpfiles)) as site:
        before = old_layout(site)
        with visited(site):
            site.fab("adopt", "--json").expect(0)
            for number in range(deploys):
                site.commit(a_title(site, f"Number {number}"))
                site.deploy().expect(0)
        address = upload(site.host, "since.txt", b"since")
        with visited(site, record_property):
            document = site.fab("adopt", "--undo", "--json").expect(0).json
        assert document["status"] == "success"
        assert_old(site, before)
        assert site.get(address).content == b"since"
        assert site.run("stat -c '%F %U' /app/apps/web/media /app/apps/web/media/since.txt").splitlines() == [
            "directory deploy", "regular file deploy",
        ]  # fmt: skip
        assert upload(site.host, "once-more.txt", b"once more") == "/media/once-more.txt"
        assert site.fab("adopt", "--undo", "--json").expect(0).json["status"] == "unchanged"
        assert_old(site, before)

        site.fab("adopt", "--json").expect(0)
        assert_ours(site, site.run("git -C /app.adopted -c safe.directory='*' rev-parse HEAD").strip())
        assert site.get("/media/once-more.txt").content == b"once more"


@pytest.fixture(scope="module")
def cut(own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cut]:
    with old_server(own("cut"), tmp_path_factory.mktemp("cut")) as site:
        yield Cut(site)


def test_whatever_cuts_it_the_same_command_ends_well(cut: Cut) -> None:
    """In the first step and all of the change of hands, there and back: the site answers, the same words end well."""
    there, back = ([step for step in cut.steps(*words) if step.live or step.id == KEEP] for words in (THERE, BACK))
    assert_old(cut.site, cut.before)
    faults = itertools.cycle(FAULTS)
    assert min(len(there), len(back)) >= len(FAULTS) / 2
    for number in range(max(len(there), len(back))):
        cut.there(there[number % len(there)], next(faults))
        cut.back(back[number % len(back)], next(faults))


# Other layouts than the playbook's: how the server comes to have one, how `adopt` ends, and what `--plan` says before.
CRON = "*/5 * * * * ana cd /app && git pull -q && sudo systemctl restart consult-django"
OTHER = "server { listen 80; server_name other.lab; root /var/www/html; }"
PROGRAM = "[program:consult]\\ncommand=/app/.venv/bin/gunicorn config.wsgi:application\\ndirectory=/app/apps/web"
LAYOUTS = {
    "a TCP port": (
        "sed -i 's#unix:/run/consult/gunicorn.sock#127.0.0.1:8000#' "
        f"{UNIT} /etc/nginx/sites-available/consult-django && systemctl daemon-reload "
        "&& systemctl restart consult-django && systemctl reload nginx",
        0,
        ["127.0.0.1:8000"],
    ),
    "a cron job of another user that deploys": (
        f"useradd ana; echo '{CRON}' >/etc/cron.d/deploy",
        4,
        ["/etc/cron.d/deploy", "ana"],
    ),
    "another site in the same file": (
        f"echo '{OTHER}' >>/etc/nginx/sites-available/consult-django && systemctl reload nginx",
        4,
        ["/etc/nginx/sites-available/consult-django", "other.lab"],
    ),
    "supervisor": (
        f"mkdir -p /etc/supervisor/conf.d && printf '{PROGRAM}\\n' >/etc/supervisor/conf.d/consult.conf "
        f"&& systemctl disable --now consult-django && rm {UNIT} && systemctl daemon-reload",
        4,
        ["supervisor", "/etc/supervisor/conf.d/consult.conf"],
    ),
    "no room on the disk": ("mount -t tmpfs -o size=20m tmpfs /srv", 4, ["/srv", "MB"]),
}


@pytest.fixture
def other_layout(shared: Site) -> Iterator[Site]:
    """A server whose /etc a test may change; it is put back."""
    shared.run("tar -C / --format=posix -cf /root/etc.tar etc; sleep 0.01; touch /root/etc.tar")
    yield shared
    shared.run(f"""
        umount /srv 2>/dev/null || true
        find /etc -newer /root/etc.tar ! -type d -delete
        tar -C / -xf /root/etc.tar
        systemctl daemon-reload
        systemctl enable --quiet {UNIT} 2>/dev/null || true
        systemctl restart consult-django nginx""")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_layout_is_told_as_what_it_is(layout: str, other_layout: Site) -> None:
    """Whether it can be taken over, why not, and what to do; and nothing is done."""
    script, code, words = LAYOUTS[layout]
    other_layout.run(script)
    before = disk(other_layout)
    result = other_layout.fab("adopt", "--plan").expect(0)
    for word in words:
        assert word in result.text, result.text
    if code:
        assert other_layout.fab("adopt", "--json").expect(code).json["suggestions"]
    assert disk(other_layout) == before


def test_secrets_in_a_file_are_told(own: Callable[[str], str], tmp_path: Path) -> None:
    """An EnvironmentFile in place of Doppler: `secrets = "file"` is asked for, and taken over with every value."""
    file = "/etc/default/consult"
    with old_server(own("file"), tmp_path, variables=Variables(environment_file=file)) as site:
        commit = site.repository.sha()
        result = site.fab("adopt", "--plan").expect(0)
        assert 'secrets = "file"' in result.text
        assert file in result.text
        assert "SECRET_KEY=" not in result.text
        assert 'secrets = "file"' in site.fab("adopt", "--json").expect(4).json["suggestions"][0]
        site.settings["secrets"] = "file"
        with visited(site):
            site.fab("adopt", "--json").expect(0)
        assert site.live().endswith(commit[:7])
        assert "SECRET_KEY" in site.fab("secrets.list", "--json").expect(0).json["names"]
        assert site.run("stat -c '%U %a' /etc/consult/secrets/app.env").strip() == "deploy 600"
        site.assert_sound()
        with visited(site):
            site.fab("adopt", "--undo", "--json").expect(0)
        assert site.get("/").headers["X-Release"] == "app"


# What somebody with the key of `deploy` could put a link to in the way of root, and whether adopt can go on with it.
ROOTS = """
stat -c '%n %U %G %a' / /etc /etc/shadow /root /root/.ssh /root/.ssh/*
getfacl --absolute-names /etc /root /etc/shadow
sha256sum /etc/shadow /root/.ssh/*
ls /etc/made-by-root 2>&1 || true
"""
LINKS = {
    "/app/apps/web/media/mine": "/etc",
    "/app/apps/web/media": "/root",
    "/app/apps/web": "/etc",
    "/srv/consult/local-changes.patch": "/etc/made-by-root",
    "/srv/consult/shared/apps/web/media": "/root",
    "/srv/consult/shared": "/root",
    "/srv/consult/repo.git": "/root",
}


def as_deploy(site: Site, script: str) -> None:
    done = execute(site.host, "runuser", "-u", "deploy", "--", "bash", "-euc", script)
    assert done.returncode == 0, done.stderr


def test_root_follows_no_link_of_the_users(old: Site) -> None:
    """Whatever `deploy` has put where adopt or its way back look: what is root's stays root's, and nobody gets it."""
    old.fab("adopt", "--json").expect(0)
    old.fab("adopt", "--undo", "--json").expect(0)
    before, shadow = old.run(ROOTS), old.run("head -n 1 /etc/shadow")
    for place, target in LINKS.items():
        as_deploy(
            old,
            f"if [ -e {place} ]; then mv {place} ~/away; fi; mkdir -p {place}; rmdir {place}; ln -s {target} {place}",
        )
        results = [old.fab("adopt", *words, "--json") for words in ([], ["--undo"])]
        assert old.run(ROOTS) == before, place
        assert all(shadow not in result.text for result in results), place
        assert old.get("/media/mine/shadow").status_code in (403, 404), place
        assert old.run(f"grep -rlF '{shadow.strip()}' /srv/consult /etc/consult 2>/dev/null; true") == "", place
        as_deploy(old, f"[ ! -L {place} ] || rm {place}; [ ! -e ~/away ] || mv -T ~/away {place}")
        assert old.get("/").status_code == 200, place
    old.fab("adopt", "--json").expect(0)
    assert_ours(old, old.repository.sha())


def test_a_token_that_is_a_link_is_not_read(old: Site) -> None:
    """systemd would read it as root, and adopt, too: what it leads to comes into no file and no output."""
    old.run(f"""
        sed -i -e 's/ --token [^ ]*//' -e '/^User=/i EnvironmentFile=/app/.doppler-token' {UNIT}
        systemctl daemon-reload; systemctl restart consult-django""")
    as_deploy(old, "cd /app; mv .doppler-token ~/token; ln -s /root/secret .doppler-token")
    old.run("umask 077; echo DOPPLER_TOKEN=dp.st.roots.own-secret-token-of-another-app >/root/secret")
    results = [old.fab("adopt", *words) for words in (["--plan"], [], ["--json"])]
    assert results[-1].code != 0
    assert not [result for result in results if "roots.own" in result.text]
    assert old.run("grep -rl roots.own /etc /srv/consult /app /home 2>/dev/null; true") == ""
    as_deploy(old, "cd /app; mv ~/token .doppler-token")
    old.fab("adopt", "--json").expect(0)
    assert_ours(old, old.repository.sha())
