"""The event protocol of LangGraph's newer clients: a thread as numbered events, and what a listener hears of them.

Source: `@langchain/protocol`, the clients of both SDKs, and what the official server sends. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from proxy.events import Failed
from proxy.model import Run
from proxy.wire.base import SSE
from proxy.wire.frames import FrameMaker
from proxy.wire.langgraph import Dialect
from proxy.wire.narrator import MADE, MADE_OF_GRAPHS, MODES, Narrator
from proxy.wire.notices import Notice, Path
from proxy.wire.thread_stream import Told

CUSTOM = "custom"
INPUT = "input.requested"
CHANNELS = frozenset({"values", "updates", "messages", "tools", "lifecycle", "input", "tasks", CUSTOM, "checkpoints"})
"""What can be listened to. Of `checkpoints` nothing is told: the official server is silent there, and the clients'
steps back and forth in a history work without it."""
_SECOND = 1_000_000

json = msgspec.json.Encoder()


class Named(Struct, frozen=True):
    """As much of custom data as says which named channel it is on."""

    name: Any = None


decode_named = msgspec.json.Decoder(Named).decode


class Params(Struct, frozen=True):
    namespace: Path
    timestamp: int
    """Milliseconds since 1970."""
    data: Raw | Struct


class Happening(Struct, frozen=True, kw_only=True, tag="event"):
    """One event, as it is sent.

    `seq` are the microseconds since 1970 when it was written, or as many more as make it grow: so it is the same for
    every listener, and grows from run to run, though nobody looks at earlier ones. It stays below 2**53 until 2255.
    """

    event_id: str
    seq: int
    method: str
    params: Params


class Trouble(Struct, frozen=True, kw_only=True, tag="error"):
    """What a listener is told that cannot be told any more."""

    id: None = None
    error: str = "unknown_error"
    message: str


class View(Struct, frozen=True, kw_only=True):
    """What a listener hears: these channels, from these places and so many levels below; none given is anywhere."""

    channels: frozenset[str]
    namespaces: tuple[Path, ...] = ()
    depth: int | None = None

    def wants(self, notice: Notice) -> bool:
        return self._hears(notice) and self._reaches(notice.ns)

    def _hears(self, notice: Notice) -> bool:
        if notice.method == INPUT:
            return "input" in self.channels
        if notice.method in self.channels:
            return True
        return notice.method == CUSTOM and isinstance(notice.data, Raw) and self._names(notice.data)

    def _names(self, custom: Raw) -> bool:
        if not any(channel.startswith("custom:") for channel in self.channels):
            return False
        try:
            return f"custom:{decode_named(custom).name}" in self.channels
        except (msgspec.ValidationError, RecursionError):
            return False

    def _reaches(self, ns: Path) -> bool:
        if not self.namespaces:
            return True
        return any(
            _begins(ns, prefix) and (self.depth is None or len(ns) - len(prefix) <= self.depth)
            for prefix in self.namespaces
        )


def _begins(ns: Path, prefix: Path) -> bool:
    """A part of the prefix without the id of a task stands for all tasks of that name."""
    return len(prefix) <= len(ns) and all(
        part == asked or (":" not in asked and part.partition(":")[0] == asked)
        for part, asked in zip(ns, prefix, strict=False)
    )


def is_channel(name: object) -> bool:
    return isinstance(name, str) and (name in CHANNELS or (name.startswith("custom:") and name != "custom:"))


class Chronicle:
    """All runs of a thread: their entries in, each run from its first, events with their numbers out."""

    def __init__(self) -> None:
        self._narrators: dict[str, Narrator] = {}
        self._last: dict[str, int] = {}

    def begin(self, run: Run, *, frames: bool, before: list[Raw]) -> None:
        """Before the first entry of a run. `frames`: its log has those of its modes; `before` are the messages that
        it starts with."""
        native = frozenset(run.choices.modes) & MODES if frames else frozenset[str]()
        modes = MADE - native
        made = FrameMaker(modes, before=before, assistant_id=run.assistant_id, subgraphs=True)
        shown = modes & MADE_OF_GRAPHS if frames else modes
        self._narrators[run.run_id] = Narrator(run, native=native, made=made, shown=shown)
        self._last[run.run_id] = 0

    def tell(self, told: Told) -> Iterator[tuple[int, Notice]]:
        """What an entry is in the protocol's words, with the numbers; see `sent`."""
        run_id, at = told.run.run_id, int(told.entry.at * _SECOND)
        for notice in self._narrators[run_id].tell(told.entry):
            seq = self._last[run_id] = max(self._last[run_id] + 1, at)
            yield seq, notice

    def end(self, run: Run) -> None:
        """No more of this run."""
        self._narrators.pop(run.run_id, None)
        self._last.pop(run.run_id, None)


def sent(told: Told, seq: int, notice: Notice) -> bytes:
    """The event as JSON. Its id is its number on the thread: the same for every listener, and after every restart."""
    params = Params(notice.ns, int(told.entry.at * 1000), notice.data)
    event_id = f"{told.run.run_id}:{seq}"
    return json.encode(Happening(event_id=event_id, seq=seq, method=notice.method, params=params))


class ProtocolStream:
    """A thread for one listener, as server-sent events. What is numbered up to `since` was heard before."""

    media_type = SSE

    def __init__(self, view: View, dialect: Dialect, *, since: int = 0) -> None:
        self.ended = False
        self.chronicle = Chronicle()
        self._view = view
        self._dialect = dialect
        self._since = since

    def encode(self, item: Told) -> bytes:
        return b"".join(
            self._dialect.event(notice.method, sent(item, seq, notice), str(seq))
            for seq, notice in self.chronicle.tell(item)
            if seq > self._since and self._view.wants(notice)
        )

    def heartbeat(self) -> bytes:
        return self._dialect.heartbeat

    def failure(self, failed: Failed) -> bytes:
        self.ended = True
        return self._dialect.event("error", json.encode(Trouble(message=failed.message)))

    def end(self) -> bytes:
        return b""
