"""Clients that behave badly, one step at a time, over plain sockets; and what became of the runs they started.

caller = Caller(server, "say Hel\nwait")
caller.until("Hel"); caller.reset()
story(server, caller.mark).ends_cancelled()
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import uuid
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from tests.e2e.house import Server
from tests.waiting import eventually

KEY = "sk-test"
PATIENCE = 30.0
FINAL = frozenset({"completed", "failed", "cancelled", "paused"})


def address(server: Server) -> tuple[str, int]:
    parts = urlsplit(server.url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def dialled(server: Server, buffer: int = 0) -> socket.socket:
    """A connection; with `buffer`, one that takes no more than about that many bytes ahead of its reader."""
    sock = socket.socket()
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.settimeout(PATIENCE)
    sock.connect(address(server))
    return sock


def reset(sock: socket.socket) -> None:
    """A RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def asked(text: str, mark: str, model: str = "actor", **fields: Any) -> bytes:
    """The body of a chat request. `mark` names it in the agents' trace."""
    message = {"role": "user", "content": text}
    body = {"model": model, "messages": [message], "stream": True, "metadata": {"mark": mark}, **fields}
    return json.dumps(body).encode()


class Caller:
    """One chat request on a connection of its own, sent at once; nothing is read before it is asked for."""

    def __init__(
        self,
        server: Server,
        text: str,
        *,
        headers: Mapping[str, str] | None = None,
        buffer: int = 0,
        path: str = "/v1/chat/completions",
        **fields: Any,
    ) -> None:
        self.mark = f"mark-{uuid.uuid4().hex}"
        self.text = ""
        """What was read of the body."""
        self._body = b""
        self._sock = dialled(server, buffer)
        self._http = http.client.HTTPConnection(*address(server))
        self._http.sock = self._sock
        self._headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **(headers or {})}
        self._path = path
        self._ask(text, **fields)

    def _ask(self, text: str, **fields: Any) -> None:
        self._http.request("POST", self._path, asked(text, self.mark, **fields), self._headers)
        self._response: http.client.HTTPResponse | None = None

    def again(self, text: str) -> Self:
        """Ask once more on the same connection, and read the answer to its end."""
        self.text, self._body = "", b""
        self._ask(text)
        return self.rest()

    @property
    def response(self) -> http.client.HTTPResponse:
        """Status and headers, once they are there."""
        if self._response is None:
            self._response = self._http.getresponse()
        return self._response

    @property
    def run_id(self) -> str:
        return self.response.headers["x-run-id"]

    def until(self, word: str, times: int = 1) -> Self:
        """Read until the body has said this so often."""
        while self.text.count(word) < times:
            piece = self.response.read1(65536)
            assert piece, f"ended without {word!r}: {self.text[-500:]}"
            self._add(piece)
        return self

    def take(self, size: int) -> bytes:
        """The next bytes of the body, at most `size`; empty at its end."""
        return self.response.read1(size)

    def rest(self) -> Self:
        """Read to the end."""
        self._add(self.response.read())
        self.close()
        return self

    def _add(self, piece: bytes) -> None:
        self._body += piece
        self.text = self._body.decode()

    def reset(self) -> None:
        """Leave by RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def half_close(self) -> None:
        """Leave by FIN: say that nothing more will be said."""
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        self._http.close()

    @property
    def events(self) -> list[Any]:
        """The data of all events: JSON, but the last word `[DONE]` as it is."""
        lines = [line.removeprefix("data: ") for line in self.text.splitlines() if line.startswith("data:")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    @property
    def answer(self) -> str:
        """The text of the answer as far as it was read."""
        chunks = [event for event in self.events if event != "[DONE]" and event.get("choices")]
        return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)

    @property
    def ending(self) -> str:
        """How the stream ended: the finish reason or the code of the error, once, and then `[DONE]`."""
        *events, done = self.events
        assert done == "[DONE]", self.text[-500:]
        errors = [event["error"]["code"] for event in events if "error" in event]
        choices = [choice for event in events for choice in event.get("choices", ())]
        [end] = [*errors, *(choice["finish_reason"] for choice in choices if choice["finish_reason"])]
        return end

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Story:
    """What became of one run."""

    def __init__(self, server: Server, run_id: str) -> None:
        self._server = server
        self.run_id = run_id

    @property
    def record(self) -> dict[str, Any]:
        status, body = fetch(self._server, f"/runs/{self.run_id}")
        assert status == 200, body
        return json.loads(body)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The log as far as it has come."""
        _, body = fetch(self._server, f"/runs/{self.run_id}/events")
        return [json.loads(line) for line in body.splitlines()]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [entry["event"] for entry in self.entries]

    @property
    def text(self) -> str:
        return "".join(event["text"] for event in self.events if event["type"] == "text_delta")

    @property
    def steps(self) -> list[str]:
        """What the agent went through."""
        return [step for run_id, step, _ in traced(self._server) if run_id == self.run_id]

    def comes_to(self, state: str) -> None:
        """The record says so, at last."""
        eventually(lambda: self.record["state"] == state, f"`{state}` of {self.run_id}")

    def ends(self) -> dict[str, Any]:
        """The record once the run has ended, which it does in exactly one final event."""
        eventually(lambda: self.record["state"] not in ("pending", "running"), f"the end of {self.run_id}")
        finals = [event["type"] for event in self.events if event["type"] in FINAL]
        assert len(finals) == 1, finals
        assert self.events[-1]["type"] == finals[0]
        return self.record

    def ends_cancelled(self) -> None:
        """The run ends by cancel, and its agent hears of it and cleans up."""
        assert self.ends()["state"] == "cancelled"
        eventually(lambda: {"cancelled", "closed"} <= set(self.steps), f"the agent's end in {self.run_id}")
        assert "ended" not in self.steps


def fetch(server: Server, path: str, method: str = "GET") -> tuple[int, str]:
    """One request to the runs API: status and text."""
    http_ = http.client.HTTPConnection(*address(server), timeout=PATIENCE)
    try:
        http_.request(method, path, headers={"authorization": f"Bearer {KEY}"})
        response = http_.getresponse()
        return response.status, response.read().decode()
    finally:
        http_.close()


def traced(server: Server) -> list[tuple[str, str, str]]:
    """Run, step and mark of all that the agents wrote."""
    trace = server.folder / "trace"
    lines = trace.read_text().splitlines() if trace.exists() else []
    return [(run_id, step, mark) for run_id, step, _, mark in (line.split(" ") for line in lines)]


def stories(server: Server, mark: str) -> list[Story]:
    """The runs whose agents have started on the request of this mark."""
    return [Story(server, run_id) for run_id, step, its in traced(server) if (step, its) == ("started", mark)]


def story(server: Server, mark: str) -> Story:
    """The run of the request of this mark, once its agent has started."""
    return eventually(lambda: stories(server, mark), "the start of the agent")[0]


def open_gate(server: Server, name: str, model: str = "actor") -> None:
    """Let the agents go on that wait at this gate."""
    assert Caller(server, f"open {name}", model=model).rest().ending == "stop"
