"""Where Django's own parts lie: manage.py, settings, the WSGI application, and what the settings say."""

import ast
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .files import Repository, is_below, is_of_tests
from .report import Report
from .values import UNKNOWN, DatabaseUrl, Outside, Place, names_of, plain

PRODUCTION = ("production", "prod", "prd", "live")
LOOKS_LIKE_A_DOMAIN = re.compile(r"\.?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", re.IGNORECASE)


@dataclass(frozen=True)
class Django:
    """A Django project in a repository: its folder, its settings module, and what the names there stand for."""

    project: str
    module: str | None
    names: dict[str, Any]

    def value(self, name: str) -> Any:
        return self.names.get(name, UNKNOWN)


def find(repository: Repository, within: str, report: Report) -> Django | None:
    """Return the project of the shallowest manage.py below `within`, else of the one above; None without any."""
    paths = repository.named("manage.py", within) or [repository.upwards("manage.py", within) or ""]
    manages = [path for path in paths if "django" in repository.text(path)]
    if not manages:
        return None
    manage, *others = manages
    project = posixpath.dirname(manage) or "."
    report.found.append(f"manage.py: {manage}" + (f" (not: {', '.join(others)})" if others else ""))
    if project != ".":
        report.set("project", project)
    module = _settings_module(repository, manage, project, report)
    path = repository.module(module, project) if module else None
    return Django(project, module, names_of(repository, path, project) if path else {})


def _settings_module(repository: Repository, manage: str, project: str, report: Report) -> str | None:
    """Return the settings of a production server; say it when nothing but a secret leads there."""
    of_manage = _default_module(repository, manage)
    package = (of_manage or "").split(".settings")[0]
    beside = repository.module(f"{package}.wsgi", project) if package else None
    paths = [beside] if beside else _applications(repository, project)
    of_web = next((found for path in paths if (found := _default_module(repository, path))), None)
    module = of_web or of_manage
    if module is None:
        report.todo.append(
            "neither manage.py nor wsgi.py names a settings module: DJANGO_SETTINGS_MODULE must be a secret in Doppler"
        )
        return None
    chosen = _of_production(repository, project, module)
    if chosen == of_web == of_manage or (chosen == of_manage and of_web is None):
        report.found.append(f"settings: {chosen}")
    else:
        ours = f"manage.py falls back to {of_manage or 'none'}, wsgi.py to {of_web or 'none'}"
        report.todo.append(f"make DJANGO_SETTINGS_MODULE={chosen} a secret in Doppler: {ours}")
    return chosen


def _of_production(repository: Repository, project: str, module: str) -> str:
    """Return the module for production that stands beside a settings module, or in its package."""
    for package in (module, module.rpartition(".")[0]):
        for name in PRODUCTION:
            path = repository.module(f"{package}.{name}", project) if package else None
            if path and "settings" in f"{package}.{name}":
                return f"{package}.{name}"
    return module


def _default_module(repository: Repository, path: str) -> str | None:
    """Return what a module makes of DJANGO_SETTINGS_MODULE where it is not set."""
    for node in ast.walk(repository.tree(path)):
        match node:
            case ast.Call(args=[ast.Constant(value="DJANGO_SETTINGS_MODULE"), ast.Constant(value=str(module)), *_]):
                return module
            case ast.Assign(
                targets=[ast.Subscript(slice=ast.Constant(value="DJANGO_SETTINGS_MODULE"))],
                value=ast.Constant(value=str(module)),
            ):
                return module
    return None


def _applications(repository: Repository, project: str) -> list[str]:
    """Return the files of WSGI applications, else of ASGI ones; those of the project first."""
    for name in ("wsgi.py", "asgi.py"):
        paths = [path for path in repository.named(name) if not is_of_tests(path)]
        if paths:
            return sorted(paths, key=lambda path: not is_below(path, project))
    return []


def application(repository: Repository, django: Django, report: Report) -> None:
    """Find what gunicorn serves."""
    for name in _names_of_applications(repository, django):
        module, _, attribute = name.rpartition(".")
        if path := repository.module(module, django.project):
            report.set("wsgi", f"{module}:{attribute}")
            _tell_application(path, django, report)
            _can_import(path, module, repository, django, report)
            return
    report.set("wsgi", "")
    report.todo.append("there is no wsgi.py: name what gunicorn serves (wsgi)")


def _names_of_applications(repository: Repository, django: Django) -> Iterator[str]:
    """Yield what may be it, as Django writes it: what the settings say, else what lies beside them, else any."""
    said = plain(django.value("WSGI_APPLICATION"))
    if isinstance(said, str):
        yield said
    if package := (django.module or "").split(".settings")[0]:
        yield from (f"{package}.wsgi.application", f"{package}.asgi.application")
    for path in _applications(repository, django.project):
        inside = posixpath.relpath(path, django.project) if is_below(path, django.project) else path
        yield f"{inside.removeprefix('src/').removesuffix('.py').replace('/', '.')}.application"


def _tell_application(path: str, django: Django, report: Report) -> None:
    if posixpath.basename(path) == "asgi.py":
        report.todo.append(
            f"{path} is ASGI and there is no wsgi.py: uv add uvicorn uvicorn-worker, and a gunicorn.conf.py beside "
            'manage.py with worker_class = "uvicorn_worker.UvicornWorker"'
        )
        return
    report.found.append(f"wsgi: {path}")
    if django.value("ASGI_APPLICATION") is not UNKNOWN:
        report.found.append("ASGI_APPLICATION is set too, and not used: gunicorn serves the WSGI application")


def _can_import(path: str, module: str, repository: Repository, django: Django, report: Report) -> None:
    """Say it when gunicorn, which runs in the folder of manage.py, would not find the application."""
    folder = path.removesuffix(f"{module.replace('.', '/')}.py").rstrip("/") or "."
    metadata = repository.toml(repository.upwards("pyproject.toml", django.project) or "")
    if folder != django.project and "build-system" not in metadata:
        where = posixpath.relpath(folder, django.project)
        report.todo.append(
            f"{module} lies in {folder}, where gunicorn does not look: a gunicorn.conf.py beside manage.py with "
            f'pythonpath = "{where}"'
        )


def static_files(django: Django, report: Report) -> None:
    """Find STATIC_ROOT and STATIC_URL."""
    root = plain(django.value("STATIC_ROOT"))
    add = 'in the settings, STATIC_ROOT = BASE_DIR / "staticfiles"'
    if isinstance(root, Place) and not _leads_out(root.path) and not is_below(django.project, root.path):
        inside = posixpath.relpath(root.path, django.project)
        report.set("static_root", inside)
        report.found.append(f"STATIC_ROOT: {root.path}")
    elif isinstance(root, str) and root and not posixpath.isabs(root) and not _leads_out(posixpath.normpath(root)):
        report.set("static_root", posixpath.normpath(root))
    elif root in (UNKNOWN, None, ""):
        known = "STATIC_ROOT" in django.names
        report.todo.append(
            f"what STATIC_ROOT is, the settings do not tell: static_root, or {add}"
            if known
            else f"STATIC_ROOT is not set: {add}"
        )
    else:
        where = root.path if isinstance(root, Place) else root
        report.todo.append(f"STATIC_ROOT is {where}, and must be a folder of its own inside the repository: {add}")
    url = plain(django.value("STATIC_URL"))
    if isinstance(url, str) and url:
        path = url if url.startswith("/") else f"/{url}"
        if re.fullmatch(r"/([A-Za-z0-9_-][A-Za-z0-9._-]*/)+", path):
            if path != "/static/":
                report.set("static_url", path)
        else:
            report.todo.append(
                f"STATIC_URL is {url}: nginx serves static files of a path on this site only (static_url)"
            )


def _leads_out(path: str) -> bool:
    return path == ".." or path.startswith("../")


def kept_places(repository: Repository, django: Django, report: Report) -> None:
    """Find what must outlive releases: uploads, a SQLite database, a cache of files."""
    media = plain(django.value("MEDIA_ROOT"))
    if isinstance(media, str) and media:
        media = media if posixpath.isabs(media) else Place(posixpath.normpath(posixpath.join(django.project, media)))
    _uploads(media, plain(django.value("MEDIA_URL")), report)
    databases = plain(django.value("DATABASES"))
    for name, database in databases.items() if isinstance(databases, dict) else ():
        _database(str(name), database, repository, django, report)
    settings = [path for path in repository.paths if path.endswith(".py") and "settings" in path]
    if "linked_files" in report.settings and any("DATABASE_URL" in repository.text(path) for path in settings):
        report.todo.append("the settings know DATABASE_URL: with it as a secret in Doppler, SQLite and its line go")
    caches = plain(django.value("CACHES"))
    for cache in caches.values() if isinstance(caches, dict) else ():
        if isinstance(cache, dict) and str(cache.get("BACKEND")).endswith("FileBasedCache"):
            _keep(plain(cache.get("LOCATION")), "linked_dirs", "the cache", "cache of files", report)


def _uploads(place: Any, url: Any, report: Report) -> None:
    """Let nginx show the uploads at MEDIA_URL, when that is on this site; else just keep them."""
    path = "/media/" if url in (UNKNOWN, None, "") else f"/{url.lstrip('/')}" if isinstance(url, str) else ""
    shown = re.fullmatch(r"/([A-Za-z0-9_-][A-Za-z0-9._-]*/)+", path) and "://" not in path
    if not (shown and isinstance(place, Place) and place.path != "." and not _leads_out(place.path)):
        _keep(place, "linked_dirs", "MEDIA_ROOT", "uploads (MEDIA_ROOT)", report)
        return
    report.set("media", {"folder": place.path} | ({"url": path} if path != "/media/" else {}), "uploads (MEDIA_ROOT)")
    report.found.append(f"MEDIA_ROOT: {place.path}, kept over releases and shown at {path} (media)")


def _keep(place: Any, key: str, what: str, comment: str, report: Report) -> None:
    if isinstance(place, Place) and place.path != "." and not _leads_out(place.path):
        report.add(key, place.path, comment)
        report.found.append(f"{what}: {place.path}, kept over releases ({key})")
    elif isinstance(place, Place | str) and place:
        where = place.path if isinstance(place, Place) else place
        report.todo.append(
            f"{what} is {where}: the app may write only to linked_dirs and linked_files in the repository"
        )


def _database(name: str, database: Any, repository: Repository, django: Django, report: Report) -> None:
    if isinstance(database, DatabaseUrl | Outside):
        fallback = plain(database.default)
        without = f" (without it: {fallback.split(':')[0]})" if isinstance(fallback, str) and fallback else ""
        report.todo.append(f"make {database.variable} a secret in Doppler: it names the database{without}")
        return
    engine = plain(database.get("ENGINE")) if isinstance(database, dict) else UNKNOWN
    if not isinstance(engine, str):
        report.todo.append(
            f"which database {name} is, the settings do not tell: if it is SQLite, linked_files names it"
        )
    elif "sqlite" in engine or "spatialite" in engine:
        place = plain(database.get("NAME"))
        if isinstance(place, str) and place not in ("", ":memory:") and not posixpath.isabs(place):
            place = Place(posixpath.normpath(posixpath.join(django.project, place)))
        folder = posixpath.dirname(place.path) if isinstance(place, Place) else ""
        if folder and not _leads_out(folder) and not any(is_below(path, folder) for path in repository.paths):
            _keep(Place(folder), "linked_dirs", "SQLite", "the database", report)
        else:
            _keep(place, "linked_files", "SQLite", "the database", report)
    else:
        asked = [value.variable for value in database.values() if isinstance(value, Outside)]
        words = f", from {', '.join(asked)}: secrets in Doppler" if asked else ""
        report.found.append(f"database: {engine.rpartition('.')[2]}{words}")


def domains(django: Django, report: Report) -> None:
    """Find the site's names in ALLOWED_HOSTS."""
    hosts = plain(django.value("ALLOWED_HOSTS"))
    hosts = hosts.split(",") if isinstance(hosts, str) else hosts if isinstance(hosts, list) else []
    literal = [host.strip() for host in hosts if isinstance(host, str)]
    names = [host.lstrip(".").lower() for host in literal if LOOKS_LIKE_A_DOMAIN.fullmatch(host)]
    names = list(dict.fromkeys(name for name in names if not name.endswith((".local", ".localhost", ".test"))))
    if names:
        report.set("domain", names[0], "from ALLOWED_HOSTS")
        if names[1:]:
            report.set("aliases", names[1:])
