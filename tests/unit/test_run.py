"""`./run`: uv from where it is, else fetched into the clone; where that cannot be, one line says what to do."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
UV = """#!/bin/sh
[ "$*" = sync ] || { echo "uv $*"; exit; }
mkdir -p .venv/bin; echo >.venv/bin/fab; chmod +x .venv/bin/fab
"""
PACKAGES = "Installing the tool's packages into .venv\n"
NO_VENV = "#!/bin/sh\nexit 1\n"
# A Python whose venv has a pip that does as the file `pip` says: good or bad.
PYTHON = f"""#!/bin/sh
[ "$1" = -m ] || exit 0
mkdir -p .uv/bin
cat >.uv/bin/pip <<'END'
#!/bin/sh
echo "pip $*" >>pips
echo a wall; echo of words
grep -q good pip || exit 1
printf '%s' '{UV}' >.uv/bin/uv; chmod +x .uv/bin/uv
END
chmod +x .uv/bin/pip
"""


@dataclass
class Machine:
    """A clone that has `run` alone, on a machine that has little more than a shell."""

    clone: Path
    tools: Path

    def has(self, name: str, script: str) -> None:
        """Install a program."""
        (self.tools / name).write_text(script)
        (self.tools / name).chmod(0o755)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Type ./run WORDS... in some other folder."""
        command = [str(self.clone / "run"), *words]
        environ = {"PATH": str(self.tools)}
        return subprocess.run(command, cwd=self.tools, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (clone := tmp_path / "a clone").mkdir()
    (tools := tmp_path / "bin").mkdir()
    shutil.copy(PROJECT / "run", clone)
    for name in ("dirname", "mkdir", "cat", "chmod", "grep", "rm"):
        (tools / name).symlink_to(shutil.which(name) or name)
    machine = Machine(clone, tools)
    machine.has("id", "#!/bin/sh\necho 1000\n")
    return machine


def test_uv_of_the_machine_is_used(machine: Machine) -> None:
    """Where uv is on PATH nothing is fetched, and words reach it as they are."""
    machine.has("uv", UV)
    assert machine.run("fab", "--list").stderr == PACKAGES
    machine.has("uv", '#!/bin/sh\npwd\nprintf "<%s>" "$@"\n')
    done = machine.run("fab", "lock", "-m", "two  words")
    assert done.stdout == f"{machine.clone}\n<run><fab><lock><-m><two  words>"
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in machine.clone.iterdir()) == [".venv", "run"]


def test_packages_that_cannot_be_fetched_are_one_line(machine: Machine) -> None:
    """uv's words go into the log."""
    machine.has("uv", "#!/bin/sh\necho a wall; echo of words\nexit 1\n")
    done = machine.run("fab", "--list")
    last = "run: uv cannot install the packages (see .uv.log): is there a network? Then run this again\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", PACKAGES + last)
    assert (machine.clone / ".uv.log").read_text() == "$ uv sync\na wall\nof words\n"


def test_uv_is_fetched_once(machine: Machine) -> None:
    """Without uv, Python's venv fetches it into the clone; the next time it is there; no log stays."""
    machine.has("python3", PYTHON)
    (machine.clone / "pip").write_text("good")
    for said in (f"Fetching uv into .uv\n{PACKAGES}", ""):
        done = machine.run("just", "test")
        assert (done.returncode, done.stdout, done.stderr) == (0, "uv run just test\n", said)
    assert (machine.clone / "pips").read_text().count("\n") == 1
    assert not (machine.clone / ".uv.log").exists()


def test_no_network_is_one_line(machine: Machine) -> None:
    """pip's words go into a file, and the next try begins anew."""
    machine.has("python3", PYTHON)
    (machine.clone / "pip").write_text("bad")
    done = machine.run("just", "test")
    assert done.returncode == 2
    first, last = done.stderr.splitlines()
    assert first == "Fetching uv into .uv"
    assert last.startswith("run: pip cannot fetch uv (see .uv.log): is there a network")
    assert "of words" in (machine.clone / ".uv.log").read_text()
    (machine.clone / "pip").write_text("good")
    assert machine.run("just", "test").returncode == 0


@pytest.mark.parametrize("python", [NO_VENV, ""], ids=["without venv", "no python3"])
def test_somebody_who_is_not_root_is_told_what_to_install(machine: Machine, python: str) -> None:
    """On Debian the package, as root; elsewhere, uv itself: one line, and nothing is left behind."""
    if python:
        machine.has("python3", python)
    done = machine.run("just", "test")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "install uv (https://docs.astral.sh/uv)" in done.stderr
    machine.has("apt-get", "#!/bin/sh\nexit 1\n")
    done = machine.run("just", "test")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "as root: apt-get install python3-venv" in done.stderr
    assert [path.name for path in machine.clone.iterdir()] == ["run"]


def test_root_gets_what_python_lacks(machine: Machine) -> None:
    """As root on Debian python3-venv is installed, with a word; package lists that are missing are fetched."""
    machine.has("id", "#!/bin/sh\necho 0\n")
    (machine.tools / "venv").write_text(PYTHON)
    machine.has("apt-get", f"""#!/bin/sh
echo "$*" >>apt
case "$*" in *update) : >lists; exit;; *) [ -f lists ] && cat {machine.tools}/venv >{machine.tools}/python3;; esac
chmod +x {machine.tools}/python3
""")  # fmt: skip
    (machine.clone / "pip").write_text("good")
    done = machine.run("just", "test")
    assert (done.returncode, done.stdout) == (0, "uv run just test\n")
    assert done.stderr == "Installing python3-venv on this machine\nFetching uv into .uv\n" + PACKAGES
    options = "--yes --no-install-recommends"
    tried = [f"{options} install python3-venv", f"{options} update", f"{options} install python3-venv"]
    assert (machine.clone / "apt").read_text().splitlines() == tried


def test_root_without_a_network_is_told_in_one_line(machine: Machine) -> None:
    """apt-get's words go into the log."""
    machine.has("id", "#!/bin/sh\necho 0\n")
    machine.has("apt-get", "#!/bin/sh\necho cannot resolve\nexit 100\n")
    done = machine.run("just", "test")
    assert done.returncode == 2
    assert done.stderr.splitlines()[1].startswith("run: apt-get cannot install python3-venv (see .uv.log): is there")
    assert "cannot resolve" in (machine.clone / ".uv.log").read_text()


def test_without_words_it_says_what_to_type(machine: Machine) -> None:
    """./run alone is no command."""
    done = machine.run()
    assert (done.returncode, done.stderr) == (2, "run: say what: ./run fab --list, ./run just test\n")


def test_it_can_be_executed() -> None:
    """The clone has it ready to run, and CI runs the README's command."""
    assert os.access(PROJECT / "run", os.X_OK)
    assert (PROJECT / ".ci/run").read_text().splitlines()[-1] == "exec ./run just test"
