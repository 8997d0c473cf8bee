"""`adopt` and `adopt --undo`, cut in one of their steps, and typed once more."""

import json
from collections.abc import Generator
from contextlib import contextmanager

import httpx

from testbed.driver import Order
from testbed.faults import TracedStep
from testbed.harness import Site, wait_for
from testbed.playbook.promises import assert_old, assert_ours, old_layout
from testbed.target import Target

# As testbed.faults describes them.
FAULTS = ("sigkill/", "sigint", "runner/", "power/", "killed/", "cut", "fail-late", "power")
POWER = ("power", "power/")  # visitors lose what they have asked for
THERE, BACK = ("adopt",), ("adopt", "--undo")
SHOWN = ("/", "/healthz", "/media/report.txt")


class Cut:
    """Somebody at the playbook's server whose commands are cut."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.commit = site.repository.sha()
        self.before = old_layout(site)
        self.target = Target(site.host.name, site.folder, settings=site.settings)
        self.target.site = site

    def steps(self, *words: str) -> list[TracedStep]:
        """The steps of a command that works, as they went."""
        trace = self.site.folder / "trace"
        trace.unlink(missing_ok=True)
        self.target.fab(*words, order=Order(self.site.name, trace=str(trace))).expect(0)
        return [TracedStep(**json.loads(line)) for line in trace.read_text().splitlines()]

    def there(self, step: TracedStep, fault: str) -> int:
        """Cut a first adopt and type it once more: the server is taken over. Return how the cut one ended."""
        # So that every step has all of its work to do.
        self.site.run("rm -rf /srv/consult /etc/consult /var/lib/consult-django")
        code = self._cut(step, fault, *THERE)
        assert_ours(self.site, self.commit)
        return code

    def back(self, step: TracedStep, fault: str) -> int:
        """Cut the way back and type it once more: the server is as before. Return how the cut one ended."""
        code = self._cut(step, fault, *BACK)
        assert_old(self.site, self.before)
        return code

    def _cut(self, step: TracedStep, fault: str, *words: str) -> int:
        mark = str(self.site.folder / "mark")
        half = fault.endswith("/")
        order = Order(self.site.name, fault.rstrip("/"), step.id, half, step.seconds, step.commands, mark=mark)
        try:
            if fault in POWER:
                code = self.target.broken_run(order, *words).code
                wait_for(self._shows, seconds=40, what=lambda: "after the power cut the site does not answer")
            with self._visited():
                if fault not in POWER:
                    code = self.target.broken_run(order, *words).code
                    assert self._shows()
                self.target.fab(*words, "--wait", "60").expect(0)
        except Exception as error:
            error.add_note(f"{fault} in {step.id} of {' '.join(words)}")
            raise
        return code

    @contextmanager
    def _visited(self) -> Generator[None]:
        with self.target.visitors(rate=20) as traffic:
            yield
        numbers = traffic.count()
        assert numbers.failed == 0, numbers.troubles

    def _shows(self) -> bool:
        """Whether page, health and uploads are there, from whichever side."""
        try:
            return all(self.site.get(path).status_code == 200 for path in SHOWN)
        except httpx.HTTPError:
            return False
