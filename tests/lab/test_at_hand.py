"""What a person does by hand on a real host: commands with and without a terminal, logs, history."""

import json
import os
import select
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import pytest

from testbed import harness
from testbed.harness import SETTINGS, WSGI, Site, Terminal, running, throw_away, wait_for, watching_ps
from testbed.lab import set_secrets

pytestmark = pytest.mark.lab

SLEEP = "sleep 98765"
# Says so once it and a child of its own are there; both go on for long.
CODE = f'import subprocess; p = subprocess.Popen("{SLEEP}".split()); print("ready", flush=True); p.wait()'
HOLD = ("run", f"python -c '{CODE}'")


@pytest.fixture(scope="module")
def hand(base: str, own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The sample site with users, live on a host of these tests' own."""
    with throw_away(own("hand"), base=base) as host:
        site = Site(host, tmp_path_factory.mktemp("hand"), "t/hand")
        users = '"django.contrib.auth", "django.contrib.contenttypes"'
        site.commit(site.edited(SETTINGS, '"pages"]', f'"pages", {users}]'))
        site.deploy().expect(0)
        yield site
        site.assert_sound()


@contextmanager
def at_terminal(site: Site, *words: str) -> Generator[Terminal]:
    """`fab` with a terminal."""
    site.cold = True
    try:
        with harness.at_terminal(lambda end: site.start_raw("-H", site.name, *words, terminal=end)) as terminal:
            yield terminal
    finally:
        site.cold = False


def sleeping(site: Site) -> str:
    return site.run(f"pgrep -f '^{SLEEP}' || true").strip()


def test_the_first_user_is_made_at_a_terminal(hand: Site) -> None:
    """createsuperuser asks its questions, shows no password, and the user is there."""
    with at_terminal(hand, "manage", "createsuperuser") as terminal:
        terminal.expect("Username")
        terminal.type("ana\r")
        terminal.expect("Email address:")
        terminal.type("ana@example.com\r")
        terminal.expect("Password:")
        terminal.type("correct-horse\r")
        terminal.expect("Password (again):")
        terminal.type("correct-horse\r")
        terminal.expect("Superuser created successfully.")
        assert terminal.end() == 0
        assert "correct-horse" not in terminal.seen
    users = "from django.contrib.auth.models import User; print(User.objects.get(is_superuser=True).username)"
    assert hand.fab("shell", stdin=users + "\n").expect(0).out.split()[-1] == "ana"


def test_data_goes_through_pipes_as_it_is(hand: Site) -> None:
    """dumpdata's stdout is a file that loaddata takes, a megabyte of it, and nothing of ours is in it."""
    texts = [f"ünï {n} " * 50 for n in range(2000)]
    notes = [
        {"model": "pages.note", "pk": n + 1, "fields": {"text": text, "created": "2026-01-01T00:00:00Z"}}
        for n, text in enumerate(texts)
    ]
    said = hand.fab("manage", "loaddata --format=json -", stdin=json.dumps(notes)).expect(0)
    assert "Installed 2000 object(s)" in said.out
    dumped = hand.fab("manage", "dumpdata pages.note").expect(0)
    assert [note["fields"]["text"] for note in json.loads(dumped.out)] == texts
    assert dumped.err == ""
    hand.fab("manage", "flush --noinput").expect(0)
    assert hand.notes() == []


def test_a_command_that_fails_says_so_with_its_code(hand: Site) -> None:
    """Exit 5; its own words on stderr, its own code in message and document; stdout stays its own."""
    failed = hand.fab("manage", "nonsense --deep").expect(5)
    assert failed.out == ""
    assert "Unknown command: 'nonsense'" in failed.err
    assert "manage.py nonsense: exit 1\n  next: fab -H" in failed.err
    document = hand.fab("run", "sh -c 'echo out; echo err >&2; exit 7'", "--json").expect(5).json
    assert (document["command_exit_code"], document["stdout"], document["stderr"]) == (7, "out\n", "err\n")
    assert document["error"].endswith("sh: exit 7")


def test_ctrl_c_at_a_terminal_ends_the_far_command(hand: Site) -> None:
    """The key goes to the far side; the command ends with its children, and the terminal is as before."""
    with at_terminal(hand, *HOLD) as terminal:
        terminal.expect("ready")
        assert sleeping(hand)
        terminal.type("\x03")
        assert terminal.end() == 130
        assert "interrupted" in terminal.seen
    wait_for(lambda: not sleeping(hand))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_without_a_terminal_goes_with_this_side(hand: Site, number: signal.Signals) -> None:
    """Ctrl-C, or the end of the client: the far command ends with its children."""
    with running(hand, *HOLD) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        assert sleeping(hand)
        process.send_signal(number)
        process.wait(timeout=60)
        assert process.returncode == (130 if number == signal.SIGINT else -9)
    wait_for(lambda: not sleeping(hand))


def test_a_shell_is_at_hand(hand: Site) -> None:
    """Django's, at a terminal, until Ctrl-D."""
    with at_terminal(hand, "shell") as terminal:
        terminal.expect(">>> ")
        terminal.type("from pages.models import Note; 49 + Note.objects.count() * 0 + 49\r")
        terminal.expect("\r\n98\r\n>>> ")  # between two prompts a terminal takes Ctrl-D for something else
        terminal.type("\x04")
        assert terminal.end() == 0


def test_the_far_terminal_has_the_size_of_this_one(hand: Site) -> None:
    """At the start, and after a change of the window."""
    with at_terminal(hand, "run", "sh -c 'stty size; read x; stty size'") as terminal:
        terminal.expect("30 90")
        terminal.resize(70, 20)
        terminal.process.send_signal(signal.SIGWINCH)  # which a shell's terminal would send
        wait_for(lambda: hand.run("for t in /dev/pts/[0-9]*; do stty size -F $t 2>/dev/null; done").find("20 70") >= 0)
        terminal.type("\r")
        terminal.expect("20 70")
        assert terminal.end() == 0


def test_ssh_is_a_login(hand: Site) -> None:
    """A shell of the user that deploys, left as any; without a terminal it says what to take."""
    with at_terminal(hand, "ssh") as terminal:
        terminal.type("echo I am $(id -un)\r")
        terminal.expect("I am deploy")
        terminal.type("false\r")
        terminal.type("exit\r")
        assert terminal.end() == 0
    assert "ssh needs a terminal" in hand.fab("ssh").expect(2).err


def test_secrets_are_the_command_s_alone(hand: Site) -> None:
    """A command has them; no command line and no word of ours shows them."""
    set_secrets(hand.host, LETTER="SENTINEL-98")
    look = "python -c 'import os; print(os.environ[\"LETTER\"][:3])'"
    with watching_ps() as seen:
        said = [hand.fab(*words, "run", look).expect(0) for words in ((), ("-e",))]
        said.append(hand.fab("run", look, "--json").expect(0))
        said.append(hand.fab("-e", "run", "sh -c 'exit 3'").expect(5))
    assert [result.out for result in said[:2]] == ["SEN\n", "SEN\n"]
    assert not any("SENTINEL" in text for text in [*seen, *(result.text for result in said)])
    assert any("run_by_hand" in line for line in seen), "the command line was looked at"


def test_a_command_keeps_its_release(hand: Site) -> None:
    """Deploys go on beside it, and what they prune is not what it works in."""
    hand.settings["keep"] = 2
    before = hand.live()
    with running(hand, "run", "sh -c 'echo ready; read x; pwd -P; python -c \"import django\"'") as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        for title in ("One", "Two"):
            hand.commit(hand.titled(title))
            hand.deploy().expect(0)
        assert len(hand.releases()) == 3, "the first release, not worked in, is gone"
        out, err = process.communicate("\n", timeout=60)
    assert (process.returncode, out, err) == (0, f"/srv/consult/releases/{before}/apps/web\n", "")


def test_where_nothing_is_live_the_next_command_is_told(hand: Site) -> None:
    """No release, no command."""
    hand.run("mv /srv/consult/current /srv/consult/aside")
    try:
        for words in (("manage", "check"), ("run", "true"), ("shell",), ("dbshell",)):
            refused = hand.fab(*words, "--json").expect(5).json
            assert refused["error"].endswith("no release is live yet")
            assert refused["suggestions"] == [f"fab -H {hand.name} deploy"]
    finally:
        hand.run("mv /srv/consult/aside /srv/consult/current")


def test_the_database_s_client_opens(hand: Site) -> None:
    """What is piped into dbshell, the database answers."""
    assert "98" in hand.fab("dbshell", stdin="select 49 + 49;\n").expect(0).out


def test_logs_are_asked_for_by_time_and_text(hand: Site) -> None:
    """Of the journal: since a time that the host knows, with a text; what is no time is refused in its own words."""
    assert "Booting worker" in hand.fab("logs", "--since", "1h").expect(0).out
    lines = hand.fab("logs", "--since", "10 min ago", "--grep", "booting WORKER", "--json").expect(0).json["logs"]
    assert lines["django_service"]
    assert all("Booting worker" in line for line in lines["django_service"])
    times = [line.split()[0] for line in lines["django_service"]]
    assert times == sorted(times), "the newest is the last"
    last = hand.fab("logs", "--grep", "Booting worker", "--lines", "1").expect(0).out.splitlines()
    assert last == lines["django_service"][-1:]
    assert "Booting" not in hand.fab("logs", "--grep", "Boot.*worker").expect(0).out
    assert "Booting" not in hand.fab("logs", "--since", "2040-01-01").expect(0).out
    for more in ((), ("--follow",)):
        refused = hand.fab("logs", "--since", "half past", *more).expect(2).text
        assert "--since half past: Failed to parse timestamp: half past" in refused
        assert "next: --since 30m" in refused


def test_nginx_s_log_of_the_site_is_read(hand: Site) -> None:
    """Requests of this site with a text, since a time; --process tells that there is nginx."""
    hand.get("/one-of-a-kind/")
    said = hand.fab("logs", "--process", "nginx", "--since", "5m", "--grep", "One-Of-A-Kind").expect(0).out
    assert said.count("\n") == 1, said
    line = said.strip()
    assert "GET /one-of-a-kind/" in line
    assert hand.fab("logs", "--process", "nginx", "--json").expect(0).json["logs"]["nginx_site"][-1:] == [line]
    assert "did you mean nginx?" in hand.fab("logs", "--process", "ngnx").expect(2).text


@pytest.mark.parametrize("process", ["nginx", "web"])
def test_logs_are_followed_until_ctrl_c(hand: Site, process: str) -> None:
    """What comes and has the text is shown; nothing goes on reading on the host."""
    number = time.monotonic_ns()
    words = ("logs", "--process", process, "--follow", "--since", "1m", "--grep", f"seen-{number}")
    seen = b""
    with running(hand, *words) as follower:
        assert follower.stdout
        while f"seen-{number}".encode() not in seen:
            assert follower.poll() is None
            hand.get(f"/seen-{number}/")  # a 404, of which Django warns
            if select.select([follower.stdout], [], [], 0.2)[0]:
                seen += os.read(follower.stdout.fileno(), 65536)
        follower.send_signal(signal.SIGINT)
        assert follower.wait(timeout=60) == 130
    wait_for(lambda: not hand.run("pgrep -f '[t]ail --quiet|[j]ournalctl.*--follow' || true"))


def test_history_tells_how_deploys_ended(hand: Site) -> None:
    """A deploy, one that failed, a rollback: a line each with who it was, the newest last."""
    hand.commit(hand.titled("For the history"))
    hand.deploy().expect(0)
    released = hand.live()
    hand.commit(hand.edited(WSGI, "application =", "raise RuntimeError('boom')\napplication ="))
    hand.deploy().expect(5)
    hand.fab("rollback", "--json").expect(0)
    entries = hand.fab("history", "--lines", "3", "--json").expect(0).json["history"]
    assert [entry["verb"] for entry in entries] == ["deploy", "deploy", "rollback"]
    assert [entry["outcome"] == "live" for entry in entries] == [True, False, True]
    head, *rows = hand.fab("history", "--lines", "3").expect(0).out.splitlines()
    assert head.split()[:4] == ["when", "(UTC)", "who", "verb"]
    assert all(" ana " in row for row in rows)
    assert released in rows[0]
    assert "live (hup)" in rows[0]
    assert "boom" in rows[1]
    assert "rollback" in rows[2]
