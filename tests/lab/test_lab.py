"""The lab on a real host: what a deploy finds there, and that nothing of it stays behind."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from fabfile.errors import ConfigError
from testbed.lab import (
    LabHost,
    Repository,
    boot,
    cut_network,
    down,
    execute,
    find,
    halt,
    join_network,
    power_cut,
    running,
    set_secrets,
    ssh_command,
    standing_on,
    up,
)
from testbed.lab.machine import cgroup_mounts, memory_is_roomy

pytestmark = pytest.mark.lab

SERVER_THAT_HANGS = """
import os, socket, subprocess, sys, time
s = socket.create_server(("127.0.0.1", 0))
api = f"http://127.0.0.1:{s.getsockname()[1]}"
doppler = subprocess.Popen(["doppler", "run", "--api-host", api, "--", "true"])
s.accept()
os.kill(doppler.pid, 15)
print(doppler.wait())
"""


def quiet(_text: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    """One host for the whole file."""
    down("lab-t1", say=quiet)
    try:
        yield up("lab-t1", say=quiet)
    finally:
        down("lab-t1", say=quiet)


def ssh(host: LabHost, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command over SSH with the host's own keys."""
    options = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=2")
    argv = [*ssh_command(host)[:1], *options, *ssh_command(host)[1:], command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def sh(host: LabHost, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script as root on the host, with its Doppler token and a HOME."""
    token = f"export DOPPLER_TOKEN={host.doppler_token} HOME=/root\ncd\n"
    return execute(host, "bash", "-c", token + script)


@contextmanager
def doppler_down(host: LabHost) -> Generator[None]:
    """Doppler's API refuses connections meanwhile."""
    assert execute(host, "systemctl", "stop", "lab-doppler-api").returncode == 0
    try:
        yield
    finally:
        assert execute(host, "systemctl", "start", "lab-doppler-api").returncode == 0


def traces(name: str) -> list[str]:
    """Everything on this machine that bears a host's name, or its address."""
    found = []
    for table in (["ip", "netns"], ["ip", "-o", "link"], ["ip", "-o", "-4", "address"]):
        lines = subprocess.run(table, capture_output=True, text=True, check=True).stdout.splitlines()
        found += [line for line in lines if name in line]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if name in line]
    for pattern in ("var/lib/django-deploy-lab/*", "run/django-deploy-lab/*", "run/systemd/nspawn/*/*"):
        found += [str(path) for path in Path("/").glob(pattern) if name in path.name]
    for mount in cgroup_mounts():
        found += [str(path) for path in mount.glob(f"django-deploy-lab/*{name}*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            group = (process / "cgroup").read_text()
        except OSError:
            continue
        # Without a command line it is dead, and waits only for this machine's PID 1 to notice.
        if command and (f"ddl-{name}" in command or f"/{name}/" in group):
            found.append(f"{process.name} {command}")
    return found


def network_device(host: LabHost) -> str:
    """This machine's end of the host's cable."""
    lines = subprocess.run(["ip", "-o", "-4", "route", "get", host.address], capture_output=True, text=True, check=True)
    return lines.stdout.split(" dev ")[1].split()[0]


def test_systemd_runs_and_ssh_takes_the_pinned_key(host: LabHost) -> None:
    """A host that `up` returns is complete: all units started, and SSH lets the key in as root."""
    answer = ssh(host, "id -un; hostname; systemctl is-system-running; cat /proc/1/comm")
    assert answer.stdout.split() == ["root", "lab-t1", "running", "systemd"], answer.stderr


def test_ssh_refuses_another_host_key(host: LabHost, tmp_path: Path) -> None:
    """The known_hosts file pins: with another host's key in it nobody gets in."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    key = (tmp_path / "other.pub").read_text().split()[:2]
    (tmp_path / "known_hosts").write_text(f"{host.address} {' '.join(key)}\n")
    options = ["-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={tmp_path / 'known_hosts'}"]
    command = [*ssh_command(host)[:1], *options, *ssh_command(host)[1:], "true"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in answer.stderr


def test_ssh_takes_no_password(host: LabHost) -> None:
    """Keys are the only way in."""
    answer = subprocess.run(
        [*ssh_command(host), "-o", "BatchMode=yes", "-o", "PubkeyAuthentication=no", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Permission denied (publickey)" in answer.stderr


def test_the_package_registries_are_in_reach(host: LabHost) -> None:
    """The way out works, TLS included."""
    answer = sh(host, "uv pip install --quiet --target /tmp/packages iniconfig && ls /tmp/packages")
    assert "iniconfig" in answer.stdout.split(), answer.stderr


def test_up_returns_the_host_that_runs(host: LabHost) -> None:
    """A second `up` changes nothing, and another image under the same name is refused."""
    assert up("lab-t1", say=quiet) == host == find("lab-t1")
    assert host in running()
    with pytest.raises(ConfigError, match="there already, as bookworm ready, not bookworm bare"):
        up("lab-t1", image="bare", say=quiet)


def test_doppler_gives_the_secrets_and_adds_nothing(host: LabHost) -> None:
    """The command's environment is ours and the secrets, no more."""
    plain = dict(line.split("=", 1) for line in sh(host, "env").stdout.splitlines())
    under = dict(line.split("=", 1) for line in sh(host, "doppler run -- env").stdout.splitlines())
    assert set(under) - set(plain) == {
        *("ALLOWED_HOSTS", "DATABASE_URL", "SECRET_KEY"),
        *("DOPPLER_CONFIG", "DOPPLER_ENVIRONMENT", "DOPPLER_PROJECT"),
    }
    assert sh(host, "doppler --version").stdout == "v3.76.0\n"


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("sh -c 'exit 7'", 7), ("sh -c 'kill -9 $$'", 255)])
def test_doppler_exits_with_the_code_of_its_child(host: LabHost, command: str, code: int) -> None:
    """The child's code, or 255 if a signal killed it."""
    assert sh(host, f"doppler run -- {command}").returncode == code


@pytest.mark.parametrize("name", ["HUP", "TERM", "INT", "USR2", "TTIN", "WINCH"])
def test_doppler_forwards_signals(host: LabHost, name: str) -> None:
    """What doppler gets, its child gets, and doppler lives on until the child ends."""
    script = f"""cat > /tmp/child <<'END'
trap 'echo got {name}; exit 3' {name}; echo ready; for i in $(seq 100); do sleep 0.05; done
END
    coproc env --default-signal={name} doppler run -- bash /tmp/child
    exec 8<&"${{COPROC[0]}}"; pid=$COPROC_PID; read -r ready <&8
    kill -{name} $pid; cat <&8; wait $pid; echo $?"""
    assert sh(host, script).stdout.splitlines() == [f"got {name}", "3"]


def test_doppler_dies_of_a_signal_while_it_fetches(host: LabHost) -> None:
    """There is no child yet to forward it to."""
    script = f"cat > /tmp/hangs.py <<'END'\n{SERVER_THAT_HANGS}\nEND\npython3 /tmp/hangs.py"
    assert sh(host, script).stdout == f"{-signal.SIGTERM}\n"


def test_doppler_passes_descriptors_but_keeps_its_own_listen_pid(host: LabHost) -> None:
    """LISTEN_PID names doppler and not its child, so the child has to set it again."""
    script = """cat > /tmp/child <<< 'echo $LISTEN_FDS $((LISTEN_PID == PPID)); cat <&3'
    cat > /tmp/systemd <<< 'export LISTEN_FDS=1 LISTEN_PID=$$; exec doppler run -- bash /tmp/child'
    bash /tmp/systemd 3<<< 'through fd 3'"""
    assert sh(host, script).stdout.splitlines() == ["1 1", "through fd 3"]


def test_doppler_wants_a_token_a_home_and_a_readable_folder(host: LabHost) -> None:
    """Each is told, with exit code 1."""
    for script, message in (
        ("unset DOPPLER_TOKEN; doppler run -- true", "Doppler Error: you must provide a token"),
        ("unset HOME; doppler run -- true", "$HOME is not defined"),
        ("HOME=/proc doppler run -- true", "mkdir /proc/.doppler"),
        (
            "cd /root; HOME=/tmp setpriv --reuid nobody --clear-groups doppler run -- true",
            "permission denied",
        ),
        ("doppler run -- no-such-command", "executable file not found"),
    ):
        answer = sh(host, script)
        assert (answer.returncode, message in answer.stderr) == (1, True), (script, answer)
    assert sh(host, "unset HOME; doppler run --config-dir /tmp/doppler -- true").returncode == 0


def test_doppler_falls_back_when_the_api_is_down(host: LabHost) -> None:
    """With the file of an earlier run it works; without one, or when told not to, it does not."""
    assert sh(host, "rm -rf .doppler; doppler run -- true").returncode == 0
    found = sh(host, "find .doppler/fallback -type f -printf '%m\n'; grep -r consult .doppler")
    assert found.stdout == "600\n", "one file, of its owner alone, in which no secret can be read"
    with doppler_down(host):
        answer = sh(host, "doppler run --attempts 1 -- printenv DOPPLER_PROJECT")
        assert (answer.returncode, answer.stdout) == (0, "consult\n")
        assert sh(host, "doppler run --attempts 1 --no-fallback -- true").returncode == 1
        assert sh(host, "rm -r .doppler; doppler run --attempts 1 -- true").returncode == 1


def test_doppler_retries(host: LabHost) -> None:
    """By default it is still trying after 2 s, and works when the API comes back meanwhile."""
    script = """systemctl stop lab-doppler-api; rm -rf .doppler
    (sleep 2; systemctl start lab-doppler-api) & doppler run -- printenv DOPPLER_PROJECT"""
    assert sh(host, script).stdout == "consult\n"


def test_doppler_forgets_its_fallback_when_the_token_is_refused(host: LabHost) -> None:
    """A token that was revoked gets nothing any more, not even from the file."""
    tokens = host.root / "srv/lab/doppler/tokens"
    before = tokens.read_text()
    assert sh(host, "rm -rf .doppler; doppler run -- true").returncode == 0
    tokens.write_text("another\n")
    try:
        answer = sh(host, "doppler run -- true")
    finally:
        tokens.write_text(before)
    assert (answer.returncode, "Doppler Error: Invalid Service token" in answer.stderr) == (1, True)
    assert sh(host, "find .doppler -type f").stdout == ""


def test_secrets_change_at_once(host: LabHost) -> None:
    """The next run sees what `set_secrets` did, though it has the answer of the last one cached."""
    set_secrets(host, GREETING="hello", DOPPLER_ENVIRONMENT=None)
    answer = sh(host, "doppler run -- sh -c 'echo $GREETING-$DOPPLER_ENVIRONMENT-'")
    set_secrets(host, GREETING=None, DOPPLER_ENVIRONMENT="lab")
    assert answer.stdout == "hello--\n"
    assert sh(host, "doppler run -- printenv GREETING DOPPLER_ENVIRONMENT").stdout == "lab\n"


def test_the_database_lets_the_application_in(host: LabHost) -> None:
    """DATABASE_URL is good for making tables, in UTF-8."""
    script = """doppler run -- sh -c 'exec psql -At "$DATABASE_URL"' <<'END'
    create table t (x text); insert into t values ('käse'); select x, length(x) from t; drop table t;\nEND"""
    assert "käse|4" in sh(host, script).stdout.splitlines()


def test_the_git_server_serves_what_the_repository_commits(host: LabHost) -> None:
    """A commit made from outside is there for the next clone: changed, new, deleted, executable, tagged."""
    repository = Repository(host)
    first = repository.sha()
    second = repository.commit({"a/new file.txt": "one\n", "run": "#!/bin/sh\n", "raw": b"\x00\xff"}, "Add")
    third = repository.commit({"a/new file.txt": "two\n", "raw": None}, "Change")
    repository.tag("v1", second)
    side = repository.commit({"side": ""}, branch="side", base=first)
    script = f"""rm -rf c; git clone -q {repository.url} c; cd c
    git log --format=%H -3 main; git diff --name-status {first} main
    cat 'a/new file.txt'; test -x run && echo x
    git rev-parse v1 origin/side origin/side~"""
    assert sh(host, script).stdout.split("\n") == [
        *(third, second, first),
        *("A\ta/new file.txt", "A\trun", "two", "x"),
        *(second, side, first, ""),
    ]
    assert repository.read("a/new file.txt", "v1") == "one\n"
    with pytest.raises(ConfigError, match="cat-file"):
        repository.read("nothing")


def test_a_power_cut_keeps_files_address_and_keys(host: LabHost) -> None:
    """What was written is there after the next boot; what was running is not."""
    sh(host, "echo kept > /root/file; echo gone > /tmp/file; systemctl disable --now nginx")
    power_cut(host)
    assert find("lab-t1") is None
    assert ssh(host, "true").returncode == 255
    again = boot(host)
    assert (again.address, again.known_hosts) == (host.address, host.known_hosts)
    answer = ssh(again, "cat /root/file; ls /tmp/file; systemctl is-active nginx ssh lab-git lab-doppler-api")
    assert answer.stdout.split() == ["kept", "inactive", "active", "active", "active"]
    assert up("lab-t1", say=quiet) == again


def test_the_network_can_be_cut_and_joined() -> None:
    """Without the cable nobody comes in; with it again everything is as before."""
    host = find("lab-t1")
    assert host
    cut_network(host)
    assert ssh(host, "true").returncode == 255
    join_network(host)
    assert ssh(host, "echo back").stdout == "back\n"


def test_hosts_of_their_own_side_by_side() -> None:
    """Two hosts made at the same moment, one asked for twice, do not meet; both go without a trace."""
    names = ("lab-t2", "lab-t3", "lab-t3")
    try:
        with ThreadPoolExecutor() as pool:
            two, three, same = pool.map(lambda name: up(name, image="bare", say=quiet), names)
        assert three == same
        assert not {two.address, two.doppler_token, two.pid} & {three.address, three.doppler_token, three.pid}
        assert [ssh(host, "hostname").stdout for host in (two, three)] == ["lab-t2\n", "lab-t3\n"]
        groups = {Path(f"/proc/{host.pid}/cgroup").read_text() for host in (two, three)}
        assert len(groups) == 2, "two systemds in one cgroup would end each other's services"
        devices = [network_device(host) for host in (two, three)]
    finally:
        for name in set(names):
            down(name, say=quiet)
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert not [device for device in devices if f" {device}@" in links]
    assert [trace for name in set(names) for trace in traces(name)] == []


@pytest.mark.parametrize("memory", [False, True], ids=["disk", "memory"])
def test_a_halted_host_is_the_base_of_others(memory: bool) -> None:
    """A copy has its files and lets the same client in, by a name and host key of its own; the base stays as it is."""
    try:
        base = up("lab-t2", image="bare", memory=memory, say=quiet)
        assert base.root.parent.is_mount() == (memory and memory_is_roomy())
        sh(base, "echo of the base >/root/file")
        with pytest.raises(ConfigError, match="no lab host that was halted"):
            up("lab-t3", base="lab-t2", say=quiet)
        halt(base)
        copy = up("lab-t3", base="lab-t2", memory=memory, say=quiet)
        assert ssh(copy, "hostname; cat /root/file; echo of the copy >/root/file").stdout == "lab-t3\nof the base\n"
        assert copy.address != base.address
        assert copy.known_hosts.read_text().split()[1:] != base.known_hosts.read_text().split()[1:]
        assert standing_on("lab-t2") == ["lab-t3"]
        with pytest.raises(ConfigError, match="lab-t3 stand on its disk"):
            boot(base)
        down("lab-t3", say=quiet)
        assert ssh(boot(base), "cat /root/file").stdout == "of the base\n"
    finally:
        for name in ("lab-t3", "lab-t2"):
            down(name, say=quiet)
    assert [trace for name in ("lab-t2", "lab-t3") for trace in traces(name)] == []


def test_a_bare_host_has_nothing_that_provision_installs() -> None:
    """No nginx, git, uv or sudo, but sshd and Doppler; the git server waits for git."""
    try:
        host = up("lab-t2", image="bare", say=quiet)
        assert sh(host, "command -v nginx git uv sudo psql curl").stdout == ""
        assert ssh(host, f"DOPPLER_TOKEN={host.doppler_token} doppler run -- printenv DOPPLER_PROJECT").stdout
        assert sh(host, "systemctl is-active lab-git.path lab-git.service").stdout.split() == [
            "active",
            "inactive",
        ]
    finally:
        down("lab-t2", say=quiet)


def test_down_cleans_up_after_a_crash() -> None:
    """With systemd-nspawn killed its host lives on as an orphan; `down` finds it all the same."""
    host = up("lab-t2", image="bare", say=quiet)
    disk, status = host.root.stat(), Path(f"/proc/{host.pid}/status").read_text()
    engines_lock = Path(f"/run/systemd/nspawn/locks/inode-{disk.st_dev}:{disk.st_ino}")
    assert engines_lock.exists()
    nspawn = int(next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1])
    os.kill(nspawn, signal.SIGKILL)
    assert Path(f"/proc/{host.pid}").exists()
    assert traces("lab-t2"), "the traces that are looked for below can be seen"
    down("lab-t2", say=quiet)
    assert traces("lab-t2") == []
    assert not engines_lock.exists()


@pytest.mark.parametrize("moment", ["furnish", "network", "boot"])
def test_what_was_cut_short_is_made_anew(moment: str) -> None:
    """kill -9 while a host is being made: the next `up` makes it whole, and `down` leaves nothing."""
    death = {
        "furnish": "furnish._install_services = die",
        "network": "network._open_way_out = die",
        "boot": "host._wait = die",
    }[moment]
    script = f"""if True:
        import os
        from testbed.lab import furnish, host, network
        die = lambda *a: os.kill(os.getpid(), 9)
        {death}
        host.up("lab-t2", image="bare", say=lambda text: None)"""
    cut = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert cut.returncode == -signal.SIGKILL, cut.stderr
    try:
        host = up("lab-t2", image="bare", say=quiet)
        assert ssh(host, "hostname").stdout == "lab-t2\n"
    finally:
        down("lab-t2", say=quiet)
    assert traces("lab-t2") == []


def test_down_of_nothing_says_so() -> None:
    """Taking down what is not there is no trouble, says that it was not there and leaves no thread."""
    before = set(threading.enumerate())
    said: list[str] = []
    down("lab-t9", say=said.append)
    assert said == ["there is no lab host lab-t9"]
    assert set(threading.enumerate()) <= before
