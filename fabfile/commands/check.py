"""`invoke check`: whatever can be known to be wrong without connecting to a host."""

import json as json_format
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from invoke import Context, Exit, task

from ..config.layout import Layout
from ..config.places import IN_CLONE, PROJECT, replaced_templates
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..config.settings import Settings

OUTPUT_LINES = 60
TIME_LIMIT = 60  # seconds for one program; the slowest takes about two
NGINX_CONF = """\
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    types_hash_max_size 2048;
    {mime_types}
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{site}
}}
"""


@dataclass(frozen=True)
class Result:
    """How one check ended; `note` is a line for a person, `output` what was said when it failed."""

    check: str
    state: Literal["ok", "failed", "not installed"]
    note: str = ""
    output: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Rendering:
    """The files of one host as they would be installed."""

    unit: str
    service: str
    socket: str
    site: str
    processes: tuple[tuple[str, str], ...] = ()  # name and text of each unit file of workers and timers


@task(help={"json": "print one JSON document on stdout, and nothing else there"})
def check(_context: Context, json: bool = False) -> None:
    """Check hosts.toml, the rendered templates and the tool's code, without connecting to a host."""
    results = run_checks()
    failed = any(result.state == "failed" for result in results)
    if json:
        document = {
            "status": "failed" if failed else "success",
            "checks": [asdict(result) for result in results],
        }
        sys.stdout.write(json_format.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(told(results))
    if failed:
        raise Exit(code=ConfigError.exit_code)


def told(results: Iterable[Result]) -> str:
    """Return the results for a person: one line each, and the output of those that failed."""
    text = ""
    for result in results:
        note = f": {result.note}" if result.note else ""
        text += f"{result.state:<14}{result.check}{note} ({result.seconds:.1f} s)\n"
        text += "".join(f"    {line}\n" for line in result.output.splitlines()[-OUTPUT_LINES:])
    return text


def run_checks(hosts_file: Path | None = None, environ: Mapping[str, str] = os.environ) -> list[Result]:
    """Run every check, the programs side by side."""
    with ThreadPoolExecutor() as pool:
        commands = (
            "ruff check --output-format concise",
            "ruff format --check",
            "ty check --output-format concise",
        )
        # The app's own code is its own business.
        code = [pool.submit(check_code, command) for command in commands if IN_CLONE]
        hosts, settings = check_hosts(hosts_file, environ)
        templates, rendered = check_templates(settings)
        units = pool.submit(check_each, "systemd-analyze verify", verify_units, rendered)
        site = pool.submit(check_each, "nginx -t", verify_site, rendered)
        return [hosts, templates, units.result(), site.result(), *(result.result() for result in code)]


def check_hosts(path: Path | None, environ: Mapping[str, str]) -> tuple[Result, dict[str, "Settings"]]:
    """Check hosts.toml; return the settings by host, or those of an example when the file cannot be used."""
    from ..config import hosts_file
    from ..config.settings import example

    began = time.monotonic()
    settings, unset = {}, []
    try:
        known = hosts_file.load(path, environ)
        for name in known.hosts:
            host, missing = known.draft(name)
            settings[name] = host.settings
            unset += missing
    except ConfigError as error:
        output = f"{error.message}\n{error.hint}"
        return Result("hosts.toml", "failed", "", output, _since(began)), {"an example": example()}
    note = ", ".join(settings)
    if unset:
        note += "; not set, and checked with the default: " + ", ".join(unset)
    return Result("hosts.toml", "ok", note, seconds=_since(began)), settings


def check_templates(settings: Mapping[str, "Settings"]) -> tuple[Result, dict[str, Rendering]]:
    """Render every template for every host; return the distinct renderings by the hosts that share them."""
    from jinja2 import TemplateError

    from ..plan import rendering

    began = time.monotonic()
    failures: list[str] = []
    hosts: dict[Rendering, list[str]] = {}
    for name, of_host in settings.items():
        try:
            rendered = Rendering(
                Layout.of(of_host).unit,
                rendering.service(of_host),
                rendering.socket(of_host),
                rendering.site(of_host),
                process_units(of_host),
            )
            hosts.setdefault(rendered, []).append(name)
        except (TemplateError, OSError) as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
    state = "failed" if failures else "ok"
    note = ", ".join(f"with your {path}" for path in replaced_templates())
    result = Result("templates", state, note, "\n".join(failures), _since(began))
    return result, {", ".join(names): rendered for rendered, names in hosts.items()}


def process_units(settings: "Settings") -> tuple[tuple[str, str], ...]:
    """Return name and text of each unit file of workers and timers."""
    from ..plan import rendering
    from ..plan.services import services

    beside = [service for service in services(Layout.of(settings)) if service.kind != "web"]
    files = rendering.files(settings, beside).items()
    return tuple((path.name, text) for path, text in files if path.suffix in (".service", ".timer"))


def check_each(command: str, verify: Callable[[Rendering, Path], str], renderings: Mapping[str, Rendering]) -> Result:
    """Run `verify` on each rendering, in a folder of its own; it returns what is wrong."""
    began = time.monotonic()
    program = command.split()[0]
    if not find(program):
        return Result(command, "not installed", f"{program} is not on this machine")
    failures = []
    for hosts, rendered in renderings.items():
        with tempfile.TemporaryDirectory(prefix="django-deploy-check-") as folder:
            if said := verify(rendered, Path(folder)):
                failures.append(f"{hosts}:\n{said}")
    return Result(command, "failed" if failures else "ok", "", "\n".join(failures), _since(began))


def verify_units(rendered: Rendering, folder: Path) -> str:
    """Return what systemd-analyze holds against the units; "" when nothing."""
    # It looks for the program, which need not be on the operator's machine.
    service = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/sh", rendered.service)
    web = ((f"{rendered.unit}.service", service), (f"{rendered.unit}.socket", rendered.socket))
    units = [folder / name for name, _ in (*web, *rendered.processes)]
    for unit, (_, text) in zip(units, (*web, *rendered.processes), strict=True):
        unit.write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", *map(str, units)]
    code, output = run([*command, "--recursive-errors=no"])
    if "unrecognized option" in output:  # systemd before 250
        code, output = run(command)
    # A misspelt option is only a warning to systemd; warnings about the machine's other units are not ours.
    names = [unit.name.removesuffix(".service") for unit in units]
    ours = "\n".join(line for line in output.splitlines() if any(name in line for name in names))
    return (output or f"it ended with {code}") if code else ours


def verify_site(rendered: Rendering, folder: Path) -> str:
    """Return what nginx holds against the site; "" when nothing."""
    conf = folder / "nginx.conf"
    conf.write_text(nginx_conf(rendered.site, folder), encoding="utf-8")
    code, output = run(["nginx", "-t", "-p", str(folder), "-c", str(conf)])
    return (output or f"it ended with {code}") if code else ""


def nginx_conf(site: str, folder: Path) -> str:
    """Return an nginx.conf around `site` that anybody can run: sockets in `folder` instead of port 80, and its log.

    The certificate stays out, which only the host has.
    """
    numbers = iter(range(100))
    site = re.sub(r"\binclude /etc/nginx/snippets/\S+-tls\.conf;", "", site)
    listening = re.sub(r"\blisten \S+?(?=[ ;])", lambda _: f"listen unix:{folder}/{next(numbers)}.sock", site)
    listening = listening.replace(" /var/log/nginx/", f" {folder}/")
    mime_types = Path("/etc/nginx/mime.types")
    include = f"include {mime_types};" if mime_types.exists() else ""
    return NGINX_CONF.format(folder=folder, mime_types=include, site=listening)


def check_code(command: str) -> Result:
    """Run a linter on the project."""
    began = time.monotonic()
    program, *arguments = command.split()
    name = f"{program} {arguments[0]}"
    if not find(program):
        return Result(name, "not installed", "uv sync installs it")
    code, output = run([program, *arguments])
    return Result(name, "failed" if code else "ok", "", output if code else "", _since(began))


def find(program: str) -> str | None:
    """Return where `program` is: beside this Python, on PATH, or where systems keep programs of root."""
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin")
    return shutil.which(program, path=os.pathsep.join(places))


def run(command: list[str]) -> tuple[int, str]:
    """Return the exit code and all output of a program, which runs in the project's folder."""
    try:
        done = subprocess.run(
            [find(command[0]) or command[0], *command[1:]],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, f"{command[0]} did not end within {TIME_LIMIT} s"
    return done.returncode, done.stdout.strip()


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)
