"""What the model of an llm node is asked, with all placeholders filled in."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from proxy.messages import Function, ImageURL, Message, Part, Tool, ToolCall, ToolFunction
from proxy.workflows.faults import Broken, Cause
from proxy.workflows.spec import Content, InputItem, Llm, Mode
from proxy.workflows.templates import filled
from proxy.workflows.values import Scope, lookup

_raw = msgspec.json.Encoder().encode

USER_ASK = "user_ask"
"""A tool of this name is the caller's, whatever the node's mode."""


class Call(Struct, frozen=True, kw_only=True):
    """One question to a model or an agent. `names` are tools without a definition, `tools` those with one."""

    model: str
    messages: tuple[Message, ...]
    mode: Mode = "server"
    names: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    stream: bool = False
    params: dict[str, Any] = {}
    """More fields of a chat completions request: `max_tokens`, `stop`, `response_format`."""


def call(node: Llm, scope: Scope) -> Call:
    """What a node asks. Raises `Broken` if a placeholder cannot be filled, or the whole is too large."""
    writer = Writer(scope)
    messages = [Message(role="system", content=writer.text(node.system))] if node.system else []
    messages += [writer.message(item) for item in node.input]
    if node.user:
        messages.append(Message(role="user", content=writer.text(node.user)))
    return Call(
        model=node.model,
        messages=tuple(messages),
        mode=node.mode,
        names=tuple(tool for tool in node.tools if isinstance(tool, str)),
        tools=tuple(msgspec.convert(tool, Tool) for tool in map(_packed, node.tools) if tool is not None),
        stream=node.stream,
        params=params(node),
    )


def params(node: Llm) -> dict[str, Any]:
    """What a node wants of its answer, in OpenAI's words."""
    found: dict[str, Any] = {}
    if node.max_output_tokens is not None:
        found["max_tokens"] = node.max_output_tokens
    if node.stop:
        found["stop"] = list(node.stop)
    if node.output_format is not None:
        found["response_format"] = msgspec.to_builtins(node.output_format)
    return found


class Writer:
    """Writes the texts of one prompt; all together are bound in size."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._left = scope.bounds.value_bytes

    def text(self, template: str) -> str:
        pieces = []
        for piece in filled(template, lambda name, keys: lookup(name, keys, self._scope)):
            self._left -= len(piece)
            if self._left < 0:
                most = self._scope.bounds.value_bytes
                raise Broken(Cause.VALUE_TOO_LARGE, f"The prompt has more than {most} characters.")
            pieces.append(piece)
        return "".join(pieces)

    def message(self, item: InputItem) -> Message:
        if all(part.type == "text" for part in item.content):
            content: str | tuple[Part, ...] = "".join(self.text(part.text) for part in item.content)
        else:
            content = tuple(self._part(part) for part in item.content)
        calls = tuple(
            ToolCall(id=each.id, function=Function(name=each.name, arguments=each.arguments))
            for each in item.tool_calls
        )
        return Message(
            role=item.role,
            content=content if content or not calls else None,
            tool_calls=calls or None,
            tool_call_id=item.tool_call_id or None,
        )

    def _part(self, part: Content) -> Part:
        if part.type == "text" or part.file is None:
            return Part(type="text", text=self.text(part.text))
        kind, content = part.file["mime_type"], part.file["data_base64"]
        url = f"data:{kind};base64,{content}"
        if kind.startswith("image/"):
            return Part(type="image_url", image_url=ImageURL(url))
        name = part.file.get("filename") or part.file.get("name") or "file"
        return Part(type="file", file={"filename": name, "file_data": url})


def _packed(tool: str | dict[str, Any]) -> dict[str, Any] | None:
    """A definition whose `parameters` are JSON again; None for a name."""
    if isinstance(tool, str):
        return None
    function = tool.get("function")
    if not isinstance(function, dict):
        return {"type": tool["type"]}
    plain = {name: value for name, value in function.items() if value is not None and name != "parameters"}
    if function.get("parameters") is not None:
        plain["parameters"] = msgspec.Raw(_raw(function["parameters"]))
    return {"type": "function", "function": msgspec.convert(plain, ToolFunction)}
