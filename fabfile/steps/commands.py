"""Steps of the commands in hosts.toml that a new release brings with it (host/lib/commands.sh)."""

from typing import Literal

from ..config.layout import Release
from ..config.settings import Settings
from ..config.texts import MANAGE, command_words
from .django import manage
from .step import Results, Step

When = Literal["build", "before_switch", "after_switch"]
LONGEST = 60  # characters of a command in a title


def run(settings: Settings, release: Release, when: When) -> list[Step]:
    """Run the commands of the setting `when`, a step for each."""
    commands: tuple[str, ...] = getattr(settings, when)
    return [
        Step(
            f"{when}_{number}",
            f"{when}: {_shortened(command)}",
            "run_command",
            {
                **manage(settings, release),
                "lock": settings.timeouts.lock,
                "setting": when,
                "words": command_words(command),
                # What npm fetches for a build has no business with them.
                "secrets": when != "build",
            },
            timeout=settings.timeouts.commands,
            live=when == "after_switch",
            limit="timeouts.commands",
        )
        for number, command in enumerate(commands, 1)
    ]


def prove(settings: Settings, release: Release) -> list[Step]:
    """See before the database changes that the later commands can start; nothing of them is run."""
    later: list[tuple[When, tuple[str, ...]]] = [
        ("before_switch", settings.before_switch),
        ("after_switch", settings.after_switch),
    ]
    pairs = [(when, command, command_words(command)[0]) for when, commands in later for command in commands]
    if not pairs:
        return []
    return [
        Step(
            "prove_that_its_commands_can_start",
            "Prove that its commands can start",
            "prove_commands",
            {
                **manage(settings, release),
                "commands": [f"{when} {command}" for when, command, program in pairs if program == MANAGE],
                "programs": [f"{when} {program}" for when, _, program in pairs if program != MANAGE],
            },
            timeout=settings.timeouts.boot,
            limit="timeouts.boot",
        )
    ]


def began(results: Results, when: When) -> bool:
    """Whether a command of this setting is among the steps that ran."""
    return any(step_id.startswith(f"{when}_") for step_id in results)


def _shortened(command: str) -> str:
    return command if len(command) <= LONGEST else f"{command[: LONGEST - 3]}..."
