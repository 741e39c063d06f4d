"""Request bodies: read them, and make structs of them without trusting a byte.

What is refused here never reaches a route: depth beyond the limit (which would end in a RecursionError
somewhere), more values than a sane request has (each takes many times the memory that it takes as JSON), text that
is not UTF-8, lone surrogates and NULs (which no database or upstream takes), and integers beyond 64 bits. Checks that
look at every byte run at the speed of C; the field at fault is looked for only once a body is known to be bad.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any, TypeVar

import msgspec

from proxy.api.asgi import Receive
from proxy.api.errors import clean
from proxy.errors import BadRequest
from proxy.schema import choices, listed
from proxy.settings import RequestLimits

T = TypeVar("T")

_CHUNK = 1 << 16
_LONGEST_SEARCHED = 1 << 20
"""A bad body larger than this is refused without naming the field."""
_BIGGEST = 1 << 64
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*+\\u0000")
_LONG_INTEGER = re.compile(rb"(?<![\d.eE+])\d{20,}(?![\d.eE])")
_PLACE = re.compile(r"(?P<problem>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_WORD = re.compile(r"Invalid enum value (.*)", re.DOTALL)
_OTHER = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_DIGITS = bytes.maketrans(b"123456789", b"000000000")


async def read_body(receive: Receive) -> bytes:
    """The whole body; its size and its time are bounded by whoever hands out `receive`."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("The client left before its request was complete.")
        assert message["type"] == "http.request"
        if not message.get("more_body", False):
            return b"".join((*pieces, message["body"])) if pieces else message["body"]
        pieces.append(message["body"])


def decode(body: bytes, decoder: msgspec.json.Decoder[T], limits: RequestLimits) -> T:
    """Decode JSON. Raises `BadRequest` whose `param` names the field, as in `messages[0].role`."""
    _check(body, limits)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), decoder.type) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(body, str(error)) from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None


def _check(body: bytes, limits: RequestLimits) -> None:
    if not body:
        raise BadRequest("The body is empty; send a JSON object.")
    if body.count(b",") > limits.values and crowded(body, limits.values):
        raise BadRequest(f"The body has more than {limits.values} names and values.")
    if body.count(b"[") + body.count(b"{") > limits.depth and depth(body) > limits.depth:
        raise BadRequest(f"The body is nested deeper than {limits.depth} levels.")
    if not body.isascii() and not _is_utf8(body):
        raise BadRequest("The body is not valid UTF-8.", param=_search(body, _has_surrogate))
    if b"\\u0000" in body and _NUL.search(body):
        raise BadRequest("Text cannot hold NUL characters.", param=_search(body, _has_nul))
    # Twenty digits in a row show as three in every sixth byte, which costs a fifth of looking at all.
    if b"000" in body[::6].translate(_DIGITS) and _LONG_INTEGER.search(_STRINGS.sub(b'""', body)):
        raise BadRequest("An integer is out of range.", param=_search(body, _is_huge))


def depth(body: bytes) -> int:
    """How deep arrays and objects are nested, in time linear to the length; at least the true depth if malformed."""
    steps = _STRINGS.sub(b"", body).translate(_STEPS, _OTHER)
    return max(accumulate(memoryview(steps).cast("b")), default=0)


def crowded(body: bytes, most: int) -> bool:
    """Whether there are more strings and commas than that; looks no further than need be."""
    count = end = 0
    for string in _STRINGS.finditer(body):
        count += 1 + body.count(b",", end, string.start())
        end = string.end()
        if count > most:
            return True
    return count + body.count(b",", end) > most


def _is_utf8(body: bytes) -> bool:
    """Piece by piece: as one string, a body could take four times its size."""
    decoder, view = codecs.getincrementaldecoder("utf-8")(), memoryview(body)
    try:
        for start in range(0, len(body), _CHUNK):
            decoder.decode(view[start : start + _CHUNK], final=start + _CHUNK >= len(body))
    except UnicodeDecodeError:
        return False
    return True


def _invalid(text: str, shape: Any) -> BadRequest:
    match = _PLACE.fullmatch(text)
    problem, path = (match["problem"], match["path"] or "") if match else (text, "")
    if missing := _MISSING.fullmatch(problem):
        path = f"{path}.{missing[1]}" if path else missing[1]
        problem = "Missing required field"
    elif (words := _WORD.fullmatch(problem)) and (known := choices(shape, path if path[:1] == "[" else f".{path}")):
        problem = f"{words[1]} is not one of {listed(known)}"
    path = path.replace("[...]", "")
    problem = clean(problem[:1].lower() + problem[1:] if path else problem)
    return BadRequest(f"{clean(path)}: {problem}." if path else f"{problem}.", param=clean(path) or None)


def _malformed(body: bytes, text: str) -> BadRequest:
    if param := _search(body, _has_surrogate):
        return BadRequest("Text cannot hold half of a surrogate pair.", param=param)
    problem = clean(text.removeprefix("JSON is malformed: "))
    return BadRequest(f"The body is not valid JSON: {problem[:1].lower()}{problem[1:]}.")


def _search(body: bytes, bad: Callable[[object], bool]) -> str | None:
    """Where in `body` the first bad value or key stands, if it can be told."""
    if len(body) > _LONGEST_SEARCHED:
        return None
    try:
        path = _place(json.loads(body.decode("utf-8", "surrogateescape")), bad)
    except (ValueError, RecursionError):
        return None
    return clean(path.removeprefix(".")) or None if path else None


def _place(value: Any, bad: Callable[[object], bool]) -> str | None:
    """The path to the first bad value, or to what has a bad name; put together only on the way back from it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if bad(key):
                return ""
            if (found := _place(inner, bad)) is not None:
                return f".{key}{found}"
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            if (found := _place(inner, bad)) is not None:
                return f"[{number}]{found}"
    elif bad(value):
        return ""
    return None


def _has_surrogate(value: object) -> bool:
    return isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)


def _has_nul(value: object) -> bool:
    return isinstance(value, str) and "\0" in value


def _is_huge(value: object) -> bool:
    return isinstance(value, int) and abs(value) >= _BIGGEST // 2
