"""What a run may use up, and how many runs may be under way."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from proxy.errors import RunLimit, TooMany
from proxy.events import Failed, Usage
from proxy.runs.cost import cost
from proxy.settings import Agent, Limits, Price, Runs
from proxy.store.event_log import RunLog
from proxy.transcript import Tally

LONGEST = 2000
"""Characters of an agent's own exception that a client gets to see."""


class RunBounds(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one run; times in seconds, 0 is no bound."""

    timeout: float
    idle_timeout: float
    cancel_grace: float
    settle_timeout: float
    pause_ttl: float
    expose_errors: bool | None
    limits: Limits
    prices: dict[str, Price]
    scrub: Callable[[str], str]
    """Blots secrets out of a text."""

    @classmethod
    def of(cls, agent: Agent, runs: Runs, scrub: Callable[[str], str] = str) -> RunBounds:
        """An agent's own settings, else those for all runs."""
        return cls(
            timeout=agent.timeout or runs.timeout,
            idle_timeout=runs.idle_timeout if agent.idle_timeout is None else agent.idle_timeout,
            cancel_grace=runs.cancel_grace,
            settle_timeout=runs.settle_timeout,
            pause_ttl=runs.pause_ttl,
            expose_errors=runs.expose_errors if agent.expose_errors is None else agent.expose_errors,
            limits=agent.limits,
            prices=runs.prices,
            scrub=scrub,
        )

    def failure(self, error: BaseException, *, native: bool) -> Failed:
        """What a client sees of an exception that the agent raised: on the `native` API its text, unless set off."""
        if not (native if self.expose_errors is None else self.expose_errors):
            return Failed(code="internal_error", message="The agent failed.")
        kind, text = type(error).__name__, str(error)
        message = text if native else f"{kind}: {text}"
        return Failed(code="internal_error", message=self.scrub(message)[:LONGEST], kind=kind)

    def count(self, usage: Usage, tally: Tally) -> None:
        """Add a model call to the run's sums. Raises `RunLimit` when calls, tokens or cost are too many."""
        limits = self.limits
        tally.add(usage, cost(usage, self.prices) if self.prices else 0.0)
        if limits.model_calls and tally.calls > limits.model_calls:
            raise RunLimit(f"The run made more than {limits.model_calls} model calls.")
        tokens = tally.usage.input_tokens + tally.usage.output_tokens
        if limits.tokens and tokens > limits.tokens:
            raise RunLimit(f"The run used more than {limits.tokens} tokens.")
        if limits.cost and tally.cost > limits.cost:
            raise RunLimit(f"The run cost more than {limits.cost:g}.")

    def check_size(self, size: int, total: int) -> None:
        """Raises `RunLimit` when one event has more bytes than it may, or all that were looked at have together: what
        the log has on disk comes later."""
        if self.limits.event_bytes and size > self.limits.event_bytes:
            raise RunLimit(f"An event has more than {self.limits.event_bytes} bytes.")
        if self.limits.log_bytes and total > self.limits.log_bytes:
            raise RunLimit(f"The run wrote more than {self.limits.log_bytes} bytes.")

    def check_log(self, log: RunLog) -> None:
        """Raises `RunLimit` when the log has become too long."""
        limits = self.limits
        if limits.events and log.last > limits.events:
            raise RunLimit(f"The run wrote more than {limits.events} events.")
        if limits.log_bytes and log.bytes > limits.log_bytes:
            raise RunLimit(f"The run wrote more than {limits.log_bytes} bytes.")


class Slots:
    """How many runs wait or are under way, per tenant and agent. One that does not count has room for all: the store
    counts then."""

    def __init__(self, *, counts: bool = True) -> None:
        self._counts = counts
        self._taken: dict[tuple[str, str], int] = {}

    def take(self, tenant: str, agent: str, limit: int) -> None:
        """Count one more. Raises `TooMany` at the limit (0: none)."""
        taken = self._taken.get((tenant, agent), 0)
        if limit and taken >= limit:
            raise TooMany(f"{limit} runs of this agent are under way.", retry_after=1)
        self.add(tenant, agent)

    def add(self, tenant: str, agent: str, count: int = 1) -> None:
        """Count some more that were admitted before."""
        if self._counts:
            self._taken[tenant, agent] = self._taken.get((tenant, agent), 0) + count

    def free(self, tenant: str, agent: str) -> None:
        if not self._counts:
            return
        left = self._taken[tenant, agent] - 1
        if left:
            self._taken[tenant, agent] = left
        else:
            del self._taken[tenant, agent]
