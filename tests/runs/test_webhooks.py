"""Webhooks against receivers on real sockets: slow, broken, lying and well behaved."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from proxy.errors import ConfigError, Unavailable, Unprocessable
from proxy.model import Run, RunStatus, new_id
from proxy.runs.webhooks import AT_ONCE, Resolve, Tools, Webhooks
from proxy.settings import Webhooks as Settings
from tests.fakes.receiver import Act, Call, drops, floods, hangs, receiving, says, swells, trickles
from tests.fakes.tls import certified

NOW = 1_795_237_824.9
SECRET = "whsec-1"
BODY = b'{"status":"success"}'


class Bench:
    """Webhooks whose waits pass at once, with what they did."""

    def __init__(
        self,
        *allow: str,
        attempts: int = 3,
        timeout: float = 20.0,
        tls: ssl.SSLContext | None = None,
        **names: list[str],
    ) -> None:
        self.waits: list[float] = []
        self.resolved: list[str] = []
        self.names = names
        """Addresses of `<name>.test`, one an attempt; the last stays."""
        self.settings = Settings(allow=allow, secret=SECRET, timeout=timeout, attempts=attempts)
        tools = Tools(resolve=self.resolve, clock=lambda: NOW, sleep=self.sleep, tls=tls)
        self.webhooks = Webhooks(self.settings, self.body, tools)

    async def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        addresses = self.names[host.removesuffix(".test")]
        return [addresses.pop(0) if len(addresses) > 1 else addresses[0]]

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def body(self, run: Run) -> bytes:
        return BODY

    async def deliver(self, url: str) -> bool:
        return await self.webhooks.deliver(told_of(url))


def told_of(url: str) -> Run:
    return Run(run_id=new_id(), thread_id=new_id(), agent="a", status=RunStatus.SUCCESS, webhook=url)


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 30))


def attempts_of(calls: list[Call]) -> list[str]:
    return [call.headers["x-runwire-attempt"] for call in calls]


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
def test_a_call_that_is_not_taken_is_made_again_later_each_time(bad: Act) -> None:
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
def test_a_receiver_that_does_not_answer_in_time_is_hung_up_on(slow: Act) -> None:
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


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(status: int) -> None:
    async def scene() -> None:
        async with (
            receiving() as inside,
            receiving(*[says(status, f"Location: http://127.0.0.1:{inside.port}/")] * 3) as out,
        ):
            bench = Bench(f"127.0.0.1:{out.port}", f"127.0.0.1:{inside.port}")
            assert not await bench.deliver(f"http://127.0.0.1:{out.port}/")
        assert inside.connections == 0
        assert len(out.calls) == 3

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


def rewired(bench: Bench, resolve: Resolve) -> Webhooks:
    return Webhooks(bench.settings, bench.body, Tools(resolve=resolve, sleep=bench.sleep))


def test_a_name_is_resolved_once_an_attempt_and_the_call_goes_to_the_address_that_was_checked() -> None:
    """A second look-up would find the other receiver."""

    async def scene() -> None:
        async with receiving(says(500)) as first, receiving(host="127.0.0.2", port=first.port) as second:
            port = first.port
            bench = Bench(
                f"hooks.test:{port}", f"127.0.0.1:{port}", f"127.0.0.2:{port}", hooks=["127.0.0.1", "127.0.0.2"]
            )
            assert await bench.deliver(f"http://hooks.test:{port}/")
        assert bench.resolved == ["hooks.test", "hooks.test"]
        assert (first.connections, second.connections) == (1, 1)
        assert first.calls[0].headers["host"] == f"hooks.test:{port}"

    play(scene())


@pytest.mark.parametrize("entry", ["hooks.test", "*.test", "*"])
def test_a_name_that_leads_to_this_machine_gets_no_connection(entry: str) -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            bench = Bench(f"{entry}:{receiver.port}", hooks=["127.0.0.1"])
            bench.webhooks.check(url := f"http://hooks.test:{receiver.port}/")
            assert not await bench.deliver(url)
        assert receiver.connections == 0
        assert bench.waits == [], "what is forbidden is not tried again"

    play(scene())


def test_a_name_that_changes_its_mind_between_attempts_gets_no_connection_inside() -> None:
    async def scene() -> None:
        async with receiving(says(500), host="127.0.0.2") as outside, receiving(port=outside.port) as inside:
            port = outside.port
            bench = Bench(f"*.test:{port}", f"127.0.0.2:{port}", hooks=["127.0.0.2", "127.0.0.1"])
            assert not await bench.deliver(f"http://hooks.test:{port}/")
        assert (outside.connections, inside.connections) == (1, 0)

    play(scene())


def test_one_bad_address_among_good_ones_spoils_them_all() -> None:
    async def scene() -> None:
        async with receiving(host="127.0.0.2") as good, receiving(port=good.port) as bad:
            bench = Bench(f"*.test:{good.port}", f"127.0.0.2:{good.port}")

            async def both(host: str, port: int) -> list[str]:
                return ["127.0.0.2", "127.0.0.1"]

            assert not await rewired(bench, both).deliver(told_of(f"http://hooks.test:{good.port}/"))
        assert (good.connections, bad.connections) == (0, 0)

    play(scene())


def test_the_next_address_is_tried_where_one_takes_no_connection() -> None:
    async def scene() -> None:
        async with receiving(host="127.0.0.2") as receiver:
            bench = Bench(f"*.test:{receiver.port}", f"127.0.0.2:{receiver.port}", f"127.0.0.3:{receiver.port}")

            async def both(host: str, port: int) -> list[str]:
                return ["127.0.0.3", "127.0.0.2"]

            assert await rewired(bench, both).deliver(told_of(f"http://hooks.test:{receiver.port}/"))
        assert attempts_of(receiver.calls) == ["1"]

    play(scene())


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{}/",
        "http://127.1:{}/",
        "http://0x7f.1:{}/",
        "http://2130706433:{}/",
        "http://017700000001:{}/",
        "http://0:{}/",
        "http://[::1]:{}/",
        "http://[::ffff:127.0.0.1]:{}/",
        "http://localhost:{}/",
        "http://LOCALHOST:{}/",
        "http://localhost.:{}/",
    ],
)
def test_no_connection_arrives_at_this_machine_in_any_spelling(url: str) -> None:
    """By the real resolver, and although any host may be called."""

    async def scene() -> None:
        async with receiving() as receiver:
            webhooks = Webhooks(Settings(allow=(f"*:{receiver.port}",)), Bench().body)
            with pytest.raises(Unprocessable):
                webhooks.check(url.format(receiver.port))
            assert not await webhooks.deliver(told_of(url.format(receiver.port)))
        assert receiver.connections == 0

    play(scene())


def test_the_real_resolver_finds_a_listed_localhost() -> None:
    async def scene() -> None:
        async with receiving() as receiver:
            webhooks = Webhooks(Settings(allow=(f"localhost:{receiver.port}",)), Bench().body)
            assert await webhooks.deliver(told_of(f"http://localhost:{receiver.port}/"))
        assert receiver.calls[0].headers["host"] == f"localhost:{receiver.port}"

    play(scene())


def tls_of(certificate: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The receiver's side and ours, which trusts it."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(certificate)
    return theirs, ssl.create_default_context(cafile=str(certificate))


def test_the_certificate_must_be_that_of_the_name_in_the_url(tmp_path: Path) -> None:
    async def scene() -> None:
        theirs, ours = tls_of(certified(tmp_path, "hooks.test"))
        asked: list[str | None] = []
        theirs.sni_callback = lambda _socket, name, _context: asked.append(name)
        async with receiving(tls=theirs) as receiver:
            port = receiver.port
            names = {"hooks": ["127.0.0.1"], "other": ["127.0.0.1"]}
            bench = Bench(f"*.test:{port}", f"127.0.0.1:{port}", tls=ours, attempts=1, **names)
            assert not await bench.deliver(f"https://other.test:{port}/")
            assert receiver.calls == []
            assert await bench.deliver(f"https://hooks.test:{port}/")
        assert [call.headers["host"] for call in receiver.calls] == [f"hooks.test:{port}"]
        assert asked == ["other.test", "hooks.test"]

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
