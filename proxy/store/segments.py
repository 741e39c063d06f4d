"""Segments: many entries of a log as one JSON array, the form in which they lie in the store."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.errors import ProxyError
from proxy.events import Entry

SIZE = 512
"""Entries in a segment at most, so that a page of a long log costs no more than a page."""

encode_entries = msgspec.json.Encoder(enc_hook=str).encode
decode_entries = msgspec.json.Decoder(list[Entry]).decode


Segment = tuple[str, int, int, bytes]
"""A row of `segments`."""


def encode(run_id: str, entries: list[Entry]) -> list[Segment]:
    """The rows that hold these entries."""
    rows = []
    for start in range(0, len(entries), SIZE):
        part = entries[start : start + SIZE]
        try:
            body = encode_entries(part)
        except UnicodeEncodeError:
            body = encode_entries([msgspec.structs.replace(entry, event=clean(entry.event)) for entry in part])
        rows.append((run_id, part[0].seq, part[-1].seq, body))
    return rows


def clean(value: Any) -> Any:
    """The same with every text made valid: half a surrogate pair out of an agent must not stop the log."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, tuple):
        return tuple(clean(item) for item in value)
    if isinstance(value, msgspec.Struct):
        fields = {name: clean(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **fields)
    return value


def decode(run_id: str, body: bytes) -> list[Entry]:
    """Raises `ProxyError` for a damaged segment: what cannot be read is never passed off as an entry."""
    try:
        return decode_entries(body)
    except msgspec.DecodeError as error:
        raise ProxyError(f"The stored log of run {run_id} is damaged.") from error


def final(run_id: str, entry: Entry) -> Segment:
    """The one row of a log whose content was deleted. It spans all that is gone, so that readers can tell."""
    return run_id, 1, entry.seq, encode_entries([entry])
