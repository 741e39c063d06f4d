"""The disk is full, locked, read-only or damaged, or the process dies as it writes: group S of the fault catalogue for
the SQLite file of one process. What a PostgreSQL server and Redis may do has its own file, `test_fleet_stores.py`.
"""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e import callers
from tests.e2e.callers import Caller, Story
from tests.e2e.house import HERE
from tests.faults.natives import one_end, together
from tests.faults.single import MEGABYTE, Single, config, limited, served, sound, times
from tests.waiting import eventually

Making = Callable[[], None]
PAGE = 500
PAGES = 20


@contextmanager
def disk(folder: Path, size: str = "16m") -> Iterator[Path]:
    """A small disk of its own at this path; skips where none may be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def full_disk(place: Path, one: Single) -> Iterator[Making]:
    """No byte is left on the disk, until room is made."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024))
    yield filler.unlink


@contextmanager
def file_limit(place: Path, one: Single) -> Iterator[Making]:
    """No file of the process may grow beyond a page, until room is made. What it writes to its own log is lost."""
    with limited(one.server.process.pid, resource.RLIMIT_FSIZE, 1):
        yield lambda: resource.prlimit(one.server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


@pytest.fixture(params=[full_disk, file_limit], ids=["tmpfs", "limit"])
def shortage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Any]]:
    if request.param is file_limit:
        yield tmp_path, file_limit
        return
    with disk(tmp_path / "disk") as place:
        yield place, full_disk


def refusal(one: Single, thread: str) -> httpx2.Response | None:
    """The answer to a run that has to be on disk, if it is no."""
    reply = one.post(f"/threads/{thread}/runs", {"assistant_id": "actor", "input": {"messages": "say a"}})
    return None if reply.status_code == 200 else reply


def test_s01_on_a_full_disk_new_runs_are_refused_and_all_works_again_with_room(
    tmp_path: Path, shortage: tuple[Path, Any]
) -> None:
    place, fill = shortage
    changed = {"store": f"sqlite:///{place / 'runs.db'}", "runs": {"settle_timeout": 1.0, "cancel_grace": 0.3}}
    with served(tmp_path, changed) as one:
        thread, other, third = one.thread(), one.thread(), one.thread()
        one.wait(thread, "actor", {"messages": "say before"})
        ending = Caller(one.server, "full", model="held").until("Hel")
        lasting = Caller(one.server, "room", model="held").until("Hel")
        with fill(place, one) as make_room:
            reply = eventually(lambda: refusal(one, other), "a refusal")
            assert (reply.status_code, "retry-after" in reply.headers) == (503, True), reply.text
            assert one.post("/threads", {}).status_code == 503
            assert one.get("/health").status_code == 200
            (tmp_path / "full").touch()
            assert ending.rest().ending in ("stop", "store_unavailable")
            # More than may wait to be written: it stands still meanwhile.
            flood = Caller(one.server, "100000", model="count").until("1000 ")
            make_room()
        assert flood.rest().ending == "stop"
        assert flood.answer.endswith(" 99999 ")
        eventually(lambda: refusal(one, third) is None, "a run that is taken")
        (tmp_path / "room").touch()
        assert (lasting.rest().answer, lasting.ending) == ("Hello", "stop")
        for caller in (ending, lasting):
            assert Story(one.server, caller.run_id).ends()["state"] in ("success", "error")
        assert one.wait(thread, "actor", {"messages": "say after"})["messages"][-1]["content"] == "after"
        assert one.server.stop() == 0
    sound(place)


def test_s02_a_file_that_another_process_locks_costs_a_bounded_wait_and_a_503(tmp_path: Path) -> None:
    with served(tmp_path) as one:
        thread, other = one.thread(), one.thread()
        one.wait(thread, "actor", {"messages": "say before"})
        chat = Caller(one.server, "say Hel\ngate locked\nsay lo").until("Hel")
        with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as thief:
            thief.execute("BEGIN IMMEDIATE")
            for _ in range(times(1, 10)):
                for reply in together(lambda _: refusal(one, other), range(3)):
                    assert reply is not None
                    assert (reply.status_code, "retry-after" in reply.headers) == (503, True), reply.text
            assert one.get(f"/threads/{thread}").status_code == 200
            thief.execute("ROLLBACK")
        eventually(lambda: refusal(one, other) is None, "a run that is taken")
        callers.open_gate(one.server, "locked")
        assert chat.rest().answer == "Hello"
        one.well()


def test_s02_a_file_that_cannot_be_written_is_named_at_the_start(tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as place:
        changed = {"store": f"sqlite:///{place / 'runs.db'}"}
        with served(tmp_path, changed) as one:
            assert one.server.stop() == 0
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        with pytest.raises(AssertionError, match="the server ended") as told, served(tmp_path, changed):
            pass
        assert str(place / "runs.db") in str(told.value)
        assert "Traceback" not in str(told.value)
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        with served(tmp_path, changed) as one:
            one.well()


def test_s03_no_kill_while_it_writes_harms_the_file_or_loses_what_was_acknowledged(tmp_path: Path) -> None:
    shown: dict[str, str] = {}
    for turn in range(times(5, 100)):
        with served(tmp_path) as one:
            kept(one, shown)
            shown.clear()

            def talk(number: int, one: Single = one) -> None:
                with suppress(httpx2.HTTPError, OSError, AssertionError, callers.http.client.HTTPException):
                    for turn in range(1000):
                        words = f"{number}-{turn}"
                        said = Caller(one.server, f"flood {number}\nsay {words}").rest()
                        assert said.ending == "stop"
                        shown[said.run_id] = said.answer

            crowd = [talk] * 6
            with_load(crowd, lambda turn=turn: len(shown) > 20 + 3 * turn % 50, one)
        sound(tmp_path)
    with served(tmp_path) as one:
        kept(one, shown)


def kept(one: Single, shown: dict[str, str]) -> None:
    """What was shown to the end before the kill is there."""
    for run, text in shown.items():
        told = Story(one.server, run)
        assert (told.ends()["state"], told.text) == ("success", text)


def with_load(crowd: list[Callable[[int], None]], enough: Callable[[], bool], one: Single) -> None:
    """Kill the server when there was enough of it."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(crowd)) as pool:
        working = [pool.submit(act, number) for number, act in enumerate(crowd)]
        eventually(enough, "some load")
        one.kill()
        for each in working:
            each.result()


def test_s07_a_long_log_is_read_by_pages_of_one_price_and_in_bounded_memory(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    count = times(50_000, 1_000_000)
    limits = {"limits": {"events": 2 * count, "log_bytes": 1 << 30}}
    base = config()
    base["agents"]["count"] |= limits
    with served(tmp_path, {"agents": base["agents"]}) as one:
        thread = one.thread()
        Caller(one.server, "20000", model="count").rest()
        before = one.memory
        run = one.run(thread, "count", {"messages": str(count)})
        assert one.ended(thread, run) == "success"
        written = one.memory
        prices = []
        for first in (0, count // 2, count - PAGES * PAGE):
            began = one.seconds
            for page in range(PAGES):
                after = first + page * PAGE
                body = one.get(f"/runs/{run}/events?after_seq={after}&limit={PAGE}").text.splitlines()
                assert len(body) == PAGE
                assert body[0].startswith(f'{{"seq":{after + 1},')
            prices.append((one.seconds - began) / PAGES)
        assert max(prices) < 3 * min(prices) + 0.01, prices
        paged = one.memory
        with one.stream("GET", f"/threads/{thread}/runs/{run}/stream", last_event_id=str(count - 10)) as stream:
            assert stream.rest()
        resumed = one.memory
        with one.http.stream("GET", f"/runs/{run}/events") as reply:
            assert sum(piece.count(b"\n") for piece in reply.iter_bytes()) >= count
        stages = {"written": written, "paged": paged, "resumed": resumed, "read whole": one.memory}
        grown = {stage: (memory - before) / MEGABYTE for stage, memory in stages.items()}
        cost = ", ".join(f"{price * 1e3:.1f}" for price in prices)
        rss = ", ".join(f"{stage} {more:+.0f}" for stage, more in grown.items())
        record_property("figure", f"{count} events; a page of {PAGE} anywhere: {cost} ms CPU; RSS, MB: {rss}")
        assert grown["paged"] - grown["written"] < 30
        assert grown["read whole"] < times(60, 200)


def killed_with_a_log(folder: Path) -> str:
    """The id of a run that had ended when the server was killed."""
    with served(folder) as one:
        done = Caller(one.server, "flood 50\nsay end").rest()
        one.kill()
    return done.run_id


def test_s08_a_torn_end_of_the_journal_is_left_out(tmp_path: Path) -> None:
    run = killed_with_a_log(tmp_path)
    file, journal = tmp_path / "runs.db", tmp_path / "runs.db-wal"
    left = file.read_bytes(), journal.read_bytes()
    for cut in (1, 100, 5000):
        file.write_bytes(left[0])
        journal.write_bytes(left[1][:-cut])
        with served(tmp_path) as one:
            known = callers.fetch(one.server, f"/runs/{run}")[0]
            assert known in (200, 404)
            if known == 200:
                one_end(Story(one.server, run).entries)
            one.well()
            assert one.server.stop() == 0
        sound(tmp_path)


@pytest.mark.parametrize("damage", ["body[:-7]", "b'[' + body", "bytes(len(body))"])
def test_s08_a_damaged_piece_of_a_log_is_told_and_never_shown(tmp_path: Path, damage: str) -> None:
    run = killed_with_a_log(tmp_path)
    with closing(sqlite3.connect(tmp_path / "runs.db", isolation_level=None)) as file:
        [(first, body)] = file.execute(
            "SELECT first_seq, body FROM segments WHERE run_id = ? LIMIT 1", (run,)
        ).fetchall()
        torn = eval(damage, {"body": body})
        file.execute("UPDATE segments SET body = ? WHERE run_id = ? AND first_seq = ?", (torn, run, first))
    with served(tmp_path) as one:
        _, text = callers.fetch(one.server, f"/runs/{run}/events")
        assert "is damaged" in text
        assert "xxxx" not in text
        one.thread()
        assert Caller(one.server, "say Hello").rest().ending == "stop"


def test_s09_a_second_server_on_the_same_file_is_refused_with_the_cure(tmp_path: Path) -> None:
    with served(tmp_path) as one:
        (other := tmp_path / "other").mkdir()
        changed = {"store": f"sqlite:///{tmp_path / 'runs.db'}"}
        with pytest.raises(AssertionError, match="the server ended") as told, served(other, changed):
            pass
        assert str(tmp_path / "runs.db") in str(told.value)
        assert "stop that one, or set `store` to another file" in str(told.value)
        assert "Traceback" not in str(told.value)
        one.well()


def test_s09_several_workers_on_a_file_are_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        f"agents: {{a: {{adapter: plain, options: {{function: '{HERE}/agents.py:actor'}}}}}}"
    )
    command = [sys.executable, "-m", "proxy.cli", "serve", "--config", str(tmp_path / "config.yaml"), "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode not in (0, None)
    assert "postgresql://" in done.stderr
    assert "Traceback" not in done.stderr
