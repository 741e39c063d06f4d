"""What a graph is given for one run: its config, its context and its input."""

from __future__ import annotations

from typing import Any

import msgspec
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from adapters.langgraph.load import Graph, Loaded
from adapters.langgraph.messages import to_langchain, unanswered
from adapters.langgraph.native import configured, given
from adapters.langgraph.options import GraphOptions
from adapters.langgraph.translate import BREAKPOINT
from proxy.adapter import Answer, RunInput
from proxy.errors import NotWaiting
from proxy.events import NULL

CUT_OFF = "The call was cancelled before it had a result."
CLIENT_TOOLS = "client_tools"
"""The key under which a graph finds the tools that the caller offers, as dicts in OpenAI's form."""


def config_of(run: RunInput, options: GraphOptions) -> RunnableConfig:
    """What the config sets and the request may set; the keys that steer LangGraph itself cannot be among them."""
    config: RunnableConfig = {
        "configurable": {**options.configurable, **_from_request(run, options), "thread_id": run.thread_key},
        "metadata": {"run_id": run.run_id},
    }
    if run.native is not None:
        configured(config, run, run.native)
    limit = run.max_steps or options.recursion_limit
    if limit is not None:
        config["recursion_limit"] = limit
    return config


def _from_request(run: RunInput, options: GraphOptions) -> dict[str, Any]:
    values: dict[str, Any] = {
        key: msgspec.json.decode(run.params[param]) for param, key in options.params.items() if param in run.params
    }
    if options.request_keys:
        told = {**run.context, "user": run.user, "metadata": run.metadata, "headers": run.headers}
        values.update((key, told[key]) for key in options.request_keys if key in told)
    if run.tools:
        values[CLIENT_TOOLS] = msgspec.json.decode(msgspec.json.encode(run.tools))
    return values


def context_of(run: RunInput, options: GraphOptions, loaded: Loaded) -> dict[str, Any] | None:
    """The graph's context: the config's values, and those of the request's that its schema has a field for."""
    told = _from_request(run, options)
    if run.native is not None:
        told = {key: value for key, value in run.context.items() if key not in options.context} | told
    asked = {key: value for key, value in told.items() if key in loaded.context_fields}
    return {**options.context, **asked} or None


async def input_of(run: RunInput, options: GraphOptions, loaded: Loaded, graph: Graph, config: RunnableConfig) -> Any:
    """Raises `NotWaiting` if the run answers what nobody asked, `Conflict` if nobody is left to take the answer."""
    if run.native is not None:
        return await _mended(await given(run, run.native, graph, config), run, options, graph, config)
    if run.answer is not None:
        return await _resumed(run, run.answer, options, graph, config)
    if run.input != NULL:
        return msgspec.json.decode(run.input)
    if loaded.takes_text:
        return {options.input_key: run.text}
    return await _mended({options.input_key: to_langchain(run.messages, run.run_id)}, run, options, graph, config)


async def _mended(input: Any, run: RunInput, options: GraphOptions, graph: Graph, config: RunnableConfig) -> Any:
    """The input behind a result for each call that a run which was broken off left without one.

    No model goes on from a call that nobody answered. Of steps that were broken off nothing counts: new input discards
    what they have written, though the state shows it.
    """
    key = options.input_key
    if not run.broken_off or run.fresh or not isinstance(input, dict) or not isinstance(input.get(key), list):
        return input
    shown = await graph.aget_state(config)
    whole = await graph.aget_state(shown.config)  # named by its id, it comes without what is only pending
    left = unanswered(whole.values.get(key))
    results = [ToolMessage(CUT_OFF, tool_call_id=call, id=f"{run.run_id}-{call}", status="error") for call in left]
    return {**input, key: [*results, *input[key]]}


async def _resumed(run: RunInput, answer: Answer, options: GraphOptions, graph: Graph, config: RunnableConfig) -> Any:
    snapshot = await graph.aget_state(config) if graph.checkpointer else None
    asked = {interrupt.id for interrupt in snapshot.interrupts} if snapshot else set()
    halted = bool(snapshot and snapshot.next and not asked)
    values = {id: msgspec.json.decode(value) for id, value in answer.interrupts.items()}
    if answer.text is not None:
        values = dict.fromkeys(asked, answer.text) | values
    if halted:
        values.pop(BREAKPOINT, None)
    if run.attempt == 1 and (unknown := sorted(values.keys() - asked)):
        raise NotWaiting(f"Nothing waits for an answer to `{unknown[0][:64]}`.")
    results = [
        ToolMessage(content=output, tool_call_id=call, id=f"{run.run_id}-{call}")
        for call, output in answer.calls.items()
    ]
    update = {options.input_key: results} if results else None
    if values:
        return Command(resume=values, update=update)
    if halted:
        return Command(update=update) if update else None
    if update is None and run.attempt == 1:
        raise NotWaiting("This thread does not wait for an answer.")
    return update
