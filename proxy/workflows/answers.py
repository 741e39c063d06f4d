"""Whether what a model has answered is what its node asked for."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.workflows.faults import Broken, Cause
from proxy.workflows.schemas import Unusable, mismatch
from proxy.workflows.spec import Llm, OutputFormat
from proxy.workflows.values import DEPTH, depth, text_of


def check_answer(node: Llm, value: Any) -> None:
    """`value` is the response of a model. Raises `Broken` if it had to be JSON, or fit a schema, and does not."""
    if node.output_format is None:
        return
    if isinstance(value, dict) and value.get("stop_reason") == "max_tokens":
        raise Broken(Cause.TRUNCATED, "The model stopped at its limit of tokens, within its JSON.", "truncated")
    _check(text_of(value), node.output_format)


def _check(text: str, wanted: OutputFormat) -> None:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        reason = "The model had to answer in JSON, but its answer is none."
        raise Broken(Cause.INVALID_JSON, reason, "invalid_json") from None
    schema = wanted.json_schema.schema if wanted.json_schema is not None else None
    if not schema:
        return
    if depth(text.encode()) > DEPTH:
        raise Broken(Cause.VALUE_TOO_LARGE, f"The answer is nested deeper than {DEPTH} levels.")
    try:
        fault = mismatch(schema, found)
    except Unusable as error:
        raise Broken(Cause.UNCHECKED, f"The answer cannot be held to its schema: {error}.") from None
    if fault:
        raise Broken(Cause.INVALID_JSON, f"The answer does not fit its schema: {fault}.", "invalid_json")
