"""What a shell completes behind -H: names of hosts.toml. All else of `fab --print-completion-script` is Invoke's."""

import shlex
from typing import Any

import invoke.program
from invoke import Exit

FLAGS = ("-H", "--hosts")


def complete_hosts() -> None:
    """Let Invoke's completion, which knows nothing of what -H takes, ask for it here first."""
    of_invoke = invoke.program.complete

    def complete(names: list[str], core: Any, *rest: Any, **more: Any) -> None:
        try:
            _, *words = shlex.split(core.remainder)
        except ValueError:  # within a quote, where Invoke would end with a traceback
            raise Exit from None
        if found := candidates(words):
            print("\n".join(found))  # noqa: T201
        if not found or words[-1] in found:  # a name is whole: maybe that of the verb is next
            of_invoke(names, core, *rest, **more)
        raise Exit

    setattr(invoke.program, "complete", complete)  # noqa: B010 - the one place where it can be told


def candidates(words: list[str]) -> list[str]:
    """What the last of the words may become, if it is -H or belongs to it; several names stand between commas."""
    if not set(FLAGS) & set(words[-2:]):
        return []
    before, comma, _ = words[-1].rpartition(",") if words[-1] not in FLAGS else ("", "", "")
    return [f"{before}{comma}{name}" for name in known()]


def known() -> list[str]:
    """The environments and hosts of hosts.toml; none of one that has mistakes, for `fab` itself tells them."""
    from .config import hosts_file
    from .errors import DeployError

    try:
        inventory = hosts_file.load()
    except DeployError:
        return []
    return [*inventory.environments, *inventory.hosts]
