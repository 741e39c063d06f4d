"""Agents that show what they cost the one process they run in, or misuse it."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections.abc import AsyncIterator
from types import AsyncGeneratorType

import anyio

from adapters.plain import Request


async def census(request: Request) -> str:
    """What lives in this process, as JSON: tasks, async generators that were begun, files, sockets among them.

    The database's files do not count: a pool opens them, when it first needs one more, up to its bound."""
    gc.collect()
    generators = [one for one in gc.get_objects() if isinstance(one, AsyncGeneratorType) and one.ag_frame is not None]
    files = [_target(name) for name in os.listdir("/proc/self/fd")]
    told = {
        "tasks": len(asyncio.all_tasks()),
        "generators": len(generators),
        "files": sum(".db" not in file for file in files),
        "sockets": sum(file.startswith("socket:") for file in files),
    }
    return json.dumps(told)


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:
        return ""


async def count(request: Request) -> AsyncIterator[str]:
    """As many events as the text says, each its number."""
    for number in range(int(request.text)):
        yield f"{number} "


async def stuck(request: Request) -> AsyncIterator[str]:
    """Does not await for as many seconds as the text says, and holds the whole loop up with it."""
    yield "before "
    time.sleep(float(request.text))
    yield "after"


async def held(request: Request) -> AsyncIterator[str]:
    """Goes on when there is a file of the name that the text says."""
    yield "Hel"
    while not os.path.exists(request.text):
        await asyncio.sleep(0.01)
    yield "lo"


async def scoped(request: Request) -> AsyncIterator[str]:
    """As `held`, within a task group and a cancel scope, which it leaves in the task that it entered them in."""
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            with anyio.CancelScope():
                async for word in held(request):
                    yield word
            group.cancel_scope.cancel()
    finally:
        with open("closed", "a") as file:
            file.write(f"{request.run_id}\n")
