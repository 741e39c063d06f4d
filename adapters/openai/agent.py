"""The adapter: asks the upstream, retries while nothing was said yet, and hands its answer on as events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import ClassVar

import msgspec

from adapters.openai.chunks import Chunk, decode, listing
from adapters.openai.client import Client
from adapters.openai.connection import Connection
from adapters.openai.failures import LONGEST_WAIT, Judge, Rejected, Silent, problem_in, status_of
from adapters.openai.options import VALUE, UpstreamOptions
from adapters.openai.request import body
from adapters.openai.retry import again
from adapters.openai.stream import LIMIT, Frame, Lines, Whole
from adapters.openai.translate import Translator
from proxy.adapter import Adapter, Model, RunInput, Site
from proxy.errors import (
    BadRequest,
    ConfigError,
    ProxyError,
    RateLimited,
    StreamIncomplete,
    UnknownAgent,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.events import Event

logger = logging.getLogger(__name__)

DONE = b"[DONE]"
CLOSED: Frame = (b"", b"")
"""Stands for the end of the body; a real frame always has data."""
GRACE = 2.0
"""Seconds that usage and `[DONE]` may take after the finish reason."""
ERROR_LIMIT = 64 * 1024
ERROR_TIME = 2.0
LISTED_FOR = 60.0
LIST_TIME = 10.0
LIST_AGAIN = 5.0
SHORT_WAIT = 1.0
"""Seconds to wait that a caller is told where the upstream does not say."""


class OpenAIAdapter(Adapter):
    """One model of an upstream, or all of them."""

    Options: ClassVar[type[msgspec.Struct]] = UpstreamOptions
    overrides_model: ClassVar[bool] = True
    takes_tools: ClassVar[str] = "pass"

    options: UpstreamOptions

    def __init__(self, options: UpstreamOptions, site: Site) -> None:
        super().__init__(options, site)
        self._judge = Judge(options.secrets, bool(options.models))
        self._client: Client | None = None
        self._listing = asyncio.Lock()
        self._listed: list[Model] | UpstreamError | None = None
        self._listed_until = 0.0

    async def open(self) -> None:
        self.options.check(self.site.agent)
        self._client = Client(
            self.options.url,
            self.options.sent_headers(),
            connect=self.options.timeout_connect,
            idle=self.options.idle,
        )

    async def close(self) -> None:
        if self._client is not None:
            self._client.close()

    async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
        model = self._model(run)
        translator = Translator(model)
        whole = False
        with await self._answer(run, model) as reply:
            lines = _reader(reply)
            while not whole:
                for name, data in await _frames(reply, lines, translator):
                    if data[:6] == DONE or not data:
                        _check_whole(data, translator)
                        whole = True
                        break
                    for event in translator.feed(self._chunk(name, data)):
                        yield event
        for event in translator.close():
            yield event

    async def models(self) -> list[Model] | None:
        """The published models. An upstream's list is kept for a minute, and for as long as no newer one can be had;
        a failure is kept for some seconds, so that nobody queues up behind an upstream that is away."""
        if not self.options.models:
            return None
        if self.options.models != "*":
            return [Model(id=name) for name in self.options.models]
        async with self._listing:
            if asyncio.get_running_loop().time() >= self._listed_until:
                await self._list_again()
            if isinstance(self._listed, UpstreamError):
                raise self._listed.with_traceback(None)
            return self._listed

    async def _list_again(self) -> None:
        try:
            self._listed, kept = await self._list(), LISTED_FOR
        except UpstreamError as error:
            self._listed, kept = self._listed if isinstance(self._listed, list) else error, LIST_AGAIN
        self._listed_until = asyncio.get_running_loop().time() + kept

    def _model(self, run: RunInput) -> str:
        model, models = run.model or self.options.model, self.options.models
        if models and run.model:
            model = run.model.removeprefix(self.options.prefix)
        if not model or (models and models != "*" and model not in (*models, self.options.model)):
            raise UnknownAgent("The agent does not publish a model of that name.", param="model")
        return model

    async def _answer(self, run: RunInput, model: str) -> Connection:
        """The upstream's answer, of which nothing but the headers was read."""
        try:
            return await self._asked(run, body(run, model))
        except BadRequest as error:
            if "stream_options" not in f"{error.param} {error.message}":
                raise
        return await self._asked(run, body(run, model, usage=False))

    async def _asked(self, run: RunInput, request: bytes) -> Connection:
        began = asyncio.get_running_loop().time()
        try:
            return await self._ask(run, request)
        except UpstreamError as error:
            failed = error
        patience = run.timeout if run.first_byte is None else run.first_byte
        budget = patience - asyncio.get_running_loop().time() + began
        try:
            return await again(failed, budget, lambda: self._ask(run, request))
        except UpstreamError as error:
            if error.retry_after is not None or isinstance(error, RateLimited):
                error.retry_after = min(error.retry_after or SHORT_WAIT, LONGEST_WAIT)
            raise

    async def _ask(self, run: RunInput, request: bytes) -> Connection:
        headers = {
            name: run.headers[name]
            for name in map(str.lower, self.options.forward_headers)
            if name in run.headers and VALUE.fullmatch(run.headers[name])
        }
        reply = await self._opened().ask("/chat/completions", request, headers)
        readable = reply.headers.get("content-encoding", "identity").lower() == "identity"
        if 200 <= reply.status < 300 and readable and "html" not in reply.headers.get("content-type", "").lower():
            return reply
        with reply:
            if reply.status < 300:
                raise Rejected("The upstream answered with something that is not a chat completion.")
            raise await self._refusal(reply, f"run {run.run_id}")

    async def _list(self) -> list[Model]:
        try:
            async with asyncio.timeout(LIST_TIME):
                with await self._opened().ask("/models") as reply:
                    if reply.status != 200:
                        raise await self._refusal(reply, "list of models")
                    found = listing(await _read(reply, LIMIT))
        except TimeoutError as error:
            raise UpstreamTimeout from error
        return [
            Model(id=self.options.prefix + one.id, created=int(one.created or 0), owned_by=one.owned_by or "")
            for one in found.data
        ]

    def _opened(self) -> Client:
        if self._client is None:
            raise ConfigError(f"agents.{self.site.agent}: the adapter is not open")
        return self._client

    def _chunk(self, name: bytes, data: bytes) -> Chunk:
        chunk = decode(name, data)
        if chunk.error:
            problem = chunk.problem()
            raise self._judge.error(status_of(problem), problem, {})
        return chunk

    async def _refusal(self, reply: Connection, subject: str) -> ProxyError:
        try:
            async with asyncio.timeout(ERROR_TIME):
                text = await _read(reply, ERROR_LIMIT)
        except (TimeoutError, UpstreamError):
            text = b""
        problem = problem_in(text)
        error = self._judge.error(reply.status, problem, reply.headers)
        logger.warning("%s: the upstream answered %d, which is %s", subject, reply.status, error.code)
        return error


def _reader(reply: Connection) -> Lines | Whole:
    return Whole() if "json" in reply.headers.get("content-type", "").lower() else Lines()


async def _frames(reply: Connection, lines: Lines | Whole, translator: Translator) -> list[Frame]:
    """The next frames, perhaps none. After the finish reason it does not matter how the connection ends."""
    if translator.finish:
        reply.hurry(GRACE)
    try:
        piece = await reply.read()
    except (StreamIncomplete, Silent):
        if not translator.finish:
            raise
        return [CLOSED]
    return lines.feed(piece) if piece else [*lines.close(), CLOSED]


def _check_whole(data: bytes, translator: Translator) -> None:
    """Raises `StreamIncomplete` where the body ends without `[DONE]` and before a finish reason."""
    if not data and not translator.finish:
        raise StreamIncomplete


async def _read(reply: Connection, limit: int) -> bytes:
    """A whole body. Raises `UpstreamError` if it is cut or larger than `limit` bytes."""
    read = bytearray()
    while piece := await reply.read():
        read += piece
        if len(read) > limit:
            raise UpstreamError("The upstream sent an answer that is larger than this server takes.")
    return bytes(read)
