"""Who is measured: what each of them runs for a scenario, and what a run took."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from testbed.bench.figures import BARE, OURS, Run, breakdown
from testbed.bench.relay import HERE as RELAY
from testbed.bench.relay import Way
from testbed.bench.server import HERE, Server
from testbed.harness import Site, followed
from testbed.lab import Repository

USAGE = (sys.executable, "-I", "-S", str(HERE / "usage.py"))
CODE, DEPENDENCY, NOTHING, STATUS, ROLLBACK, LOGIN = "code", "dependency", "nothing", "status", "rollback", "login"
SCENARIOS = (DEPENDENCY, CODE, NOTHING, STATUS, ROLLBACK, LOGIN)


@dataclass(frozen=True)
class Task:
    """What is asked of a contestant: a scenario, the way there, and the commit that is to be live afterwards."""

    server: Server
    way: Way
    scenario: str
    commit: str
    report: Path  # where usage.py writes
    tools: Path  # bin/ of the environment with pyinfra and Ansible

    def start(self, *words: str | Path, stdin: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        """Start a command with nothing of the operator's own around it."""
        clean = {"PATH": os.environ["PATH"], "HOME": str(self.server.site.folder), "LANG": "C.UTF-8"}
        with (stdin or Path(os.devnull)).open() as given:
            return subprocess.Popen(
                [*USAGE, str(self.report), *map(str, words)],
                env=clean | environment,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=HERE,
                start_new_session=True,
            )

    @property
    def options(self) -> list[str]:
        """What makes an ssh use this way and nothing of the operator's."""
        known, key = self.way.known_hosts, self.server.site.host.key_file
        options = ("IdentitiesOnly=yes", f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes")
        return ["-F", "none", "-i", str(key), *(word for option in options for word in ("-o", option))]

    @property
    def ssh(self) -> list[str]:
        return ["ssh", *self.options, "-p", str(self.way.port), f"deploy@{RELAY}"]


def ours(task: Task) -> subprocess.Popen[str]:
    """`fab`, as people start it."""
    direct, way = task.server.site, task.way
    where = {"address": RELAY, "port": way.port, "known_hosts": str(way.known_hosts)}
    under = (*USAGE, str(task.report))
    site: Site = replace(direct, settings=direct.settings | where, cold=True, under=under)
    verb = task.scenario if task.scenario in (STATUS, ROLLBACK) else "deploy"
    return site.start(verb, "--json")


def bare(task: Task) -> subprocess.Popen[str]:
    """A script by hand over one ssh. A rollback is a deploy of the commit before."""
    if task.scenario == STATUS:
        return task.start(*task.ssh, "bash -s -- bare", stdin=HERE / "status.sh")
    return task.start(*task.ssh, f"bash -s -- bare {task.commit}", stdin=HERE / "bare.sh")


def pyinfra(task: Task) -> subprocess.Popen[str]:
    """pyinfra's operations."""
    data = {
        "ssh_known_hosts_file": task.way.known_hosts,
        "ssh_strict_host_key_checking": "yes",
        "ssh_allow_agent": "False",
        "repository": Repository.url,
    }
    where = ["--ssh-user=deploy", f"--ssh-port={task.way.port}", f"--ssh-key={task.server.site.host.key_file}"]
    words = [*where, *(f"--data={name}={value}" for name, value in data.items())]
    return task.start(task.tools / "pyinfra", "--yes", *words, RELAY, HERE / "pyinfra_deploy.py")


def ansible(task: Task) -> subprocess.Popen[str]:
    """Ansible's playbook, with pipelining and a control connection."""
    variables = {
        "ansible_port": task.way.port,
        "ansible_user": "deploy",
        "ansible_ssh_common_args": " ".join(task.options),
        "ansible_pipelining": True,
        "ansible_python_interpreter": "/usr/bin/python3",
        "repository": Repository.url,
    }
    words = ["-i", f"{RELAY},", "-e", json.dumps(variables), HERE / "deploy.yml"]
    control = task.server.site.folder / "control"  # the relay ends what stays of it
    return task.start(
        task.tools / "ansible-playbook",
        *words,
        ANSIBLE_SSH_CONTROL_PATH_DIR=str(control),
        ANSIBLE_LOCALHOST_WARNING="False",
    )


def login(task: Task) -> subprocess.Popen[str]:
    """`ssh HOST true`: what cannot be saved."""
    return task.start(*task.ssh, "true")


CONTESTANTS: dict[str, Callable[[Task], subprocess.Popen[str]]] = {
    BARE: bare,
    OURS: ours,
    "pyinfra": pyinfra,
    "ansible": ansible,
    "ssh true": login,
}
DEPLOYS = (BARE, OURS, "pyinfra", "ansible")


def contestants(scenario: str, wanted: Iterable[str]) -> list[str]:
    """Who of the wanted takes part: pyinfra and Ansible have no rollback and no status of their own."""
    if scenario == LOGIN:
        return ["ssh true"]
    able = (BARE, OURS) if scenario in (STATUS, ROLLBACK) else DEPLOYS
    return [name for name in able if name in wanted]


def measure(task: Task, app: str, name: str, number: int) -> Run:
    """Let a contestant do the task. Raises AssertionError if it ends with another code than 0."""
    task.way.count()
    if not number:
        task.server.count_channels()
    code, out, lines = followed(CONTESTANTS[name](task))
    said = "".join(line for _, line in lines)
    assert code == 0, f"{name}, {task.scenario}: exit {code}\n{out[-3000:]}\n{said[-3000:]}"
    used = json.loads(task.report.read_text())
    counted = task.way.count()
    execs, channels = (None, None) if number else task.server.count_channels()
    since = [(at - used["began"], line) for at, line in lines]
    timing = json.loads(out)["timing"] if name == OURS else {}
    return Run(
        *(app, task.way.rtt, task.scenario, name, number),
        seconds=used["seconds"],
        cpu=used["cpu"],
        memory_mb=used["memory_mb"],
        **counted,
        execs=execs,
        channels=channels,
        groups=breakdown(timing, since, used["seconds"]) if len(timing) > 1 else {},  # status tells of no steps
    )


def install(folder: Path) -> Path:
    """Make an environment with pyinfra, Ansible and matplotlib; return its bin/."""
    python = folder / "tools/bin/python"
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, folder / "tools"], check=True)
    requirements = HERE / "requirements.txt"
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, "-r", requirements], check=True)
    return python.parent
