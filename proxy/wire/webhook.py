"""What a webhook is told at the end of a run: the run's record, when it ran, and the values that it left.

The names are the official server's. `error` is there for a failed run alone, as there; ours says more in it.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from proxy.events import NULL, Failed
from proxy.model import Run
from proxy.transcript import class_of
from proxy.wire.base import flat
from proxy.wire.record import iso, record


class Told(Struct, frozen=True, kw_only=True):
    """What stands beside the record. Times are ISO 8601 in UTC."""

    run_started_at: str | None
    run_ended_at: str
    webhook_sent_at: str
    values: Raw
    """The state of the run's thread; null where it is not kept."""


class Fault(Struct, frozen=True, kw_only=True):
    """Why the run failed: `error` is the class of the exception, the rest as in the record."""

    error: str
    message: str
    code: str
    status: int
    retryable: bool


def told(run: Run, *, started_at: float | None, sent_at: float, values: Raw = NULL) -> bytes:
    """The body of the call for a run that has ended. Times are seconds since 1970, `values` is JSON."""
    about = Told(
        run_started_at=None if started_at is None else iso(started_at),
        run_ended_at=iso(run.updated_at),
        webhook_sent_at=iso(sent_at),
        values=values,
    )
    whole = msgspec.structs.asdict(record(run)) | msgspec.structs.asdict(about)
    failed = run.outcome.error if run.outcome else None
    if failed is None:
        whole.pop("error", None)
    else:
        whole["error"] = fault(failed)
    return flat(msgspec.json.encode(whole))


def fault(failed: Failed) -> Fault:
    return Fault(
        error=class_of(failed),
        message=failed.message,
        code=failed.code,
        status=failed.status,
        retryable=failed.retryable,
    )
