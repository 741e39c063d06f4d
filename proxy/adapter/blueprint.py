"""The port for what an agent is made of: its nodes, its drawing and its schemas."""

from __future__ import annotations

from abc import ABC, abstractmethod

from msgspec import Raw


class Blueprint(ABC):
    """What an agent is made of, as JSON in the shape of the native API."""

    @property
    def nodes(self) -> frozenset[str] | None:
        """The names of the nodes that a run may go to or stop at; None where they are not known before a run."""
        return None

    @abstractmethod
    async def drawing(self, *, xray: int | bool = False) -> Raw:
        """Nodes and edges. `xray`: with those inside of sub-graphs, to that depth or all."""

    @abstractmethod
    async def schemas(self) -> Raw:
        """JSON schemas of input, output, state, config and context; null where there is none."""

    @abstractmethod
    async def subgraphs(self, namespace: str | None = None, *, recurse: bool = False) -> Raw:
        """The schemas of the sub-graphs by namespace: all, or the one named. `recurse`: theirs too."""
