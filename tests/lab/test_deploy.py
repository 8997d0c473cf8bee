"""deploy: every kind of change goes live by the lightest right means, and nothing that visitors left is lost."""

import json
import re
from collections.abc import Callable

import pytest

from testbed.harness import CHECKS, CSS, FIELDS, PAGE, SETTINGS, URLS, VIEWS, WEB, Site, wait_for
from testbed.sample import VALUES

pytestmark = pytest.mark.lab

# Tells that the app was loaded, but for the service's own workers.
LOADED = """
if "DEPLOY_PROOF" in os.environ or "RUNTIME_DIRECTORY" not in os.environ:
    with open("/srv/consult/shared/loads", "a") as loads:
        loads.write("once ")
"""
# Shows an environment variable in the heading.
MOTTO = ('"greeting": greet', '"motto": __import__("os").environ.get("MOTTO", ""),\n        "greeting": greet')


def test_new_code_goes_live_by_hup(site: Site) -> None:
    """New code and CSS are served by new workers of the same master; a page that is open still finds its old CSS."""
    site.add_note("before new code")
    old_css, master, workers = site.stylesheet(), site.master_pid(), site.worker_pids()
    commit = site.commit(site.titled("Second") | site.edited(CSS, "#0b6e4f", "#123456"))
    document = site.deploy().expect(0).json
    assert (document["activation"], document["git_commit"]) == ("hup", commit)
    assert site.heading() == "Second"
    assert "#123456" in site.get(site.stylesheet()).text
    assert "#0b6e4f" in site.get(old_css).text
    assert site.stylesheet() != old_css
    assert site.master_pid() == master
    assert not site.worker_pids() & workers
    assert "before new code" in site.notes()


def test_new_code_alone_installs_and_loads_nothing_twice(site: Site) -> None:
    """The packages are those of the release before; the proof, collectstatic and migrate have one app loaded."""
    packages = site.run("readlink /app/.deploy/virtualenv")
    site.commit(site.titled("Once") | {SETTINGS: site.repository.read(SETTINGS) + LOADED})
    try:
        document = site.deploy().expect(0).json
        assert {"collect_the_static_files", "migrate_the_database"} <= set(document["timing"])
        assert site.run("cat /srv/consult/shared/loads") == "once "
    finally:
        site.run("rm -f /srv/consult/shared/loads")
    assert site.run("readlink /app/.deploy/virtualenv") == packages != ""


def test_static_files_that_would_be_the_same_are_links(site: Site) -> None:
    """New code alone: the files are those of the release before; a new source, and all are made anew."""

    def manifest() -> str:
        return site.run(f"stat --format %i /app/{VALUES['project']}/staticfiles/staticfiles.json")

    site.commit(site.titled("Collected"))
    site.deploy().expect(0)
    before = manifest()
    site.commit(site.titled("Linked"))
    site.deploy().expect(0)
    assert (site.heading(), manifest()) == ("Linked", before)
    assert site.get(site.stylesheet()).status_code == 200
    site.commit({CSS: "p { color: #565656 }\n"})
    site.deploy().expect(0)
    assert "#565656" in site.get(site.stylesheet()).text
    assert manifest() != before


def test_json_is_one_document_with_every_field(site: Site) -> None:
    """What agents parse is all there, alone on stdout; a person's lines are on stderr."""
    site.commit(site.titled("For agents"))
    before = site.live()
    result = site.deploy().expect(0)
    document = result.json
    assert set(document) >= FIELDS
    assert document["status"] == "success"
    assert document["phase"] == "done"
    assert (document["release"], document["previous"]) == (site.live(), before)
    assert document["git_branch"] == site.branch
    assert document["url"] == "http://consult.lab"
    assert document["checks"] == dict.fromkeys(CHECKS, True)
    assert document["watch"]["requests"] > 0
    assert document["watch"]["failed"] == 0
    assert document["timing"]["total"] >= document["timing"]["build_the_virtualenv"] > 0
    assert "Build the virtualenv" in result.err


def test_a_person_sees_each_step_and_one_summary(site: Site) -> None:
    """Without --json the steps and their seconds are on stdout, plain in a pipe, and stderr is empty."""
    site.commit(site.titled("For people"))
    result = site.fab("deploy", "--branch", site.branch).expect(0)
    assert re.search(r"Build the virtualenv +\d+\.\d\d s  ok\n", result.out)
    assert result.out.splitlines()[-1].startswith(f"{site.name}: {site.live()} is live (hup)")
    assert "\x1b" not in result.out
    assert result.err == ""


def test_nothing_to_do_touches_nothing(site: Site) -> None:
    """The same commit again: exit 0, `unchanged`, and not one file, process or link is another."""
    site.commit(site.titled("Once"))
    site.deploy().expect(0)
    ages, pids = site.ages(), (site.master_pid(), site.worker_pids())
    document = site.deploy().expect(0).json
    assert (document["status"], document["activation"]) == ("unchanged", "nothing")
    assert set(document) >= FIELDS
    assert document["release"] == site.live()
    assert (site.master_pid(), site.worker_pids()) == pids
    assert site.ages() == ages


def test_force_does_every_step_again(site: Site) -> None:
    """--force makes a new release of the commit that is live."""
    site.deploy(branch="main").expect(0)
    before = site.live()
    document = site.deploy("--force", branch="main").expect(0).json
    assert document["release"] == site.live() != before
    assert document["git_commit"] == site.repository.sha()
    assert document["timing"]["build_the_virtualenv"] > 0


def test_packages_are_added_and_upgraded_by_hup(site: Site) -> None:
    """Workers of the same master load the packages of their own release: new ones, and other versions of old ones."""
    site.add_note("before packages")
    view = 'def versions(_request: HttpRequest) -> JsonResponse:\n    """Tell."""\n    import iniconfig, sqlparse\n\n'
    view += '    return JsonResponse({"sqlparse": sqlparse.__version__, "iniconfig": iniconfig.__file__})\n'
    was = re.search(r'name = "sqlparse"\nversion = "(.*?)"', site.repository.read("uv.lock"))
    assert was
    site.commit(
        site.locked(site.edited(WEB, '"greeting",', '"greeting",\n    "iniconfig",\n    "sqlparse<0.6",'))
        | {VIEWS: f"{site.repository.read(VIEWS)}\n\n{view}"}
        | site.edited(URLS, "urlpatterns = [", 'urlpatterns = [\n    path("versions", views.versions),')
    )
    master = site.master_pid()
    assert site.deploy().expect(0).json["activation"] == "hup"
    versions = site.get("/versions").json()
    assert versions["sqlparse"].startswith("0.5.") != was[1].startswith("0.5.")
    assert f"/releases/{site.live()}/.venv/" in versions["iniconfig"]
    assert site.master_pid() == master
    assert "before packages" in site.notes()


def test_a_workspace_member_changes_by_hup(site: Site) -> None:
    """Code of an editable workspace member is the new release's too."""
    site.add_note("before the member")
    master = site.master_pid()
    site.commit(site.edited("packages/greeting/src/greeting/__init__.py", "Good day", "Good evening"))
    assert site.deploy().expect(0).json["activation"] == "hup"
    assert site.heading() == "Good evening, visitor."
    assert site.master_pid() == master
    assert "before the member" in site.notes()


def test_another_gunicorn_restarts_the_service(site: Site) -> None:
    """HUP cannot carry what the master itself is (decision 6): a restart behind the socket, and it says why."""
    site.add_note("before gunicorn")
    site.commit(site.locked(site.edited(WEB, '"gunicorn==23.0.0"', '"gunicorn==25.0.3"')))
    master = site.master_pid()
    document = site.deploy().expect(0).json
    assert document["activation"] == "restart"
    assert "gunicorn 23.0.0 -> 25.0.3" in document["reason"]
    assert document["watch"]["requests"] > 5
    assert document["watch"]["failed"] == 0
    assert site.master_pid() != master
    assert "before gunicorn" in site.notes()


def test_a_changed_unit_restarts_the_service(site: Site) -> None:
    """unit_options reach systemd, and no request fails meanwhile."""
    site.deploy(branch="main").expect(0)
    site.add_note("before the unit")
    master = site.master_pid()
    site.settings["unit_options"] = {"MemoryMax": "768M"}
    document = site.deploy(branch="main").expect(0).json
    assert (document["activation"], document["reason"]) == ("restart", "consult-django.service changed")
    assert document["watch"]["failed"] == 0
    assert site.run("systemctl show -p MemoryMax --value consult-django").strip() == str(768 * 1024 * 1024)
    assert site.master_pid() != master
    assert "before the unit" in site.notes()
    assert site.deploy(branch="main").expect(0).json["status"] == "unchanged"


def test_a_changed_site_reloads_nginx_alone(site: Site) -> None:
    """A larger body is let through, and gunicorn notices nothing."""
    site.deploy(branch="main").expect(0)
    pids = site.master_pid(), site.worker_pids()
    body = b"x" * 1024 * 1024
    site.settings["body_size"] = "512k"
    document = site.deploy(branch="main").expect(0).json
    assert document["activation"] == "nginx"
    assert site.post("/upload/", body).status_code == 413
    site.settings["body_size"] = "2m"
    site.deploy(branch="main").expect(0)
    assert site.post("/upload/", body).json() == {"bytes": len(body)}
    assert (site.master_pid(), site.worker_pids()) == pids


def test_more_workers_come_by_hup(site: Site) -> None:
    """`workers` is a setting of the release: the same master, as many workers as asked for."""
    site.deploy(branch="main").expect(0)
    master = site.master_pid()
    site.settings["workers"] = 4
    document = site.deploy(branch="main").expect(0).json
    assert document["activation"] == "hup"
    assert site.master_pid() == master
    assert len(site.worker_pids()) == 4


def test_a_deploy_takes_up_changed_secrets(site: Site, secrets: Callable[..., None]) -> None:
    """New code while a secret has changed: the service restarts and says for which; the value is nowhere."""
    secrets(MOTTO="sentinel-by-deploy")
    site.commit(site.edited(PAGE, "{{ greeting }}", "{{ motto }}") | site.edited(VIEWS, *MOTTO))
    result = site.deploy().expect(0)
    assert result.json["activation"] == "restart"
    assert "secrets changed: MOTTO" in result.json["reason"]
    assert site.heading() == "sentinel-by-deploy"
    assert "sentinel-by-deploy" not in result.text


def test_restart_takes_up_changed_secrets(site: Site, secrets: Callable[..., None]) -> None:
    """`restart` is the verb for a secret that changed while the code did not."""
    site.commit(site.edited(PAGE, "{{ greeting }}", "{{ motto }}") | site.edited(VIEWS, *MOTTO))
    site.deploy().expect(0)
    assert site.heading() == ""
    secrets(MOTTO="by restart")
    document = site.fab("restart", "--json").expect(0).json
    assert document["activation"] == "restart"
    assert document["watch"]["failed"] == 0
    assert site.heading() == "by restart"


def test_reload_makes_new_workers(site: Site) -> None:
    """`reload` is HUP alone: the same master and release, other workers."""
    live, master, workers = site.live(), site.master_pid(), site.worker_pids()
    assert site.fab("reload", "--json").expect(0).json["activation"] == "hup"
    assert (site.live(), site.master_pid()) == (live, master)
    assert not site.worker_pids() & workers


def test_a_migration_keeps_the_data(site: Site) -> None:
    """A new column with its code: the rows of before are there and have it."""
    site.add_note("before the migration")
    migration = site.repository.read("apps/web/pages/migrations/0002_note_author.py")
    migration = migration.replace("0001_initial", "0002_note_author").replace('"author"', '"mood"')
    site.commit(
        {"apps/web/pages/migrations/0003_mood.py": migration.replace('db_default=""', 'db_default="calm"')}
        | site.edited(
            "apps/web/pages/models.py", "    created =", '    mood = models.CharField(db_default="calm")\n    created ='
        )
        | site.edited(VIEWS, '"author": note.author', '"author": note.mood')
    )
    document = site.deploy().expect(0).json
    assert document["activation"] == "hup"
    assert {"text": "before the migration", "author": "calm"}.items() <= site.get("/notes/").json()["notes"][0].items()
    site.add_note("after the migration")
    assert site.notes()[:2] == ["after the migration", "before the migration"]


def test_static_files_above_the_project(site: Site) -> None:
    """STATIC_ROOT at the top of the repository, two folders above manage.py: collected, served, and kept there."""
    site.settings["static_root"] = "../../public"
    site.commit(site.edited(SETTINGS, 'BASE_DIR / "staticfiles"', 'BASE_DIR.parent.parent / "public"'))
    site.deploy().expect(0)
    assert site.get(site.stylesheet()).status_code == 200
    assert "staticfiles.json" in site.run("ls /app/public")
    assert site.get("/static/staticfiles.json").status_code == 200


def test_uploads_outlive_releases(site: Site) -> None:
    """A linked folder takes over what the repository has in it, and keeps what visitors put there."""
    site.settings["linked_dirs"] = ["apps/web/media"]
    site.commit({"apps/web/media/from-git": "from git\n"})
    site.deploy().expect(0)
    site.run("runuser -u deploy -- sh -c 'echo mine >/app/apps/web/media/upload'")
    site.commit(site.titled("With uploads"))
    site.deploy().expect(0)
    assert site.run("cat /app/apps/web/media/upload /app/apps/web/media/from-git") == "mine\nfrom git\n"


def test_a_tag_or_a_commit_is_deployed(site: Site) -> None:
    """--branch takes a tag, a commit and the beginning of one too (every other test takes a branch with a slash)."""
    tagged = site.commit(site.titled("Tagged"))
    site.repository.tag("v1.0", tagged)
    commit = site.commit(site.titled("Untagged"))
    site.commit(site.titled("Newest"))
    document = site.deploy(branch="v1.0").expect(0).json
    assert (document["git_branch"], document["git_commit"], site.heading()) == ("v1.0", tagged, "Tagged")
    document = site.deploy(branch=commit).expect(0).json
    assert (document["git_commit"], site.heading()) == (commit, "Untagged")
    document = site.deploy(branch=commit[:8]).expect(0).json
    assert (document["git_commit"], document["status"]) == (commit, "unchanged")


def test_keep_prunes_old_releases(site: Site) -> None:
    """As many good releases stay as `keep` says, and the one that the master was started from; others are gone soon."""
    site.run("rm -f /srv/consult/releases/*/.deploy/{bad,left}")  # of other tests: such a release stays a while longer
    while len(site.releases()) < 4:
        site.deploy("--force", branch="main").expect(0)
    site.settings["keep"] = 2
    newest_before = site.live()
    site.commit(site.titled("Pruned"))
    site.deploy().expect(0)
    master = json.loads(site.run("cat /run/consult-django/master.json"))["release"].rpartition("/")[2]
    kept = {newest_before, site.live(), master}
    wait_for(lambda: set(site.run("ls -A /srv/consult/releases").split()) == kept, seconds=120)  # visitors come first
    assert site.run("git -C /srv/consult/repo.git -c safe.directory=* worktree list").count("/releases/") <= 3
