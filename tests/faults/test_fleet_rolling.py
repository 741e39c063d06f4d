"""Two servers are replaced one after the other, while requests keep coming."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import openai

from tests.e2e.callers import KEY
from tests.faults.fleet import Fleet, Node, fleet
from tests.faults.fleet_agents import config, opened, traced
from tests.faults.natives import Caller, Event, events_of, one_end
from tests.waiting import eventually

STREAMS = 100
WATCHERS = 8


class Balancer:
    """What stands before the servers: each request goes to the next that is ready."""

    def __init__(self, *nodes: Node) -> None:
        self._lock = threading.Lock()
        self.nodes = list(nodes)
        self._turn = 0

    def next(self) -> Node:
        with self._lock:
            self._turn += 1
            return self.nodes[self._turn % len(self.nodes)]

    def replace(self, old: Node, new: Node) -> None:
        with self._lock:
            self.nodes[self.nodes.index(old)] = new


def asked(balancer: Balancer, text: str, **fields: Any) -> str:
    """The answer, by a client that tries again as the OpenAI SDK does by itself: elsewhere, where it can."""
    for attempt in range(4):
        client = openai.OpenAI(base_url=balancer.next().base_url, api_key=KEY, max_retries=0, timeout=30)
        try:
            with client:
                answer = client.chat.completions.create(
                    model="talker", messages=[{"role": "user", "content": text}], **fields
                )
            return answer.choices[0].message.content or ""
        except openai.APIConnectionError:
            if attempt == 3:
                raise
        except openai.InternalServerError as error:
            if attempt == 3 or error.status_code != 503:
                raise
    raise AssertionError


def begun(caller: Caller) -> list[tuple[str, str]]:
    """Thread and run; none where the caller was told to come back, or cut off."""
    with suppress(httpx2.HTTPError), caller.http:
        reply = caller.post("/threads")
        if reply.status_code == 200:
            thread = reply.json()["thread_id"]
            body = {"assistant_id": "walker", "input": {"gates": [], "done": []}}
            reply = caller.post(f"/threads/{thread}/runs", body)
            if reply.status_code == 200:
                return [(thread, reply.json()["run_id"])]
        assert reply.status_code == 503, reply.text
    return []


def replaced(house: Fleet, balancer: Balancer, old: Node) -> Node:
    """As an orchestrator does it: the new one is ready, the old one is out of the rotation, then it is told to end."""
    new = house.server()
    balancer.replace(old, new)
    assert old.stop(signal.SIGTERM) == 0
    return new


def test_p13_a_rolling_restart_under_load_costs_no_request(tmp_path: Path) -> None:
    with fleet(tmp_path, config()) as house:
        nodes = [house.server(), house.server()]
        balancer = Balancer(*nodes)
        done = threading.Event()
        answers: Counter[str] = Counter()
        runs: list[tuple[str, str]] = []

        def chat() -> None:
            while not done.is_set():
                answers[asked(balancer, "say x y\ndrip 5")] += 1

        def walk() -> None:
            while not done.is_set():
                runs.extend(begun(Caller(balancer.next())))

        with ThreadPoolExecutor(6) as pool:
            jobs = [pool.submit(work) for work in (chat, chat, chat, chat, walk, walk)]
            try:
                for node in nodes:
                    enough = answers.total() + 20, len(runs) + 5
                    eventually(lambda enough=enough: (answers.total(), len(runs)) > enough, "some load")
                    replaced(house, balancer, node)
            finally:
                done.set()
            for job in jobs:
                job.result()
        assert list(answers) == ["x y 0 1 2 3 4 "]
        caller = Caller(balancer.next())
        for thread, run in runs:
            assert caller.ended(thread, run) == "success", caller.log(run)[-1]
            assert one_end(caller.log(run)) == "completed"


class Watcher:
    """Follows a graph to its end, wherever it goes on: who is cut off comes back to where it was, at another server."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        caller = Caller(balancer.next())
        self.thread = caller.thread()
        self.run = caller.run(self.thread, "walker", {"gates": ["b"], "done": []}, stream_mode=["updates"])
        self.events: list[Event] = []
        self.returns = 0

    @property
    def steps(self) -> list[str]:
        return [next(iter(event.data)) for event in self.events if event.name == "updates"]

    def at(self, folder: Path) -> int | None:
        """The process that came last to the step in which the run waits."""
        return next(reversed(traced(folder, "b", self.thread)), None)

    def watch(self) -> None:
        while "d" not in self.steps:
            with suppress(httpx2.HTTPError), Caller(self._balancer.next()).http as http:
                self._read(http)
            self.returns += 1

    def _read(self, http: httpx2.Client) -> None:
        last = next((event.id for event in reversed(self.events) if event.id), "-1")
        path = f"/threads/{self.thread}/runs/{self.run}/stream"
        with http.stream("GET", path, headers={"last-event-id": last}) as reply:
            if reply.status_code == 503:  # it was told to end in this moment
                return
            assert reply.status_code == 200, reply.read()
            text = ""
            for piece in reply.iter_text():
                text += piece
                whole, ends, text = text.rpartition("\r\n\r\n")
                self.events += events_of(whole + ends)


def test_p13_resumable_streams_come_to_their_end_over_a_rolling_restart(tmp_path: Path) -> None:
    """Each reader sees each step once, though both servers that it could have read at are gone by the end."""
    changed = config()
    changed["server"]["drain"] = 0.5
    with fleet(tmp_path, changed) as house:
        nodes = [house.server(), house.server()]
        balancer = Balancer(*nodes)
        watchers = [Watcher(balancer) for _ in range(WATCHERS)]
        with ThreadPoolExecutor(WATCHERS) as pool:
            jobs = [pool.submit(watcher.watch) for watcher in watchers]
            try:
                eventually(lambda: all(watcher.steps for watcher in watchers), "the first step of all")
                for node in nodes:
                    replaced(house, balancer, node)
                new = {node.pid for node in balancer.nodes}
                eventually(lambda: {watcher.at(tmp_path) for watcher in watchers} <= new, "all runs at the new servers")
            finally:
                for watcher in watchers:
                    opened(tmp_path, f"b-{watcher.thread}")
            for job in jobs:
                job.result()
        caller = Caller(balancer.next())
        for watcher in watchers:
            assert watcher.steps == [*"abcd"]
            assert watcher.returns > 1, "it was cut off, and came back"
            assert one_end(caller.log(watcher.run)) == "completed"


def test_p07_each_of_many_streams_gets_its_end_at_a_shutdown(tmp_path: Path) -> None:
    """One hundred at once, over PostgreSQL: an error and `[DONE]` each, and the exit code is 0."""

    async def read(client: openai.AsyncOpenAI, started: asyncio.Semaphore) -> str:
        stream = await client.chat.completions.create(
            model="talker", messages=[{"role": "user", "content": "say x\nwait"}], stream=True
        )
        try:
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    started.release()
        except openai.APIError as error:
            return str(error.code)
        return "ended"

    async def all_of_them(house: Fleet, node: Node) -> list[str]:
        started = asyncio.Semaphore(0)
        async with openai.AsyncOpenAI(base_url=node.base_url, api_key=KEY, max_retries=0) as client:
            readers = [asyncio.create_task(read(client, started)) for _ in range(STREAMS)]
            for _ in readers:
                await started.acquire()
            node.process.send_signal(signal.SIGTERM)
            return await asyncio.gather(*readers)

    changes = {"server": {"drain": 0.5, "api_keys": [{"name": "chat", "key": KEY, "tenant": "a"}]}}
    with fleet(tmp_path, config(**changes)) as house:
        node = house.server()
        ends = asyncio.run(all_of_them(house, node))
        assert Counter(ends) == {"server_shutting_down": STREAMS}
        assert node.process.wait(30) == 0
        assert house.one("SELECT count(*) FROM runs WHERE status = 'error'") == STREAMS
