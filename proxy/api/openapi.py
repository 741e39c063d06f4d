"""`/openapi.json` and `/docs`: what this server takes and answers, made from the routes themselves.

A route names the struct of its body as `opt={"body": Struct}`; its summary is its docstring's first line.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.types import ControllerRouterHandler

from proxy.api.health import ABOUT, NAME, installed
from proxy.wire.chat_request import ChatRequest

BODY = "body"
"""The key of a route's options under which the struct of its body stands."""
REF = "#/components/schemas/{name}"
KEYS = {"bearer": {"type": "http", "scheme": "bearer"}, "key": {"type": "apiKey", "in": "header", "name": "x-api-key"}}
ERROR = {"description": "Refused; `detail` or `error.message` says why."}
CHAT = "/v1/chat/completions"
STYLE = "body{font-family:sans-serif;margin:2em}td{padding:.2em 1em .2em 0;vertical-align:top}"

Document = dict[str, Any]


def routes(others: Callable[[], Sequence[ControllerRouterHandler]]) -> list[HTTPRouteHandler]:
    """`others` are the routes that are told of; the first question makes the document."""

    @cache
    def described() -> tuple[bytes, str]:
        document = describe(others())
        return msgspec.json.encode(document), page(document)

    @get("/openapi.json", sync_to_thread=True)
    def openapi() -> Response[bytes]:
        """This description."""
        return Response(described()[0], media_type=MediaType.JSON)

    @get("/docs", sync_to_thread=True)
    def docs() -> Response[str]:
        """The same for a browser."""
        return Response(described()[1], media_type=MediaType.HTML)

    return [openapi, docs]


def describe(handlers: Sequence[ControllerRouterHandler]) -> Document:
    """The document, in OpenAPI 3.1."""
    operations = [Operation(CHAT, "POST", "Chat completions, streamed or whole.", ChatRequest), *_operations(handlers)]
    bodies = list(dict.fromkeys(operation.body for operation in operations if operation.body is not None))
    schemas, components = msgspec.json.schema_components(bodies, ref_template=REF)
    shapes = dict(zip(bodies, schemas, strict=True))
    paths: dict[str, Document] = {}
    for operation in operations:
        schema = None if operation.body is None else shapes[operation.body]
        paths.setdefault(operation.path, {})[operation.method.lower()] = operation.described(schema)
    return {
        "openapi": "3.1.0",
        "info": {"title": NAME, "version": installed(), "description": ABOUT},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": components, "securitySchemes": KEYS},
        "security": [{name: []} for name in KEYS],
    }


class Operation(msgspec.Struct, frozen=True):
    """One method of one path."""

    path: str
    method: str
    summary: str
    body: Any = None

    def described(self, schema: Document | None) -> Document:
        names = re.findall(r"\{(\w+)\}", self.path)
        text = {"type": "string"}
        told: Document = {
            "summary": self.summary,
            "operationId": re.sub(r"\W+", "_", f"{self.method.lower()}{self.path}").strip("_"),
            "parameters": [{"name": name, "in": "path", "required": True, "schema": text} for name in names],
            "responses": {"2XX": {"description": "The answer."}, "4XX": ERROR},
        }
        if schema is not None:
            told["requestBody"] = {"content": {"application/json": {"schema": schema}}, "required": True}
        return told


def _operations(handlers: Sequence[ControllerRouterHandler]) -> Iterator[Operation]:
    for route in Litestar(handlers, openapi_config=None).routes:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
        for handler in getattr(route, "route_handlers", ()):
            summary = (handler.fn.__doc__ or handler.fn.__name__.replace("_", " ").capitalize() + ".").splitlines()[0]
            for method in sorted(handler.http_methods - {"OPTIONS"}):
                yield Operation(path, method, summary, handler.opt.get(BODY))


def page(document: Document) -> str:
    """A table of all operations, without scripts, so that it works offline."""
    rows = "".join(_rows(document["paths"].items()))
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{NAME}</title>\n<style>{STYLE}</style>\n'
        f"<h1>{NAME} {html.escape(document['info']['version'])}</h1>\n<p>{ABOUT}</p>\n"
        f'<p>The whole description: <a href="openapi.json">openapi.json</a></p>\n<table>\n{rows}</table>\n'
    )


def _rows(paths: Iterable[tuple[str, Document]]) -> Iterator[str]:
    for path, methods in sorted(paths):
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            name = body.get("$ref", "").rpartition("/")[2]
            cells = (method.upper(), path, operation.get("summary", ""), name)
            yield "<tr>" + "".join(f"<td><code>{html.escape(cell)}</code></td>" for cell in cells) + "</tr>\n"
