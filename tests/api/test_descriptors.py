"""A server that runs out of file descriptors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.api.serving import ask, opened

SCRIPT = """
import resource
from tests.api.serving import Probe, gated, served, settings
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with served(gated(Probe(), settings())) as port:
    print(port, flush=True)
    input()
"""


@pytest.fixture
def port() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(10)


def test_a_server_out_of_descriptors_serves_again_when_clients_leave(port: int) -> None:
    with ExitStack() as crowd:
        for _ in range(100):
            crowd.enter_context(opened(port))
    assert ask(port, "GET", "/v1/models").status == 200
