"""What joins a child to its supervisor: the child says on it that it is alive, and ends when its supervisor is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from contextlib import suppress


class Lifeline:
    """The child's end, by the number of its file descriptor. `beat`: seconds from one sign of life to the next."""

    def __init__(self, descriptor: int, beat: float) -> None:
        self._line = inherited(descriptor)
        self._beat = beat
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def up(self) -> None:
        """Requests are being served, by the loop that runs: from now on it gives signs of life."""
        # Nobody waits for a supervisor that does not listen for a while; one that is gone is seen by the thread.
        with suppress(OSError):
            self._line.send(b".", socket.MSG_DONTWAIT)
        asyncio.get_running_loop().call_later(self._beat, self.up)

    def _watch(self) -> None:
        """Nothing is ever sent to the child: the line becomes readable when nobody holds its other end."""
        with suppress(ConnectionResetError):  # signs that a supervisor had not read when it went
            self._line.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)


def inherited(descriptor: int) -> socket.socket:
    """A socket that was handed to this process; what it starts itself does not get it."""
    found = socket.socket(fileno=descriptor)
    found.set_inheritable(False)
    return found
