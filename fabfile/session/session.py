"""A session on a host: connected, locked, and read in one trip. Verbs that change something work in one."""

import contextlib
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from ..config.inventory import Host
from ..config.layout import Layout, Release
from ..config.settings import Settings
from ..errors import ProvisionError, StepFailed
from ..output.outcome import Outcome
from ..plan import certificate, lock, rendering, rights, services
from ..plan.lock import Lock
from ..plan.state import HostState, parse
from ..ssh.connection import Connection, connect
from ..ssh.runner import Runner
from ..steps import logs, survey
from ..steps.logs import Lines
from ..steps.step import Results, Step
from .run import Run

DISK_FREE = 100 * 1024  # kB that must be free before a release is built
INODES_FREE = 5000
QUEUE = 3600  # seconds to queue when --wait has no number


@dataclass
class Session:
    """What a run works with on its host; `results` are those of the first trip."""

    run: Run
    connection: Connection
    runner: Runner
    state: HostState
    results: Results

    @property
    def settings(self) -> Settings:
        return self.run.settings

    @property
    def layout(self) -> Layout:
        return self.run.host.layout

    @property
    def outcome(self) -> Outcome:
        return self.run.outcome

    @property
    def live(self) -> Release | None:
        return self.layout.release(self.state.live) if self.state.live else None

    @property
    def commit(self) -> str:
        """The commit of the live release; empty where none is, or it is not known."""
        return self.state.live_release.commit if self.state.live_release else ""

    @property
    def lacks_certificate(self) -> bool:
        """Whether the host has another certificate than hosts.toml asks for, or none yet."""
        return certificate.words(self.settings) not in ("", self.state.tls)

    @cached_property
    def files(self) -> dict[PurePosixPath, str]:
        """The rendered files that the host is to have.

        The site is not among them as long as it would name a certificate that is not there.
        """
        waits = self.layout.site_file if self.lacks_certificate else None
        roller, _ = services.roller(self.layout).files
        wanted = services.services(self.layout, leaving=str(roller) in self.state.files)
        return {path: text for path, text in rendering.files(self.settings, wanted).items() if path != waits}

    def changed_files(self) -> dict[PurePosixPath, str]:
        """Those of the files whose text is not what the host has."""
        return {
            path: text for path, text in self.files.items() if self.state.files.get(str(path)) != rendering.digest(text)
        }

    @property
    def edited(self) -> list[str]:
        """What somebody has edited on the host, and what was put beside units."""
        return [*self.state.edited(rendering.digests(self.files)), *self.state.drop_ins]

    def nothing_to_do(self, reason: str, release: str) -> None:
        """Say why nothing is touched."""
        self.outcome.status, self.outcome.release = "unchanged", release
        self.outcome.url = self.run.url
        self.run.headline(f"nothing to do, {reason}")


@contextlib.contextmanager
def open_session(
    run: Run, what: str, wait: int, *further: Step, in_place: bool = False, locked: bool = True
) -> Generator[Session]:
    """Connect, take the host's lock for `what`, and read the host in one trip with `further` steps.

    `wait` is how many seconds to queue for the lock; True means as long as anybody would. `in_place` says that the app
    may be a folder still; without `locked`, nothing is to change. Raises Locked, or ProvisionError for a host that is
    not ready.
    """
    taken = lock_for(run, what, wait) if locked else None
    with (
        connect(run.host) as connection,
        connection.runner(run.console, lock=taken, on_wait=run.console.waiting) as runner,
    ):
        meanwhile(lambda: rendering.files(run.settings))
        results = runner.run([survey.read_host(), *further])
        state = parse(results[survey.READ].output.splitlines())
        run.outcome.previous = state.live or None
        require_ready(state, run.host, in_place=in_place)
        for what, mend in ({} if in_place else rights_to_mend(run, state)).items():
            run.console.say(f"  {what}")
            run.outcome.suggestions.append(mend)
        yield Session(run, connection, runner, state, results)


def meanwhile(prepare: Callable[[], object]) -> None:
    """Do once, while the host is at work, what is to be quick afterwards: it imports what has not been used yet."""

    def quietly() -> None:
        with contextlib.suppress(Exception):  # it comes up again where it is used
            prepare()

    threading.Thread(target=quietly, daemon=True).start()


def lock_for(run: Run, what: str, wait: int) -> Lock:
    """The host's lock for `what`, queued for `wait` seconds; True means as long as anybody would."""
    return Lock(run.host.layout.lock, lock.lock_info(what), QUEUE if wait is True else wait)


def require_ready(state: HostState, host: Host, *, in_place: bool = False) -> None:
    """Refuse a host that is locked by hand or lacks what a deploy needs; `in_place`: the app may be a folder."""
    settings = host.settings
    if state.frozen:
        raise lock.frozen(host.name, state.frozen)
    if state.app_is == "folder" and not in_place:
        raise ProvisionError(
            f"{host.name}: {settings.path} is a real folder, not the link to the live release",
            hint=f"fab -H {host.name} adopt --plan, if it is this app, deployed in place; else move it away (mv "
            f"{settings.path} {settings.path}.old), and fab -H {host.name} provision",
        )
    if state.masked:
        raise ProvisionError(
            f"{host.name}: {state.masked} is masked: somebody has decided that it must not run",
            hint=f"if it may run again: ssh {host.address} sudo systemctl unmask {state.masked}",
        )
    if state.disk_free < DISK_FREE or state.inodes_free < INODES_FREE:
        raise StepFailed(
            f"{host.name}: {host.layout.base} has room for {state.disk_free // 1024} MB and {state.inodes_free} files; "
            f"a release needs at least {DISK_FREE // 1024} MB and {INODES_FREE}",
            hint=f"make room, or lower keep (now {settings.keep}) in hosts.toml",
        )
    missing = [*state.missing, *([f"the link {settings.path}"] if state.app_is == "nothing" else [])]
    if missing:
        raise ProvisionError(
            f"{host.name} is not ready for a deploy; missing: {', '.join(missing)}",
            hint=f"fab -H {host.name} provision",
        )


def rights_to_mend(run: Run, state: HostState) -> dict[str, str]:
    """Which rights on the host are wider than a deploy needs, each with what mends it."""
    found, provision = {}, f"fab -H {run.name} provision"
    if loose := state.loose:
        found[f"others may read the secrets: {loose}"] = f"{provision} sets the rights of {loose.split()[0]}"
    if wide := rights.too_wide(run.host.layout, state.rights):
        user = run.settings.user
        what = f"{user} may run more as root than any deploy needs: {', '.join(wide)}"
        found[what] = f"{provision} narrows what {user} may run as root, or says that other files give it"
    return found


def read_logs(runner: Runner, layout: Layout, failed: str | None) -> dict[str, list[str]]:
    """The ends of the logs, for the outcome; with nginx's own if it was nginx that `failed`, the first failed check."""
    steps = {
        "django_service": logs.journal(services.web(layout), Lines(40)),
        "nginx_error": logs.nginx_errors(layout, Lines(20)),
    }
    if failed == "nginx_running":
        steps["nginx"] = logs.nginx(20)
    results = runner.run(list(steps.values()))
    return {name: results[step.id].output.splitlines() for name, step in steps.items()}


def evidence(logs: Mapping[str, list[str]], failed: str | None) -> str:
    """The log of what failed, of those that `read_logs` has read."""
    return "\n".join(logs["nginx" if failed == "nginx_running" else "django_service"])
