"""Root's part of a deploy: over the admin's login, only when it is needed, and told where that is not at hand."""

import io
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, cast

import pytest
from pytest_mock import MockerFixture

from fabfile.config.inventory import Host
from fabfile.errors import ConnectError, DeployError, ProvisionError
from fabfile.output.console import Console
from fabfile.output.outcome import Outcome
from fabfile.plan import rendering
from fabfile.plan.plan import Plan
from fabfile.plan.state import HostState
from fabfile.session import staging
from fabfile.session.run import Run
from fabfile.session.session import Session, rights_to_mend
from fabfile.ssh.runner import BashFailed, StepError
from fabfile.steps.step import Results
from tests.unit.test_deployment import Ends, Played
from tests.unit.test_sequence import FILES, LAYOUT, OLD, SETTINGS, SITE

DIGESTS = {str(path): rendering.digest(text) for path, text in FILES.items()}


class Hosts:
    """Two logins of one host: the session's, and the admin's, which plays root or `refuses`."""

    def __init__(self, mocker: MockerFixture) -> None:
        self.stream = io.StringIO()
        self.refuses: DeployError | None = None
        self.ends: Ends = {}
        self.settings = SETTINGS
        self.logins: list[str] = []
        self.as_root: list[bool] = []
        self.root = Played(Console(stream=self.stream), self.ends)
        self.deploy = Played(Console(stream=self.stream), self.ends)
        mocker.patch("fabfile.session.staging.connect", self._connect)

    @contextmanager
    def _connect(self, host: Host) -> Generator["Hosts"]:
        self.logins.append(host.settings.user)
        if self.refuses:
            raise self.refuses
        yield self

    @contextmanager
    def runner(self, _: object, *, as_root: bool) -> Generator[Played]:
        self.as_root.append(as_root)
        yield self.root

    def stage(self, files: dict[PurePosixPath, str], staged: dict[str, str], *, overwrite: bool = False) -> Session:
        run = Run(Host("api", "production", self.settings), Console(stream=self.stream), Outcome("deploy", "api"))
        nothing = cast("Any", None)
        session = Session(run, nothing, cast("Any", self.deploy), HostState(staged=staged), Results())
        staging.stage(session, Plan(self.settings, LAYOUT, OLD, OLD, files), overwrite=overwrite)
        return session


@pytest.fixture
def hosts(mocker: MockerFixture) -> Hosts:
    return Hosts(mocker)


def test_nothing_changed_needs_nobody(hosts: Hosts) -> None:
    """Whatever is staged: a deploy that installs nothing opens no second connection."""
    hosts.stage({}, {})
    assert hosts.logins == []


def test_what_root_has_staged_already_needs_nobody(hosts: Hosts) -> None:
    """Somebody with the admin's login has run provision: CI, which has none, goes on."""
    hosts.stage(SITE, DIGESTS)
    assert hosts.logins == []


@pytest.mark.parametrize(
    "staged",
    [{}, DIGESTS | {str(LAYOUT.site_file): "0"}, DIGESTS | {"/etc/systemd/system/consult-gone@.service": "0"}],
    ids=["nothing", "another text", "one too many"],
)
@pytest.mark.parametrize("admin", ["root", "ana"])
def test_root_stages_all_of_it(hosts: Hosts, staged: dict[str, str], admin: str) -> None:
    """Over the admin's login, as root: the whole set, the rights, and what installs it."""
    hosts.settings = SETTINGS.model_copy(update={"admin": admin})
    hosts.stage(SITE, staged)
    assert (hosts.logins, hosts.as_root) == ([admin], [True])
    assert hosts.root.ran == ["grant_the_exact_sudo_rights", "stage_the_changed_files"]
    assert hosts.root.asked[-1].parameters["locked"] is True  # by the deploy that waits for it
    sent = {path.name: text.encode() for path, text in FILES.items()}
    sent["sudoers"] = rendering.sudoers(hosts.settings).encode()
    assert hosts.root.files == sent | {"install_files.sh": rendering.installer().encode()}
    assert "root stages what changed, by the login of" in hosts.stream.getvalue()
    assert hosts.deploy.ran == []


@pytest.mark.parametrize(
    "refusal", [ConnectError("authentication failed"), BashFailed("bash could not start"), ProvisionError("no bash")]
)
def test_a_login_that_is_not_at_hand_is_told(hosts: Hosts, refusal: DeployError) -> None:
    """What root would have to put there, why it could not, and who can."""
    hosts.refuses = refusal
    hosts.ends["compare_the_files"] = (0, "+MemoryMax=700M")
    with pytest.raises(ProvisionError) as caught:
        hosts.stage(SITE, {})
    error = caught.value
    assert error.message == (
        f"api: {LAYOUT.site_file}: root alone may stage what changed, and root is not at hand: {refusal.message}"
    )
    assert error.hint == "fab -H api provision, by somebody who may log in as root, then this one again"
    assert error.evidence == "+MemoryMax=700M"
    assert hosts.deploy.ran == ["compare_the_files"]
    assert hosts.deploy.files == {path.name: text.encode() for path, text in SITE.items()}


@pytest.mark.parametrize("files", [{}, SITE], ids=["drop-ins alone", "the site"])
def test_to_overwrite_is_root_s(hosts: Hosts, files: dict[PurePosixPath, str]) -> None:
    """Also where all is staged, and no file of ours differs; what root did about it is shown."""
    hosts.ends["stage_the_changed_files"] = (0, "changed: x.conf is gone")
    hosts.stage(files, DIGESTS, overwrite=True)
    assert hosts.logins == ["root"]
    assert "  changed: x.conf is gone\n" in hosts.stream.getvalue()


def test_a_site_that_nginx_refuses_is_told_as_such(hosts: Hosts) -> None:
    """That login is at hand: what it says is no reason to look for another one."""
    hosts.ends["stage_the_changed_files"] = (1, "[emerg] unknown directive")
    with pytest.raises(StepError) as caught:
        hosts.stage(SITE, {})
    assert caught.value.exit_code == 5
    assert hosts.deploy.ran == []


def test_rights_to_mend_are_told() -> None:
    """What is wider than it needs to be, in a sentence, with what mends it; nothing where all is as it should be."""
    run = Run(Host("api", "production", SETTINGS), Console(stream=io.StringIO()), Outcome("deploy", "api"))
    ours = "/usr/sbin/nginx -t -q"
    assert rights_to_mend(run, HostState(rights=(ours,))) == {}
    assert rights_to_mend(run, HostState(rights=("ALL", ours), loose="/etc/consult/doppler.env deploy 644")) == {
        "others may read the secrets: /etc/consult/doppler.env deploy 644": (
            "fab -H api provision sets the rights of /etc/consult/doppler.env"
        ),
        "deploy may run more as root than any deploy needs: ALL": (
            "fab -H api provision narrows what deploy may run as root, or says that other files give it"
        ),
    }
