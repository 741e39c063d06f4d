"""`/ok` and `/info`: that the native runs API is here, and which of its optional parts."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from litestar import get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from proxy.api.health import installed


class Alive(Struct, frozen=True):
    ok: bool = True


class Flags(Struct, frozen=True):
    """What clients ask for before they use it."""

    assistants: bool = True
    crons: bool = True
    langsmith: bool = False
    langsmith_tracing_replicas: bool = False


class Host(Struct, frozen=True):
    kind: str = "self-hosted"


class Info(Struct, frozen=True, kw_only=True):
    """Source: the official server's answer, as its clients read it."""

    version: str
    langgraph_py_version: str
    flags: Flags = Flags()
    host: Host = Host()


def routes() -> list[HTTPRouteHandler]:
    info = Info(version=installed(), langgraph_py_version=_version("langgraph"))

    @get("/ok", sync_to_thread=False)
    def ok() -> Alive:
        return Alive()

    @get("/info", sync_to_thread=False)
    def about() -> Info:
        return info

    return [ok, about]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
