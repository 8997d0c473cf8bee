"""What runs beside the website: the lines of a Procfile, a Celery app, or another queue that Django has installed."""

import ast
import re
import shlex

from ..config.processes import command_line, process_name
from .django import Django
from .files import Repository, is_below, is_of_tests
from .packages import locks
from .report import Report
from .values import UNKNOWN, plain

WEB = ("web", "django", "release")
# Queues that say in INSTALLED_APPS that they are there, and the command of their worker.
QUEUES = {
    "django_q": "manage.py qcluster",
    "huey.contrib.djhuey": "manage.py run_huey",
    "django_rq": "manage.py rqworker default",
    "procrastinate.contrib.django": "manage.py procrastinate worker",
    "django_tasks.backends.database": "manage.py db_worker",
    "django_tasks_db": "manage.py db_worker",
}


def processes(repository: Repository, django: Django, report: Report) -> None:
    """Find the workers; a Procfile says it best."""
    if not _of_procfile(repository, django, report):
        _of_celery(repository, django, report)
        _of_queue(django, report)


def _of_procfile(repository: Repository, django: Django, report: Report) -> bool:
    path = repository.upwards("Procfile", django.project)
    lines = re.findall(r"^([A-Za-z0-9_-]+):\s*(.+?)\s*$", repository.text(path) if path else "", re.MULTILINE)
    for name, command in lines:
        if name == "release":
            report.found.append(
                f"Procfile, release: not needed for migrate and collectstatic, which a deploy does; {command}"
            )
        elif name not in WEB:
            _take(name, command, django, report)
    return any(name not in WEB for name, _ in lines)


def _take(name: str, line: str, django: Django, report: Report) -> None:
    """Take a line of a Procfile, if it can be run without a shell."""
    known = re.sub(r"[^a-z0-9_]", "_", name.lower())
    try:
        if re.search(r"[$`|;&<>]", line):
            raise ValueError("no shell runs it, and it has what only a shell reads")
        command = command_line(_without_wrappers(line))
        process_name(known)
    except ValueError as error:
        report.todo.append(f"Procfile, {name}: not taken over, {error}: {line}")
        return
    if re.match(r"celery .*\bbeat\b", command):
        _beat(known, command, django, report)
    else:
        report.processes[known] = {"command": command}
    report.found.append(f"Procfile, {name}")


def _without_wrappers(line: str) -> str:
    """Return a command as hosts.toml has it: a program of the virtualenv, or manage.py."""
    words = shlex.split(line)
    if words[:1] == ["exec"]:
        del words[0]
    if words[:2] in (["uv", "run"], ["poetry", "run"], ["pipenv", "run"]):
        del words[:2]
    if words[1:] and re.fullmatch(r"python[0-9.]*", words[0]) and words[1].endswith("manage.py"):
        del words[0]
    if words and words[0].endswith("manage.py"):
        words[0] = "manage.py"
    return shlex.join(words)


def _beat(name: str, command: str, django: Django, report: Report) -> None:
    """Take Celery's scheduler: never two of it, and its file where it may write."""
    scheduler = plain(django.value("CELERY_BEAT_SCHEDULER"))
    in_database = isinstance(scheduler, str) and "Database" in scheduler
    # A file in the release is the app's to read only.
    command = re.sub(r" (?:-s|--schedule)[ =][^/\s]\S*", "", command)
    if not in_database and not re.search(r" (-S|--scheduler|-s|--schedule)\b", command):
        if _installed(django, "django_celery_beat"):
            command += " --scheduler django_celery_beat.schedulers:DatabaseScheduler"
        else:
            command += f" --schedule /var/lib/{report.settings['name']}-{name}/schedule"
    report.processes[name] = {"command": command, "singleton": True}


def _of_celery(repository: Repository, django: Django, report: Report) -> None:
    if not locks(repository, django.project, "celery"):
        return
    for path in (*repository.named("celery.py"), *repository.named("celery_app.py")):
        if is_of_tests(path) or not is_below(path, django.project) or not _makes_celery(repository, path):
            continue
        inside = path.removeprefix(f"{django.project}/").removeprefix("src/").removesuffix(".py").replace("/", ".")
        app = inside.removesuffix(".celery")
        report.processes["worker"] = {"command": f"celery -A {app} worker"}
        report.found.append(f"{path}: a worker of Celery")
        scheduled = "beat_schedule" in repository.text(path) or django.value("CELERY_BEAT_SCHEDULE") is not UNKNOWN
        if scheduled or _installed(django, "django_celery_beat"):
            _beat("beat", f"celery -A {app} beat", django, report)
            report.found.append("Celery's beat, one of it")
        return


def _makes_celery(repository: Repository, path: str) -> bool:
    calls = (node.func for node in ast.walk(repository.tree(path)) if isinstance(node, ast.Call))
    return any(ast.unparse(call).rpartition(".")[2] == "Celery" for call in calls)


def _of_queue(django: Django, report: Report) -> None:
    for app, command in QUEUES.items():
        if "worker" not in report.processes and _installed(django, app):
            report.processes["worker"] = {"command": command}
            report.found.append(f"{app}: a worker of it")


def _installed(django: Django, app: str) -> bool:
    apps = plain(django.value("INSTALLED_APPS"))
    return isinstance(apps, list) and any(isinstance(each, str) and each.startswith(app) for each in apps)
