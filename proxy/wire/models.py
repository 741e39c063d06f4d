"""The list of models: OpenAI's `Model`, with what ours can do beside it."""

from __future__ import annotations

from msgspec import Struct


class Capabilities(Struct, frozen=True, kw_only=True):
    """`streaming` and `tools` say what the model takes; with `history: last` it remembers a lasting thread itself."""

    streaming: bool
    tools: bool
    history: str
    model_override: bool


class ModelCard(Struct, frozen=True, kw_only=True):
    """One name that a client may ask for; `agent` is who answers to it, `created` in seconds since 1970."""

    id: str
    object: str = "model"
    created: int
    owned_by: str
    description: str
    agent: str
    adapter: str
    capabilities: Capabilities


class ModelList(Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: tuple[ModelCard, ...]
