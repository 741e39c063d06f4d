"""The schemas that the workflow dialect publishes, in JSON Schema draft-07: of its events, and of its specs.

That of the events is closed at every level, as the clients' parsers are; it allows payloads within events, which are
sent to readers who ask for them. That of the specs is a help for editors: it cannot say what only compiling finds.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
MEDIA_TYPE = "application/schema+json"
DRAFT = "http://json-schema.org/draft-07/schema#"
UUID = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
NODE_ID = "^[a-z][a-z0-9_]{0,63}$"
TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$"

TEXT: Schema = {"type": "string"}
SAID: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
POSITIVE: Schema = {"type": "integer", "minimum": 1}
FLAG: Schema = {"type": "boolean"}
ID: Schema = {"type": "string", "pattern": UUID}
HASH: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
NODE: Schema = {"type": "string", "pattern": NODE_ID}
POINTER: Schema = {"type": "string", "pattern": "^(/([^~]|~[01])*)?$"}


def closed(required: Schema, optional: Schema | None = None) -> Schema:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def listed(items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


def words(*known: str) -> Schema:
    return {"type": "string", "enum": list(known)}


STEP: Schema = {"step": COUNT, "request_id": ID}
TOOL_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 256}
CALL = closed({"id": TOOL_ID, "name": SAID, "arguments": TEXT})
PROBLEM = closed({"message": SAID}, {"code": SAID})
DELTA = closed(
    {
        "kind": words(
            "message_start", "message_delta", "message_stop", "tool_use_start", "tool_use_delta", "tool_use_stop"
        )
    },
    {"text_delta": TEXT, "response_id": TEXT, "model": TEXT},
)
LLM_CALL = closed(
    STEP,
    {
        "provider": words("anthropic", "openai", "xai", "google-ai-studio"),
        "model": {"type": "string", "minLength": 1, "maxLength": 128},
        "response_id": TEXT,
        "stop_reason": TEXT,
        "usage": closed({}, {"input_tokens": COUNT, "output_tokens": COUNT, "total_tokens": COUNT}),
    },
)
USER_ASK = closed(
    STEP | {"tool_call": CALL, "question": SAID, "allow_freeform": FLAG},
    {"options": listed(closed({"label": SAID}, {"description": TEXT}))},
)
WAITING = closed(
    STEP | {"pending_tool_calls": listed(closed({"tool_call": CALL}), 1), "reason": {"const": "tool_results"}}
)
USER_ANSWER = closed(
    STEP
    | {
        "tool_call": closed({"id": TOOL_ID, "name": SAID}),
        "answer": {"type": "string", "pattern": r"\S"},
        "is_freeform": FLAG,
    }
)
TOOL_RESULT = closed(
    STEP | {"tool_call": closed({"id": TOOL_ID, "name": SAID}, {"arguments": TEXT}), "output": TEXT}, {"error": TEXT}
)


def artifact(key: str) -> Schema:
    plain = closed({"bytes": COUNT, "sha256": HASH, "included": {"const": False}})
    whole = closed({"bytes": COUNT, "sha256": HASH, "included": {"const": True}, "content": {}})
    return closed({"artifact_key": {"const": key}, "info": {"oneOf": [plain, whole]}})


OF_RUNS: dict[str, Schema] = {
    "run_compiled": {},
    "run_started": {},
    "run_completed": {"outputs": artifact("run_outputs.v0")},
    "run_failed": {"error": PROBLEM},
    "run_canceled": {"error": PROBLEM},
}
OF_NODES: dict[str, Schema] = {
    "node_started": {},
    "node_output_delta": {"delta": DELTA},
    "node_llm_call": {"llm_call": LLM_CALL},
    "node_tool_call": {"tool_call": closed(STEP | {"tool_call": CALL})},
    "node_user_ask": {"user_ask": USER_ASK},
    "node_waiting": {"waiting": WAITING},
    "node_user_answer": {"user_answer": USER_ANSWER},
    "node_tool_result": {"tool_result": TOOL_RESULT},
    "node_output": {"output": artifact("node_output.v0")},
    "node_succeeded": {},
    "node_failed": {"error": PROBLEM},
}


def run_event() -> Schema:
    """The schema of one event."""
    head = {
        "envelope_version": {"const": "v2"},
        "run_id": ID,
        "seq": POSITIVE,
        "ts": {"type": "string", "pattern": TIME},
    }
    of_runs = [closed(head | {"type": {"const": name}, "plan_hash": HASH} | own) for name, own in OF_RUNS.items()]
    of_nodes = [closed(head | {"type": {"const": name}, "node_id": NODE} | own) for name, own in OF_NODES.items()]
    return {"$schema": DRAFT, "title": "Event of a workflow run", "oneOf": [*of_runs, *of_nodes]}


JSONPATH = r"""\$(\.[^\s.\[\]'"*?@()]+|\[[0-9]+\]|\['[^']*'\]|\["[^"]*"\])*"""
SCALAR: Schema = {"type": ["string", "number", "boolean", "null"]}
CONDITION = closed(
    {"source": words("node_output", "node_status"), "op": words("equals", "matches", "exists")},
    {"path": {"type": "string", "pattern": f"^({JSONPATH})?$"}, "value": SCALAR},
)
FUNCTION = closed({"name": SAID}, {"description": TEXT, "parameters": {"type": "object"}, "strict": FLAG})
OTHER_TOOLS: Schema = {
    "type": "object",
    "properties": {"type": words("web", "x_search", "code_execution", "image_generation")},
    "required": ["type"],
}
TOOL: Schema = {"oneOf": [SAID, closed({"type": {"const": "function"}, "function": FUNCTION}), OTHER_TOOLS]}
FILE: Schema = {
    "type": "object",
    "properties": {"data_base64": SAID, "mime_type": SAID},
    "required": ["data_base64", "mime_type"],
}
CONTENT: Schema = {
    "oneOf": [
        closed({"type": {"const": "text"}, "text": TEXT}),
        closed({"type": {"const": "file"}, "file": FILE}),
    ]
}
CALLED: Schema = {
    "oneOf": [
        closed({"id": SAID, "function": closed({"name": SAID}, {"arguments": TEXT})}, {"type": {"const": "function"}}),
        closed({"id": SAID, "name": SAID}, {"type": {"const": "function"}, "arguments": TEXT}),
    ]
}
MESSAGE = closed(
    {"role": words("system", "developer", "user", "assistant", "tool")},
    {
        "type": {"const": "message"},
        "content": {"oneOf": [TEXT, listed(CONTENT)]},
        "tool_calls": listed(CALLED),
        "tool_call_id": TEXT,
    },
)
RETRY = closed(
    {},
    {
        "max_attempts": POSITIVE,
        "retryable_errors": listed(words("invalid_json", "truncated", "rate_limit", "timeout")),
        "backoff_ms": COUNT,
    },
)
JSON_SCHEMA = closed({"name": SAID}, {"schema": {"type": "object"}, "strict": FLAG, "description": TEXT})
OUTPUT_FORMAT: Schema = {
    "oneOf": [
        closed({"type": {"const": "text"}}),
        closed({"type": {"const": "json_schema"}, "json_schema": JSON_SCHEMA}),
    ]
}
SOURCE = closed({"from": SAID}, {"pointer": POINTER})
PATH: Schema = {"type": "string", "pattern": f"^({JSONPATH}|/.*)?$"}
NODES: dict[str, Schema] = {
    "llm": {
        "model": {"type": "string", "maxLength": 128},
        "system": TEXT,
        "user": TEXT,
        "input": listed(MESSAGE),
        "stream": FLAG,
        "tools": listed(TOOL),
        "tool_execution": closed({}, {"mode": words("server", "client", "agentic")}),
        "retry": RETRY,
        "max_output_tokens": POSITIVE,
        "output_format": OUTPUT_FORMAT,
        "stop": listed(SAID),
    },
    "join.all": {},
    "join.any": {"predicate": CONDITION},
    "join.collect": {"predicate": CONDITION, "limit": POSITIVE, "timeout_ms": POSITIVE},
    "transform.json": {"object": {"type": "object", "additionalProperties": SOURCE}, "merge": listed(SOURCE)},
    "map.fanout": {
        "items_from": TEXT,
        "items_from_input": TEXT,
        "items_pointer": POINTER,
        "items_path": PATH,
        "subnode": {"oneOf": [{"$ref": "#/definitions/llm"}, {"$ref": "#/definitions/transform.json"}]},
        "max_parallelism": POSITIVE,
    },
}


def workflow() -> Schema:
    """The schema of a spec."""
    definitions = {
        name: closed({"id": NODE, "type": {"const": name}}, {"depends_on": listed(NODE)} | own)
        for name, own in NODES.items()
    }
    for name in ("join.all", "join.any", "join.collect"):
        definitions[name]["required"].append("depends_on")
        definitions[name]["properties"]["depends_on"] = listed(NODE, 1)
    definitions["map.fanout"]["required"].append("subnode")
    declared = closed(
        {"name": SAID},
        {
            "type": words("string", "number", "object", "array", "boolean", "null", "json"),
            "required": FLAG,
            "description": TEXT,
            "default": {},
        },
    )
    whole = closed(
        {
            "kind": {"const": "workflow"},
            "nodes": listed({"oneOf": [{"$ref": f"#/definitions/{name}"} for name in NODES]}, 1),
            "outputs": listed(closed({"name": SAID, "from": SAID}, {"pointer": POINTER}), 1),
        },
        {
            "name": TEXT,
            "model": {"type": "string", "maxLength": 128},
            "max_parallelism": POSITIVE,
            "inputs": listed(declared),
        },
    )
    return {"$schema": DRAFT, "title": "Workflow", **whole, "definitions": definitions}
