from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from proxy import server
from proxy.errors import ConfigError
from proxy.settings import Server, Settings


class Small:
    """An app that answers with the size of the body, and counts its drains."""

    def __init__(self, fault: BaseException | None = None) -> None:
        self.fault = fault
        self.drains = 0

    async def drain(self) -> None:
        self.drains += 1

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            if self.fault is not None:
                await send({"type": "lifespan.startup.failed", "message": "a long traceback"})
                raise self.fault
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b"%d bytes" % size})


def settings() -> Settings:
    return Settings(agents={}, server=Server(drain=1.0))


def test_it_serves_and_drains_once_at_the_end() -> None:
    app = Small()
    with server.running(app, settings(), server.bind("127.0.0.1", 0)) as url:
        assert urllib.request.urlopen(url, data=b"abc").read() == b"3 bytes"
        assert app.drains == 0
    assert app.drains == 1


def test_what_keeps_the_app_from_starting_is_raised_in_its_own_words() -> None:
    app = Small(fault=ConfigError("the store is locked"))
    with (
        pytest.raises(ConfigError, match="the store is locked"),
        server.running(app, settings(), server.bind("127.0.0.1", 0)),
    ):
        pass


def test_a_taken_port_is_named_with_the_cure() -> None:
    with server.bind("127.0.0.1", 0) as bound:
        bound.listen()
        port = bound.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port}: .*--port"):
            server.bind("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_named_with_the_cure() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1, port 0: .*--host"):
        server.bind("192.0.2.1", 0)


PROCESS = textwrap.dedent("""
    import asyncio, threading, time
    from proxy import server
    from tests.test_server import Small, settings

    class Draining(Small):
        async def drain(self):
            print("draining", flush=True)
            {drain}

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

    server.LEFTOVERS = 0.2
    server.run(Draining(), settings(), server.bind("127.0.0.1", 0), lambda: print("up", flush=True))
    print("over", flush=True)
""")


def process(drain: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS.format(drain=drain)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    return child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_exit_code_zero(number: signal.Signals) -> None:
    with process("pass") as child:
        child.send_signal(number)
        assert child.communicate(timeout=20)[0] == "draining\nover\n"
        assert child.returncode == 0


def test_a_second_signal_ends_at_once() -> None:
    with process("await asyncio.sleep(3600)") as child:
        child.terminate()
        assert child.stdout is not None
        assert child.stdout.readline() == "draining\n"
        child.terminate()
        assert child.communicate(timeout=20)[0] == ""
        assert child.returncode == 0


@pytest.mark.parametrize(
    "leftover",
    [
        "self.task = asyncio.get_running_loop().create_task(stubborn()); await asyncio.sleep(0)",
        "threading.Thread(target=time.sleep, args=(3600,)).start()",
        "asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)",
    ],
    ids=["task", "thread", "executor"],
)
def test_what_an_agent_left_behind_does_not_keep_the_process(leftover: str) -> None:
    with process(leftover) as child:
        child.terminate()
        child.communicate(timeout=20)
        assert child.returncode == 0
