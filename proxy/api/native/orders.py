"""A request for a run, worded as an order: its assistant found, its thread, what it answers, and what it chose."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.adapter import Checkpoint, Command, Goto, Native, RunInput, ThreadName
from proxy.api.asked import idempotency_of
from proxy.api.auth import Caller
from proxy.api.native.answers import Resumed, resumed
from proxy.api.native.honoured import check_honoured
from proxy.api.native.ids import checked_id
from proxy.api.native.mounts import Mount
from proxy.api.native.rooms import Rooms
from proxy.api.options import Headers
from proxy.api.params import ID
from proxy.errors import BadRequest, NotFound
from proxy.events import NULL
from proxy.model import Assistant, Choices, Thread, new_id
from proxy.runs.agents import Agent
from proxy.runs.manager import RunQuery
from proxy.runs.order import Order
from proxy.wire import runs_body
from proxy.wire.asked import CheckpointRef, Config
from proxy.wire.runs_body import RunCreate, Send

RESERVED = ("__", "checkpoint", "langgraph_auth")
"""How keys of `configurable` begin that steer the framework, or say who calls."""
OWN = frozenset({"thread_id", "run_id", "assistant_id", "graph_id"})
"""Keys of `configurable` that the server sets itself."""


class Asked(Struct, frozen=True, kw_only=True):
    """One request for a run, as it came."""

    body: RunCreate
    caller: Caller
    headers: Headers
    fingerprint: str = ""
    """Of path and body, where the request has an idempotency key."""
    thread_id: str | None = None
    """From the path; None for a run without a thread."""
    number: int = 0
    """Of the run among those that the request asks for."""

    @property
    def key(self) -> bytes | None:
        return self.headers.get(b"idempotency-key") or None


class Place(Struct, frozen=True, kw_only=True):
    """Where a run takes place."""

    thread_id: str
    temporary: bool = False


class ResolvedAssistant(Struct, frozen=True, kw_only=True):
    """Who does a run: the assistant that was named, its agent, and their settings with those of the request."""

    agent: Agent
    assistant: Assistant
    tags: tuple[str, ...]
    max_steps: int | None
    context: dict[str, Any]
    """What the agent's code gets to see, as its context and as `configurable` alike."""
    metadata: dict[str, Any]


class Orders:
    """Words the requests that come to one mount."""

    def __init__(self, mount: Mount, rooms: Rooms) -> None:
        self._mount = mount
        self._rooms = rooms

    async def order(self, asked: Asked, *, values: bool = False, background: bool = False) -> Order:
        """`values`: the run's log must show its values, whatever modes were asked for. `background`: nobody waits for
        the run at once.

        Raises `Unprocessable` for what cannot be honoured, `NotFound`, `NotWaiting`, `Conflict`, and `BadRequest`.
        """
        body = asked.body
        resolved = await self._resolve(asked)
        check_honoured(body, resolved.agent)
        if body.webhook is not None:
            self._rooms.webhooks.check(body.webhook)
        place = await self._place(asked)
        resumption = await self._resumption(asked, resolved.agent, place)
        modes = body.modes | {"values"} if values else body.modes
        choices = self._choices(asked, resolved, modes)
        return Order(
            input=_input(asked, resolved, place, choices, resumption),
            choices=choices,
            pause=resumption.pause,
            idempotency=idempotency_of(asked.key, asked.number, asked.fingerprint) if asked.key else None,
            durable=True,
            background=background,
            thread=None if place.temporary else _thread(asked, resolved, place),
            delay=body.after_seconds or 0.0,
            webhook=body.webhook,
        )

    async def _resolve(self, asked: Asked) -> ResolvedAssistant:
        body, assistants = asked.body, self._rooms.assistants
        assistant = await assistants.find(asked.caller.tenant, body.assistant_id)
        agent = assistants.agent_of(assistant)
        config = body.config or Config()
        given = _free(config.configurable or {})
        if given and body.context:
            raise BadRequest("`context` and `config.configurable` are the same thing here; give one.", param="context")
        base = msgspec.convert(assistant.config, Config)
        told = {
            "created_by": "system",
            **assistant.metadata,
            **(config.metadata or {}),
            **(body.metadata or {}),
            "graph_id": agent.name,
            "assistant_id": assistant.assistant_id,
        }
        return ResolvedAssistant(
            agent=agent,
            assistant=assistant,
            tags=config.tags or base.tags,
            max_steps=config.recursion_limit or base.recursion_limit or agent.settings.max_steps,
            context=_free({**assistant.context, **(given or body.context or {})}),
            metadata=told,
        )

    async def _place(self, asked: Asked) -> Place:
        """Raises `NotFound` for a thread that is not there and not to be made."""
        body = asked.body
        if asked.thread_id is not None:
            return Place(thread_id=await self._thread_of(asked, asked.thread_id))
        if body.own_thread is not None:
            return Place(thread_id=checked_id(body.own_thread, "thread"))
        return Place(thread_id=new_id(), temporary=body.on_completion != "keep")

    async def _thread_of(self, asked: Asked, thread_id: str) -> str:
        """The id as it is kept. Chat clients may have given a thread any name, and it may have runs but no record."""
        tenant = asked.caller.tenant
        if ID.fullmatch(thread_id.lower()):
            thread_id = thread_id.lower()
            makes = self._mount.makes_threads or asked.body.if_not_exists == "create"
            if makes or await self._rooms.threads.known(tenant, thread_id) is not None:
                return thread_id
        if not await self._rooms.manager.find(RunQuery(tenant=tenant, thread_id=thread_id, gone=True, limit=1)):
            raise NotFound(f"There is no thread {checked_id(thread_id, 'thread')}.", param="thread_id")
        return thread_id

    async def _resumption(self, asked: Asked, agent: Agent, place: Place) -> Resumed:
        command, tenant = asked.body.command, asked.caller.tenant
        if command is None or command.resume is UNSET:
            return Resumed()
        thread = ThreadName(tenant=tenant, thread_id=place.thread_id)
        if not place.temporary and agent.adapter.threads is not None:
            await agent.adapter.threads.check_resume(thread, checkpoint_of(asked.body.starts_at))
        again = asked.key is not None
        return await resumed(self._rooms.manager, agent, thread, command.resume, again=again)

    def _choices(self, asked: Asked, resolved: ResolvedAssistant, modes: frozenset[str]) -> Choices:
        body, defaults = asked.body, self._mount.settings
        names = ((name.lower(), name.lower().encode()) for name in defaults.forward_headers)
        # A request with an idempotency key may be repeated: the run goes on for the next attempt to join.
        on_disconnect = "continue" if asked.key else defaults.on_disconnect
        return Choices(
            metadata=resolved.metadata,
            user=asked.caller.user,
            on_disconnect=body.on_disconnect or on_disconnect,
            max_steps=resolved.max_steps,
            context=resolved.context,
            headers={name: asked.headers[raw].decode("latin-1") for name, raw in names if raw in asked.headers},
            strategy=body.multitask_strategy or defaults.multitask_strategy,
            assistant_id=resolved.assistant.assistant_id,
            modes=tuple(sorted(modes)),
            subgraphs=bool(body.stream_subgraphs),
            resumable=bool(body.stream_resumable),
            keep=body.on_completion == "keep",
        )


def _input(asked: Asked, resolved: ResolvedAssistant, place: Place, choices: Choices, resumption: Resumed) -> RunInput:
    body, agent = asked.body, resolved.agent
    native = _native(body, resolved, asked.caller)
    return RunInput(
        run_id=new_id(),
        thread_id=place.thread_id,
        agent=agent.name,
        tenant=asked.caller.tenant,
        input=NULL if native.command is not None else _given(body.input),
        modes=frozenset(choices.modes) if agent.adapter.native else frozenset(),
        native=native,
        answer=resumption.answer,
        metadata={name: _string(value) for name, value in (body.metadata or {}).items()},
        user=choices.user,
        headers=choices.headers,
        context=resolved.context,
        max_steps=choices.max_steps,
        fresh=place.temporary,
        temporary=place.temporary,
    )


def _native(body: RunCreate, resolved: ResolvedAssistant, caller: Caller) -> Native:
    return Native(
        command=command_of(body.command),
        checkpoint=checkpoint_of(body.starts_at),
        interrupt_before=_nodes(body.interrupt_before),
        interrupt_after=_nodes(body.interrupt_after),
        durability=body.durable,
        subgraphs=bool(body.stream_subgraphs),
        tags=resolved.tags,
        configurable={
            "user_id": "",
            **resolved.context,
            "graph_id": resolved.agent.name,
            "assistant_id": resolved.assistant.assistant_id,
            **({} if caller.user is None else {"user_id": caller.user}),
        },
        metadata={**resolved.metadata, "run_attempt": 1},
    )


def _thread(asked: Asked, resolved: ResolvedAssistant, place: Place) -> Thread:
    """The record of the run's thread, should there be none yet."""
    now = time.time()
    return Thread(
        thread_id=place.thread_id,
        tenant=asked.caller.tenant,
        created_at=now,
        updated_at=now,
        metadata={"graph_id": resolved.agent.name, "assistant_id": resolved.assistant.assistant_id},
    )


def command_of(asked: runs_body.Command | None) -> Command | None:
    """None also for a command that commands nothing."""
    if asked is None or asked == runs_body.Command():
        return None
    goto = asked.goto or ()
    targets = goto if isinstance(goto, tuple) else (goto,)
    return Command(
        resume=_given(asked.resume),
        update=_given(asked.update),
        goto=tuple(_target(target) for target in targets),
    )


def checkpoint_of(asked: CheckpointRef | None) -> Checkpoint | None:
    if asked is None:
        return None
    named = {"checkpoint_id": asked.checkpoint_id, "checkpoint_ns": asked.checkpoint_ns}
    known = {key: value for key, value in named.items() if value is not None}
    return Checkpoint(**known, checkpoint_map=UNSET if asked.checkpoint_map is None else asked.checkpoint_map)


def _target(target: str | Send) -> Goto:
    return Goto(node=target) if isinstance(target, str) else Goto(node=target.node, input=_given(target.input))


def _given(value: Raw | UnsetType) -> Raw:
    return NULL if value is UNSET else value


def _nodes(asked: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (asked,) if isinstance(asked, str) else asked or ()


def _free(keys: dict[str, Any]) -> dict[str, Any]:
    """Those of the keys that a caller may set."""
    return {key: value for key, value in keys.items() if key not in OWN and not key.startswith(RESERVED)}


def _string(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
