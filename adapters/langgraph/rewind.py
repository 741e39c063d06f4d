"""Copies a thread's checkpoints, thins them out, and takes back those of a run: by SQL in our own file, else by the
saver's own means.

Checkpoint ids grow with time, so all that a run makes comes after the newest id that was there before. What it writes
to older checkpoints, answers to their questions above all, is put back as it was.
"""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from adapters.langgraph.checkpoints import Saver, put
from adapters.langgraph.durable import DurableSaver
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


async def marked(saver: Saver, graph: Graph, config: RunnableConfig, *, anywhere: bool) -> Mark:
    """`anywhere`: every checkpoint may be written to, not only the newest of each graph."""
    key = config["configurable"]["thread_id"]
    if isinstance(saver, DurableSaver):
        newest, rows = await saver.aopen_writes(key, anywhere=anywhere)
        return Mark(newest=newest, writes=rows, anywhere=anywhere)
    now = await graph.aget_state(config)
    if not now.next and not anywhere:
        return Mark(newest=now.config["configurable"].get("checkpoint_id", ""))
    found = await _oldest_first(saver, key)
    kept = tuple((*_place(each), each.pending_writes) for each in found)
    return Mark(newest=max((each.checkpoint["id"] for each in found), default=""), writes=kept)


async def rewound(saver: Saver, key: str, mark: Mark) -> None:
    """A saver that is not ours is emptied and filled again, since none can delete a single checkpoint."""
    if isinstance(saver, DurableSaver):
        await saver.arewind(key, mark.newest, mark.writes, anywhere=mark.anywhere)
        return
    before = {(ns, id): writes for ns, id, writes in mark.writes}
    found = await _oldest_first(saver, key)
    await saver.adelete_thread(key)
    for each in found:
        if each.checkpoint["id"] <= mark.newest:
            writes = before.get(_place(each), each.pending_writes)
            await put(saver, each._replace(pending_writes=writes), key)


async def _oldest_first(saver: Saver, key: str) -> list[CheckpointTuple]:
    found = [each async for each in saver.alist({"configurable": {"thread_id": key}})]
    return sorted(found, key=lambda each: each.checkpoint["id"])


def _place(found: CheckpointTuple) -> tuple[str, str]:
    return found.config["configurable"]["checkpoint_ns"], found.checkpoint["id"]
