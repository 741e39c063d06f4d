"""What the bodies of LangGraph's API share. Fields that a body does not know are ignored, as on the official server."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Name = Annotated[str, Meta(min_length=1)]
Limit = Annotated[int, Meta(ge=1, le=1000)]
Offset = Annotated[int, Meta(ge=0, lt=1 << 53)]
Order = Literal["asc", "desc"]
IfExists = Literal["raise", "do_nothing"]


class Body(Struct, frozen=True, kw_only=True):
    """Base of all bodies."""


class Config(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run is to be run; `configurable` is the agent's own."""

    tags: tuple[str, ...] = ()
    recursion_limit: Annotated[int, Meta(ge=1)] | None = None
    max_concurrency: Annotated[int, Meta(ge=1)] | None = None
    run_name: str | None = None
    metadata: dict[str, Any] | None = None
    configurable: dict[str, Any] | None = None


class CheckpointRef(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A checkpoint that a caller names; without an id, the newest."""

    thread_id: str | None = None
    checkpoint_ns: str | None = None
    checkpoint_id: str | None = None
    checkpoint_map: dict[str, Any] | None = None
