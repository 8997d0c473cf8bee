"""Whatever breaks, the site serves one whole release and the next run needs no clean-up: a sample of `just faults`."""

from collections import Counter

import pytest

from testbed.faults import FAULTS, matrix
from testbed.harness import Site, wait_for

pytestmark = pytest.mark.lab


def test_a_sample_of_the_matrix_holds() -> None:
    """Every step of a deploy and of a rollback meets one fault, every fault comes twice or more; a rule pairs them."""
    rows = matrix(scenarios=["deploy", "rollback"], sample=1, hosts=2, prefix="t-faults")
    times = Counter(row.cell.fault for row in rows)
    assert set(times) == set(FAULTS)
    assert min(times.values()) >= 2
    assert not [row.line() for row in rows if row.trouble]


def test_debris_of_killed_commands_goes(site: Site) -> None:
    """What git, a prune or a switch leave when they are killed is gone after the next deploy."""
    debris = [
        "repo.git/refs/heads/main.lock",
        "repo.git/packed-refs.lock",
        "repo.git/objects/pack/tmp_pack_abc",
        "repo.git/worktrees/20200101T000000Z-0000000/locked",
        "repo.git/worktrees/20200101T000000Z-0000000/gitdir",
        "releases/20200101T000000Z-0000000/half",
        "releases/.trash-20200102T000000Z-0000000/half",
        "./current.new",
    ]
    script = f"cd /srv/consult; for name in {' '.join(debris)}; do mkdir -p ${{name%/*}}; echo /nowhere >$name; done"
    site.run(f"runuser -u deploy -- bash -euc '{script}'")
    site.deploy("--force", branch="main").expect(0)

    def left() -> str:
        return site.run(f"cd /srv/consult; ls -d {' '.join(debris)} 2>/dev/null; true")

    wait_for(lambda: not left(), what=left)
