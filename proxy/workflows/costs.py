"""What a workflow run has cost, by model.

The calls of a model are summed in the currency of the config's prices (US dollars, for the clients of this dialect),
and each sum is rounded to whole cents, half a cent up; the total is the sum of these cents.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from proxy.transcript import cents


class Summary(Struct, frozen=True):
    """What the record of a run holds of its costs: sums by model, not rounded."""

    costs: dict[str, float] = {}


encode = msgspec.json.Encoder().encode
_summary = msgspec.json.Decoder(Summary | None)


def summary_of(costs: Mapping[str, float]) -> Raw:
    return Raw(encode(Summary(dict(costs))))


def cents_in(summary: Raw) -> dict[str, int]:
    """Whole cents by model, from a record."""
    found = _summary.decode(summary)
    return {} if found is None else {model: cents(amount) for model, amount in found.costs.items()}
