"""What goes with an app, as far as names decide it; systemctl is a stand-in, the rest is tests/lab."""

import pytest

from fabfile.steps import remove
from tests.host.local_host import World

NAME = "no-such-app"  # some places are this machine's own, whatever the root of the test


@pytest.fixture(autouse=True)
def app(world: World) -> None:
    """An app of that name, whose user stays."""
    world.settings = world.settings.model_copy(update={"name": NAME})
    world.base.mkdir()
    world.stub("systemctl", "[ $1 != is-active ]")
    world.override("forget_user() { :; }; leaning_on_it() { :; }")


@pytest.mark.parametrize("name", ["x\n.ssh", "\n.ssh", "x\n", " x ", "..x", ".x", "-rf", "a*"])
def test_whatever_a_name_in_its_folder_is_like(world: World, name: str) -> None:
    """The folder goes with it, and nothing else: a line break begins no other path, from where root happens to be."""
    other = world.root / "home/.ssh"
    other.mkdir()
    (world.base / name).mkdir()
    (world.base / name / "file").touch()
    shown = f"{world.base}/{name}".replace("\n", "?")
    look = world.output(remove.look()).splitlines()
    assert f"gone {shown}" in look
    assert all(line.startswith(f"gone {world.root}") for line in look)
    assert f"gone {shown}" in world.output(remove.remove(world.settings)).splitlines()
    assert other.is_dir()
    assert not world.base.exists()


def test_a_link_is_not_followed(world: World) -> None:
    """What it leads to is not the app's; and what people left in `shared` stays."""
    other = world.root / "other"
    other.mkdir()
    (other / "file").touch()
    (world.base / "releases").symlink_to(other)
    (world.base / "shared").mkdir()
    (world.base / "shared/photo").touch()
    assert f"kept {world.base}/shared" in world.output(remove.remove(world.settings)).splitlines()
    assert (other / "file").exists()
    assert [path.name for path in world.base.iterdir()] == ["shared"]
