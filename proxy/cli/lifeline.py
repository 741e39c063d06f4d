"""What joins a child to its supervisor: the child says on it that it is up, and ends when its supervisor is gone."""

from __future__ import annotations

import os
import signal
import socket
import threading


class Lifeline:
    """The child's end, by the number of its file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._line = inherited(descriptor)
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def up(self) -> None:
        """Requests are being served."""
        self._line.send(b".")

    def _watch(self) -> None:
        """Nothing is ever sent to the child: the line becomes readable when nobody holds its other end."""
        self._line.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)


def inherited(descriptor: int) -> socket.socket:
    """A socket that was handed to this process; what it starts itself does not get it."""
    found = socket.socket(fileno=descriptor)
    found.set_inheritable(False)
    return found
