"""What callers of the workflow dialect send, and the short answers that they get.

A null counts as absent. Fields that the clients do not know are left out where they are UNSET.
Source: the request builders and response types of the ModelRelay SDKs, and the API's OpenAPI document 0.7.0.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from proxy.wire.workflow_parts import Call, CallName

PlanHash = Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")]
Model = Annotated[str, Meta(min_length=1, max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Status = Literal["running", "waiting", "succeeded", "failed", "canceled"]
Code = Literal[
    "NOT_FOUND",
    "VALIDATION_ERROR",
    "INVALID_INPUT",
    "RATE_LIMIT",
    "UNAUTHORIZED",
    "FORBIDDEN",
    "CONFLICT",
    "INTERNAL_ERROR",
    "SERVICE_UNAVAILABLE",
    "PAYMENT_REQUIRED",
    "METHOD_NOT_ALLOWED",
]
"""The codes that clients act on."""
ERRORS: dict[int, tuple[str, Code]] = {
    400: ("bad_request", "INVALID_INPUT"),
    401: ("unauthorized", "UNAUTHORIZED"),
    402: ("payment_required", "PAYMENT_REQUIRED"),
    403: ("forbidden", "FORBIDDEN"),
    404: ("not_found", "NOT_FOUND"),
    405: ("method_not_allowed", "METHOD_NOT_ALLOWED"),
    408: ("timeout", "SERVICE_UNAVAILABLE"),
    409: ("conflict", "CONFLICT"),
    410: ("gone", "NOT_FOUND"),
    413: ("too_large", "INVALID_INPUT"),
    415: ("unsupported", "INVALID_INPUT"),
    429: ("rate_limit", "RATE_LIMIT"),
    503: ("unavailable", "SERVICE_UNAVAILABLE"),
}
"""By HTTP status: the short word and the code; all other statuses are internal errors."""
INVALID: tuple[str, Code] = ("invalid_workflow", "VALIDATION_ERROR")
"""The same for a spec with faults."""


class Options(Struct, frozen=True, kw_only=True):
    idempotency_key: str | None = None


class SubnodeOverride(Struct, frozen=True, kw_only=True):
    parent_id: Name
    subnode_id: Name
    model: Model


class ModelOverrides(Struct, frozen=True, kw_only=True):
    """Models by node, and by the subnode of a fan-out; they beat `model_override`."""

    nodes: dict[str, Model] | None = None
    fanout_subnodes: tuple[SubnodeOverride, ...] | None = None


class RunCreate(Struct, frozen=True, kw_only=True):
    """A run of a spec, or of a plan that was compiled before; exactly one of both."""

    spec: Any = None
    plan_hash: PlanHash | None = None
    input: dict[str, Any] | None = None
    session_id: UUID | None = None
    model_override: Model | None = None
    model_overrides: ModelOverrides | None = None
    stream: bool | None = None
    options: Options | None = None


class GivenCall(Struct, frozen=True, kw_only=True):
    id: Name
    name: Name
    arguments: str | None = None


class GivenResult(Struct, frozen=True, kw_only=True):
    """What one tool gave; a failure is a text that begins with `Error:`."""

    tool_call: GivenCall
    output: str
    error: str | None = None


class ToolResults(Struct, frozen=True, kw_only=True):
    """The caller's answers to tool calls of one step of a node, all or some of them."""

    node_id: Name
    step: Annotated[int, Meta(ge=0)]
    request_id: UUID
    results: Annotated[tuple[GivenResult, ...], Meta(min_length=1)]


class FieldError(Struct, frozen=True, kw_only=True):
    field: str
    message: str


class WorkflowIssue(Struct, frozen=True, kw_only=True):
    """A fault of a spec; none of its texts is empty, or clients pass it over."""

    code: str
    path: str
    message: str


class WorkflowError(Struct, frozen=True, kw_only=True):
    """Every error of this dialect; `issues` only with status 400, for the faults of a spec."""

    error: str
    code: Code
    message: str
    fields: tuple[FieldError, ...] | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    issues: tuple[WorkflowIssue, ...] | UnsetType = UNSET


class Compiled(Struct, frozen=True, kw_only=True):
    plan_json: Raw
    plan_hash: str


class Linted(Struct, frozen=True, kw_only=True):
    """The plan only where the spec has no faults, and was to be compiled."""

    kind: str | UnsetType = UNSET
    lint_issues: tuple[WorkflowIssue, ...] | UnsetType = UNSET
    compile_issues: tuple[WorkflowIssue, ...] | UnsetType = UNSET
    compile_error: str | UnsetType = UNSET
    plan_json: Raw | UnsetType = UNSET
    plan_hash: str | UnsetType = UNSET


class Created(Struct, frozen=True, kw_only=True):
    run_id: str
    status: Status
    plan_hash: str


class Accepted(Struct, frozen=True, kw_only=True):
    """How many results were taken now."""

    accepted: int
    status: Status


class Canceled(Struct, frozen=True, kw_only=True):
    run_id: str
    status: Status


class PendingTool(Struct, frozen=True, kw_only=True):
    tool_call: Call


class PendingNode(Struct, frozen=True, kw_only=True):
    """The open calls of one step of a node."""

    node_id: str
    step: int
    request_id: str
    tool_calls: tuple[PendingTool, ...]


class PendingTools(Struct, frozen=True, kw_only=True):
    run_id: str
    pending: tuple[PendingNode, ...] = ()


class ToolOutput(Struct, frozen=True, kw_only=True):
    tool_call: CallName
    output: str
    error: str | UnsetType = UNSET


class ToolDetail(Struct, frozen=True, kw_only=True):
    node_id: str
    step: int
    tool_call: Call
    tool_result: ToolOutput | UnsetType = UNSET


class Task(Struct, frozen=True, kw_only=True):
    content: str
    status: Literal["pending", "in_progress", "completed"]
    active_form: str | UnsetType = UNSET


class Tasks(Struct, frozen=True, kw_only=True):
    tasks: tuple[Task, ...] = ()


def problem(status: int, message: str, **more: Any) -> WorkflowError:
    """The body of an error; `more` are its optional fields."""
    word, code = ERRORS.get(status, ("internal", "INTERNAL_ERROR"))
    return WorkflowError(error=word, code=code, message=message or word, **more)


def invalid(issues: tuple[WorkflowIssue, ...], message: str, **more: Any) -> WorkflowError:
    """The body of the error that says what is wrong with a spec; its status must be 400."""
    word, code = INVALID
    return WorkflowError(error=word, code=code, message=message, issues=issues, **more)
