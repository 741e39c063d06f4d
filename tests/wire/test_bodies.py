from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw, Struct

from proxy.model import Lifetime
from proxy.wire.asked import CheckpointRef, Config
from proxy.wire.assistants import AssistantCreate, AssistantLatest, AssistantPatch, AssistantSearch, AssistantVersions
from proxy.wire.crons import CronCreate, CronPatch, CronSearch
from proxy.wire.items import ItemDelete, ItemPut, ItemSearch, NamespaceSearch
from proxy.wire.runs_body import RunCreate, RunsCancel, Send
from proxy.wire.threads_body import (
    History,
    StateAt,
    StateUpdate,
    ThreadCount,
    ThreadCreate,
    ThreadPatch,
    ThreadPrune,
    ThreadSearch,
    lifetime_of,
)

ID = "0193e000-0000-7000-8000-000000000001"
BODIES: dict[type[Struct], dict[str, Any]] = {
    RunCreate: {"assistant_id": "a"},
    RunsCancel: {},
    ThreadCreate: {},
    ThreadPatch: {},
    ThreadSearch: {},
    ThreadCount: {},
    ThreadPrune: {"thread_ids": [ID]},
    StateUpdate: {},
    StateAt: {"checkpoint": {}},
    History: {},
    AssistantCreate: {"graph_id": "a"},
    AssistantPatch: {},
    AssistantSearch: {},
    AssistantVersions: {},
    AssistantLatest: {"version": 1},
    ItemPut: {"namespace": ["a"], "key": "k", "value": {}},
    ItemDelete: {"namespace": ["a"], "key": "k"},
    ItemSearch: {},
    NamespaceSearch: {},
    CronCreate: {"assistant_id": "a", "schedule": "* * * * *"},
    CronPatch: {},
    CronSearch: {},
}
"""The least that each body needs."""


def read(shape: type[Any], **body: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode({**BODIES[shape], **body}), type=shape)


@pytest.mark.parametrize("shape", BODIES, ids=lambda shape: shape.__name__)
def test_a_body_needs_little_and_ignores_what_it_does_not_know(shape: type[Struct]) -> None:
    assert read(shape, assistantId="x", langsmith_tracer={}) == read(shape)
    for name in BODIES[shape]:
        with pytest.raises(msgspec.ValidationError, match=f"`{name}`"):
            msgspec.convert({key: value for key, value in BODIES[shape].items() if key != name}, shape)


@pytest.mark.parametrize("shape", [RunCreate, ThreadCreate, ThreadPatch, ThreadSearch, AssistantCreate, CronCreate])
def test_null_is_the_same_as_nothing(shape: type[Struct]) -> None:
    optional = [field.name for field in msgspec.structs.fields(shape) if field.default is None]
    assert len(optional) > 1
    assert read(shape, **dict.fromkeys(optional)) == read(shape)


def test_all_that_the_react_hook_sends_is_read() -> None:
    body = read(
        RunCreate,
        input={"messages": [{"type": "human", "content": "hi"}]},
        stream_mode=["messages-tuple", "values", "custom"],
        stream_resumable=True,
        on_disconnect="continue",
        checkpoint={"checkpoint_id": "c", "checkpoint_ns": ""},
        multitask_strategy="interrupt",
    )
    assert body.modes == {"messages-tuple", "values", "custom"}
    assert body.starts_at == CheckpointRef(checkpoint_id="c", checkpoint_ns="")
    assert msgspec.json.decode(body.input) == {"messages": [{"type": "human", "content": "hi"}]}


def test_modes_are_one_or_a_list_and_values_if_nothing_is_said() -> None:
    assert read(RunCreate).modes == {"values"}
    assert read(RunCreate, stream_mode=[]).modes == {"values"}
    assert read(RunCreate, stream_mode="updates").modes == {"updates"}


def test_a_command_tells_an_answer_of_null_from_none() -> None:
    assert read(RunCreate, command={}).command.resume is UNSET
    command = read(RunCreate, command={"resume": None, "goto": ["a", {"node": "b", "input": {"x": 1}}]}).command
    assert command.resume == Raw(b"null")
    assert command.goto == ("a", Send(node="b", input=Raw(b'{"x":1}')))
    assert read(RunCreate, command={"goto": {"node": "b"}}).command.goto == Send(node="b")


def test_older_words_mean_the_same() -> None:
    assert read(RunCreate).durable is None
    assert read(RunCreate, checkpoint_during=False).durable == "exit"
    assert read(RunCreate, checkpoint_during=True).durable == "async"
    assert read(RunCreate, checkpoint_during=True, durability="sync").durable == "sync"
    assert read(RunCreate, checkpoint_id="c").starts_at == CheckpointRef(checkpoint_id="c")
    assert read(RunCreate).starts_at is None


def test_a_stateless_request_may_name_its_thread() -> None:
    assert read(RunCreate, config={"configurable": {"thread_id": ID}}).own_thread == ID
    for config in (None, {}, {"configurable": {}}, {"configurable": {"thread_id": 7}}):
        assert read(RunCreate, config=config).own_thread is None


def test_a_config_is_told_again_as_it_came() -> None:
    config = {"tags": ["t"], "recursion_limit": 3, "configurable": {"a": None}}
    assert msgspec.to_builtins(read(RunCreate, config=config).config) == {**config, "tags": ("t",)}
    assert msgspec.json.encode(Config()) == b"{}"


def test_a_lifetime_is_an_object_or_minutes() -> None:
    assert lifetime_of(read(ThreadCreate, ttl=5).ttl) == Lifetime(ttl=5.0)
    assert lifetime_of(read(ThreadPatch, ttl={"ttl": 5, "strategy": "keep_latest"}).ttl) == Lifetime(
        ttl=5.0, strategy="keep_latest"
    )
    assert lifetime_of(read(ThreadCreate).ttl) is None


def test_a_place_in_history_is_a_checkpoint_or_a_config() -> None:
    assert read(History).limit == 1
    assert read(History, before={"checkpoint_id": "c"}).before.place.checkpoint_id == "c"
    assert read(History, before={"configurable": {"checkpoint_id": "c"}}).before.place.checkpoint_id == "c"
    assert read(History, before={}).before.place is None


def test_a_cron_is_a_run_with_a_schedule() -> None:
    cron = read(CronCreate, input=[1], timezone="Europe/Berlin", end_time="2030-01-01T00:00:00+00:00")
    assert cron.end_time.year == 2030
    patch = read(CronPatch, end_time=None)
    assert (patch.end_time, patch.timezone) == (None, UNSET)


@pytest.mark.parametrize(
    ("shape", "wrong"),
    [
        (RunCreate, {"assistant_id": ""}),
        (RunCreate, {"stream_mode": "tools"}),
        (RunCreate, {"stream_mode": ["values", "lifecycle"]}),
        (RunCreate, {"multitask_strategy": "queue"}),
        (RunCreate, {"after_seconds": -1}),
        (RunCreate, {"interrupt_before": "node"}),
        (RunCreate, {"config": {"recursion_limit": 0}}),
        (RunCreate, {"command": {"goto": {"input": 1}}}),
        (RunsCancel, {"run_ids": ["x"]}),
        (RunsCancel, {"status": "success"}),
        (ThreadCreate, {"thread_id": "x"}),
        (ThreadCreate, {"if_exists": "replace"}),
        (ThreadCreate, {"ttl": 0}),
        (ThreadCreate, {"supersteps": [{"updates": [{"values": {}}]}]}),
        (ThreadSearch, {"limit": 0}),
        (ThreadSearch, {"limit": 1001}),
        (ThreadSearch, {"offset": -1}),
        (ThreadSearch, {"status": "done"}),
        (ThreadSearch, {"sort_by": "metadata"}),
        (ThreadPrune, {"strategy": "all"}),
        (History, {"before": "c"}),
        (AssistantLatest, {"version": 0}),
        (ItemPut, {"namespace": ["a.b"]}),
        (ItemPut, {"namespace": []}),
        (ItemPut, {"value": [1]}),
        (CronCreate, {"end_time": "soon"}),
    ],
)
def test_what_cannot_be_meant_is_refused(shape: type[Struct], wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(wrong))):
        read(shape, **wrong)
