"""The rooms of the house: imports point one way, also those inside functions and those for types alone."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
# From the lowest to the highest; a room may use those below it.
ROOMS = ("errors", "config", "repository", "plan", "steps", "output", "ssh", "session", "commands", "entrance")
ENTRANCE = {
    "fabfile",
    "fabfile.completion",
    "fabfile.executor",
    "fabfile.task",
    "fabfile.tasks",
}  # what the command line finds
SEAM = "fabfile.lab"
USES_SEAM = {"fabfile", "fabfile.task", "fabfile.commands.provision"}
# Besides ssh/: what makes tasks of functions.
USES_FABRIC = {"fabfile.executor"}
USES_INVOKE = {"fabfile", "fabfile.completion", "fabfile.executor", "fabfile.task", "fabfile.commands.check"}
# Other projects, with packages of their own.
SITES = {PROJECT / "testbed/lab/site", PROJECT / "testbed/shapes"}


def name_of(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Every module of the product and of the test bed, by its dotted name; not what only ever runs on a server."""
    paths = [path for top in ("fabfile", "testbed") for path in sorted((PROJECT / top).rglob("*.py"))]
    return {
        name_of(path): path
        for path in paths
        if not SITES.intersection(path.parents) and not {"host", "guest"} & set(path.relative_to(PROJECT).parts[:-1])
    }


def imports_in(source: str, package: str) -> Iterator[str]:
    """Dotted names of all that is imported anywhere in `source`, with relative imports as seen from `package`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{start}.{alias.name}" if f"{start}.{alias.name}" in modules() else start


@cache
def imports() -> dict[str, frozenset[str]]:
    """What each module imports."""
    return {
        name: frozenset(imports_in(path.read_text(), name if path.stem == "__init__" else name.rpartition(".")[0]))
        for name, path in modules().items()
    }


def room(module: str) -> int:
    """How high the room of a module of the product lies."""
    return ROOMS.index("entrance" if module in ENTRANCE else module.split(".")[1])


def top(module: str) -> str:
    return module.partition(".")[0]


def pairs() -> Iterator[tuple[str, str]]:
    """Every import as who and what."""
    for name, imported in imports().items():
        yield from ((name, other) for other in imported)


def test_imports_of_every_form_are_seen() -> None:
    """Plain, renamed, relative, inside a function, under TYPE_CHECKING: none escapes the tests below."""
    source = """
import fabric.main as main
from fabfile.plan import lock, nothing
if TYPE_CHECKING:
    from fabfile.ssh.http import ask
def late():
    from . import advice
    from ..steps.step import Step
"""
    assert sorted(imports_in(source, "fabfile.output")) == [
        "fabfile.output.advice",
        "fabfile.plan",
        "fabfile.plan.lock",
        "fabfile.ssh.http",
        "fabfile.steps.step",
        "fabric.main",
    ]


def test_every_module_has_a_room() -> None:
    """A new folder of the product has its place in the order before it is used."""
    product = [name for name in modules() if top(name) == "fabfile" and name != SEAM]
    assert len(product) > 30
    assert {ROOMS[room(name)] for name in product} == set(ROOMS)


def test_imports_point_one_way() -> None:
    """No module of the product imports one of a higher room."""
    wrong = [
        f"{name} imports {other}"
        for name, other in pairs()
        if top(name) == top(other) == "fabfile" and SEAM not in (name, other) and room(other) > room(name)
    ]
    assert wrong == []


def test_the_product_does_not_know_its_own_name() -> None:
    """Every import inside is relative: a wheel carries the package under another name than `fabfile`."""
    absolute = [
        f"{name}: {ast.unparse(node)}"
        for name, path in modules().items()
        if top(name) == "fabfile"
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and not node.level and top(node.module or "") == "fabfile")
        or (isinstance(node, ast.Import) and any(top(alias.name) == "fabfile" for alias in node.names))
    ]
    assert absolute == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Each module of product and test bed can be read without having read one that needs it."""
    left = {name: imported & set(modules()) - {name} for name, imported in imports().items()}
    while ready := [name for name, imported in left.items() if not imported & set(left)]:
        for name in ready:
            del left[name]
    # What is left is in a circle, or needs one that is.
    assert {name: sorted(imported & set(left)) for name, imported in left.items()} == {}


@pytest.mark.parametrize(("package", "users"), [("paramiko", set()), ("fabric", USES_FABRIC), ("invoke", USES_INVOKE)])
def test_one_room_knows_ssh(package: str, users: set[str]) -> None:
    """Only ssh/ imports Fabric and Paramiko; what makes a task takes that from Fabric or Invoke, and no more does."""
    found = {name for name, other in pairs() if top(name) == "fabfile" and top(other) == package}
    assert {name for name in found if not name.startswith("fabfile.ssh.")} == users


def test_the_product_knows_the_test_bed_by_one_seam() -> None:
    """Without testbed/ and tests/ the product works: fabfile/lab.py alone finds the lab, and three places ask it."""
    assert [
        (name, other) for name, other in pairs() if top(name) == "fabfile" and top(other) in ("testbed", "tests")
    ] == []
    assert {name for name, other in pairs() if other == SEAM} == USES_SEAM
    words = [name for name, path in modules().items() if top(name) == "fabfile" and "testbed." in path.read_text()]
    assert words == [SEAM]


def test_the_seam_needs_only_errors() -> None:
    """What finds the lab stands beside the house: it may be asked from everywhere without a circle."""
    assert {other for other in imports()[SEAM] if top(other) == "fabfile"} == {"fabfile.errors"}


def test_the_test_bed_knows_no_tests() -> None:
    """Benches run without the tests."""
    assert [(name, other) for name, other in pairs() if top(name) == "testbed" and top(other) == "tests"] == []


WITH_THE_APP = {
    "collect_static": {"django"},
    "prove_processes": {"django"},
    "manage": {"django"},
    "migrate": {"django"},
    "ask_django": {"django"},
    "preview_migrations": {"django"},
    "fork_server": {"django"},
}  # run with the Python of a release


@pytest.mark.parametrize("folder", ["fabfile/host/programs", "testbed/lab/guest"])
def test_what_runs_on_a_server_needs_only_python(folder: str) -> None:
    """A program that travels to a host finds nothing of ours there, only the standard library."""
    paths = sorted((PROJECT / folder).glob("*.py"))
    assert paths
    for path in paths:
        foreign = {top(name) for name in imports_in(path.read_text(), "")} - sys.stdlib_module_names
        assert foreign <= WITH_THE_APP.get(path.stem, set())
