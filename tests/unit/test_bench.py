"""The bench's own arithmetic: groups of steps, medians, ratios, tables; and what it makes. Nothing is timed here."""

import ast
import io
import json
import socket
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen, run

import pytest

from testbed.bench import contestants, growth, real_app
from testbed.bench.figures import GROUP_OF, GROUPS, Run, breakdown, grid, group_of, groups_table, ratio, rows, table
from testbed.bench.relay import HERE, way
from testbed.harness import followed
from testbed.lab import LabHost
from tests.unit.test_sequence import IDS


def test_every_step_belongs_to_a_group() -> None:
    """No second of a run is left out because a step is new; and no step is in two groups."""
    assert {step_id for step_id in IDS if group_of(step_id) in GROUPS} == IDS
    assert sum(map(len, GROUPS.values())) == len(GROUP_OF)
    assert {step_id.replace("_N", "_1") for step_id in GROUP_OF} == IDS


def test_commands_of_hosts_toml_go_by_their_setting() -> None:
    """The twelfth is in the same group as the first."""
    assert [group_of(f"{when}_12") for when in ("build", "before_switch", "after_switch")] == [
        "build",
        "migrate",
        "switch",
    ]


def test_an_unknown_step_is_told() -> None:
    """A step without a group must not become a part of the rest in silence."""
    with pytest.raises(KeyError):
        group_of("dance")


TIMING = {
    "read_the_host": 0.1,
    "fetch_the_repository": 0.2,
    "build_the_virtualenv": 1.0,
    "check_the_site": 0.1,
    "record_the_deploy": 0.05,
    "prune_old_releases": 0.05,
    "total": 9.9,
}
LINES = [
    (0.9, "  Read the host                                  0.10 s  ok"),
    (1.1, "  Fetch the repository                           0.20 s  ok"),
    (1.15, "  main is abc1234 took 1.00 s"),
    (2.3, "  Build the virtualenv                           1.00 s  ok"),
    (2.4, "  Check the site                                 0.10 s  ok"),
    (2.75, "  Record the deploy                              0.05 s  ok"),
    (2.8, "  Prune old releases                             0.05 s  ok"),
    (2.81, "abc is live (hup)"),
]


def test_every_second_of_a_run_is_in_a_group() -> None:
    """Steps by their ids; before the first is the way there, before the record the watch; what is left, the rest."""
    found = breakdown(TIMING, LINES, 3.0)
    assert sum(found.values()) == pytest.approx(3.0)
    expected = {"connect": 0.8, "read": 0.1, "fetch": 0.2, "build": 1.0, "watch": 0.1 + 0.3, "rest": 0.5}
    assert {group: spent for group, spent in found.items() if spent} == pytest.approx(expected)


def test_lines_that_do_not_fit_the_steps_say_nothing() -> None:
    """A step that ran twice has one time and two lines: all that is no step is then the rest."""
    found = breakdown(TIMING, LINES + LINES[:1], 3.0)
    assert (found["connect"], found["watch"]) == (0, 0.1)
    assert sum(found.values()) == pytest.approx(3.0)


def ran(contestant: str, number: int, seconds: float, *, execs: int | None = None, **groups: float) -> Run:
    return Run("sample", 50, "code", contestant, number, seconds, 0.5, 60, 1, 1500, 2500, execs, execs, groups)


BARE = [ran("bare", 0, 60, execs=1), ran("bare", 1, 2), ran("bare", 2, 4), ran("bare", 3, 20)]
OURS = [
    ran("fab", 0, 90, execs=3, build=9),
    ran("fab", 1, 3, build=1),
    ran("fab", 2, 8, build=2),
    ran("fab", 3, 30, build=3),
]


def test_a_ratio_is_that_of_neighbours() -> None:
    """1.5, 2 and 1.5 times: one slow minute of the machine is in both, and does not count."""
    assert ratio(OURS[1:], BARE[1:]) == 1.5
    assert ratio(OURS[1:], BARE[3:]) == 1.5
    assert ratio(OURS[1:], []) is None


def test_a_row_has_the_medians_of_the_timed_runs() -> None:
    """The round that warms caches has no part in them, but what sshd counted in it is told."""
    bare, ours = rows([run for pair in zip(BARE, OURS, strict=True) for run in pair])
    assert (bare.contestant, bare.seconds, bare.ratio, bare.execs, bare.runs) == ("bare", 4, 1, 1, 3)
    assert (ours.seconds, ours.fastest, ours.slowest, ours.ratio) == (8, 3, 30, 1.5)
    assert (ours.execs, ours.channels, ours.groups, ours.sent_kb) == (3, 3, {"build": 2}, 2)


def test_what_only_warmed_up_has_no_row() -> None:
    """A bench that was ended early tells of what was timed."""
    assert rows([BARE[0], *OURS]) == rows(OURS)


def test_a_table_is_markdown() -> None:
    """Columns are aligned, numbers to the right; what nobody counted is -."""
    assert grid(["by", "s", "x"], [["bare", 2.5, None], ["us", 10, 3.0]]) == [
        "| by   |    s |    x |",
        "| ---- | ---: | ---: |",
        "| bare | 2.50 |    - |",
        "| us   |   10 | 3.00 |",
    ]
    found = rows([*BARE, *OURS])
    assert len(table(found)) == 2 + 2
    assert len({line.count("|") for line in table(found)}) == 1
    assert groups_table([row for row in found if not row.groups]) == []


def echo_once(listener: socket.socket) -> None:
    """Send the first bytes of a visitor back, and wait until it goes."""
    there, _ = listener.accept()
    with there:
        there.sendall(there.recv(100))
        while there.recv(100):
            pass


@pytest.mark.parametrize("rtt", [0, 10])
def test_a_relay_passes_on_and_counts(tmp_path: Path, rtt: int) -> None:
    """What was sent and received is told, and then counted anew; whoever is still there is hung up on."""
    (tmp_path / "known").write_text("127.0.0.1 ssh-ed25519 AAAA\n")
    host = LabHost("bench", HERE, tmp_path / "key", tmp_path / "known", tmp_path, "", 0, "")
    with socket.create_server((HERE, 0)) as listener:
        threading.Thread(target=echo_once, args=(listener,), daemon=True).start()
        with way(host, rtt, tmp_path, listener.getsockname()[1]) as found:
            assert found.known_hosts.read_text() == f"[{HERE}]:{found.port} ssh-ed25519 AAAA\n"
            with socket.create_connection((HERE, found.port), 10) as here:
                here.sendall(b"hello")
                assert here.recv(100) == b"hello"
                assert found.count() == {"connections": 1, "sent": 5, "received": 5}
                assert here.recv(100) == b""
            assert found.count() == {"connections": 0, "sent": 0, "received": 0}


def test_a_command_is_weighed(tmp_path: Path) -> None:
    """Its exit code is passed on; seconds and memory are its own."""
    report = tmp_path / "report"
    done = run(
        [*contestants.USAGE, report, sys.executable, "-c", "x = bytes(range(256)) * 2**18; exit(7)"], check=False
    )
    found = json.loads(report.read_text())
    assert done.returncode == 7
    assert 64 < found["memory_mb"] < 640
    assert found["seconds"] > 0
    assert found["cpu"] > 0


def test_the_real_app_has_its_size() -> None:
    """100 templates, 500 static files, 80 migrations in one line; and all of its Python is Python."""
    files = real_app.files()
    counts = {kind: sum(f"/{kind}/" in path for path in files) for kind in ("templates", "static")}
    assert counts == {"templates": 100, "static": 500}
    made = [name for name, _ in real_app.migrations()]
    assert len(set(made)) == 80
    for (_, text), before in zip(real_app.migrations()[1:], made, strict=False):
        assert f'("shop", "{before}")' in text
    for path, text in files.items():
        if path.endswith(".py"):
            ast.parse(text)


def test_only_this_tool_and_the_script_go_back() -> None:
    """pyinfra and Ansible are asked for what they can."""
    everybody = list(contestants.DEPLOYS)
    assert contestants.contestants("code", everybody) == everybody
    assert contestants.contestants("rollback", everybody) == ["bare", "fab"]
    assert contestants.contestants("status", ["ansible"]) == []
    assert contestants.contestants("login", everybody) == ["ssh true"]


def test_growth_is_told_for_whole_pairs() -> None:
    """A pair that has only one of its sizes is left out; medians again, and seconds."""
    pair = growth.PAIRS["static"]
    runs = [
        replace(ran(name, number, each), app=growth.named("static", size))
        for size, more in ((pair.small, 0), (pair.large, 5))
        for name, begin in (("bare", 1), ("fab", 2))
        for number, each in enumerate((99, begin + more, begin + more))
    ]
    assert len(growth.table(runs)) == 2 + 1
    assert list(growth.lines(runs)) == [["static files", 10, 10_000, 1, 6, 5, 2, 7, 5]]
    assert growth.table(runs[:6]) == []


def test_a_made_package_is_a_wheel() -> None:
    """uv installs it: it has its modules, and names itself."""
    with zipfile.ZipFile(io.BytesIO(growth.wheel("bench_package_1"))) as archive:
        assert "Name: bench_package_1\n" in archive.read("bench_package_1-1.0.dist-info/METADATA").decode()
        assert len([name for name in archive.namelist() if name.endswith(".py")]) == growth.MODULES + 1


def test_what_a_command_says_is_heard_when_it_says_it() -> None:
    """Its document and its lines for people come apart, each line with its moment."""
    code = "import sys; print('{}'); print('one', file=sys.stderr); print('two', file=sys.stderr); sys.exit(3)"
    process = Popen([sys.executable, "-c", code], stdout=PIPE, stderr=PIPE, text=True)
    ended, out, lines = followed(process)
    assert (ended, out, [line for _, line in lines]) == (3, "{}\n", ["one\n", "two\n"])
    assert lines[0][0] <= lines[1][0]
