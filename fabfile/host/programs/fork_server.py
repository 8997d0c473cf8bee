"""Runs in a worker of the proof (gunicorn.conf.py): runs manage.py in forks of the process that has the app loaded.

Each command would else load all of the app once more. It has what it would have as a program of its own: the
environment that gunicorn was started with, the streams of who asks for it, the lock. It is in a session of its own, so
the end of the proof does not cut a migration. The app's Python runs this file: no syntax is newer than Python 3.9.

A request is a line of JSON, {"words": [...], "environment": {...}}, with the descriptors of stdout, of stderr and of
what else the command has to hold (9, the lock). The answer is the exit code in a line; "stop" and the end of the
connection end the command as SIGTERM does.
"""

import array
import contextlib
import gc
import json
import logging
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

PATIENCE = 5  # seconds that a command has to end when it is told to
PRIVATE = ("RUNTIME_DIRECTORY", "DEPLOY_PROOF", "DEPLOY_ASK", "DEPLOY_FORK_SERVER", "DEPLOY_LIVE_MASTER")


def serve(path, worker):
    """Fork a server that listens at `path`, if forks of this process are sound."""
    if not is_sound(worker):
        Path(f"{path}.none").touch()
        return
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.new")
    listener.listen(8)
    Path(f"{path}.new").rename(path)  # so who finds it is heard
    if os.fork():
        listener.close()
        return
    try:
        forget_gunicorn()
        worker.deploy.look_as_usual()
        gc.freeze()  # no command has to look for garbage in what is loaded
        while True:
            connection, _ = listener.accept()
            if not os.fork():
                listener.close()
                answer(connection, worker.cfg.env_orig)
            connection.close()
    finally:
        os._exit(1)


def is_sound(worker):
    """Whether a fork can do what the process could: Django is loaded, and no thread or connection would be shared."""
    if not type(worker).__module__.startswith(("gunicorn.workers.sync", "gunicorn.workers.gthread")):
        return False
    if "django" not in sys.modules or "gevent" in sys.modules or "eventlet" in sys.modules:
        return False
    from django.apps import apps  # ty: ignore[import-not-found] -- the app's own
    from django.db import connections  # ty: ignore[import-not-found] -- the app's own

    connected = any(getattr(connections[alias], "connection", None) is not None for alias in connections)
    return apps.ready and not connected and len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 - names are enough


def forget_gunicorn():
    """Handle signals as a new program does, and leave nothing to reap."""
    signal.set_wakeup_fd(-1)
    for name in ("ABRT", "ALRM", "HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH"):
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def answer(connection, environment):
    """Run what a request asks for, and answer with its exit code; never returns."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        request, streams = receive(connection)
        child = os.fork()
        if not child:
            connection.close()
            become(request, streams, environment)
        for descriptor in streams:
            os.close(descriptor)
        code = follow(child, connection)
        connection.sendall(f"{code}\n".encode())
    finally:
        os._exit(0)


def receive(connection):
    """The request and its descriptors."""
    streams = array.array("i")
    text, further, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(8 * streams.itemsize))
    for level, kind, data in further:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            streams.frombytes(data[: len(data) - len(data) % streams.itemsize])
    while not text.endswith(b"\n"):
        more = connection.recv(65536)
        if not more:
            raise EOFError
        text += more
    return json.loads(text), list(streams)


def follow(child, connection):
    """The exit code of a child, as a shell tells it; the child has to stop when the other side says so, or is gone."""
    awake, wake = os.pipe()
    for end in (awake, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    deadline, watched = None, [awake, connection]
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        wait = None if deadline is None else max(0, deadline - time.monotonic())
        ready, _, _ = select.select(watched, [], [], wait)
        if awake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(awake, 100)
        if connection in ready:
            os.kill(child, signal.SIGTERM)
            if not connection.recv(100):
                watched.remove(connection)
                deadline = time.monotonic() + PATIENCE
        elif deadline is not None and time.monotonic() >= deadline:
            os.killpg(child, signal.SIGKILL)
            deadline = None


def become(request, streams, environment):
    """Be manage.py as a program of its own would; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        os.umask(0o022)
        for number, descriptor in enumerate(streams[:2], start=1):
            os.dup2(descriptor, number)
        os.environ.clear()
        os.environ.update({name: value for name, value in environment.items() if name not in PRIVATE})
        os.environ.update(request["environment"])
        sys.argv = request["words"]
        sys.path.insert(0, "")  # which the program takes for the place of its own folder
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    finally:
        threading._shutdown()  # waits for threads, as Python does at its end  # ty: ignore[missing-attribute]
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)
