"""Runs on the host: manage.py, which cancels the query that it waits for when it is told to stop.

A client that is only killed leaves its query in PostgreSQL's queue for a lock, and the site's own queries behind it.

DEPLOY_WEBSITE is a folder of marks that workers of the website made (gunicorn.conf.py). Where it is set, the command is
refused under other Django settings than theirs: it would work on another database, and nobody would be told.
"""

import json
import os
import runpy
import signal
import sys
from pathlib import Path


def stop(number, _frame):
    signal.signal(number, signal.SIG_IGN)  # doppler passes on a signal that has reached this process already
    raise KeyboardInterrupt


def settings_of_website():
    marks = Path(os.environ.get("DEPLOY_WEBSITE", "/nowhere")).glob("[0-9]*")
    return next((json.loads(mark.read_text()).get("django_settings") for mark in marks), None)


def insist_on(website):
    """Let Django run a command only under the settings module `website`."""
    from django.core.management.base import BaseCommand  # ty: ignore[import-not-found] -- the release's own

    execute = BaseCommand.execute

    def execute_if_the_same(command, /, *arguments, **options):  # `shell` has an option of that name
        own = os.environ.get("DJANGO_SETTINGS_MODULE")
        if own != website:
            sys.stderr.write(
                f"failed: manage.py takes the settings {own}, the website {website}: "
                "set DJANGO_SETTINGS_MODULE in Doppler, or make both fall back to the same\n"
            )
            sys.exit(1)
        return execute(command, *arguments, **options)

    BaseCommand.execute = execute_if_the_same


signal.signal(signal.SIGTERM, stop)
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120 - as Python itself does it
website = settings_of_website()
if website:
    insist_on(website)
runpy.run_path(sys.argv[0], run_name="__main__")
