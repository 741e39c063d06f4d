"""What becomes of runs when the process is killed, the disk is full, the file locked, or a write impossible."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from proxy.errors import ProxyError, Unavailable
from proxy.events import Completed, Failed
from proxy.model import RunStatus
from proxy.store.sql.sqlite import SqliteStore
from proxy.testing.runs import all_of, ended, finished, followed, ids, new_run, seqs, word
from tests.store.files import on

ROOT = Path(__file__).parents[2]


KILLED = """
import asyncio, sys
from pathlib import Path
from proxy.events import Completed
from proxy.store.sql.sqlite import SqliteStore
from proxy.testing.runs import ended, new_run, say

async def write(store):
    while True:
        run = new_run()
        log = store.begin(run, inserted=False)
        await say(log, range(20))
        await log.settle(Completed(), ended(run))
        sys.stdout.write(run.run_id + "\\n")
        sys.stdout.flush()

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    await asyncio.gather(*(write(store) for _ in range(8)))

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    acknowledged: list[str] = []
    for lines in (1, 40, 200):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert child.stdout is not None
        acknowledged += [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [line for line in child.stdout if line.endswith("\n")]
        child.wait()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    async def check(store: SqliteStore) -> None:
        for line in acknowledged:
            run = await store.get("default", line.strip())
            assert run is not None
            assert run.status is RunStatus.SUCCESS
            assert seqs(await all_of(store, run.run_id)) == list(range(1, 22))

    on(path, check)


def test_a_locked_database_is_told_in_time_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.store.sql.sqlite.BUSY", 0.05)
    path = tmp_path / "runs.db"

    async def act(store: SqliteStore) -> None:
        run, other = new_run(), new_run()
        log = store.begin(run, inserted=False)
        reader = asyncio.ensure_future(followed(store, run.run_id))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            log.append(word("0"))
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await log.settle(Completed(), ended(run))
            with pytest.raises(Unavailable):
                await store.insert(other)
            with pytest.raises(Unavailable):
                await store.ping()
            assert await store.get("default", run.run_id) == log.run
            assert await ids(store) == [run.run_id]
            assert not reader.done()
        assert await log.settle(Completed(), ended(run))
        assert seqs(await reader) == [1, 2]
        assert (await store.insert(other)).run_id == other.run_id
        await store.ping()

    on(path, act)


def test_an_end_that_was_given_up_is_written_once_the_store_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.sql.sqlite.BUSY", 0.01)
    path = tmp_path / "runs.db"
    run = new_run()
    lost = Failed(code="store_unavailable", message="")

    async def act(store: SqliteStore) -> None:
        await store.insert(run)
        log = store.begin(run, inserted=True)
        reader = asyncio.ensure_future(followed(store, run.run_id))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            log.append(word("0"))
            with pytest.raises(Unavailable):
                await log.settle(Completed(), ended(run))
            log.give_up(lost, ended(run, RunStatus.ERROR))
            assert [entry.event for entry in await reader] == [word("0"), lost]
            found = await store.get("default", run.run_id)
            assert found is not None
            assert found.ended

    async def after(store: SqliteStore) -> None:
        assert await store.take_lost(limit=10) == []
        assert [entry.event for entry in await followed(store, run.run_id)] == [word("0"), lost]

    on(path, act)
    on(path, after)


FULL = """
import asyncio, resource, sys
from pathlib import Path
from proxy.errors import Unavailable
from proxy.events import Completed
from proxy.store.sql.sqlite import SqliteStore
from proxy.testing.runs import all_of, ended, finished, followed, new_run, seqs, word

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    kept = await finished(store, new_run())
    journal = Path(sys.argv[1] + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal, resource.RLIM_INFINITY))
    log = store.begin(run := new_run(), inserted=False)
    log.append(word("0"))
    for _ in range(2):
        try:
            await log.settle(Completed(), ended(run))
        except Unavailable:
            continue
        raise SystemExit("a full disk took a run")
    live = store.begin(new_run(), inserted=False)
    live.append(word("meanwhile"))
    try:
        await store.ping()
    except Unavailable:
        pass
    else:
        raise SystemExit("a full store said that it is well")
    assert await store.get("default", kept.run_id) == kept
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.ping()
    assert await log.settle(Completed(), ended(run))
    assert await live.settle(Completed(), ended(live.run))
    assert seqs(await all_of(store, run.run_id)) == seqs(await followed(store, live.run.run_id)) == [1, 2]
    await store.close()

asyncio.run(main())
"""


def test_a_full_disk_is_told_and_works_again_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    subprocess.run([sys.executable, "-c", FULL, str(path)], check=True, cwd=ROOT, timeout=30)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        half = "SELECT count(*) FROM runs WHERE status != 'success'"
        assert connection.execute(half).fetchone() == (0,)


def test_a_write_that_cannot_be_does_not_take_others_with_it(tmp_path: Path) -> None:
    async def act(store: SqliteStore) -> None:
        run = new_run()
        await store.insert(run)
        good = [new_run() for _ in range(5)]
        writes = [store.insert(each) for each in (*good[:3], run, *good[3:])]
        outcomes = await asyncio.gather(*writes, finished(store, new_run()), return_exceptions=True)
        assert [isinstance(outcome, ProxyError) for outcome in outcomes] == [False] * 3 + [True] + [False] * 3
        assert len(await ids(store)) == 7

    on(tmp_path / "runs.db", act)


def test_a_log_that_cannot_be_written_does_not_take_others_with_it(tmp_path: Path) -> None:
    async def act(store: SqliteStore) -> None:
        bad = store.begin(new_run(), inserted=False)
        bad.append(word("half a character: \ud800"))
        outcomes = await asyncio.gather(
            bad.settle(Completed(), ended(bad.run)),
            *(finished(store, new_run()) for _ in range(5)),
            return_exceptions=True,
        )
        assert [isinstance(outcome, Unavailable) for outcome in outcomes] == [True] + [False] * 5
        await store.ping()

    on(tmp_path / "runs.db", act)


def test_a_damaged_segment_is_never_passed_off_as_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"

    async def act(store: SqliteStore) -> None:
        run = await finished(store, new_run())
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE segments SET body = substr(body, 1, length(body) - 9)")
            connection.commit()
        with pytest.raises(ProxyError, match="damaged"):
            await followed(store, run.run_id)

    on(path, act)
