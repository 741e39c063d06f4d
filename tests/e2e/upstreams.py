"""Further things that the fake upstream may be told to do, for clients that expect certain answers."""

from __future__ import annotations

from tests.fakes.upstream import Case, Exchange


def saying(text: str) -> Case:
    """A case that streams exactly this text, in small pieces."""

    async def say(exchange: Exchange) -> None:
        exchange.head()
        exchange.delta(role="assistant", content="")
        for i in range(0, len(text), 5):
            exchange.delta(content=text[i : i + 5])
        exchange.done()

    return say
