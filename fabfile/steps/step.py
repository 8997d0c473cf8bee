"""A step as a value: what is to be done on a host, and how it went."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

Value = str | int | bool | PurePosixPath | None | Iterable[str | PurePosixPath]
NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True)
class Step:
    """One thing to do on the host: a function of `host/lib`, with its parameters by name.

    `id` names the step in results and in the JSON document, `title` is the sentence that a person reads. `timeout` is
    in seconds, and `limit` names its setting. `live` says that what the site serves may change from here on.
    """

    id: str
    title: str
    function: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    timeout: int = 60
    live: bool = False
    limit: str = "timeouts"

    @property
    def words(self) -> list[str]:
        """The function and its parameters as words of a command line, not quoted yet."""
        for name in (self.function, *self.parameters):
            if not NAME.fullmatch(name):  # bash would evaluate what stands in brackets
                raise ValueError(f"{self.id}: {name} is no name of a function or parameter")
        return [self.function, *(f"{name}={as_text(value)}" for name, value in self.parameters.items())]


def as_text(value: Value) -> str:
    """A parameter as the host's functions take it: a list has a line for each value, no and nothing are empty."""
    if value is None or value is False:
        return ""
    if value is True:
        return "1"
    if isinstance(value, str | int | PurePosixPath):
        return str(value)
    return "\n".join(str(item) for item in value)


@dataclass(frozen=True)
class StepResult:
    """How one step went: its output (stdout and stderr together), exit code and seconds."""

    step: Step
    code: int
    output: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.code == 0


class Results(dict[str, StepResult]):
    """How the steps of a batch went, by their ids, in the order in which they ran."""

    @classmethod
    def of(cls, ended: Iterable[StepResult]) -> "Results":
        return cls((result.step.id, result) for result in ended)

    def output(self, step_id: str) -> str:
        """What a step said; nothing when it did not run."""
        return self[step_id].output if step_id in self else ""
