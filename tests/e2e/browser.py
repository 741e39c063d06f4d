"""Chromium with the page of `tests/browser`, which holds a conversation by one of the React hooks."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.npm import fetched, needed
from tests.peer.house import Place

PAGE = Path(__file__).parent.parent / "browser"
HOOKS = {
    "classic": {"hook": "classic"},
    "reconnecting": {"hook": "classic", "reconnect": "1"},
    "events": {"hook": "events"},
    "websocket": {"hook": "events", "transport": "websocket"},
}


class Stage:
    """Plays scenes of `tests/browser/scenes.mjs` and gives what each saw: its report, the thread, the requests."""

    def __init__(self, driver: subprocess.Popen[str]) -> None:
        self._driver = driver

    def play(self, place: Place, scene: str, hook: str) -> dict[str, Any]:
        key = place.headers.get("x-api-key")
        server = {"url": place.url, "key": key, "gates": str(place.gates)}
        line = json.dumps({"scene": scene, "hook": HOOKS[hook], "place": server})
        assert self._driver.stdin
        assert self._driver.stdout
        self._driver.stdin.write(line + "\n")
        self._driver.stdin.flush()
        told = self._driver.stdout.readline()
        assert told, "the driver ended"
        answer = json.loads(told)
        assert "report" in answer, answer["failed"]
        report: dict[str, Any] = answer["report"]
        assert not report["faults"]
        return report


@contextmanager
def stage() -> Iterator[Stage]:
    """Build the page and open a browser until the block ends."""
    needed("chromium")
    fetched(PAGE)
    pipe = subprocess.PIPE
    with tempfile.TemporaryDirectory() as built:
        build = ["npm", "run", "--silent", "build", "--", "--outDir", built, "--emptyOutDir"]
        subprocess.run(build, cwd=PAGE, check=True, stdin=subprocess.DEVNULL)
        command = ["node", "driver.mjs", str(shutil.which("chromium")), built]
        with subprocess.Popen(command, cwd=PAGE, stdin=pipe, stdout=pipe, text=True) as driver:
            try:
                yield Stage(driver)
            finally:
                # Its end closes the browser.
                assert driver.stdin
                driver.stdin.close()
                try:
                    driver.wait(30)
                finally:
                    driver.kill()
