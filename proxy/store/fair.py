"""Which of many waiting runs come next: a tenant with many runs does not keep the others waiting."""

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
    heads = [(taken.get(tenant, 0), "", place, False) for place, (tenant, _) in enumerate(waiting)]
    heapify(heads)
    chosen: list[Name] = []
    while heads and len(chosen) < limit:
        count, run_id, place, known = heads[0]
        tenant, queue = waiting[place]
        now = taken.get(tenant, 0)
        if not known:
            following = next(queue, None)
            heappop(heads) if following is None else heapreplace(heads, (now, following, place, True))
        elif count != now:  # another queue of the tenant has had its turn
            heapreplace(heads, (now, run_id, place, True))
        else:
            chosen.append((tenant, run_id))
            taken[tenant] = now + 1
            heapreplace(heads, (now + 1, run_id, place, False))
    return chosen
