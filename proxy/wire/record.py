"""A run's record and its log as JSON: LangGraph's `Run` with our own words beside its own, and a line an entry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from proxy.events import FINAL, Entry, Event, Failed
from proxy.model import Outcome, Run, RunStatus, Strategy
from proxy.transcript import cents
from proxy.wire.base import flat
from proxy.wire.kwargs import Kwargs, kwargs

json = msgspec.json.Encoder()


class Spent(Struct, frozen=True, kw_only=True):
    """Tokens over all model calls of a run."""

    model: str | None
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    model_calls: int
    cost: float
    """In the currency of the configured prices."""
    cost_cents: int
    """The same in whole cents."""


class Problem(Struct, frozen=True, kw_only=True):
    """Why a run failed; `retry_after` in seconds."""

    code: str
    message: str
    status: int
    retryable: bool
    retry_after: float | None = None


class Record(Struct, frozen=True, kw_only=True):
    """One run. `status` is LangGraph's word, `state` ours; what is known at the end only is null before."""

    run_id: str
    thread_id: str
    assistant_id: str
    created_at: str
    updated_at: str
    status: str
    metadata: dict[str, Any]
    kwargs: Kwargs
    multitask_strategy: Strategy
    state: str
    agent: str
    turn_id: str
    resumes: str | None
    group: str | None
    stop_reason: str | None
    finish_reason: str | None
    first_token: float | None
    usage: Spent | None
    error: Problem | None


class Brief(Struct, frozen=True, kw_only=True):
    """How far a run is, and no more."""

    run_id: str
    status: str
    state: str


class Group(Struct, frozen=True, kw_only=True):
    """Several runs that one request started; `run_id` is the name they share."""

    run_id: str
    status: str
    state: str
    runs: tuple[Record | Brief, ...]


class Line(Struct, frozen=True):
    """One entry of a log."""

    seq: int
    at: str
    event: Event


class Broken(Struct, frozen=True):
    """The line that says that the log cannot be read on."""

    error: Problem


STATUSES = {
    RunStatus.PENDING: "pending",
    RunStatus.RUNNING: "running",
    RunStatus.SUCCESS: "success",
    RunStatus.ERROR: "error",
    RunStatus.CANCELLED: "interrupted",
}
UNDER_WAY = (RunStatus.RUNNING, RunStatus.PENDING)
WORST_FIRST = (*UNDER_WAY, RunStatus.ERROR, RunStatus.CANCELLED, RunStatus.SUCCESS)


def iso(at: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, with microseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


def status(run: Run) -> str:
    """LangGraph's word for how far a run is: there a cancelled run is `interrupted`, and running late is a status."""
    error = run.outcome.error if run.outcome else None
    return "timeout" if error is not None and error.code == "run_timeout" else STATUSES[run.status]


def brief(run: Run) -> Brief:
    return Brief(run_id=run.run_id, status=status(run), state=run.status)


def record(run: Run) -> Record:
    outcome = run.outcome
    error = outcome.error if outcome else None
    return Record(
        run_id=run.run_id,
        thread_id=run.thread_id,
        assistant_id=run.assistant_id,
        created_at=iso(run.created_at),
        updated_at=iso(run.updated_at),
        status=status(run),
        metadata=metadata(run),
        kwargs=kwargs(run),
        multitask_strategy=run.choices.strategy,
        state=run.status,
        agent=run.agent,
        turn_id=run.turn_id,
        resumes=run.resumes,
        group=run.group,
        stop_reason=outcome.stop_reason if outcome else None,
        finish_reason=outcome.finish_reason if outcome else None,
        first_token=outcome.first_token if outcome else None,
        usage=spent(outcome) if outcome else None,
        error=problem(error) if error else None,
    )


def group(name: str, runs: Sequence[Run], *, whole: bool) -> Group:
    """All runs of a group, whole or in brief; it is as far as the run that is least far."""
    worst = min(runs, key=lambda run: WORST_FIRST.index(run.status))
    parts = tuple(record(run) if whole else brief(run) for run in runs)
    return Group(run_id=name, status=status(worst), state=worst.status, runs=parts)


def metadata(run: Run) -> dict[str, Any]:
    """What the caller gave, and whose run it is."""
    return {"created_by": "system", **run.choices.metadata, "graph_id": run.agent, "assistant_id": run.assistant_id}


def spent(outcome: Outcome) -> Spent:
    usage = outcome.usage
    return Spent(
        model=usage.model or None,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        model_calls=outcome.model_calls,
        cost=outcome.cost,
        cost_cents=cents(outcome.cost),
    )


def problem(failed: Failed) -> Problem:
    return Problem(
        code=failed.code,
        message=failed.message,
        status=failed.status,
        retryable=failed.retryable,
        retry_after=failed.retry_after,
    )


def line(thing: Line | Broken) -> bytes:
    """One line of NDJSON."""
    return flat(json.encode(thing)) + b"\n"


class LogEncoder:
    """A log as NDJSON, a line an entry; a blank line is a sign of life."""

    media_type = "application/x-ndjson"

    def __init__(self) -> None:
        self.ended = False

    def encode(self, entry: Entry) -> bytes:
        self.ended = isinstance(entry.event, FINAL)
        return line(Line(entry.seq, iso(entry.at), entry.event))

    def heartbeat(self) -> bytes:
        return b"" if self.ended else b"\n"

    def failure(self, failed: Failed) -> bytes:
        self.ended = True
        return line(Broken(problem(failed)))

    def end(self) -> bytes:
        return b""
