"""Where webhooks go, whatever a URL, a redirect or a name server says: real sockets, and no connection inside."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from proxy.errors import Unprocessable
from proxy.runs.webhooks import Webhooks
from proxy.settings import Webhooks as Settings
from tests.fakes.receiver import receiving, says
from tests.fakes.tls import certified
from tests.runs.callbacks import Bench, attempts_of, play, rewired, told_of


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_r13_a_redirect_is_never_followed(status: int) -> None:
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
