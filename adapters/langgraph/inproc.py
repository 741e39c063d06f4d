"""A LangGraph graph in this process, by its public streaming API.

Sync nodes and tools run in the event loop's default executor: LangGraph offers no other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, aclosing
from itertools import chain
from typing import Any, ClassVar, Literal, cast

import msgspec
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphRecursionError

from adapters.langgraph.blueprint import Drawing
from adapters.langgraph.calls import Path
from adapters.langgraph.checkpoints import Checkpoints, Scratch
from adapters.langgraph.durable import Saver
from adapters.langgraph.faults import upstream_error
from adapters.langgraph.fence import Right
from adapters.langgraph.frames import Frames
from adapters.langgraph.inputs import config_of, context_of, input_of
from adapters.langgraph.load import Graph, Loaded, Source
from adapters.langgraph.memories import LangGraphMemories
from adapters.langgraph.native import EVENTS, halts, located, streamed, with_events
from adapters.langgraph.options import GraphOptions
from adapters.langgraph.resume import halted, is_halted, left_by, remember, untaken
from adapters.langgraph.threads import Threads
from adapters.langgraph.translate import MODES, Translator
from proxy.adapter import Adapter, Native, RunInput, Site
from proxy.errors import RunLimit
from proxy.events import Event

Feed = Callable[[Path, str, Any], Iterable[Event]]


class LangGraphAdapter(Adapter):
    """Threads live in the graph's own checkpointer, else beside the server's database.

    A temporary run has its state in memory and leaves none behind, unless it pauses.
    """

    Options: ClassVar[type[msgspec.Struct]] = GraphOptions
    native: ClassVar[bool] = True
    resumes: ClassVar[bool] = True
    options: GraphOptions
    threads: Threads
    blueprint: Drawing

    def __init__(self, options: GraphOptions, site: Site) -> None:
        super().__init__(options, site)
        self._source = Source(options, site)
        self._checkpoints = Checkpoints.of(site)
        self._memories = LangGraphMemories.of(site)
        self.threads = Threads(options, site, self._source, self._checkpoints)
        self.blueprint = Drawing(options, site, self._source)
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        await self._checkpoints.join()
        self._stack.push_async_callback(self._checkpoints.leave)
        self._memories.join()
        self._stack.push_async_callback(self._memories.leave)
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
        spent = translator.meter.spent
        feed = translator.feed if not run.modes else _both(Frames(run).feed, translator.feed)
        config = config_of(run, self.options)
        async with AsyncExitStack() as stack:
            loaded = await self._source.loaded(config, stack)
            saver = await self._saver(run, loaded)
            store = self._memories.store(loaded.graph, run.tenant, Right(self.site))
            graph = loaded.graph.copy({"checkpointer": self._fenced(run, saver, stack), "store": store})
            config["callbacks"] = [translator.meter]
            try:
                async with aclosing(await self._parts(run, loaded, graph, config, saver)) as parts:
                    async for part in parts:
                        for event in feed(*part) if len(part) == 3 else feed((), *part):
                            yield event
                        while spent:
                            yield spent.popleft()
            except Exception as error:
                fault = _fault(run, error)
                if fault is error:
                    raise
                if fault is not None:
                    raise fault from error
                translator.out_of_steps()
            while spent:
                yield spent.popleft()
            if translator.paused and not translator.interrupts:
                translator.halted_before((await graph.aget_state(config)).next)
            await self._keep(run, loaded, saver, paused=translator.paused)
            for event in translator.close():
                yield event

    def _fenced(self, run: RunInput, saver: Saver | None, stack: AsyncExitStack) -> Saver | Literal[False]:
        """The run's own way to its checkpoints, which ends with `stack`."""
        if saver is None or isinstance(saver, Scratch):
            return False if saver is None else saver
        fence = self.threads.fenced(run.thread_key, saver)
        stack.push_async_callback(fence.gate.close)
        return fence

    async def _parts(
        self, run: RunInput, loaded: Loaded, graph: Graph, config: RunnableConfig, saver: Saver | None
    ) -> AsyncGenerator[tuple[Any, ...]]:
        native = run.native or Native(subgraphs=self.options.subgraphs)
        begin = located(config, native.checkpoint)
        last = await left_by(run, saver) if run.attempt > 1 and saver is not None else None
        if last is None:
            input = await self._input(run, loaded, graph, config, saver)
        elif await is_halted(graph, config, native, last):
            return halted()
        else:
            input, begin = None, config
        how: dict[str, Any] = {
            "context": context_of(run, self.options, loaded),
            "stream_mode": streamed(run.modes, MODES),
            "subgraphs": native.subgraphs,
            "durability": native.durability or ("exit" if isinstance(graph.checkpointer, Scratch) else None),
            **halts(native),
        }
        if EVENTS in run.modes:
            return with_events(graph, input, begin, **how)
        return cast(AsyncGenerator[tuple[Any, ...]], graph.astream(input, begin, **how))

    async def _input(
        self, run: RunInput, loaded: Loaded, graph: Graph, config: RunnableConfig, saver: Saver | None
    ) -> Any:
        """For a run that has no checkpoint of its own yet."""
        input = await input_of(run, self.options, loaded, graph, config)
        if saver is None:
            return input
        if run.attempt > 1:
            return await untaken(run, input, saver)
        await remember(run, saver)
        return input

    async def _saver(self, run: RunInput, loaded: Loaded) -> Saver | None:
        """Where this run finds and leaves its state."""
        begins = run.fresh and run.answer is None
        if begins and run.temporary and loaded.graph.checkpointer is not False:
            return Scratch(loaded.own_saver)
        saver = await self.threads.saver(loaded)
        if saver is not None and begins and (run.attempt == 1 or await left_by(run, saver) is None):
            await saver.adelete_thread(run.thread_key)
        return saver

    async def _keep(self, run: RunInput, loaded: Loaded, saver: Saver | None, *, paused: bool) -> None:
        """Move the state of a pause to where it is found again; clear away what a temporary thread leaves."""
        if isinstance(saver, Scratch):
            durable = await self.threads.saver(loaded) if paused else None
            if durable is not None:
                await saver.move(durable, run.thread_key)
        elif run.temporary and saver is not None and not paused:
            await saver.adelete_thread(run.thread_key)


def _fault(run: RunInput, error: Exception) -> Exception | None:
    """What the run fails with; None where a chat only used up its steps."""
    if isinstance(error, GraphRecursionError):
        return None if run.native is None else RunLimit(str(error))
    return upstream_error(error) or error


def _both(one: Feed, other: Feed) -> Feed:
    def feed(ns: Path, mode: str, payload: Any) -> Iterable[Event]:
        return chain(one(ns, mode, payload), other(ns, mode, payload))

    return feed
