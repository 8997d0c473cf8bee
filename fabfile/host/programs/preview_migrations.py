"""Runs on the host: tells which migrations of a release are not applied. preview_migrations.py MANAGE_PY

A line of JSON for each, in their order: `name` (app.name), `atomic`, `operations` in words, `sql` (statements, comments
among them), `trouble`, why there is no SQL, and what verdicts.py says. PostgreSQL lets nothing of it write. The app's
Python runs this file, in its project folder: no syntax is newer than Python 3.9.
"""

import contextlib
import json
import os
import runpy
import sys
from pathlib import Path

ALIAS = "default"  # whose migrations a deploy applies
JUDGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "verdicts.py")  # noqa: PTH100, PTH118, PTH120


def preview(*_arguments, **_options):
    """Print what there is to tell, in place of a command of manage.py."""
    from django.db import connections, transaction  # ty: ignore[import-not-found] -- the release's own

    connection = connections[ALIAS]
    name = str(connection.settings_dict.get("NAME"))
    if connection.vendor == "sqlite" and not Path(name).exists():
        tell_all(None)  # to connect would make the file
        return
    if connection.vendor != "postgresql":
        tell_all(connection)
        return
    with transaction.atomic(using=ALIAS):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
        tell_all(connection)


def tell_all(connection):
    from django.db import connections  # ty: ignore[import-not-found] -- the release's own
    from django.db.migrations.executor import MigrationExecutor  # ty: ignore[import-not-found] -- the release's own
    from django.db.migrations.loader import MigrationLoader  # ty: ignore[import-not-found] -- the release's own

    if connection is None:
        graph = MigrationLoader(None, ignore_no_migrations=True).graph
        seen = dict.fromkeys(key for leaf in graph.leaf_nodes() for key in graph.forwards_plan(leaf))
        for key in seen:
            tell(graph.nodes[key], [], "there is no database yet", {}, connections[ALIAS])
        return
    judge = runpy.run_path(JUDGE)["of"]
    executor = MigrationExecutor(connection)
    todo = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not todo:
        return
    state = executor._create_project_state(with_applied_migrations=True)
    for migration, _ in todo:
        before, verdict, trouble, sql = state.clone(), judge(migration, state), "", []
        verdict["locks"] = [[where, why, rows(connection, where)] for where, why in verdict["locks"]]
        try:
            with connection.schema_editor(collect_sql=True, atomic=False) as editor:
                state = migration.apply(state, editor, collect_sql=True)
            sql = [str(statement) for statement in editor.collected_sql]
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}".partition("\n")[0]
            state = migration.mutate_state(before, preserve=False)
        tell(migration, sql, trouble, verdict, connection)


def rows(connection, table):
    """About how many rows a table has, by PostgreSQL's own statistics; None when nobody knows."""
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", [f'"{table}"'])
        found = cursor.fetchone()
    return found[0] if found and found[0] >= 0 else None


def tell(migration, sql, trouble, verdict, connection):
    found = {
        "name": f"{migration.app_label}.{migration.name}",
        "atomic": migration.atomic and connection.features.can_rollback_ddl,
        "operations": [operation.describe() for operation in migration.operations],
        "sql": sql,
        "trouble": trouble,
        **verdict,
    }
    print(json.dumps(found), flush=True)


manage = sys.argv[1]
sys.path[0] = os.path.dirname(os.path.abspath(manage))  # noqa: PTH100, PTH120 - as Python itself does it
sys.argv = [manage, "migrate"]
with contextlib.suppress(ImportError):  # which manage.py tells
    from django.core.management.base import BaseCommand  # ty: ignore[import-not-found] -- the release's own

    BaseCommand.execute = preview
runpy.run_path(manage, run_name="__main__")
