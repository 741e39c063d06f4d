"""What the tests of the openai adapter share: an open adapter, a run, its events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from adapters.openai import OpenAIAdapter, UpstreamOptions
from proxy.adapter import RunInput, Site
from proxy.errors import ProxyError
from proxy.events import Completed, Event, TextDelta, ToolCallDelta
from proxy.messages import Message
from tests.fakes.upstream import Upstream

T = TypeVar("T")

KEY = "sk-upstream-1234567890"
SITE = Site(agent="gpt", folder=Path(), state="memory://")


class Outcome:
    """What one run said, and the error it ended in."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.error: ProxyError | None = None

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def finish(self) -> str | None:
        """The finish reason, if the run completed."""
        finals = [event for event in self.events if isinstance(event, Completed)]
        assert len(finals) <= 1
        assert not finals or self.events[-1] is finals[0]
        return finals[0].finish_reason if finals else None

    @property
    def calls(self) -> dict[str, tuple[str, str]]:
        """Name and arguments by call id, in the order of their first pieces."""
        calls: dict[str, tuple[str, str]] = {}
        for event in self.events:
            if isinstance(event, ToolCallDelta):
                assert event.client
                calls[event.call_id] = (event.name, calls.get(event.call_id, ("", ""))[1] + event.arguments)
        return calls


def asked(text: str = "hi", **fields: Any) -> RunInput:
    """A run whose only message is this text."""
    messages = fields.pop("messages", (Message(role="user", content=text),))
    return RunInput(run_id="r1", thread_id="t1", agent="gpt", messages=messages, **fields)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[OpenAIAdapter]:
    """An open adapter; one model unless the options say otherwise."""
    if "models" not in options:
        options.setdefault("model", "gpt-4o")
    adapter = OpenAIAdapter(UpstreamOptions(base_url=url, api_key=KEY, **options), SITE)
    await adapter.open()
    try:
        yield adapter
    finally:
        await adapter.close()


async def outcome(adapter: OpenAIAdapter, run: RunInput) -> Outcome:
    """All that a run says."""
    result = Outcome()
    try:
        async with aclosing(adapter.stream(run)) as events:
            async for event in events:
                result.events.append(event)
    except ProxyError as error:
        result.error = error
    return result


def against(upstream: Upstream, act: Callable[[OpenAIAdapter], Awaitable[T]], **options: Any) -> T:
    """Run `act` with an adapter for this upstream, in a loop of its own."""

    async def main() -> T:
        async with opened(options.pop("base_url", upstream.url), **options) as adapter:
            return await act(adapter)

    return asyncio.run(main())


def ran(upstream: Upstream, run: RunInput | None = None, **options: Any) -> Outcome:
    """One run against this upstream."""
    return against(upstream, lambda adapter: outcome(adapter, run or asked()), **options)
