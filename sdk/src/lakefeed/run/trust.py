"""Columns whose text was written on another machine: it may not choose which files of this machine are read."""

from __future__ import annotations

from collections.abc import Sequence

from lakefeed.ops.scan import Scan
from lakefeed.plan import Node
from lakefeed.plan.walk import numbered
from lakefeed.sources.batches import BatchesSource
from lakefeed.sources.files import FilesSource
from lakefeed.sources.mapped import MappedSource

KINDS = (BatchesSource, FilesSource, MappedSource)


def untrusted_columns(plan: Node) -> frozenset[str]:
    """The columns of a plan that hold, or may hold, text from files of other machines.

    A column is followed through operations that say what they make it of (`Node.made_of`). A function or a query may
    hand on whatever it reads, so all its columns count where one that it reads does.
    """
    walk = numbered(plan)
    if not any(_is_remote(node) for node, _ in walk):
        return frozenset()
    found: list[frozenset[str]] = [frozenset() for _ in walk]
    for index, (node, children) in reversed(list(enumerate(walk))):
        below = [found[child] for child in children]
        found[index] = frozenset(name for name in node.schema.names if _is_untrusted(node, name, below))
    return found[0]


def _is_untrusted(node: Node, column: str, below: Sequence[frozenset[str]]) -> bool:
    if isinstance(node, Scan):
        return _is_remote(node)
    made_of = node.made_of(column)
    if made_of is None:
        return any(below)
    return any(name in below[child] for child, name in made_of)


def _is_remote(node: Node) -> bool:
    return isinstance(node, Scan) and isinstance(node.source, KINDS) and node.source.remote
