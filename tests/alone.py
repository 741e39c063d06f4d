"""One process at a time: tests that run in several make some folders only once, such as those of packages."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCKS = Path(__file__).parent.parent / "build"


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold the lock of this name, in all processes of this checkout; it goes with its holder, however that ends."""
    LOCKS.mkdir(exist_ok=True)
    with (LOCKS / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
