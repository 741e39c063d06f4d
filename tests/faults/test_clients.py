"""Clients and networks that misbehave, against the whole server: group C of the fault catalogue.

Slow readers (C04, C05) have their own file in `tests/e2e`, and so has what is not compressed (C10).
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from proxy.server import VANISHED, bind, watch
from tests.api.serving import answers, rest
from tests.e2e.callers import KEY, Caller, Story, address, asked, dialled, open_gate, reset, story
from tests.e2e.conftest import hasty
from tests.e2e.house import Server, serving
from tests.fakes import relays
from tests.fakes.upstream import Upstream
from tests.waiting import eventually

CROWD = 1000
AUTH = f"authorization: Bearer {KEY}\r\n"


@pytest.fixture(scope="module")
def fake() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def server(fake: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = hasty(fake.url)
    base["server"] |= {"limits": {"read_timeout": 1.0}, "drain": 3600.0}
    base["agents"]["gpt"]["first_byte"] = 60.0
    with serving(tmp_path_factory.mktemp("clients"), base) as running:
        yield running


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Server]:
    """One that gives a thousand requests the time to arrive, also where the machine has other work."""
    with serving(tmp_path, hasty(server={"api_keys": [KEY]})) as running:
        yield running


def request(text: str, name: str, *, version: str = "1.1", extra: str = "", **fields: Any) -> bytes:
    """A chat request as it goes over the wire; `name` is its id in the server's log."""
    body = asked(text, name, **fields)
    head = f"POST /v1/chat/completions HTTP/{version}\r\nhost: x\r\n{AUTH}x-request-id: {name}\r\n{extra}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def read_until(sock: socket.socket, word: bytes) -> bytes:
    read = b""
    while word not in read:
        piece = sock.recv(65536)
        assert piece, read[-500:]
        read += piece
    return read


def cut_at(moment: str, sock: socket.socket, name: str, fake: Upstream) -> None:
    """Go as far as this moment in the life of a request."""
    whole = request(f"case={'U01' if moment == 'headers' else 'U17'} {name}", name, model="gpt")
    match moment:
        case "connect":
            return
        case "half-head":
            sock.sendall(whole[:60])
        case "half-body":
            sock.sendall(whole[:-10])
        case "headers":
            sock.sendall(whole)
            assert fake.wait(lambda: any(name in request.text for request in fake.requests))
        case "first-chunk":
            sock.sendall(whole)
            read_until(sock, b"word")
        case "chunks":
            sock.sendall(whole)
            for _ in range(5):
                read_until(sock, b"word")
        case "done":
            sock.sendall(request("say Hel lo", name))
            read_until(sock, b"lo")


@pytest.mark.parametrize("moment", ["connect", "half-head", "half-body", "headers", "first-chunk", "chunks", "done"])
def test_c01_a_reset_at_any_moment_ends_the_run_and_frees_the_upstream(
    server: Server, fake: Upstream, moment: str
) -> None:
    name = f"rst-{moment}-{time.monotonic()}"
    before = len(server.log.splitlines())
    sock = dialled(server)
    cut_at(moment, sock, name, fake)
    reset(sock)
    if moment in ("headers", "first-chunk", "chunks"):
        assert fake.wait(lambda: any(name in request.text for request in fake.stopped))
    if moment not in ("connect", "half-head"):
        eventually(lambda: name in server.log, "the end of the request")
    assert fake.wait(lambda: fake.busy == 0)
    assert Caller(server, "say Hello").rest().ending == "stop"
    lines = [json.loads(line) for line in server.log.splitlines()[before:]]
    # That it stood still for a moment tells of the machine.
    odd = [line for line in lines if line["level"] in ("warning", "error")]
    assert not [line for line in odd if not line["event"].startswith("event loop ")]
    ends = {line["status"] for line in lines if line["event"] == "run ended"}
    assert ends <= ({"success"} if moment in ("connect", "half-head", "half-body") else {"success", "cancelled"})


def test_c02_a_half_closed_client_gets_the_answer_to_what_is_no_run(server: Server) -> None:
    sock = dialled(server)
    sock.sendall(f"GET /v1/models HTTP/1.1\r\nhost: x\r\n{AUTH}\r\n".encode())
    sock.shutdown(socket.SHUT_WR)
    [answer] = answers(rest(sock))
    assert answer.status == 200
    assert "actor" in str(answer.json)


def test_c03_connections_are_watched_for_hosts_that_vanish() -> None:
    with bind("127.0.0.1", 0) as bound:
        watch(bound, VANISHED)
        bound.listen()
        with socket.create_connection(bound.getsockname()), bound.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            silence = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            probes = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) * accepted.getsockopt(
                socket.IPPROTO_TCP, socket.TCP_KEEPCNT
            )
            assert silence + probes <= 60


def test_c06_a_thousand_streams_at_once_all_end_correctly(patient: Server) -> None:
    gate = f"gate-{time.monotonic()}"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * CROWD)), hard))
    process = psutil.Process(patient.process.pid)
    before = process.memory_info().rss
    host, port = address(patient)
    waiting = asyncio.Semaphore(0)

    async def stream(number: int) -> bytes:
        text = f"say Hel\ngate {gate}\nsay lo"
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            request(
                text,
                f"crowd-{number}",
                model=("actor", "prompt")[number % 2],
                extra="connection: close\r\n",
                runwire={"keepalive": False},
            )
        )
        begun = await reader.readuntil(b'"Hel"')
        waiting.release()
        try:
            return begun + await reader.read()
        finally:
            writer.close()

    async def crowd() -> list[bytes]:
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(stream(number)) for number in range(CROWD)]
            for _ in streams:
                await waiting.acquire()
            assert process.memory_info().rss - before < 150_000_000
            await asyncio.to_thread(open_gate, patient, gate, "mute")
        return [stream.result() for stream in streams]

    for answer in asyncio.run(crowd()):
        assert answer.count(b'"lo"') == answer.count(b'"finish_reason":"stop"') == answer.count(b"data: [DONE]") == 1
        assert answer.endswith(b"0\r\n\r\n")


def test_c08_slow_requests_are_closed_in_time_and_others_are_served(server: Server) -> None:
    head, body = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n", request("say Hello", "loris")[:-100]
    socks = [dialled(server) for _ in range(400)]
    for number, sock in enumerate(socks):
        sock.sendall(head if number % 2 else body)
    assert Caller(server, "say Hello").rest().ending == "stop"
    for sock in socks:
        sock.sendall(b"a")
    for sock in socks:
        assert rest(sock)[:12] in (b"", b"HTTP/1.1 408")
        sock.close()
    assert Caller(server, "say Hello").rest().ending == "stop"


@pytest.mark.parametrize("relay", [relays.nginx, relays.buffering])
def test_c09_behind_a_buffering_proxy_words_arrive_at_once_and_silence_is_not_cut(
    server: Server, tmp_path: Path, relay: Callable[..., Any]
) -> None:
    if relay is relays.nginx and not relays.NGINX:
        pytest.skip("nginx is not installed")
    gate = f"gate-{time.monotonic()}"
    with relay(server.url, tmp_path) as url:
        before = Server(server.folder, server.process, url)
        caller = Caller(before, f"say Hel\ngate {gate}\nsay lo").until("Hel")
        began = time.monotonic()
        while time.monotonic() - began < 2 * relays.PATIENCE:
            caller.until(": ping", caller.text.count(": ping") + 1)
        open_gate(server, gate)
        caller.rest()
        assert (caller.answer, caller.ending) == ("Hello", "stop")
        left = Caller(before, "say Hel\nwait").until("Hel")
        told = story(server, left.mark)
        left.reset()
        told.ends_cancelled()


def test_c11_head_and_options_are_answered_without_a_body_to_wait_for(server: Server) -> None:
    for method, path, status in (("HEAD", "/v1/models", 200), ("OPTIONS", "/v1/chat/completions", 405)):
        sock = dialled(server)
        sock.sendall(f"{method} {path} HTTP/1.1\r\nhost: x\r\n{AUTH}connection: close\r\n\r\n".encode())
        [answer] = answers(rest(sock), method)
        assert answer.status == status


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_c11_http_1_0_gets_the_body_as_it_is_and_its_end_with_the_connection(server: Server, stream: bool) -> None:
    sock = dialled(server)
    sock.sendall(request("say Hel lo\npause 0.2\ndrip 20", "old", version="1.0", stream=stream, model="mute"))
    head, _, body = rest(sock).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    if stream:
        lines = body.decode().split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    else:
        text = json.loads(body)["choices"][0]["message"]["content"]
    assert text == "Hello" + "".join(f"{number} " for number in range(20))


def test_c11_pipelined_requests_are_answered_in_order(server: Server) -> None:
    sock = dialled(server)
    quiet = {"stream": False, "runwire": {"keepalive": False}}
    last = request("say two", "pipe-2", extra="connection: close\r\n", **quiet)
    sock.sendall(request("pause 0.2\nsay one", "pipe-1", **quiet) + last)
    first, second = answers(rest(sock), "POST")
    assert first.json["choices"][0]["message"]["content"] == "one"
    assert second.json["choices"][0]["message"]["content"] == "two"


def test_c11_a_client_that_waits_for_100_continue_gets_it(server: Server) -> None:
    whole = request("say Hello", "expecting", extra="expect: 100-continue\r\nconnection: close\r\n")
    head, _, body = whole.partition(b"\r\n\r\n")
    sock = dialled(server)
    sock.sendall(head + b"\r\n\r\n")
    assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    sock.sendall(body)
    assert b"data: [DONE]" in rest(sock)


def test_after_all_of_it_no_run_is_left(server: Server) -> None:
    assert Story(server, Caller(server, "say Hello").rest().run_id).ends()["state"] == "success"
    assert server.stop() == 0
    assert '"level": "error"' not in server.log
