"""What the log of the server says of a run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
import structlog

from proxy.adapter import RunInput
from proxy.events import Entry, TextDelta
from proxy.model import Outcome, Run

logger = structlog.get_logger(__name__)


def report(run: Run) -> None:
    """One line for a run's end."""
    outcome = run.outcome or Outcome(stop_reason="")
    logger.info(
        "run ended",
        run_id=run.run_id,
        agent=run.agent,
        status=str(run.status),
        stop_reason=outcome.stop_reason,
        error=outcome.error.code if outcome.error else None,
        input_tokens=outcome.usage.input_tokens,
        output_tokens=outcome.usage.output_tokens,
        first_token=outcome.first_token,
        seconds=round(run.updated_at - run.created_at, 4),
    )


async def report_content(run: Run, entries: AsyncGenerator[list[Entry]]) -> None:
    """What was said, for those who want it in the log."""
    asked = msgspec.json.decode(run.input, type=RunInput | None)
    answer: list[str] = []
    async with aclosing(entries):
        async for batch in entries:
            answer += [entry.event.text for entry in batch if isinstance(entry.event, TextDelta)]
    logger.info("run content", run_id=run.run_id, asked=asked.text if asked else None, answer="".join(answer))
