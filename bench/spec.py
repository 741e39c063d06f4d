"""The benchmark's language: what a source shall say stands, as JSON, in the text of the user's message.

Each token holds exactly one `~`, so that counting them counts tokens in any wire format. A source reports its end
in a datagram to the address in `BENCH_REPORTS`.
"""

from __future__ import annotations

import os
import socket
import time

import msgspec

REPORTS = "BENCH_REPORTS"
WORDS = ("~wxya", "~wxyb")


class Spec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`rate` is in tokens a second, 0 as fast as they are taken; `silence` in seconds, after the first token.

    A `stamped` token says when it was made, so that the reader can tell its age.
    """

    tokens: int = 16
    rate: float = 0.0
    number: int = 0
    stamped: bool = False
    silence: float = 0.0

    @property
    def text(self) -> str:
        return msgspec.json.encode(self).decode()

    def token(self, number: int) -> str:
        return f"~{time.monotonic_ns()};" if self.stamped else WORDS[number & 1]


class Report(msgspec.Struct, frozen=True, array_like=True):
    """The end of source `number`, `at` in nanoseconds of the monotonic clock."""

    number: int
    at: int


read = msgspec.json.Decoder(Spec).decode
encode = msgspec.json.Encoder().encode


class Reporter:
    """Sends reports from a source, if somebody wants them."""

    def __init__(self) -> None:
        host, _, port = os.environ.get(REPORTS, "").rpartition(":")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._address = (host, int(port)) if port else None

    def ended(self, spec: Spec) -> None:
        if self._address is not None:
            self._socket.sendto(encode(Report(spec.number, time.monotonic_ns())), self._address)
