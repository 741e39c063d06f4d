"""Errors as clients see them: one form per API family, chosen by the path.

A client gets the text of a `ProxyError` or of a framework's refusal, cut short. Of any other exception it
learns the request id only; the log has the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from proxy.api.client import JSON, Header, Reply
from proxy.errors import BadRequest, Busy, NotAllowed, ProxyError, RunFailed
from proxy.events import Failed
from proxy.wire.chat import failure
from proxy.wire.workflow_body import ERRORS, FieldError, WorkflowIssue, invalid, problem
from proxy.workflows.issues import InvalidWorkflow, Issue

LONGEST_REFLECTED = 200
"""Characters of a client's own input that may come back to it."""
_LONGEST_MESSAGE = 1000
_LONGEST_WAIT = 20
"""Seconds: the official clients obey `Retry-After` to the letter, as long as it may be."""
_CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "unsupported_media_type",
    422: "unprocessable",
    429: "too_many_requests",
}

logger = structlog.get_logger(__name__)


class Dialect(StrEnum):
    """A family of paths that agree on the form of an error."""

    OPENAI = "openai"
    LANGGRAPH = "langgraph"
    COMPLETION = "completion"
    WORKFLOWS = "workflows"


_DIALECTS = {
    "completion": Dialect.COMPLETION,
    **dict.fromkeys(("threads", "runs", "assistants", "store", "info", "ok", "api"), Dialect.LANGGRAPH),
}


class Detail(msgspec.Struct, frozen=True):
    detail: str


class Complaint(msgspec.Struct, frozen=True):
    error: str
    detail: str
    timestamp: datetime


class InternalError(ProxyError):
    """The server failed."""


def dialect_of(path: str) -> Dialect:
    """The dialect spoken on a path, which stands without the root path."""
    first, _, rest = path.lstrip("/").partition("/")
    if first == "api" and rest.partition("/")[0] == "v1":
        return Dialect.WORKFLOWS
    return _DIALECTS.get(first, Dialect.OPENAI)


def reply_to(error: ProxyError, dialect: Dialect, request_id: str) -> Reply:
    """The whole response that tells of an error; `X-Request-Id` and the length are added when it is sent."""
    status = error.status if 400 <= error.status < 600 else 500
    if status == 422 and dialect is Dialect.WORKFLOWS:
        status = 400
    message = clean(error.message, _LONGEST_MESSAGE)
    if type(error) is InternalError:
        message = f"{message} Its log knows more under the request id {request_id}."
    return Reply(
        status=status, headers=tuple(_headers(error, status)), body=_BODIES[dialect](error, status, message, request_id)
    )


def refusing(dialect: Dialect, request_id: str) -> Callable[[Failed], Reply]:
    """How a run that failed before anything was sent is answered."""

    def refuse(failed: Failed) -> Reply:
        error = RunFailed(
            failed.code,
            failed.message,
            status=failed.status,
            retryable=failed.retryable,
            retry_after=failed.retry_after,
        )
        return reply_to(error, dialect, request_id)

    return refuse


def clean(text: str, longest: int = LONGEST_REFLECTED) -> str:
    """`text` cut to `longest` characters and fit for UTF-8, to be shown to a client."""
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return text.encode("utf-8", "replace").decode()


def _headers(error: ProxyError, status: int) -> list[Header]:
    headers = [JSON, (b"x-should-retry", b"true" if error.retryable else b"false")]
    if error.retryable and status in (429, 503):
        headers.append((b"retry-after", b"%d" % _wait(error.retry_after)))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, NotAllowed):
        headers.append((b"allow", error.allow.encode()))
    if isinstance(error, Busy):
        headers.append((b"x-run-id", error.run_id.encode()))
    return headers


def _wait(seconds: float | None) -> int:
    """Whole seconds from 1 to 20."""
    if seconds is None or math.isnan(seconds):
        return 1
    return math.ceil(min(max(seconds, 1), _LONGEST_WAIT))


def _openai(error: ProxyError, status: int, message: str, _: str) -> bytes:
    param = None if error.param is None else clean(error.param)
    return failure(Failed(code=error.code, message=message, status=status), param)


def _langgraph(error: ProxyError, status: int, message: str, _: str) -> bytes:
    return msgspec.json.encode(Detail(message))


def _completion(error: ProxyError, status: int, message: str, _: str) -> bytes:
    return msgspec.json.encode(Complaint(error.code, message, datetime.now(UTC)))


def _workflows(error: ProxyError, status: int, message: str, request_id: str) -> bytes:
    more: dict[str, Any] = {"request_id": request_id}
    if error.param is not None:
        more["fields"] = (FieldError(field=clean(error.param), message=message),)
    if isinstance(error, InvalidWorkflow):
        return msgspec.json.encode(invalid(issues_of(error.issues), message, **more))
    known = status if status in ERRORS or status >= 500 else 400
    return msgspec.json.encode(problem(known, message, **more))


def issues_of(issues: Iterable[Issue]) -> tuple[WorkflowIssue, ...]:
    """The faults of a workflow, as clients get them."""
    return tuple(WorkflowIssue(code=issue.code, path=issue.path, message=issue.message) for issue in issues)


_BODIES: dict[Dialect, Callable[[ProxyError, int, str, str], bytes]] = {
    Dialect.OPENAI: _openai,
    Dialect.LANGGRAPH: _langgraph,
    Dialect.COMPLETION: _completion,
    Dialect.WORKFLOWS: _workflows,
}


def _answer(request: Request[Any, Any, Any], error: ProxyError, extra: dict[str, str] | None = None) -> Response[bytes]:
    scope = request.scope
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    reply = reply_to(error, dialect_of(path), scope["state"].get("request_id", ""))
    headers = {name.decode(): value.decode("latin-1") for name, value in reply.headers if name != b"content-type"}
    return Response(
        reply.body, status_code=reply.status, media_type="application/json", headers={**headers, **(extra or {})}
    )


def _known(request: Request[Any, Any, Any], error: ProxyError) -> Response[bytes]:
    return _answer(request, error)


def _framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What the framework refused: no such path or method, a parameter of a wrong form, and so on."""
    status = error.status_code
    if status >= 500:
        # A client that leaves while its body is read is no failure of ours.
        if error.detail != "client disconnected prematurely":
            logger.error("the framework failed", exc_info=error)
        return _answer(request, InternalError())
    problem = BadRequest(_worded(request, error))
    problem.status = status
    problem.code = _CODES.get(status, "invalid_request")
    allow = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    return _answer(request, problem, allow)


def _worded(request: Request[Any, Any, Any], error: HTTPException) -> str:
    path, method = clean(request.scope["path"]), clean(request.method)
    if error.status_code == 404:
        return f"There is nothing at {path}. See / for what there is."
    if error.status_code == 405:
        return f"{path} does not take {method}."
    if isinstance(error.extra, list) and error.extra and isinstance(error.extra[0], dict):
        first = error.extra[0]
        return clean(f"{first.get('key', 'request')}: {first.get('message', error.detail)}")
    return clean(error.detail)


def _unknown(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    logger.error("a request failed", exc_info=error, request_id=request.scope["state"].get("request_id"))
    return _answer(request, InternalError())


HANDLERS: dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Any]]] = {
    ProxyError: _known,
    HTTPException: _framework,
    Exception: _unknown,
}
"""For the framework: every exception of a route becomes an answer in its path's form.

Bodies are decoded by `parse.py`, which raises `BadRequest`; a bare msgspec error is a failure of the server's.
"""
