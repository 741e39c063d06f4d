"""Counts model calls: a LangChain callback, since only that sees every call, also those that do not stream.

It hears from sync nodes in other threads; a deque takes that.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from proxy.events import Usage


class Meter(BaseCallbackHandler):
    """`spent` holds the `Usage` of model calls that have ended, for the stream to take away."""

    run_inline = True
    ignore_chat_model = True  # else every conversation is made a string, for nothing
    ignore_chain = True
    ignore_retriever = True
    ignore_agent = True

    def __init__(self) -> None:
        self.spent: deque[Usage] = deque()
        self.muted: set[str] = set()
        """Ids of messages whose model call is tagged `nostream`."""
        self._counted: list[Usage] = []

    def on_llm_end(self, response: LLMResult, **about: Any) -> None:
        for generations in response.generations:
            for generation in generations[:1]:
                if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
                    self._count(generation.message, about.get("tags") or ())

    def _count(self, message: AIMessage, tags: Any) -> None:
        usage = usage_of(message)
        self._counted.append(usage)
        self.spent.append(usage)
        if "nostream" in tags and message.id:
            self.muted.add(message.id)

    def count_foreign(self, message: AIMessage) -> None:
        """Count a message of a model that LangChain did not call; a copy of one that it did call does not count."""
        usage = usage_of(message)
        if message.usage_metadata and usage not in self._counted:
            self.spent.append(usage)


def usage_of(message: AIMessage) -> Usage:
    """The tokens of one model call; zeros where the model does not tell."""
    about = message.response_metadata
    tokens = message.usage_metadata
    model = str(about.get("model_name") or about.get("model") or "")
    if not tokens:
        return Usage(model=model)
    return Usage(
        model=model,
        input_tokens=tokens["input_tokens"],
        output_tokens=tokens["output_tokens"],
        cached_tokens=tokens.get("input_token_details", {}).get("cache_read") or 0,
        reasoning_tokens=tokens.get("output_token_details", {}).get("reasoning") or 0,
    )
