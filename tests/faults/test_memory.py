"""What streams cost the one process that serves them, and what is left of them: memory, tasks, files, sockets.

Clients that do not read (C04, C05) have their own file in `tests/e2e`. The whole counts are those of `make soak`.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.callers import Caller, address, asked
from tests.faults.single import MEGABYTE, Single, config, served, times
from tests.faults.test_clients import AUTH
from tests.waiting import eventually

Report = Callable[[str, object], None]
CLIENTS = 16
SPARE = 500
"""Files that either side needs besides its connections."""


class Crowd:
    """Chat streams of one server, each on a connection of its own."""

    def __init__(self, one: Single) -> None:
        self.host, self.port = address(one.server)
        self.open: dict[asyncio.StreamReader, asyncio.StreamWriter] = {}

    async def begun(self, text: str, word: bytes, model: str = "actor", extra: str = "") -> asyncio.StreamReader:
        """A stream that has said this."""
        body = asked(text, "crowd", model=model, runwire={"keepalive": False})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{AUTH}{extra}content-length: {len(body)}\r\n\r\n"
        reader, writer = await asyncio.open_connection(self.host, self.port)
        self.open[reader] = writer
        writer.write(head.encode() + body)
        await reader.readuntil(word)
        return reader

    async def kept(self) -> None:
        """A connection that has had an answer and asks for nothing more."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        self.open[reader] = writer
        writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b'"ok"')

    async def whole(self, text: str) -> None:
        reader = await self.begun(text, b'"Hello"', extra="connection: close\r\n")
        rest = await reader.read()
        assert rest.count(b"data: [DONE]") == 1
        self.open.pop(reader).close()

    async def leave(self) -> None:
        """Break all connections off."""
        for writer in self.open.values():
            writer.transport.abort()
        self.open.clear()

    async def many(self, count: int, act: Callable[[], Awaitable[object]], at_once: int = 50) -> None:
        """Do it so often, by some at a time."""
        left = iter(range(count))

        async def caller() -> None:
            for _ in left:
                await act()

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(caller())


def room_for(count: int) -> None:
    """Skip where so many connections cannot be had; each side of each is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + SPARE:
        pytest.skip(f"{count} connections need a hard limit of {count + SPARE} files; it is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + SPARE, hard))


def settled(one: Single, before: dict[str, int]) -> None:
    """No more lives in the process than did before, once it has taken leave of all who left."""
    deadline, last = time.monotonic() + times(60, 600), dict[str, int]()
    while time.monotonic() < deadline:
        with suppress(TimeoutError):
            last = one.census()
            if all(last[name] <= before[name] for name in before):
                return
        time.sleep(0.05)
    assert last == before


def warmed(one: Single) -> dict[str, int]:
    """What lives in a process that has done of everything a little, and has taken leave of all who left."""
    asyncio.run(warm(one))
    last = eventually(one.census, "a census")
    while (now := one.census()) != last:
        last = now
    return last


async def warm(one: Single) -> None:
    crowd = Crowd(one)
    await crowd.many(200, lambda: crowd.whole("say Hello"))
    await crowd.many(20, lambda: crowd.begun("say Hello\nwait", b'"Hello"'))
    await crowd.leave()


def test_c06_a_thousand_streams_leave_no_task_generator_file_or_socket(tmp_path: Path) -> None:
    with served(tmp_path) as one:
        threads = [one.thread() for _ in range(10)]
        for thread in threads[:2]:
            one.wait(thread, "walking", {"n": 0})
        before = warmed(one)

        async def scene() -> None:
            crowd = Crowd(one)
            await crowd.many(400, lambda: crowd.whole("say Hello"), at_once=400)
            await crowd.many(300, lambda: crowd.begun("say Hello\nwait", b'"Hello"'), at_once=300)
            await crowd.many(300, lambda: crowd.begun("say Hello\ndrip 100000", b'"Hello"'), at_once=10)
            await crowd.leave()

        asyncio.run(scene())
        for thread in threads:
            with one.stream(
                "POST", f"/threads/{thread}/runs/stream", {"assistant_id": "walking", "input": {"n": 0}}
            ) as s:
                s.rest()
        settled(one, before)
        assert one.server.stop() == 0


def test_c07_idle_streams_and_connections_cost_little_and_others_are_served(
    tmp_path: Path, record_property: Report
) -> None:
    streams, connections = times(1000, 10_000), times(500, 5000)
    room_for(streams + connections)
    base = config()
    base["server"]["limits"] = {"requests": 0}
    base["agents"]["actor"]["limits"] = {"concurrent": 0}
    with served(tmp_path, base) as one:
        before = warmed(one)
        bare = one.memory

        async def scene() -> tuple[int, int]:
            crowd = Crowd(one)
            await crowd.many(streams, lambda: crowd.begun("say Hello\nwait", b'"Hello"'))
            full = one.memory
            await crowd.many(connections, crowd.kept)
            more = one.memory
            said = await asyncio.to_thread(lambda: Caller(one.server, "say Hello").rest())
            assert said.ending == "stop"
            await crowd.leave()
            return full, more

        full, more = asyncio.run(scene())
        settled(one, before)
        each, kept = (full - bare) / streams / 1024, (more - full) / connections / 1024
        cost = f"{streams} idle streams: {each:.1f} KiB RSS each; {connections} idle connections: {kept:.1f} KiB each"
        record_property("figure", f"{cost}; RSS {full / MEGABYTE:.0f} MB")
        assert each < 50
        assert kept < 20


def test_c06_a_soak_of_short_streams_leaves_memory_flat_and_nothing_alive(
    tmp_path: Path, record_property: Report
) -> None:
    count = times(2000, 100_000)
    with served(tmp_path, {"runs": {"retention": {"count": 1000, "every": 1.0}}}) as one:
        before = warmed(one)
        seen = []

        async def scene() -> None:
            crowd = Crowd(one)
            for _ in range(5):
                await crowd.many(count // 5, lambda: crowd.whole("say Hello"), at_once=CLIENTS)
                seen.append(one.memory / MEGABYTE)

        asyncio.run(scene())
        settled(one, before)
        told = one.census()
        record_property(
            "figure", f"{count} streams: RSS {' '.join(f'{rss:.0f}' for rss in seen)} MB after each fifth; {told}"
        )
        assert seen[-1] < seen[0] + 20
