"""The network of a lab host: a namespace, a veth pair to this machine, and a way out without a rule here."""

import ipaddress
import json
import os
import select
from collections.abc import Collection
from pathlib import Path

from . import cgroup
from .machine import LabError, run

# RFC 2544's range for benchmarks: nobody's home or office network uses it.
RANGE = ipaddress.IPv4Network("198.18.0.0/15")
SLIRP_SECONDS = 10


def link(index: int) -> str:
    """Name of this machine's end of the pair."""
    return f"ddl{index}"


def namespace(name: str) -> str:
    """Name of a host's network namespace, as `ip netns` knows it."""
    return f"ddl-{name}"


def subnet(index: int) -> ipaddress.IPv4Network:
    """The /30 with that number in the lab's range."""
    return ipaddress.IPv4Network((int(RANGE.network_address) + 4 * index, 30))


def address(index: int) -> str:
    """The host's address in its /30."""
    return str(subnet(index)[2])


def free_index(taken: Collection[int]) -> int:
    """The first /30 that no lab host holds and to which this machine has no route yet."""
    routes = json.loads(run("ip", "-json", "-4", "route", "show", trouble="cannot read the routes") or "[]")
    nets = [ipaddress.IPv4Network(route["dst"]) for route in routes if route["dst"] != "default"]
    for index in range(RANGE.num_addresses // 4):
        if index not in taken and not any(net.overlaps(subnet(index)) for net in nets):
            return index
    raise LabError(f"no free network in {RANGE}", hint="fab lab.down --all")


def make(name: str, index: int, log: Path) -> None:
    """Make the namespace, the pair and the way out, in place of whatever is left of them."""
    remove(name, index)
    here, space, net = link(index), namespace(name), subnet(index)
    trouble = f"cannot make the network of {name}"
    run("ip", "netns", "add", space, trouble=trouble)
    # The far end is born in its namespace: were we to die here, deleting the namespace takes both ends.
    far = ("peer", "name", "eth0", "netns", space)
    run("ip", "link", "add", here, "type", "veth", *far, trouble=trouble)
    run("ip", "address", "add", f"{net[1]}/30", "dev", here, trouble=trouble)
    run("ip", "link", "set", here, "up", trouble=trouble)
    inside = f"link set lo up\naddress add {net[2]}/30 dev eth0\nlink set eth0 up\n"
    run("ip", "-netns", space, "-batch", "-", stdin=inside, trouble=trouble)
    _open_way_out(name, log)


def remove(name: str, index: int) -> None:
    """Remove the pair, the namespace and the way out; fine when some or all of them are gone."""
    cgroup.end(f"{name}/network")
    if Path(f"/sys/class/net/{link(index)}").exists():
        run("ip", "link", "delete", link(index), trouble=f"cannot remove the link of {name}")
    remove_namespace(name)


def remove_namespace(name: str) -> None:
    """Remove a host's network namespace, and with it what is in it."""
    if Path(f"/run/netns/{namespace(name)}").exists():
        run("ip", "netns", "delete", namespace(name), trouble=f"cannot remove the namespace of {name}")


def switch(index: int, state: str) -> None:
    """Turn this machine's end of the pair `up` or `down`."""
    run("ip", "link", "set", link(index), state, trouble=f"cannot turn the link {link(index)} {state}")


def give_six(name: str, index: int) -> str:
    """Give a host and this machine's end of its cable an IPv6 address each; return the host's."""
    net = f"fd00:1ab:{index + 1:x}::"  # a 0 would be left out where addresses are shown
    trouble = f"cannot give {name} an IPv6 address"
    run("ip", "address", "replace", f"{net}1/64", "dev", link(index), "nodad", trouble=trouble)
    run("ip", "-netns", namespace(name), "address", "replace", f"{net}2/64", "dev", "eth0", "nodad", trouble=trouble)
    return f"{net}2"


def cable(name: str, other: str) -> tuple[str, str]:
    """Lay a cable from host to host; return what `name` is called at its other end, by IPv4 and by IPv6."""
    trouble = f"cannot lay a cable from {name} to {other}"
    far = ("peer", "name", "eth1", "netns", namespace(name))
    run("ip", "link", "add", "eth1", "netns", namespace(other), "type", "veth", *far, trouble=trouble)
    for host, number in ((other, 1), (name, 2)):
        inside = f"address add 10.99.0.{number}/24 dev eth1\naddress add fd00:99::{number}/64 dev eth1 nodad\n"
        run("ip", "-netns", namespace(host), "-batch", "-", stdin=f"{inside}link set eth1 up\n", trouble=trouble)
    return "10.99.0.2", "fd00:99::2"


def _open_way_out(name: str, log: Path) -> None:
    """Network address translation by an ordinary process: no firewall rule and no sysctl on this machine."""
    reading, writing = os.pipe()
    command = ["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path"]
    try:
        cgroup.spawn(
            f"{name}/network",
            [*command, f"--ready-fd={writing}", f"/run/netns/{namespace(name)}", "tap0"],
            log,
            pass_fds=(writing,),
        )
        os.close(writing)
        writing = -1
        ready, _, _ = select.select([reading], [], [], SLIRP_SECONDS)
        if not ready or not os.read(reading, 1):
            raise LabError(f"slirp4netns does not start for {name}", evidence=log.read_text(errors="replace"))
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
