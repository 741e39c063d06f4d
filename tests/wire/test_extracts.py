from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.wire.extracts import LONGEST, extracted, narrowed, path_of


class Shape(Struct):
    values: Raw = Raw(b'{"a": [{"b": 1}, {"b": 2}], "odd-key": {"": 0}}')
    metadata: dict[str, Any] = {}
    interrupts: dict[str, Any] | UnsetType = UNSET


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("values.a[0].b", 1),
        ("values.a[-1].b", 2),
        ("values.a[-2]", {"b": 1}),
        ("values.a[2]", None),
        ("values.a[-3]", None),
        ("values.a.b", None),
        ("values[0]", None),
        ("values.odd-key", {"": 0}),
        ("values.none.deeper", None),
        ("metadata", {}),
        ("interrupts.x", None),
        ("config.x", None),
    ],
)
def test_a_path_leads_to_what_stands_there(path: str, found: Any) -> None:
    assert extracted(Shape(), {"it": path_of(path)}) == {"it": found}


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "values.", "values..a", ".values", "values[a]", "values[0", "values[-]", "values[1234567890]"),
        *("status", "[0]", "values.a]", "values" + "[0]" * LONGEST),
    ],
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="`"):
        path_of(text)


def test_states_are_narrowed_to_some_keys() -> None:
    assert narrowed(Raw(b'{"a":1,"b":[2]}'), ["b", "c"]) == {"b": Raw(b"[2]")}
    assert narrowed(Raw(b"7"), ["a"]) == {}
