"""How `fab` calls tasks: each once, whatever number of hosts -H names."""

from typing import Any

import fabric
from invoke import Collection, Config, Context
from invoke.parser import ParseResult

from .errors import ConfigError


class Executor(fabric.Executor):
    """Leaves -H to the tasks, as fabric.yaml asks for; Fabric's own calls each task once per host (decision 16).

    A task that knows all of its hosts makes one report of them, and -H takes what hosts.toml names.
    """

    def __init__(self, collection: Collection, config: Config, core: ParseResult) -> None:
        super().__init__(collection, config, core)
        self.config["hosts"] = core[0].args.hosts.value or ""

    def normalize_hosts(self, hosts: object) -> list[dict[str, Any]]:  # noqa: ARG002
        """Return no connection for any of the hosts: the tasks get a plain context, and make their own."""
        return []


def hosts_of(context: Context) -> str:
    """Return what -H says, as it was typed; nothing without -H, and under `invoke`, which has none."""
    if isinstance(context, fabric.Connection):
        raise ConfigError("fab did not read fabric.yaml", hint="fabric.yaml stands beside the fabfile folder")
    return context.config.get("hosts", "")
