from __future__ import annotations

import asyncio
import json
import time
from enum import StrEnum
from typing import Any, Literal

import msgspec
import pytest

from proxy.api.parse import decode, depth, read_body
from proxy.errors import BadRequest
from proxy.settings import RequestLimits


class Pace(StrEnum):
    SLOW = "slow"
    FAST = "fast"


class Turn(msgspec.Struct):
    role: str
    number: int = 0
    share: float = 0.0
    free: Any = None
    modes: Literal["values", "updates"] | list[Literal["values", "updates"]] | None = None
    pace: Pace = Pace.SLOW


class Body(msgspec.Struct):
    messages: list[Turn]
    metadata: dict[str, str] | None = None
    raw: msgspec.Raw = msgspec.Raw()


DECODER = msgspec.json.Decoder(Body)
LIMITS = RequestLimits()


def refused(body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as error:
        decode(body, DECODER, LIMITS)
    assert len(error.value.message) < 500
    return error.value


def turn(field: bytes) -> bytes:
    return b'{"messages":[{"role":"user"},{"role":"user",' + field + b"}]}"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "messages"),
        (b'{"messages":[{"number":1}]}', "messages[0].role"),
        (b'{"messages":{}}', "messages"),
        (turn(b'"number":"1"'), "messages[1].number"),
        (turn(b'"number":1e999'), "messages[1].number"),
        (turn(b'"number":' + b"9" * 30), "messages[1].number"),
        (turn(b'"share":-1e9999'), "messages[1].share"),
        (turn(b'"free":{"deep":[1,-' + b"9" * 25 + b"]}"), "messages[1].free.deep[1]"),
        (turn(b'"free":"a\\u0000b"'), "messages[1].free"),
        (turn(b'"free":"a\\\\\\u0000b"'), "messages[1].free"),
        (turn(b'"free":"\\ud800"'), "messages[1].free"),
        (turn(b'"free":"\\udc00\\ud800"'), "messages[1].free"),
        (turn(b'"free":"\xff"'), "messages[1].free"),
        (turn(b'"free":"\xed\xa0\x80"'), "messages[1].free"),
        (b'{"messages":[],"metadata":{"a":1}}', "metadata"),
        (b'{"messages":[],"unknown":"\xff"}', "unknown"),
        (b'{"messages":[],"raw":"\\ud800"}', "raw"),
        (b"[]", None),
        (b'"x"', None),
        (b"", None),
        (b"{", None),
        (b'{"messages":', None),
        (b'{"messages":[]}x', None),
        (b"\xef\xbb\xbf{}", None),
        (b"\xff\xfe{\x00}\x00", None),
        (turn(b'"free":NaN'), None),
        (turn(b'"free":"\x00"'), None),
        (b"9" * 5000, None),
    ],
)
def test_a_bad_body_names_the_field_at_fault(body: bytes, param: str | None) -> None:
    assert refused(body).param == param


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (b'"modes":"nope"', "messages[1].modes: 'nope' is not one of `updates`, `values`."),
        (b'"modes":["values","nope"]', "messages[1].modes[1]: 'nope' is not one of `updates`, `values`."),
        (b'"pace":"walk"', "messages[1].pace: 'walk' is not one of `slow`, `fast`."),
    ],
)
def test_a_word_that_is_none_of_a_few_is_told_which_they_are(field: bytes, message: str) -> None:
    assert refused(turn(field)).message == message


def test_what_only_looks_bad_is_taken() -> None:
    text = (
        '{"u": "\\\\u0000 \\\\\\\\u0000", "n": "' + "9" * 40 + '", "d": 0.' + "1" * 30 + ', "b": "' + "[{" * 500 + '"}'
    )
    body = b'{"messages":[{"role":"\\ud83d\\ude00 ' + "ä😀".encode() + b'","free":' + text.encode() + b"}]}"
    (message,) = decode(body, DECODER, LIMITS).messages
    assert message.role == "😀 ä😀"
    assert message.free["u"] == "\\u0000 \\\\u0000"
    assert decode(turn(b'"number":9223372036854775807'), DECODER, LIMITS).messages[1].number == 2**63 - 1


def test_depth_is_limited_exactly() -> None:
    def nested(levels: int) -> bytes:
        return turn(b'"free":' + b"[" * levels + b"]" * levels)

    decode(nested(LIMITS.depth - 3), DECODER, LIMITS)
    assert "nested" in refused(nested(LIMITS.depth - 2)).message
    assert "nested" in refused(nested(1_000_000)).message
    assert "nested" in refused(b'{"a":' * 100_000).message


def test_depth_looks_past_strings() -> None:
    assert depth(rb'{"a\"[[": ["]", {"b": "\\"}]}') == 3
    assert depth(b"") == 0
    assert depth(b'"[[[[') >= 0


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 5_000_000,
        b'"' * 5_000_001,
        b'"\\' * 2_500_000,
        b"\\" * 5_000_000 + b"u0000",
        b'"' + b"\\u0000" * 800_000,
        b"1" * 5_000_000,
        b'{"a":' * 1_000_000,
        b'"' + b"\\ud800" * 800_000 + b'"',
        "😀".encode() * 1_250_000,
    ],
)
def test_no_body_takes_long(body: bytes) -> None:
    began = time.process_time()
    refused(body)
    assert time.process_time() - began < 3


def test_long_input_is_never_reflected() -> None:
    assert "y" * 300 not in refused(b'{"messages":[{"role":1,"' + b"y" * 9000 + b'":2}]}').message
    deep = b'{"messages":[{"role":"a","free":{"' + b"y" * 9000 + b'":"\\u0000"}}]}'
    assert len(refused(deep).param or "") <= 200
    json.dumps(refused(deep).param).encode()


def test_a_body_is_read_to_its_end() -> None:
    messages = [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"c"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    assert asyncio.run(read_body(receive)) == b"abc"


def test_a_client_that_leaves_in_between_is_a_bad_request() -> None:
    messages = [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    with pytest.raises(BadRequest):
        asyncio.run(read_body(receive))
