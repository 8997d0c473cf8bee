"""hosts.toml: who is meant by -H, where each value comes from, and how mistakes are told."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from fabfile.config.hosts_file import load
from fabfile.config.inventory import Inventory
from fabfile.config.settings import Settings
from fabfile.config.table import Table, setting
from fabfile.config.texts import Line, matching
from fabfile.errors import ConfigError
from testbed.sample import APP

GOOD = """
[app]
repo = "git@github.com:team/app.git"
name = "shop"
wsgi = "shop.wsgi:application"
domain = "shop.lab"
timeouts = { boot = 20, sync = 100 }
unit_options = { MemoryMax = "1G", Nice = "5" }
aliases = ["a.example"]

[environments.production]
domain = "shop.example"
keep = 7
timeouts = { boot = 30 }

[environments.production.hosts.web2]
address = { env = "WEB2" }

[environments.production.hosts.web1]
address = "192.0.2.1"
keep = 9
unit_options = { Nice = "0" }
aliases = []

[environments.lab.hosts.lab]
lab = true
"""


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def write_and_load(text: str, **environ: str) -> Inventory:
        path = tmp_path / "hosts.toml"
        path.write_text(text, encoding="utf-8")
        return load(path, environ)

    return write_and_load


def refusal(read: Any, text: str) -> list[str]:
    """The mistakes told for a file, without the headline."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert "invoke check" in caught.value.hint
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def with_app(text: str) -> str:
    """A file with one host around the given keys of [app], and those that it has to have."""
    given = {line.partition("=")[0].strip() for line in text.splitlines()}
    asked = [line for line in APP.splitlines() if line.partition("=")[0].strip() not in given]
    return "\n".join(["[environments.e.hosts.h]", "[app]", *asked, text, ""])


def test_the_projects_own_file_is_good() -> None:
    """hosts.toml of the repository is useful as it stands."""
    inventory = load(environ={"DJANGO_SERVER_IP": "192.0.2.7"})
    (api,) = inventory.select("production")
    assert (api.name, api.address, api.settings.domain) == ("api", "192.0.2.7", "api.consult.dev")
    (lab,) = inventory.select("lab")
    assert lab.settings.lab
    assert lab.settings.repo == "git://127.0.0.1/consult.git"
    assert lab.layout.unit == "consult-django"


def test_nearest_value_wins(read: Any) -> None:
    """A host's keys win over its environment's, those over [app]."""
    (web1,) = read(GOOD).select("web1")
    assert (web1.settings.keep, web1.settings.domain) == (9, "shop.example")
    assert web1.settings.repo == "git@github.com:team/app.git"
    assert web1.settings.aliases == ()
    assert web1.environment == "production"


def test_tables_merge_key_by_key(read: Any) -> None:
    """One limit or one unit option can be changed without repeating the others."""
    (web1,) = read(GOOD).select("web1")
    assert (web1.settings.timeouts.boot, web1.settings.timeouts.sync, web1.settings.timeouts.fetch) == (
        30,
        100,
        120,
    )
    assert web1.settings.unit_options == {"MemoryMax": "1G", "Nice": "0"}


class Job(Table):
    """A table of which there may be many, each with a name; two of its settings depend on each other."""

    command: Line = setting(..., "what it runs", new_release=False, secret=True)
    copies: int = setting(1, "how many", new_release=False)
    alone: bool = setting(False, "never beside itself", new_release=True)

    @model_validator(mode="after")
    def _one_alone(self) -> Self:
        if self.alone and self.copies > 1:
            raise ValueError("alone and copies contradict each other")
        return self


class WithJobs(Settings):
    """The settings with tables by name among them."""

    jobs: dict[Annotated[str, matching(r"[a-z]+", "must be a-z")], Job] = Field({}, description="by name")


@pytest.fixture
def read_jobs(read: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    for module in ("hosts_file", "mistakes", "references", "values"):
        monkeypatch.setattr(f"fabfile.config.{module}.Settings", WithJobs)
    return read


def test_named_tables_merge_key_by_key(read_jobs: Any) -> None:
    """A host changes one key of a table of tables, adds one, and takes a value from its environment."""
    text = f"""
        [app]
        {APP}
        jobs.mail = {{ command = "send", copies = 2 }}
        [environments.e.jobs.clean]
        command = {{ env = "CLEAN" }}
        [environments.e.hosts.one.jobs.mail]
        copies = {{ env = "COPIES" }}
        [environments.e.hosts.two.jobs.clean]
    """
    one, two = read_jobs(text, CLEAN="sweep", COPIES="7").select("e")
    assert {name: (job.command, job.copies) for name, job in one.settings.jobs.items()} == {
        "mail": ("send", 7),
        "clean": ("sweep", 1),
    }
    assert two.settings.jobs["mail"].copies == 2
    assert two.settings.built_from()["jobs"] == {"mail": {"alone": False}, "clean": {"alone": False}}
    with pytest.raises(ConfigError, match=r"^environments\.e\.jobs\.clean\.command: .* CLEAN is not set$"):
        read_jobs(text, COPIES="7").select("two")


def test_mistakes_of_named_tables_are_told_by_their_place(read_jobs: Any) -> None:
    """Each by its own key path; what a table lacks, only where no other table adds it."""
    told = refusal(
        read_jobs,
        f"[app]\n{APP}"
        """
        jobs.mail = { command = "send", copis = 2 }
        jobs.Big = { command = "hunter2" }
        jobs.none = 3
        [environments.e.hosts.one.jobs.mail]
        copies = "many"
        command = "hunter2\\n"
        [environments.e.hosts.two.jobs]
        clean = { copies = 2 }
        mail = { alone = true, copies = 2 }
        """,
    )
    assert sorted(told) == [
        "app.jobs.Big: must be a-z",
        "app.jobs.mail.copis: there is no such setting; did you mean copies?",
        "app.jobs.none: must be a table, not 3",
        "environments.e.hosts.one.jobs.mail.command: must be one line of printable text",
        'environments.e.hosts.one.jobs.mail.copies: must be a whole number, not "many"',
        "environments.e.hosts.two.jobs.clean.command: is missing",
        "environments.e.hosts.two.jobs.mail: alone and copies contradict each other",
    ]


def test_names_mean_hosts_or_environments(read: Any) -> None:
    """-H takes both, several of them, and each host is done once, in the order of the file."""
    inventory = read(GOOD, WEB2="192.0.2.2")
    assert [host.name for host in inventory.select("production")] == ["web2", "web1"]
    assert [host.name for host in inventory.select("web1, production,lab")] == ["web1", "web2", "lab"]
    assert [host.name for host in inventory.select(["lab"])] == ["lab"]
    assert inventory.environments == ["lab", "production"]
    assert inventory.hosts == ["lab", "web1", "web2"]


def test_host_without_address_is_an_ssh_alias(read: Any) -> None:
    """Without an address ssh_config knows the host by its name."""
    assert read(GOOD).select("lab")[0].address == "lab"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("wb1", '"wb1" is no host or environment of hosts.toml; did you mean web1?'),
        ("web1,prodction,zzz", 'did you mean production?\n"zzz" is no host'),
        ("ana@web1:22", '"ana@web1:22" is no host or environment of hosts.toml; did you mean web1?'),
        ("", "No host is named"),
        (" , ", "No host is named"),
        (None, "No host is named"),
        ("\x1b[31mred", '"\\u001b[31mred" is no host'),
    ],
)
def test_unknown_names_are_told_with_the_known(names: str, told: str, read: Any) -> None:
    """Every unknown name at once, the nearest right one, and all there are."""
    with pytest.raises(ConfigError) as caught:
        read(GOOD).select(names)
    assert told in caught.value.message
    assert caught.value.hint == "-H takes: lab, production, web1, web2"


def test_environment_is_asked_only_for_hosts_in_use(read: Any) -> None:
    """An unset variable is no trouble for other hosts, and names itself and its place for this one."""
    inventory = read(GOOD)
    assert inventory.select("web1")
    with pytest.raises(ConfigError) as caught:
        inventory.select("production")
    assert caught.value.message == (
        "environments.production.hosts.web2.address: the environment variable WEB2 is not set"
    )


def test_empty_variable_is_not_set(read: Any) -> None:
    """CI hands over a secret that it does not have as an empty variable."""
    with pytest.raises(ConfigError, match="WEB2 is not set"):
        read(GOOD, WEB2="").select("web2")


def test_variables_stand_for_any_value(read: Any) -> None:
    """Numbers, truths, lists, table values and list items come from the environment in the field's type."""
    text = with_app(
        """
        workers = { env = "WORKERS" }
        default_server = { env = "DEFAULT" }
        aliases = { env = "ALIASES" }
        linked_dirs = ["media", { env = "FOLDER" }]
        timeouts = { boot = { env = "BOOT" }, fetch = { env = "NONE", default = 9 } }
        unit_options = { Nice = { env = "NICE" } }
        keep = { env = "NONE", default = 3 }
        """
    )
    environ = {
        "WORKERS": "4",
        "DEFAULT": "False",
        "ALIASES": "a.x, b.x",
        "FOLDER": "up",
        "BOOT": "9",
        "NICE": "1",
    }
    found = read(text, **environ).select("h")[0].settings
    assert (found.workers, found.default_server, found.aliases) == (4, False, ("a.x", "b.x"))
    assert found.linked_dirs == ("media", "up")
    assert (found.timeouts.boot, found.timeouts.fetch, found.keep) == (9, 9, 3)
    assert found.unit_options == {"Nice": "1"}


def test_multi_line_secret_arrives_whole(read: Any) -> None:
    """A private key is text of many lines, and no repr shows it."""
    key = "-----BEGIN KEY-----\nabc\n-----END KEY-----\n"
    (host,) = read(with_app('key_text = { env = "KEY" }'), KEY=key).select("h")
    assert host.settings.key_text == key
    assert "abc" not in repr(host)


@pytest.mark.parametrize("key", ["workers", "host_key", "branch", "domain", "timeouts.boot", "lab"])
def test_values_of_the_environment_are_never_shown(key: str, read: Any) -> None:
    """What came from the environment may be a secret that was put into the wrong variable."""
    inventory = read(with_app(f'{key} = {{ env = "X" }}'), X="hunter2 \ud800")
    with pytest.raises(ConfigError) as caught:
        inventory.select("h")
    assert caught.value.message.startswith(f"app.{key}: must ")
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    "line",
    [
        'repo = "https://ana:hunter2@x.example/y.git"',
        'repo = ["hunter2"]',
        'key_text = ["hunter2"]',
        'unit_options = { Environment = "TOKEN=hunter2\\\\" }',
        'authorized_keys = ["hunter2\\n"]',
        'public_url = "https://ana:hunter2@x.example/ y"',
    ],
)
def test_values_that_may_be_secret_are_never_shown(line: str, read: Any) -> None:
    """A password in the wrong place is refused without being repeated."""
    (told,) = refusal(read, with_app(line))
    assert "hunter2" not in told


def test_overrides_win_over_everything(read: Any) -> None:
    """Options of the command line come last; those not given change nothing."""
    (web1,) = read(GOOD).select("web1", {"branch": "x/y", "keep": "3", "doppler_config": None, "lab": True})
    assert (web1.settings.branch, web1.settings.keep, web1.settings.lab) == ("x/y", 3, True)
    assert web1.settings.doppler_config is None


def test_overrides_are_told_by_their_option(read: Any) -> None:
    """A wrong option is told once, whatever the number of hosts, by the name that was typed."""
    with pytest.raises(ConfigError) as caught:
        read(GOOD, WEB2="x").select("production", {"doppler_config": "a b", "branch": "--upload-pack=x"})
    first, second = sorted(caught.value.message.splitlines())
    assert first.startswith("--branch: must name a branch, tag or commit")
    assert second.startswith("--doppler-config: must be a name as Doppler shows it")


def test_override_replaces_an_unset_variable(read: Any) -> None:
    """What the command line says need not be in the environment."""
    assert read(GOOD).select("web2", {"address": "192.0.2.9"})[0].address == "192.0.2.9"


def test_an_app_of_its_own_name_has_a_link_of_its_own(read: Any) -> None:
    """/app belongs to the app that [app] names; another one in the file follows its name, and moves nobody."""
    text = (
        GOOD
        + """
        [environments.blog]
        name = "blog"
        hosts.first = {}
        hosts.second = { path = "/opt/blog" }
        hosts.third = { name = { env = "NAME" } }
    """
    )
    hosts = read(text, NAME="wiki", WEB2="x").select("web2,first,second,third")
    assert [host.settings.path for host in hosts] == ["/app", "/srv/blog/app", "/opt/blog", "/srv/wiki/app"]
    assert read(text).draft("third")[0].settings.path == "/srv/app/app"


@pytest.mark.parametrize("key", ["name", "domain", "wsgi", "repo"])
def test_what_each_app_says_may_come_from_the_environment(key: str, read: Any) -> None:
    """A variable in place of what has no default is asked for when its host is used, and `check` does without."""
    inventory = read(with_app(f'{key} = {{ env = "X" }}'))
    assert inventory.draft("h")[1] == ["X"]
    with pytest.raises(ConfigError, match=rf"^app\.{key}: the environment variable X is not set$"):
        inventory.select("h")


def test_draft_stands_in_for_unset_variables(read: Any) -> None:
    """`check` looks at hosts whose variables are not set here, and says which those are."""
    host, unset = read(GOOD).draft("web2")
    assert (host.settings.address, host.settings.domain, unset) == (None, "shop.example", ["WEB2"])


def test_all_mistakes_are_told_at_once(read: Any) -> None:
    """Nobody corrects a file one mistake at a time."""
    told = refusal(
        read,
        """
        tittle = 1
        [app]
        worker = 3
        keep = 1
        timeouts = { bot = 3, boot = "x", fetch = 0 }
        unit_options = { nice = "1", MemoryMax = 3 }
        aliases = ["fine", "not fine", { env = "LATER" }, 7]
        [enviroments.x]
        [environments.production]
        workers = true
        hosts.a.port = "ssh"
        hosts.b.port = 70000
        hosts.c = 3
        hosts."d e" = {}
        [environments.empty]
        """,
    )
    assert sorted(told) == sorted(
        [
            "tittle: there is no such setting",
            "enviroments: there is no such setting; did you mean environments?",
            "app.worker: there is no such setting; did you mean workers?",
            "app.keep: must be at least 2, not 1",
            "app.timeouts.bot: there is no such setting; did you mean boot?",
            'app.timeouts.boot: must be a whole number, not "x"',
            "app.timeouts.fetch: must be at least 1, not 0",
            "app.unit_options.nice: is not written like a systemd option (MemoryMax)",
            "app.unit_options.MemoryMax: must be text",
            'app.aliases[1]: must be a host name like api.consult.dev, not "not fine"',
            "app.aliases[3]: must be text, not 7",
            "environments.production.workers: must be a whole number, not true",
            'environments.production.hosts.a.port: must be a whole number, not "ssh"',
            "environments.production.hosts.b.port: must be at most 65535, not 70000",
            "environments.production.hosts.c: must be a table",
            'environments.production.hosts."d e": a name has letters, digits and . _ - only, at most 63',
            "environments.empty: has no hosts: add [environments.empty.hosts.NAME]",
            "app.repo: is missing: the git address of the app",
            'app.name: is missing: names the unit, the site and the folders, like "shop"',
            'app.wsgi: is missing: what gunicorn serves, like "config.wsgi:application"',
            'app.domain: is missing: the server name, like "shop.example.com"',
        ]
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "environments: is missing: add [environments.production.hosts.NAME]"),
        ("environments = 3", "environments: must be a table"),
        (with_app("") + "[environments.x]\nhosts = []", "environments.x.hosts: must be a table"),
        ('app = "x"\n[environments.e.hosts.h]\nrepo="git@x:y.git"', "app: must be a table"),
        (with_app("timeouts = 3"), "app.timeouts: must be a table, not 3"),
        (with_app('timeouts = { env = "X" }'), "app.timeouts.env: there is no such setting"),
        (with_app("repository = 1"), "app.repository: there is no such setting; did you mean repo?"),
        (with_app("keep = 3.0"), "app.keep: must be a whole number, not 3.0"),
        (with_app('keep = "3"'), 'app.keep: must be a whole number, not "3"'),
        (with_app("keep = 0x" + "f" * 9000), "app.keep: must be at most 100, not such a large number"),
        (with_app("domain = 2026-01-22"), "app.domain: must be text, not a date or time"),
        (with_app("domain = { a.b.c = 1 }"), "app.domain: must be text, not a table"),
        (with_app('aliases = "a"'), 'app.aliases: must be a list, not "a"'),
        (with_app('lab = "yes"'), 'app.lab: must be true or false, not "yes"'),
        (with_app('name = "' + "x" * 90 + '"'), '"' + "x" * 56 + "..."),
        (with_app("keep = { env = 3 }"), "app.keep.env: must be the name of an environment variable"),
        (with_app('keep = { env = "A B" }'), "app.keep.env: must be the name of an environment variable"),
        (
            with_app('keep = { env = "A", defaul = 1 }'),
            "app.keep.defaul: only `default` may stand beside `env`",
        ),
        (with_app('keep = { env = "A", default = "x" }'), 'app.keep: must be a whole number, not "x"'),
        (
            with_app('keep = { env = "A", default = { env = "B" } }'),
            "app.keep.default: must be a plain value",
        ),
        (
            with_app("") + "[environments.x.y]\nport = 1",
            "environments.x.y: there is no such setting; a host stands in environments.x.hosts.y",
        ),
        (
            with_app("") + "[environments.x.hosts.h]",
            "environments.x.hosts.h: this host stands in environments.e already",
        ),
        (
            with_app("") + "[environments.x.hosts.x]\n[environments.x.hosts.y]",
            "environments.x.hosts.x: is also the name of an environment: -H would not know which is meant",
        ),
        (
            with_app("") + "[environments.x.hosts.e]",
            "environments.x.hosts.e: is also the name of an environment: -H would not know which is meant",
        ),
        (
            '[environments.e.hosts.h]\nrepo = "git@x:y.git"\n[environments.e.hosts.i]',
            "environments.e.hosts.i.repo: is missing, here and in [app]",
        ),
        (
            with_app("[environments.f.hosts.i]")
            .replace("name = ", "branch = ")
            .replace("f.hosts.i]", 'f.hosts.i]\nname = "x"'),
            "environments.e.hosts.h.name: is missing, here and in [app]",
        ),
        (
            '[app]\nstatic_root = "../x"\n[environments.e.hosts.h]',
            "environments.e.hosts.h: static_root ../x, seen from project ., lies outside the repository",
        ),
        (
            with_app("keep = 1\n[environments.f]\nhosts.i.keep = 3\nkeep = 4"),
            "app.keep: must be at least 2, not 1",
        ),
    ],
)
def test_mistakes(text: str, told: str, read: Any) -> None:
    """Each kind of mistake is told by its key path, in words; also where a nearer value hides it."""
    assert any(told in line for line in refusal(read, text))


@pytest.mark.parametrize("words", ['"--frozen", "--group"', '"--group", "--frozen"'])
def test_an_option_of_uv_without_its_value(words: str, read: Any) -> None:
    """It is named with the key path, at the end of the list or before another option, and nothing is said beside it."""
    line = 'app.sync_args: --group lacks its value, like "--group", "x"'
    assert line in [told.strip() for told in refusal(read, with_app(f"sync_args = [{words}]"))]


TWO_APPS = """
[app]
repo = "git@x:y.git"
wsgi = "a.wsgi:application"
name = "shop"
[environments.production]
domain = "shop.example"
hosts.api = { address = "192.0.2.1" }
[environments.staging]
name = "shop-staging"
domain = "staging.shop.example"
default_server = false
hosts.stage = { address = "192.0.2.1" }
"""


def test_one_server_may_have_several_apps(read: Any) -> None:
    """Production and staging, or two apps, at one address: each with its name, its link and its domain."""
    api, stage = read(TWO_APPS).select("api,stage")
    assert api.settings.address == stage.settings.address
    assert (api.settings.path, stage.settings.path) == ("/app", "/srv/shop-staging/app")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "shop-staging"', "", "has its name and path too: one would overwrite the other"),
        ('"staging.shop.example"', '"shop.example"', "has its domain too: one would overwrite the other"),
        ("default_server = false", 'aliases = ["shop.example"]', "has its domain too"),
        ("default_server = false", 'path = "/app"', "has its path too"),
        ("default_server = false", "", "one of the two has to say default_server = false"),
    ],
)
@pytest.mark.parametrize("address", ['"192.0.2.1"', '"one.EXAMPLE"', '{ env = "SERVER" }'])
def test_what_apps_on_one_server_must_not_share(old: str, new: str, told: str, address: str, read: Any) -> None:
    """Two hosts of one address (by text or by the same variable) must not write to the same places."""
    text = TWO_APPS.replace('"192.0.2.1"', address)
    (line,) = refusal(read, text.replace(old, new))
    assert line.startswith("environments.staging.hosts.stage: is at the address of environments.production.hosts.api")
    assert told in line


@pytest.mark.parametrize("other", ['{ address = "192.0.2.2" }', '{ address = "192.0.2.1", port = 2222 }', "{}"])
def test_servers_of_their_own_may_have_the_same_app(other: str, read: Any) -> None:
    """Another address, another port behind one address, or an alias of ssh_config is another server."""
    same = TWO_APPS.replace('name = "shop-staging"', "").replace(
        'stage = { address = "192.0.2.1" }', f"stage = {other}"
    )
    assert [host.settings.name for host in read(same).select("api,stage")] == ["shop", "shop"]


def test_environment_of_one_host_may_share_its_name(read: Any) -> None:
    """`-H lab` is the host and the environment alike."""
    assert [host.name for host in read(GOOD).select("lab")] == ["lab"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[app]\nrepo =\n", "line 2"),
        (b"[app]\n[app]", "line 2"),
        (b"a = " + b"9" * 5000, "is no TOML"),
        (b"a = " + b"[" * 100000, "nests too deep"),
        (b"a = '\xff'", "is not UTF-8"),
    ],
)
def test_what_is_no_toml_is_told_by_its_line(content: bytes, told: str, tmp_path: Path) -> None:
    """A slip in the syntax is a mistake of the file, not a traceback."""
    path = tmp_path / "hosts.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        load(path, {})


def test_missing_file_is_told(tmp_path: Path) -> None:
    """The message says which file, the hint how to name another."""
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read") as caught:
        load(environ={"DJANGO_DEPLOY_HOSTS": str(tmp_path / "none.toml")})
    assert "DJANGO_DEPLOY_HOSTS" in caught.value.hint


def test_environment_names_another_file(tmp_path: Path) -> None:
    """One checkout of the tool serves several inventories."""
    (tmp_path / "other.toml").write_text(GOOD)
    assert "web1" in load(environ={"DJANGO_DEPLOY_HOSTS": str(tmp_path / "other.toml")}).hosts


scalars = (
    st.text(max_size=12)
    | st.integers()
    | st.booleans()
    | st.floats()
    | st.datetimes()
    | st.dates()
    | st.sampled_from(["env", "default", "hosts", "-x", "a;b", "main", "1"])
)
KEYS = [
    *tomllib.loads(APP),
    "app",
    "environments",
    "hosts",
    "env",
    "default",
    "keep",
    "timeouts",
    "unit_options",
    "boot",
    "aliases",
]
keys = st.sampled_from([*KEYS, "production", "Nice"]) | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=25,
)
tables = st.dictionaries(keys, values, max_size=5)
references = st.sampled_from([{"env": "A"}, {"env": "NONE"}, {"env": "NONE", "default": 3}])
good_looking = st.fixed_dictionaries(
    {key: st.just(value) for key, value in tomllib.loads(APP).items()},
    optional={
        "keep": st.integers(2, 100) | references,
        "aliases": st.lists(st.just("a.example") | references, max_size=3),
        "timeouts": st.dictionaries(st.just("boot"), st.just(9) | references),
        "unit_options": st.dictionaries(st.just("Nice"), st.text(max_size=3) | references),
    },
)
named = st.dictionaries(st.sampled_from(["a", "b", "c"]) | keys, good_looking | tables, min_size=1, max_size=2)
near_misses = st.fixed_dictionaries(
    {
        "app": good_looking,
        "environments": st.dictionaries(keys, st.fixed_dictionaries({"hosts": named}) | tables, min_size=1, max_size=2),
    }
)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    document=tables | near_misses,
    text=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0")),
)
def test_any_document_is_taken_or_refused(document: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever TOML can say, the answer is an inventory or a ConfigError whose lines are printable."""
    monkeypatch.setattr(tomllib, "loads", lambda _: document)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "")
    try:
        inventory = load(Path("hosts.toml"), {"A": text})
        for name in inventory.hosts:
            inventory.draft(name)
        inventory.select(inventory.hosts, {"branch": text})
    except ConfigError as error:
        assert all(line.isprintable() for line in error.message.split("\n"))  # noqa: PT017


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(text=st.text(alphabet="[]{}=\"'.,#\n abcenvo1-_", max_size=80))
def test_any_text_is_taken_or_refused(text: str, tmp_path: Path) -> None:
    """Whatever stands in the file, the answer is an inventory or a ConfigError."""
    path = tmp_path / "hosts.toml"
    path.write_text(text)
    try:
        load(path, {})
    except ConfigError as error:
        assert error.message.isprintable() or "\n" in error.message  # noqa: PT017
