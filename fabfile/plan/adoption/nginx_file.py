"""What a file of nginx says: its directives, each with the text that it was read from. Pure.

The published parsers give a tree from which a text has to be made anew; here each directive keeps its own text, with
comments and quotes, so that it can be pasted as it was.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# https://nginx.org/en/docs/beginners_guide.html#conf_structure; words as ngx_conf_read_token takes them.
TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<comment>\#[^\n]*)
      | (?P<sign>[{};])
      | (?P<word>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | (?:\$\{[^}\s]*\} | \\. | [^\s{};\\])+)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Directive:
    """A directive: its words, and what stands in its braces; `inner` is None for one that ends with a semicolon."""

    name: str
    arguments: tuple[str, ...]
    inner: tuple["Directive", ...] | None
    text: str

    @property
    def words(self) -> tuple[object, ...]:
        """The same for two directives that mean the same, whatever their white space and comments."""
        return (self.name, self.arguments, None if self.inner is None else tuple(each.words for each in self.inner))

    def all(self, name: str) -> list["Directive"]:
        """Return the directives of a name directly in it."""
        return [each for each in self.inner or () if each.name == name]

    def value(self, name: str) -> str:
        """Return the arguments of the last directive of a name in it, as one text; empty when there is none."""
        found = self.all(name)
        return " ".join(found[-1].arguments) if found else ""

    @property
    def summary(self) -> str:
        """The directive without what is in its braces."""
        return " ".join((self.name, *self.arguments))


def parse(text: str) -> tuple[Directive, ...]:
    """Return the directives of a file. Raises ValueError for a text that nginx would not take."""
    tokens = [match for match in _tokens(text) if match.lastgroup not in ("space", "comment")]
    found, rest = _directives(text, tokens, 0)
    if rest < len(tokens):
        raise ValueError(f"unexpected }} at character {tokens[rest].start()}")
    return found


def _tokens(text: str) -> Iterator[re.Match[str]]:
    place = 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if not match:
            raise ValueError(f"what stands at character {place} is no word of nginx")
        yield match
        place = match.end()


def _directives(text: str, tokens: list[re.Match[str]], at: int) -> tuple[tuple[Directive, ...], int]:
    """Return the directives up to the brace that closes them, and where that is."""
    found: list[Directive] = []
    while at < len(tokens) and tokens[at].group() != "}":
        begin, words = at, []
        while at < len(tokens) and tokens[at].lastgroup == "word":
            words.append(_unquoted(tokens[at].group()))
            at += 1
        if at == len(tokens) or not words or tokens[at].group() == "}":
            raise ValueError(f"a directive at character {tokens[begin].start()} does not end")
        inner = None
        if tokens[at].group() == "{":
            inner, at = _directives(text, tokens, at + 1)
            if at == len(tokens):
                raise ValueError(f"the braces at character {tokens[begin].start()} are not closed")
        source = text[tokens[begin].start() : tokens[at].end()]
        found.append(Directive(words[0], tuple(words[1:]), inner, source))
        at += 1
    return tuple(found), at


def _unquoted(word: str) -> str:
    if word[0] in "\"'" and len(word) > 1 and word[-1] == word[0]:
        return re.sub(r"\\([\"'\\])", r"\1", word[1:-1])
    return word


def walk(directives: Iterable[Directive]) -> Iterator[Directive]:
    """Yield directives with all that is in them."""
    for each in directives:
        yield each
        yield from walk(each.inner or ())
