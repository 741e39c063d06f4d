"""What the tests of the workflow dialect do all the time: clients with its headers, and runs without an engine."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from proxy.model import new_id
from proxy.testing.workflows import started
from proxy.workflow_model import WorkflowRun
from tests.api.scripted import House

BASE = "/api/v1"
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
UNKNOWN = new_id()


async def ask(house: House, method: str, path: str, **fields: Any) -> httpx2.Response:
    """A request below the dialect's base."""
    return await house.http.request(method, BASE + path, **fields)


async def told(house: House, method: str, path: str, status: int, **fields: Any) -> Any:
    """The JSON of an answer that has this status."""
    answer = await ask(house, method, path, **fields)
    assert answer.status_code == status, answer.text
    return answer.json()


async def refused(house: House, method: str, path: str, status: int, code: str, **fields: Any) -> Any:
    """The error of an answer, which is in the dialect's form."""
    answer = await ask(house, method, path, **fields)
    error = answer.json()
    assert (answer.status_code, error["code"]) == (status, code), answer.text
    assert isinstance(error["error"], str)
    assert error["message"]
    assert error["request_id"] == answer.headers["x-modelrelay-request-id"] == answer.headers["x-request-id"]
    return error


async def begun(house: House, *types: str) -> WorkflowRun:
    """A run whose log has these events, and goes on as the test says."""
    return await started(house.app.store, *types)


async def lines(answer: httpx2.Response) -> AsyncIterator[bytes]:
    """The lines of a stream as they come, each with its end."""
    rest = b""
    async for piece in answer.aiter_bytes():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line + b"\n"
    assert not rest, "the last line has no end"
