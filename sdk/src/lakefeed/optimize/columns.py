"""Columns that nobody asks for are not read.

From the root down, every node is told which of its output columns are wanted, narrows itself to what they need and
says which input columns that takes; at the scan the set becomes the projection.
"""

from __future__ import annotations

from lakefeed.ops import Scan
from lakefeed.plan import Node
from lakefeed.plan.walk import nodes

Wanted = frozenset[str] | None


def prune_columns(plan: Node) -> Node:
    """The plan reading only the columns that its result needs."""
    wanted: dict[int, Wanted] = {id(plan): None}
    narrowed: dict[int, Node] = {}
    order = list(nodes(plan))
    for node in order:
        narrow, below = _narrow(node, wanted[id(node)])
        narrowed[id(node)] = narrow
        for child in node.children:
            wanted[id(child)] = below
    done: dict[int, Node] = {}
    for node in reversed(order):
        children = tuple(done[id(child)] for child in node.children)
        narrow = narrowed[id(node)]
        same = all(new is old for new, old in zip(children, narrow.children, strict=True))
        done[id(node)] = narrow if same else narrow.with_children(children)
    return done[id(plan)]


def _narrow(node: Node, wanted: Wanted) -> tuple[Node, Wanted]:
    if isinstance(node, Scan):
        return _project(node, wanted), None
    if wanted is None:
        wanted = frozenset(node.schema.names)
    return node.narrow(wanted) if len(node.children) == 1 else (node, None)


def _project(scan: Scan, wanted: Wanted) -> Scan:
    names = tuple(scan.schema.names)
    # A scan of no columns would not know its rows: keep one.
    columns = names if wanted is None else tuple(name for name in names if name in wanted) or names[:1]
    return scan if columns == names else scan.pushed(columns=columns)
