"""The assistants of a SQL store; see `proxy.store.native` for the contracts."""

from __future__ import annotations

from proxy.store.engine import Reader
from proxy.store.writer import Writer


class SqlAssistants:
    """The part of a store that keeps assistants."""

    _reader: Reader
    _writer: Writer
