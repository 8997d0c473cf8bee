"""The documentation tells what is true: its links, its tests, its commands, and the decisions that the code names."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from fabfile import namespace

PROJECT = Path(__file__).parents[2]
CODE = ("fabfile", "templates", "testbed", "tests")
FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
NUMBERS = re.compile(r"\d+(?:(?:-| to )\d+)?")


def tracked(*places: str) -> list[Path]:
    """The files below `places` that git knows or would take, with their text in UTF-8."""
    git = ["git", "-c", "safe.directory=*"]  # in CI another user may own the checkout
    command = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *places]
    names = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(PROJECT / name for name in names if name and (PROJECT / name).is_file())


PAGES = [str(path.relative_to(PROJECT)) for path in tracked("*.md") if "testbed" not in path.parts]


@cache
def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCED.sub("", page.read_text())


@cache
def anchors(page: Path) -> set[str]:
    """What a link may name behind # on a page, as forges make it from its headings."""
    titles = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(prose(page))]
    return {
        title if not titles[:n].count(title) else f"{title}-{titles[:n].count(title)}" for n, title in enumerate(titles)
    }


def numbers(words: str) -> set[int]:
    """The numbers in `9`, `4 and 6`, `1-8` or `1 to 8`."""
    found: set[int] = set()
    for part in NUMBERS.findall(words):
        first, *last = map(int, re.findall(r"\d+", part))
        found |= set(range(first, (last or [first])[0] + 1))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """Files that a page links to are there, and have the heading that it names."""
    here = PROJECT / page
    broken = []
    for link in LINK.findall(prose(here)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (here.parent / name).resolve() if name else here
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_the_reader_of_links_sees_what_is_broken(tmp_path: Path) -> None:
    """The test above can fail: headings become anchors as forges make them, and code is no link."""
    page = tmp_path / "page.md"
    page.write_text(
        "# One `name`\n## 2. Why, and how\n## 2. Why, and how\n```\n# no heading\n[no](link)\n```\n[a](b#c)\n"
    )
    assert anchors(page) == {"one-name", "2-why-and-how", "2-why-and-how-1"}
    assert LINK.findall(prose(page)) == ["b#c"]


def test_every_decision_that_the_code_names_is_written_down() -> None:
    """A comment that says "decision 9" leads to section 9."""
    sections = {
        int(number) for number in re.findall(r"^## (\d+)\. ", (PROJECT / "docs/decisions.md").read_text(), re.M)
    }
    unknown = {}
    for path in tracked(*CODE):
        if path == Path(__file__):
            continue
        text = path.read_text(errors="replace")
        named = set().union(*map(numbers, re.findall(r"decisions? ((?:\d+(?:-|, | and | to )?)+)", text)), set())
        if named - sections:
            unknown[str(path.relative_to(PROJECT))] = named - sections
    assert not unknown


def test_numbers_of_decisions_are_read() -> None:
    """One, several and a range."""
    assert numbers("9") == {9}
    assert numbers("4 and 6") == {4, 6}
    assert numbers("1-3, 8") == numbers("1 to 3, 8") == {1, 2, 3, 8}


def test_every_test_that_a_page_names_exists() -> None:
    """Who reads that a test holds a promise finds it."""
    there = set(re.findall(r"^ *def (test_\w+)\(", "\n".join(path.read_text() for path in tracked("tests")), re.M))
    # Not of docs/deploy.md: some steps have names like tests.
    pages = [PROJECT / page for page in PAGES if page != "docs/deploy.md"]
    named = {name for page in pages for name in re.findall(r"`(test_\w+)`", prose(page))}
    assert named
    assert named <= there, sorted(named - there)


def test_the_readme_has_every_command() -> None:
    """The table of commands has a row for each that `fab --list` has, and no other."""
    table = re.search(r"^\| command \|.*?\n\n", (PROJECT / "README.md").read_text(), re.M | re.DOTALL)
    assert table is not None
    first = [row.split("|")[1] for row in table[0].splitlines()[2:] if row]
    told = {name for cell in first for name in re.findall(r"`fab (?:-H NAME )?([a-z.]+)", cell)}
    assert told == set(namespace.task_names)


def commands(text: str) -> list[list[str]]:
    """The words of every `fab [-H NAME] VERB ...`, in the text or in a block of code, without comments.

    What stands in quotes is for a program on the host.
    """
    found = re.findall(r"\bfab (?:-e )?(?:-H [\w,]+ )?([a-z][^`\n]*)", re.sub(r'"[^"\n]*"', '""', text))
    return [re.split(r"  +#| #", each)[0].replace("[", " ").replace("]", " ").split() for each in found]


def unknown(words: list[str]) -> set[str]:
    """What of a command `fab` would not understand: its verb, or options."""
    verbs = {context.name: context.flags for context in namespace.to_contexts()}
    if words[0] not in verbs:
        return {words[0]}
    options = [word.partition("=")[0] for word in words[1:] if word.startswith("-")]
    return {option for option in options if option not in verbs[words[0]]}


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("CHANGELOG.md", "CONTRIBUTING.md")])
def test_every_command_of_a_page_is_understood(page: str) -> None:
    """Verbs and options are those that there are; CONTRIBUTING adds a verb, and the changelog tells of old ones."""
    said = commands((PROJECT / page).read_text())
    assert [words for words in said if unknown(words)] == []


def test_a_command_that_is_not_understood_is_seen() -> None:
    """The test above can fail."""
    assert commands("`fab -H a,b deploy [--force]` or\nuv run fab -H web status  # --no\n`fab --list`") == [
        ["deploy", "--force"],
        ["status"],
    ]
    assert commands('`fab -H web manage "check --deploy"`') == [["manage", '""']]
    assert unknown(["deply"]) == {"deply"}
    assert unknown(["deploy", "--forse", "--branch=x"]) == {"--forse"}


def test_every_file_that_a_page_names_exists() -> None:
    """Paths of the repository in the text are those that there are."""
    path = re.compile(r"`((?:fabfile|templates|testbed|tests|docs|\.github|\.ci)/[\w./-]*)(?:::\w+)?`")
    missing = {
        f"{page}: {name}"
        for page in PAGES
        for name in path.findall(prose(PROJECT / page))
        if not (PROJECT / name).exists()
    }
    assert not missing


def test_the_readme_names_recipes_that_there_are() -> None:
    """Each `just NAME` of the documentation is a recipe of the justfile."""
    recipes = set(re.findall(r"^([a-z][\w-]*)(?: .*)?:", (PROJECT / "justfile").read_text(), re.M))
    texts = [page.read_text() for page in (PROJECT / page for page in PAGES)] + [
        p.read_text() for p in tracked(".github", ".ci")
    ]
    named = {name for text in texts for name in re.findall(r"(?:uv run |`)just ([a-z-]+)", text)}
    assert named
    assert named <= recipes, sorted(named - recipes)


def test_no_comment_points_outside() -> None:
    """What a comment leans on is a decision of this repository, not a fact of another page."""
    assert not [str(path) for path in tracked(*CODE) if re.search(r"\b[Ff]acts? \d", path.read_text(errors="replace"))]
