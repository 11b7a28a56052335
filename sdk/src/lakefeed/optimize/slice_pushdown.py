"""Slice pushdown: row ranges move towards the scan, so that rows outside them are not read or decoded.

Slice(a, Slice(b, x))  -> Slice(a within b, x)
Slice(a, Step(x))      -> Step(Slice(a, x))           if the step keeps row count and order
Slice(a, Scan(s))      -> Scan(s | rows=a)            if the source knows its row counts
"""

from __future__ import annotations

from typing import TypeAlias

from lakefeed.ops import Scan, Slice
from lakefeed.plan import Node

Range: TypeAlias = tuple[int, int | None]
ALL_ROWS: Range = (0, None)


class PushSlices:
    """The rule for row ranges; see `push_down`."""

    empty = ALL_ROWS

    def absorb(self, load: Range, node: Node) -> Range | None:
        return compose_ranges(load, (node.start, node.stop)) if isinstance(node, Slice) else None

    def split(self, load: Range, node: Node) -> tuple[Range, Range]:
        return (ALL_ROWS, load) if node.passes_limit else (load, ALL_ROWS)

    def attach(self, load: Range, node: Node) -> Node:
        if load == ALL_ROWS:
            return node
        # A predicate may have pruned fragments, so row positions would no longer be those of the source.
        if isinstance(node, Scan) and node.source.ranged and node.pushdown.predicate is None:
            return node.pushed(rows=compose_ranges(load, node.pushdown.rows or ALL_ROWS))
        return Slice(node, *load)


def compose_ranges(inner: Range, outer: Range) -> Range:
    """Returns the range ``inner``, which counts from the start of ``outer``, as one range."""
    start = outer[0] + inner[0]
    stops = [stop for stop in (outer[1], None if inner[1] is None else outer[0] + inner[1]) if stop is not None]
    stop = min(stops) if stops else None
    return (start if stop is None else min(start, stop)), stop
