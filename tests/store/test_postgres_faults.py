"""What becomes of runs when PostgreSQL is restarted, paused, or in another process's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import psycopg
import pytest
from msgspec import Raw

from proxy.errors import BadRequest, LeaseLost, Unavailable
from proxy.events import Completed
from proxy.model import Assistant, Idempotency, ThreadOutcome, ThreadStatus, new_id
from proxy.store.base import Store, ThreadQuery
from proxy.store.claims import Server
from proxy.store.logs.livelogs import PAGE
from proxy.store.native import AssistantQuery
from proxy.store.postgres.database import SETTINGS, PostgresDatabase
from proxy.store.postgres.store import PostgresStore
from proxy.store.signals import Topic
from proxy.testing.runs import all_of, ended, finished, new_run, pause_of, say, seqs, word
from proxy.testing.threads import new_thread
from tests.store.cluster import Cluster
from tests.store.databases import Database, database

ME = Server(server_id="")


@asynccontextmanager
async def opened(known: Database, *, joins: bool = False) -> AsyncIterator[PostgresStore]:
    store = known.store()
    await store.open()
    if joins:
        await store.join(ME)
    try:
        yield store
    finally:
        await store.close()


async def until(holds: Callable[[], Awaitable[Any]], seconds: float = 30.0) -> None:
    """Wait until it is so: the database tells nobody that it is back."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                if await holds():
                    return
            except Unavailable:
                pass
            await asyncio.sleep(0.05)


async def reconnecting(store: Store, run_id: str) -> list[int]:
    """All that a reader sees which comes back, where it was, whenever it is told that the store is away."""
    seen: list[int] = []

    async def read() -> bool:
        async with aclosing(store.follow(run_id, after=seen[-1] if seen else 0)) as batches:
            async for batch in batches:
                seen.extend(seqs(batch))
        return True

    await until(read)
    return seen


async def settled(store: Store, log: Any) -> None:
    """End a run as a worker does, which tries again while the store is away."""

    async def settle() -> bool:
        return await log.settle(Completed(), ended(log.run)) or log.ended

    await until(settle)


def test_s04_a_restart_in_the_middle_of_runs_loses_nothing(cluster: Cluster) -> None:
    """Also a hint that comes afterwards is heard."""

    async def act(known: Database) -> None:
        async with opened(known, joins=True) as store, opened(known, joins=True) as other:
            logs = [store.begin(await store.insert(new_run()), inserted=True) for _ in range(50)]
            readers = [asyncio.ensure_future(reconnecting(other, log.run_id)) for log in logs]
            for log in logs:
                await say(log, range(20))
            cluster.stop()
            with pytest.raises(Unavailable):
                await store.insert(new_run())
            with pytest.raises(Unavailable):
                await store.ping()
            for log in logs:
                await say(log, range(20))
            cluster.start()
            await asyncio.gather(*(settled(store, log) for log in logs))
            for log, reader in zip(logs, readers, strict=True):
                assert seqs(await all_of(store, log.run_id)) == await reader == list(range(1, 42))
            await store.ping()
            assert await store.renew()
            heard = asyncio.Event()
            other.signals.hear(Topic.CANCEL, lambda name: heard.set() if name else None)
            run = await store.insert(new_run())

            async def told() -> bool:
                await store.ask_cancel("default", run.run_id, "interrupt")
                return heard.is_set()

            await until(told)

    with database(cluster.url) as known:
        asyncio.run(act(known))


def test_s04_a_reader_that_has_fallen_behind_keeps_its_place_over_a_restart(cluster: Cluster) -> None:
    """It reads what another process writes, and does not come again by itself."""

    async def act(known: Database) -> None:
        async with opened(known, joins=True) as store, opened(known, joins=True) as other:
            log = store.begin(await store.insert(new_run()), inserted=True)
            await say(log, range(3 * PAGE))
            await settled(store, log)
            async with aclosing(other.follow(log.run_id, idle=0.05)) as batches:
                seen = seqs(await anext(batches))
                cluster.stop()
                assert [await anext(batches) for _ in range(3)] == [[]] * 3
                cluster.start()
                async for batch in batches:
                    seen += seqs(batch)
            assert seen == list(range(1, 3 * PAGE + 2))

    with database(cluster.url) as known:
        asyncio.run(act(known))


def test_a_server_that_answers_nothing_is_given_up_and_taken_up_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.sql.writer.LIMIT", 0.5)
    monkeypatch.setattr("proxy.store.sql.engine.PATIENCE", 0.5)
    monkeypatch.setattr("proxy.store.postgres.database.DOUBT", 0.1)
    monkeypatch.setitem(
        __import__("proxy.store.postgres.database").store.postgres.database.CONNECTING, "connect_timeout", 2
    )

    async def act(known: Database) -> None:
        async with opened(known) as store:
            log = store.begin(await store.insert(new_run()), inserted=True)
            cluster.pause()
            with pytest.raises(Unavailable):
                await store.insert(new_run())
            with pytest.raises(Unavailable):
                await store.get("default", new_id())
            log.append(word("meanwhile"))
            cluster.resume()
            await settled(store, log)
            assert seqs(await all_of(store, log.run_id)) == [1, 2]
            await until(lambda: store.get("default", log.run_id))

    with database(cluster.url) as known:
        asyncio.run(act(known))


class Deaf:
    """A connection whose answers to commits get lost: in one case the database has done it, in the other it has not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, known: Database, *, done: bool) -> None:
        self.left = 1
        commit = psycopg.Connection.commit

        def lost(connection: psycopg.Connection[Any]) -> None:
            if self.left and connection.info.transaction_status is psycopg.pq.TransactionStatus.INTRANS:
                self.left -= 1
                if done:
                    commit(connection)
                known.ask("SELECT pg_terminate_backend(%s)", connection.info.backend_pid)
                connection.execute("SELECT 1")
            commit(connection)

        monkeypatch.setattr(psycopg.Connection, "commit", lost)


@pytest.mark.parametrize("done", [True, False])
def test_what_a_lost_answer_was_about_is_asked_for(
    done: bool, postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that got no answer counts if the database says that it was done; otherwise it is done again."""

    async def act() -> None:
        async with opened(postgres, joins=True) as store:
            deaf = Deaf(monkeypatch, postgres, done=done)
            run = new_run()
            assert (await store.insert(run)).run_id == run.run_id
            assert deaf.left == 0
            assert postgres.ask("SELECT run_id FROM runs") == [(run.run_id,)]

    asyncio.run(act())


def test_an_end_whose_commit_got_no_answer_is_written_once(postgres: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where nobody can tell whether it was done. What others have made of it meanwhile stays."""
    monkeypatch.setattr(PostgresDatabase, "was_committed", lambda *_: None)

    async def act() -> None:
        async with opened(postgres, joins=True) as store, opened(postgres, joins=True) as other:
            thread = await store.insert_thread(new_thread())
            run = await store.insert(new_run(thread_id=thread.thread_id))
            log = store.begin(run, inserted=True)
            await say(log, range(20))
            Deaf(monkeypatch, postgres, done=True)
            end, pause = ended(log.run), pause_of(run)
            with pytest.raises(Unavailable):
                await log.settle(Completed(), end, pause, thread=ThreadOutcome(values=Raw(b'{"by":"first"}')))
            later = await other.insert(new_run(thread_id=thread.thread_id, resumes=run.run_id))
            outcome = ThreadOutcome(status=ThreadStatus.ERROR, values=Raw(b'{"by":"second"}'))
            await other.begin(later, inserted=True).settle(Completed(), ended(later), thread=outcome)
            assert await log.settle(Completed(), end, pause, thread=ThreadOutcome(values=Raw(b'{"by":"first"}')))
            assert seqs(await all_of(other, run.run_id)) == list(range(1, 22))
            assert await other.pauses("default", thread.thread_id) == []
            left = await other.get_thread("default", thread.thread_id)
            assert left is not None
            assert left.outcome == outcome

    asyncio.run(act())


def test_a_process_whose_row_is_gone_writes_nothing_more(postgres: Database) -> None:
    async def act() -> None:
        async with opened(postgres, joins=True) as store:
            lost: list[bool] = []
            store.lease.listen(lost.append)
            log = store.begin(await store.insert(new_run()), inserted=True)
            fresh = store.begin(new_run(), inserted=False)
            await say(log, range(3))
            postgres.ask("DELETE FROM servers WHERE server_id = %s", store.lease.owner)
            outcomes = await asyncio.gather(
                store.insert(new_run()),
                log.settle(Completed(), ended(log.run)),
                fresh.settle(Completed(), ended(fresh.run)),
                store.insert_thread(new_thread()),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [LeaseLost] * 4
            assert {outcome.retry_after for outcome in outcomes} == {1}
            assert lost == [False]
            assert postgres.ask("SELECT count(*) FROM segments") == [(0,)]
            assert postgres.ask("SELECT status FROM runs") == [("running",)]
            with pytest.raises(LeaseLost):
                await store.insert(new_run())
            assert not await store.renew()
            await store.join(ME)
            assert [each.server_id for each in await store.servers()] == [store.lease.owner]
            await finished(store, await store.insert(new_run()))
            with pytest.raises(LeaseLost):
                await log.settle(Completed(), ended(log.run))

    asyncio.run(act())


def test_a_process_in_the_middle_of_a_write_keeps_its_row_until_it_is_done(postgres: Database) -> None:
    """Its time is over, and yet nobody takes its runs under its hands; a renewal does not wait for it."""

    async def act() -> None:
        async with opened(postgres, joins=True) as store, opened(postgres, joins=True) as other:
            store.lease.seconds = 0.05
            assert await store.renew()
            run = await store.insert(new_run())
            with postgres.connect() as connection, connection.transaction():
                connection.execute("SELECT FROM servers WHERE server_id = %s FOR KEY SHARE", [store.lease.owner])
                connection.execute("SELECT pg_sleep(0.1)")
                assert await other.take_lost(limit=9) == []
                assert await store.renew()
            await until(lambda: other.take_lost(limit=9))
            known = await other.get("default", run.run_id)
            assert known is not None
            assert (known.owner, known.attempt) == (other.lease.owner, 2)

    asyncio.run(act())


def test_a_row_that_is_locked_for_long_is_given_up_and_others_are_written(
    postgres: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = SETTINGS.replace("lock_timeout = '3s'", "lock_timeout = '100ms'")
    monkeypatch.setattr("proxy.store.postgres.database.SETTINGS", brief)

    async def act() -> None:
        async with opened(postgres) as store:
            thread = await store.insert_thread(new_thread())
            with postgres.connect() as connection, connection.transaction():
                connection.execute("SELECT FROM threads WHERE thread_id = %s FOR UPDATE", [thread.thread_id])
                outcomes = await asyncio.gather(
                    finished(store, new_run()),
                    store.patch_thread("default", thread.thread_id, metadata={"k": 1}),
                    store.insert_thread(new_thread()),
                    return_exceptions=True,
                )
            assert [isinstance(outcome, Unavailable) for outcome in outcomes] == [False, True, False]
            assert await store.patch_thread("default", thread.thread_id, metadata={"k": 1}) is not None

    asyncio.run(act())


def test_two_transactions_in_each_others_way_are_both_done(postgres: Database) -> None:
    """The database breaks one of two that wait for each other off; it is tried again."""

    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    lock = "SELECT FROM threads WHERE thread_id = %s FOR UPDATE"

    async def act() -> None:
        async with opened(postgres) as store, await psycopg.AsyncConnection.connect(postgres.url) as connection:
            one, two = [(await store.insert_thread(new_thread())).thread_id for _ in range(2)]
            await connection.execute("SET deadlock_timeout = '20s'")
            await connection.execute(lock, [two])
            patches = [store.patch_thread("default", name, metadata={"k": 1}) for name in (one, two)]
            patching = asyncio.gather(*patches)

            async def is_in_the_way() -> bool:
                return bool(postgres.ask(waiting) == [(1,)])

            await until(is_in_the_way)
            await connection.execute(lock, [one])
            await connection.commit()
            assert [thread and thread.metadata for thread in await patching] == [{"k": 1}] * 2

    asyncio.run(act())


def test_connections_tell_who_they_are_and_leave_none_behind(postgres: Database) -> None:
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'runwire' AND datname = current_database()"

    async def act() -> None:
        async with opened(postgres, joins=True) as store:
            await asyncio.gather(*(store.get("default", new_id()) for _ in range(20)))
            [(connections,)] = postgres.ask(count)
            assert 4 <= connections <= 6
        async with asyncio.timeout(5):
            while postgres.ask(count) != [(0,)]:
                await asyncio.sleep(0.01)

    asyncio.run(act())


def test_a_nul_character_is_refused_or_kept(postgres: Database) -> None:
    """Never a store that is not available."""

    async def act() -> None:
        async with opened(postgres) as store:
            key = Idempotency(key="a\0b", fingerprint="f")
            for refused in (
                store.insert_thread(new_thread(thread_id="a\0b")),
                store.get_thread("default", "a\0b"),
                store.insert_assistant(Assistant(assistant_id=new_id(), agent="a", name="a\0b")),
                store.insert(new_run(), idempotency=key),
                store.find_assistants(AssistantQuery(tenant="default", agent="a\0b")),
            ):
                with pytest.raises(BadRequest, match="NUL"):
                    await refused
            metadata = {"k": "a\0b", "other": "x", "broken": "\ud83d"}
            odd = await store.insert_thread(new_thread(metadata=metadata))
            plain = await store.insert_thread(new_thread(metadata={"other": "x", "emoji": "\U0001f600"}))
            kept = await store.get_thread("default", odd.thread_id)
            assert kept is not None
            assert kept.metadata == metadata

            async def found(**asked: str) -> set[str]:
                query = ThreadQuery(tenant="default", metadata=asked)
                threads = await store.find_threads(query)
                assert await store.count_threads(query) == len(threads)
                return {thread.thread_id for thread in threads}

            assert await found(other="x") == {odd.thread_id, plain.thread_id}
            assert await found(k="a\0b") == {odd.thread_id}
            assert await found(emoji="\U0001f600") == {plain.thread_id}
            log = store.begin(await store.insert(new_run(input=Raw(b'"\\u0000"'))), inserted=True)
            log.append(word("a\0b"))
            await log.settle(Completed(), ended(log.run), thread=ThreadOutcome(values=Raw(b'"\\u0000"')))
            assert [entry.event for entry in await all_of(store, log.run_id)] == [word("a\0b"), Completed()]
            await store.ping()

    asyncio.run(act())
