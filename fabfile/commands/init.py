"""init: a hosts.toml for a Django repository, read from its files. Connects to no server, runs nothing of the app."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.mistakes import mistakes
from ..config.texts import repository as git_address
from ..config.values import Value
from ..errors import ConfigError
from ..output.console import Console
from ..repository import hosts_text
from ..repository.files import Repository
from ..repository.report import Report
from ..repository.survey import survey

CLONE_LIMIT = 300  # seconds
STDOUT = "-"


@dataclass(frozen=True)
class Checkout:
    """A repository as it lies here: its top, the folder that was named in it, its address, its default branch."""

    top: Path
    within: str
    origin: str
    branch: str


def init(console: Console, where: str | None, given: Mapping[str, str], to: str) -> None:
    """Write what is found in the repository `where` (a folder or an address; here), and what was `given`, to a file."""
    for key, value in given.items():
        if wrong := _wrong(key, value):
            raise ConfigError(f"--{key}: {wrong}", hint="fab init --help")
    with _checkout(where) as checkout:
        target = _target(to, checkout.top if where is None else Path.cwd())
        report = survey(Repository(checkout.top), checkout.within, checkout.origin)
    _place_in_git(checkout, report)
    for key, value in given.items():
        if key != "address":
            report.set(key, value)
    _leave_out_what_does_not_fit(report)
    address = _ask_for_the_rest(
        report, given, ask=target is not None and sys.stdin.isatty() and console.stream.isatty()
    )
    text = hosts_text.text(report, address)
    if target is None:
        sys.stdout.write(text)
    else:
        _write(target, text)
    _tell(console, report, target, "FILL IN" in text)


def _target(to: str, folder: Path) -> Path | None:
    """Return the file to write, which must not be there yet; None for standard output."""
    if to == STDOUT:
        return None
    path = Path(to).expanduser().absolute() if to else folder / "hosts.toml"
    if path.exists():
        raise ConfigError(
            f"{path} is there already, and stays as it is",
            hint=f"fab init --to={STDOUT} shows what would stand there; --to=FILE writes another file",
        )
    return path


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="fab init --to=FILE") from None


@contextmanager
def _checkout(where: str | None) -> Generator[Checkout]:
    """Give the repository in a folder, or a clone of an address that is gone afterwards."""
    folder = Path(where or ".").expanduser()
    if folder.is_dir():
        yield _look(folder.resolve())
        return
    try:
        address = git_address(where or "")
    except ValueError as error:
        raise ConfigError(
            f"{where} is no folder, and no git address: it {error}", hint="fab init PATH-OR-ADDRESS"
        ) from None
    with tempfile.TemporaryDirectory(prefix="django-deploy-init-") as clone:
        _clone(address, clone)
        yield _look(Path(clone))


def _clone(address: str, folder: str) -> None:
    command = ["git", "clone", "--quiet", "--depth=1", "--", address, folder]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=CLONE_LIMIT, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise ConfigError("git is not on this machine", hint="install git, or name a folder: fab init PATH") from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"git clone did not end within {CLONE_LIMIT} s", hint="fab init PATH, of a clone") from None
    if done.returncode:
        raise ConfigError(
            f"{_without_login(address)} cannot be cloned here",
            hint="git clone it by hand, and fab init PATH",
            evidence=_without_login(done.stderr.strip()),
        )


def _without_login(text: str) -> str:
    """Return text without what stands before @ in a web address: a password, or a token."""
    return re.sub(r"(https?://)[^/@\s]*@", r"\1", text)


def _look(folder: Path) -> Checkout:
    top = Path(_git(folder, "rev-parse", "--show-toplevel") or folder).resolve()
    within = folder.relative_to(top).as_posix() if folder.is_relative_to(top) else "."
    default = _git(folder, "symbolic-ref", "--short", "refs/remotes/origin/HEAD").removeprefix("origin/")
    branch = default or _git(folder, "symbolic-ref", "--short", "HEAD")
    return Checkout(top, within, _git(folder, "remote", "get-url", "origin"), branch)


def _git(folder: Path, *words: str) -> str:
    """Return what git says, or nothing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _place_in_git(checkout: Checkout, report: Report) -> None:
    """Note where the server clones from: the address of origin, without what is secret in it."""
    address = _without_login(checkout.origin)
    if address != checkout.origin:
        report.todo.append("the address of origin holds a login, which was left out: a server needs a deploy key")
    if address and not _wrong("repo", address):
        report.set("repo", address)
    elif address:
        report.todo.append(f"a server cannot clone from the address of origin: {address}")
    if checkout.branch and checkout.branch != "main":
        report.set("branch", checkout.branch)


def _wrong(key: str, value: Any) -> str:
    """Return why a value does not fit a setting, or nothing."""
    table = value if isinstance(value, dict) else {}
    values = {(): Value("", {}), (key,): Value("", {} if table else value)}
    found = mistakes(values | {(key, name): Value("", item) for name, item in table.items()}, whole=False)
    return re.sub(r"^(\[\d+\])?: ", "", found[0]).partition(", not ")[0] if found else ""


def _leave_out_what_does_not_fit(report: Report) -> None:
    """Take out what the repository has and hosts.toml cannot say: a folder with a space in its name, for one."""
    for key, value in list(report.settings.items()):
        several = isinstance(value, list)
        rest = []
        for item in value if several else [value]:
            why = _wrong(key, [item] if several else item)
            if not why:
                rest.append(item)
            elif item != "":
                found = hosts_text.toml(item) if isinstance(item, dict) else item
                report.todo.append(f"{key}: {why}; found was {found}")
        if several and rest:
            report.settings[key] = rest
        elif not rest and value != "":
            del report.settings[key]


def _ask_for_the_rest(report: Report, given: Mapping[str, str], *, ask: bool) -> str:
    """Ask for what no file says; return the server's address."""
    for key in ("repo", "domain"):
        if ask and key not in report.settings and (answer := _answer(key)):
            report.set(key, answer)
    return given.get("address") or (_answer("address") if ask else "")


def _answer(key: str) -> str:
    """Return what a person says on the terminal; nothing when it stays open."""
    while True:
        try:
            text = input(f"{hosts_text.FILL_IN[key]} (Enter leaves it open): ").strip()
        except EOFError:
            return ""
        wrong = _wrong(key, text) if text else ""
        if not wrong:
            return text
        sys.stdout.write(f"  it {wrong}\n")


def _tell(console: Console, report: Report, target: Path | None, open_lines: bool) -> None:
    """Say what was found, what is missing, and what comes next."""
    console.say("Found:")
    for line in report.found:
        console.say(f"  {line}")
    if report.todo:
        console.say("To do, before the first deploy:")
        for line in report.todo:
            console.say(f"  - {line}")
    if report.to_paste:
        console.say(f"\n{report.to_paste}\n")
    if target is None:
        return
    console.headline(f"{target} is written{'; fill in its lines marked FILL IN' if open_lines else ''}")
    console.say("  next:")
    if not _is_found(target):
        console.say(f"    export DJANGO_DEPLOY_HOSTS={target}")
    for command in ("fab check", "DOPPLER_TOKEN=... fab -H production provision", "fab -H production deploy"):
        console.say(f"    {command}")


def _is_found(target: Path) -> bool:
    """Return whether a run here reads this file by itself."""
    named = os.environ.get("DJANGO_DEPLOY_HOSTS")
    if named:
        return Path(named).expanduser().absolute() == target
    here = Path.cwd()
    return target.name == "hosts.toml" and target.parent in (here, *here.parents)
