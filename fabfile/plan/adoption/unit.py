"""What is judged of the service that runs the app on an old server: its user, its secrets, all its options. Pure."""

import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .. import rendering
from . import unit_file
from .findings import Findings
from .gunicorn import judge_gunicorn, judge_server
from .hiding import MASK, hidden, is_secret
from .old_command import Start
from .old_unit import addresses_of, started_by, texts_of

if TYPE_CHECKING:
    from ...config.settings import Settings

# Of [Service]: what only makes room for the app, or bounds it, and so holds for the new unit too.
SOUND = re.compile(
    r"Limit\w+|Memory(?!DenyWriteExecute|KSM)\w+|CPU\w+|StartupCPU\w+|AllowedCPUs|AllowedMemoryNodes|Nice|IO\w+"
    r"|Tasks\w+"
    r"|OOMScoreAdjust|TimeoutStartSec|ReadWritePaths|ReadOnlyPaths|InaccessiblePaths|BindPaths|BindReadOnlyPaths"
    r"|SupplementaryGroups|PassEnvironment|UnsetEnvironment|Slice|LogRateLimit\w+|IPAddress(Allow|Deny)|StateDirectory"
    r"|CacheDirectory|LogsDirectory|ConfigurationDirectory|LoadCredential|Device(Allow|Policy)|Personality|Coredump\w+"
)
LISTS = {
    "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "BindPaths", "BindReadOnlyPaths", "SupplementaryGroups",
    "PassEnvironment", "UnsetEnvironment", "IPAddressAllow", "IPAddressDeny", "StateDirectory", "CacheDirectory",
    "LogsDirectory", "ConfigurationDirectory",
}  # fmt: skip
# What the new unit decides, by the reason for it.
DECIDED = {
    "gunicorn is started behind a socket of systemd's, so that no request is lost when it restarts": (
        "Type", "PIDFile", "NotifyAccess", "GuessMainPID", "RemainAfterExit", "Sockets", "NonBlocking"),
    "a gunicorn that ends is started again always, after a second": (
        "Restart", "RestartSec", "RestartPreventExitStatus", "SuccessExitStatus", "StartLimitInterval",
        "StartLimitBurst", "WatchdogSec", "OOMPolicy"),
    "gunicorn ends its requests, and then its workers": (
        "KillMode", "KillSignal", "TimeoutStopSec", "TimeoutSec", "SendSIGKILL", "FinalKillSignal"),
    "the socket's folder is that of the socket unit": (
        "RuntimeDirectory", "RuntimeDirectoryMode", "RuntimeDirectoryPreserve"),
    "the journal has what gunicorn says: fab logs": (
        "StandardOutput", "StandardError", "SyslogIdentifier", "SyslogFacility", "SyslogLevel"),
    "nothing in it runs as root": (
        "PermissionsStartOnly", "DynamicUser", "RootDirectory", "RootImage", "AmbientCapabilities",
        "CapabilityBoundingSet"),
    "files of the app are for its user and group (UMask=0027)": ("UMask",),
}  # fmt: skip
REASONS = {option: reason for reason, options in DECIDED.items() for option in options}
READ = {"ExecStart", "ExecReload", "ExecStop", "User", "Group", "WorkingDirectory", "Environment", "EnvironmentFile"}
COMMANDS = ("ExecStartPre", "ExecStartPost", "ExecStopPost", "ExecCondition")
DONE_BY_A_DEPLOY = re.compile(r"\b(migrate|collectstatic|uv sync|pip install|compilemessages)\b|git (pull|fetch|reset)")
# Variables that belong to the way of starting.
OF_THE_START = {"PATH", "HOME", "USER", "SHELL", "VIRTUAL_ENV", "PYTHONHOME", "PYTHONUNBUFFERED", "GUNICORN_CMD_ARGS",
                "DOPPLER_TOKEN", "LANG", "LC_ALL"}  # fmt: skip


def judge_unit(settings: "Settings", unit: Mapping[str, Any], found: Mapping[str, Any], findings: Findings) -> None:
    """Judge the service that runs the website."""
    options = unit_file.options(texts_of(unit))
    started = started_by(unit)
    _judge_user(settings, unit, options, findings)
    judge_server(settings, unit, started, found, findings)
    _judge_addresses(unit, addresses_of(unit, found), findings)
    _judge_secrets(settings, unit, started, options, findings)
    judge_gunicorn(settings, unit, started, found, findings)
    _judge_options(settings, unit, options, found, findings)
    _judge_commands(unit, options, findings)
    _judge_neighbours(unit, findings)


def _judge_user(settings: "Settings", unit: Mapping[str, Any], options: unit_file.Options, findings: Findings) -> None:
    user = unit_file.last(options, "User", "root")
    group = unit_file.last(options, "Group", settings.group if user == settings.user else user)
    if user == "root":
        findings.stop(
            f"{unit['name']} runs the app as root, which no release does",
            f"let it run as {settings.user} first: chown -R {settings.user}:{settings.group} the folder, User= and "
            "Group= in the unit, systemctl daemon-reload, systemctl restart",
        )
    elif user != settings.user:
        findings.stop(
            f"{unit['name']} runs the app as {user}, and hosts.toml says {settings.user}: the uploads are {user}'s",
            f"user = {json.dumps(user)} and group = {json.dumps(group)} in hosts.toml; or chown the uploads, and "
            "change User= and Group= of the old unit first",
        )
    elif group != settings.group:
        findings.need(
            f"{unit['name']} runs with group {group}, and hosts.toml says {settings.group}",
            f"group = {json.dumps(group)}",
        )


def _judge_addresses(unit: Mapping[str, Any], addresses: list[str], findings: Findings) -> None:
    if not addresses[0].startswith("/"):
        findings.tell(
            f"{unit['name']} listens at {addresses[0]}; the new one listens at a socket alone: who else than nginx "
            "asks that port gets no answer any more"
        )
    if addresses[1:]:
        findings.tell(f"{unit['name']} also listens at {', '.join(addresses[1:])}; nobody will, afterwards")


def _judge_secrets(
    settings: "Settings", unit: Mapping[str, Any], started: Start, options: unit_file.Options, findings: Findings
) -> None:
    """Judge where the secrets are: for Doppler and for a file hosts.toml has different words."""
    files = unit["environment_files"]
    of_doppler = started.doppler is not None
    names = sorted({name for each in files for name in each["names"]} - {"DOPPLER_TOKEN"} - OF_THE_START)
    where = " and ".join(each["path"] for each in files)
    if settings.secrets == "doppler" and not of_doppler:
        findings.stop(
            f"{unit['name']} has its secrets from {where or 'its own lines'}, and hosts.toml says Doppler",
            'secrets = "file" in hosts.toml: adopt then takes them over',
        )
    elif settings.secrets == "file" and of_doppler:
        findings.stop(
            f"{unit['name']} has its secrets from Doppler, and hosts.toml says a file",
            'secrets = "doppler" in hosts.toml; to leave Doppler is a step for afterwards',
        )
    elif settings.secrets == "doppler" and names:
        findings.tell(
            f"{where} has variables beside Doppler's token ({', '.join(names)}): the new unit does not read it; put "
            "them into Doppler: doppler secrets set NAME"
        )
    elif settings.secrets == "file":
        findings.tell(
            f"the variables of {where or unit['name']} go into the file of secrets (fab secrets shows their names)"
        )
    for each in files:
        if not each["there"]:
            findings.tell(f"{each['path']}, which {unit['name']} names, is not there")
    for option, key in (("--project", "doppler_project"), ("--config", "doppler_config")):
        value = (started.doppler or {}).get(option, "")
        if value and value != getattr(settings, key):
            findings.need(f"{unit['name']} names Doppler's {key[8:]} {value}", f"{key} = {json.dumps(value)}")
    secret = [name for name, value in unit_file.variables(options).items() if is_secret(name, value)]
    secret = sorted(set(secret) - OF_THE_START)
    if secret and settings.secrets == "doppler":
        findings.tell(
            f"{unit['name']} sets {', '.join(secret)}, which may be secret, so hosts.toml is no place for it: put it "
            "into Doppler (doppler secrets set NAME)"
        )


def _judge_options(
    settings: "Settings",
    unit: Mapping[str, Any],
    options: unit_file.Options,
    found: Mapping[str, Any],
    findings: Findings,
) -> None:
    """Sort the options of the old unit: there already, sound and so needed, or left out for a reason."""
    new = unit_file.options([rendering.service(settings)])
    wanted: dict[str, str] = {}
    left: dict[str, list[str]] = {}
    for key in dict.fromkeys(name for name, _ in options):
        if key in READ or key in COMMANDS or _covers(new, options, key):
            continue
        value = unit_file.last(options, key)
        if key in LISTS:
            value = " ".join(_lacking(new, _outside(unit_file.every(options, key), found, settings), key))
        if not value:
            continue
        if SOUND.fullmatch(key) and MASK not in value:
            wanted[key] = value
        else:
            left.setdefault(REASONS.get(key, _other_reason(new, key)), []).append(f"{key}={value}")
    variables = _variables(settings, unit_file.variables(options), unit_file.variables(new))
    if variables:
        wanted["Environment"] = " ".join(variables)
    if paths := _written_outside(unit, found, settings, new):
        wanted["ReadWritePaths"] = " ".join(filter(None, [wanted.get("ReadWritePaths", ""), *paths]))
    if wanted:
        _need_options(settings, unit, wanted, findings)
    for reason, lines in left.items():
        findings.tell(f"{', '.join(lines)} of {unit['name']} is left out: {reason}")


def _covers(new: unit_file.Options, old: unit_file.Options, key: str) -> bool:
    """Return whether the new unit says the same of an option."""
    return _plain(unit_file.last(new, key)) == _plain(unit_file.last(old, key)) != ""


def _lacking(new: unit_file.Options, values: Iterable[str], key: str) -> list[str]:
    """Return the words of a list that the new unit does not say."""
    said = {word for value in unit_file.every(new, key) for word in value.split()}
    return [word for word in values if word not in said]


def _plain(value: str) -> str:
    return {"true": "yes", "on": "yes", "1": "yes", "false": "no", "off": "no", "0": "no"}.get(value.lower(), value)


def _other_reason(new: unit_file.Options, key: str) -> str:
    """Return why an option that nobody knew of before is left out."""
    if value := unit_file.last(new, key):
        return f"the new unit says {key}={value}; over that goes unit_options = {{ {key} = ... }}"
    return "nobody can tell whether the new unit should have it; if so: unit_options in hosts.toml"


def _outside(values: Iterable[str], found: Mapping[str, Any], settings: "Settings") -> list[str]:
    """Return the words of lists of paths without those that the new unit needs no word for."""
    own = (found["folder"]["path"], *(f"{run}/{settings.name}" for run in ("/run", "/var/run")), "/tmp", "/var/tmp")  # noqa: S108
    words = [word for value in values for word in value.split()]
    return [word for word in words if not any(f"{word.lstrip('-+')}/".startswith(f"{each}/") for each in own)]


def _written_outside(
    unit: Mapping[str, Any], found: Mapping[str, Any], settings: "Settings", new: unit_file.Options
) -> list[str]:
    """Return the folders in which the running service has files open to write, and which the new one may not write."""
    files = [path for each in found["processes"] if each["unit"] == unit["name"] for path in each["writes"]]
    may = [word.lstrip("-+") for value in unit_file.every(new, "ReadWritePaths") for word in value.split()]
    folders = sorted({posixpath.dirname(path) for path in files})
    return [
        f"-{each}"
        for each in _outside(folders, found, settings)
        if not any(f"{each}/".startswith(f"{path}/") for path in may)
        and not each.startswith(("/run", "/var/run", "/sys"))
    ]


def _variables(settings: "Settings", old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return those of the old unit's variables that hosts.toml should have; a file of secrets takes them all."""
    if settings.secrets == "file":
        return []
    return [
        unit_file.assignment(name, value)
        for name, value in old.items()
        if name not in OF_THE_START and new.get(name) != value and not is_secret(name, value)
    ]


def _need_options(settings: "Settings", unit: Mapping[str, Any], wanted: Mapping[str, str], findings: Findings) -> None:
    whole = dict(settings.unit_options)
    for key, value in wanted.items():
        before = whole.get(key, "")
        whole[key] = f"{before} {value}" if before and (key in LISTS or key == "Environment") else value
    lines = ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in whole.items())
    findings.need(
        f"{unit['name']} has {', '.join(f'{key}={value}' for key, value in wanted.items())}",
        f"unit_options = {{ {hidden(lines)} }}",
    )


def _judge_commands(unit: Mapping[str, Any], options: unit_file.Options, findings: Findings) -> None:
    for key in COMMANDS:
        for command in unit_file.every(options, key):
            if DONE_BY_A_DEPLOY.search(command):
                why = "a deploy does that, once and before its release is live"
            else:
                why = (
                    "what has to be done once per release goes into build, before_switch or after_switch of hosts.toml"
                )
            findings.tell(f"{key}={hidden(command)} of {unit['name']} is left out: {why}")


def _judge_neighbours(unit: Mapping[str, Any], findings: Findings) -> None:
    """Tell of the units that the old one waits for, or ends with."""
    found = unit_file.options(texts_of(unit), "Unit")
    usual = re.compile(r"(network|network-online|basic|sysinit|multi-user|local-fs|remote-fs|syslog|nss-lookup)\.target"
                       r"|postgresql(@.*)?\.service|nginx\.service|.*\.socket")  # fmt: skip
    for key in ("After", "Requires", "Wants", "BindsTo", "PartOf"):
        others = [name for value in unit_file.every(found, key) for name in value.split() if not usual.fullmatch(name)]
        if others:
            findings.tell(
                f"{key}={' '.join(others)} of {unit['name']} is left out: the new unit starts again until all is there"
            )
