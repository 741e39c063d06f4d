from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from proxy.api.groups import merged
from proxy.errors import LogTrimmed
from proxy.events import Completed, Entry, TextDelta
from proxy.model import Run, new_id
from proxy.wire.group import Tagged

WORD = Entry(1, 0.0, TextDelta(text="x"))
END = Entry(2, 0.0, Completed(finish_reason="stop"))


class Logs:
    """Stands for the manager: what following each run yields, or raises."""

    def __init__(self, *logs: list[list[Entry] | Exception]) -> None:
        self.runs = [Run(run_id=new_id(), thread_id="t", agent="a") for _ in logs]
        self._logs = dict(zip((run.run_id for run in self.runs), logs, strict=True))

    async def attend(self, run: Run, **_: Any) -> AsyncGenerator[list[Entry]]:
        for batch in self._logs[run.run_id]:
            if isinstance(batch, Exception):
                raise batch
            yield batch
            await asyncio.sleep(0)


def all_of(logs: Logs) -> list[list[Tagged]]:
    async def scene() -> list[list[Tagged]]:
        return [batch async for batch in merged(logs, logs.runs, idle=1.0)]  # type: ignore[arg-type]

    return asyncio.run(asyncio.wait_for(scene(), 10))


def test_all_entries_come_tagged_with_their_run() -> None:
    batches = all_of(Logs([[WORD], [END]], [[WORD, END]]))
    assert sorted((item.index, item.entry.seq) for batch in batches for item in batch) == [
        (0, 1),
        (0, 2),
        (1, 1),
        (1, 2),
    ]


def test_a_silence_is_told_once_for_all() -> None:
    assert all_of(Logs([[], [], [END]], [[], [], [END]])).count([]) == 2


def test_silences_are_told_after_the_first_run_has_ended_too() -> None:
    assert all_of(Logs([[END]], [[WORD], [], [], [END]], [[], [END]])).count([]) >= 2


@pytest.mark.parametrize("problem", [LogTrimmed(), RuntimeError("nobody has thought of it")])
def test_a_log_that_cannot_be_followed_ends_it_all(problem: Exception) -> None:
    with pytest.raises(type(problem)):
        all_of(Logs([[WORD], [END]], [[WORD], problem]))
