"""The messages of a run as they come, several at once, from the graph itself and from graphs within it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from proxy.wire.blocks import Broken, Content, Piece, Said, Speech

Path = tuple[str, ...]


class Speeches:
    """The messages that are under way, by the place that they come from."""

    def __init__(self) -> None:
        self._open: dict[Path, dict[str, Speech]] = {}
        self._known: set[tuple[Path, str]] = set()

    @property
    def places(self) -> list[Path]:
        return list(self._open)

    def add(self, ns: Path, piece: Piece) -> Iterator[Said | Content]:
        """What a piece adds: to its message, or a new one. A message's calls follow its end."""
        id = piece.id or ""
        streams = piece.type == "AIMessageChunk"
        if not streams and piece.type != "ai":
            return
        speech = self._open.get(ns, {}).get(id)
        if speech is None:
            if (ns, id) in self._known:
                return
            self._known.add((ns, id))
            speech = self._open.setdefault(ns, {})[id] = Speech(id)
            yield speech.start()
        yield from self._marked(ns, speech, speech.add(piece))
        if not streams or piece.chunk_position == "last":
            yield from self._finish(ns, speech)

    def finish(self, ns: Path) -> Iterator[Said | Content]:
        """All messages of a place end."""
        for speech in list(self._open.get(ns, {}).values()):
            yield from self._finish(ns, speech)

    def break_off(self, why: str) -> Iterator[tuple[Path, Said]]:
        for ns, speeches in self._open.items():
            for speech in speeches.values():
                broken = [Broken(message=why)]
                yield from ((ns, said) for said in self._marked(ns, speech, broken))
        self._open.clear()

    def _finish(self, ns: Path, speech: Speech) -> Iterator[Said | Content]:
        yield from self._marked(ns, speech, speech.finish())
        del self._open[ns][speech.id]
        yield from speech.calls

    def _marked(self, ns: Path, speech: Speech, said: Iterable[Said]) -> Iterator[Said]:
        """With the name of the message, where others are under way in the same place."""
        crowded = len(self._open[ns]) > 1
        for one in said:
            yield msgspec.structs.replace(one, id=speech.id, run_id=speech.id) if crowded else one
