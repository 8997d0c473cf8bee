"""From a host of hosts.toml that says `lab = true` to one with an address, a key and a known_hosts file."""

from dataclasses import replace
from typing import Literal

from fabfile.config.inventory import Host
from fabfile.errors import ConfigError
from fabfile.output.console import Console
from fabfile.output.outcome import Outcome
from fabfile.session.run import Run
from testbed import lab


def prepare(host: Host, console: Console, state: Literal["ready", "up", "running"]) -> Host:
    """Return `host` with the lab's address and key, made first if `state` asks for it; `ready` is provisioned too.

    Raises ConfigError when this machine cannot hold a lab, or when `state` is running and it does not.
    """
    if state == "running" and not lab.find(host.name):
        raise ConfigError(f"the lab host {host.name} does not run", hint=f"fab -H {host.name} deploy")
    there = lab.up(host.name, say=console.say)
    settings = host.settings.model_copy(
        update={"address": there.address, "key": str(there.key_file), "known_hosts": str(there.known_hosts)}
    )
    ready = replace(host, settings=settings)
    if state == "ready" and not (there.root / str(host.layout.service_file).lstrip("/")).exists():
        from fabfile.commands.provision import provision

        console.say(f"Provisioning {host.name}")
        provision(Run(ready, console, Outcome("provision", host.name)), token=there.doppler_token)
    return ready
