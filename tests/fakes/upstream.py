"""An OpenAI-compatible upstream that does what it is told, also what no upstream should do.

with Upstream() as upstream:                # a thread of its own, a free port
    upstream.then(faults.cut)               # for the next request; without it, `normal`
    ...  upstream.url, upstream.requests, upstream.wait(lambda: not upstream.open)

python -m tests.fakes.upstream [PORT]       # by hand; `case=NAME` in the user's text picks one of `faults.CASES`
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import msgspec

Case = Callable[["Exchange"], Awaitable[None]]

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
MODELS = ("gpt-4o", "org/small")


class Request(msgspec.Struct, frozen=True):
    """What the upstream got. Header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else {}

    @property
    def text(self) -> str:
        """The text of the last user message."""
        asked = [m for m in self.json.get("messages", ()) if m["role"] == "user"]
        content = asked[-1]["content"] if asked else ""
        return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class Exchange:
    """One request, and the words for answering it well or badly."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self.request = request
        self._connection = connection
        self._chunked = False
        self._packet: bytes | None = None

    def head(self, status: int = 200, kind: str = "text/event-stream", *, chunked: bool = True, **headers: str) -> None:
        """Status and headers; `chunked=False` leaves the end of the body to the end of the connection."""
        self._chunked = chunked
        fields = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if chunked:
            fields["transfer-encoding"] = "chunked"
        self._head(status, fields)

    def answer(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer: text as it is (HTML), anything else as JSON."""
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        kind = "text/html" if isinstance(body, str) else "application/json"
        self._head(status, {"content-type": kind, "content-length": str(len(raw)), **(headers or {})})
        self.send(raw)

    def _head(self, status: int, fields: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        self.send("\r\n".join(lines).encode())

    def send(self, raw: bytes) -> None:
        """Bytes on the wire, as they are."""
        if self._packet is None:
            self._connection.transport.write(raw)
        else:
            self._packet += raw

    @contextmanager
    def packet(self) -> Iterator[None]:
        """All that is sent inside goes out in one write."""
        self._packet = b""
        yield
        packet, self._packet = self._packet, None
        self.send(packet)

    def body(self, data: bytes) -> None:
        """A piece of the body."""
        self.send(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    def event(self, payload: object) -> None:
        """One server-sent event."""
        text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
        self.body(f"data: {text}\n\n".encode())

    def delta(self, finish: str | None = None, **fields: object) -> None:
        """One chunk with one choice."""
        self.event(self.chunk({"index": 0, "delta": fields, "logprobs": None, "finish_reason": finish}))

    def chunk(self, *choices: object, **more: object) -> dict[str, object]:
        named = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024"}
        return {**named, "choices": list(choices), **more}

    def done(self, finish: str = "stop") -> None:
        """A proper end in one packet: finish reason, usage if asked for, `[DONE]`, and the end of the body."""
        with self.packet():
            self.delta(finish=finish)
            if (self.request.json.get("stream_options") or {}).get("include_usage"):
                self.event(self.chunk(usage=USAGE))
            self.event("[DONE]")
            if self._chunked:
                self.end()
        if not self._chunked:
            self.end()

    def end(self) -> None:
        """The end of the body."""
        if self._chunked:
            self.send(b"0\r\n\r\n")
        else:
            self.close()

    def close(self) -> None:
        """A clean end of the connection."""
        self._connection.transport.close()

    def reset(self) -> None:
        """A RST, once all that was sent has left."""
        sock = self._connection.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.transport.close()

    async def gone(self) -> None:
        """Until the client has left."""
        await self._connection.gone.wait()

    async def flush(self) -> None:
        """Until the client has taken all, or left."""
        await asyncio.sleep(0)
        while self._connection.transport.get_write_buffer_size():
            await asyncio.sleep(0.001)


async def normal(exchange: Exchange) -> None:
    """A well-behaved model. It thinks if the text says "think", and calls the first tool if it says "tool"."""
    asked = exchange.request.json
    if not asked.get("stream"):
        message = {"role": "assistant", "content": f"You said: {exchange.request.text}"}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        exchange.answer(200, {**exchange.chunk(choice, usage=USAGE), "object": "chat.completion"})
        return
    exchange.head()
    exchange.delta(role="assistant", content="")
    if "think" in exchange.request.text:
        for word in ("Let ", "me ", "see."):
            exchange.delta(reasoning_content=word)
    if "tool" in exchange.request.text and asked.get("tools") and asked["messages"][-1]["role"] == "user":
        name = asked["tools"][0]["function"]["name"]
        call(exchange, id="call_1", type="function", function={"name": name, "arguments": ""})
        for piece in ('{"city"', ': "Par', 'is"}'):
            call(exchange, function={"arguments": piece})
        exchange.done("tool_calls")
        return
    for word in f"You said: {exchange.request.text}".split(" "):
        exchange.delta(content=word + " ")
    exchange.done()


def call(exchange: Exchange, index: int | None = 0, **fields: object) -> None:
    """One piece of a tool call."""
    exchange.delta(tool_calls=[{**({} if index is None else {"index": index}), **fields}])


class Connection(asyncio.Protocol):
    """The server's end of one connection: one request after the other."""

    transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self.gone = asyncio.Event()
        self._upstream = upstream
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._upstream.changed(lambda: self._upstream.opened(self))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) >= length:
            self._buffer = rest[length:]
            method, target, _ = first.split(" ")
            self._task = asyncio.ensure_future(self._answer(Request(method, target, headers, rest[:length])))

    async def _answer(self, request: Request) -> None:
        self._upstream.changed(lambda: self._upstream.begun(request))
        how = self._upstream.stopped
        try:
            await self._upstream.case(request)(Exchange(self, request))
            how = self._upstream.answered
        finally:
            self._upstream.changed(lambda: self._upstream.ended(request, how))

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()
        if self._task is not None:
            self._task.cancel()
        self._upstream.changed(lambda: self._upstream.lost(self))


async def models(exchange: Exchange) -> None:
    """`GET /models`."""
    exchange.answer(200, {"object": "list", "data": [{"id": m, "created": 5, "owned_by": "me"} for m in MODELS]})


class Upstream:
    """The server. All its counters may be read from any thread; `wait` waits for them."""

    def __init__(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.stopped: list[Request] = []
        """Requests whose answer was still under way when their client left."""
        self.answered: list[Request] = []
        self.busy = 0
        """Answers under way."""
        self.accepted = 0
        self.open = 0
        self._port = port
        self._tls = tls
        self._cases: deque[Case] = deque()
        self._live: set[Connection] = set()
        self._change = threading.Condition()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        """The base URL, `/v1` included."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}/v1"

    def then(self, *cases: Case) -> None:
        """What to do with the next chat requests, one each."""
        self._cases.extend(cases)

    def forget(self) -> None:
        """Drop what was to be done with requests that never came."""
        self._cases.clear()

    def case(self, request: Request) -> Case:
        if request.method == "GET" and not self._cases:
            return models
        if self._cases:
            return self._cases.popleft()
        from tests.fakes.faults import CASES

        _, found, name = request.text.partition("case=")
        return CASES[name.split()[0]] if found else normal

    def wait(self, condition: Callable[[], bool], timeout: float = 10.0) -> bool:
        """Wait until the condition on our counters holds; False if it did not in time."""
        with self._change:
            return self._change.wait_for(condition, timeout)

    def drop(self) -> None:
        """Close all connections, as a server does with idle ones."""
        self._loop.call_soon_threadsafe(lambda: [one.transport.close() for one in list(self._live)])

    def changed(self, change: Callable[[], object]) -> None:
        with self._change:
            change()
            self._change.notify_all()

    def begun(self, request: Request) -> None:
        self.requests.append(request)
        self.busy += 1

    def ended(self, request: Request, how: list[Request]) -> None:
        how.append(request)
        self.busy -= 1

    def opened(self, connection: Connection) -> None:
        self._live.add(connection)
        self.accepted += 1
        self.open = len(self._live)

    def lost(self, connection: Connection) -> None:
        self._live.discard(connection)
        self.open = len(self._live)

    def __enter__(self) -> Upstream:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        starting = self._loop.create_server(
            lambda: Connection(self), "127.0.0.1", self._port, ssl=self._tls, backlog=2000
        )
        server = self._loop.run_until_complete(starting)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for connection in list(self._live):
            connection.transport.abort()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


if __name__ == "__main__":
    with Upstream(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0) as served:
        print(served.url, flush=True)
        served.wait(lambda: False, timeout=threading.TIMEOUT_MAX)
