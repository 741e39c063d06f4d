from __future__ import annotations

import re
from typing import Any, get_args

import jsonschema
import msgspec
import pytest

from proxy.wire.workflow import (
    LARGEST_INCLUDED,
    Event,
    NodeOutput,
    NodeOutputDelta,
    NodeStarted,
    RunCompleted,
    ascii_only,
    envelope,
    included,
    read,
    sse,
    stamp,
)
from proxy.wire.workflow_parts import Delta, Kind
from proxy.wire.workflow_schemas import OF_NODES, OF_RUNS, run_event, workflow
from tests.wire.workflow_events import AT, EVENTS, HASH, REQUEST, RUN, VALIDATOR, lines

NAMES = [f"{index}-{type(event).__name__}" for index, event in enumerate(EVENTS)]


def told(event: Event) -> dict[str, Any]:
    [line] = lines([event])
    found: dict[str, Any] = msgspec.json.decode(line)
    return found


def valid(record: dict[str, Any]) -> bool:
    return VALIDATOR.is_valid(record)


def test_there_is_an_event_of_each_type() -> None:
    types = {str(each.__struct_config__.tag) for each in get_args(Event)}
    assert types == {*OF_RUNS, *OF_NODES} == {told(event)["type"] for event in EVENTS}


@pytest.mark.parametrize("event", EVENTS, ids=NAMES)
def test_an_event_is_a_line_of_ascii_that_the_schema_allows_and_reads_back(event: Event) -> None:
    [line] = lines([event])
    assert line.isascii()
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert b"null" not in line
    head, back = read(line)
    assert back == event
    assert (head.envelope_version, head.run_id, head.seq) == ("v2", RUN, 1)


def test_an_envelope_to_the_byte() -> None:
    assert envelope(NodeStarted(node_id="a"), run_id=RUN, seq=3, at=AT) == (
        b'{"envelope_version":"v2","run_id":"0190d5a0-0000-7000-8000-000000000001","seq":3,'
        b'"ts":"2023-11-14T22:13:20.250000Z","type":"node_started","node_id":"a"}\n'
    )


def test_text_of_any_script_survives_ascii() -> None:
    text = 'Hé "q" \\ \n\u2028\x85 😀 日本 \x7f'
    [line] = lines([NodeOutputDelta(node_id="a", delta=Delta(kind="message_delta", text_delta=text))])
    assert msgspec.json.decode(line)["delta"]["text_delta"] == text
    assert ascii_only('"\\\\ué😀"'.encode()) == b'"\\\\u\\u00e9\\ud83d\\ude00"'


def test_times_are_never_the_zero_time_and_always_in_utc() -> None:
    assert stamp(0.0) == "1970-01-01T00:00:00.000000Z"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", stamp(AT))


@pytest.mark.parametrize("event", EVENTS, ids=NAMES)
def test_an_extra_field_or_a_null_at_any_level_is_not_an_event(event: Event) -> None:
    record = told(event)
    for holder in holders(record):
        holder["extra"] = 1
        assert not valid(record)
        holder["extra"] = None
        assert not valid(record)
        del holder["extra"]
    assert valid(record)


def holders(value: Any) -> list[dict[str, Any]]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [each for one in inner for each in holders(one)]
    return [value, *found] if isinstance(value, dict) else found


@pytest.mark.parametrize("event", EVENTS, ids=NAMES)
def test_no_field_can_be_null(event: Event) -> None:
    record = told(event)
    for holder in holders(record):
        for name, value in list(holder.items()):
            holder[name] = None
            assert not valid(record), name
            holder[name] = value


def test_unknown_types_and_payloads_that_were_not_asked_for_differ_from_events() -> None:
    assert not valid({**told(EVENTS[0]), "type": "task_list_updated"})
    record = told(EVENTS[13])
    record["output"]["info"]["included"] = True
    assert not valid(record), "said to be included, but is not there"


def test_only_kinds_of_deltas_that_all_clients_know_are_sent() -> None:
    record = told(EVENTS[4])
    for kind in get_args(Kind):
        assert valid({**record, "delta": {"kind": kind}})
    assert not valid({**record, "delta": {"kind": "ping"}})


@pytest.mark.parametrize("field", ["request_id"])
def test_request_ids_are_uuids(field: str) -> None:
    record = told(EVENTS[6])
    record["llm_call"][field] = "req-1"
    assert not valid(record)
    record["llm_call"][field] = REQUEST
    assert valid(record)


@pytest.mark.parametrize("name", ["A", "a-b", "1a", "a" * 65])
def test_node_ids_that_some_clients_cannot_read_are_no_events(name: str) -> None:
    assert not valid({**told(EVENTS[2]), "node_id": name})


def test_run_events_have_a_plan_and_no_node_and_node_events_the_reverse() -> None:
    for event in EVENTS:
        record = told(event)
        assert ("plan_hash" in record, "node_id" in record) == (
            (True, False) if record["type"] in OF_RUNS else (False, True)
        )
        assert not valid({**record, "plan_hash": HASH, "node_id": "a"})


def test_an_envelope_without_its_version_is_none() -> None:
    record = told(EVENTS[0])
    del record["envelope_version"]
    assert not valid(record)


def test_providers_that_some_clients_do_not_know_are_no_events() -> None:
    record = told(EVENTS[6])
    record["llm_call"]["provider"] = "local"
    assert not valid(record)


def test_a_log_counts_from_one_without_gaps_and_each_line_has_its_end() -> None:
    whole = b"".join(lines(EVENTS))
    assert whole.endswith(b"\n")
    assert [msgspec.json.decode(line)["seq"] for line in whole.splitlines()] == list(range(1, len(EVENTS) + 1))


@pytest.mark.parametrize("event", [each for each in EVENTS if isinstance(each, NodeOutput | RunCompleted)])
def test_a_payload_is_shown_to_who_asks_for_it(event: Event) -> None:
    [line] = lines([event])
    whole = included(line, '{"text":"ü","n":null}'.encode())
    record = msgspec.json.decode(whole)
    VALIDATOR.validate(record)
    info = record["outputs" if isinstance(event, RunCompleted) else "output"]["info"]
    assert (info["included"], info["content"]) == (True, {"text": "ü", "n": None})
    assert whole.isascii()
    assert whole.endswith(b"\n")
    assert {**msgspec.json.decode(line), "output": 0, "outputs": 0} == {**record, "output": 0, "outputs": 0}
    assert included(line, b'"' + b"x" * LARGEST_INCLUDED + b'"') == line


def test_an_event_as_a_server_sent_event() -> None:
    [line] = lines([EVENTS[0]])
    assert sse(line) == b"event: run_compiled\nid: 1\ndata: " + line.rstrip(b"\n") + b"\n\n"


@pytest.mark.parametrize("schema", [run_event(), workflow()])
def test_the_published_schemas_are_draft_07(schema: dict[str, Any]) -> None:
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    msgspec.json.encode(schema)
