"""A fake OpenAI-compatible upstream for the `openai` adapter, on a bare protocol: `python -m bench.upstream PORT`."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from typing import cast

import uvloop

from bench.floor import CHUNK, HEAD, encode
from bench.source import answer

START = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
LAST = b'data: %b{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n' % HEAD


def framed(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._room.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if not end or len(body) < length:
            return
        self._received = body[length:]
        asked = json.loads(body[:length])
        answering = self._stream if asked.get("stream") else self._whole
        self._task = asyncio.get_running_loop().create_task(answering(asked["messages"][-1]["content"]))

    async def _stream(self, text: str) -> None:
        self._transport.write(START)
        async with aclosing(answer(text)) as tokens:
            async for token in tokens:
                await self._room.wait()
                self._transport.write(framed(CHUNK % encode(token)))
        self._transport.write(framed(LAST) + b"0\r\n\r\n")

    async def _whole(self, text: str) -> None:
        message = {"role": "assistant", "content": "".join([token async for token in answer(text)])}
        choices = [{"index": 0, "finish_reason": "stop", "message": message}]
        usage = {"prompt_tokens": 8, "completion_tokens": 16, "total_tokens": 24}
        body = encode({"id": "chatcmpl-bench", "object": "chat.completion", "choices": choices, "usage": usage})
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=8192)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
