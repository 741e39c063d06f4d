"""The source as an agent: a plain function, which the floor calls too, and a LangGraph graph over a fake model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

from bench.spec import Reporter, read

reporter = Reporter()


async def answer(asked: Any) -> AsyncGenerator[str]:
    """What the message asks for; `asked` is its text, or the request that it came with."""
    spec = read(asked if isinstance(asked, str) else asked.text)
    began = time.monotonic()
    try:
        for number in range(spec.tokens):
            wait = began + number / spec.rate - time.monotonic() if spec.rate else 0.0
            await asyncio.sleep(max(wait, 0.0))
            yield spec.token(number)
            if number == 0 and spec.silence:
                await asyncio.sleep(spec.silence)
    finally:
        reporter.ended(spec)


def graph() -> Any:
    """A graph of one node, which asks a model that streams the source."""
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.messages import AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk, ChatResult
    from langgraph.graph import END, START, MessagesState, StateGraph

    class Model(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "bench"

        def _generate(self, *_: Any, **__: Any) -> ChatResult:
            raise NotImplementedError

        async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **_: Any) -> Any:
            async for token in answer(messages[-1].content):
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=token))
                if run_manager:
                    await run_manager.on_llm_new_token(token, chunk=chunk)
                yield chunk

    model = Model()

    async def call(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    built = StateGraph(MessagesState)
    built.add_node("call", call)
    built.add_edge(START, "call")
    built.add_edge("call", END)
    return built.compile()
