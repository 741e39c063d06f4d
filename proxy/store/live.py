"""The port for what is faster than the store: entries as they are said, and signals, shown to other processes.

It may be away, and forget everything: whoever misses something finds it in the store a little later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.errors import ConfigError
from proxy.store.lease import Lease
from proxy.store.logs.runlog import LiveLog
from proxy.store.logs.tails import Tails, Watch
from proxy.store.signals import Signal, Signals


class Live(Watch, Protocol):
    """What a shared store takes beside itself. All of it is for the loop's thread."""

    @property
    def up(self) -> bool:
        """It is there, as far as is known."""
        ...

    async def open(self, tails: Tails, signals: Signals, lease: Lease) -> None:
        """Begin to hear others: feed the tails, and ring the signals. Raises nothing if it is away: it comes back."""
        ...

    def show(self, log: LiveLog) -> None:
        """Show to others soon what this log says; sets `log.told`. Nothing past the lease, and no end that is not in
        the store."""
        ...

    def note(self, log: LiveLog) -> None:
        """More of this log is in the store: tell those who wait for it."""
        ...

    def tell(self, signals: Sequence[Signal]) -> bool:
        """Carry signals to other processes. False if it is away: somebody else has to."""
        ...

    async def close(self) -> None: ...


def connect(url: str, prefix: str) -> Live:
    """What a `live` URL names, not yet open; deployments that share it differ in `prefix`. Raises `ConfigError`."""
    try:
        from proxy.store.redis import RedisLive
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "redis":
            raise
        raise ConfigError("`live`: Redis needs another package; `pip install 'runwire[redis]'`.") from missing
    return RedisLive(url, prefix)
