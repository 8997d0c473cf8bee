"""Settings of gunicorn, copied into every release by the deploy tool: change them there, not in a release.

Put your own settings and hooks into gunicorn.conf.py beside manage.py or at the top of the repository: they are
taken over below. What this file adds to them, so that `kill -HUP` of the master brings a new release unnoticed:

* each worker is pinned to the real folder of the release that is live when it is forked;
* an old worker serves on until enough new ones have booted, answered the health path once and warmed up;
* a release that does not boot, or is not healthy, leaves the old workers serving;
* the state folder ($RUNTIME_DIRECTORY) tells the deploy tool what runs: master.json, reload, up/<age of a worker>,
  failures (workers in a row that did not boot).

The values of this host lie beside it in gunicorn.json. It is one file, as modules that the master imports survive a
HUP, while gunicorn executes this file anew. The app's Python runs it, so no syntax is newer than Python 3.9; and what
it leaves in the master (deploy_state) is read by later versions of it. The reasons are decisions 1-8.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import functools
import gc
import hashlib
import hmac
import importlib
import inspect
import io
import json
import logging
import logging.handlers
import os
import re
import runpy
import selectors
import shutil
import signal
import site
import sys
import tempfile
import time
import types
import urllib.parse
from pathlib import Path
from typing import NamedTuple

from gunicorn import __version__ as gunicorn_version
from gunicorn.config import KNOWN_SETTINGS
from gunicorn.errors import AppImportError


class Values(NamedTuple):
    """What gunicorn.json says: each of these and nothing else, except for what has a default here."""

    app_path: str  # the link to the live release
    releases_path: str
    project: str  # folder that gunicorn runs in, below the release
    workers: int | None
    graceful_timeout: int | None  # seconds
    health_path: str
    health_host: str
    warm_up: list[str]  # paths
    digest_key_path: str
    reload_timeout: float  # seconds that old workers wait for healthy new ones
    unhealthy_after: float = 5  # seconds of bad answers until a new worker counts as unhealthy


def read_values() -> Values:
    """The values of the release that this file is loaded from; a start or a reload without them fails."""
    path = Path(__file__).with_name("gunicorn.json")
    try:
        return Values(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RuntimeError(f"{path} cannot be used: {error}") from error


VALUES = read_values()
LONGEST_PAUSE = 8  # seconds between a worker that did not boot and the next one; the first pause takes one
POLL = 0.05  # seconds
# New objects between two looks for garbage while an app is loaded: it hardly makes any, and to look through all that is
# loaded so far, again and again, takes a fifth of the time. Before it serves, Python's own rule is back.
WHILE_LOADING = 100_000

# The service names this file through the live link, a proof by its real path: both mean "the folder above .deploy".
ROOT = str(Path(__file__).absolute().parents[1])
LOADED_FROM = os.path.realpath(ROOT)

# Whatever the app's file says, the service decides these: the unit, its socket and the deploy tool rely on them.
DECIDED_BY_THE_SERVICE = {
    "bind", "chdir", "check_config", "config", "daemon", "group", "pidfile", "print_config", "reuse_port", "user",
}  # fmt: skip

# Variables that systemd, a login shell, Doppler's own client or gunicorn set. They differ between two starts of
# the same settings, so a difference is no reason to restart.
NOT_A_SETTING = re.compile(
    r"(LISTEN_|SYSTEMD_|LC_|SSH_|XDG_|MEMORY_PRESSURE_|GUNICORN_|DEPLOY_).*"
    r"|(RUNTIME|STATE|CACHE|LOGS|CONFIGURATION|CREDENTIALS)_DIRECTORY"
    r"|INVOCATION_ID|JOURNAL_STREAM|MAINPID|MANAGERPID|NOTIFY_SOCKET|WATCHDOG_(PID|USEC)"
    r"|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|SHLVL|_|PATH|LANG|TERM|MAIL"
    r"|DOPPLER_(TOKEN|CONFIG_DIR)|SERVER_SOFTWARE"
)


def app_settings():
    """The settings and hooks of the app's own gunicorn.conf.py."""
    for folder in (VALUES.project, "."):
        path = Path(LOADED_FROM, folder, "gunicorn.conf.py")
        if path.is_file():
            known = {setting.name for setting in KNOWN_SETTINGS} - DECIDED_BY_THE_SERVICE
            return {name: value for name, value in runpy.run_path(str(path)).items() if name in known}
    return {}


APP_SETTINGS = app_settings()
globals().update(APP_SETTINGS)

# gunicorn ignores names in here that it does not know, as an older one does this: a control socket in $HOME.
control_socket_disable = True
workers = VALUES.workers or APP_SETTINGS.get("workers") or int(os.environ.get("WEB_CONCURRENCY", 2))
if VALUES.graceful_timeout is not None:
    graceful_timeout = VALUES.graceful_timeout


def hook(ours):
    """Make `ours` a hook of gunicorn that calls the app's hook of this name first."""
    theirs = APP_SETTINGS.get(ours.__name__)

    @functools.wraps(ours)
    def both(*args):
        for function in filter(None, (theirs, ours)):
            try:
                function(*args)
            except Exception:
                # A first start may fail loudly; later the site is up, and a hook must not take it down.
                if function is theirs and ours.__name__ in ("on_starting", "when_ready", "post_worker_init"):
                    raise
                args[0].log.exception("The hook %s failed", ours.__name__)

    return both


@hook
def on_starting(server):
    state = master_state(server)
    for name in ("master.json", "reload", "stopping", "failures", "up"):
        path = Path(state["folder"], name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.lexists(path):
            path.unlink()


@hook
def when_ready(server):
    describe_master(server)


@hook
def on_reload(server):
    state = master_state(server)
    state.update(reloading=True, after=server.worker_age, failures=0)
    write_state(server.log, Path(state["folder"], "failures"), 0)
    write_state(
        server.log,
        Path(state["folder"], "reload"),
        {
            "pid": server.pid,
            "release": os.path.realpath(ROOT),
            "after": state["after"],
            "workers": server.cfg.workers,
            "deadline": time.monotonic() + VALUES.reload_timeout,
        },
    )
    describe_master(server)


@hook
def child_exit(server, worker):
    state = master_state(server)
    try:
        Path(state["folder"], "up", str(worker.age)).unlink()
    except FileNotFoundError:
        if worker.age <= state["after"]:  # it was still booting when a reload made it an old one
            return
        now = time.monotonic()
        lately = now - state["failed_at"] < 60
        state.update(failed_at=now, failures=state["failures"] + 1 if lately else 1)
        write_state(server.log, Path(state["folder"], "failures"), state["failures"])
    except OSError as error:
        server.log.warning("Cannot remove the mark of worker %s: %s", worker.pid, error)


@hook
def on_exit(server):
    state = master_state(server)
    if state["temporary"]:
        shutil.rmtree(state["folder"], ignore_errors=True)


def master_state(server):
    """What this file remembers in the master; it outlives the file itself, which runs anew at each reload."""
    if not hasattr(server, "deploy_state"):
        folder = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        server.deploy_state = {
            "folder": folder or tempfile.mkdtemp(prefix="gunicorn-"),
            "temporary": not folder,
            "release": LOADED_FROM,
            "environment": environment_digests(server),
            "modules": {},
            "failed_at": 0,
            "failures": 0,
            "reloading": False,
            "after": 0,
        }
        watch_stop(server)
        reap_to_the_end(server)
        watch_reload(server)
        replace_failed_successors(server)
        lose_no_sigterm(server)
    return server.deploy_state


def watch_stop(server):
    """Leave a mark when the master stops, so that no old worker waits for a successor then."""
    stop = server.stop

    def marked_stop(graceful=True):
        write_state(server.log, Path(server.deploy_state["folder"], "stopping"), {"pid": server.pid})
        stop(graceful)

    server.stop = marked_stop


class OldWorkersStay(Exception):
    """Ends the wait for old workers inside gunicorn's own reload."""


def watch_reload(server):
    """Keep the master alive and awake in a reload.

    gunicorn exits when the settings file fails; and from 25 on it waits in reload() for the old workers, which here
    stay until the new ones are up: meanwhile it would answer no signal and replace no worker.
    """
    reload, reap_workers = server.reload, server.reap_workers

    def safe_reload():
        server.deploy_state["reloading"] = False
        cfg = server.cfg
        try:
            reload()
        except OldWorkersStay:
            pass
        except (Exception, SystemExit):
            # Workers are forked inside reload(), and leave it by SystemExit.
            if os.getpid() != server.pid or server.deploy_state["reloading"]:
                raise
            server.cfg = server.app.cfg = cfg
            server.log.exception("The reload failed: the old workers stay")

    def reap():
        reap_workers()
        if sys._getframe(1).f_code is type(server).reload.__code__:
            raise OldWorkersStay

    server.reload, server.reap_workers = safe_reload, reap


def reap_to_the_end(server):
    """Take every dead worker out and its mark away, even when its end cannot be logged.

    Older versions of gunicorn reap in a signal handler, which may have cut another message short: then stderr takes no
    more ("reentrant call"), and that error would leave the loop before the worker is out.
    """
    reap_workers = server.reap_workers

    def reap():
        told, logging.raiseExceptions = logging.raiseExceptions, False
        try:
            reap_workers()
        finally:
            logging.raiseExceptions = told

    server.reap_workers = reap


def replace_failed_successors(server):
    """Fork another worker for a new one that died in a reload: gunicorn counts the old ones, and finds none missing."""
    manage_workers = server.manage_workers

    def manage():
        # A copy, as older versions of gunicorn take dead workers out in a signal handler, at any time.
        young = [worker.age > server.deploy_state["after"] for worker in list(server.WORKERS.values())]
        if not all(young):
            for _ in range(server.num_workers - sum(young)):
                server.spawn_worker()
        manage_workers()

    server.manage_workers = manage


def lose_no_sigterm(server):
    """Hold SIGTERM back while a worker is forked, until post_fork can handle it.

    Before, it has the master's handler, which would note the signal for nobody: a stop would wait for that worker.
    """
    spawn_worker = server.spawn_worker

    def spawn():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            return spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    server.spawn_worker = spawn


def pause_after_failure(state):
    """Seconds until the next worker may boot: failing ones must not eat the machine."""
    if not state["failures"]:
        return 0
    return max(0, state["failed_at"] + min(2 ** (state["failures"] - 1), LONGEST_PAUSE) - time.monotonic())


def post_fork(server, worker):
    state = master_state(server)
    worker.deploy = types.SimpleNamespace(folder=state["folder"], serving=False, waiting=False, leaving=False)
    worker.deploy.leave = worker.handle_exit
    worker.handle_exit = functools.partial(on_sigterm, worker)
    signal.signal(signal.SIGTERM, worker.handle_exit)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    worker.load_wsgi = functools.partial(load_wsgi, worker, worker.load_wsgi)
    usual = gc.get_threshold()
    gc.set_threshold(WHILE_LOADING, *usual[1:])
    worker.deploy.look_as_usual = functools.partial(look_as_usual, usual)
    # The last of all that is done at the end: Python would look through all of the app once more, for up to 0.6 s.
    atexit.register(gc.freeze)
    # A worker that fails to boot makes gunicorn stop, unless it is marked as booted: right while nobody else serves.
    worker.booted = bool(up_workers(worker))
    worker.deploy.after_failure = bool(state["failures"])
    time.sleep(pause_after_failure(state))
    # Preloaded code belongs to the release that the master started from, wherever the link points now.
    worker.deploy.release = state["release"] if server.cfg.preload_app else os.path.realpath(ROOT)
    pin(worker.deploy.release, server.cfg)
    if "post_fork" in APP_SETTINGS:
        APP_SETTINGS["post_fork"](server, worker)


@hook
def post_worker_init(worker):
    """Answer the health path and warm up before the first visitor comes, and tell that this worker is up."""
    started = time.monotonic()
    # A deploy that proves a release on a private socket asks for health itself, when the schema is there.
    unasked = is_asynchronous(worker.wsgi) or "DEPLOY_PROOF" in os.environ
    log_exceptions(worker)
    if "DEPLOY_PROOF" in os.environ:
        serve_deploy(worker)
    while True:
        worker.notify()
        status = None if unasked else ask(worker, VALUES.health_path)
        healthy = unasked or (status is not None and status < 500)
        tried_enough = time.monotonic() - started > VALUES.unhealthy_after
        if healthy and not unasked:
            warm_up(worker)
        if healthy or tried_enough:
            write_state(
                worker.log,
                Path(worker.deploy.folder, "up", str(worker.age)),
                {
                    "pid": worker.pid,
                    "release": worker.deploy.release,
                    "status": status,
                    "healthy": healthy,
                    "django_settings": os.environ.get("DJANGO_SETTINGS_MODULE"),
                },
            )
        if healthy or (tried_enough and not older_worker_serves(worker)):
            break
        time.sleep(0.5)
    worker.deploy.look_as_usual()
    worker.deploy.serving = True


def look_as_usual(usual):
    """Look for garbage by the usual rule from now on, or by that which the app has set."""
    if gc.get_threshold()[0] == WHILE_LOADING:
        gc.set_threshold(*usual)


def load_wsgi(worker, load):
    """Load the app; whatever it does, the worker fails with an exit code that leaves the master running."""
    try:
        load()
    except SystemExit as error:
        if not worker.alive:  # gunicorn's own handlers exit that way
            raise
        raise RuntimeError(f"The app called sys.exit({error.code!r}) while it was loaded") from error
    except AppImportError as error:
        if not worker.booted:
            raise
        raise RuntimeError(str(error)) from error


def on_sigterm(worker, sig, frame):
    """Leave at once when the service stops or before serving; in a reload when the new workers are up."""
    me = worker.deploy
    if not me.serving:
        worker.alive = False
        sys.exit(0)
    if me.leaving:
        return
    if may_leave(worker):
        me.leaving = True
        if drains_badly(worker):
            _thread.start_new_thread(drain, (worker,))
        else:
            me.leave(sig, frame)
    elif not me.waiting:
        me.waiting = True
        worker.max_requests = sys.maxsize
        _thread.start_new_thread(wait_to_leave, (worker,))


def wait_to_leave(worker):
    """Send the worker its SIGTERM again when it may leave; a thread, as a signal handler must not block."""
    while not worker.deploy.leaving:
        if may_leave(worker):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(POLL)


def may_leave(worker):
    """Whether nobody needs this worker: no reload replaces it, or its successors are up."""
    reload_state = read_state(worker, "reload")
    if not reload_state or worker.age > reload_state["after"]:
        return True
    stopping = read_state(worker, "stopping")
    if stopping and stopping["pid"] == worker.ppid:
        return True
    successors = [mark for age, mark in up_workers(worker).items() if age > reload_state["after"]]
    if sum(mark["healthy"] for mark in successors) >= reload_state["workers"]:
        return True
    return bool(successors) and time.monotonic() > reload_state["deadline"]


def older_worker_serves(worker):
    """Whether this worker can stay back in favour of one from before the reload."""
    reload_state = read_state(worker, "reload")
    if not reload_state or time.monotonic() > reload_state["deadline"]:
        return False
    return any(age <= reload_state["after"] for age in up_workers(worker))


def drains_badly(worker):
    """Whether this is the gthread worker before gunicorn 24, which drops accepted connections when it leaves."""
    return all(hasattr(worker, name) for name in ("poller", "futures", "_keep"))


def drain(worker):
    """Accept no more, finish what is accepted, then leave."""
    try:
        for listener in worker.sockets:
            worker.poller.unregister(listener)
        worker.max_keepalived = 0  # answers say "Connection: close" from now on
        deadline = time.monotonic() + 3
        idle = 0  # twice in a row: a connection on its way from the poller to a thread is in neither
        while idle < 2 and time.monotonic() < deadline:
            time.sleep(POLL)
            busy = len(worker.poller.get_map()) or not all(future.done() for future in list(worker.futures))
            idle = 0 if busy else idle + 1
        # Wakes the main loop, which would look again in a second: SIGTERM has left a byte in this pipe.
        worker.poller.register(worker.PIPE[0], selectors.EVENT_READ, lambda _: None)
    finally:
        worker.alive = False


def warm_up(worker):
    """Answer the first request of a few pages, which loads what only they need, while another worker serves.

    Without another one, visitors wait, and a page may itself ask this site. A page that keeps the worker until gunicorn
    kills it is not asked again.
    """
    if up_workers(worker) and not worker.deploy.after_failure:
        for path in VALUES.warm_up:
            worker.notify()
            ask(worker, path)
    worker.notify()


def ask(worker, path):
    """The HTTP status of a path, asked inside this process as nginx would; None when it raised."""
    answer = []
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": urllib.parse.unquote(path.partition("?")[0], "latin-1"),
        "QUERY_STRING": path.partition("?")[2],
        "RAW_URI": path,
        "SERVER_NAME": VALUES.health_host,
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "gunicorn/" + gunicorn_version,
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "0",
        "HTTP_HOST": VALUES.health_host,
        "HTTP_USER_AGENT": "gunicorn-warm-up",
        "HTTP_ACCEPT": "*/*",
        "HTTP_X_FORWARDED_PROTO": "https",
        "HTTP_X_FORWARDED_FOR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": worker.cfg.threads > 1,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }

    def start_response(status, headers, exc_info=None):  # noqa: ARG001 -- names that an app may call it with
        answer.append(status)
        return lambda _: None

    try:
        body = worker.wsgi(environ, start_response)
        try:
            for _ in body:
                pass
        finally:
            if hasattr(body, "close"):
                body.close()
        return int(answer[-1].split()[0])
    except BaseException:
        if not worker.alive:  # a signal told the worker to exit
            raise
        worker.log.exception("%s failed in a new worker", path)
        return None


def serve_deploy(worker):
    """In a proof: let the deploy tool's programs run commands in forks of this process, and ask the app that it has.

    `loaded` runs what needs no URLs, such as collectstatic, while the rest of the app is loaded; `warm` the others.
    """
    folder = Path(worker.deploy.folder)

    def fork(name):
        if "DEPLOY_FORK_SERVER" in os.environ:
            runpy.run_path(os.environ["DEPLOY_FORK_SERVER"])["serve"](str(folder / name), worker)

    def ask_app():
        if "DEPLOY_ASK" in os.environ:
            answers = runpy.run_path(os.environ["DEPLOY_ASK"])["answers"]()
            write_state(worker.log, folder / "django.json", answers)

    for task in (lambda: fork("loaded"), ask_app, load_urls, lambda: fork("warm")):
        try:
            task()
        except Exception:
            worker.log.exception("The deploy tool cannot ask the app, or run a command in it")


def load_urls():
    """Load what the first request would, before forks are made."""
    if "django.core" in sys.modules:
        from django.urls import get_resolver  # ty: ignore[import-not-found] -- the app's own

        _ = get_resolver().url_patterns


def log_exceptions(worker):
    """Let a view's exception be read in the journal, unless the app's own logging tells of it already.

    Without a LOGGING of its own, and without DEBUG, Django only mails it to ADMINS, of which there are mostly none. A
    LOGGING of its own that does not say otherwise silences all other loggers, gunicorn's too.
    """
    for name in ("error_log", "access_log"):
        with contextlib.suppress(AttributeError):  # of a logger class of the app's own
            getattr(worker.log, name).disabled = False
    if "django" not in sys.modules:
        return
    try:
        from django.core.signals import got_request_exception  # ty: ignore[import-not-found] -- the app's own

        def tell(sender, request=None, **_):  # noqa: ARG001 -- names that the signal calls it with
            if not told_by_app():
                worker.log.exception("%s %r failed", getattr(request, "method", "?"), getattr(request, "path", "?"))

        got_request_exception.connect(tell, weak=False)
    except Exception:
        worker.log.exception("Exceptions of views are not logged")


def told_by_app():
    """Whether an error of a request gets to a stream or a file by the app's own logging, as it stands now."""
    logger = logging.getLogger("django.request")
    if not logger.isEnabledFor(logging.ERROR):
        return False
    record = logging.LogRecord(logger.name, logging.ERROR, "", 0, "", None, None)
    while logger:
        for handler in logger.handlers:
            tells = isinstance(handler, (logging.StreamHandler, logging.handlers.SysLogHandler))
            # What needs DEBUG, as Django's own console handler, says no to everything without it.
            if tells and handler.level <= logging.ERROR and handler.filter(record):
                return True
        logger = logger.parent if logger.propagate else None
    return False


def is_asynchronous(app):
    """Whether `app` speaks ASGI and cannot be asked here."""
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__)


def below_release(path: str) -> str | None:
    """The part of `path` below the release that it lies in; None when it lies in none."""
    for name in (path, os.path.realpath(path)):
        for root in (VALUES.releases_path, os.path.realpath(VALUES.releases_path)):
            if name.startswith(root + os.sep):
                return name[len(root) + 1 :].partition(os.sep)[2]
        for root in (VALUES.app_path, ROOT, LOADED_FROM):
            if name == root or name.startswith(root + os.sep):
                return name[len(root) + 1 :]
    return None


def pin(release, cfg):
    """Let this process see `release` alone, by its real path, as if Python had been started in it.

    Workers inherit the master's working folder, sys.path and import hooks, which lead to the release that the
    master was started from, or through the live link, which moves while an old worker still serves.
    """

    def moved(path: str) -> str:
        below = below_release(path)
        return path if below is None else str(Path(release, below))

    project = str(Path(release, VALUES.project))
    os.chdir(project)
    for name in ("prefix", "exec_prefix", "executable"):
        setattr(sys, name, moved(getattr(sys, name)))
    for name in ("PATH", "VIRTUAL_ENV", "PWD"):
        if name in os.environ:
            os.environ[name] = os.pathsep.join(map(moved, os.environ[name].split(os.pathsep)))

    forget_editable_installs()
    asked_for = (cfg.pythonpath or "").split(",") + os.environ.get("PYTHONPATH", "").split(os.pathsep)
    first = [project] + [moved(os.path.normpath(Path(path).absolute())) for path in asked_for if path]
    sys.path[:] = first + [path for path in sys.path if path not in first and below_release(path) is None]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
    # Reads the .pth files too, so that editable installs lead into this release.
    site.addsitedir(site_packages(release))


def site_packages(release: str) -> str:
    major, minor = sys.version_info[:2]
    return str(Path(release, f".venv/lib/python{major}.{minor}/site-packages"))


def forget_editable_installs():
    """Drop the import hooks with fixed paths that .pth files of the master's release have installed."""

    def stale(module_name):
        return "editable" in (module_name or "").partition(".")[0]

    sys.meta_path[:] = [it for it in sys.meta_path if not stale(getattr(it, "__module__", type(it).__module__))]
    sys.path_hooks[:] = [it for it in sys.path_hooks if not stale(getattr(it, "__module__", ""))]
    sys.path[:] = [path for path in sys.path if "__editable__" not in path]
    for name in list(filter(stale, sys.modules)):
        del sys.modules[name]


def write_state(log, path: Path, value):
    """Write JSON in one step, readable by this user alone; a failure is logged, as the site matters more."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(value, file, indent=1, sort_keys=True)
        temporary.replace(path)
    except OSError as error:
        log.warning("Cannot write %s: %s", path, error)


def read_state(worker, *name):
    """The content of a file in the state folder, or None."""
    try:
        return json.loads(Path(worker.deploy.folder, *name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def up_workers(worker):
    """The marks of the workers that have booted and still live, by age (the number in order of their forks)."""
    try:
        ages = [int(path.name) for path in Path(worker.deploy.folder, "up").iterdir() if path.name.isdigit()]
    except OSError:
        return {}
    marks = {age: read_state(worker, "up", str(age)) for age in ages}
    return {age: mark for age, mark in marks.items() if mark}


def describe_master(server):
    """Tell the deploy tool what only a restart can change."""
    state = master_state(server)
    imported = (getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if name != "__config__")
    files = {below_release(path): path for path in imported if path}
    files.update({below: Path(LOADED_FROM, below) for below in modules_of_live_master()})
    for below, path in files.items():
        if below and below not in state["modules"]:
            state["modules"][below] = release_file_digest(path)
    write_state(
        server.log,
        Path(state["folder"], "master.json"),
        {
            "pid": server.pid,
            "release": state["release"],
            "python": {"version": sys.version, "executable": os.path.realpath(sys.executable)},
            "gunicorn": gunicorn_version,
            "preload": server.cfg.preload_app,
            "workers": server.cfg.workers,
            "worker_class": server.cfg.worker_class_str,
            "modules": state["modules"],
            "pth": state.setdefault("pth", pth_digests(state["release"])),
            "environment": state["environment"],
        },
    )


def modules_of_live_master() -> list[str]:
    """In a proof: what the running master has imported. The proof tells its own digests of that too, to compare."""
    try:
        return list(json.loads(Path(os.environ["DEPLOY_LIVE_MASTER"]).read_text(encoding="utf-8"))["modules"])
    except (KeyError, OSError, ValueError, TypeError):
        return []


def release_file_digest(path: str | Path) -> str | None:
    """SHA-256 of a file in which its release's real path reads as the live link, so that releases compare."""
    try:
        content = Path(path).read_bytes()
    except OSError:
        return None
    below = below_release(os.path.realpath(path))
    release = os.path.realpath(path)[: -len(below) - 1] if below else LOADED_FROM
    return hashlib.sha256(content.replace(os.fsencode(release), os.fsencode(VALUES.app_path))).hexdigest()


def pth_digests(release: str) -> dict[str, str | None]:
    return {path.name: release_file_digest(path) for path in sorted(Path(site_packages(release)).glob("*.pth"))}


def environment_digests(server):
    """Keyed digests of the settings in the environment that the master was started with; never a value itself."""
    try:
        key = Path(VALUES.digest_key_path).read_bytes()
    except OSError:
        key = b""
    if not key:
        return None
    return {
        name: hmac.new(key, os.fsencode(value), hashlib.sha256).hexdigest()
        for name, value in server.cfg.env_orig.items()
        if not NOT_A_SETTING.fullmatch(name)
    }
