"""adopt's choices and words: what it refuses, what it keeps and in which order, how it says that it failed."""

import dataclasses
import io
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, cast

import pytest
from pytest_mock import MockerFixture

from fabfile.commands import adopt
from fabfile.commands.adopt import HowFar
from fabfile.errors import ConfigError, ProvisionError
from fabfile.output.console import Console
from fabfile.plan.adoption.judge import Adoption, Finding
from fabfile.session.session import lock_for
from fabfile.ssh.host_keys import REFUSE
from fabfile.ssh.runner import StepError
from fabfile.steps import adopt as steps
from tests.unit.test_decisions import a_run
from tests.unit.test_deployment import Ends, Played
from tests.unit.test_sequence import FILES, LAYOUT, NEW, SETTINGS, ids

STOP = Finding("docker runs the app: adopt moves systemd units", "docker stop app")
NEED = Finding("the unit has LimitNOFILE=4096", 'unit_options = { LimitNOFILE = "4096" }')
SEEN = Adoption(
    unit="consult-django.service",
    address="/run/consult/gunicorn.sock",
    commit="a" * 40,
    gone=("/etc/nginx/sites-enabled/old", "/etc/tmpfiles.d/consult.conf"),
    sudoers=("/etc/sudoers.d/deploy",),
    uploads=("apps/web/media",),
    stops=(),
    needed=(),
    told=("the site adds headers",),
    texts={},
)


def said(run: Any) -> str:
    return cast("io.StringIO", run.console.stream).getvalue()


def seen(**changes: Any) -> Adoption:
    return dataclasses.replace(SEEN, **changes)


def test_what_makes_it_unsafe_stops_it_whatever_was_asked() -> None:
    """The first reason is the error, with what to do; all of them are said."""
    run = a_run(SETTINGS)
    with pytest.raises(ProvisionError, match="docker runs the app") as caught:
        adopt.refuse(run, seen(stops=(STOP,), needed=(NEED,)), leave_out=True)
    assert caught.value.hint == "docker stop app"
    assert "LimitNOFILE" not in said(run)


def test_what_would_be_lost_is_left_out_by_name_alone() -> None:
    """Each line to paste is said; --leave-out goes on without."""
    run = a_run(SETTINGS)
    with pytest.raises(ProvisionError, match="1 things that the server has") as caught:
        adopt.refuse(run, seen(needed=(NEED,)), leave_out=False)
    assert caught.value.hint.endswith(f"fab -H {run.name} adopt --leave-out")
    assert NEED.mend in said(run)
    adopt.refuse(run, seen(needed=(NEED,)), leave_out=True)
    adopt.refuse(run, SEEN, leave_out=False)


def test_what_is_found_is_in_the_document() -> None:
    """As values, for agents; a terminal is not steered by what a server says."""
    run = a_run(SETTINGS)
    adopt.show(run, seen(stops=(STOP,), needed=(NEED,), told=("a\x1b[2Jb",)))
    details = run.outcome.details
    assert details["stops"] == [{"what": STOP.what, "mend": STOP.mend}]
    assert details["needed"] == [{"what": NEED.what, "mend": NEED.mend}]
    assert details["gone"] == [*SEEN.gone, *SEEN.sudoers]
    assert "\x1b" not in said(run)
    assert "/app/apps/web/media moves to /srv/consult/shared/apps/web/media" in said(run)


def test_what_is_kept_comes_back_in_an_order_that_boots() -> None:
    """The old unit before ours lose their socket; of the files that go, each group has its own."""
    step = adopt.keep(a_run(SETTINGS), SEEN)
    groups = {name: [str(path) for path in cast("Any", step.parameters[name])] for name in ("units", "site", "rights")}
    wants = "/etc/systemd/system/{}.target.wants/consult-django.{}"
    assert groups["units"] == [
        str(LAYOUT.service_file), wants.format("multi-user", "service"), wants.format("sockets", "socket"),
        str(LAYOUT.socket_file), "/etc/tmpfiles.d/consult.conf",
    ]  # fmt: skip
    assert groups["site"][:3] == [str(path) for path in (LAYOUT.site_file, LAYOUT.site_link, LAYOUT.tls_file)]
    assert groups["site"][-1] == "/etc/nginx/sites-enabled/old"
    assert groups["rights"] == ["/etc/sudoers.d/deploy", str(LAYOUT.sudoers), str(LAYOUT.installer)]
    gone = [str(path) for path in cast("Any", step.parameters["gone"])]
    assert "/etc/nginx/sites-enabled/default" in gone  # ours is the default server
    assert str(LAYOUT.sudoers) not in gone


def test_nobody_is_led_to_what_does_not_serve() -> None:
    """Uploads, bridge, visitors to it, then the old one ends; the way back leads to the bridge first, too."""
    there = ids(steps.change_hands(SETTINGS, NEW, FILES))
    assert there == [
        "move_the_uploads", "start_a_second_website", "lead_visitors_to_the_second", "stop_the_old_website",
        "start_the_website", "lead_visitors_to_the_website",
    ]  # fmt: skip
    assert ids(steps.bring_back(SETTINGS)) == [
        "lead_visitors_to_the_second", "start_the_old_website", "bring_the_old_site_back",
    ]  # fmt: skip


def test_the_socket_is_installed_before_the_service_that_requires_it() -> None:
    """A power cut between the two leaves a server that boots."""
    start = steps.take_over(SETTINGS, NEW, reversed(list(FILES)))[1]
    assert [str(path) for path in cast("Any", start.parameters["files"])][:2] == [
        str(LAYOUT.socket_file), str(LAYOUT.service_file),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"plan": True, "undo": True, "leave_out": False}, True),
        ({"plan": False, "undo": True, "leave_out": True}, True),
        ({"plan": False, "undo": False, "leave_out": True}, False),
        ({"plan": True, "undo": False, "leave_out": False}, False),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, bool], wrong: bool) -> None:
    """Told before any connection."""
    run = a_run(SETTINGS)
    if not wrong:
        adopt.require_one(run, **options)
        return
    with pytest.raises(ConfigError, match="one at a time"):
        adopt.require_one(run, **options)


class Server:
    """A server whose root runner plays; `ends` says how steps end."""

    def __init__(self, mocker: MockerFixture) -> None:
        self.ends: Ends = {}
        self.played = Played(Console(stream=io.StringIO()), self.ends)
        mocker.patch("fabfile.commands.adopt.as_admin", self._as_admin)

        self.locks: list[object] = []

    @contextmanager
    def _as_admin(self, _run: object, lock: object = None, **_: object) -> Generator[Any]:
        self.locks.append(lock)
        yield self.played


@pytest.fixture
def server(mocker: MockerFixture) -> Server:
    return Server(mocker)


@pytest.mark.parametrize(
    ("lines", "far"),
    [
        ("live ", HowFar()),
        ("begun consult-django.service\nlive /srv/consult/releases/R", HowFar("begun", "consult-django.service", "R")),
        ("adopted 2026-11-27\nlive /srv/consult/releases/R", HowFar("adopted", "2026-11-27", "R")),
    ],
)
def test_how_far_it_is(server: Server, lines: str, far: HowFar) -> None:
    """A server that says nothing has not begun."""
    server.ends[steps.HOW_FAR] = (0, lines)
    assert adopt.look_how_far(a_run(SETTINGS), REFUSE) == far


@pytest.mark.parametrize("lines", ["live ", "lock /srv/consult/deploy.lock\nlive "])
def test_it_is_asked_again_once_nobody_else_works_there(server: Server, lines: str) -> None:
    """Where there is a lock, a run that was cut may hold it and go on; --plan, which has none, takes what it sees."""
    server.ends[steps.HOW_FAR] = (0, lines)
    run = a_run(SETTINGS)
    lock = lock_for(run, "adopt", wait=60)
    adopt.look_how_far(run, REFUSE, lock)
    assert server.locks == ([None, lock] if "lock" in lines else [None])
    assert lock.wait == 60
    server.locks.clear()
    adopt.look_how_far(run, REFUSE)
    assert server.locks == [None]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("adopted 2026-11-27\nlive /srv/consult/releases/R", "adopted since 2026-11-27"),
        ("begun some.service\nlive /srv/consult/releases/R", "an adopt was cut while some.service changed hands"),
    ],
)
def test_a_plan_for_what_has_begun_says_so(server: Server, lines: str, words: str) -> None:
    """And reads no further."""
    server.ends[steps.HOW_FAR] = (0, lines)
    run = a_run(SETTINGS)
    adopt.plan(run, REFUSE)
    assert words in said(run)
    assert run.outcome.status == "unchanged"


@pytest.mark.parametrize("target", ["/srv/consult/current", "/srv/other/current"])
def test_a_server_of_ours_is_nothing_to_adopt(target: str) -> None:
    """Its link leads to this app's own place; to another's, that is no folder to take over."""
    run = a_run(SETTINGS)
    found = {"folder": {"kind": "link", "target": target}}
    assert adopt.is_ours(run, found) == (target == "/srv/consult/current")
    assert ("nothing to adopt" in said(run)) == adopt.is_ours(run, found)
    assert not adopt.is_ours(run, {"folder": {"kind": "folder", "target": ""}})


def test_nothing_adopted_is_nothing_to_undo(server: Server) -> None:
    """It is no error, and nothing is done."""
    server.ends[steps.HOW_FAR] = (0, "live ")
    run = a_run(SETTINGS)
    adopt.undo(run, REFUSE, wait=0)
    assert run.outcome.status == "unchanged"
    assert "nothing is adopted here" in said(run)


@pytest.mark.parametrize(
    ("back", "state"), [(0, "as before"), (1, "unknown: Start the website behind its socket failed")]
)
def test_a_change_that_fails_says_what_serves(server: Server, back: int, state: str) -> None:
    """As before where the host has gone back; else that nobody knows."""
    server.ends["start_the_website"] = (1, "failed: gunicorn has stopped 3 times in a row")
    server.ends["bring_the_rest_back"] = (back, "")
    run = a_run(SETTINGS)
    with pytest.raises(StepError):
        adopt.change_hands(run, NEW, 0)
    assert run.outcome.site_state.startswith(state)


def test_the_bridge_is_of_the_release_by_its_real_path(server: Server) -> None:
    """Unit, socket and the site that leads there go along; with its own socket first, the website's as backup."""
    adopt.change_hands(a_run(SETTINGS), NEW, 0)
    sent = {name: content.decode() for name, content in server.played.files.items()}
    assert f"WorkingDirectory={NEW.root}/apps/web" in sent["consult-django-bridge.service"]
    assert "ListenStream=/run/consult-django-bridge.sock" in sent["consult-django-bridge.socket"]
    site = sent["consult-django-bridge"]
    assert "server unix:/run/consult-django-bridge.sock max_fails=0 fail_timeout=0;" in site
    assert "server unix:/run/consult/gunicorn.sock max_fails=0 fail_timeout=0 backup;" in site
    assert "backup" not in sent["consult-django"]
    assert PurePosixPath(LAYOUT.socket_file).name in sent


def test_what_fails_behind_the_change_brings_nothing_back(server: Server) -> None:
    """Visitors are on the new website then: the same command makes up for what is left, there and on the way back."""
    server.ends[steps.HOW_FAR] = (0, f"adopted 2026-11-27\nlive {NEW.root}")
    for verb, failing in (
        (lambda run: adopt.change_hands(run, NEW, 0), "end_the_second_website"),
        (undo, "bring_the_rest_back"),
    ):
        server.ends[failing] = (1, "")
        server.played.ran.clear()
        run = a_run(SETTINGS)
        with pytest.raises(StepError):
            verb(run)
        assert server.played.ran[-1] == failing
        assert run.outcome.site_state.startswith("served, and not all is done")
        del server.ends[failing]


def undo(run: Any) -> None:
    adopt.undo(run, REFUSE, wait=0)


def test_a_way_back_that_fails_goes_on_with_what_serves(server: Server) -> None:
    """The old website does not start: visitors are on the bridge, and come back to ours."""
    server.ends[steps.HOW_FAR] = (0, f"adopted 2026-11-27\nlive {NEW.root}")
    server.ends["start_the_old_website"] = (1, "failed: after 60 s /healthz answers 000")
    with pytest.raises(StepError):
        undo(a_run(SETTINGS))
    assert server.played.ran[server.played.ran.index("start_the_old_website") :] == [
        "start_the_old_website", "lead_visitors_to_the_second", "stop_the_old_website", "start_the_website",
        "lead_visitors_to_the_website", "end_the_second_website", "note_that_it_is_adopted",
    ]  # fmt: skip
