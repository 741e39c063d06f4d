"""The official development server in a process and an environment of its own: a peer to compare with, nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.alone import alone
from tests.e2e.house import serving
from tests.peer.graphs import NAMES

HERE = Path(__file__).parent
VENV = HERE.parent.parent / "build" / "peer"
PINS = HERE / "constraints.txt"
QUIET = {"LANGSMITH_TRACING": "false", "LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGGRAPH_NO_VERSION_CHECK": "1"}
PATIENCE = 60.0


@dataclass(frozen=True)
class Place:
    """A server by its address, with the folder of its gates and the headers its callers send."""

    name: str
    url: str
    gates: Path
    headers: dict[str, str]


def installed() -> Path:
    """The `langgraph` command of the pinned version, installed when the pins have changed."""
    with alone("peer"):
        return _installed()


def _installed() -> Path:
    stamp = VENV / "pins"
    pins = hashlib.sha256(PINS.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != pins:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
        command = [VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*command, "-c", PINS, "langgraph-cli[inmem]"], capture_output=True, text=True)
        assert done.returncode == 0 or "CI" not in os.environ, done.stderr
        if done.returncode:
            pytest.skip(f"the official server cannot be installed: {done.stderr[-300:]}")
        stamp.write_text(pins)
    return VENV / "bin" / "langgraph"


@contextmanager
def official(folder: Path) -> Iterator[Place]:
    """Serve the graphs of `graphs.py` from `folder` with the official server, on a free port, until the block ends."""
    gates = folder / "gates"
    gates.mkdir()
    graphs = {name: f"{HERE / 'graphs.py'}:{name}" for name in NAMES}
    (folder / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    port = _free_port()
    command = [str(installed()), "dev", "--no-browser", "--no-reload", "--allow-blocking"]
    command += ["--n-jobs-per-worker", "20", "--port", str(port)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LANG", "OPENAI_"))}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=clean | QUIET | {"GATES": str(gates)}, stdout=log, stderr=log
        )
    place = Place("official", f"http://127.0.0.1:{port}", gates, {})
    try:
        _wait(place.url, process, folder / "log")
        yield place
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def config(*keys: str) -> dict[str, Any]:
    """A config of ours that serves the same graphs, to browsers as well."""
    agents = {name: {"adapter": "langgraph", "options": {"graph": f"{HERE / 'graphs.py'}:{name}"}} for name in NAMES}
    server = {"api_keys": [*keys], "cors": ["*"]}
    return {"store": "sqlite:///runs.db", "server": server, "agents": agents}


@contextmanager
def runwire(folder: Path, key: str = "sk-test") -> Iterator[Place]:
    """Serve the same graphs with ours; without a key, to whoever asks."""
    gates = folder / "gates"
    gates.mkdir()
    with serving(folder, config(*filter(None, [key])), {"GATES": str(gates)}) as server:
        yield Place("runwire", server.url, gates, {"x-api-key": key} if key else {})


def _free_port() -> int:
    """The official server cannot choose one itself."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, f"the server ended: {log.read_text()[-3000:]}"
        assert time.monotonic() < deadline, f"the server does not answer: {log.read_text()[-3000:]}"
        try:
            urllib.request.urlopen(f"{url}/ok", timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
