"""Segments: many entries of a log as one JSON array, the form in which they lie in the store."""

from __future__ import annotations

import msgspec

from proxy.errors import ProxyError
from proxy.events import Entry

SIZE = 512
"""Entries in a segment at most, so that a page of a long log costs no more than a page."""

encode_entries = msgspec.json.Encoder().encode
decode_entries = msgspec.json.Decoder(list[Entry]).decode


Segment = tuple[str, int, int, bytes]
"""A row of `segments`."""


def encode(run_id: str, entries: list[Entry]) -> list[Segment]:
    """The rows that hold these entries."""
    rows = []
    for start in range(0, len(entries), SIZE):
        part = entries[start : start + SIZE]
        rows.append((run_id, part[0].seq, part[-1].seq, encode_entries(part)))
    return rows


def decode(run_id: str, body: bytes) -> list[Entry]:
    """Raises `ProxyError` for a damaged segment: what cannot be read is never passed off as an entry."""
    try:
        return decode_entries(body)
    except msgspec.DecodeError as error:
        raise ProxyError(f"The stored log of run {run_id} is damaged.") from error


def final(run_id: str, entry: Entry) -> Segment:
    """The one row of a log whose content was deleted. It spans all that is gone, so that readers can tell."""
    return run_id, 1, entry.seq, encode_entries([entry])
