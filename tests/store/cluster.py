"""A PostgreSQL server of a test's own, to be stopped, restarted and paused."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

BINARIES = Path("/usr/lib/postgresql")
USER = "postgres"
"""Who runs it where we are root, which PostgreSQL refuses to be."""
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
fsync = off
max_connections = 100
"""
ACCESS = """
host all guest 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""
"""Who comes as `guest` needs a password."""


def binary(name: str) -> str:
    found = shutil.which(name) or next((str(path) for path in sorted(BINARIES.glob(f"*/bin/{name}"))[::-1]), None)
    if found is None:
        reason = f"PostgreSQL's `{name}` is not at hand"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return str(found)


class Cluster:
    """The server. `url` names its one database; it stays the same over a restart."""

    def __init__(self, data: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._data = data
        self._call("initdb", "--no-sync", "--auth=trust", "--username=root", "--encoding=UTF8", "--locale=C")
        with (data / "postgresql.conf").open("a") as file:
            file.write(SETTINGS.format(port=port))
        (data / "pg_hba.conf").write_text(ACCESS)
        self.url = f"postgresql://root@127.0.0.1:{port}/postgres"

    def _call(self, name: str, *arguments: str) -> None:
        command = [binary(name), "-D", str(self._data), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", USER, "--", *command]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)

    def start(self) -> None:
        """Returns once it takes connections."""
        self._call("pg_ctl", "start", "-w", "-l", str(self._data / "server.log"))

    def stop(self) -> None:
        """As a crash does: nobody is told, nothing is tidied up."""
        self._call("pg_ctl", "stop", "-m", "immediate")

    def revive(self) -> None:
        """Make it run, whatever a test has done to it."""
        if (self._data / "postmaster.pid").exists():
            self.resume()
        else:
            self.start()

    def pause(self) -> None:
        """It keeps its connections and answers nothing."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, sent: signal.Signals) -> None:
        postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().splitlines()[0]))
        postmaster.send_signal(sent)
        for child in postmaster.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it ended with its connection
                child.send_signal(sent)

    def execute(self, query: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(query.encode())


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A new server, which runs; it lies in the folder, or where PostgreSQL's own user may be if we are root."""
    data = Path(tempfile.mkdtemp(prefix="cluster", dir=None if os.geteuid() == 0 else folder))
    if os.geteuid() == 0:
        os.chown(data, pwd.getpwnam(USER).pw_uid, -1)
    made: Cluster | None = None
    try:
        made = Cluster(data)
        made.start()
        yield made
    finally:
        if made is not None:
            with suppress(OSError, subprocess.CalledProcessError):
                made.resume()
                made.stop()
        shutil.rmtree(data, ignore_errors=True)
