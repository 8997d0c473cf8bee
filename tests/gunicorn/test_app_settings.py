"""The app's own settings keep their say; what the service decides stays decided."""

import os
import signal
import subprocess

import pytest

from tests.gunicorn.servers import Server, wait_for

VERSIONS = ["20.1.0", "23.0.0", "newest"]

HOOKS = """
import os
from pathlib import Path
TOLD = Path({told!r})
HERE = Path(__file__).resolve().parents[1].name

def tell(name):
    with TOLD.open("a") as file:
        file.write(f"{{name}} {{HERE}} {{os.getcwd()}}\\n")

def on_starting(server): tell("on_starting")
def when_ready(server): tell("when_ready")
def on_reload(server): tell("on_reload"); raise ValueError("a hook of the app fails")
def pre_fork(server, worker): tell("pre_fork")
def post_fork(server, worker):
    import editable
    tell("post_fork " + editable.TEXT)
def post_worker_init(worker): tell("post_worker_init")
def child_exit(server, worker): tell("child_exit"); raise ValueError("a hook of the app fails")
def worker_exit(server, worker): tell("worker_exit")
def on_exit(server): tell("on_exit")
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_hooks_of_the_app_are_called_too(make_server, version: str):
    """Every hook of the app runs, from the release that is being loaded, and a failing one takes nothing down."""
    server: Server = make_server(version)
    told = server.root / "told"
    for name in ("one", "two"):
        server.release(name, conf=HOOKS.format(told=str(told)))
    server.link("one")
    server.start()
    server.deploy("two")
    server.wait_served_by("two")
    assert server.stop() < 5
    lines = told.read_text().splitlines()
    names = {line.split()[0] for line in lines}
    assert names == {"on_starting", "when_ready", "on_reload", "pre_fork", "post_fork", "post_worker_init",
                     "child_exit", "worker_exit", "on_exit"}  # fmt: skip
    web = server.releases / "two/web"
    assert f"post_fork editable of two two {web}" in lines
    assert f"post_fork editable of one one {server.releases / 'one/web'}" in lines
    assert f"post_worker_init two {web}" in lines


BUSY_STDERR = """
import sys, traceback

class Busy:
    def write(self, text):
        if any(frame.f_code.co_name == "reap_workers" for frame, _ in traceback.walk_stack(None)):
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    def flush(self):
        pass

def when_ready(server):
    sys.stderr = server.log.error_log.handlers[0].stream = Busy()

def child_exit(server, worker):
    1 / 0
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_worker_whose_end_cannot_be_logged_leaves_no_mark(make_server, version: str):
    """Older versions of gunicorn reap workers in a signal handler, where stderr may be busy."""
    server: Server = make_server(version)
    server.release("one", conf=BUSY_STDERR)
    server.link("one")
    server.start()
    server.wait_served_by("one")
    victim = min(server.workers())
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in server.workers())
    server.wait_served_by("one")
    assert len(server.up()) == 2
    assert server.master.poll() is None


@pytest.mark.parametrize("version", VERSIONS)
def test_settings_of_the_app_are_taken_but_not_those_of_the_service(make_server, version: str):
    """Workers, timeouts and the like are the app's; address, folder and user are the service's."""
    server: Server = make_server(version)
    conf = (
        "workers = 3\nmax_requests = 7\ntimeout = 17\nproc_name = 'shop'\n"
        "bind = '127.0.0.1:1'\nchdir = '/'\npidfile = '/nowhere/pid'\ndaemon = True\nuser = 'nobody'\ngroup = 1\n"
        "reuse_port = True\nuseless = 1\n"
    )
    server.release("one", conf=conf, workers=None)
    server.link("one")
    server.start("--log-level", "debug")
    server.wait_served_by("one", count=3)
    said = server.said()
    assert "  max_requests: 7\n" in said
    assert "  timeout: 17\n" in said
    assert "  proc_name: shop\n" in said
    assert "  reuse_port: False\n" in said
    assert "  daemon: False\n" in said
    assert "  pidfile: None\n" in said
    assert server.master.poll() is None


@pytest.mark.parametrize(
    ("hosts_toml", "app", "environment", "expected"),
    [
        (1, "workers = 3", {}, 1),
        (None, "workers = 3", {"WEB_CONCURRENCY": "4"}, 3),
        (None, "", {"WEB_CONCURRENCY": "4"}, 4),
        (None, "", {}, 2),
    ],
)
def test_the_number_of_workers(server: Server, hosts_toml: int | None, app: str, environment: dict, expected: int):
    """hosts.toml decides, then the app, then $WEB_CONCURRENCY, then 2."""
    server.release("one", conf=app, workers=hosts_toml)
    server.link("one")
    server.start(**environment)
    server.wait_served_by("one", count=expected)


def test_the_settings_at_the_top_of_the_repository_count_as_well(server: Server):
    """A gunicorn.conf.py at the root of the release is found, and the graceful timeout of hosts.toml wins."""
    release = server.release("one", graceful_timeout=11)
    (release / "gunicorn.conf.py").write_text("timeout = 18\ngraceful_timeout = 12\n")
    server.link("one")
    server.start("--log-level", "debug")
    assert "  timeout: 18\n" in server.said()
    assert "  graceful_timeout: 11\n" in server.said()


@pytest.mark.parametrize("version", VERSIONS)
def test_no_control_socket_is_opened(make_server, version: str):
    """gunicorn 25.1 and newer put one into $HOME, which the service cannot write."""
    server: Server = make_server(version)
    server.release("one")
    server.link("one")
    server.start("--log-level", "debug")
    if version == "newest":
        wait_for(lambda: "Control socket disabled" in server.said(), 3)
    assert not (server.root / ".gunicorn").exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_no_name_of_ours_is_a_setting_by_accident(make_server, version: str):
    """gunicorn takes every global name of the file that it knows as a setting."""
    server: Server = make_server(version)
    release = server.release("one", graceful_timeout=11)
    code = (
        "import runpy, sys\nfrom gunicorn.config import KNOWN_SETTINGS\n"
        "names = runpy.run_path(sys.argv[1])\n"
        "print(*sorted({s.name for s in KNOWN_SETTINGS} & set(names) - {'control_socket_disable'}))"
    )
    command = [release / ".venv/bin/python", "-c", code, release / ".deploy/gunicorn.conf.py"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert names == ["child_exit", "graceful_timeout", "on_exit", "on_reload", "on_starting", "post_fork",
                     "post_worker_init", "when_ready", "workers"]  # fmt: skip
