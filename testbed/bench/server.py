"""The bench's host: this tool's site on it, and the same app deployed in place once for each of the others."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.harness import WEB, Site, wait_for
from testbed.lab import Repository, execute
from testbed.load import a_title, locked

HERE = Path(__file__).parent
IN_PLACE = ("bare", "pyinfra", "ansible")
PACKAGE = ("iniconfig==2.0.0", "iniconfig==2.1.0")  # its version is what a dependency change changes
VERBOSE = "LogLevel DEBUG\n"  # sshd tells of each channel then, and what is run in it
HEADING = re.compile(r"<h1>(.*?)</h1>")


@dataclass
class Server:
    """A lab host with the app on it, live by this tool and in place."""

    site: Site
    locks: tuple[dict[str, str], ...] = ()
    commits: int = 0

    def furnish(self, in_place: Sequence[str]) -> None:
        """Put the app live on a fresh host, by this tool and by each of the others."""
        site = self.site
        text = site.repository.read(WEB)
        self.locks = tuple(locked(site, {WEB: with_package(text, package)}) for package in PACKAGE)
        site.commit(self.locks[0], "A pinned package")
        site.provision().expect(0)
        site.deploy().expect(0)
        place = site.host.root / "srv/bench"
        place.mkdir()
        (place / "doppler.env").write_text(f"DOPPLER_TOKEN={site.host.doppler_token}\n")
        shutil.copy(HERE / "manage.sh", place / "manage")
        shutil.copy(HERE / "bench@.service", site.host.root / "etc/systemd/system/bench@.service")
        script = (HERE / "furnish.sh").read_text()
        done = execute(site.host, "bash", "-c", script, "furnish.sh", Repository.url, *in_place, timeout=300)
        assert done.returncode == 0, f"exit {done.returncode}: {done.stdout}{done.stderr}"

    def change_code(self) -> str:
        """Push a commit that changes what a visitor sees."""
        self.commits += 1
        return self.site.commit(a_title(self.site, f"Number {self.commits}"), f"Number {self.commits}")

    def change_dependency(self) -> str:
        """Push a commit with another version of a package."""
        self.commits += 1
        title = a_title(self.site, f"Number {self.commits}")
        return self.site.commit({**self.locks[self.commits % 2], **title}, f"Number {self.commits}: a package")

    def at(self, commit: str) -> str:
        """The heading that a commit shows."""
        found = HEADING.search(self.site.repository.read("apps/web/pages/templates/pages/index.html", commit))
        assert found
        return found[1]

    def shows(self, name: str) -> str:
        """The heading that a contestant's app shows, or nothing."""
        if name not in IN_PLACE:
            return self.site.heading()
        asked = ["curl", "--silent", "--unix-socket", f"/run/bench-{name}/gunicorn.sock", "http://localhost/"]
        found = HEADING.search(execute(self.site.host, *asked).stdout)
        return found[1] if found else ""

    def expect(self, name: str, commit: str) -> None:
        """Wait until a contestant's app shows a commit. Raises AssertionError if that takes more than 20 s."""
        heading = self.at(commit)
        wait_for(lambda: self.shows(name) == heading, 20, lambda: f"{name} shows {self.shows(name)}, not {heading}")

    def let_sshd_tell(self, *, all_of_it: bool) -> None:
        """Turn sshd's log of channels on or off."""
        settings = self.site.host.root / "etc/ssh/sshd_config.d/bench.conf"
        if all_of_it:
            settings.write_text(VERBOSE)
        else:
            settings.unlink(missing_ok=True)
        self.site.run("systemctl reload ssh")

    def count_channels(self) -> tuple[int | None, int | None]:
        """How many commands sshd has run, and how many channels it has opened, since the last time, if it tells."""
        self.site.run("journalctl --sync")
        said = self.site.run("journalctl --identifier=sshd --output=cat --cursor-file=/run/bench.cursor")
        return said.count("Starting session: ") or None, said.count("server_input_channel_open: ctype ") or None


def with_package(text: str, package: str) -> str:
    """A pyproject.toml with one more dependency."""
    assert '"greeting",' in text
    return text.replace('"greeting",', f'"greeting",\n    "{package}",', 1)
