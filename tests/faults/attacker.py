"""A hostile client, and what it must never get: a crash, its input back at length, or somebody's secret."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.e2e.callers import address
from tests.e2e.house import Server

PATIENCE = 30.0
KEYS = {"a": "sk-tenant-a-4711", "b": "sk-tenant-b-0815", "deep": "sk-tenant-deep-3141"}
UPSTREAM_KEY = "sk-upstream-secret-2718"
SECRETS = (*KEYS.values(), UPSTREAM_KEY)
MOST_REFLECTED = 1500
FORMS = {
    "openai": frozenset({"error"}),
    "completion": frozenset({"error", "detail", "timestamp"}),
    "langgraph": frozenset({"detail"}),
}


class Reply:
    """What the server answered."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.lines = headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def run_id(self) -> str:
        return self.headers["x-run-id"]

    @property
    def answer(self) -> str:
        """The text of a chat completion."""
        assert self.status == 200, self.text
        content = self.json["choices"][0]["message"]["content"]
        assert isinstance(content, str)
        return content


class Attacker:
    """Sends bytes as they are, each request on a connection of its own, and remembers all that came back."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seen = bytearray()
        self._read = 0
        """Characters of its log that were looked at."""

    def send(
        self,
        path: str | bytes,
        body: bytes | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        *,
        method: str = "",
        tenant: str = "a",
    ) -> Reply:
        method = method or ("GET" if body is None else "POST")
        fields: dict[str, str | bytes] = {"host": "x", "authorization": f"Bearer {KEYS[tenant]}"}
        if body is not None:
            fields |= {"content-type": "application/json", "content-length": str(len(body))}
        fields |= headers or {}
        lines = [name.encode() + b": " + _bytes(value) for name, value in fields.items()]
        head = b"\r\n".join([method.encode() + b" " + _bytes(path) + b" HTTP/1.1", *lines, b"connection: close"])
        return self.raw(head + b"\r\n\r\n" + (body or b""))

    def raw(self, request: bytes) -> Reply:
        """Send these bytes, and read the answer to the end of the connection."""
        with socket.create_connection(address(self.server), PATIENCE) as sock:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before it was all sent
                sock.sendall(request)
            response = http.client.HTTPResponse(sock)
            response.begin()
            reply = Reply(response.status, response.getheaders(), response.read())
        self.seen += reply.body + repr(reply.lines).encode()
        return reply

    def chat(
        self, text: str, *, tenant: str = "a", headers: Mapping[str, str | bytes] | None = None, **fields: Any
    ) -> Reply:
        body = {"model": "actor", "messages": [{"role": "user", "content": text}], **fields}
        return self.send("/v1/chat/completions", json.dumps(body).encode(), headers, tenant=tenant)

    def left(self, text: str, **fields: Any) -> str:
        """The id of a run of tenant a's that goes on although its client has left; somebody has to cancel it."""
        body = {"model": "actor", "messages": [{"role": "user", "content": text}], "stream": True, **fields}
        raw = json.dumps(body | {"runwire": {"background": True}}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEYS['a']}\r\n"
        with socket.create_connection(address(self.server), PATIENCE) as sock:
            sock.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(raw) + raw)
            response = http.client.HTTPResponse(sock)
            response.begin()
            return response.headers["x-run-id"]

    def simple(self, message: str, *, tenant: str = "a", **fields: Any) -> Reply:
        body = {"message": message, "model": "actor", **fields}
        return self.send("/completion", json.dumps(body).encode(), tenant=tenant)

    def well(self) -> None:
        """The server still answers a normal request, and has had no accident."""
        assert self.chat("say fine").answer == "fine"
        news = self.server.log[self._read :]
        self._read += len(news)
        accidents = [line for line in news.splitlines() if "Traceback" in line and '"agent failed"' not in line]
        assert not accidents, accidents[0]

    def peak(self) -> int:
        """The most memory that the server has had since the last time this was asked, in bytes."""
        process = Path(f"/proc/{self.server.process.pid}")
        status = (process / "status").read_text()
        (process / "clear_refs").write_text("5")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def refused(reply: Reply, form: str = "openai", status: int | None = None) -> Any:
    """The body of a refusal, which has the form of its path and repeats little."""
    assert 400 <= reply.status < 500, (reply.status, reply.text[:500])
    assert status in (None, reply.status), reply.text
    assert len(reply.body) < MOST_REFLECTED, reply.text[:300]
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    assert reply.json.keys() == FORMS[form]
    return reply.json["error"] if form == "openai" else reply.json


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
