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

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 20.0
CHILD = """
    import os, signal, socket, sys, time
    from proxy.cli.lifeline import Lifeline, inherited

    bound = inherited(int(sys.argv[sys.argv.index("--inherit") + 1]))
    lifeline = Lifeline(int(sys.argv[sys.argv.index("--lifeline") + 1]))
    BEGIN

    def end(*_):
        END
    signal.signal(signal.SIGTERM, end)
    bound.listen(100)
    lifeline.up()
    while True:
        with bound.accept()[0] as connection:
            connection.sendall(str(os.getpid()).encode())
"""
SUPERVISOR = """
    import sys
    from proxy import server
    from proxy.cli import supervisor

    anchor = server.bind("127.0.0.1", 0, shared=True)
    port = anchor.getsockname()[1]
    keeper = supervisor.Supervisor(
        [sys.executable, sys.argv[1]],
        lambda: server.bind("127.0.0.1", port, shared=True),
        lambda: print(port, flush=True),
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

    def refuses(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            return True
        return False


@contextmanager
def kept(folder: Path, *, begin: str = "pass", end: str = "sys.exit(0)", patience: float = 60.0) -> Iterator[Kept]:
    for name, text in (
        ("child.py", dedent(CHILD).replace("BEGIN", dedent(begin)).replace("    END", indent(dedent(end), " " * 4))),
        ("keeper.py", dedent(SUPERVISOR).format(patience=patience)),
    ):
        (folder / name).write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(folder / "keeper.py"), str(folder / "child.py")]
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
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return f"{pid} (" in Path(f"/proc/{pid}/stat").read_text() and ") Z" not in Path(f"/proc/{pid}/stat").read_text()


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
