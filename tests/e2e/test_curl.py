"""`curl` against a real server: the bytes on the wire, and how HTTP itself is spoken."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import msgspec
import pytest

from tests.e2e.house import Server

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not there")

CHAT = "/v1/chat/completions"


class Reply(msgspec.Struct, frozen=True):
    """What curl got. Header names are in lower case; `status` is the first line."""

    status: str
    headers: dict[str, str]
    body: str


def curl(server: Server, path: str, *options: str, body: Any = None, key: str = "sk-test") -> Reply:
    """Run curl to the end of the answer. Interim answers, such as `100 Continue`, are left out."""
    command = ["curl", "-sSN", "-D", "-", "--max-time", "20", "-H", f"authorization: Bearer {key}", *options]
    if body is not None:
        command += ["-H", "content-type: application/json", "--data-binary", "@-"]
    sent = body if isinstance(body, str) else json.dumps(body)
    done = subprocess.run([*command, server.url + path], input=sent.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr
    head, _, rest = done.stdout.decode().partition("\r\n\r\n")
    while head.startswith("HTTP/1.1 100"):
        head, _, rest = rest.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    fields = (line.split(": ", 1) for line in lines)
    return Reply(status, {name.lower(): value for name, value in fields}, rest)


def ask(text: str = "say Hel lo", **more: Any) -> dict[str, Any]:
    return {"model": "actor", "messages": [{"role": "user", "content": text}], "stream": True, **more}


def payloads(reply: Reply) -> list[Any]:
    """The data of each event; fails if there is anything but `data:` lines, one an event, and `[DONE]` at the end."""
    events = reply.body.split("\n\n")
    assert events.pop() == ""
    assert events.pop() == "data: [DONE]"
    assert all(event.startswith("data: ") and "\n" not in event for event in events), reply.body
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_a_stream_is_data_lines_and_done(server: Server) -> None:
    reply = curl(server, CHAT, body=ask("usage 3 2\nsay Hel lo", stream_options={"include_usage": True}))
    first, *middle, last, usage = payloads(reply)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["delta"] for chunk in middle] == [{"content": "Hel"}, {"content": "lo"}]
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 5)
    for chunk in (first, *middle, last, usage):
        assert list(chunk)[:6] == ["id", "object", "created", "model", "system_fingerprint", "choices"]
        assert chunk["id"] == f"chatcmpl-{reply.headers['x-run-id']}"
        assert chunk["object"] == "chat.completion.chunk"


def test_headers_of_a_stream_keep_it_from_being_held_back(server: Server) -> None:
    headers = curl(server, CHAT, body=ask()).headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers
    assert headers["x-run-id"]
    assert headers["x-request-id"]


@pytest.mark.parametrize("stream", [True, False])
def test_nothing_is_compressed_even_if_asked_for(server: Server, stream: bool) -> None:
    reply = curl(server, CHAT, "-H", "accept-encoding: gzip, br, zstd, deflate", body=ask(stream=stream))
    assert "content-encoding" not in reply.headers
    assert "lo" in reply.body


def test_characters_that_end_lines_elsewhere_stay_within_theirs(server: Server) -> None:
    text = "a\u2028b\u2029c\u0085d\U0001f600"
    reply = curl(server, CHAT, body=ask(text, model="whole"))
    assert not {"\u2028", "\u2029", "\u0085"} & set(reply.body)
    answer = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in payloads(reply))
    assert answer == f"You said: {text}"


def test_an_error_in_mid_stream_is_one_object_and_done(server: Server) -> None:
    *_, error = payloads(curl(server, CHAT, body=ask("say Hello\nfail")))
    assert error == {
        "error": {"message": "The agent failed.", "type": "server_error", "param": None, "code": "internal_error"}
    }


def test_an_early_error_is_json_with_its_status(server: Server) -> None:
    reply = curl(server, CHAT, body=ask("fail"))
    assert reply.status == "HTTP/1.1 500 Internal Server Error"
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.body)["error"]["code"] == "internal_error"


def test_silence_is_filled_with_comments(server: Server) -> None:
    reply = curl(server, CHAT, body=ask("pause 2.5\nsay Hello", runwire={"keepalive": 1}))
    lines = [line for line in reply.body.splitlines() if line]
    assert ": ping" in lines[:-1]
    assert all(line.startswith(("data: ", ": ping")) for line in lines)
    assert lines[-1] == "data: [DONE]"


def test_a_stream_ends_its_body_at_once(server: Server) -> None:
    """curl ends when the body does: the connection stays open, and a second request goes over it."""
    config = "\n".join(f'url = "{server.url}{CHAT}"' for _ in range(2))
    command = ["curl", "-sSN", "--max-time", "10", "-K", "-", "-w", "%{num_connects};", "-o", "/dev/null"]
    sent = ["-H", "authorization: Bearer sk-test", "-d", json.dumps(ask())]
    done = subprocess.run([*command, "-o", "/dev/null", *sent], input=config.encode(), capture_output=True, check=True)
    assert done.stdout == b"1;0;"


def test_http_1_0_is_answered_to_the_end_and_closed(server: Server) -> None:
    streamed = curl(server, CHAT, "--http1.0", body=ask())
    assert streamed.headers["connection"] == "close"
    assert len(payloads(streamed)) == 4
    whole = curl(server, CHAT, "--http1.0", body=ask(stream=False))
    assert whole.headers["connection"] == "close"
    assert json.loads(whole.body)["choices"][0]["message"]["content"] == "Hello"


def test_head_is_get_without_a_body(server: Server) -> None:
    for path in ("/", "/health", "/ready", "/v1/models", "/v1/models/actor"):
        got, head = curl(server, path), curl(server, path, "--head", "-o", "/dev/null")
        assert head.status == got.status == "HTTP/1.1 200 OK"
        assert head.body == ""
        assert head.headers["content-length"] == got.headers["content-length"]
    assert curl(server, CHAT, "--head", "-o", "/dev/null").status.startswith("HTTP/1.1 405")


def test_a_wrong_method_is_told_which_is_right(server: Server) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        reply = curl(server, CHAT, "-X", method)
        assert reply.status.startswith("HTTP/1.1 405")
        assert reply.headers["allow"] == "POST"
        assert json.loads(reply.body)["error"]["code"] == "method_not_allowed"
    wrong = curl(server, "/v1/models", "-X", "PUT")
    assert wrong.status.startswith("HTTP/1.1 405")
    assert "GET" in wrong.headers["allow"]


def test_browsers_of_other_origins_are_told_nothing_by_default(server: Server) -> None:
    asked = ("-X", "OPTIONS", "-H", "origin: https://a.example", "-H", "access-control-request-method: POST")
    assert "access-control-allow-origin" not in curl(server, CHAT, *asked).headers


def test_a_large_body_waits_for_the_servers_word(server: Server) -> None:
    """curl asks first, and gives up waiting after a second only."""
    words = "x" * 2_000_000
    reply = curl(server, CHAT, "-H", "expect: 100-continue", "--expect100-timeout", "15", body=ask(f"text {words}"))
    assert sum(len(chunk["choices"][0]["delta"].get("content", "")) for chunk in payloads(reply)) == len(words)


def test_a_large_body_without_a_key_is_refused_unsent(server: Server) -> None:
    reply = curl(
        server, CHAT, "-H", "expect: 100-continue", "--expect100-timeout", "15", body=ask("x" * 2_000_000), key="wrong"
    )
    assert reply.status.startswith("HTTP/1.1 401")


def test_a_content_type_is_not_needed(server: Server) -> None:
    sent = json.dumps(ask())
    for kind in ("", "application/x-www-form-urlencoded", "text/plain"):
        assert len(payloads(curl(server, CHAT, "-H", f"content-type: {kind}".strip(), "-d", sent))) == 4


def test_a_body_in_chunks_is_read(server: Server) -> None:
    assert len(payloads(curl(server, CHAT, "-H", "transfer-encoding: chunked", body=ask()))) == 4


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/embeddings", "/v1/completions", "/v1/nothing"])
def test_what_is_not_there_says_so_as_openai_does(server: Server, path: str) -> None:
    reply = curl(server, path, body={"model": "actor"})
    assert reply.status.startswith("HTTP/1.1 404")
    assert json.loads(reply.body)["error"]["code"] == "not_found"
