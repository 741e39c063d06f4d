"""The assistants of `memory://`; see `proxy.store.native` for the contracts."""

from __future__ import annotations


class MemoryAssistants:
    """The part of a store that keeps assistants."""
