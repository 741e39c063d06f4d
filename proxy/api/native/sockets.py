"""The web socket of the event protocol: commands and their answers, and the events of a thread between them."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing, suppress
from typing import Any

import msgspec
import structlog
from litestar import WebSocket
from litestar.handlers import WebsocketRouteHandler, websocket
from litestar.params import FromPath
from msgspec import Struct

from proxy.api.auth import OFFERED
from proxy.api.native.commands import Commands, Desk, failure
from proxy.api.native.ids import kept_id
from proxy.api.native.mounts import Mount
from proxy.api.native.protocol import Listener, beginning
from proxy.api.native.rooms import Rooms
from proxy.api.native.thread_stream import follow_thread
from proxy.errors import BadRequest, ProxyError
from proxy.wire.commands import (
    Answer,
    Command,
    Failure,
    Meta,
    Nothing,
    Refused,
    SubscribeResult,
    Success,
    Unsubscribe,
    decode_listening,
)
from proxy.wire.protocol import Chronicle, Trouble, View, sent
from proxy.wire.thread_stream import Told

logger = structlog.get_logger(__name__)
encode = msgspec.json.Encoder().encode
unsubscribe = msgspec.json.Decoder(Unsubscribe)

GOING_AWAY = 1012
BROKEN = 1011
MOST = 100
"""Subscriptions that one socket may have."""
REMEMBERED = 100
"""Commands whose answers a socket keeps, in case one is sent again."""
Socket = WebSocket[Any, Any, Any]


def routes(mount: Mount, rooms: Rooms) -> list[WebsocketRouteHandler]:
    commands = Commands(mount, rooms)

    @websocket("/threads/{thread_id:str}/stream/events")
    async def talk(socket: Socket, thread_id: FromPath[str]) -> None:
        scope: Any = socket.scope
        await socket.accept(subprotocols=_spoken(scope["subprotocols"]))
        desk = Desk(caller=scope["state"]["caller"], thread_id=kept_id(thread_id), headers=tuple(scope["headers"]))
        await Conversation(socket, rooms, commands, desk, mount.settings.send_timeout).run()

    return [talk]


def _spoken(offered: list[str]) -> str | None:
    """Browsers insist that one of the protocols that they offer is taken: one that is a key if there is no other."""
    prefix = OFFERED.decode()
    return next((name for name in offered if not name.startswith(prefix)), offered[0] if offered else None)


class Subscription(Struct):
    """What is heard; `seen` is the number up to which it has been."""

    view: View
    seen: int = 0


class Left(Exception):
    """The client has gone, or takes nothing any more."""


class Conversation:
    """One socket, from its opening to its end. One task listens to the client, one to the thread.

    All subscriptions are served by one reader of the thread, so that events come in their order, and none twice: a
    new one makes the reader begin anew, which then says to each what that has not heard.
    """

    def __init__(self, socket: Socket, rooms: Rooms, commands: Commands, desk: Desk, patience: float) -> None:
        self._socket = socket
        self._rooms = rooms
        self._commands = commands
        self._desk = desk
        self._patience = patience
        self._subscriptions: dict[str, Subscription] = {}
        self._reader: asyncio.Task[None] | None = None
        self._answers: dict[int, tuple[bytes, Answer]] = {}
        self._gone = False

    async def run(self) -> None:
        self._task = asyncio.current_task()
        try:
            while (text := await self._heard()) is not None:
                await self._say(encode(await self._answer(text)))
        except Left:
            pass
        except asyncio.CancelledError:
            if not self._gone or self._task is None:
                raise
            self._task.uncancel()
        finally:
            await self._stop_reading()

    async def _heard(self) -> bytes | None:
        """The next command; None once the socket is closed."""
        message: Any = await self._socket.receive()
        if message["type"] != "websocket.receive":
            return None
        text = message.get("text")
        return message.get("bytes") or b"" if text is None else text.encode()

    async def _say(self, text: bytes) -> None:
        """Raises `Left` where the client does not take it in time, or the socket is closed."""
        try:
            async with asyncio.timeout(self._patience or None):
                await self._socket.send_data(text.decode())
        except (OSError, RuntimeError) as error:  # by the client, by us
            raise Left from error

    async def _answer(self, text: bytes) -> Answer:
        try:
            command = self._commands.read(text)
        except BadRequest as error:
            return failure(None, error)
        if isinstance(command, Failure):
            return command
        known = self._answers.get(command.id)
        if known is not None and known[0] == text:
            return known[1]
        answer = await self._obeyed(command, text)
        if isinstance(answer, Success):
            self._answers[command.id] = (text, answer)
            if len(self._answers) > REMEMBERED:
                del self._answers[next(iter(self._answers))]
        return answer

    async def _obeyed(self, command: Command, text: bytes) -> Answer:
        try:
            match command.method:
                case "subscription.subscribe":
                    return await self._subscribe(command)
                case "subscription.unsubscribe":
                    return self._unsubscribe(command)
                case _:
                    return await self._commands.obey(self._desk, command, text)
        except Refused as refused:
            return Failure(id=command.id, error=refused.code, message=refused.message)
        except ProxyError as error:
            return failure(command.id, error)
        except Exception:
            logger.exception("a command failed", thread_id=self._desk.thread_id)
            return Failure(id=command.id, error="unknown_error", message="The server failed.")

    async def _subscribe(self, command: Command) -> Success:
        asked = self._commands.params(command, decode_listening)
        if asked.fault is not None:
            raise Refused("invalid_argument", asked.fault)
        if len(self._subscriptions) >= MOST:
            raise Refused("invalid_argument", f"A socket may have {MOST} subscriptions; end one first.")
        id = str(uuid.uuid4())
        await self._stop_reading()
        self._subscriptions[id] = Subscription(asked.view, asked.since or 0)
        self._reader = asyncio.get_running_loop().create_task(self._read())
        return Success(id=command.id, result=SubscribeResult(id), meta=self._meta())

    def _unsubscribe(self, command: Command) -> Success:
        id = self._commands.params(command, unsubscribe).subscription_id
        if not isinstance(id, str) or not id:
            raise Refused("invalid_argument", "subscription.unsubscribe requires a subscription_id.")
        if self._subscriptions.pop(id, None) is None:
            raise Refused("no_such_subscription", f"Unknown subscription: {id[:64]}")
        return Success(id=command.id, result=Nothing(), meta=self._meta())

    def _meta(self) -> Meta:
        return Meta(max((one.seen for one in self._subscriptions.values()), default=0))

    async def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        """Tell of the thread until the socket or the server ends; then the socket is closed."""
        code = GOING_AWAY
        try:
            await self._follow()
        except Left:
            self._leave()
            return
        except Exception as error:
            code = BROKEN
            known = isinstance(error, ProxyError)
            if not known:
                logger.exception("a thread could not be read", thread_id=self._desk.thread_id)
            with suppress(Left):
                await self._say(encode(Trouble(message=str(error) if known else "The stream broke.")))
        await self._socket.close(code)

    def _leave(self) -> None:
        """Nothing more can be said to this client: the task that waits for its commands is to end."""
        self._gone = True
        if self._task is not None:
            self._task.cancel()

    async def _follow(self) -> None:
        chronicle = Chronicle()
        tenant, thread = self._desk.caller.tenant, self._desk.thread_id
        listener = Listener(self._rooms, chronicle)
        heard = min((one.seen for one in self._subscriptions.values()), default=0)
        place = await beginning(self._rooms.manager, tenant, thread, heard)
        batches = follow_thread(self._rooms.manager, tenant, thread, place, idle=0, listener=listener)
        async with aclosing(batches):
            async for batch in batches:
                for told in batch:
                    await self._tell(told, chronicle)

    async def _tell(self, told: Told, chronicle: Chronicle) -> None:
        for seq, notice in chronicle.tell(told):
            new = [one for one in self._subscriptions.values() if one.seen < seq]
            if any(one.view.wants(notice) for one in new):
                await self._say(sent(told, seq, notice))
            for one in new:
                one.seen = seq
