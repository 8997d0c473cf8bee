"""Steps that read a host, and those of the lock by hand (host/lib/survey.sh)."""

from .step import Step

READ = "read_the_host"
HOLDER = "see_who_works_on_it"
FREEZE = "lock_the_host"
UNFREEZE = "unlock_the_host"


def read_host() -> Step:
    """Answer with `key value` lines for `plan.state.parse`."""
    return Step(READ, "Read the host", "read_host")


def holder() -> Step:
    """Answer with the lock info of whoever works on the host, or nothing."""
    return Step(HOLDER, "See who works on it", "read_holder")


def freeze(info: str) -> Step:
    """Close the host by hand; answers with the lock info that was there before, if one was."""
    return Step(FREEZE, "Lock the host", "freeze", {"info": info})


def unfreeze() -> Step:
    """Open the host again; answers with the lock info that closed it, if one did."""
    return Step(UNFREEZE, "Unlock the host", "unfreeze")
