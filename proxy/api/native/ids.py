"""Ids in the paths and bodies of the runs API."""

from __future__ import annotations

from typing import Any

from litestar import Request

from proxy.api.params import ID, tenant_of
from proxy.errors import NotFound, Unprocessable
from proxy.runs.threads import ThreadManager


def checked_id(text: str, what: str) -> str:
    """A UUID as it is kept. Raises `Unprocessable`; `what` says whose id it is, as in `thread`."""
    id = text.lower()
    if not ID.fullmatch(id):
        raise Unprocessable(f"The id of a {what} is a UUID.", param=f"{what}_id")
    return id


def kept_id(thread_id: str) -> str:
    """A thread's id as it is kept: chat clients may have given it any name."""
    id = thread_id.lower()
    return id if ID.fullmatch(id) else thread_id


async def held_id(threads: ThreadManager, request: Request[Any, Any, Any], thread_id: str) -> str:
    """The id of a thread: a UUID, or the name of one that is there. Raises `Unprocessable` for any other text."""
    id = kept_id(thread_id)
    if not ID.fullmatch(id):
        try:
            await threads.get(tenant_of(request), id)
        except NotFound:
            return checked_id(thread_id, "thread")
    return id
