"""`live: redis://...`: what runs say and what is signalled, shown to other processes within milliseconds.

Redis carries it and keeps nothing: an owner publishes the entries of a run on a channel of its own, and the processes
in which it is followed are subscribed to that. Each piece says after which entry it comes. Who misses one, since it
joined later, or Redis was away or forgot everything, has the store, which is a fifth of a second behind. Measured
against streams (one blocking XREAD for all that are followed): 0.9 instead of 2.4 ms with 200 runs, 2 instead of 15
with 1,000, at half the work, for each XREAD names all streams again; and there is nothing to trim, expire or lose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis

from proxy.errors import ConfigError, ProxyError
from proxy.model import new_id
from proxy.store.lease import Lease
from proxy.store.logs.runlog import LiveLog
from proxy.store.logs.segments import decode, encode_entries
from proxy.store.logs.tails import Tails
from proxy.store.redis_line import FAULTS, Line
from proxy.store.signals import ANY, Signal, Signals, Topic

PACE = 0.01
"""Seconds from one batch to the next, so that a fast run does not cost a message a word."""
LARGEST = 1024 * 1024
"""Bytes of a piece; what is larger is read from the store."""
MOST = 10_000
"""Signals that wait to be sent; beyond that others find out by themselves."""
PATIENCE = 5.0
"""Seconds that Redis has to answer."""
SCHEMES = ("redis://", "rediss://", "unix://")
FORMS = "use `redis://host:6379/0`, `rediss://...` for TLS, or `unix:///path/of.sock`"


class Told(msgspec.Struct, frozen=True, array_like=True):
    """Signals, and who sends them."""

    origin: str
    signals: list[tuple[Topic, str]]


encode_told = msgspec.json.Encoder().encode
decode_told = msgspec.json.Decoder(Told).decode


class RedisLive:
    """The port `proxy.store.live.Live`. Deployments that share one Redis differ in their `prefix`."""

    def __init__(self, url: str, prefix: str) -> None:
        """Raises `ConfigError` for what is no URL of a Redis; does not connect."""
        try:
            if not url.startswith(SCHEMES):
                raise ValueError
            self._line = Line(url, self)
            sending = BlockingConnectionPool.from_url(
                url, protocol=2, max_connections=2, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE
            )
        except (ValueError, TypeError):
            raise ConfigError(f"`live`: this is no URL of a Redis; {FORMS}.") from None
        self._redis = Redis.from_pool(sending)
        self._origin = new_id()
        self._all = f"{prefix}:signals"
        self._runs = f"{prefix}:run:"
        self._tails: Tails
        self._signals: Signals
        self._lease: Lease
        self._fresh: dict[str, LiveLog] = {}
        self._unsent: dict[Signal, None] = {}
        self._quiet: set[str] = set()
        """Runs that nobody followed elsewhere the last time they were shown."""
        self._sender: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        return self._line.up

    async def open(self, tails: Tails, signals: Signals, lease: Lease) -> None:
        self._tails, self._signals, self._lease = tails, signals, lease
        self._line.want(self._all)
        for run_id in tails.all():
            self.follow(run_id)
        tails.watch = self
        lease.listen(self._renewed)
        await self._line.open()

    async def close(self) -> None:
        if (sender := self._sender) is not None:
            await asyncio.wait({sender}, timeout=PATIENCE)
            sender.cancel()
        await self._line.close()
        await self._redis.aclose()

    def follow(self, run_id: str) -> bool:
        self._line.want(self._runs + run_id)
        return self.up

    def leave(self, run_id: str) -> None:
        self._line.drop(self._runs + run_id)

    def show(self, log: LiveLog) -> None:
        if self.up and log.run_id not in self._quiet:
            self.note(log)

    def note(self, log: LiveLog) -> None:
        if self.up:
            self._fresh[log.run_id] = log
            self._send_soon()

    def tell(self, signals: Sequence[Signal]) -> bool:
        if self.up:
            self._unsent.update((signal, None) for signal in signals if signal[0] is not Topic.LOG)
            if len(self._unsent) > MOST:
                self._unsent = {(topic, ANY): None for topic, _ in self._unsent}
            self._send_soon()
        return self.up

    def _renewed(self, kept: bool) -> None:
        if kept and self._fresh:
            self._send_soon()

    def _send_soon(self) -> None:
        if self._sender is None and (self._unsent or self._fresh):
            self._sender = asyncio.ensure_future(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._unsent or (self._fresh and self._lease.holds()):
                await self._send()
                await asyncio.sleep(PACE)
        except FAULTS as fault:
            self._line.reset(fault)
        finally:
            self._sender = None

    async def _send(self) -> None:
        """What there is, in one batch."""
        pipeline = self._redis.pipeline(transaction=False)
        if signals := list(self._unsent):
            self._unsent.clear()
            pipeline.publish(self._all, encode_told(Told(self._origin, signals)))
        pieces: list[Piece] = []
        if self._lease.holds():
            fresh, self._fresh = self._fresh, {}
            pieces = [Piece(log, brief=log.run_id in self._quiet) for log in fresh.values() if not log.lost]
        for piece in pieces:
            pipeline.publish(self._runs + piece.log.run_id, piece.body())
        counts = await pipeline.execute()
        for piece, count in zip(pieces, counts[len(counts) - len(pieces) :], strict=True):
            self._shown(piece, count > 0)

    def _shown(self, piece: Piece, heard: bool) -> None:
        log = piece.log
        if not piece.brief:
            log.told = max(log.told, piece.last)
        if heard or log.ended:
            self._quiet.discard(log.run_id)
        else:
            self._quiet.add(log.run_id)
        if log.told < ready(log):
            self.show(log)

    async def prove(self) -> None:
        await self._redis.publish(self._all, encode_told(Told(self._origin, [])))

    def joined(self, channel: str) -> None:
        if channel != self._all:
            self._tails.ask(channel.removeprefix(self._runs))

    def hear(self, channel: str, message: bytes) -> None:
        with suppress(ProxyError, msgspec.MsgspecError, ValueError):  # somebody else's
            if channel == self._all:
                told = decode_told(message)
                if told.origin != self._origin:
                    self._signals.ring(told.signals)
            else:
                run_id = channel.removeprefix(self._runs)
                after, stored, body = message.split(b" ", 2)
                self._tails.hear(run_id, int(after), decode(run_id, body), int(stored))

    def turn(self, up: bool) -> None:
        self._quiet.clear()
        if not up:
            self._fresh.clear()
            self._unsent.clear()
        self._signals.ring((topic, ANY) for topic in Topic)  # what was told meanwhile is lost


class Piece:
    """What is new of a log: the entries up to `last`, or with `brief` only that there are some in the store."""

    def __init__(self, log: LiveLog, *, brief: bool) -> None:
        self.log = log
        self.last = ready(log)
        self.brief = brief

    def body(self) -> bytes:
        """After which entry it comes, up to where the store has the log, and the entries."""
        log = self.log
        after = max(log.told, log.first - 1)
        entries = [] if self.brief else log.entries[after + 1 - log.first : self.last + 1 - log.first]
        body = encode_entries(entries)
        return b"%d %d %b" % (after, log.stored, body if len(body) <= LARGEST else b"[]")


def ready(log: LiveLog) -> int:
    """Number of the last entry that others may see: an end only once it is in the store."""
    return log.last - 1 if log.ended and log.stored < log.last else log.last
