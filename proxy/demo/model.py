"""A chat model without a model: its answers come from a function, and stream like those of a real one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult


class ScriptedChatModel(BaseChatModel):
    """Says what `reply` makes of a conversation, word by word. Tokens are counted as words."""

    reply: Callable[[list[BaseMessage]], AIMessage]
    name: str = "scripted"
    pace: float = 0.0
    """Seconds before each word."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self.reply(messages)
        last = self._last(messages, answer)
        whole = answer.model_copy(
            update={"usage_metadata": last.usage_metadata, "response_metadata": last.response_metadata}
        )
        return ChatResult(generations=[ChatGeneration(message=whole)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        answer = self.reply(messages)
        for piece in _pieces(answer):
            await asyncio.sleep(self.pace)
            yield ChatGenerationChunk(message=piece)
        yield ChatGenerationChunk(message=self._last(messages, answer))

    def _last(self, messages: list[BaseMessage], answer: AIMessage) -> AIMessageChunk:
        """The chunk that tells why the answer ends, and what it took."""
        told = sum(len(message.text.split()) for message in messages)
        said = len(answer.text.split()) + sum(len(str(call["args"]).split()) for call in answer.tool_calls)
        return AIMessageChunk(
            content="",
            usage_metadata=UsageMetadata(input_tokens=told, output_tokens=said, total_tokens=told + said),
            response_metadata={
                "finish_reason": "tool_calls" if answer.tool_calls else "stop",
                "model_name": self.name,
            },
            chunk_position="last",
        )


def _pieces(answer: AIMessage) -> Iterator[AIMessageChunk]:
    for word in re.findall(r"\s*\S+\s*", answer.text):
        yield AIMessageChunk(content=word)
    for index, call in enumerate(answer.tool_calls):
        yield _call(name=call["name"], args="", id=call["id"], index=index)
        for piece in re.findall(r"\s*\S+\s*", json.dumps(call["args"], ensure_ascii=False)):
            yield _call(name=None, args=piece, id=None, index=index)


def _call(**chunk: Any) -> AIMessageChunk:
    pieces: list[ToolCallChunk] = [tool_call_chunk(**chunk)]
    return AIMessageChunk(content="", tool_call_chunks=pieces)
