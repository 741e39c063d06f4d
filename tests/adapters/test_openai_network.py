"""The openai adapter's client: pool, flow control, TLS, proxies, and connections that cannot be had."""

from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from adapters.openai import OpenAIAdapter
from adapters.openai.connection import Connection
from proxy.errors import ConfigError, UpstreamError, UpstreamTimeout
from tests.adapters.openai_runs import against, asked, opened, outcome, ran
from tests.fakes import faults
from tests.fakes.tls import behind_tls, certified
from tests.fakes.upstream import Exchange, Upstream, normal

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as served:
        yield served


def test_one_connection_serves_one_run_after_the_other(upstream: Upstream) -> None:
    async def act(adapter: OpenAIAdapter) -> None:
        for _ in range(5):
            assert (await outcome(adapter, asked())).finish == "stop"

    against(upstream, act)
    assert (len(upstream.requests), upstream.accepted) == (5, 1)


def test_a_connection_is_used_again_after_an_error_answer(upstream: Upstream) -> None:
    upstream.then(faults.refused(400))

    async def act(adapter: OpenAIAdapter) -> None:
        assert (await outcome(adapter, asked())).error is not None
        assert (await outcome(adapter, asked())).finish == "stop"

    against(upstream, act)
    assert upstream.accepted == 1


def test_a_pooled_connection_that_the_upstream_closes_is_replaced_unnoticed(upstream: Upstream) -> None:
    async def act(adapter: OpenAIAdapter) -> None:
        assert (await outcome(adapter, asked())).finish == "stop"
        upstream.then(faults.stale)
        assert (await outcome(adapter, asked(first_byte=0.0))).finish == "stop"
        upstream.drop()
        assert await asyncio.to_thread(upstream.wait, lambda: upstream.open == 0)
        assert (await outcome(adapter, asked(first_byte=0.0))).finish == "stop"

    against(upstream, act)
    assert upstream.accepted == 3


def test_a_body_that_ends_after_done_still_gives_its_connection_back(upstream: Upstream) -> None:
    upstream.then(faults.slow_end)

    async def main() -> None:
        parked = asyncio.Event()
        loop, port = asyncio.get_running_loop(), int(upstream.url.split(":")[2].split("/")[0])
        connection = Connection(lambda _: parked.set(), lambda _: None)
        await loop.create_connection(lambda: connection, "127.0.0.1", port)
        connection.begin(b'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 15\r\n\r\n{"messages":[]}', 5.0)
        await connection.head()
        body = b""
        with connection:
            while b"[DONE]" not in body:
                body += await connection.read()
            assert not parked.is_set()
        async with asyncio.timeout(5):
            await parked.wait()
        connection.abort()

    asyncio.run(main())


def test_words_after_the_end_of_an_answer_never_reach_the_next_run(upstream: Upstream) -> None:
    async def smuggle(exchange: Exchange) -> None:
        with exchange.packet():
            faults.begin(exchange, "one ")
            exchange.event("[DONE]")
            exchange.end()
            exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")

    async def act(adapter: OpenAIAdapter) -> None:
        upstream.then(smuggle)
        assert (await outcome(adapter, asked("a"))).text == "one "
        assert (await outcome(adapter, asked("b"))).text == "You said: b "

    against(upstream, act)
    assert upstream.accepted == 2


def test_interim_answers_are_skipped(upstream: Upstream) -> None:
    async def interim(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        await normal(exchange)

    upstream.then(interim)
    assert ran(upstream).finish == "stop"


def test_a_reader_that_stops_taking_stops_the_upstream(upstream: Upstream) -> None:
    sent: list[int] = []

    async def flood(exchange: Exchange) -> None:
        faults.begin(exchange, "first")
        for i in range(64):
            exchange.delta(content="x" * 1_000_000)
            await exchange.flush()
            upstream.changed(lambda i=i: sent.append(i))
        exchange.done()

    async def act(adapter: OpenAIAdapter) -> None:
        upstream.then(flood)
        async with aclosing(adapter.stream(asked())) as events:
            await anext(events)
            assert not await asyncio.to_thread(upstream.wait, lambda: len(sent) > 40, 0.5)
            rest = [event async for event in events]
        assert (len(sent), len(rest)) == (64, 66)

    against(upstream, act)


def test_closing_the_adapter_closes_its_connections(upstream: Upstream) -> None:
    ran(upstream)
    assert upstream.wait(lambda: upstream.open == 0)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def failed(base_url: str, **options: Any) -> UpstreamError:
    """The error of one run without retries."""

    async def main() -> UpstreamError:
        async with opened(base_url, **options) as adapter:
            error = (await outcome(adapter, asked(first_byte=0.0))).error
            assert isinstance(error, UpstreamError)
            return error

    return asyncio.run(main())


def test_u14_each_way_of_not_getting_through_has_its_own_words(
    monkeypatch: pytest.MonkeyPatch, certificate: Path
) -> None:
    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    refused = failed(f"http://127.0.0.1:{unused_port()}/v1")
    with behind_tls(certificate) as upstream:
        untrusted = failed(upstream.url)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        slow = failed(f"https://127.0.0.1:{mute.getsockname()[1]}/v1", timeout_connect=0.2)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    unresolved = failed("http://nowhere.invalid/v1")
    assert isinstance(slow, UpstreamTimeout)
    assert not untrusted.retryable
    errors = (refused, untrusted, slow, unresolved)
    assert len({error.message for error in errors}) == 4
    assert not [error for error in errors if "127.0.0.1" in error.message or "nowhere" in error.message]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certified(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with behind_tls(certificate) as upstream:
        yield upstream


def test_tls_verifies_against_the_authorities_that_the_environment_names(trusted: Upstream) -> None:
    assert ran(trusted, asked("over tls")).text == "You said: over tls "


def test_a_break_under_tls_is_incomplete_too(trusted: Upstream) -> None:
    trusted.then(faults.cut_by_close)
    assert ran(trusted).error.code == "stream_incomplete"


class Relay(socketserver.BaseRequestHandler):
    """A forward proxy: opens tunnels and passes on requests with a whole URL."""

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := self.request.recv(65536)):
                return
            head += data
        self.server.seen.append(head)
        method, target = head.split(b" ")[:2]
        authority = target.removeprefix(b"http://").split(b"/")[0].decode()
        if self.server.refuse:
            self.request.sendall(self.server.refuse)
            return
        with socket.create_connection((authority.split(":")[0], int(authority.split(":")[1]))) as onward:
            if method == b"CONNECT":
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                onward.sendall(head)
            back = threading.Thread(target=self.pump, args=(onward, self.request), daemon=True)
            back.start()
            self.pump(self.request, onward)
            back.join()

    @staticmethod
    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()


class RelayServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Relay)
        self.seen: list[bytes] = []
        self.refuse = b""


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Iterator[RelayServer]:
    with RelayServer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://us%65r:pa%3Ass@127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("https_proxy", url)
        yield server
        server.shutdown()


BASIC = b"proxy-authorization: Basic dXNlcjpwYTpzcw==\r\n"


def test_plain_requests_go_through_the_environments_proxy(upstream: Upstream, relay: RelayServer) -> None:
    assert ran(upstream, asked("hi")).text == "You said: hi "
    assert relay.seen[0].startswith(f"POST {upstream.url}/chat/completions HTTP/1.1\r\n".encode())
    assert BASIC in relay.seen[0]


def test_tls_goes_through_a_tunnel_and_the_key_is_not_shown_to_the_proxy(trusted: Upstream, relay: RelayServer) -> None:
    assert ran(trusted, asked("hi")).text == "You said: hi "
    authority = trusted.url.removeprefix("https://").removesuffix("/v1")
    assert relay.seen == [f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n".encode() + BASIC + b"\r\n"]
    assert "proxy-authorization" not in trusted.requests[0].headers


def test_no_proxy_is_honoured(upstream: Upstream, relay: RelayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "example.org,127.0.0.1")
    assert ran(upstream).finish == "stop"
    assert relay.seen == []


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 No\r\n\r\n", b"HTTP/1.1 502 Bad\r\n\r\n", b"HTTP/1.1 200"])
def test_a_proxy_that_refuses_the_tunnel_is_an_upstream_error(
    trusted: Upstream, relay: RelayServer, answer: bytes
) -> None:
    relay.refuse = answer
    assert "proxy" in failed(trusted.url).message.lower()


def test_a_proxy_that_we_cannot_speak_to_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigError, match="proxy"):
        failed("http://example.org/v1")
