"""The web socket of the event protocol: commands and events on one line, and who may open it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from proxy.settings import Dialects, NativeDialect, Server
from proxy.testing import ScriptedRun
from tests.api.native.talking import HI, Line, Talk, lives, talking, text
from tests.api.scripted import KEYS, House, visit

MOUNTS = ["", "/api"]
START = {"assistant_id": "script", "input": HI}
PAGE = "http://page.example"


async def started(house: House, talk: Talk, id: int = 7) -> ScriptedRun:
    answer = await talk.command(id, "run.start", **START)
    run = await house.started()
    assert answer["result"] == {"run_id": run.given.run_id}
    return run


async def subscribed(talk: Talk, *channels: str, id: int = 1, **more: Any) -> str:
    answer = await talk.command(id, "subscription.subscribe", channels=["lifecycle", *channels], **more)
    assert answer["type"] == "success"
    name: str = answer["result"]["subscription_id"]
    return name


async def refused(house: House, line: Line, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as refusal:
        async with talking(house, line, **options):
            pass
    body = json.loads(refusal.value.response.body or b"")
    assert list(body) == ["detail"]
    return refusal.value.response.status_code


async def closed(talk: Talk) -> int | None:
    """The code that the server closes with."""
    try:
        while True:
            await talk.socket.recv()
    except ConnectionClosed as end:
        return None if end.rcvd is None else end.rcvd.code


def served() -> bool:
    """Somebody on the server's side still sees to a socket, or reads a thread for it."""
    names = ("WebSocketsSansIOProtocol.run_asgi", "native/sockets.py", "native/thread_stream.py")
    return any(name in str(task) for task in asyncio.all_tasks() for name in names)


@pytest.mark.parametrize("mount", MOUNTS)
def test_commands_and_events_share_the_line(mount: str) -> None:
    async def scene(house: House) -> None:
        line = Line(house, mount)
        async with talking(house, line) as talk:
            await subscribed(talk, "messages")
            run = await started(house, talk)
            await run.say("one ", "two")
            await run.end()
            heard = await talk.run()
            assert (text(heard), lives(heard)) == ("one two", ["running", "completed"])
            assert heard == await line.told("messages")

    visit(scene)


def test_a_later_subscription_hears_what_was_and_an_earlier_one_nothing_twice() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        async with talking(house, line) as talk:
            await subscribed(talk)
            run = await started(house, talk)
            await run.say("one")
            await subscribed(talk, "messages", id=2)
            await run.say("two")
            await run.end()
            heard = await talk.run()
            numbers = [event["seq"] for event in heard]
            assert text(heard) == "onetwo"
            assert lives(heard).count("completed") == 1
            assert sorted(set(numbers)) == [event["seq"] for event in await line.told("messages")]

    visit(scene)


def test_events_of_several_subscriptions_come_in_their_order() -> None:
    async def scene(house: House) -> None:
        async with talking(house, Line(house)) as talk:
            await subscribed(talk)
            await subscribed(talk, "messages", "values", id=2)
            run = await started(house, talk)
            await run.say("one")
            await run.end()
            numbers = [event["seq"] for event in await talk.run()]
            assert numbers == sorted(set(numbers))

    visit(scene)


def test_what_is_no_longer_subscribed_to_is_not_heard() -> None:
    async def scene(house: House) -> None:
        async with talking(house, Line(house)) as talk:
            name = await subscribed(talk, "messages")
            await subscribed(talk, id=2)
            assert (await talk.command(3, "subscription.unsubscribe", subscription_id=name))["result"] == {}
            again = await talk.command(4, "subscription.unsubscribe", subscription_id=name)
            assert again["error"] == "no_such_subscription"
            run = await started(house, talk)
            await run.say("one")
            await run.end()
            assert {event["method"] for event in await talk.run()} == {"lifecycle"}

    visit(scene)


def test_a_client_that_comes_again_hears_what_it_has_not() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        async with talking(house, line) as talk:
            await subscribed(talk, "messages")
            run = await started(house, talk)
            await run.say("one")
            await run.end()
            since = (await talk.run())[-1]["seq"]
        async with talking(house, line) as talk:
            await subscribed(talk, "messages", since=since)
            run = await started(house, talk)
            await run.say("two")
            await run.end()
            assert text(await talk.run()) == "two"

    visit(scene)


def test_a_command_that_is_sent_again_is_obeyed_once() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        async with talking(house, line) as talk:
            first = await talk.command(1, "run.start", **START)
            assert await talk.command(1, "run.start", **START) == first
            await (await house.started()).end()
            assert len((await house.http.get(f"{line.path}/runs")).json()) == 1
            other = await talk.command(1, "run.start", **START, metadata={"other": True})
            assert other["result"] != first["result"]

    visit(scene)


@pytest.mark.parametrize(
    ("sent", "id", "code"),
    [
        ("{", None, "invalid_argument"),
        ("", None, "invalid_argument"),
        ("[]", None, "invalid_argument"),
        ('{"id":"x"}', "x", "invalid_argument"),
        (b"\xff\xfe", None, "invalid_argument"),
        ("[" * 100_000, None, "invalid_argument"),
        ({"id": 1, "method": "nope"}, 1, "unknown_command"),
        ({"id": 1, "method": "run.start", "params": 5}, 1, "invalid_argument"),
        ({"id": 1, "method": "subscription.subscribe", "params": {}}, 1, "invalid_argument"),
        ({"id": 1, "method": "subscription.subscribe", "params": {"channels": ["bogus"]}}, 1, "invalid_argument"),
        ({"id": 1, "method": "subscription.unsubscribe", "params": {}}, 1, "invalid_argument"),
        ({"id": 1, "method": "input.respond", "params": {"interrupt_id": "x"}}, 1, "no_such_run"),
    ],
)
def test_a_frame_that_cannot_be_obeyed_is_answered_and_the_line_stays(sent: Any, id: Any, code: str) -> None:
    async def scene(house: House) -> None:
        async with talking(house, Line(house)) as talk:
            told = await talk.send(sent)
            assert (told["type"], told["id"], told["error"]) == ("error", id, code)
            await (await started(house, talk)).end()

    visit(scene)


def test_subscriptions_are_bounded() -> None:
    async def scene(house: House) -> None:
        async with talking(house, Line(house)) as talk:
            for id in range(100):
                await subscribed(talk, id=id)
            told = await talk.command(100, "subscription.subscribe", channels=["values"])
            assert told["error"] == "invalid_argument"

    visit(scene)


def test_a_frame_may_be_as_large_as_a_body_and_no_larger() -> None:
    small = Server(api_keys=KEYS, drain=0)
    limits = type(small.limits)(body=2000)

    async def scene(house: House) -> None:
        async with talking(house, Line(house)) as talk:
            await talk.socket.send("x" * 3000)
            assert await closed(talk) == 1009

    visit(scene, server=Server(api_keys=KEYS, drain=0, limits=limits))


def test_whoever_opens_a_socket_needs_a_key() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        assert await refused(house, line, key=None) == 401
        assert await refused(house, line, key="wrong") == 401
        assert await refused(house, line, key=None, subprotocols=["x-api-key.wrong"]) == 401

    visit(scene)


@pytest.mark.parametrize(
    ("offered", "taken"), [(["x-api-key.sk-b"], "x-api-key.sk-b"), (["events", "x-api-key.sk-b"], "events")]
)
def test_a_browser_offers_its_key_as_a_protocol(offered: Any, taken: str) -> None:
    async def scene(house: House) -> None:
        async with talking(house, Line(house), key=None, subprotocols=offered) as talk:
            assert talk.socket.subprotocol == taken
            run = await started(house, talk)
            assert run.given.tenant == "b"
            await run.end()

    visit(scene)


def test_another_tenants_thread_is_not_heard() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        await line.start()
        await (await house.started()).end()
        async with talking(house, line, key="sk-b") as talk:
            await subscribed(talk)
            run = await started(house, talk)
            await run.end()
            assert {event["event_id"].partition(":")[0] for event in await talk.run()} == {run.given.run_id}

    visit(scene)


def test_only_pages_that_may_call_may_open_a_socket() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        assert await refused(house, line, origin="http://evil.example") == 403
        assert await refused(house, line, origin="null") == 403
        for origin in (PAGE, str(house.http.base_url).rstrip("/")):
            async with talking(house, line, origin=origin) as talk:
                assert talk.socket.response is not None
                assert talk.socket.response.headers["x-request-id"]

    visit(scene, server=Server(api_keys=KEYS, drain=0, cors=(PAGE,)))


def test_there_are_no_other_sockets() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        line.path = "/threads"
        assert await refused(house, line) == 404

    visit(scene)


def test_a_header_that_no_socket_takes_is_refused() -> None:
    async def scene(house: House) -> None:
        with pytest.raises(InvalidStatus) as refusal:
            async with talking(house, Line(house), key="k" * 8200):
                pass
        assert refusal.value.response.status_code == 431

    visit(scene)


def test_a_server_that_goes_down_closes_the_socket() -> None:
    async def scene(house: House) -> None:
        async with talking(house, Line(house)) as talk:
            await subscribed(talk)
            await house.app.drain()
            assert await closed(talk) == 1012

    visit(scene)


def test_a_socket_that_is_closed_leaves_nothing_behind() -> None:
    async def scene(house: House) -> None:
        line = Line(house)
        async with talking(house, line) as talk:
            await subscribed(talk)
            await subscribed(talk, "messages", id=2)
            run = await started(house, talk)
            assert served()
        async with asyncio.timeout(10):
            while served():
                await asyncio.sleep(0)
        await run.end()

    visit(scene)


def test_whoever_takes_nothing_is_dropped() -> None:
    quick = Dialects(langgraph=NativeDialect(send_timeout=0.2))

    async def scene(house: House) -> None:
        line = Line(house)
        async with talking(house, line) as talk:
            await subscribed(talk, "messages")
            run = await started(house, talk)
            assert served()
            talk.socket.transport.pause_reading()
            async with asyncio.timeout(20):
                while served():
                    await run.say("x" * 10_000)
                    await asyncio.sleep(
                        0.005
                    )  # or it would say more than a run may before it is seen that nobody reads
            await run.end()
            talk.socket.transport.abort()

    visit(scene, dialects=quick)
