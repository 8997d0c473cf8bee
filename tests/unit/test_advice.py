"""What a failed step's output comes to: one line that says why, and the next command."""

import pytest

from fabfile.output import advice
from fabfile.ssh.runner import NO_RIGHT, StepError
from fabfile.steps import django
from fabfile.steps.step import Step, StepResult

DJANGO = """\
Traceback (most recent call last):
  File "manage.py", line 5, in <module>
psycopg.errors.UndefinedTable: relation "nowhere" does not exist

The above exception was the direct cause of the following exception:

django.db.utils.ProgrammingError: relation "nowhere" does not exist
LINE 1: ALTER TABLE nowhere
"""
UV = "error: Failed to download `a==1`\n  cause: dns error\n  cause: failed to lookup address information\n"
GIT = "fatal: unable to connect to 127.0.0.1:\n127.0.0.1[0: 127.0.0.1]: errno=Connection refused\n\n"
NGINX = '[emerg] 1#1: unknown directive "x" in /etc/nginx/sites-enabled/b:1\nnginx: configuration file test failed\n'
HEALTH = (
    "curl: (28) timed out\n/healthz answered:\n{}\nits log:\nValueError: x\nfailed: /healthz answered 503, not 200\n"
)
WORKERS = "ImportError: lost in the journal\nfailed: after 9 s: gunicorn has stopped 3 times in a row\n"
RIGHTS = "failed: web may not run as root: /usr/bin/systemctl daemon-reload\n"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (DJANGO, 'django.db.utils.ProgrammingError: relation "nowhere" does not exist'),
        (UV, "error: Failed to download `a==1`"),
        (GIT, "fatal: unable to connect to 127.0.0.1: 127.0.0.1[0: 127.0.0.1]: errno=Connection refused"),
        (NGINX, '[emerg] 1#1: unknown directive "x" in /etc/nginx/sites-enabled/b:1'),
        (HEALTH, "/healthz answered 503, not 200"),
        (WORKERS, "after 9 s: gunicorn has stopped 3 times in a row"),
        (RIGHTS * 2, "web may not run as root: /usr/bin/systemctl daemon-reload"),
        ("failed: first\nfailed: last\nold lines", "last"),
        ("failed:\nbuild failed: x", "build failed: x"),
        ("error: unable to write file a\nfatal: Could not reset index file.\n", "error: unable to write file a"),
        (
            "Unknown command: 'a'. Did you mean b?\nType 'manage.py help' for usage.",
            "Unknown command: 'a'. Did you mean b?",
        ),
        ("one\n\ntwo\n\n", "two"),
        ("", ""),
        (f"error: {'x' * 999}", f"error: {'x' * 293}"),
    ],
)
def test_the_reason_is_the_line_that_says_most(output: str, reason: str) -> None:
    """Our own verdict before all, of a traceback the exception, of a program its verdict, else the last line.

    It is never longer than a message bears.
    """
    assert advice.reason(output) == reason


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("tar: a: Cannot write: No space left on device", "make room on the disk of api"),
        ("Doppler Error: Invalid Service token", "fab -H api provision"),
        (UV, "api reaches the package index"),
        ("Error: pg_config executable not found.", "apt install libpq-dev"),
        ("error: command 'x86_64-linux-gnu-gcc' failed with exit code 1", "apt install build-essential"),
        ("error: HTTP status client error (401 Unauthorized) for url", "~/.netrc"),
        (NGINX, "the file that nginx names"),
        (
            "failed: /up/ answered 400\nnext: add x to ALLOWED_HOSTS, then: fab -H NAME deploy",
            "then: fab -H api deploy",
        ),
        ("failed: x\nnext: only at the end\nmore", "the same command again"),
        ("next: of the app", "the same command again"),
        ("nothing that anybody knows", "the same command again"),
    ],
)
def test_every_output_has_a_next_command(output: str, words: str) -> None:
    """The next command names the host where it needs one."""
    assert words in advice.next_command("api", output)


@pytest.mark.parametrize(
    ("output", "words"),
    [("failed: consult-worker@X:1.service does not stay: it ended", "logs --process worker"), ("502", "logs --lines")],
)
def test_the_journal_to_read_is_that_of_what_failed(output: str, words: str) -> None:
    """A worker has one of its own."""
    assert words in advice.journal("api", output)


def ended(step_id: str, code: int = 0, output: str = "", timeout: int = 60) -> StepResult:
    """How a step with this id ended."""
    return StepResult(Step(step_id, step_id.capitalize(), "do", timeout=timeout), code, output, 0.1)


def test_the_error_of_a_step_tells_all() -> None:
    """Title, exit code, reason, hint; what had gone well before, and what was done about it."""
    results = [ended("first"), ended("second", 2, "failed: so it is"), ended("back")]
    error = StepError("api", results)
    assert error.message == "Second: failed (exit 2): so it is"
    assert (error.failed, error.evidence) == (results[1], "failed: so it is")
    assert (dict(error.before), dict(error.rescue)) == ({"first": results[0]}, {"back": results[2]})
    assert StepError("api", [ended("silent", 1)]).message == "Silent: failed (exit 1)"


@pytest.mark.parametrize("code", [124, 137])
def test_a_step_that_took_too_long_says_so(code: int) -> None:
    """At its limit it says how long that was and where it is set, not what it said while it was ended."""
    late = StepError("api", [ended("slow", code, "error: ended", timeout=7)])
    assert late.message == "Slow: failed (took longer than 7 s and was ended)"
    assert "timeouts in hosts.toml" in late.hint


def test_a_step_that_took_too_long_names_its_limit() -> None:
    """A command of hosts.toml is told with the one setting that is to be raised."""
    step = Step("build_1", "build: npm ci", "run_command", timeout=7, limit="timeouts.commands")
    late = StepError("api", [StepResult(step, 124, "", 7.1)])
    assert late.message == "build: npm ci: failed (took longer than 7 s and was ended)"
    assert late.hint == "see why, or raise its limit (timeouts.commands in hosts.toml)"


def test_a_right_that_is_missing_is_mended_by_provision() -> None:
    """The exit code says that sudo refused, whatever the words are."""
    assert StepError("api", [ended("ask", NO_RIGHT, "anything")]).hint == "fab -H api provision"
    assert StepError("api", [ended("ask", 1, RIGHTS)]).hint == "mend that, then the same command again"


@pytest.mark.parametrize(
    ("output", "applied", "begun"),
    [
        ("Running migrations:\n  No migrations to apply.\n", [], ""),
        ("  Applying a.0001_x... OK\n  Applying b.0002_y... said\nmore OK\n", ["a.0001_x", "b.0002_y"], ""),
        (f"  Applying a.0001_x... OK\n  Applying b.0002_y...{DJANGO}", ["a.0001_x"], "b.0002_y"),
    ],
)
def test_migrations_that_were_applied_are_read(output: str, applied: list[str], begun: str) -> None:
    """Those that ended, and the one that did not."""
    assert django.migrations(output) == (applied, begun)
