"""`just soak`: many deploys and rollbacks in a row under light load, with a fault now and then; nothing may grow."""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from testbed import lab
from testbed.faults import FAULTS, NOTICED, Cell, Row, TracedStep, begin, discover, tell, try_cell
from testbed.target import Broken, Target

KEEP = 3
SCENARIOS = ("deploy", "rollback", "files")
CALM = 0.5  # part of the runs without a fault
# What is counted on the host after every run, and how much more of it there may be in the last quarter than in the
# second (the first fills what is kept): plain numbers, or a factor.
MAY_GROW = {
    "processes": 3,
    "listening_sockets": 1,
    "tmp_entries": 2,
    "master_files": 3,
    "master_kb": 1.25,
    "releases_kb": 1.25,
    "static_files": 1.25,
}
# The newest, as many that rollbacks have not left, and perhaps the live one and the one of the master.
BOUNDS = {"releases": 2 * KEEP + 2, "worktrees": 2 * KEEP + 2, "virtualenvs": 2 * KEEP + 3}
COUNT = r"""
cd /srv/consult
master=$(cat /run/consult-django/gunicorn.pid)
echo "releases $(ls -A releases | wc -l)"
echo "worktrees $(ls repo.git/worktrees | wc -l)"
echo "virtualenvs $(ls virtualenvs | wc -l)"
echo "releases_kb $(du -sk releases | cut -f1)"
echo "repository_kb $(du -sk repo.git | cut -f1)"
echo "cache_kb $(du -sk cache | cut -f1)"
echo "static_files $(find static | wc -l)"
echo "processes $(ls -d /proc/[0-9]* | wc -l)"
echo "listening_sockets $(ss -lH | wc -l)"
echo "tmp_entries $(ls -A /tmp /var/tmp | wc -l)"
echo "master_kb $(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' /proc/$master/status)"
echo "master_files $(ls /proc/$master/fd | wc -l)"
"""


def count(target: Target) -> dict[str, int]:
    """How much there is of everything on the host."""
    pairs = (line.split() for line in target.site.run(COUNT).splitlines())
    return {name: int(value) for name, value in pairs}


def calm(target: Target, scenario: str) -> Row:
    """One run without a fault, and a plain deploy after a rollback, so that the newest version is live again."""
    row = Row(Cell(scenario, TracedStep("-", "-", live=False, seconds=0, commands=0), "-"))
    began = time.monotonic()
    try:
        with target.visitors(rate=10, long=True) as traffic:
            result = target.fab(*begin(target, scenario))
            row.code, row.served = result.code, "new"
            if result.code:
                raise Broken(f"exit {result.code}: {result.err[-600:]}")
            target.whole()
            if scenario == "rollback":
                target.deploy()
        numbers = traffic.count()
        row.requests, row.failed = numbers.requests, numbers.failed
        if numbers.failed:
            raise Broken(f"{numbers.failed} requests failed: {'; '.join(numbers.troubles)}")
        target.clean()
    except (Broken, AssertionError, OSError, RuntimeError) as error:
        row.trouble = " ".join(f"{type(error).__name__}: {error}".split())[:600]
    row.seconds = time.monotonic() - began
    return row


def growth(samples: list[dict[str, int]]) -> list[str]:
    """What grew, or is beyond its bound, in words."""
    if len(samples) < 8:
        return []
    quarter = len(samples) // 4
    found = []
    for name, limit in MAY_GROW.items():
        early = max(sample[name] for sample in samples[quarter : 2 * quarter])
        late = min(sample[name] for sample in samples[-quarter:])
        if late > (early * limit if isinstance(limit, float) else early + limit):
            found.append(f"{name} grew from {early} to {late}")
    for name, bound in BOUNDS.items():
        most = max(sample[name] for sample in samples)
        if most > bound:
            found.append(f"there were {most} {name}, more than {bound}")
    return found


def soak(runs: int, seed: int, name: str = "f-soak") -> dict:
    """Do it; the totals. A host that something broke is made anew, and that is told."""
    chance = random.Random(seed)  # noqa: S311 - which step breaks next is no secret
    rows: list[Row] = []
    samples: list[dict[str, int]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        target = Target(name, Path(folder) / name)
        try:
            target.prepare()
            target.settings["keep"] = KEEP
            steps = {scenario: discover(target, scenario) for scenario in SCENARIOS}
            while len(rows) < runs:
                scenario = chance.choice(SCENARIOS)
                if chance.random() < CALM:
                    row = calm(target, scenario)
                else:
                    row = try_cell(target, Cell(scenario, chance.choice(steps[scenario]), chance.choice(list(FAULTS))))
                rows.append(row)
                tell(f"{len(rows):>3} {row.line()}")
                if row.trouble:
                    target.prepare()
                    target.settings["keep"] = KEEP
                samples.append(count(target))
        finally:
            lab.down(name, say=lambda _: None)
    bad = [row for row in rows if row.trouble]
    return {
        "runs": len(rows),
        "deploys": sum(row.cell.scenario != "rollback" for row in rows) + sum(follows(row) for row in rows),
        "rollbacks": sum(row.cell.scenario == "rollback" for row in rows),
        "held": len(rows) - len(bad),
        "faults": dict(sorted(Counter(row.cell.fault for row in rows if row.cell.fault != "-").items())),
        "requests": sum(row.requests for row in rows),
        "failed_requests": sum(row.failed for row in rows),
        "not_watched": sum(row.cell.kind in NOTICED for row in rows),
        "grew": growth(samples),
        "first": samples[len(samples) // 4],
        "last": samples[-1],
        "seed": seed,
        "seconds": round(time.monotonic() - began),
    }


def follows(row: Row) -> bool:
    """Whether a plain deploy came after it."""
    return row.cell.fault != "-" or row.cell.scenario == "rollback"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=int, nargs="?", default=200, help="how many runs (200)")
    parser.add_argument("--seed", type=int, default=None, help="of the random choices; printed")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no host is left
    tell(f"{given.runs} runs, seed {seed}")
    totals = soak(given.runs, seed)
    for words in totals["grew"]:
        tell(f"GREW {words}")
    tell(json.dumps(totals))
    sys.exit(0 if totals["held"] == totals["runs"] and not totals["grew"] else 1)


if __name__ == "__main__":
    main()
