"""The settings: what is taken, and what could do harm in a shell, in git or in a rendered file."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from fabfile.config.settings import Settings, Timeouts
from fabfile.config.table import Table, needs_new_release, tables_in
from fabfile.plan import rendering
from testbed.sample import VALUES, sample

# Every setting of free text that ends up in a shell line, a unit, an nginx site or an argument.
TEXTS = [
    *(
        "user",
        "group",
        "admin",
        "address",
        "name",
        "branch",
        "path",
        "project",
        "manage",
        "wsgi",
        "static_root",
    ),
    *(
        "static_url",
        "domain",
        "body_size",
        "health_path",
        "python",
        "doppler_project",
        "doppler_config",
        "repo",
    ),
]
LISTS = ["aliases", "linked_dirs", "linked_files", "sync_args"]
# What would end a line or a word, or start something new, in any of those places.
HOSTILE = set(string.whitespace) | set(";{}\"'`$|<>\\*!^()[]\0\x1b") - set("()")


def settings(**values: object) -> Settings:
    return Settings.model_validate({**VALUES, **values}, strict=True)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("character", sorted(HOSTILE))
def test_hostile_characters_are_refused(name: str, character: str) -> None:
    """No setting can carry a character that means something to a shell, systemd or nginx."""
    default = getattr(sample(), name) or "git@x.example:y.git"
    for value in (f"{default}{character}", f"{character}{default}", f"{default}{character}x"):
        with pytest.raises(ValidationError):
            settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name in [*TEXTS, *LISTS]
        for value in ["", " ", "-x", "--output=/etc/passwd", "a\nb", "$(id)", "a b", "\u202ea", "é"]
        if name != "sync_args" or not value.startswith("-")  # uv's options are what it is for
    ],
)
def test_hostile_values_are_refused(name: str, value: str) -> None:
    """No setting can be taken for an option of a program, or hide a second line."""
    with pytest.raises(ValidationError):
        settings(**{name: (value,) if name in LISTS else value})


@given(st.sampled_from(TEXTS), st.text(max_size=30))
def test_whatever_is_taken_renders_on_its_line(name: str, value: str) -> None:
    """A value that the settings take adds no line to any rendered file."""
    try:
        taken = settings(**{name: value})
    except ValidationError:
        return
    for text, plain in zip(rendering.files(taken).values(), rendering.files(sample()).values(), strict=True):
        extra = 1 if name.startswith("doppler") else 0
        assert len(text.splitlines()) - len(plain.splitlines()) in (0, extra)


@pytest.mark.parametrize(
    "branch",
    [
        "main",
        "release/2026.1",
        "v1.2.3",
        "0a1b2c3d",
        "feature/ABC-1_x",
        "dependabot/npm_and_yarn/x-1.2",
        "fix#12",
        "a@b",
    ],
)
def test_branches_of_this_world_are_taken(branch: str) -> None:
    """Names that teams use."""
    assert settings(branch=branch).branch == branch


@pytest.mark.parametrize(
    "branch",
    ["-b", "a..b", "a@{1}", "a:b", "a^", "a~1", "a//b", "a/", ".a", "a.lock", "a.lock/b", "a.", "x" * 201],
)
def test_what_git_reads_as_more_than_a_name_is_refused(branch: str) -> None:
    """Options, ranges and revision syntax are no branch."""
    with pytest.raises(ValidationError):
        settings(branch=branch)


@pytest.mark.parametrize(
    "repo",
    [
        *(
            "git@github.com:team/app.git",
            "https://x.example/team/app.git",
            "ssh://git@x.example:2222/~ana/app",
        ),
        *("git://127.0.0.1/consult.git", "file:///srv/git/app.git", "deploy@10.0.0.1:app.git"),
    ],
)
def test_git_addresses_are_taken(repo: str) -> None:
    """What git itself takes as an address."""
    assert settings(repo=repo).repo == repo


@pytest.mark.parametrize(
    "repo",
    [
        *(
            "https://ana:secret@x.example/app.git",
            "ext::sh -c id",
            "--upload-pack=id",
            "-oProxyCommand=id@x:y",
        ),
        *("app.git", "/srv/app.git", "ftp://x/y"),
    ],
)
def test_other_addresses_are_refused(repo: str) -> None:
    """Passwords, commands and options are no address."""
    with pytest.raises(ValidationError):
        settings(repo=repo)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "2001:db8::", "::1", "fe80::1%eth0", "api", "a-b.c_d"])
def test_addresses_are_taken(address: str) -> None:
    """IPv4, IPv6, names and ssh aliases."""
    assert settings(address=address).address == address


@pytest.mark.parametrize("path", ["/", "/app/..", "/home/deploy/app", "/var/tmp", "/etc", "/run/app", "/root/x", "app"])
def test_places_that_the_service_cannot_use_are_refused(path: str) -> None:
    """The sandbox of the unit hides some folders, and others are the system's."""
    with pytest.raises(ValidationError):
        settings(path=path)


@pytest.mark.parametrize("name", ["static_root", "manage", "linked_dirs", "linked_files"])
def test_whole_project_is_no_part_of_it(name: str) -> None:
    """nginx must not serve the source, nor may a link replace the worktree."""
    with pytest.raises(ValidationError, match="not the whole folder"):
        settings(**{name: (".",) if name.startswith("linked") else "."})
    assert settings(project=".").project == "."


@pytest.mark.parametrize(
    ("project", "static_root", "folder"),
    [
        (".", "staticfiles", "staticfiles"),
        ("apps/web", "staticfiles", "apps/web/staticfiles"),
        ("apps/web", "../staticfiles", "apps/staticfiles"),
        ("apps/web", "../../var/static", "var/static"),
        ("./src", "../webapp", "webapp"),
    ],
)
def test_static_files_lie_anywhere_in_the_repository(project: str, static_root: str, folder: str) -> None:
    """STATIC_ROOT may be above the folder of manage.py, as `BASE_DIR.parent / "staticfiles"` makes it."""
    assert settings(project=project, static_root=static_root).static_folder == folder


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"folder": "staticfiles/up"}, "media.folder staticfiles/up and static_root staticfiles must lie apart"),
        ({"folder": "web"}, "media.folder web holds the project itself"),
        ({"folder": "../up"}, "must be a path inside the repository"),
        ({"folder": "."}, "must be a folder or file of its own"),
        ({"folder": "/srv/up"}, "must be a path inside the repository"),
        ({"url": "/up/"}, "media.url needs media.folder, in which the uploads lie"),
        ({"folder": "up", "url": "/static/up/"}, "media.url /static/up/ and static_url /static/ must lie apart"),
        ({"folder": "up", "url": "/static/"}, "media.url /static/ and static_url /static/ must lie apart"),
        ({"folder": "up", "url": "up"}, "a path on this site that starts and ends with /"),
        ({"folder": "up", "url": "https://cdn.example.org/"}, "a path on this site that starts and ends with /"),
    ],
)
def test_uploads_have_a_folder_and_an_address_of_their_own(changes: dict[str, str], told: str) -> None:
    """nginx shows all of the folder to everybody, and an address means one thing."""
    with pytest.raises(ValidationError, match=re.escape(told)):
        settings(project="web/app", static_root="../../staticfiles", media=changes)


def test_uploads_are_linked() -> None:
    """As by linked_dirs, and once, where they stand there too."""
    assert settings(media={"folder": "up"}, linked_dirs=("a",)).linked_folders == ("a", "up")
    assert settings(media={"folder": "up"}, linked_dirs=("up", "a")).linked_folders == ("up", "a")
    assert settings(linked_dirs=("a",)).linked_folders == ("a",)


def test_no_linked_file_lies_among_uploads() -> None:
    """A database there would be there for everybody."""
    with pytest.raises(ValueError, match=r"media\.folder up holds the linked file up/db.sqlite3: nginx would show it"):
        settings(media={"folder": "up"}, linked_files=("a.ini", "up/db.sqlite3"))
    settings(media={"folder": "up"}, linked_files=("upper/db.sqlite3",))


@pytest.mark.parametrize(
    ("project", "static_root", "told"),
    [
        (".", "../staticfiles", "static_root ../staticfiles, seen from project ., lies outside the repository"),
        ("apps/web", "../../../x", "lies outside the repository"),
        ("apps/web", "../web", "holds the project itself"),
        ("apps/web", "../../apps", "holds the project itself"),
        ("./apps/web/.", "../../apps", "holds the project itself"),
        ("apps/web", "..", "must be a path inside the repository"),
        ("apps/web", "../..", "must be a path inside the repository"),
        ("apps/web", "../.", "not the whole folder"),
        ("apps/web", "x/../y", "must be a path inside the repository"),
        ("apps/web", "/app/static", "must be a path inside the repository"),
    ],
)
def test_nothing_else_is_served_as_static_files(project: str, static_root: str, told: str) -> None:
    """A static root that leaves the release, or has the source in it, is refused."""
    with pytest.raises(ValidationError, match=told):
        settings(project=project, static_root=static_root)


@pytest.mark.parametrize("value", ["a\nExecStart=/bin/sh", "a\\", "a\0"])
def test_unit_options_stay_on_their_line(value: str) -> None:
    """An option of a unit cannot bring another with it."""
    with pytest.raises(ValidationError):
        settings(unit_options={"Nice": value})


@pytest.mark.parametrize("setting", ["build", "before_switch", "after_switch"])
@pytest.mark.parametrize(
    "command",
    [
        "npm ci", "manage.py loaddata groups", "./build.sh", "sh -c 'cd ui && npm ci; ls > x'", "echo ''",
        "env NODE_ENV=production npm ci", "curl 'http://127.0.0.1/?a=1&b=2'", "rm manage.py", "pip-compile", "a # b",
    ],
)  # fmt: skip
def test_commands_of_a_release_are_taken(setting: str, command: str) -> None:
    """A program or manage.py, with words as a shell would split them."""
    assert getattr(settings(**{setting: (command,)}), setting) == (command,)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("", "must name a"), ("  ", "must name a"), ("'' x", "must name a"), ("manage.py", "a command of manage.py"),
        ("npm 'ci", "words as a shell splits them (no closing quotation)"), ("a\nb", "one line of printable text"),
        ("-x", "not with an option"), ("NODE_ENV=production npm ci", "must not begin with NODE_ENV=, for no shell"),
        ("npm ci && npm test", "must not have && outside of quotes"), ("npm ci; ls", "not have ; outside"),
        ("npm ci>log", "not have > outside"), ("./manage.py x", "must begin with manage.py itself"),
        ("python manage.py x", "must begin with manage.py itself"), ("uv run manage.py x", "must begin with manage.py"),
        (".venv/bin/python3.12 manage.py x", "must begin with manage.py itself"),
    ],
)  # fmt: skip
def test_commands_that_no_release_can_run_are_refused(command: str, told: str) -> None:
    """Each with what to write instead, before any host is asked."""
    with pytest.raises(ValidationError, match=re.escape(told)):
        settings(build=(command,))


def test_settings_cannot_be_changed() -> None:
    """What was checked stays as it was."""
    with pytest.raises(ValidationError, match="frozen"):
        sample().keep = 1  # ty: ignore[invalid-assignment]


def unanswered(table: type[Table]) -> list[str]:
    """The settings of a table, and of those in it, that do not say whether a release is built from them."""
    names = []
    for name, field in table.model_fields.items():
        if inner := tables_in(field):
            names += [f"{name}.{below}" for below in unanswered(inner)]
        elif needs_new_release(field) is None or not field.description:
            names.append(name)
    return names


def test_every_setting_says_whether_a_release_is_built_from_it() -> None:
    """Else a deploy after a change of it would say that there is nothing to do."""
    assert unanswered(Settings) == []


def test_a_setting_without_an_answer_is_found() -> None:
    """A new field has to say it, in a table of tables too."""

    class Job(Table):
        speed: int = Field(1, description="how fast")

    class More(Settings):
        colour: str = Field("red", description="which")
        jobs: dict[str, Job] = Field({}, description="by name")

    assert unanswered(More) == ["colour", "jobs.speed"]


@pytest.mark.parametrize(
    "changes",
    [
        {"repo": "https://example.org/other.git"}, {"project": "web"}, {"manage": "bin/manage.py"}, {"wsgi": "a.b:c"},
        {"static_root": "out"}, {"python": "3.13"}, {"sync_args": ("--no-dev",)}, {"linked_dirs": ("media",)},
        {"linked_files": ("a.ini",)}, {"health_path": "/up"}, {"workers": 4}, {"path": "/opt/app"}, {"name": "shop"},
        {"domain": "x.example"}, {"warm_up": ()}, {"doppler_config": "prd"}, {"doppler_project": "shop"},
        {"timeouts": Timeouts(reload=9)}, {"build": ("npm ci",)},
    ],
)  # fmt: skip
def test_what_a_release_is_built_from(changes: dict[str, object]) -> None:
    """What stands in the release's folder, and what migrated and collected for it."""
    assert settings(**changes).built_from() != sample().built_from()


@pytest.mark.parametrize(
    "changes",
    [
        {"keep": 9}, {"branch": "dev"}, {"address": "192.0.2.1"}, {"body_size": "1m"}, {"aliases": ("x.example",)},
        {"static_url": "/assets/"}, {"unit_options": {"Nice": "1"}}, {"timeouts": Timeouts(boot=9)}, {"user": "ana"},
        {"before_switch": ("manage.py loaddata groups",)}, {"after_switch": ("manage.py clear_cache",)},
    ],
)  # fmt: skip
def test_what_no_release_is_built_from(changes: dict[str, object]) -> None:
    """What only the host, systemd or nginx cares for needs no new release."""
    assert settings(**changes).built_from() == sample().built_from()
