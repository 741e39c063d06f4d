"""A child's end of its lifeline, in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import dedent

CHILD = """
    import asyncio, sys
    from proxy.cli.lifeline import Lifeline

    async def live():
        Lifeline(int(sys.argv[1]), beat=0.01).up()
        await asyncio.Event().wait()
    asyncio.run(live())
"""


@contextmanager
def child() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """The child and its supervisor's end of the line."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", dedent(CHILD), str(theirs.fileno())]
        with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
            theirs.close()
            try:
                yield process, ours
            finally:
                process.kill()


def test_one_that_is_up_goes_on_to_say_so() -> None:
    with child() as (_, ours):
        assert {ours.recv(1) for _ in range(5)} == {b"."}


def test_one_whose_supervisor_goes_ends_though_its_signs_were_not_read() -> None:
    with child() as (process, ours):
        ours.recv(1, socket.MSG_PEEK)
        ours.close()
        assert process.wait(20.0) == -signal.SIGTERM
