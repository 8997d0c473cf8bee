"""The ways in that people have: jump hosts, agents, certificates, authorities, IPv6, and keys that nobody knows yet."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from paramiko.hostkeys import HostKeys

from fabfile.config.inventory import Host
from fabfile.errors import ConnectError, DeployError
from fabfile.plan import rendering
from fabfile.session import staging
from fabfile.ssh.connection import connect
from fabfile.steps import server
from testbed.harness import Site, Terminal, at_terminal, throw_away, wait_for
from testbed.lab import LabHost, cut_network, execute, give_six, join_network, put_behind
from testbed.sample import sample
from tests.lab.agents import FidoAgent

pytestmark = pytest.mark.lab
KEYS, SUDOERS = "/home/deploy/.ssh/authorized_keys", "/etc/sudoers.d/consult-django"
INNER, INNER_SIX = "10.99.0.2", "fd00:99::2"


@dataclass
class Operator:
    """Somebody with a home of their own, whose ssh knows nothing yet."""

    home: Path

    @property
    def ssh(self) -> Path:
        return self.home / ".ssh"

    def writes(self, name: str, text: str) -> Path:
        (self.ssh / name).write_text(text)
        return self.ssh / name

    def has_key(self, host: LabHost, name: str = "id_ed25519") -> Path:
        """The key that `host` lets in, as a file of this operator's."""
        shutil.copy(host.key_file, self.ssh / name)
        return self.ssh / name

    def makes_key(self, name: str, *options: str) -> Path:
        keygen("-t", "ed25519", "-N", "", "-f", self.ssh / name, *options)
        return self.ssh / name

    def logs_in(self, address: str, **settings: Any) -> str:
        """Log in as root and say which host that is."""
        return self.asks(address, "hostname", **settings)

    def asks(self, address: str, command: str, **settings: Any) -> str:
        """What a command says there."""
        host = Host("web1", "test", sample(address=address, user="root", admin="root", **settings))
        said: list[str] = []
        with connect(host) as connection:
            assert connection.stream(command.split(), said.append) == 0
        return "".join(said).strip()

    def is_refused(self, address: str, **settings: Any) -> DeployError:
        """The error of a login that fails: one line, exit 3, and what to try."""
        with pytest.raises(ConnectError) as caught:
            self.logs_in(address, **settings)
        assert caught.value.exit_code == 3
        assert caught.value.message.startswith("web1: ")
        assert caught.value.hint
        return caught.value


def keygen(*words: str | Path) -> None:
    subprocess.run(["ssh-keygen", "-q", *words], check=True, stdin=subprocess.DEVNULL, capture_output=True)


def key_of(host: LabHost, kind: str = "ed25519") -> str:
    """A host's public key, as known_hosts has it."""
    return " ".join((host.root / f"etc/ssh/ssh_host_{kind}_key.pub").read_text().split()[:2])


def sh(host: LabHost, script: str) -> str:
    done = execute(host, "bash", "-euc", script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def restart_sshd(host: LabHost) -> None:
    """It would not start six times in ten seconds, but for the word before."""
    sh(host, "systemctl reset-failed ssh; systemctl restart ssh")


@contextmanager
def sshd_says(host: LabHost, *lines: str) -> Generator[None]:
    """sshd has other options meanwhile; the first value of an option counts, and this file is read first."""
    file = host.root / "etc/ssh/sshd_config.d/a.conf"
    file.write_text("".join(f"{line}\n" for line in lines))
    restart_sshd(host)
    try:
        yield
    finally:
        file.unlink()
        restart_sshd(host)


@contextmanager
def agent(*keys: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """A real ssh-agent with these keys."""
    path = str(keys[0].parent / "agent.sock") if keys else "/nowhere"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        wait_for(Path(path).is_socket)
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        for key in keys:
            subprocess.run(["ssh-add", "-q", key], check=True, stdin=subprocess.DEVNULL, capture_output=True)
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    (tmp_path / ".ssh").mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return Operator(tmp_path)


@pytest.fixture(scope="module")
def jump(own: Callable[[str], str]) -> Iterator[LabHost]:
    """A server that anybody reaches."""
    with throw_away(own("jump"), image="bare") as host:
        yield host


@pytest.fixture(scope="module")
def inner(base: str, own: Callable[[str], str], jump: LabHost) -> Iterator[LabHost]:
    """A server with the sample site live, that only `jump` reaches; by one's key one gets into both."""
    with throw_away(own("inner"), base=base) as host:
        assert put_behind(host, jump) == (INNER, INNER_SIX)
        with (jump.root / "root/.ssh/authorized_keys").open("a") as keys:
            keys.write(host.key_file.with_suffix(".pub").read_text())
        yield host


@pytest.fixture
def team(operator: Operator, jump: LabHost, inner: LabHost) -> Operator:
    """An operator with the key of both servers, who knows both of them."""
    operator.has_key(inner)
    operator.writes("known_hosts", f"{jump.address} {key_of(jump)}\n{INNER},{INNER_SIX} {key_of(inner)}\n")
    return operator


def through(site: Site, jump: LabHost, **settings: Any) -> None:
    """Let a site's host be reached through the jump host."""
    site.settings |= {"address": INNER, "jump": f"root@{jump.address}", **settings}


def test_a_deploy_through_another_server(team: Operator, jump: LabHost, inner: LabHost, tmp_path: Path) -> None:
    """provision, deploy and rollback, where nobody but the server in between can reach the host."""
    site = Site(inner, tmp_path, "t/jump")
    through(site, jump, known_hosts=str(team.ssh / "known_hosts"))
    assert site.provision().expect(0).json["status"] == "unchanged"
    before = site.live()
    site.commit(site.titled("Through the jump host"))
    document = site.deploy().expect(0).json
    assert document["checks"]["http_200"] is True
    assert site.live() != before
    assert "Through the jump host" in sh(inner, "curl -s -H 'Host: consult.lab' http://127.0.0.1/")
    site.fab("rollback", "--json").expect(0)
    assert site.live() == before
    with sshd_says(jump, "AllowTcpForwarding no"):
        error = site.fab("status", "--json").expect(3).json["error"]
    assert "through the jump host: port forwarding is administratively prohibited there (AllowTcpForw" in error


@pytest.mark.usefixtures("inner")
def test_the_host_sees_the_server_in_between(team: Operator, jump: LabHost) -> None:
    """The connection is that one's; nobody else has a way."""
    sees = team.asks(INNER, "printenv SSH_CONNECTION", jump=f"root@{jump.address}")
    assert sees.split()[::2] == ["10.99.0.1", INNER]


def test_ways_through_jump_hosts(team: Operator, jump: LabHost, inner: LabHost) -> None:
    """ssh_config's ProxyJump, also for every host, over two, in an included file; ProxyCommand; IPv6; a pinned key."""
    assert team.logs_in(INNER, jump=f"root@{jump.address}") == inner.name
    assert team.logs_in(INNER_SIX, jump=f"root@{jump.address}:22") == inner.name
    pins = {"host_key": key_of(inner), "jump_host_key": key_of(jump), "known_hosts": "/none"}
    assert team.logs_in(INNER, jump=f"root@{jump.address}", **pins) == inner.name
    (team.ssh / "config.d").mkdir()
    bastion = f"Host bastion\n  HostName {jump.address}\n  User root\n"
    team.writes("config.d/all", f"{bastion}Host deep\n  HostName {INNER}\n  ProxyJump bastion\n")
    team.writes("config", f"Include {team.ssh}/config.d/*\n")
    assert team.logs_in("deep") == inner.name
    team.writes("config", f"{bastion}Host *\n  ProxyJump bastion\n")
    assert team.logs_in(INNER) == inner.name
    assert team.logs_in(jump.address) == jump.name
    team.writes("config", f"{bastion}Host second\n  HostName 127.0.0.1\n  User root\n  HostKeyAlias {jump.address}\n")
    assert team.logs_in(INNER, jump="bastion,second") == inner.name
    team.writes("config", f"{bastion}  ProxyJump second\nHost second\n  HostName 127.0.0.1\n  ProxyJump bastion\n")
    with pytest.raises(DeployError, match="ProxyJump goes in a circle"):
        team.logs_in(INNER, jump="bastion")
    ssh = f"ssh -F none -i {inner.key_file} -o UserKnownHostsFile={team.ssh}/known_hosts -W %h:%p root@{jump.address}"
    team.writes("config", f"Host {INNER}\n  ProxyCommand {ssh}\n")
    assert team.logs_in(INNER) == inner.name
    team.writes("config", f"Host {INNER}\n  ProxyCommand false %h\n")
    assert "through ProxyCommand false: " in team.is_refused(INNER).message


def test_the_keys_of_jump_hosts_count(team: Operator, jump: LabHost, inner: LabHost) -> None:
    """An unknown one, a changed one, also behind another: refused before anything goes through it."""
    chain = f"Host second\n  HostName 127.0.0.1\n  User root\nHost first\n  HostName {jump.address}\n  User root\n"
    team.writes("config", chain)
    error = team.is_refused(INNER, jump="first,second")
    assert (
        f"unknown host key (Host key verification failed): 127.0.0.1 shows {key_of(jump).split()[0]}" in error.message
    )
    assert "hosts.toml" not in error.message
    team.writes("known_hosts", f"{jump.address} {key_of(inner)}\n{INNER} {key_of(inner)}\n")
    error = team.is_refused(INNER, jump=f"root@{jump.address}")
    assert f"host key changed (REMOTE HOST IDENTIFICATION HAS CHANGED): {jump.address} shows" in error.message
    error = team.is_refused(INNER, jump=f"root@{jump.address}", jump_host_key=key_of(inner))
    assert ", jump_host_key in hosts.toml is SHA256:" in error.message
    assert error.hint.startswith(f'jump_host_key = "{key_of(jump)}"')
    team.writes("known_hosts", f"{jump.address} {key_of(jump)}\n")
    assert (
        f"unknown host key (Host key verification failed): {INNER} sh"
        in team.is_refused(INNER, jump=f"root@{jump.address}").message
    )
    error = team.is_refused("10.99.0.3", jump=f"root@{jump.address}")
    assert "cannot reach root@10.99.0.3:22 through the jump host: it cannot connect to it" in error.message
    assert f"-J root@{jump.address}" in error.hint
    team.writes("known_hosts", f"{jump.address} {key_of(jump)}\n")
    (team.ssh / "id_ed25519").unlink()
    assert (
        "authentication failed for the jump host root@" in team.is_refused(INNER, jump=f"root@{jump.address}").message
    )


def test_ipv6(operator: Operator, jump: LabHost) -> None:
    """An address with colons is an address; with a port, known_hosts has it in brackets."""
    operator.has_key(jump)
    address = give_six(jump)
    error = operator.is_refused(address)
    assert f"{address} shows " in error.message
    operator.writes("known_hosts", f"{address} {key_of(jump)}\n")
    assert operator.logs_in(address) == jump.name
    with sshd_says(jump, "Port 22", "Port 2222"):
        operator.writes("known_hosts", f"[{address}]:2222 {key_of(jump)}\n")
        assert operator.logs_in(address, port=2222) == jump.name
    assert f"cannot reach root@[{address}]:2222: Connection refused" in operator.is_refused(address, port=2222).message


def test_one_of_several_known_keys(operator: Operator, jump: LabHost) -> None:
    """Whichever types known_hosts has, hashed or not, the server is asked for one of them."""
    sh(jump, "for t in rsa ecdsa; do ssh-keygen -q -t $t -N '' -f /etc/ssh/ssh_host_${t}_key <<<y >/dev/null; done")
    operator.has_key(jump)
    keys = [f"HostKey /etc/ssh/ssh_host_{kind}_key" for kind in ("ed25519", "rsa", "ecdsa")]
    with sshd_says(jump, *keys):
        for known in (["rsa"], ["ecdsa"], ["rsa", "ecdsa"], ["ed25519", "rsa", "ecdsa"]):
            names = HostKeys.hash_host(jump.address)
            operator.writes("known_hosts", "".join(f"{names} {key_of(jump, kind)}\n" for kind in known))
            assert operator.logs_in(jump.address) == jump.name, known
        stale = key_of(jump, "ecdsa").split()[0]
        other = operator.makes_key("other", "-t", "ecdsa").with_suffix(".pub").read_text().split()[1]
        operator.writes("known_hosts", f"{jump.address} {stale} {other}\n")
        assert "host key changed" in operator.is_refused(jump.address).message
        operator.writes("known_hosts", f"@revoked * {key_of(jump)}\n{jump.address} {key_of(jump)}\n")
        assert "is revoked (@revoked)" in operator.is_refused(jump.address).message


def test_a_certificate_authority_of_hosts(operator: Operator, jump: LabHost) -> None:
    """@cert-authority: a host with its certificate is known; not with one for others, one that is over, another's."""
    operator.has_key(jump)
    authority = operator.makes_key("authority")
    public = " ".join(authority.with_suffix(".pub").read_text().split()[:2])
    host_key = jump.root / "etc/ssh/ssh_host_ed25519_key.pub"
    certificate = host_key.with_name("ssh_host_ed25519_key-cert.pub")

    def sign(*options: str, by: Path = authority) -> None:
        certificate.unlink(missing_ok=True)
        keygen("-s", by, "-I", "jump", *options, host_key)

    with sshd_says(jump, "HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub"):
        operator.writes("known_hosts", f"@cert-authority 198.1*,!198.19.* {public}\n")
        for options, told in (
            (["-h", "-n", jump.address], ""),
            (["-h", "-n", "198.18.*"], ""),
            (["-h", "-n", "web.example.com"], f"it is for web.example.com, not for {jump.address}"),
            (["-h", "-n", jump.address, "-V", "-2d:-1d"], "it expired on 20"),
            (["-h", "-n", jump.address, "-V", "+1d:+2d"], "it is not valid before 20"),
        ):
            sign(*options)
            restart_sshd(jump)
            if told:
                assert f"does not count: {told}" in operator.is_refused(jump.address).message
            else:
                assert operator.logs_in(jump.address) == jump.name
        sign("-h", "-n", jump.address, by=operator.makes_key("stranger"))
        restart_sshd(jump)
        assert "unknown host key" in operator.is_refused(jump.address).message
        operator.writes("known_hosts", f"@cert-authority * {public}\n{jump.address} {key_of(jump)}\n")
        assert operator.logs_in(jump.address) == jump.name
        sign("-h", "-n", jump.address)
        restart_sshd(jump)
        operator.writes("known_hosts", f"@cert-authority * {public}\n@revoked * {public}\n")
        assert "is revoked" in operator.is_refused(jump.address).message


def test_keys_of_the_agent(operator: Operator, jump: LabHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is in the agent alone, among more than sshd wants to see; also one with nothing but its certificate."""
    operator.writes("known_hosts", f"{jump.address} {key_of(jump)}\n")
    own = operator.has_key(jump, "own")
    others = [operator.makes_key(f"other{number}") for number in range(7)]
    with agent(*others, own, monkeypatch=monkeypatch):
        public = operator.writes("own.pub", jump.key_file.with_suffix(".pub").read_text())
        own.rename(tmp_path / "own")
        error = operator.is_refused(jump.address)
        assert "too many authentication failures: it hung up after" in error.message
        assert "IdentitiesOnly" in error.hint
        assert operator.logs_in(jump.address, key=str(public)) == jump.name
        operator.writes("config", f"Host *\n  IdentityFile {public}\n  IdentitiesOnly yes\n")
        assert operator.logs_in(jump.address) == jump.name
        operator.writes("config", f"Host *\n  IdentityFile {others[0]}.pub\n  IdentitiesOnly yes\n")
        message = operator.is_refused(jump.address).message
        assert re.search(r"offered: \S+ \(agent\) SHA256:\S+$", message), "one key, and no more"
        operator.writes("config", f"Host *\n  IdentityAgent none\n  IdentityFile {public}\n")
        error = operator.is_refused(jump.address)
        assert f"{public} is a public key, and the agent does not have its private one" in error.message
        sock = os.environ["SSH_AUTH_SOCK"]
        monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere")
        operator.writes("config", f"Host *\n  IdentityAgent {sock}\n  IdentityFile {public}\n  IdentitiesOnly yes\n")
        assert operator.logs_in(jump.address) == jump.name


def test_a_key_on_a_security_key(operator: Operator, jump: LabHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """FIDO: by an agent, as only that can ask for the touch; a file of one alone is told as what it is."""
    operator.writes("known_hosts", f"{jump.address} {key_of(jump)}\n")
    with FidoAgent(operator.home / "agent.sock") as fido:
        keys = jump.root / "root/.ssh/authorized_keys"
        before = keys.read_text()
        keys.write_text(f"{before}{fido.public}\n")
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", fido.path)
            assert operator.logs_in(jump.address) == jump.name
            assert fido.signed == 1
        finally:
            keys.write_text(before)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    operator.writes("id_ed25519_sk", "-----BEGIN OPENSSH PRIVATE KEY-----\n")
    operator.writes("id_ed25519_sk.pub", f"{fido.public}\n")
    error = operator.is_refused(jump.address)
    assert (
        "id_ed25519_sk is a FIDO key (sk-ssh-ed25519@openssh.com), which only an agent can use: ssh-add"
        in error.message
    )


@pytest.fixture
def authority(operator: Operator, jump: LabHost) -> Iterator[Path]:
    """The key of an authority whose certificates let anybody log in."""
    operator.writes("known_hosts", f"{jump.address} {key_of(jump)}\n")
    key = operator.makes_key("authority")
    (jump.root / "etc/ssh/users.pub").write_text(key.with_suffix(".pub").read_text())
    with sshd_says(jump, "TrustedUserCAKeys /etc/ssh/users.pub"):
        yield key


def sign(authority: Path, key: Path, *options: str) -> Path:
    """Make the certificate of a key, beside it."""
    keygen("-s", authority, "-I", "ana", "-n", "root", *options, f"{key}.pub")
    return key.with_name(f"{key.name}-cert.pub")


def test_certificates_to_log_in_with(operator: Operator, jump: LabHost, authority: Path) -> None:
    """Beside the key, or named by ssh_config; one that is over is told, not just refused."""
    key = operator.makes_key("id_ed25519")
    assert "permission denied" in operator.is_refused(jump.address).message
    certificate = sign(authority, key)
    assert operator.logs_in(jump.address) == jump.name
    assert operator.logs_in(jump.address, key=str(key)) == jump.name
    sign(authority, key, "-V", "-2d:-1d")
    message = operator.is_refused(jump.address).message
    assert re.search(r"the certificate \S+id_ed25519-cert.pub expired on 20\d\d-", message)
    sign(authority, key)
    elsewhere = certificate.rename(operator.home / "elsewhere-cert.pub")
    operator.writes("config", f"Host *\n  CertificateFile {elsewhere}\n")
    assert operator.logs_in(jump.address) == jump.name
    key.unlink()
    message = operator.is_refused(jump.address).message
    assert f"{elsewhere}: neither the agent nor an IdentityFile has the key of this certificate" in message


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_certificates_in_the_agent(
    operator: Operator, jump: LabHost, authority: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their keys or alone, among others, by themselves or by an IdentityFile or CertificateFile that is public."""
    key = operator.makes_key("own", "-t", kind)
    certificate = sign(authority, key)
    with agent(operator.makes_key("other"), key, monkeypatch=monkeypatch):
        key.unlink()
        moved = certificate.rename(operator.home / "c-cert.pub")
        assert operator.logs_in(jump.address) == jump.name
        operator.writes("config", f"Host *\n  IdentitiesOnly yes\n  IdentityFile {key}.pub\n")
        assert operator.logs_in(jump.address) == jump.name
        subprocess.run(["ssh-add", "-q", "-d", f"{key}.pub"], check=True, capture_output=True)
        held = subprocess.run(["ssh-add", "-l"], check=True, capture_output=True, text=True).stdout
        assert [line.split()[-1] for line in held.splitlines()] == ["(ED25519)", f"({kind.upper()}-CERT)"]
        assert operator.logs_in(jump.address) == jump.name
        operator.writes("config", "")
        assert operator.logs_in(jump.address) == jump.name
    key = operator.makes_key("third", "-t", kind)
    with agent(key, monkeypatch=monkeypatch):
        moved = sign(authority, key).rename(operator.home / "d-cert.pub")
        key.unlink()
        assert "permission denied" in operator.is_refused(jump.address).message
        operator.writes("config", f"Host *\n  CertificateFile {moved}\n")
        assert operator.logs_in(jump.address) == jump.name


def test_what_else_sshd_may_want(operator: Operator, jump: LabHost) -> None:
    """A second factor, no keys at all, a password for whoever has no key there, ciphers of another time."""
    operator.writes("known_hosts", f"{jump.address} {key_of(jump)}\n")
    key = operator.has_key(jump)
    two = ("KbdInteractiveAuthentication yes", "AuthenticationMethods publickey,keyboard-interactive")
    for lines, told in (
        (two, "it takes the key, and then wants keyboard-interactive too; deploys need a key alone"),
        (("PubkeyAuthentication no", "PasswordAuthentication yes"), "it takes no keys, only password (PubkeyAuth"),
        (("KexAlgorithms sntrup761x25519-sha512@openssh.com",), "no matching key exchange, cipher or host key type: "),
        (("DenyUsers root",), "permission denied (publickey), offered: "),
    ):
        with sshd_says(jump, *lines):
            assert told in operator.is_refused(jump.address).message
    key.unlink()
    assert "there is no key to offer" in operator.is_refused(jump.address).message
    other = operator.makes_key("id_ed25519")
    with sshd_says(jump, "PasswordAuthentication yes", "PermitRootLogin yes"):
        error = operator.is_refused(jump.address)
    assert f"permission denied (publickey,password), offered: {other} SHA256:" in error.message
    assert error.hint == f"ssh-copy-id root@{jump.address}; else: ssh root@{jump.address}"


def test_an_encrypted_key(operator: Operator, jump: LabHost, tmp_path: Path) -> None:
    """The passphrase is asked for in a terminal; without one, it is said what to do."""
    key = operator.has_key(jump)
    keygen("-p", "-N", "correct horse", "-f", key)
    operator.writes("known_hosts", f"{jump.address} {key_of(jump)}\n")
    assert (
        f"{key} is encrypted, and there is no terminal to ask for its passphrase: ssh-add"
        in operator.is_refused(jump.address).message
    )
    site = Site(jump, tmp_path, settings={"key": str(key), "user": "root"})
    with terminal(site, "lock") as fab:
        fab.expect(f"Enter passphrase for key '{key}':")
        fab.type("wrong\n")
        fab.expect("Enter passphrase")
        fab.type("correct horse\n")
        text = fab.expect("provisioned")
    assert "no /srv/consult that this user may write: it was not provisioned" in text
    assert "correct horse" not in text


@contextmanager
def terminal(site: Site, *words: str) -> Generator[Terminal]:
    """Run `fab` at a terminal to its end."""
    with at_terminal(lambda end: site.start_raw("-H", site.name, *words, terminal=end)) as fab:
        yield fab
        fab.end()


def test_the_first_contact(operator: Operator, jump: LabHost, tmp_path: Path) -> None:
    """Nobody needs ssh-keyscan: provision takes a fingerprint, or asks; other verbs refuse what is unknown."""
    site = Site(jump, tmp_path, settings={"known_hosts": str(operator.ssh / "known"), "user": "root"})
    finger = subprocess.run(
        ["ssh-keygen", "-lf", jump.root / "etc/ssh/ssh_host_ed25519_key.pub"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[1]
    error = site.fab("status", "--json").expect(3).json
    assert f"--accept-host-key {finger}" in error["suggestions"][0]
    assert (
        "unknown host key"
        in site.fab("provision", "--json", "--accept-host-key", "SHA256:" + "x" * 43).expect(3).json["error"]
    )
    assert (
        "is no fingerprint" in site.fab("provision", "--json", "--accept-host-key", "nonsense").expect(2).json["error"]
    )
    assert not (operator.ssh / "known").exists()
    with terminal(site, "provision", "--accept-host-key", "SHA256:" + "x" * 43) as fab:
        assert "yes/no" not in fab.expect("unknown host key"), "who names a key is not asked about another"
    with terminal(site, "provision") as fab:
        fab.expect(f"its ssh-ed25519 key is {finger}")
        fab.expect("yes/no")
        fab.type("no\n")
        fab.expect("unknown host key")
    assert not (operator.ssh / "known").exists()
    with terminal(site, "provision") as fab:
        fab.expect("yes/no")
        fab.type("yes\n")
        fab.expect(f"{jump.address} is known from now on, in {operator.ssh}/known")
        fab.expect("next: ")  # there is no token
    assert (operator.ssh / "known").read_text() == f"{jump.address} {key_of(jump)}\n"
    site.fab("provision", "--json", "--accept-host-key", finger).expect(4)
    (operator.ssh / "known").unlink()
    site.fab("provision", "--json", "--accept-host-key", finger).expect(4)
    assert (operator.ssh / "known").read_text() == f"{jump.address} {key_of(jump)}\n"


@pytest.fixture
def locked_out(inner: LabHost, tmp_path: Path) -> Iterator[Site]:
    """A provisioned site by its own cable, of which somebody has taken away keys and rights that provision gives."""
    join_network(inner)
    site = Site(inner, tmp_path)
    sh(inner, f"rm {KEYS} {SUDOERS}")
    try:
        yield site
    finally:
        site.settings.clear()
        site.provision().expect(0)
        cut_network(inner)


def logins(host: LabHost) -> str:
    """What decides who may log in, and what would change it by itself."""
    clocks = "systemctl list-timers --all --no-legend consult-django-logins.timer; ls -d /run/consult-django-logins*"
    return sh(host, f"cat {KEYS} {SUDOERS}; {{ {clocks}; }} || true")


def test_provision_sees_that_deploy_may_log_in(locked_out: Site) -> None:
    """Where sshd does not let it in, what was changed of logins is back as it was, and why is said."""
    host = locked_out.host
    sh(host, f"echo '# from before' >{SUDOERS}; chmod 440 {SUDOERS}")
    sh(host, f"install -o deploy -g deploy -m 600 /dev/null {KEYS}")
    before = logins(host)
    with sshd_says(host, "DenyUsers deploy"):
        document = locked_out.provision().expect(4).json
    assert re.match(rf"{host.name}: authentication failed for deploy@\S+: permission denied", document["error"])
    assert document["error"].endswith("So what this run had changed of logins is back as it was")
    assert logins(host) == before
    assert f"changed: {SUDOERS}"[9:] in locked_out.provision().expect(0).json["changes"]
    assert logins(host).count("ssh-ed25519 ") == 1
    assert "logins.timer" not in logins(host)


def test_provision_sees_that_admin_is_root_still(locked_out: Site) -> None:
    """One whose rights stood in the file that provision writes has them again."""
    host = locked_out.host
    locked_out.settings["admin"] = "ana"
    sh(host, "useradd --create-home --shell /bin/bash ana; cp -r /root/.ssh /home/ana/; chown -R ana: /home/ana/.ssh")
    sh(host, f"echo 'ana ALL=(ALL) NOPASSWD: ALL' >{SUDOERS}; chmod 440 {SUDOERS}")
    document = locked_out.provision().expect(4).json
    assert document["error"].endswith("So what this run had changed of logins is back as it was")
    assert sh(host, f"cat {SUDOERS}") == "ana ALL=(ALL) NOPASSWD: ALL\n"
    assert not (host.root / KEYS[1:]).exists()
    assert sh(host, "runuser -u ana -- sudo -n id -u") == "0\n"


def test_a_provision_that_is_cut_before_logins_were_seen(locked_out: Site) -> None:
    """The host puts them back by itself, a while later; a run before that knows what they were."""
    host, settings = locked_out.host, sample(**locked_out.host_settings())
    before = logins_of_nobody(host)
    for _ in range(2):
        with connect(Host(host.name, "test", settings).as_admin()) as connection, connection.runner() as runner:
            staging.send(settings, runner, rendering.files(settings))
            runner.run(server.let_in(settings))
    assert "ssh-ed25519 " in (host.root / KEYS[1:]).read_text()
    assert "consult-django-logins.timer" in logins(host)
    sh(host, "systemctl start consult-django-logins.service")
    wait_for(lambda: execute(host, "test", "-e", "/run/consult-django-logins").returncode == 1)
    assert logins_of_nobody(host) == before


def logins_of_nobody(host: LabHost) -> list[bool]:
    """Which of the files are there."""
    return [(host.root / path[1:]).exists() for path in (KEYS, SUDOERS)]


def test_who_may_not_deploy_may_provision(locked_out: Site) -> None:
    """Where authorized_keys names others, a login as deploy cannot be seen, and that is said."""
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPuAdv27xjUqhy9xcJdWl6lYLqwdySwM95ZkEPGhwPSz ci"
    locked_out.settings["authorized_keys"] = [other]
    result = locked_out.provision().expect(0)
    assert "not seen: a login as deploy; authorized_keys has none of your keys" in result.err
    assert (locked_out.host.root / KEYS[1:]).read_text() == f"{other}\n"
