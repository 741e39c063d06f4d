"""Logging: one line per thing that happened, for people in a terminal and as JSON everywhere else.

`setup` is called once, by whoever starts the process; a module then takes its logger from
`structlog.get_logger(__name__)`. Lines of other people's libraries, which use `logging`, come out in the same
form. No configured secret ever leaves in a line, whoever wrote it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO, StringIO
from typing import Any, BinaryIO, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from proxy.settings import Key, Settings

GATHER = 0.1
"""Seconds that a line waits for others to be written with."""
_SHORTEST_SECRET = 4
"""Shorter ones would blot out half of every line."""
_SECRET_NAMES = ("key", "secret", "token", "password", "authorization")
_PASSWORDS = tuple(
    map(re.compile, (r"//[^/@:\s]*:([^/\s]*)@", r"//[^/@:\s]*:([^@\s]*)@", r"[?&]\w*password=([^&\s]*)"))
)
"""Of a URL, however badly it is written: with an `@` in it, with a slash, and among the parameters."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal obeys, but for tabs and new lines: a path or an exception may hold what a client wrote."""
_NOISY = ("httpx", "httpcore", "openai", "alembic", "asyncio", "urllib3")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def setup(settings: Settings, file: BinaryIO | None = None, *, pid: bool = False) -> None:
    """Send all log lines of this process to `file`, by default standard error. `pid`: others write there too."""
    target: BinaryIO = file or getattr(sys.stderr, "buffer", None) or BytesIO()
    level = _LEVELS[settings.log.level]
    console = settings.log.format == "console" or (settings.log.format == "auto" and target.isatty())
    # Unbuffered below: no line is half written when the process dies.
    lines = Lines(getattr(target, "raw", target))
    processors = _processors(console=console, colors=target.isatty(), secrets=tuple(secrets(settings)))
    structlog.configure(
        processors=[_with_pid, *processors] if pid else processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *names: Sink(names[0] if names else "", lines),
        cache_logger_on_first_use=True,
    )
    _route_stdlib(level, lines)


class Lines:
    """Where finished lines go. A line that cannot be written is lost; nothing else may break for it.

    On an event loop, what is no warning is written together with what else comes within `GATHER` seconds: a system
    call for each line costs more than the line. The order is kept, and `flush` is called when the process ends.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._write = file.write
        self._gathered: list[bytes] = []
        self._due = 0.0
        """When the oldest of them is written at the latest; the loop that was to do it may be gone."""
        self._writing = threading.RLock()

    def add(self, line: bytes) -> None:
        self._gathered.append(line)
        if len(self._gathered) > 1:
            if time.monotonic() > self._due:
                self.flush()
            return
        try:
            asyncio.get_running_loop().call_later(GATHER, self.flush)
            self._due = time.monotonic() + GATHER
        except RuntimeError:
            self.flush()

    def put(self, line: bytes) -> None:
        """Write it now."""
        self._gathered.append(line)
        self.flush()

    def flush(self) -> None:
        with self._writing:
            count = len(self._gathered)
            lines = b"".join(self._gathered[:count])
            del self._gathered[:count]
            try:
                self._write(lines)
            except (OSError, ValueError):
                return


class Sink:
    """What one module writes to."""

    def __init__(self, name: str, lines: Lines) -> None:
        self.name = name
        self.msg = self.log = self.debug = self.info = lines.add
        self.warning = self.warn = self.error = self.critical = self.fatal = self.exception = self.failure = lines.put


class Bridge(logging.Handler):
    """Takes the lines of `logging` over, and with them its care that all is written when the process ends."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self.flush = lines.flush  # type: ignore[method-assign]

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        logger = structlog.get_logger(record.name)
        logger.log(min(record.levelno // 10 * 10, logging.CRITICAL), text, exc_info=record.exc_info)


def secrets(settings: Settings) -> Iterator[str]:
    """All secrets that the configuration holds, in each form they may take in a line; longest first."""
    found = {secret for secret in _configured(settings) if len(secret) >= _SHORTEST_SECRET}
    found |= {json.dumps(secret, ensure_ascii=False)[1:-1] for secret in found}
    yield from sorted(found, key=len, reverse=True)


def _configured(settings: Settings) -> Iterator[str]:
    for entry in settings.server.api_keys:
        yield from (entry.key, entry.sha256) if isinstance(entry, Key) else (entry,)
    if settings.server.jwt is not None:
        yield settings.server.jwt.secret
    yield settings.webhooks.secret
    for password in _PASSWORDS:
        yield from password.findall(f"{settings.store} {settings.live}")
    for agent in settings.agents.values():
        yield from _within(agent.options, secret=False)


def _within(value: Any, *, secret: bool) -> Iterator[str]:
    """All strings in `value` that stand under a name which sounds like a secret's."""
    if isinstance(value, dict):
        for name, inner in value.items():
            sounds = any(word in str(name).lower() for word in _SECRET_NAMES)
            yield from _within(inner, secret=secret or sounds)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _within(inner, secret=secret)
    elif secret and isinstance(value, str):
        yield value


def _processors(*, console: bool, colors: bool, secrets: Sequence[str]) -> list[Processor]:
    scrub = Scrubber(secrets)
    if not console:
        return [scrub.as_json]
    # Not the pretty formatter: it would show local variables, and with them what users wrote.
    renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_traceback)

    def as_text(logger: Any, method: str, event: EventDict) -> bytes:
        tame = {name: _tamed(value) if isinstance(value, str) else value for name, value in event.items()}
        return f"{renderer(logger, method, tame)}\n".encode("utf-8", "backslashreplace")

    clock = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
    return [structlog.processors.add_log_level, structlog.stdlib.add_logger_name, clock, as_text, scrub]


def _with_pid(logger: Any, method: str, event: EventDict) -> EventDict:
    event["pid"] = os.getpid()
    return event


def _tamed(text: str) -> str:
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _traceback(file: TextIO, exc_info: ExcInfo) -> None:
    plain = StringIO()
    structlog.dev.plain_traceback(plain, exc_info)
    file.write(_tamed(plain.getvalue()))


_encoder = msgspec.json.Encoder(enc_hook=repr)


class Scrubber:
    """The last processor: blots secrets out of the finished line."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = tuple(secret.encode("utf-8", "backslashreplace") for secret in secrets)

    def __call__(self, logger: Any, method: str, line: Any) -> Any:
        for secret in self._secrets:
            if secret in line:
                line = line.replace(secret, b"***")
        return line

    def text(self, text: str) -> str:
        """The same for a text that is shown to a client."""
        scrubbed: bytes = self(None, "", text.encode("utf-8", "backslashreplace"))
        return scrubbed.decode()

    def as_json(self, logger: Any, method: str, event: EventDict) -> Any:
        """One processor instead of five, since it runs for every request."""
        event["level"] = method
        event["logger"] = logger.name
        event["at"] = datetime.now(UTC)
        if "exc_info" in event:
            event = structlog.processors.format_exc_info(logger, method, event)
        try:
            line = _encoder.encode(event)
        except (TypeError, ValueError, OverflowError):
            # Lone surrogates, numbers beyond 64 bits, keys that are no strings: the slow way takes them all.
            line = json.dumps(event, default=str, skipkeys=True).encode()
        return self(logger, method, line + b"\n")


def _route_stdlib(level: int, lines: Lines) -> None:
    root = logging.getLogger()
    root.handlers = [Bridge(lines)]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.NOTSET)
    # The gate writes the line of each request, with what this one lacks.
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("uvicorn.access").propagate = False
