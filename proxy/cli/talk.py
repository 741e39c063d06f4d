"""One conversation with an agent through the `openai` SDK, which takes a while to import: import this when needed."""

from __future__ import annotations

import uuid
from collections.abc import Generator

import click
import openai
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from proxy.errors import ProxyError


class Talk:
    """The messages so far. They are on one thread, so that an agent that asks something gets its answer."""

    def __init__(self, base_url: str, api_key: str, agent: str, *, usage: bool) -> None:
        self.agent = agent
        self.usage = ""
        """What the last answer took, if that was asked for."""
        self._count = usage
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
        self._messages: list[ChatCompletionMessageParam] = []
        self._choices = {"thread_id": str(uuid.uuid4()), "on_disconnect": "cancel"}

    def greet(self) -> None:
        """Raises `ProxyError` if the server or the agent is not there."""
        try:
            self._client.models.retrieve(self.agent)
        except openai.OpenAIError as error:
            raise ProxyError(self._told(error)) from error

    def say(self, message: str) -> Generator[str]:
        """The answer, piece by piece; closing the generator cancels the run. Raises `ProxyError`.

        What was answered, even if stopped half way, is part of the conversation; a message that got no answer is not.
        """
        self.usage = ""
        asked: ChatCompletionMessageParam = {"role": "user", "content": message}
        answer: list[str] = []
        try:
            with self._client.chat.completions.create(
                model=self.agent,
                messages=[*self._messages, asked],
                stream=True,
                stream_options={"include_usage": self._count},
                extra_body={"runwire": self._choices},
            ) as stream:
                for chunk in stream:
                    yield from self._shown(chunk, answer)
        except openai.OpenAIError as error:
            raise ProxyError(self._told(error)) from error
        finally:
            if answer:
                self._messages += [asked, {"role": "assistant", "content": "".join(answer)}]

    def _shown(self, chunk: ChatCompletionChunk, answer: list[str]) -> Generator[str]:
        if chunk.usage is not None:
            self.usage = f"{chunk.usage.prompt_tokens} tokens in, {chunk.usage.completion_tokens} out"
        for choice in chunk.choices:
            if thought := (choice.delta.model_extra or {}).get("reasoning_content"):
                yield click.style(thought, dim=True)
            if choice.delta.content:
                answer.append(choice.delta.content)
                yield choice.delta.content

    def _told(self, error: openai.OpenAIError) -> str:
        if isinstance(error, openai.APIConnectionError):
            return f"no server answers at {self._client.base_url}"
        if isinstance(error, openai.APIStatusError) and isinstance(error.body, dict):
            return str(error.body.get("message", error.message))
        return str(error)
