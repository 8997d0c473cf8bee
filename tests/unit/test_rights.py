"""The one table of root commands, against what the host's functions call."""

import re
from pathlib import Path

import pytest

from fabfile.config.layout import Layout
from fabfile.plan import rights
from fabfile.plan.activation import Kind
from fabfile.steps import sequence
from tests.unit.test_sequence import BESIDE, CASES, Case

LIBRARY = Path(rights.__file__).parents[1] / "host/lib"
LAYOUT = Layout.of(BESIDE)
TABLE = rights.root_commands(LAYOUT)
FUNCTION = re.compile(r"^(\w+)\(\) \{(?: ([^\n]*); \}$|\n(.*?)^\})", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"\bas_root (\w+)")
# What the functions of an activation may call, by its kind; which one it is, they are told.
ACTIVATIONS: dict[Kind, set[str]] = {
    "hup": set(),  # that it restarts a service whose master is gone is no reason to ask on every deploy
    "restart": {"restart_service"},
    "start": {"restart_service", "restart_socket"},
    "nginx": set(),
    "processes": set(),
}


def functions() -> dict[str, str]:
    """The host's functions by name, without their comments."""
    text = "\n".join(path.read_text() for path in sorted(LIBRARY.glob("*.sh")))
    text = re.sub(r"(?m)(^|\s)#.*$", "", text)
    return {name: short or body for name, short, body in FUNCTION.findall(text)}


def calls(function: str) -> set[str]:
    """Names of the table that a function may call, or those that it calls."""
    bodies = functions()
    reached, todo = set(), {function}
    while todo:
        reached |= todo
        words = {word for name in todo for word in re.findall(r"\w+", bodies[name])}
        todo = words & set(bodies) - reached
    return {name for each in reached for name in CALL.findall(bodies[each])}


def test_calls_are_seen() -> None:
    """Direct ones and those of functions that are called, one-liners too: what follows rests on it."""
    assert calls("reload_nginx") == {"reload_nginx"}
    assert calls("install_files") == {"install_next"}
    assert calls("activate") == {"restart_service", "restart_socket"}
    assert calls("read_journal") == set()


def test_the_table_is_what_the_functions_call() -> None:
    """Every `as_root NAME` on the host is in the table, and every right of the table is called somewhere."""
    called = {name for body in functions().values() for name in CALL.findall(body)}
    assert called == set(TABLE)
    literal = "\n".join(functions().values()).count("as_root ")
    assert literal == sum(len(CALL.findall(body)) for body in functions().values())


def test_nothing_goes_to_root_past_the_table() -> None:
    """Only as_root and the questions for rights use sudo; provision, which is root already, is none of the deploy's."""
    users = {name for name, body in functions().items() if re.search(r"\bsudo -n", body)}
    assert users == {"as_root", "require_rights", "list_rights"}
    assert "sudo -n --list" in functions()["list_rights"]


def rolls(case: Case) -> bool:
    """Whether the switch brings workers and timers along."""
    return "roll_processes" in {step.function for step in sequence.switch(case.plan, case.activation)}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_is_asked_for_is_what_is_called(case: Case) -> None:
    """Before a switch sudo is asked for every right that its steps call, and for none besides."""
    steps = [step for step in sequence.switch(case.plan, case.activation) if step.function != "require_rights"]
    called = {name for step in steps for name in calls(step.function)} - {"restart_service", "restart_socket"}
    called |= ACTIVATIONS[case.kind]
    way_back = {"stop_units"} if case.plan.live is None else set()
    way_back |= {"install_before"} if case.plan.files else set()
    needed = set(rights.needed(LAYOUT, case.plan.files, case.kind, first=case.plan.live is None, roll=rolls(case)))
    assert needed == called | way_back
    assert needed <= set(TABLE)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_question_is_the_first_step(case: Case) -> None:
    """It is asked before anything changes, and not at all when nothing is needed."""
    asked = [
        number for number, step in enumerate(sequence.switch(case.plan, case.activation)) if "rights" in step.parameters
    ]
    needed = rights.needed(LAYOUT, case.plan.files, case.kind, first=case.plan.live is None, roll=rolls(case))
    assert asked == ([0] if needed else [])


def test_a_command_of_the_table_is_plain_words() -> None:
    """The host splits a command at its blanks and sudo compares it to the letter: absolute, no pattern, no quote."""
    for command in TABLE.values():
        assert re.fullmatch(r"/[\w./-]+( [\w./@-]+)+", command)
    lines = rights.sudo_lines(LAYOUT, "web")
    assert lines == [f"web ALL=(root) NOPASSWD: {command}" for command in TABLE.values()]
    assert len(set(lines)) == len(lines)


def test_no_command_takes_a_text_from_the_deploying_user() -> None:
    """Every place that one of them names is root's: nothing below the app's own folder."""
    for command in TABLE.values():
        assert str(LAYOUT.base) not in command


@pytest.mark.parametrize(
    ("right", "wide"),
    [
        ("ALL", True),
        ("SETENV: ALL", True),
        ("/usr/bin/systemctl restart consult-django.service", False),
        ("/usr/bin/systemctl restart other-django.service", False),  # the same user's other app
        ("/usr/bin/systemctl restart ssh.service", True),
        ("/usr/bin/systemctl start other-processes.service", False),
        ("/usr/local/lib/other-files.sh /etc/other/staged next", False),
        ("/usr/local/lib/other-files.sh /srv/other/staged next", True),
        ("/usr/bin/install -m 644 -o root -g root /srv/consult/staged/consult-django /etc/nginx/x", True),
        ("/usr/sbin/nginx -t -q", False),
        ("/usr/sbin/nginx", True),
    ],
)
def test_rights_that_no_deploy_needs_are_known(right: str, wide: bool) -> None:
    """Those of an earlier version, and everything; not those of another app."""
    assert rights.too_wide(LAYOUT, [right]) == ([right] if wide else [])
