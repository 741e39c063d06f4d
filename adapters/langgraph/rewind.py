"""Copies a thread's checkpoints, thins them out, and takes back those of a run: by SQL in our own tables, else by
the saver's own means.

Checkpoint ids grow with time, so all that a run makes comes after the newest id that was there before. What it writes
to older checkpoints, answers to their questions above all, is put back as it was.
"""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from adapters.langgraph.checkpoints import put
from adapters.langgraph.durable import Before, DurableSaver, Saver, Written
from adapters.langgraph.load import Graph
from proxy.adapter import Mark


async def copied(saver: Saver, source: str, target: str) -> None:
    """Copy all state of the thread with one key to another key."""
    if isinstance(saver, DurableSaver):
        await saver.acopy_thread(source, target)
        return
    for found in await _oldest_first(saver, source):
        await put(saver, found, target)


async def thinned(saver: Saver, key: str) -> None:
    """Delete all but the newest checkpoint of the graph and of each sub-graph."""
    if isinstance(saver, DurableSaver):
        await saver.akeep_newest(key)
        return
    newest = {_place(found)[0]: found for found in await _oldest_first(saver, key)}
    await saver.adelete_thread(key)
    for found in newest.values():
        await put(saver, found, key)


async def marked(
    saver: Saver, graph: Graph, config: RunnableConfig, *, anywhere: bool, run_id: str | None = None
) -> Mark:
    """`anywhere`: every checkpoint may be written to, not only the newest of each graph. For a run that was marked
    before, by another process, it is the same mark; a saver that is not ours does not keep it, and of the writes to
    what was there before tells only how they are now."""
    key = config["configurable"]["thread_id"]
    if isinstance(saver, DurableSaver):
        before = await saver.abefore(key, anywhere=anywhere, run_id=run_id)
        return Mark(newest=before.newest, writes=before.writes, anywhere=before.anywhere)
    now = await graph.aget_state(config)
    if not now.next and not anywhere and (now.metadata or {}).get("run_id") != run_id:
        return Mark(newest=now.config["configurable"].get("checkpoint_id", ""))
    found = await _oldest_first(saver, key)
    own = [each.checkpoint["id"] for each in found if run_id is not None and each.metadata.get("run_id") == run_id]
    old = [each for each in found if not own or each.checkpoint["id"] < own[0]]
    kept = tuple((*_place(each), each.pending_writes) for each in old)
    return Mark(newest=max((each.checkpoint["id"] for each in old), default=""), writes=kept)


async def rewound(saver: Saver, key: str, mark: Mark) -> None:
    """A saver that is not ours is emptied and filled again, since none can delete a single checkpoint."""
    if isinstance(saver, DurableSaver):
        await saver.arewind(key, before_of(mark))
        return
    before = {(ns, id): writes for ns, id, writes in mark.writes}
    found = await _oldest_first(saver, key)
    await saver.adelete_thread(key)
    for each in found:
        if each.checkpoint["id"] <= mark.newest:
            writes = before.get(_place(each), each.pending_writes)
            await put(saver, each._replace(pending_writes=writes), key)


def before_of(mark: Mark) -> Before:
    """What the mark of a `DurableSaver`'s thread says."""
    return Before(mark.newest, tuple(Written(*write) for write in mark.writes), mark.anywhere)


async def _oldest_first(saver: Saver, key: str) -> list[CheckpointTuple]:
    found = [each async for each in saver.alist({"configurable": {"thread_id": key}})]
    return sorted(found, key=lambda each: each.checkpoint["id"])


def _place(found: CheckpointTuple) -> tuple[str, str]:
    return found.config["configurable"]["checkpoint_ns"], found.checkpoint["id"]
