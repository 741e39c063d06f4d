"""A YAML text as plain values, together with the line that each one stands on.

Stricter than a YAML library by itself: a name may stand only once in a mapping, nothing but plain values is built
(no tags), and aliases may neither multiply without bound nor contain themselves. Names are always text.
"""

from __future__ import annotations

from typing import NoReturn

import msgspec
import yaml

from proxy.errors import ConfigError

LARGEST = 1_000_000
MOST = 100_000
DEEPEST = 50

TAG = "tag:yaml.org,2002:"
TEXTS = frozenset({TAG + "str", TAG + "timestamp", TAG + "value"})
PLAIN = frozenset({TAG + "int", TAG + "float", TAG + "bool", TAG + "null"})


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What a text says. `lines` maps places like `$.server.api_keys[0]` to line numbers from 1."""

    source: str
    value: object
    lines: dict[str, int]


def parse(text: str, source: str) -> Document:
    """Read one YAML document. `source` is its name for messages. Raises `ConfigError` with the line."""
    if len(text) > LARGEST:
        raise ConfigError(f"{source}: larger than {LARGEST} characters")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{source}{line}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: nested too deeply") from error
    reading = _Reading(source)
    value = None if root is None else reading.value(root, "$", 0)
    return Document(source=source, value=value, lines=reading.lines)


class _Reading:
    """One walk over a tree of nodes, in which an alias is the same node a second time."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[str, int] = {}
        self._count = 0
        self._constructor = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, place: str, depth: int) -> object:
        self._count += 1
        if self._count > MOST:
            self._fault(node, f"more than {MOST} values: do aliases multiply?")
        if depth > DEEPEST:
            self._fault(node, "nested too deeply: does an alias contain itself?")
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == TAG + "map":
            return self._mapping(node, place, depth + 1)
        if isinstance(node, yaml.SequenceNode) and node.tag == TAG + "seq":
            return [self.value(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> object:
        if not isinstance(node, yaml.ScalarNode) or node.tag not in TEXTS | PLAIN:
            self._fault(node, f"the tag `{node.tag.removeprefix(TAG)}` is not allowed here")
        if node.tag in TEXTS:
            return str(node.value)
        try:
            return self._constructor.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError):
            self._fault(node, f"not a value of the kind `{node.tag.removeprefix(TAG)}`")

    def _mapping(self, node: yaml.MappingNode, place: str, depth: int) -> dict[str, object]:
        values: dict[str, object] = {}
        for key, inner in node.value:
            if key.tag == TAG + "merge":
                continue
            name = self._name(key)
            if name in values:
                self._fault(key, f"`{name}` stands here twice - at `{place}`")
            self.lines.setdefault(f"{place}.{name}", key.start_mark.line + 1)
            values[name] = self.value(inner, f"{place}.{name}", depth)
        for key, inner in node.value:
            if key.tag == TAG + "merge":
                self._merge(values, inner, place, depth)
        return values

    def _merge(self, values: dict[str, object], node: yaml.Node, place: str, depth: int) -> None:
        """`<<: *other`: what the mapping does not say itself comes from the other one, or from the first of a list."""
        for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(each, yaml.MappingNode):
                self._fault(each, "only mappings can be merged with `<<`")
            merged = self.value(each, place, depth)
            if isinstance(merged, dict):
                for name, value in merged.items():
                    values.setdefault(name, value)

    def _name(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._fault(node, "a name must be plain text")
        return str(node.value)

    def _fault(self, node: yaml.Node, message: str) -> NoReturn:
        raise ConfigError(f"{self.source}:{node.start_mark.line + 1}: {message}")
