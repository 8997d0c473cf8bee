"""How a code-only deploy's cost grows with what is on the host: this tool beside the bare script, by pairs of sizes.

Each size has a lab host of its own, so no disk, cache or database has anything of another one.
"""

import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from testbed.bench.figures import BARE, OURS, Run, grid
from testbed.bench.server import HERE
from testbed.harness import WEB, Site
from testbed.lab import execute
from testbed.lab.repository import IDENTITY, git
from testbed.load import locked

MB = 1 << 20
MODULES = 30  # of each made package
WHEELS = 8090  # the host's port that has them
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True)
class Pair:
    """A thing in two sizes: `make` gets it onto a fresh host, `again` makes it anew before each round."""

    unit: str
    small: int
    large: int
    make: Callable[[Site, int], object] = lambda _site, _size: None
    again: Callable[[Site, int], object] = lambda _site, _size: None


def commits(site: Site, count: int) -> None:
    """That many commits, each of one line."""
    stream = io.BytesIO()
    for number in range(count):
        begin = f"from {site.repository.sha()}\n" if number == 0 else ""
        text = f"Line {number}\n"
        stream.write(f"commit refs/heads/main\ncommitter {IDENTITY} now\ndata 4\nLine\n{begin}".encode())
        stream.write(f"M 644 inline log.txt\ndata {len(text)}\n{text}\n".encode())
    git(site.repository.folder, "fast-import", "--quiet", "--date-format=now", stdin=stream.getvalue())


def history(site: Site, size: int) -> None:
    """So many MB that do not compress, in the history alone, as repositories come to be big."""
    files = {f"media/{number}.bin": os.urandom(MB) for number in range(size)}
    site.repository.commit(files, "Films")
    site.repository.commit(dict.fromkeys(files), "No films")


def static(site: Site, count: int) -> None:
    """That many small stylesheets."""
    text = ".bulk { margin: 0; }\n" * 20
    site.commit({f"apps/web/pages/static/bulk/{number}.css": f"/* {number} */\n{text}" for number in range(count)})


def packages(site: Site, count: int) -> None:
    """That many more packages of 30 modules, which the host itself serves as wheels."""
    folder = site.host.root / "srv/wheels"
    folder.mkdir()
    names = [f"bench-package-{number}" for number in range(count)]
    for name in names:
        (folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl").write_bytes(wheel(name.replace("-", "_")))
    server = ["python3", "-m", "http.server", f"{WHEELS}", "--directory", "/srv/wheels"]
    site.run(f"systemd-run --quiet --unit=bench-wheels {' '.join(server)}")
    wanted = "".join(f'    "{name}==1.0",\n' for name in names)
    web = site.repository.read(WEB).replace('    "greeting",\n', f'    "greeting",\n{wanted}')
    top = site.repository.read("pyproject.toml")
    address = f"http://{site.host.address}:{WHEELS}/"
    site.commit(locked(site, {WEB: web, "pyproject.toml": f'{top}\n[tool.uv]\nfind-links = ["{address}"]\n'}))


def wheel(name: str) -> bytes:
    """A wheel with as many modules as MODULES says."""
    info = f"{name}-1.0.dist-info"
    files = {f"{name}/part_{number}.py": f"VALUE = {number}\n" * 50 for number in range(MODULES)}
    files |= {f"{name}/__init__.py": "", f"{info}/METADATA": METADATA.format(name=name), f"{info}/WHEEL": WHEEL}
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return made.getvalue()


def keep_many(site: Site, count: int) -> None:
    """As many releases kept as hosts.toml may say."""
    site.settings["keep"] = min(count, 100)


def releases(site: Site, count: int) -> None:
    """That many releases on disk, copies of the live one without its virtualenv; a deploy takes the oldest away."""
    script = (HERE / "releases.sh").read_text()
    done = execute(site.host, "bash", "-c", script, "releases.sh", f"/srv/{site.app}", f"{count}", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


PAIRS: dict[str, Pair] = {
    "releases": Pair("releases", 5, 500, make=keep_many, again=releases),
    "commits": Pair("commits", 100, 100_000, make=commits),
    "repository": Pair("MB of history", 10, 1000, make=history),
    "packages": Pair("more packages", 20, 300, make=packages),
    "static": Pair("static files", 10, 10_000, make=static),
}
HEADINGS = (
    "what",
    "small",
    "large",
    "bare, small s",
    "large s",
    "grows by s",
    "fab, small s",
    "large s",
    "grows by s",
)


def named(pair: str, size: int) -> str:
    """What an app is called that has this size."""
    return f"{pair} {size}"


def lines(runs: Sequence[Run]) -> Iterator[list[object]]:
    """For each pair that was measured: its sizes, and the medians and growth of both, in seconds."""
    for name, pair in PAIRS.items():
        cells: list[object] = [pair.unit, pair.small, pair.large]
        for contestant in (BARE, OURS):
            small = seconds(runs, named(name, pair.small), contestant)
            large = seconds(runs, named(name, pair.large), contestant)
            if small is not None and large is not None:
                cells += [round(small, 2), round(large, 2), round(large - small, 2)]
        if len(cells) == len(HEADINGS):
            yield cells


def seconds(runs: Sequence[Run], app: str, contestant: str) -> float | None:
    """The median of a contestant's timed runs, if there are any."""
    found = [run.seconds for run in runs if (run.app, run.contestant) == (app, contestant) and run.number]
    return median(found) if found else None


def table(runs: Sequence[Run]) -> list[str]:
    """Lines of a Markdown table."""
    cells = list(lines(runs))
    return grid(HEADINGS, cells) if cells else []
