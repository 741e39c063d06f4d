"""What wire formats share: the framing of server-sent events. No I/O, no framework.

What a stream needs of its format says `Wire` in `proxy.api.streaming`.
"""

from __future__ import annotations

SSE = "text/event-stream; charset=utf-8"
PING = b": ping\n"
"""One comment line with one newline: parsers of old clients dispatch an empty event at a blank line."""

_LINE_ENDS = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


def one_line(json: bytes) -> bytes:
    """JSON without the three line ends that some readers split at although JSON allows them in strings."""
    if json.isascii():
        return json
    for raw, escaped in _LINE_ENDS:
        if raw in json:
            json = json.replace(raw, escaped)
    return json


def flat(json: bytes) -> bytes:
    """JSON of foreign make on one line: it may hold line ends between its tokens."""
    json = one_line(json)
    return json.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in json or b"\r" in json else json


def sse(json: bytes) -> bytes:
    """One unnamed event."""
    return b"data: " + one_line(json) + b"\n\n"
