"""What users leave outlives releases: databases in files, uploads, files that somebody put there."""

import re

import pytest

from testbed.harness import Site
from testbed.world import psql

pytestmark = pytest.mark.lab

MANAGE = "apps/web/manage.py"
SETTINGS = "apps/web/config/settings.py"
IN_THE_RELEASE = """
# As `startproject` writes it.
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
MEDIA_ROOT = BASE_DIR / "media"
SECRET_FILE = (BASE_DIR / "local.ini").read_text()
"""


def test_data_in_a_release_is_refused_and_linked_data_stays(site: Site) -> None:
    """A SQLite file and uploads in the release are named with the lines to add; with them, rows and files stay."""
    before = site.live()
    settings = site.repository.read(SETTINGS)
    site.commit({SETTINGS: settings + IN_THE_RELEASE.replace('"local.ini"', '"manage.py"')})
    refused = site.deploy().expect(5).json
    assert "is apps/web/db.sqlite3 in the release, where the app cannot write" in refused["error"]
    assert "MEDIA_ROOT (uploads) is apps/web/media in the release" in "\n".join(refused["logs"]["output"])
    (advice,) = refused["suggestions"]
    assert 'linked_dirs = ["apps/web/media"] and linked_files = ["apps/web/db.sqlite3"]' in advice
    assert (site.live(), refused["site_state"]) == (before, "as before")
    assert len(site.releases()) == len(set(site.releases()) - {refused["release"]})

    site.settings |= {"linked_dirs": ["apps/web/media"], "linked_files": ["apps/web/db.sqlite3"]}
    site.deploy().expect(0)
    site.add_note("in a file")
    site.commit(site.titled("The next one"))
    assert site.deploy().expect(0).json["watch"]["failed"] == 0
    site.add_note("in the same file")
    assert site.notes() == ["in the same file", "in a file"]
    site.fab("rollback", "--json").expect(0)
    assert site.notes() == ["in the same file", "in a file"]
    beside = site.run("ls /srv/consult/shared/apps/web").split()
    assert {"db.sqlite3", "media"} <= set(beside)

    # A file that neither the commit nor shared/ has, and without which the app does not load.
    site.commit({SETTINGS: settings + IN_THE_RELEASE})
    site.settings["linked_files"] = ["apps/web/db.sqlite3", "apps/web/local.ini"]
    refused = site.deploy().expect(5).json
    assert "the linked file /srv/consult/shared/apps/web/local.ini is not there yet" in refused["error"]
    put = ("link.put", "apps/web/local.ini")
    assert refused["suggestions"] == [f"fab -H {site.name} {' '.join(put)} --file YOUR-COPY"]
    said = site.fab(*put, stdin="key = VERY-SECRET").expect(0)
    assert "/srv/consult/shared/apps/web/local.ini has 17 bytes" in said.text
    assert "VERY-SECRET" not in said.text
    site.deploy().expect(0)
    assert site.notes() == ["in the same file", "in a file"]
    wrong = site.fab("link.put", "apps/web/local.in", "--json", stdin="x").expect(2).json
    assert "did you mean apps/web/local.ini?" in wrong["error"]


def test_a_rollback_over_a_migration_says_so(site: Site) -> None:
    """The migrations that stay applied and that the old code does not know are named, before and after."""
    site.commit(site.titled("Before the migration"))
    old = site.deploy().expect(0).json["release"]
    migration = site.repository.read("apps/web/pages/migrations/0002_note_author.py")
    migration = migration.replace("0001_initial", "0002_note_author").replace('"author"', '"mood"')
    site.commit({"apps/web/pages/migrations/0003_mood.py": migration})
    assert site.deploy().expect(0).json["migrations_ahead"] == []
    said = site.fab("rollback", "--to", old).expect(0).out
    warning = "the database is ahead of this release, whose code may fail on it: pages.0003_mood stays applied"
    switch = said.index("Switch to the new release")
    assert said.index(warning) < switch < said.index("pages.0003_mood stays applied, which this release does not know")
    site.deploy().expect(0)
    document = site.fab("rollback", "--to", old, "--json").expect(0).json
    assert document["migrations_ahead"] == ["pages.0003_mood"]
    site.deploy().expect(0)
    psql(site, "ALTER TABLE pages_note DROP COLUMN mood; DELETE FROM django_migrations WHERE name = '0003_mood'")


def test_a_rollback_that_the_schema_would_break_is_refused(site: Site) -> None:
    """A column went that the earlier code knows: that is told as it goes, and a rollback has to be meant then."""
    added = site.repository.read("apps/web/pages/migrations/0002_note_author.py")
    added = added.replace("0001_initial", "0002_note_author").replace('"author"', '"mood"')
    gone = re.sub(r"AddField\(.*?\n        \)", 'RemoveField("note", "mood")', added, flags=re.DOTALL)
    site.commit({"apps/web/pages/migrations/0003_mood.py": added})
    old = site.deploy().expect(0).json["release"]
    site.commit({"apps/web/pages/migrations/0004_gone.py": gone.replace("0002_note_author", "0003_mood")})
    told = site.fab("plan", "--branch", site.branch, "--json").expect(0).json["to_migrate"]
    assert told[0]["breaks"] == ["column pages_note.mood goes"]
    deployed = site.deploy().expect(0)
    assert "pages.0004_gone BREAKS THE RUNNING CODE: column pages_note.mood goes" in deployed.err
    live = deployed.json["release"]
    refused = site.fab("rollback", "--json").expect(5).json
    assert f"{old} cannot run on the present schema: pages.0004_gone: column pages_note.mood goes" in refused["error"]
    assert refused["suggestions"][0].endswith(f"fab -H {site.name} rollback --keep-schema")
    assert (refused["breaking"], site.live()) == (["pages.0004_gone: column pages_note.mood goes"], live)
    assert site.fab("rollback", "--keep-schema", "--json").expect(0).json["release"] == old
    site.deploy().expect(0)
    psql(site, "DELETE FROM django_migrations WHERE name IN ('0003_mood', '0004_gone')")
