"""Real processes: a supervisor, and children that answer each connection with their process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent, indent

import pytest

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 20.0
CHILD = """
    import asyncio, os, signal, socket, sys, threading, time
    from proxy.cli.lifeline import Lifeline, inherited

    bound = inherited(int(sys.argv[sys.argv.index("--inherit") + 1]))
    lifeline = Lifeline(int(sys.argv[sys.argv.index("--lifeline") + 1]), beat=0.05)
    BEGIN

    def end(*_):
        END
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGUSR1, lambda *_: threading.Event().wait())

    async def answer(_, writer):
        writer.write(str(os.getpid()).encode())
        writer.close()

    async def serve():
        server = await asyncio.start_server(answer, sock=bound)
        lifeline.up()
        await server.serve_forever()
    asyncio.run(serve())
"""
SUPERVISOR = """
    import sys
    from proxy import server
    from proxy.cli import supervisor

    anchor = server.bind("127.0.0.1", 0, shared=True)
    port = anchor.getsockname()[1]
    keeper = supervisor.Supervisor(
        sys.argv[1:],
        lambda: server.bind("127.0.0.1", port, shared=True),
        lambda: print(port, flush=True),
        silence={silence},
    )
    sys.exit(keeper.run(2, patience={patience}))
"""


class Kept:
    """A supervisor and the children that it has."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.port = int(process.stdout.readline() or 0)

    def pids(self) -> set[int]:
        """Those that answer, of so many asked that each has its turn."""
        return {self.answer() for _ in range(30)}

    def answer(self) -> int:
        """Who answers; 0 if it was killed in the middle."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            return int(connection.recv(100) or 0)

    def hear(self, words: str) -> None:
        """Read its log up to there."""
        assert self.process.stdout is not None
        assert any(words in line for line in self.process.stdout)

    def refuses(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            return True
        return False


@contextmanager
def kept(
    folder: Path, *, begin: str = "pass", end: str = "os._exit(0)", patience: float = 60.0, silence: float = 60.0
) -> Iterator[Kept]:
    for name, text in (
        ("child.py", dedent(CHILD).replace("BEGIN", dedent(begin)).replace("    END", indent(dedent(end), " " * 4))),
        ("keeper.py", dedent(SUPERVISOR).format(patience=patience, silence=silence)),
    ):
        (folder / name).write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    command = [sys.executable, str(folder / "keeper.py"), str(program), str(folder / "child.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield Kept(process)
        finally:
            process.kill()


def until(what: Callable[[], bool], name: str) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, f"{name} did not come"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_connections_are_spread_over_all_children(tmp_path: Path) -> None:
    with kept(tmp_path) as house:
        assert len(house.pids()) == 2


def test_a_child_that_is_killed_is_replaced_and_nobody_is_refused_meanwhile(tmp_path: Path) -> None:
    with kept(tmp_path) as house:
        before = house.pids()
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        answers = set[int]()
        until(lambda: bool(answers.add(house.answer()) or answers - before - {0}), "a successor")
        assert len(house.pids()) == 2


@pytest.mark.parametrize("still", [signal.SIGSTOP, signal.SIGUSR1], ids=["stopped", "its loop blocked"])
def test_a_child_that_stands_still_is_replaced_and_an_idle_one_is_not(tmp_path: Path, still: signal.Signals) -> None:
    with kept(tmp_path, silence=2.0) as house:
        victim, other = house.pids()
        os.kill(victim, still)
        until(lambda: not lives(victim), "the end of the one that stands still")
        after = house.pids()
        assert other in after
        assert len(after) == 2


def test_a_supervisor_that_stood_still_takes_nobody_for_silent(tmp_path: Path) -> None:
    with kept(tmp_path, silence=2.0) as house:
        victim, other = house.pids()
        house.process.send_signal(signal.SIGSTOP)
        os.kill(victim, signal.SIGKILL)
        time.sleep(3.0)  # nothing is waited for: this is the time for which it hears nothing
        house.process.send_signal(signal.SIGCONT)
        until(lambda: bool(house.pids() - {victim, other, 0}), "a successor")
        assert other in house.pids()


def test_a_child_whose_program_is_away_for_a_while_is_started_when_it_is_back(tmp_path: Path) -> None:
    with kept(tmp_path) as house:
        program, away = tmp_path / "python", tmp_path / "away"
        before = house.pids()
        program.rename(away)
        os.kill(min(before), signal.SIGKILL)
        house.hear("a server process could not be started")
        assert house.pids() == {max(before)}
        away.rename(program)
        until(lambda: len(house.pids()) == 2, "the successor")


def test_sigterm_reaches_all_and_nobody_listens_any_more(tmp_path: Path) -> None:
    with kept(tmp_path) as house:
        pids = house.pids()
        house.process.terminate()
        assert house.process.wait(PATIENCE) == 0
        assert house.refuses()
        assert not any(lives(pid) for pid in pids)


def test_while_children_drain_their_supervisor_holds_no_port(tmp_path: Path) -> None:
    slow = """
    if 'told' in globals():
        os._exit(0)
    globals().update(told=True)
    bound.close()
    open(sys.argv[0] + str(os.getpid()), 'w').close()
    signal.pause()
    """
    with kept(tmp_path, end=slow) as house:
        house.process.terminate()
        until(lambda: len([*tmp_path.glob("child.py?*")]) == 2, "the drain")
        until(house.refuses, "the end of the port")
        assert house.process.poll() is None
        house.process.terminate()
        assert house.process.wait(PATIENCE) == 0


def test_a_child_that_fails_at_its_end_is_told_by_the_exit_code(tmp_path: Path) -> None:
    with kept(tmp_path, end="os._exit(3)") as house:
        house.process.terminate()
        assert house.process.wait(PATIENCE) == 1


def test_a_child_that_does_not_end_is_killed_in_time(tmp_path: Path) -> None:
    with kept(tmp_path, end="pass", patience=0.1) as house:
        pids = house.pids()
        house.process.terminate()
        assert house.process.wait(PATIENCE) == 1
        assert not any(lives(pid) for pid in pids)


def test_a_second_signal_does_not_wait_for_a_child_that_stands_still(tmp_path: Path) -> None:
    with kept(tmp_path) as house:
        victim, other = house.pids()
        os.kill(victim, signal.SIGSTOP)
        house.process.terminate()
        until(lambda: not lives(other), "the end that the first signal asks for")
        house.process.terminate()
        assert house.process.wait(PATIENCE) == 1
        assert not lives(victim)


def test_what_keeps_a_child_from_starting_ends_all(tmp_path: Path) -> None:
    with kept(tmp_path, begin="sys.exit('a fault of the config')") as house:
        assert house.port == 0
        assert house.process.wait(PATIENCE) == 1


def test_children_end_when_their_supervisor_was_killed(tmp_path: Path) -> None:
    with kept(tmp_path) as house:
        pids = house.pids()
        house.process.kill()
        until(lambda: not any(lives(pid) for pid in pids), "the end of the children")


def test_a_child_that_falls_again_and_again_is_started_less_and_less_often(tmp_path: Path) -> None:
    """Each start leaves its time in a file; all but the first two of the run end at once."""
    begin = """
    print(time.monotonic(), file=open(sys.argv[0] + '.starts', 'a'))
    if len(open(sys.argv[0] + '.starts').readlines()) > 2:
        sys.exit(1)
    """
    with kept(tmp_path, begin=begin) as house:
        os.kill(min(house.pids()), signal.SIGKILL)
        starts = tmp_path / "child.py.starts"
        until(lambda: len(starts.read_text().split()) >= 5, "so many starts")
        times = [float(line) for line in starts.read_text().split()][2:]
        assert times[1] - times[0] >= 0.5
        assert times[2] - times[1] >= 1.0
