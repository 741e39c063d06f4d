from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from proxy.api import client as clients
from proxy.api.client import Client, Delivery


class Link:
    """A connection that remembers what was written to it."""

    waiting = 0
    lost = False
    on_lost: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.paused = False
        self.sent: list[bytes] = []
        self.twice = asyncio.Event()
        """Something was written for the second time."""

    def write(self, body: bytes) -> None:
        self.sent.append(body)
        if len(self.sent) > 1:
            self.twice.set()

    def abort(self) -> None: ...

    async def send(self, message: Any) -> None:
        self.sent.append(message["body"])


async def no_request() -> Any:
    raise AssertionError("a client with a link is watched there")


def client(link: Link) -> Client:
    return Client({"state": {"link": link}}, no_request, link.send, Delivery(on_leave=lambda: None))


def test_the_first_bytes_after_a_pause_go_out_at_once_and_a_rush_is_gathered_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "RUSH", 60.0)

    async def main() -> list[bytes]:
        link = Link()
        with client(link) as other:
            for body in (b"1", b"2", b"3"):
                other.write_now(body)
            assert link.sent == [b"1"]
            await other.write(b"4")
            other.write_now(b"5")
            await other.finish(b"6")
        return link.sent

    assert asyncio.run(main()) == [b"1", b"234", b"56"]


def test_what_was_gathered_goes_out_though_nothing_follows() -> None:
    async def main() -> list[bytes]:
        link = Link()
        with client(link) as other:
            other.write_now(b"1")
            other.write_now(b"2")
            await asyncio.wait_for(link.twice.wait(), 5)
            await other.finish(b"3")
        return link.sent

    assert asyncio.run(main()) == [b"1", b"2", b"3"]


def test_a_connection_that_is_full_takes_nothing_now() -> None:
    async def main() -> None:
        link = Link()
        with client(link) as other:
            assert other.writable
            link.paused = True
            assert not other.writable
            await other.finish(b"")

    asyncio.run(main())
