"""The bench's arithmetic: where a run's seconds went, medians, ratios, tables. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

BARE, OURS = "bare", "fab"
# What the steps of a run are for, by their ids in `timing`. What is no step is told by where it lies: before the first
# one is `connect` (Python's start and the login), before the last two is `watch` (the site has to answer five times in
# a row), and anything else is `rest`.
GROUPS: dict[str, tuple[str, ...]] = {
    "connect": ("confirm_the_logins",),
    "read": (
        *("read_the_host", "see_who_works_on_it", "look_at_the_site", "read_the_journal", "read_nginx_s_error_log"),
        *("see_what_nginx_says", "see_the_time", "read_the_history", "read_the_site_s_nginx_logs"),
        *("follow_the_site_s_nginx_logs", "list_the_secrets", "look_at_the_secrets", "find_the_live_release"),
        *("look_for_edited_files", "compare_the_files", "look_at_the_server", "read_how_far_it_is", "read_the_server"),
        *("look_what_goes", "compare_the_commits"),
    ),
    "fetch": ("fetch_the_repository", "reach_the_repository"),
    "build": ("lay_out_the_release", "build_the_virtualenv", "build_N", "remove_the_unfinished_release"),
    "prove": (
        *("start_the_new_release_on_a_private_socket", "prove_that_it_boots", "prove_that_its_data_outlives_it"),
        *("prove_that_its_commands_can_start", "prove_that_workers_and_timers_can_start", "prove_that_it_is_healthy"),
        *("compare_it_with_the_running_gunicorn", "prove_that_visitors_get_in", "stop_the_private_socket"),
    ),
    "static": ("collect_the_static_files",),
    "migrate": ("migrate_the_database", "migrate_what_breaks_nothing", "before_switch_N"),
    "switch": (
        *("ask_sudo_for_the_rights_it_needs", "stage_the_changed_files", "install_the_changed_files"),
        *("mark_the_release_as_whole", "mark_the_release_as_good", "reload_nginx", "after_switch_N"),
        *("switch_to_the_new_release_hup", "switch_to_the_new_release_restart", "switch_to_the_new_release_start"),
        "switch_to_the_new_release_hold",
        *("reload_gunicorn_hup", "restart_gunicorn_behind_its_socket", "start_gunicorn"),
        *("put_the_old_release_back", "put_everything_back"),
    ),
    "workers": ("see_only_new_workers_answer", "bring_workers_and_timers_to_it"),
    "watch": ("check_the_site",),
    "rest": (
        *("record_the_deploy", "prune_old_releases", "lock_the_host", "unlock_the_host", "put_the_file_in_place"),
        *("change_the_secret", "replace_the_token", "close_the_site", "let_requests_wait", "open_the_site"),
        *("run_the_command", "end_the_command", "remove_the_app"),
        # provision
        *("install_the_packages", "install_uv", "install_the_doppler_cli", "make_the_user", "keep_the_logins"),
        *("put_the_logins_back", "make_the_folders", "write_the_doppler_token", "make_the_secrets_file"),
        *("grant_the_exact_sudo_rights", "prepare_the_certificate", "install_the_units_and_the_nginx_site"),
        *("obtain_the_certificate", "forget_the_certificate"),
        # adopt
        *("take_the_secrets_over", "keep_what_is_there", "save_local_changes", "take_the_commit_over"),
        *("keep_its_static_files", "make_it_current", "note_that_it_begins", "show_the_certificate_of_before"),
        *("move_the_uploads", "start_a_second_website", "lead_visitors_to_the_second", "stop_the_old_website"),
        *("start_the_website", "lead_visitors_to_the_website", "end_the_second_website"),
        *("take_the_old_rights_away", "note_that_it_is_adopted", "start_the_old_website"),
        *("bring_the_old_site_back", "bring_the_rest_back"),
    ),
}
GROUP_OF = {step_id: group for group, ids in GROUPS.items() for step_id in ids}
STEP_ENDED = re.compile(r"  \S.* +\d+\.\d\d s  (ok|FAILED)\s*")
RECORD = "record_the_deploy"


@dataclass(frozen=True)
class Run:
    """One command of one contestant. `cpu` seconds and `memory_mb` are of its processes on the operator's machine.

    `number` says which runs stood side by side. `execs` and `channels` are what sshd counted, where it was asked.
    """

    app: str
    rtt: int
    scenario: str
    contestant: str
    number: int
    seconds: float
    cpu: float
    memory_mb: float
    connections: int
    sent: int
    received: int
    execs: int | None = None
    channels: int | None = None
    groups: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """The medians of a contestant's runs; `ratio` is to the bare script, `kb` of 1000 bytes each way."""

    app: str
    rtt: int
    scenario: str
    contestant: str
    runs: int
    seconds: float
    fastest: float
    slowest: float
    ratio: float | None
    cpu: float
    memory_mb: float
    connections: int
    execs: int | None
    channels: int | None
    sent_kb: int
    received_kb: int
    groups: Mapping[str, float] = field(default_factory=dict)


def group_of(step_id: str) -> str:
    """The group of a step; a command of hosts.toml goes by its setting. Raises KeyError for one that has none."""
    return GROUP_OF[re.sub(r"_\d+$", "_N", step_id)]


def breakdown(timing: Mapping[str, float], lines: Sequence[tuple[float, str]], seconds: float) -> dict[str, float]:
    """Where the seconds of a run went, by group; their sum is `seconds`.

    `timing` is that of the JSON document; `lines` are what was told to people, with the seconds since the start.
    """
    steps = {step_id: spent for step_id, spent in timing.items() if step_id != "total"}
    found = dict.fromkeys(GROUPS, 0.0)
    for step_id, spent in steps.items():
        found[group_of(step_id)] += spent
    ends = [at for at, line in lines if STEP_ENDED.fullmatch(line)]
    if len(ends) == len(steps):  # else one ran twice, and nobody can tell which line is whose
        before = 0.0
        for number, (end, (step_id, spent)) in enumerate(zip(ends, steps.items(), strict=True)):
            gap = max(end - spent - before, 0.0)
            if number == 0:
                found["connect"] += gap
            elif step_id == RECORD:
                found["watch"] += gap
            before = end
    found["rest"] += seconds - sum(found.values())
    return {group: round(spent, 3) for group, spent in found.items()}


def ratio(runs: Iterable[Run], others: Iterable[Run]) -> float | None:
    """By how much `runs` took longer than `others`: the median of the ratios of those that stood side by side.

    Not the ratio of the medians: what else the machine does hits two neighbours alike, and so does not count.
    """
    seconds = {run.number: run.seconds for run in others}
    ratios = [run.seconds / seconds[run.number] for run in runs if run.number in seconds]
    return round(median(ratios), 2) if ratios else None


def rows(runs: Sequence[Run]) -> list[Row]:
    """A row for each contestant in each scenario, in the order in which they first ran.

    Runs with the number 0 are not timed: they warm caches, and what sshd counted is theirs.
    """
    cells: dict[tuple[str, int, str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.app, run.rtt, run.scenario, run.contestant), []).append(run)
    order = {cell[2:]: number for number, cell in reversed(list(enumerate(cells)))}
    apps = list(dict.fromkeys(cell[0] for cell in cells))
    return [
        row(cells[cell], cells.get((*cell[:3], BARE), []))
        for cell in sorted(cells, key=lambda cell: (apps.index(cell[0]), cell[1], order[cell[2:]]))
        if any(run.number for run in cells[cell])
    ]


def row(runs: Sequence[Run], bare: Sequence[Run]) -> Row:
    """The medians of these runs."""
    first = runs[0]
    timed = [run for run in runs if run.number]
    counted = next((run for run in runs if run.execs is not None), first)
    seconds = [run.seconds for run in timed]
    groups = timed[0].groups
    return Row(
        *(first.app, first.rtt, first.scenario, first.contestant, len(timed)),
        seconds=round(median(seconds), 2),
        fastest=round(min(seconds), 2),
        slowest=round(max(seconds), 2),
        ratio=ratio(timed, [run for run in bare if run.number]),
        cpu=round(median(run.cpu for run in timed), 2),
        memory_mb=round(median(run.memory_mb for run in timed)),
        connections=round(median(run.connections for run in timed)),
        execs=counted.execs,
        channels=counted.channels,
        sent_kb=round(median(run.sent for run in timed) / 1000),
        received_kb=round(median(run.received for run in timed) / 1000),
        groups={group: round(median(run.groups[group] for run in timed), 2) for group in groups},
    )


HEADINGS = {
    "app": "app",
    "rtt": "rtt ms",
    "scenario": "scenario",
    "contestant": "by",
    "seconds": "s",
    "fastest": "fastest",
    "slowest": "slowest",
    "ratio": "x bare",
    "cpu": "cpu s",
    "memory_mb": "MB",
    "connections": "conns",
    "execs": "execs",
    "channels": "channels",
    "sent_kb": "kB out",
    "received_kb": "kB in",
}


def table(found: Sequence[Row]) -> list[str]:
    """Lines of a Markdown table of the rows."""
    return grid(list(HEADINGS.values()), [[asdict(row)[name] for name in HEADINGS] for row in found])


def groups_table(found: Sequence[Row]) -> list[str]:
    """Lines of a Markdown table of where this tool's seconds went."""
    rows = [row for row in found if row.groups]
    cells = [[row.app, row.rtt, row.scenario, row.seconds, *row.groups.values()] for row in rows]
    return grid(["app", "rtt ms", "scenario", "s", *GROUPS], cells) if rows else []


def grid(headings: Sequence[str], cells: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a Markdown table, its columns aligned; numbers to the right, and - where there is none."""
    texts = [[shown(value) for value in line] for line in cells]
    widths = [max(2, *map(len, column)) for column in zip(headings, *texts, strict=True)]
    right = [any(isinstance(value, (int, float)) for value in column) for column in zip(*cells, strict=True)]
    rule = ["-" * (width - 1) + (":" if end else "-") for width, end in zip(widths, right, strict=True)]
    return [
        "| "
        + " | ".join(
            text.rjust(width) if end else text.ljust(width)
            for text, width, end in zip(line, widths, right, strict=True)
        )
        + " |"
        for line in (headings, rule, *texts)
    ]


def shown(value: Any) -> str:
    """A value as a table has it."""
    if isinstance(value, float):
        return f"{value:.2f}"
    return "-" if value is None else str(value)
