"""What LangGraph itself needs for a token of the benchmark's graph, in CPU microseconds: `python -m bench.native`."""

from __future__ import annotations

import asyncio
import time

import uvloop

from bench.source import graph
from bench.spec import Spec

STREAMS, TURNS, TOKENS = 16, 6, 200


async def main() -> None:
    built = graph()
    asked = {"messages": [{"role": "user", "content": Spec(tokens=TOKENS).text}]}

    async def streams(turns: int) -> None:
        for _ in range(turns):
            async for _ in built.astream(asked, stream_mode="messages"):
                pass

    await streams(2)
    began = time.process_time()
    await asyncio.gather(*(streams(TURNS) for _ in range(STREAMS)))
    print((time.process_time() - began) * 1e6 / (STREAMS * TURNS * TOKENS))


if __name__ == "__main__":
    uvloop.run(main())
