"""A chat request, understood: decoded, checked, its agent found, and worded as an order for a run."""

from __future__ import annotations

import hashlib
import time

import msgspec
from msgspec import Raw

from proxy.adapter import RunInput
from proxy.api.auth import Caller
from proxy.api.options import Headers, Options, choices_of, options_of
from proxy.api.parse import decode
from proxy.errors import BadRequest
from proxy.messages import Message, Part
from proxy.model import Idempotency, Thread, new_id
from proxy.runs.agents import Agents, Published
from proxy.runs.assistants import system_id
from proxy.runs.order import Order
from proxy.runs.turns import Turn
from proxy.settings import Chat, RequestLimits
from proxy.wire.chat_request import CONSUMED, ChatRequest

MOST_CHOICES = 8
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
PARTS = frozenset({"text", "refusal", "image_url", "input_audio", "file"})
TOOL_FIELDS = frozenset({"tools", "tool_choice", "parallel_tool_calls"})
WITHOUT_TOOLS = CONSUMED | TOOL_FIELDS
_request = msgspec.json.Decoder(ChatRequest)
_fields = msgspec.json.Decoder(dict[str, Raw])


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request, understood."""

    request: ChatRequest
    fields: dict[str, Raw]
    options: Options
    published: Published
    caller: Caller
    headers: Headers
    fingerprint: str

    @property
    def takes_tools(self) -> bool:
        return self.published.agent.client_tools != "ignore"


class Reader:
    """Reads requests under the limits and defaults of this server."""

    def __init__(self, agents: Agents, chat: Chat, limits: RequestLimits) -> None:
        self._agents = agents
        self._chat = chat
        self._limits = limits

    async def read(self, headers: Headers, body: bytes, caller: Caller) -> Asked:
        """Raises `BadRequest` naming the field, `UnknownAgent`, or `UpstreamError` if a catalogue cannot be read."""
        request = decode(body, _request, self._limits)
        return await self.understand(request, _fields.decode(body), headers=headers, body=body, caller=caller)

    async def understand(
        self, request: ChatRequest, fields: dict[str, Raw], *, headers: Headers, body: bytes, caller: Caller
    ) -> Asked:
        """Check a request, in whatever dialect it came, and find out what it means. `fields` are those as sent.

        Raises as `read` does.
        """
        check(request, self._limits)
        published = await self._agents.find(request.model)
        agent = published.agent
        if request.stream and not agent.settings.streaming:
            raise BadRequest(f"The model `{agent.name}` does not stream; leave out `stream`.", param="stream")
        options = options_of(request, headers, agent, self._chat, self._limits)
        several = (request.n or 1) > 1
        if several and (options.thread_id or (request.tools and agent.client_tools != "ignore")):
            raise BadRequest("`n` above 1 goes neither with a thread nor with tools.", param="n")
        return Asked(
            request=request,
            fields=fields,
            options=options,
            published=published,
            caller=caller,
            headers=headers,
            fingerprint=hashlib.sha256(body).hexdigest() if headers.get(b"idempotency-key") else "",
        )

    def order(self, asked: Asked, turn: Turn, *, group: str | None = None, number: int = 0) -> Order:
        """The run that the request asks for; with a group, run `number` of it."""
        request, options, published = asked.request, asked.options, asked.published
        choices = choices_of(request, options, asked.headers, asked.caller, self._chat)
        key = asked.headers.get(b"idempotency-key")
        run_id = new_id()
        return Order(
            input=RunInput(
                run_id=run_id,
                thread_id=turn.thread_id or run_id,
                agent=published.agent.name,
                tenant=asked.caller.tenant,
                messages=turn.messages,
                tools=request.tools or () if asked.takes_tools else (),
                params=_params(asked),
                answer=turn.answer,
                metadata=choices.metadata,
                user=choices.user,
                headers=choices.headers,
                context=choices.context,
                model=options.model or (published.model.id if published.model else None),
                max_steps=options.max_steps,
                fresh=turn.fresh,
                temporary=turn.temporary,
                first_byte=options.first_byte if request.stream else None,
            ),
            choices=choices,
            pause=turn.pause,
            thread=None if turn.temporary or turn.thread_id is None else _thread(turn.thread_id, asked),
            group=group,
            idempotency=idempotency_of(key, number, asked.fingerprint) if key else None,
        )


def _thread(thread_id: str, asked: Asked) -> Thread:
    """The record of a thread that a chat client named, so that clients of the runs API find it."""
    name, now = asked.published.agent.name, time.time()
    metadata = {"graph_id": name, "assistant_id": system_id(name)}
    return Thread(thread_id=thread_id, tenant=asked.caller.tenant, created_at=now, updated_at=now, metadata=metadata)


def _params(asked: Asked) -> dict[str, Raw]:
    """What goes on to the agent: all that the proxy does not answer for, the caller's tools only if taken."""
    dropped = CONSUMED if asked.takes_tools else WITHOUT_TOOLS
    return {name: value for name, value in asked.fields.items() if name not in dropped}


def idempotency_of(key: bytes, number: int, fingerprint: str) -> Idempotency:
    """The key of run `number` of a request. Raises `BadRequest`."""
    name = key.decode("latin-1")
    if len(name) > 255:
        raise BadRequest("An idempotency key has at most 255 characters.", param="Idempotency-Key")
    return Idempotency(key=f"{name}#{number}" if number else name, fingerprint=fingerprint)


def check(request: ChatRequest, limits: RequestLimits) -> None:
    """What the types do not say. Raises `BadRequest` naming the field."""
    if not request.messages:
        raise BadRequest("`messages` must not be empty.", param="messages")
    if len(request.messages) > limits.messages:
        raise BadRequest(f"More than {limits.messages} messages.", param="messages")
    if request.n is not None and not 1 <= request.n <= MOST_CHOICES:
        raise BadRequest(f"`n` goes from 1 to {MOST_CHOICES}.", param="n")
    for i, message in enumerate(request.messages):
        check_message(message, f"messages[{i}]")


def check_message(message: Message, place: str) -> None:
    """A known role, and content of known form where one is needed."""
    if message.role not in ROLES:
        raise BadRequest(f"`{message.role[:40]}` is no role.", param=f"{place}.role")
    if message.role == "tool" and not message.tool_call_id:
        raise BadRequest("A tool message names its call.", param=f"{place}.tool_call_id")
    if message.content is None and message.role in ("system", "developer", "user", "tool"):
        raise BadRequest("The message has no content.", param=f"{place}.content")
    if isinstance(message.content, tuple):
        for i, part in enumerate(message.content):
            check_part(part, f"{place}.content[{i}]")


def check_part(part: Part, place: str) -> None:
    """Whether it has what its type promises; of an unknown type nothing but a text would reach the agent."""
    if part.type == "text" and part.text is None:
        raise BadRequest("A text part has a text.", param=f"{place}.text")
    if part.type == "image_url" and part.image_url is None:
        raise BadRequest("An image part has an image_url.", param=f"{place}.image_url")
    if part.type not in PARTS and part.text is None:
        raise BadRequest(f"Parts of type `{part.type[:40]}` are not taken.", param=f"{place}.type")
