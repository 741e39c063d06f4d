"""Who comes next where many wait: a tenant with many runs does not keep the others waiting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heapreplace

Name = tuple[str, str]
"""Tenant and run."""


def fairly(queues: Iterable[tuple[str, Iterator[str]]], under_way: Mapping[str, int], limit: int) -> list[Name]:
    """At most `limit` runs: always the next of the tenant that has fewest under way then, of several the oldest.

    Each queue has the runs of one tenant, the oldest first, and is read no further than is needed; a tenant may have
    several queues.
    """
    taken = dict(under_way)
    waiting = list(queues)
    heads = [
        (taken.get(tenant, 0), head, place)
        for place, (tenant, queue) in enumerate(waiting)
        if (head := next(queue, None)) is not None
    ]
    heapify(heads)
    chosen: list[Name] = []
    while heads and len(chosen) < limit:
        count, run_id, place = heads[0]
        tenant, queue = waiting[place]
        if count != (now := taken.get(tenant, 0)):  # another queue of the tenant has had its turn
            heapreplace(heads, (now, run_id, place))
            continue
        chosen.append((tenant, run_id))
        taken[tenant] = now + 1
        if (following := next(queue, None)) is None:
            heappop(heads)
        else:
            heapreplace(heads, (now + 1, following, place))
    return chosen
