# ruff: noqa: PT012 -- whoever loses a connection loses it somewhere in a whole run
"""The runner on real bash: order, output, timeouts, the lock, and a client that goes away."""

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fabfile.errors import Locked, ProvisionError
from fabfile.ssh import library
from fabfile.ssh import runner as runner_module
from fabfile.ssh.runner import ConnectionLost, StepError
from fabfile.steps.step import Step, StepResult
from testbed.bash import shell
from tests.host.local_host import HOSTILE, LocalConnection, World, alive, eventually


class Heard:
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def begin(self, step: Step) -> None:
        self.events.append(f"begin {step.title}")

    def end(self, result: StepResult) -> None:
        self.events.append(f"end {result.step.title} {result.code}")

    def say(self, text: str) -> None:
        self.events.append(text)


def free(world: World) -> bool:
    """Whether nobody holds the lock."""
    return os.system(f"flock --nonblock {world.layout.lock} true") == 0  # noqa: S605


def pid_in(path: Path) -> int:
    """The pid that a step writes into `path`; waits for it."""
    assert eventually(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


def bid(connection: LocalConnection, step: Step) -> None:
    """Send a batch of one step and do not wait for it."""
    text = runner_module._call(0, step).encode() + b"\n"
    connection.wire.sendall(f"batch {len(text)}\n".encode() + text)


def test_steps_run_in_order_and_tell_their_output(world: World) -> None:
    """Batches and their steps run in the order given; each step has its own output, code and progress."""
    heard = Heard()
    with world.connect().runner(heard) as runner:
        first = runner.run([shell("one", "echo 1; echo err >&2"), shell("two", "printf 2")])
        second = runner.run([shell("three", "true")])
    results = {**first, **second}
    assert {step_id: result.output for step_id, result in results.items()} == {"one": "1\nerr", "two": "2", "three": ""}
    assert list(results) == ["one", "two", "three"]
    assert heard.events == ["begin one", "end one 0", "begin two", "end two 0", "begin three", "end three 0"]


@pytest.mark.parametrize(
    "script",
    [
        "exit 3",
        "false; echo not reached",
        "echo $nothing",
        "false | cat; echo not reached",
        "syntax ( error",
        "nosuchprogram",
    ],
)
def test_a_failure_stops_the_batch_and_runs_the_rescue(world: World, script: str) -> None:
    """After a failed line nothing of the batch runs but the rescue, and the error names the step with its output."""
    with world.connect().runner() as runner, pytest.raises(StepError) as caught:
        runner.run(
            [
                shell("one", "echo a"),
                shell("two", f"echo evidence\n{script}"),
                shell("three", f"touch {world.root}/bait"),
            ],
            [shell("mend", "echo mended"), shell("mend more", "echo more")],
        )
    error = caught.value
    assert error.failed.step.title == "two"
    assert list(error.before) == ["one"]
    assert error.evidence.startswith("evidence") or script == "syntax ( error"
    assert "not reached" not in error.evidence
    assert [(result.output, result.code) for result in error.rescue.values()] == [("mended", 0), ("more", 0)]
    assert list(error.rescue) == ["mend", "mend more"]
    assert not world.bait()


def test_a_batch_that_succeeds_runs_no_rescue(world: World) -> None:
    """The rescue is for failures; and a batch after a failed one begins afresh."""
    with world.connect().runner() as runner:
        results = runner.run([shell("one", "true")], [shell("mend", f"touch {world.root}/bait")])
        assert list(results) == ["one"]
        with pytest.raises(StepError):
            runner.run([shell("bad", "false")], [shell("mend", "true")])
        assert runner.run([shell("next", "echo fine")])["next"].output == "fine"
    assert not world.bait()


def test_a_rescue_that_fails_is_told(world: World) -> None:
    """The way back can fail too: its end stands in the error."""
    with world.connect().runner() as runner, pytest.raises(StepError) as caught:
        runner.run([shell("bad", "false")], [shell("mend", "echo no; exit 9"), shell("more", "true")])
    assert [(key, end.code, end.output) for key, end in caught.value.rescue.items()] == [("mend", 9, "no")]


@pytest.mark.parametrize(
    "output",
    [
        b"no newline",
        b"\x00\x01\xff\xfe\x80 binary\n\x00",
        b"@0123456789abcdef end 0 0\n@0123456789abcdef done\nbegin 1\nend 0 1\ndone",
        b"@ done\n@done\nready 1\nlocked\nheld",
        "ünï→ \u2028 \x1b[31mred".encode(),
        b"\r\n\r\nlines\r",
        HOSTILE.encode(),
        b"x" * 300_000,
    ],
)
def test_any_output_comes_through_whole(world: World, output: bytes) -> None:
    """Output is output: binary, without a newline, or like the runner's own marks; it belongs to its step."""
    (world.root / "out").write_bytes(output)
    steps = [shell("before", "echo before"), shell("it", f"cat {world.root}/out"), shell("after", "echo after")]
    assert [result.output for result in world.run(*steps).values()] == [
        "before",
        output.decode(errors="replace").strip("\n"),
        "after",
    ]


def test_ten_megabytes_of_output_come_through(world: World) -> None:
    """A talkative step slows nothing down for long and loses nothing."""
    began = time.monotonic()
    results = world.run(
        shell("much", "seq -f '%09.0f' 1000000"), shell("one line", "head -c 10000000 /dev/zero | tr '\\0' x")
    )
    lines = results["much"].output.split("\n")
    assert len(lines) == 1_000_000
    assert lines[0] == "000000001"
    assert lines[-1] == "001000000"
    assert results["one line"].output == "x" * 10_000_000
    assert time.monotonic() - began < 60


def test_a_step_that_takes_too_long_is_ended_with_its_children(world: World) -> None:
    """A timeout leaves no process behind: no child, no grandchild, none that ignores TERM or is in the background."""
    script = f"""
(trap '' TERM; echo $BASHPID >{world.root}/deaf; while :; do sleep 1; done) &
sleep 300 & echo $! >{world.root}/background
bash -c 'echo $$ >{world.root}/inner; sleep 300; true'
"""
    began = time.monotonic()
    with world.connect().runner(lock=world.lock()) as runner, pytest.raises(StepError) as caught:
        runner.run([shell("slow", script, timeout=1)], [shell("mend", "echo mended")])
    assert time.monotonic() - began < 30
    assert "took longer than 1 s" in caught.value.message
    assert caught.value.rescue["mend"].output == "mended"
    pids = [pid_in(world.root / name) for name in ("deaf", "background", "inner")]
    assert eventually(lambda: not any(map(alive, pids)))
    assert free(world)


def test_a_step_that_ignores_term_is_killed(world: World) -> None:
    """A step that does not listen gets five seconds, then KILL."""
    with world.connect().runner() as runner, pytest.raises(StepError) as caught:
        runner.run([shell("deaf", "trap '' TERM; while :; do sleep 0.1; done", timeout=1)])
    assert "took longer than 1 s" in caught.value.message


def test_what_a_good_step_leaves_in_the_background_lives_on(world: World) -> None:
    """Pruning goes on after its step and after the runner, without the lock."""
    script = f"sleep 1.5 </dev/null >/dev/null 2>&1 9>&- & echo $! >{world.root}/background"
    with world.connect().runner(lock=world.lock()) as runner:
        runner.run([shell("leaves one", script)])
    assert free(world)
    assert alive(pid_in(world.root / "background"))


def test_files_are_private_and_go_with_the_runner(world: World) -> None:
    """A file that was sent is 0600 in a 0700 folder, byte for byte, and nothing stays in the temporary folder."""
    content = bytes(range(256)) * 300 + b"\nbatch 5\nbye\n"
    with world.connect().runner() as runner:
        runner.put("secret.env", content)
        runner.put("empty", b"")
        results = runner.run(
            [
                shell("modes", 'stat -c %a "$DEPLOY_FILES/secret.env" "$DEPLOY_WORK"'),
                shell("same", f'cp "$DEPLOY_FILES/secret.env" {world.root}/copy; stat -c %s "$DEPLOY_FILES/empty"'),
            ]
        )
        assert list(world.tmp.iterdir())
    assert [result.output for result in results.values()] == ["600\n700", "0"]
    assert (world.root / "copy").read_bytes() == content
    assert eventually(lambda: list(world.tmp.iterdir()) == [])


@pytest.mark.parametrize("script", ["echo done", "false"])
def test_the_last_batch_takes_the_runner_with_it(world: World, script: str) -> None:
    """However it ends: told as ever, and the lock is free without another word."""
    connection = world.connect()
    with connection.runner(lock=world.lock()) as runner:
        if script == "false":
            with pytest.raises(StepError):
                runner.run([shell("bad", script)], last=True)
        else:
            assert runner.run([shell("good", script)], last=True)["good"].output == "done"
        assert eventually(lambda: free(world))
        assert list(world.tmp.iterdir()) == []


@pytest.mark.parametrize("how", ["vanish", "fail", "refused"])
def test_nothing_stays_in_the_temporary_folder(world: World, how: str) -> None:
    """However a run ends, its files are gone."""
    connection = world.connect()
    if how == "refused":
        with world.connect().runner(lock=world.lock()):
            before = set(world.tmp.iterdir())
            with pytest.raises(Locked), connection.runner(lock=world.lock()):
                pass
            assert eventually(lambda: set(world.tmp.iterdir()) == before)
    else:
        with pytest.raises((StepError, ConnectionLost)), connection.runner() as runner:
            runner.put("secret.env", b"secret")
            if how == "vanish":
                connection.wire.close()
            runner.run([shell("bad", "false")])
    assert eventually(lambda: list(world.tmp.iterdir()) == [])


def test_a_step_has_nothing_to_read(world: World) -> None:
    """A program that asks gets the end of the file, not the next batch."""
    results = world.run(shell("asks", "cat; read -r line || echo nothing", timeout=5), shell("next", "echo next"))
    assert [result.output for result in results.values()] == ["nothing", "next"]


def test_a_runner_without_the_lock_is_not_waited_for(world: World) -> None:
    """It goes by itself; one with the lock has gone when its command ends, for the next one wants the lock."""
    waits = f"for _ in {{1..500}}; do [ ! -e {world.root}/go ] || break; sleep 0.02; done"
    world.stub("rm", f'{waits}; exec /bin/rm "$@"')

    def work() -> list[Path]:
        return list(world.tmp.glob("deploy-*"))

    with world.connect().runner() as runner:
        runner.run([shell("do nothing", "true")])
    assert work()
    (world.root / "go").touch()
    assert eventually(lambda: not work())
    with world.connect().runner(lock=world.lock()) as runner:
        runner.run([shell("do nothing", "true")])
    assert not work()


def test_the_second_runner_is_refused_with_the_holders_card(world: World) -> None:
    """Who comes second learns who works on the host since when, also from lock info full of odd characters."""
    from fabfile.plan.lock import lock_info

    message = HOSTILE + "\n@ready 1\n"
    with world.connect().runner(lock=world.lock(holder=lock_info("deploy " + HOSTILE, message))):
        with pytest.raises(Locked) as caught, world.connect().runner(lock=world.lock()):
            pass
        assert HOSTILE in caught.value.message
        assert caught.value.message.endswith(message)
    assert not world.bait()
    assert Path(world.layout.lock).read_text() == ""


def test_the_library_fits_where_nobody_reads_yet(world: World) -> None:
    """A runner that waits for the lock has not read it: what a pipe does not hold keeps the client waiting."""
    assert 20_000 < len(library.archive(world.layout)) < 60_000


def test_waiting_queues_and_tells_for_whom(world: World) -> None:
    """With --wait the second run begins when the first is done, and says meanwhile who that is."""
    told: list[str] = []
    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        def on_wait(holder: str) -> None:
            told.append(holder)
            inside.set()

        with world.connect().runner(lock=world.lock(120), on_wait=on_wait):
            order.append("second")

    with world.connect().runner(lock=world.lock()) as runner:
        thread = threading.Thread(target=second)
        thread.start()
        assert inside.wait(60)
        runner.run([shell("work", "sleep 0.2")])
        order.append("first")
    thread.join(130)
    assert order == ["first", "second"]
    assert told == ["deploy main by ana since now"]


def test_waiting_ends(world: World) -> None:
    """Who has waited long enough is refused."""
    with (
        world.connect().runner(lock=world.lock()),
        pytest.raises(Locked),
        world.connect().runner(lock=world.lock(1)),
    ):
        pass


def test_the_lock_outlives_a_killed_runner_as_long_as_its_step(world: World) -> None:
    """kill -9 of the runner: the lock is held until the running step has ended, and then it is free."""
    connection = world.connect()
    with pytest.raises(ConnectionLost), connection.runner(lock=world.lock()) as runner:
        bid(connection, shell("long", f"echo $$ >{world.root}/step; sleep 3; echo done >{world.root}/done"))
        step = pid_in(world.root / "step")
        os.kill(runner.pid, signal.SIGKILL)
        assert eventually(lambda: not alive(runner.pid))
        assert alive(step)
        assert not free(world)
        runner.run([])
    assert eventually(lambda: free(world))
    assert (world.root / "done").exists()
    assert not alive(step)


def test_the_lock_is_free_after_the_client_vanished(world: World) -> None:
    """Between batches nothing runs: the lock goes at once."""
    connection = world.connect()
    with pytest.raises(ConnectionLost), connection.runner(lock=world.lock()) as runner:
        runner.run([shell("one", "true")])
        assert not free(world)
        connection.wire.close()
        assert eventually(lambda: free(world))
        runner.run([shell("two", "true")])


def test_a_batch_runs_to_its_end_when_the_client_vanishes(world: World) -> None:
    """A migration is not cut: every step of the batch runs, prints it much or not, and the lock stays so long."""
    connection = world.connect()
    steps = [
        shell("migrate", f"echo $$ >{world.root}/step; sleep 1.5; seq 100000; echo more >&2"),
        shell("switch", f"echo out; touch {world.root}/switched; sleep 1"),
        shell("check", f"echo out; touch {world.root}/checked"),
    ]
    text = "\n".join(runner_module._call(number, step) for number, step in enumerate(steps)).encode() + b"\n"
    with pytest.raises(ConnectionLost), connection.runner(lock=world.lock()) as runner:
        connection.wire.sendall(f"batch {len(text)}\n".encode() + text)
        pid_in(world.root / "step")
        connection.wire.close()
        assert not free(world)
        assert eventually((world.root / "switched").exists)
        assert not free(world)
        assert eventually((world.root / "checked").exists)
        assert eventually(lambda: free(world))
        runner.run([])


def test_a_rescue_runs_when_the_client_has_vanished(world: World) -> None:
    """The host puts itself right without anybody looking."""
    connection = world.connect()
    with pytest.raises(ConnectionLost), connection.runner() as runner:
        steps = [shell("bad", f"echo $$ >{world.root}/step; sleep 0.3; false"), shell("no", f"touch {world.root}/bait")]
        thread = threading.Thread(
            target=lambda: (
                pid_in(world.root / "step"),
                connection.wire.process.stdin and connection.wire.process.stdin.close(),
            )
        )
        thread.start()
        with pytest.raises(StepError):
            runner.run(steps, [shell("mend", f"touch {world.root}/mended")])
        thread.join()
        raise ConnectionLost("there", None)
    assert (world.root / "mended").exists()
    assert not world.bait()


@pytest.mark.parametrize(
    "cut", ["batch 1000\nstep 0 60 run_text 'text=touch {root}/bait'\n", "batch 1", "file 500 name\nhalf", "ba"]
)
def test_a_batch_that_was_half_sent_does_not_run(world: World, cut: str) -> None:
    """A connection that dies in the middle of a batch leaves the host as it was."""
    connection = world.connect()
    with pytest.raises(ConnectionLost), connection.runner(lock=world.lock()) as runner:
        connection.wire.sendall(cut.format(root=world.root).encode())
        connection.wire.close()
        assert eventually(lambda: free(world))
        runner.run([])
    assert not world.bait()


@pytest.mark.parametrize(
    "cut", ["", "batch 1000\nstep 0 60 run_text 'text=touch {root}/bait'\n", "file 500 name\nhalf", "ba"]
)
def test_patience_ends_without_a_sign_of_life(world: World, monkeypatch: pytest.MonkeyPatch, cut: str) -> None:
    """A network that swallows everything keeps no lock: without heartbeats the runner goes, wherever it is."""
    monkeypatch.setattr(runner_module, "PATIENCE", 1)
    connection = world.connect()
    with pytest.raises(ConnectionLost), connection.runner(lock=world.lock()) as runner:
        connection.wire.sendall(cut.format(root=world.root).encode())
        assert not free(world)
        assert eventually(lambda: free(world))
        runner.run([shell("late", f"touch {world.root}/bait")])
    assert not world.bait()
    assert list(world.tmp.iterdir()) == []


def test_heartbeats_keep_the_runner(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the client lives, thinking between two batches costs no lock."""
    monkeypatch.setattr(runner_module, "PATIENCE", 2)
    monkeypatch.setattr(runner_module, "HEARTBEAT", 0.2)
    with world.connect().runner(lock=world.lock()) as runner:
        time.sleep(2.6)
        assert runner.run([shell("after", "echo here")])["after"].output == "here"


def test_pid_files_end_their_group_with_the_runner(world: World) -> None:
    """What a step left in a group of its own (the proof) goes with the runner, with all its children."""
    script = f"""
setsid bash -c 'trap "" TERM; sleep 300 & echo $! >{world.root}/child; wait' </dev/null >/dev/null 2>&1 9>&- &
echo $! >"$DEPLOY_WORK/proof.pid"; cp "$DEPLOY_WORK/proof.pid" {world.root}/leader
"""
    with world.connect().runner() as runner:
        runner.run([shell("leaves a group", script)])
        pids = [pid_in(world.root / name) for name in ("child", "leader")]
        assert all(map(alive, pids))
    assert eventually(lambda: not any(map(alive, pids)))


def test_cancel_ends_the_running_step_and_runs_the_rescue(world: World) -> None:
    """Ctrl-C: the step ends with its children, the rescue runs, and the caller is interrupted (exit 130)."""
    script = f"sleep 300 & echo $! >{world.root}/child; echo $$ >{world.root}/step; sleep 300"
    heard = Heard()
    with world.connect().runner(heard) as runner:

        def cancel() -> None:
            pid_in(world.root / "step")
            os.kill(runner.pid, signal.SIGTERM)

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            runner.run([shell("long", script), shell("no", "true")], [shell("mend", "true")])
        thread.join()
        assert [event for event in heard.events if event.startswith(("begin", "end"))] == [
            "begin long", "end long 130", "begin mend", "end mend 0",
        ]  # fmt: skip
        pids = [pid_in(world.root / name) for name in ("step", "child")]
        assert eventually(lambda: not any(map(alive, pids)))
        assert runner.run([shell("next", "echo goes on")])["next"].output == "goes on"


class Pressing(Heard):
    """Progress in the middle of which somebody presses Ctrl-C."""

    def begin(self, step: Step) -> None:
        super().begin(step)
        if step.title == "long":
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("where", ["in recv", "between lines"])
@pytest.mark.parametrize("finish", [False, True])
def test_ctrl_c_while_steps_run(world: World, monkeypatch: pytest.MonkeyPatch, finish: bool, where: str) -> None:
    """Ctrl-C at the operator's machine ends the step and rescues; in a batch that must finish, it changes nothing."""
    connection, heard = world.connect(), Heard() if where == "in recv" else Pressing()
    with connection.runner(heard) as runner:
        recv, pressed = connection.wire.recv, []

        def recv_with_ctrl_c(size: int) -> bytes:
            data = recv(size)  # it must not be lost
            if not pressed and (world.root / "step").exists():
                pressed.append(True)
                signal.raise_signal(signal.SIGINT)
            return data

        if where == "in recv":
            monkeypatch.setattr(connection.wire, "recv", recv_with_ctrl_c)
        script = (
            f"echo $$ >{world.root}/step; echo said; sleep 0.5; touch {world.root}/ended; sleep {0 if finish else 100}"
        )
        steps = [shell("first", "echo"), shell("long", script)]
        if finish:
            results = runner.run(steps, finish=True)
            assert [result.output for result in results.values()] == ["", "said"]
        else:
            with pytest.raises(KeyboardInterrupt):
                runner.run(steps, [shell("mend", f"touch {world.root}/mended")])
            assert (world.root / "mended").exists()
            assert "end long 130" in heard.events
        assert runner.interrupted
        assert runner.run([shell("next", "echo goes on")])["next"].output == "goes on"
    assert any("goes to its end" in event for event in heard.events) == finish
    assert any("stopping here" in event for event in heard.events) != finish
    assert (world.root / "ended").exists() or not finish


@pytest.mark.parametrize("finish", [False, True])
def test_ctrl_c_twice(world: World, finish: bool) -> None:
    """The second Ctrl-C waits for nothing: the host ends its batch alone."""
    with pytest.raises(KeyboardInterrupt), world.connect().runner(lock=world.lock()) as runner:

        def press() -> None:
            pid_in(world.root / "step")
            os.kill(os.getpid(), signal.SIGINT)
            assert eventually(lambda: runner.interrupted)  # or a busy process would take both for one
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        try:
            script = (
                f"trap '' TERM; echo $$ >{world.root}/step; until [ -e {world.root}/go ]; do sleep 0.1; done; "
                f"touch {world.root}/ended"
            )
            runner.run([shell("deaf", script)], finish=finish)
        finally:
            thread.join()
            assert runner.busy
            (world.root / "go").touch()
    assert eventually(lambda: (world.root / "ended").exists() and free(world))


def test_ctrl_c_that_comes_too_late_to_end_a_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch has gone well, but is undone, and its caller interrupted; what it runs then is not."""
    connection = world.connect()
    end_step = connection._end_step

    def slowly(pid: int) -> None:
        time.sleep(0.3)
        end_step(pid)

    class Late(Heard):
        def end(self, result: StepResult) -> None:
            super().end(result)
            if result.step.title == "last":
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(connection, "_end_step", slowly)
    with connection.runner(Late()) as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run([shell("last", "true")], [shell("mend", f"sleep 0.6; touch {world.root}/mended")])
        assert (world.root / "mended").exists()
        assert runner.run([shell("next", "echo goes on")])["next"].output == "goes on"


def test_ctrl_c_that_the_host_cannot_be_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An sshd that allows one session only (MaxSessions): what has begun goes to its end, and no more begins."""
    connection, heard = world.connect(), Pressing()

    def refused(_pid: int) -> None:
        raise ConnectionLost("api", None)

    monkeypatch.setattr(connection, "_end_step", refused)
    with connection.runner(heard) as runner, pytest.raises(KeyboardInterrupt):
        runner.run([shell("long", f"sleep 0.5; touch {world.root}/ended")])
    assert (world.root / "ended").exists()
    assert any("cannot be told" in event for event in heard.events)


def test_fifty_runners_one_at_a_time(world: World) -> None:
    """However many runs come at once, exactly one works on the host at a time, and all get their turn."""
    script = f"mkdir {world.root}/inside; echo in >>{world.root}/log; sleep 0.01; rmdir {world.root}/inside"

    def run(_: int) -> str:
        with world.connect().runner(lock=world.lock(50)) as runner:
            runner.run([shell("alone", script)])
        return "done"

    with ThreadPoolExecutor(50) as pool:
        assert Counter(pool.map(run, range(50))) == {"done": 50}
    assert (world.root / "log").read_text().count("in") == 50
    assert list(world.tmp.iterdir()) == []


def test_of_many_impatient_runners_one_gets_in(world: World) -> None:
    """Who is refused always learns why, however quickly the runner went away again."""

    def run(_: int) -> str:
        try:
            with world.connect().runner(lock=world.lock()):
                return "in"
        except Locked as error:
            return error.message

    with world.connect().runner(lock=world.lock()), ThreadPoolExecutor(10) as pool:
        answers = Counter(pool.map(run, range(40)))
    assert answers == {"there is held by deploy main by ana since now": 40}


def test_a_host_that_was_not_provisioned_is_told(world: World) -> None:
    """No folder for the lock: the message says that provision makes it."""
    world.settings = world.settings.model_copy(update={"name": "other"})
    with pytest.raises(ProvisionError) as caught, world.connect().runner(lock=world.lock()):
        pass
    assert caught.value.hint == "fab -H there provision"
    assert eventually(lambda: list(world.tmp.iterdir()) == [])


def test_a_dead_runner_leaves_no_stale_lock(world: World) -> None:
    """After kill -9 between batches the next run gets in, though the lock info of the dead one is still there."""
    connection = world.connect()
    with pytest.raises(ConnectionLost), connection.runner(lock=world.lock()) as runner:
        os.kill(runner.pid, signal.SIGKILL)
        runner.run([shell("one", "true")])
    with world.connect().runner(lock=world.lock()) as runner:
        assert runner.run([shell("one", "echo in")])["one"].output == "in"


@pytest.fixture
def root(world: World) -> World:
    """A login that is root, on a host where the folder of the lock is another user's."""
    world.stub("id", "echo 0")
    if os.getuid() == 0:
        os.chown(world.base, 65534, -1)
    return world


def test_root_takes_the_lock_and_writes_nothing(root: World) -> None:
    """The lock is good against the user's runs, who see no name; what stands in the file stays."""
    lock = Path(root.layout.lock)
    lock.write_text("of a run that was killed")
    with root.connect().runner(lock=root.lock()) as runner:
        assert not free(root)
        assert runner.run([shell("one", "echo in")])["one"].output == "in"
        assert lock.read_text() == "of a run that was killed"
        (root.bin / "id").unlink()
        with pytest.raises(Locked, match="somebody unknown"), root.connect().runner(lock=root.lock()):
            pass
        lock.write_text("")
        with pytest.raises(Locked, match="left no name"), root.connect().runner(lock=root.lock()):
            pass
    assert free(root)
    assert lock.read_text() == ""


def test_root_makes_a_lock_where_there_is_none(root: World) -> None:
    """An app that was made by half can be removed."""
    with root.connect().runner(lock=root.lock()) as runner:
        assert runner.run([shell("one", "echo in")])["one"].output == "in"
        assert not free(root)


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
def test_root_follows_no_lock_that_is_a_link(root: World, kind: str) -> None:
    """It would empty or make what the link leads to; the error says what to do, and nothing waits for a pipe."""
    lock, other = Path(root.layout.lock), root.root / "shadow"
    if kind == "link":
        other.write_text("root:*:")
    if kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to(other)
    with pytest.raises(ProvisionError) as caught, root.connect().runner(lock=root.lock()):
        pass
    assert caught.value.message == f"there: {lock} is no plain file"
    assert caught.value.hint.startswith(f"rm {lock} on the server")
    assert other.exists() == (kind == "link")
    assert kind != "link" or other.read_text() == "root:*:"


def test_root_on_a_host_that_was_not_provisioned(root: World) -> None:
    """There as well the message says that provision makes it."""
    root.settings = root.settings.model_copy(update={"name": "other"})
    with pytest.raises(ProvisionError) as caught, root.connect().runner(lock=root.lock()):
        pass
    assert caught.value.hint == "fab -H there provision"


@pytest.mark.parametrize(("user", "by_sudo"), [("root", False), ("ana", True)])
def test_root_is_had_by_sudo_where_the_login_is_another(world: World, user: str, by_sudo: bool) -> None:
    """The admin's login may be root itself; a runner that is not to be root asks nobody for it."""
    world.settings = world.settings.model_copy(update={"user": user})
    world.stub("sudo", '[ "$1" = -n ] && shift && exec "$@"')
    for as_root in (True, False):
        with world.connect().runner(as_root=as_root) as runner:
            assert runner.run([shell("say it", "echo here")])["say it"].output == "here"
        assert [call.startswith("sudo -n bash ") for call in world.calls[:1]] == [True] * (as_root and by_sudo)
