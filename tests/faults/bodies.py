"""Bodies that no sane client sends, and those that are sane all the same."""

from __future__ import annotations

import json
from typing import Any

SAY = [{"role": "user", "content": "say yes"}]
KINDS: dict[str, Any] = {"str": "text", "int": 7, "float": 0.5, "bool": True, "list": [7], "dict": {"a": 7}}
NUMBER = "int float"
FIELDS = {
    "model": "str",
    "messages": "",
    "stream": "bool",
    "stream_options": "dict",
    "n": "int",
    "tools": "",
    "tool_choice": "str dict",
    "metadata": "dict",
    "user": "str",
    "safety_identifier": "str",
    "store": "bool",
    "temperature": NUMBER,
    "top_p": NUMBER,
    "presence_penalty": NUMBER,
    "frequency_penalty": NUMBER,
    "max_tokens": "int",
    "max_completion_tokens": "int",
    "stop": "str",
    "seed": "int",
    "logprobs": "bool",
    "top_logprobs": "int",
    "logit_bias": "dict",
    "parallel_tool_calls": "bool",
    "reasoning_effort": "str",
    "response_format": "dict",
    "modalities": "",
    "service_tier": "str",
    "verbosity": "str",
    "prompt_cache_key": "str",
    "runwire": "dict",
    "runwire.on_disconnect": "",
    "runwire.background": "bool",
    "runwire.keepalive": "bool int",
    "runwire.show": "",
    "runwire.max_steps": "int",
    "runwire.thread_id": "str",
    "runwire.context": "dict",
    "runwire.model": "",
    "stream_options.include_usage": "bool",
    "messages[0].role": "",
    "messages[0].content": "str",
    "messages[0].name": "str",
    "messages[0].tool_calls": "",
    "messages[0].tool_call_id": "str",
    "messages[0].refusal": "str",
    "messages[0].reasoning_content": "str",
    "messages[0].audio": "dict",
    "messages[0].content[0].type": "str",
    "messages[0].content[0].text": "str",
    "messages[0].content[0].image_url": "",
    "messages[0].content[0].input_audio": "dict",
    "messages[0].content[0].file": "dict",
    "messages[0].tool_calls[0].id": "str",
    "messages[0].tool_calls[0].function": "",
    "tools[0].type": "str",
    "tools[0].function": "",
    "tools[0].function.name": "str",
    "tools[0].function.description": "str",
    "tools[0].function.strict": "bool",
}
"""Each known field, with the kinds of values that it takes."""
WRONG = [
    (field, kind) for field, kinds in FIELDS.items() for kind in KINDS if kind not in kinds.split() and field != kind
]
SIMPLE = {
    "message": "str",
    "agent": "str",
    "model": "str",
    "stream": "bool",
    "temperature": NUMBER,
    "max_tokens": "int",
    "conversation_history": "",
    "conversation_id": "str",
    "project_id": "str",
    "sources": "list",
}


def placed(field: str, value: Any) -> dict[str, Any]:
    """A chat request that is fine but for this field."""
    part = {"type": "text", "text": "x"}
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    message: dict[str, Any] = {"role": "user", "content": [part] if "content[0]" in field else "x"}
    if "tool_calls[0]" in field:
        message["tool_calls"] = [call]
    body: dict[str, Any] = {"model": "actor", "messages": [message], "stream_options": {}, "runwire": {}}
    if field.startswith("tools["):
        body["tools"] = [{"type": "function", "function": {"name": "f"}}]
    *path, last = field.replace("[", ".").replace("]", "").split(".")
    place: Any = body
    for step in path:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    return body


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"[]" + b"}" * depth


def with_free(place: str, value: bytes) -> bytes:
    """A chat request with raw bytes as the value of a field that takes anything."""
    fields: dict[str, bytes] = {"model": b'"whole"', "messages": json.dumps(SAY).encode()}
    match place:
        case "metadata" | "response_format" | "tool_choice" | "logit_bias" | "unknown":
            fields[place] = value
        case "input_audio" | "file":
            parts = b'{"type":"text","text":"x"},{"type":"file","%s":%s}' % (place.encode(), value)
            fields["messages"] = b'[{"role":"user","content":[%s]}]' % parts
        case "context":
            fields["runwire"] = b'{"context":%s}' % value
        case "parameters":
            fields["tools"] = b'[{"type":"function","function":{"name":"f","parameters":%s}}]' % value
        case "custom":
            fields["messages"] = (
                b'[{"role":"assistant","tool_calls":[{"id":"c","type":"custom","custom":%s}]},'
                b'{"role":"user","content":"x"}]' % value
            )
    return b"{" + b",".join(b'"%s":%s' % (name.encode(), raw) for name, raw in fields.items()) + b"}"


FREE = (
    "metadata", "response_format", "tool_choice", "unknown", "input_audio", "file", "context", "parameters", "custom",
)  # fmt: skip
POISON = {
    "deep": nested(200),
    "bottomless": nested(100_000),
    "half_pair": b'{"a":"\\ud800"}',
    "half_pair_in_a_name": b'{"\\udfff":1}',
    "nul": b'{"a":["\\u0000"]}',
    "nul_in_a_name": b'{"\\u0000":1}',
    "not_utf8": b'{"a":"\xff\xfe"}',
    "surrogate_bytes": b'{"a":"\xed\xa0\x80"}',
    "huge_integer": b'{"a":' + b"9" * 400 + b"}",
    "endless_integer": b'{"a":-' + b"1" * 100_000 + b"}",
    "nan": b'{"a":NaN}',
    "infinity": b'{"a":-Infinity}',
    "control": b'{"a":"\x01"}',
    "cut": b'{"a":',
}
WHOLE = {
    "empty": b"",
    "blank": b" \r\n\t",
    "null": b"null",
    "true": b"true",
    "number": b"7",
    "text": b'"x"',
    "list": b"[]",
    "list_of_requests": b'[{"model":"actor","messages":[]}]',
    "open_brace": b"{",
    "many_open": b"[" * 1_000_000,
    "many_closed": b"]" * 1_000_000,
    "two_values": b"{}{}",
    "comments": b'{"model":"actor" /* */}',
    "single_quotes": b"{'model':'actor'}",
    "trailing_comma": b'{"model":"actor",}',
    "bom": b'\xef\xbb\xbf{"model":"actor"}',
    "utf16": '{"model":"actor"}'.encode("utf-16"),
    "form": b"model=actor&messages=x",
    "multipart": b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nactor\r\n--x--',
    "xml": b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>",
    "yaml": b"!!python/object/apply:os.system ['true']",
    "pickle": b"cos\nsystem\n(S'true'\ntR.",
    "zeros": b"\0" * 1000,
    "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xabV*\xc9,\xc8I\x05\0\xa5\xb5\xa8\xf6\x08\0\0\0",
    "nothing": b"{}",
    "no_messages": b'{"model":"actor"}',
    "no_model": b'{"messages":[{"role":"user","content":"x"}]}',
    "null_messages": b'{"model":"actor","messages":null}',
    "null_message": b'{"model":"actor","messages":[null]}',
    "empty_messages": b'{"model":"actor","messages":[]}',
    "second_is_wrong": b'{"model":"actor","messages":[{"role":"user","content":"x"}],"messages":7}',
    "first_is_wrong": b'{"model":"actor","messages":7,"messages":[{"role":"user","content":"x"}]}',
    "escaped_name": b'{"model":"actor","m\\u0065ssages":7}',
    "too_many_messages": b'{"model":"actor","messages":[' + b'{"role":"user","content":"x"},' * 2000 + b"{}]}",
}
CHAT: dict[str, dict[str, Any]] = {
    **{f"n_{n}": {"n": n} for n in (0, -1, 9, 10**9, 2**63, 1.5, "2", [2], True)},
    "n_on_a_thread": {"n": 2, "metadata": {"thread_id": "t"}},
    "role": {"messages": [{"role": "root\r\n", "content": "x"}]},
    "long_role": {"messages": [{"role": "r" * 100_000, "content": "x"}]},
    "no_content": {"messages": [{"role": "user"}]},
    "tool_without_call": {"messages": [{"role": "tool", "content": "x"}]},
    "text_part_without_text": {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
    "image_without_url": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
    "keepalive_0": {"runwire": {"keepalive": 0}},
    "keepalive_huge": {"runwire": {"keepalive": 1e300}},
    "max_steps_0": {"runwire": {"max_steps": 0}},
    "max_steps_huge": {"runwire": {"max_steps": 10**12}},
    "show": {"runwire": {"show": {"tools": "x" * 100_000}}},
    "show_name": {"runwire": {"show": {"y" * 100_000: "hidden"}}},
    "model_of_an_agent_without": {"runwire": {"model": "gpt-4o"}},
    **{
        f"thread_{name}": {"runwire": {"thread_id": thread}}
        for name, thread in {
            "lines": "a\r\nset-cookie: x=1", "spaces": "a b", "long": "x" * 129, "unicode": "fäden", "escape": "\x1b[2J"
        }.items()
    },
}  # fmt: skip
MODELS = {
    "empty": "",
    "slashes": "/",
    "traversal": "../../../../etc/passwd",
    "import": "os:system",
    "file": "./graphs.py:counting",
    "lines": "actor\r\nx-evil: 1",
    "long": "m" * 200_000,
    "unicode": "\u2028\u202e模型",
    "upstreams": "up/../gpt-4o",
    "foreign_prefix": "gpt-4o",
    "format": "{0.__class__}%s%n${jndi:ldap://x}",
    "sql": "actor' OR '1'='1",
    "attribute": "__class__",
}
