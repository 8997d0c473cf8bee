"""Repositories of other shapes than the sample's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from testbed import shapes

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("name", shapes.NAMES)
def test_a_repository_of_any_shape_goes_all_the_way(name: str, own: Callable[[str], str], tmp_path: Path) -> None:
    """Provision, deploy, a change, deploy and rollback: each ends well, and visitors see it and lose nothing."""
    transcript = shapes.walk(name, own(name), tmp_path)
    assert transcript.broken == [], "\n".join(transcript.lines)


def test_three_of_them_share_a_server(own: Callable[[str], str], tmp_path: Path) -> None:
    """Each by https, as a user of its own, with a first user who gets in; then one goes, and the others stay."""
    transcripts = shapes.walk_together(own("three"), tmp_path)
    assert [each.broken for each in transcripts] == [[], [], []], "\n".join(
        line for e in transcripts for line in e.lines
    )
