"""Which steps carry a plan out, in which order, under which names: pure, no host is asked."""

import ast
import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fabfile.config.layout import Layout
from fabfile.config.processes import Process
from fabfile.config.settings import Timeouts, Tls
from fabfile.plan import rendering, services
from fabfile.plan.activation import Activation, Kind
from fabfile.plan.plan import Plan
from fabfile.steps import commands, nginx, proof, sequence, service
from fabfile.steps.step import Results, Step, StepResult, as_text
from testbed.sample import sample
from tests.host.every_step import every_step, provision

PRODUCT = Path(__file__).parents[2] / "fabfile"
SETTINGS = sample(repo="git@example.org:team/app.git")
LAYOUT = Layout.of(SETTINGS)
BESIDE = SETTINGS.model_copy(update={"processes": {"worker": Process(command="celery worker", instances=2)}})
COMMANDED = SETTINGS.model_copy(
    update={
        "build": ("npm ci", "npm run build"),
        "before_switch": ("manage.py loaddata groups",),
        "after_switch": ("manage.py clear_cache", "warm --all"),
    }
)
OLD = LAYOUT.release("20260101T000000Z-1111111")
NEW = LAYOUT.release("20260102T000000Z-2222222")
FILES = rendering.files(SETTINGS)
UNIT = {LAYOUT.service_file: FILES[LAYOUT.service_file]}
SITE = {LAYOUT.site_file: FILES[LAYOUT.site_file]}
BESIDE_FILES = {path: text for path, text in rendering.files(BESIDE).items() if path not in FILES}

BOOT = [
    "start_the_new_release_on_a_private_socket",
    "prove_that_it_boots",
    "prove_that_its_data_outlives_it",
    "compare_it_with_the_running_gunicorn",
]
BUILD = ["lay_out_the_release", "build_the_virtualenv", BOOT[0], "collect_the_static_files", *BOOT[1:]]
RIGHTS = ["ask_sudo_for_the_rights_it_needs"]
MIGRATE = ["migrate_the_database", "mark_the_release_as_whole"]
HEALTH = ["prove_that_it_is_healthy", "prove_that_visitors_get_in", "stop_the_private_socket"]
INSTALL, NGINX = ["install_the_changed_files"], ["reload_nginx"]
WORKERS = ["see_only_new_workers_answer"]
CAN_START, ROLL = ["prove_that_workers_and_timers_can_start"], ["bring_workers_and_timers_to_it"]
END = ["check_the_site", "mark_the_release_as_good"]


@dataclass(frozen=True)
class Case:
    """A plan with its activation, and the ids of the steps that it takes."""

    plan: Plan
    kind: Kind
    before: list[str]
    switch: list[str] = field(default_factory=list)
    back: str = "put_the_old_release_back"

    @property
    def activation(self) -> Activation:
        return Activation(self.kind, "because")


CASES = {
    "first deploy": Case(
        Plan(SETTINGS, LAYOUT, NEW, None, FILES, "2" * 40),
        "start",
        BUILD,
        [*RIGHTS, *MIGRATE, *HEALTH, *INSTALL, "switch_to_the_new_release_start", *WORKERS, *NGINX, *END],
        back="put_everything_back",
    ),
    "new release": Case(
        Plan(SETTINGS, LAYOUT, NEW, OLD, commit="2" * 40),
        "hup",
        BUILD,
        [*MIGRATE, *HEALTH, "switch_to_the_new_release_hup", *WORKERS, *END],
    ),
    "new release and unit": Case(
        Plan(SETTINGS, LAYOUT, NEW, OLD, UNIT, "2" * 40),
        "restart",
        BUILD,
        [*RIGHTS, *MIGRATE, *HEALTH, *INSTALL, "switch_to_the_new_release_restart", *WORKERS, *END],
    ),
    "new release and site": Case(
        Plan(SETTINGS, LAYOUT, NEW, OLD, SITE, "2" * 40),
        "hup",
        BUILD,
        [*RIGHTS, *MIGRATE, *HEALTH, *INSTALL, "switch_to_the_new_release_hup", *WORKERS, *NGINX, *END],
    ),
    "new release with commands": Case(
        Plan(COMMANDED, LAYOUT, NEW, OLD, commit="2" * 40),
        "hup",
        [*BUILD[:2], "build_1", "build_2", *BUILD[2:4], "prove_that_its_commands_can_start", *BUILD[4:]],
        [MIGRATE[0], "before_switch_1", MIGRATE[1], *HEALTH, "switch_to_the_new_release_hup", *WORKERS, *END],
    ),
    "rollback with commands": Case(
        Plan(COMMANDED, LAYOUT, OLD, NEW, leaves=NEW),
        "hup",
        BOOT,
        [*HEALTH, "switch_to_the_new_release_hup", *WORKERS, *END],
    ),
    "rollback": Case(
        Plan(SETTINGS, LAYOUT, OLD, NEW, leaves=NEW),
        "hup",
        BOOT,
        [*HEALTH, "switch_to_the_new_release_hup", *WORKERS, *END],
    ),
    "rollback to another Python": Case(
        Plan(SETTINGS, LAYOUT, OLD, NEW, leaves=NEW),
        "restart",
        BOOT,
        [*RIGHTS, *HEALTH, "switch_to_the_new_release_restart", *WORKERS, *END],
    ),
    "restart": Case(
        Plan(SETTINGS, LAYOUT, OLD, OLD),
        "restart",
        BOOT,
        [*RIGHTS, *HEALTH, "restart_gunicorn_behind_its_socket", *WORKERS, *END],
        back="put_everything_back",
    ),
    "reload": Case(
        Plan(SETTINGS, LAYOUT, OLD, OLD),
        "hup",
        BOOT,
        [*HEALTH, "reload_gunicorn_hup", *WORKERS, *END],
        back="put_everything_back",
    ),
    "restart of what does not run": Case(
        Plan(SETTINGS, LAYOUT, OLD, OLD),
        "start",
        BOOT,
        [*RIGHTS, *HEALTH, "start_gunicorn", *WORKERS, *END],
        back="put_everything_back",
    ),
    "all files changed": Case(
        Plan(SETTINGS, LAYOUT, OLD, OLD, FILES),
        "restart",
        BOOT,
        [*RIGHTS, *HEALTH, *INSTALL, "restart_gunicorn_behind_its_socket", *WORKERS, *NGINX, *END],
        back="put_everything_back",
    ),
    "new release with processes": Case(
        Plan(BESIDE, LAYOUT, NEW, OLD, BESIDE_FILES, "2" * 40),
        "hup",
        [*BUILD[:-3], *CAN_START, *BOOT[1:]],
        [*RIGHTS, *MIGRATE, *HEALTH, *INSTALL, "switch_to_the_new_release_hup", *WORKERS, END[0], *ROLL, END[1]],
    ),
    "rollback with processes": Case(
        Plan(BESIDE, LAYOUT, OLD, NEW, leaves=NEW),
        "hup",
        [BOOT[0], *CAN_START, *BOOT[1:]],
        [*RIGHTS, *HEALTH, "switch_to_the_new_release_hup", *WORKERS, END[0], *ROLL, END[1]],
    ),
    "processes only": Case(
        Plan(BESIDE, LAYOUT, OLD, OLD, BESIDE_FILES),
        "processes",
        [],
        [*RIGHTS, *INSTALL, END[0], *ROLL, END[1]],
        back="put_everything_back",
    ),
    "processes and nginx": Case(
        Plan(BESIDE, LAYOUT, OLD, OLD, BESIDE_FILES | SITE),
        "processes",
        [],
        [*RIGHTS, *INSTALL, *NGINX, END[0], *ROLL, END[1]],
        back="put_everything_back",
    ),
    "a worker does not run": Case(
        Plan(BESIDE, LAYOUT, OLD, OLD, amiss=("1 of 2 worker run",)),
        "processes",
        [],
        [*RIGHTS, END[0], *ROLL, END[1]],
        back="put_everything_back",
    ),
    "nginx only, beside processes": Case(
        Plan(BESIDE, LAYOUT, OLD, OLD, SITE),
        "nginx",
        [],
        [*RIGHTS, *INSTALL, *NGINX, *END],
        back="put_everything_back",
    ),
    "the last process has left": Case(
        Plan(SETTINGS, LAYOUT, OLD, OLD, rendering.files(SETTINGS, [services.roller(LAYOUT)])),
        "processes",
        [],
        [*RIGHTS, *INSTALL, END[0], *ROLL, END[1]],
        back="put_everything_back",
    ),
    "nginx only": Case(
        Plan(SETTINGS, LAYOUT, OLD, OLD, SITE),
        "nginx",
        [],
        [*RIGHTS, *INSTALL, *NGINX, *END],
        back="put_everything_back",
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())

# The keys of `timing` in the JSON document, which programs parse: a title may be reworded, these stay.
IDS = {
    # reading
    "read_the_host", "see_who_works_on_it", "fetch_the_repository", "look_at_the_site", "read_the_journal",
    "read_nginx_s_error_log", "see_what_nginx_says", "lock_the_host", "unlock_the_host", "put_the_file_in_place",
    "list_the_secrets", "change_the_secret", "replace_the_token", "look_at_the_secrets",
    "close_the_site", "let_requests_wait", "open_the_site", "compare_the_commits", "migrate_what_breaks_nothing",
    "switch_to_the_new_release_hold",
    "see_the_time", "read_the_history", "read_the_site_s_nginx_logs", "follow_the_site_s_nginx_logs",
    # a person's commands
    "find_the_live_release", "run_the_command", "end_the_command",
    # build and proof
    "lay_out_the_release", "build_the_virtualenv", "start_the_new_release_on_a_private_socket",
    "collect_the_static_files", "prove_that_it_boots", "compare_it_with_the_running_gunicorn",
    "prove_that_its_data_outlives_it", "stop_the_private_socket", "remove_the_unfinished_release",
    "build_1", "prove_that_its_commands_can_start",
    # switch
    "ask_sudo_for_the_rights_it_needs", "migrate_the_database", "mark_the_release_as_whole",
    "prove_that_it_is_healthy", "prove_that_visitors_get_in",
    "stage_the_changed_files", "compare_the_files", "look_for_edited_files", "install_the_changed_files",
    "switch_to_the_new_release_hup", "switch_to_the_new_release_restart", "switch_to_the_new_release_start",
    "reload_gunicorn_hup", "restart_gunicorn_behind_its_socket", "start_gunicorn", "see_only_new_workers_answer",
    "reload_nginx", "check_the_site", "prove_that_workers_and_timers_can_start", "bring_workers_and_timers_to_it",
    "mark_the_release_as_good", "before_switch_1", "after_switch_1",
    # way back and end
    "put_the_old_release_back", "put_everything_back", "record_the_deploy", "prune_old_releases",
    # provision
    "look_at_the_server", "install_the_packages", "install_uv", "install_the_doppler_cli", "make_the_user",
    "keep_the_logins", "put_the_logins_back", "confirm_the_logins",
    "make_the_folders", "write_the_doppler_token", "make_the_secrets_file", "grant_the_exact_sudo_rights",
    "prepare_the_certificate", "install_the_units_and_the_nginx_site", "obtain_the_certificate",
    "forget_the_certificate", "reach_the_repository",
    # adopt
    "read_how_far_it_is", "read_the_server", "take_the_secrets_over", "keep_what_is_there", "save_local_changes",
    "take_the_commit_over", "keep_its_static_files", "make_it_current", "note_that_it_begins",
    "show_the_certificate_of_before", "move_the_uploads",
    "start_a_second_website", "lead_visitors_to_the_second", "stop_the_old_website", "start_the_website",
    "lead_visitors_to_the_website", "end_the_second_website", "take_the_old_rights_away", "note_that_it_is_adopted",
    "start_the_old_website", "bring_the_old_site_back", "bring_the_rest_back",
    # their opposite
    "look_what_goes", "remove_the_app",
}  # fmt: skip


def ids(steps: Iterable[Step]) -> list[str]:
    return [step.id for step in steps]


@every_case
def test_the_steps_of_a_plan_and_their_order(case: Case) -> None:
    """What is proven before the switch, and what the switch does: for each kind of plan, nothing more or less."""
    if not case.plan.beside:
        assert ids(sequence.build_and_boot(case.plan)) == case.before
    assert ids(sequence.switch(case.plan, case.activation)) == case.switch


@every_case
def test_nothing_live_changes_before_all_is_proven(case: Case) -> None:
    """Once a step may change what is served, every later one counts as live; migrations and proof come before it."""
    assert not any(step.live for step in sequence.build_and_boot(case.plan))
    steps = sequence.switch(case.plan, case.activation)
    first = next(number for number, step in enumerate(steps) if step.live)
    assert all(step.live for step in steps[first:])
    assert set(ids(steps[first:])).isdisjoint({*BUILD, *MIGRATE, *HEALTH, *RIGHTS, *INSTALL})


@every_case
def test_the_way_back_is_one_step(case: Case) -> None:
    """The host goes it alone, with all that the switch may have changed, and has time for what it waits for."""
    (back,) = sequence.revert(case.plan, case.activation)
    assert back.id == case.back
    assert back.live
    assert back.timeout > SETTINGS.timeouts.reload
    old = case.plan.live.root if case.plan.live else None
    assert (back.parameters["old"], back.parameters["new"]) == (old, case.plan.release.root)
    changed = {path for kind in ("units", "site") for path in _list(back.parameters[kind])}
    assert changed == set(map(str, case.plan.files)) & set(map(str, LAYOUT.installed_files))
    assert back.parameters["activation"] == case.kind


def _list(value: object) -> list[str]:
    return as_text(value).splitlines()  # ty: ignore[invalid-argument-type]


@every_case
def test_a_failed_proof_leaves_nothing(case: Case) -> None:
    """The private gunicorn ends; a release goes only if this run has built it."""
    removed = ["remove_the_unfinished_release"] if case.plan.commit else []
    assert ids(sequence.abandon_build(case.plan)) == ["stop_the_private_socket", *removed]


@every_case
def test_every_run_is_recorded_and_tidied(case: Case) -> None:
    """However it ended, the history has a line, and old releases go."""
    assert ids(sequence.finish(case.plan, "{}")) == ["record_the_deploy", "prune_old_releases"]


def test_only_a_new_release_runs_commands() -> None:
    """Those of after_switch too: what they do was done when the release that comes back was new."""
    after = {name: ids(sequence.after_switch(case.plan)) for name, case in CASES.items()}
    assert {name: found for name, found in after.items() if found} == {
        "new release with commands": ["after_switch_1", "after_switch_2"]
    }


def test_a_command_is_a_step_that_names_it() -> None:
    """Its setting and its words are what a person reads; the words travel one by one, a long one is told in part."""
    long = SETTINGS.model_copy(update={"build": (f"echo '{'x' * 80}  y'",), "timeouts": Timeouts(commands=7)})
    (step,) = commands.run(long, NEW, "build")
    assert step.title == f"build: echo '{'x' * 51}..."
    assert step.parameters["words"] == ["echo", f"{'x' * 80}  y"]
    assert step.timeout == 7
    before, after = (commands.run(COMMANDED, NEW, when)[0] for when in ("before_switch", "after_switch"))
    assert (before.title, after.title) == (
        "before_switch: manage.py loaddata groups",
        "after_switch: manage.py clear_cache",
    )


def test_a_build_has_no_secrets() -> None:
    """What a package of npm runs while it is installed does not see them; later commands work with the app's data."""
    given = {step.id: step.parameters["secrets"] for step in every_step() if step.function == "run_command"}
    assert given == {"build_1": False, "before_switch_1": True, "after_switch_1": True}


def test_the_proof_waits_for_the_commands_before_the_switch() -> None:
    """Its gunicorn ends by itself, as late as the longest way to the health check may be."""
    patience = [proof.start(settings, NEW).parameters["patience"] for settings in (SETTINGS, COMMANDED)]
    assert patience[1] == patience[0] + SETTINGS.timeouts.commands  # ty: ignore[unsupported-operator]


def test_a_rollback_marks_what_it_left() -> None:
    """The release that a rollback goes back from is named where the new one is marked good; else none is."""
    marks = {name: sequence.switch(case.plan, case.activation)[-1].parameters["left"] for name, case in CASES.items()}
    assert {name for name, left in marks.items() if left} == {
        "rollback",
        "rollback to another Python",
        "rollback with processes",
        "rollback with commands",
    }
    assert marks["rollback"] == NEW.root


def test_only_what_root_has_staged_is_installed() -> None:
    """The host compares it with the texts that the plan was made of, and gets none of them."""
    (step,) = [each for each in sequence.switch(*_all_files()) if each.id == INSTALL[0]]
    assert _list(step.parameters["digests"]) == [
        f"{hashlib.sha256(text.encode()).hexdigest()}  /etc/consult/staged/next{path}" for path, text in FILES.items()
    ]
    assert _list(step.parameters["files"]) == [str(path) for path in FILES]


def _all_files() -> tuple[Plan, Activation]:
    return CASES["all files changed"].plan, CASES["all files changed"].activation


def test_provision_makes_a_server_ready_in_order() -> None:
    """Look, install, make, write, grant; the repository last, and only when there is one."""
    expected = [
        "look_at_the_server", "install_the_packages", "install_uv", "install_the_doppler_cli", "keep_the_logins",
        "make_the_user", "make_the_folders", "write_the_doppler_token", "grant_the_exact_sudo_rights",
        "install_the_units_and_the_nginx_site", "stage_the_changed_files", "forget_the_certificate",
        "reach_the_repository",
    ]  # fmt: skip
    assert ids(provision(SETTINGS, FILES)) == expected
    assert ids(provision(SETTINGS.model_copy(update={"repo": None}), FILES)) == expected[:-1]


def test_the_site_is_installed_between_what_it_needs_and_what_needs_it() -> None:
    """nginx cannot start with a site whose certificate is missing, nor an ACME server ask a site that is not there."""
    site = "install_the_units_and_the_nginx_site"
    own = Tls(certificate="/etc/ssl/a.pem", key="/etc/ssl/a.key")
    after = {"letsencrypt": "obtain_the_certificate", "own": "reach_the_repository"}
    for name, tls in (("letsencrypt", Tls(letsencrypt="ops@example.org")), ("own", own)):
        found = ids(provision(SETTINGS.model_copy(update={"tls": tls}), FILES))
        around = found[found.index(site) - 1 : found.index(site) + 3]
        assert around == ["prepare_the_certificate", site, "stage_the_changed_files", after[name]]
        packages = provision(SETTINGS.model_copy(update={"tls": tls}), FILES)[1].parameters["programs"]
        assert ("certbot certbot" in _list(packages), "openssl openssl" in _list(packages)) == (name != "own", True)


def test_the_ids_of_steps_are_what_programs_parse() -> None:
    """The keys of `timing` are those that they always were, and no step goes without one."""
    assert {step.id for step in every_step()} == IDS


def test_an_id_has_one_title_and_a_title_one_id() -> None:
    """A person who reads a title, and a program that reads an id, mean the same step."""
    pairs = {(step.id, step.title) for step in every_step()}
    assert len(pairs) == len({step_id for step_id, _ in pairs}) == len({title for _, title in pairs})


def product_modules() -> dict[Path, ast.Module]:
    """The product's modules besides those that make the steps."""
    paths = [path for path in PRODUCT.rglob("*.py") if path.parent != PRODUCT / "steps" and "host" not in path.parts]
    return {path.relative_to(PRODUCT): ast.parse(path.read_text()) for path in paths}


def test_to_reword_a_title_changes_only_what_a_person_reads() -> None:
    """Outside steps/ a title is only ever put into a text: nobody compares it or looks something up by it."""
    titles = {step.title for step in every_step()}
    for path, tree in product_modules().items():
        told = {
            id(part.value) for text in ast.walk(tree) if isinstance(text, ast.JoinedStr)
            for part in text.values if isinstance(part, ast.FormattedValue)
        }  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "title":
                assert id(node) in told, f"{path}:{node.lineno} does more with a title than tell it"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in titles, f"{path}:{node.lineno} knows the title {node.value}"


def test_results_are_looked_up_by_name() -> None:
    """Results know their steps by id in the order they ran; a step that did not run has said nothing."""
    ended = [StepResult(step, 0, f"said by {step.id}", 0.1) for step in sequence.switch(*_new_release())]
    results = Results.of(ended)
    assert list(results) == CASES["new release"].switch
    assert results[nginx.CHECK].output == results.output(nginx.CHECK) == "said by check_the_site"
    assert results.output(service.REVERT) == ""
    with pytest.raises(KeyError):
        _ = results[service.REVERT]


def _new_release() -> tuple[Plan, Activation]:
    return CASES["new release"].plan, CASES["new release"].activation


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (False, ""), (True, "1"), (0, "0"), (30, "30"), ("", ""), ("$(reboot); 'x'", "$(reboot); 'x'"),
        (LAYOUT.base, str(LAYOUT.base)), ([], ""), (["a b", LAYOUT.base], f"a b\n{LAYOUT.base}"), (("a",), "a"),
    ],
)  # fmt: skip
def test_a_parameter_is_text_for_the_host(value: object, text: str) -> None:
    """Nothing and no are empty, yes is 1, a list has a line for each; all else is taken as it is."""
    assert as_text(value) == text  # ty: ignore[invalid-argument-type]
    assert Step("an_id", "A title", "function", {"name": value}).words == ["function", f"name={text}"]  # ty: ignore[invalid-argument-type]


@pytest.mark.parametrize("name", ["x[$(reboot)]", "a b", "", "A", "1a", "a=b", "a-b"])
def test_a_name_that_bash_would_evaluate_is_refused(name: str) -> None:
    """`local "$@"` evaluates what stands in brackets before the =: only plain names get there."""
    for step in (Step("an_id", "A title", name), Step("an_id", "A title", "function", {name: "x"})):
        with pytest.raises(ValueError, match="no name of a function or parameter"):
            _ = step.words


def test_every_step_makes_words() -> None:
    """No step has a parameter that cannot be sent."""
    assert all(step.words[0] == step.function for step in every_step())


def test_in_a_hold_requests_wait_for_no_more_than_they_must() -> None:
    """What harms nobody is migrated before; then they wait, as long as the setting says, until the release is up."""
    plan = Plan(SETTINGS, LAYOUT, NEW, OLD, commit="2" * 40)
    first, *rest = sequence.switch(plan, Activation("hold", "", held="a.0002", prelude=True))[1:]
    assert (first.id, first.parameters["stop"]) == ("migrate_what_breaks_nothing", "a.0002")
    wait, migrate = rest[:2]
    assert (wait.id, wait.parameters) == ("let_requests_wait", {"seconds": 50, "patience": 20})
    assert (migrate.id, migrate.timeout, migrate.limit) == ("migrate_the_database", 20, "hold")
    assert (migrate.parameters["stop"], migrate.parameters["limit"]) == (None, 20)
    assert "switch_to_the_new_release_hold" in ids(rest)
    alone = sequence.switch(plan, Activation("hold", "", held="a.0001"))
    assert ids(alone)[:3] == [*RIGHTS, "let_requests_wait", "migrate_the_database"]
    longest = dataclasses.replace(plan, settings=SETTINGS.model_copy(update={"hold": 60}))
    assert sequence.switch(longest, Activation("hold", "", held="a.0001"))[1].parameters["seconds"] == 60
