"""Reads the llm nodes of a spec: conversations, tools, retries, formats of answers."""

from __future__ import annotations

from typing import Any, Literal, get_args

from proxy.workflows.issues import Code
from proxy.workflows.reading import Fields, told
from proxy.workflows.spec import (
    Bounds,
    Called,
    Content,
    InputItem,
    JsonSchema,
    Llm,
    Mode,
    OutputFormat,
    Retry,
    RetryWord,
    Role,
    ToolExecution,
)

MODES: tuple[Mode, ...] = get_args(Mode)
ROLES: tuple[Role, ...] = get_args(Role)
RETRIED: tuple[RetryWord, ...] = get_args(RetryWord)
CONTENTS: tuple[Literal["text", "file"], ...] = ("text", "file")
FORMATS: tuple[Literal["text", "json_schema"], ...] = ("text", "json_schema")
TOOLS = ("function", "web", "x_search", "code_execution", "image_generation")
LONGEST_BACKOFF = 600_000


def llm(fields: Fields, name: str, depends_on: tuple[str, ...], bounds: Bounds) -> Llm:
    system, user = fields.text("system"), fields.text("user")
    items = tuple(item(inner) for inner in fields.objects("input"))
    if not (fields.has("system") or fields.has("user") or fields.has("input")):
        fields.fault(Code.MISSING_FIELD, "user", "the model is asked nothing: give `user`, `system` or `input`")
    return Llm(
        id=name,
        depends_on=depends_on,
        model=fields.text("model", most=128).strip(),
        system=system,
        user=user,
        input=items,
        stream=fields.flag("stream"),
        tools=tools(fields),
        tool_execution=execution(fields),
        retry=retry(fields, bounds),
        max_output_tokens=fields.whole("max_output_tokens"),
        output_format=output_format(fields),
        stop=tuple(text for _, text in fields.texts("stop", "a text")),
    )


def item(inner: Fields) -> InputItem:
    inner.word("type", ("message",), "message")
    if not inner.has("role"):
        inner.fault(Code.MISSING_FIELD, "role", f"`role` is missing; it is one of {', '.join(ROLES)}")
    found = InputItem(
        role=inner.word("role", ROLES, "user"),
        content=content(inner),
        tool_calls=tuple(called(call) for call in inner.objects("tool_calls")),
        tool_call_id=inner.text("tool_call_id"),
    )
    inner.close()
    if found.role == "tool" and not found.tool_call_id:
        inner.fault(Code.MISSING_FIELD, "tool_call_id", "a tool message names its call: give `tool_call_id`")
    return found


def content(inner: Fields) -> tuple[Content, ...]:
    if isinstance(given := inner.any("content"), str):
        return (Content(type="text", text=given),) if given else ()
    return tuple(part(each) for each in inner.objects("content"))


def part(inner: Fields) -> Content:
    if not inner.has("type"):
        inner.fault(Code.MISSING_FIELD, "type", "`type` is missing; it is text or file")
    kind = inner.word("type", CONTENTS, "text")
    found = Content(type=kind, text=inner.text("text") if kind == "text" else "", file=file(inner, kind))
    inner.close()
    return found


def file(inner: Fields, kind: str) -> dict[str, Any] | None:
    if kind != "file":
        return None
    fields = inner.inner("file")
    if fields is None:
        inner.fault(Code.MISSING_FIELD, "file", "`file` is missing: give data_base64 and mime_type")
        return None
    for name in ("data_base64", "mime_type"):
        fields.text(name, required="a file has data_base64 and mime_type")
    return fields.given


def called(call: Fields) -> Called:
    call.word("type", ("function",), "function")
    name_and_arguments = call.inner("function") or call
    found = Called(
        id=call.text("id", required="each tool call has an id"),
        name=name_and_arguments.text("name", required="name the tool that was called"),
        arguments=name_and_arguments.text("arguments") or "{}",
    )
    if name_and_arguments is not call:
        name_and_arguments.close()
    call.close()
    return found


def tools(fields: Fields) -> tuple[str | dict[str, Any], ...]:
    found: list[str | dict[str, Any]] = []
    for path, value in fields.listed("tools"):
        if isinstance(value, str) and value:
            found.append(value)
        elif isinstance(value, dict):
            found.append(value)
            tool(Fields(value, path, fields.faults))
        else:
            cure = f"a tool is a name, or an object with type and function; it is {told(value)}"
            fields.faults.add(Code.INVALID_TYPE, path, cure)
    return tuple(found)


def tool(inner: Fields) -> None:
    """Notes what is wrong with a definition; the options of kinds other than functions are the model's own business."""
    if not inner.has("type"):
        inner.fault(Code.MISSING_FIELD, "type", f"`type` is missing; it is one of {', '.join(TOOLS)}")
    inner.word("type", TOOLS, "function")
    if inner.given.get("type") != "function":
        return
    function = inner.inner("function")
    inner.close()
    if function is None:
        inner.fault(Code.MISSING_FIELD, "function", "`function` is missing: give the name of the tool")
        return
    function.text("name", required="give the name of the tool", most=256)
    function.text("description")
    function.typed("parameters", dict)
    function.flag("strict")
    function.close()


def execution(fields: Fields) -> ToolExecution | None:
    inner = fields.inner("tool_execution")
    if inner is None:
        return None
    mode = inner.word("mode", MODES, "server")
    inner.close()
    return ToolExecution(mode=mode) if mode != "server" else None


def retry(fields: Fields, bounds: Bounds) -> Retry | None:
    inner = fields.inner("retry")
    if inner is None:
        return None
    plain = Retry()
    words = tuple(dict.fromkeys(retried(inner)))
    backoff = inner.whole("backoff_ms", least=0, most=LONGEST_BACKOFF)
    found = Retry(
        max_attempts=inner.whole("max_attempts", most=bounds.attempts) or plain.max_attempts,
        retryable_errors=words if inner.has("retryable_errors") else plain.retryable_errors,
        backoff_ms=plain.backoff_ms if backoff is None else backoff,
    )
    inner.close()
    return found if found.max_attempts > 1 else None


def retried(inner: Fields) -> list[RetryWord]:
    found = []
    for path, text in inner.texts("retryable_errors", f"one of {', '.join(RETRIED)}"):
        known = [word for word in RETRIED if word == text]
        found += known
        if not known:
            cure = f"{told(text)} is no error that can be retried; choose of {', '.join(RETRIED)}"
            inner.faults.add(Code.INVALID_VALUE, path, cure)
    return found


def output_format(fields: Fields) -> OutputFormat | None:
    inner = fields.inner("output_format")
    if inner is None:
        return None
    if not inner.has("type"):
        inner.fault(Code.MISSING_FIELD, "type", "`type` is missing; it is text or json_schema")
    kind = inner.word("type", FORMATS, "text")
    schema = json_schema(inner)
    inner.close()
    if kind == "text":
        if schema is not None and inner.given.get("type") == "text":
            inner.fault(Code.INVALID_VALUE, "json_schema", "a text has no schema: take it out, or say json_schema")
        return None
    if schema is None:
        inner.fault(Code.MISSING_FIELD, "json_schema", "`json_schema` is missing: give its name and schema")
        return None
    return OutputFormat(type=kind, json_schema=schema)


def json_schema(inner: Fields) -> JsonSchema | None:
    fields = inner.inner("json_schema")
    if fields is None:
        return None
    found = JsonSchema(
        name=fields.text("name", required="give the schema a name, as in `answer`"),
        schema=fields.typed("schema", dict),
        strict=fields.flag("strict"),
        description=fields.text("description"),
    )
    fields.close()
    return found
