"""Notices when something blocks the event loop, and says where: a synchronous call in an asynchronous agent, say.

The loop leaves a mark at every beat; a thread looks at the marks and, when they stop, at the loop's stack.
Only the composition root starts one.
"""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import threading
import time
import traceback
from types import TracebackType
from typing import Self

import structlog

_BEATS = 4
"""Marks per limit: a block is noticed a quarter late at most."""
_FRAMES = 12
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))

logger = structlog.get_logger(__name__)


class Watchdog:
    """While entered, in a running loop, logs each time the loop is blocked for more than `limit` seconds."""

    def __init__(self, limit: float = 0.2) -> None:
        self._limit = limit
        self._beat = limit / _BEATS
        self._marked = time.monotonic()
        self._reported = False
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._marked = time.monotonic()
        self._timer = self._loop.call_later(self._beat, self._mark)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._stop.set()
        self._thread.join()

    def _mark(self) -> None:
        now = time.monotonic()
        late = now - self._marked - self._beat
        self._marked = now
        if self._reported:
            self._reported = False
            logger.warning("event loop runs again", blocked_ms=round(late * 1000))
        elif late > self._limit:
            # The watching thread was held up too, so nobody saw where.
            logger.warning(
                "event loop was blocked", place="native code, or a standstill", blocked_ms=round(late * 1000)
            )
        self._timer = self._loop.call_later(self._beat, self._mark)

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._stop.wait(self._beat):
            now = time.monotonic()
            # A thread that overslept says that the whole machine, or process, stood still: that is no block.
            awake = now - looked < self._limit / 2
            looked = now
            if awake and not self._reported and now - self._marked > self._limit:
                self._reported = True
                self._report()

    def _report(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        if frame is None:
            return
        stack = traceback.extract_stack(frame)
        own = [line for line in stack if not line.filename.startswith((*_LIBRARIES, "<"))]
        place = own[-1] if own else stack[-1]
        logger.warning(
            "event loop is blocked", place=_worded(place), frames=[_worded(line) for line in reversed(stack[-_FRAMES:])]
        )


def _worded(line: traceback.FrameSummary) -> str:
    return f"{line.filename}:{line.lineno} {line.name}"
