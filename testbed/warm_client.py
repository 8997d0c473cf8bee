"""Stands for a run of `fab` that a warm process does: `python -ISE warm_client.py SOCKET PROGRAM WORDS...`."""

import json
import os
import select
import signal
import socket
import sys

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Hand over streams, words and environment; pass signals on; end as the run ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until there is somebody to pass them on to
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    request = {"words": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
    data = json.dumps(request).encode()
    socket.send_fds(connection, [len(data).to_bytes(4, "big")], [0, 1, 2])
    connection.sendall(data)
    pid = int.from_bytes(connection.recv(4), "big")
    # By a descriptor: a handler in Python is not run for a signal that comes just before a call that waits.
    heard, caught = socket.socketpair()
    caught.setblocking(False)
    signal.set_wakeup_fd(caught.fileno())
    for number in FORWARDED:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    while connection not in select.select([connection, heard], [], [])[0]:
        for number in heard.recv(64):
            os.kill(pid, number)
    code = int.from_bytes(connection.recv(4), "big", signed=True)
    if code < 0:  # it was killed by a signal, and so are we
        if -code in FORWARDED:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
