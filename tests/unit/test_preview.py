"""What `plan` reads from a host's answers, and what it asks a package index."""

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from fabfile.plan import preview
from fabfile.plan.preview import Commit, File, Package, Preview
from fabfile.session import index
from fabfile.steps import preview as steps
from fabfile.steps import proof

LOCKS = """\
before asgiref 3.8.1 https://pypi.example/simple
before django 5.2.1 https://pypi.example/simple
before gone 1.0 https://pypi.example/simple
before shop 0.1.0
before two 1.0 https://pypi.example/simple
before two 2.0 https://pypi.example/simple
after asgiref 3.8.1 https://pypi.example/simple
after django 5.2.3 https://other.example/simple
after new 0.1 https://pypi.example/simple
after shop 0.1.0
after two 2.0 https://pypi.example/simple
"""


def test_the_schema_is_the_documents() -> None:
    """docs/plan.schema.json is made of the values; `uv run python -m fabfile.plan.preview` mends it."""
    assert preview.SCHEMA.read_text() == preview.schema()


def test_every_field_of_the_document_is_one_of_the_schema() -> None:
    """A document can be read again as what it was made of, and nothing else stands in it."""
    looked = Preview(commits=[Commit(commit="a", date="2026-01-01T00:00:00+00:00", author="Ana", subject="x")])
    assert Preview.model_validate_json(json.dumps(looked.model_dump(mode="json"))) == looked
    assert set(looked.model_dump()) == set(json.loads(preview.schema())["properties"])


def test_commits_that_go_live() -> None:
    """Whatever an author or a subject holds; half a line is none."""
    told = "before adds 1\nadds abc1234\t2026-01-02T03:04:05+01:00\tAna B.\tFix\tit\nadds half"
    (found,) = preview.commits(told)
    assert found == Commit(commit="abc1234", date="2026-01-02T03:04:05+01:00", author="Ana B.", subject="Fix\tit")


def test_packages_that_differ() -> None:
    """Added, removed, another version, one version of several; what is the same is not told."""
    registry = "https://pypi.example/simple"
    assert preview.packages(LOCKS) == [
        Package(name="django", before="5.2.1", after="5.2.3", registry="https://other.example/simple"),
        Package(name="gone", before="1.0", after=""),
        Package(name="new", before="", after="0.1", registry=registry),
        Package(name="two", before="1.0, 2.0", after="2.0", registry=registry),
    ]
    assert preview.packages("") == []


def test_differences_go_to_their_files() -> None:
    """A file without a difference that can be shown is there all the same."""
    output = "--- /etc/a\n+++ /etc/a, from hosts.toml\n@@ -1 +1 @@\n--- old\n+new\n--- /etc/c\n+x"
    assert preview.differences(output, ["/etc/a", "/etc/b", "/etc/c"]) == [
        File(path="/etc/a", difference="--- /etc/a\n+++ /etc/a, from hosts.toml\n@@ -1 +1 @@\n--- old\n+new"),
        File(path="/etc/b", difference=""),
        File(path="/etc/c", difference="--- /etc/c\n+x"),
    ]


def test_how_long_the_last_such_deploy_took() -> None:
    """The newest of the same activation that went well; what is no entry is passed over."""
    entries = [
        {"verb": "deploy", "activation": "hup", "outcome": "live", "seconds": 4.5},
        {"verb": "deploy", "activation": "hup", "outcome": "live", "seconds": 3.5},
        {"verb": "deploy", "activation": "hup", "outcome": "failed", "seconds": 1},
        {"verb": "rollback", "activation": "hup", "outcome": "live", "seconds": 2},
        {"verb": "deploy", "activation": "restart", "outcome": "live", "seconds": 9},
        {"verb": "deploy", "activation": "hup", "outcome": "live", "seconds": None},
        ["x"],
    ]
    history = "\n".join(map(json.dumps, entries)) + '\n{"verb": "dep'
    assert preview.last_seconds(history, "hup") == 3.5
    assert preview.last_seconds(history, "start") is None


def test_migrations_between_what_an_app_says() -> None:
    """Only lines of the program count."""
    told = '{"name": "a.0001", "atomic": true, "operations": ["x"], "sql": [], "trouble": ""}'
    assert [each.name for each in proof.migrations(f"loading\n{told}\n{{}}")] == ["a.0001"]
    assert steps.folder("warning\naside /tmp/deploy-1-x/aside\ncommit x") == "/tmp/deploy-1-x/aside"


class Index(http.server.BaseHTTPRequestHandler):
    """A package index with one project."""

    def do_GET(self) -> None:
        files = [
            {"filename": "some_thing-1.0-py3-none-any.whl", "yanked": False},
            {"filename": "some-thing-1.1.tar.gz", "yanked": "wrong licence"},
            {"filename": "some_thing-1.2-py3-none-any.whl", "yanked": True},
        ]
        known = self.path == "/simple/some-thing/" and self.headers["Accept"] == index.SIMPLE
        body = json.dumps({"files": files}).encode() if known else b"what?"
        self.send_response(200 if self.path != "/simple/unknown/" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/simple/"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("version", "yanked"), [("1.0", None), ("1.1", "wrong licence"), ("1.2", "no reason given"), ("1.0, 1.1", None)]
)
def test_versions_that_were_yanked(registry: str, version: str, yanked: str | None) -> None:
    """By the index that the lock file names, wheel or source."""
    package = Package(name="some-thing", before="0.9", after=version, registry=registry)
    (found,), untold = index.with_yanked([package])
    assert (found.yanked, untold) == (yanked, [])


def test_an_index_that_does_not_tell(registry: str) -> None:
    """It is told for which package; those without an index are not asked for."""
    names = {"unknown": registry, "other": registry, "away": "http://127.0.0.1:9/simple", "own": "", "gone": registry}
    packages = [
        Package(name=name, before="1", after="" if name == "gone" else "2", registry=place)
        for name, place in names.items()
    ]
    found, untold = index.with_yanked(packages)
    assert found == packages
    assert [line.partition(":")[0] for line in untold] == ["away", "other", "unknown"]
