"""Requests that no sane client sends. Each is refused in its path's form, or taken where being lenient is right; the
server answers a normal one right after."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.faults.attacker import Attacker, refused
from tests.faults.bodies import CHAT, FREE, KINDS, MODELS, POISON, SAY, SIMPLE, WHOLE, WRONG, nested, placed, with_free


def sent(attacker: Attacker, body: Any, path: str = "/v1/chat/completions") -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = attacker.send(path, raw)
    attacker.well()
    return reply


@pytest.mark.parametrize(("field", "kind"), WRONG)
def test_a01_a_known_field_of_a_wrong_type_is_named(attacker: Attacker, field: str, kind: str) -> None:
    error = refused(sent(attacker, placed(field, KINDS[kind])), status=400)
    assert str(error["param"]).startswith(field), error


@pytest.mark.parametrize(("field", "kinds"), SIMPLE.items())
def test_a01_the_simple_form_refuses_wrong_types_in_its_own_form(attacker: Attacker, field: str, kinds: str) -> None:
    for kind in KINDS.keys() - set(kinds.split()):
        reply = attacker.send("/completion", json.dumps({"message": "say x", field: KINDS[kind]}).encode())
        assert refused(reply, "completion", 400)["detail"].startswith(field)
    attacker.well()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/completion"])
@pytest.mark.parametrize("name", WHOLE)
def test_a01_a_body_that_is_no_request_is_refused(attacker: Attacker, path: str, name: str) -> None:
    form = "openai" if path.startswith("/v1") else "completion"
    refused(sent(attacker, WHOLE[name], path), form, 400)


@pytest.mark.parametrize("name", CHAT)
def test_a01_a_value_out_of_its_range_is_refused(attacker: Attacker, name: str) -> None:
    assert refused(sent(attacker, {"model": "actor", "messages": SAY, **CHAT[name]}), status=400)["param"]


@pytest.mark.parametrize("name", MODELS)
def test_a11_a_model_is_a_name_and_never_a_place(attacker: Attacker, name: str) -> None:
    body = {"model": MODELS[name], "messages": SAY}
    assert refused(sent(attacker, body), status=404)["code"] == "model_not_found"
    body = {"agent": MODELS[name] or "/", "message": "x"}
    assert refused(sent(attacker, body, "/completion"), "completion", 404)["error"] == "model_not_found"


@pytest.mark.parametrize("place", FREE)
@pytest.mark.parametrize("poison", POISON)
def test_a02_no_field_takes_what_nobody_can_store(attacker: Attacker, place: str, poison: str) -> None:
    refused(sent(attacker, with_free(place, POISON[poison])), status=400)


@pytest.mark.parametrize("place", FREE)
def test_a02_fields_that_take_anything_take_what_is_sane(attacker: Attacker, place: str) -> None:
    value = b'{"a":[' + nested(50) + b',1e308,-9223372036854775808,9999999999999999999,"\\ud83d\\ude00\\u2028"],"a":{}}'
    reply = sent(attacker, with_free(place, value))
    assert reply.status == 200, reply.text
    record = attacker.send(f"/runs/{reply.run_id}")
    assert record.status == 200, record.text


@pytest.mark.parametrize(
    "headers",
    [
        {"content-encoding": "gzip"},
        {"content-encoding": "br"},
        {"content-encoding": "identity, gzip"},
        {"transfer-encoding": "gzip, chunked", "content-length": ""},
    ],
)
def test_a02_compressed_bodies_are_not_unpacked(attacker: Attacker, headers: dict[str, str]) -> None:
    refused(attacker.send("/v1/chat/completions", WHOLE["gzip"], headers))
    attacker.well()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "x" * 1000, "a/b; charset=x"])
def test_a01_the_content_type_does_not_matter(attacker: Attacker, kind: str) -> None:
    body = json.dumps({"model": "actor", "messages": SAY}).encode()
    assert attacker.send("/v1/chat/completions", body, {"content-type": kind}).answer == "yes"


BAD_HEADERS = {
    "keepalive": ("x-runwire-keepalive", "nan"),
    "keepalive_word": ("x-runwire-keepalive", "often"),
    "steps": ("x-runwire-max-steps", "1e9"),
    "no_steps": ("x-runwire-max-steps", "0"),
    "steps_word": ("x-runwire-max-steps", "many" * 5000),
    "background": ("x-runwire-background", "perhaps"),
    "on_disconnect": ("x-runwire-on-disconnect", b"\xff\xfe"),
    "show": ("x-runwire-show", "all"),
    "show_tools": ("x-runwire-show-tools", "all"),
    "context": ("x-runwire-context", "{"),
    "context_list": ("x-runwire-context", "[1]"),
    "context_bytes": ("x-runwire-context", b'{"a":"\xff"}'),
    "context_deep": ("x-runwire-context", nested(200)),
    "context_bottomless": ("x-runwire-context", nested(9000)),
    "context_nul": ("x-runwire-context", '{"a":"\\u0000"}'),
    "context_half_pair": ("x-runwire-context", '{"a":"\\ud800"}'),
    "context_integer": ("x-runwire-context", '{"a":' + "9" * 500 + "}"),
    "model": ("x-runwire-model", "gpt-4o"),
    "thread": ("x-thread-id", b"\xe4\xf6"),
    "thread_long": ("x-thread-id", "t" * 129),
    "thread_spaces": ("x-runwire-thread-id", "a b"),
    "key_long": ("idempotency-key", "k" * 256),
    "all_long": ("x-long", "x" * 70_000),
    "no_length": ("content-length", "-1"),
    "two_lengths": ("content-length", "5, 5"),
    "huge_length": ("content-length", "9" * 30),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a01_headers_are_checked_as_bodies_are(attacker: Attacker, name: str) -> None:
    header, value = BAD_HEADERS[name]
    refused(attacker.chat("say x", headers={header: value}))
    attacker.well()


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("idempotency-key", b"\xff\xfe\xe4 #1"),
        ("idempotency-key", ""),
        ("x-runwire-unheard-of", b"\xff"),
        ("x-runwire-", "x"),
        ("x-runwire-context", '{"a":"fäden"}'),
        ("x-request-id", "a b\tc"),
        ("x-forwarded-for", "127.0.0.1"),
        ("accept", b"\xff/\xff"),
        ("cookie", "x" * 10_000),
    ],
)
def test_a01_headers_that_mean_nothing_do_no_harm(attacker: Attacker, header: str, value: str | bytes) -> None:
    assert attacker.chat("say x", headers={header: value}).answer == "x"


PATHS = [
    b"/v1/models/../../etc/passwd",
    b"/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    b"/v1/models/%ff%fe",
    b"/v1/models/%ed%a0%80",
    b"/v1/models/\xff",
    b"/v1/models/%00",
    b"/v1/models/a%0d%0aset-cookie:x",
    b"/v1/models/" + b"x" * 60_000,
    b"/v1/models/%zz",
    b"/v1/models/os:system",
    b"//v1/chat/completions",
    b"/v1/chat/completions/",
    b"/v1/engines",
    b"/v1/files?purpose=%00",
    b"/.git/config",
    b"/runs.db",
    b"/openapi.yaml",
    b"/schema",
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40].decode("latin-1"))
def test_a01_paths_that_lead_nowhere(attacker: Attacker, path: bytes) -> None:
    refused(attacker.send(path))
    attacker.well()


IDS = ["x", "..", "%2e%2e", "%2e%2e%2fruns.db", "%00", "%ff", "'%20OR%201=1--", "x" * 5000, "%0d%0ax:y", "{}", "%25s"]


@pytest.mark.parametrize("id", IDS, ids=lambda id: id[:20])
def test_a01_an_id_is_a_uuid_or_nothing(attacker: Attacker, id: str) -> None:
    for method, path in [("GET", "/runs/{}"), ("DELETE", "/runs/{}"), ("GET", "/runs/{}/events")]:
        refused(attacker.send(path.format(id), method=method), "langgraph")
    refused(attacker.send(f"/runs/{id}/cancel", b""), "langgraph")
    attacker.well()


QUERIES = [
    "after_seq=-1", "after_seq=1.5", "after_seq=" + "9" * 5000, "after_seq=", "after_seq=0x1", "after_seq=%00",
    "after_seq=%ff", "after_seq=9007199254740992", "limit=0", "limit=-1", "limit=NaN", "wait=perhaps", "wait=",
    "wait=1&wait=perhaps", "limit=1&limit=0",
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query[:30])
def test_a01_a_wrong_query_is_refused(attacker: Attacker, query: str) -> None:
    run = attacker.chat("say x").run_id
    refused(attacker.send(f"/runs/{run}/events?{query}"), "langgraph", 422)
    attacker.well()


@pytest.mark.parametrize("query", ["a=1&a=2&b[]=3", "&&&==", "%", "after_seq=9007199254740991"])
def test_a01_a_strange_query_is_no_harm(attacker: Attacker, query: str) -> None:
    run = attacker.chat("say x").run_id
    assert attacker.send(f"/runs/{run}/events?{query}").status == 200


def test_a02_a_bad_body_with_a_long_name_is_refused_at_once(attacker: Attacker) -> None:
    """The place at fault is looked for, which must not take time by the length of names times their number."""
    many = b",".join(b'"%d":0' % number for number in range(40_000))
    body = b'{"model":"actor","messages":[],"%s":{%s},"z":"\\ud800"}' % (b"k" * 500_000, many)
    reply = attacker.send("/v1/chat/completions", body)
    assert refused(reply, status=400)["param"] == "z"


VALUE_BOMBS = {
    "lists": b"[],",
    "objects": b'{"a":0},',
    "numbers": b"1,",
    "texts": b'"ab",',
    "floats": b"1.5,",
}


@pytest.mark.parametrize("bomb", VALUE_BOMBS)
@pytest.mark.parametrize("place", ["metadata", "context", "file"])
def test_a02_a_body_at_the_limit_takes_memory_within_reason(attacker: Attacker, place: str, bomb: str) -> None:
    limit = 20 * 1024 * 1024
    piece = VALUE_BOMBS[bomb]
    attacker.well()
    before = attacker.peak()
    reply = attacker.send(
        "/v1/chat/completions", with_free(place, b'{"a":[' + piece * ((limit - 500) // len(piece)) + b"0]}")
    )
    refused(reply, status=400)
    attacker.well()
    assert attacker.peak() - before < 3 * limit


def test_a02_commas_in_a_text_are_no_values(attacker: Attacker) -> None:
    text = ',"' * 1_000_000
    assert attacker.chat(text, model="whole").answer == f"You said: {text}"


def test_a14_what_a_schema_or_a_picture_names_is_never_fetched(attacker: Attacker) -> None:
    loop = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}, "pattern": "(a+)+$"}
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/"
        far = {"type": "object", "properties": {"x": {"$ref": url}}, "$schema": url}
        tools = [
            {"type": "function", "function": {"name": f"f{i}", "parameters": schema}}
            for i, schema in enumerate((loop, far))
        ]
        picture = [{"type": "text", "text": "say x"}, {"type": "image_url", "image_url": {"url": url}}]
        for model in ("actor", "counting", "gpt"):
            body = {"model": model, "tools": tools, "messages": [{"role": "user", "content": picture}]}
            assert sent(attacker, body | {"response_format": {"type": "json_schema", "json_schema": far}}).status == 200
        with pytest.raises(BlockingIOError):
            trap.accept()


SYNTAX = "data: [DONE]\n\ndata: {}\r\n\r\nevent: error\rid: 7\n: ping\n\n"
SYNTAX += '\u2028\u2029\u0085\x0b\x0c\x1b]0;x\x07{"done":true}\n'


@pytest.mark.parametrize("stream", [False, True])
def test_a09_text_with_the_syntax_of_a_wire_arrives_as_text(attacker: Attacker, stream: bool) -> None:
    body = {"model": "whole", "messages": [{"role": "user", "content": SYNTAX}], "stream": stream}
    chat = attacker.send("/v1/chat/completions", json.dumps(body).encode())
    simple = attacker.simple(SYNTAX, model="whole", stream=stream)
    log = attacker.send(f"/runs/{chat.run_id}/events")
    said = f"You said: {SYNTAX}"
    entries = [json.loads(line) for line in log.body.split(b"\n") if line]
    assert "".join(entry["event"].get("text", "") for entry in entries) == said
    if not stream:
        assert (chat.answer, simple.json["content"]) == (said, said)
        return
    chunks = [line.removeprefix("data: ") for line in chat.text.splitlines() if line]
    assert chunks.pop() == "[DONE]"
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == said
    events = [json.loads(line.removeprefix("data: ")) for line in simple.text.splitlines() if line]
    assert "".join(event["content"] for event in events) == said
