"""How `fab` calls tasks: each once, whatever number of hosts -H names."""

import atexit
import gc
from typing import Any

import fabric
import fabric.main
from invoke import Collection, Config, Context
from invoke.parser import ParseResult

from .errors import ConfigError

OF_NO_EFFECT = ("ssh-config", "prompt-for-login-password", "prompt-for-passphrase", "connect-timeout")


class Executor(fabric.Executor):
    """Leaves -H to the tasks; Fabric's own calls each task once per host (decision 16).

    A task that knows all of its hosts makes one report of them, and -H takes what hosts.toml names.
    """

    def __init__(self, collection: Collection, config: Config, core: ParseResult) -> None:
        super().__init__(collection, config, core)
        args = core[0].args
        self.config["hosts"] = args.hosts.value or ""
        self.config["identity"] = (args.identity.value or [""])[0]
        self.config["of_no_effect"] = next((f"--{name}" for name in OF_NO_EFFECT if args[name].value), "")

    def normalize_hosts(self, hosts: object) -> list[dict[str, Any]]:  # noqa: ARG002
        """Return no connection for any of the hosts: the tasks get a plain context, and make their own."""
        return []


def serve_fab() -> None:
    """Let `fab` call tasks by ours, in whatever repository it found its fabfile; it is asked for after that."""
    fabric.main.program.executor_class = Executor


def collect_seldom() -> None:
    """Let Python look less often for garbage in what it has imported, and not at the end: that is 0.1 s of a run."""
    gc.set_threshold(50_000, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)


def identity_of(context: Context) -> str:
    """Return the key file that -i names. Raises ConfigError for other options of Fabric's own that do nothing here."""
    if option := context.config.get("of_no_effect", ""):
        raise ConfigError(
            f"fab {option} has no effect on these tasks: they log in by keys, asking ssh -G and hosts.toml how",
            hint="see docs/ssh.md",
        )
    return str(context.config.get("identity", ""))


def hosts_of(context: Context) -> str:
    """Return what -H says, as it was typed; nothing without -H, and under `invoke`, which has none."""
    return context.config.get("hosts", "")
