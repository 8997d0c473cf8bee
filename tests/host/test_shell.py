"""The shell that goes to a host: files that shellcheck reads, functions that fit the steps, no text put together."""

import ast
import base64
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

from fabfile.config.layout import Layout
from fabfile.plan.rights import root_commands
from fabfile.ssh import library
from fabfile.steps.step import Step, Value, as_text
from tests.host.every_step import LAYOUT, every_step
from tests.host.local_host import HOSTILE, World

ROOT = Path(__file__).parents[2]
HOST = ROOT / "fabfile/host"
FOLDERS = ("fabfile", "testbed", "tests")
SCRIPTS = sorted(path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.sh"))
SCRIPTS += [Path("run"), Path(".ci/run")]
# Shell in a string of Python: what no Python and no English has in it.
SHELL_TEXT = re.compile(
    r"""
    \$\( | \$\{ | ;\s*(do|then|done|fi|esac|exit)\b | \|\|\s*(true|exit|echo|return)\b | \s&&\s | 2>&1 | >/dev/null
    | \[\ -[a-z]\s | "\$\w | \bset\ -[eu] | ^\s*(fi|esac)$
    | ^(cd|mkdir|rm|mv|ln|cp|touch|echo|printf|install|systemctl|git|uv)\ .*\n
    """,
    re.VERBOSE | re.MULTILINE,
)


def need_shellcheck() -> None:
    if not shutil.which("shellcheck") and not os.environ.get("CI"):
        pytest.skip("shellcheck is not installed")


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    """No unquoted expansion, no unused variable, no test that means something else."""
    need_shellcheck()
    done = subprocess.run(
        ["shellcheck", "--color=never", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_shellcheck_would_have_something_to_say() -> None:
    """The check can fail."""
    need_shellcheck()
    shell = ["shellcheck", "-"]
    done = subprocess.run(shell, cwd=ROOT, input="rm -rf $1/x", capture_output=True, text=True, check=False)
    assert done.returncode


def test_all_that_goes_to_a_host_is_among_the_files_checked() -> None:
    """The library has no shell but that of files, and the constants that are made for it."""
    sent = {name for name in library.files() if name.endswith(".sh")}
    own = {"runner.sh", "roll_processes.sh", "install_files.sh"}  # which go there by themselves
    assert sent == {str(path.relative_to(HOST)) for path in HOST.rglob("*.sh")} - own
    assert {Path("fabfile/host", name) for name in sent | own} <= set(SCRIPTS)


def test_a_comment_that_does_not_travel_is_no_part_of_a_function(world: World) -> None:
    """A line that begins with # may also stand in a text of several lines: bash reads both files as the same."""

    def read(script: bytes) -> str:
        (world.root / "context.sh").write_text(library.context(world.layout))
        (world.root / "script.sh").write_bytes(script)
        command = ["bash", "-c", "DEPLOY_WORK=w; . ./context.sh; . ./script.sh; declare -f"]
        return subprocess.run(command, cwd=world.root, capture_output=True, text=True, check=True).stdout

    for path in sorted(HOST.glob("lib/*.sh")):
        whole, sent = path.read_bytes(), library.files()[str(path.relative_to(HOST))]
        assert read(whole) == read(sent), path
        assert len(whole.splitlines()) == len(sent.splitlines()), path
    assert read(b"f() {\n  echo '\n# text'\n}\n") != read(library.without_comments(b"f() {\n  echo '\n# text'\n}\n"))


def modules() -> dict[Path, ast.Module]:
    """The product's Python, but for what runs on a host."""
    paths = [path for path in (ROOT / "fabfile").rglob("*.py") if HOST not in path.parents]
    return {path.relative_to(ROOT): ast.parse(path.read_text()) for path in paths}


def strings(module: ast.Module) -> Iterator[str]:
    """Its string constants, and f-strings as a whole with X for each value; no docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(module)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)


@pytest.mark.parametrize("path", sorted(HOST.glob("programs/*.py")), ids=lambda path: path.stem)
def test_a_program_travels_without_docstrings(path: Path) -> None:
    """Nothing else of it is other than it was, and all of it stands in the same lines."""
    source = path.read_text()
    sent = library.without_docstrings(path.read_bytes()).decode()
    assert len(sent) < len(source)
    assert sent.count("\n") == source.count("\n")
    before, after = (placed(ast.parse(text)) for text in (source, sent))
    assert before == after


def placed(module: ast.Module) -> list[tuple[object, int]]:
    """What there is in a module, but for docstrings, and in which lines."""
    documented = [node for node in ast.walk(module) if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)]
    for node in documented:
        if ast.get_docstring(node, clean=False) is not None:
            node.body[0] = ast.Pass(lineno=node.body[0].lineno)
    return [
        (node.value if isinstance(node, ast.Constant) else type(node).__name__, getattr(node, "lineno", 0))
        for node in ast.walk(module)
    ]


def test_no_string_of_python_holds_shell() -> None:
    """Shell is in files of its own, where its linter reads it."""
    found = {text: path for path, module in modules().items() for text in strings(module) if SHELL_TEXT.search(text)}
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "cd /srv\nrm -rf x", "kill $(cat pid)", "true || exit 1", "a && b", "make >/dev/null", 'echo "$name"',
        "while true; do sleep 1; done", "if rescue; then", "step\nfi", "set -eu", "make 2>&1", "${name}",
    ],
)  # fmt: skip
def test_shell_in_a_string_would_be_seen(text: str) -> None:
    """The check can fail, in an f-string too."""
    assert any(SHELL_TEXT.search(found) for found in strings(ast.parse(f"a = {text!r}")))
    assert any(SHELL_TEXT.search(found) for found in strings(ast.parse('f"cd {place}\\nrm x"')))


def test_words_are_quoted_in_few_places() -> None:
    """shlex quotes a step's call, the library's constants, and the command lines that sshd is given; nothing else.

    But for a line of a Procfile, which `init` takes apart and writes into a hosts.toml.
    """
    used: Counter[str] = Counter()
    for path, module in modules().items():
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
                        used[f"{path}:{node.name}"] += inner.value.id == "shlex" and inner.attr in ("quote", "join")
            if isinstance(node, ast.ImportFrom):
                assert node.module != "shlex", f"{path} imports from shlex"
    assert {place for place, times in used.items() if times} == {
        "fabfile/ssh/runner.py:_call",
        "fabfile/ssh/runner.py:runner_command",
        "fabfile/ssh/library.py:context",
        "fabfile/ssh/connection.py:stream",
        "fabfile/ssh/connection.py:attach",
        "fabfile/repository/processes.py:_without_wrappers",
    }


@cache
def functions() -> dict[str, str]:
    """The bodies of the library's functions, by their names, without comments."""
    text = "\n".join(path.read_text() for path in sorted(HOST.glob("lib/*.sh")))
    text = re.sub(r"(?m)(^|\s)#\s.*$", "", text)
    long = re.findall(r"^(\w+)\(\) \{\n(.*?)^\}$", text, re.MULTILINE | re.DOTALL)
    return {**dict(long), **dict(re.findall(r"^(\w+)\(\) \{ (.*) \}$", text, re.MULTILINE))}


def called(body: str) -> set[str]:
    """The functions of the library that stand in `body` where bash looks for a command."""
    return set(re.findall(r"(?m)(?:^|[;&|({!]|\b(?:if|then|else|do|until|while)\b)\s*(\w+)", body)) & set(functions())


def parameters(name: str) -> list[str]:
    """What a function takes by name: the locals that it declares right before `local "$@"`."""
    taken = re.match(r'\s*local ([\w ]+)\n\s*local "\$@"\n', functions()[name])
    return taken[1].split() if taken else []


def steps() -> dict[str, Step]:
    return {step.function: step for step in every_step()}


def test_every_function_that_a_step_names_is_asked_for() -> None:
    """No step is missing in every_step: each Step( of the product is there."""
    named = {
        argument.value
        for module in modules().values()
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Step"
        for argument in node.args[2:3]
        if isinstance(argument, ast.Constant)
    }
    assert named == set(steps())


@pytest.mark.parametrize(
    "step",
    {str(step.words[:1] + sorted(step.parameters)): step for step in every_step()}.values(),
    ids=lambda step: step.function,
)
def test_a_step_gives_its_function_what_it_takes(step: Step) -> None:
    """The function is there, and declares exactly the parameters that it is given: none is missing, none is global."""
    assert step.function in functions()
    assert sorted(step.parameters) == sorted(parameters(step.function))


@pytest.mark.parametrize("name", [name for name in functions() if parameters(name)])
def test_a_parameter_is_used(name: str) -> None:
    """By the function, by one that it calls, or by the program that gets all of them."""
    body = functions()[name].partition('local "$@"')[2]
    if re.search(r'programs/\w+\.py".* "\$@"', body):
        return
    reached, todo = {name: body}, [body]
    while todo:
        new = {each: functions()[each] for each in called(todo.pop()) - set(reached)}
        reached |= new
        todo += new.values()
    text = "\n".join(reached.values())
    unused = [each for each in parameters(name) if not re.search(rf"\$\{{?{each}\b|\(\(.*\b{each}\b.*\)\)", text)]
    assert unused == []


def test_every_constant_is_known_and_used() -> None:
    """A function names no constant of the app that nobody makes, and none is made for nobody."""
    text = "\n".join(path.read_text() for path in HOST.glob("lib/*.sh"))
    named = set(re.findall(r"\$\{?([A-Z][A-Z_]*)\b", text))
    own = set(re.findall(r"\b([A-Z][A-Z_]*)=", text))
    of_bash = {"SECONDS", "PATH", "PWD", "BASHPID", "SUDO_USER", "ROOT", "FILES"}
    of_the_runner = {"DEPLOY_WORK", "DEPLOY_FILES", "DEPLOY_LIBRARY", "DEPLOY_RUNNER"}
    constants = set(LAYOUT.constants())
    assert named - own - of_bash - of_the_runner <= constants
    assert constants <= named


def test_programs_are_looked_up_as_files() -> None:
    """`command -v` would take a function of the library for the program that it is named after, as git is one."""
    text = "\n".join(functions().values())
    assert "type -P" in text
    assert not re.search(r"\b(command -v|which|hash)\b", text)


def test_every_root_command_that_is_called_is_in_the_table() -> None:
    """as_root is asked for nothing that sudo was not told to allow, and nothing is allowed that nobody asks for."""
    asked = set(re.findall(r"as_root (\w+)", "\n".join(functions().values())))
    assert set(root_commands(LAYOUT)) == asked


def hostile(value: Value) -> Value:
    """A value of the same kind that a shell could take for more."""
    if isinstance(value, str | int | PurePosixPath) or value is None:
        return HOSTILE + "\n" + HOSTILE
    return [HOSTILE, "-rf", "~", "a=b", "(x)", "[0]=$(touch bait)"]


def decoded(text: str) -> str:
    return base64.b64decode(text).decode()


def test_a_hostile_value_of_any_step_arrives_whole(world: World) -> None:
    """Whatever a parameter holds, its function gets it as it is, and nothing of it runs."""
    probes = []
    for name, step in steps().items():
        values = {key: hostile(value) for key, value in step.parameters.items()}
        probes.append(Step(name, step.title, "show_parameters", values))
    results = world.run(*probes)
    for probe in probes:
        seen = dict(line.split() for line in results[probe.id].output.splitlines())
        assert {name: decoded(text) for name, text in seen.items()} == {
            name: as_text(value) for name, value in probe.parameters.items()
        }
    assert not world.bait()


def test_a_hostile_constant_arrives_whole(world: World) -> None:
    """The same for the app's constants and the table of root commands, which a file of assignments brings."""
    layout = Layout("consult", PurePosixPath(HOSTILE), HOSTILE, HOSTILE)
    (world.root / "context.sh").write_text(library.context(layout))
    show = 'set -eu; . ./context.sh; printf \'%s\\0\' "$APP" "${ROOT[test_nginx]}"'
    done = subprocess.run(["bash", "-c", show], cwd=world.root, capture_output=True, check=True)
    assert done.stdout.decode().split("\0") == [str(layout.app), root_commands(layout)["test_nginx"], ""]
    assert not world.bait()


@pytest.mark.parametrize("name", ["a b", "x[$(touch bait)]", "A", "a;b", ""])
def test_a_name_is_a_name(name: str) -> None:
    """bash would evaluate what stands in the brackets of a name."""
    with pytest.raises(ValueError, match="is no name"):
        _ = Step("id", "Title", name).words
    with pytest.raises(ValueError, match="is no name"):
        _ = Step("id", "Title", "function", {name: "value"}).words
