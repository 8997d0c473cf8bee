"""`plan` on a real host: it tells what a deploy then does, and nothing of the host changes."""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from fabfile.plan.preview import Preview
from testbed.harness import SETTINGS, WEB, Site, Terminal, at_terminal, wait_for

pytestmark = pytest.mark.lab

MOOD = "apps/web/pages/migrations/0003_plan.py"
# All that a deploy could write to. The rest is the kernel's, systemd's, or written all the time.
PLACES = "/etc /home /opt /root /srv /usr /var /tmp"
LOGS = "/var/log|/var/lib/postgresql|/var/lib/systemd|/var/tmp/systemd.*|/tmp/systemd.*|/srv/consult/deploy.lock"


def disk(site: Site) -> dict[str, str]:
    """Inode, links, size and times of change of every file and folder of the host, without what others write."""
    find = rf"find {PLACES} -xdev -regextype posix-extended -regex '({LOGS})' -prune -o -printf '%p\t%i %n %s %C@\n'"
    lines = [line.split("\t") for line in site.run(find).splitlines()]
    # A folder for temporary files has had some, and an SSH login has left its traces.
    return {path: about for path, about in lines if path not in ("/tmp", "/var/tmp")}


def processes(site: Site) -> set[str]:
    """What runs on the host, but for the login of a run, which ends a little later than the run, and this look."""
    lines = site.run("ps -eo pid=,user=,args= --no-headers").splitlines()
    passing = re.compile(r"sshd|systemd --user|\(sd-pam\)|ps -eo|kworker|bash -c ps|autovacuum|/lib/systemd/systemd")
    return {" ".join(line.split()) for line in lines if not passing.search(line)}


def everything(site: Site, secrets: Callable[..., None]) -> None:
    """A change that has everything: commits, a package, a migration, a setting, a secret, unit, site and a timer."""
    migration = site.repository.read("apps/web/pages/migrations/0002_note_author.py")
    migration = migration.replace("0001_initial", "0002_note_author").replace('"author"', '"plan"')
    site.commit(site.titled("Planned") | {MOOD: migration}, "Plan it")
    site.commit(site.locked(site.edited(WEB, '"greeting",', '"greeting",\n    "iniconfig",')), "Take iniconfig")
    site.settings |= {
        "unit_options": {"Nice": "3"}, "body_size": "7m", "workers": 3,
        "processes": {"nightly": {"command": "manage.py check", "schedule": "daily"}},
        "before_switch": ["manage.py check"],
    }  # fmt: skip
    secrets(MOTTO="planned")


def test_a_plan_tells_everything_and_changes_nothing(site: Site, secrets: Callable[..., None]) -> None:
    """The whole disk and all processes are as before; then the deploy does what was told."""
    site.deploy(branch="main").expect(0)
    wait_for(lambda: site.leftovers() == "")
    everything(site, secrets)
    files, running = disk(site), processes(site)
    result = site.fab("plan", "--branch", site.branch, "--json").expect(0)
    wait_for(lambda: site.leftovers() == "")
    after = disk(site)
    assert {path: (files.get(path), about) for path, about in after.items() if files.get(path) != about} == {}
    assert set(files) == set(after)
    wait_for(lambda: processes(site) == running, what=lambda: str(processes(site) ^ running))
    document = result.json
    told = Preview.model_validate({name: document[name] for name in Preview.model_fields})
    assert [each.subject for each in told.commits] == ["Take iniconfig", "Plan it"]
    assert [(each.name, each.before, each.yanked) for each in told.packages] == [("iniconfig", "", None)]
    (migration,) = told.to_migrate
    assert migration.name == "pages.0003_plan"
    assert any(re.search(r'ALTER TABLE "pages_note" ADD COLUMN "plan"', line) for line in migration.sql)
    assert "+Nice=3" in told.files[0].difference.splitlines()
    paths = {each.path.rpartition("/")[2] for each in told.files}
    assert {"consult-django.service", "consult-django", "consult-nightly.timer", "consult-nightly.service"} <= paths
    assert told.changed_settings == ["workers"]
    assert told.secrets == ["MOTTO"]
    assert told.commands == {"build": [], "before_switch": ["manage.py check"], "after_switch": []}
    assert "/usr/bin/systemctl restart consult-django.service" in told.root
    assert told.staged_by == "root"
    assert told.trouble is None
    screen = site.fab("plan", "--branch", site.branch).expect(0).out
    for line in ("commits", "packages", "migrations", "files", "settings", "secrets", "as root", "room"):
        assert re.search(rf"(?m)^  {line} +\S", screen)
    assert "this is what a deploy would do; nothing was changed" in screen
    done = site.deploy().expect(0).json
    assert (done["activation"], done["reason"]) == (document["activation"], document["reason"])
    assert done["migrations"] == [migration.name]
    assert done["git_commit"] == document["git_commit"]
    assert site.fab("plan", "--branch", site.branch, "--json").expect(0).json["status"] == "unchanged"
    site.settings.clear()
    assert site.deploy(branch="main").expect(0).json["activation"] == "restart"
    assert "consult-nightly" not in site.run("ls /etc/systemd/system"), "the last process has left"
    site.provision().expect(0)


def test_what_would_end_a_deploy_is_told_by_a_plan(site: Site) -> None:
    """With the same words and the same exit code, and with all that could be found out nevertheless."""
    site.deploy(branch="main").expect(0)
    before = site.releases()
    site.commit(site.edited(SETTINGS, "import os", "import os\nimport no_such_module"), "Break it")
    planned = site.fab("plan", "--branch", site.branch, "--json").expect(5).json
    deployed = site.deploy().expect(5).json
    assert planned["error"] == planned["trouble"]
    assert "No module named 'no_such_module'" in planned["error"]
    assert "No module named 'no_such_module'" in deployed["error"]
    assert [each["subject"] for each in planned["commits"]] == ["Break it"]
    assert site.releases() == before
    with_edit = "/etc/systemd/system/consult-django.service"
    site.run(f"cp -a {with_edit} /root/kept; echo '# by hand' >>{with_edit}")
    try:
        edited = site.fab("plan", "--branch", "main", "--json").expect(5).json
        assert "edited on the server: consult-django.service" in edited["error"]
    finally:
        site.run(f"mv /root/kept {with_edit}")
    site.settings["backwards"] = False
    site.commit({SETTINGS: site.repository.read(SETTINGS, "main")} | site.titled("Ahead"))
    site.deploy().expect(0)
    back = site.fab("plan", "--branch", "main", "--json").expect(2).json
    assert "is older than what is live" in back["error"]
    assert back["activation"] == "hup"


@contextmanager
def confirming(site: Site) -> Generator[Terminal]:
    """A deploy of the site's branch, at a terminal, that asks first."""
    words = ("-H", site.name, "deploy", "--branch", site.branch, "--confirm")
    site.cold = True
    try:
        with at_terminal(lambda end: site.start_raw(*words, terminal=end)) as terminal:
            yield terminal
    finally:
        site.cold = False


def test_a_deploy_that_asks_first(site: Site) -> None:
    """It shows the plan; no is nothing, yes is that very commit; without a terminal nobody is asked."""
    site.commit(site.titled("Asked"))
    assert "nobody is at a terminal" in site.deploy("--confirm").expect(2).json["error"]
    for answer, live in (("no", False), ("yes", True)):
        with confirming(site) as terminal:
            shown = terminal.expect("Deploy that (yes/no)?")
            assert "would go live in place of" in shown
            terminal.type(f"{answer}\r")
            terminal.expect("is live" if live else "nothing was deployed")
            assert terminal.end() == 0
        assert (site.heading() == "Asked") is live


def test_a_branch_that_moves_while_somebody_thinks(site: Site) -> None:
    """What is deployed is what was shown, or nothing."""
    site.commit(site.titled("Shown"))
    live = site.live()
    with confirming(site) as terminal:
        terminal.expect("Deploy that (yes/no)?")
        site.commit(site.titled("Moved"))
        terminal.type("yes\r")
        terminal.expect("has moved since it was shown")
        assert terminal.end() == 2
    assert site.live() == live
