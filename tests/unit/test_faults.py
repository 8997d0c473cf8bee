"""`just faults`: what it breaks, and what it takes for a broken promise."""

import pytest

from testbed.faults import LAST_CHECK, RIGHTS, SCENARIOS, Cell, TracedStep, broken_promise

TRACED = ["prepare", RIGHTS, "build_1", "before_switch_1", "switch", LAST_CHECK, "after_switch_1", "put_back"]


def traced(step_id: str, *, live: bool = False) -> TracedStep:
    return TracedStep(step_id, step_id, live, seconds=0.1, commands=1)


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("deploy", TRACED),
        ("files", TRACED[1:]),
        ("way-back", TRACED[6:]),
        ("commands", ["build_1", "before_switch_1", "after_switch_1"]),
    ],
)
def test_a_scenario_breaks_what_it_is_about(scenario: str, expected: list[str]) -> None:
    """All of its steps, those from one on, or those of a kind."""
    assert [step.id for step in SCENARIOS[scenario].steps([traced(each) for each in TRACED])] == expected


def test_a_step_that_is_missing_is_no_empty_row() -> None:
    """A scenario whose first step was renamed would break nothing, and hold."""
    with pytest.raises(ValueError, match=RIGHTS):
        SCENARIOS["files"].steps([traced("prepare")])


@pytest.mark.parametrize(
    ("scenario", "step", "fault", "code", "served", "trouble"),
    [
        ("deploy", "prepare", "fail", 5, "old", ""),
        ("deploy", "prepare", "fail", 5, "new", "exit 5, and the new release is live"),
        ("deploy", "prepare", "fail", 0, "new", "exit 0, not 5"),
        ("deploy", "prepare", "renewal", 0, "new", ""),
        ("deploy", "prepare", "renewal", 0, "old", "exit 0, and the old release is live"),
        ("deploy", "prepare", "renewal", 5, "old", "exit 5, not 0"),
        ("commands", "after_switch_1", "fail", 8, "new", ""),
        ("commands", "after_switch_1", "fail", 8, "old", "exit 8, and the old release is live"),
        ("commands", "after_switch_1", "killed", 6, "old", "exit 6, not 8"),
        ("commands", "before_switch_1", "fail", 5, "old", ""),
        ("secret", "set_the_secret", "fail", 5, "same", ""),
        ("secret", "set_the_secret", "blip", 0, "same", ""),
        ("opened", LAST_CHECK, "fail", 5, "same", ""),
        ("secret", LAST_CHECK, "fail", 6, "same", ""),
        ("closed", "close_the_site", "sigint", 130, "same", ""),
        ("closed", "close_the_site", "cut", 3, "v7", "v7 is live, neither the old nor the new version"),
        ("way-back", "put_back", "fail", 6, "old", ""),
        ("way-back", "put_back", "fail", 5, "old", "exit 5, not 6"),
    ],
)
def test_what_must_hold(scenario: str, step: str, fault: str, code: int, served: str, trouble: str) -> None:
    """By exit code and by what is live; where nothing new goes live, both sides are the same."""
    cell = Cell(scenario, traced(step, live=step == LAST_CHECK), fault)
    assert broken_promise(cell, code, served, {}) == trouble
