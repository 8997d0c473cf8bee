"""Steps that read logs: which lines, in which order."""

from pathlib import PurePosixPath

import pytest

from fabfile.plan import services
from fabfile.steps import logs
from fabfile.steps.logs import Lines
from fabfile.steps.step import Step
from tests.host.local_host import HOSTILE, World

ACCESS = '192.0.2.1 - - [26/Nov/2026:10:00:{second:02d} +0000] "GET /{path} HTTP/1.1" 200 5 "-" "curl"\n'
ERROR = "2026/11/26 10:00:{second:02d} [error] 7#7: {what}\n"


@pytest.fixture(autouse=True)
def here(world: World) -> None:
    """A host whose clock is that of its logs."""
    world.override("export TZ=UTC")


def nginx_log(world: World, lines: Lines) -> list[str]:
    """What is read of the two logs below the world's root."""
    parameters = logs.nginx_log(world.layout, lines).parameters
    files = [PurePosixPath(world.root, name) for name in ("access.log", "error.log")]
    return world.output(Step("read", "Read", "read_nginx_log", {**parameters, "files": files})).splitlines()


def write(world: World) -> None:
    """Requests and errors that take turns, the first request in the log of the day before."""
    (world.root / "access.log.1").write_text(ACCESS.format(second=1, path="first"))
    requests = [ACCESS.format(second=second, path=f"at-{second}") for second in (3, 5, 7)]
    (world.root / "access.log").write_text("".join(requests))
    (world.root / "error.log").write_text(
        ERROR.format(second=4, what="upstream timed out") + "and more of it\n" + ERROR.format(second=6, what="No Route")
    )


def test_requests_and_errors_stand_in_the_order_of_their_times(world: World) -> None:
    """The newest lines of both; what has no time stays behind the line before."""
    write(world)
    lines = nginx_log(world, Lines(5))
    assert [line.split()[-1] for line in lines] == ["out", "it", '"curl"', "Route", '"curl"']
    assert "at-5" in lines[2]


def test_lines_of_nginx_are_asked_for_by_time_and_text(world: World) -> None:
    """None older than since, of the log of the day before too; text is text, in capitals or not."""
    write(world)
    at = "1795687203"  # 2026-11-26 10:00:03 UTC
    world.stub("systemd-analyze", f'[ "$*" = "timestamp -- -1h" ] && echo "   UNIX seconds: @{at}.5"')
    assert [line.split()[-1] for line in nginx_log(world, Lines(50, "-1h"))][:2] == ['"curl"', "out"]
    assert len(nginx_log(world, Lines(50, "", "get /"))) == 4
    assert nginx_log(world, Lines(50, "", "no route")) == [ERROR.format(second=6, what="No Route").strip()]
    assert nginx_log(world, Lines(50, "", "n. route")) == []
    assert nginx_log(world, Lines(50, "", HOSTILE)) == []
    assert not world.bait()


def test_a_log_that_may_not_be_read_is_told(world: World) -> None:
    """With who may not, and what mends it; one that is not there yet is none."""
    assert nginx_log(world, Lines(5)) == []
    write(world)
    world.override('[() { [[ $1 != -r ]] && builtin [ "$@"; }')
    assert "may not read it; fab -H NAME provision" in nginx_log(world, Lines(5))[0]


def test_lines_of_the_journal_are_asked_for_by_time_and_text(world: World) -> None:
    """journalctl gets the time as it is, and the text as a pattern of nothing else; the newest line stays last."""
    world.stub("journalctl", "echo newest; echo oldest")
    said = world.output(logs.journal(services.web(world.layout), Lines(7, "10 min ago", "a.b")))
    (call,) = world.calls
    assert call == (
        "journalctl --no-pager --output short-iso --lines 7 --unit consult-django.service --since 10 min ago "
        "--grep a\\.b --case-sensitive=no --reverse"
    )
    assert said.splitlines() == ["oldest", "newest"]
    world.output(logs.journal(services.web(world.layout), Lines(7)))
    assert world.calls == ["journalctl --no-pager --output short-iso --lines 7 --unit consult-django.service"]
