"""The states of `memory://`; see `proxy.store.native` for the contracts."""

from __future__ import annotations


class MemoryStates:
    """The part of a store that keeps states."""
