"""What a deploy or rollback decides from what it has read: pure choices, asked of a host that answers nothing else."""

import dataclasses
import hashlib
import io
import json
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.commands.deploy import changed_settings, decide, fingerprint, next_id, send_release_files, setting_digests
from fabfile.commands.rollback import files_to_install, find_release
from fabfile.config.inventory import Host
from fabfile.config.settings import Settings, Tls
from fabfile.errors import ConfigError, Locked, ProvisionError, StepFailed
from fabfile.output.console import Console
from fabfile.output.outcome import Outcome
from fabfile.plan import certificate, commits, rendering
from fabfile.plan.commits import Found
from fabfile.plan.lock import lock_info
from fabfile.plan.state import HostState, ReleaseState
from fabfile.session.run import Run
from fabfile.session.session import DISK_FREE, INODES_FREE, Session, require_ready
from fabfile.steps.step import Results
from testbed.sample import sample

SETTINGS = sample(repo="git@example.org:team/app.git")
HOST = Host("api", "production", SETTINGS)
COMMIT = "abcdef0123456789abcdef0123456789abcdef01"
LIVE = "20260102T000000Z-abcdef0"
NOW = int(datetime(2026, 1, 3, tzinfo=UTC).timestamp())


class Unprepared:
    """Stands for a host; raises at every question that a test has not prepared."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, name: str, content: bytes) -> None:
        self.files[name] = content

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody prepared an answer to {name}")


def state(**changes: Any) -> HostState:
    """A host that has everything as it should be, with COMMIT live."""
    live = ReleaseState(LIVE, built=True, good=True, commit=COMMIT, fingerprint=fingerprint(SETTINGS))
    files = {str(path): hashlib.sha256(text.encode()).hexdigest() for path, text in rendering.files(SETTINGS).items()}
    whole = HostState(
        now=NOW, live=LIVE, app_is="link", releases=(live,), files=files, service="active", socket="active",
        nginx="active", master=1, workers={2: LIVE}, disk_free=10**8, inodes_free=10**6,
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


def a_run(settings: Settings = SETTINGS) -> Run:
    return Run(Host("api", "production", settings), Console(stream=io.StringIO()), Outcome("deploy", "api"))


def session(read: HostState, settings: Settings = SETTINGS) -> Session:
    """A session on a host that looks like this."""
    return Session(a_run(settings), cast("Any", Unprepared()), cast("Any", Unprepared()), read, Results())


@pytest.mark.parametrize(
    ("made_for", "said"),
    [
        ("", "this host has no certificate yet"),
        ("placeholder", "this host has no certificate yet"),
        (
            "https://other.example/dir app.example.org",
            "a certificate made for other settings: https://other.example/dir",
        ),
    ],
)
def test_a_deploy_waits_for_the_certificate_and_a_rollback_goes_without(made_for: str, said: str) -> None:
    """A site that names one which is not there is installed by nobody; all else that differs is."""
    secure = SETTINGS.model_copy(update={"tls": Tls(letsencrypt="ops@example.org"), "unit_options": {"Nice": "5"}})
    before = session(state(tls=made_for), secure)
    with pytest.raises(ProvisionError, match=said) as caught:
        decide(before, COMMIT, force=False)
    assert caught.value.hint.startswith("fab -H api provision; or")
    layout = before.layout
    assert set(before.changed_files()) == {layout.service_file}
    certified = session(state(tls=certificate.words(secure)), secure)
    assert set(certified.changed_files()) == {layout.service_file, layout.site_file}
    assert decide(certified, COMMIT, force=False)


def test_which_settings_have_changed_is_told_by_their_names() -> None:
    """Of those that a release is built from; nobody can tell where an older version of the tool has built it."""
    live = ReleaseState(LIVE, fingerprint=fingerprint(SETTINGS), settings=setting_digests(SETTINGS))
    assert changed_settings(SETTINGS, None) == changed_settings(SETTINGS, live) == []
    other = SETTINGS.model_copy(update={"workers": 5, "linked_dirs": ("media",), "body_size": "1m"})
    assert changed_settings(other, live) == ["linked_dirs", "workers"]
    assert changed_settings(other, dataclasses.replace(live, settings={**setting_digests(SETTINGS), "gone": "x"})) == [
        "gone", "linked_dirs", "workers",
    ]  # fmt: skip
    assert changed_settings(other, dataclasses.replace(live, settings=None)) is None
    assert all(len(digest) == 6 for digest in setting_digests(SETTINGS).values())


def test_nothing_to_do() -> None:
    """The commit is live, built from the same settings, served by every worker, every file as it should be."""
    assert decide(session(state()), COMMIT, force=False) is None


@pytest.mark.parametrize(
    ("changes", "commit", "force"),
    [
        ({}, "1" * 40, False),
        ({}, COMMIT, True),
        ({"service": "failed"}, COMMIT, False),
        ({"workers": {2: "20260101T000000Z-0000000"}}, COMMIT, False),
        ({"workers": {}}, COMMIT, False),
        ({"live": "", "releases": ()}, COMMIT, False),
        ({"releases": ()}, COMMIT, False),
        (
            {"releases": (ReleaseState(LIVE, built=True, good=True, commit=COMMIT, fingerprint="of before"),)},
            COMMIT,
            False,
        ),
    ],
)
def test_a_new_release_is_made(changes: dict[str, Any], commit: str, force: bool) -> None:
    """Another commit, another setting, a site that does not serve, or --force: a release with a new id."""
    asked = session(state(**changes))
    asked.outcome.git_branch = "main"
    plan = decide(asked, commit, force=force)
    assert plan
    assert plan.release.id == f"20260103T000000Z-{commit[:7]}"
    assert plan.commit == commit
    assert plan.switches
    send_release_files(asked, plan)
    sent = cast("Any", asked.runner).files
    notes = json.loads(sent["release.json"])
    assert (notes["commit"], notes["branch"], notes["fingerprint"]) == (commit, "main", fingerprint(SETTINGS))
    assert notes["settings"] == setting_digests(SETTINGS)
    assert sent["release.json"].count(b"\n") == 1
    assert set(sent) == {"gunicorn.conf.py", "gunicorn.json", "release.json"}
    assert sent["gunicorn.conf.py"].decode() == rendering.gunicorn_conf()
    assert sent["gunicorn.json"].decode() == rendering.gunicorn_json(SETTINGS)


def test_a_release_that_was_never_marked_good_is_activated_again() -> None:
    """The run that made it live was cut before its last check: that is made up for, without a new release."""
    live = dataclasses.replace(state().releases[0], good=False)
    plan = decide(session(state(releases=(live,))), COMMIT, force=False)
    assert plan
    assert (plan.release.id, plan.commit, plan.files) == (LIVE, "", {})


def test_a_release_that_was_marked_bad_is_built_anew() -> None:
    """What failed once is not taken for the site as it should be."""
    live = dataclasses.replace(state().releases[0], bad=True)
    plan = decide(session(state(releases=(live,))), COMMIT, force=False)
    assert plan
    assert plan.commit == COMMIT


@pytest.mark.parametrize("name", [path.name for path in rendering.files(SETTINGS)])
def test_a_changed_file_alone_needs_no_new_release(name: str) -> None:
    """Only the file is installed; the release stays."""
    read = state()
    files = {path: digest for path, digest in read.files.items() if not path.endswith(name)}
    plan = decide(session(dataclasses.replace(read, files=files)), COMMIT, force=False)
    assert plan
    assert plan.release.id == LIVE
    assert not plan.commit
    assert not plan.switches
    assert [path.name for path in plan.files] == [name]


@pytest.mark.parametrize(
    "changes",
    [
        {"repo": "https://example.org/other.git"}, {"project": "web"}, {"manage": "bin/manage.py"}, {"wsgi": "a.b:c"},
        {"static_root": "out"}, {"python": "3.13"}, {"sync_args": ("--no-dev",)}, {"linked_dirs": ("media",)},
        {"linked_files": ("a.ini",)}, {"health_path": "/up"}, {"workers": 4}, {"path": "/opt/app"},
    ],
)  # fmt: skip
def test_a_setting_that_a_release_is_built_from_changes_its_fingerprint(changes: dict[str, Any]) -> None:
    """The same commit with other settings is another release."""
    assert fingerprint(SETTINGS.model_copy(update=changes)) != fingerprint(SETTINGS)


@pytest.mark.parametrize("changes", [{"keep": 9}, {"branch": "dev"}, {"address": "192.0.2.1"}, {"body_size": "1m"}])
def test_other_settings_do_not(changes: dict[str, Any]) -> None:
    """What only the host or nginx cares for needs no new release."""
    assert fingerprint(SETTINGS.model_copy(update=changes)) == fingerprint(SETTINGS)


def test_an_id_sorts_by_time_and_names_the_commit() -> None:
    """Readable, and in the order of the clock."""
    assert next_id(NOW, [], COMMIT) == "20260103T000000Z-abcdef0"


def test_an_id_is_the_newest_when_the_clock_went_back() -> None:
    """A host whose clock was set back, or two deploys in one second, still get ids in order."""
    assert next_id(NOW, ["20300101T000000Z-1111111"], COMMIT) == "20300101T000001Z-abcdef0"
    assert next_id(NOW, ["20260103T000000Z-abcdef0"], COMMIT) == "20260103T000001Z-abcdef0"
    assert next_id(NOW, ["lost+found", "", "x-y", "20261399T999999Z-a"], COMMIT) == "20260103T000000Z-abcdef0"


@given(st.integers(0, 4_000_000_000), st.lists(st.integers(0, 4_000_000_000), max_size=5))
def test_a_new_id_is_always_after_every_other(now: int, moments: list[int]) -> None:
    """Whatever the clock says."""
    ids = [next_id(moment, [], "fffffff") for moment in moments]
    assert all(next_id(now, ids, "0000000") > other for other in ids)


def test_the_commit_is_found_among_what_git_says() -> None:
    """Warnings around the answer do no harm, and a subject may hold anything."""
    answer = f"warning: redirecting\ncommit {COMMIT} commit known x  y\nknown main"
    assert commits.parse(answer, "api", SETTINGS) == Found(COMMIT, "commit known x  y")
    assert commits.parse(f"commit {COMMIT} ", "api", SETTINGS) == Found(COMMIT, "")
    lacks = f"commit {COMMIT} x\nbeside 2 5\nlacks 1111111 commit beside\nlacks 2222222 "
    assert commits.parse(lacks, "api", SETTINGS) == Found(COMMIT, "x", 2, 5, ("1111111 commit beside", "2222222 "))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ("known main\nknown feature/login\nknown v1", "did you mean feature/login?"),
        ("known feature/logins\nknown feature/login", "did you mean feature/login or feature/logins?"),
        ("known v1", "git push origin feature/logn"),
        ("", "git push origin feature/logn"),
        ("fatal: commit", "git push origin feature/logn"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_the_nearest(answer: str, hint: str) -> None:
    """Exit 2, the repository, the name, and what may have been meant."""
    with pytest.raises(ConfigError) as caught:
        commits.parse(answer, "api", SETTINGS.model_copy(update={"branch": "feature/logn"}))
    assert caught.value.message == "api: git@example.org:team/app.git has no branch, tag or commit feature/logn"
    assert caught.value.hint == hint


RELEASES = tuple(
    ReleaseState(f"{stamp}-{commit[:7]}", built=commit != "3" * 40, good=True, commit=commit)
    for stamp, commit in [
        ("20260101T000000Z", "1" * 40), ("20260101T120000Z", "2" * 40), ("20260102T000000Z", "3" * 40),
        ("20260103T000000Z", "4" * 40), ("20260104T000000Z", "1" * 40),
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("to", "found"),
    [
        ("", "20260101T120000Z-2222222"),
        ("20260101T000000Z-1111111", "20260101T000000Z-1111111"),
        ("20260101T12", "20260101T120000Z-2222222"),
        ("2222", "20260101T120000Z-2222222"),
        ("4" * 40, "20260103T000000Z-4444444"),
    ],
)
def test_rollback_finds_what_is_meant(to: str, found: str) -> None:
    """An id, its beginning, a commit; without a name the newest good one before the live one."""
    read = HostState(live="20260103T000000Z-4444444", releases=RELEASES)
    assert find_release(read, to, "api").id == found


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("20260101", "20260101 may be 20260101T000000Z-1111111 or 20260101T120000Z-2222222"),
        ("1111111", "1111111 may be 20260101T000000Z-1111111 or 20260104T000000Z-1111111"),
        ("222", "api has no release 222"),
        ("20260101T000000Z-1111112", "did you mean 20260101T000000Z-1111111?"),
        ("20260102", "20260102T000000Z-3333333 was never finished"),
        ("$(reboot)", "api has no release $(reboot)"),
    ],
)
def test_rollback_refuses_what_it_cannot_tell(to: str, said: str) -> None:
    """Ambiguous, unknown (with the nearest name), never finished: exit 2, and where to look."""
    with pytest.raises(ConfigError) as caught:
        find_release(HostState(live="20260103T000000Z-4444444", releases=RELEASES), to, "api")
    assert said in caught.value.message
    assert caught.value.hint in ("fab -H api releases", "name one of them whole")


@pytest.mark.parametrize(
    ("live", "said"), [("", "the first deploy"), ("20260101T000000Z-1111111", "20260101T000000Z-1111111")]
)
def test_rollback_with_nothing_before(live: str, said: str) -> None:
    """Exit 2, and it says before what."""
    with pytest.raises(ConfigError, match=f"no good release before {said}"):
        find_release(HostState(live=live, releases=RELEASES), "", "api")


def test_a_ready_host_is_not_refused() -> None:
    """Everything is there."""
    require_ready(state(), HOST)
    require_ready(state(live="", releases=(), workers={}), HOST)


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"frozen": lock_info("lock", "demo")}, Locked, "locked by hand"),
        ({"app_is": "folder"}, ProvisionError, "/app is a real folder"),
        ({"app_is": "nothing"}, ProvisionError, "the link /app"),
        ({"missing": ("the program uv", "the folder /x")}, ProvisionError, "the program uv, the folder /x"),
        ({"masked": "consult-django.service"}, ProvisionError, "consult-django.service is masked"),
        (
            {"disk_free": DISK_FREE - 1},
            StepFailed,
            "has room for 99 MB and 1000000 files; a release needs at least 100",
        ),
        ({"inodes_free": INODES_FREE - 1}, StepFailed, "and 4999 files; a release needs at least 100 MB and 5000"),
    ],
)
def test_a_host_that_is_not_ready_is_refused(changes: dict[str, Any], kind: type[Exception], said: str) -> None:
    """Before anything is written: what is missing, and the next command."""
    with pytest.raises(kind, match=said) as caught:
        require_ready(state(**changes), HOST)
    assert cast("Any", caught.value).hint


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"domain": "api.example.org"}, "http://api.example.org"),
        (
            {"domain": "a.example.org", "public_url": "https://api.example.org/", "trusted_proxies": ("10.0.0.1",)},
            "https://api.example.org",
        ),
        ({"domain": "api.example.org", "tls": {"letsencrypt": "ops@example.org"}}, "https://api.example.org"),
        ({"domain": "consult.lab", "address": "198.18.0.2", "lab": True}, "http://198.18.0.2"),
    ],
)
def test_the_address_of_the_site_opens(settings: dict[str, Any], url: str) -> None:
    """It is the domain's or public_url; only a lab's is that of its network, and a deploy ends with it."""
    run = a_run(sample(repo="git@example.org:team/app.git", **settings))
    run.invite()
    assert run.url == url
    assert cast("io.StringIO", run.console.stream).getvalue() == (f"open {url}\n" if run.settings.lab else "")


UNIT, DROP_IN = "/etc/systemd/system/consult-django.service", "/etc/systemd/system/consult-django.service.d/x.conf"


def edited(**changes: Any) -> Session:
    """A session on a host on which somebody has edited the unit, and put a drop-in beside it."""
    whole = state()
    return session(state(staged=whole.files, files={**whole.files, UNIT: "0"}, drop_ins=(DROP_IN,), **changes))


@pytest.mark.parametrize(
    ("file", "staged", "before", "is_edited"),
    [
        ("1", "1", "0", False), ("0", "1", "0", False), ("1", "1", None, False), ("2", "1", "0", True),
        ("2", "1", None, True), ("2", None, None, False), (None, "1", "0", False),
    ],
)  # fmt: skip
def test_what_is_edited_is_told_from_what_was_staged(
    file: str | None, staged: str | None, before: str | None, is_edited: bool
) -> None:
    """A text that is neither; not where nobody can tell, nor a file that is missing or pending."""
    read = HostState(
        files={UNIT: file} if file else {}, staged={UNIT: staged} if staged else {},
        before={UNIT: before} if before else {},
    )  # fmt: skip
    assert read.edited({}) == ([UNIT] if is_edited else [])
    assert read.edited({UNIT: "2"}) == []  # somebody has put there what hosts.toml says now


def test_what_was_edited_is_more_than_files_of_ours() -> None:
    """Both stop a deploy."""
    assert edited().edited == [UNIT, DROP_IN]
    assert session(state()).edited == []


def test_a_rollback_leaves_what_was_edited() -> None:
    """It is a way back, and asks nothing: no file is installed then, for all of them are or none."""
    changed = session(state(files={}))
    assert set(files_to_install(changed)) == {PurePosixPath(path) for path in state().files}
    assert files_to_install(edited()) == {}
    one = edited()
    files_to_install(one)
    assert "edited on the server, and left as it is" in cast("io.StringIO", one.run.console.stream).getvalue()


@pytest.mark.parametrize("running", [True, False])
def test_what_runs_with_drop_ins_is_restarted_without_them(running: bool) -> None:
    """Also where nothing else is to be done; what does not run is started anyway."""
    one = edited(service="active" if running else "failed")
    alone = session(dataclasses.replace(one.state, files=one.state.staged))
    for each in (one, alone):
        for commit in (COMMIT, "1" * 40):
            plan = decide(each, commit, force=False)
            assert plan
            assert str(plan.forced or "") == ("restart: drop-ins taken away: x.conf" if running else "")
    first = decide(edited(live="", releases=()), COMMIT, force=False)
    assert first
    assert first.forced is None
