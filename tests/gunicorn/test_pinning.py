"""Each worker sees one release, by its real path: its code, its packages, its editable members."""

import ast
import os
import shutil
import signal
import subprocess

import pytest

from tests.gunicorn.servers import PYTHON, Server, get, wait_for


def world(server: Server) -> dict:
    return ast.literal_eval(server.get("/world").body)


@pytest.mark.parametrize("worker_class", ["sync", "gthread", "gevent"])
@pytest.mark.parametrize("version", ["20.1.0", "23.0.0", "newest"])
def test_hup_alone_brings_code_packages_and_editable_members(make_server, version: str, worker_class: str):
    """Nothing of the old release is left in a worker, and the old release can be deleted."""
    server: Server = make_server(version)
    old, new = server.release("one"), server.release("two")
    server.link("one")
    server.start("--worker-class", worker_class, "--threads", "2", VIRTUAL_ENV=str(server.app / ".venv"))
    assert world(server)["greeting"] == "greeting of one"
    assert server.get("/import/editable").body == "editable of one"
    server.deploy("two")
    server.wait_served_by("two")
    shutil.rmtree(old)
    seen = world(server)
    assert seen["greeting"] == "greeting of two"
    assert server.get("/import/editable").body == "editable of two"
    assert server.get("/import/lazy").body == "lazy of two"
    assert seen["cwd"] == seen["path"][0] == str(new / "web")
    assert seen["prefix"] == seen["virtual_env"] == str(new / ".venv")
    assert seen["executable"] == str(new / ".venv/bin/python")
    assert seen["search"].split(":")[0] == str(new / ".venv/bin")
    assert not [path for path in seen["path"] if path.startswith((str(old), str(server.app)))]
    # Workers that the master forks later are as whole.
    os.kill(min(server.workers()), signal.SIGKILL)
    server.wait_served_by("two")


def test_an_old_worker_keeps_to_its_release_after_the_switch(server: Server):
    """What an old worker imports late comes from its own release, wherever the link points by then."""
    server.release("one")
    server.release("two")
    server.link("one")
    server.start("--workers", "1")
    server.link("two")
    assert server.get("/import/lazy").body == "lazy of one"
    assert server.get("/import/editable").body == "editable of one"


def test_releases_behind_a_symbolic_link_are_known_by_both_names(server: Server):
    """A data disk mounted elsewhere and linked changes nothing."""
    link = server.root / "linked"
    link.symlink_to(server.releases)
    server.release("one", releases_path=str(link))
    server.release("two", releases_path=str(link))
    server.link("one")
    server.start()
    server.deploy("two")
    server.wait_served_by("two")
    assert server.get("/import/editable").body == "editable of two"


def test_editable_installs_with_import_hooks_follow_the_release(server: Server):
    """setuptools installs some projects by a finder with fixed paths, which the master has already imported."""
    for name in ("one", "two"):
        release = server.release(name)
        project = release / "project"
        (project / "member").mkdir(parents=True)
        (project / "member/__init__.py").write_text(f"TEXT = 'member of {name}'")
        (project / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            f'[project]\nname = "member"\nversion = "{1 if name == "one" else 2}.0"\n'
            '[tool.setuptools]\npackages = ["member"]\n'
            '[tool.setuptools.package-dir]\nmember = "member"\n'
        )
        subprocess.run(
            ["uv", "pip", "install", "-q", "--python", release / ".venv/bin/python", "-e", project], check=True
        )
        packages = release / f".venv/lib/python{PYTHON}/site-packages"
        assert list(packages.glob("__editable___member*_finder.py")), "setuptools made no finder"
    server.link("one")
    server.start()
    assert server.get("/import/member").body == "member of one"
    server.deploy("two")
    server.wait_served_by("two")
    assert server.get("/import/member").body == "member of two"


def test_pythonpath_leads_into_the_release_of_the_worker(server: Server):
    """Folders named by PYTHONPATH or the setting are searched as at a first start."""
    for name in ("one", "two"):
        extra = server.release(name, conf="pythonpath = '../extra'") / "extra"
        extra.mkdir()
        (extra / "from_setting.py").write_text(f"TEXT = 'setting of {name}'")
        (extra.parent / "env").mkdir()
        (extra.parent / "env/from_env.py").write_text(f"TEXT = 'env of {name}'")
    server.link("one")
    server.start(PYTHONPATH=str(server.app / "env"))
    server.deploy("two")
    server.wait_served_by("two")
    assert server.get("/import/from_setting").body == "setting of two"
    assert server.get("/import/from_env").body == "env of two"


def test_a_proof_runs_beside_the_service_from_a_release_that_is_not_live(server: Server):
    """The same file serves both; a proof touches neither the link nor the state of the service."""
    server.release("one")
    candidate = server.release("two")
    server.link("one")
    server.start()
    server.wait_served_by("one")
    before = (server.run / "master.json").read_text()
    proof = server.start("--workers", "1", root=candidate, run="proof", socket="p")
    assert get_world(server, "p")["cwd"] == str(candidate / "web")
    assert get_world(server, "p")["greeting"] == "greeting of two"
    assert world(server)["greeting"] == "greeting of one"
    assert (server.run / "master.json").read_text() == before
    assert list((server.root / "proof/up").iterdir())
    proof.terminate()
    assert proof.wait(10) == 0
    assert server.served_by("one")


def get_world(server: Server, socket: str) -> dict:
    return ast.literal_eval(get(server.root / socket, "/world").body)


def test_a_release_for_another_python_does_not_boot_and_does_no_harm(server: Server):
    """A virtualenv of another Python cannot be served by this master; the old workers stay."""
    server.release("one")
    venv = server.release("two") / ".venv"
    (venv / f"lib/python{PYTHON}").rename(venv / "lib/python3.99")
    server.link("one")
    server.start()
    server.wait_served_by("one")
    server.deploy("two")
    wait_for(lambda: "No module named 'greeting'" in server.said())
    assert {server.get().body.split()[0] for _ in range(10)} == {"one"}
    assert server.master.poll() is None


def test_a_preloaded_app_stays_with_the_release_that_the_master_loaded(server: Server):
    """Forked workers hold the master's code, so what they import later must be of the same release."""
    server.release("one", conf="preload_app = True")
    server.release("two", conf="preload_app = True")
    server.link("one")
    server.start()
    assert server.state("master.json")["preload"] is True
    server.deploy("two")
    wait_for(lambda: min(server.up(), default=0) > 2)
    assert server.get().body.split()[0] == "one"
    assert server.get("/import/lazy").body == "lazy of one"
