"""`just load`: what visitors of a lab site notice of every kind of change; a table, and one line of JSON at the end."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fabfile.errors import DeployError
from testbed import lab, world
from testbed.harness import CSS, PAGE, VIEWS, WEB, Lines, Result, Site, followed, wait_for
from testbed.traffic import RATE, SLOW_SECONDS, Numbers, Traffic

NOTICED = 50  # ms over idle's slowest that a HUP may cost
WORKERS = 3  # one may be at a slow request, and two still answer
MODELS = "apps/web/pages/models.py"
MIGRATION = "apps/web/pages/migrations/0002_note_author.py"
WINDOWS = {
    "hup": (("Switch to the new release", "Reload gunicorn"), "See only new workers answer"),
    "restart": (("Switch to the new release", "Restart gunicorn"), "See only new workers answer"),
    "nginx": (("Reload nginx",), "Check the site"),
    "hold": (("Let requests wait",), "See only new workers answer"),
}
# Of another Python only what runs; its compiled files too, as the service may not write any.
NOT_RUN = shutil.ignore_patterns("test", "tests", "idlelib", "site-packages", "config-*")

HOLD = 2  # seconds for which requests wait


class NotHere(Exception):
    """A change that this machine cannot make; the text says why."""


@dataclass(frozen=True)
class Change:
    """A kind of change: how somebody makes it, what brings it live, and the activation it must need.

    `make` gets a word that no earlier change had. `act` ends with the last command's result and the lines of the one
    that counts, which ends with `code`. `undo` says that the next change shall not find this one.
    """

    name: str
    activation: str | None
    make: Callable[[Site, str], object]
    act: Callable[[Site], tuple[Result, Lines]]
    code: int = 0
    undo: bool = False


@dataclass(frozen=True)
class Row:
    """What visitors noticed of one change. Milliseconds are of the slowest short request.

    `idle_ms` is that of the time just before; `switch_ms` of the window from before the signal until the command says
    that only new workers answer; `whole_ms` of the whole command, while the build competes with the site for the CPU.
    `late_ms` says how late the visitors themselves came in that window, for want of a CPU: no fault of the switch.
    """

    change: str
    boot: float
    requests: int
    failed: int
    idle_ms: float
    switch_ms: float
    whole_ms: float
    late_ms: float
    seconds: float
    activation: str | None
    reason: str
    troubles: tuple[str, ...]
    wrong: tuple[str, ...]


def a_title(site: Site, word: str) -> dict[str, str]:
    """The front page of the branch with another heading."""
    page = site.repository.read(PAGE, site.branch)
    return {PAGE: re.sub(r"<h1>.*</h1>", f"<h1>{word}</h1>", page)}


def code(site: Site, word: str) -> None:
    site.commit(a_title(site, word) | {VIEWS: site.repository.read(VIEWS, site.branch) + f"\n# {word}\n"})


def dependency(site: Site, _word: str) -> None:
    site.commit(
        locked(site, site.edited(WEB, '"greeting",', '"greeting",\n    "iniconfig",\n    "sqlparse<0.6",', site.branch))
    )


def newest_gunicorn(site: Site, _word: str) -> None:
    site.commit(
        locked(site, site.edited(WEB, '"gunicorn==23.0.0"', '"gunicorn>23"', site.branch), "--upgrade-package=gunicorn")
    )


def workers(site: Site, _word: str) -> None:
    site.settings["workers"] = WORKERS + 1


def unit_flag(site: Site, _word: str) -> None:
    site.settings["unit_options"] = {"MemoryMax": "768M"}


def secret(site: Site, word: str) -> None:
    """A new secret goes live with the code that wants it."""
    lab.set_secrets(site.host, MOTTO=word)
    code(site, word)


def nginx_site(site: Site, _word: str) -> None:
    site.settings["body_size"] = "21m"


def migration(site: Site, word: str) -> None:
    """A new column, under a name that no earlier branch has given to the same database."""
    column, field = a_column(word)
    before, name = next_migration(site, column)
    text = site.repository.read(MIGRATION).replace("0001_initial", before).replace('"author"', f'"{column}"')
    site.commit(
        {MIGRATION.replace("0002_note_author", name): text}
        | site.edited(MODELS, "    created =", f"{field}    created =", site.branch)
    )


def next_migration(site: Site, what: str) -> tuple[str, str]:
    """The newest migration of the branch, and a name for the next one."""
    names = [
        path.name.removesuffix(".py")
        for path in map(Path, site.repository.files(site.branch))
        if "pages/migrations" in str(path)
    ]
    newest = max(name for name in names if name[0].isdigit())
    return newest, f"{int(newest[:4]) + 1:04}_{what}"


def a_column(word: str) -> tuple[str, str]:
    """The name of a column, and its line in the model."""
    column = f"mood_{word.replace('-', '_')}"
    return column, f'    {column} = models.CharField(max_length=100, db_default="")\n'


def breaking(site: Site, word: str) -> None:
    """A column goes that the code which runs reads and writes."""
    migration(site, word)
    site.deploy().expect(0)
    column, field = a_column(word)
    before, name = next_migration(site, f"no_{column}")
    removal = world.migration(name, f"migrations.RemoveField('note', '{column}')", before)
    site.commit(removal | site.edited(MODELS, field, "", site.branch))


def static(site: Site, word: str) -> None:
    site.commit({CSS: f"{site.repository.read(CSS, site.branch)}\n/* {word} */\n"})


def another_python(site: Site, _word: str) -> None:
    """The next minor version, brought from this machine into the host."""
    now = site.run("/app/.venv/bin/python -c 'import sys; print(sys.version_info.minor)'").strip()
    site.settings["python"] = bring_python(site, int(now))


def nothing(_site: Site, _word: str) -> None:
    """The command is the change."""


def failing_command(site: Site, word: str) -> None:
    """New code whose last command before the switch fails."""
    site.settings["before_switch"] = ["manage.py check", "false"]
    code(site, word)


def typed(*words: str) -> Callable[[Site], tuple[Result, Lines]]:
    """What is typed behind `fab -H NAME`."""
    return lambda site: follow(site, *words, "--json")


def deploy(site: Site) -> tuple[Result, Lines]:
    return follow(site, "deploy", "--branch", site.branch, "--json")


def hold(site: Site) -> tuple[Result, Lines]:
    """Requests wait for a while, and are let in again."""
    began, lines = follow(site, "maintenance.on", "--hold", "20", "--json")
    if began.code:
        return began, lines
    time.sleep(HOLD)
    return follow(site, "maintenance.off", "--json")


def page(site: Site) -> tuple[Result, Lines]:
    """A page for all but these visitors, new code behind it, and the page away again."""
    closed, lines = follow(site, "maintenance.on", "--allow", site.my_address(), "--json")
    if closed.code:
        return closed, lines
    result, lines = deploy(site)
    opened, _ = follow(site, "maintenance.off", "--json")
    return (opened if opened.code else result), lines


def neighbour(site: Site) -> tuple[Result, Lines]:
    """Another app comes to the server, with a user of its own, is deployed twice, and leaves."""
    settings = {"default_server": False, "user": "other", "linked_dirs": ["data"]}
    other = Site(site.host, site.folder / "other", "neighbour", settings, "other", "other.lab", "/srv/other/app")
    other.folder.mkdir(exist_ok=True)
    database = "sqlite:////srv/other/shared/data/site.sqlite3"
    other.fill_secrets_file(ALLOWED_HOSTS=other.domain, DATABASE_URL=database)
    for title in ("One", "Two"):
        other.commit(other.titled(title))
        result, lines = deploy(other)
        if result.code:
            return result, lines
    return follow(other, "remove", "--yes", "--json")


def secrets_in_a_file(site: Site, word: str) -> None:
    """The site has its secrets in a file; the next value of one is at hand."""
    site.fill_secrets_file()
    site.deploy().expect(0)
    (site.folder / "value").write_text(word)


def set_secret(site: Site) -> tuple[Result, Lines]:
    return follow(site, "secrets.set", "MOTTO", "--file", str(site.folder / "value"), "--json")


def by_https(site: Site, word: str) -> None:
    """The site is certified, its visitors come by https, and new code waits."""
    site.want_https()
    site.provision().expect(0)
    site.deploy().expect(0)
    code(site, word)


def renew(site: Site) -> tuple[Result, Lines]:
    """The certificate is renewed while new code goes live; nginx takes it up, and status is content."""
    before = site.certificate()
    with ThreadPoolExecutor(1) as pool:
        renewed = pool.submit(lab.renew_certificates, site.host)
        result, lines = deploy(site)
        renewed.result()
    wait_for(lambda: site.certificate() != before, what=lambda: "nginx did not take up the new certificate")
    site.fab("status").expect(0)
    return result, lines


# The order counts: rollback goes back over a change that HUP carries.
CHANGES = (
    Change("code", "hup", code, deploy),
    Change("dependency", "hup", dependency, deploy),
    Change("gunicorn version", "restart", newest_gunicorn, deploy),
    Change("workers", "hup", workers, deploy),
    Change("unit flag", "restart", unit_flag, deploy),
    Change("secret", "restart", secret, deploy),
    Change("nginx site", "nginx", nginx_site, deploy),
    Change("migration", "hup", migration, deploy),
    Change("breaking one", "hold", breaking, deploy),
    Change("Python", "restart", another_python, deploy),
    Change("static change", "hup", static, deploy),
    Change("rollback", "hup", nothing, typed("rollback")),
    Change("restart", "restart", nothing, typed("restart")),
    Change("reload", "hup", nothing, typed("reload")),
    Change("failing command", "hup", failing_command, deploy, code=5, undo=True),
    Change("hold", None, nothing, hold),
    Change("page, let in", "hup", code, page),
    Change("neighbour", None, nothing, neighbour),
    Change("secret in file", "restart", secrets_in_a_file, set_secret, undo=True),
    Change("renewal", "hup", by_https, renew, undo=True),
)


def plain(site: Site) -> None:
    """The settings before any change."""
    site.settings.clear()
    site.settings |= {"workers": WORKERS, "python": "3.11"}
    site.scheme = "http"


def begin(site: Site, branch: str, boot: float) -> None:
    """Put a new branch live with plain settings, with an application that takes `boot` seconds more to boot."""
    plain(site)
    site.branch = branch
    site.commit({"BRANCH": f"{branch}\n"}, f"Branch {branch}")
    lab.set_secrets(site.host, BOOT_SECONDS=str(boot) if boot else None, MOTTO=None)
    site.deploy().expect(0)
    site.fab("restart", "--json").expect(0)


def measure(site: Site, change: Change, word: str, *, boot: float = 0, idle: float = 5, rate: int = RATE) -> Row:
    """Make a change live while visitors come, and note what they noticed. Raises NotHere when it cannot be made."""
    change.make(site, word)
    with Traffic(site.host.address, site.domain, scheme=site.scheme, rate=rate) as traffic:
        time.sleep(idle)
        began = time.monotonic()
        before = traffic.count(end=began)
        result, lines = change.act(site)
        ended = time.monotonic()
        time.sleep(0.5)
    if change.undo:
        plain(site)
        site.provision().expect(0)
        site.deploy().expect(0)
    document: dict[str, Any] = result.json if result.out else {}
    activation = document.get("activation")
    switch = window(lines, activation, (began, ended))
    in_switch = traffic.count(*switch)
    seen = traffic.count()
    return Row(
        change=change.name,
        boot=boot,
        requests=seen.requests,
        failed=seen.failed,
        idle_ms=before.slowest_ms,
        switch_ms=in_switch.slowest_ms,
        whole_ms=traffic.count(begin=began).slowest_ms,
        late_ms=traffic.late_ms(*switch),
        seconds=round(ended - began, 1),
        activation=activation,
        reason=document.get("reason") or "",
        troubles=seen.troubles,
        wrong=tuple(faults(change, result, document, seen, in_switch.slowest_ms - before.slowest_ms)),
    )


def faults(change: Change, result: Result, document: Mapping[str, Any], seen: Numbers, later: float) -> list[str]:
    """What keeps a row from holding; `later` is by how many ms the switch was slower than idle."""
    found = []
    if result.code != change.code:
        found.append(f"exit {result.code}, not {change.code}: {document.get('error') or result.err[-300:]}")
    if seen.failed:
        found.append(f"{seen.failed} failed")
    if document.get("activation") != change.activation:
        found.append(f"{document.get('activation')}, not {change.activation}")
    if document.get("watch", {}).get("failed"):
        found.append(f"the deploy's own watch: {document['watch']}")
    if change.activation == "hup" and later > NOTICED:
        found.append(f"{later:.0f} ms slower than idle")
    return found


def follow(site: Site, *words: str) -> tuple[Result, Lines]:
    """Run the command; return how it ended, and its lines."""
    code, out, lines = followed(site.start(*words))
    return Result(code, out, "".join(line for _, line in lines)), lines


def window(lines: Lines, activation: str | None, whole: tuple[float, float]) -> tuple[float, float]:
    """From the end of the step before the activation to the end of the step that sees it done; `whole` if unknown."""
    first, last = WINDOWS.get(activation or "", ((), ""))
    begin, end = whole
    moment = whole[0]
    for at, line in lines:
        if line.strip().startswith(first):
            begin = moment
        if last and line.strip().startswith(last):
            end = at
        moment = at
    return begin, end


def locked(site: Site, changes: Mapping[str, str], *options: str) -> dict[str, str]:
    """These changes with the uv.lock that a developer would commit with them."""
    with tempfile.TemporaryDirectory() as folder:
        clone = [
            "git",
            "-c",
            "safe.directory=*",
            "clone",
            "--quiet",
            f"--branch={site.branch}",
            str(site.repository.folder),
        ]
        subprocess.run([*clone, folder], check=True)
        for path, text in changes.items():
            (Path(folder) / path).write_text(text)
        subprocess.run(["uv", "lock", "--quiet", *options], cwd=folder, check=True)
        return dict(changes) | {"uv.lock": (Path(folder) / "uv.lock").read_text()}


def bring_python(site: Site, now: int) -> str:
    """Install a newer Python of this machine on the host, below /usr/local; return its version. Raises NotHere."""
    version, prefix = newer_python(now)
    local = site.host.root / "usr/local"
    if not (local / f"bin/python{version}").exists():
        shutil.copytree(prefix / f"lib/python{version}", local / f"lib/python{version}", symlinks=True, ignore=NOT_RUN)
        for file in [*prefix.glob(f"lib/libpython{version}.so*"), prefix / f"bin/python{version}"]:
            shutil.copy2(file, local / file.relative_to(prefix))
        site.run("ldconfig")
    try:
        site.run(f"runuser -u deploy -- python{version} -c 'import ssl, ctypes, zlib'")
    except AssertionError as error:
        raise NotHere(f"this machine's Python {version} does not run on the host") from error
    return version


def newer_python(now: int) -> tuple[str, Path]:
    """The nearest Python 3 of this machine with a minor version above `now`, and its prefix: one of uv or pyenv."""
    asked = subprocess.run(["uv", "python", "dir"], capture_output=True, text=True, check=False).stdout.strip()
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for folder in (pyenv, *([Path(asked)] if asked else [])):
        for binary in folder.glob("*/bin/python3.*"):
            if (minor := binary.name.removeprefix("python3.")).isdigit() and int(minor) > now:
                found[int(minor)] = binary.resolve().parents[1]
    if not found:
        raise NotHere(f"this machine has no Python above 3.{now} (of uv or pyenv) to bring into the host")
    nearest = min(found)
    return f"3.{nearest}", found[nearest]


HEADINGS = (
    *("change", "boot", "requests", "failed"),
    *("idle ms", "switch ms", "whole ms", "late ms", "took s", "activation", "reason"),
)
COLUMNS = "{:<16} {:>4} {:>8} {:>6} {:>7} {:>9} {:>8} {:>7} {:>6}  {:<10} {}"


def shown(row: Row) -> str:
    """A row of the table, with what is wrong below it."""
    cells = (row.change, f"{row.boot:g}", row.requests, row.failed, f"{row.idle_ms:.0f}", f"{row.switch_ms:.0f}")
    rest = (f"{row.whole_ms:.0f}", f"{row.late_ms:.0f}", f"{row.seconds:.1f}", row.activation or "-")
    reason = row.reason if len(row.reason) <= 60 else f"{row.reason[:57]}..."
    wrong = "".join(f"\n    WRONG: {text}" for text in row.wrong)
    return COLUMNS.format(*cells, *rest, reason) + wrong + "".join(f"\n      {trouble}" for trouble in row.troubles)


def totals(rows: Sequence[Row], skipped: Sequence[str]) -> dict[str, Any]:
    """The rows in one object; `worst_hup_ms` is by how much a HUP was slower than idle at most."""
    hups = [row for row in rows if row.activation == "hup"]
    return {
        "ok": bool(rows) and not any(row.wrong for row in rows),
        "rows": len(rows),
        "rows_that_hold": sum(not row.wrong for row in rows),
        "not_run": list(skipped),
        "requests": sum(row.requests for row in rows),
        "failed": sum(row.failed for row in rows),
        "worst_hup_ms": max((round(row.switch_ms - row.idle_ms, 1) for row in hups), default=None),
        "slowest_hup_ms": max((row.switch_ms for row in hups), default=None),
        "slowest_restart_ms": max((row.switch_ms for row in rows if row.activation == "restart"), default=None),
        "table": [asdict(row) for row in rows],
    }


def say(text: str) -> None:
    """A line for people, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(site: Site, options: argparse.Namespace) -> dict[str, Any]:
    """Measure every change for every boot time and say the table as it grows."""
    rows: list[Row] = []
    skipped: list[str] = []
    say(f"{options.rate} requests/s, a {SLOW_SECONDS} s request and an upload under way; the slowest short request:")
    say("idle: before the command. switch: from the signal until only new workers answer (HUP: at most idle + 50).")
    say("whole: all the command, while its build competes with the site for the CPU.")
    say("late: how late the visitors themselves came during the switch, which is this machine's doing.\n")
    say(COLUMNS.format(*HEADINGS))
    for boot in options.boot:
        begin(site, f"load-{boot:g}", boot)
        for change in CHANGES:
            if options.only and change.name not in options.only:
                continue
            try:
                rows.append(
                    measure(
                        site,
                        change,
                        f"{change.name.replace(' ', '-')}-{boot:g}",
                        boot=boot,
                        idle=options.idle,
                        rate=options.rate,
                    )
                )
                say(shown(rows[-1]))
            except NotHere as reason:
                skipped.append(f"{change.name}: {reason}")
                say(f"{change.name:<16} {boot:>4g} not run, not counted: {reason}")
    return totals(rows, skipped)


def main(arguments: Sequence[str]) -> int:
    """Make a host, measure, take it down; 0 only if every row holds."""
    parser = argparse.ArgumentParser(prog="just load", description=__doc__)
    parser.add_argument(
        "--boot", type=float, nargs="+", default=[0.0, 2.0], help="seconds that the site takes more to boot"
    )
    parser.add_argument("--only", nargs="+", choices=[change.name for change in CHANGES], help="only these changes")
    parser.add_argument("--idle", type=float, default=5, help="seconds of visits before each change")
    parser.add_argument("--rate", type=int, default=RATE, help="short requests a second")
    parser.add_argument("--keep", action="store_true", help="leave the lab host `load` running")
    options = parser.parse_args(arguments)
    lab.down("load", say=lambda _: None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            site = Site(lab.up("load", say=say), Path(folder))
            site.provision().expect(0)
            result = run(site, options)
    except DeployError as error:
        say("\n  -> ".join(filter(None, (error.message, error.hint))))
        return error.exit_code
    finally:
        if not options.keep:
            lab.down("load", say=lambda _: None)
    say(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
