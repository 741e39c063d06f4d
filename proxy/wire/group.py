"""Several runs in one chat answer: choices by index, interleaved in a stream, one usage, one end."""

from __future__ import annotations

import msgspec

from proxy.events import Entry, Event, Failed
from proxy.transcript import total
from proxy.wire.chat import ChatEncoder, Head
from proxy.wire.chat_answer import ChatFold, completion


class Tagged(msgspec.Struct, frozen=True):
    """An entry of the run that is number `index` of its group."""

    index: int
    entry: Entry

    @property
    def event(self) -> Event:
        return self.entry.event


class GroupEncoder:
    """One encoder a choice. The stream ends with the last choice, or with the first that fails."""

    def __init__(self, encoders: list[ChatEncoder], *, include_usage: bool) -> None:
        self.media_type = encoders[0].media_type
        self.ended = False
        self._encoders = encoders
        self._include_usage = include_usage

    def encode(self, item: Tagged) -> bytes:
        if self.ended:
            return b""
        encoder = self._encoders[item.index]
        body = encoder.encode(item.entry)
        if isinstance(item.event, Failed):
            self.ended = True
        elif encoder.ended and all(other.ended for other in self._encoders):
            self.ended = True
            if self._include_usage:
                body += encoder.usage_chunk(total(other.usage for other in self._encoders))
        return body

    def heartbeat(self) -> bytes:
        """The heartbeat of a choice that goes on."""
        return next((one for one in self._encoders if not one.ended), self._encoders[0]).heartbeat()

    def failure(self, failed: Failed) -> bytes:
        self.ended = True
        return self._encoders[0].failure(failed)

    def end(self) -> bytes:
        return self._encoders[0].end()


class GroupFold:
    """One fold a choice."""

    def __init__(self, head: Head, folds: list[ChatFold]) -> None:
        self.failed: Failed | None = None
        self._head = head
        self._folds = folds

    def feed(self, item: Tagged) -> None:
        fold = self._folds[item.index]
        fold.feed(item.entry)
        self.failed = self.failed or fold.failed

    def answer(self) -> bytes:
        return completion(self._head, self._folds)
