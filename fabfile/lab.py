"""The one seam to the test bed: who makes a host that says `lab = true`. Without a test bed there is no lab."""

import importlib
import sys
from pathlib import Path
from typing import Any

from .errors import ConfigError

TESTBED = Path(__file__).parents[1] / "testbed"
IS_THERE = (TESTBED / "lab").is_dir()  # beside a wheel there may be somebody else's testbed


def module(name: str) -> Any:
    """The lab's module of that name. Raises ConfigError where the test bed was left out."""
    if not IS_THERE:
        raise ConfigError(
            "there is no lab here: a clone of the tool has it, in its folder testbed; the wheel does not",
            hint="name a server in hosts.toml",
        )
    if str(TESTBED.parent) not in sys.path:
        sys.path.append(str(TESTBED.parent))
    return importlib.import_module(f"testbed.lab.{name}")
