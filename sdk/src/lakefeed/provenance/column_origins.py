"""Lineages of columns, as far as the commits of routines say what their columns are made of."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from lakefeed.provenance.lineage_graph import Lineage, LineageEdge, LineageNode
from lakefeed.provenance.origin_index import OriginIndex


class ColumnKey(NamedTuple):
    """A column of a dataset."""

    dataset: str
    column: str


def find_column(index: OriginIndex, text: str) -> ColumnKey | None:
    """Returns the column that a text names, such as ``photos.width``; None if it names a dataset, or nothing."""
    name, dot, column = text.rpartition(".")
    if not dot or text in index.names:
        return None
    for uuid in index.names.get(name, ()):
        if any(column == each for version in index.tables[uuid].versions.values() for each, _ in version.schema):
            return ColumnKey(index.tables[uuid].name, column)
    return None


@dataclass
class ColumnWalk:
    """Collects the columns that a column was made of, and those that were made of it."""

    index: OriginIndex
    nodes: dict[ColumnKey, LineageNode] = field(default_factory=dict)
    edges: dict[tuple[ColumnKey, ColumnKey], LineageEdge] = field(default_factory=dict)

    @cached_property
    def _sources(self) -> dict[ColumnKey, list[ColumnKey]]:
        sources: dict[ColumnKey, list[ColumnKey]] = defaultdict(list)
        for output, origin in self._pairs():
            if origin not in sources[output]:
                sources[output].append(origin)
        return sources

    def _pairs(self) -> Iterator[tuple[ColumnKey, ColumnKey]]:
        """Yields each column with a column that it was made of in any version."""
        for table in self.index.tables.values():
            for version in table.versions.values():
                for column, origins in (version.columns or {}).items():
                    for dataset, of in origins:
                        yield ColumnKey(table.name, column), ColumnKey(self._present_name(dataset), of)

    def _present_name(self, dataset: str) -> str:
        """Returns the name that a dataset has now."""
        return next((self.index.tables[uuid].name for uuid in self.index.names.get(dataset, ())), dataset)

    @cached_property
    def _uses(self) -> dict[ColumnKey, list[ColumnKey]]:
        uses: dict[ColumnKey, list[ColumnKey]] = defaultdict(list)
        for output, origins in self._sources.items():
            for origin in origins:
                uses[origin].append(output)
        return uses

    def lineage(self, start: ColumnKey, up: int | None, down: int | None) -> Lineage:
        """Returns the lineage of a column. ``up`` and ``down``: the most steps; None for all."""
        self._add(start, 0)
        self._walk(start, self._sources, up, -1)
        self._walk(start, self._uses, down, 1)
        return Lineage(tuple(self.nodes.values()), tuple(self.edges.values()))

    def _walk(
        self, start: ColumnKey, near: Mapping[ColumnKey, Sequence[ColumnKey]], most: int | None, direction: int
    ) -> None:
        queue, seen = deque([(start, 0)]), {start}
        while queue:
            key, steps = queue.popleft()
            if most is not None and steps >= most:
                continue
            for other in near.get(key, ()):
                self._add(other, direction * (steps + 1))
                source, target = (other, key) if direction < 0 else (key, other)
                edge = LineageEdge(_node_id(source), _node_id(target), "read")
                self.edges.setdefault((source, target), edge)
                if other not in seen:
                    seen.add(other)
                    queue.append((other, steps + 1))

    def _add(self, key: ColumnKey, steps: int) -> None:
        label = f"{key.dataset}.{key.column}"
        self.nodes.setdefault(key, LineageNode(_node_id(key), "column", label, label, steps=steps))


def _node_id(key: ColumnKey) -> str:
    return f"column:{key.dataset}:{key.column}"
