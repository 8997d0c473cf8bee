"""The file of secrets, by its functions: written, read, compared with what runs. No value is in any output."""

import hashlib
import hmac
import json
import os
from pathlib import Path

import pytest

from fabfile.ssh.runner import StepError
from fabfile.steps import secrets
from fabfile.steps.step import Step
from tests.host.local_host import World

HOSTILE = "a b'c\"d$HOME`id`\\n\\ #x; ü→ =%$ ${x} $(id) !"
SHOW = """
show_environment() { load_service_environment; env -0 | base64 -w0; }
"""


@pytest.fixture(autouse=True)
def in_a_file(world: World) -> Path:
    """A host whose secrets are in a file, which is empty yet."""
    world.settings = world.settings.model_copy(update={"secrets": "file"})
    path = Path(world.layout.secrets)
    path.parent.mkdir()
    path.touch(mode=0o600)
    return path


def put(world: World, name: str, value: str) -> str:
    return world.output(secrets.set_value(name), {"value": value.encode()})


def loaded(world: World) -> dict[str, str]:
    """The environment that a service's command gets."""
    import base64

    world.override(SHOW)
    found = base64.b64decode(world.output(Step("show", "Show", "show_environment"))).split(b"\0")
    return dict(each.decode().split("=", 1) for each in found if each)


def test_what_is_set_is_what_a_command_gets(world: World, in_a_file: Path) -> None:
    """Whatever stands in it; the file stays the same one, for its folder is root's, and is the user's alone."""
    number = in_a_file.stat().st_ino
    assert put(world, "MOTTO", HOSTILE) == "changed"
    assert put(world, "SECRET_KEY", "x") == "changed"
    assert put(world, "MOTTO", HOSTILE) == "same"
    found = loaded(world)
    assert (found["MOTTO"], found["SECRET_KEY"]) == (HOSTILE, "x")
    assert not [name for name in found if name.startswith("DOPPLER")]
    assert in_a_file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in in_a_file.parent.iterdir()] == ["app.env"]
    assert world.output(secrets.names(world.settings)).splitlines() == ["MOTTO", "SECRET_KEY"]
    assert world.output(secrets.unset("MOTTO")) == "changed"
    assert world.output(secrets.unset("MOTTO")) == "none"
    assert "MOTTO" not in loaded(world)
    assert in_a_file.read_text() == 'SECRET_KEY="x"\n'
    assert in_a_file.stat().st_ino == number
    assert HOSTILE not in "".join(world.calls)


def test_a_full_disk_leaves_what_was_there(world: World, in_a_file: Path) -> None:
    """It is told before the first byte is written over; here it is a limit of 4 KiB."""
    assert put(world, "A", "1" * 500) == "changed"
    before = in_a_file.read_bytes()
    world.override('eval "real_$(declare -f secrets_file)"; secrets_file() { ulimit -f 4; real_secrets_file "$@"; }')
    with pytest.raises(StepError, match="File too large"):
        put(world, "A", "2" * 5000)
    assert in_a_file.read_bytes() == before


def test_secrets_are_not_written_through_a_link(world: World, in_a_file: Path) -> None:
    """Who put one there meant another file to be written."""
    other = world.root / "other"
    in_a_file.rename(other)
    in_a_file.symlink_to(other)
    with pytest.raises(StepError, match="Too many levels of symbolic links"):
        put(world, "A", "1")
    assert other.read_text() == ""


@pytest.mark.parametrize("line", ["MOTTO=a b", "export A=1", 'A="b"c"', 'A="$(touch bait)"', "A='b'", 'A="b'])
def test_a_line_of_another_kind_is_told_and_not_run(world: World, in_a_file: Path, line: str) -> None:
    """By its number, for its content may be a secret; nothing is written over it."""
    in_a_file.write_text(f'# by hand\n\nGOOD="1"\n{line}\n')
    with pytest.raises(StepError, match=f'line 4 of {in_a_file} is not NAME="value"') as caught:
        put(world, "B", "2")
    assert line not in caught.value.evidence
    assert line in in_a_file.read_text()
    world.override(SHOW)
    with pytest.raises(StepError):
        world.output(Step("show", "Show", "show_environment"))
    assert not world.bait()


def test_what_runs_is_compared_with_what_is_set(world: World) -> None:
    """Changed, added and removed ones, by their names; nothing when all is as it was, or nothing runs."""
    key = b"k" * 32
    Path(world.layout.digest_key).write_bytes(key)
    for name, value in (("SAME", "1"), ("CHANGED", "new"), ("ADDED", "3")):
        put(world, name, value)
    running = {"SAME": "1", "CHANGED": "old", "GONE": "4", "PYTHONUNBUFFERED": "1"}
    digests = {name: hmac.new(key, value.encode(), hashlib.sha256).hexdigest() for name, value in running.items()}
    Path(world.layout.state, "master.json").write_text(json.dumps({"environment": digests}))
    assert world.output(secrets.look(world.settings)) == "", "nothing runs"
    Path(world.layout.pid_file).write_text(f"{os.getpid()}\n")
    assert world.output(secrets.look(world.settings)).splitlines() == ["ADDED", "CHANGED", "GONE"]
    put(world, "CHANGED", "old")
    put(world, "GONE", "4")
    world.output(secrets.unset("ADDED"))
    assert world.output(secrets.look(world.settings)) == ""


DOPPLER = """
case $DOPPLER_TOKEN in
  *WRONG*) printf 'Unable to fetch secrets from the Doppler API\\nDoppler Error: Invalid Service token\\n'; exit 1 ;;
esac
while [ "$1" != -- ]; do shift; done
shift
FROM_DOPPLER=x exec "$@"
"""


def test_another_token_is_tried_before_it_takes_the_old_ones_place(world: World) -> None:
    """By the environment and no argument; one that Doppler refuses changes nothing."""
    world.settings = world.settings.model_copy(update={"secrets": "doppler"})
    path = Path(world.layout.secrets)
    path.write_text("DOPPLER_TOKEN=dp.st.prd.OLD\n")
    world.stub("doppler", DOPPLER)
    step = secrets.replace_token(world.settings)
    with pytest.raises(StepError, match="Doppler refuses the token that was given: Invalid Service token"):
        world.run(step, files={"doppler.env": b"DOPPLER_TOKEN=dp.st.prd.WRONG\n"})
    assert path.read_text() == "DOPPLER_TOKEN=dp.st.prd.OLD\n"
    sent = {"doppler.env": b"DOPPLER_TOKEN=dp.st.prd.NEW\n"}
    assert [world.output(step, sent), world.output(step, sent)] == ["changed", "same"]
    assert path.read_text() == "DOPPLER_TOKEN=dp.st.prd.NEW\n"
    assert not [call for call in world.calls if "dp.st" in call]
    assert world.output(secrets.names(world.settings)).splitlines() == ["FROM_DOPPLER"]
