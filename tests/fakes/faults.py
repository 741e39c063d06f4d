"""The ways in which an upstream can misbehave, one function each; `CASES` names them for requests in text."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from tests.fakes.upstream import Case, Exchange, call

EURO = "€"


def begin(exchange: Exchange, *words: str, chunked: bool = True) -> None:
    """Headers, the role, and these words."""
    exchange.head(chunked=chunked)
    exchange.delta(role="assistant", content="")
    for word in words:
        exchange.delta(content=word)


async def silence(exchange: Exchange) -> None:
    await exchange.gone()


async def silence_after_headers(exchange: Exchange) -> None:
    exchange.head()
    await exchange.gone()


async def hang(exchange: Exchange) -> None:
    begin(exchange, "one ", "two ", "three ")
    await exchange.gone()


async def endless(exchange: Exchange) -> None:
    """Words until the client leaves."""
    begin(exchange)
    while True:
        exchange.delta(content="word ")
        await exchange.flush()
        await asyncio.sleep(0.005)


async def reset_at_once(exchange: Exchange) -> None:
    exchange.reset()


async def reset_in_json(exchange: Exchange) -> None:
    begin(exchange, "one ")
    exchange.body(b'data: {"choices":[{"index":0,"delta":{"content":"tw')
    await exchange.flush()
    exchange.reset()


async def reset_in_character(exchange: Exchange) -> None:
    begin(exchange, "one ")
    exchange.body(b'data: {"choices":[{"index":0,"delta":{"content":"' + EURO.encode()[:2])
    await exchange.flush()
    exchange.reset()


async def cut_in_json(exchange: Exchange) -> None:
    """The same, but the connection ends cleanly and so does the body."""
    begin(exchange, "one ", chunked=False)
    exchange.body(b'data: {"choices":[{"index":0,"delta":{"content":"tw')
    exchange.close()


async def half_character(exchange: Exchange) -> None:
    """A whole event with half a character in it."""
    begin(exchange, "one ")
    exchange.body(b'data: {"choices":[{"index":0,"delta":{"content":"' + EURO.encode()[:2] + b'"}}]}\n\n')
    exchange.done()


async def cut(exchange: Exchange) -> None:
    """A body that ends as it should, without finish reason and `[DONE]`."""
    begin(exchange, "one ", "two ")
    exchange.end()


async def cut_by_close(exchange: Exchange) -> None:
    begin(exchange, "one ", "two ", chunked=False)
    exchange.close()


async def done_and_open(exchange: Exchange) -> None:
    begin(exchange, "one ")
    exchange.delta(finish="stop")
    exchange.event("[DONE]")
    await exchange.gone()


async def done_without_finish(exchange: Exchange) -> None:
    begin(exchange, "one ")
    exchange.event("[DONE]")
    exchange.end()


async def finish_and_close(exchange: Exchange) -> None:
    begin(exchange, "one ", chunked=False)
    exchange.delta(finish="stop")
    exchange.close()


async def finish_and_reset(exchange: Exchange) -> None:
    begin(exchange, "one ")
    exchange.delta(finish="length")
    await exchange.flush()
    exchange.reset()


def refused(status: int, message: str = "No.", headers: dict[str, str] | None = None, **error: object) -> Case:
    """A case that answers with this status and OpenAI's error body."""

    async def refuse(exchange: Exchange) -> None:
        exchange.answer(status, {"error": {"message": message, "type": None, "code": None, **error}}, headers)

    return refuse


def limited(after: str) -> Case:
    """A 429 with this `Retry-After`."""
    return refused(429, "Slow down.", {"retry-after": after}, type="rate_limit_error")


async def limited_until(exchange: Exchange) -> None:
    """A 429 whose `Retry-After` is a date, 15 seconds ahead."""
    await limited(format_datetime(datetime.now(UTC) + timedelta(seconds=15), usegmt=True))(exchange)


async def leaked_key(exchange: Exchange) -> None:
    key = exchange.request.headers.get("authorization", "").removeprefix("Bearer ")
    await refused(401, f"Incorrect API key provided: {key}. See https://example.com", code="invalid_api_key")(exchange)


async def html(exchange: Exchange) -> None:
    exchange.answer(200, "<html><body>Welcome to the portal</body></html>")


async def garbage(exchange: Exchange) -> None:
    exchange.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    await exchange.gone()


async def error_in_json(exchange: Exchange) -> None:
    exchange.answer(200, {"error": {"message": "secret internals", "code": 500}})


async def error_in_stream(exchange: Exchange) -> None:
    begin(exchange, "one ")
    exchange.event({"error": {"message": "secret internals", "type": "server_error", "code": None}})
    exchange.event("[DONE]")
    exchange.end()


async def error_event(exchange: Exchange) -> None:
    begin(exchange, "one ")
    exchange.body(b'event: error\ndata: {"message": "secret internals"}\n\n')
    exchange.end()


async def limit_in_stream(exchange: Exchange) -> None:
    begin(exchange)
    exchange.event({"error": {"message": "secret internals", "code": 429}})
    exchange.end()


async def adorned(exchange: Exchange) -> None:
    """One answer with everything that server-sent events allow: BOM, CRLF, comments, ids, no space, two data lines."""
    exchange.head()
    first = json.dumps(exchange.chunk({"index": 0, "delta": {"content": f"one {EURO} "}}), ensure_ascii=False).encode()
    second = json.dumps(exchange.chunk({"index": 0, "delta": {"content": "two"}, "finish_reason": "stop"})).encode()
    exchange.body(b"\xef\xbb\xbf: welcome\r\nretry: 10\r\nid: 1\r\ndata: " + first + b"\r\n\r\n: ping\n\n")
    half = second.index(b'"choices"')
    exchange.body(b"data:" + second[:half] + b"\r\ndata: " + second[half:] + b"\r\n\r\nid: 3\n\ndata:\n\n")
    exchange.body(b"event: message\rdata: [DONE]\r\r")
    exchange.end()


async def byte_by_byte(exchange: Exchange) -> None:
    exchange.head()
    for payload in (*(exchange.chunk({"index": 0, "delta": {"content": w}}) for w in ("one ", EURO)), "[DONE]"):
        text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
        for byte in f"data: {text}\r\n\r\n".encode():
            exchange.body(bytes((byte,)))
            await asyncio.sleep(0)
    exchange.end()


async def huge_line(exchange: Exchange) -> None:
    begin(exchange, "one ")
    exchange.body(b'data: {"choices":[{"index":0,"delta":{"content":"')
    for _ in range(50):
        exchange.body(b"x" * 1_000_000)
        await exchange.flush()
    exchange.body(b'"}}]}\n\n')
    exchange.done()


async def huge_headers(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nx-filler: ")
    for _ in range(20):
        exchange.send(b"x" * 100_000)
        await exchange.flush()
    await exchange.gone()


async def empty_deltas(exchange: Exchange) -> None:
    begin(exchange)
    for _ in range(1000):
        exchange.body(b'data: {"choices":[{"index":0,"delta":{"content":""}}]}\n\n' * 1000)
        await exchange.flush()
    exchange.delta(content="one")
    exchange.done()


async def tangled_calls(exchange: Exchange) -> None:
    """Two calls, their pieces mixed, the second one's first, arguments before the name, one id missing."""
    begin(exchange)
    call(exchange, 1, id="call_b", function={"name": "b", "arguments": ""})
    call(exchange, 0, function={"arguments": '{"x"'})
    call(exchange, 1, function={"arguments": '{"y"'})
    call(exchange, 0, function={"name": "a", "arguments": ":"})
    call(exchange, 1, function={"arguments": ":2}"})
    call(exchange, 0, function={"arguments": "1}"})
    exchange.done("tool_calls")


async def calls_without_index(exchange: Exchange) -> None:
    begin(exchange)
    call(exchange, None, id="call_a", function={"name": "a", "arguments": '{"x":'})
    call(exchange, None, function={"arguments": "1}"})
    call(exchange, None, id="call_b", function={"name": "b"})
    exchange.done("stop")


async def nameless_call(exchange: Exchange) -> None:
    begin(exchange)
    call(exchange, 0, id="call_a", function={"arguments": "{}"})
    exchange.done("tool_calls")


async def redirect(exchange: Exchange) -> None:
    exchange.answer(307, {}, {"location": "http://localhost:1/v1/chat/completions"})


async def stale(exchange: Exchange) -> None:
    """Takes the request and closes, as a server does whose keep-alive time ran out."""
    exchange.close()


async def slow_end(exchange: Exchange) -> None:
    """The end of the body comes in a packet of its own, after the answer is whole."""
    begin(exchange, "one ")
    exchange.delta(finish="stop")
    exchange.event("[DONE]")
    await exchange.flush()
    await asyncio.sleep(0.05)
    exchange.end()


async def no_stream_options(exchange: Exchange) -> None:
    """A server from before `stream_options`."""
    if "stream_options" in exchange.request.json:
        await refused(400, "Unknown parameter: 'stream_options'.", param="stream_options")(exchange)
    else:
        begin(exchange, "one ")
        exchange.done()


CASES: dict[str, Case] = {
    "U01": silence,
    "U02": hang,
    "U03": reset_in_json,
    "U03-character": reset_in_character,
    "U04": cut,
    "U05": done_and_open,
    "U06": finish_and_close,
    "U07": limited("5"),
    "U07-date": limited_until,
    "U07-absurd": limited("86400"),
    "U08": refused(503),
    "U09": leaked_key,
    "U09-forbidden": refused(403),
    "U10": html,
    "U10-object": error_in_stream,
    "U10-event": error_event,
    "U11": adorned,
    "U11-bytes": byte_by_byte,
    "U12": huge_line,
    "U12-empty": empty_deltas,
    "U13": tangled_calls,
    "U15": redirect,
    "U17": endless,
}
