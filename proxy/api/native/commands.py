"""The commands of the event protocol: a run is started, a question answered. Over HTTP and web sockets alike."""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from proxy.api.auth import Caller
from proxy.api.client import Header
from proxy.api.native.mounts import Mount
from proxy.api.native.orders import Asked, Orders
from proxy.api.native.rooms import Rooms
from proxy.api.parse import decode
from proxy.errors import BadRequest, ProxyError
from proxy.model import Run
from proxy.runs.manager import RunQuery
from proxy.wire import runs_body
from proxy.wire.asked import Config
from proxy.wire.commands import (
    Answer,
    Code,
    Command,
    Failure,
    InputRespond,
    Meta,
    Nothing,
    Refused,
    RunResult,
    RunStart,
    Success,
    decode_command,
    malformed,
)
from proxy.wire.frames import MAKEABLE
from proxy.wire.narrator import MODES
from proxy.wire.runs_body import RunCreate

T = TypeVar("T")
STEERS = "checkpoint_id"
"""The key of `configurable` that says where a run goes on from."""
_SECOND = 1_000_000

start = msgspec.json.Decoder(RunStart)
respond = msgspec.json.Decoder(InputRespond)
encode = msgspec.json.Encoder().encode


class Desk(Struct, frozen=True, kw_only=True):
    """Whose commands these are, and on which thread."""

    caller: Caller
    thread_id: str
    headers: tuple[Header, ...] = ()


class Commands:
    """Obeys the commands that come to one mount."""

    def __init__(self, mount: Mount, rooms: Rooms) -> None:
        self._rooms = rooms
        self._orders = Orders(mount, rooms)

    def read(self, sent: bytes) -> Command | Failure:
        """The command in a body; what has no place for an id and a method cannot be obeyed. Raises `BadRequest`."""
        try:
            command = decode(sent, decode_command, self._rooms.limits)
        except BadRequest:
            if sent.lstrip()[:1] in (b"{", b""):
                raise
            return malformed(None)
        if type(command.id) is not int or not isinstance(command.method, str):
            return malformed(command.id if isinstance(command.id, str | float | bool) else None)
        return command

    async def obey(self, desk: Desk, command: Command, sent: bytes) -> Answer:
        """What was sent is the command as it came. Raises `ProxyError` where asking again can help."""
        try:
            match command.method:
                case "run.start":
                    return await self._start(desk, command, sent)
                case "input.respond":
                    return await self._respond(desk, command, sent)
                case "subscription.subscribe" | "subscription.unsubscribe":
                    raise Refused("not_supported", "Subscriptions are for web sockets; POST to `stream/events` here.")
                case other:
                    raise Refused("unknown_command", f"Unknown protocol command: {other[:64]}")
        except Refused as refused:
            return Failure(id=command.id, error=refused.code, message=refused.message)
        except ProxyError as error:
            if error.retryable:
                raise
            return failure(command.id, error)

    def params(self, command: Command, decoder: msgspec.json.Decoder[T]) -> T:
        given = bytes(command.params)
        return decode(b"{}" if given in (b"null", b"[]") else given, decoder, self._rooms.limits)

    async def _start(self, desk: Desk, command: Command, sent: bytes) -> Success:
        asked = self.params(command, start)
        if not isinstance(asked.assistant_id, str) or not asked.assistant_id:
            raise Refused("invalid_argument", "run.start requires an assistant_id.")
        body = RunCreate(
            assistant_id=asked.assistant_id,
            input=asked.input,
            config=asked.config,
            context=asked.context,
            metadata=asked.metadata,
            multitask_strategy=asked.multitask_strategy,
            checkpoint_id=_checkpoint(asked.config),
        )
        run = await self._create(desk, body, sent)
        return Success(id=command.id, result=RunResult(run.run_id), meta=_meta(run))

    async def _respond(self, desk: Desk, command: Command, sent: bytes) -> Success:
        asked = self.params(command, respond)
        if not asked.given:
            raise Refused("invalid_argument", "input.respond requires at least one response.")
        if not all(isinstance(one.interrupt_id, str) and one.interrupt_id for one in asked.given):
            raise Refused("invalid_argument", "input.respond requires an interrupt_id.")
        answers = {str(one.interrupt_id): one.response for one in asked.given}
        last = await self._asking(desk, answers)
        config = asked.config or Config()
        body = RunCreate(
            assistant_id=last.assistant_id,
            command=runs_body.Command(resume=Raw(encode(answers)), update=asked.update, goto=asked.goto),
            config=config,
            context=None if config.configurable else last.choices.context or None,
            metadata=asked.metadata,
        )
        run = await self._create(desk, body, sent)
        return Success(id=command.id, result=Nothing(), meta=_meta(run))

    async def _asking(self, desk: Desk, answers: dict[str, Raw]) -> Run:
        """The run that asked what is answered here. While a run is under way, nothing waits for an answer."""
        tenant = desk.caller.tenant
        runs = await self._rooms.manager.find(RunQuery(tenant=tenant, thread_id=desk.thread_id, limit=1))
        thread = await self._rooms.threads.known(tenant, desk.thread_id)
        if not runs or thread is None:
            raise Refused("no_such_run", "No interrupted run is bound to this thread.")
        asked = [] if thread.busy else [one.id for task in thread.outcome.interrupts.values() for one in task]
        for id in answers:
            if id not in asked:
                raise Refused("no_such_interrupt", f"Unknown or already-consumed interrupt: {id[:64]}")
        return runs[0]

    async def _create(self, desk: Desk, body: RunCreate, sent: bytes) -> Run:
        """A run that can be told of in full, and that outlives its listeners."""
        headers = dict(desk.headers)
        assistants = self._rooms.assistants
        agent = assistants.agent_of(await assistants.find(desk.caller.tenant, body.assistant_id))
        modes: Any = tuple(sorted(MODES if agent.adapter.native else MODES & MAKEABLE))
        body = msgspec.structs.replace(
            body,
            stream_mode=modes,
            stream_subgraphs=True,
            stream_resumable=True,
            if_not_exists="create",
            on_disconnect="continue",
        )
        fingerprint = hashlib.sha256(b"\n".join((desk.thread_id.encode(), sent))).hexdigest()
        asked = Asked(body=body, caller=desk.caller, headers=headers, fingerprint=fingerprint, thread_id=desk.thread_id)
        return await self._rooms.manager.create(await self._orders.order(asked))


def failure(id: Any, error: ProxyError) -> Failure:
    """An error as the answer to a command."""
    code: Code = "invalid_argument" if isinstance(error, BadRequest) else "unknown_error"
    return Failure(id=id, error=code, message=error.message)


def _checkpoint(config: Config | None) -> str | None:
    named = (config.configurable or {}).get(STEERS) if config is not None else None
    return named if isinstance(named, str) and named else None


def _meta(run: Run) -> Meta:
    """All events of the run, and none of those that were told before it was made, stand after this number."""
    return Meta(int(run.created_at * _SECOND) - 1)
