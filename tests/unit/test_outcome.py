"""The document that people, CI and agents get: its keys and what fills them."""

from fabfile.errors import StepFailed, Unhealthy
from fabfile.output.outcome import TAIL, Outcome
from fabfile.steps.nginx import parse_checks

# Programs parse these. A new one may be added, none may go or be called something else.
KEYS = [
    "verb", "server", "status", "phase", "failed_check", "error", "url", "admin_url", "git_branch", "git_commit",
    "release", "previous", "activation", "reason", "site_state", "timing", "checks", "watch", "logs", "suggestions",
    "exit_code",
]  # fmt: skip


def test_the_document_has_every_key_that_programs_parse() -> None:
    """They are all there from the beginning, in their order, with the verb's own details before them."""
    document = Outcome("deploy", "api").document()
    assert list(document) == KEYS
    assert list(Outcome("deploy", "api", details={"migrations": []}).document()) == ["migrations", *KEYS]


def test_a_new_outcome_claims_nothing() -> None:
    """Before anything happened the site is as before, and nothing is known of a release."""
    document = Outcome("deploy", "api").document()
    assert (document["verb"], document["server"], document["exit_code"]) == ("deploy", "api", 0)
    assert (document["status"], document["phase"], document["site_state"]) == ("success", "done", "as before")
    empty = {key for key, value in document.items() if not value}
    assert empty == set(KEYS) - {"verb", "server", "status", "phase", "site_state"}


def test_details_never_hide_a_key() -> None:
    """What a verb tells more cannot change what the keys say."""
    assert Outcome("deploy", "api", details={"status": "well", "more": 1}).document()["status"] == "success"


def test_an_error_is_taken_over_whole() -> None:
    """Status, phase, message, exit code, the next command, and the end of the evidence."""
    outcome = Outcome("deploy", "api", suggestions=["before"])
    evidence = "\n".join(f"line {number}" for number in range(TAIL + 1))
    outcome.fail(Unhealthy("it is down", hint="fab -H api logs", evidence=evidence))
    assert (outcome.status, outcome.phase, outcome.error, outcome.exit_code) == ("failed", "health", "it is down", 6)
    assert outcome.suggestions == ["before", "fab -H api logs"]
    assert outcome.logs["output"] == evidence.splitlines()[1:]


def test_logs_that_were_read_are_not_overwritten() -> None:
    """An error without evidence or hint adds neither, and what was kept of the output stays."""
    outcome = Outcome("deploy", "api", logs={"output": ["first"]})
    outcome.fail(StepFailed("x", evidence="second"))
    outcome.fail(StepFailed("x"))
    assert (outcome.logs, outcome.suggestions) == ({"output": ["first"]}, [])


def test_evidence_is_there_once() -> None:
    """A log that was read already, and is what an error shows, is not kept a second time."""
    outcome = Outcome("status", "api", logs={"django_service": ["one", "two"]})
    outcome.fail(Unhealthy("it is down", evidence="one\ntwo"))
    assert outcome.logs == {"django_service": ["one", "two"]}


def test_an_interruption_has_its_own_code() -> None:
    """Ctrl-C is no failure of the deploy: 130, and it says so."""
    outcome = Outcome("deploy", "api")
    outcome.interrupt()
    assert (outcome.status, outcome.phase, outcome.error, outcome.exit_code) == (
        "interrupted",
        "interrupted",
        "interrupted",
        130,
    )


def test_checks_are_kept_with_the_first_that_fails() -> None:
    """Each check by its name, the failed one by the key that programs look at."""
    outcome = Outcome("deploy", "api", checks={"earlier": True})
    checks = parse_checks(
        "curl: noise\ncheck gunicorn_socket ok\ncheck systemd_active failed x-django is failed\n"
        "check nginx_running failed nginx is failed\ncheck\ncheck loose\n"
    )
    outcome.add_checks(checks)
    assert outcome.checks == {"earlier": True, "gunicorn_socket": True, "systemd_active": False, "nginx_running": False}
    assert outcome.failed_check == "systemd_active"
    assert checks.trouble == "systemd_active fails: x-django is failed"


def test_a_check_that_holds_may_have_something_to_tell() -> None:
    """Whole, and it counts as held."""
    checks = parse_checks("check visitor ok / leads to /en/, 200\ncheck http_200 ok")
    assert (checks.held, checks.failed) == ({"visitor": True, "http_200": True}, None)
    assert checks.found == {"visitor": "/ leads to /en/, 200"}


def test_a_check_that_failed_stays_failed() -> None:
    """A second look that finds it well does not hide the first."""
    checks = parse_checks("check http_200 failed /healthz answers 503")
    checks.add("http_200", ok=True)
    assert checks.held == {"http_200": False}
    checks.add("http_200", ok=False, detail="later")
    assert (checks.held, checks.failed) == ({"http_200": False}, "http_200")
    assert checks.details == {"http_200": "/healthz answers 503"}
