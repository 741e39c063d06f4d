"""Webhooks against receivers on real sockets: slow, broken, and well behaved."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

import msgspec
import pytest
from structlog.testing import capture_logs

from proxy.errors import ConfigError, Unavailable
from proxy.model import Run, new_id
from proxy.runs.webhooks import AT_ONCE, Tools, Webhooks
from proxy.settings import Webhooks as Settings
from tests.fakes.receiver import Act, drops, floods, hangs, receiving, says, swells, trickles
from tests.runs.callbacks import BODY, NOW, SECRET, Bench, attempts_of, play, rewired, told_of


def test_a_receiver_gets_a_signed_call_with_the_runs_ids() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            bench = Bench(f"127.0.0.1:{receiver.port}")
            run = told_of(f"http://127.0.0.1:{receiver.port}/hook?key=v#part")
            assert await bench.webhooks.deliver(run)
        [call] = receiver.calls
        assert call.line == "POST /hook?key=v HTTP/1.1"
        assert call.body == BODY
        sent = call.headers
        assert sent["host"] == f"127.0.0.1:{receiver.port}"
        assert sent["content-type"] == "application/json"
        assert sent["x-run-id"] == run.run_id
        assert sent["x-runwire-attempt"] == "1"
        assert sent["x-runwire-timestamp"] == str(int(NOW))
        expected = hmac.new(SECRET.encode(), f"{int(NOW)}.".encode() + BODY, hashlib.sha256).hexdigest()
        assert sent["x-runwire-signature"] == f"sha256={expected}"
        assert bench.waits == []

    play(scene())


def test_without_a_secret_calls_are_not_signed() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            settings = Settings(allow=(f"127.0.0.1:{receiver.port}",))
            webhooks = Webhooks(settings, Bench().body)
            assert await webhooks.deliver(told_of(f"http://127.0.0.1:{receiver.port}/"))
        assert "x-runwire-signature" not in receiver.calls[0].headers

    play(scene())


@pytest.mark.parametrize("bad", [says(500), says(503), says(429), says(404), drops], ids=lambda act: act.__qualname__)
def test_r13_a_call_that_is_not_taken_is_made_again_later_each_time(bad: Act) -> None:
    async def scene() -> None:
        async with receiving(bad, bad, bad) as receiver:
            bench = Bench(f"127.0.0.1:{receiver.port}", attempts=5)
            assert await bench.deliver(f"http://127.0.0.1:{receiver.port}/")
        assert attempts_of(receiver.calls) == ["1", "2", "3", "4"]
        assert len({call.headers["x-runwire-delivery"] for call in receiver.calls}) == 1
        assert [low <= wait <= low + 1 for low, wait in zip((1, 3, 9), bench.waits, strict=True)] == [True] * 3

    play(scene())


def test_a_receiver_that_never_takes_it_is_given_up() -> None:
    async def scene() -> None:
        async with receiving(*[says(500)] * 9) as receiver:
            bench = Bench(f"127.0.0.1:{receiver.port}", attempts=3)
            assert not await bench.deliver(f"http://127.0.0.1:{receiver.port}/")
        assert len(receiver.calls) == 3

    play(scene())


@pytest.mark.parametrize("slow", [hangs, trickles])
def test_r13_a_receiver_that_does_not_answer_in_time_is_hung_up_on(slow: Act) -> None:
    async def scene() -> None:
        async with receiving(slow) as receiver:
            bench = Bench(f"127.0.0.1:{receiver.port}", timeout=0.3, attempts=20)
            assert await bench.deliver(f"http://127.0.0.1:{receiver.port}/")
            await receiver.left.wait()
        assert attempts_of(receiver.calls)[:2] == ["1", "2"]

    play(scene())


def test_an_answer_without_end_is_not_read() -> None:
    async def scene() -> None:
        async with receiving(floods) as receiver:
            bench = Bench(f"127.0.0.1:{receiver.port}")
            assert await bench.deliver(f"http://127.0.0.1:{receiver.port}/")
            await receiver.left.wait()
        assert len(receiver.calls) == 1

    play(scene())


def test_headers_without_end_are_a_failed_attempt() -> None:
    async def scene() -> None:
        async with receiving(swells) as receiver:
            bench = Bench(f"127.0.0.1:{receiver.port}")
            assert await bench.deliver(f"http://127.0.0.1:{receiver.port}/")
        assert attempts_of(receiver.calls) == ["1", "2"]

    play(scene())


def test_a_receiver_that_is_away_is_called_again() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            pass
        bench = Bench(f"127.0.0.1:{receiver.port}")
        assert not await bench.deliver(f"http://127.0.0.1:{receiver.port}/")
        assert len(bench.waits) == 2

    play(scene())


def test_a_name_that_cannot_be_resolved_is_asked_again() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            bench = Bench(f"hooks.test:{receiver.port}", f"127.0.0.1:{receiver.port}", hooks=["127.0.0.1"])
            resolve, faults = bench.resolve, [OSError("no such name")]

            async def failing(host: str, port: int) -> list[str]:
                if faults:
                    raise faults.pop()
                return await resolve(host, port)

            webhooks = rewired(bench, failing)
            assert await webhooks.deliver(told_of(f"http://hooks.test:{receiver.port}/"))
        assert attempts_of(receiver.calls) == ["2"]

    play(scene())


def test_the_log_has_neither_secret_nor_path_nor_query() -> None:
    async def scene() -> None:
        async with receiving(says(500), says(500)) as receiver:
            bench = Bench(f"127.0.0.1:{receiver.port}", attempts=2)
            with capture_logs() as lines:
                await bench.deliver(f"http://127.0.0.1:{receiver.port}/path-1?token-1=2")
        assert [line["event"] for line in lines] == ["webhook called", "webhook called", "a webhook was given up"]
        assert all(word not in str(lines) for word in ("path-1", "token-1", SECRET))

    play(scene())


def test_a_body_that_cannot_be_made_now_is_made_later() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            bench = Bench(f"127.0.0.1:{receiver.port}")
            faults = [Unavailable("The store cannot be read now.")]

            async def body(run: Run) -> bytes:
                if faults:
                    raise faults.pop()
                return BODY

            webhooks = Webhooks(bench.settings, body, Tools(sleep=bench.sleep))
            assert await webhooks.deliver(told_of(f"http://127.0.0.1:{receiver.port}/"))
        assert attempts_of(receiver.calls) == ["2"]

    play(scene())


def test_so_many_calls_are_made_at_a_time_and_no_more() -> None:
    async def scene() -> None:
        most, now, full, go_on = 0, 0, asyncio.Event(), asyncio.Event()

        async def holds(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            if now == AT_ONCE:
                full.set()
            await go_on.wait()
            now -= 1
            await says(200)(reader, writer)

        count = 3 * AT_ONCE
        async with receiving(*[holds] * count) as receiver:
            bench = Bench(f"127.0.0.1:{receiver.port}")
            url = f"http://127.0.0.1:{receiver.port}/"
            calls = asyncio.gather(*(bench.deliver(url) for _ in range(count)))
            await full.wait()
            go_on.set()
            assert await calls == [True] * count
        assert most == AT_ONCE

    play(scene())


def test_a_host_that_is_not_listed_any_more_is_not_called() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            bench = Bench("hooks.example.com")
            assert not await bench.deliver(f"http://127.0.0.1:{receiver.port}/")
        assert receiver.connections == 0

    play(scene())


def test_a_wrong_list_is_a_fault_of_the_config() -> None:
    with pytest.raises(ConfigError, match=r"webhooks\.allow\[0\]"):
        Bench("https://hooks.example.com/x")


def test_a_run_under_another_id_is_another_delivery() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            bench = Bench(f"127.0.0.1:{receiver.port}")
            run = told_of(f"http://127.0.0.1:{receiver.port}/")
            for each in (run, run, msgspec.structs.replace(run, run_id=new_id())):
                await bench.webhooks.deliver(each)
        first, again, other = [call.headers["x-runwire-delivery"] for call in receiver.calls]
        assert first == again != other

    play(scene())
