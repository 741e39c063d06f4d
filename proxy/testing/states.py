"""What a store promises of states made of transcripts."""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec
from msgspec import Raw

from proxy.events import Interrupt
from proxy.model import SavedState, new_id
from proxy.store.base import Store
from proxy.testing.runs import Promise, finished, new_run
from proxy.testing.threads import new_thread

TENANT = "default"
SOON = sys.float_info.max
"""Later than any run ended."""


def new_states(count: int, **fields: Any) -> list[SavedState]:
    """States of one thread, oldest first."""
    thread = {"thread_id": new_id(), "tenant": TENANT} | fields
    first = int(new_id().replace("-", ""), 16)
    return [
        SavedState(checkpoint_id=f"{first + step:032x}", step=step, created_at=time.time(), **thread)
        for step in range(count)
    ]


async def steps(store: Store, thread_id: str, **query: Any) -> list[int]:
    """The steps of a thread's states, as they are listed."""
    tenant = query.pop("tenant", TENANT)
    return [state.step for state in await store.states(tenant, thread_id, **query)]


async def a_state_comes_back_as_it_was(store: Store) -> None:
    """Every field of a state is kept, its values byte for byte."""
    (state,) = new_states(
        1,
        parent_id=new_id(),
        run_id=new_id(),
        source="input",
        values=Raw(b'{"messages": [{"content":"\xc3\xa4"}]}'),
        next=("agent",),
        metadata={"deep": [1, {"x": None}]},
        interrupts=(Interrupt(id="i", value=Raw(b'{"q":1}')),),
        error="ValueError('x')",
    )
    await store.put_states([state])
    assert await store.get_state(TENANT, state.thread_id) == state
    assert await store.states(TENANT, state.thread_id) == [state]


async def states_are_found_by_their_place(store: Store) -> None:
    """One by its id, without one the newest; many newest first, below a checkpoint, of a run, up to a limit."""
    states = new_states(5, run_id="a")
    states[3] = msgspec.structs.replace(states[3], run_id="b")
    await store.put_states(states[:2])
    await store.put_states(states[2:])
    thread_id = states[0].thread_id
    assert await store.get_state(TENANT, thread_id) == states[4]
    assert await store.get_state(TENANT, thread_id, states[1].checkpoint_id) == states[1]
    assert await store.get_state(TENANT, thread_id, new_id()) is None
    assert await store.get_state(TENANT, new_id()) is None
    assert await steps(store, thread_id) == [4, 3, 2, 1, 0]
    assert await steps(store, thread_id, before=states[3].checkpoint_id, limit=2) == [2, 1]
    assert await steps(store, thread_id, run_id="a", limit=2) == [4, 2]
    assert await steps(store, thread_id, run_id="b") == [3]
    assert await steps(store, new_id()) == []


async def states_can_be_cut_off(store: Store) -> None:
    """Those above a checkpoint go, or all, or all but the newest."""
    states = new_states(5)
    thread_id = states[0].thread_id
    await store.put_states(states)
    await store.cut_states(TENANT, thread_id, after=states[2].checkpoint_id)
    assert await steps(store, thread_id) == [2, 1, 0]
    await store.keep_newest_state(TENANT, thread_id)
    assert await steps(store, thread_id) == [2]
    await store.cut_states(TENANT, thread_id)
    await store.cut_states(TENANT, thread_id)
    await store.keep_newest_state(TENANT, thread_id)
    assert await store.get_state(TENANT, thread_id) is None


async def states_are_copied_whole(store: Store) -> None:
    """A copy has all of them under the same checkpoints, and a life of its own."""
    states = new_states(150)
    source, target = states[0].thread_id, new_id()
    await store.put_states(states)
    await store.copy_states(TENANT, source, target)
    copied = await store.states(TENANT, target, limit=200)
    assert copied == [msgspec.structs.replace(state, thread_id=target) for state in states[::-1]]
    await store.cut_states(TENANT, source)
    assert await store.states(TENANT, target, limit=200) == copied


async def states_of_tenants_are_apart(store: Store) -> None:
    """Threads of the same id share nothing across tenants."""
    mine = new_states(2)
    thread_id = mine[0].thread_id
    theirs = new_states(3, tenant="other", thread_id=thread_id)
    await store.put_states(mine)
    await store.put_states(theirs)
    assert await steps(store, thread_id) == [1, 0]
    await store.keep_newest_state("other", thread_id)
    await store.cut_states("third", thread_id)
    assert await steps(store, thread_id) == [1, 0]
    assert await store.states("other", thread_id) == [theirs[2]]
    assert await store.get_state("other", thread_id, mine[0].checkpoint_id) is None


async def states_go_with_their_thread(store: Store) -> None:
    """Deleting a thread deletes its states, with runs or without."""
    for runs in range(2):
        thread = await store.insert_thread(new_thread())
        other = new_states(1)
        await store.put_states([*new_states(2, thread_id=thread.thread_id)])
        await store.put_states(other)
        for _ in range(runs):
            await finished(store, new_run(thread_id=thread.thread_id))
        assert await store.delete_thread(TENANT, thread.thread_id)
        assert await steps(store, thread.thread_id) == []
        assert await steps(store, other[0].thread_id) == [0]


async def states_go_with_the_last_run_of_a_thread_without_a_record(store: Store) -> None:
    """Not with an earlier one, and not while the thread has a record: swept or deleted."""
    known = await store.insert_thread(new_thread())
    kept = await finished(store, new_run(thread_id=known.thread_id))
    first = await finished(store, new_run())
    second = await finished(store, new_run(thread_id=first.thread_id))
    for thread_id in (known.thread_id, first.thread_id):
        await store.put_states(new_states(1, thread_id=thread_id))
    await store.put_states(new_states(1, thread_id=first.thread_id, tenant="other"))
    assert await store.delete(TENANT, first.run_id)
    assert await steps(store, first.thread_id) == [0]
    swept = await store.sweep(before=SOON, keep=0)
    assert {run.run_id for run in swept} == {kept.run_id, second.run_id}
    assert await steps(store, first.thread_id) == []
    assert await steps(store, first.thread_id, tenant="other") == [0]
    assert await steps(store, known.thread_id) == [0]


PROMISES: tuple[Promise, ...] = (
    a_state_comes_back_as_it_was,
    states_are_found_by_their_place,
    states_can_be_cut_off,
    states_are_copied_whole,
    states_of_tenants_are_apart,
    states_go_with_their_thread,
    states_go_with_the_last_run_of_a_thread_without_a_record,
)
