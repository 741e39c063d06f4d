"""What a store promises of assistants."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from proxy.model import Assistant, new_id
from proxy.store.base import Store
from proxy.store.native import AssistantQuery, Revision
from proxy.testing.runs import Promise

AT_ONCE = 20


def new_assistant(**fields: Any) -> Assistant:
    now = time.time()
    made = Assistant(assistant_id=new_id(), agent="trial", name="Trial", created_at=now, updated_at=now)
    return msgspec.structs.replace(made, **fields)


async def stored(store: Store, **fields: Any) -> Assistant:
    made = await store.insert_assistant(new_assistant(**fields))
    assert made is not None, "a new assistant was not stored"
    return made


async def revised(store: Store, assistant: Assistant, **changes: Any) -> Assistant:
    made = await store.revise_assistant(assistant.tenant, assistant.assistant_id, Revision(**changes))
    assert made is not None, "the assistant is gone"
    return made


async def found(store: Store, **query: Any) -> list[str]:
    assistants = await store.find_assistants(AssistantQuery(**{"tenant": "default"} | query))
    return [assistant.assistant_id for assistant in assistants]


async def numbers(store: Store, assistant: Assistant) -> list[int]:
    return [version.version for version in await store.versions(assistant.tenant, assistant.assistant_id)]


async def an_assistant_comes_back_as_it_was(store: Store) -> None:
    """Every field of an assistant is kept, and it is its own first version."""
    made = new_assistant(
        description="ä\u2028",
        config={"tags": ["t"], "configurable": {"n": 1.5}},
        context={"n": 1.5},
        metadata={"deep": [1, {"x": None}]},
    )
    assert await store.insert_assistant(made) == made
    assert await store.get_assistant("default", made.assistant_id) == made
    assert await store.versions("default", made.assistant_id) == [made]
    assert await store.get_assistant("default", new_id()) is None
    assert await store.versions("default", new_id()) == []


async def an_assistant_is_made_once(store: Store) -> None:
    """Of many inserts of one id one makes it, and the others change nothing."""
    made = new_assistant()
    tries = [store.insert_assistant(msgspec.structs.replace(made, name=str(number))) for number in range(AT_ONCE)]
    first = [assistant for assistant in await asyncio.gather(*tries) if assistant is not None]
    assert len(first) == 1
    assert await store.get_assistant("default", made.assistant_id) == first[0]
    assert await numbers(store, made) == [1]


async def revisions_at_once_do_not_undo_each_other(store: Store) -> None:
    """Each becomes a version with a number of its own; what it does not name stays as the one before left it."""
    made = await stored(store, metadata={"a": 1}, description="d", config={"tags": ["t"]})
    changes = [{str(number): number} for number in range(AT_ONCE)]
    await asyncio.gather(*(revised(store, made, metadata=change) for change in changes))
    assert await numbers(store, made) == list(range(AT_ONCE + 1, 0, -1))
    last = await revised(store, made, name="New", agent="other", metadata={"a": 2})
    assert last == await store.get_assistant("default", made.assistant_id)
    assert (last.version, last.name, last.agent) == (AT_ONCE + 2, "New", "other")
    assert (last.description, last.config, last.created_at) == ("d", {"tags": ["t"]}, made.created_at)
    assert last.metadata == {"a": 2} | {str(number): number for number in range(AT_ONCE)}
    assert last.updated_at >= made.updated_at
    assert await store.revise_assistant("default", new_id(), Revision()) is None


async def an_older_version_can_be_set_again(store: Store) -> None:
    """What is set is what is shown and revised; a new version is numbered above all that there are."""
    made = await stored(store, name="one")
    await revised(store, made, name="two", metadata={"k": "v"})
    again = await store.set_version("default", made.assistant_id, 1)
    assert again is not None
    assert (again.version, again.name, again.metadata) == (1, "one", {})
    assert again.updated_at >= made.updated_at
    assert await store.get_assistant("default", made.assistant_id) == again
    assert await found(store, name="two") == []
    assert (await revised(store, made, description="three")).name == "one"
    assert await numbers(store, made) == [3, 2, 1]
    assert await store.set_version("default", made.assistant_id, 4) is None
    assert await store.set_version("default", new_id(), 1) is None


async def a_deleted_assistant_takes_its_versions_along(store: Store) -> None:
    """And leaves others alone; one that is made anew under its id starts from version 1."""
    made, other = await stored(store), await stored(store)
    await revised(store, made, name="two")
    assert await store.delete_assistant("default", made.assistant_id)
    assert not await store.delete_assistant("default", made.assistant_id)
    assert await store.get_assistant("default", made.assistant_id) is None
    assert await numbers(store, made) == []
    assert await store.insert_assistant(made) == made
    assert await numbers(store, made) == [1]
    assert set(await found(store)) == {made.assistant_id, other.assistant_id}


async def assistants_are_found_by_what_they_are(store: Store) -> None:
    """Each condition narrows what is found and counted; objects match what contains them."""
    one = (await stored(store, agent="a", name="Ärzte 100%", metadata={"user": {"name": "x", "age": 3}})).assistant_id
    two = (await stored(store, agent="a", name="plain", metadata={"k": "v", "n": True})).assistant_id
    await stored(store, agent="b")
    for query, expected in (
        ({"agent": "a"}, {one, two}),
        ({"agent": "a", "metadata": {"user": {"name": "x"}}}, {one}),
        ({"metadata": {"k": "v"}}, {two}),
        ({"metadata": {"n": 1}}, set()),
        ({"name": "äRZ"}, {one}),
        ({"name": "0%"}, {one}),
        ({"name": "l_in"}, set()),
        ({"ids": frozenset({two, new_id()})}, {two}),
        ({"ids": frozenset()}, set()),
    ):
        assert set(await found(store, **query)) == expected, f"{query} found something else"
        assert await store.count_assistants(AssistantQuery(tenant="default", limit=1, **query)) == len(expected)


async def assistants_are_sorted_and_paged(store: Store) -> None:
    """By any column, either way, with equal ones in the order of their ids; a page is a part of that."""
    made = [
        await stored(store, name=name, agent=f"agent-{at}", created_at=float(at // 2), updated_at=float(-at))
        for at, name in enumerate("bBaäz")
    ]
    ids = [assistant.assistant_id for assistant in made]
    assert await found(store) == ids[::-1]
    assert await found(store, descending=False) == ids
    assert await found(store, sort_by="updated_at") == ids
    assert await found(store, sort_by="agent", descending=False) == ids
    assert await found(store, sort_by="assistant_id", descending=False) == sorted(ids)
    assert await found(store, sort_by="name", descending=False) == [ids[at] for at in (1, 2, 0, 4, 3)]
    assert await found(store, limit=2, offset=3) == ids[::-1][3:5]
    assert await found(store, metadata={"k": 1}, limit=2) == []
    for at in (1, 2, 3):
        await revised(store, made[at], metadata={"k": 1})
    assert await found(store, metadata={"k": 1}, limit=2, offset=1) == [ids[2], ids[1]]


async def assistants_of_tenants_are_apart(store: Store) -> None:
    """One id may be an assistant of each of two tenants, and neither sees or changes the other's."""
    mine = await stored(store, tenant="a")
    name = mine.assistant_id
    assert await store.get_assistant("b", name) is None
    assert await store.revise_assistant("b", name, Revision(name="x")) is None
    assert await store.set_version("b", name, 1) is None
    assert await store.versions("b", name) == []
    assert not await store.delete_assistant("b", name)
    theirs = await store.insert_assistant(msgspec.structs.replace(mine, tenant="b", name="theirs"))
    assert theirs is not None
    await revised(store, theirs, name="revised")
    assert await store.delete_assistant("b", name)
    assert await store.find_assistants(AssistantQuery(tenant="a")) == [mine]
    assert await store.versions("a", name) == [mine]
    assert await store.count_assistants(AssistantQuery(tenant="c")) == 0


PROMISES: tuple[Promise, ...] = (
    an_assistant_comes_back_as_it_was,
    an_assistant_is_made_once,
    revisions_at_once_do_not_undo_each_other,
    an_older_version_can_be_set_again,
    a_deleted_assistant_takes_its_versions_along,
    assistants_are_found_by_what_they_are,
    assistants_are_sorted_and_paged,
    assistants_of_tenants_are_apart,
)
