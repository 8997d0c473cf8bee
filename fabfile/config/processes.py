"""A process of an app beside its website: a worker that runs all the time, or a job of a timer."""

import re
import shlex
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from .table import Table, setting
from .texts import MANAGE, UnitOption, UnitValue, command_words

Kind = Literal["worker", "singleton", "timer"]

PROGRAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
# No hyphen: with one, the unit of the app `a-b` with a process `c` and that of `a` with `b-c` would have one name.
NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
# The website's own unit is NAME-django, and NAME-processes starts the workers.
RESERVED = ("web", "django", "processes")


def command_line(value: str) -> str:
    """Return `value` if it can be run without a shell; ValueError says why not."""
    words = command_words(value)
    if not words:
        raise ValueError("is empty: name a manage.py command or a program of the virtualenv")
    if not PROGRAM.fullmatch(words[0]):
        raise ValueError(
            "must begin with manage.py or a program of the virtualenv, named without its folder, and no shell runs it"
        )
    return value


def process_name(value: str) -> str:
    """Return `value` if it may name a process; ValueError says why not."""
    if not NAME.fullmatch(value):
        raise ValueError("names of processes are a-z, 0-9 and _, start with a letter, and have at most 31 characters")
    if value in RESERVED:
        raise ValueError(f"no process may be named {value}: that is the website's own")
    return value


def calendar(value: str) -> str:
    """Return `value` if it may be an OnCalendar expression (systemd has the last word); ValueError says why not."""
    if not re.fullmatch(r"[A-Za-z0-9*:.,/~_+ -]*[A-Za-z0-9*~]", value):
        raise ValueError('must be a time as systemd writes it, like "daily" or "Mon..Fri 03:30"')
    return value


ProcessName = Annotated[str, AfterValidator(process_name)]


class Process(Table):
    """What runs beside the website, from the same release and with the same secrets."""

    command: Annotated[str, AfterValidator(command_line)] = setting(
        ...,
        "`manage.py ...`, or a program of the virtualenv with its arguments; run without a shell",
        new_release=False,
        secret=True,
    )
    instances: Annotated[int, Field(ge=1, le=64)] = setting(1, "how many run side by side", new_release=False)
    stop_timeout: Annotated[int, Field(ge=1, le=86400)] = setting(
        300,
        "seconds that a stopped one has to end its work before it is killed; a deploy waits for a singleton alone",
        new_release=False,
    )
    singleton: bool = setting(False, "never two at once: the old one ends before the new one starts", new_release=False)
    schedule: Annotated[str, AfterValidator(calendar)] | None = setting(
        None, "when to run, as systemd's OnCalendar: a timer; all the time when not set", new_release=False
    )
    unit_options: dict[UnitOption, UnitValue] = setting(
        {},
        "[Service] lines added to the unit, after (and so over) the tool's own",
        new_release=False,
        secret=True,
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.schedule is not None and (self.instances > 1 or self.singleton):
            raise ValueError("a timer never runs its job twice at once: leave instances and singleton out")
        if self.singleton and self.instances > 1:
            raise ValueError("a singleton has one instance")
        return self

    @property
    def kind(self) -> Kind:
        if self.schedule is not None:
            return "timer"
        return "singleton" if self.singleton else "worker"

    def argv(self, manage: str) -> tuple[str, ...]:
        """Return the program of the virtualenv and its arguments; `manage` is where manage.py lies."""
        program, *arguments = shlex.split(self.command)
        return ("python", manage, *arguments) if program == MANAGE else (program, *arguments)
