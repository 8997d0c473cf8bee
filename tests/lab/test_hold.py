"""Migrations that break the code that runs: requests wait, and none of them fails.

Their names and fields are these tests' own: what others have applied stays in the database of a host.
"""

import json
import re

import pytest

from testbed.harness import VIEWS, Site, running, wait_for
from testbed.traffic import Traffic
from testbed.world import answers, at_work, migration, psql

pytestmark = pytest.mark.lab

MODELS = "apps/web/pages/models.py"
TEXT = "models.CharField(max_length=9, {})"
EXTRA = "class Extra(models.Model):\n    text = models.TextField()\n\n\n"


def code(site: Site, field: str = "", *, kind: bool = False, extra: bool = False) -> dict[str, str]:
    """Models, and views that read them: a note with one field more, maybe a required one, maybe another model."""
    models, views = (site.repository.read(path, "main") for path in (MODELS, VIEWS))
    fields = f"    {field} = {TEXT.format('db_default=str()')}\n" if field else ""
    fields += f"    kind = {TEXT.format('default=str(1)')}\n" if kind else ""
    models = models.replace("    created =", f"{fields}    created =").replace(
        "class Note", f"{EXTRA * extra}class Note"
    )
    if field:
        views = views.replace('"author": note.author', f'"author": note.author, "more": note.{field}')
    if extra:
        views = views.replace("import Note\n", "import Extra, Note\n")
        views = views.replace('"count": Note.objects.count()', '"count": Note.objects.count() + Extra.objects.count()')
    return {MODELS: models, VIEWS: views}


def test_no_request_fails_though_the_code_cannot_bear_the_schema(site: Site) -> None:
    """A field renamed, one that is required, one and a model that go: each under load, and all visitors are served."""
    id_field = '("id", models.BigAutoField(primary_key=True))'
    site.commit(
        code(site, "temper", extra=True)
        | migration(
            "0003_hold_base",
            f"migrations.AddField('note', 'temper', {TEXT.format('db_default=str()')}), "
            f"migrations.CreateModel('Extra', [{id_field}, ('text', models.TextField())])",
        )
    )
    assert site.deploy().expect(0).json["activation"] == "hup"
    changes = (
        ("0004_hold_renamed", "migrations.RenameField('note', 'temper', 'feel')", code(site, "feel", extra=True)),
        (
            "0005_hold_required",
            f"migrations.AddField('note', 'kind', {TEXT.format('default=str(1)')})",
            code(site, "feel", kind=True, extra=True),
        ),
        ("0006_hold_gone", "migrations.RemoveField('note', 'feel')", code(site, kind=True, extra=True)),
        ("0007_hold_model", "migrations.DeleteModel('Extra')", code(site, kind=True)),
        ("0008_hold_back", "migrations.RemoveField('note', 'kind')", code(site)),
    )
    after = "0003_hold_base"
    for name, operation, files in changes:
        site.commit(files | migration(name, operation, after), name)
        with Traffic(site.host.address, site.domain) as traffic:
            document = site.deploy().expect(0).json
        assert (document["activation"], document["migrations"]) == ("hold", [f"pages.{name}"])
        assert document["reason"].startswith(f"pages.{name} breaks the code that runs: ")
        assert document["watch"]["failed"] == 0
        numbers = traffic.count()
        assert (numbers.failed, numbers.troubles) == (0, ())
        site.assert_sound()
        assert not site.run("ls /srv/consult/hold 2>/dev/null || true")
        after = name
    forget(site)


def forget(site: Site) -> None:
    """Take back what the database knows of these migrations: their tables and columns have gone."""
    psql(site, "DELETE FROM django_migrations WHERE app = 'pages' AND name > '0002_z'")


def test_a_migration_that_takes_too_long_is_cancelled(site: Site) -> None:
    """What it has changed is rolled back, the code of before serves on, and those who waited are served by it."""
    site.settings["hold"] = 4
    slow = "migrations.RemoveField('note', 'author'), migrations.RunSQL('SELECT pg_sleep(60)', '')"
    harmless = migration("0003_hold_before", f"migrations.AddField('note', 'calm', {TEXT.format('null=True')})")
    site.commit(harmless | migration("0004_hold_slow", slow, "0003_hold_before"))
    live = site.live()
    planned = site.fab("plan", "--branch", site.branch, "--json").expect(0).json
    with Traffic(site.host.address, site.domain) as traffic:
        document = site.deploy().expect(5).json
    assert (document["activation"], document["reason"]) == (planned["activation"], planned["reason"])
    assert document["error"] == "Migrate the database: failed (took longer than 4 s and was ended)"
    assert document["suggestions"] == ["see why, or raise its limit (hold in hosts.toml)"]
    assert document["site_state"].startswith(
        "as before, but the schema: pages.0003_hold_before stays applied; pages.0004_hold_slow"
    )
    assert document["migrations"] == ["pages.0003_hold_before"]
    assert site.live() == live
    assert traffic.count().failed == 0
    site.assert_sound()
    site.add_note("still with an author")
    psql(site, "ALTER TABLE pages_note DROP COLUMN calm")
    forget(site)


def test_a_run_that_is_killed_while_requests_wait(site: Site) -> None:
    """Nobody is left who would switch: the migration is rolled back, and the old code serves at once."""
    slow = "migrations.RemoveField('note', 'author'), migrations.RunSQL('SELECT pg_sleep(15)', '')"
    site.commit(migration("0003_hold_slow", slow))
    live = site.live()
    with (
        Traffic(site.host.address, site.domain, long=False) as traffic,
        running(site, "deploy", "--branch", site.branch, "--json") as deploy,
    ):
        wait_for(lambda: at_work(site, "SELECT pg_sleep(15)") or deploy.poll() is not None)
        assert deploy.poll() is None, deploy.communicate()
        site.run("kill -KILL $(pgrep -u deploy -f '^bash --norc -c .* runner @')")
        out, _ = deploy.communicate(timeout=60)
        assert json.loads(out)["exit_code"] == 3
        wait_for(lambda: answers(site))
        assert not at_work(site, "SELECT pg_sleep(15)")
    assert traffic.count().failed == 0
    assert site.live() == live
    site.add_note("with an author")
    site.commit({"apps/web/pages/migrations/0003_hold_slow.py": None} | site.titled("Afterwards"))
    assert site.deploy().expect(0).json["migrations_ahead"] == []


def test_a_migration_that_cannot_be_cancelled_is_not_begun(site: Site) -> None:
    """Nobody waits, nothing has changed, and what to do is said; plan says the same."""
    site.commit(migration("0003_hold_lasting", "migrations.RemoveField('note', 'author')", atomic=False))
    master, releases = site.master_pid(), site.releases()
    for command in ("deploy", "plan"):
        document = site.fab(command, "--branch", site.branch, "--json").expect(5).json
        told = r"pages.0003_hold_lasting breaks the code .* and pages.0003_hold_lasting cannot be rolled back"
        assert re.search(told, document["error"])
        assert "maintenance.on" in document["suggestions"][0]
    wait_for(lambda: set(site.releases()) <= set(releases))
    assert site.master_pid() == master
