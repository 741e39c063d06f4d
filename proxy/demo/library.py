"""Search over Markdown files: which section answers a question, by the words they share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

STEM = 6
"""Letters that count: cancel, cancels, cancelling and cancellation are one word."""
HEADING_WEIGHT = 3
EXCERPT = 700
COMMON = frozenset(
    re.findall(
        r"\w+",
        """a about an and are as at be by can could do does for from give has have how i if in into is it its let me my
        not of on or please show so tell that the their them then there these this to us use was we what when where
        which who why will with would you your""",
    )
)


class Section(NamedTuple):
    """One section of a file: where it stands, what it is called, and its text."""

    file: str
    title: str
    text: str

    @property
    def excerpt(self) -> str:
        """The beginning of the text, cut between paragraphs where there is one to cut at."""
        if len(self.text) <= EXCERPT:
            return self.text
        cut = self.text.rfind("\n\n", 0, EXCERPT)
        return (self.text[:cut] if cut > 0 else self.text[: self.text.rfind(" ", 0, EXCERPT)]).rstrip() + " ..."


class Library:
    """The sections of some files, with their words counted."""

    def __init__(self, files: Iterable[tuple[str, str]]) -> None:
        self._sections = [section for name, text in files for section in sections(name, text)]
        self._counts = [_counted(section) for section in self._sections]
        self._spread = Counter(word for counts in self._counts for word in counts)

    def search(self, question: str, *, limit: int = 2) -> list[Section]:
        """The best sections first; none if no word of the question stands in any."""
        asked = set(words(question))
        scored = [(self._score(asked, counts), -at) for at, counts in enumerate(self._counts)]
        best = sorted(scored, reverse=True)[:limit]
        return [self._sections[-at] for score, at in best if score > 0 and score > best[0][0] / 2]

    def _score(self, asked: set[str], counts: Counter[str]) -> float:
        """Rare words count more, and a word that comes again and again counts little more."""
        return sum(
            math.log(1 + len(self._sections) / self._spread[word]) * counts[word] / (counts[word] + 1.5)
            for word in asked
            if word in counts
        )


@cache
def library() -> Library:
    """The documentation of this project: packed beside this file, or in the checkout that this file stands in."""
    here = Path(__file__).parent
    packed = here / "docs"
    root = packed if packed.is_dir() else here.parents[1]
    found = sorted(packed.rglob("*.md")) if root is packed else [root / "README.md", *sorted(root.glob("docs/**/*.md"))]
    return Library((str(path.relative_to(root)), path.read_text("utf-8")) for path in found if path.is_file())


def words(text: str) -> list[str]:
    """The words that matter, cut to their stems."""
    return [word[:STEM] for word in re.findall(r"[a-z0-9_]+", text.lower()) if word not in COMMON]


def sections(file: str, text: str) -> Iterator[Section]:
    """A Markdown file by its headings; `#` inside a code block is none."""
    title, lines, fenced = file, list[str](), False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if fenced or not re.match(r"#{1,6} ", line):
            lines.append(line)
            continue
        yield from _section(file, title, lines)
        title, lines = line.lstrip("#").strip(), []
    yield from _section(file, title, lines)


def _section(file: str, title: str, lines: list[str]) -> Iterator[Section]:
    text = "\n".join(lines).strip()
    if text:
        yield Section(file, title, text)


def _counted(section: Section) -> Counter[str]:
    return Counter(words(section.text) + words(section.title) * HEADING_WEIGHT)
