"""An old server, made of files below a folder, as the programs on the host read it: all that matters, and no secret."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fabfile.plan.adoption import hiding
from fabfile.plan.adoption.judge import judge
from tests.unit import test_adoption as plain

PROGRAMS = Path(__file__).parents[2] / "fabfile/host/programs"
TOKEN = "dp.st.prd.0123456789abcdef"  # noqa: S105
SECRET = "hunter2hunter2"  # noqa: S105
UNITS = "etc/systemd/system"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="to be another user needs root")


@dataclass
class OldServer:
    """A server below `root`, as the playbook left it."""

    root: Path

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def stub(self, name: str, script: str) -> None:
        self.write(f"stubs/{name}", f"#!/bin/bash\n{script}\n").chmod(0o755)

    def git(self, *words: str) -> str:
        command = ["git", "-C", self.root / "app", "-c", "user.name=ana", "-c", "user.email=ana@example.com", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{self.root / 'stubs'}:{os.environ['PATH']}"}
        command = [sys.executable, "-IS", PROGRAMS / program, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)

    def output(self, linked: str = "apps/web/media", user: str = "deploy") -> str:
        done = self.run(
            "read_server.py", f"root={self.root}", "app=/app", "name=consult", f"user={user}",
            "domain=api.consult.dev", "aliases=", "socket=/run/consult/gunicorn.sock", f"linked={linked}",
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def read(self, **words: str) -> dict[str, Any]:
        return json.loads(self.output(**words))


@pytest.fixture
def server(tmp_path: Path) -> OldServer:
    """The playbook's server, whose nginx and systemd are a few words."""
    old = OldServer(tmp_path)
    unit = plain.UNIT.replace("[hidden]", TOKEN)
    old.write(f"{UNITS}/consult-django.service", unit)
    old.write("etc/nginx/sites-available/consult-django", plain.SITE)
    old.write("etc/nginx/sites-available/shop", "server { listen 80 default_server; server_name shop.example; }\n")
    enabled = tmp_path / "etc/nginx/sites-enabled"
    enabled.mkdir()
    for name in ("consult-django", "shop"):
        (enabled / name).symlink_to(f"../sites-available/{name}")
    old.write("etc/sudoers.d/deploy", "# The playbook's\ndeploy ALL=(ALL) NOPASSWD:ALL\n")
    old.write("etc/sudoers", "Defaults env_reset\nroot ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n")
    old.write("etc/os-release", 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    for program in ("usr/bin/doppler", "usr/sbin/nginx"):
        old.write(program, "")
    old.write("srv/.keep", "")
    old.write("app/uv.lock", "")
    old.write("app/.gitignore", ".venv/\nmedia/\nstaticfiles/\n.doppler-token\n.env\n")
    old.write("app/apps/web/views.py", "# before\n")
    old.write("app/.venv/pyvenv.cfg", "home = /usr/bin\nuv = 0.5.1\nversion_info = 3.11.2\n")
    old.git("init", "--quiet", "--initial-branch=main")
    old.git("add", ".")
    old.git("commit", "--quiet", "--message=First")
    old.git("remote", "add", "origin", plain.REPO)
    old.git("update-ref", "refs/remotes/origin/main", "HEAD")
    old.write("app/.doppler-token", f"DOPPLER_TOKEN={TOKEN}\n")
    old.write("app/apps/web/media/ana.bin", "x" * 50_000)
    parts = 'for f in consult-django shop; do echo "# configuration file /etc/nginx/sites-enabled/$f:"; '
    old.stub("nginx", f"{parts} cat {enabled}/$f; done")
    old.stub(
        "systemctl", 'for u in "${@:4}"; do printf "Id=$u\\nActiveState=active\\nUnitFileState=enabled\\n\\n"; done'
    )
    return old


def tree(root: Path) -> dict[str, tuple[int, int, int, str]]:
    """Everything below a folder: inode, mode, time of the last change of anything, and content."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (status.st_ino, status.st_mode, status.st_ctime_ns, content)
    return found


def test_what_is_read_is_what_is_judged(server: OldServer) -> None:
    """The answer has the shape of which the judgement's tests are, and the playbook's server passes."""
    found = server.read()
    for key, value in plain.PLAIN.items():
        assert type(found[key]) is type(value), key
    for one, other in (
        (found, plain.PLAIN),
        (found["folder"], plain.PLAIN["folder"]),
        (found["git"], plain.PLAIN["git"]),
        (found["units"][0], plain.unit()),
        (found["nginx"]["files"][0], plain.site()),
        (found["linked"][0], plain.place("")),
        (found["sudoers"][0], plain.PLAIN["sudoers"][0]),
    ):
        assert set(one) == set(other)
    owner = found["folder"]["owner"]
    adoption = judge(plain.settings(user=owner, default_server=False), found | {"linked": []})
    whose = [each for each in adoption.stops if "as deploy, and hosts.toml" not in each.what]
    assert [each for each in whose if "admin and user" not in each.what] == []
    assert adoption.needed == ()


def test_not_a_byte_is_written(server: OldServer) -> None:
    """Reading leaves every inode as it was, git's index too, which `git status` would write anew."""
    os.utime(server.root / "app/apps/web/views.py", (1, 1))
    before = tree(server.root)
    server.output()
    assert tree(server.root) == before


def test_the_folder_and_what_outlives_releases_are_measured(server: OldServer) -> None:
    """Sizes are in kB, uploads are not part of the folder's, and an SQLite database is seen by its content."""
    database = server.write("app/apps/web/media/db.sqlite3", "")
    database.write_bytes(b"SQLite format 3\0" + bytes(100))
    server.write("app/notes.db", "not one")
    found = server.read(linked="apps/web/media\n.env\nuv.lock")
    assert (found["folder"]["kind"], found["folder"]["mount"]) == ("folder", False)
    assert found["folder"]["python"] == "3.11.2"
    assert found["folder"]["by_uv"]
    assert found["folder"]["databases"] == ["apps/web/media/db.sqlite3"]
    assert found["folder"]["size"] < 1000
    assert found["folder"]["free"] > 0
    media, env, lock = found["linked"]
    assert (media["kind"], env["kind"], lock["kind"]) == ("folder", "nothing", "file")
    assert 50 <= media["size"] < 100


def test_the_checkout_is_asked_for_what_nobody_committed(server: OldServer) -> None:
    """Commit, remote, changes, files that git does not know or ignores."""
    server.write("app/apps/web/views.py", "# after\n")
    server.write("app/notes of sunday.txt", "")
    server.git("remote", "set-url", "origin", f"https://ana:{SECRET}@git.example.com/consult.git")
    git = server.read()["git"]
    assert git["checkout"]
    assert git["commit"] == server.git("rev-parse", "HEAD")
    assert (git["branch"], git["pushed"]) == ("main", True)
    assert git["origin"] == "https://git.example.com/consult.git"
    assert git["changed"] == ["apps/web/views.py"]
    assert git["untracked"] == ["notes of sunday.txt"]
    assert set(git["ignored"]) == {".doppler-token", ".venv/", "apps/web/media/"}
    server.git("commit", "--quiet", "--all", "--message=Mine")
    assert not server.read()["git"]["pushed"]


def test_a_folder_that_is_no_checkout_is_told(server: OldServer) -> None:
    """Without .git nothing is asked of git, and without the folder nothing at all."""
    (server.root / "app/.git").rename(server.root / "kept")
    git = server.read()["git"]
    assert (git["checkout"], git["why"]) == (False, "there is no /app/.git")
    (server.root / "app").rename(server.root / "gone")
    assert server.read()["folder"]["kind"] == "nothing"


def test_units_are_those_that_name_the_folder(server: OldServer) -> None:
    """A unit counts by its text or by its drop-ins; a file of /etc is instead of one of a package."""
    server.write("lib/systemd/system/consult-django.service", "[Service]\nExecStart=/app/old\n")
    server.write(f"{UNITS}/consult-django.service.d/limits.conf", "[Service]\nLimitNOFILE=99\n")
    server.write(f"{UNITS}/worker.service", "[Service]\nWorkingDirectory=/app\nEnvironmentFile=-/etc/default/worker\n")
    server.write("etc/default/worker", f"# all\nexport SECRET_KEY={SECRET}\nDEBUG=0\n")
    server.write(f"{UNITS}/shop.service", "[Service]\nWorkingDirectory=/srv/shop\nExecStart=/srv/shop/gunicorn\n")
    server.write(f"{UNITS}/apple.service", "[Service]\nExecStart=/application/bin/app\n")
    server.write(f"{UNITS}/consult-django.socket", "[Socket]\nListenStream=/run/consult/gunicorn.sock\n")
    found = server.read()
    web, worker = found["units"]
    assert web["path"] == f"/{UNITS}/consult-django.service"
    assert [each["path"] for each in web["drop_ins"]] == [f"/{UNITS}/consult-django.service.d/limits.conf"]
    assert (web["active"], web["enabled"]) == ("active", "enabled")
    assert worker["environment_files"] == [
        {"path": "/etc/default/worker", "there": True, "names": ["SECRET_KEY", "DEBUG"]}
    ]
    assert found["others"] == [{"name": "shop.service", "folder": "/srv/shop"}]
    assert [(each["name"], each["service"]) for each in found["sockets"]] == [
        ("consult-django.socket", "consult-django.service")
    ]


def test_jobs_are_found_by_the_scripts_that_they_run(server: OldServer) -> None:
    """Crontabs, cron's folders and timers count when they, or a script of theirs, name the app or its unit."""
    server.write("opt/nightly.sh", "#!/bin/sh\ncd /app && git pull\n")
    server.write(
        "var/spool/cron/crontabs/root", "MAILTO=ops@example.com\n# /app\n5 4 * * * /opt/nightly.sh\n@daily /bin/true\n"
    )
    server.write("etc/crontab", "1 2 * * * ana cd /app && .venv/bin/python manage.py clearsessions\n")
    server.write("etc/cron.daily/site", "systemctl restart consult-django\n")
    server.write(f"{UNITS}/clean.timer", "[Timer]\nOnCalendar=daily\n")
    server.write(f"{UNITS}/clean.service", "[Service]\nUser=ana\nExecStart=/app/clean\n")
    jobs = {each["path"]: each for each in server.read()["jobs"]}
    assert {path: each["user"] for path, each in jobs.items()} == {
        "/var/spool/cron/crontabs/root": "root",
        "/etc/crontab": "ana",
        "/etc/cron.daily/site": "root",
        f"/{UNITS}/clean.timer": "ana",
    }
    assert "git pull" in jobs["/var/spool/cron/crontabs/root"]["scripts"]["/opt/nightly.sh"]
    assert jobs["/etc/crontab"]["command"] == "cd /app && .venv/bin/python manage.py clearsessions"
    assert jobs[f"/{UNITS}/clean.timer"]["service"] == "clean.service"


def test_the_sites_texts_are_those_that_concern_the_app(server: OldServer) -> None:
    """Every site has its names; the text comes of those alone that name the app, and of what these include."""
    ours, other = server.read()["nginx"]["files"]
    assert (ours["path"], ours["target"]) == (plain.SITE_LINK, "/etc/nginx/sites-available/consult-django")
    assert ours["text"] == plain.SITE
    assert ours["names"] == ["api.consult.dev"]
    assert (other["text"], other["names"], other["default_server"]) == ("", ["shop.example"], True)
    server.stub("nginx", "echo 'nginx: [emerg] unexpected end of file' >&2; exit 1")
    nginx = server.read()["nginx"]
    assert (nginx["sound"], nginx["why"]) == (False, "nginx: [emerg] unexpected end of file")
    assert [each["loaded"] for each in nginx["files"]] == [False, False]


def test_rights_and_folders_of_others_are_told_apart(server: OldServer) -> None:
    """A file of sudo's goes alone when it says nothing of others, and one of tmpfiles.d when it makes nothing else."""
    server.write("etc/sudoers.d/team", "deploy ALL=(ALL) NOPASSWD: ALL\nana ALL=(ALL) ALL\n")
    server.write("etc/sudoers.d/old.bak", "deploy ALL=(ALL) ALL\n")
    server.write("etc/tmpfiles.d/consult.conf", "d /run/consult 0755 deploy www-data -\n")
    server.write("etc/tmpfiles.d/more.conf", "d /run/consult 0755\nd /run/shop 0755\n")
    found = server.read()
    assert [(each["path"], each["alone"]) for each in found["sudoers"]] == [
        ("/etc/sudoers.d/deploy", True),
        ("/etc/sudoers.d/team", False),
    ]
    assert [(each["path"], each["others"]) for each in found["temporary"]] == [
        ("/etc/tmpfiles.d/consult.conf", []),
        ("/etc/tmpfiles.d/more.conf", ["/run/shop"]),
    ]


def test_processes_are_told_by_their_folder_and_their_service(server: OldServer) -> None:
    """What runs from the folder is found by where it runs, with its service, or none, and the files that it writes."""
    for pid, group, command in (
        (100, "0::/system.slice/consult-django.service", "/app/.venv/bin/gunicorn config.wsgi"),
        (101, "0::/user.slice/user-1000.slice/session-3.scope", "/app/.venv/bin/gunicorn config.wsgi"),
        (102, "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", "gunicorn"),
        (103, "0::/system.slice/docker-0123.scope", "gunicorn config.wsgi"),
        (104, "0::/system.slice/docker.service", "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8000"),
        (105, "0::/system.slice/nginx.service", "nginx: worker process"),
        (106, "0::/system.slice/supervisor.service", "gunicorn: master [config.wsgi]"),
        (107, "0::/user.slice/user-1000.slice/session-3.scope", "vim /app/gunicorn.conf.py"),
    ):
        server.write(f"proc/{pid}/cgroup", f"{group}\n")
        server.write(f"proc/{pid}/cmdline", command.replace(" ", "\0"))
        (server.root / f"proc/{pid}/cwd").symlink_to("/app/apps/web" if pid < 103 or pid == 106 else "/")
    server.write(f"{UNITS}/supervisor.service", "[Service]\nExecStart=/usr/bin/supervisord\n")
    (server.root / "proc/100/fd").mkdir()
    server.write("proc/100/fdinfo/3", "pos:\t0\nflags:\t02101\n")
    (server.root / "proc/100/fd/3").symlink_to("/var/log/consult/app.log")
    answer = server.read()
    assert [unit["name"] for unit in answer["units"]] == ["consult-django.service"]
    found = {each["pid"]: each for each in answer["processes"]}
    assert sorted(found) == [100, 101, 102, 103, 104, 106, 107]
    assert (found[100]["unit"], found[100]["writes"]) == ("consult-django.service", ["/var/log/consult/app.log"])
    assert (found[101]["unit"], found[101]["user_unit"], found[101]["serves"]) == ("", "", True)
    assert found[102]["user_unit"] == "web.service"
    assert (found[103]["container"], found[103]["of_app"]) == (True, False)
    assert found[104]["port"] == 8000
    assert (found[106]["unit"], found[106]["serves"]) == ("supervisor.service", True)
    assert not found[107]["serves"]


def test_other_layouts_are_read(server: OldServer) -> None:
    """Supervisor, AppArmor, SELinux and logrotate are asked, too."""
    server.write("etc/supervisor/conf.d/consult.conf", "[program:x]\ncommand=/app/.venv/bin/gunicorn x\n")
    server.write("etc/supervisor/conf.d/shop.conf", "; not /app\n[program:shop]\ncommand=/srv/shop/run\n")
    server.write("sys/kernel/security/apparmor/profiles", "/usr/sbin/nginx (enforce)\nman_groff (enforce)\n")
    server.write(
        "etc/apparmor.d/usr.sbin.nginx", "/usr/sbin/nginx {\n  #include <local/usr.sbin.nginx>\n  /app/** r,\n}\n"
    )
    server.write("etc/apparmor.d/local/usr.sbin.nginx", "/srv/consult/** r,\n")
    server.write("sys/fs/selinux/enforce", "1")
    server.write("etc/logrotate.d/consult", "/app/logs/*.log { daily }\n")
    found = server.read()
    assert [each["path"] for each in found["supervisor"]] == ["/etc/supervisor/conf.d/consult.conf"]
    (profile,) = found["apparmor"]
    assert (profile["profile"], profile["file"]) == ("/usr/sbin/nginx", "/etc/apparmor.d/usr.sbin.nginx")
    assert "/srv/consult/** r," in profile["text"]
    assert found["selinux"]["enforcing"]
    assert [each["path"] for each in found["logrotate"]] == ["/etc/logrotate.d/consult"]


HIDDEN = f"""\
[Service]
Environment=SECRET_KEY={SECRET} "DATABASE_URL=postgres://ana:{SECRET}@db/x y" 'API_TOKEN={SECRET}'
Environment=CACHE=redis://:{SECRET}@cache/0 DJANGO_SETTINGS_MODULE=config.settings
Environment="MAIL_PASSWORD={SECRET} and more"
SetCredential=key:{SECRET}
ExecStart=/usr/bin/doppler run --token={TOKEN} -- env AWS_SECRET={SECRET} /app/.venv/bin/gunicorn --token "{SECRET}" x
proxy_set_header X-Api-Key {SECRET};
"""


def test_no_secret_leaves_the_host(server: OldServer) -> None:
    """Values that are secret by their name or their look are in no answer, whatever text they stand in."""
    server.write(f"{UNITS}/consult-django.service", HIDDEN)
    server.write(f"{UNITS}/consult-django.service.d/more.conf", HIDDEN)
    server.write("etc/nginx/sites-available/consult-django", f"{plain.SITE}# {TOKEN}\n{HIDDEN.splitlines()[-1]}\n")
    server.write("etc/crontab", f"1 2 * * * ana API_KEY={SECRET} /app/run --token {TOKEN}\n")
    server.write(
        "etc/supervisor/conf.d/x.conf", f'[program:x]\ncommand=/app/x\nenvironment=A="1",SECRET_KEY="{SECRET}"\n'
    )
    server.write("app/gunicorn.conf.py", f"raw_env = ['SECRET_KEY={SECRET}']\n")
    text = server.output()
    assert SECRET not in text
    assert TOKEN not in text
    assert "DJANGO_SETTINGS_MODULE=config.settings" in text


def test_both_sides_hide_the_same() -> None:
    """The host and the operator's machine have the same idea of a secret."""
    source = (PROGRAMS / "read_server.py").read_text().partition("\nUNIT_FOLDERS")[0]
    there: dict[str, Any] = {}
    exec(compile(source, "read_server.py", "exec"), there)  # noqa: S102
    assert [(each.pattern, instead) for each, instead in there["HIDDEN"]] == [
        (each.pattern, instead) for each, instead in hiding.HIDDEN
    ]


@needs_root
def test_a_link_of_the_apps_user_is_followed_as_that_user(server: OldServer) -> None:
    """Root reads nothing for the app's user that the user could not read."""
    hidden = server.write("root/secret", f"DOPPLER_TOKEN={TOKEN}\nOTHER=1\n")
    hidden.chmod(0o600)
    token = server.root / "app/.doppler-token"
    token.unlink()
    token.symlink_to(hidden)
    os.lchown(token, 65534, 65534)
    server.write(
        f"{UNITS}/consult-django.service", plain.UNIT.replace("User=", "EnvironmentFile=/app/.doppler-token\nUser=")
    )
    for parent in [server.root, *server.root.parents][:-2]:
        parent.chmod(0o755)
    (each,) = server.read()["units"][0]["environment_files"]
    assert each["names"] == []
    done = secrets(server, "doppler")
    assert (done.returncode, done.stdout) == (1, "")
    os.lchown(token, 0, 0)
    assert secrets(server, "doppler").stdout == f"DOPPLER_TOKEN={TOKEN}\n"


def secrets(server: OldServer, secrets_in: str) -> subprocess.CompletedProcess[str]:
    unit = server.root / UNITS / "consult-django.service"
    return server.run("old_secrets.py", f"app={server.root / 'app'}", f"unit={unit}", f"secrets_in={secrets_in}")


def test_the_token_is_found_wherever_the_old_server_has_it(server: OldServer) -> None:
    """Environment before its file, before the command line, before the file of the playbook; and only a token."""
    unit = plain.UNIT.replace("--token [hidden] ", "")
    assert secrets(server, "doppler").stdout == f"DOPPLER_TOKEN={TOKEN}\n"
    token = server.root / "app/.doppler-token"
    for text in (f"DOPPLER_TOKEN={TOKEN}\n", f"DOPPLER_TOKEN='{TOKEN}'\n", f"{TOKEN}\n"):
        token.write_text(text)
        server.write(f"{UNITS}/consult-django.service", unit)
        assert secrets(server, "doppler").stdout == f"DOPPLER_TOKEN={TOKEN}\n"
    server.write(f"{UNITS}/consult-django.service.d/token.conf", '[Service]\nEnvironment="DOPPLER_TOKEN=dp.st.first"\n')
    assert secrets(server, "doppler").stdout == "DOPPLER_TOKEN=dp.st.first\n"
    server.write(f"{UNITS}/consult-django.service.d/token.conf", "")
    token.write_text("DOPPLER_TOKEN=$(cat /etc/shadow)\n")
    done = secrets(server, "doppler")
    assert (done.returncode, done.stdout) == (1, "")


VARIABLES = r"""# of the shop
SECRET_KEY=plain value  
QUOTED="a \"b\" \$HOME \n" 
 SINGLE='it is $HOME \ "x"'
; another comment
CONTINUED=one\
two
no variable
EMPTY=
ESCAPED=a\ b\\c
PATH=/app/.venv/bin
DOPPLER_TOKEN=dp.st.x
UNICODE=ünï→
"""  # noqa: W291
EXPECTED = {
    "SECRET_KEY": "plain value",
    "QUOTED": 'a "b" $HOME \\n',
    "SINGLE": 'it is $HOME \\ "x"',
    "CONTINUED": "onetwo",
    "EMPTY": "",
    "ESCAPED": "a b\\c",
    "UNICODE": "ünï→",
    "OWN": "two words",
    "PERCENT": "50%",
}


def test_variables_of_the_unit_become_the_file_of_secrets(server: OldServer, tmp_path: Path) -> None:
    """What systemd would have read from the old files, it reads from the new one, and so does secrets_file.py."""
    file = server.write("etc/default/consult", VARIABLES)
    lines = f'EnvironmentFile=-{file}\nEnvironment="OWN=two words" PERCENT=50%%\nEnvironment=EMPTY=not\nUser='
    server.write(f"{UNITS}/consult-django.service", plain.UNIT.replace("User=", lines))
    done = secrets(server, "file")
    assert (done.returncode, done.stderr) == (0, "")
    new = tmp_path / "app.env"
    new.write_text(done.stdout)
    read = server.run("secrets_file.py", str(new), "read").stdout
    assert dict(pair.split("=", 1) for pair in read.split("\0") if pair) == EXPECTED


def test_a_value_of_several_lines_is_refused(server: OldServer) -> None:
    """What no line of the new file can hold is named, without its value."""
    file = server.write("etc/default/consult", f'KEY="-----BEGIN\n{SECRET}"\n')
    server.write(f"{UNITS}/consult-django.service", plain.UNIT.replace("User=", f"EnvironmentFile={file}\nUser="))
    done = secrets(server, "file")
    assert (done.returncode, done.stdout) == (1, "")
    assert "KEY has more than one line" in done.stderr
    assert SECRET not in done.stderr


def test_a_unit_without_variables_has_no_secrets(server: OldServer) -> None:
    """Nothing found is no output, and the exit code says so."""
    done = secrets(server, "file")
    assert (done.returncode, done.stdout) == (1, "")
