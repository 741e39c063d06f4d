"""A LangGraph graph in this process, by its public streaming API.

Sync nodes and tools run in the event loop's default executor: LangGraph offers no other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Any, ClassVar, cast

import msgspec
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError

from adapters.langgraph.checkpoints import Checkpoints, Saver, Scratch
from adapters.langgraph.faults import upstream_error
from adapters.langgraph.inputs import config_of, context_of, input_of
from adapters.langgraph.load import Graph, Loaded, Source
from adapters.langgraph.options import GraphOptions
from adapters.langgraph.translate import MODES, Translator
from proxy.adapter import Adapter, RunInput, Site
from proxy.events import Event


class LangGraphAdapter(Adapter):
    """Threads live in the graph's own checkpointer, else beside the server's database.

    A temporary run has its state in memory and leaves none behind, unless it pauses.
    """

    Options: ClassVar[type[msgspec.Struct]] = GraphOptions
    options: GraphOptions

    def __init__(self, options: GraphOptions, site: Site) -> None:
        super().__init__(options, site)
        self._source = Source(options, site)
        self._checkpoints = Checkpoints.of(site)
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        self._checkpoints.join()
        self._stack.push_async_callback(self._checkpoints.leave)
        await self._source.open(self._stack)

    async def close(self) -> None:
        await self._stack.aclose()

    async def forget(self, thread_key: str) -> None:
        """A graph made for each run with a checkpointer of its own keeps its threads itself."""
        own = self._source.fixed.own_saver if self._source.fixed is not None else None
        await (own or await self._checkpoints.saver()).adelete_thread(thread_key)

    async def stream(self, run: RunInput) -> AsyncGenerator[Event]:
        translator = Translator(
            self.options,
            client_tools=frozenset(tool.function.name for tool in run.tools if tool.function),
            known=[f"{run.run_id}-{number}" for number in range(len(run.messages))],
        )
        feed, spent = translator.feed, translator.meter.spent
        config = config_of(run, self.options)
        async with AsyncExitStack() as stack:
            loaded = await self._source.loaded(config, stack)
            saver = await self._saver(run, loaded)
            graph = loaded.graph.copy({"checkpointer": saver if saver is not None else False})
            config["callbacks"] = [translator.meter]
            try:
                async with aclosing(await self._parts(run, loaded, graph, config)) as parts:
                    async for part in parts:
                        for event in feed(*part) if len(part) == 3 else feed((), *part):
                            yield event
                        while spent:
                            yield spent.popleft()
            except GraphRecursionError:
                translator.out_of_steps()
            except Exception as error:
                fault = upstream_error(error)
                if fault is None:
                    raise
                raise fault from error
            while spent:
                yield spent.popleft()
            if translator.paused and not translator.interrupts:
                translator.halted_before((await graph.aget_state(config)).next)
            await self._keep(run, loaded, saver, paused=translator.paused)
            for event in translator.close():
                yield event

    async def _parts(
        self, run: RunInput, loaded: Loaded, graph: Graph, config: RunnableConfig
    ) -> AsyncGenerator[tuple[Any, ...]]:
        parts = graph.astream(
            await input_of(run, self.options, loaded, graph, config),
            config,
            context=context_of(run, self.options, loaded),
            stream_mode=list(MODES),
            subgraphs=self.options.subgraphs,
            durability="exit" if isinstance(graph.checkpointer, Scratch) else None,
        )
        return cast(AsyncGenerator[tuple[Any, ...]], parts)

    async def _saver(self, run: RunInput, loaded: Loaded) -> Saver | None:
        """Where this run finds and leaves its state."""
        begins = run.fresh and run.answer is None
        if begins and run.temporary and loaded.graph.checkpointer is not False:
            return Scratch(loaded.own_saver)
        saver = await self._durable(loaded)
        if saver is not None and begins:
            await saver.adelete_thread(run.thread_key)
        return saver

    async def _durable(self, loaded: Loaded) -> Saver | None:
        if loaded.graph.checkpointer is False:
            return None
        return loaded.own_saver or (await self._checkpoints.saver()).with_allowlist(loaded.state_types)

    async def _keep(self, run: RunInput, loaded: Loaded, saver: Saver | None, *, paused: bool) -> None:
        """Move the state of a pause to where it is found again; clear away what a temporary thread leaves."""
        if isinstance(saver, Scratch):
            durable = await self._durable(loaded) if paused else None
            if durable is not None:
                await saver.move(durable, run.thread_key)
        elif run.temporary and saver is not None and not paused:
            await saver.adelete_thread(run.thread_key)
