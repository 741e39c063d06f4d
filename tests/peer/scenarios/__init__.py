"""What is played on both servers. Each scenario is a function that talks; its name is the scenario's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.peer.talk import Talk

Scenario = Callable[[Talk], Awaitable[None]]


def all_scenarios() -> dict[str, Scenario]:
    from tests.peer.scenarios import rest, runs, streams, threads

    modules = (streams, runs, threads, rest)
    return {name: each for module in modules for name, each in vars(module).items() if _plays(each, module.__name__)}


def _plays(each: object, module: str) -> bool:
    public = callable(each) and not getattr(each, "__name__", "_").startswith("_")
    return public and getattr(each, "__module__", "") == module
