"""Where the native runs API stands, and how its two dialects differ. Nothing else knows which of them it speaks."""

from __future__ import annotations

from msgspec import Struct

from proxy.settings import Dialects, NativeDialect
from proxy.wire.langgraph import DEERFLOW, OFFICIAL, Dialect


class Mount(Struct, frozen=True, kw_only=True):
    """One dialect. Sources: LangGraph's official server, DeerFlow's gateway, and their clients."""

    prefix: str
    """Stands before all paths, and in `Content-Location`."""
    wire: Dialect
    settings: NativeDialect
    strict: bool = False
    """Fields of a run that it does not know or cannot honour are refused with 422."""
    makes_threads: bool = False
    """A run on a thread that is not there makes it, whatever `if_not_exists` says."""
    streams_joins: bool = False
    """`join` is a stream of events, as `stream` is; else the final values."""
    replays: bool = False
    """A stream that is joined without a `Last-Event-ID` begins at the oldest entry that is kept; else with what comes
    next."""
    wraps_errors: bool = True
    """A client that waits for a run which fails gets `{"__error__": ...}`, else `{"status", "error"}`."""
    waited_cancel: int = 200
    """Status of a cancel that waited for the end."""
    late_cancel: int = 404
    """Status of a cancel that came after the run had ended otherwise."""
    shows_gone: bool = False
    """A run that was rolled back can still be read, as `interrupted`."""


def mounts(dialects: Dialects) -> tuple[Mount, Mount]:
    """The root's and `/api`'s."""
    official = Mount(prefix="", wire=OFFICIAL, settings=dialects.langgraph)
    deerflow = Mount(
        prefix="/api",
        wire=DEERFLOW,
        settings=dialects.deerflow,
        strict=True,
        makes_threads=True,
        streams_joins=True,
        replays=True,
        wraps_errors=False,
        waited_cancel=204,
        late_cancel=409,
        shows_gone=True,
    )
    return official, deerflow
