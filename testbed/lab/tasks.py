"""`fab lab.up`, `lab.down`, `lab.status` and `lab.ssh`."""

import functools
import sys
from collections.abc import Callable
from typing import Any

from invoke import Collection, Context, Exit, task

from fabfile.errors import DeployError

NAME = {"name": "which lab host (several can run at once)"}


def edge(body: Callable[..., None]) -> Callable[..., None]:
    """Turn a trouble that the user can act on into a message and its exit code."""

    @functools.wraps(body)
    def run(*args: Any, **options: Any) -> None:
        try:
            body(*args, **options)
        except DeployError as error:
            parts = (error.evidence, error.message, f"  next: {error.hint}" if error.hint else "")
            raise Exit("\n".join(part for part in parts if part), error.exit_code) from error

    return run


def say(text: str) -> None:
    """Tell the user one line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@task(
    help=NAME
    | {
        "suite": "bookworm (a new host's) or trixie",
        "image": "ready (a new host's), with what takes long to install; or bare, as a provider's server comes",
    }
)
@edge
def up(_context: Context, name: str = "lab", suite: str = "", image: str = "") -> None:
    """Boot a throw-away Debian on this machine (1-2 minutes the first time, then seconds)."""
    from .host import up as boot

    host = boot(name, suite=suite, image=image, say=say)
    say(f"{host.name} runs at {host.address}: fab lab.ssh --name {host.name}")


@task(help={"name": NAME["name"], "all": "every lab host of this machine"})
@edge
def down(_context: Context, name: str = "lab", all: bool = False) -> None:
    """Remove a lab host and everything that was on it; the image stays in the cache."""
    from .host import down as remove
    from .host import names

    for one in names() if all else [name]:
        remove(one, say=say)


@task
@edge
def status(_context: Context) -> None:
    """List the lab hosts of this machine."""
    from .host import records, running

    hosts = records()
    up = {host.name for host in running()}
    for record in hosts:
        state = "runs" if record.name in up else "stopped"
        say(f"{record.name:<22}{state:<9}{record.address:<16}{record.suite} {record.image}")
    if not hosts:
        say("no lab host: fab lab.up")


@task(help={"name": NAME["name"], "command": "run this instead of a shell"})
@edge
def ssh(_context: Context, name: str = "lab", command: str = "") -> None:
    """Open a shell on a lab host as root, or run a command there."""
    import subprocess

    from .host import find, ssh_command
    from .machine import LabError

    host = find(name)
    if host is None:
        raise LabError(f"no lab host {name} runs", hint=f"fab lab.up --name {name}")
    argv = [*ssh_command(host), *([command] if command else [])]
    code = subprocess.run(argv, check=False).returncode
    if code:
        raise Exit(code=code)  # what was run has said why


namespace = Collection("lab", up, down, status, ssh)
