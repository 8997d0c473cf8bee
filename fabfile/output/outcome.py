"""How a run on one host ended: the one document that people, CI and agents get."""

from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import DeployError
from ..steps.nginx import Checks

TAIL = 40  # lines of a failed step's output that the outcome keeps


@dataclass
class Outcome:
    """How a run on one host ended; the fields of the JSON document. Times are in seconds unless they say ms."""

    verb: str
    server: str
    status: str = "success"
    phase: str = "done"
    failed_check: str | None = None
    error: str | None = None
    url: str | None = None
    admin_url: str | None = None
    git_branch: str | None = None
    git_commit: str | None = None
    release: str | None = None
    previous: str | None = None
    activation: str | None = None
    reason: str | None = None
    site_state: str = "as before"
    timing: dict[str, float] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    watch: dict[str, float | int] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    suggestions: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0

    def fail(self, error: DeployError) -> None:
        """Take over what `error` says."""
        self.status = error.status
        self.phase = error.phase
        self.error = error.message
        self.exit_code = error.exit_code
        evidence = error.evidence.splitlines()
        if evidence and evidence not in self.logs.values():  # once is enough
            self.logs.setdefault("output", evidence[-TAIL:])
        if error.hint:
            self.suggestions.append(error.hint)

    def add_checks(self, checks: Checks) -> None:
        """Take over what the checks of the site found."""
        self.checks |= checks.held
        self.failed_check = checks.failed

    def interrupt(self) -> None:
        """Take over that somebody pressed Ctrl-C."""
        self.status = self.phase = self.error = "interrupted"
        self.exit_code = 130

    def document(self) -> dict[str, Any]:
        fields = asdict(self)
        return {**fields.pop("details"), **fields}
