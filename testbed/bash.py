"""Steps that run a text of bash, for tests of what runs steps; the product itself has none."""

from pathlib import Path
from typing import Any

from fabfile.ssh import library
from fabfile.steps.step import Step

FUNCTION = Path(__file__).with_suffix(".sh")
of_the_product = library.files


def files() -> dict[str, bytes]:
    """The library with the function that runs a text, to be put in place of `library.files`."""
    return {**of_the_product(), "lib/zz_text.sh": FUNCTION.read_bytes()}


def shell(title: str, script: str, **more: Any) -> Step:
    """A step that runs `script`; its id is its title."""
    return Step(title, title, "run_text", {"text": script}, **more)
