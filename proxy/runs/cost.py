"""What model calls cost, by the prices of the config."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.events import Usage
from proxy.settings import Price

MILLION = 1_000_000


def cost(usage: Usage, prices: Mapping[str, Price]) -> float:
    """The price of one model call, in the currency of the prices; a model without a price costs nothing."""
    price = prices.get(usage.model)
    if price is None:
        return 0.0
    cached = price.input if price.cached is None else price.cached
    fresh = max(usage.input_tokens - usage.cached_tokens, 0)
    return (fresh * price.input + usage.cached_tokens * cached + usage.output_tokens * price.output) / MILLION
