"""Workflow runs over several processes: one conducts each, any may be asked, another goes on when that one is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from proxy.wire.workflow_schemas import run_event
from tests.faults.attacker import KEYS
from tests.faults.fleet import LIVE, Fleet, Node, fleet, trio
from tests.faults.fleet_agents import config, opened, traced
from tests.faults.natives import together
from tests.waiting import eventually

Json = dict[str, Any]
EVENT = Draft7Validator(run_event())
LOOK: Json = {"tools": [{"type": "function", "function": {"name": "look"}}], "tool_execution": {"mode": "client"}}
MOST = 6
"""Runs of a tenant under way at once, in the bounded fleet."""


def workflows(**changes: Any) -> Json:
    """The agent of `workflow_agents`, run by servers (`worker`) and by workers alone (`remote`)."""
    agent = {
        "adapter": "plain",
        "options": {"function": f"{Path(__file__).with_name('workflow_agents.py')}:worker"},
        "client_tools": "pass",
    }
    return config(agents={"worker": agent, "remote": agent | {"execute": "worker"}}, **changes)


class Caller:
    """One who uses the workflow dialect at one process."""

    def __init__(self, node: Node, tenant: str = "a") -> None:
        headers = {"x-modelrelay-api-key": KEYS[tenant]}
        self._http = httpx2.Client(base_url=f"{node.url}/api/v1", headers=headers, timeout=60)

    def ask(self, *nodes: Json, **more: Any) -> httpx2.Response:
        outputs = [{"name": "result", "from": nodes[-1]["id"]}]
        spec = {"kind": "workflow", "model": more.pop("model", "worker"), "nodes": list(nodes), "outputs": outputs}
        return self._http.post("/runs", json={"spec": spec, **more})

    def start(self, *nodes: Json, **more: Any) -> str:
        answer = self.ask(*nodes, **more)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["run_id"])

    def get(self, path: str) -> Any:
        answer = self._http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self, run_id: str) -> str:
        return str(self.get(f"/runs/{run_id}")["status"])

    def log(self, run_id: str, until: str = "", count: int = 1) -> list[str]:
        """The lines of a log, to its end or so many events of that type; each fits the published schema."""
        found: list[str] = []
        with self._http.stream("GET", f"/runs/{run_id}/events") as answer:
            for line in filter(None, answer.iter_lines()):
                event = json.loads(line)
                EVENT.validate(event)
                found.append(line)
                assert (event["seq"], event["run_id"]) == (len(found), run_id)
                if until and types(found).count(until) == count:
                    break
        return found

    def answer(self, run_id: str, output: str, pending: Json | None = None) -> httpx2.Response:
        """Answer what waits, or what waited then."""
        asked = pending or self.pending(run_id)
        results = [{"tool_call": each["tool_call"], "output": output} for each in asked["tool_calls"]]
        body = {name: asked[name] for name in ("node_id", "step", "request_id")} | {"results": results}
        return self._http.post(f"/runs/{run_id}/tool-results", json=body)

    def pending(self, run_id: str) -> Json:
        [found] = self.get(f"/runs/{run_id}/pending-tools")["pending"]
        return dict(found)

    def cancel(self, run_id: str) -> str:
        answer = self._http.post(f"/runs/{run_id}/cancel")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["status"])

    def result(self, run_id: str) -> Any:
        return self.get(f"/runs/{run_id}")["outputs"]["result"]


def llm(name: str, user: str, **more: Any) -> Json:
    return {"id": name, "type": "llm", "user": user, **more}


def fanout(name: str) -> Json:
    return {"id": name, "type": "map.fanout", "items_from_input": "items", "subnode": llm("one", "{{item}}")}


def types(log: list[str]) -> list[str]:
    return [json.loads(line)["type"] for line in log]


def text(value: Json) -> str:
    return str(value["output"][0]["content"][0]["text"]).strip()


def conductor(house: Fleet, run_id: str) -> int | None:
    """The process that conducts a run, by its pid; None if none does."""
    query = "SELECT pid FROM servers JOIN workflows ON owner = server_id WHERE run_id = %s"
    found = house.one(query, run_id)
    return None if found is None else int(found)


@pytest.fixture(scope="module", params=LIVE)
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two servers and a worker, which stay."""
    with trio(tmp_path_factory.mktemp("workflows"), workflows(), LIVE[request.param]) as made:
        yield made


@pytest.fixture
def here(house: Fleet) -> Caller:
    return Caller(house.nodes[0])


@pytest.fixture
def there(house: Fleet) -> Caller:
    return Caller(house.nodes[1])


def test_a_run_is_answered_and_read_at_a_process_that_does_not_conduct_it(here: Caller, there: Caller) -> None:
    run = here.start(llm("a", "call look", **LOOK), llm("b", "say {{a}}", stream=True))
    assert types(there.log(run, until="node_waiting"))[-1] == "node_waiting"
    pending = there.pending(run)
    assert there.status(run) == "waiting"
    taken = there.answer(run, "a tree")
    assert (taken.status_code, taken.json()) == (200, {"accepted": 1, "status": "running"})
    log = there.log(run)
    assert log == here.log(run)
    assert types(log)[-1] == "run_completed"
    assert text(there.result(run)) == "a tree"
    assert there.answer(run, "again", pending).status_code == 404


def test_one_of_many_answers_from_everywhere_is_taken_and_said_once(here: Caller, there: Caller) -> None:
    run = here.start(llm("a", "call look", **LOOK))
    here.log(run, until="node_waiting")
    pending = here.pending(run)
    found = together(lambda number: (here, there)[number % 2].answer(run, f"answer {number}", pending), range(12))
    won = [number for number, answer in enumerate(found) if answer.status_code == 200]
    assert len(won) == 1, [answer.text for answer in found]
    assert {answer.status_code for answer in found} <= {200, 404, 409}
    log = there.log(run)
    assert types(log).count("node_tool_result") == 1
    assert text(here.result(run)) == f"answer {won[0]}"


def test_a_run_is_cancelled_at_a_process_that_does_not_conduct_it(house: Fleet, here: Caller, there: Caller) -> None:
    waits = here.start(llm("a", "call look", **LOOK))
    works = here.start(llm("a", "say x\nwait", stream=True), model="remote")
    here.log(waits, until="node_waiting")
    there.log(works, until="node_output_delta")
    for run in (waits, works):
        assert there.cancel(run) == "canceled"
        assert types(here.log(run))[-1] == "run_canceled"
        assert there.cancel(run) == here.cancel(run) == "canceled"
    children = "SELECT count(*) FROM runs WHERE group_id = %s AND status IN ('pending', 'running')"
    eventually(lambda: house.one(children, works) == 0, "the end of the node's own run")


def test_an_answer_arrives_although_its_signal_is_lost(house: Fleet, here: Caller) -> None:
    """As if the process that took it had died before it could say so."""
    run = here.start(llm("a", "call look", **LOOK))
    here.log(run, until="node_waiting")
    house.one(
        "INSERT INTO workflow_results (run_id, node_id, step, call_id, number, body)"
        " VALUES (%s, 'a', 0, 'call_1', 0, '{\"output\":\"late\"}') RETURNING 1",
        run,
    )
    assert types(here.log(run))[-1] == "run_completed"
    assert text(here.result(run)) == "late"


def test_fifty_equal_keys_at_two_processes_make_one_run(house: Fleet, here: Caller, there: Caller) -> None:
    key = {"options": {"idempotency_key": f"fifty-{house.store}"}}
    asked = together(lambda number: (here, there)[number % 2].ask(llm("a", "say once"), **key), range(50))
    assert [answer.status_code for answer in asked] == [200] * 50, [answer.text for answer in asked]
    [run] = {answer.json()["run_id"] for answer in asked}
    assert types(there.log(run)).count("node_llm_call") == 1


def test_a_session_takes_all_that_is_said_at_two_processes_at_once(here: Caller, there: Caller) -> None:
    session = here._http.post("/sessions", json={}).json()["id"]

    def say(number: int) -> int:
        body = {"role": "user", "content": [{"type": "text", "text": str(number)}]}
        return (here, there)[number % 2]._http.post(f"/sessions/{session}/messages", json=body).status_code

    assert together(say, range(40)) == [201] * 40
    found = there.get(f"/sessions/{session}")
    assert [message["seq"] for message in found["messages"]] == list(range(1, 41))
    assert Counter(message["content"][0]["text"] for message in found["messages"]) == Counter(map(str, range(40)))


def test_the_bound_of_a_tenant_holds_over_all_processes(tmp_path: Path) -> None:
    dialects = {"workflows": {"concurrent": MOST}}
    with fleet(tmp_path, workflows(dialects=dialects)) as house:
        callers = [Caller(house.server()), Caller(house.server())]
        asked = together(lambda number: callers[number % 2].ask(llm("a", "call look", **LOOK)), range(30))
        assert Counter(answer.status_code for answer in asked) == {200: MOST, 429: 30 - MOST}
        runs = [answer.json()["run_id"] for answer in asked if answer.status_code == 200]
        assert callers[1].cancel(runs[0]) == "canceled"
        key = {"options": {"idempotency_key": "last"}}
        last = callers[0].start(llm("a", "call look", **LOOK), **key)
        assert callers[1].start(llm("a", "call look", **LOOK), **key) == last, "the bound is not for what is known"
        assert callers[1].ask(llm("a", "say x")).status_code == 429


@pytest.mark.parametrize("live", LIVE.values(), ids=LIVE)
def test_runs_of_a_killed_process_go_on_at_another(tmp_path: Path, live: str) -> None:
    """What was told stays as it was; of a fan-out only the items that had not ended are asked again."""
    with fleet(tmp_path, workflows(), live=live) as house:
        lost, kept = house.server(), house.server()
        here, there = Caller(lost), Caller(kept)
        items = {"items": ["say one", "say two", "await go\nsay three", "await go\nsay four"]}
        works = here.start(fanout("all"), input=items)
        waits = here.start(llm("a", "call look", **LOOK))
        streams = here.start(llm("a", "say half\nawait go\nsay whole", stream=True))
        before = {
            works: there.log(works, until="node_llm_call", count=2),
            waits: there.log(waits, until="node_waiting"),
        }
        before[streams] = there.log(streams, until="node_output_delta")
        eventually(lambda: len(traced(tmp_path, "asked")) == 6, "all nodes")
        pending = there.pending(waits)
        lost.kill()
        assert there.answer(waits, "seen").status_code == 200
        assert types(there.log(waits))[-1] == "run_completed"
        opened(tmp_path, "go")
        for run, told in before.items():
            log = there.log(run)
            assert log[: len(told)] == told
            assert types(log)[-1] == "run_completed", log[-1]
        assert [text(each) for each in there.result(works)["results"]] == ["one", "two", "three", "four"]
        assert types(there.log(works)).count("node_llm_call") == 4, "no call is counted twice"
        usage = there.get(f"/runs/{works}")["summary"]
        assert (usage["total_input_tokens"], usage["total_output_tokens"]) == (40, 20)
        asked = [json.loads(line) for line in there.log(streams)]
        words = [event["delta"] for event in asked if event["type"] == "node_output_delta"]
        assert [delta["kind"] for delta in words].count("message_start") == 2
        assert text(there.result(streams)) == "half whole"
        assert text(there.result(waits)) == "seen"
        assert there.answer(waits, "again", pending).status_code == 404


def test_a_process_that_was_stopped_past_its_lease_writes_no_more(tmp_path: Path) -> None:
    with fleet(tmp_path, workflows()) as house:
        stopped, kept = house.server(), house.server()
        here, there = Caller(stopped), Caller(kept)
        waits = here.start(llm("a", "call look", **LOOK), llm("b", "say {{a}}"))
        works = here.start(llm("a", "say x\nawait go\nsay y", stream=True))
        there.log(waits, until="node_waiting")
        there.log(works, until="node_output_delta")
        stopped.pause()
        eventually(lambda: {conductor(house, run) for run in (waits, works)} == {kept.pid}, "the takeover")
        eventually(lambda: len(traced(tmp_path, "asked", "a")) == 3, "the node that is asked again")
        stopped.resume()
        opened(tmp_path, "go")
        eventually(lambda: house.one("SELECT count(*) FROM servers") == 2, "the process that is back")
        assert here.answer(waits, "seen").status_code == 200
        for run in (waits, works):
            log = there.log(run)
            assert log == here.log(run)
            assert types(log)[-1] == "run_completed"
        assert types(there.log(works)).count("node_llm_call") == 1
        again = here.start(llm("a", "say back"))
        assert types(there.log(again))[-1] == "run_completed"


def test_a_process_that_is_told_to_end_hands_its_runs_over(tmp_path: Path) -> None:
    """Those that wait at once, those that work once it has to stop; what its nodes still say counts."""
    with fleet(tmp_path, workflows(server={"drain": 4.0, **server()})) as house:
        ends, kept = house.server(), house.server()
        here, there = Caller(ends), Caller(kept)
        waits = here.start(llm("a", "call look", **LOOK))
        works = here.start(llm("a", "say x\nawait go\nsay y", stream=True), llm("b", "say {{a}} z"))
        there.log(waits, until="node_waiting")
        told = there.log(works, until="node_output_delta")
        ends.process.terminate()
        eventually(lambda: conductor(house, waits) == kept.pid, "the run that waits")
        assert conductor(house, works) == ends.pid
        opened(tmp_path, "go")
        log = there.log(works)
        assert log[: len(told)] == told
        assert types(log).count("node_llm_call") == 2
        assert text(there.result(works)) == "x y z"
        assert there.answer(waits, "seen").status_code == 200
        assert types(there.log(waits))[-1] == "run_completed"
        assert ends.process.wait(60) == 0


def test_a_node_is_asked_again_when_its_worker_is_lost(tmp_path: Path) -> None:
    with fleet(tmp_path, workflows()) as house:
        server, lost = house.server(), house.worker()
        here = Caller(server)
        run = here.start(llm("a", "say x\nawait go\nsay y", stream=True), model="remote")
        told = here.log(run, until="node_output_delta")
        lost.kill()
        eventually(lambda: house.workers == 0, "the loss of the worker")
        house.worker()
        eventually(lambda: len(traced(tmp_path, "asked", "a")) == 2, "the node that is asked again")
        opened(tmp_path, "go")
        log = here.log(run)
        assert log[: len(told)] == told
        assert types(log)[-1] == "run_completed"
        calls = [json.loads(line)["llm_call"] for line in log if json.loads(line)["type"] == "node_llm_call"]
        assert [call["stop_reason"] for call in calls] == ["error", "stop"]
        assert len({call["request_id"] for call in calls}) == 2


def server() -> Json:
    """The server's part of the config."""
    return {name: value for name, value in config()["server"].items() if name != "drain"}
