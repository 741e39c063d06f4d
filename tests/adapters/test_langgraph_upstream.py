"""A graph over `langchain-openai`, and an upstream that misbehaves."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing

import pytest

from proxy.errors import (
    RateLimited,
    StreamIncomplete,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from proxy.events import Completed, Event, Usage
from tests.adapters import graphs
from tests.adapters.langgraph_runs import agent, run_of, text
from tests.fakes import faults
from tests.fakes.upstream import Upstream

Play = Callable[..., None]

openai = pytest.importorskip("langchain_openai")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as mock:
        yield mock


@pytest.fixture
def play(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Play:
    def play(events: list[Event], *, take: int | None = None, timeout: float = 10.0) -> None:
        """Run the graph to its end, or close it after `take` events."""
        model = openai.ChatOpenAI(
            base_url=upstream.url, api_key="sk-secret", model="gpt-4o", max_retries=0, timeout=timeout
        )
        model.stream_usage = True
        monkeypatch.setattr(graphs, "live", graphs.line(call=graphs.asks(model)).compile(), raising=False)
        asyncio.run(_played(events, take))

    return play


async def _played(events: list[Event], take: int | None) -> None:
    async with agent("live") as adapter, aclosing(adapter.stream(run_of())) as stream:
        async for event in stream:
            events.append(event)
            if len(events) == take:
                return


def test_text_usage_and_reason_arrive(play: Play) -> None:
    events: list[Event] = []
    play(events)
    assert text(events) == "You said: hi "
    spent = [event for event in events if isinstance(event, Usage)]
    assert [(each.input_tokens, each.output_tokens, each.cached_tokens, each.reasoning_tokens) for each in spent] == [
        (11, 7, 3, 2)
    ]
    assert events[-1] == Completed(finish_reason="stop")


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("U03", StreamIncomplete),
        ("U03-character", StreamIncomplete),
        ("U07", RateLimited),
        ("U08", UpstreamError),
        ("U09", UpstreamRefused),
        ("U09-forbidden", UpstreamRefused),
        ("U10-object", UpstreamError),
    ],
)
def test_each_failure_of_the_upstream_has_its_error(
    upstream: Upstream, play: Play, case: str, kind: type[UpstreamError]
) -> None:
    upstream.then(faults.CASES[case])
    with pytest.raises(UpstreamError) as caught:
        play([])
    assert type(caught.value) is kind
    assert "sk-" not in caught.value.message


@pytest.mark.parametrize("case", ["U01", "U02"])
def test_silence_of_the_upstream_becomes_a_timeout(upstream: Upstream, play: Play, case: str) -> None:
    upstream.then(faults.CASES[case])
    with pytest.raises(UpstreamTimeout):
        play([], timeout=0.2)


def test_stopping_a_run_closes_the_upstreams_connection(upstream: Upstream, play: Play) -> None:
    upstream.then(faults.hang)
    play([], take=1)
    assert upstream.wait(lambda: not upstream.open)
