"""The answer to a client that waits for a run on LangGraph's wire: its last values, what it asks, or why it failed."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from proxy.events import Entry, Failed, Frame, Paused
from proxy.transcript import class_of
from proxy.wire.frames import FrameMaker, questions
from proxy.wire.langgraph import Problem

EMPTY = b"{}"


class Broken(Struct, frozen=True, rename={"error": "__error__"}):
    """Stands where values would: clients raise on it."""

    error: Problem


class Failure(Struct, frozen=True):
    """DeerFlow's form of the same."""

    status: str
    error: str


class ValuesFold:
    """The last `values` of a run: those in its log, or with `made` those made from what it said.

    An interrupted run's hold what it asks under `__interrupt__`. A failure is told as clients of the official server
    expect it, or with `wraps_errors` off as DeerFlow's do.
    """

    failed: Failed | None = None
    """Stays None: on this wire a failure is an answer."""

    def __init__(self, made: FrameMaker | None = None, *, wraps_errors: bool = True) -> None:
        self._made = made
        self._broken = broken if wraps_errors else failure
        self._values = EMPTY

    def feed(self, entry: Entry) -> None:
        event = entry.event
        if isinstance(event, Failed):
            self._values = self._broken(event)
        frames = [event] if isinstance(event, Frame) else []
        if self._made is not None:
            frames = self._made.frames(event)
        for frame in frames:
            if frame.mode == "values" and not frame.ns:
                self._values = bytes(frame.data)
        if isinstance(event, Paused) and len(event.interrupts) > 1:
            self._values = asking(self._values, event)

    def answer(self) -> bytes:
        return self._values


def asking(values: bytes, paused: Paused) -> bytes:
    """These values with all that is asked: each of their frames holds one question."""
    known = msgspec.json.decode(values, type=dict[str, Raw]) if values.startswith(b"{") else {}
    known["__interrupt__"] = Raw(msgspec.json.encode(questions(paused.interrupts)))
    return msgspec.json.encode(known)


def broken(failed: Failed) -> bytes:
    return msgspec.json.encode(Broken(Problem(class_of(failed), failed.message)))


def failure(failed: Failed) -> bytes:
    return msgspec.json.encode(Failure("timeout" if failed.code == "run_timeout" else "error", failed.message))
