"""The survey's answer read into a HostState: whatever a host says, a state or StepFailed."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.errors import StepFailed
from fabfile.plan.state import HostState, ReleaseState, parse

ANSWER = [
    "now 1767225600",
    "missing the program doppler",
    "app link",
    "live /srv/consult/releases/20260102T000000Z-abcdef1",
    "disk 1000000",
    "inodes 5000",
    'release 20260102T000000Z-abcdef1 -,built,good {"commit": "abcdef1", "branch": "main", "fingerprint": "f0"}',
    "release 20260101T000000Z-abcdef0 -,built,good,bad",
    "file 1234abcd /etc/systemd/system/consult-django.service",
    'frozen {"who": "ana"}',
    "service active",
    "socket active",
    "nginx failed",
    "master 4711",
    "worker 4712 20260102T000000Z-abcdef1",
    "worker 4713 20260101T000000Z-abcdef0",
]


def test_every_line_has_its_place() -> None:
    """Each line of the survey becomes one field of the state."""
    state = parse(ANSWER)
    assert (state.now, state.disk_free, state.inodes_free, state.master) == (1767225600, 1000000, 5000, 4711)
    assert (state.service, state.socket, state.nginx, state.app_is) == ("active", "active", "failed", "link")
    assert state.live == "20260102T000000Z-abcdef1"
    assert [release.id for release in state.releases] == ["20260101T000000Z-abcdef0", "20260102T000000Z-abcdef1"]
    assert state.live_release == ReleaseState(
        "20260102T000000Z-abcdef1", built=True, good=True, commit="abcdef1", branch="main", fingerprint="f0"
    )
    assert state.files == {"/etc/systemd/system/consult-django.service": "1234abcd"}
    assert state.workers == {4712: "20260102T000000Z-abcdef1", 4713: "20260101T000000Z-abcdef0"}
    assert state.frozen == '{"who": "ana"}'
    assert state.missing == ("the program doppler",)


def test_what_a_newer_host_says_more_is_no_trouble() -> None:
    """Unknown lines are passed over."""
    assert parse([*ANSWER, "weather sunny", "", "loose"]) == parse(ANSWER)


@pytest.mark.parametrize("key", ["now", "disk", "inodes"])
@pytest.mark.parametrize("value", [None, "", "many", "1.5", "9" * 5000])
def test_an_answer_without_its_numbers_makes_no_sense(key: str, value: str | None) -> None:
    """A survey that was cut is an error of exit 5, not a host with no space."""
    lines = [line for line in ANSWER if not line.startswith(f"{key} ")]
    with pytest.raises(StepFailed, match="makes no sense"):
        parse([*lines, *([] if value is None else [f"{key} {value}"])])


def read(lines: list[str]) -> None:
    """Parse; only StepFailed may come instead of a state, which every verb can then ask."""
    try:
        state = parse(lines)
    except StepFailed:
        return
    assert isinstance(state, HostState)
    state.before_live()
    assert isinstance(state.serves_live, bool)
    assert all(isinstance(text, str) for release in state.releases for text in (release.commit, release.branch))


@given(st.binary(max_size=300), st.integers(0, 2000), st.integers(0, 2000))
def test_an_answer_that_was_cut_or_overwritten(noise: bytes, start: int, end: int) -> None:
    """Any part of the answer may be missing or be anything else."""
    whole = "\n".join(ANSWER).encode()
    read((whole[:start] + noise + whole[end:]).decode(errors="replace").splitlines())


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["release", "worker", "file", "now", "disk", "inodes", "master", "live", "missing", "frozen", ""]
            ),
            st.text() | st.integers().map(str) | st.lists(st.none() | st.floats() | st.text()).map(json.dumps),
        ).map(" ".join)
    )
)
def test_hostile_lines(lines: list[str]) -> None:
    """Known words with anything behind them."""
    read([*ANSWER, *lines])
    read(lines)


@pytest.mark.parametrize(
    "notes",
    [
        "[" * 100_000,
        "{",
        "[]",
        "null",
        "NaN",
        '{"commit": null}',
        '{"commit": ["x"]}',
        '{"commit": {"a": 1}}',
        "\ud800",
    ],
)
def test_notes_that_cannot_be_read_leave_the_release(notes: str) -> None:
    """A release whose release.json was cut is still there, with its marks."""
    release = parse([*ANSWER, f"release 20260103T000000Z-abcdef2 -,built {notes}"]).release("20260103T000000Z-abcdef2")
    assert release
    assert release.built
    assert not release.good


def some(*releases: str, live: str = "3") -> HostState:
    """A state with releases written as `id:marks`."""
    made = []
    for text in releases:
        name, _, marks = text.partition(":")
        made.append(ReleaseState(name, built="u" in marks, good="g" in marks, bad="b" in marks, left="l" in marks))
    return HostState(live=live, releases=tuple(made))


@pytest.mark.parametrize(
    ("state", "before"),
    [
        (some("1:ug", "2:ug", "3:ug"), "2"),
        (some("2:ug", "1:ug", "3:ug"), "2"),
        (some("1:ug", "2:ugb", "3:ug"), "1"),
        (some("1:ug", "2:u", "3:ug"), "1"),
        (some("1:ug", "2:ugl", "3:ug"), "1"),
        (some("1:ugl", "2:ugl", "3:ug"), None),
        (some("1:ug", "2:g", "3:ug"), "1"),
        (some("1:ug", "3:ug", "4:ug"), "1"),
        (some("1:ug", "2:ug", live="2"), "1"),
        (some("3:ug"), None),
        (some("3:ug", "4:ug"), None),
        (some("1:b", "2:", "3:ug"), None),
        (some("1:ug", "2:ug", live=""), None),
        (some(), None),
        (some("1:ug", "2:ug"), "2"),  # the live link leads to a release that is no longer there
    ],
)
def test_rollback_goes_to_the_newest_good_release_before_the_live_one(state: HostState, before: str | None) -> None:
    """By the order of the ids, never to one that is bad, half-made, rolled back from, or newer than the live one."""
    found = state.before_live()
    assert (found.id if found else None) == before


@pytest.mark.parametrize(
    ("changes", "serves"),
    [
        ({}, True),
        ({"service": "failed"}, False),
        ({"service": "activating"}, False),
        ({"socket": "inactive"}, False),
        ({"workers": {}}, False),
        ({"workers": {1: "3", 2: "2"}}, False),
        ({"workers": {1: "2"}}, False),
        ({"live": ""}, False),
        ({"nginx": "failed"}, True),
    ],
)
def test_the_live_release_is_served_by_all_workers(changes: dict, serves: bool) -> None:
    """`nothing to do` needs a service that runs, a socket that listens, and every worker of the live release."""
    state = HostState(live="3", service="active", socket="active", workers={1: "3", 2: "3"})
    assert dataclasses.replace(state, **changes).serves_live is serves
