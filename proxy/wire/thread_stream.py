"""The stream of a thread: all its runs in one, as LangGraph's clients read it.

Source: what the official server sends and what its clients read. What each run says is its own encoder's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec
from msgspec import Struct

from proxy.events import Entry, Event, Failed
from proxy.model import Run
from proxy.wire.base import SSE
from proxy.wire.langgraph import BEGINNING, OFFICIAL, Cursor, Dialect, cursor_of

json = msgspec.json.Encoder()


class Done(Struct, frozen=True, kw_only=True):
    """Closes a run in the stream of a thread."""

    status: str = "run_done"
    run_id: str


class Told(Struct, frozen=True):
    """An entry of one of a thread's runs."""

    run: Run
    entry: Entry

    @property
    def event(self) -> Event:
        return self.entry.event


class RunEncoder(Protocol):
    """As much of an encoder as the stream of a thread needs of each run's."""

    @property
    def ended(self) -> bool: ...

    def encode(self, entry: Entry) -> bytes: ...


class ThreadEncoder:
    """All runs of a thread, for as long as somebody listens; `make` gives the encoder of a run that begins.

    Ids are those of the run behind the run's own: `<run id>:<id>`; see `place_of`.
    """

    media_type = SSE

    def __init__(self, make: Callable[[Run, str], RunEncoder], dialect: Dialect = OFFICIAL) -> None:
        self._make = make
        """(run, prefix of its ids) -> encoder."""
        self.ended = False
        self._dialect = dialect
        self._encoders: dict[str, RunEncoder] = {}

    def encode(self, item: Told) -> bytes:
        run_id = item.run.run_id
        encoder = self._encoders.get(run_id)
        if encoder is None:
            encoder = self._encoders[run_id] = self._make(item.run, f"{run_id}:")
        body = encoder.encode(item.entry)
        if encoder.ended:
            del self._encoders[run_id]
            body += self._dialect.event("metadata", json.encode(Done(run_id=run_id)))
        return body

    def heartbeat(self) -> bytes:
        return self._dialect.heartbeat

    def failure(self, failed: Failed) -> bytes:
        self.ended = True
        return self._dialect.event("error", json.encode(self._dialect.problem(failed)))

    def end(self) -> bytes:
        return b""


class Place(NamedTuple):
    """Where a reader of a thread stands; without a run, at the beginning of all that is kept."""

    run_id: str | None = None
    cursor: Cursor = BEGINNING


def place_of(last_event_id: str) -> Place | None:
    """The place that a thread stream's `Last-Event-ID` stands for; None if it is none of ours."""
    run_id, _, own = last_event_id.strip().rpartition(":")
    cursor = cursor_of(own)
    if cursor is None or (not run_id and cursor != BEGINNING):
        return None
    return Place(run_id or None, cursor)
