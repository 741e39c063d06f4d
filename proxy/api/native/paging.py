"""Where a page stands among all that was found, as LangGraph's clients read it from the headers."""

from __future__ import annotations


def paging(offset: int, limit: int, total: int) -> dict[str, str]:
    """Headers of the page from `offset` on, of so many in all.

    As on the official server, the total is that so far: one more than has been shown while there are more.
    """
    following = offset + limit
    if total <= following:
        return {"x-pagination-total": str(total)}
    return {"x-pagination-total": str(following + 1), "x-pagination-next": str(following)}
