"""Steps that run the app's own programs, on real bash: manage.py with its secrets, static files, the proof.

git, Python and curl are real. doppler is a stand-in that notes its arguments and runs the command that it is
given; gunicorn one of ten lines: the real ones have tests/gunicorn and tests/lab.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fabfile.config.layout import Release
from fabfile.config.settings import Settings, Timeouts
from fabfile.plan.activation import Comparison, choose
from fabfile.ssh.runner import StepError
from fabfile.steps import at_hand, django, proof
from fabfile.steps.step import Step
from testbed.bash import shell
from testbed.sample import VALUES, sample
from tests.host.local_host import HOSTILE, World, alive, eventually

ID = "20260102T030405Z-abcdef0"
TOKEN = "dp.st.prd.SENTINEL"  # noqa: S105 - made up
MANAGE = """
import json, os, pathlib, sys
with open(os.environ["HOME"] + "/manage", "a") as file:
    print(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]), file=file)
if sys.argv[1] == "collectstatic":
    for name in ("css/site.0123456789ab.css", "css/site.css", "js/ünï $(touch bait).deadbeef.js.map", "x.abc.css"):
        path = pathlib.Path("staticfiles", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
"""
# Answers what /healthz of the app would, says what the app heard, and writes what the real one's settings file writes.
GUNICORN = """
import json, os, pathlib, socket, sys
folder = pathlib.Path(os.environ["RUNTIME_DIRECTORY"])
path = sys.argv[sys.argv.index("--bind") + 1].removeprefix("unix:")
if os.path.exists("broken"):
    sys.exit("ImportError: no module named settings")
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
if not os.path.exists("slow"):
    (folder / "up").mkdir()
    (folder / "up/1").write_text('{"django_settings": "shop.settings.production"}')
    (folder / "master.json").write_text(open("master.json").read())
if os.fork() == 0 and os.fork() == 0:
    os.execvp("sleep", ["sleep", "300"])
while True:
    connection, _ = server.accept()
    heard = connection.recv(65536).decode()
    pathlib.Path("heard").write_text(heard)
    status, *later = open("status").read().split()
    pathlib.Path("status").write_text(" ".join(later or [status]))
    with open("asked", "a") as asked:
        asked.write(status + "\\n")
    to = "http://api.consult.dev/healthz/" if status == "301" else "/elsewhere/"
    body = open("body").read() if os.path.exists("body") else "the answer's body"
    connection.sendall(f"HTTP/1.0 {status} Said\\r\\nLocation: {to}\\r\\n\\r\\n{body}".encode())
    connection.close()
"""


NAMES = [
    "name", "user", "group", "admin", "path", "wsgi", "doppler_project", "doppler_config", "python", "repo",
    "static_url", "body_size", "address",
]  # fmt: skip


@pytest.fixture
def release(world: World) -> Release:
    """A laid-out release with a Python of its own, and a token on the host."""
    release = world.release(ID)
    world.stub("doppler", 'env >"$HOME/doppler"; while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    Path(world.layout.secrets).write_text(f"DOPPLER_TOKEN={TOKEN}\n")
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(release.venv)], check=True)
    Path(release.project, "manage.py").write_text(MANAGE)
    packages = next(Path(release.venv).glob("lib/python*/site-packages"))
    (packages / "gunicorn.py").write_text(GUNICORN)
    for name, text in {"status": "200", "master.json": "{}"}.items():
        Path(release.project, name).write_text(text)
    return release


def managed(world: World) -> list[tuple[list[str], str, dict[str, str]]]:
    """What manage.py was called with, where, and in which environment."""
    return [tuple(json.loads(line)) for line in (world.root / "home/manage").read_text().splitlines()]  # type: ignore[misc]


def test_migrate_runs_under_doppler_without_the_token_in_any_argument(world: World, release: Release) -> None:
    """manage.py of the release itself, in its folder, with the service's environment and no other."""
    world.settings = world.settings.model_copy(update={"doppler_project": "consult", "doppler_config": "prd"})
    world.twice(django.migrate(world.settings, release))
    arguments, folder, environment = managed(world)[-1]
    assert arguments == ["manage.py", "migrate", "--noinput"]
    assert folder == str(release.project)
    assert environment["DOPPLER_TOKEN"] == TOKEN
    assert environment["DOPPLER_CONFIG_DIR"] == str(world.layout.doppler_home)
    call = world.calls[0]
    assert call.startswith("doppler run --silent --project consult --config prd -- ")
    assert TOKEN not in call


def test_variables_of_the_login_do_not_reach_the_app(world: World, release: Release) -> None:
    """What SSH and PAM set is gone, as in the service; what a program needs to run is there."""
    connection = world.connect()
    connection.environment = {
        **connection.environment,
        "DJANGO_DEBUG": "1",
        "SSH_CLIENT": "10.0.0.1",
        "BASH_ENV": "/dev/null",
    }
    with connection.runner() as runner:
        runner.run([django.migrate(world.settings, release)])
    environment = managed(world)[0][2]
    assert not {"DJANGO_DEBUG", "SSH_CLIENT", "BASH_ENV"} & set(environment)
    assert {"HOME", "PATH", "PYTHONUNBUFFERED"} <= set(environment)


def test_a_missing_token_is_told(world: World, release: Release) -> None:
    """Without the token file nothing runs, and its place is named."""
    Path(world.layout.secrets).unlink()
    with pytest.raises(StepError) as caught:
        world.run(django.migrate(world.settings, release))
    assert str(world.layout.secrets) in caught.value.evidence
    assert not (world.root / "home/manage").exists()


def test_a_migration_that_fails_is_told(world: World, release: Release) -> None:
    """The traceback is the evidence."""
    Path(release.project, "manage.py").write_text("raise RuntimeError('column exists')")
    with pytest.raises(StepError) as caught:
        world.run(django.migrate(world.settings, release))
    assert "RuntimeError: column exists" in caught.value.evidence


@pytest.mark.parametrize("own", ["shop.settings.development", "shop.settings.production"])
def test_what_is_migrated_is_the_websites_database(world: World, release: Release, own: str) -> None:
    """A manage.py that falls back to other settings than wsgi.py is refused before the command runs."""
    package = next(Path(release.venv).glob("lib/python*/site-packages")) / "django"
    (package / "core/management").mkdir(parents=True)
    (package / "core/management/base.py").write_text("class BaseCommand:\n    def execute(self): print('migrated')\n")
    (package / "db/migrations").mkdir(parents=True)
    (package / "db/migrations/migration.py").write_text("class Migration:\n    apply = None\n")
    (package / "db/__init__.py").write_text(
        "import types\nOperationalError, connections = OSError, {'default': types.SimpleNamespace(vendor='sqlite')}\n"
    )
    Path(release.project, "manage.py").write_text(
        f"import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', '{own}')\n"
        "from django.core.management.base import BaseCommand\nBaseCommand().execute()\n"
    )
    steps = prove(world, release, django.migrate(world.settings, release))
    if own == "shop.settings.production":
        assert world.run(*steps)[django.MIGRATE].output == "migrated"
        return
    with pytest.raises(StepError) as caught:
        world.run(*steps)
    assert "the settings shop.settings.development, the website shop.settings.production" in caught.value.evidence
    assert "migrated" not in caught.value.evidence


def test_static_files_with_hashed_names_are_kept(world: World, release: Release) -> None:
    """Files whose name holds a digest are linked for pages of earlier releases; others are not; twice is once."""
    kept = Path(world.layout.kept_static)
    (kept / "css").mkdir()
    (kept / "css/old.0123456789ab.css").write_text("of before")
    world.twice(django.collect_static(world.settings, release))
    assert managed(world)[0][0] == ["manage.py", "collectstatic", "--noinput", "--verbosity", "0"]
    found = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
    hashed = {"css/site.0123456789ab.css", "js/ünï $(touch bait).deadbeef.js.map"}
    assert found == hashed | {"css/old.0123456789ab.css", f".lists/{ID}"}
    source = Path(release.project, "staticfiles/css/site.0123456789ab.css")
    assert source.samefile(kept / "css/site.0123456789ab.css")
    assert set((kept / ".lists" / ID).read_text().splitlines()) == hashed
    assert not world.bait()


def test_a_missing_static_root_is_told(world: World, release: Release) -> None:
    """The setting to look at is named."""
    Path(release.project, "manage.py").write_text("")
    with pytest.raises(StepError) as caught:
        world.run(django.collect_static(world.settings, release))
    assert "apps/web/staticfiles (static_root in hosts.toml)" in caught.value.evidence


def test_a_static_root_above_the_project(world: World, release: Release) -> None:
    """STATIC_ROOT beside the project's folder, or at the top of the repository, is found there."""
    world.settings = sample(repo="file:///nowhere", static_root="../../public")
    manage = Path(release.project, "manage.py")
    manage.write_text(manage.read_text().replace('Path("staticfiles"', 'Path("../../public"'))
    world.twice(django.collect_static(world.settings, release))
    kept = Path(world.layout.kept_static, "css/site.0123456789ab.css")
    assert kept.samefile(Path(release.root, "public/css/site.0123456789ab.css"))


def prove(world: World, release: Release, *further: Step) -> list[Step]:
    """The proof's steps in their order."""
    return [proof.start(world.settings, release), proof.boot(world.settings, release, collected=True), *further]


def proof_pids(world: World) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if str(path.readlink()).startswith(str(world.layout.releases)):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if alive(pid)]


def test_a_release_proves_that_it_boots_and_is_healthy(world: World, release: Release) -> None:
    """Asked as nginx would ask it; stopping leaves no process, twice over, and nothing outside the work folder."""
    world.settings = world.settings.model_copy(
        update={"health_path": "/healthz?deep=1&x=%20", "domain": "api.consult.dev"}
    )
    steps = prove(world, release, proof.health(world.settings), proof.health(world.settings))
    with world.connect().runner(lock=world.lock()) as runner:
        runner.run(steps)
        assert proof_pids(world)
        runner.run([proof.stop(), proof.stop()])
        assert eventually(lambda: not proof_pids(world))
    heard = Path(release.project, "heard").read_text()
    assert heard.startswith("GET /healthz?deep=1&x=%20 HTTP/1.1\n")
    assert "Host: api.consult.dev\n" in heard
    assert "X-Forwarded-Proto: https\n" in heard
    assert TOKEN not in "".join(world.calls)


def test_a_proof_ends_with_its_runner(world: World, release: Release) -> None:
    """A client that goes away leaves no second app running, and no lock."""
    with world.connect().runner(lock=world.lock()) as runner:
        runner.run(prove(world, release))
        assert proof_pids(world)
    assert eventually(lambda: not proof_pids(world))
    with world.connect().runner(lock=world.lock()):
        pass


def test_a_release_that_does_not_boot_is_told(world: World, release: Release) -> None:
    """The log of the process is the evidence, at once."""
    Path(release.project, "broken").touch()
    with pytest.raises(StepError) as caught:
        world.run(*prove(world, release))
    assert "ImportError: no module named settings" in caught.value.evidence


# Looks for the list of static files as it loads, and lets the test know that it has.
LISTED = """
listed = os.path.exists("staticfiles")
with open("loads", "a") as loads:
    loads.write(f"{listed}\\n")
if not listed and os.path.exists("strict"):
    sys.exit("ValueError: Missing staticfiles manifest entry for 'css/site.css'")
(folder / "django.json").write_text(json.dumps({"static_list": True}, indent=1))
"""


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("collected", [False, True])
def test_an_app_that_needs_the_list_of_static_files_is_loaded_with_it(
    world: World, release: Release, strict: bool, collected: bool
) -> None:
    """It boots while they are collected: once more when it has read too early, or failed for it; not without need."""
    packages = next(Path(release.venv).glob("lib/python*/site-packages"))
    (packages / "gunicorn.py").write_text(GUNICORN.replace("server = socket", f"{LISTED}server = socket", 1))
    if strict:
        Path(release.project, "strict").touch()
    loads = Path(release.project, "loads")
    steps = [
        proof.start(world.settings, release),
        shell("until-it-has-looked", f"until [ -s {loads} ]; do sleep 0.05; done"),
        django.collect_static(world.settings, release),
        proof.boot(world.settings, release, collected=collected),
        proof.health(world.settings),
    ]
    if strict and not collected:
        with pytest.raises(StepError) as caught:
            world.run(*steps)
        assert "Missing staticfiles manifest entry" in caught.value.evidence
    else:
        world.run(*steps)
    assert loads.read_text().split() == ["False", "True"] if collected else ["False"]


def test_a_release_that_boots_for_ever_is_told(world: World, release: Release) -> None:
    """The limit is the setting's."""
    Path(release.project, "slow").touch()
    world.settings = world.settings.model_copy(update={"timeouts": Timeouts(boot=1)})
    with pytest.raises(StepError) as caught:
        world.run(*prove(world, release))
    assert "it did not boot within 1 s" in caught.value.evidence
    assert eventually(lambda: not proof_pids(world))


@pytest.mark.parametrize(("status", "tries"), [("500", 3), ("404", 3), ("503", 2)])
def test_a_release_that_is_not_healthy_is_told(world: World, release: Release, status: str, tries: int) -> None:
    """The status and what the app said; after a few tries, but for "not yet" after all of timeouts.health."""
    seconds = 1 if status == "503" else 60
    world.settings = world.settings.model_copy(update={"timeouts": Timeouts(health=seconds)})
    Path(release.project, "status").write_text(status)
    with pytest.raises(StepError) as caught:
        world.run(*prove(world, release, proof.health(world.settings)))
    assert "/healthz answered:\nthe answer's body" in caught.value.evidence
    assert f"failed: /healthz answered {status}, not 200" in caught.value.evidence
    asked = Path(release.project, "asked").read_text().split()
    assert len(asked) >= tries if status == "503" else len(asked) == tries


@pytest.mark.parametrize(
    ("status", "reason", "then"),
    [
        ("400", "asked with Host api.consult.dev: is it in ALLOWED_HOSTS?", "add api.consult.dev to the app's"),
        ("302", "it redirects to /elsewhere/", "health_path"),
        ("301", "it redirects to http://api.consult.dev/healthz/, with a slash (APPEND_SLASH)", "health_path"),
        ("404", "the app has no such page", "health_path"),
    ],
)
def test_what_a_bad_answer_mostly_means_is_told(
    world: World, release: Release, status: str, reason: str, then: str
) -> None:
    """The setting to look at, in hosts.toml or in the app; of a page of HTML only the words that a person reads."""
    Path(release.project, "status").write_text(status)
    page = f"<html><style>p {{}}</style><p>Bad <b>Request</b>{'<p>x' * 30}<script>alert()</script>\n<p>the last word"
    Path(release.project, "body").write_text(page)
    with pytest.raises(StepError) as caught:
        world.run(*prove(world, release, proof.health(world.settings)))
    assert caught.value.message.endswith(f"/healthz answered {status}, not 200{reason_of(status, reason)}")
    assert then in caught.value.hint
    assert "the last word" in caught.value.evidence
    assert not {"<p>", "alert", "p {}"} & set(caught.value.evidence.split())


def reason_of(status: str, reason: str) -> str:
    return f", {reason}" if status == "400" else f": {reason}"


@pytest.mark.parametrize(
    "said", ["ModuleNotFoundError: No module named 'config'", "Failed to find attribute 'app' in 'config.wsgi'."]
)
def test_a_wrong_wsgi_is_told(world: World, release: Release, said: str) -> None:
    """A module or an attribute that is not there: the setting, its value, and what the commit has."""
    subprocess.run(["git", "init", "--quiet", release.root], check=True)
    Path(release.project, "shop").mkdir()
    Path(release.project, "shop/wsgi.py").touch()
    subprocess.run(["git", "-C", release.root, "add", "apps/web/shop"], check=True)
    Path(release.project, "broken").touch()
    packages = next(Path(release.venv).glob("lib/python*/site-packages"))
    (packages / "gunicorn.py").write_text(GUNICORN.replace("ImportError: no module named settings", said))
    with pytest.raises(StepError) as caught:
        world.run(*prove(world, release))
    assert "gunicorn finds no config.wsgi:application (wsgi and project in hosts.toml)" in caught.value.message
    assert "apps/web/shop/wsgi.py" in caught.value.message
    assert said in caught.value.evidence


def test_a_boot_without_a_linked_file_is_told(world: World, release: Release) -> None:
    """What is missing is mostly why; the next command puts it there."""
    Path(release.notes, "linked_files").write_text("db.sqlite3\nconf/local.ini\n")
    Path(release.project, "broken").touch()
    with pytest.raises(StepError) as caught:
        world.run(*prove(world, release))
    assert f"the linked file {world.layout.shared}/conf/local.ini is not there yet" in caught.value.message
    assert caught.value.hint.startswith("fab -H there link.put conf/local.ini")
    Path(release.project, "manage.py").write_text("raise FileNotFoundError")
    with pytest.raises(StepError) as caught:
        world.run(django.collect_static(world.settings, release))
    assert f"the linked file {world.layout.shared}/conf/local.ini is not there yet" in caught.value.message


def test_a_release_has_its_time_to_become_healthy(world: World, release: Release) -> None:
    """503 says "not yet": one that fills its caches first, say."""
    Path(release.project, "status").write_text("503 503 503 503 503 200")
    world.run(*prove(world, release, proof.health(world.settings)))
    assert Path(release.project, "asked").read_text().split() == ["503"] * 5 + ["200"]


def test_a_release_that_visitors_get_into(world: World, release: Release) -> None:
    """They come by http and by the site's name; what they find is the answer, twice the same."""
    world.settings = world.settings.model_copy(update={"domain": "api.consult.dev"})
    step = proof.visitors(world.settings, release, new=True)
    with world.connect().runner() as runner:
        runner.run(prove(world, release))
        for _ in range(2):
            assert runner.run([step])[proof.VISITORS].output == "/ answers 200"
    heard = Path(release.project, "heard").read_text().lower()
    assert heard.startswith("get / http/1.1")
    assert "host: api.consult.dev\n" in heard
    assert "x-forwarded-proto: http\n" in heard


def test_a_release_that_visitors_do_not_get_into_is_told(world: World, release: Release) -> None:
    """An error is asked for three times, and the app's log says more of it; what will not pass is asked for once."""
    Path(release.project, "status").write_text("500 500 502")
    with pytest.raises(StepError) as caught:
        world.run(*prove(world, release, proof.visitors(world.settings, release, new=True)))
    assert "its log:" in caught.value.evidence
    assert caught.value.evidence.endswith("failed: / answers 502 to a visitor")
    assert Path(release.project, "asked").read_text().split() == ["500", "500", "502"]
    Path(release.project, "status").write_text("400")
    with pytest.raises(StepError) as caught:
        world.run(*prove(world, release, proof.visitors(world.settings, release, new=True)))
    assert caught.value.evidence == "failed: / answers 400 to a visitor: ALLOWED_HOSTS of the app lacks api.consult.dev"


@pytest.mark.parametrize(
    "value", ["/a'b", "/$(touch bait)", '/"', "/a b", "healthz", "/`x`", "/a;b", "/\n", "/ü", "/*"]
)
def test_health_paths_with_odd_characters_are_refused(value: str) -> None:
    """A health path is the path of a URL."""
    with pytest.raises(ValueError, match="must be the path of a URL"):
        Settings.model_validate({**VALUES, "health_path": value})


@pytest.mark.parametrize(
    "value", ["a'b", "$(touch bait)", "a b", "a;b", "a\nb", "-a", "*.example.org", "a/b", "ü.example"]
)
@pytest.mark.parametrize("field", ["domain", "aliases"])
def test_domains_with_odd_characters_are_refused(field: str, value: str) -> None:
    """A domain is a host name."""
    with pytest.raises(ValueError, match="must be a host name"):
        Settings.model_validate({**VALUES, field: value if field == "domain" else [value]})


@pytest.mark.parametrize("field", NAMES)
@pytest.mark.parametrize(
    "value", ["$(touch bait)", "a b", "a;b", "a'b", 'a"b', "`x`", "a\nb", "-o", "a*", "", "a\\b", "ünï"]
)
def test_names_with_odd_characters_are_refused(field: str, value: str) -> None:
    """No name that goes into a script, a unit or a sudo line holds anything but plain characters."""
    with pytest.raises(ValueError, match="must"):
        Settings.model_validate({**VALUES, field: value})


def master(root: object, pid: int, **changes: object) -> dict[str, object]:
    return {
        "pid": pid, "release": str(root), "python": {"version": "3.12.1 (main)", "executable": "/usr/bin/python3.12"},
        "gunicorn": "23.0.0", "preload": False,
        "worker_class": "sync", "modules": {}, "pth": {}, "environment": {"KEY": "keyed", "OLD": "keyed"}, **changes,
    }  # fmt: skip


def compare(world: World, release: Release, live: object) -> Comparison:
    """Run the comparison with a proof; return its answer."""
    Path(world.layout.state / "master.json").write_text(live if isinstance(live, str) else json.dumps(live))
    step = proof.compare(release)
    with world.connect().runner() as runner:
        runner.run(prove(world, release))
        first, second = (runner.run([step])[proof.COMPARE].output for _ in range(2))
    assert first == second
    return json.loads(first)


def test_what_differs_between_two_masters(world: World, release: Release) -> None:
    """Python, gunicorn, imported files and names of secrets; never a digest."""
    modules = {"same.py": "digest of same", "changed.py": "digest of old", "gone.py": "digest of gone"}
    modules_now = {**modules, "changed.py": "digest of new", "gone.py": None, "only_in_the_proof.py": "digest"}
    new = master(
        release.root, 1, gunicorn="27.0.1", environment={"KEY": "other", "NEW": "keyed"}, pth={"editable.pth": "new"},
        modules=modules_now,
    )  # fmt: skip
    Path(release.project, "master.json").write_text(json.dumps(new))
    answer = compare(world, release, master("/gone", os.getpid(), modules=modules, pth={"editable.pth": "old"}))
    assert answer["gunicorn"] == ["23.0.0", "27.0.1"]
    assert answer["modules"] == ["changed.py", "gone.py"]
    assert answer["pth"] == ["editable.pth"]
    assert answer["environment"] == ["KEY", "NEW", "OLD"]
    assert not [secret for secret in ("keyed", "other", "digest") if secret in json.dumps(answer)]
    assert choose(answer).kind == "restart"


@pytest.mark.parametrize("live", ["", "{", "null", "[]", '{"pid": null}', master("/x", 999999999)])
def test_no_running_master_to_compare_with(world: World, release: Release, live: object) -> None:
    """No file, half a file, a master that is dead: the service does not run."""
    Path(release.project, "master.json").write_text(json.dumps(master(release.root, 1)))
    assert compare(world, release, live) == {"running": False}


TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]))"


def by_hand(world: World, release: Release, *words: str, manage: bool = False) -> str:
    """What a person's command says."""
    files = {at_hand.WORDS: at_hand.words(words)}
    return world.output(at_hand.run_by_hand(world.settings, release, manage=manage), files)


def test_a_person_s_command_has_its_words_the_secrets_and_the_virtualenv(world: World, release: Release) -> None:
    """No shell reads a word; the folder is that of manage.py, `python` the release's, the environment the service's."""
    words = (HOSTILE, "", "two\nlines", "-x")
    told, folder, environment = json.loads(by_hand(world, release, "python", "-c", TELL, *words))
    assert told == list(words)
    assert folder == str(release.project)
    assert environment["VIRTUAL_ENV"] == str(release.venv)
    assert environment["PATH"].startswith(f"{release.venv}/bin:")
    assert environment["DOPPLER_TOKEN"] == TOKEN
    assert not world.bait()


def test_a_person_s_manage_command_is_the_website_s(world: World, release: Release) -> None:
    """manage.py gets the words, and may run under the website's settings alone, unless others are named."""
    by_hand(world, release, "loaddata", HOSTILE, manage=True)
    by_hand(world, release, "check", "--settings=shop.other", manage=True)
    first, second = (json.loads(line) for line in (world.root / "home/manage").read_text().splitlines())
    assert first[0] == ["manage.py", "loaddata", HOSTILE]
    assert first[2]["DEPLOY_WEBSITE"] == f"{world.layout.state}/up"
    assert "DEPLOY_WEBSITE" not in second[2]


def test_a_person_s_command_ends_with_its_own_code(world: World, release: Release) -> None:
    """That of the command is the step's."""
    with pytest.raises(StepError) as refused:
        by_hand(world, release, "sh", "-c", "exit 7")
    assert refused.value.failed.code == 7


def test_without_a_live_release_there_is_nothing_at_hand(world: World, release: Release) -> None:
    """It is told by its real folder; where there is none, the next command is a deploy."""
    with pytest.raises(StepError) as refused:
        world.output(at_hand.find_live())
    assert (refused.value.message[-22:], refused.value.hint) == ("no release is live yet", "fab -H there deploy")
    world.link(release)
    assert f"release {release.root}\n" in world.output(at_hand.find_live())


def test_a_command_is_ended_with_its_children(world: World) -> None:
    """Those that ignore TERM too; twice is once, and without a command there is nothing to end."""
    world.output(at_hand.end_command())
    group = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 300 & wait"], start_new_session=True)
    note = shell("note it", f'echo {group.pid} >"$DEPLOY_WORK/command.pid"')
    again = Step("again", "Again", "end_command")
    world.run(note, at_hand.end_command(), again)
    assert group.wait(timeout=20) == -9
