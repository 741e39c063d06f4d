"""`POST /v1/chat/completions`: a chat request becomes one run, or `n` of them, and its log becomes the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from proxy.api.asgi import Receive, Scope, Send
from proxy.api.asked import Asked, Reader
from proxy.api.client import Delivery, Header
from proxy.api.errors import Dialect, refusing, reply_to
from proxy.api.groups import merged
from proxy.api.parse import read_body
from proxy.api.started import Started
from proxy.api.streaming import EventStream, Refuse, WholeAnswer
from proxy.errors import BadRequest, NotAllowed, ProxyError
from proxy.model import Run, new_id
from proxy.runs.cost import cost
from proxy.runs.manager import RunManager
from proxy.runs.turns import turn_of
from proxy.settings import Chat, Price, RequestLimits
from proxy.wire.chat import ChatEncoder, Head
from proxy.wire.chat_answer import ChatFold, cost_of
from proxy.wire.group import GroupEncoder, GroupFold


class ChatCompletions:
    """The endpoint, as a plain ASGI application: the one route that is worth going without the framework's comforts."""

    def __init__(self, manager: RunManager, chat: Chat, limits: RequestLimits, prices: Mapping[str, Price]) -> None:
        self._manager = manager
        self._chat = chat
        self._prices = prices
        self._reader = Reader(manager.agents, chat, limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        request_id: str = state["request_id"]
        try:
            if scope["method"] != "POST":
                raise NotAllowed("Use POST for chat completions.", allow="POST")
            asked = await self._reader.read(dict(scope["headers"]), await read_body(receive), state["caller"])
            started = await self._start(asked)
        except ProxyError as error:
            await reply_to(error, Dialect.OPENAI, request_id).send(send)
            return
        respond = self._stream if asked.request.stream else self._answer
        response = respond(asked, started, refusing(Dialect.OPENAI, request_id))
        several = len(started.runs) > 1 and asked.options.on_disconnect == "cancel"
        del asked  # a stream may last for long, and its request would be a tenth of what it holds in memory
        try:
            await response(scope, receive, send)
        finally:
            if several:
                started.stop()

    async def _start(self, asked: Asked) -> Started:
        """Make the runs; if one cannot be made, the others are stopped."""
        agent, tenant, options = asked.published.agent, asked.caller.tenant, asked.options
        turn = await turn_of(self._manager, agent, tenant, options.thread_id, asked.request.messages)
        count = asked.request.n or 1
        started = Started(self._manager)
        if count > 1 and turn.pause is not None:
            raise BadRequest("A question is answered by one run: leave out `n`.", param="n")
        if turn.joins is not None:
            started.runs.append(await self._manager.get(tenant, turn.joins))
            return started
        if count == 1:
            await started.add(self._reader.order(asked, turn))
            return started
        group = new_id()
        try:
            for number in range(count):
                await started.add(self._reader.order(asked, turn, group=group, number=number))
        except BaseException:
            started.stop()
            raise
        return started

    def _stream(self, asked: Asked, started: Started, refuse: Refuse) -> EventStream[Any]:
        runs = started.runs
        head = head_of(asked, runs)
        include_usage = bool(asked.request.stream_options and asked.request.stream_options.include_usage)
        options, delivery = asked.options, self._delivery(asked, started)
        encoders = [
            ChatEncoder(
                head,
                options.shown,
                index=i,
                include_usage=include_usage and len(runs) == 1,
                chunk_pings=options.chunk_pings,
            )
            for i in range(len(runs))
        ]
        if len(runs) == 1:
            return EventStream(partial(self._manager.attend, runs[0]), encoders[0], delivery, refuse)
        wire = GroupEncoder(encoders, include_usage=include_usage)
        return EventStream(partial(merged, self._manager, runs), wire, delivery, refuse)

    def _answer(self, asked: Asked, started: Started, refuse: Refuse) -> WholeAnswer[Any]:
        runs = started.runs
        head, delivery = head_of(asked, runs), self._delivery(asked, started)
        charge = partial(cost, prices=self._prices) if self._chat.show_cost else None
        folds = [ChatFold(head, asked.options.shown, index=i, charge=charge) for i in range(len(runs))]
        told = partial(cost_header, folds)
        if len(runs) == 1:
            return WholeAnswer(partial(self._manager.attend, runs[0]), folds[0], delivery, refuse, told)
        return WholeAnswer(partial(merged, self._manager, runs), GroupFold(head, folds), delivery, refuse, told)

    def _delivery(self, asked: Asked, started: Started) -> Delivery:
        return delivery_of(asked, started.runs, self._chat, started.stop)


def delivery_of(asked: Asked, runs: list[Run], chat: Chat, stop: Callable[[], None]) -> Delivery:
    """How the answer to a request is sent; `stop` ends its runs if the client leaves and nobody wants them then."""
    options = asked.options
    quiet = not asked.request.stream and not chat.keepalive_json
    return Delivery(
        headers=run_headers(asked, runs),
        keepalive=0.0 if quiet else options.keepalive,
        first_byte=options.first_byte,
        send_timeout=chat.send_timeout,
        on_leave=stop if options.on_disconnect == "cancel" else (lambda: None),
    )


def cost_header(folds: list[ChatFold]) -> tuple[Header, ...]:
    """`X-Runwire-Cost-Cents` where costs are told."""
    cents = cost_of(folds)
    return () if cents is None else ((b"x-runwire-cost-cents", b"%d" % cents),)


def head_of(asked: Asked, runs: list[Run]) -> Head:
    """What all chunks share; `created` is in whole seconds."""
    return Head(
        id=f"chatcmpl-{runs[0].group or runs[0].run_id}", created=int(runs[0].created_at), model=asked.request.model
    )


def run_headers(asked: Asked, runs: list[Run]) -> tuple[Header, ...]:
    """`X-Run-Id` names the run, or the group of several; `X-Thread-Id` a thread that lasts."""
    run = runs[0]
    headers = ((b"x-run-id", (run.group or run.run_id).encode()),)
    return headers if run.temporary else (*headers, (b"x-thread-id", run.thread_id.encode()))
