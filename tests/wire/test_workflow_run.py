from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from proxy.wire.workflow import (
    Event,
    NodeFailed,
    NodeLlmCall,
    NodeOutput,
    NodeStarted,
    NodeSucceeded,
    NodeUserAnswer,
    NodeUserAsk,
    RunCanceled,
    RunCompiled,
    RunCompleted,
    RunFailed,
    RunStarted,
)
from proxy.wire.workflow_asks import answered as user_answer
from proxy.wire.workflow_asks import asked
from proxy.wire.workflow_body import (
    ERRORS,
    Linted,
    RunCreate,
    ToolResults,
    WorkflowIssue,
    invalid,
    problem,
)
from proxy.wire.workflow_fold import Extras, RunFold
from proxy.wire.workflow_parts import Artifact, Asked, Call, Problem
from proxy.wire.workflow_run import tool_detail
from tests.wire.workflow_events import (
    AT,
    CALL,
    HASH,
    INFO,
    PROBLEM,
    REQUEST,
    RUN,
    answered,
    called,
    lines,
    llm_call,
    waits,
)

OTHER = Call(id="c9", name="other", arguments="{}")
BEGIN: list[Event] = [RunCompiled(plan_hash=HASH), RunStarted(plan_hash=HASH), NodeStarted(node_id="a")]
ASKED: list[Event] = [NodeLlmCall(node_id="a", llm_call=llm_call()), called(CALL), called(OTHER), waits(CALL, OTHER)]
DONE: list[Event] = [
    NodeLlmCall(node_id="a", llm_call=llm_call(1)),
    NodeOutput(node_id="a", output=Artifact(artifact_key="node_output.v0", info=INFO)),
    NodeSucceeded(node_id="a"),
]
COMPLETED = RunCompleted(plan_hash=HASH, outputs=Artifact(artifact_key="run_outputs.v0", info=INFO))
NODES = (("a", "llm"), ("b", "map.fanout"))


def folded(*events: Event) -> RunFold:
    fold = RunFold()
    for line in lines(events):
        fold.feed(line)
    return fold


def plain(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def snapshot(*events: Event, **more: Any) -> Any:
    return plain(folded(*events).snapshot(Extras(nodes=NODES, **more)))


def test_the_snapshot_of_a_run_that_succeeded() -> None:
    found = snapshot(
        *BEGIN,
        *DONE,
        COMPLETED,
        values={"a": Raw(b'{"text":"hi"}')},
        outputs=Raw(b'{"result":"hi"}'),
        cents={"gpt": 7},
    )
    assert found == {
        "run_id": RUN,
        "status": "succeeded",
        "plan_hash": HASH,
        "cost_summary": {
            "total_usd_cents": 7,
            "line_items": [
                {
                    "provider_id": "openai",
                    "model": "gpt",
                    "requests": 1,
                    "input_tokens": 3,
                    "output_tokens": 2,
                    "usd_cents": 7,
                }
            ],
        },
        "nodes": [
            {
                "id": "a",
                "type": "llm.responses",
                "status": "succeeded",
                "started_at": "2023-11-14T22:13:23.250000Z",
                "ended_at": "2023-11-14T22:13:26.250000Z",
                "output": {"text": "hi"},
            },
            {"id": "b", "type": "map.fanout", "status": "canceled"},
        ],
        "outputs": {"result": "hi"},
        "summary": {
            "total_steps": 1,
            "total_llm_calls": 1,
            "total_tool_calls": 0,
            "total_input_tokens": 3,
            "total_output_tokens": 2,
            "total_cost_cents": 7,
        },
    }
    assert AT


def test_a_run_under_way_has_no_outputs_no_nulls_and_nodes_that_are_to_come() -> None:
    found = snapshot(*BEGIN, outputs=Raw(b'{"early":1}'))
    assert (found["status"], found["outputs"]) == ("running", {})
    assert found["nodes"][0].keys() == {"id", "type", "status", "started_at"}
    assert found["nodes"][1] == {"id": "b", "type": "map.fanout", "status": "pending"}
    assert found["cost_summary"] == {"total_usd_cents": 0, "line_items": []}


@pytest.mark.parametrize(
    ("end", "status", "node"),
    [
        ([NodeFailed(node_id="a", error=PROBLEM), RunFailed(plan_hash=HASH, error=PROBLEM)], "failed", "failed"),
        ([RunFailed(plan_hash=HASH, error=PROBLEM)], "failed", "canceled"),
        ([RunCanceled(plan_hash=HASH, error=Problem(message="x"))], "canceled", "canceled"),
    ],
)
def test_what_had_not_ended_is_canceled_with_its_run(end: list[Event], status: str, node: str) -> None:
    found = snapshot(*BEGIN, *ASKED, *end)
    assert (found["status"], [each["status"] for each in found["nodes"]]) == (status, [node, "canceled"])
    assert folded(*BEGIN, *ASKED, *end).pending().pending == ()
    if node == "failed":
        assert found["nodes"][0]["error"] == {"message": "It broke.", "code": "llm_error"}


def test_open_calls_are_pending_until_each_is_answered() -> None:
    fold = folded(*BEGIN, *ASKED)
    assert (fold.status, fold.nodes["a"].status) == ("waiting", "waiting")
    assert plain(fold.pending()) == {
        "run_id": RUN,
        "pending": [
            {
                "node_id": "a",
                "step": 0,
                "request_id": REQUEST,
                "tool_calls": [{"tool_call": plain(CALL)}, {"tool_call": plain(OTHER)}],
            }
        ],
    }
    fold = folded(*BEGIN, *ASKED, answered(CALL))
    assert [each.tool_call.id for node in fold.pending().pending for each in node.tool_calls] == ["c9"]
    assert fold.status == "waiting"
    fold = folded(*BEGIN, *ASKED, answered(CALL), answered(OTHER))
    assert (fold.pending().pending, fold.status) == ((), "running")


def test_two_items_of_a_fanout_wait_each_at_a_step_of_its_own() -> None:
    fold = folded(*BEGIN, waits(CALL, step=0), waits(OTHER, step=1), answered(CALL, step=0))
    assert [(each.step, len(each.tool_calls)) for each in fold.pending().pending] == [(1, 1)]
    assert fold.status == "waiting"


def test_steps_have_their_calls_and_results() -> None:
    fold = folded(*BEGIN, *ASKED, answered(CALL, "42"), answered(OTHER), *DONE)
    first, second = plain(fold.steps())["steps"]
    assert (first["step"], first["llm_call"]["model"], len(first["tool_calls"])) == (0, "gpt", 2)
    assert first["tool_results"][0] == {"tool_call": {"id": "c1", "name": "search"}, "output": "42"}
    assert second.keys() == {"node_id", "step", "request_id", "llm_call"}
    detail = tool_detail(fold.steps().steps, 0, "c1")
    assert plain(detail)["tool_result"]["output"] == "42"
    assert tool_detail(fold.steps().steps, 1, "c1") is None
    assert tool_detail(fold.steps().steps, 0, "zz") is None


def test_a_snapshot_shows_steps_by_node_to_who_asks() -> None:
    found = snapshot(*BEGIN, *ASKED, steps=True)["steps"]
    assert [(each["node_id"], len(each["steps"])) for each in found] == [("a", 1)]
    [step] = found[0]["steps"]
    assert step.keys() == {"step", "request_id", "llm_call", "tool_calls", "waiting"}
    assert [each["tool_call"]["id"] for each in step["tool_calls"]] == ["c1", "c9"]
    assert step["waiting"]["reason"] == "tool_results"
    answers = (answered(CALL, "42"), answered(OTHER))
    [step] = snapshot(*BEGIN, *ASKED, *answers, steps=True)["steps"][0]["steps"]
    assert "waiting" not in step
    assert [each["output"] for each in step["tool_results"]] == ["42", "done"]
    assert "steps" not in snapshot(*BEGIN, *ASKED)


def test_a_step_that_is_taken_again_after_a_restart_begins_anew() -> None:
    again = llm_call(request="0190d5a0-0000-7000-8000-0000000000bb")
    fold = folded(*BEGIN, *ASKED[:2], NodeLlmCall(node_id="a", llm_call=again))
    [step] = fold.steps().steps
    assert (step.request_id, step.tool_calls) == (again.request_id, msgspec.UNSET)
    assert fold.spent["openai", "gpt"].requests == 2, "what was asked was asked"


def test_models_have_a_line_each() -> None:
    calls = [NodeLlmCall(node_id="a", llm_call=llm_call(i, model)) for i, model in enumerate(["x", "y", "x"])]
    items = snapshot(*BEGIN, *calls, cents={"x": 3})["cost_summary"]["line_items"]
    assert [(each["model"], each["requests"], each["usd_cents"]) for each in items] == [("x", 2, 3), ("y", 1, 0)]


def test_an_error_is_flat_and_has_no_empty_text() -> None:
    assert plain(problem(404, "No such run.", request_id="r-1")) == {
        "error": "not_found",
        "code": "NOT_FOUND",
        "message": "No such run.",
        "request_id": "r-1",
    }
    for status in (*ERRORS, 418, 500, 502):
        body = plain(problem(status, ""))
        assert all(isinstance(body[name], str) and body[name] for name in ("error", "code", "message"))
    assert problem(502, "x").code == "INTERNAL_ERROR"


def test_a_bad_spec_has_its_issues_beside_the_flat_error() -> None:
    issue = WorkflowIssue(code="cycle", path="$.nodes[0]", message="m")
    assert plain(invalid((issue,), "Bad.")) == {
        "error": "invalid_workflow",
        "code": "VALIDATION_ERROR",
        "message": "Bad.",
        "issues": [{"code": "cycle", "path": "$.nodes[0]", "message": "m"}],
    }


def test_what_is_not_there_is_left_out_of_an_answer() -> None:
    assert plain(Linted()) == {}
    assert plain(Linted(plan_json=Raw(b'{"kind":"workflow"}'), plan_hash=HASH)).keys() == {"plan_json", "plan_hash"}


def test_bodies_take_nulls_for_absent_fields() -> None:
    empty = dict.fromkeys(RunCreate.__struct_fields__)
    assert msgspec.convert(empty, RunCreate) == RunCreate()
    result = {"tool_call": {"id": "c", "name": "n", "arguments": None}, "output": "x", "error": None}
    given = {"node_id": "a", "step": 0, "request_id": REQUEST, "results": [result]}
    assert msgspec.json.decode(msgspec.json.encode(given), type=ToolResults).results[0].output == "x"


@pytest.mark.parametrize(
    "change",
    [{"step": -1}, {"request_id": "x"}, {"results": []}, {"node_id": ""}, {"results": [{"output": "x"}]}],
)
def test_malformed_tool_results_are_refused(change: dict[str, Any]) -> None:
    result = {"tool_call": {"id": "c", "name": "n"}, "output": "x"}
    given = {"node_id": "a", "step": 0, "request_id": REQUEST, "results": [result], **change}
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(given), type=ToolResults)


def test_overrides_are_read() -> None:
    body = {
        "model_overrides": {
            "nodes": {"a": "m"},
            "fanout_subnodes": [{"parent_id": "f", "subnode_id": "s", "model": "x"}],
        }
    }
    found = msgspec.convert(body, RunCreate).model_overrides
    assert found is not None
    assert found.fanout_subnodes is not None
    assert (found.nodes, found.fanout_subnodes[0].model) == ({"a": "m"}, "x")


def given(*ids: str, node: str = "a", step: int = 0, request: str = REQUEST) -> ToolResults:
    results = [{"tool_call": {"id": each, "name": "n"}, "output": "x"} for each in ids]
    return msgspec.convert({"node_id": node, "step": step, "request_id": request, "results": results}, ToolResults)


@pytest.mark.parametrize(
    ("results", "status"),
    [
        (given("c1"), None),
        (given("c9", "c1"), None),
        (given("c1", node="b"), 404),
        (given("c1", step=1), 409),
        (given("c1", request="0190d5a0-0000-7000-8000-0000000000bb"), 409),
        (given("c1", "zz"), 409),
        (given("c1", "c1"), 409),
    ],
)
def test_results_of_calls_that_are_not_open_are_refused(results: ToolResults, status: int | None) -> None:
    refusal = folded(*BEGIN, *ASKED).refusal(results)
    assert (refusal and refusal[0]) == status


def test_results_that_were_taken_before_are_refused() -> None:
    fold = folded(*BEGIN, *ASKED, answered(CALL))
    assert (fold.refusal(given("c1")) or [0])[0] == 409
    assert fold.refusal(given("c9")) is None
    assert (folded(*BEGIN, *ASKED, answered(CALL), answered(OTHER)).refusal(given("c1")) or [0])[0] == 404


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"question":"Which?"}', {"question": "Which?", "allow_freeform": True}),
        (
            '{"question":"Which?","options":[{"label":"x","description":null},{"label":"y","description":"Y"}],'
            '"allow_freeform":false,"more":1}',
            {
                "question": "Which?",
                "options": [{"label": "x"}, {"label": "y", "description": "Y"}],
                "allow_freeform": False,
            },
        ),
        ('{"question":" "}', None),
        ("{}", None),
        ("no json", None),
        ("[" * 10_000, None),
    ],
)
def test_a_question_to_the_user_is_read_from_its_call(arguments: str, told: dict[str, Any] | None) -> None:
    call = Call(id="c", name="user_ask", arguments=arguments)
    found = asked(call, 0, REQUEST)
    if told is None or found is None:
        assert found is told
    else:
        assert plain(found) == {**told, "step": 0, "request_id": REQUEST, "tool_call": plain(call)}
        lines([NodeUserAsk(node_id="a", user_ask=found)])
    assert asked(Call(id="c", name="other", arguments=arguments), 0, REQUEST) is None


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ('{"answer":"x","is_freeform":false}', ("x", False)),
        ("just text", ("just text", True)),
        ('{"other":1}', ('{"other":1}', True)),
        ("42", ("42", True)),
        (" ", None),
        ('{"answer":""}', None),
    ],
)
def test_an_answer_of_the_user_is_read_from_its_result(output: str, answer: tuple[str, bool] | None) -> None:
    found = user_answer(Asked(id="c", name="user_ask"), output, 0, REQUEST)
    assert (found and (found.answer, found.is_freeform)) == answer
    if found:
        lines([NodeUserAnswer(node_id="a", user_answer=found)])
