"""A step as a value: what is to be done on a host, and how it went."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One thing to do on the host: a sentence for people, and bash lines of which each must succeed.

    `timeout` is in seconds. `live` says that what the site serves may change from here on.
    """

    title: str
    script: str
    timeout: int = 60
    live: bool = False


@dataclass(frozen=True)
class StepEnd:
    """How one step went: its output (stdout and stderr together), exit code and seconds."""

    step: Step
    code: int
    output: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.code == 0
