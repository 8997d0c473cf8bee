"""A way to a host with a round trip of its own, which counts what goes over it; a process, not to share our GIL.

`python -m testbed.bench.relay ADDRESS PORT MS` says its port on stdout. For each line on stdin it hangs up on everybody
and says what it has counted since the last one; it ends with its stdin.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from testbed.lab import LabHost

HERE = "127.0.0.1"
PROJECT = Path(__file__).parents[2]


class Relay:
    """Passes on to `target`, each direction held back by `delay` seconds."""

    def __init__(self, target: tuple[str, int], delay: float) -> None:
        self.target, self.delay = target, delay
        self.counted = {"connections": 0, "sent": 0, "received": 0}
        self.ends: set[asyncio.StreamWriter] = set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be a connection. TCP's own greeting takes a round trip, which loopback has not."""
        self.counted["connections"] += 1
        with suppress(asyncio.CancelledError):  # this process ends
            await asyncio.sleep(2 * self.delay)
            there_reader, there_writer = await asyncio.open_connection(*self.target)
            ends = {writer, there_writer}
            self.ends |= ends
            await asyncio.gather(
                self.pass_on(reader, there_writer, "sent"), self.pass_on(there_reader, writer, "received")
            )
            await asyncio.sleep(2 * self.delay)
            for end in ends:
                end.close()
            self.ends -= ends

    async def pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, name: str) -> None:
        """Count and pass on until one side hangs up."""
        loop = asyncio.get_running_loop()
        data = b"so it begins"
        while data:
            data = b""
            with suppress(OSError):
                data = await source.read(65536)
            self.counted[name] += len(data)
            if self.delay:
                loop.call_later(self.delay, deliver, sink, data)
            else:
                deliver(sink, data)

    def answer(self) -> str:
        """Hang up on everybody, and say what was counted."""
        for end in self.ends:
            end.transport.abort()
        said = json.dumps(self.counted)
        self.counted = dict.fromkeys(self.counted, 0)
        return f"{said}\n"


def deliver(sink: asyncio.StreamWriter, data: bytes) -> None:
    """Write what has arrived; nothing is the end."""
    if sink.is_closing():
        return
    with suppress(OSError):  # it has hung up meanwhile
        if data:
            sink.write(data)
        elif sink.can_write_eof():
            sink.write_eof()


async def serve(address: str, port: int, seconds: float) -> None:
    """Relay until stdin ends; `seconds` is a round trip."""
    relay = Relay((address, port), seconds / 2)
    server = await asyncio.start_server(relay.take, HERE, 0)
    over = asyncio.Event()

    def hear() -> None:
        if os.read(0, 100):
            os.write(1, relay.answer().encode())
        else:
            over.set()

    asyncio.get_running_loop().add_reader(0, hear)
    os.write(1, f"{server.sockets[0].getsockname()[1]}\n".encode())
    await over.wait()


@dataclass(frozen=True)
class Way:
    """A way through a relay: where ssh finds it, and the known_hosts file that has the host by that name."""

    rtt: int
    port: int
    known_hosts: Path
    asked: IO[str]
    answers: IO[str]

    def count(self) -> dict[str, int]:
        """Connections, bytes sent and received since the last time; whoever is connected is hung up on."""
        self.asked.write("\n")
        self.asked.flush()
        return json.loads(self.answers.readline())


@contextmanager
def way(host: LabHost, rtt: int, folder: Path, sshd: int = 22) -> Generator[Way]:
    """A way to the host's sshd with a round trip of `rtt` ms; `folder` gets its known_hosts file."""
    command = [sys.executable, "-m", "testbed.bench.relay", host.address, f"{sshd}", f"{rtt}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        assert process.stdin
        assert process.stdout
        port = int(process.stdout.readline())
        key = host.known_hosts.read_text().split()[1:]
        known_hosts = folder / f"known_hosts_{port}"
        known_hosts.write_text(f"[{HERE}]:{port} {' '.join(key)}\n")
        try:
            yield Way(rtt, port, known_hosts, process.stdin, process.stdout)
        finally:
            process.stdin.close()  # with which it ends


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000))
