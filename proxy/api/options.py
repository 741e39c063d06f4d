"""What a request may choose about its run: from the body's `runwire`, else `X-Runwire-*` headers, else the config."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.api.auth import Caller
from proxy.api.parse import decode
from proxy.errors import BadRequest
from proxy.model import Choices, OnDisconnect
from proxy.runs.agents import Agent
from proxy.settings import Chat, RequestLimits
from proxy.wire.chat_request import ChatRequest, Extension
from proxy.wire.shown import Shown

Headers = dict[bytes, bytes]
PREFIX = b"x-runwire-"
CHOICES = {
    "tools": frozenset({"hidden", "reasoning", "details"}),
    "reasoning": frozenset({"field", "reasoning", "think", "off"}),
}
_context = msgspec.json.Decoder(dict[str, Any])


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of it all."""

    on_disconnect: OnDisconnect
    keepalive: float
    chunk_pings: bool
    first_byte: float
    shown: Shown
    thread_id: str | None
    max_steps: int | None
    context: dict[str, Any]
    model: str | None
    asked: Extension
    """What the request itself said."""


def options_of(request: ChatRequest, headers: Headers, agent: Agent, chat: Chat, limits: RequestLimits) -> Options:
    """Raises `BadRequest` naming the field or header that is wrong."""
    asked = request.runwire or Extension()
    if any(name.startswith(PREFIX) for name in headers):
        asked = _filled(asked, _from_headers(headers, limits))
    own = agent.settings
    style = own.keepalive_style or chat.keepalive_style
    # A request with an idempotency key may be repeated: the run goes on for the next attempt to join.
    default = "continue" if headers.get(b"idempotency-key") else chat.on_disconnect
    return Options(
        on_disconnect=asked.on_disconnect or ("continue" if asked.background else own.on_disconnect or default),
        keepalive=0.0 if style == "off" else _keepalive(asked, own.keepalive, chat.keepalive),
        chunk_pings=style == "chunk",
        first_byte=chat.first_byte if own.first_byte is None else own.first_byte,
        shown=_shown(asked, agent, request),
        thread_id=_thread(asked, request, headers, chat),
        max_steps=_positive(own.max_steps if asked.max_steps is None else asked.max_steps),
        context=asked.context or {},
        model=_model(asked, agent),
        asked=asked,
    )


def choices_of(request: ChatRequest, options: Options, headers: Headers, caller: Caller, chat: Chat) -> Choices:
    """What the run's record keeps of the request."""
    metadata = {name: _string(value) for name, value in (request.metadata or {}).items()}
    forwarded = {
        name: headers[name.encode()].decode("latin-1") for name in chat.forward_headers if name.encode() in headers
    }
    return Choices(
        metadata=metadata,
        user=caller.user or request.safety_identifier or request.user,
        store=request.store is not False,
        on_disconnect=options.on_disconnect,
        keepalive=options.keepalive,
        show=options.asked.show or {},
        max_steps=options.max_steps,
        model=options.model,
        context=options.context,
        headers=forwarded,
    )


def _from_headers(headers: Headers, limits: RequestLimits) -> Extension:
    values: dict[str, Any] = {}
    show: dict[str, str] = {}
    for name, raw in headers.items():
        if not name.startswith(PREFIX):
            continue
        key, value = name[len(PREFIX) :].decode("latin-1").replace("-", "_"), raw.decode("latin-1")
        if key in ("show_tools", "show_reasoning"):
            show[key.removeprefix("show_")] = value
        elif key == "context":
            values[key] = _json(raw, name, limits)
        elif key == "keepalive":
            values[key] = {"on": True, "off": False}.get(value.lower(), value)
        elif key in Extension.__struct_fields__:
            values[key] = value
    if show:
        values["show"] = show
    try:
        return msgspec.convert(values, Extension, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"A header X-Runwire-* is wrong: {error}"[:300]) from error


def _json(value: bytes, name: bytes, limits: RequestLimits) -> dict[str, Any]:
    try:
        return decode(value, _context, limits)
    except BadRequest as error:
        text = error.message.replace("The body", "Its value")
        raise BadRequest(f"The header {name.decode('latin-1')} must be a JSON object. {text}") from error


def _filled(strong: Extension, weak: Extension) -> Extension:
    """The first, and the second where the first says nothing."""
    given = {name: getattr(strong, name) for name in Extension.__struct_fields__ if getattr(strong, name) is not None}
    return msgspec.structs.replace(weak, **given)


def _keepalive(asked: Extension, own: float | None, default: float) -> float:
    configured = default if own is None else own
    if asked.keepalive is None or asked.keepalive is True:
        return configured
    if asked.keepalive is False:
        return 0.0
    if not 1 <= asked.keepalive <= 3600:
        raise BadRequest("`keepalive` is a number of seconds from 1 to 3600.", param="runwire.keepalive")
    return float(asked.keepalive)


def _shown(asked: Extension, agent: Agent, request: ChatRequest) -> Shown:
    show = asked.show or {}
    for name, value in show.items():
        if name not in CHOICES or value not in CHOICES[name]:
            allowed = " or ".join(sorted(CHOICES.get(name, CHOICES)))
            raise BadRequest(f"`show.{name[:40]}` takes {allowed}.", param=f"runwire.show.{name[:40]}")
    own = agent.settings
    values = {"tools": own.show.tools, "reasoning": own.show.reasoning, **show}
    names = frozenset(tool.function.name for tool in request.tools or () if tool.function)
    return msgspec.convert({**values, "interrupts": own.interrupts, "asked": names}, Shown)


def _thread(asked: Extension, request: ChatRequest, headers: Headers, chat: Chat) -> str | None:
    named = asked.thread_id
    if named is None:
        for name in chat.thread_headers:
            if value := headers.get(name.lower().encode()):
                named = value.decode("latin-1")
                break
    if named is None and request.metadata:
        given = request.metadata.get("thread_id")
        named = given if isinstance(given, str) else None
    if not named:
        return None
    if len(named) > 128 or not named.isprintable() or not named.isascii() or " " in named:
        raise BadRequest("A thread id has 1 to 128 printable ASCII characters and no spaces.", param="thread_id")
    return named


def _positive(steps: int | None) -> int | None:
    if steps is not None and not 0 < steps <= 10_000:
        raise BadRequest("`max_steps` is a number from 1 to 10000.", param="runwire.max_steps")
    return steps


def _model(asked: Extension, agent: Agent) -> str | None:
    if asked.model and not agent.adapter.overrides_model:
        raise BadRequest(f"The model of `{agent.name}` cannot be overridden.", param="runwire.model")
    return asked.model


def _string(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
