"""`runwire serve --workers N`: servers in child processes, all on one port.

Each child has a socket of its own on that port, over which the system spreads the connections evenly. The supervisor
holds it too, so that connections which wait when a child dies are served by its successor. A lifeline joins the two
processes (`lifeline.py`).
"""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from proxy.errors import ConfigError

logger = structlog.get_logger(__name__)

PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds until a child is started anew, by how often in a row it has ended without having lived."""
LIVED = 60.0
"""Seconds after which a child counts as one that lives."""
LOOK = 0.5
"""Seconds between looks at what may have been missed."""
HURRY = 2.0
"""Seconds that children may take to end when they were told twice."""


class Child:
    """One of the processes, and those that take its place. `bind` gives a socket on the port."""

    def __init__(self, command: list[str], bind: Callable[[], socket.socket]) -> None:
        self._command = command
        self._bind = bind
        self._bound: socket.socket | None = None
        self._falls = 0
        self.lifeline: socket.socket | None = None
        """Open while somebody holds its other end."""
        self.silence = 0.0
        """Seconds since its last sign of life that were spent listening."""
        self.pause = 0.0
        """Seconds from its end to the start of its successor."""
        self.due: float | None = None
        """When it is to be started anew, on the monotonic clock; None while it runs."""
        self.start()

    def start(self) -> None:
        """Raises `OSError`, `ConfigError` where the system has no room for another process or its program is gone."""
        self._bound = self._bound or self._bind()
        self.lifeline, theirs = socket.socketpair()
        self.began, self.up, self.silence = time.monotonic(), False, 0.0
        handed = (self._bound.fileno(), theirs.fileno())
        command = [*self._command, "--inherit", str(handed[0]), "--lifeline", str(handed[1])]
        with theirs:
            # In a session of its own: a Ctrl-C of the terminal must reach it once, through us.
            self.process = subprocess.Popen(command, pass_fds=handed, start_new_session=True)  # noqa: S603
        self.due = None

    def hear(self) -> None:
        """It gave a sign of life, or its end of the lifeline is closed."""
        if self.lifeline is not None and self.lifeline.recv(4096):
            self.up, self.silence = True, 0.0
        else:
            self._hang_up()

    def fell(self) -> bool:
        """It has just ended."""
        if self.due is not None or self.process.poll() is None:
            return False
        self.put_off()
        return True

    def put_off(self) -> None:
        """Have it started anew. What waits for it goes on waiting, unless its successor comes after a pause only."""
        self._hang_up()
        now = time.monotonic()
        self._falls = 1 if now - self.began > LIVED else self._falls + 1
        self.pause = PAUSES[min(self._falls, len(PAUSES)) - 1]
        self.due = now + self.pause
        if self.pause:
            self.let_go()

    def _hang_up(self) -> None:
        if self.lifeline is not None:
            self.lifeline.close()
            self.lifeline = None

    def tell(self, sig: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(sig)

    def let_go(self) -> None:
        """Hold its socket no more."""
        if self._bound is not None:
            self._bound.close()
            self._bound = None


class Supervisor:
    """Keeps children alive until it is told to end. `started` is called once, when all are up for the first time.

    `silence`: seconds without a sign of life after which one that was up is killed, for it stands still.
    """

    def __init__(
        self, command: list[str], bind: Callable[[], socket.socket], started: Callable[[], None], silence: float
    ) -> None:
        self._command = command
        self._bind = bind
        self._started = started
        self._silence = silence
        self._looked = time.monotonic()
        self._children: list[Child] = []
        self._were_up = False
        self._told = 0
        """Signals to end that have come."""

    def run(self, count: int, patience: float) -> int:
        """Until SIGTERM or SIGINT, which drains the children, and a second time ends them at once; gives the exit code.

        `patience`: seconds that they may take to end. A child that ends before all were up for the first time ends
        all: the same would happen again."""
        with _woken(self._tell) as bell:
            self._children = [Child(self._command, self._bind) for _ in range(count)]
            while not self._told:
                self._wait(bell)
                self._look()
            for child in self._children:
                child.let_go()
            return self._end(bell, time.monotonic() + patience)

    def _tell(self, *_: object) -> None:
        self._told += 1

    def _wait(self, bell: socket.socket) -> None:
        """For a signal, for the end of a child or a sign of its life, or for a while."""
        lines = {child.lifeline: child for child in self._children if child.lifeline is not None}
        for ready in select.select([bell, *lines], [], [], LOOK)[0]:
            if ready is bell:
                bell.recv(4096)
            else:
                lines[ready].hear()

    def _look(self) -> None:
        now = time.monotonic()
        # While this process stood still itself it heard nothing, which says nothing of the others.
        listened, self._looked = min(now - self._looked, LOOK), now
        for child in self._children:
            if child.fell():
                self._mourn(child)
            elif child.due is None:
                self._listen(child, listened)
            elif child.due <= now and not self._told:
                self._start_anew(child)
        if not (self._were_up or self._told) and all(child.up for child in self._children):
            self._were_up = True
            self._started()

    def _listen(self, child: Child, seconds: float) -> None:
        """The system goes on giving connections to one that stands still, which nobody answers."""
        child.silence += seconds if child.up else 0.0
        if child.silence > self._silence:
            logger.error("a server process stands still and is killed", child=child.process.pid)
            child.tell(signal.SIGKILL)
            child.silence = 0.0

    def _start_anew(self, child: Child) -> None:
        try:
            child.start()
        except (OSError, ConfigError) as error:
            child.put_off()
            logger.error("a server process could not be started", error=str(error), after_seconds=child.pause)

    def _mourn(self, child: Child) -> None:
        if not self._were_up:
            self._tell()
        elif not self._told:
            about = {"child": child.process.pid, "exit_code": child.process.returncode, "after_seconds": child.pause}
            logger.error("a server process has ended and is started anew", **about)

    def _end(self, bell: socket.socket, by: float) -> int:
        passed_on = 0
        while any(child.process.poll() is None for child in self._children) and time.monotonic() < by:
            if passed_on < self._told:
                passed_on += 1
                for child in self._children:
                    child.tell(signal.SIGTERM)
                by = min(by, time.monotonic() + HURRY) if passed_on > 1 else by
            self._wait(bell)
        for child in self._children:
            child.tell(signal.SIGKILL)
        codes = [child.process.wait() for child in self._children]
        return 1 if any(codes) else 0


@contextmanager
def _woken(act: Callable[..., None]) -> Iterator[socket.socket]:
    """`act` is called at SIGTERM and SIGINT; these, and the end of a child, make what is yielded readable."""
    bell, rung = socket.socketpair()
    with bell, rung:
        rung.setblocking(False)
        signal.set_wakeup_fd(rung.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, act)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            yield bell
        finally:
            signal.set_wakeup_fd(-1)
