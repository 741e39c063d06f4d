"""Which application a request goes to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.api.front import Deferred, Front


@pytest.mark.parametrize(
    ("scope", "taken"),
    [
        ({"type": "http", "path": "/busy"}, "busy"),
        ({"type": "http", "path": "/busy/"}, "rest"),
        ({"type": "http", "path": "/ai/busy", "root_path": "/ai"}, "busy"),
        ({"type": "http", "path": "/busy", "root_path": "/ai"}, "busy"),
        ({"type": "websocket", "path": "/busy"}, "rest"),
        ({"type": "http", "path": "/family/one/a"}, "inner"),
        ({"type": "http", "path": "/family/two"}, "outer"),
        ({"type": "websocket", "path": "/family/two"}, "outer"),
        ({"type": "http", "path": "/ai/family/two", "root_path": "/ai"}, "outer"),
        ({"type": "http", "path": "/family"}, "rest"),
    ],
)
def test_the_busiest_paths_and_the_families_are_found_also_below_a_root_path(scope: dict[str, Any], taken: str) -> None:
    seen: list[str] = []

    def app(name: str) -> Any:
        async def take(scope: object, receive: object, send: object) -> None:
            seen.append(name)

        return take

    families = [("/family/one/", app("inner")), ("/family/", app("outer"))]
    front = Front({"/busy": app("busy")}, families, app("rest"))
    asyncio.run(visited(front, scope))
    assert seen == [taken]


def test_a_deferred_application_is_built_once_however_many_ask_at_once() -> None:
    built: list[str] = []
    asked: list[str] = []

    def build() -> Any:
        built.append("once")

        async def app(scope: Any, receive: object, send: object) -> None:
            asked.append(scope["path"])

        return app

    async def main() -> None:
        deferred: Any = Deferred(build)
        assert not built
        await asyncio.gather(*(deferred({"path": str(number)}, None, None) for number in range(5)))

    asyncio.run(main())
    assert built == ["once"]
    assert sorted(asked) == ["0", "1", "2", "3", "4"]


async def visited(front: Any, scope: dict[str, Any]) -> None:
    await front(scope, None, None)
