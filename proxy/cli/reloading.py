"""`runwire serve --reload`: a server in a child process, started anew when a file changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click

PAUSE = 0.5
SUFFIXES = frozenset({".py", ".yaml", ".yml"})


def supervise(arguments: list[str], config: Path) -> int:
    """Run `runwire` with these arguments, watching the folder of `config`, until a signal; gives the exit code.

    A server that ends by itself, say over a fault in the config, is started again at the next change.
    """
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    folder = config.resolve().parent
    seen = _stamps(folder)
    child = _started(arguments)
    while not told.wait(PAUSE):
        now = _stamps(folder)
        if now == seen:
            continue
        changed = sorted(str(path) for path, _ in now ^ seen)
        click.echo(f"{changed[0]} changed: starting anew")
        _stop(child)
        seen, child = now, _started(arguments)
    return _stop(child)


def _started(arguments: list[str]) -> subprocess.Popen[bytes]:
    """In a session of its own: a Ctrl-C of the terminal must reach it once, through us."""
    return subprocess.Popen([sys.executable, "-m", "proxy.cli", *arguments], start_new_session=True)  # noqa: S603


def _stop(child: subprocess.Popen[bytes]) -> int:
    if child.poll() is None:
        child.terminate()
    return child.wait()


def _stamps(folder: Path) -> set[tuple[Path, int]]:
    return {(path, _stamp(path)) for path in _watched(folder)}


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # gone since the folder was read
        return 0


def _watched(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__", "node_modules"))]
        yield from (Path(root, name) for name in files if Path(name).suffix in SUFFIXES)
