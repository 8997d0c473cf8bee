"""Runs on the host: lets the proof's fork server run a program, as if it were run here, and ends with its exit code.

ask_fork_server.py SOCKET PROGRAM [WORD]... - what the server promises stands in fork_server.py.
"""

import array
import json
import os
import signal
import socket
import sys

LOCK = 9  # the runner's lock, which lasts as long as the work


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect(sys.argv[1])
except OSError as error:
    sys.exit(f"failed: the proof, which has the app loaded, runs no more ({error.strerror})")
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: connection.sendall(b"stop\n"))
environment = {name: os.environ[name] for name in ("DEPLOY_WEBSITE",) if name in os.environ}
request = json.dumps({"words": sys.argv[2:], "environment": environment})
streams = array.array("i", [1, 2, *([LOCK] if is_open(LOCK) else [])])
connection.sendmsg([f"{request}\n".encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
answer = connection.makefile().readline()
if not answer:
    sys.exit("failed: the process that ran it has come to an end")
sys.exit(int(answer))
