from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.app import Front


@pytest.mark.parametrize(
    ("scope", "taken"),
    [
        ({"type": "http", "path": "/busy"}, "busy"),
        ({"type": "http", "path": "/busy/"}, "rest"),
        ({"type": "http", "path": "/ai/busy", "root_path": "/ai"}, "busy"),
        ({"type": "http", "path": "/busy", "root_path": "/ai"}, "busy"),
        ({"type": "lifespan"}, "rest"),
    ],
)
def test_the_busiest_paths_are_found_also_below_a_root_path(scope: dict[str, Any], taken: str) -> None:
    seen: list[str] = []

    def app(name: str) -> Any:
        async def take(scope: object, receive: object, send: object) -> None:
            seen.append(name)

        return take

    front = Front({"/busy": app("busy")}, app("rest"))
    asyncio.run(front(scope, app(""), app("")))
    assert seen == [taken]
