"""deploy: every kind of change goes live by the lightest right means, and nothing that visitors left is lost."""

import pytest
from harness import CSS, Site

pytestmark = pytest.mark.lab


def test_new_code_goes_live_by_hup(site: Site) -> None:
    """New code, templates and CSS are served by new workers of the same master; an open page still finds its old CSS."""
    site.add_note("before new code")
    old_css, master, workers = site.stylesheet(), site.master_pid(), site.worker_pids()
    commit = site.commit(site.titled("Second") | site.edited(CSS, "#0b6e4f", "#123456"))
    document = site.deploy().expect(0).json
    assert (document["activation"], document["git_commit"]) == ("hup", commit)
    assert site.heading() == "Second"
    assert "#123456" in site.get(site.stylesheet()).text
    assert "#0b6e4f" in site.get(old_css).text
    assert site.stylesheet() != old_css
    assert site.master_pid() == master
    assert not site.worker_pids() & workers
    assert "before new code" in site.notes()
