"""What a store promises of sessions."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Raw

from proxy.errors import BadRequest, Conflict
from proxy.model import new_id
from proxy.store.base import Store
from proxy.store.session import METADATA, SessionQuery
from proxy.testing.runs import Promise
from proxy.workflow_model import Said, Session

TENANT = "default"
AT_ONCE = 20
SAID = Said(role="user", content=Raw('[{"type": "text", "text": "ä\u2028"}]'.encode()), run_id=new_id(), at=9.5)


async def new_session(store: Store, **fields: Any) -> Session:
    session = msgspec.structs.replace(Session(session_id=new_id(), created_at=1.0, updated_at=1.0), **fields)
    await store.insert_session(session)
    return session


async def found(store: Store, **query: Any) -> list[str]:
    return [session.session_id for session in await store.find_sessions(SessionQuery(**{"tenant": TENANT} | query))]


async def a_session_comes_back_as_it_was(store: Store) -> None:
    """Every field is kept, and belongs to one tenant."""
    whole = await new_session(store, customer_id=new_id(), metadata={"a": "ä", "deep": [1, {"x": None}]})
    for session in (whole, await new_session(store)):
        assert await store.get_session(TENANT, session.session_id) == session
        assert await store.get_session("other", session.session_id) is None
        assert not await store.delete_session("other", session.session_id)
        assert await store.append_message("other", session.session_id, SAID) is None
        assert await store.clear_session("other", session.session_id, 2.0) is None
        assert await store.patch_session("other", session.session_id, {"a": 1}, 2.0) is None


async def messages_stand_in_the_order_they_came(store: Store) -> None:
    """Numbered from 1 without a gap, many at once too, and the session counts them."""
    session = await new_session(store)
    tries = [store.append_message(TENANT, session.session_id, SAID) for _ in range(AT_ONCE)]
    done = [answer for answer in await asyncio.gather(*tries) if answer is not None]
    assert sorted(message.seq for _, message in done) == list(range(1, AT_ONCE + 1))
    listed = await store.messages(TENANT, session.session_id)
    assert listed == sorted((message for _, message in done), key=lambda message: message.seq)
    assert len({message.message_id for message in listed}) == AT_ONCE
    first = listed[0]
    assert (first.role, first.content, first.run_id, first.created_at) == (SAID.role, SAID.content, SAID.run_id, 9.5)
    known = await store.get_session(TENANT, session.session_id)
    assert known is not None
    assert (known.message_count, known.updated_at) == (AT_ONCE, 9.5)
    assert await store.messages(TENANT, new_id()) == []
    assert await store.messages("other", session.session_id) == []


async def a_session_has_its_bound(store: Store) -> None:
    """A message that would make it too large is refused, and leaves it as it was; cleared, it takes messages again."""
    session = await new_session(store)
    size = len(bytes(SAID.content))
    assert await store.append_message(TENANT, session.session_id, SAID, most=size) is not None
    try:
        await store.append_message(TENANT, session.session_id, SAID, most=2 * size - 1)
    except Conflict:
        assert len(await store.messages(TENANT, session.session_id)) == 1
    else:
        raise AssertionError("a message went beyond the bound")
    await store.clear_session(TENANT, session.session_id, 3.0)
    assert await store.append_message(TENANT, session.session_id, SAID, most=size) is not None


async def metadata_is_merged(store: Store) -> None:
    """Key by key; None removes one, and nothing else changes."""
    session = await new_session(store, metadata={"a": 1, "b": {"c": 2}, "d": 3})
    patched = await store.patch_session(TENANT, session.session_id, {"b": {"x": 1}, "d": None, "e": "f"}, 4.0)
    expected = {"a": 1, "b": {"x": 1}, "e": "f"}
    assert patched == msgspec.structs.replace(session, metadata=expected, updated_at=4.0)
    assert await store.get_session(TENANT, session.session_id) == patched
    assert await store.patch_session(TENANT, new_id(), {}, 4.0) is None
    try:
        for key in "xyz":
            await store.patch_session(TENANT, session.session_id, {key: "x" * (METADATA // 2)}, 5.0)
    except BadRequest:
        return
    raise AssertionError("metadata grew beyond its bound")


async def a_cleared_session_begins_again(store: Store) -> None:
    """Its messages go, and the next is number 1; it stays, with its metadata."""
    session = await new_session(store, metadata={"a": 1})
    for _ in range(2):
        await store.append_message(TENANT, session.session_id, SAID)
    cleared = await store.clear_session(TENANT, session.session_id, 7.0)
    assert cleared == msgspec.structs.replace(session, updated_at=7.0)
    assert await store.messages(TENANT, session.session_id) == []
    answer = await store.append_message(TENANT, session.session_id, SAID)
    assert answer is not None
    assert answer[1].seq == 1


async def a_deleted_session_is_gone(store: Store) -> None:
    """With its messages; deleting says whether there was one."""
    session = await new_session(store)
    await store.append_message(TENANT, session.session_id, SAID)
    assert await store.delete_session(TENANT, session.session_id)
    assert not await store.delete_session(TENANT, session.session_id)
    assert await store.get_session(TENANT, session.session_id) is None
    assert await store.messages(TENANT, session.session_id) == []
    assert await found(store) == []


async def sessions_are_listed_newest_first(store: Store) -> None:
    """A page at a time, of one tenant, and of one customer if asked for."""
    one, two, three = [(await new_session(store, customer_id=customer)).session_id for customer in ("a", "b", "a")]
    await new_session(store, tenant="other")
    assert await found(store) == [three, two, one]
    assert await found(store, limit=1, offset=1) == [two]
    assert await found(store, customer_id="a") == [three, one]


async def a_tenant_has_so_many_sessions(store: Store) -> None:
    """Of many that are made at once, no more than the bound; those of other tenants do not count."""
    await new_session(store, tenant="other")
    tries = [store.insert_session(Session(session_id=new_id()), most=3) for _ in range(AT_ONCE)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert len(await found(store)) == 3
    assert sum(isinstance(fault, Conflict) for fault in done) == AT_ONCE - 3


PROMISES: tuple[Promise, ...] = (
    a_session_comes_back_as_it_was,
    messages_stand_in_the_order_they_came,
    a_session_has_its_bound,
    metadata_is_merged,
    a_cleared_session_begins_again,
    a_deleted_session_is_gone,
    sessions_are_listed_newest_first,
    a_tenant_has_so_many_sessions,
)
