"""`live: redis://...` beside PostgreSQL: the same promises, and what becomes of followers when Redis goes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import redis
from sqlalchemy.engine import make_url

from proxy.errors import ConfigError
from proxy.events import Completed, Entry
from proxy.model import RunStatus
from proxy.store import connect, live
from proxy.store.base import Store
from proxy.store.claims import Server
from proxy.store.event_log import RunLog
from proxy.store.postgres.store import PostgresStore
from proxy.store.signals import Topic
from proxy.testing import STORE_PROMISES, check_store
from proxy.testing.runs import Promise, ended, followed, new_run, seqs, word
from proxy.testing.sharing import SHARED_PROMISES, SharedPromise, check_sharing
from tests.store.databases import Database
from tests.store.redis_server import RedisServer, redis_server

REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")


@pytest.fixture(scope="session")
def shared_redis() -> str:
    """A Redis that anybody may use at once."""
    try:
        with redis.Redis.from_url(REDIS, socket_timeout=5) as client:
            client.ping()
    except redis.RedisError as error:
        reason = f"Redis is not at hand: {error}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return REDIS


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def over(postgres: Database, url: str) -> Store:
    """A process's store, not yet open."""
    return connect(postgres.url, Path("/"), live=url)


@pytest.mark.parametrize("promise", STORE_PROMISES, ids=lambda promise: promise.__name__)
def test_postgres_with_redis_keeps_the_promise(promise: Promise, postgres: Database, shared_redis: str) -> None:
    asyncio.run(check_store(lambda: over(postgres, shared_redis), [promise]))


@pytest.mark.parametrize("promise", SHARED_PROMISES, ids=lambda promise: promise.__name__)
def test_processes_that_share_redis_too_are_kept_the_promise(
    promise: SharedPromise, postgres: Database, shared_redis: str
) -> None:
    asyncio.run(check_sharing(lambda: (over(postgres, shared_redis), over(postgres, shared_redis)), [promise]))


def trial(postgres: Database, url: str, work: Callable[[Store, Store], Awaitable[None]]) -> None:
    """Do this with two processes."""

    async def run() -> None:
        here, there = over(postgres, url), over(postgres, url)
        for store in (here, there):
            await store.open()
            await store.join(Server(server_id=""))
        try:
            async with asyncio.timeout(30):
                await work(here, there)
        finally:
            for store in (here, there):
                await store.close()

    asyncio.run(run())


class Talk:
    """A run of one process that a reader in another follows word by word."""

    def __init__(self, here: Store, there: Store) -> None:
        self.run = new_run()
        self._here, self._there = here, there
        self._log: RunLog
        self.seen: list[Entry] = []
        self._grown = asyncio.Event()

    async def begin(self) -> None:
        await self._here.insert(self.run)
        self._log = self._here.begin(self.run, inserted=True)
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async with aclosing(self._there.follow(self.run.run_id)) as batches:
            async for batch in batches:
                self.seen += batch
                self._grown.set()

    async def say(self, count: int = 1) -> None:
        """Say so many words, and wait until the reader has them."""
        for _ in range(count):
            self._log.append(word("so"))
        while len(self.seen) < self._log.last:
            assert not self._reader.done(), "the reader was told of an end that was none"
            self._grown.clear()
            await self._grown.wait()

    async def end(self) -> list[int]:
        """End the run; what the reader has seen by then."""
        await self._log.settle(Completed(), ended(self.run))
        await self._reader
        return seqs(self.seen)


def test_s05_followers_go_on_while_redis_is_away_and_when_it_is_back(
    postgres: Database, own_redis: RedisServer
) -> None:
    async def work(here: Store, there: Store) -> None:
        talk, other = Talk(here, there), Talk(there, here)
        for one in (talk, other):
            await one.begin()
            await one.say(3)
        own_redis.kill()
        for one in (talk, other):
            await one.say(3)
        own_redis.start()
        await heard(own_redis, 2)
        for one in (talk, other):
            await one.say(3)
            assert await one.end() == list(range(1, 11))

    trial(postgres, own_redis.url, work)


def test_s05_emptying_redis_costs_nothing_since_it_keeps_nothing(postgres: Database, own_redis: RedisServer) -> None:
    async def work(here: Store, there: Store) -> None:
        talk = Talk(here, there)
        await talk.begin()
        await talk.say(3)
        own_redis.do("FLUSHALL")
        await talk.say(3)
        assert own_redis.do("DBSIZE") == 0
        assert await talk.end() == list(range(1, 8))

    trial(postgres, own_redis.url, work)


def test_s05_a_redis_that_does_not_answer_holds_nobody_up(postgres: Database, own_redis: RedisServer) -> None:
    async def work(here: Store, there: Store) -> None:
        talk = Talk(here, there)
        await talk.begin()
        await talk.say(3)
        own_redis.pause()
        await talk.say(3)
        own_redis.resume()
        await talk.say(3)
        assert await talk.end() == list(range(1, 11))

    trial(postgres, own_redis.url, work)


def test_s05_connections_that_redis_cuts_come_back_and_miss_nothing(postgres: Database, own_redis: RedisServer) -> None:
    async def work(here: Store, there: Store) -> None:
        talk = Talk(here, there)
        await talk.begin()
        for _ in range(3):
            await talk.say(20)
            own_redis.do("CLIENT", "KILL", "TYPE", "pubsub")
            await talk.say(20)
            await heard(own_redis, 2)
        assert await talk.end() == list(range(1, 122))

    trial(postgres, own_redis.url, work)


def test_s05_what_redis_carries_and_never_delivers_is_found_in_the_store(
    postgres: Database, own_redis: RedisServer
) -> None:
    """Both processes take it for up, so nobody tells of anything by another way: only the look is left."""

    async def run() -> None:
        deaf = make_url(postgres.url.replace("postgresql:", "postgresql+psycopg:", 1))
        here, there = over(postgres, own_redis.url), PostgresStore(deaf, live.connect(own_redis.url, "elsewhere"))
        for store in (here, there):
            await store.open()
        async with asyncio.timeout(30):
            talk = Talk(here, there)
            await talk.begin()
            for _ in range(3):
                await talk.say(3)
            assert await talk.end() == list(range(1, 11))
        for store in (here, there):
            await store.close()

    asyncio.run(run())


def test_redis_may_come_later_than_the_processes(postgres: Database, own_redis: RedisServer) -> None:
    own_redis.kill()

    async def work(here: Store, there: Store) -> None:
        talk = Talk(here, there)
        await talk.begin()
        await talk.say(3)
        own_redis.start()
        await heard(own_redis, 2)
        await talk.say(3)
        assert await talk.end() == list(range(1, 8))

    trial(postgres, own_redis.url, work)


def test_a_process_without_redis_follows_one_with_it_and_the_other_way_round(
    postgres: Database, own_redis: RedisServer
) -> None:
    async def run() -> None:
        here, there = over(postgres, own_redis.url), over(postgres, "")
        for store in (here, there):
            await store.open()
        async with asyncio.timeout(30):
            for one in (Talk(here, there), Talk(there, here)):
                await one.begin()
                await one.say(3)
                assert await one.end() == [1, 2, 3, 4]
        for store in (here, there):
            await store.close()

    asyncio.run(run())


def test_signals_reach_other_processes_by_redis_and_without_it(postgres: Database, own_redis: RedisServer) -> None:
    async def work(here: Store, there: Store) -> None:
        for _ in range(2):
            rung = asyncio.Event()
            there.signals.hear(Topic.QUEUE, lambda name, rung=rung: rung.set())  # type: ignore[misc]
            await here.insert(new_run(status=RunStatus.PENDING))
            await rung.wait()
            own_redis.kill()

    trial(postgres, own_redis.url, work)


def test_what_others_publish_on_its_channels_harms_nobody(postgres: Database, own_redis: RedisServer) -> None:
    async def work(here: Store, there: Store) -> None:
        talk = Talk(here, there)
        await talk.begin()
        await talk.say(3)
        for channel in channels(own_redis):
            for junk in ("", "0 0", "x y [1]", "3 3 [[1]]", '{"a": 1}', "\x00", '["o",[["q"]]]', "9 9 []"):
                own_redis.do("PUBLISH", channel, junk)
        await talk.say(3)
        assert await talk.end() == list(range(1, 8))

    trial(postgres, own_redis.url, work)


def test_nobody_stays_subscribed_to_what_nobody_follows(postgres: Database, own_redis: RedisServer) -> None:
    async def work(here: Store, there: Store) -> None:
        talk = Talk(here, there)
        await talk.begin()
        await talk.say(3)
        assert len(channels(own_redis)) == 2
        await talk.end()
        assert seqs(await followed(there, talk.run.run_id)) == [1, 2, 3, 4]
        while len(channels(own_redis)) > 1:
            await asyncio.sleep(0.01)

    trial(postgres, own_redis.url, work)


def test_deployments_that_share_a_redis_use_channels_of_their_own(postgres: Database, own_redis: RedisServer) -> None:
    async def work(here: Store, there: Store) -> None:
        name = postgres.url.rpartition("/")[2]
        assert all(f":{name}:" in channel for channel in channels(own_redis))

    trial(postgres, own_redis.url, work)


def test_a_password_is_used_and_shown_nowhere(
    postgres: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def work(here: Store, there: Store) -> None:
        talk = Talk(here, there)
        await talk.begin()
        await talk.say(3)
        assert await talk.end() == [1, 2, 3, 4]

    with redis_server(
        tmp_path, "user me on >the-right-one ~* &* +@all", "user default on nopass +@all &* ~*"
    ) as server:
        for password in ("the-right-one", "the-wrong-one"):
            trial(postgres, server.url.replace("//", f"//me:{password}@"), work)
            shown = "".join(capfd.readouterr())
            assert "-one" not in shown
            assert ("Redis is away" in shown) is (password == "the-wrong-one")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1", "redis:/x", "redis://host:port", "redis://h/0?nonsense=1", "xyzzy"]
)
def test_a_wrong_url_is_told_with_the_cure_and_without_the_url(postgres: Database, url: str) -> None:
    with pytest.raises(ConfigError, match="`live`: this is no URL of a Redis") as raised:
        over(postgres, url)
    assert url not in str(raised.value).replace("redis://host:6379/0", "")


def test_a_missing_package_is_told_with_the_cure(postgres: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "redis" or name.startswith(("redis.", "proxy.store.redis"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"runwire\[redis\]"):
        over(postgres, "redis://127.0.0.1:6379/0")


def channels(server: RedisServer) -> list[str]:
    """What somebody is subscribed to."""
    found = server.do("PUBSUB", "CHANNELS")
    assert isinstance(found, list)
    return [name.decode() for name in found]


async def heard(server: RedisServer, count: int) -> None:
    """Wait until so many processes listen."""
    while True:
        names = [name for name in channels(server) if name.endswith(":signals")]
        if names:
            found = server.do("PUBSUB", "NUMSUB", names[0])
            assert isinstance(found, list)
            if found[1] >= count:
                return
        await asyncio.sleep(0.02)
