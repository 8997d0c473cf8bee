"""Runs on the host: manage.py, which cancels the query that it waits for when it is told to stop.

A client that is only killed leaves its query in PostgreSQL's queue for a lock, and the site's own queries behind it.
"""

import os
import runpy
import signal
import sys


def stop(number, _frame):
    signal.signal(number, signal.SIG_IGN)  # doppler passes on a signal that has reached this process already
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, stop)
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120 - as Python itself does it
runpy.run_path(sys.argv[0], run_name="__main__")
