"""Runs of `fab` that do not import everything anew: a process that has done so forks for each of them.

Importing is most of what a short run costs, and tests start hundreds. What a run has is what a process of its own
would have: words, folder, environment, streams, signals, exit code; and death when whoever started it is killed.
"""

import atexit
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

CLIENT = Path(__file__).with_name("warm_client.py")
_starting = threading.Lock()
_sockets: list[str] = []


def command(program: str) -> list[str]:
    """Words that run a program as a real process does: `fab`, or a module with a function `main`."""
    with _starting:
        if not _sockets:
            _sockets.append(_start())
    return [sys.executable, "-ISE", str(CLIENT), _sockets[0], program]


def _start() -> str:
    """Start the process that forks; it ends with this one."""
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    path = f"{folder.name}/socket"
    server = subprocess.Popen(
        [sys.executable, "-m", "testbed.warm", path],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdin
    assert server.stdout
    assert server.stdout.readline(), "the process that runs fab does not start"

    def end() -> None:
        server.communicate()  # it ends with its stdin
        folder.cleanup()

    atexit.register(end)
    return path


def main() -> None:
    """`python -m testbed.warm SOCKET`: import everything, and fork for every request until stdin ends."""
    import fabfile
    import testbed

    modules = [
        *pkgutil.walk_packages(fabfile.__path__, "fabfile."),
        *pkgutil.iter_modules(testbed.__path__, "testbed."),
    ]
    for module in modules:
        if module.name not in ("testbed.warm", "testbed.warm_client"):
            importlib.import_module(module.name)
    _warm_up()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(50)
    os.write(1, b"ready\n")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the nannies
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            if request := _nurse(connection):
                _run(request)
            return
        connection.close()


def _warm_up() -> None:
    """Do once what every run does anew and what always comes to the same: compile templates, read the library."""
    from fabfile.plan import rendering
    from fabfile.ssh import library
    from testbed.sample import sample

    rendering.files(sample(repo="git@example.org:team/app.git"))
    library.files()


def _nurse(connection: socket.socket) -> dict[str, Any] | None:
    """Fork once more; in the run itself return what is asked for, and in its nanny nothing, once it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as data:
        request = json.loads(data.read(int.from_bytes(size, "big")))
    pid = os.fork()
    if not pid:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return request
    for stream in (0, 1, 2, *streams):
        os.close(stream)
    connection.sendall(pid.to_bytes(4, "big"))
    handle = os.pidfd_open(pid)
    ready, _, _ = select.select([handle, connection], [], [])
    if handle not in ready:  # whoever started it is dead
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if handle in ready:
        connection.sendall(code.to_bytes(4, "big", signed=True))
    os._exit(0)


def _run(request: dict[str, Any]) -> None:
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    program, *words = request["words"]
    sys.argv = [program, *words]
    if program == "fab":
        from fabric.main import program as fab

        fab.run(sys.argv)
    else:
        importlib.import_module(program).main()


if __name__ == "__main__":
    main()
