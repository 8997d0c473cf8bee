"""Which lines `logs` asks for."""

import pytest

from fabfile.commands.logs import wanted
from fabfile.config.layout import Layout
from fabfile.plan import services
from fabfile.steps import logs
from fabfile.steps.logs import Lines
from testbed.sample import sample


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("1h", "-1h"), ("30m", "-30m"), ("30 min", "-30 min"), ("2d", "-2d"), (" 5s ", "-5s"), ("-1h", "-1h"),
        ("10 min ago", "10 min ago"), ("yesterday", "yesterday"), ("2026-11-26 10:00", "2026-11-26 10:00"),
        ("1h; reboot", "1h; reboot"), ("", ""),
    ],
)  # fmt: skip
def test_a_time_that_has_gone_by_is_short(given: str, asked: str) -> None:
    """journalctl takes 1h for a time to come; all else is its own business."""
    assert wanted(0, given, "").since == asked


def test_how_many_lines() -> None:
    """50, more with --since, and as many as are asked for."""
    assert [wanted(0, "", "").count, wanted(0, "1h", "").count, wanted(7, "1h", "x").count] == [50, 5000, 7]


def test_a_journal_is_followed_by_time_and_text() -> None:
    """The text is a pattern of nothing else, without regard to capitals."""
    web = services.web(Layout.of(sample()))
    words = logs.follow(web, Lines(5, "-1h", "a.b"))
    assert words[-6:] == ["--follow", "--since", "-1h", "--grep", "a\\.b", "--case-sensitive=no"]
    assert logs.follow(web, Lines(5))[-1] == "--follow"
