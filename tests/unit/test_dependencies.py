"""pyproject.toml names what is imported: nothing works only because another package brought it along."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
OUR_OWN = {"fabfile", "testbed", "tests"}
# Runs elsewhere: the sample site has a virtualenv of its own, the bench one for what it measures, host programs import
# the Django and gunicorn they find.
BENCH = ("testbed/bench/plot.py", "testbed/bench/pyinfra_deploy.py")
ELSEWHERE = ("testbed/lab/site", "testbed/shapes", "testbed/lab/guest", "fabfile/host", *BENCH)


def imported(code: str) -> set[str]:
    """The top-level modules that code imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def sources(folder: str) -> Iterator[Path]:
    for path in sorted((PROJECT / folder).rglob("*.py")):
        if not path.relative_to(PROJECT).as_posix().startswith(ELSEWHERE):
            yield path


def distributions(modules: set[str]) -> dict[str, str]:
    """Each third-party module, with the name of the package that has it."""
    known = packages_distributions()
    foreign = modules - set(sys.stdlib_module_names) - OUR_OWN
    return {module: known.get(module, [module])[0].lower() for module in foreign}


def named(*requirements: str) -> set[str]:
    """The packages that requirements like `httpx>=0.28` name."""
    return {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize("folder", ["fabfile", "testbed", "tests"])
def test_what_is_imported_is_named(folder: str) -> None:
    """The product imports what `dependencies` has; the test bed and the tests, also what the group `dev` has."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    allowed = named(*project["project"]["dependencies"])
    if folder != "fabfile":
        allowed |= named(*project["dependency-groups"]["dev"])
    modules: dict[str, Path] = {}
    for path in sources(folder):
        modules |= dict.fromkeys(imported(path.read_text()), path.relative_to(PROJECT))
    unnamed = {
        module: str(modules[module])
        for module, package in distributions(set(modules)).items()
        if package not in allowed
    }
    assert unnamed == {}


def test_imports_are_found_wherever_they_stand() -> None:
    """Also in a function, with a submodule, and under another name; not those relative to a package."""
    code = "import a.b as x\ndef f():\n    from c.d import e\n    from .g import h\n    import os, i"
    assert imported(code) == {"a", "c", "os", "i"}
