"""Processes whose clock a test sets: what they take for the time of day, while their monotonic clock goes on."""

from __future__ import annotations

from pathlib import Path

from tests.faults.natives import Caller

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
"""libfaketime, where it is installed."""


def clocked(file: Path) -> dict[str, str]:
    """The environment of a process whose clock is off by what the file says then, in seconds: `+3600`; now `+0`."""
    file.write_text("+0")
    faked = {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {"LD_PRELOAD": str(LIBRARY), **faked}


def hour(caller: Caller) -> str:
    """By the server's clock."""
    date: str = caller.get("/health").headers["date"]
    return date[17:19]
