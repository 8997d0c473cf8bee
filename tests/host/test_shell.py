"""Every script that goes to a host, as bash's own parser and shellcheck see it."""

import os
import shutil
import subprocess

import pytest

from fabfile.config.inventory import Host
from fabfile.config.layout import Layout
from fabfile.config.settings import Settings
from fabfile.plan import rendering
from fabfile.plan.activation import Activation
from fabfile.plan.state import HostState
from fabfile.session.deployment import Change, put_back
from fabfile.ssh import runner as conductor
from fabfile.steps import django, logs, nginx, proof, python, release, server, survey, systemd
from fabfile.steps.step import Step
from tests.host.local_host import work_on

SETTINGS = Settings(
    repo="git@example.org:team/app.git",
    linked_dirs=("apps/web/media", "var/data"),
    linked_files=("conf/local.ini",),
    aliases=("www.example.org",),
    authorized_keys=("ssh-ed25519 AAAA ana's key",),
    python="3.12",
    doppler_project="consult",
    doppler_config="prd",
)
EXCLUDED = (
    "SC1091",  # files of the host that are not here
    "SC2012",  # ls -t, where files have names of ours
    "SC2015",  # A && B || C is meant where B cannot fail
    "SC2016",  # `quote` uses single quotes, of course
)


def scripts() -> dict[str, str]:
    """Each script by its title, with the conductor and the conductor's call of them all."""
    settings, layout = SETTINGS, Layout.of(SETTINGS)
    new = layout.release("20260102T030405Z-abcdef0")
    targets = list(rendering.files(settings))
    card = """{"message": "it's $(so)"}"""
    steps = [
        survey.read_host(layout, settings.linked_files), survey.holder(layout), survey.freeze(layout, card),
        survey.unfreeze(layout), release.fetch(layout, settings, "main"),
        release.lay_out(layout, new, "a" * 40, settings), release.drop(new), release.mark_built(new),
        release.mark_good(layout, new), release.mark_good(layout, new, new), release.record(layout, card),
        release.prune(layout, settings), python.sync(layout, new, settings),
        django.collect_static(layout, new, settings), django.migrate(layout, new, settings),
        proof.start(layout, new, settings), proof.booted(settings), proof.compare(layout, new),
        proof.healthy(settings), proof.stop(), systemd.stage(layout, targets), systemd.install_units(layout, targets),
        *(systemd.activate(layout, kind) for kind in ("hup", "restart", "start")),
        *(systemd.switch(layout, new, kind) for kind in ("hup", "restart", "start")),
        systemd.settled(layout, new, settings), systemd.check_site(layout, settings),
        systemd.look_at_site(layout, settings), nginx.test_site(layout), nginx.reload(),
        server.look(layout), server.packages(), server.uv(), server.doppler(), server.user(settings),
        server.folders(layout, settings), server.token(layout, settings), server.sudo(layout, settings),
        server.service(layout, settings, targets), server.repository(layout, settings),
        logs.tail(layout, 50), logs.nginx_errors(layout, 50),
        *ways_back(),
    ]  # fmt: skip
    found = {"the conductor": conductor.PROGRAM, "following the journal": logs.follow(layout, 50)}
    for number, step in enumerate(steps):
        found[f"{number} {step.title}"] = step.script
    return found


def ways_back() -> list[Step]:
    """The rescue for every kind of change: with and without files, an old release, a switch."""
    layout = Layout.of(SETTINGS)
    old, new = "20260101T000000Z-abcdef0", "20260102T030405Z-abcdef0"
    files = rendering.files(SETTINGS)
    steps = []
    for live in (old, new, ""):
        work = work_on(Host("api", "api", SETTINGS), HostState(live=live))
        steps += [
            put_back(work, Change(layout.release(new), changed), Activation(kind, ""))
            for kind in ("hup", "restart")
            for changed in (files, {})
        ]
    return steps


@pytest.mark.parametrize("name", scripts())
def test_shellcheck_has_nothing_to_say(name: str) -> None:
    """No unquoted expansion, no unused variable, no test that means something else."""
    if not shutil.which("shellcheck") and not os.environ.get("CI"):
        pytest.skip("shellcheck is not installed")
    script = scripts()[name] if name == "the conductor" else f"set -euo pipefail\n{scripts()[name]}"
    shell = ["shellcheck", "--shell=bash", "--color=never", f"--exclude={','.join(EXCLUDED)}", "-"]
    done = subprocess.run(shell, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_shellcheck_would_have_something_to_say() -> None:
    """The check can fail."""
    if not shutil.which("shellcheck") and not os.environ.get("CI"):
        pytest.skip("shellcheck is not installed")
    shell = ["shellcheck", "--shell=bash", "-"]
    assert subprocess.run(shell, input="rm -rf $1/x", capture_output=True, text=True, check=False).returncode
