"""The models as the workflow dialect lists them. Source: the OpenAPI document and the SDKs of ModelRelay.

Clients want every field; 0 and "" stand for what is not known.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from proxy.settings import Price

PROVIDER = "openai"
"""The dialect's clients know four providers; of these the wire that all our agents speak is nearest."""
Capability = Literal["tools"]


class CatalogueModel(Struct, frozen=True, kw_only=True):
    model_id: str
    provider: str = PROVIDER
    display_name: str
    description: str
    capabilities: list[Capability]
    context_window: int = 0
    max_output_tokens: int = 0
    training_cutoff: str = ""
    deprecated: bool = False
    deprecation_message: str = ""
    input_cost_per_million_cents: int = 0
    output_cost_per_million_cents: int = 0


class Catalogue(Struct, frozen=True, kw_only=True):
    models: list[CatalogueModel]


def entry(name: str, description: str, price: Price, *, tools: bool) -> CatalogueModel:
    """`tools`: it takes the tools of its caller."""
    return CatalogueModel(
        model_id=name,
        display_name=name,
        description=description,
        capabilities=["tools"] if tools else [],
        input_cost_per_million_cents=round(price.input * 100),
        output_cost_per_million_cents=round(price.output * 100),
    )
