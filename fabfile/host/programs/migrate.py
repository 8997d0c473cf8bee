"""Runs on the host: `manage.py migrate` that cannot wedge the site. migrate.py SECONDS NOTES STOP MANAGE_PY [WORD]...

In PostgreSQL whoever comes after a migration that waits for a lock waits behind it, the site's own queries as well. So
a migration waits for SECONDS at most. Then its transaction is rolled back, and it is tried again after as long, TRIES
times in all. A migration that is not atomic may wait as it likes: it could not be rolled back, and what is written like
that (CREATE INDEX CONCURRENTLY) lets others pass.

No two of these run on one database at once, whoever runs them, and from where: each holds an advisory lock.

With another database it is `manage.py migrate` as ever. What verdicts.py says of each migration that is applied, by
its name, is kept in the file NOTES: the release that a rollback goes to does not know them. Where STOP names a
migration, only those before it are applied. The app's Python runs this file: no syntax is newer than 3.9.
"""

import contextlib
import itertools
import json
import os
import runpy
import sys
import threading
import time
from pathlib import Path

HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
TRIES = 3
KEY = (0x646A6465, 0x706C6F79)  # of the advisory lock: "djdeploy"
LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE
INTERVAL = 0.2  # seconds between two looks at who blocks, and at whether the advisory lock is free

BLOCKERS = """
    SELECT pid, coalesce(usename, backend_type), state, upper(substring(ltrim(query) from '^[A-Za-z]+')),
        to_char(xact_start AT TIME ZONE 'UTC', 'HH24:MI:SS'), extract(epoch FROM clock_timestamp() - xact_start)::int,
        (SELECT min(relation::regclass::text) FROM pg_locks WHERE pid = %s AND NOT granted)
    FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids(%s)) ORDER BY xact_start LIMIT 3
"""
OTHER = "SELECT min(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND granted"


class Guard:
    """Keeps a database to this process, and sees who blocks a migration of it.

    All of it happens in a thread, as Django gives each thread a connection of its own, and in one transaction, to which
    a pooler keeps one session.
    """

    def __init__(self, alias):
        self.alias = alias
        self.session = None  # the process id, in the database, of the session that applies an atomic migration
        self.wanted, self.blockers = "a table", []
        self.decided, self.over = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        self.decided.wait()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def run(self):
        from django.db import connections, transaction  # ty: ignore[import-not-found] -- the release's own

        try:
            with transaction.atomic(using=self.alias), connections[self.alias].cursor() as cursor:
                # A snapshot that lasts, as other levels have it, would keep CREATE INDEX CONCURRENTLY waiting for ever.
                cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                self.take(cursor)
                self.decided.set()
                while not self.over.wait(INTERVAL):
                    if self.session:
                        self.look(cursor)
        except Exception as error:  # why there is no second connection; the first one has reasons of its own to fail
            why = str(error).partition("\n")[0]
            print(f"note: nothing keeps others from migrating this database meanwhile: {why}", flush=True)
        finally:
            self.decided.set()
            connections[self.alias].close()

    def take(self, cursor):
        told = False
        while not self.over.is_set():
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", KEY)
            if cursor.fetchone()[0]:
                return
            if not told:
                cursor.execute(OTHER, KEY)
                pid = cursor.fetchone()[0]
                print(f"note: another migrate is at work on this database (pid {pid}): waiting for it", flush=True)
                told = True
            self.over.wait(INTERVAL)

    def look(self, cursor):
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(BLOCKERS, (self.session, self.session))
        found = cursor.fetchall()
        if found:
            self.wanted = found[0][-1] or "a row"
            self.blockers = [(pid, told(pid, *rest)) for pid, *rest, _ in found]

    def who(self):
        """Who was seen to block last, in words."""
        return "; ".join(text for _, text in self.blockers) or "a session that was not seen"


def told(pid, user, state, kind, since, seconds):
    """A session as a person reads of it: of its query the kind alone, for the rest may hold data."""
    query = f"{'last' if state != 'active' else 'runs'} {kind}" if kind else "its query is not shown to this user"
    age = f", since {since} UTC, {seconds} s" if since else ""
    return f"pid {pid} ({user}, {state or 'at work'}, {query}{age})"


def is_lock_timeout(error):
    cause = error.__cause__
    return LOCK_NOT_AVAILABLE in (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None))


def bound(method, guard, seconds):
    """Migration.apply or .unapply with a limit for the locks of its transaction, its deferred SQL included."""

    def bounded(migration, state, schema_editor, *rest, **options):
        guard.session = None
        if schema_editor.connection.alias == guard.alias and schema_editor.atomic_migration:
            with schema_editor.connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true), pg_backend_pid()", [f"{seconds}s"])
                guard.session = cursor.fetchone()[1]
        return method(migration, state, schema_editor, *rest, **options)

    return bounded


def noting(apply, notes):
    """Migration.apply that keeps the verdict on what it has applied."""
    judge = runpy.run_path(os.path.join(HERE, "verdicts.py"))["of"]  # noqa: PTH118

    def apply_and_note(migration, state, *rest, **options):
        verdict = judge(migration, state)
        after = apply(migration, state, *rest, **options)
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(notes.read_text()) if notes.exists() else {}
            known[f"{migration.app_label}.{migration.name}"] = verdict
            notes.with_name(".verdicts").write_text(json.dumps(known))
            notes.with_name(".verdicts").replace(notes)
        return after

    return apply_and_note


def stopping(migrate, stop):
    """MigrationExecutor.migrate that goes no further than to the migration `stop`."""

    def migrate_before(executor, targets, plan=None, **options):
        if plan is None:
            plan = executor.migration_plan(targets)
        before = itertools.takewhile(lambda each: f"{each[0].app_label}.{each[0].name}" != stop, plan)
        return migrate(executor, targets, list(before), **options)

    return migrate_before


def be_careful(seconds, notes, stop):
    from django.core.management.base import BaseCommand  # ty: ignore[import-not-found] -- the release's own

    execute = BaseCommand.execute

    def execute_carefully(command, /, *arguments, **options):
        from django.db import OperationalError, connections  # ty: ignore[import-not-found] -- the release's own
        from django.db.migrations.migration import Migration  # ty: ignore[import-not-found] -- the release's own

        BaseCommand.execute = execute  # for the commands that this one calls
        Migration.apply = noting(Migration.apply, notes)
        if stop:
            from django.db.migrations.executor import MigrationExecutor  # ty: ignore[import-not-found] -- see above

            MigrationExecutor.migrate = stopping(MigrationExecutor.migrate, stop)
        alias = options.get("database") or "default"
        if connections[alias].vendor != "postgresql":
            return execute(command, *arguments, **options)
        with Guard(alias) as guard:
            Migration.apply = bound(Migration.apply, guard, seconds)
            Migration.unapply = bound(Migration.unapply, guard, seconds)
            for number in range(TRIES):
                if number:
                    print(
                        f"\nnote: {guard.wanted} was not free within {seconds} s, tried again: {guard.who()}",
                        flush=True,
                    )
                    time.sleep(seconds)
                try:
                    return execute(command, *arguments, **options)
                except OperationalError as error:
                    if not guard.session or not is_lock_timeout(error):
                        raise
                    guard.session = None
            return give_up(guard, seconds)

    BaseCommand.execute = execute_carefully


def give_up(guard, seconds):
    end = f"SELECT pg_terminate_backend({guard.blockers[0][0]})" if guard.blockers else "see pg_stat_activity"
    sys.stdout.flush()
    sys.stderr.write(
        f"\nfailed: {guard.wanted} was not free within {seconds} s, {TRIES} times: {guard.who()} holds it\n"
        f"next: wait until that has ended, or end it in the database ({end}); then the same command again "
        "(timeouts.lock in hosts.toml is how long a migration waits)\n"
    )
    sys.exit(1)


seconds, notes, stop = int(sys.argv.pop(1)), Path(sys.argv.pop(1)), sys.argv.pop(1)
with contextlib.suppress(ImportError):  # which manage.py tells
    be_careful(seconds, notes, stop)
sys.argv[0] = os.path.join(HERE, "manage.py")  # noqa: PTH118
runpy.run_path(sys.argv[0], run_name="__main__")
