"""Runs on the host as root: reads a server that was deployed otherwise, and prints it as one JSON object.

Takes name=value words: `app` (the folder of the checkout), `name`, `user`, `domain`, `aliases` (one a line), `socket`
(where the new gunicorn is to listen), `linked` (folders and files that outlive releases, one a line); and `root`, below
which all of it lies, for tests.

Writes nothing. A file that somebody else than root may change is read as that somebody, who can so make a link to
nothing that is not theirs anyway. Values of secrets never leave the host: `hidden` takes them out of every text.
"""

import fnmatch
import glob
import grp
import json
import os
import pwd
import re
import stat
import subprocess
import sys
from pathlib import Path

MASK = "[hidden]"
SECRETIVE = r"[A-Za-z0-9_]*(?:SECRET|KEY|TOKEN|PASSWORD|PASSWD|PASS|PWD|DSN|URL|URI|CREDENTIAL|AUTH)[A-Za-z0-9_]*"
IN_CAPITALS = SECRETIVE.replace("A-Za-z", "A-Z")
HIDDEN = [
    (re.compile(r"\bdp\.[A-Za-z0-9._-]{4,}"), MASK),
    (re.compile(r"(--token[= ]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s\"']+)"), rf"\1{MASK}"),
    # At the beginning of a line, where a unit has words like KeyringMode, only what is written in capitals.
    (re.compile(rf"(?m)^({IN_CAPITALS})=(\"[^\"]*\"|'[^']*'|\S+)"), rf"\1={MASK}"),
    # A whole word in quotes, and a value that may have some of its own.
    (re.compile(rf"(?i)([\"'])({SECRETIVE})=(?!\1)(?:(?!\1).)*\1"), rf"\1\2={MASK}\1"),
    (re.compile(rf"(?i)(?<=[ \t\"'=,])({SECRETIVE})=(?!\[hidden)(\"[^\"]*\"|'[^']*'|[^\s\"',]+)"), rf"\1={MASK}"),
    (re.compile(r"(?i)(://[^/\s:@\"']*:)[^/\s@\"']+@"), rf"\1{MASK}@"),
    (re.compile(r"(?mi)^(\s*SetCredential(?:Encrypted)?\s*=\s*[^:\s]+:).*$"), rf"\1{MASK}"),
    (re.compile(r"(?i)((?:proxy_set_header|add_header)\s+\S*(?:auth|key|token|secret)\S*\s+)[^;]+;"), rf"\1{MASK};"),
]
UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/lib/systemd/system")
SERVERS = ("gunicorn", "uvicorn", "hypercorn", "daphne", "uwsgi", "waitress-serve", "granian", "celery", "rqworker",
           "runserver")  # fmt: skip
SERVES = re.compile(rf"\b({'|'.join(SERVERS)})\b")
# Services whose children are somebody else's.
MANAGERS = re.compile(r"(crond?|atd|sshd?(@.*)?|supervisord?|docker|containerd|podman.*|nginx)\.service")
CONTAINER = re.compile(r"docker|libpod|podman|containerd|kubepods|lxc")
DATABASE = re.compile(r".*\.(sqlite3?|db)")
SKIPPED = (".venv", "venv", "node_modules", ".git")
LARGEST = 256 * 1024  # bytes of a text that are read
FIRST = 200  # names of a list that are told


def hidden(text):
    """A text without the values of secrets."""
    for pattern, instead in HIDDEN:
        text = pattern.sub(instead, text)
    return text


def weak_owner(path):
    """Who besides root may say what `path` leads to, as a user id; 0 for nobody."""
    for whole in {path, os.path.realpath(path)}:
        parts = [whole, *map(str, Path(whole).parents)]
        for part in reversed(parts):
            try:
                found = os.lstat(part)
            except OSError:
                break
            if found.st_uid:
                return found.st_uid
    return 0


def as_user(uid):
    """Words for subprocess that make a program that user's, without a session that would be written down somewhere."""
    if not uid or os.geteuid():
        return {}
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return {"user": uid, "group": uid, "extra_groups": []}
    return {"user": uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(entry.pw_name, entry.pw_gid)}


def said(*command, uid=0, seconds=30):
    """Exit code and both outputs of a program; 127 when there is none."""
    environment = {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, env=environment, cwd="/",
            **as_user(uid),
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return 127, "", str(error)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def read(path):
    """The text of a regular file, as whoever may change it; nothing when it cannot be read."""
    path = str(path)
    owner = weak_owner(path)
    if owner:
        return said("head", "-c", str(LARGEST), "--", path, uid=owner, seconds=10)[1] if os.path.isfile(path) else ""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            return file.read(LARGEST).decode(errors="replace")
    except OSError:
        return ""


def kind_of(path):
    """What lies at a path, by one word."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return "nothing"
    return {stat.S_IFLNK: "link", stat.S_IFDIR: "folder", stat.S_IFREG: "file"}.get(stat.S_IFMT(mode), "other")


def name_of_user(uid):
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def name_of_group(gid):
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def nearest(path):
    """The path, or the nearest folder above that is there."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def mounts():
    """Where something is mounted."""
    found = set()
    for line in read("/proc/self/mountinfo").splitlines():
        found.add(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4]))
    return found


class Server:
    """One server, and what the app is called there."""

    def __init__(self, app, name, user, domain, socket, aliases="", linked="", root=""):
        self.app, self.name, self.user, self.socket = app.rstrip("/") or "/", name, user, socket
        self.names, self.linked, self.root = [domain, *aliases.split()], linked.splitlines(), root
        self.base = f"{self.root}/srv/{name}"
        self.mentions_app = mention(self.app)
        self.processes = []

    def at(self, path):
        return self.root + path

    def files(self, *patterns):
        """The files that patterns stand for, in order, with what tests put around taken away."""
        found = [path for pattern in patterns for path in sorted(glob.glob(self.at(pattern), include_hidden=True))]
        return [path[len(self.root) :] for path in found if os.path.isfile(path)]

    def link_target(self, path):
        """Where a link leads in the end; nothing for what is none."""
        path = self.at(path)
        return os.path.realpath(path).removeprefix(self.root) if os.path.islink(path) else ""

    def text(self, path):
        return read(self.at(path))

    def answer(self):
        """All that is to be known."""
        self.processes = self.read_processes()
        units = self.units()
        return {
            "system": self.system(),
            "doppler": any(os.path.exists(self.at(path)) for path in ("/usr/bin/doppler", "/usr/local/bin/doppler")),
            "folder": self.folder(),
            "linked": [self.place(path) for path in self.linked],
            "git": self.git(),
            "units": units,
            "sockets": self.sockets(units),
            "others": self.other_units(units),
            "supervisor": self.supervisor(),
            "processes": [process for process in self.processes if process["of_app"] or process["container"]],
            "docker": any(os.path.exists(self.at(f"/run/{path}")) for path in ("docker.sock", "podman/podman.sock")),
            "temporary": self.temporary(),
            "jobs": [*self.cron(units), *self.timers(units)],
            "nginx": self.nginx(units),
            "sudoers": self.sudoers(),
            "groups": self.groups(),
            "apparmor": self.apparmor(),
            "selinux": self.selinux(),
            "logrotate": self.naming("/etc/logrotate.d/*"),
        }

    def system(self):
        lines = dict(line.split("=", 1) for line in self.text("/etc/os-release").splitlines() if "=" in line)
        return {key: lines.get(word, "").strip("\"'") for key, word in
                (("id", "ID"), ("version", "VERSION_ID"), ("title", "PRETTY_NAME"))}  # fmt: skip

    # The folder

    def folder(self):
        """The app's folder, what it has that matters, and the room that a release of it needs."""
        path = self.at(self.app)
        found = {**self.place(""), "path": self.app}
        known = {self.at(f"{self.app}/{each}") for each in self.linked}
        size, databases = 0, []
        for top, folders, files, handle in os.fwalk(path) if found["kind"] == "folder" else ():
            if top in known:
                folders.clear()
                files = [name for name in files if DATABASE.fullmatch(name)]
                size -= sum(blocks(name, handle) for name in files)
            relative = os.path.relpath(top, path)
            size += sum(blocks(name, handle) for name in files)
            if not set(SKIPPED) & set(relative.split("/")):
                databases += [
                    os.path.normpath(f"{relative}/{name}") for name in files
                    if DATABASE.fullmatch(name) and is_sqlite(name, handle)
                ]  # fmt: skip
        free = os.statvfs(nearest(self.base))
        found |= {"size": size, "free": free.f_bavail * free.f_frsize // 1024, "databases": sorted(databases)[:FIRST]}
        configuration = dict(re.findall(r"(?m)^(\w+)\s*=\s*(.*)$", self.text(f"{self.app}/.venv/pyvenv.cfg")))
        found["python"] = configuration.get("version_info") or configuration.get("version") or ""
        found["by_uv"] = "uv" in configuration
        found["lock_files"] = sorted(self.inside("uv.lock"))
        found["gunicorn_conf"] = {
            each: hidden(text)
            for each in self.gunicorn_confs()
            if (text := self.text(f"{self.app}/{each}"))
        }  # fmt: skip
        return found

    def gunicorn_confs(self):
        """Files of the app that may be the settings of its gunicorn."""
        return self.inside("*gunicorn*.py")[:20]

    def inside(self, name):
        """The files that a pattern stands for in the app's folder, or up to three folders below, seen from there."""
        top = self.at(self.app)
        patterns = [f"{top}/{'*/' * depth}{name}" for depth in range(4)]
        return [os.path.relpath(path, top) for pattern in patterns for path in sorted(glob.glob(pattern))]

    def place(self, inside):
        """What lies at a path in the app's folder."""
        path = os.path.normpath(self.at(f"{self.app}/{inside}"))
        found = {"path": inside, "kind": kind_of(path), "target": "", "owner": "", "group": "", "size": 0}
        found |= {"mount": path in mounts(), "same_disk": True}
        if found["kind"] == "nothing":
            return found
        status = os.lstat(path)
        found["owner"], found["group"] = name_of_user(status.st_uid), name_of_group(status.st_gid)
        found["same_disk"] = status.st_dev == os.stat(nearest(self.base)).st_dev
        if found["kind"] == "link":
            found["target"] = os.readlink(path)
        elif inside:
            found["size"] = size_of(path)
        return found

    def git(self):
        """What is checked out there, asked as whom it belongs to, for git runs what its configuration says."""
        folder = self.at(self.app)
        found = {
            "checkout": False, "why": "", "commit": "", "branch": "", "origin": "", "pushed": False,
            "changed": [], "untracked": [], "ignored": [], "more": 0,
        }  # fmt: skip
        if not os.path.exists(f"{folder}/.git"):
            return {**found, "why": f"there is no {self.app}/.git"}
        owners = [os.lstat(f"{folder}{each}").st_uid for each in ("", "/.git", "/.git/config", "/.git/index")
                  if os.path.lexists(f"{folder}{each}")]  # fmt: skip
        uid = next(filter(None, owners), 0)

        def git(*words):
            return said("git", "-C", folder, "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null",
                        "-c", "core.untrackedCache=false", *words, uid=uid, seconds=60)  # fmt: skip

        code, commit, why = git("rev-parse", "--verify", "HEAD")
        if code:
            return {**found, "why": why.strip().splitlines()[0] if why.strip() else "git does not know its commit"}
        # `git diff` would write the index anew, whatever GIT_OPTIONAL_LOCKS says; `git status` does not.
        status = git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=no")[1].split("\0")
        changed = [line[3:] for line in status]
        untracked = git("ls-files", "--others", "--exclude-standard", "-z")[1].split("\0")
        ignored = git("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")[1].split("\0")
        refs = git("for-each-ref", "--contains", "HEAD", "--format=%(refname)", "refs/remotes", "refs/tags")[1]
        origin = git("config", "--get", "remote.origin.url")[1].strip()
        return found | {
            "checkout": True,
            "commit": commit.strip(),
            "branch": git("symbolic-ref", "--short", "-q", "HEAD")[1].strip(),
            "origin": re.sub(r"://[^/@]*@", "://", origin) if origin.startswith("http") else hidden(origin),
            "pushed": bool(refs.strip()),
            "changed": [name for name in changed if name][:FIRST],
            "untracked": [name for name in untracked if name][:FIRST],
            "ignored": [name for name in ignored if name][:FIRST],
            "more": sum(max(0, len(names) - 1 - FIRST) for names in (changed, untracked)),
        }

    # What runs

    def read_processes(self):
        """Every process that is the app's, or might be, and those in containers that serve something."""
        found, own = [], ancestors()
        for folder in sorted(glob.glob(self.at("/proc/[0-9]*"))):
            pid = int(os.path.basename(folder))
            if pid in own:
                continue
            words = read_raw(f"{folder}/cmdline").split("\0")
            command = " ".join(words).strip()
            places = [link(f"{folder}/cwd"), link(f"{folder}/exe")]
            of_app = any(within(place, self.app) for place in places) or bool(self.mentions_app.search(command))
            group = read_raw(f"{folder}/cgroup")
            # gunicorn may call itself "gunicorn: master [...]".
            serves = bool({os.path.basename(word.split(":")[0]) for word in words[:8]} & set(SERVERS))
            container = bool(CONTAINER.search(group)) and serves
            proxy = re.search(r"docker-proxy .*-host-port (\d+)", command)
            if not command or not (of_app or container or proxy):
                continue
            found.append(
                {
                    "pid": pid,
                    "user": owner_of(folder),
                    "unit": unit_of(group),
                    "user_unit": user_unit_of(group),
                    "container": container or bool(proxy),
                    "port": int(proxy[1]) if proxy else 0,
                    "serves": serves,
                    "of_app": of_app,
                    "command": hidden(command)[:500],
                    "writes": written(folder, self.app) if of_app else [],
                }
            )
        return found

    def units(self):
        """The services that name the app's folder, or run from it."""
        running = {process["unit"] for process in self.processes if process["of_app"]}
        running = {unit for unit in running if not MANAGERS.fullmatch(unit)}
        found = {}
        for path in self.files(*(f"{folder}/*.service" for folder in UNIT_FOLDERS)):
            unit = os.path.basename(path)
            if unit in found:
                continue  # a file of an earlier folder is instead of it
            instances = sorted(each for each in running if template_of(each) == unit)
            drop_ins = self.drop_ins(unit)
            texts = [self.text(path), *(self.text(each) for each in drop_ins)]
            if any(self.mentions_app.search(uncommented(text)) for text in texts) or instances:
                found[unit] = {
                    "name": unit,
                    "path": path,
                    "target": link(self.at(path)),
                    "text": hidden(texts[0]),
                    "drop_ins": [{"path": each, "text": hidden(self.text(each))} for each in drop_ins],
                    "instances": instances,
                    "environment_files": self.environment_files(texts),
                }
        states = self.states(found)
        return [unit | states.get(unit["name"], {"active": "", "enabled": ""}) for unit in found.values()]

    def drop_ins(self, unit):
        return self.files(*(f"{folder}/{unit}.d/*.conf" for folder in reversed(UNIT_FOLDERS)))

    def states(self, units):
        """How systemd finds units: active or not, enabled or not."""
        if not units:
            return {}
        output = said("systemctl", "show", "--property=Id,ActiveState,UnitFileState", "--", *units)[1]
        found = {}
        for block in output.split("\n\n"):
            values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            found[values.get("Id", "")] = {
                "active": values.get("ActiveState", ""),
                "enabled": values.get("UnitFileState", ""),
            }
        return found

    def environment_files(self, texts):
        """The files of variables that a unit names, with the names in them and no value."""
        found = []
        for text in texts:
            for value in re.findall(r"(?m)^\s*EnvironmentFile\s*=\s*(.*\S)", text):
                for path in self.files(value.strip("\"'").removeprefix("-")) or [value.removeprefix("-")]:
                    content = self.text(path)
                    names = re.findall(r"(?m)^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=", content)
                    found.append({"path": path, "there": os.path.isfile(self.at(path)), "names": names})
        return found

    def sockets(self, units):
        """The socket units that start one of the app's services."""
        services = {unit["name"] for unit in units}
        found = {}
        for path in self.files(*(f"{folder}/*.socket" for folder in UNIT_FOLDERS)):
            unit, text = os.path.basename(path), self.text(path)
            named = re.search(r"(?m)^\s*Service\s*=\s*(\S+)", text)
            service = named[1] if named else unit.removesuffix(".socket") + ".service"
            if service in services and unit not in found:
                drop_ins = [{"path": each, "text": self.text(each)} for each in self.drop_ins(unit)]
                found[unit] = {"name": unit, "path": path, "text": text, "drop_ins": drop_ins, "service": service}
        states = self.states(found)
        return [unit | states.get(unit["name"], {"active": "", "enabled": ""}) for unit in found.values()]

    def other_units(self, units):
        """The services of other apps, each with the folder that it runs in."""
        ours = {unit["name"] for unit in units}
        found = {}
        for path in self.files(*(f"{folder}/*.service" for folder in UNIT_FOLDERS[:3])):
            unit, text = os.path.basename(path), uncommented(self.text(path))
            if unit not in ours and SERVES.search(text):
                folder = re.search(r"(?m)^\s*WorkingDirectory\s*=\s*-?(\S+)", text)
                found.setdefault(unit, {"name": unit, "folder": folder[1] if folder else ""})
        return [found[unit] for unit in sorted(found)]

    def supervisor(self):
        """What supervisor runs of the app."""
        return self.naming("/etc/supervisor/*.conf", "/etc/supervisor/conf.d/*", "/etc/supervisord.conf",
                           "/etc/supervisord.d/*")  # fmt: skip

    def naming(self, *patterns):
        """The files that name the app's folder."""
        texts = [(path, self.text(path)) for path in self.files(*patterns)]
        return [
            {"path": path, "text": hidden(text)}
            for path, text in texts
            if self.mentions_app.search(uncommented(text, "#;"))
        ]

    def temporary(self):
        """The files of tmpfiles.d that make the socket's folder."""
        folders = {os.path.dirname(self.socket), f"/run/{self.name}"}
        folders |= {f"/var{folder}" for folder in folders}
        found = []
        for path in self.files("/etc/tmpfiles.d/*.conf", "/run/tmpfiles.d/*.conf", "/usr/local/lib/tmpfiles.d/*.conf"):
            text = self.text(path)
            named = {line.split()[1].rstrip("/") for line in uncommented(text).splitlines() if len(line.split()) > 1}
            if named & folders:
                others = sorted(each for each in named if not any(within(each, folder) for folder in folders))
                found.append({"path": path, "text": text, "others": others})
        return found

    # What changes it from time to time

    def cron(self, units):
        """The lines of crontabs that name the app or its unit, or run a script that does."""
        concerns = mention(self.app, *(unit["name"].removesuffix(".service") for unit in units))
        found = []
        for path in self.files("/var/spool/cron/crontabs/*", "/etc/crontab", "/etc/cron.d/*"):
            of_user = path.startswith("/var/spool")
            for line in uncommented(self.text(path)).splitlines():
                match = re.match(r"\s*(@\w+|\S+\s+\S+\s+\S+\s+\S+\s+\S+)\s+(.*\S)", line)
                if not match or re.match(r"\s*\w+\s*=", line):
                    continue
                user, command = os.path.basename(path), match[2]
                if not of_user:
                    user, _, command = command.partition(" ")
                found += self.job("cron", path, user, command.strip(), concerns)
        for path in self.files(*(f"/etc/cron.{each}/*" for each in ("hourly", "daily", "weekly", "monthly"))):
            if concerns.search(uncommented(self.text(path))):
                found += self.job("cron", path, "root", path, concerns)
        return found

    def job(self, kind, path, user, command, concerns):
        """A job, if the app is concerned; with the texts of the scripts that it runs."""
        scripts = self.scripts(command, user)
        if not concerns.search(command) and not any(concerns.search(text) for text in scripts.values()):
            return []
        texts = {name: hidden(text) for name, text in scripts.items()}
        return [{"kind": kind, "path": path, "user": user, "command": hidden(command), "scripts": texts}]

    def scripts(self, command, user):
        """The scripts that a command line names, by their path."""
        try:
            home = pwd.getpwnam(user).pw_dir
        except KeyError:
            home = "/root"
        words = re.findall(r"[^\s;&|()<>\"'`]+", command)
        words = [re.sub(r"^(~|\$HOME|\$\{HOME\})(?=/|$)", home, word) for word in words]
        folders = [home, *(word for word in words if word.startswith("/"))]
        found = {}
        for word in words:
            for path in [word] if word.startswith("/") else [f"{folder}/{word}" for folder in folders]:
                if os.path.isfile(self.at(path)) and os.path.getsize(self.at(path)) < 65536:
                    text = self.text(os.path.normpath(path))
                    if text and "\0" not in text:
                        found[os.path.normpath(path)] = uncommented(text)
        return found

    def timers(self, units):
        """The timers that start one of the app's services, or a service that names one."""
        names = {unit["name"]: unit for unit in units}
        found = []
        for path in self.files(*(f"{folder}/*.timer" for folder in UNIT_FOLDERS)):
            text = self.text(path)
            named = re.search(r"(?m)^\s*Unit\s*=\s*(\S+)", text)
            service = named[1] if named else os.path.basename(path).removesuffix(".timer") + ".service"
            files = self.files(*(f"{folder}/{service}" for folder in UNIT_FOLDERS))
            content = uncommented(self.text(files[0])) if files else ""
            concerns = mention(self.app, *names)
            user = re.search(r"(?m)^\s*User\s*=\s*(\S+)", content)
            for command in re.findall(r"(?m)^\s*ExecStart\s*=\s*(.*\S)", content):
                job = self.job("timer", path, user[1] if user else "root", command, concerns)
                if not job and concerns.search(content):
                    job = [{"kind": "timer", "path": path, "user": user[1] if user else "root",
                            "command": hidden(command), "scripts": {}}]  # fmt: skip
                found += [each | {"service": service} for each in job]
        return found

    # nginx

    def nginx(self, units):
        """What nginx reads; the texts of the files that concern the app, and of those that they include."""
        files = []
        found = {"there": os.path.exists(self.at("/usr/sbin/nginx")), "sound": True, "why": "", "files": files}
        code, output, trouble = said("nginx", "-T")
        if code == 127:
            return {**found, "there": False}
        if code:
            found |= {"sound": False, "why": (re.findall(r".*\[emerg\].*", trouble) or [trouble.strip()])[0][:500]}
        texts = {path: self.text(path) for path in self.files("/etc/nginx/sites-enabled/*", "/etc/nginx/conf.d/*.conf")}
        parts = re.split(r"(?m)^# configuration file (.*):$\n", output)
        loaded = dict(zip(parts[1::2], parts[2::2], strict=False))
        texts |= loaded
        addresses = re.findall(r"(?:--bind[= ]|-b )(?:unix:)?(\S+)", "\n".join(unit["text"] for unit in units))
        concerns = mention(self.app, self.socket, *self.names, *addresses)
        concerned = {path for path, text in texts.items() if concerns.search(uncommented(text))}
        wanted = concerned | {each for path in concerned for each in self.included(path, texts)}
        for path, text in texts.items():
            code = uncommented(text)
            files.append(
                {
                    "path": path,
                    "target": self.link_target(path),
                    "loaded": path in loaded,
                    "concerned": path in concerned,
                    "includes": self.included(path, texts),
                    "names": sorted({*" ".join(re.findall(r"(?<![\w-])server_name\s+([^;]+);", code)).split()}),
                    "default_server": bool(re.search(r"(?<![\w-])listen\s[^;]*\bdefault(_server)?\b", code)),
                    "text": hidden(text) if path in wanted else "",
                }
            )
        return found

    def included(self, path, texts):
        """The files that a file includes, as far as nginx reads them."""
        patterns = re.findall(r"(?<![\w-])include\s+[\"']?([^\s;\"']+)", uncommented(texts[path]))
        patterns = [each if each.startswith("/") else f"/etc/nginx/{each}" for each in patterns]
        return [other for other in texts if any(fnmatch.fnmatch(other, pattern) for pattern in patterns)]

    # Rights

    def sudoers(self):
        """The files that give the user, or a group of it, rights of somebody else."""
        groups = self.groups()
        names = "|".join([re.escape(self.user), *(f"%{re.escape(group)}" for group in groups)])
        found = []
        for path in self.files("/etc/sudoers", "/etc/sudoers.d/*"):
            if re.search(r"[.~]", os.path.basename(path)):
                continue  # sudo leaves it out
            lines = re.sub(r"\\\n\s*", " ", uncommented(self.text(path))).splitlines()
            lines = [line.strip() for line in lines if line.strip()]
            given = [line for line in lines if re.match(rf"({names})\s", line)]
            if given:
                alone = all(re.match(rf"(Defaults:)?{re.escape(self.user)}\s", line) for line in lines)
                text = self.text(path) if alone else ""
                found.append({"path": path, "lines": given, "alone": alone, "text": text})
        return found

    def groups(self):
        """The groups of the user."""
        try:
            entry = pwd.getpwnam(self.user)
        except KeyError:
            return []
        return sorted({name_of_group(gid) for gid in os.getgrouplist(self.user, entry.pw_gid)})

    def apparmor(self):
        """The enforced profiles that may keep nginx, gunicorn or doppler from new places, with their texts."""
        found = []
        for line in read_raw(self.at("/sys/kernel/security/apparmor/profiles")).splitlines():
            match = re.fullmatch(r"(.*(?:nginx|gunicorn|python|doppler).*) \(enforce\)", line)
            if not match:
                continue
            files = [path for path in self.files("/etc/apparmor.d/*") if names_profile(self.text(path), match[1])]
            local = [path for each in files for path in self.files(f"/etc/apparmor.d/local/{os.path.basename(each)}")]
            text = "\n".join(self.text(path) for path in [*files, *local])
            found.append({"profile": match[1], "file": files[0] if files else "", "text": uncommented(text)})
        return found

    def selinux(self):
        """Whether SELinux enforces its rules, as what nginx runs, and what it calls the new place."""
        if read_raw(self.at("/sys/fs/selinux/enforce")).strip() != "1":
            return {"enforcing": False, "nginx": "", "base": ""}
        masters = said("pgrep", "-o", "-x", "nginx")[1].split()
        label = read_raw(self.at(f"/proc/{masters[0]}/attr/current")) if masters else ""
        return {
            "enforcing": True,
            "nginx": label.strip("\0\n"),
            "base": said("matchpathcon", "-n", f"/srv/{self.name}")[1].strip(),
        }


def mention(*words):
    """A pattern of paths or names that stand by themselves, or have something below them."""
    return re.compile(rf"(?<![\w./@-])(?:{'|'.join(map(re.escape, words))})(?![\w@-]|\.\w)")


def uncommented(text, signs="#"):
    return re.sub(rf"(?m)^\s*[{re.escape(signs)}].*\n?", "", text)


def names_profile(text, profile):
    return bool(re.search(rf"(?m)^\s*(profile\s+)?\"?{re.escape(profile)}\"?\s", uncommented(text)))


def ancestors():
    """This process, and those that started it, down from the first one."""
    found, pid = set(), os.getpid()
    while pid:
        found.add(pid)
        pid = int((re.findall(r"(?m)^PPid:\s+(\d+)", read_raw(f"/proc/{pid}/status")) or ["0"])[0])
    return found


def template_of(unit):
    return re.sub(r"@[^.]*\.", "@.", unit)


def unit_of(group):
    """The system's service that a process is of, by its control group."""
    match = re.search(r"(?m)^(?:0::|\d+:name=systemd:)(?:/.*)?/system\.slice/(?:.*/)?([^/\n]+\.service)", group)
    return match[1] if match else ""


def user_unit_of(group):
    """The service of a user's own systemd that a process is of."""
    match = re.search(r"user@\d+\.service/(?:.*/)?([^/\n]+\.service)", group)
    return match[1] if match else ""


def link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


def within(path, folder):
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def read_raw(path):
    """What the kernel says of something."""
    try:
        return Path(path).read_bytes().decode(errors="replace")
    except OSError:
        return ""


def owner_of(folder):
    try:
        return name_of_user(os.stat(folder).st_uid)
    except OSError:
        return ""


def written(folder, app):
    """The files outside of the app's folder that a process has open to write."""
    found = set()
    for path in glob.glob(f"{folder}/fd/*"):
        target = link(path)
        flags = re.search(r"(?m)^flags:\s+(\d+)", read_raw(path.replace("/fd/", "/fdinfo/")))
        if target.startswith("/") and not within(target, app) and flags and int(flags[1], 8) & 3:
            found.add(target)
    return sorted(each for each in found if not re.match(r"/(dev/|proc/|memfd:)|.* [(]deleted[)]$", each))


def blocks(name, handle):
    """The room that a file takes, in kB."""
    try:
        return os.lstat(name, dir_fd=handle).st_blocks // 2
    except OSError:
        return 0


def is_sqlite(name, handle):
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and file.read(16).startswith(b"SQLite format 3")


def size_of(path):
    """The room that a folder or a file takes, in kB."""
    if not os.path.isdir(path):
        return os.lstat(path).st_blocks // 2
    return sum(blocks(name, handle) for _, folders, files, handle in os.fwalk(path) for name in (*folders, *files))


json.dump(Server(**dict(word.split("=", 1) for word in sys.argv[1:])).answer(), sys.stdout)
print()
