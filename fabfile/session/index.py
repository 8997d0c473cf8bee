"""What a package index says of versions that a deploy would install: whether it has taken them back (PEP 592)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..plan.preview import Package

SIMPLE = "application/vnd.pypi.simple.v1+json"  # PEP 691
PATIENCE = 5  # seconds for an index


def with_yanked(packages: Sequence[Package]) -> tuple[list[Package], list[str]]:
    """Return the packages, those marked that were yanked; and which could not be asked for, with the reason."""
    if not packages:
        return [], []
    import httpx  # takes 0.1 s

    untold: list[str] = []

    def asked(package: Package) -> Package:
        if not package.registry.startswith(("http://", "https://")) or ", " in package.after or not package.after:
            return package
        try:
            address = f"{package.registry.rstrip('/')}/{package.name}/"
            answer = client.get(address, headers={"Accept": SIMPLE}, follow_redirects=True).raise_for_status()
            return package.model_copy(update={"yanked": reason(answer.json(), package.after)})
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            untold.append(f"{package.name}: {error or type(error).__name__}")
            return package

    with httpx.Client(timeout=PATIENCE) as client, ThreadPoolExecutor(8) as pool:
        return list(pool.map(asked, packages)), sorted(untold)


def reason(project: dict, version: str) -> str | None:
    """Why a version was yanked, by what a simple index says of its project; None when it was not."""
    for file in project["files"]:
        if file.get("yanked") and version_of(file["filename"]) == version:
            return file["yanked"] if isinstance(file["yanked"], str) else "no reason given"
    return None


def version_of(filename: str) -> str:
    """The version in the name of a wheel or a source distribution (PEP 427, 625)."""
    if filename.endswith(".whl"):
        return filename.split("-")[1]
    return filename.removesuffix(".zip").removesuffix(".tar.gz").rpartition("-")[2]
