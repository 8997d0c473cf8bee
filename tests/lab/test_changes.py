"""Every kind of change goes live, and no visitor notices: what `just load` measures, with wider bounds."""

from dataclasses import replace

import pytest

from testbed import load
from testbed.harness import Lines, Result, Site
from testbed.load import CHANGES, Change
from tests.lab import BOOT, STALL

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_no_change_is_noticed(live: Site, change: Change) -> None:
    """Each kind of change takes its lightest activation, fails no request, and by HUP makes none wait for a boot."""
    try:
        row = load.measure(live, planned(change), f"t-{change.name.replace(' ', '-')}", boot=BOOT, idle=1)
    except load.NotHere as reason:
        pytest.skip(str(reason))
    assert (row.failed, row.troubles) == (0, ())
    assert row.requests > 50
    assert row.activation == change.activation, row.reason
    if row.activation == "hup":
        assert row.switch_ms < STALL
    assert not [text for text in row.wrong if "slower than idle" not in text]
    live.assert_sound()


def planned(change: Change) -> Change:
    """The change, if a deploy makes it, with a plan before it, which has to tell what the deploy then does."""
    if change.act is not load.deploy:
        return change

    def act(site: Site) -> tuple[Result, Lines]:
        told = site.fab("plan", "--branch", site.branch, "--json").expect(0).json
        result, lines = change.act(site)
        done = result.json
        assert (done["activation"], done["reason"]) == (told["activation"], told["reason"])
        assert done["git_commit"] == told["git_commit"]
        assert done.get("migrations", []) == [each["name"] for each in told["to_migrate"]]
        return result, lines

    return replace(change, act=act)
