"""The same scenarios on the official development server and on ours: what they answer is the same, but for what
`differences.yaml` lists with its reason. What is listed must differ: an entry that no longer occurs is stale.

With `PEER=1` in the environment the official server is compared with itself, to see that the comparison is sound.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from tests.peer.compare import Difference, differences, intended, unlisted
from tests.peer.house import Place, official, runwire
from tests.peer.scenarios import Scenario, all_scenarios
from tests.peer.talk import PATIENCE, Talk

ALONE = bool(os.environ.get("PEER"))
LISTED = [] if ALONE else intended()
AT_ONCE = 6


async def played(scenario: Scenario, place: Place) -> Any:
    """What the scenario saw; what broke it off, if something did, is the last of it."""
    async with httpx2.AsyncClient(base_url=place.url, headers=place.headers, timeout=PATIENCE) as http:
        talk = Talk(place, http)
        try:
            async with asyncio.timeout(2 * PATIENCE):
                await scenario(talk)
        except Exception as error:
            talk.seen["broken off"] = repr(error)
        return talk.seen


async def played_on(places: tuple[Place, Place]) -> dict[str, list[Difference]]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, scenario: Scenario) -> tuple[str, list[Difference]]:
        async with turns:
            there, here = await asyncio.gather(*(played(scenario, place) for place in places))
        broken = {side: seen.pop("broken off", None) for side, seen in (("there", there), ("here", here))}
        off = [Difference(name, "broken off", *broken.values())] if any(broken.values()) else []
        return name, off + differences(name, there, here)

    return dict(await asyncio.gather(*(one(*item) for item in all_scenarios().items())))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Difference]]]:
    """The differences of each scenario."""
    with ExitStack() as stack:
        peer = stack.enter_context(official(tmp_path_factory.mktemp("official")))
        ours = peer if ALONE else stack.enter_context(runwire(tmp_path_factory.mktemp("ours")))
        yield asyncio.run(played_on((peer, ours)))


@pytest.mark.parametrize("scenario", sorted(all_scenarios()))
def test_ours_answers_as_the_official_server_does(found: dict[str, list[Difference]], scenario: str) -> None:
    wrong = unlisted(found[scenario], LISTED)
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry.id)
def test_a_listed_difference_is_still_there(found: dict[str, list[Difference]], entry: Any) -> None:
    assert any(entry.covers(each) for all_ in found.values() for each in all_), f"stale: {entry.id}"
