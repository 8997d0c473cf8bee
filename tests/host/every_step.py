"""Every step that a task can ask a host for, with values for each of its parameters."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from fabfile.config.layout import Layout
from fabfile.config.processes import Process
from fabfile.config.settings import Settings, Tls
from fabfile.plan import rendering, services
from fabfile.plan.activation import Activation, Kind
from fabfile.plan.plan import Plan
from fabfile.steps import (
    adopt,
    at_hand,
    logs,
    maintenance,
    nginx,
    preview,
    release,
    remove,
    secrets,
    sequence,
    server,
    service,
    survey,
)
from fabfile.steps.logs import Lines
from fabfile.steps.step import Step
from testbed.sample import sample

SETTINGS = sample(
    repo="git@example.org:team/app.git",
    linked_dirs=("apps/web/media", "var/data"),
    linked_files=("conf/local.ini",),
    aliases=("www.example.org",),
    authorized_keys=("ssh-ed25519 AAAA ana's key",),
    python="3.12",
    doppler_project="consult",
    doppler_config="prd",
)
BESIDE = SETTINGS.model_copy(
    update={
        "processes": {
            "worker": Process(command="celery -A config worker -n 'a worker'", instances=2),
            "nightly": Process(command="manage.py clearsessions", schedule="Mon..Fri 03:30"),
        }
    }
)
COMMANDED = SETTINGS.model_copy(
    update={
        "build": ("npm ci",),
        "before_switch": ("manage.py loaddata 'the groups'",),
        "after_switch": ("sh -c 'echo $HOME'",),
    }
)
IN_A_FILE = SETTINGS.model_copy(update={"secrets": "file"})
SECURE = SETTINGS.model_copy(update={"tls": Tls(letsencrypt="ops@example.org")})
LAYOUT = Layout.of(SETTINGS)
LINES = Lines(50, "-1h", "a b")
OLD, NEW = (LAYOUT.release(name) for name in ("20260101T000000Z-abcdef0", "20260102T030405Z-abcdef0"))
FILES = rendering.files(SETTINGS)
KINDS: tuple[Kind, ...] = ("hup", "restart", "start")


def provision(settings: Settings, files: Iterable[PurePosixPath]) -> list[Step]:
    """All that `provision` asks for, but for what it does about logins in between."""
    return [*server.prepare(settings), *server.let_in(settings), *server.install(settings, files)]


def adoption(settings: Settings) -> list[Step]:
    """All that `adopt` asks for which no other verb does."""
    unit = "/etc/systemd/system/consult-django.service"
    kept = adopt.keep(
        "consult-django.service", "/run/consult/gunicorn.sock", socket="",
        certificate=["/etc/ssl/a.pem", "/etc/ssl/a.key"],
        uploads=["apps/web/my media"], gone=[unit],
        units=[unit], site=[LAYOUT.site_file], rights=[LAYOUT.sudoers],
    )  # fmt: skip
    return [
        adopt.how_far(), adopt.read(settings), *server.let_in(settings, secrets_of=unit), kept, adopt.save_changes(),
        adopt.take_commit("a" * 40), adopt.keep_static(settings), adopt.make_current(NEW), adopt.begin(),
        adopt.show_certificate(),
        *adopt.change_hands(settings, NEW, FILES), adopt.narrow_rights(), adopt.mark_adopted(), adopt.end_bridge(),
        *adopt.bring_back(settings), adopt.forget(settings),
    ]  # fmt: skip


def plans() -> list[Plan]:
    """A new release, a rollback, a restart, a first deploy, site or processes alone; with and without files."""
    site = {LAYOUT.site_file: FILES[LAYOUT.site_file]}
    beside = Layout.of(BESIDE), NEW
    return [
        Plan(BESIDE, *beside, OLD, rendering.files(BESIDE), commit="a" * 40),
        Plan(BESIDE, *beside, NEW, amiss=("the timer of nightly does not run",)),
        Plan(COMMANDED, LAYOUT, NEW, OLD, commit="a" * 40),
        Plan(SETTINGS, LAYOUT, NEW, OLD, FILES, commit="a" * 40),
        Plan(SETTINGS, LAYOUT, NEW, OLD, commit="a" * 40),
        Plan(SETTINGS, LAYOUT, OLD, NEW, leaves=NEW),
        Plan(SETTINGS, LAYOUT, NEW, NEW, FILES),
        Plan(SETTINGS, LAYOUT, NEW, None, FILES, commit="a" * 40),
        Plan(SETTINGS, LAYOUT, NEW, NEW, site),
    ]


def every_step() -> list[Step]:
    """All of them, many more than once with other values."""
    steps = [
        survey.read_host(), survey.holder(), survey.freeze("{}"), survey.unfreeze(), release.fetch(SETTINGS),
        release.put_link("conf/local.ini"), maintenance.close(["192.0.2.1", "2001:db8::1"]), maintenance.hold(30),
        secrets.names(SETTINGS), secrets.set_value("MOTTO"), secrets.unset("MOTTO"), secrets.replace_token(SETTINGS),
        secrets.look(SETTINGS), server.put_logins_back(), server.confirm_logins(), *provision(IN_A_FILE, FILES),
        maintenance.open_again(), remove.look(), remove.remove(SETTINGS),
        release.read_history(20), service.compare(FILES), server.stage(SETTINGS, FILES, locked=True),
        service.refuse_edited(["/etc/systemd/system/consult-django.service"]),
        nginx.look_at_site(SETTINGS), logs.journal(services.web(LAYOUT), LINES), logs.nginx_errors(LAYOUT, LINES),
        logs.nginx(50), logs.see_since("-1h"), logs.nginx_log(LAYOUT, LINES), logs.follow_nginx_log(LAYOUT, LINES),
        at_hand.find_live(), at_hand.run_by_hand(SETTINGS, NEW, manage=True), at_hand.end_command(),
        *provision(SETTINGS, FILES), *provision(SECURE, FILES), nginx.look_at_site(SECURE),
        *adoption(SETTINGS), preview.fetch(SETTINGS), preview.compare_commits(SETTINGS, "a" * 40),
        *sequence.look_aside(BESIDE, NEW, "a" * 40),
    ]  # fmt: skip
    for plan in plans():
        steps += [*sequence.build_and_boot(plan), *sequence.abandon_build(plan), *sequence.finish(plan, "{}")]
        steps += sequence.after_switch(plan)
        held = [Activation("hold", "", held="pages.0003_x", prelude=True)] if plan.commit else []
        for activation in [plan.beside] if plan.beside else [*(Activation(kind, "") for kind in KINDS), *held]:
            steps += [*sequence.switch(plan, activation), *sequence.revert(plan, activation)]
    return steps
