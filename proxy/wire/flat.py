"""Errors of the workflow dialect: one flat object. Source: the OpenAPI document and the SDKs of ModelRelay.

Clients branch on `code`, whatever the status. `issues` has what is wrong with a workflow, and is read with 400 alone.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

WORDS = {
    401: "UNAUTHORIZED",
    402: "PAYMENT_REQUIRED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "SERVICE_UNAVAILABLE",
    409: "CONFLICT",
    429: "RATE_LIMIT",
    503: "SERVICE_UNAVAILABLE",
}
INVALID = "VALIDATION_ERROR"
"""What a workflow with faults is told under."""


class Field(Struct, frozen=True):
    """What is wrong with one field of a request."""

    field: str
    message: str


class Problem(Struct, frozen=True):
    """One fault of a workflow, at a JSONPath from `$`."""

    code: str
    path: str
    message: str


class Refusal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`error` is our own word for what happened, `code` the one that all servers of the dialect share."""

    error: str
    code: str
    message: str
    request_id: str = ""
    fields: tuple[Field, ...] = ()
    issues: tuple[Problem, ...] = ()


encode = msgspec.json.Encoder().encode


def word(status: int) -> str:
    """The shared word for a status from 400 on."""
    return WORDS.get(status, "INVALID_INPUT" if status < 500 else "INTERNAL_ERROR")
