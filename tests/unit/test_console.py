"""What a person and a program see of a run: on a terminal, in a pipe, as JSON."""

import io
import json

import pytest

from fabfile.errors import Unhealthy
from fabfile.output.console import Console
from fabfile.output.outcome import TAIL, Outcome
from fabfile.steps.step import Step, StepResult

STEP = Step("fetch_the_repository", "Fetch the repository", "fetch")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    """A pipe whose reader went away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(text)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary terminal."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def run(stream: io.StringIO, *, code: int = 0, output: str = "", echo: bool = False) -> str:
    """One step from its beginning to its end, and what was written."""
    console = Console(stream=stream, echo=echo)
    console.begin(STEP)
    console.end(StepResult(STEP, code, output, 1.234))
    return stream.getvalue()


def test_a_terminal_shows_a_step_as_it_starts() -> None:
    """The step stands there while it runs; its end takes the place of its beginning."""
    text = run(Terminal())
    assert text.startswith("  Fetch the repository ...\r\x1b[K  Fetch the repository ")
    assert "  1.23 s" in text
    assert "\x1b[32mok\x1b[0m\n" in text


def test_a_pipe_gets_one_plain_line_for_each_step() -> None:
    """No colour, no cursor movement, nothing before the step has ended."""
    assert run(io.StringIO()) == f"  {STEP.title:<44}   1.23 s  ok\n"


@pytest.mark.parametrize(
    ("name", "value", "colour"), [("NO_COLOR", "1", False), ("NO_COLOR", "", True), ("TERM", "dumb", False)]
)
def test_no_color_is_kept(monkeypatch: pytest.MonkeyPatch, name: str, value: str, colour: bool) -> None:
    """NO_COLOR that is not empty means no colour, also on a terminal; a dumb terminal gets plain lines."""
    monkeypatch.setenv(name, value)
    text = run(Terminal(), code=1, output="evidence")
    assert ("\x1b[3" in text) is colour
    assert "FAILED" in text
    if name == "TERM":
        assert "\x1b" not in text


def test_output_is_shown_only_when_a_step_fails() -> None:
    """Quiet while all goes well; the last lines, and how many are before them, when it does not."""
    assert "noise" not in run(io.StringIO(), output="noise")
    text = run(io.StringIO(), code=1, output="\n".join(f"line {number}" for number in range(100)))
    assert f"    line {100 - TAIL}\n" in text
    assert f"    line {99 - TAIL}\n" not in text
    assert text.endswith("    line 99\n")
    assert f"... {100 - TAIL} lines before (all of them: -e)" in text


def test_echo_shows_all_output() -> None:
    """-e shows every line of every step."""
    text = run(io.StringIO(), output="\n".join(f"line {number}" for number in range(100)), echo=True)
    assert all(f"    line {number}\n" in text for number in range(100))


def test_a_line_in_between_does_not_tear_a_step() -> None:
    """What is said while a step runs stands above it."""
    stream = Terminal()
    console = Console(stream=stream)
    console.begin(STEP)
    console.say("by the way")
    assert stream.getvalue() == "  Fetch the repository ...\r\x1b[Kby the way\n  Fetch the repository ..."


def test_an_error_names_the_next_command() -> None:
    """Message, evidence, next command; evidence that stands above already is not repeated."""
    error = Unhealthy("it is down", hint="fab -H api logs", evidence="line 1\nline 2")
    stream = io.StringIO()
    Console(stream=stream).error(error)
    assert stream.getvalue() == "it is down\n    line 1\n    line 2\n  next: fab -H api logs\n"
    stream = io.StringIO()
    error.shown = True
    Console(stream=stream).error(error)
    assert "line 1" not in stream.getvalue()


def test_json_is_the_only_thing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json a person's lines go to stderr, and stdout has one document."""
    console = Console(as_json=True)
    console.begin(STEP)
    console.end(StepResult(STEP, 1, "evidence → ünï", 1.0))
    console.say("a line")
    outcome = Outcome("deploy", "api", details={"more": 1})
    outcome.fail(Unhealthy("it is down", hint="fab -H api logs", evidence="evidence"))
    console.finish([outcome.document()])
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document == outcome.document()
    assert (document["status"], document["phase"], document["exit_code"]) == ("failed", "health", 6)
    assert (document["logs"], document["suggestions"]) == ({"output": ["evidence"]}, ["fab -H api logs"])
    assert document["more"] == 1
    assert "FAILED" in said.err


def test_json_of_several_hosts_is_still_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """An environment of two hosts: one document, with one outcome each."""
    Console(as_json=True).finish([Outcome("status", name).document() for name in ("web1", "web2")])
    assert [outcome["server"] for outcome in json.loads(capsys.readouterr().out)["hosts"]] == ["web1", "web2"]


def test_without_json_there_is_no_document(capsys: pytest.CaptureFixture[str]) -> None:
    """A person is not given JSON."""
    Console().finish([Outcome("status", "api").document()])
    assert capsys.readouterr().out == ""


def test_times_of_steps_add_up_under_their_ids() -> None:
    """`timing` has a key for each id, whatever the title says; a step that runs twice has the sum."""
    console = Console(stream=io.StringIO())
    for seconds, title in ((1.0, "Reload gunicorn (HUP)"), (0.5, "Other words")):
        console.end(StepResult(Step("reload_gunicorn_hup", title, "activate"), 0, "", seconds))
    assert console.timing == {"reload_gunicorn_hup": 1.5}


def test_a_reader_that_went_away_does_not_end_the_work() -> None:
    """`fab deploy | head -1` deploys."""
    console = Console(stream=Gone())
    console.begin(STEP)
    console.end(StepResult(STEP, 1, "output", 1.0))
    console.say("more")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_without_unicode_does_not_end_the_work(encoding: str) -> None:
    """What cannot be written in the stream's encoding is replaced; the switch goes on."""
    raw = io.BytesIO()
    console = Console(stream=io.TextIOWrapper(raw, encoding=encoding))
    console.end(StepResult(STEP, 1, "→ \udcff", 1.0))
    console.say("→")
    assert b"FAILED" in raw.getvalue()
