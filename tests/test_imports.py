"""Who may import whom: every import of every room, against one table."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ALL = {"events", "errors", "messages", "settings", "model", "transcript", "adapter", "loading", "schema", "store"}
WORKFLOW = "workflow_model"
LOG_WORDS = {"wire.workflow", "wire.workflow_parts", "wire.workflow_asks"}
"""What the log of a workflow run is made of: its engine writes finished envelopes."""
PORTS = {"store.base", "store.event_log", "store.native", "store.claims", "store.signals"}
RUNS = {"events", "errors", "model", "transcript", "adapter"} | PORTS
ADAPTERS = {"events", "errors", "messages", "adapter", "memories", "loading", "traits"}
FREE = {"messages", "settings"}
SERVED = {"events", "errors", "model", WORKFLOW, "transcript", "runs", "workflows", "wire", "adapter", "memories"}
TABLE = {
    "events": set[str](),
    "errors": set[str](),
    "messages": set[str](),
    "settings": set[str](),
    "blocked": set[str](),
    "model": {"events"},
    "transcript": {"events", *FREE},
    "wire": {"events", "transcript", "model", WORKFLOW, *FREE},
    "memories": {"events", "errors"},
    "adapter": {"events", "errors", *FREE},
    WORKFLOW: {"events"},
    "store": {"events", "errors", "model", WORKFLOW, *FREE},
    "runs": {*RUNS, *FREE},
    "api": {*SERVED, *FREE, "schema"},
    "workflows": {*RUNS, *FREE, WORKFLOW, "runs", "store.workflow", "store.session", *LOG_WORDS},
    "loading": {"errors", "schema"},
    "schema": {"errors"},
    "document": {"errors"},
    "environment": {"errors"},
    "config": {"settings", "errors", "schema", "document", "environment"},
    "traits": {"adapter"},
    "elsewhere": {"adapter", "errors", "events", "traits"},
    "plugins": {"settings", "errors", "adapter", "elsewhere", "traits", "memories", "loading", "schema"},
    "server": {"settings", "errors", "api.connection"},
    "migration": {"plugins", "memories", "settings", "store"},
    "cli": {"config", "plugins", "app", "worker", "migration", "settings", "errors", "schema", "server", "log"},
    "demo": set[str](),
    "testing": {*ALL, WORKFLOW, "wire", "runs", "config", "plugins", "server"},
    "process": {*ALL, "wire", "runs", "workflows", "plugins", "blocked", "log"},
    "worker": {"process", "api.health", "api.lifespan", "api.asgi", "settings", "errors"},
    "app": {"process", "runs", "workflows", "api", "settings"},
    "log": {"settings"},
}
FOREIGN = {"litestar": ("proxy.api", "proxy.app"), "lang": ("adapters.langgraph", "proxy.demo")}


def imports() -> Iterator[tuple[str, str]]:
    """(importer, imported) for each import anywhere in the packages, also inside functions."""
    for path in [*ROOT.glob("proxy/**/*.py"), *ROOT.glob("adapters/**/*.py")]:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if "template" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((module, name.name) for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: write imports in full"
                source = node.module or ""
                names = (f".{name.name}" if source in ("proxy", "adapters") else "" for name in node.names)
                yield from ((module, source + name) for name in names)


def within(name: str, rooms: set[str] | tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


def test_rooms_import_only_what_the_table_allows() -> None:
    wrong = []
    for importer, imported in imports():
        top, _, rest = imported.partition(".")
        if importer.startswith("adapters.") and top in ("proxy", "adapters"):
            own = imported.split(".")[:2] == importer.split(".")[:2]
            allowed = within(rest, ADAPTERS) if top == "proxy" else own
        elif top == "proxy":
            room = importer.split(".")[1]
            allowed = rest.split(".")[0] == room or within(rest, TABLE[room])
        else:
            allowed = top != "adapters"
        if not allowed:
            wrong.append(f"{importer} -> {imported}")
    assert not wrong


def test_frameworks_stay_in_their_rooms() -> None:
    wrong = [
        f"{importer} -> {imported}"
        for importer, imported in imports()
        for framework, rooms in FOREIGN.items()
        if imported.startswith(framework) and not within(importer, rooms)
    ]
    assert not wrong
