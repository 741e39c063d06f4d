"""The floor: the least that an ASGI application on uvicorn can do with the same source. `uvicorn bench.floor:app`.

It sends each token as constant bytes, and knows no runs, no log, no errors and no keepalive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from bench.source import answer

HEAD = b'{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":['
TAIL = b',"logprobs":null,"finish_reason":null}]}'
CHUNK = b'data: %b{"index":0,"delta":{"content":%b}%b\n\n' % (HEAD, b"%b", TAIL)
CONSTANT = CHUNK % b'"~wxya"'
STREAM = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
JSON = (b"content-type", b"application/json")
encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    asked = decode(await body_of(receive))
    text = asked["messages"][-1]["content"]
    if not asked.get("stream"):
        await whole(text, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": STREAM})
    sending = asyncio.ensure_future(stream(text, send))
    watching = asyncio.ensure_future(watch(receive, sending))
    try:
        await sending
    except asyncio.CancelledError:
        return
    finally:
        watching.cancel()
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def live(receive: Any, send: Any) -> None:
    while (kind := (await receive())["type"]) != "lifespan.shutdown":
        await send({"type": f"{kind}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def body_of(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


async def watch(receive: Any, sending: asyncio.Future[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    sending.cancel()


async def stream(text: str, send: Any) -> None:
    tokens: AsyncGenerator[str]
    async with aclosing(answer(text)) as tokens:
        async for token in tokens:
            chunk = CONSTANT if token[1] == "w" else CHUNK % encode(token)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def whole(text: str, send: Any) -> None:
    content = "".join([token async for token in answer(text)])
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    head = {"id": "chatcmpl-bench", "object": "chat.completion", "created": 1700000000, "model": "bench"}
    body = encode(head | {"choices": choices})
    headers = [JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
