"""Text with the syntax of streams, lines and headers in it stays text."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.e2e.callers import address
from tests.faults.attacker import KEYS
from tests.faults.natives import MOUNTS, Caller

WICKED = {
    "frames": 'x\n\nevent: values\ndata: {"forged": true}\n\n: x\r\n\r\nid: 7\r\nretry: 1\r\n\r\n',
    "separators": "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg",
    "lines": "\r\n\r\n\n\r{}\n[DONE]\ndata: [DONE]\n\n",
    "escapes": '\\u2028 \\n " \\" </script> \x1b[2J \u202e \ufeff \U0001f600',
    "bom": "\ufeff\ufffe\uffff",
}


def frames(reply: Any) -> list[str]:
    """Names of the events of a stream, read as browsers do: any of CR, LF and CRLF ends a line."""
    lines = reply.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("name", WICKED)
def test_a09_text_with_the_syntax_of_streams_arrives_as_text(native: Caller, mount: str, name: str) -> None:
    text = WICKED[name]
    thread = native.thread(metadata={text: text})
    modes = ["values", "updates", "custom"]
    body = {
        "assistant_id": "believing",
        "input": {"given": {text: text}},
        "stream_mode": modes,
        "metadata": {text: text},
    }
    path = f"{mount}/threads/{thread}"
    with native.stream("POST", f"{path}/runs/stream", body) as stream:
        events = stream.rest()
    assert set(frames(stream.text)) == {"metadata", "values", "updates", "custom", *(["end"] if mount else [])}
    assert len(frames(stream.text)) == len(events)
    assert [event.data for event in events if event.name == "custom"] == [{text: text}]
    assert not any(character in stream.text for character in "\u2028\u2029\u0085")
    log = native.get(f"{mount}/runs/{stream.run}/events")
    assert all(json.loads(line) for line in log.content.split(b"\n") if line)
    assert [line for line in log.text.splitlines() if line] == [line for line in log.text.split("\n") if line]
    assert native.get(path).json()["metadata"][text] == text
    assert native.get(f"{path}/runs/{stream.run}").json()["metadata"][text] == text
    assert native.get(f"{path}/runs/{stream.run}/join").status_code == 200


@pytest.mark.parametrize("name", WICKED)
def test_a09_a_plain_agents_words_arrive_as_text(native: Caller, name: str) -> None:
    thread = native.thread()
    text = WICKED[name]
    body = {
        "assistant_id": "curious",
        "input": {"messages": "x"},
        "metadata": {text: text},
        "stream_mode": ["values", "messages"],
    }
    with native.stream("POST", f"/threads/{thread}/runs/stream", body) as stream:
        events = stream.rest()
    assert set(frames(stream.text)) == {
        "metadata",
        "values",
        "messages/metadata",
        "messages/partial",
        "messages/complete",
    } & {event.name for event in events}
    assert repr({text: text}) in events[-1].data["messages"][-1]["content"]
    assert len(frames(stream.text)) == len(events)


SPLITTING = [
    b"%0d%0aset-cookie:%20x=1",
    b"%0aevent:%20x",
    b"%00",
    b"%e2%80%a8",
    b"..%2f..",
    b"a%20b",
    b"%ff",
    b"x" * 5000,
]


@pytest.mark.parametrize("tail", SPLITTING)
def test_a09_no_id_in_a_path_reaches_a_header(native: Caller, tail: bytes) -> None:
    body = b'{"assistant_id":"walking","input":{"n":0}}'
    for path in (
        b"/threads/%s/runs",
        b"/api/threads/%s/runs/stream",
        b"/threads/%s",
        b"/threads/%s/stream",
        b"/runs/%s/stream",
    ):
        method = b"POST" if b"/runs/stream" in path or path.endswith(b"/runs") else b"GET"
        status, head, text = raw(native, method, path % tail, b"", body if method == b"POST" else b"")
        assert 400 <= status < 500, (path, status, text)
        assert b"set-cookie" not in head.lower()
        assert json.loads(text).keys() == {"detail"}
        assert len(text) < 600


def raw(native: Caller, method: bytes, path: bytes, more: bytes = b"", body: bytes = b"") -> tuple[int, bytes, bytes]:
    head = b"%s %s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\nconnection: close\r\n" % (
        method,
        path,
        KEYS["a"].encode(),
    )
    with socket.create_connection(address(native.server), 30) as sock:
        sock.sendall(head + more + b"content-length: %d\r\n\r\n" % len(body) + body)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    above, _, below = answer.partition(b"\r\n\r\n")
    return int(above.split(b" ", 2)[1]), above, below


KEYS_OF_CALLERS = [b"a\xff\xfeb", b"x" * 255, "\u2028".encode(), b'"; drop table runs', b"a\tb", b"%0d%0ax: y"]


@pytest.mark.parametrize("key", KEYS_OF_CALLERS)
def test_a09_an_idempotency_key_is_a_name_and_nothing_else(native: Caller, key: bytes) -> None:
    thread = native.thread()
    body = b'{"assistant_id":"walking","input":{"n":0}}'
    sent = (b"POST", f"/threads/{thread}/runs".encode(), b"idempotency-key: " + key + b"\r\n", body)
    answers = [raw(native, *sent) for _ in range(2)]
    for status, head, text in answers:
        assert status in (200, 400, 422)
        assert b"x: y" not in head.lower()
        assert key not in head
        assert status != 200 or json.loads(text)["thread_id"] == thread
    if answers[0][0] == 200:
        assert json.loads(answers[0][2])["run_id"] == json.loads(answers[1][2])["run_id"]


def test_all_of_it_left_the_server_well(native: Caller) -> None:
    native.well()
