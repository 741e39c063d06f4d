"""What belongs to one tenant does not exist for another; what a request smuggles in is dropped; no key leaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes import faults
from tests.fakes.upstream import Upstream
from tests.faults.attacker import KEYS, SECRETS, UPSTREAM_KEY, Attacker, Reply, refused

UNKNOWN = "01890000-0000-7000-8000-000000000000"
ROUTES = [
    ("GET", "/runs/{}"),
    ("DELETE", "/runs/{}"),
    ("GET", "/runs/{}/events"),
    ("GET", "/runs/{}/events?wait=1"),
    ("POST", "/runs/{}/cancel"),
    ("POST", "/runs/{}/cancel?wait=1"),
]


def asks(attacker: Attacker, model: str, *messages: dict[str, Any], tenant: str = "a", **fields: Any) -> Reply:
    body = {"model": model, "messages": list(messages), **fields}
    return attacker.send("/v1/chat/completions", json.dumps(body).encode(), tenant=tenant)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def result(call: dict[str, Any], content: str) -> list[dict[str, Any]]:
    """The end of a conversation in which this call is answered."""
    return [
        user("pay"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": content},
    ]


def paused(attacker: Attacker, **fields: Any) -> dict[str, Any]:
    """The call by which a new run of tenant a's asks before it pays."""
    reply = asks(attacker, "calling", user("pay"), **fields)
    assert reply.status == 200, reply.text
    call = reply.json["choices"][0]["message"]["tool_calls"][0]
    assert isinstance(call, dict)
    return call


@pytest.fixture(params=["finished", "live", "group"])
def foreign(attacker: Attacker, request: pytest.FixtureRequest) -> Iterator[str]:
    """The id of a run, or a group of runs, of tenant a's."""
    if request.param != "live":
        yield attacker.chat("say hello", n=2 if request.param == "group" else 1).run_id
        return
    run = attacker.left("say hello\nwait")
    yield run
    assert attacker.send(f"/runs/{run}/cancel?wait=1", b"").json["state"] == "cancelled"


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a05_no_route_tells_a_foreign_run_from_a_missing_one(
    attacker: Attacker, foreign: str, method: str, path: str
) -> None:
    body = b"" if method == "POST" else None
    tried = attacker.send(path.format(foreign), body, method=method, tenant="b")
    missing = attacker.send(path.format(UNKNOWN), body, method=method, tenant="b")
    refused(tried, "langgraph", 404)
    assert tried.text == missing.text.replace(UNKNOWN, foreign)
    assert tried.headers.keys() == missing.headers.keys()
    assert attacker.send(f"/runs/{foreign}").status == 200


def test_a05_the_same_thread_id_is_another_thread_for_another_tenant(attacker: Attacker) -> None:
    thread = {"metadata": {"thread_id": "shared"}}
    assert asks(attacker, "counting", user("one"), **thread).answer == "one"
    assert asks(attacker, "counting", user("two"), tenant="b", **thread).answer == "two"
    assert asks(attacker, "counting", user("three"), **thread).answer == "one | three"
    simple = attacker.simple("four", model="counting", conversation_id="shared", tenant="b")
    assert simple.json["content"] == "two | four"


def test_a05_no_thread_id_reaches_into_a_tenant_with_a_longer_name(attacker: Attacker) -> None:
    """The tenants are called `org` and `org:1`."""
    assert asks(attacker, "counting", user("mine"), tenant="deep", metadata={"thread_id": "T"}).answer == "mine"
    assert asks(attacker, "counting", user("yours?"), tenant="a", metadata={"thread_id": "1:T"}).answer == "yours?"


def test_a05_a_busy_thread_is_busy_for_its_tenant_only(attacker: Attacker) -> None:
    thread = {"metadata": {"thread_id": "occupied"}}
    run = attacker.left("wait", **thread)
    refused(attacker.chat("say x", **thread), status=409)
    assert attacker.chat("say x", tenant="b", **thread).answer == "x"
    attacker.send(f"/runs/{run}/cancel?wait=1", b"")


def test_a05_an_idempotency_key_belongs_to_its_tenant(attacker: Attacker) -> None:
    key = {"idempotency-key": "order-66"}
    first = attacker.chat("say mine", headers=key)
    same, other = (attacker.chat(text, headers=key, tenant="b") for text in ("say mine", "say other"))
    assert same.status == 200
    assert same.run_id != first.run_id
    refused(other, status=409)
    assert attacker.chat("say mine", headers=key).run_id == first.run_id


def test_a05_a_pause_is_answered_by_its_tenant_only(attacker: Attacker) -> None:
    call = paused(attacker)
    stolen = asks(attacker, "calling", *result(call, '"stolen"'), tenant="b")
    assert stolen.json["choices"][0]["finish_reason"] == "tool_calls", "an ordinary run, which asks itself"
    assert asks(attacker, "calling", *result(call, "paid")).answer == 'answer: "paid"'
    again = asks(attacker, "calling", *result(call, "paid"), tenant="b")
    assert again.json["choices"][0]["finish_reason"] == "tool_calls", "nor is the answered one joined"


def test_a05_a_thread_that_asks_hears_its_tenant_only(attacker: Attacker) -> None:
    thread = {"metadata": {"thread_id": "asked"}}
    assert "Pay 5?" in asks(attacker, "asking", user("pay"), **thread).answer
    assert "Pay 5?" in asks(attacker, "asking", user("yes"), tenant="b", **thread).answer
    assert asks(attacker, "asking", user("yes"), **thread).answer == 'answer: "yes"'


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, '{"a":' + "9" * 400 + "}", '{"a":"\\ud800"}', "{", ""])
def test_a02_a_tool_result_is_text_whatever_it_looks_like(attacker: Attacker, text: str) -> None:
    assert asks(attacker, "calling", *result(paused(attacker), text)).answer == f"answer: {json.dumps(text)}"
    attacker.well()


@pytest.mark.parametrize(
    "arguments", ['{"a":' + "9" * 400 + "}", "[" * 5000, '{"a":"\\ud800"}', '{"\\u0000":"\\u0000"}']
)
@pytest.mark.parametrize("thread", [{}, {"metadata": {"thread_id": "arguments"}}], ids=["temporary", "lasting"])
def test_a02_arguments_in_a_history_are_text_too(attacker: Attacker, arguments: str, thread: dict[str, Any]) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    said = result(call, "x")[:2]
    assert asks(attacker, "telling", *said, user("go on"), **thread).status == 200
    attacker.well()


def test_several_choices_do_not_answer_one_question(attacker: Attacker) -> None:
    call = paused(attacker)
    refused(asks(attacker, "calling", *result(call, "twice"), n=2), status=400)
    assert asks(attacker, "calling", *result(call, "once")).answer == 'answer: "once"'


def test_an_answered_question_is_joined_by_the_same_conversation_only(attacker: Attacker) -> None:
    call = paused(attacker)
    answer = result(call, "paid")
    first = asks(attacker, "calling", *answer)
    assert asks(attacker, "calling", *answer).run_id == first.run_id
    foreign = asks(attacker, "calling", user("another conversation, whose call has the same id"), *answer[1:])
    assert foreign.run_id != first.run_id


SMUGGLED = {
    "thread_id": "victim",
    "checkpoint_id": "1",
    "checkpoint_ns": "x",
    "checkpoint_map": {"": "1"},
    "__pregel_checkpointer": "x",
    "__pregel_send": "x",
    "configurable": {"thread_id": "victim"},
    "recursion_limit": 10**6,
    "callbacks": ["x"],
    "base_url": "http://evil",
    "openai_api_key": "x",
    "model": "x",
    "secret_of_config": "mine",
    "client_tools": ["x"],
}


def test_a10_a_graph_gets_listed_keys_only(attacker: Attacker) -> None:
    for given in ({"runwire": {"context": SMUGGLED | {"tone": "soft"}}}, {"config": {"configurable": SMUGGLED}}):
        said = asks(attacker, "telling", user("x"), configurable=SMUGGLED, **given).answer
        told = json.loads(said)
        assert told.pop("thread_id").startswith("org:")
        assert told.pop("tone", "soft") == "soft"
        assert {key: value for key, value in told.items() if not key.startswith("checkpoint")} == {
            "secret_of_config": "fixed"
        }
        assert "victim" not in said


def test_a10_context_from_a_header_is_filtered_as_that_of_a_body(attacker: Attacker) -> None:
    headers = {"x-runwire-context": json.dumps(SMUGGLED)}
    assert "victim" not in attacker.chat("x", model="telling", headers=headers).answer


def test_a10_a_plain_agent_gets_listed_keys_only(attacker: Attacker) -> None:
    said = attacker.chat("x", model="curious", runwire={"context": SMUGGLED | {"tone": "soft"}}).answer
    assert "'context': {}" in said


def test_a10_nothing_of_the_caller_steers_the_call_to_the_upstream(attacker: Attacker, behind: Upstream) -> None:
    steering = {
        "base_url": "http://evil",
        "api_base": "http://evil",
        "api_key": "sk-evil",
        "extra_headers": {"authorization": "Bearer sk-evil"},
        "runwire": {"context": SMUGGLED},
    }
    headers = {
        "cookie": "session=1",
        "x-forwarded-host": "evil",
        "x-forwarded-for": "1.2.3.4",
        "x-api-key": "sk-evil",
        "openai-organization": "evil",
        "proxy-authorization": "Basic eDp5",
    }
    assert attacker.chat("say x", model="gpt", headers=headers, **steering).status == 200
    sent = behind.requests[-1]
    assert sent.headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert not sent.headers.keys() & headers.keys()
    assert "evil" not in sent.body.decode()
    assert "victim" not in sent.body.decode()


def test_a15_no_key_is_found_in_any_answer_log_or_file(attacker: Attacker, behind: Upstream) -> None:
    key = KEYS["a"]
    for stream in (False, True):
        behind.then(faults.leaked_key)
        refuses = attacker.chat("x", model="gpt", stream=stream)
        assert refuses.status == 502
        attacker.chat("say x\nfail", stream=stream, user="somebody")
        attacker.simple("say x\nfail", stream=stream)
    attacker.chat("say x", headers={"x-api-key": key, "cookie": f"key={key}", "x-forwarded-access-token": key})
    attacker.chat("say x", headers={"authorization": f"Basic {key}"})
    attacker.send(f"/v1/models?api_key={key}&key={UPSTREAM_KEY}")
    attacker.send("/v1/chat/completions", b"{", {"authorization": f"bearer  {key} "})
    folder = attacker.server.folder
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "config.yaml"}
    assert {"runs.db", "out", "err"} <= {path.name for path in written}
    for secret in SECRETS:
        assert secret.encode() not in attacker.seen
        assert [str(path) for path, content in written.items() if secret.encode() in content] == []


def test_a_repeated_request_for_several_choices_ends_though_their_content_may_be_gone(attacker: Attacker) -> None:
    key = {"idempotency-key": "forgetful"}
    for _ in range(5):
        assert attacker.chat("say x", n=2, store=False, headers=key).status in (200, 410)
