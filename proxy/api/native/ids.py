"""Ids in the paths and bodies of the runs API."""

from __future__ import annotations

from proxy.api.runs import ID
from proxy.errors import Unprocessable


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
