"""A real server in a process of its own, for tests that talk to it as clients do."""

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

import yaml

URL = re.compile(r"http://\S+")
HERE = Path(__file__).parent


class Server:
    """A running `runwire serve`. `url` has no path; `folder` holds its config and state; `log` is what it wrote."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], url: str) -> None:
        self.folder = folder
        self.process = process
        self.url = url

    @property
    def base_url(self) -> str:
        return self.url + "/v1"

    @property
    def log(self) -> str:
        return (self.folder / "err").read_text()

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code; a server that does not end within a minute is killed and fails."""
        self.process.send_signal(sig)
        return self.process.wait(60)


@contextmanager
def serving(folder: Path, config: dict[str, Any] | str, env: dict[str, str] | None = None) -> Iterator[Server]:
    """Serve this config from `folder`, on a free port, until the block ends."""
    text = config if isinstance(config, str) else yaml.safe_dump(config)
    (folder / "config.yaml").write_text(text)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "RUNWIRE_"))}
    clean |= {"PYTHONPATH": f"{HERE.parent.parent}{os.pathsep}{HERE}", "PYTHONUNBUFFERED": "1", **(env or {})}
    command = [sys.executable, "-m", "proxy.cli", "serve", "--config", str(folder / "config.yaml"), "--port", "0"]
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(command, cwd=folder, env=clean, stdout=out, stderr=err)
    try:
        yield Server(folder, process, _url(folder, process))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _url(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """The address from the banner, which is printed once requests are served."""
    import time

    while True:
        if process.poll() is not None:
            raise AssertionError(f"the server ended: {(folder / 'out').read_text()}{(folder / 'err').read_text()}")
        found = URL.search((folder / "out").read_text())
        if found:
            return found[0]
        time.sleep(0.02)
