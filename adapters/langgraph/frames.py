"""Turns what a graph streams into native frames, as the official server would send them. No I/O.

A frame's `mode` is the name of its event: `messages-tuple` is sent as `messages`, and `messages` in three parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from langchain_core.messages import AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.runnables import RunnableConfig
from msgspec import Raw

from adapters.langgraph.encode import encoded, raw
from proxy.adapter import RunInput
from proxy.events import Event, Frame

Path = tuple[str, ...]
PLAIN = frozenset({"values", "updates", "custom", "tasks"})
ADDRESSED = frozenset({"checkpoints", "events"})
"""Modes whose frames say where state is kept."""
ADDRESS = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")
Handler = Callable[[Path, Any], Iterable[Frame]]


class Frames:
    """For one run."""

    def __init__(self, run: RunInput) -> None:
        self._hidden = b'"thread_id":' + encoded(run.thread_key)
        self._shown = b'"thread_id":' + encoded(run.thread_id)
        self._about: dict[int, tuple[Any, bytes]] = {}
        self._partial: dict[str, BaseMessage] = {}
        self._modes: dict[str, Handler] = {mode: self._whole(mode, encoded) for mode in run.modes & PLAIN}
        self._modes.update((mode, self._whole(mode, self._encoded)) for mode in run.modes & ADDRESSED)
        if "debug" in run.modes:
            self._modes["debug"] = self._debug
        if "messages-tuple" in run.modes:
            self._modes["messages"] = self._tuple
        elif "messages" in run.modes:
            self._modes["messages"] = self._message

    def feed(self, ns: Path, mode: str, payload: Any) -> Iterable[Event]:
        """The frames of one part of the stream; none for a mode that was not asked for."""
        handle = self._modes.get(mode)
        return () if handle is None else handle(ns, payload)

    def _whole(self, mode: str, encode: Callable[[Any], bytes]) -> Handler:
        def handle(ns: Path, payload: Any) -> tuple[Frame]:
            return (Frame(mode=mode, data=Raw(encode(payload)), ns=ns),)

        return handle

    def _debug(self, ns: Path, part: dict[str, Any]) -> tuple[Frame]:
        if part["type"] == "checkpoint":
            payload = part["payload"]
            shown = {
                "tasks": [_addressed(task) for task in payload["tasks"]],
                "checkpoint": _address(payload["config"]),
                "parent_checkpoint": _address(payload["parent_config"]),
            }
            part = {**part, "payload": {**payload, **shown}}
        return (Frame(mode="debug", data=Raw(self._encoded(part)), ns=ns),)

    def _tuple(self, ns: Path, payload: tuple[BaseMessage, dict[str, Any]]) -> tuple[Frame]:
        message, about = payload
        data = b"".join((b"[", encoded(message), b",", self._described(about), b"]"))
        return (Frame(mode="messages", data=Raw(data), ns=ns),)

    def _message(self, ns: Path, payload: tuple[BaseMessage, dict[str, Any]]) -> Iterator[Frame]:
        """This mode never tells which sub-graph a message comes from."""
        message, about = payload
        id = message.id or ""
        before = self._partial.get(id)
        if before is None:
            data = b"".join((b"{", encoded(id), b':{"metadata":', self._described(about), b"}}"))
            yield Frame(mode="messages/metadata", data=Raw(data))
        kind = "partial" if isinstance(message, AIMessageChunk) else "complete"
        if isinstance(before, AIMessageChunk) and isinstance(message, AIMessageChunk):
            message = before + message
        self._partial[id] = message
        yield Frame(mode=f"messages/{kind}", data=raw([message_chunk_to_message(message)]))

    def _described(self, about: dict[str, Any]) -> bytes:
        """The metadata of a message: one object for all its chunks."""
        known = self._about.get(id(about))
        if known is None:
            known = self._about[id(about)] = (about, self._encoded(about))
        return known[1]

    def _encoded(self, value: Any) -> bytes:
        """What the framework itself tells names the thread as its state is kept, not as the caller knows it."""
        return encoded(value).replace(self._hidden, self._shown)


def _address(config: RunnableConfig | None) -> dict[str, Any] | None:
    if config is None:
        return None
    place = config["configurable"]
    return {key: place[key] for key in ADDRESS if key in place}


def _addressed(task: dict[str, Any]) -> dict[str, Any]:
    """Debug frames show where a sub-graph's state is under another name."""
    if not task["state"]:
        return task
    return {**{key: value for key, value in task.items() if key != "state"}, "checkpoint": _address(task["state"])}
