"""One server beside many processes, in alternation: `python -m bench.fleet [--rounds 3] [--seconds 4]`.

Needs PostgreSQL at `POSTGRES_URL` (a database to make others from) and Redis at `REDIS_URL`. All processes, the load and
both databases share one machine: what is told is what a token costs them together, and what the way adds to its age.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import httpx2
import msgspec
import psutil
import psycopg
import uvloop

from bench.load import Connection
from bench.process import Process, free_port, running
from bench.spec import Spec

HERE = Path(__file__).parent
ADMIN = os.environ.get("POSTGRES_URL", "postgresql://root@127.0.0.1:5432/postgres")
REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
STAMP = re.compile(rb"~(\d+);")
Figures = dict[str, float]


class Deployment(msgspec.Struct, frozen=True):
    """Which processes there are, over what."""

    name: str
    servers: int = 1
    workers: int = 0
    postgres: bool = True
    redis: bool = False


DEPLOYMENTS = (
    Deployment("1 server, SQLite", postgres=False),
    Deployment("1 server, PostgreSQL"),
    Deployment("2 servers, PostgreSQL", servers=2),
    Deployment("2 + 2, PostgreSQL", servers=2, workers=2),
    Deployment("2 + 2, PostgreSQL and Redis", servers=2, workers=2, redis=True),
)
ROWS = {
    "tokens": "tokens a second, 16 streams as fast as taken",
    "token": "CPU of our processes, us a token",
    "below": "CPU of PostgreSQL and Redis, us a token",
    "runs": "streams of one token a second, 16 clients",
    "run": "CPU of our processes, us a stream",
    "first": "first token, one client, p50 ms",
    "first95": "the same, p95",
    "age": "age of a token, 50 streams at 20 a second, p50 ms",
    "age95": "the same, p95",
    "claim": "a background run's wait for an idle process, p50 ms",
    "claim95": "the same, p95",
}


class Timed(Connection):
    """Takes the time of the first token, and the age of each stamped one, in milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.first: float | None = None
        self.ages: list[float] = []

    def data_received(self, data: bytes) -> None:
        if self.first is None and b"~" in data:
            self.first = time.perf_counter()
        now = time.monotonic_ns()
        self.ages += [(now - int(stamp)) / 1e6 for stamp in STAMP.findall(data)]
        super().data_received(data)


class Fleet:
    """A deployment that runs."""

    def __init__(self, servers: list[Process], workers: list[int], seconds: float) -> None:
        self._servers = servers
        self._pids = [server.pid for server in servers] + workers
        self._seconds = seconds
        self._turn = 0

    async def _open(self) -> Timed:
        self._turn += 1
        port = self._servers[self._turn % len(self._servers)].port
        _, connection = await asyncio.get_running_loop().create_connection(Timed, "127.0.0.1", port)
        return connection

    def _cpu(self) -> tuple[float, float]:
        """Seconds of the processor: our processes', and those of the databases."""
        ours = sum(_cpu(psutil.Process(pid)) for pid in self._pids)
        below = [one for one in psutil.process_iter(["name"]) if one.info["name"] in ("postgres", "redis-server")]
        return ours, sum(_cpu(one) for one in below)

    async def _repeated(self, clients: int, spec: Spec) -> tuple[float, float, float]:
        """Answers a second, and what one costs us and the databases, in microseconds."""
        count, end = 0, time.monotonic() + self._seconds

        async def client() -> None:
            nonlocal count
            connection = await self._open()
            while time.monotonic() < end:
                await connection.ask("plain", spec)
                count += 1
            connection.transport.close()

        ours, below = self._cpu()
        began = time.monotonic()
        await asyncio.gather(*(client() for _ in range(clients)))
        seconds = time.monotonic() - began
        now = self._cpu()
        return count / seconds, (now[0] - ours) * 1e6 / count, (now[1] - below) * 1e6 / count

    async def _first(self, times: int = 150) -> list[float]:
        found = []
        for _ in range(times):
            connection = await self._open()
            began = time.perf_counter()
            await connection.ask("plain", Spec(tokens=1))
            assert connection.first is not None
            found.append((connection.first - began) * 1000)
            connection.transport.close()
        return found

    async def _ages(self) -> list[float]:
        connections = [await self._open() for _ in range(50)]
        spec = Spec(tokens=80, rate=20, stamped=True)

        async def stream(connection: Timed, delay: float) -> None:
            await asyncio.sleep(delay)
            await connection.ask("plain", spec)

        await asyncio.gather(*(stream(one, number / 50) for number, one in enumerate(connections)))
        return [age for one in connections for age in one.ages]

    async def _claims(self, times: int = 60) -> list[float]:
        """From the answer that a run exists to its first entry, in milliseconds."""
        base = f"http://127.0.0.1:{self._servers[0].port}"
        found = []
        async with httpx2.AsyncClient(base_url=base) as client:
            for _ in range(times):
                body = {"assistant_id": "plain", "input": {"messages": Spec(tokens=1).text}}
                thread = (await client.post("/threads", json={})).json()["thread_id"]
                run = (await client.post(f"/threads/{thread}/runs", json=body)).json()["run_id"]
                answered = time.time()
                log = (await client.get(f"/api/runs/{run}/events", params={"wait": 1})).text.splitlines()
                found.append(max(_at(log[0]) - answered, 0.0) * 1000)
                await asyncio.sleep(0.02)
        return found

    async def figures(self) -> Figures:
        await self._first(20)
        tokens, token, below = await self._repeated(16, Spec(tokens=200))
        runs, run, _ = await self._repeated(16, Spec(tokens=1))
        first, ages, claims = await self._first(), await self._ages(), await self._claims()
        return {
            "tokens": tokens * 200,
            "token": token / 200,
            "below": below / 200,
            "runs": runs,
            "run": run,
            **_percentiles("first", first),
            **_percentiles("age", ages),
            **_percentiles("claim", claims),
        }


def _at(line: str) -> float:
    """When an entry of a log was written."""
    return datetime.fromisoformat(msgspec.json.decode(line)["at"]).timestamp()


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def _percentiles(name: str, values: list[float]) -> Figures:
    cuts = statistics.quantiles(values, n=20)
    return {name: statistics.median(values), f"{name}95": cuts[18]}


@contextmanager
def deployed(deployment: Deployment, folder: Path, seconds: float) -> Iterator[Fleet]:
    """All its processes, on a store of their own."""
    with ExitStack() as stack:
        store = stack.enter_context(database()) if deployment.postgres else f"sqlite:///{folder / 'runs.db'}"
        execute = "worker" if deployment.workers else "server"
        environment = {"BENCH_STORE": store, "BENCH_EXECUTE": execute, "BENCH_LIVE": REDIS if deployment.redis else ""}
        command = [sys.executable, "-m", "proxy.cli"]
        config = ["--config", str(HERE / "fleet.yaml")]

        def start(name: str, port: int, *arguments: str) -> Process:
            log = folder / f"{name}-{port}.log"
            return stack.enter_context(running([*command, name, *config, *arguments], port, environment, log))

        ports = [free_port() for _ in range(deployment.servers + deployment.workers)]
        servers = [start("serve", port, "--port", str(port)) for port in ports[: deployment.servers]]
        workers = [start("worker", port, "--health", str(port)) for port in ports[deployment.servers :]]
        time.sleep(1)
        yield Fleet(servers, [worker.pid for worker in workers], seconds)


@contextmanager
def database() -> Iterator[str]:
    name = f"runwire_bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(ADMIN, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    try:
        yield ADMIN.rpartition("/")[0] + "/" + name
    finally:
        with psycopg.connect(ADMIN, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each load lasts")
    asked = parser.parse_args()
    rounds: dict[str, list[Figures]] = {deployment.name: [] for deployment in DEPLOYMENTS}
    for number in range(asked.rounds):
        print(f"round {number + 1} of {asked.rounds} ...", file=sys.stderr)
        for deployment in DEPLOYMENTS:
            with tempfile.TemporaryDirectory() as folder, deployed(deployment, Path(folder), asked.seconds) as fleet:
                rounds[deployment.name].append(uvloop.run(fleet.figures()))
    print(table(rounds))


def table(rounds: dict[str, list[Figures]]) -> str:
    """Medians over the rounds."""
    lines = ["| | " + " | ".join(rounds) + " |", "|---" * (len(rounds) + 1) + "|"]
    for name, said in ROWS.items():
        values = [statistics.median(figures[name] for figures in each) for each in rounds.values()]
        lines.append(f"| {said} | " + " | ".join(f"{value:.3g}" for value in values) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
