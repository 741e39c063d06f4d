"""What a store promises of webhooks that are still to be called."""

from __future__ import annotations

import msgspec

from proxy.events import NULL, Completed
from proxy.model import RunStatus
from proxy.store.base import Store
from proxy.testing.runs import Promise, emptied, ended, new_run

URL = "https://hooks.example.com/a?b=c"


async def an_ended_run_is_calling_until_it_has_called(store: Store) -> None:
    """Ended runs with a webhook are found, the oldest first, whatever their tenant; those under way are not. They are
    this process's from then on, whoever ended them, if that is gone."""
    ends = []
    for number, tenant in enumerate(("a", "b", "b")):
        run = new_run(tenant=tenant, webhook=URL, owner=(store.lease.owner, "gone", None)[number])
        end = msgspec.structs.replace(ended(run, RunStatus.ERROR), updated_at=9.0 - number)
        await store.begin(run, inserted=False).settle(Completed(), end)
        ends.append(msgspec.structs.replace(end, input=NULL, owner=store.lease.owner))
    plain = new_run()
    await store.begin(plain, inserted=False).settle(Completed(), ended(plain))
    live = await store.insert(new_run(webhook=URL))
    assert await store.calling(limit=10) == ends[::-1]
    assert await store.calling(limit=2) == ends[:0:-1]
    taken = [await store.get(end.tenant, end.run_id) for end in ends]
    assert {run and run.owner for run in taken} == {store.lease.owner}
    assert not await store.called("default", live.run_id), "a run under way has not called yet"
    assert not await store.called("a", ends[1].run_id), "another tenant's run"
    assert await store.called("b", ends[1].run_id)
    assert await store.calling(limit=10) == [ends[2], ends[0]]


async def calling_changes_nothing_else(store: Store) -> None:
    """What has called keeps the rest of its record as it is now, not as the caller saw it last."""
    for stripped in (False, True):
        run = new_run(webhook=URL)
        end = ended(run)
        await store.begin(run, inserted=False).settle(Completed(), end)
        if stripped:
            await emptied(store, end)
            end = msgspec.structs.replace(end, input=NULL)
        assert await store.called("default", run.run_id)
        assert await store.get("default", run.run_id) == msgspec.structs.replace(end, webhook=None)


PROMISES: tuple[Promise, ...] = (an_ended_run_is_calling_until_it_has_called, calling_changes_nothing_else)
