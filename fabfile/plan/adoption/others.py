"""What is judged of an old server beside folder, service and site: what else runs or changes the app, rights. Pure."""

import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...config.layout import Layout
from . import unit_file
from .findings import Findings
from .folder import listed
from .hiding import hidden
from .old_unit import started_by, texts_of

if TYPE_CHECKING:
    from ...config.settings import Settings

SYSTEMS = ("debian", "ubuntu")
DEPLOYS = re.compile(
    r"\bgit\b[^\n;&|]*\b(pull|fetch|reset|checkout|merge|clone)\b|\bansible(-pull|-playbook)?\b|\brsync\b|\buv sync\b"
    r"|\bpip3? install\b|\bpoetry install\b|\bdeploy(\.sh|\.py|\b)|\bfab\b"
)
RESTARTS = re.compile(r"\bsystemctl\b[^\n;&|]*\b(restart|reload|stop|start)\b|\bkill\b|\bpkill\b|\bservice\b \S+ \w+")


def website(settings: "Settings", found: Mapping[str, Any], findings: Findings) -> Mapping[str, Any] | None:
    """Return the service that runs the website, if there is one and no more than one."""
    units = [unit for unit in found["units"] if started_by(unit).server]
    running = [unit for unit in units if unit["active"] == "active" or unit["instances"]]
    if len(running) > 1:
        findings.stop(
            f"{' and '.join(unit['name'] for unit in running)} both run a web server from {found['folder']['path']}: "
            "adopt takes one over",
            "two apps need a folder, and a name in hosts.toml, for each; what only serves websockets can go into one "
            "gunicorn with the rest (worker_class)",
        )
        return None
    if running:
        if "@" in running[0]["name"]:
            findings.stop(
                f"{running[0]['name']} runs as {listed(running[0]['instances'])}: an instance has no file of its own",
                f"give it one: /etc/systemd/system/{Layout.of(settings).unit}.service, with the instance's values",
            )
            return None
        return running[0]
    if units:
        unit = units[0]
        findings.stop(
            f"{unit['name']} does not run ({unit['active'] or 'unknown'}): there is nothing to take over while it "
            "serves",
            f"systemctl start {unit['name']}, and see why it did not: journalctl -u {unit['name']}",
        )
    else:
        _judge_who_runs_it(settings, found, findings)
    return None


def _judge_who_runs_it(settings: "Settings", found: Mapping[str, Any], findings: Findings) -> None:
    """Tell what runs the app in place of a service, and how to go on."""
    path, unit = found["folder"]["path"], Layout.of(settings).unit
    serving = [each for each in found["processes"] if each["serves"]]
    if found["supervisor"] or any(each["unit"].startswith("supervisor") for each in serving):
        files = listed(each["path"] for each in found["supervisor"]) or "its configuration"
        program = _program(found["supervisor"])
        findings.stop(
            f"supervisor runs the app ({files}), no unit of systemd's",
            f"give it one, /etc/systemd/system/{unit}.service:\n{_unit_of(settings, path, program)}\nthen at once: "
            f"supervisorctl stop {program.get('name', 'PROGRAM')} and systemctl enable --now {unit}.service; and take "
            "it out of supervisor's files",
        )
    elif any(each["container"] for each in serving) or any(each["port"] for each in found["processes"]):
        findings.stop(
            "a container runs the app: what it serves from is not in a folder of this server",
            "adopt is for a checkout that runs in place. Deploy to another server, or to another path and domain of "
            "this one, move the data there, then let the name lead there",
        )
    elif by_user := [each for each in serving if each["user_unit"]]:
        findings.stop(
            f"{by_user[0]['user_unit']} of {by_user[0]['user']}'s own systemd runs the app",
            f"move it to the system: its file to /etc/systemd/system/{unit}.service, with User={settings.user}, then "
            f"systemctl --user disable --now {by_user[0]['user_unit']} as {by_user[0]['user']}, and systemctl enable "
            f"--now {unit}.service",
        )
    elif serving:
        each = serving[0]
        findings.stop(
            f"process {each['pid']} of {each['user']} runs the app, and belongs to no service (screen, nohup)",
            "give it one, "
            f"/etc/systemd/system/{unit}.service:\n{_unit_of(settings, path, {'command': each['command']})}\nthen end "
            f"the process, and systemctl enable --now {unit}.service",
        )
    else:
        names = listed(each["name"] for each in found["others"])
        findings.stop(
            f"no service runs gunicorn from {path}" + (f"; there are {names}" if names else ""),
            f'path = "/FOLDER" in hosts.toml if the app lies elsewhere; if it does not run at all: mv {path} '
            f"{path}.old "
            "on the server, and provision",
        )


def _program(files: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return what supervisor's files say of the program that serves."""
    for file in files:
        for block in re.split(r"(?m)^(?=\[)", file["text"]):
            name = re.match(r"\[program:([^\]]+)\]", block)
            values = dict(re.findall(r"(?m)^(\w+)\s*=\s*(.*\S)", block))
            if name and re.search(r"gunicorn|uvicorn|daphne|uwsgi", values.get("command", "")):
                return {**values, "name": name[1]}
    return {}


def _unit_of(settings: "Settings", path: str, program: Mapping[str, str]) -> str:
    folder = program.get("directory", posixpath.normpath(f"{path}/{settings.project}"))
    lines = [
        "[Service]",
        f"User={program.get('user', settings.user)}",
        f"WorkingDirectory={folder}",
        f"ExecStart={program.get('command', f'{path}/.venv/bin/gunicorn {settings.wsgi}')}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return hidden("\n".join(lines))


def judge_others(
    settings: "Settings", unit: Mapping[str, Any] | None, found: Mapping[str, Any], findings: Findings
) -> None:
    """Judge what else is on the server."""
    if found["system"]["id"] not in SYSTEMS:
        findings.stop(
            f"this server is {found['system']['title'] or 'no system that is known'}",
            "adopt and deploy are for Debian and Ubuntu",
        )
    if settings.admin == settings.user:
        findings.stop(
            f"admin and user are both {settings.user}: as the one who deploys they lose every right but the exact ones",
            'admin = "root" in hosts.toml, or another login with passwordless sudo',
        )
    _judge_workers(settings, unit, found, findings)
    _judge_by_hand(unit, found, findings)
    for job in found["jobs"]:
        _judge_job(found["folder"]["path"], job, findings)
    if found["others"]:
        findings.tell(f"other services stay as they are: {listed(each['name'] for each in found['others'])}")
    if found["logrotate"]:
        findings.tell(
            f"{listed(each['path'] for each in found['logrotate'])} rotates logs in {found['folder']['path']}: it "
            "stays, and finds nothing more to do; the journal has the app's words"
        )
    _judge_confinement(settings, found, findings)


def _judge_workers(
    settings: "Settings", web: Mapping[str, Any] | None, found: Mapping[str, Any], findings: Findings
) -> None:
    """Ask for the workers that run from the folder beside the website."""
    timed = {job.get("service", "") for job in found["jobs"] if job["kind"] == "timer"}
    for unit in found["units"]:
        if unit is web or unit["name"] in timed or started_by(unit).server:
            continue
        if unit["active"] != "active" and not unit["instances"]:
            continue
        command = unit_file.last(unit_file.options(texts_of(unit)), "ExecStart")
        words = _words_of_process(settings, command)
        known = [name for name, each in settings.processes.items() if each.command.split()[:3] == words.split()[:3]]
        name = re.sub(
            r"[^a-z0-9_]", "_", unit["name"].partition(".")[0].partition("@")[0].removeprefix(f"{settings.name}-")
        )
        if known:
            findings.stop(
                f"{unit['name']} runs what processes.{known[0]} of hosts.toml is to run: there would be two",
                f"just before the adoption: systemctl disable --now {unit['name']}",
            )
        elif words:
            findings.need(
                f"{unit['name']} runs from {found['folder']['path']} too; it goes on, but no deploy brings it new code",
                f"[app.processes.{name}]\ncommand = {json.dumps(words)}\nand just before the adoption: systemctl "
                f"disable --now {unit['name']}",
            )
        else:
            findings.tell(
                f"{unit['name']} runs from {found['folder']['path']} too, and stays as it is: no deploy brings it new "
                "code"
            )


def _words_of_process(settings: "Settings", command: str) -> str:
    """Return a command as `processes` has it: without Doppler, the virtualenv's folder, and python before manage.py."""
    words = unit_file.words(hidden(command))
    if "--" in words and "doppler" in posixpath.basename(words[0]):
        words = words[words.index("--") + 1 :]
    if len(words) > 1 and re.search(r"(^|/)python[\d.]*$", words[0]):
        words = words[3:] if words[1] == "-m" and len(words) > 3 and words[3] == settings.manage else words[1:]
    if not words or words[0].startswith("-") or posixpath.basename(words[0]) in ("sh", "bash"):
        return ""
    program = posixpath.basename(words[0])
    return " ".join([program, *(json.dumps(word) if re.search(r"[\s\"']", word) else word for word in words[1:])])


def _judge_by_hand(web: Mapping[str, Any] | None, found: Mapping[str, Any], findings: Findings) -> None:
    """Stop at what serves from the folder beside the service, and that nothing would stop."""
    if web is None:
        return
    for each in found["processes"]:
        alone = not each["unit"] and not each["user_unit"] and not each["container"]
        if alone and each["serves"] and each["of_app"]:
            findings.stop(
                f"process {each['pid']} of {each['user']} runs from {found['folder']['path']} beside {web['name']}, "
                f"and belongs to no service: {each['command'][:120]}",
                f"end it on the server if nobody needs it: kill {each['pid']}",
            )
    if found["supervisor"]:
        findings.tell(
            f"supervisor also runs something from {found['folder']['path']} "
            f"({listed(each['path'] for each in found['supervisor'])}): it stays as it is, and no deploy brings it "
            "new code"
        )


def _judge_job(path: str, job: Mapping[str, Any], findings: Findings) -> None:
    """Judge what runs from time to time: what deploys has to end first."""
    text = "\n".join([job["command"], *job["scripts"].values()])
    whose = f"{job['path']} ({job['kind']} of {job['user']}) runs {job['command'][:200]}"
    if DEPLOYS.search(text):
        findings.stop(
            f"{whose}, which deploys: it would change the live release in place",
            f"{_off(job)}; {job['user']} should know",
        )
    elif RESTARTS.search(text):
        findings.tell(f"{whose}: it goes on, for the new unit")
    else:
        findings.tell(f"{whose}: it goes on, for {path} leads to the live release")


def _off(job: Mapping[str, Any]) -> str:
    """Return how a job is ended for good."""
    if job["kind"] == "timer":
        return f"systemctl disable --now {posixpath.basename(job['path'])}"
    if "/crontabs/" in job["path"]:
        return f"take the line out: crontab -u {job['user']} -e"
    return f"take it out of {job['path']}"


def _judge_confinement(settings: "Settings", found: Mapping[str, Any], findings: Findings) -> None:
    """Stop where a security module may refuse what lies at the new place."""
    base = str(Layout.of(settings).base)
    for each in found["apparmor"]:
        if base in each["text"] or "/srv/**" in each["text"]:
            continue
        local = f"/etc/apparmor.d/local/{posixpath.basename(each['file'] or each['profile'])}"
        findings.stop(
            f"AppArmor holds {each['profile']} to what its profile names, and {base} is not in it",
            f"add to {local}:\n  {base}/** rmix,\n  {base}/shared/** rw,\n  /run/{settings.name}/** rw,\nthen: "
            f"apparmor_parser -r {each['file'] or '/etc/apparmor.d/PROFILE'}",
        )
    selinux = found["selinux"]
    if selinux["enforcing"] and "httpd_t" in selinux["nginx"] and ":httpd_" not in selinux["base"]:
        findings.stop(
            f"SELinux holds nginx to httpd_t, and {base} is {selinux['base'] or 'of no type that is known'} to it",
            f"semanage fcontext -a -e {found['folder']['path']} {base}, then the same command again",
        )


def judge_rights(settings: "Settings", found: Mapping[str, Any], findings: Findings) -> tuple[str, ...]:
    """Judge who gives the user rights; return the files that say nothing else, and so go."""
    own = str(Layout.of(settings).sudoers)
    files = [each for each in found["sudoers"] if each["path"] != own]
    gone = [each for each in files if each["alone"] and each["path"] != "/etc/sudoers"]
    for each in files:
        if each in gone:
            continue
        for line in each["lines"]:
            if line.startswith("%"):
                group = line[1:].split()[0]
                mend = f"gpasswd -d {settings.user} {group}"
            else:
                mend = f"take the line out: visudo -f {each['path']}"
            what = f"{each['path']} gives {settings.user} more than a deploy needs: {line}"
            if "NOPASSWD" in line:
                findings.need(what, mend)
            else:
                findings.tell(f"{what} (with a password; {mend})")
    if gone:
        findings.tell(
            f"the rights of {settings.user} in {listed(each['path'] for each in gone)} go; the exact ones are in {own}"
        )
    return tuple(each["path"] for each in gone)
