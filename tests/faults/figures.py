"""Writes what `make faults` and `make soak` saw as a page: `python -m tests.faults.figures REPORT.xml PAGE.md`."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ID = re.compile(r"test_([a-z]\d\d)_([a-z0-9_]+)")


class Case(NamedTuple):
    """One test as it came out."""

    id: str
    name: str
    outcome: str
    seconds: float
    figures: tuple[str, ...]


def cases(report: Path) -> Iterator[Case]:
    """Those of the catalogue, in the order of the report, which is pytest's JUnit XML."""
    for node in ElementTree.parse(report).iter("testcase"):
        found = ID.match(node.get("name", ""))
        if not found:
            continue
        bad = {"failure": "**failed**", "error": "**failed**", "skipped": "skipped"}
        outcome = next((bad[child.tag] for child in node if child.tag in bad), "passed")
        figures = tuple(each.get("value", "") for each in node.iter("property") if each.get("name") == "figure")
        yield Case(found[1].upper(), found[2].replace("_", " "), outcome, float(node.get("time", 0)), figures)


def table(found: list[Case]) -> str:
    """One row for each test, however often it was tried."""
    rows: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in found:
        rows[case.id, case.name].append(case)
    lines = ["| Case | What was seen | Tries | Outcome | Seconds | Figures |", "|---|---|---|---|---|---|"]
    for (name, seen), tries in sorted(rows.items()):
        outcomes = ", ".join(sorted({case.outcome for case in tries}))
        figures = "; ".join(figure for case in tries for figure in case.figures)
        spent = sum(case.seconds for case in tries)
        lines.append(f"| {name} | {seen} | {len(tries)} | {outcomes} | {spent:.0f} | {figures} |")
    return "\n".join(lines)


def page(found: list[Case]) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
    )
    load = os.getloadavg()[2]
    return (
        "# What the faults and the soak have shown\n\n"
        "Written by `make faults` and `make soak`, which try each case of `tests/faults` as often as the catalogue of "
        "faults\nasks for; `make test` tries the same cases less often.\n"
        "A case that is not listed was not tried with its full count.\n\n"
        f"{machine}; {datetime.now(UTC):%d %B %Y}; load average at the end "
        f"{load:.1f}.\n\n{table(found)}\n"
    )


if __name__ == "__main__":
    *reports, target = map(Path, sys.argv[1:])
    target.write_text(page([case for report in reports if report.exists() for case in cases(report)]))
