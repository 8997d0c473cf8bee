"""What can go wrong around a deploy, done for real to a lab host and undone again."""

import shlex
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

import httpx

from testbed.harness import Site, wait_for

# For a machine that does other things too; a test that waits for a limit sets a lower one.
TIMEOUTS = {"connect": 5, "fetch": 30, "sync": 60, "collectstatic": 30, "migrate": 30, "boot": 30, "health": 30}
MIGRATION = """\
from django.db import migrations, models
{before}
class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = (("pages", "{after}"),)
    operations = ({operations},)
"""


def migration(
    name: str, operations: str, after: str = "0002_note_author", *, atomic: bool = True, before: str = ""
) -> dict[str, str]:
    """One more migration of the sample site, to be committed; `before` is code that its operations call."""
    text = MIGRATION.format(operations=operations, after=after, atomic=atomic, before=before)
    return {f"apps/web/pages/migrations/{name}.py": text}


def psql(site: Site, query: str) -> str:
    """What the site's database answers to its superuser."""
    return site.run(f"runuser -u postgres -- psql -qtA consult -c {shlex.quote(query)}").strip()


def at_work(site: Site, query: str, since: str = "0 s") -> bool:
    """Whether a session of the site's database has been at a query for so long that begins like this."""
    begun = f"query LIKE '{query}%' AND state = 'active' AND now() - query_start > '{since}'"
    return psql(site, f"SELECT count(*) FROM pg_stat_activity WHERE {begun}") != "0"  # noqa: S608 -- ours


def fails(site: Site, code: int, *words: str, state: str = "as before", command: tuple[str, ...] = ()) -> dict:
    """A run that ends with `code` and one error that has all `words`; the site is as it was, and nothing is left.

    `state` begins what the outcome says of the site; `command` is another one than `deploy`. Returns the outcome.
    """
    live = site.live()
    result = (site.fab(*command, "--json") if command else site.deploy()).expect(code)
    document = result.json
    for word in words:
        assert word in document["error"] + " ".join(document["suggestions"]), document
    assert document["suggestions"], f"no next command: {document['error']}"
    assert len(document["error"]) < 700
    assert document["site_state"].startswith(state), document["site_state"]
    assert document["exit_code"] == code
    assert "Traceback (most recent call last)" not in result.err.replace("\n    Traceback", "")
    assert site.live() == live
    site.assert_sound()
    return document


def limit(site: Site, **seconds: int) -> None:
    """Lower limits, until the site is healed."""
    site.settings["timeouts"] = TIMEOUTS | seconds


def healed(site: Site, *words: str) -> dict:
    """The next plain deploy ends with 0, and its release is live and whole."""
    site.settings["timeouts"] = TIMEOUTS
    document = site.deploy(*words).expect(0).json
    assert document["release"] == site.live()
    site.assert_sound()
    return document


@contextmanager
def undone(site: Site, do: str, undo: str) -> Generator[None]:
    """Run one script as root on the host, and the other one afterwards."""
    try:
        site.run(do)
        yield
    finally:
        site.run(undo)


@contextmanager
def stopped(site: Site, *units: str) -> Generator[None]:
    """Units of the host that do not run."""
    names = shlex.join(units)
    with undone(site, f"systemctl stop {names}", f"systemctl start {names}"):
        yield
    wait_for(lambda: answers(site))


def answers(site: Site) -> bool:
    """Whether the health path answers 200."""
    with suppress(httpx.HTTPError):
        return site.get("/healthz").status_code == 200
    return False


@contextmanager
def instead(site: Site, path: str, text: str) -> Generator[None]:
    """Another text in a file of the host."""
    keep = f"cp -a {path} {path}.kept" if site.run(f"[ ! -e {path} ] || echo there") else "true"
    back = f"mv {path}.kept {path}" if keep != "true" else f"rm -f {path}"
    with undone(site, f"{keep}; printf '%s' {shlex.quote(text)} >{path}", back):
        yield


@contextmanager
def small_disk(site: Site, room: int, files: int = 50000) -> Generator[None]:
    """Everything of the app on a file system of its own, with room for so many MB and files more."""
    stop = "systemctl stop consult-django.service consult-django.socket"
    start = "systemctl start consult-django.socket consult-django.service"
    do = f"""
        set -e
        {stop}
        while compgen -G '/srv/consult/releases/.trash-*'; do sleep 0.1; done
        mkdir -p /srv/small
        mount -t tmpfs -o mode=755,uid=deploy,gid=deploy small /srv/small
        cp -a /srv/consult/. /srv/small/
        mount --bind /srv/small /srv/consult
        read -r size inodes < <(df --output=used,iused -k /srv/consult | tail -n 1)
        mount -o remount,size=$((size + {room} * 1024))k,nr_inodes=$((inodes + {files})) /srv/small
        {start}"""
    with undone(site, do, f"{stop}; umount /srv/consult; umount /srv/small; {start}"):
        wait_for(lambda: answers(site))
        yield
    wait_for(lambda: answers(site))


class Relay:
    """A way to a host that says `greeting` first, passes everything on, and swallows all of it while `swallows`.

    It hangs up on the first `hangs_up` connections.
    """

    def __init__(self, target: tuple[str, int] | None, greeting: bytes = b"") -> None:
        self._target, self._greeting = target, greeting
        self._sockets: list[socket.socket] = []
        self.swallows = False
        self.hangs_up = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                if self.hangs_up:
                    self.hangs_up -= 1
                    here.close()
                    continue
                self._sockets.append(here)
                here.sendall(self._greeting)
                if self._target:
                    there = socket.create_connection(self._target)
                    self._sockets.append(there)
                    for pair in ((here, there), (there, here)):
                        threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.swallows:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End it and all its connections."""
        for end in (self._listener, *self._sockets):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def relay(target: tuple[str, int] | None, greeting: bytes = b"") -> Generator[Relay]:
    """A Relay for the time of a block."""
    made = Relay(target, greeting)
    try:
        yield made
    finally:
        made.close()
