"""A plan carried out against a runner that plays a host: what is run, and what each end comes to."""

import dataclasses
import io
import json
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from pytest_mock import MockerFixture

from fabfile.config.inventory import Host
from fabfile.config.layout import Release
from fabfile.config.settings import Tls
from fabfile.errors import DeployError, ProvisionError, StepFailed, Unhealthy
from fabfile.output.console import Console
from fabfile.output.outcome import Outcome
from fabfile.plan import rendering
from fabfile.plan.activation import Activation
from fabfile.plan.plan import Plan
from fabfile.plan.state import HostState, ReleaseState
from fabfile.session import deployment
from fabfile.session.run import Run
from fabfile.session.session import Session
from fabfile.session.watch import STEADY, Watch
from fabfile.ssh.runner import ConnectionLost, StepError
from fabfile.steps.step import Results, Step, StepResult
from tests.unit.test_sequence import COMMANDED, LAYOUT, NEW, OLD, SETTINGS, SITE

SAME = Path(__file__).with_name("comparison.json").read_text().replace("\n", " ")
CHECKS = ["gunicorn_socket", "systemd_active", "nginx_running", "http_200", "visitor"]
HEALTHY = "\n".join(f"check {name} ok" for name in CHECKS) + " / answers 200"
ANSWERS = {
    "compare_it_with_the_running_gunicorn": SAME,
    "check_the_site": HEALTHY,
    "prove_that_visitors_get_in": "/ answers 200",
    "migrate_the_database": "Running migrations:\n  Applying notes.0001_initial... OK",
    "read_the_journal": "a line\nof the journal",
    "read_nginx_s_error_log": "of nginx",
    "see_what_nginx_says": "[emerg] of nginx itself",
}
Ends = dict[str, tuple[int, str] | BaseException]


class Played:
    """A runner whose host does what `ends` says for a step's id, and well all else."""

    def __init__(self, console: Console, ends: Ends) -> None:
        self.console = console
        self.ends = ends
        self.ran: list[str] = []
        self.asked: list[Step] = []
        self.files: dict[str, bytes] = {}
        self.entries: list[dict[str, Any]] = []
        self.finishes: list[bool] = []
        self.busy = self.interrupted = self.gone = False

    def put(self, name: str, content: bytes) -> None:
        self.files[name] = content

    def run(
        self,
        steps: Sequence[Step],
        rescue: Sequence[Step] = (),
        *,
        finish: bool = False,
        last: bool = False,
        begun: Callable[[Step], object] = lambda _: None,
    ) -> Results:
        assert not self.gone
        self.gone = last
        self.finishes.append(finish)
        ended: list[StepResult] = []
        for step in steps:
            begun(step)
            ended.append(self._one(step))
            if not ended[-1].ok:
                raise StepError("api", [*ended, *map(self._one, rescue)])
        return Results.of(ended)

    def _one(self, step: Step) -> StepResult:
        self.ran.append(step.id)
        self.asked.append(step)
        if step.id == "record_the_deploy":
            self.entries.append(json.loads(cast("str", step.parameters["entry"])))
        end = self.ends.get(step.id, (0, ANSWERS.get(step.id, "")))
        if isinstance(end, BaseException):
            self.busy = isinstance(end, ConnectionLost)
            raise end
        result = StepResult(step, *end, seconds=0.1)
        self.console.end(result)
        return result


class Stage:
    """One deploy of NEW over OLD, or what a test makes of it."""

    def __init__(self, mocker: MockerFixture) -> None:
        self.stream = io.StringIO()
        self.answers = "200"
        self.settings = SETTINGS
        self.maintenance = ""
        self.steady = False  # whether the last answers through SSH were good
        self.public: Watch | None = None
        self.interrupted = False  # a Ctrl-C during the switch
        self.ends: Ends = {}
        self.plan = Plan(SETTINGS, LAYOUT, NEW, OLD, commit="2" * 40)

        @contextmanager
        def watching(*_: object) -> Generator[dict[str, Watch]]:
            last = deque(["200"] * STEADY * self.steady, maxlen=STEADY)
            watches = {"ssh": Watch(first=self.answers, last=last)}
            yield watches | ({"public": self.public} if self.public else {})

        mocker.patch("fabfile.session.watch.watching", watching)
        mocker.patch("fabfile.session.watch.look_anew")
        self.settle = mocker.patch("fabfile.session.watch.settle", return_value="")

    def deploy(self, *, overwrite: bool = False) -> tuple[Session, DeployError | KeyboardInterrupt | None]:
        """Carry the plan out; return the session, and the error that it ended in."""
        console = Console(stream=self.stream)
        run = Run(Host("api", "production", self.settings), console, Outcome("deploy", "api"))
        live = self.plan.live.id if self.plan.live else ""
        good = (ReleaseState(OLD.id, good=True),)
        staged = {str(path): rendering.digest(text) for path, text in rendering.files(self.settings).items()}
        state = HostState(
            now=1767225600, live=live, service="active", releases=good, staged=staged, maintenance=self.maintenance
        )
        self.runner = Played(console, self.ends)
        self.runner.interrupted = self.interrupted
        session = Session(run, cast("Any", None), cast("Any", self.runner), state, Results())
        try:
            deployment.deploy(session, self.plan, overwrite=overwrite)
        except (DeployError, KeyboardInterrupt) as error:
            return session, error
        return session, None

    def fail(self) -> tuple[Session, DeployError]:
        session, error = self.deploy()
        assert isinstance(error, DeployError)
        return session, error


@pytest.fixture
def stage(mocker: MockerFixture) -> Stage:
    return Stage(mocker)


def test_what_a_live_step_itself_advises_comes_first(stage: Stage) -> None:
    """A worker that did not stay and says what it lacks: no journal has to be read."""
    said = "failed: consult-beat@X:1.service does not stay: Read-only file system: 'var/beat'"
    stage.ends["check_the_site"] = (1, f'{said}\nnext: in hosts.toml: linked_dirs = ["var"]')
    _, error = stage.fail()
    assert error.hint == 'in hosts.toml: linked_dirs = ["var"]'
    stage.ends["check_the_site"] = (1, said)
    _, error = stage.fail()
    assert error.hint == "fab -H api logs --process beat --lines 200"


def test_what_the_build_has_to_tell_is_said(stage: Stage) -> None:
    """A line for a person, although the step went well; what uv says else is not shown."""
    stage.ends["build_the_virtualenv"] = (0, "Using CPython\nnote: uv cannot tell: dns error\n + django==5.2")
    _, error = stage.deploy()
    assert error is None
    assert "  uv cannot tell: dns error\n" in stage.stream.getvalue()
    assert "Using CPython" not in stage.stream.getvalue()


def test_uploads_that_nobody_shows_are_said(stage: Stage) -> None:
    """To a person and in the document, with the line for hosts.toml; the deploy goes on."""
    line = 'media = { folder = "media" }'
    stage.ends["prove_that_its_data_outlives_it"] = (0, f"unseen {line}")
    session, error = stage.deploy()
    assert error is None
    assert f"  uploads are kept, but nobody shows them; in hosts.toml: {line}\n" in stage.stream.getvalue()
    assert f"so that visitors see uploads, in hosts.toml: {line}" in session.outcome.suggestions


def played(session: Session) -> Played:
    return cast("Any", session.runner)


def test_a_deploy_that_goes_well(stage: Stage) -> None:
    """Built, proven, switched, recorded, pruned; the outcome and the last line say what is live and how."""
    session, error = stage.deploy()
    assert error is None
    outcome = session.outcome
    assert (outcome.status, outcome.release, outcome.activation) == ("success", NEW.id, "hup")
    assert outcome.site_state == f"{NEW.id} is live"
    assert outcome.checks == dict.fromkeys(CHECKS, True)
    assert outcome.details["visitor"] == "/ answers 200"
    assert "a visitor finds" not in stage.stream.getvalue()
    assert outcome.details["migrations"] == ["notes.0001_initial"]
    assert played(session).ran[-3:] == ["mark_the_release_as_good", "record_the_deploy", "prune_old_releases"]
    (entry,) = played(session).entries
    assert (entry["outcome"], entry["release"], entry["previous"]) == ("live", NEW.id, OLD.id)
    assert stage.stream.getvalue().splitlines()[-1] == f"api: {NEW.id} is live (hup)"


def test_only_the_switch_goes_on_at_ctrl_c(stage: Stage) -> None:
    """Build and proof end where they are; the switch and its way back go to their end, as one batch each."""
    stage.settle.return_value = "502"
    session, _ = stage.fail()
    assert played(session).finishes == [False, True, True, False, False]  # proof, switch, way back, end, logs


def test_a_switch_that_was_interrupted_ends_as_interrupted(stage: Stage) -> None:
    """Ctrl-C during the switch: the release is live, the end is recorded, and the run still says interrupted."""
    stage.interrupted = True
    session, error = stage.deploy()
    assert isinstance(error, KeyboardInterrupt)
    assert session.outcome.site_state == f"{NEW.id} is live"
    assert played(session).entries[0]["outcome"] == "live"


def test_a_site_alone_is_neither_proven_nor_activated(stage: Stage) -> None:
    """A changed nginx site that root has staged is installed, tested and loaded; gunicorn is not touched."""
    stage.plan = Plan(SETTINGS, LAYOUT, OLD, OLD, SITE)
    session, error = stage.deploy()
    assert error is None
    assert session.outcome.activation == "nginx"
    assert played(session).ran[1:3] == ["install_the_changed_files", "reload_nginx"]
    assert played(session).files == {}
    assert [step for step in played(session).ran if "gunicorn" in step or "proof" in step or "prove" in step] == []


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_root_has_not_staged_is_not_built(mocker: MockerFixture, overwrite: bool) -> None:
    """That comes first, and where it fails nothing has begun: the history is not told of it either."""
    staged = mocker.patch("fabfile.session.deployment.stage", side_effect=ProvisionError("root is not at hand"))
    stage = Stage(mocker)
    session, error = stage.deploy(overwrite=overwrite)
    assert isinstance(error, ProvisionError)
    assert played(session).ran == []
    staged.assert_called_once_with(session, stage.plan, overwrite=overwrite)


def test_what_was_asked_for_wins_over_what_would_do(stage: Stage) -> None:
    """`restart` restarts, although nothing that gunicorn's master holds has changed."""
    stage.plan = Plan(SETTINGS, LAYOUT, OLD, OLD, forced=Activation("restart", "asked for"))
    session, _ = stage.deploy()
    assert (session.outcome.activation, session.outcome.reason) == ("restart", "asked for")
    assert "restart_gunicorn_behind_its_socket" in played(session).ran


def test_a_failed_build_leaves_the_site_alone(stage: Stage) -> None:
    """Exit 5, the step's reason, and nothing of the switch is run; the history says how it ended."""
    stage.ends["build_the_virtualenv"] = (1, "error: no such package")
    session, error = stage.fail()
    assert isinstance(error, StepFailed)
    assert str(error) == "Build the virtualenv: failed (exit 1): error: no such package"
    assert session.outcome.site_state == "as before"
    ran = played(session).ran
    assert ran[2:] == [
        "stop_the_private_socket",
        "remove_the_unfinished_release",
        "record_the_deploy",
        "prune_old_releases",
    ]
    assert played(session).entries[0]["outcome"] == str(error)


@pytest.mark.parametrize("answer", ["", "no JSON", "{"])
def test_a_comparison_without_an_answer_is_no_reason_to_guess(stage: Stage, answer: str) -> None:
    """How to activate it is not known: exit 5 before anything live changes."""
    stage.ends["compare_it_with_the_running_gunicorn"] = (0, answer)
    session, error = stage.fail()
    assert (type(error), error.evidence) == (StepFailed, answer)
    assert session.outcome.site_state == "as before"


def test_a_failed_migration_is_told_with_what_it_left(stage: Stage) -> None:
    """The site is as before, and the outcome names what stays applied and what had begun."""
    said = "  Applying notes.0001_initial... OK\n  Applying notes.0002_more...django.db.utils.DataError: x"
    stage.ends["migrate_the_database"] = (1, said)
    session, error = stage.fail()
    assert error.exit_code == 5
    assert session.outcome.site_state == (
        "as before, but the schema: notes.0001_initial stays applied; "
        "notes.0002_more had begun (if it is not atomic, a part of it may stay)"
    )
    assert session.outcome.details["migrations"] == ["notes.0001_initial"]


def test_a_command_before_the_switch_that_fails_is_told(stage: Stage) -> None:
    """Exit 5: nothing was switched, and what stays in the database is said, what the command did itself too."""
    stage.plan = dataclasses.replace(stage.plan, settings=COMMANDED)
    stage.ends["before_switch_1"] = (1, "CommandError: No fixture named 'groups' found.")
    session, error = stage.fail()
    assert error.exit_code == 5
    assert str(error) == (
        "before_switch: manage.py loaddata groups: failed (exit 1): CommandError: No fixture named 'groups' found."
    )
    assert session.outcome.site_state == (
        "as before, but the schema: notes.0001_initial stays applied, and what before_switch did stays"
    )
    assert not [step for step in played(session).ran if step.startswith("after_switch")]


def test_what_a_command_did_stays_when_its_release_is_not_healthy(stage: Stage) -> None:
    """The release goes, the data does not."""
    stage.plan = dataclasses.replace(stage.plan, settings=COMMANDED)
    stage.ends |= {"prove_that_it_is_healthy": (1, "failed: 503"), "migrate_the_database": (0, "nothing to apply")}
    session, error = stage.fail()
    assert error.exit_code == 5
    assert session.outcome.site_state == "as before, and what before_switch did stays"


def test_commands_after_the_switch_run_when_the_release_stays(stage: Stage) -> None:
    """After the last check, and before the run is recorded; each can be stopped by Ctrl-C."""
    stage.plan = dataclasses.replace(stage.plan, settings=COMMANDED)
    session, error = stage.deploy()
    assert error is None
    ran = ["mark_the_release_as_good", "after_switch_1", "after_switch_2", "record_the_deploy", "prune_old_releases"]
    assert played(session).ran[-5:] == ran
    assert played(session).finishes == [False, True, False, False]
    assert session.outcome.site_state == f"{NEW.id} is live"
    stage.settle.return_value = "502"
    session, _ = stage.fail()
    assert "after_switch_1" not in played(session).ran


def test_a_command_after_the_switch_that_fails_leaves_the_release_live(stage: Stage) -> None:
    """No way back, for the site is healthy: exit 8, told in the last line, in the history and in the site's state."""
    stage.plan = dataclasses.replace(stage.plan, settings=COMMANDED)
    stage.ends["after_switch_1"] = (1, "redis.exceptions.ConnectionError: refused")
    session, error = stage.fail()
    assert (error.exit_code, error.phase, error.status) == (8, "after_switch", "failed")
    assert str(error) == (
        "after_switch: manage.py clear_cache: failed (exit 1): redis.exceptions.ConnectionError: refused; "
        f"{NEW.id} is live all the same"
    )
    assert error.hint == (
        "mend that, and do what is left by hand (fab -H api manage, or run), "
        "or with a new release: fab -H api deploy --force"
    )
    outcome = session.outcome
    assert outcome.site_state == f"{NEW.id} is live, but after_switch: manage.py clear_cache: failed"
    assert outcome.release == NEW.id
    assert played(session).ran[-3:] == ["after_switch_1", "record_the_deploy", "prune_old_releases"]
    assert played(session).entries[0]["outcome"] == f"live; {error}"
    last = stage.stream.getvalue().splitlines()[-1]
    assert last == f"api: {NEW.id} is live (hup); BUT a command of after_switch failed"


def test_a_command_after_the_switch_may_be_interrupted(stage: Stage) -> None:
    """The release is live and recorded as such, and the run ends as one that was interrupted."""
    stage.plan = dataclasses.replace(stage.plan, settings=COMMANDED)
    stage.ends["after_switch_1"] = KeyboardInterrupt()
    session, error = stage.deploy()
    assert isinstance(error, KeyboardInterrupt)
    assert session.outcome.site_state == f"{NEW.id} is live, but its after_switch commands were interrupted"
    assert played(session).entries[0]["outcome"] == "live; after_switch was interrupted"


def test_a_connection_lost_after_the_switch_claims_nothing_of_its_commands(stage: Stage) -> None:
    """The release is live; whether the host had begun with them is not known."""
    stage.plan = dataclasses.replace(stage.plan, settings=COMMANDED)
    stage.ends["after_switch_2"] = ConnectionLost("api", None)
    session, error = stage.fail()
    assert isinstance(error, ConnectionLost)
    assert session.outcome.site_state == f"{NEW.id} is live; of its after_switch commands nothing is known"


@pytest.mark.parametrize(("days", "told"), [(60, ""), (5, "BUT the certificate ends on 2026-01-06, in 5 days (by CA)")])
def test_a_certificate_that_is_about_to_end_is_in_the_headline(stage: Stage, days: int, told: str) -> None:
    """With what to do about it; the deploy itself went well."""
    stage.settings = SETTINGS.model_copy(update={"tls": Tls(letsencrypt="ops@example.org")})
    ends = 1767225600 + days * 86400 + 60
    checked = f"{ANSWERS['check_the_site']}\ncertificate {ends - 90 * 86400} {ends} O = CA"
    stage.ends["check_the_site"] = (0, checked)
    session, error = stage.deploy()
    assert error is None
    assert session.outcome.details["certificate"]["days_left"] == days
    last = stage.stream.getvalue().splitlines()[-1]
    assert last.endswith(told) if told else "certificate" not in last
    assert (
        "fab -H api provision renews the certificate, or says why it cannot be" in session.outcome.suggestions
    ) == bool(told)


@pytest.mark.parametrize("step", ["switch_to_the_new_release_hup", "see_only_new_workers_answer"])
def test_a_switch_that_fails_is_rolled_back(stage: Stage, step: str) -> None:
    """Exit 6: the host itself has put the old release back, and the logs are in the outcome."""
    stage.ends[step] = (1, "failed: so it is")
    session, error = stage.fail()
    assert (type(error), error.status, error.shown) == (Unhealthy, "rolled_back", True)
    assert str(error).endswith(f"failed (exit 1): so it is; {OLD.id} is live again")
    assert session.outcome.site_state.startswith(f"as before: {OLD.id} is live again, but the schema: notes.0001")
    assert session.outcome.logs["django_service"] == ["a line", "of the journal"]
    assert session.outcome.logs["nginx_error"] == ["of nginx"]
    assert "put_the_old_release_back" in played(session).ran


def test_a_failed_check_is_named(stage: Stage) -> None:
    """The check that fails is in the message and in the outcome, by its name."""
    stage.ends["check_the_site"] = (1, HEALTHY.replace("http_200 ok", "http_200 failed /healthz answers 503"))
    session, error = stage.fail()
    assert str(error) == f"Check the site: http_200 fails: /healthz answers 503; {OLD.id} is live again"
    assert (session.outcome.failed_check, session.outcome.checks["http_200"]) == ("http_200", False)


def test_a_visitor_who_does_not_get_in_is_told_before_the_switch(stage: Stage) -> None:
    """Exit 5, the site as before, and what to set."""
    said = "the app redirects / to https://x/, but nothing on this host answers https"
    stage.ends["prove_that_visitors_get_in"] = (1, f"failed: {said}")
    session, error = stage.fail()
    assert (error.exit_code, session.outcome.site_state.split(",")[0]) == (5, "as before")
    assert str(error) == f"Prove that visitors get in: failed (exit 1): {said}"
    assert "SECURE_SSL_REDIRECT = False" in error.hint


def test_what_a_visitor_finds_is_told(stage: Stage) -> None:
    """Unless it is a front page: once, when proof and nginx agree, and in the document."""
    stage.ends["prove_that_visitors_get_in"] = (0, "/ answers 404")
    stage.ends["check_the_site"] = (0, HEALTHY.replace("/ answers 200", "/ answers 404"))
    session, error = stage.deploy()
    assert error is None
    assert stage.stream.getvalue().count("a visitor finds: / answers 404") == 1
    assert session.outcome.details["visitor"] == "/ answers 404"


def test_a_visitor_who_finds_the_site_broken_is_a_failed_check(stage: Stage) -> None:
    """After the switch the release is put back, and the next step is the one for what he found."""
    said = "for api.consult.dev nginx answers with another site"
    stage.ends["check_the_site"] = (1, HEALTHY.replace("visitor ok / answers 200", f"visitor failed {said}"))
    session, error = stage.fail()
    assert str(error) == f"Check the site: visitor fails: {said}; {OLD.id} is live again"
    assert (session.outcome.failed_check, session.outcome.checks["visitor"]) == ("visitor", False)
    assert error.hint.startswith("ssh api grep -r server_name")


def test_a_dead_nginx_shows_its_own_log(stage: Stage) -> None:
    """The evidence is that of what failed, for a person and in the document, there once."""
    stage.ends["check_the_site"] = (1, HEALTHY.replace("nginx_running ok", "nginx_running failed nginx is failed"))
    session, error = stage.fail()
    assert (error.evidence, error.shown) == ("[emerg] of nginx itself", False)
    session.outcome.fail(error)
    assert session.outcome.logs["nginx"] == ["[emerg] of nginx itself"]
    assert "output" not in session.outcome.logs
    assert error.hint == "fab -H api provision"


PUBLIC = SETTINGS.model_copy(update={"public_url": "https://pub.example.org"})


@pytest.mark.parametrize("live", [OLD, None], ids=["before too", "first deploy"])
def test_a_public_url_that_does_not_answer_is_in_the_headline(stage: Stage, live: Release | None) -> None:
    """The release stays; since when, and why, is in the last line and in the document, with what to look at."""
    stage.settings = PUBLIC
    stage.plan = Plan(PUBLIC, LAYOUT, NEW, live, commit="2" * 40)
    never = "ConnectError: [Errno -2] Name or service not known"
    stage.public = Watch(first=never, last=deque([never]))
    session, error = stage.deploy()
    assert error is None
    verb = "did not answer as this site before this deploy either" if live else "does not answer as this site"
    last = stage.stream.getvalue().splitlines()[-1]
    assert last.endswith(f"BUT https://pub.example.org {verb}: DNS does not know the name")
    assert session.outcome.details["public_trouble"] == "DNS does not know the name"
    assert "https://pub.example.org" in session.outcome.suggestions[-1]


def test_a_public_url_that_breaks_is_rolled_back(stage: Stage) -> None:
    """The host itself answers: what to look at lies before it."""
    stage.settings = PUBLIC
    stage.steady = True
    stage.settle.return_value = "400 at https://pub.example.org"
    session, error = stage.fail()
    assert str(error) == f"/healthz answers 400 at https://pub.example.org; {OLD.id} is live again"
    assert error.hint.startswith("see where https://pub.example.org leads")
    assert "put_the_old_release_back" in played(session).ran


def test_a_public_url_that_answers_is_no_news(stage: Stage) -> None:
    """Nothing is wrong: null in the document, and no word in the last line."""
    stage.settings = PUBLIC
    stage.public = Watch(first="200", last=deque(["200"]), ours=True)
    session, error = stage.deploy()
    assert error is None
    assert session.outcome.details["public_trouble"] is None
    assert "BUT" not in stage.stream.getvalue()


def test_the_maintenance_page_is_told(stage: Stage) -> None:
    """A deploy under it works, and says that visitors still see it."""
    stage.maintenance = "/srv/consult/maintenance.html"
    _, error = stage.deploy()
    assert error is None
    assert stage.stream.getvalue().splitlines()[-1].endswith("; the maintenance page is on")


def test_the_watch_looks_anew_when_the_switch_is_over(stage: Stage, mocker: MockerFixture) -> None:
    """When nothing changes the site any more, and the host makes its own checks."""
    stage.plan = dataclasses.replace(stage.plan, files={LAYOUT.site_file: "server {}"})
    looks: list[str] = []
    mocker.patch("fabfile.session.watch.look_anew", side_effect=lambda _: looks.append(stage.runner.ran[-1]))
    stage.deploy()
    assert looks == ["reload_nginx"]


def test_a_site_that_does_not_settle_is_rolled_back(stage: Stage) -> None:
    """The host's own checks were well, but visitors get no 200: the way back is run then."""
    stage.settle.return_value = "502 through nginx"
    session, error = stage.fail()
    assert str(error) == f"/healthz answers 502 through nginx; {OLD.id} is live again"
    assert error.status == "rolled_back"
    assert (session.outcome.failed_check, session.outcome.checks["http_200"]) == ("http_200", False)
    assert session.outcome.site_state.startswith(f"as before: {OLD.id} is live again, but the schema")
    ran = played(session).ran
    assert ran.index("mark_the_release_as_good") < ran.index("put_the_old_release_back")


def test_a_way_back_that_fails_leaves_nothing_claimed(stage: Stage) -> None:
    """Nobody is told that the old release is back when that is not known; status is the next command."""
    stage.ends |= {"see_only_new_workers_answer": (1, "first"), "put_the_old_release_back": (1, "second")}
    session, error = stage.fail()
    assert isinstance(error, Unhealthy)
    assert "the way back failed too" in str(error)
    assert (error.evidence, error.hint) == ("first\nsecond", "fab -H api status")
    assert error.status == "failed"
    assert session.outcome.site_state.startswith("unknown: after See only new workers answer, the way back failed too")


def test_a_first_deploy_that_fails_says_that_nothing_is_live(stage: Stage) -> None:
    """There is no old release to go back to, and none is promised."""
    stage.plan = Plan(SETTINGS, LAYOUT, NEW, None, commit="2" * 40)
    stage.ends["see_only_new_workers_answer"] = (1, "failed: x")
    session, error = stage.fail()
    assert (type(error), error.status) == (Unhealthy, "failed")
    assert session.outcome.site_state.startswith("as before: nothing is live")
    assert "put_everything_back" in played(session).ran


def test_a_restart_that_fails_says_that_the_release_does_not_answer(stage: Stage) -> None:
    """The live release itself does not come up: nothing was rolled back, and nobody is told so."""
    stage.plan = Plan(SETTINGS, LAYOUT, OLD, OLD, forced=Activation("restart", "asked for"))
    stage.ends["see_only_new_workers_answer"] = (1, "failed: x")
    session, error = stage.fail()
    assert (type(error), error.status) == (Unhealthy, "failed")
    assert session.outcome.site_state == f"{OLD.id} is live and does not answer as it should"


def test_tidying_that_fails_does_not_fail_the_deploy(stage: Stage) -> None:
    """The release is live and healthy: exit 0, and it is told what to look at."""
    stage.ends["prune_old_releases"] = (1, "failed: disk")
    session, error = stage.deploy()
    assert error is None
    assert (session.outcome.status, session.outcome.release) == ("success", NEW.id)
    assert any("Prune old releases" in each for each in session.outcome.suggestions)
    assert "the release is live all the same" in stage.stream.getvalue()


def test_a_host_that_lets_nobody_look_is_told(stage: Stage) -> None:
    """Without a way through SSH the host's own checks decide, and a person is told so."""
    stage.answers = "cannot look: api passes nothing on"
    session, error = stage.deploy()
    assert error is None
    assert "the host's own checks are all there is: cannot look: api passes nothing on" in stage.stream.getvalue()
    assert session.outcome.site_state == f"{NEW.id} is live"


def test_a_lost_connection_leaves_the_rest_to_the_host(stage: Stage) -> None:
    """Nothing more is sent, and the outcome claims nothing about a switch that was under way."""
    stage.ends["see_only_new_workers_answer"] = ConnectionLost("api", None)
    session, error = stage.fail()
    assert isinstance(error, ConnectionLost)
    assert played(session).ran[-1] == "see_only_new_workers_answer"
    assert session.outcome.site_state.startswith("unknown: the host was in the middle of the switch")


def test_ctrl_c_before_the_switch_is_recorded(stage: Stage) -> None:
    """The site is as before, the history says `interrupted`, and the run ends as one that was interrupted."""
    stage.ends["build_the_virtualenv"] = KeyboardInterrupt()
    session, error = stage.deploy()
    assert isinstance(error, KeyboardInterrupt)
    assert played(session).entries[0]["outcome"] == "interrupted"
    assert session.outcome.site_state == "as before"


@pytest.mark.parametrize("tidy", ["record_the_deploy", "prune_old_releases"])
def test_the_first_error_is_the_one_that_is_told(stage: Stage, tidy: str) -> None:
    """A history or a prune that fails after a failure hides nothing."""
    stage.ends |= {"build_the_virtualenv": (1, "error: x"), tidy: (1, "failed: later")}
    _, error = stage.fail()
    assert "Build the virtualenv" in str(error)


def told(name: str, *, breaks: str = "", atomic: bool = True) -> str:
    """A migration to come, as the proof tells it."""
    found = {
        "name": name,
        "atomic": atomic,
        "operations": [],
        "sql": [],
        "trouble": "",
        "breaks": [breaks][: bool(breaks)],
    }
    return json.dumps(found)


HARMLESS, BREAKING = told("shop.0002_more"), told("shop.0003_less", breaks="column orders.note goes")


def test_a_migration_that_breaks_the_running_code_makes_requests_wait(stage: Stage) -> None:
    """Those before it are applied before; who deploys is told why, and the watch is patient."""
    stage.ends["prove_that_its_data_outlives_it"] = (0, f"loading\n{HARMLESS}\n{BREAKING}")
    session, error = stage.deploy()
    assert error is None
    assert session.outcome.activation == "hold"
    assert session.outcome.reason == "shop.0003_less breaks the code that runs: column orders.note goes"
    assert "  shop.0003_less BREAKS THE RUNNING CODE: column orders.note goes\n" in stage.stream.getvalue()
    ran = stage.runner.ran
    first = ran.index("migrate_what_breaks_nothing")
    assert ran[first + 1 : first + 3] == ["let_requests_wait", "migrate_the_database"]


@pytest.mark.parametrize("case", ["harmless", "maintenance", "no hold", "does not run", "there already"])
def test_nobody_has_to_wait_for_nothing(stage: Stage, case: str) -> None:
    """Where no migration breaks the code, or none is applied, nobody is served, or hosts.toml wants no hold."""
    stage.ends["prove_that_its_data_outlives_it"] = (0, HARMLESS if case == "harmless" else BREAKING)
    if case == "maintenance":
        stage.maintenance = "/srv/consult/maintenance.html"
    if case == "no hold":
        stage.settings = SETTINGS.model_copy(update={"hold": 0})
    if case == "does not run":
        stage.ends["compare_it_with_the_running_gunicorn"] = (0, '{"running": false}')
    if case == "there already":
        stage.plan = Plan(SETTINGS, LAYOUT, OLD, OLD, forced=Activation("hup", "asked for"))
    session, error = stage.deploy()
    assert error is None
    assert ("BREAKS" in stage.stream.getvalue()) == (case not in ("harmless", "there already"))
    assert session.outcome.activation == ("start" if case == "does not run" else "hup")
    assert "let_requests_wait" not in stage.runner.ran


def test_a_migration_that_cannot_be_cancelled_is_not_begun(stage: Stage) -> None:
    """Exit 5 before the switch, with what to do; the release that was built for it is gone."""
    lasting = told("shop.0004_index", atomic=False)
    stage.ends["prove_that_its_data_outlives_it"] = (0, f"{BREAKING}\n{lasting}")
    _, error = stage.fail()
    assert isinstance(error, StepFailed)
    assert (
        "shop.0003_less breaks the code that runs: column orders.note goes; and shop.0004_index cannot" in error.message
    )
    assert "maintenance.on" in error.hint
    assert "remove_the_unfinished_release" in stage.runner.ran
    assert "migrate_the_database" not in stage.runner.ran
    stage.ends["prove_that_its_data_outlives_it"] = (0, f"{lasting}\n{BREAKING}")
    assert stage.deploy()[1] is None, "what comes before the hold may take as long as it likes"
