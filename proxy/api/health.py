"""Whether the process lives and takes work, and, at a server's root, what it is."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from litestar import Litestar, MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from proxy.api.asgi import App
from proxy.api.errors import HANDLERS
from proxy.errors import Unavailable

Ready = Callable[[], Awaitable[None]]
"""Raises `Unavailable` while the process takes no work."""

NAME = "Runwire"
ABOUT = "Puts any agent behind the OpenAI API, and keeps every run under control."
DOCS = "Point an OpenAI client at /v1; the README and the folder docs/ of the project tell the rest."
ENDPOINTS = {
    "POST /v1/chat/completions": "OpenAI's chat completions, streamed or whole",
    "GET /v1/models": "the agents, as models",
    "POST /completion": "the simple form: a message in, an answer out",
    "GET /runs/{run_id}": "the record of a run; DELETE removes it",
    "GET /runs/{run_id}/events": "its log, a line an entry; ?wait=1 follows it",
    "POST /runs/{run_id}/cancel": "stops it; ?wait=1 waits for its end",
    "POST /threads/{thread_id}/runs/stream": "LangGraph's runs API: a run of a thread, as a stream",
    "POST /api/v1/runs": "the workflow dialect of ModelRelay's SDKs: a run of a workflow, in the background",
    "GET /docs": "all routes of the runs API; /openapi.json is the same for programs",
    "GET /health": "the server is alive",
    "GET /ready": "the server takes work",
}


class Health(Struct, frozen=True, omit_defaults=True):
    status: str
    reason: str = ""


class Welcome(Struct, frozen=True):
    name: str
    version: str
    about: str
    docs: str
    endpoints: dict[str, str]


def probes(ready: Ready) -> list[HTTPRouteHandler]:
    """What an orchestrator asks. Being alive depends on nothing: a restart would not bring a store back."""

    @get("/health")
    async def show_health() -> Health:
        return Health("ok")

    @get("/ready")
    async def show_ready() -> Response[Health]:
        try:
            await ready()
        except Unavailable as error:
            return Response(Health(error.code, error.message), status_code=error.status)
        return Response(Health("ready"))

    return [show_health, show_ready]


def application(ready: Ready) -> App:
    """The probes alone, for a process that serves nothing else."""
    return cast(App, Litestar(probes(ready), exception_handlers=HANDLERS, openapi_config=None, logging_config=None))


def welcome() -> HTTPRouteHandler:
    """What stands at the root of a server."""
    told = Welcome(NAME, installed(), ABOUT, DOCS, ENDPOINTS)

    @get("/")
    async def show_welcome(request: Request[Any, Any, Any]) -> Response[Welcome] | Response[str]:
        if request.accept.best_match([MediaType.JSON, MediaType.HTML]) == MediaType.HTML:
            return Response(page(told), media_type=MediaType.HTML)
        return Response(told)

    return show_welcome


def installed() -> str:
    """The version of the distribution; none if run from a checkout that is not installed."""
    try:
        return version("runwire")
    except PackageNotFoundError:
        return "0"


def page(welcome: Welcome) -> str:
    """The same for a browser."""
    rows = "".join(
        f"<tr><td><code>{html.escape(path)}</code></td><td>{html.escape(what)}</td></tr>\n"
        for path, what in welcome.endpoints.items()
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{welcome.name}</title>\n'
        f"<h1>{welcome.name} {html.escape(welcome.version)}</h1>\n<p>{welcome.about}</p>\n"
        f"<table>\n{rows}</table>\n<p>{welcome.docs}</p>\n"
    )
