"""When to ask an upstream again: only while nothing was said yet, and never beyond the caller's patience."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from adapters.openai.failures import LONGEST_WAIT, Silent
from proxy.errors import UpstreamError

T = TypeVar("T")

RETRIES = 2
FIRST_WAIT = 0.5
LONGEST_BUDGET = 30.0
"""Seconds after which nothing is asked anew, though nobody waits for a first byte: a run may last for long, and an
upstream that is away all that time is better told of."""


async def again(failed: UpstreamError, budget: float, ask: Callable[[], Awaitable[T]]) -> T:
    """Ask anew after a first attempt that failed, as far as that can help and fits into `budget` seconds, or into
    `LONGEST_BUDGET`.

    Raises the last error. tenacity costs 40 µs a call, so it only comes in here: it is shown the failure as its first
    attempt.
    """
    earlier = [failed]

    async def attempt() -> T:
        if earlier:
            raise earlier.pop()
        return await ask()

    return await _retrying(min(budget, LONGEST_BUDGET))(attempt)


def _retrying(budget: float) -> AsyncRetrying:
    first = min(FIRST_WAIT, max(budget, 0.0) / 8)
    backoff = wait_random_exponential(multiplier=first, min=first)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.retry_after if isinstance(error, UpstreamError) else None
        return max(backoff(state), asked or 0.0)

    def stop(state: RetryCallState) -> bool:
        late = (state.seconds_since_start or 0.0) + state.upcoming_sleep >= budget
        return late or state.attempt_number > RETRIES or state.upcoming_sleep > LONGEST_WAIT

    return AsyncRetrying(retry=retry_if_exception(_helps), wait=wait, stop=stop, reraise=True)


def _helps(error: BaseException) -> bool:
    """True where asking again can help. An upstream that went silent may still be at work on the first request."""
    return isinstance(error, UpstreamError) and error.retryable and not isinstance(error, Silent)
