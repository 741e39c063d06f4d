"""The contract of adapters in executable form: any adapter, ours or yours, can be held against it.

    def test_my_adapter_keeps_the_contract():
        asyncio.run(check_adapter(make, ends=[RunInput(...)], hangs=RunInput(...), held=lambda: mock.open_requests))

Needs no test framework. The rules are the functions in `lives` and `streams`, their docstrings the text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from proxy.adapter import Adapter, RunInput
from proxy.testing.lives import END, RULES, Case, read
from proxy.testing.streams import CHECKS, Broken, Stream

T = TypeVar("T")


class BrokenContract(AssertionError):
    """Rules that an adapter does not keep; `rules` are their names."""

    def __init__(self, broken: Sequence[tuple[str, str]]) -> None:
        self.rules = frozenset(rule for rule, _ in broken)
        lines = [f"  {rule}: {seen}" for rule, seen in broken]
        super().__init__("\n".join(["the adapter breaks its contract:", *lines]))


async def check_adapter(
    make: Callable[[], Adapter],
    *,
    ends: Sequence[RunInput],
    hangs: RunInput,
    held: Callable[[], int],
    fails: Sequence[RunInput] = (),
    within: float = 1.0,
) -> None:
    """Hold an adapter against every rule; raises `BrokenContract` that lists all that do not hold.

    `make` builds a new adapter that is not open yet. `ends` are runs that end by themselves and well, with the same
    text each time: one for each thing the agent can do (answer, use a tool, pause); the first must give at least
    two events. `hangs` is a run that says something and is then silent until it is stopped. `held` says how many
    sources are at work just now (upstream requests, generators; not idle connections of a pool); a stopped stream
    must be over, and its sources let go, `within` so many seconds. `fails` are runs whose model fails. Every trial
    gets a thread and a run id of its own.

    Takes about a second with an adapter that keeps the rules, if its sources answer at once.
    """
    case = Case(make=make, ends=tuple(ends), hangs=hangs, held=held, fails=tuple(fails), within=within)
    broken: list[tuple[str, str]] = []
    for rule in RULES:
        _, seen = await _tried(rule(case))
        broken += [(rule.__name__, seen)] if seen else []
    for run in case.ends:
        stream, seen = await _tried(read(case, run))
        broken += [(read.__name__, seen)] if seen else []
        broken += _faults(stream) if stream else []
    if broken:
        raise BrokenContract(broken)


async def _tried(trial: Awaitable[T]) -> tuple[T | None, str]:
    """What a trial gave, and what was seen of a broken rule."""
    task = asyncio.ensure_future(trial)
    await asyncio.wait([task], timeout=2 * END)
    if not task.done():
        task.cancel()
        return None, "the trial did not come to an end"
    error = asyncio.CancelledError("the trial was cancelled") if task.cancelled() else task.exception()
    if error is None:
        return task.result(), ""
    return None, str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"


def _faults(stream: Stream) -> list[tuple[str, str]]:
    faults: list[tuple[str, str]] = []
    for check in CHECKS:
        try:
            check(stream)
        except Broken as broken:
            faults.append((check.__name__, str(broken)))
    return faults
