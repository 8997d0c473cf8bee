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
