"""A lab host that faults are aimed at: a site whose every part tells its version, and what must be true afterwards."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from fabfile.ssh.runner import PATIENCE
from testbed import lab, warm
from testbed.driver import PACE, Order
from testbed.harness import CSS, PAGE, VIEWS, WEB, Result, Site, hosts_toml
from testbed.traffic import Traffic

GREETING = "packages/greeting/src/greeting/__init__.py"
MIGRATIONS = "apps/web/pages/migrations"
MARKS = ("good", "bad", "left")
MINUTE = 60  # seconds that the network is away, at the full pace
BLIP = 15  # seconds that the network is away and nobody gives up
BOUND = 35  # seconds within which the host must have come to rest by itself, and as long as its patience more
WHOLE = """

def whole() -> str:
    import sqlparse
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT v{n} FROM pages_mark")
        [column] = cursor.fetchone()
    return f"code={n} column={{column}} greeting={{greet('you')}} package={{sqlparse.__version__[:3]}}"
"""
MIGRATION = '''"""Version {n}."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = (("pages", "{before}"),)
    operations = (migrations.RunSQL("{sql}", migrations.RunSQL.noop),)
'''
# Everything on a host that belongs to no release, socket, service or login that should be there.
LEFTOVERS = r"""
cd /srv/consult
for name in *; do
  case $name in
    cache|current|deploy.lock|deploys.jsonl|digest.key|logs|python|releases|repo.git|shared|static|virtualenvs) ;;
    *) echo "/srv/consult/$name" ;; esac
done
find /srv/consult -mindepth 1 -maxdepth 1 -name '.*'
failed=$(ls -d releases/*/.deploy/bad | sort -r | head -n 1) # the newest that failed may be looked at
for folder in releases/* releases/.[!.]*; do
  [ -e "$folder" ] && [ ! -e "$folder/.deploy/good" ] && [ "$folder/.deploy/bad" != "$failed" ] && echo "$folder"
done
used=$(readlink releases/*/.deploy/virtualenv | sed 's#.*/##')
newest=$(ls virtualenvs | sort -t - -k 2 | tail -n 1) # it may be that of a release that failed
for name in $(ls virtualenvs); do grep -qx -e "$name" <<<"$used"$'\n'"$newest" || echo "virtualenvs/$name"; done
ls -d /etc/consult/staged.* /usr/local/lib/*.new /etc/systemd/system/*.new /etc/nginx/sites-available/*.new 2>/dev/null
find repo.git -name '*.lock' -o -path '*/worktrees/*/locked' -o -name 'tmp_*' -o -name '*.new'
for name in $(ls repo.git/worktrees); do [ -d "releases/$name" ] || echo "worktree $name"; done
find static -name '.have' -o -name '*.tmp'
find static/.lists -type f -size 0
find cache -maxdepth 2 -name '.tmp*'
find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name '.*-unix' \
  ! -name 'namespace-dev-*' # of systemd, when a start is overtaken by a restart
find /run/consult /run/consult-django -mindepth 1 ! -path '*/up/*' ! -name up ! -name gunicorn.sock \
  ! -name gunicorn.pid ! -name master.json ! -name reload ! -name failures
main=$(systemctl show -p ControlGroup --value consult-django)
for pid in $(pgrep -u deploy); do
  grep -q -e ":$main\$" -e '/user@[0-9]*.service/init.scope$' /proc/$pid/cgroup 2>/dev/null && continue
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c1-100 | sed "s/^/process $pid: /"
done
pgrep -a 'runner|tail' | sed 's/^/process /'
systemctl --failed --plain --no-legend
ss -xlH | grep -o '/[^ ]*proof[^ ]*'
flock --nonblock deploy.lock true || echo "the lock is held: $(cat deploy.lock)"
true
"""


class Broken(Exception):
    """Something that must hold does not."""


@dataclass
class Target:
    """One lab host with the site on it; `version` is the newest commit's, `commits` says that of each.

    `pace` is the driver's: what times without a network are multiplied by.
    """

    name: str
    folder: Path
    version: int = 0
    commits: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    standing: dict[str, Any] = field(default_factory=dict)
    pace: float = PACE

    def prepare(self) -> None:
        """Make the host anew, with two releases of the site, which speaks https."""
        lab.down(self.name, say=lambda _: None)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.version, self.settings, self.standing = 0, {}, {}
        self.commits.clear()
        host = lab.up(self.name, memory=True, say=lambda _: None)
        self.site = Site(host, self.folder, branch="main", settings=self.settings)
        self.site.want_https()
        self.site.provision().expect(0)
        self._learn_locks()
        for _ in range(2):
            self.push()
            self.deploy()

    def stand(self, settings: Mapping[str, Any]) -> None:
        """Have these settings, beside the usual ones, and none of those that stood before; live, if they are others."""
        if settings == self.standing:
            return
        for name in self.standing:
            del self.settings[name]
        self.settings |= settings
        self.standing = dict(settings)
        if settings.get("secrets") == "file":
            self.site.fill_secrets_file()
        self.push()
        self.deploy()

    def deploy(self, *words: str) -> None:
        """Put the newest version live by a plain deploy. Raises Broken if that is not how it ends."""
        result = self.fab("deploy", "--branch", "faults", *words)
        if result.code:
            raise Broken(f"the deploy ends with {result.code}: {result.err[-900:]}")
        if (live := self.whole()) != self.version:
            raise Broken(f"after the deploy version {live} is live, not {self.version}")

    def _learn_locks(self) -> None:
        """Two lock files, with two versions of one package: even versions of the site have the older one."""
        site = self.site
        self._webs = {
            1: site.repository.read(WEB),
            0: site.edited(WEB, '"greeting",', '"greeting",\n    "sqlparse<0.6",')[WEB],
        }
        self._locks = {1: site.repository.read("uv.lock"), 0: site.locked({WEB: self._webs[0]})["uv.lock"]}

    def push(self) -> int:
        """Commit the next version: code, template, CSS, workspace member, package and a migration all change."""
        self.version += 1
        n, odd, site = self.version, self.version % 2, self.site
        before = f"mark_{n - 1:05}" if n > 1 else "0002_note_author"
        sql = f"ALTER TABLE pages_mark ADD COLUMN v{n} integer NOT NULL DEFAULT {n}"
        if n == 1:
            sql = "CREATE TABLE pages_mark (v1 integer); INSERT INTO pages_mark VALUES (1)"
        views = site.edited(VIEWS, '"greeting": greet', '"whole": whole(),\n        "greeting": greet')[VIEWS]
        changes = {
            VIEWS: views + WHOLE.format(n=n),
            f"{MIGRATIONS}/mark_{n:05}.py": MIGRATION.format(n=n, before=before, sql=sql),
            WEB: self._webs[odd],
            "uv.lock": self._locks[odd],
            **site.edited(PAGE, "<p>Release", f'<p id="whole">template={n} {{{{ whole|safe }}}}</p>\n  <p>Release'),
            **site.edited(GREETING, "Good day", f"Version-{n}"),
            CSS: f"{site.repository.read(CSS)}\n/* version {n} */\n",
        }
        commit = site.repository.commit(changes, f"Version {n}", "faults", "main" if n == 1 else None)
        self.commits[commit[:7]] = n
        return n

    def change_files(self) -> None:
        """Change a setting of the unit and one of the nginx site."""
        self.settings["unit_options"] = {"MemoryMax": f"{700 + self.version}M"}
        self.settings["body_size"] = f"{100 + self.version}m"

    def fab(self, *words: str, order: Order | None = None) -> Result:
        """Run the command, with a fault if there is an order, and wait for it."""
        process = self.start(*words, order=order)
        out, err = process.communicate(timeout=300)
        return Result(process.returncode, out, err)

    def start(self, *words: str, order: Order | None = None) -> subprocess.Popen[str]:
        """Start the command; the driver gives it the shorter patience even without a fault."""
        self.site.settings = self.settings
        hosts = self.folder / "hosts.toml"
        hosts.write_text(hosts_toml({self.name: self.site.host_settings()}))
        text = json.dumps(asdict(replace(order or Order(self.name), pace=self.pace)))
        keep = {name: os.environ[name] for name in ("PATH", "LANG", "UV_CACHE_DIR") if name in os.environ}
        return subprocess.Popen(
            [*warm.command("testbed.driver"), text, "-H", self.name, *words, "--json"],
            cwd=Path(__file__).parents[1],
            env=keep | {"HOME": str(self.folder), "DJANGO_DEPLOY_HOSTS": str(hosts), "DEPLOY_USER": "ana"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def broken_run(self, order: Order, *words: str) -> Result:
        """Run the command with its fault, and do what follows it: the cable comes back, the host boots again."""
        mark = Path(order.mark)
        mark.unlink(missing_ok=True)
        process = self.start(*words, order=order)
        after = threading.Thread(target=self._afterwards, args=(order.fault, mark, process))
        after.start()
        try:
            out, err = process.communicate(timeout=300)
        finally:
            after.join()
        if not mark.exists():
            raise Broken(f"the fault did not come; exit {process.returncode}: {err[-500:]}")
        return Result(process.returncode, out, err)

    def _afterwards(self, fault: str, mark: Path, process: subprocess.Popen[str]) -> None:
        while process.poll() is None and not mark.exists():
            time.sleep(0.02)
        if fault == "power":
            time.sleep(0.5)
            self.site.host = lab.boot(self.site.host)
        pause = {"minute": MINUTE, "blip": BLIP}.get(fault)
        if pause:
            time.sleep(pause * self.pace)
        elif fault == "cut":
            process.wait()
        if fault in ("minute", "blip", "cut"):
            lab.join_network(self.site.host)

    def visitors(self, rate: int, *, long: bool = False) -> Traffic:
        """Visitors on the host itself, which serves them while its network is away."""
        site = self.site
        return Traffic("127.0.0.1", site.domain, scheme=site.scheme, rate=rate, long=long, netns=site.host.netns)

    def whole(self) -> int:
        """The version that is live, every part of it agreeing. Raises Broken."""
        site = self.site
        release = site.live()
        version = self.commits.get(release.rpartition("-")[2])
        if not version:
            raise Broken(f"live is {release!r}, which is no version of the site")
        with site.visitor() as http:
            for _ in range(6):  # both workers
                self._whole_page(http, release, version)
            if (status := http.get("/healthz").status_code) != 200:
                raise Broken(f"health answers {status}")
        workers = site.run(f"for pid in $(pgrep -P {site.master_pid()}); do readlink /proc/$pid/cwd; done").split()
        if {folder.split("/")[4] for folder in workers} != {release}:
            raise Broken(f"{release} is live, and workers serve {workers}")
        return version

    def _whole_page(self, http: httpx.Client, release: str, version: int) -> None:
        page = http.get("/")
        package = "0.6" if version % 2 else "0.5"
        expected = (
            f"template={version} code={version} column={version} greeting=Version-{version}, you. package={package}"
        )
        found = re.search(r'id="whole">(.*?)</p>', page.text)
        if page.status_code != 200 or page.headers.get("x-release") != release:
            raise Broken(f"{release} is live; the page answers {page.status_code} from {page.headers.get('x-release')}")
        if not found or found[1] != expected:
            raise Broken(f"the page of version {version} says {found[1] if found else page.text[:200]!r}")
        css = re.search(r'"(/static/[^"]*\.css)"', page.text)
        if not css or f"/* version {version} */" not in http.get(css[1]).text:
            raise Broken(f"the CSS of version {version} is not there: {css and css[1]}")

    def version_before(self) -> int:
        """The version of the release that a rollback would go to; 0 when there is none."""
        marked = "ls -d */.deploy/{} 2>/dev/null | cut -d/ -f1 | sort"
        good, bad, left = (self.site.run(f"cd /srv/consult/releases; {marked.format(mark)}").split() for mark in MARKS)
        good = [release for release in good if release not in (*bad, *left)]
        before = [release for release in good if release < self.site.live()]
        return self.commits.get(max(before).rpartition("-")[2], 0) if before else 0

    def leftovers(self) -> list[str]:
        """What lies or runs on the host that should not."""
        return self.site.run(f"exec 2>/dev/null; {LEFTOVERS}").splitlines()

    def locked(self) -> bool:
        return "held" in self.site.run("flock --nonblock /srv/consult/deploy.lock true || echo held")

    def at_rest(self) -> float:
        """Wait until nobody holds the lock and the site is whole; return the seconds. Raises Broken after BOUND."""
        began, bound = time.monotonic(), BOUND + PATIENCE * self.pace
        while True:
            trouble = "the lock is held" if self.locked() else ""
            try:
                self.whole()
            except (Broken, AssertionError, httpx.HTTPError, IndexError, ValueError) as error:
                trouble = trouble or f"{type(error).__name__}: {error}"
            if not trouble:
                return time.monotonic() - began
            if time.monotonic() - began > bound:
                raise Broken(f"after {bound:.0f} s: {trouble}")
            time.sleep(0.5)

    def clean(self, seconds: float = 120) -> None:
        """Raise Broken if something is left behind `seconds` after the end of a good run."""
        end = time.monotonic() + seconds
        while left := self.leftovers():
            if time.monotonic() > end:
                raise Broken("left behind: " + "; ".join(left[:12]))
            time.sleep(1)
