"""The events route: what clients read of a run's log, and how its stream behaves. No engine: the test appends."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from proxy.api.client import Delivery
from proxy.api.workflows.events import EventLines
from proxy.errors import Unavailable
from proxy.model import new_id
from proxy.settings import Dialects, WorkflowDialect
from proxy.store.workflow import Advance
from proxy.testing.workflows import HASH, new_workflow, start_of
from proxy.wire.lines import Lines
from proxy.wire.workflow import (
    Event,
    NodeOutput,
    NodeOutputDelta,
    NodeStarted,
    NodeSucceeded,
    RunCompiled,
    RunCompleted,
    RunStarted,
    envelope,
)
from proxy.wire.workflow_parts import Artifact, Delta, Info
from proxy.wire.workflow_schemas import run_event
from proxy.workflow_model import WorkflowEvent, WorkflowRun, WorkflowStatus
from tests.api.scripted import OTHER, House, visit
from tests.api.serving import KEY, gated, head, opened, rest, served, settings
from tests.api.workflows.callers import BASE, UNKNOWN, ask, lines, refused

NDJSON = {"accept": "application/x-ndjson"}
SSE = {"accept": "text/event-stream"}
VALUE = '{"text":"Grüße"}'.encode()
QUICK = Dialects(workflows=WorkflowDialect(keepalive=0.05))
VALIDATOR = Draft7Validator(run_event())


def artifact(key: str, payload: bytes = VALUE) -> Artifact:
    digest = hashlib.sha256(payload).hexdigest()
    return Artifact(artifact_key=key, info=Info(bytes=len(payload), sha256=digest))


START = (RunCompiled(plan_hash=HASH), RunStarted(plan_hash=HASH))
MIDDLE = (
    NodeStarted(node_id="a"),
    NodeOutputDelta(node_id="a", delta=Delta(kind="message_delta", text_delta="Grüße 🎈\u2028")),
    NodeOutput(node_id="a", output=artifact("node_output.v0")),
    NodeSucceeded(node_id="a"),
)
END = RunCompleted(plan_hash=HASH, outputs=artifact("run_outputs.v0"))


async def went_on(house: House, run: WorkflowRun, *events: Event, **fields: Any) -> WorkflowRun:
    """The run with these events more."""
    appended = tuple(
        WorkflowEvent(
            seq=seq,
            type=str(event.__struct_config__.tag),
            body=envelope(event, run_id=run.run_id, seq=seq, at=1.5),
            content=VALUE if isinstance(event, NodeOutput | RunCompleted) else None,
        )
        for seq, event in enumerate(events, run.last_seq + 1)
    )
    stored = await house.app.store.advance(Advance(run=msgspec.structs.replace(run, **fields), events=appended))
    assert stored is not None
    return stored


async def begun(house: House, *events: Event, **fields: Any) -> WorkflowRun:
    run = await house.app.store.start_workflow(start_of(new_workflow(**fields)))
    return await went_on(house, run, *START, *events)


async def completed(house: House, run: WorkflowRun) -> WorkflowRun:
    return await went_on(house, run, END, status=WorkflowStatus.SUCCEEDED)


async def read(house: House, run: WorkflowRun, query: str = "", headers: dict[str, str] = NDJSON) -> bytes:
    """All that the events route gives."""
    answer = await ask(house, "GET", f"/runs/{run.run_id}/events{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.content


def parsed(body: bytes) -> list[Any]:
    """The events of a body of lines, each valid by the published schema."""
    assert body.isascii()
    assert body == b"" or body.endswith(b"\n")
    events = [msgspec.json.decode(line) for line in body.split(b"\n") if line]
    for event in events:
        VALIDATOR.validate(event)
    return events


def seqs(body: bytes) -> list[int]:
    return [event["seq"] for event in parsed(body)]


def test_a_log_is_read_in_lines_of_ascii_byte_for_byte_alike() -> None:
    async def scene(house: House) -> None:
        run = await completed(house, await begun(house, *MIDDLE))
        answer = await ask(house, "GET", f"/runs/{run.run_id}/events", headers=NDJSON)
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.headers["x-run-id"] == run.run_id
        assert answer.headers["cache-control"] == "no-store"
        assert seqs(answer.content) == list(range(1, 8))
        assert parsed(answer.content)[3]["delta"]["text_delta"] == "Grüße 🎈\u2028"
        assert await read(house, run, headers={}) == answer.content
        assert await read(house, run, headers={"accept": "application/json"}) == answer.content

    visit(scene)


def test_a_part_of_the_log_is_read_by_number_and_limit() -> None:
    async def scene(house: House) -> None:
        run = await begun(house, *MIDDLE)
        assert seqs(await read(house, run, "?wait=0")) == [1, 2, 3, 4, 5, 6]
        assert seqs(await read(house, run, "?wait=false&after_seq=4")) == [5, 6]
        assert seqs(await read(house, run, "?after_seq=2&limit=2")) == [3, 4]
        assert await read(house, run, "?wait=0&after_seq=6") == b""
        run = await completed(house, run)
        assert seqs(await read(house, run, "?after_seq=6")) == [7]
        for after in (7, 8, 10**9):
            assert await read(house, run, f"?after_seq={after}") == b""

    visit(scene)


def test_a_stream_stays_open_while_the_run_waits_and_ends_after_its_last_event() -> None:
    async def scene(house: House) -> None:
        run = await begun(house)
        async with house.http.stream("GET", f"{BASE}/runs/{run.run_id}/events", headers=NDJSON) as answer:
            got = lines(answer)
            assert [msgspec.json.decode(await anext(got))["seq"] for _ in range(2)] == [1, 2]
            run = await went_on(house, run, MIDDLE[0], status=WorkflowStatus.WAITING)
            assert msgspec.json.decode(await anext(got))["type"] == "node_started"
            run = await completed(house, run)
            assert [msgspec.json.decode(line)["type"] async for line in got] == ["run_completed"]

    visit(scene)


def test_the_headers_come_before_the_first_event() -> None:
    async def scene(house: House) -> None:
        run = await house.app.store.start_workflow(start_of(new_workflow()))
        async with house.http.stream("GET", f"{BASE}/runs/{run.run_id}/events", headers=NDJSON) as answer:
            assert answer.status_code == 200
            await completed(house, run)
            assert len([line async for line in lines(answer)]) == 1

    visit(scene)


def test_silence_is_an_empty_line_and_nothing_else() -> None:
    async def scene(house: House) -> None:
        run = await begun(house)
        async with house.http.stream("GET", f"{BASE}/runs/{run.run_id}/events?after_seq=2", headers=NDJSON) as answer:
            got = lines(answer)
            assert [await anext(got) for _ in range(2)] == [b"\n", b"\n"]
            await completed(house, run)
            others = [line async for line in got if line != b"\n"]
            assert seqs(b"".join(others)) == [3]

    visit(scene, dialects=QUICK)


def test_all_readers_get_the_same_bytes_whenever_they_come() -> None:
    async def scene(house: House) -> None:
        run = await begun(house)
        early = [asyncio.create_task(read(house, run)) for _ in range(20)]
        late = []
        for number in range(30):
            run = await went_on(house, run, *MIDDLE[:2])
            if number % 10 == 0:
                late += [asyncio.create_task(read(house, run, f"?after_seq={number}")) for _ in range(5)]
        run = await completed(house, run)
        whole = await read(house, run)
        assert seqs(whole) == list(range(1, 64))
        assert set(await asyncio.gather(*early)) == {whole}
        assert all(whole.endswith(body) and body for body in await asyncio.gather(*late))

    visit(scene)


def test_payloads_are_put_into_the_events_where_they_are_asked_for() -> None:
    async def scene(house: House) -> None:
        run = await completed(house, await begun(house, *MIDDLE))
        plain = [event.get("output") or event.get("outputs") for event in parsed(await read(house, run))]
        whole = [
            event.get("output") or event.get("outputs")
            for event in parsed(await read(house, run, "?include_output=true"))
        ]
        assert [bool(one) for one in plain] == [False, False, False, False, True, False, True]
        for bare, full in zip(plain, whole, strict=True):
            if bare:
                assert bare["info"]["included"] is False
                assert "content" not in bare["info"]
                assert (full["info"]["included"], full["info"]["content"]) == (True, {"text": "Grüße"})
        assert await read(house, run, "?include_output=0") == await read(house, run)

    visit(scene)


def test_server_sent_events_have_type_number_and_envelope_and_go_on_where_a_reader_was() -> None:
    async def scene(house: House) -> None:
        run = await completed(house, await begun(house, *MIDDLE))
        answer = await ask(house, "GET", f"/runs/{run.run_id}/events", headers=SSE)
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [event.split(b"\n") for event in answer.content.removesuffix(b"\n\n").split(b"\n\n")]
        assert [event[:2] for event in events[:2]] == [
            [b"event: run_compiled", b"id: 1"],
            [b"event: run_started", b"id: 2"],
        ]
        bodies = b"".join(event[2].removeprefix(b"data: ") + b"\n" for event in events)
        assert bodies == await read(house, run)
        for headers, query in (
            ({**SSE, "last-event-id": "6"}, ""),
            ({**SSE, "last-event-id": "6"}, "?after_seq=1"),
            (SSE, "?after_seq=6"),
        ):
            assert (await read(house, run, query, headers)).startswith(b"event: run_completed\nid: 7\n")
        path = f"/runs/{run.run_id}/events"
        await refused(house, "GET", path, 400, "INVALID_INPUT", headers={**SSE, "last-event-id": "x"})
        assert seqs(await read(house, run, "", {**NDJSON, "last-event-id": "6"})) == list(range(1, 8))

    visit(scene)


@pytest.mark.parametrize(
    "query",
    [
        "after_seq=-1",
        "after_seq=x",
        "after_seq=1.5",
        "limit=0",
        "limit=10001",
        "limit=x",
        "wait=maybe",
        "include_output=2",
    ],
)
def test_a_query_that_does_not_fit_is_refused_and_named(query: str) -> None:
    async def scene(house: House) -> None:
        run = await begun(house)
        error = await refused(house, "GET", f"/runs/{run.run_id}/events?{query}", 400, "INVALID_INPUT", headers=NDJSON)
        assert error["fields"][0]["field"] == query.partition("=")[0]

    visit(scene)


def test_runs_that_are_not_there_are_refused_before_any_line() -> None:
    async def scene(house: House) -> None:
        run = await begun(house)
        await refused(house, "GET", f"/runs/{UNKNOWN}/events", 404, "NOT_FOUND", headers=NDJSON)
        await refused(house, "GET", f"/runs/{run.run_id}/events", 404, "NOT_FOUND", headers={**NDJSON, **OTHER})
        await refused(house, "GET", "/runs/x/events", 400, "INVALID_INPUT", headers=NDJSON)

    visit(scene)


def test_a_reader_that_leaves_is_no_matter_to_the_run() -> None:
    async def scene(house: House) -> None:
        run = await begun(house)
        async with house.http.stream("GET", f"{BASE}/runs/{run.run_id}/events", headers=NDJSON) as answer:
            await anext(lines(answer))
        run = await completed(house, run)
        assert seqs(await read(house, run)) == [1, 2, 3]

    visit(scene)


def test_a_large_log_comes_whole() -> None:
    async def scene(house: House) -> None:
        run = await begun(house)
        delta = NodeOutputDelta(node_id="a", delta=Delta(kind="message_delta", text_delta="x" * 5000))
        for _ in range(5):
            run = await went_on(house, run, *[delta] * 500)
        run = await completed(house, run)
        assert seqs(await read(house, run)) == list(range(1, 2504))

    visit(scene)


def test_a_log_that_can_no_longer_be_read_breaks_off_and_does_not_end() -> None:
    event = WorkflowEvent(seq=1, type="run_started", body=b"{}\n")

    async def broken() -> AsyncGenerator[list[WorkflowEvent]]:
        yield [event]
        raise Unavailable

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await EventLines("r", broken(), Lines(), Delivery(on_leave=lambda: None))(scope, receive, send)

    with served(gated(app, settings())) as port, opened(port) as sock:
        sock.sendall(head("GET", "/api/v1/runs/r/events", {"authorization": f"Bearer {KEY}"}))
        got = rest(sock)
    assert got.startswith(b"HTTP/1.1 200 ")
    assert got.endswith(b"\r\n\r\n3\r\n{}\n\r\n")


def test_readers_are_let_go_when_the_server_stops() -> None:
    async def scene(house: House) -> None:
        run = await begun(house, run_id=new_id())
        async with house.http.stream("GET", f"{BASE}/runs/{run.run_id}/events", headers=NDJSON) as answer:
            got = lines(answer)
            for _ in range(2):
                await anext(got)
            await house.app.drain()
            assert [line async for line in got] == []

    visit(scene)
