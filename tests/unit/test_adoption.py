"""A server that was deployed otherwise, judged: what stops its adoption, what hosts.toml lacks, what is told."""

import copy
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fabfile.commands.check import Rendering, find, verify_site
from fabfile.config.settings import Settings
from fabfile.plan import rendering
from fabfile.plan.adoption import nginx_file
from fabfile.plan.adoption.judge import Adoption, differences, judge
from testbed.sample import sample

UNIT = """\
[Unit]
Description=Consult Django (Gunicorn)
After=network.target

[Service]
User=deploy
Group=deploy
WorkingDirectory=/app/apps/web
Environment="PATH=/app/.venv/bin"
ExecStart=/usr/bin/doppler run --token [hidden] -- /app/.venv/bin/gunicorn \\
    --workers 2 \\
    --bind unix:/run/consult/gunicorn.sock \\
    config.wsgi:application
ExecReload=/bin/kill -s HUP $MAINPID
Restart=on-failure
RuntimeDirectory=consult
NoNewPrivileges=true
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""
SITE = """\
upstream django {
    server unix:/run/consult/gunicorn.sock fail_timeout=0;
}

server {
    listen 80;
    server_name api.consult.dev;

    location / {
        proxy_pass http://django;
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }

    location /health {
        proxy_pass http://django;
        access_log off;
    }

    location /static/ {
        alias /app/apps/web/staticfiles/;
    }

    location /media/ {
        alias /app/apps/web/media/;
    }
}
"""
SUPERVISED = """\
[program:consult]
command=/app/.venv/bin/gunicorn config.wsgi -b 127.0.0.1:8000
user=ana
directory=/app/apps/web
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNIT_FILE = "/etc/systemd/system/consult-django.service"
SITE_LINK = "/etc/nginx/sites-enabled/consult-django"
REPO = "git@github.com:example/consult.git"


def place(path: str, kind: str = "folder", **more: Any) -> dict[str, Any]:
    found = {"path": path, "kind": kind, "target": "", "owner": "deploy", "group": "deploy", "size": 40}
    return found | {"mount": False, "same_disk": True} | more


def unit(text: str = UNIT, name: str = "consult-django.service", **more: Any) -> dict[str, Any]:
    found = {"name": name, "path": f"/etc/systemd/system/{name}", "target": "", "text": text, "drop_ins": []}
    return found | {"instances": [], "environment_files": [], "active": "active", "enabled": "enabled"} | more


def site(text: str = SITE, path: str = SITE_LINK, **more: Any) -> dict[str, Any]:
    target = path.replace("sites-enabled", "sites-available") if "sites-enabled" in path else ""
    found = {"path": path, "target": target, "loaded": True, "concerned": True, "includes": []}
    return found | {"names": ["api.consult.dev"], "default_server": False, "text": text} | more


def process(**more: Any) -> dict[str, Any]:
    found = {"pid": 7, "user": "deploy", "unit": "", "user_unit": "", "container": False, "port": 0, "serves": True}
    return found | {"of_app": True, "command": "/app/.venv/bin/gunicorn config.wsgi", "writes": []} | more


def job(command: str, **more: Any) -> dict[str, Any]:
    path = "/var/spool/cron/crontabs/ana"
    return {"kind": "cron", "path": path, "user": "ana", "command": command, "scripts": {}} | more


PLAIN: dict[str, Any] = {
    "system": {"id": "debian", "version": "12", "title": "Debian GNU/Linux 12 (bookworm)"},
    "doppler": True,
    "folder": {
        **place("/app"),
        "size": 200_000,
        "free": 9_000_000,
        "databases": [],
        "python": "3.11.2",
        "by_uv": True,
        "lock_files": ["uv.lock"],
        "gunicorn_conf": {},
    },
    "linked": [place("apps/web/media")],
    "git": {
        "checkout": True,
        "why": "",
        "commit": COMMIT,
        "branch": "main",
        "origin": REPO,
        "pushed": True,
        "changed": [],
        "untracked": [],
        "ignored": [".venv/", "apps/web/media/", "apps/web/staticfiles/", ".doppler-token", "config/__pycache__/"],
        "more": 0,
    },
    "units": [unit()],
    "sockets": [],
    "others": [],
    "supervisor": [],
    "processes": [process(unit="consult-django.service")],
    "docker": False,
    "temporary": [],
    "jobs": [],
    "nginx": {"there": True, "sound": True, "why": "", "files": [site()]},
    "sudoers": [
        {
            "path": "/etc/sudoers.d/deploy",
            "lines": ["deploy ALL=(ALL) NOPASSWD:ALL"],
            "alone": True,
            "text": "deploy ALL=(ALL) NOPASSWD:ALL\n",
        }
    ],
    "groups": ["deploy"],
    "apparmor": [],
    "selinux": {"enforcing": False, "nginx": "", "base": ""},
    "logrotate": [],
}


def settings(**values: Any) -> Settings:
    return sample(**{"repo": REPO, "media": {"folder": "apps/web/media"}, **values})


def found(**changes: Any) -> dict[str, Any]:
    """The playbook's server with changes, those of a table within it where both are tables."""
    server = copy.deepcopy(PLAIN)
    for key, value in changes.items():
        server[key] = {**server[key], **value} if isinstance(value, Mapping) else value
    return server


def judged(values: Mapping[str, Any] | None = None, **changes: Any) -> Adoption:
    return judge(settings(**values or {}), found(**changes))


def with_unit(*lines: str, command: str = "", **more: Any) -> dict[str, Any]:
    """A server whose unit has more lines in [Service], or starts gunicorn with more words."""
    text = UNIT.replace("[Install]", "\n".join([*lines, "", "[Install]"]))
    text = text.replace("--workers 2", f"--workers 2 {command}") if command else text
    return {"units": [unit(text, **more)]}


def with_site(*lines: str, beside: str = "", old: str = "", new: str = "", **more: Any) -> dict[str, Any]:
    """A server whose site has more lines at the end of its server block, or others."""
    text = SITE.rstrip().removesuffix("}") + "\n".join(lines) + "\n}\n" + beside
    assert old in text
    return {"nginx": {"files": [site(text.replace(old, new) if old else text, **more)]}}


def words(adoption: Adoption) -> str:
    """All that is said, as one text."""
    findings = [*adoption.stops, *adoption.needed]
    return "\n".join([*(f"{each.what}\n{each.mend}" for each in findings), *adoption.told])


def test_the_playbooks_server_can_be_taken_over() -> None:
    """Nothing stops the adoption of the server that the playbook leaves, and hosts.toml lacks nothing."""
    adoption = judged()
    assert adoption.stops == ()
    assert adoption.needed == ()
    assert adoption.unit == "consult-django.service"
    assert adoption.address == "/run/consult/gunicorn.sock"
    assert adoption.commit == COMMIT
    assert adoption.uploads == ("apps/web/media",)
    assert adoption.gone == ()
    assert adoption.sudoers == ("/etc/sudoers.d/deploy",)
    assert set(adoption.texts) == {
        UNIT_FILE,
        UNIT_FILE.replace(".service", ".socket"),
        "/etc/nginx/sites-available/consult-django",
        "/etc/sudoers.d/consult-django",
    }


def test_what_the_new_unit_and_site_do_otherwise_is_told() -> None:
    """What of the playbook's has no place here is named, with what becomes of it."""
    told = "\n".join(judged().told)
    for part in ("Restart=on-failure", "RuntimeDirectory=consult", "/health", "/etc/sudoers.d/deploy go"):
        assert part in told


# Each is a change of the playbook's server, and words of what stops the adoption and of what mends it.
STOPS: dict[str, tuple[dict[str, Any], str, str]] = {
    "another path": (
        {"folder": {"kind": "nothing"}, "others": [{"name": "consult.service", "folder": "/opt/consult"}]},
        "/app is not there; an app runs from /opt/consult",
        'path = "/opt/consult"',
    ),
    "a home folder": (
        {"folder": {"kind": "nothing"}, "others": [{"name": "consult.service", "folder": "/home/deploy/consult"}]},
        "which the new service cannot see",
        "mv /home/deploy/consult /app",
    ),
    "no folder": ({"folder": {"kind": "nothing"}}, "/app is not there", "path ="),
    "a file": ({"folder": {"kind": "file"}}, "/app is no folder", "path ="),
    "a link": ({"folder": {"kind": "link", "target": "/srv/x/current"}}, "link to /srv/x/current", "rm /app"),
    "a mount point": ({"folder": {"mount": True}}, "/app is a mount point", "move the checkout"),
    "no checkout": (
        {"git": {"checkout": False, "why": "there is no /app/.git", "commit": ""}},
        "not a git checkout (there is no /app/.git)",
        "git -C /app reset COMMIT",
    ),
    "no uv.lock": ({"folder": {"lock_files": []}}, "no uv.lock", "uv add -r requirements.txt"),
    "a full disk": ({"folder": {"free": 400_000}}, "390 MB free", "553 MB"),
    "SQLite": (
        {"folder": {"databases": ["apps/web/db.sqlite3"]}},
        "apps/web/db.sqlite3 in /app",
        "stop the old service",
    ),
    "uploads elsewhere": (
        {"linked": [place("apps/web/media", same_disk=False)]},
        "/app/apps/web/media lies on another file system",
        "move it to the disk of /srv",
    ),
    "uploads behind a link": (
        {"linked": [place("apps/web/media", "link", target="/mnt/media")]},
        "is a link to /mnt/media",
        "take apps/web/media out of hosts.toml",
    ),
    "uploads of somebody else": (
        {"linked": [place("apps/web/media", owner="www-data")]},
        "belongs to www-data",
        "chown -R deploy:deploy /app/apps/web/media",
    ),
    "root": ({"units": [unit(UNIT.replace("User=deploy\n", ""))]}, "runs the app as root", "User= and Group="),
    "another user": (
        {"units": [unit(UNIT.replace("User=deploy", "User=www-data"))]},
        "as www-data, and hosts.toml says deploy",
        'user = "www-data"',
    ),
    "secrets in a file": (
        {
            "units": [
                unit(
                    UNIT.replace("/usr/bin/doppler run --token [hidden] -- ", ""),
                    environment_files=[{"path": "/etc/default/consult", "there": True, "names": ["SECRET_KEY"]}],
                )
            ]
        },
        "has its secrets from /etc/default/consult, and hosts.toml says Doppler",
        'secrets = "file"',
    ),
    "a service that does not run": ({"units": [unit(active="failed")]}, "does not run (failed)", "systemctl start"),
    "two services": (
        {"units": [unit(), unit(name="consult-api.service")]},
        "consult-django.service and consult-api.service both run a web server",
        "a folder, and a name in hosts.toml",
    ),
    "an instance": (
        {"units": [unit(name="consult@.service", instances=["consult@web.service"])]},
        "runs as consult@web.service",
        "/etc/systemd/system/consult-django.service",
    ),
    "supervisor": (
        {
            "units": [],
            "supervisor": [
                {
                    "path": "/etc/supervisor/conf.d/consult.conf",
                    "text": SUPERVISED,
                }
            ],
            "processes": [process(unit="supervisor.service")],
        },
        "supervisor runs the app (/etc/supervisor/conf.d/consult.conf)",
        "User=ana\nWorkingDirectory=/app/apps/web\nExecStart=/app/.venv/bin/gunicorn config.wsgi -b 127.0.0.1:8000\n",
    ),
    "a container": (
        {"units": [], "processes": [process(container=True, of_app=False)]},
        "a container runs the app",
        "another server",
    ),
    "a published port": (
        {"units": [], "processes": [process(container=True, port=8000, of_app=False, serves=False)]},
        "a container runs the app",
        "another server",
    ),
    "a user's systemd": (
        {"units": [], "processes": [process(user_unit="web.service", user="ana")]},
        "web.service of ana's own systemd",
        "systemctl --user disable --now web.service",
    ),
    "screen": (
        {"units": [], "processes": [process()]},
        "process 7 of deploy runs the app",
        "ExecStart=/app/.venv/bin/",
    ),
    "nothing": ({"units": [], "processes": []}, "no service runs gunicorn from /app", "mv /app /app.old"),
    "by hand beside it": (
        {"processes": [process(command="python manage.py runserver")]},
        "process 7 of deploy runs from /app beside consult-django.service",
        "kill 7",
    ),
    "another's cron deploys": (
        {"jobs": [job("cd /app && git pull && sudo systemctl restart consult-django")]},
        "cron of ana) runs cd /app && git pull",
        "crontab -u ana -e",
    ),
    "a script that cron runs": (
        {"jobs": [job("~/nightly.sh", scripts={"/home/ana/nightly.sh": "cd /app\ngit fetch && git reset --hard"})]},
        "runs ~/nightly.sh, which deploys",
        "crontab -u ana -e",
    ),
    "a file of cron": (
        {"jobs": [job("ansible-pull -U x", path="/etc/cron.d/pull", user="root")]},
        "/etc/cron.d/pull (cron of root)",
        "take it out of /etc/cron.d/pull",
    ),
    "a timer that deploys": (
        {
            "jobs": [
                job(
                    "/usr/bin/ansible-pull", kind="timer", path="/etc/systemd/system/pull.timer", service="pull.service"
                )
            ]
        },
        "(timer of ana) runs /usr/bin/ansible-pull",
        "systemctl disable --now pull.timer",
    ),
    "two apps in one file of nginx": (
        with_site(beside="server {\n    server_name shop.example;\n    root /srv/shop;\n}\n"),
        f"{SITE_LINK} also has the site of shop.example",
        "split it",
    ),
    "a site in nginx.conf": (
        {"nginx": {"files": [site(f"events {{}}\nhttp {{ {SITE} }}", "/etc/nginx/nginx.conf")]}},
        "the site stands in /etc/nginx/nginx.conf itself",
        "/etc/nginx/sites-available/consult-django",
    ),
    "a site that leads elsewhere": (
        with_site(old="server unix:/run/consult/gunicorn.sock", new="server 127.0.0.1:9000"),
        "no site of nginx leads to /run/consult/gunicorn.sock",
        "nginx -T",
    ),
    "no site": ({"nginx": {"files": []}}, "no site of nginx leads to /run/consult/gunicorn.sock", "domain"),
    "no nginx": ({"nginx": {"there": False}}, "there is no nginx", "systemctl disable --now caddy"),
    "a broken nginx": (
        {"nginx": {"sound": False, "why": "[emerg] unexpected end of file"}},
        "unexpected end of file",
        "nginx -t",
    ),
    "static files elsewhere": (
        with_site(old="alias /app/apps/web/staticfiles/", new="alias /var/www/static/"),
        "from /var/www/static, outside of /app",
        "STATIC_ROOT",
    ),
    "AppArmor": (
        {"apparmor": [{"profile": "/usr/sbin/nginx", "file": "/etc/apparmor.d/usr.sbin.nginx", "text": "/app/** r,"}]},
        "AppArmor holds /usr/sbin/nginx",
        "/srv/consult/** rmix,",
    ),
    "SELinux": (
        {
            "selinux": {
                "enforcing": True,
                "nginx": "system_u:system_r:httpd_t:s0",
                "base": "system_u:object_r:var_t:s0",
            }
        },
        "SELinux holds nginx to httpd_t",
        "semanage fcontext -a -e /app /srv/consult",
    ),
    "another system": (
        {"system": {"id": "fedora", "title": "Fedora Linux 43"}},
        "Fedora Linux 43",
        "Debian and Ubuntu",
    ),
}


@pytest.mark.parametrize(("changes", "what", "mend"), STOPS.values(), ids=STOPS)
def test_another_layout_is_told_as_what_it_is(changes: dict[str, Any], what: str, mend: str) -> None:
    """Each layout that cannot be taken over stops the adoption with one reason, and with what to do."""
    stops = judged(**changes).stops
    assert len(stops) == 1
    assert what in stops[0].what
    assert mend in f"{stops[0].what}\n{stops[0].mend}"


def test_who_deploys_is_not_who_administers() -> None:
    """An admin who is the deploying user would lose the rights by which the adoption goes on."""
    (stop,) = judged({"admin": "deploy"}).stops
    assert 'admin = "root"' in stop.mend


def test_hosts_toml_that_says_a_file_where_doppler_is_stops() -> None:
    """Secrets that are Doppler's cannot be taken over into a file."""
    (stop,) = judged({"secrets": "file"}).stops
    assert 'secrets = "doppler"' in stop.mend


# Each is a change of the playbook's server, words of what hosts.toml lacks, and the settings that it then has.
NEEDED: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "a limit": (with_unit("LimitNOFILE=4096"), "LimitNOFILE=4096", {"unit_options": {"LimitNOFILE": "4096"}}),
    "more options": (
        with_unit("MemoryMax=1G", "Nice=-5", 'Environment=LOCALE="de" "GREETING=good day"', "TimeoutStartSec=120"),
        "MemoryMax=1G",
        {
            "unit_options": {
                "MemoryMax": "1G",
                "Nice": "-5",
                "TimeoutStartSec": "120",
                "Environment": 'LOCALE="de" "GREETING=good day"'.replace('"de"', "de"),
            }
        },
    ),
    "a drop-in": (
        with_unit(drop_ins=[{"path": f"{UNIT_FILE}.d/limits.conf", "text": "[Service]\nTasksMax=99\n"}]),
        "TasksMax=99",
        {"unit_options": {"TasksMax": "99"}},
    ),
    "a folder to write": (
        with_unit("ReadWritePaths=/app/apps/web/media /var/lib/reports"),
        "ReadWritePaths=/var/lib/reports",
        {"unit_options": {"ReadWritePaths": "/var/lib/reports"}},
    ),
    "an open log": (
        {"processes": [process(unit="consult-django.service", writes=["/var/log/consult/app.log"])]},
        "ReadWritePaths=-/var/log/consult",
        {"unit_options": {"ReadWritePaths": "-/var/log/consult"}},
    ),
    "workers": ({"units": [unit(UNIT.replace("workers 2", "workers 5"))]}, "5 workers", {"workers": 5}),
    "another app": (
        {"units": [unit(UNIT.replace("config.wsgi:", "shop.wsgi:"))]},
        "shop.wsgi",
        {"wsgi": "shop.wsgi:application"},
    ),
    "another project": (
        {"units": [unit(UNIT.replace("WorkingDirectory=/app/apps/web", "WorkingDirectory=/app"))]},
        "runs in /app",
        {"project": ".", "static_root": "apps/web/staticfiles"},
    ),
    "a group": (
        {"units": [unit(UNIT.replace("Group=deploy", "Group=www-data"))]},
        "group www-data",
        {"group": "www-data"},
    ),
    "a Doppler config": (
        {"units": [unit(UNIT.replace("run --token", "run --project shop --config=prd_eu --token"))]},
        "Doppler's config prd_eu",
        {"doppler_project": "shop", "doppler_config": "prd_eu"},
    ),
    "Python": ({"folder": {"by_uv": False}}, "was not made by uv", {"python": "3.11"}),
    "a file of settings": ({"git": {"ignored": [".env"]}}, ".env", {"linked_files": [".env"]}),
    "names": (
        with_site(old="server_name api.consult.dev", new="server_name api.consult.dev www.consult.dev"),
        "www.consult.dev",
        {"aliases": ["www.consult.dev"]},
    ),
    "another domain": (
        with_site(old="server_name api.consult.dev", new="server_name shop.example m.shop.example"),
        "answers for m.shop.example, shop.example, and not for api.consult.dev",
        {"domain": "m.shop.example", "aliases": ["shop.example"]},
    ),
    "uploads at another address": (
        with_site(old="location /media/", new="location /files/"),
        "/app/apps/web/media at /files/",
        {"media": {"folder": "apps/web/media", "url": "/files/"}},
    ),
    "static files at another address": (
        with_site(old="location /static/", new="location /assets/"),
        "at /assets/",
        {"static_url": "/assets/"},
    ),
    "static files in another folder": (
        with_site(old="alias /app/apps/web/staticfiles/", new="alias /app/public/static/"),
        "from /app/public/static",
        {"static_root": "../../public/static"},
    ),
    "static files below a root": (
        with_site(old="alias /app/apps/web/staticfiles/", new="root /app/apps/web"),
        "from /app/apps/web/static",
        {"static_root": "static"},
    ),
    "large requests": (with_site("    client_max_body_size 100M;"), "requests of 100M", {"body_size": "100M"}),
    "https": (
        with_site("    listen 443 ssl;\n    ssl_certificate /etc/ssl/c.pem;\n    ssl_certificate_key /etc/ssl/k.pem;"),
        "https with /etc/ssl/c.pem",
        {"tls": {"certificate": "/etc/ssl/c.pem", "key": "/etc/ssl/k.pem"}},
    ),
    "proxies": (
        with_site("    set_real_ip_from 10.0.0.0/8;"),
        "believes 10.0.0.0/8",
        {"trusted_proxies": ["10.0.0.0/8"]},
    ),
    "other sites": (
        {"nginx": {"files": [site(), site("", "/etc/nginx/sites-enabled/shop", names=["shop.example"])]}},
        "was not its default",
        {"default_server": False},
    ),
    "another default": (
        {"nginx": {"files": [site(), site("", "/etc/nginx/sites-enabled/shop", names=["_"], default_server=True)]}},
        "/etc/nginx/sites-enabled/shop is the default server",
        {"default_server": False},
    ),
}


def as_settings(mend: str) -> dict[str, Any]:
    return tomllib.loads(mend)


@pytest.mark.parametrize(("changes", "what", "values"), NEEDED.values(), ids=NEEDED)
def test_what_hosts_toml_lacks_is_ready_to_paste(changes: dict[str, Any], what: str, values: dict[str, Any]) -> None:
    """What the old server has and hosts.toml has not, comes as lines of hosts.toml; with them nothing is lacking."""
    adoption = judged(**changes)
    assert adoption.stops == ()
    assert what in "\n".join(each.what for each in adoption.needed)
    pasted: dict[str, Any] = {}
    for each in adoption.needed:
        pasted |= as_settings(each.mend)
    assert pasted == values
    again = judged(pasted, **changes)
    assert (again.stops, again.needed) == ((), ())


def test_options_come_beside_those_that_are_there() -> None:
    """Lines for unit_options hold what hosts.toml says already, for the table is one."""
    (need,) = judged(
        {"unit_options": {"MemoryMax": "1G", "Environment": "A=1"}}, **with_unit("Nice=5", "Environment=B=2")
    ).needed
    assert as_settings(need.mend) == {"unit_options": {"MemoryMax": "1G", "Environment": "A=1 B=2", "Nice": "5"}}


def test_settings_of_gunicorn_go_into_the_apps_own_file() -> None:
    """Words of gunicorn's command line are asked for in gunicorn.conf.py, unless that says the same."""
    command = "--timeout 120 -k gthread --threads=4 --max-requests 500 --access-logfile - --preload"
    server = with_unit(command=command)
    (need,) = judged(**server).needed
    lines = need.mend.partition("\n")[2]
    assert lines.splitlines() == [
        'accesslog = "-"', "max_requests = 500", "preload_app = True", "threads = 4", "timeout = 120",
        'worker_class = "gthread"',
    ]  # fmt: skip
    assert judged(**server, folder={"gunicorn_conf": {"apps/web/gunicorn.conf.py": lines}}).needed == ()
    assert judged(**server, folder={"gunicorn_conf": {"gunicorn.conf.py": lines.replace("120", "30")}}).needed != ()


def test_a_settings_file_of_another_name_is_to_be_moved() -> None:
    """A release reads gunicorn.conf.py alone, so one of another name would be forgotten."""
    server = with_unit(command="-c deploy/gunicorn_prod.py")
    conf = {"apps/web/deploy/gunicorn_prod.py": "timeout = 90\n"}
    (need,) = judged(**server, folder={"gunicorn_conf": conf}).needed
    assert "git mv apps/web/deploy/gunicorn_prod.py apps/web/gunicorn.conf.py" in need.mend
    assert "/etc/gunicorn/app.py" in "\n".join(judged(**with_unit(command="--config /etc/gunicorn/app.py")).told)


# Each is a change of the playbook's server, and words that are told; nothing stops, nothing is lacking.
TOLD: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "local changes": ({"git": {"changed": ["apps/web/views.py"]}}, ("local changes in apps/web/views.py", "patch")),
    "untracked files": ({"git": {"untracked": ["notes.txt"], "more": 3}}, ("notes.txt and 3 more", "/app.adopted")),
    "ignored files": ({"git": {"ignored": ["reports/"]}}, ("git ignores reports", "linked_dirs")),
    "a commit of its own": ({"git": {"pushed": False}}, ("on no branch of the remote", COMMIT[:12])),
    "another origin": (
        {"git": {"origin": "https://git.example/fork.git"}},
        ("cloned from https://git.example/fork.git",),
    ),
    "a TCP port": (
        {
            "units": [unit(UNIT.replace("unix:/run/consult/gunicorn.sock", "0.0.0.0:8000"))],
            "nginx": {"files": [site(SITE.replace("unix:/run/consult/gunicorn.sock", "127.0.0.1:8000"))]},
        },
        ("listens at 127.0.0.1:8000", "gets no answer any more"),
    ),
    "a second address": (with_unit(command="-b 127.0.0.1:9"), ("also listens at",)),
    "other variables": (
        with_unit(environment_files=[{"path": "/app/.more", "there": False, "names": ["SENTRY_DSN"]}]),
        ("/app/.more has variables beside Doppler's token (SENTRY_DSN)", "/app/.more, which", "is not there"),
    ),
    "a secret in the unit": (with_unit("Environment=SECRET_KEY=[hidden]"), ("sets SECRET_KEY", "doppler secrets set")),
    "Type=forking": (
        with_unit("Type=forking", "PIDFile=/run/x.pid"),
        ("Type=forking, PIDFile=/run/x.pid", "is left out"),
    ),
    "KillMode": (with_unit("KillMode=process"), ("KillMode=process", "is left out")),
    "a log file": (
        with_unit("StandardOutput=append:/var/log/x.log"),
        ("StandardOutput=append:/var/log/x.log", "fab logs"),
    ),
    "less protection": (
        with_unit("ProtectSystem=full"),
        ("ProtectSystem=full", "unit_options = { ProtectSystem = ... }"),
    ),
    "an unknown option": (with_unit("Frobnicate=yes"), ("Frobnicate=yes", "nobody can tell")),
    "migrations at the start": (
        with_unit("ExecStartPre=/app/.venv/bin/python manage.py migrate"),
        ("ExecStartPre=", "a deploy does that"),
    ),
    "another command": (with_unit("ExecStartPre=/usr/bin/true"), ("ExecStartPre=/usr/bin/true", "before_switch")),
    "a unit that it waits for": (
        {"units": [unit(UNIT.replace("network.target", "network.target redis.service"))]},
        ("After=redis.service",),
    ),
    "uvicorn": (
        {
            "units": [
                unit(
                    UNIT.replace("bin/gunicorn", "bin/uvicorn")
                    .replace("--bind unix:", "--uds ")
                    .replace("--workers 2", "")
                )
            ]
        },
        ("runs uvicorn", "UvicornWorker"),
    ),
    "a job that uses the app": (
        {"jobs": [job("cd /app && .venv/bin/python manage.py clearsessions")]},
        ("runs cd /app && .venv/bin/python manage.py clearsessions", "it goes on"),
    ),
    "a job that restarts": ({"jobs": [job("systemctl restart consult-django")]}, ("it goes on, for the new unit",)),
    "other apps": (
        {"others": [{"name": "shop.service", "folder": "/srv/shop"}]},
        ("other services stay as they are: shop.service",),
    ),
    "logrotate": ({"logrotate": [{"path": "/etc/logrotate.d/consult", "text": ""}]}, ("/etc/logrotate.d/consult",)),
    "headers": (with_site("    add_header X-Robots-Tag none;"), ("adds X-Robots-Tag",)),
    "headers of Django's": (with_site("    add_header X-Frame-Options DENY;"), ("X-Frame-Options: Django sets them",)),
    "upstream keepalive": (
        with_site(old="fail_timeout=0;", new="fail_timeout=0;\n    keepalive 16;"),
        ("keepalive 16 of upstream django",),
    ),
    "a pattern of names": (
        with_site(old="server_name api.consult.dev", new="server_name api.consult.dev *.consult.dev"),
        ("*.consult.dev", "as default server"),
    ),
    "other logs": (
        with_site("    access_log /var/log/nginx/app.log main;"),
        ("no more to /var/log/nginx/app.log main",),
    ),
    "error pages": (
        with_site("    error_page 500 /500.html;"),
        ("error_page 500 /500.html", "error_page in hosts.toml"),
    ),
    "smaller requests": (with_site("    client_max_body_size 2m;"), ("requests of 2m, the new one of 20m",)),
    "Debian's own site": (
        {"nginx": {"files": [site(), site("", "/etc/nginx/sites-enabled/default", names=["_"], default_server=True)]}},
        ("Debian's own site, goes",),
    ),
    "files before the app": (
        with_site(old="location / {\n", new="location / {\n        try_files $uri @app;\n    }\n    location @app {\n"),
        ("looks for files in its root first",),
    ),
    "the PROXY protocol": (with_site("    listen 80 proxy_protocol;"), ("PROXY protocol",)),
    "a password for sudo": (
        {"sudoers": [{"path": "/etc/sudoers", "lines": ["%sudo ALL=(ALL:ALL) ALL"], "alone": False, "text": ""}]},
        ("with a password", "gpasswd -d deploy sudo"),
    ),
    "tmpfiles with more": (
        {"temporary": [{"path": "/etc/tmpfiles.d/x.conf", "text": "", "others": ["/run/shop"]}]},
        ("/etc/tmpfiles.d/x.conf also makes /run/shop",),
    ),
    "a worker that cannot be read": (
        {"units": [unit(), unit("[Service]\nExecStart=/bin/sh -c 'cd /app; ./work'\n", "worker.service")]},
        ("worker.service runs from /app too, and stays",),
    ),
    "supervisor beside it": (
        {"supervisor": [{"path": "/etc/supervisor/conf.d/w.conf", "text": "[program:w]\ncommand=/app/w\n"}]},
        ("supervisor also runs something",),
    ),
}


@pytest.mark.parametrize(("changes", "parts"), TOLD.values(), ids=TOLD)
def test_what_becomes_of_the_rest_is_told(changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    """What neither stops an adoption nor is lacking, but will be otherwise, is told."""
    adoption = judged(**changes)
    assert (adoption.stops, adoption.needed) == ((), ())
    told = "\n".join(adoption.told)
    for part in parts:
        assert part in told


def pasted_lines(adoption: Adoption) -> str:
    (need,) = [each for each in adoption.needed if each.mend.startswith("nginx_include")]
    return need.mend.partition("\n")[2]


# Lines of an old site that the new one lacks, and what has to stand in nginx_include for them.
KEPT: dict[str, tuple[str, ...]] = {
    "a file": ("location = /robots.txt { alias /var/www/robots.txt; }",) * 2,
    "a password": ('auth_basic "Team";', 'auth_basic "Team";'),
    "a redirect": ("rewrite ^/old/(.*)$ /new/$1 permanent;",) * 2,
    "hidden files": (r"location ~ /\.(?!well-known) { deny all; }",) * 2,
    "a long request": (
        "location /reports/ { proxy_pass http://django; proxy_read_timeout 600s; }",
        "location /reports/ { proxy_pass http://consult-django; proxy_read_timeout 600s; }",
    ),
    "a websocket": (
        "location /ws/ { proxy_pass http://unix:/run/consult/gunicorn.sock; proxy_set_header Upgrade $http_upgrade; }",
        "location /ws/ { proxy_pass http://consult-django; proxy_set_header Upgrade $http_upgrade; }",
    ),
    "another path of the app": (
        "location /v1/ { proxy_pass http://django/api/v1/; }",
        "location /v1/ { proxy_pass http://consult-django/api/v1/; }",
    ),
    "another service": ("location /grafana/ { proxy_pass http://127.0.0.1:3000; }",) * 2,
    "protected downloads": ("location /protected/ { internal; alias /app/docs/; }",) * 2,
    "another port": ("listen 8080;", "listen 8080;"),
    "an include": ("include snippets/limits.conf;", "include snippets/limits.conf;"),
}


@pytest.mark.parametrize(("line", "kept"), KEPT.values(), ids=KEPT)
def test_lines_of_the_site_are_ready_for_the_include(
    line: str, kept: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Lines that the new site lacks come for nginx_include, where nginx takes them; there, they count."""
    server = with_site(f"    {line}")
    lines = pasted_lines(judged(**server))
    assert lines == kept
    (tmp_path / "hosts.toml").touch()
    (tmp_path / "more.conf").write_text(lines)
    monkeypatch.setattr("fabfile.plan.rendering.hosts_file", lambda: tmp_path / "hosts.toml")
    assert judged({"nginx_include": "more.conf"}, **server).needed == ()
    if find("nginx") and "snippets/" not in lines:
        new = rendering.site(settings(nginx_include="more.conf"))
        assert verify_site(Rendering("consult-django", "", "", new), tmp_path) == ""


def test_what_stands_in_the_way_to_the_app_is_kept() -> None:
    """Lines in `location /` that the new one lacks hold for the whole site."""
    server = with_site(
        old="        proxy_set_header Host", new="        limit_req zone=one;\n        proxy_set_header Host"
    )
    assert pasted_lines(judged(**server)) == "limit_req zone=one;"


def test_what_stands_beside_the_site_is_to_be_moved() -> None:
    """What a server block cannot hold goes into a file of its own before the old site goes."""
    zone = "limit_req_zone $binary_remote_addr zone=one:10m rate=9r/s;"
    (need,) = judged(**with_site(beside=zone)).needed
    assert "/etc/nginx/conf.d/consult.conf" in need.mend
    assert zone in need.mend


def test_a_redirect_of_another_name_is_kept() -> None:
    """A name that a block of its own sends to the site becomes an alias, which nginx_include sends on."""
    block = "server {\n    server_name www.consult.dev;\n    return 301 https://api.consult.dev$request_uri;\n}\n"
    adoption = judged(**with_site(beside=block))
    assert [as_settings(each.mend) for each in adoption.needed if "aliases" in each.mend] == [
        {"aliases": ["www.consult.dev"]}
    ]
    (line,) = nginx_file.parse(pasted_lines(adoption))
    assert line.arguments == ("($host", "=", "www.consult.dev", ")")
    assert line.value("return") == "301 https://api.consult.dev$request_uri"


def test_a_block_that_only_leads_to_https_asks_for_nothing() -> None:
    """What certbot makes of a site, two blocks and a redirect, needs only the certificate."""
    certbot = """
    listen 443 ssl; # managed by Certbot
    ssl_certificate /etc/letsencrypt/live/api.consult.dev/fullchain.pem; # managed by Certbot
    ssl_certificate_key /etc/letsencrypt/live/api.consult.dev/privkey.pem; # managed by Certbot
    include /etc/letsencrypt/options-ssl-nginx.conf; # managed by Certbot
    ssl_dhparam /etc/letsencrypt/ssl-dhparams.pem; # managed by Certbot"""
    block = """
server {
    if ($host = api.consult.dev) {
        return 301 https://$host$request_uri;
    } # managed by Certbot
    listen 80;
    server_name api.consult.dev;
    return 404; # managed by Certbot
}
"""
    options = "ssl_session_timeout 1440m;\nssl_protocols TLSv1.2 TLSv1.3;\n"
    path = "/etc/letsencrypt/options-ssl-nginx.conf"
    server = with_site(certbot, beside=block, includes=[path])
    server["nginx"]["files"].append(site(options, path, concerned=False, names=[]))
    (need,) = judged(**server).needed
    assert 'tls = { certificate = "/etc/letsencrypt/live/api.consult.dev/fullchain.pem"' in need.mend
    assert judged({"tls": {"letsencrypt": "ops@consult.dev"}}, **server).needed == ()


def test_more_rights_than_a_file_of_their_own_are_to_be_taken_out() -> None:
    """A line among those of others cannot go by itself: who may edit it is told which."""
    lines = ["deploy ALL=(ALL) NOPASSWD:ALL"]
    adoption = judged(sudoers=[{"path": "/etc/sudoers", "lines": lines, "alone": False, "text": ""}])
    assert adoption.sudoers == ()
    assert "visudo -f /etc/sudoers" in adoption.needed[0].mend


def test_a_worker_beside_the_site_becomes_a_process() -> None:
    """A worker that runs from the folder comes as a table of hosts.toml; where it is one already, two must not run."""
    celery = unit(
        "[Service]\nExecStart=/usr/bin/doppler run -- /app/.venv/bin/celery -A config worker -l info\n",
        "consult-celery.service",
    )
    beat = unit("[Service]\nExecStart=/app/.venv/bin/python manage.py db_worker --queue 'two words'\n", "mails.service")
    first, second = judged(units=[unit(), celery, beat]).needed
    assert as_settings(first.mend.partition("\nand just")[0]) == {
        "app": {"processes": {"celery": {"command": "celery -A config worker -l info"}}}
    }
    assert 'command = "manage.py db_worker --queue \\"two words\\""' in second.mend
    (stop,) = judged(
        {"processes": {"celery": {"command": "celery -A config worker -l info"}}}, units=[unit(), celery]
    ).stops
    assert "systemctl disable --now consult-celery.service" in stop.mend


def test_a_socket_of_systemds_is_where_the_old_one_listens() -> None:
    """A service that a socket unit starts listens there, and that unit goes with it."""
    text = UNIT.replace("    --bind unix:/run/consult/gunicorn.sock \\\n", "")
    socket = {
        "name": "gunicorn.socket", "path": "/etc/systemd/system/gunicorn.socket", "service": "gunicorn.service",
        "text": "[Socket]\nListenStream=/run/gunicorn.sock\n", "drop_ins": [], "active": "active", "enabled": "enabled",
    }  # fmt: skip
    adoption = judged(
        units=[unit(text, "gunicorn.service")],
        sockets=[socket],
        nginx={
            "files": [
                site(SITE.replace("/run/consult/gunicorn.sock", "/run/gunicorn.sock"), "/etc/nginx/sites-enabled/app")
            ]
        },
    )
    assert adoption.stops == ()
    assert (adoption.unit, adoption.socket, adoption.address) == (
        "gunicorn.service",
        "gunicorn.socket",
        "/run/gunicorn.sock",
    )
    assert adoption.gone == (
        "/etc/systemd/system/gunicorn.service",
        "/etc/systemd/system/gunicorn.socket",
        "/etc/nginx/sites-enabled/app",
    )


def test_what_is_in_the_way_of_the_new_files_goes() -> None:
    """Drop-ins, a site file in place of a link, and tmpfiles.d for the socket's folder go; a package's unit stays."""
    drop_in = {"path": f"{UNIT_FILE}.d/more.conf", "text": ""}
    adoption = judged(
        units=[unit(drop_ins=[drop_in])],
        nginx={"files": [site(target="")]},
        temporary=[
            {"path": "/etc/tmpfiles.d/consult.conf", "text": "d /run/consult 0755 deploy www-data -\n", "others": []}
        ],
    )
    assert adoption.gone == (drop_in["path"], SITE_LINK, "/etc/tmpfiles.d/consult.conf")
    packaged = judged(units=[unit(name="consult.service", path="/lib/systemd/system/consult.service")])
    assert packaged.gone == ()
    assert "belongs to a package and stays" in "\n".join(packaged.told)


ADDRESSES: dict[str, tuple[Callable[[str], str], str]] = {
    "-b": (lambda text: text.replace("--bind unix:/run/consult/gunicorn.sock", "-b :8001"), "127.0.0.1:8001"),
    "no word": (lambda text: text.replace("--bind unix:/run/consult/gunicorn.sock \\\n", "\\\n"), "127.0.0.1:8000"),
    "its environment": (
        lambda text: text.replace("--bind unix:/run/consult/gunicorn.sock \\\n", "\\\n").replace(
            "ExecReload", "Environment='GUNICORN_CMD_ARGS=--bind=unix:/run/other.sock'\nExecReload"
        ),
        "/run/other.sock",
    ),
    "a shell": (
        lambda text: text.replace("ExecStart=", "ExecStart=/bin/sh -c 'exec ").replace(
            "config.wsgi:application", "config.wsgi:application'"
        ),
        "/run/consult/gunicorn.sock",
    ),
    "uv": (lambda text: text.replace("/app/.venv/bin/gunicorn", "uv run gunicorn"), "/run/consult/gunicorn.sock"),
    "a module": (
        lambda text: text.replace("/app/.venv/bin/gunicorn", "/app/.venv/bin/python -m gunicorn"),
        "/run/consult/gunicorn.sock",
    ),
}


@pytest.mark.parametrize(("change", "address"), ADDRESSES.values(), ids=ADDRESSES)
def test_where_gunicorn_listens_is_read(change: Callable[[str], str], address: str) -> None:
    """The address is found however the service starts gunicorn."""
    bind = address if ":" in address else f"unix:{address}"
    text = SITE.replace("unix:/run/consult/gunicorn.sock", bind)
    assert judged(units=[unit(change(UNIT))], nginx={"files": [site(text)]}).address == address


def test_ways_to_write_one_repository_are_one() -> None:
    """An https clone of what hosts.toml names by ssh is no other repository."""
    for origin in ("https://github.com/example/consult", "ssh://git@github.com/example/consult.git", REPO):
        assert "cloned from" not in "\n".join(judged(git={"origin": origin}).told)


def test_differences_are_those_of_all_four_files() -> None:
    """The diff has unit, socket, site and sudo lines, old against new."""
    text = differences(settings(), judged())
    for line in (
        f"--- {UNIT_FILE} (before)", "-Restart=on-failure", "+Restart=always", "--- /dev/null",
        "+++ /etc/systemd/system/consult-django.socket", "-upstream django {", "+upstream consult-django {",
        "-deploy ALL=(ALL) NOPASSWD:ALL", "+++ /etc/sudoers.d/consult-django",
    ):  # fmt: skip
        assert line in text.splitlines()


def test_a_name_does_nothing_to_a_terminal() -> None:
    """Who owns the folder may call a file as they like: what is said of it is only text."""
    said = words(judged(git={"untracked": ["a\x1b]0;b\x07c"]}, jobs=[job("/app/x \x9b2J")]))
    assert "a?]0;b?c" in said
    assert all(sign.isprintable() or sign == "\n" for sign in said)


def test_no_secret_is_shown() -> None:
    """A token, a password in an address, and values of secret names are in no finding and no diff."""
    secret = "hunter2hunter2"  # noqa: S105
    lines = [f"Environment=SECRET_KEY={secret}", f"Environment=CACHE=redis://:{secret}@cache/0", "Nice=5"]
    values = {"unit_options": {"Environment": f"API_TOKEN={secret}"}}
    text = UNIT.replace("--token [hidden]", f"--token dp.st.prd.{secret}").replace(
        "[Install]", "\n".join([*lines, "[Install]"])
    )
    adoption = judged(values, units=[unit(text)])
    assert secret in "".join(adoption.texts.values())
    assert secret not in differences(settings(**values), adoption)
    assert secret not in words(adoption)
