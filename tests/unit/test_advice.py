"""What a failed step's output comes to: one line that says why, and the next command."""

import pytest

from fabfile.output import advice
from fabfile.ssh.runner import StepError
from fabfile.steps import django
from fabfile.steps.step import Step, StepEnd

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
HEALTH = "curl: (28) Operation timed out\n/healthz answered 503, not 200:\n{}\nits log:\n[INFO] Booting worker\n"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (DJANGO, 'django.db.utils.ProgrammingError: relation "nowhere" does not exist'),
        (UV, "error: Failed to download `a==1`"),
        (GIT, "fatal: unable to connect to 127.0.0.1: 127.0.0.1[0: 127.0.0.1]: errno=Connection refused"),
        (NGINX, '[emerg] 1#1: unknown directive "x" in /etc/nginx/sites-enabled/b:1'),
        (HEALTH, "/healthz answered 503, not 200: {}"),
        ("error: unable to write file a\nfatal: Could not reset index file.\n", "error: unable to write file a"),
        ("one\n\ntwo\n\n", "two"),
        ("", ""),
        (f"error: {'x' * 999}", f"error: {'x' * 293}"),
    ],
)
def test_the_reason_is_the_line_that_says_most(output: str, reason: str) -> None:
    """Of a traceback the exception, of a program its verdict, else the last line; never longer than a message bears."""
    assert advice.reason(output) == reason


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("tar: a: Cannot write: No space left on device", "make room on the disk of api"),
        ("Doppler Error: Invalid Service token", "fab -H api provision"),
        ("deploy may not run this as root: /usr/bin/systemctl", "fab -H api provision"),
        (UV, "api reaches the package index"),
        (NGINX, "the file that nginx names"),
        ("nothing that anybody knows", "the same command again"),
    ],
)
def test_every_output_has_a_next_command(output: str, words: str) -> None:
    """The next command names the host where it needs one."""
    assert words in advice.next_command("api", output)


def test_the_error_of_a_step_tells_all() -> None:
    """Title, exit code, reason, hint; what had gone well before, and what was done about it."""
    first, second, third = (Step(title, "") for title in ("First", "Second", "Put it back"))
    ends = [StepEnd(first, 0, "", 0.1), StepEnd(second, 2, "error: so it is", 0.1), StepEnd(third, 0, "", 0.1)]
    error = StepError("api", ends)
    assert error.message == "Second: failed (exit 2): error: so it is"
    assert (error.before, error.end, error.rescue) == ((ends[0],), ends[1], (ends[2],))
    late = StepError("api", [StepEnd(Step("Slow", "", timeout=7), 124, "error: ended", 7.0)])
    assert late.message == "Slow: failed (took longer than 7 s and was ended)"
    assert "timeouts in hosts.toml" in late.hint


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
