"""Several processes of one deployment, as an operator runs them: servers and workers over one PostgreSQL database, with
or without Redis, each of which may be killed, stopped or told to end.

with fleet(folder, config) as house:
    a, b = house.server(), house.server()
    worker = house.worker()
    Caller(a).run(...)
    worker.kill()
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tests.e2e.house import HERE, Server
from tests.store.databases import database
from tests.waiting import eventually

REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
LIVE = {"postgres": "", "redis": REDIS}
"""What logs go over: PostgreSQL alone, or Redis too."""
URL = re.compile(r"http://\S+")
START = 180.0
"""Seconds that a process may need until it is up, on a machine that has much else to do."""
LEASE = 1.5
"""Seconds; ten times shorter than the default, and so is all that follows from it."""


class Node(Server):
    """One process. A worker has no `url`."""

    name: str

    @property
    def out(self) -> str:
        return (self.folder / f"{self.name}.out").read_text()

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.err").read_text()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """As a machine goes: without a word."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        """Ask it to end, as an orchestrator does; returns the exit code."""
        return self.stop(signal.SIGTERM)


class Fleet:
    """The processes over one database. `store` is its URL."""

    def __init__(self, folder: Path, config: dict[str, Any], store: str, live: str = "") -> None:
        self.folder = folder
        self.store = store
        self.nodes: list[Node] = []
        runs = {"lease": LEASE, **config.get("runs", {})}
        self.config = {**config, "store": store, "runs": runs, **({"live": live} if live else {})}
        (folder / "config.yaml").write_text(yaml.safe_dump(self.config))

    def server(self, *more: str, env: dict[str, str] | None = None) -> Node:
        """Another `runwire serve`, which answers."""
        node = self._spawn(["serve", "--port", "0", *more], env)
        node.url = eventually(lambda: self._url(node), "the server's address", within=START)
        return node

    def worker(self, *more: str, env: dict[str, str] | None = None) -> Node:
        """Another `runwire worker`, which is seen by the others."""
        before = self.workers
        node = self._spawn(["worker", *more], env)
        eventually(lambda: self._up(node) and self.workers > before, "the worker", within=START)
        return node

    @property
    def workers(self) -> int:
        """Workers whose lease runs."""
        if self.one("SELECT to_regclass('servers')") is None:
            return 0
        return int(
            self.one("SELECT count(*) FROM servers WHERE kind = 'worker' AND lease_until > extract(epoch FROM now())")
        )

    def one(self, query: str, *values: Any) -> Any:
        """One value from the database."""
        with psycopg.connect(self.store) as connection:
            row = connection.execute(query.encode(), values).fetchone()
        return None if row is None else row[0]

    def all(self, query: str, *values: Any) -> list[Any]:
        """Rows from the database."""
        with psycopg.connect(self.store) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def _spawn(self, arguments: list[str], env: dict[str, str] | None) -> Node:
        name = f"node-{len(self.nodes)}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "RUNWIRE_"))}
        clean |= {"PYTHONPATH": f"{HERE.parent.parent}{os.pathsep}{HERE}", "PYTHONUNBUFFERED": "1", **(env or {})}
        command = [sys.executable, "-m", "proxy.cli", *arguments]
        command += ["--config", str(self.folder / "config.yaml")]
        with (self.folder / f"{name}.out").open("wb") as out, (self.folder / f"{name}.err").open("wb") as err:
            process = subprocess.Popen(command, cwd=self.folder, env=clean, stdout=out, stderr=err)
        node = Node(self.folder, process, "")
        node.name = name
        self.nodes.append(node)
        return node

    def _url(self, node: Node) -> str | None:
        self._up(node)
        found = URL.search(node.out)
        return None if found is None else found[0]

    def _up(self, node: Node) -> bool:
        assert node.alive, f"the process ended: {node.out}{node.log}"
        return True

    def close(self) -> None:
        for node in self.nodes:
            if node.alive:
                node.process.kill()
                node.resume()
            node.process.wait()


@contextmanager
def fleet(folder: Path, config: dict[str, Any], *, store: str | None = None, live: str = "") -> Iterator[Fleet]:
    """No process yet, over a database of its own or the one given; all processes are killed at the end."""
    if store is not None:
        house = Fleet(folder, config, store, live)
        try:
            yield house
        finally:
            house.close()
        return
    with database() as made, fleet(folder, config, store=made.url, live=live) as house:
        yield house


@contextmanager
def trio(folder: Path, config: dict[str, Any], live: str) -> Iterator[Fleet]:
    """Two servers and a worker, in this order."""
    with fleet(folder, config, live=live) as house:
        house.server()
        house.server()
        house.worker()
        yield house
