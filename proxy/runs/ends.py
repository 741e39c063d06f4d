"""What the end of a run amounts to: its final event, its record, open questions, and how it leaves its thread."""

from __future__ import annotations

import time

import msgspec

from proxy.errors import ProxyError
from proxy.events import Cancelled, Completed, Failed, Final, Paused
from proxy.model import Fault, Outcome, Pause, Run, RunStatus, ThreadOutcome, ThreadStatus
from proxy.transcript import Tally, class_of

INTERRUPTED = Fault(error="UserInterrupt", message="The run was cancelled.")
ROLLED_BACK = Fault(error="UserRollback", message="The run was cancelled and rolled back.")
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_calls", "content_filter": "refusal"}


def failed(error: ProxyError) -> Failed:
    """The final event that says what this error says, under the name of what it was made from."""
    return Failed(
        code=error.code,
        message=error.message,
        status=error.status,
        retryable=error.retryable,
        retry_after=error.retry_after,
        kind="" if error.__cause__ is None else type(error.__cause__).__name__,
    )


def ended(run: Run, final: Final, tally: Tally, events: int) -> Run:
    """The record of a run that ended this way."""
    status, stop_reason, finish_reason, error = RunStatus.SUCCESS, "end_turn", "stop", None
    match final:
        case Completed():
            finish_reason = final.finish_reason
            stop_reason = final.stop_reason or STOP_REASONS.get(finish_reason, finish_reason)
        case Paused():
            stop_reason = "tool_calls" if final.calls else "interrupt"
        case Cancelled():
            status, stop_reason = RunStatus.CANCELLED, "cancelled"
        case Failed():
            status, stop_reason, error = RunStatus.ERROR, "error", final
    outcome = Outcome(
        stop_reason=stop_reason,
        finish_reason=None if error else finish_reason,
        usage=tally.usage,
        model_calls=tally.calls,
        cost=tally.cost,
        events=events + 1,
        first_token=tally.first_token,
        error=error,
    )
    now = time.time()
    gone = now if isinstance(final, Cancelled) and final.action == "rollback" else None
    return msgspec.structs.replace(run, status=status, updated_at=now, outcome=outcome, gone_at=gone)


def pause_of(run: Run, final: Final, ttl: float) -> Pause | None:
    """The open questions that a run leaves on its thread."""
    if not isinstance(final, Paused):
        return None
    return Pause(
        run_id=run.run_id,
        thread_id=run.thread_id,
        agent=run.agent,
        turn_id=run.turn_id,
        tenant=run.tenant,
        interrupts=final.interrupts,
        calls=final.calls,
        expires_at=time.time() + ttl,
    )


def left(final: Final) -> ThreadOutcome:
    """How a run leaves its thread, as far as its end alone tells."""
    match final:
        case Failed():
            fault = Fault(error=class_of(final), message=final.message)
            return ThreadOutcome(status=ThreadStatus.ERROR, fault=fault)
        case Cancelled(action="rollback"):
            return ThreadOutcome(fault=ROLLED_BACK)
        case Cancelled():
            return ThreadOutcome(status=ThreadStatus.INTERRUPTED, fault=INTERRUPTED)
        case Paused():
            return ThreadOutcome(status=ThreadStatus.INTERRUPTED)
        case _:
            return ThreadOutcome()
