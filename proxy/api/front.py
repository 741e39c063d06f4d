"""Which application a request goes to, by its path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from proxy.api.asgi import App, Receive, Scope, Send


class Front:
    """Hands the busiest paths and the families of paths to their applications, and all else to the framework's router.

    `families` are (prefix, application); the first that fits counts.
    """

    def __init__(self, busy: dict[str, App], families: Sequence[tuple[str, App]], rest: App) -> None:
        self._busy = busy
        self._families = families
        self._rest = rest

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path = path_of(scope)
        app = self._busy.get(path) if scope["type"] == "http" else None
        return (app or self._family(path))(scope, receive, send)

    def _family(self, path: str) -> App:
        return next((app for prefix, app in self._families if path.startswith(prefix)), self._rest)


def path_of(scope: Scope) -> str:
    """The path below the one that a reverse proxy shows this server under."""
    path: str = scope["path"]
    root = scope.get("root_path")
    return path.removeprefix(root) if root else path


class Deferred:
    """An application that is built when it is first asked for, in a thread of its own: most servers never are, and
    the framework takes a tenth of a second for it."""

    def __init__(self, build: Callable[[], App]) -> None:
        self._build = build
        self._app: App | None = None
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app or await self._built()
        await app(scope, receive, send)

    async def _built(self) -> App:
        async with self._lock:
            if self._app is None:
                with ThreadPoolExecutor(1, "router") as executor:
                    self._app = await asyncio.get_running_loop().run_in_executor(executor, self._build)
        return self._app
