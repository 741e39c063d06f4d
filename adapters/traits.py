"""What servers know of our adapters without importing them."""

from __future__ import annotations

from proxy.traits import Traits

LANGGRAPH = Traits(native=True, resumes=True, threads=True, blueprint=True, forgets=True)
OPENAI = Traits(overrides_model=True, takes_tools="pass", models=True)
