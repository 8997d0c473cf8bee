"""What uv will install: pyproject.toml, uv.lock, gunicorn in it, and which Python."""

import posixpath
import re
from typing import Any

from .files import Repository
from .report import Report

REQUIREMENTS = ("requirements.txt", "requirements/production.txt", "requirements/prod.txt", "requirements/base.txt")
BOUND = re.compile(r"(?:>=|==|~=)\s*(\d+)\.(\d+)")


def what_is_missing(repository: Repository, project: str) -> list[str]:
    """Return the commands that make a uv project of the repository; none when it is one."""
    path = repository.upwards("pyproject.toml", project)
    metadata = repository.toml(path) if path else {}
    if "project" in metadata or "workspace" in metadata.get("tool", {}).get("uv", {}):
        return []
    if path and "poetry" in metadata.get("tool", {}):
        return ["uvx migrate-to-uv", "uv add gunicorn"]
    begin = [] if path else ["uv init --bare"]
    if "Pipfile" in repository:
        export = "uvx pipenv requirements > requirements.txt"
        return [export, *begin, "uv add -r requirements.txt", "uv add gunicorn"]
    found = (f for name in REQUIREMENTS if (f := repository.upwards(name, project)))
    if requirements := next(found, None):
        return [*begin, f"uv add -r {requirements}", "uv add gunicorn"]
    return [*(begin or [f"add a [project] table to {path}"]), "uv add django gunicorn"]


def gunicorn(repository: Repository, project: str, report: Report) -> None:
    """Find out whether `uv sync` in the project's folder installs gunicorn."""
    lock_path = repository.upwards("uv.lock", project)
    path = repository.upwards("pyproject.toml", project) or "pyproject.toml"
    where = posixpath.dirname(path)
    add = f"uv add gunicorn{f' (in {where})' if where else ''}, and commit uv.lock"
    if lock_path is None:
        report.todo.append("there is no uv.lock: uv lock, and commit it")
        declared = repository.text(path)
        if not re.search(r"""["']gunicorn\b""", declared):
            report.todo.append(f"gunicorn is not among the dependencies: {add}")
        return
    lock = _Lock(repository.toml(lock_path), posixpath.relpath(where or ".", posixpath.dirname(lock_path) or "."))
    uv = repository.toml(path).get("tool", {}).get("uv", {})
    groups = uv.get("default-groups", ["dev"])
    if lock.brings(lock.own(), groups if isinstance(groups, list) else lock.groups()):
        report.found.append(f"gunicorn {lock.version('gunicorn')}, {lock_path}")
        return
    chosen = [("group", name) for name in lock.groups() if lock.brings(lock.own(), groups=[name])]
    chosen += [("extra", name) for name in lock.extras() if lock.brings(lock.own(), extras=[name])]
    for option, name in chosen[:1]:
        report.set("sync_args", ["--frozen", f"--{option}={name}"], f"gunicorn is in the {option} {name}")
        report.found.append(f"gunicorn {lock.version('gunicorn')}, in the {option} {name} of {path}")
        return
    report.todo.append(f"gunicorn is not among the dependencies: {add}")


class _Lock:
    """A uv.lock, and which of its packages the folder `member` is."""

    def __init__(self, document: dict[str, Any], member: str) -> None:
        self.member = member
        self.packages: dict[str, list[dict[str, Any]]] = {}
        for package in document.get("package", []):
            if isinstance(package, dict):
                self.packages.setdefault(str(package.get("name")), []).append(package)

    def own(self) -> dict[str, Any]:
        for package in (package for same in self.packages.values() for package in same):
            source = package.get("source", {})
            if self.member in (source.get("editable"), source.get("virtual"), source.get("directory")):
                return package
        return {}

    def groups(self) -> list[str]:
        return list(self.own().get("dev-dependencies", {}))

    def extras(self) -> list[str]:
        return list(self.own().get("optional-dependencies", {}))

    def version(self, name: str) -> str:
        return str(next(iter(self.packages.get(name, [])), {}).get("version", ""))

    def brings(self, package: dict[str, Any], groups: Any = (), extras: Any = (), name: str = "gunicorn") -> bool:
        """Return whether the dependencies of a package lead to that of the given name."""
        left = [*package.get("dependencies", [])]
        for key, chosen in (("dev-dependencies", groups), ("optional-dependencies", extras)):
            left += [each for chosen_name in chosen for each in package.get(key, {}).get(chosen_name, [])]
        seen: set[tuple[str, str]] = set()
        while left:
            wanted = left.pop()
            for key in (wanted.get("name"), *((wanted.get("name"), extra) for extra in wanted.get("extra", []))):
                known, extra = key if isinstance(key, tuple) else (key, "")
                if known == name:
                    return True
                if (known, extra) in seen:
                    continue
                seen.add((known, extra))
                for found in self.packages.get(known, []):
                    left += (
                        found.get("optional-dependencies", {}).get(extra, [])
                        if extra
                        else found.get("dependencies", [])
                    )
        return False


def locks(repository: Repository, project: str, name: str) -> bool:
    """Return whether the lock file has a package; yes when there is no lock file to ask."""
    path = repository.upwards("uv.lock", project)
    packages = repository.toml(path).get("package", []) if path else []
    return path is None or any(isinstance(package, dict) and package.get("name") == name for package in packages)


def python(repository: Repository, project: str, report: Report) -> None:
    """Find which Python the app needs; uv reads the same files, so a setting is needed only where they disagree."""
    path = repository.upwards("pyproject.toml", project)
    required = repository.toml(path).get("project", {}).get("requires-python", "") if path else ""
    pinned_in = repository.upwards(".python-version", project)
    pinned = repository.text(pinned_in).strip().splitlines()[:1] if pinned_in else []
    bound = BOUND.search(required) if isinstance(required, str) else None
    number = re.match(r"(?:cpython-?|python-?)?(\d+)\.(\d+)", pinned[0]) if pinned else None
    if pinned and not re.match(r"[a-z]*[-@]?[<>=~]*\d", pinned[0]):
        report.todo.append(
            f"{pinned_in} says {pinned[0]}, which uv does not know: a version there, or python in hosts.toml"
        )
    elif number and bound and [*map(int, number.groups())] < [*map(int, bound.groups())]:
        version = ".".join(bound.groups())
        report.set("python", version, f"{pinned_in} says {pinned[0]}, requires-python {required}")
    elif pinned or required:
        said = ([f"requires-python {required}"] if required else []) + [f"{pinned_in} {line}" for line in pinned]
        report.found.append(f"Python: {', '.join(said)}; uv reads it")
