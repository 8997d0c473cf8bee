"""Runs in a worker of the proof (gunicorn.conf.py): asks the loaded Django where its data lies, and what its schema is.

`answers()` returns what gunicorn.conf.py writes to django.json; an app that is no Django has no answers. The app's
Python runs it, so no syntax is newer than Python 3.9. Every question is asked by itself: an app in which one of them
fails is asked the others.
"""

import contextlib
import os
import sys
import threading
from pathlib import Path

SQLITE = "sqlite3"
PATIENCE = 5  # seconds for the databases; an app whose database does not answer is told by its migrations


def answers():
    """What Django says: `places` that the app writes to, `media`, `migrations` of code and databases, `static_list`."""
    if "django" not in sys.modules:
        return {}
    from django.apps import apps  # ty: ignore[import-not-found] -- the app's own
    from django.conf import settings  # ty: ignore[import-not-found] -- the app's own

    if not settings.configured or not apps.ready:
        return {}
    found, shown = [], {}
    for question in (databases, uploads, caches, logs, sessions, mails, temporary_uploads):
        with by_itself(question):
            found.extend(question(settings, apps))
    with by_itself(media):
        shown = media()
    return {
        "static_list": has_static_list(),  # after the others, for they may have loaded more of the app
        "media": shown,
        "places": [dict(place, path=str(Path(place["path"]).absolute())) for place in found],
        "migrations": {"known": known_migrations(settings, apps), "applied": applied_migrations()},
    }


@contextlib.contextmanager
def by_itself(question):
    """Let one question fail, which is told, and the others be asked."""
    try:
        yield
    except Exception as error:
        print(f"{question.__name__} cannot be asked for: {error!r}", file=sys.stderr)


def has_static_list():
    """Whether the app has read the list of hashed static files as it loaded, and so will never read a newer one."""
    lazy = getattr(sys.modules.get("django.contrib.staticfiles.storage"), "staticfiles_storage", None)
    every = getattr(sys.modules.get("django.core.files.storage"), "storages", None)  # from Django 4.2 on
    made = (
        vars(lazy).get("_wrapped") if lazy is not None else None,
        getattr(every, "_storages", {}).get("staticfiles"),
    )
    return any(hasattr(storage, "hashed_files") for storage in made)


def place(setting, path, kind, use):
    """A place that the app writes to: the Django setting that names it, `file` or `folder`, and what for."""
    return {"setting": setting, "path": os.fspath(path), "kind": kind, "use": use}


def databases(settings, _apps):
    for alias, database in settings.DATABASES.items():
        name = os.fspath(database.get("NAME") or "")
        if not database.get("ENGINE", "").endswith((SQLITE, "spatialite")) or not name:
            continue
        if name.startswith("file:"):
            name, _, options = name[len("file:") :].partition("?")
            if "mode=memory" in options:
                continue
            name = "/" + name.lstrip("/") if name.startswith("/") else name
        if ":memory:" not in name:
            yield place(f'DATABASES["{alias}"]["NAME"]', name, "file", "database")


def uploads(settings, apps):
    from django.core.files.storage import FileSystemStorage, default_storage  # ty: ignore[import-not-found] -- the app's own
    from django.db.models import FileField  # ty: ignore[import-not-found] -- the app's own

    seen = set()
    fields = [
        field for model in apps.get_models() for field in model._meta.get_fields() if isinstance(field, FileField)
    ]
    if isinstance(default_storage, FileSystemStorage) and default_storage.location != str(Path.cwd()):
        seen.add(default_storage.location)
        own = getattr(settings, "STORAGES", {}).get("default", {}).get("OPTIONS", {}).get("location")
        name = 'STORAGES["default"]["OPTIONS"]["location"]' if own else "MEDIA_ROOT"
        yield place(name, default_storage.location, "folder", "uploads")
    for alias in set(getattr(settings, "STORAGES", {})) - {"default", "staticfiles"}:
        from django.core.files.storage import storages  # ty: ignore[import-not-found] -- the app's own

        if isinstance(storages[alias], FileSystemStorage) and storages[alias].location not in seen:
            seen.add(storages[alias].location)
            yield place(f'STORAGES["{alias}"]', storages[alias].location, "folder", "uploads")
    for field in fields:
        storage = field.storage
        if not isinstance(storage, FileSystemStorage) or storage.location in seen:
            continue
        seen.add(storage.location)
        name = f"the storage of {field.model._meta.label}.{field.name}"
        if not settings.MEDIA_ROOT and storage.location == str(Path.cwd()):
            name = f"MEDIA_ROOT, which is not set, but {field.model._meta.label}.{field.name} takes uploads: it"
        yield place(name, storage.location, "folder", "uploads")


def media():
    """Where uploads lie, the address that pages give them, and whether the app answers there itself."""
    from django.core.files.storage import FileSystemStorage, default_storage  # ty: ignore[import-not-found] -- the app's own
    from django.urls import Resolver404, resolve  # ty: ignore[import-not-found] -- the app's own

    if not isinstance(default_storage, FileSystemStorage) or default_storage.location == str(Path.cwd()):
        return {}
    url = default_storage.base_url or ""
    try:
        resolve(f"{url}x")
        by_app = True
    except Resolver404:
        by_app = False
    return {"root": default_storage.location, "url": url, "by_app": by_app}


def caches(settings, _apps):
    for alias, cache in settings.CACHES.items():
        if cache.get("BACKEND", "").endswith("FileBasedCache") and cache.get("LOCATION"):
            yield place(f'CACHES["{alias}"]["LOCATION"]', cache["LOCATION"], "folder", "cache")


def logs(settings, _apps):
    for name, handler in ((settings.LOGGING or {}).get("handlers") or {}).items():
        path = handler.get("filename") if isinstance(handler, dict) else None
        if path and not os.fspath(path).startswith(("/dev/", "/proc/")):
            yield place(f'the filename of LOGGING["handlers"]["{name}"]', path, "file", "log")


def sessions(settings, _apps):
    if settings.SESSION_ENGINE.endswith(".file") and settings.SESSION_FILE_PATH:
        yield place("SESSION_FILE_PATH", settings.SESSION_FILE_PATH, "folder", "sessions")


def mails(settings, _apps):
    if settings.EMAIL_BACKEND.endswith("filebased.EmailBackend") and getattr(settings, "EMAIL_FILE_PATH", None):
        yield place("EMAIL_FILE_PATH", settings.EMAIL_FILE_PATH, "folder", "mails")


def temporary_uploads(settings, _apps):
    if settings.FILE_UPLOAD_TEMP_DIR:
        yield place("FILE_UPLOAD_TEMP_DIR", settings.FILE_UPLOAD_TEMP_DIR, "folder", "temporary uploads")


def known_migrations(settings, apps):
    """The migrations that the code has, as `app.name`, by the names of their files: none of them is imported."""
    from importlib import import_module
    from pkgutil import iter_modules

    found = []
    for app in apps.get_app_configs():
        module = getattr(settings, "MIGRATION_MODULES", {}).get(app.label, f"{app.name}.migrations")
        folders = []
        with contextlib.suppress(Exception):  # an app without migrations has no such module
            folders = list(import_module(module).__path__) if module else []
        found.extend(f"{app.label}.{name}" for _, name, package in iter_modules(folders) if not package)
    return sorted(name for name in found if name.partition(".")[2][:1] not in ("_", "~"))


def applied_migrations():
    """The migrations that the databases have, as `app.name`, of all databases together; none when they are silent.

    In a thread of its own: its connections are not those that the worker then has, and a database that does not answer
    keeps nobody waiting.
    """
    found = set()

    def ask():
        from django.db import connections  # ty: ignore[import-not-found] -- the app's own
        from django.db.migrations.recorder import MigrationRecorder  # ty: ignore[import-not-found] -- the app's own

        for alias in connections:
            connection = connections[alias]
            if connection.vendor == "sqlite" and not Path(str(connection.settings_dict.get("NAME"))).exists():
                continue  # to ask would make it
            try:
                found.update(f"{app}.{name}" for app, name in MigrationRecorder(connection).applied_migrations())
            except Exception as error:
                print(f"the migrations of {alias} cannot be asked for: {error!r}", file=sys.stderr)
            finally:
                connection.close()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return sorted(found)
