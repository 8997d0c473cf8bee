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
    if settings.tls.letsencrypt:  # which cannot see a lab: the host's own ACME server takes its part
        directory = lab.start_acme(there, settings.domain, *settings.aliases)
        settings = settings.model_copy(update={"tls": settings.tls.model_copy(update={"acme_server": directory})})
    ready = replace(host, settings=settings)
    if state == "ready" and not (there.root / str(host.layout.service_file).lstrip("/")).exists():
        from fabfile.commands.provision import provision

        console.say(f"Provisioning {host.name}")
        provision(Run(ready, console, Outcome("provision", host.name)), token=there.doppler_token)
    return ready
