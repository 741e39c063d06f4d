"""The writing end of a workflow run's log: what was decided together is stored together, and then seen."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from msgspec import Raw, Struct
from msgspec.structs import replace

import proxy.wire.workflow as wire
from proxy.errors import LeaseLost, Unavailable
from proxy.store.workflow import Advance, WorkflowStore
from proxy.wire.workflow_parts import Artifact, Info
from proxy.workflow_model import Said, WorkflowEvent, WorkflowRun
from proxy.workflows.values import digest

logger = structlog.get_logger(__name__)

SHORTEST_WAIT = 0.1
LONGEST_WAIT = 2.0
"""Seconds between two attempts to write, while the store is away."""


class Overtaken(Exception):
    """Somebody else has written to this log, or the run is gone."""


class Written(Struct, frozen=True):
    """An event that is to be stored; `at` in seconds since 1970."""

    event: wire.Event
    at: float
    content: bytes | None = None


def event_of(run_id: str, seq: int, written: Written) -> WorkflowEvent:
    """An event as it is stored."""
    body = wire.envelope(written.event, run_id=run_id, seq=seq, at=written.at)
    kind = str(written.event.__struct_config__.tag)
    return WorkflowEvent(seq=seq, type=kind, body=body, content=written.content)


def joined(before: wire.Event, event: wire.Event) -> wire.Event | None:
    """Two pieces of the same text as one; None if they are none."""
    if not (isinstance(before, wire.NodeOutputDelta) and isinstance(event, wire.NodeOutputDelta)):
        return None
    first, second = before.delta, event.delta
    if before.node_id != event.node_id or first.response_id != second.response_id:
        return None
    if first.kind != "message_delta" or second.kind != "message_delta":
        return None
    return replace(before, delta=replace(first, text_delta=f"{first.text_delta}{second.text_delta}"))


def artifact(key: str, json: bytes) -> Artifact:
    """A payload that stands elsewhere."""
    found = digest(json)
    return Artifact(artifact_key=key, info=Info(bytes=found.bytes, sha256=found.sha256))


class Ledger:
    """The log of one run, whose only writer it is."""

    def __init__(self, store: WorkflowStore, run: WorkflowRun) -> None:
        self._store = store
        self.run = run
        self._written: list[Written] = []
        self._outputs: dict[str, bytes] = {}
        self._says: Said | None = None

    @property
    def dirty(self) -> bool:
        return bool(self._written or self._outputs)

    @property
    def light(self) -> bool:
        """There is nothing to write but pieces of text."""
        return not self._outputs and all(isinstance(each.event, wire.NodeOutputDelta) for each in self._written)

    def add(self, event: wire.Event, content: bytes | None = None) -> None:
        whole = joined(self._written[-1].event, event) if self._written else None
        if whole is not None:
            self._written[-1] = replace(self._written[-1], event=whole)
        else:
            self._written.append(Written(event, time.time(), content))

    def keep(self, name: str, json: bytes) -> None:
        """The value of a node."""
        self._outputs[name] = json

    def say(self, content: Raw) -> None:
        """What goes into the session of the run, if it has one."""
        if self.run.session_id is not None:
            self._says = Said(role="assistant", content=content, run_id=self.run.run_id, at=time.time())

    async def flush(self, state: bytes | None = None, **fields: Any) -> None:
        """Store all that was added, however long the store is away; `fields` are those of the record that change.

        Raises `Overtaken`."""
        run = self.run
        change = Advance(
            run=replace(run, updated_at=time.time(), **fields),
            events=tuple(event_of(run.run_id, seq, each) for seq, each in enumerate(self._written, run.last_seq + 1)),
            state=state,
            outputs=self._outputs,
            says=self._says,
        )
        self._written, self._outputs, self._says = [], {}, None
        self.run = await self._stored(change)

    async def _stored(self, change: Advance) -> WorkflowRun:
        wait = SHORTEST_WAIT
        doubtful = False
        while True:
            try:
                stored = await self._store.advance(change)
                if stored is None and doubtful:
                    stored = await self._known(change)
            except LeaseLost:
                raise Overtaken from None
            except Unavailable as error:
                logger.warning("a workflow run could not be stored yet", run_id=self.run.run_id, error=error.code)
                doubtful = True
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                if stored is None:
                    raise Overtaken
                return stored

    async def _known(self, change: Advance) -> WorkflowRun | None:
        """The record, if an attempt that seemed to fail has written this change after all."""
        known = await self._store.get_workflow(change.run.tenant, change.run.run_id)
        if known is None or (known.last_seq, known.owner) != (change.last_seq, change.run.owner):
            return None
        return known
