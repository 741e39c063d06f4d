"""Why a node of a run under way fails."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from proxy.workflows.spec import RetryWord


class Cause(StrEnum):
    """Words for failures that no model or agent has words for; they are the `code` of a node's error."""

    MISSING_VALUE = "missing_value"
    INVALID_VALUE = "invalid_value"
    INVALID_ITEMS = "invalid_items"
    TOO_MANY_ITEMS = "too_many_items"
    VALUE_TOO_LARGE = "value_too_large"
    NO_BRANCH_ACCEPTED = "no_branch_accepted"
    TOO_MANY_CALLS = "too_many_calls"
    TOOL_WAIT_TIMEOUT = "tool_wait_timeout"
    INVALID_JSON = "invalid_json"
    UNCHECKED = "unchecked"
    TRUNCATED = "truncated"
    CANCELED = "canceled"


class Fault(Struct, frozen=True, kw_only=True):
    """A failure: `kind` is the word under which it can be retried, if it can; `retry_after` in seconds."""

    code: str
    message: str
    kind: RetryWord | None = None
    retry_after: float = 0.0


class Broken(Exception):
    """A value cannot be made; `fault` says why."""

    def __init__(self, cause: Cause, message: str, kind: RetryWord | None = None) -> None:
        super().__init__(message)
        self.fault = Fault(code=cause.value, message=message, kind=kind)


_KINDS: dict[str, RetryWord] = {
    "llm_rate_limit": "rate_limit",
    "llm_timeout": "timeout",
    "run_timeout": "timeout",
    "stream_incomplete": "truncated",
}


def fault_of(code: str, message: str, retry_after: float | None = None) -> Fault:
    """The failure of a model or an agent, by the code of its run."""
    return Fault(code=code, message=message, kind=_KINDS.get(code), retry_after=retry_after or 0.0)
