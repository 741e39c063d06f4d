"""`POST /completion`, the simple form: the same runs as chat completions, for clients without an SDK.

A conversation lasts: a request without history goes on from what the agent remembers of `conversation_id`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp
from msgspec import Raw

from proxy.api.asgi import Receive
from proxy.api.asked import Asked, Reader
from proxy.api.chat import delivery_of
from proxy.api.errors import Dialect, refusing
from proxy.api.parse import decode, read_body
from proxy.api.started import Started
from proxy.api.streaming import EventStream, WholeAnswer
from proxy.errors import BadRequest, UnknownAgent
from proxy.messages import Message
from proxy.model import new_id
from proxy.runs.agents import Agents
from proxy.runs.manager import RunManager
from proxy.runs.turns import turn_of
from proxy.settings import Settings
from proxy.wire.chat_request import ChatRequest, Extension
from proxy.wire.completion import CompletionEncoder, CompletionFold, CompletionRequest, Origin

_request = msgspec.json.Decoder(CompletionRequest)
encode = msgspec.json.Encoder().encode


def routes(manager: RunManager, settings: Settings) -> list[HTTPRouteHandler]:
    chat, limits = settings.dialects.chat, settings.server.limits
    reader = Reader(manager.agents, chat, limits)

    @post("/completion")
    async def complete(request: Request[Any, Any, Any]) -> ASGIApp:
        body = await read_body(cast(Receive, request.receive))
        said = decode(body, _request, limits)
        asked = await reader.understand(
            await worded(said, manager.agents),
            parameters(said),
            headers=dict(request.scope["headers"]),
            body=body,
            caller=request.scope["state"]["caller"],
        )
        started = await start(manager, reader, asked, remembers=not said.conversation_history)
        run = started.runs[0]
        delivery = delivery_of(asked, [run], chat, started.stop)
        refuse = refusing(Dialect.COMPLETION, request.scope["state"]["request_id"])
        origin = Origin(run_id=run.run_id, agent=asked.request.model, conversation_id=run.thread_id)
        options = asked.options
        shown = msgspec.structs.replace(options.shown, interrupts="text")
        if not said.stream:
            whole = WholeAnswer(partial(manager.attend, run), CompletionFold(origin, shown), delivery, refuse)
            return cast(ASGIApp, whole)
        wire = CompletionEncoder(origin, shown, chunk_pings=options.chunk_pings)
        stream = EventStream(partial(manager.attend, run), wire, delivery, refuse)
        return cast(ASGIApp, stream)

    return [complete]


async def worded(said: CompletionRequest, agents: Agents) -> ChatRequest:
    """The request as a chat request. Raises `BadRequest` for an empty message."""
    if not said.message:
        raise BadRequest("`message` must not be empty.", param="message")
    named = {"project_id": said.project_id, "sources": said.sources}
    context = {name: value for name, value in named.items() if value is not None}
    return ChatRequest(
        model=said.agent or said.model or await first(agents),
        messages=(*(said.conversation_history or ()), Message(role="user", content=said.message)),
        stream=said.stream,
        temperature=said.temperature,
        max_tokens=said.max_tokens,
        metadata=context,
        runwire=Extension(
            thread_id=said.conversation_id,
            context=context or None,
            model=said.model if said.agent and said.model != said.agent else None,
        ),
    )


async def first(agents: Agents) -> str:
    """Who answers if nobody is named: the first agent of the config."""
    for published in await agents.published():
        return published.id
    raise UnknownAgent("This server has no agent.", param="agent")


def parameters(said: CompletionRequest) -> dict[str, Raw]:
    """What goes on to the agent as it is."""
    given = {"temperature": said.temperature, "max_tokens": said.max_tokens}
    return {name: Raw(encode(value)) for name, value in given.items() if value is not None}


async def start(manager: RunManager, reader: Reader, asked: Asked, *, remembers: bool) -> Started:
    """Make the run, on a thread that lasts; with `remembers`, the agent goes on from that thread's state."""
    agent, tenant = asked.published.agent, asked.caller.tenant
    turn = await turn_of(manager, agent, tenant, asked.options.thread_id or new_id(), asked.request.messages)
    if remembers:
        turn = msgspec.structs.replace(turn, fresh=False)
    started = Started(manager)
    await started.add(reader.order(asked, turn))
    return started
