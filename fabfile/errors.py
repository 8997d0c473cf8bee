"""The troubles a run can end in: one class per exit code, each text ends with the command to run next."""

from collections.abc import Sequence


class DeployError(Exception):
    """A trouble the user can act on.

    `message` names the thing and the reason; `hint` is the next command or change, without a full stop;
    `evidence` is the output that shows it (several lines), printed below the message, unless it was `shown` already as
    the output of a step.
    """

    exit_code = 5
    status = "failed"
    phase = "deploy"

    def __init__(self, message: str, *, hint: str = "", evidence: str = "", shown: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.evidence = evidence
        self.shown = shown


class ConfigError(DeployError):
    """hosts.toml, an option or the operator's machine is not as it must be; no host was touched."""

    exit_code = 2
    phase = "configuration"


class ConnectError(DeployError):
    """A host cannot be reached, or is not the host it should be."""

    exit_code = 3
    phase = "connect"


class NotLetIn(ConnectError):
    """A host takes none of the operator's keys; `offered` are the fingerprints of those that it was shown."""

    def __init__(self, message: str, *, hint: str, offered: Sequence[str]) -> None:
        super().__init__(message, hint=hint)
        self.offered = tuple(offered)


class NoForwarding(ConnectError):
    """A host's sshd passes no connection on (AllowTcpForwarding, or `restrict` on the key)."""


class ProvisionError(DeployError):
    """A server could not be made ready."""

    exit_code = 4
    phase = "provision"


class StepFailed(DeployError):
    """A step on the host failed before anything live changed; the site is as it was."""

    exit_code = 5


class Unhealthy(DeployError):
    """The site did not come up healthy on the new release; the old release is back."""

    exit_code = 6
    phase = "health"


class AfterSwitchFailed(DeployError):
    """A command of after_switch failed; the new release is live and healthy, and stays."""

    exit_code = 8
    phase = "after_switch"


class Locked(DeployError):
    """Somebody else's work holds the host."""

    exit_code = 7
    status = "locked"
    phase = "lock"
