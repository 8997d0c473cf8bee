"""Which path of the site answers that it works, as far as the URL modules tell."""

import ast
import posixpath
import re
from collections.abc import Iterator

from .django import Django
from .files import Repository
from .report import Report
from .values import plain

# The best first. What is behind a name alone is not known: that the path answers 200 is seen by the deploy.
NAMES = (
    "healthz", "health", "health_check", "health-check", "healthcheck", "livez", "readyz", "alive", "heartbeat",
    "__heartbeat__", "__lbheartbeat__", "up", "ping", "ht",
)  # fmt: skip
PACKAGE = "health_check.urls"
TO_ADD = """\
from django.http import HttpResponse
from django.urls import path


def healthz(request): return HttpResponse("ok")
urlpatterns = [path("healthz", healthz), *urlpatterns]"""


def health_path(repository: Repository, django: Django, report: Report) -> None:
    """Find a route that looks like a health check, or say what to add."""
    module = plain(django.value("ROOT_URLCONF"))
    path = repository.module(module, django.project) if isinstance(module, str) else None
    if path is None:
        path = next(iter(repository.named("urls.py", django.project)), None)
    routes = [route for route in _routes(repository, path, django.project, "/", ()) if _name(route)]
    if routes:
        best = min(routes, key=lambda route: (NAMES.index(_name(route)), len(route), route))
        report.set("health_path", best)
        report.found.append(f"health path: {best}")
        return
    report.todo.append(f"no path looks like a health check: add these lines at the end of {path or 'urls.py'}")
    report.to_paste = TO_ADD


def _name(route: str) -> str:
    """Return the name in NAMES that a route ends with, or nothing."""
    last = route.strip("/").rpartition("/")[2].lower()
    return last if last in NAMES and re.fullmatch(r"[A-Za-z0-9._~/-]+", route) else ""


def _routes(repository: Repository, path: str | None, near: str, before: str, seen: tuple[str, ...]) -> Iterator[str]:
    """Yield the routes of a URL module and of those that it includes."""
    if path is None or path in seen or len(seen) > 4:
        return
    for node in _calls(repository.tree(path)):
        match node:
            case ast.Call(
                func=ast.Name(id="path" | "re_path" | "url" as kind), args=[ast.Constant(value=str(text)), view, *_]
            ):
                route = before + (text if kind == "path" else _from_pattern(text))
                included = _included(view)
                if included == PACKAGE:
                    yield f"{route.rstrip('/')}/" if _name(route) else f"{posixpath.join(route, '')}"
                elif included:
                    yield from _routes(repository, repository.module(included, near), near, route, (*seen, path))
                elif not isinstance(view, ast.Call) or included is None:
                    yield route


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls in a module, but those of i18n_patterns: their routes have a language before them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            if ast.unparse(node.func).endswith("i18n_patterns"):
                continue
            yield node
        yield from _calls(node)


def _from_pattern(text: str) -> str:
    return re.sub(r"^\^|\\Z$|\$$", "", text).replace("/?", "/").replace("\\", "")


def _included(view: ast.expr) -> str | None:
    """Return the module that `include("module")` or `include(("module", "name"))` names."""
    match view:
        case ast.Call(func=ast.Name(id="include"), args=[ast.Constant(value=str(module)), *_]):
            return module
        case ast.Call(func=ast.Name(id="include"), args=[ast.Tuple(elts=[ast.Constant(value=str(module)), *_]), *_]):
            return module
    return None
