"""LangGraph's JavaScript client in Node, every method of it, in both lines that are published: 1.12 and 2.0.

With `PEER=1` in the environment the scripts run against the official development server, to see that they are right.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.npm import fetched
from tests.peer.house import Place, official, runwire

CLIENTS = Path(__file__).parent.parent / "clients"
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    serve = official if os.environ.get("PEER") else runwire
    with serve(tmp_path_factory.mktemp("place")) as running:
        yield running


@pytest.fixture
def keyless(tmp_path_factory: pytest.TempPathFactory, place: Place) -> Iterator[Place]:
    """A server that asks for no key: the client can send none over a WebSocket."""
    if place.name == "official":
        yield place
        return
    with runwire(tmp_path_factory.mktemp("keyless"), key="") as running:
        yield running


def played(place: Place, script: str, *more: str) -> Any:
    """Runs a script to its end and gives what it reports."""
    fetched(CLIENTS)
    key = place.headers.get("x-api-key", "")
    command = ["node", "--experimental-websocket", f"langgraph-{script}.mjs", place.url, key, str(place.gates)]
    done = subprocess.run([*command, *more], cwd=CLIENTS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout, "the script ended without a word"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def ask(place: Place) -> Ask:
    """Plays each script once."""
    return functools.cache(functools.partial(played, place))


every_line = pytest.mark.parametrize("line", ["1", "2"])


@every_line
def test_assistants_are_made_found_changed_and_deleted(ask: Ask, place: Place, line: str) -> None:
    got = ask("assistants", line)
    assert got["own"] == {"name": "looks", "graph": "looks", "version": 1}
    assert (got["got"], got["found"], got["count"]) == ({"tone": "dry"}, ["mine"], 1)
    assert got["page"] == {"size": 2, "next": "2"}
    assert got["graph"] == ["__start__", "look", "keep", "__end__"]
    kinds = ("config", "context", "input", "output", "state")
    assert got["schemas"] == sorted(["graph_id", *(f"{kind}_schema" for kind in kinds)])
    assert got["context"] == {"tone": {"title": "Tone", "type": "string"}}
    assert got["subgraphs"] == ["inner", "inner|lowest"]
    assert (got["twice"], got["again"], got["unknown"], got["nothing"], got["deleted"]) == (409, True, 404, 404, 404)


@every_line
def test_versions_of_an_assistant_are_kept_and_chosen(ask: Ask, place: Place, line: str) -> None:
    got = ask("assistants", line)
    assert (got["changed"], got["versions"]) == ({"name": "ours", "version": 2}, [2, 1])
    assert (got["seen"], got["latest"]) == ("wet", {"name": "mine", "version": 1})
    # The official server goes on with the context of the newest.
    assert got["seenThen"] == ("wet" if place.name == "official" else "dry")


@every_line
def test_threads_are_made_found_changed_and_deleted(ask: Ask, line: str) -> None:
    got = ask("threads", line)
    assert got["made"] == {"id": True, "status": "idle", "graph": "chat"}
    assert (got["twice"], got["again"], got["unknown"], got["malformed"]) == (409, True, 404, 422)
    assert got["thread"] == {"status": "idle", "texts": ["one", "one ", "two", "two "], "graph": "chat"}
    assert got["copy"] == {"other": True, "mark": True, "texts": ["one", "one ", "fork", "fork "]}
    assert got["found"] == {"both": 2, "ids": 1, "idle": 2}
    assert (got["page"], got["picked"], got["count"]) == (1, ["status", "thread_id"], 2)
    assert (got["changed"], got["deleted"], got.get("pruned")) == (1, [404, 404], 1 if line == "1" else None)


@every_line
def test_states_of_a_thread_are_read_forked_and_put_in(ask: Ask, line: str) -> None:
    got = ask("threads", line)
    assert got["empty"] == {"values": {}, "next": [], "checkpoint": None}
    assert got["state"] == {"texts": ["one", "one ", "two", "two "], "next": [], "step": 4, "source": "loop"}
    waiting = [[], ["speak"], ["__start__"]]
    sources = ["loop", "loop", "input"]
    steps = range(4, -2, -1)
    assert got["history"] == [list(state) for state in zip(steps, sources * 2, waiting * 2, strict=True)]
    assert (got["chained"], got["root"]) == (True, None)
    assert (got["limited"], got["before"], got["loops"]) == (2, 3, 4)
    assert got["there"] == got["byId"] == ["one", "one "]
    assert got["put"] == {"texts": ["one", "one ", "two", "two ", "put in"], "checkpoint": "string"}
    assert (got["nowhere"], got["fork"]) == (400, ["one", "one ", "fork", "fork "])
    assert "said" in got["steps"]


@every_line
def test_runs_are_begun_followed_and_deleted(ask: Ask, line: str) -> None:
    got = ask("runs", line)
    assert got["first"]["thread"] is True
    assert got["first"]["mine"] == 1
    assert (got["joined"], got["got"], got["listed"], got["none"]) == (["one", "one "], "success", ["success"], 0)
    assert (got["unknown"], got["nobody"], got["finished"], got["deleted"]) == ([404, 404, 404], 422, 404, 404)
    assert got["stateless"] == ["alone", "alone "]
    assert len(got["batch"]) == 2
    assert (got["later"], got.get("laterCancelled")) == ("pending", "interrupted" if line == "1" else None)
    assert got["failed"] == {"__error__": {"error": "ValueError", "message": "boom: x"}}
    assert (got["raised"], got["failedThread"]) == ("ValueError: boom: x", "error")


@every_line
def test_runs_are_cancelled_and_push_each_other_aside(ask: Ask, line: str) -> None:
    got = ask("runs", line)
    for how in ("interrupt false", "interrupt true"):
        assert got[how] == {"run": "interrupted", "free": True, "values": 1}
    assert got["rollback true"] == {"run": 404, "free": True, "values": 0}
    assert (got["busy"], got["refused"], got["queued"]) == ("busy", 409, "pending")
    assert got["after"][1:] == ["Hel lo ", "two", "two "]
    assert got["interrupt"] == {"old": "interrupted", "texts": ["two", "two "]}
    assert got["rollback"] == {"old": 404, "texts": ["two", "two "]}


@every_line
def test_questions_are_answered_one_and_many(ask: Ask, line: str) -> None:
    got = ask("runs", line)
    assert got["asked"] == {"question": [{"question": "ok?"}], "thread": "interrupted", "next": ["review"]}
    assert got["answered"] == ["plan", "draft of plan", "verdict: yes"]
    assert got["many"] == ["left?", "right?"]
    assert got["manyAnswered"] == ["left? to left?", "right? to right?"]


@every_line
def test_streams_carry_every_mode_and_come_again(ask: Ask, place: Place, line: str) -> None:
    got = ask("streams", line)
    spoken = ["messages", "custom", "messages", "messages", "messages", "updates", "values"]
    assert got["all"] == {"names": ["metadata", "values", *spoken], "tokens": "Hel lo ", "run": True, "thread": True}
    assert got["status"] == "success"
    assert got["again"] == got["all"]["names"]
    # Ids of the official server are times in milliseconds: two events may share one.
    assert got["ids"] or place.name == "official"
    assert got["rest"] == spoken or place.name == "official"


@every_line
def test_streams_are_joined_left_and_fail(ask: Ask, place: Place, line: str) -> None:
    got = ask("streams", line)
    # The official server may send what is said while one joins twice.
    assert got["joined"] == ["Hel lo ", "Hel lo "] or place.name == "official"
    assert set(got["chosen"]) - {"metadata"} == {"values"}
    assert got["nested"] == ["messages|inner", "metadata", "values", "values|inner"]
    assert got["stateless"] == "a b "
    assert got["failure"] == ["error", {"error": "ValueError", "message": "boom: x"}]
    assert (got["nobody"], got["left"]) == (422, "interrupted")
    assert got["thread"] == ["metadata", "values", "values", "run_done"] * 2


@every_line
def test_the_store_keeps_finds_and_forgets(ask: Ask, line: str) -> None:
    got = ask("store", line)
    item = {"value": {"kind": "x", "n": 1}, "namespace": ["a"], "key": "one", "created": "string"}
    assert (got["item"], got["absent"]) == (item, None)
    assert (got["all"], got["some"], got["filtered"]) == (["one", "three", "two"], ["one", "two"], ["one", "three"])
    assert (got["page"], got["namespaces"], got["shallow"], got["ending"]) == (1, [["a"], ["b"]], 1, 1)
    assert "periods" in got["dotted"], "refused by the client"
    assert (got["over"], got["left"]) == ({"kind": "z"}, ["three", "two"])
    assert (got["graph"], got["seen"]) == (1, {"tone": "none"})


@every_line
def test_crons_are_made_found_changed_and_deleted(ask: Ask, line: str) -> None:
    got = ask("crons", line)
    assert got["own"] == {"thread": True, "schedule": "0 3 1 1 *", "next": "string"}
    assert (got["found"], got["count"]) == ([True], 1)
    assert (got["nonsense"], got["unknown"], got["left"]) == (422, 404, 0)
    assert got["changed"] == {"schedule": "0 4 1 1 *", "enabled": False}


def assert_streams_events(got: Any) -> None:
    assert (got["run"], got["text"], got["rising"]) == ("string", "Hel lo ", True)
    pieces = ["message-start", "content-block-start", *["content-block-delta"] * 2, "content-block-finish"]
    assert got["pieces"] == [*pieces, "message-finish"]
    assert got["methods"].count("custom") == 1
    assert (got["methods"][0], got["methods"][-1]) == ("lifecycle", "lifecycle")
    assert (got["asked"], got["answered"]) == ({"question": "ok?"}, ["plan", "draft of plan", "verdict: yes"])
    assert got["failed"] == "boom: x"


def test_the_event_protocol_streams_asks_and_fails(place: Place) -> None:
    assert_streams_events(played(place, "events", "1", "sse"))


def test_the_event_protocol_works_over_a_websocket(keyless: Place) -> None:
    assert_streams_events(played(keyless, "events", "1", "websocket"))
