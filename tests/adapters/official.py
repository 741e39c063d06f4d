"""What the official server sends for the graphs of `native_graphs.py`, recorded, and how to compare with it.

To record anew, serve those graphs with `langgraph dev` under the names in `RUNS` and run
`python -m tests.adapters.official http://127.0.0.1:2024`.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_suffix(".json")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
TIME = re.compile(r'(?<="timestamp":")[^"]+|(?<="created_at":")[^"]+')
OWN = (
    *("langgraph_auth_", "langgraph_request_id", "langgraph_api_", "langgraph_plan", "langgraph_host"),
    *("langgraph_version", "__request_start_time_ms__", "__after_seconds__"),
)
"""Keys that only the official server's host sets."""
HELLO = {"messages": [{"role": "user", "content": "hi", "id": "u1"}]}
COUNT: dict[str, Any] = {"n": 0, "log": []}

RUNS: dict[str, tuple[str, list[str], Any, dict[str, Any]]] = {
    "agent": ("agent", ["values", "updates", "messages-tuple", "custom"], HELLO, {}),
    "messages": ("agent", ["messages"], HELLO, {}),
    "both forms of messages": ("agent", ["messages", "messages-tuple"], HELLO, {}),
    "tags": ("agent", ["messages-tuple", "tasks"], HELLO, {"metadata": {"mine": {"a": 1}}, "tags": ["t1"]}),
    "question": ("asks", ["values", "updates"], {"draft": "d"}, {}),
    "question in values": ("asks", ["values"], {"draft": "d"}, {}),
    "question in debug": ("asks", ["debug", "tasks", "checkpoints"], {"draft": "d"}, {}),
    "breakpoint": ("halts", ["values", "updates"], COUNT, {}),
    "asked breakpoint": ("fans", ["values", "updates"], COUNT, {"interrupt_before": ["leap"]}),
    "breakpoints everywhere": ("fans", ["values", "updates"], COUNT, {"interrupt_after": "*"}),
    "sub-graphs": ("nested", ["values", "messages-tuple", "custom"], HELLO, {"stream_subgraphs": True}),
    "sub-graphs hidden": ("nested", ["updates", "messages-tuple"], HELLO, {}),
    "messages of sub-graphs": ("nested", ["messages"], HELLO, {"stream_subgraphs": True}),
    "debug of sub-graphs": ("nested", ["debug"], HELLO, {"stream_subgraphs": True}),
    "checkpoints hidden": ("nested", ["checkpoints", "tasks"], HELLO, {}),
    "failure": ("breaks", ["values", "debug"], COUNT, {}),
    "fan": ("fans", ["values", "updates", "tasks"], COUNT, {}),
    "functional": ("functional", ["values", "updates", "tasks"], {"n": 3}, {}),
    "events": ("halts", ["events", "values"], COUNT, {}),
    "events of sub-graphs": ("nested", ["events", "values"], HELLO, {"stream_subgraphs": True}),
    "too many steps": ("fans", ["values"], COUNT, {"config": {"recursion_limit": 2}}),
    "wrong input": ("halts", ["values"], "text", {}),
    "no input": ("halts", ["values"], None, {}),
    "kept at the end": ("halts", ["values", "checkpoints"], COUNT, {"durability": "exit"}),
}
"""Graph, modes, input and the rest of the request."""


def plain(frames: list[tuple[str, str]]) -> list[list[str]]:
    """Event names and data without what differs from run to run: ids are numbered as they appear, keys sorted, since
    the official server has some of them now in this order, now in that."""
    seen: dict[str, str] = {}

    def numbered(text: str) -> str:
        return TIME.sub("TIME", UUID.sub(lambda found: seen.setdefault(found.group(), f"#{len(seen) + 1}"), text))

    return [[numbered(name), numbered(_without(data))] for name, data in frames]


def _without(data: str) -> str:
    return json.dumps(_strip(json.loads(data)), separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def _strip(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strip(each) for key, each in value.items() if not key.startswith(OWN)}
    return [_strip(each) for each in value] if isinstance(value, list) else value


def recorded(name: str) -> list[list[str]]:
    frames: list[list[str]] = json.loads(RECORDED.read_text("utf-8"))[name]
    return frames


def _asked(url: str, body: Any) -> bytes:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: bytes = answer.read()
    return content


def _sent(server: str, graph: str, modes: list[str], input: Any, more: dict[str, Any]) -> list[tuple[str, str]]:
    thread = json.loads(_asked(f"{server}/threads", {}))["thread_id"]
    more = dict(more)
    if "tags" in more:
        more["config"] = {"tags": more.pop("tags")}
    body = {"assistant_id": graph, "input": input, "stream_mode": modes, **more}
    blocks = _asked(f"{server}/threads/{thread}/runs/stream", body).decode().split("\r\n\r\n")
    fields = [dict(line.split(": ", 1) for line in block.split("\r\n") if ": " in line) for block in blocks]
    return [(field["event"], field["data"]) for field in fields if "event" in field]


if __name__ == "__main__":
    sent = {name: plain(_sent(sys.argv[1], *run)) for name, run in RUNS.items()}
    lines = (f"{json.dumps(name)}: {json.dumps(frames, ensure_ascii=False)}" for name, frames in sent.items())
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
