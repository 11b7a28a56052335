"""Columns that nobody asks for are not read.

From the root down, every node is told which of its output columns are wanted, narrows itself to what they need and
says which input columns that takes; at the scan the set becomes the projection.
"""

from __future__ import annotations

from lakefeed.ops import Scan
from lakefeed.plan import Node
from lakefeed.plan.walk import numbered

Wanted = frozenset[str] | None


def prune_columns(plan: Node) -> Node:
    """The plan reading only the columns that its result needs."""
    walk = numbered(plan)
    wanted: list[Wanted] = [None] * len(walk)
    done = []
    for index, (node, children) in enumerate(walk):
        narrow, below = _narrow(node, wanted[index])
        done.append(narrow)
        for child, columns in zip(children, below, strict=True):
            wanted[child] = columns
    for index, (_, children) in reversed(list(enumerate(walk))):
        done[index] = done[index].over(tuple(done[child] for child in children))
    return done[0]


def _narrow(node: Node, wanted: Wanted) -> tuple[Node, tuple[Wanted, ...]]:
    if isinstance(node, Scan):
        return _project(node, wanted), ()
    return node.narrow_each(frozenset(node.schema.names) if wanted is None else wanted)


def _project(scan: Scan, wanted: Wanted) -> Scan:
    names = tuple(scan.schema.names)
    # A scan of no columns would not know its rows: keep one.
    columns = names if wanted is None else tuple(name for name in names if name in wanted) or names[:1]
    return scan if columns == names else scan.pushed(columns=columns)
