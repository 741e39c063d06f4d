from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main


def health(url: str) -> Result:
    return CliRunner().invoke(main, ["health", "--url", url])


@pytest.mark.parametrize("url", ["127.0.0.1", "127.0.0.1:8000", "http://127.0.0.1:port", "http://127.0.0.1:1"])
def test_where_nobody_answers_what_was_asked_is_told(url: str) -> None:
    result = health(url)
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert result.output.startswith(f"{url}/ready: ")


def test_who_hangs_up_takes_no_work() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, ThreadPoolExecutor(1) as hanging_up:
        hanging_up.submit(lambda: other.accept()[0].close())
        result = health(f"http://127.0.0.1:{other.getsockname()[1]}")
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
