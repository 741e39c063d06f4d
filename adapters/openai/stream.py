"""Server-sent events out of bytes, however they are cut. No I/O, and nothing is decoded before it is whole."""

from __future__ import annotations

from proxy.errors import UpstreamError

LIMIT = 8 * 1024 * 1024
"""Bytes of one line, of one event's data, and of an answer that is not streamed."""

BOM = b"\xef\xbb\xbf"

Frame = tuple[bytes, bytes]
"""Name and data of one event; the name is empty where none was given."""


class Lines:
    """Splits an event stream into frames; comments, ids, retry times and events without data are dropped."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._held_size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._name = b""
        self._first = True
        self._cr = False

    def feed(self, piece: bytes) -> list[Frame]:
        """All frames that these bytes complete."""
        if self._cr or b"\r" in piece:
            piece = self._unified(piece)
        if b"\n" not in piece:
            self._held.append(piece)
            self._held_size += len(piece)
            self._check()
            return []
        if self._held:
            piece = b"".join((*self._held, piece))
        *lines, rest = piece.split(b"\n")
        self._held = [rest] if rest else []
        self._held_size = len(rest)
        if self._first:
            self._first = False
            lines[0] = lines[0].removeprefix(BOM)
        return self._frames(lines)

    def close(self) -> list[Frame]:
        """The last frame of a body that ends without a blank line, if it looks whole."""
        tail = b"".join(self._held or self._data[-1:])
        return self.feed(b"\n\n") if tail.rstrip().endswith((b"}", b"]")) else []

    def _frames(self, lines: list[bytes]) -> list[Frame]:
        frames: list[Frame] = []
        for line in lines:
            if line[:5] == b"data:":
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._data_size += len(line)
            elif not line:
                if self._data:
                    data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                    if data:
                        frames.append((self._name, data))
                    self._data = []
                    self._data_size = 0
                self._name = b""
            elif line[:6] == b"event:":
                self._name = line[6:].strip()
        self._check()
        return frames

    def _check(self) -> None:
        if self._held_size + self._data_size > LIMIT:
            raise UpstreamError("The model sent a single event that is larger than this server takes.")

    def _unified(self, piece: bytes) -> bytes:
        """Every CRLF and every lone CR as one LF. A raw CR never stands inside JSON, so no text changes."""
        if self._cr and piece[:1] == b"\n":
            piece = piece[1:]
            self._cr = False
        if piece:
            self._cr = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class Whole:
    """The same for an upstream that answers in one piece of JSON."""

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, piece: bytes) -> list[Frame]:
        """Never a frame: the end of the body completes it."""
        self._body += piece
        if len(self._body) > LIMIT:
            raise UpstreamError("The model sent an answer that is larger than this server takes.")
        return []

    def close(self) -> list[Frame]:
        """The body, as one frame."""
        return [(b"", bytes(self._body))]
