"""The crons of `memory://`; see `proxy.store.native` for the contracts."""

from __future__ import annotations


class MemoryCrons:
    """The part of a store that keeps crons."""
