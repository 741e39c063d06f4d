"""The crons of a SQL store; see `proxy.store.native` for the contracts."""

from __future__ import annotations

from proxy.store.engine import Reader
from proxy.store.writer import Writer


class SqlCrons:
    """The part of a store that keeps crons."""

    _reader: Reader
    _writer: Writer
