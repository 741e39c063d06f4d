"""Our server beside the floor, in alternation: `python -m bench [--rounds 5] [--seconds 3] [--only plain.short ...]`."""

from __future__ import annotations

import argparse
import asyncio
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import uvloop

from bench.load import Load, Reports
from bench.process import Process, free_port, running
from bench.spec import REPORTS

HERE = Path(__file__).parent
NATIVE = "graph.native"
Figures = dict[str, float]


class Target(msgspec.Struct, frozen=True):
    """A figure that is to be reached: `model.scenario`, its bound, and how the two are told."""

    figure: str
    what: str
    bound: Callable[[Figures], float]
    said: str

    def base(self, figures: Figures) -> float:
        """The floor's figure for the same scenario."""
        return figures["floor." + self.figure.partition(".")[2]]


def times(figure: str, what: str, most: float) -> Target:
    scenario = figure.partition(".")[2]
    return Target(figure, what, lambda figures: most * figures[f"floor.{scenario}"], f"{most:g} B")


TARGETS = (
    times("plain.saturated", "plain agent, saturated, us a token", 1.5),
    times("plain.paced", "plain agent, 300 paced streams, us a token", 1.15),
    times("plain.whole", "plain agent, not streamed, us a request", 2.0),
    times("plain.short", "plain agent, stream of one token, us", 2.2),
    times("openai.saturated", "OpenAI upstream, saturated, us a token", 1.7),
    times("openai.paced", "OpenAI upstream, 300 paced streams, us a token", 1.5),
    Target(
        "graph.saturated",
        "LangGraph, saturated, us a token",
        lambda figures: figures[NATIVE] + 1.3 * figures["floor.saturated"],
        "own astream + 1.3 B",
    ),
    Target(
        "plain.leave", "client leaves to source stopped, p50 ms", lambda figures: figures["floor.leave"] + 1, "B + 1"
    ),
    Target("plain.idle", "memory of an idle stream, KiB", lambda _: 28.0, "28"),
)
MODELS = ("plain", "openai", "graph")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each scenario lasts")
    parser.add_argument("--only", nargs="*", default=[], help="figures such as plain.short; all by default")
    asked = parser.parse_args()
    _raise_file_limit()
    targets = [target for target in TARGETS if not asked.only or target.figure in asked.only]
    rounds: list[Figures] = []
    for number in range(asked.rounds):
        print(f"round {number + 1} of {asked.rounds} ...", file=sys.stderr)
        rounds.append(uvloop.run(one_round([target.figure for target in targets], asked.seconds)))
    print(table(targets, rounds))


async def one_round(wanted: list[str], seconds: float) -> Figures:
    """All figures once: the floor's, then ours."""
    figures: Figures = {}
    by_model: dict[str, list[str]] = defaultdict(list)
    for figure in wanted:
        model, _, scenario = figure.partition(".")
        by_model[model].append(scenario)
    ways = {scenario for scenarios in by_model.values() for scenario in scenarios} - {"idle"}
    loop = asyncio.get_running_loop()
    transport, seen = await loop.create_datagram_endpoint(Reports, ("127.0.0.1", 0))
    reports = "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])
    with tempfile.TemporaryDirectory() as folder, upstream(Path(folder), reports) as up:
        with floor(Path(folder), reports) as server:
            for scenario in sorted(ways):
                figures[f"floor.{scenario}"] = await measure(server, "bench", scenario, seen, seconds)
        if "idle" in by_model["plain"]:
            with ours(Path(folder), reports, up) as server:
                figures["plain.idle"] = await measure(server, "plain", "idle", seen, seconds)
        with ours(Path(folder), reports, up) as server:
            for model in MODELS:
                for scenario in sorted(set(by_model[model]) - {"idle"}):
                    figures[f"{model}.{scenario}"] = await measure(server, model, scenario, seen, seconds)
    transport.close()
    if "graph" in by_model:
        done = subprocess.run([sys.executable, "-m", "bench.native"], capture_output=True, text=True, check=True)
        figures[NATIVE] = float(done.stdout)
    return figures


async def measure(server: Process, model: str, scenario: str, seen: Reports, seconds: float) -> float:
    load = Load(server, model, seen, seconds)
    return float(await getattr(load, scenario)())


@contextmanager
def upstream(folder: Path, reports: str) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "bench.upstream", str(port)]
    with running(command, port, {REPORTS: reports}, folder / "upstream.log"):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def floor(folder: Path, reports: str) -> Iterator[Process]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.floor:app", "--port", str(port)]
    command += ["--log-level", "warning", "--no-access-log"]
    with running(command, port, {REPORTS: reports}, folder / "floor.log") as server:
        yield server


@contextmanager
def ours(folder: Path, reports: str, up: str) -> Iterator[Process]:
    """A fresh server on a fresh SQLite file, as it ships."""
    state, port = folder / "state", free_port()
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    command = [sys.executable, "-m", "proxy.cli", "serve", "--config", str(HERE / "config.yaml"), "--port", str(port)]
    environment = {REPORTS: reports, "BENCH_STORE": f"sqlite:///{state / 'runs.db'}", "BENCH_UPSTREAM": up}
    with running(command, port, environment, folder / "ours.log") as server:
        yield server


def table(targets: list[Target], rounds: list[Figures]) -> str:
    """Medians over the rounds; a ratio is the median of each round's own."""
    rows = ["| figure | B | ours | target | reached | |", "|---|---|---|---|---|---|"]
    for target in targets:
        value = statistics.median(figures[target.figure] for figures in rounds)
        share = statistics.median(figures[target.figure] / target.bound(figures) for figures in rounds)
        if target.figure == "plain.idle":
            base = reached = ""
        else:
            base = f"{statistics.median(target.base(figures) for figures in rounds):.3g}"
            ratio = statistics.median(figures[target.figure] / target.base(figures) for figures in rounds)
            reached = f"{ratio:.2f} B"
        if target.figure == "graph.saturated":
            native = statistics.median(figures[NATIVE] for figures in rounds)
            over = statistics.median((each[target.figure] - each[NATIVE]) / target.base(each) for each in rounds)
            reached = f"{native:.3g} + {over:.2f} B"
        verdict = "yes" if share <= 1 else f"no, {share:.2f} of it"
        rows.append(f"| {target.what} | {base} | {value:.3g} | {target.said} | {reached} | {verdict} |")
    return "\n".join(rows)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))


if __name__ == "__main__":
    main()
