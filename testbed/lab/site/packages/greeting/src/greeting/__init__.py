"""The words that the sample site greets with."""

WORDS = "Good day"


def greet(whom: str) -> str:
    """Return one sentence that greets `whom`."""
    return f"{WORDS}, {whom}."
