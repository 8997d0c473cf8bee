"""What is judged of the gunicorn that an old service starts: what it serves, from where, by which settings. Pure."""

import json
import posixpath
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .findings import Findings
from .hiding import hidden
from .old_command import Start, lacking
from .old_unit import conf_of, directory

if TYPE_CHECKING:
    from ...config.settings import Settings

# Of gunicorn's settings, those that the new unit has, whatever the old one said.
OURS = {"bind", "chdir", "config", "daemon", "group", "user", "pidfile", "reuse_port", "workers", "umask", "reload",
        "check_config", "print_config", "no_control_socket", "paste", "uds", "host", "port"}  # fmt: skip


def judge_server(
    settings: "Settings", unit: Mapping[str, Any], started: Start, found: Mapping[str, Any], findings: Findings
) -> None:
    """Judge what is served, and from where."""
    if started.server != "gunicorn":
        findings.tell(
            f"{unit['name']} runs {started.server}; a release runs gunicorn, which has to be among the app's packages "
            '(for ASGI with worker_class = "uvicorn_worker.UvicornWorker" in its gunicorn.conf.py)'
        )
    app = started.app if ":" in started.app or not started.app else f"{started.app}:application"
    if app and app != settings.wsgi:
        findings.need(f"{unit['name']} serves {app}", f"wsgi = {json.dumps(app)}")
    path = found["folder"]["path"]
    project = posixpath.relpath(directory(unit), path)
    if project.startswith(".."):
        findings.tell(
            f"{unit['name']} runs in {directory(unit)}, outside of {path}; the new unit runs in project = "
            f"{json.dumps(settings.project)} of a release"
        )
    elif project != posixpath.normpath(settings.project):
        findings.need(f"{unit['name']} runs in {directory(unit)}", f"project = {json.dumps(project)}")


def judge_gunicorn(
    settings: "Settings", unit: Mapping[str, Any], started: Start, found: Mapping[str, Any], findings: Findings
) -> None:
    """Ask for the settings of gunicorn that its command line has."""
    path, text = conf_of(unit, found)
    top = found["folder"]["path"]
    places = [posixpath.normpath(f"{top}/{each}/gunicorn.conf.py") for each in (settings.project, ".")]
    ours = {posixpath.relpath(each, top): found["folder"]["gunicorn_conf"] for each in places}
    own = next((texts[name] for name, texts in ours.items() if name in texts), "")
    if "config" in started.settings and path not in places:
        inside = f"{path}/".startswith(f"{top}/")
        say = f"{unit['name']} has settings of gunicorn in {path}"
        if inside and not own:
            findings.need(
                f"{say}, and a release reads gunicorn.conf.py beside manage.py alone",
                f"git mv {posixpath.relpath(path, top)} {posixpath.relpath(places[0], top)} in the repository, then "
                "deploy that in the old way (bind, user and pidfile are the new unit's)",
            )
        elif path != "/dev/null":
            findings.tell(f"{say}: what it says belongs into gunicorn.conf.py of the repository")
    _judge_workers(settings, unit, started, own or text, findings)
    given = {name: value for name, value in started.settings.items() if name not in OURS}
    if started.server == "gunicorn" and (wanted := lacking(given, own)):
        lines = "\n".join(f"{name} = {_python(value)}" for name, value in sorted(wanted.items()))
        findings.need(
            f"{unit['name']} starts gunicorn with {', '.join(sorted(wanted))}",
            f"in {posixpath.relpath(places[0], top)} of the repository, deployed once in the old way:\n{hidden(lines)}",
        )


def _judge_workers(
    settings: "Settings", unit: Mapping[str, Any], started: Start, conf: str, findings: Findings
) -> None:
    workers = started.settings.get("workers")
    written = re.search(r"(?m)^workers\s*=", conf)
    if isinstance(workers, int) and workers != (settings.workers or (None if written else 2)):
        findings.need(f"{unit['name']} has {workers} workers", f"workers = {workers}")


def _python(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)
