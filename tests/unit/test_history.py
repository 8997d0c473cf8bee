"""The history as a person reads it."""

import pytest
from pytest_mock import MockerFixture

from fabfile.commands import history
from fabfile.config.inventory import Host
from fabfile.output.console import Console
from fabfile.output.outcome import Outcome
from fabfile.session.run import Run
from testbed.sample import sample

LIVE = (
    '{"at": "2026-11-26T10:00:59+00:00", "by": "ana@desk", "verb": "deploy", "release": "20261126T100000Z-abc1234", '
    '"branch": "main", "activation": "hup", "outcome": "live", "seconds": 4.2}'
)
FAILED = (
    '{"at": "2026-11-26T11:00:00+00:00", "by": "ci", "verb": "rollback", "release": "r2", "branch": null, '
    '"activation": null, "outcome": "Build: failed\\u001b[31m\\nmore", "seconds": 12.0}'
)


def told(said: str, mocker: MockerFixture, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], Run]:
    """The rows of a history, and its run."""
    connect = mocker.patch.object(history, "connect")
    runner = connect.return_value.__enter__.return_value.runner.return_value.__enter__.return_value
    runner.run.return_value.output.return_value = said
    run = Run(Host("web", "test", sample()), Console(), Outcome("history", server="web"))
    history.history(run, 20)
    return capsys.readouterr().out.splitlines(), run


def test_a_history_is_a_table(mocker: MockerFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """Who, what, when, how long, how it ended: a line each, and half a line of a run that was cut is left out."""
    rows, run = told(f"{LIVE}\n{LIVE[:50]}\n{FAILED}\n[1]", mocker, capsys)
    assert rows == [
        "  when (UTC)        who       verb      branch  release                   seconds  how it ended",
        "  2026-11-26 10:00  ana@desk  deploy    main    20261126T100000Z-abc1234  4.2      live (hup)",
        "  2026-11-26 11:00  ci        rollback  -       r2                        12.0     Build: failed\ufffd[31m",
    ]
    assert [entry["verb"] for entry in run.outcome.details["history"]] == ["deploy", "rollback"]


def test_a_long_failure_is_cut(mocker: MockerFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """A row stays a row; the whole of it is in the document."""
    rows, run = told(FAILED.replace("Build", "B" * 500), mocker, capsys)
    assert rows[1].endswith(" " + "B" * 100)
    assert run.outcome.details["history"][0]["outcome"].startswith("B" * 500)


@pytest.mark.parametrize("said", ["", "{", "{}"])
def test_a_history_of_nothing(said: str, mocker: MockerFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """Told as such; a line without anything in it is no entry."""
    rows, _ = told(said, mocker, capsys)
    assert rows == ["web: nothing was deployed yet"]
