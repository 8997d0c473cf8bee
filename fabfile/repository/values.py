"""What the names of a settings module stand for, as far as its text says so.

A place in the repository is a `Place`, what the environment decides an `Outside`; what is not understood, UNKNOWN.
"""

import ast
import posixpath
import re
from dataclasses import dataclass
from typing import Any

from .files import Repository

UNKNOWN: Any = object()
DEPTH = 60
SAME = {
    "abspath",
    "realpath",
    "normpath",
    "resolve",
    "absolute",
    "expanduser",
    "str",
    "fspath",
    "tuple",
    "list",
    "as_posix",
}
# Calls that ask the environment: os, django-environ and environs, python-decouple.
ASKS = {"os.environ.get", "environ.get", "os.getenv", "getenv", "env", "config", "env.get"}
ASKS |= {f"env.{cast}" for cast in ("str", "list", "tuple", "path", "url", "unicode")}
DATABASE = {"env.db", "env.db_url", "env.dj_db_url", "dj_database_url.config", "dj_database_url.parse"}


@dataclass(frozen=True)
class Place:
    """A file or folder, seen from the repository; `..` leads out of it."""

    path: str


@dataclass(frozen=True)
class Outside:
    """A variable of the environment, and what counts without it."""

    variable: str
    default: Any = UNKNOWN


@dataclass(frozen=True)
class DatabaseUrl:
    """A database that a URL in the environment names, and what counts without it."""

    variable: str
    default: Any = UNKNOWN


def plain(value: Any) -> Any:
    """Return a value as it is where the environment says nothing."""
    return plain(value.default) if isinstance(value, Outside) else value


def names_of(repository: Repository, path: str, near: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what the names of a module stand for, with those of the modules that it takes over."""
    reader = _Module(repository, path, near, (*seen, path))
    reader.run(repository.tree(path).body)
    return reader.names


class _Module:
    """Goes through the statements of a module as Python would, as a production server: DEBUG is false."""

    def __init__(self, repository: Repository, path: str, near: str, seen: tuple[str, ...]) -> None:
        self.repository, self.path, self.near, self.seen = repository, path, near, seen
        self.names: dict[str, Any] = {}
        self.depth = 0

    def run(self, body: list[ast.stmt]) -> None:
        for node in body:
            match node:
                case ast.Assign(targets=targets, value=value):
                    for target in targets:
                        self._assign(target, self.value(value))
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    self._assign(target, self.value(value))
                case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=value):
                    self.names[name] = _add(self.names.get(name, UNKNOWN), self.value(value))
                case ast.Expr(
                    value=ast.Call(
                        func=ast.Attribute(value=ast.Name(id=name), attr="append" | "extend" as how), args=[item]
                    )
                ):
                    more = self.value(item)
                    self.names[name] = _add(self.names.get(name, UNKNOWN), [more] if how == "append" else more)
                case ast.If(test=test, body=then, orelse=otherwise):
                    if not _is_debug(test):
                        self.run(then)
                    self.run(otherwise)
                case ast.Try(body=then, orelse=otherwise, finalbody=last):
                    self.run([*then, *otherwise, *last])
                case ast.With(body=then):
                    self.run(then)
                case ast.ImportFrom():
                    self._take_over(node)

    def _assign(self, target: ast.expr, value: Any) -> None:
        match target:
            case ast.Name(id=name):
                self.names[name] = value
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=key)):
                if isinstance(self.names.get(name), dict):
                    self.names[name] = {**self.names[name], key: value}

    def _take_over(self, node: ast.ImportFrom) -> None:
        folder = posixpath.dirname(self.path)
        for _ in range(node.level - 1):
            folder = posixpath.dirname(folder)
        if node.level:
            tail = (node.module or "").replace(".", "/")
            start = posixpath.normpath(posixpath.join(folder, tail))
            path = next((p for p in (f"{start}.py", f"{start}/__init__.py") if p in self.repository), None)
        else:
            path = self.repository.module(node.module or "", self.near)
        if path is None or path in self.seen:
            return
        theirs = names_of(self.repository, path, self.near, self.seen)
        for alias in node.names:
            if alias.name == "*":
                self.names |= theirs
            elif alias.name in theirs:
                self.names[alias.asname or alias.name] = theirs[alias.name]

    def value(self, node: ast.expr) -> Any:
        """Return what an expression stands for."""
        self.depth += 1
        try:
            return self._value(node) if self.depth < DEPTH else UNKNOWN
        finally:
            self.depth -= 1

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id="__file__"):
                return Place(self.path)
            case ast.Name(id=name):
                return self.names.get(name, UNKNOWN)
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
                return self._items(items)
            case ast.Dict(keys=keys, values=values):
                return {
                    self.value(key): self.value(value)
                    for key, value in zip(keys, values, strict=True)
                    if key is not None
                }
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                return _join(self.value(left), self.value(right))
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return _add(self.value(left), self.value(right))
            case ast.BinOp(left=left, op=ast.Sub(), right=ast.Constant(value=int(steps))):
                return _up(self.value(left), steps)  # environ.Path
            case ast.BoolOp(op=ast.Or(), values=[first, *rest]):
                return self._or(self.value(first), rest)
            case ast.IfExp(test=test, body=then, orelse=otherwise):
                found = UNKNOWN if _is_debug(test) else self.value(then)
                return self.value(otherwise) if found is UNKNOWN else found
            case ast.JoinedStr(values=parts):
                return self._formatted(parts)
            case ast.Attribute(value=of, attr="parent"):
                return _up(self.value(of), 1)
            case ast.Subscript(value=ast.Attribute(value=of, attr="parents"), slice=ast.Constant(value=int(steps))):
                return _up(self.value(of), steps + 1)
            case ast.Subscript(value=of, slice=ast.Constant(value=key)):
                return self._item(of, key)
            case ast.ListComp(generators=[ast.comprehension(iter=of)]):
                return self.value(of)
            case ast.Call():
                return self._call(node)
        return UNKNOWN

    def _items(self, nodes: list[ast.expr]) -> list[Any]:
        found = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                more = plain(self.value(node.value))
                found += more if isinstance(more, list) else []
            else:
                found.append(self.value(node))
        return found

    def _item(self, of: ast.expr, key: Any) -> Any:
        if _dotted(of).endswith("environ"):
            return Outside(str(key))
        found = self.value(of)
        return found.get(key, UNKNOWN) if isinstance(found, dict) else UNKNOWN

    def _or(self, first: Any, rest: list[ast.expr]) -> Any:
        if isinstance(first, Outside) and first.default in (UNKNOWN, None, ""):
            return Outside(first.variable, self.value(rest[0]))
        return self.value(rest[0]) if first is UNKNOWN else first

    def _formatted(self, parts: list[ast.expr]) -> Any:
        found: Any = ""
        for part in parts:
            found = _add(found, self.value(part.value if isinstance(part, ast.FormattedValue) else part))
        return found

    def _call(self, node: ast.Call) -> Any:
        dotted = _dotted(node.func)
        *before, name = dotted.split(".")
        given = [self.value(argument) for argument in node.args]
        default = next((self.value(word.value) for word in node.keywords if word.arg == "default"), UNKNOWN)
        if dotted in DATABASE:
            return self._database(node, given, default)
        if dotted in ASKS and given and isinstance(given[0], str):
            return Outside(given[0], given[1] if len(given) > 1 and default is UNKNOWN else default)
        of = node.func.value if isinstance(node.func, ast.Attribute) else None
        if name == "dirname":
            return _up(given[0], 1) if given else UNKNOWN
        if name == "join" and before[-1:] == ["path"]:
            return _join(*given)
        if name in ("joinpath", "path") and of is not None:
            return _join(self.value(of), *given)
        if name == "split" and of is not None:
            return _split(self.value(of), given)
        if name in ("Path", "PurePath") or (name in SAME and given):
            return given[0] if len(given) == 1 else _join(*given)
        if name in SAME and of is not None:
            return self.value(of)
        called = self.names.get(name, UNKNOWN) if not before else UNKNOWN
        return _join(called, *given) if isinstance(called, Place) else UNKNOWN  # environ.Path

    @staticmethod
    def _database(node: ast.Call, given: list[Any], default: Any) -> Any:
        if given and isinstance(given[0], Outside):
            return DatabaseUrl(given[0].variable, given[0].default)
        words = [
            each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        variable = next((word for word in words if re.fullmatch(r"[A-Z][A-Z0-9_]+", word)), "DATABASE_URL")
        return DatabaseUrl(variable, default)


def _dotted(node: ast.expr) -> str:
    """Return `os.environ.get` as text; of what is called or computed on the way, only the last names."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=of, attr=name):
            return f"{_dotted(of)}.{name}"
    return ""


def _is_debug(test: ast.expr) -> bool:
    return _dotted(test).rpartition(".")[2] == "DEBUG"


def _up(value: Any, steps: int) -> Any:
    if not isinstance(value, Place):
        return UNKNOWN
    return Place(posixpath.normpath(posixpath.join(value.path, *[".."] * steps)))


def _join(*parts: Any) -> Any:
    found, variable = UNKNOWN, ""
    for part in parts:
        if isinstance(part, Outside):
            variable = variable or part.variable
        value = plain(part)
        if isinstance(value, Place) or (isinstance(value, str) and (found is UNKNOWN or value.startswith("/"))):
            found = value
        elif not isinstance(value, str):
            return UNKNOWN
        elif isinstance(found, Place):
            found = Place(posixpath.normpath(posixpath.join(found.path, value)))
        else:
            found = posixpath.join(found, value)
    return Outside(variable, found) if variable else found


def _add(left: Any, right: Any) -> Any:
    left, right = plain(left), plain(right)
    if isinstance(left, Place) and isinstance(right, str):
        return Place(posixpath.normpath(left.path + right))
    if left == "" and isinstance(right, Place):
        return right
    if isinstance(left, str) and isinstance(right, Place) and left.startswith("sqlite:"):
        return f"{left}/{right.path}"
    if isinstance(left, list) or isinstance(right, list):
        return [*(left if isinstance(left, list) else []), *(right if isinstance(right, list) else [])]
    return left + right if isinstance(left, str) and isinstance(right, str) else UNKNOWN


def _split(value: Any, given: list[Any]) -> Any:
    separator = given[0] if given and isinstance(given[0], str) and given[0] else None
    text = plain(value)
    found = [item.strip() for item in text.split(separator)] if isinstance(text, str) else UNKNOWN
    return Outside(value.variable, found) if isinstance(value, Outside) else found
