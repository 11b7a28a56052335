"""Files in one state: a run, however often it comes back to a file, reads the same one."""

from __future__ import annotations

from dataclasses import replace

from lakefeed.ops.scan import Scan
from lakefeed.plan import Node
from lakefeed.plan.walk import nodes, transform
from lakefeed.sources.files import FilesSource
from lakefeed.storage.identity import Identities


def bind(plan: Node) -> Node:
    """The plan over files that have to stay as they are when they are first read; the same plan if it is so already."""
    if not any(_is_free(node) for node in nodes(plan)):
        return plan
    states = Identities()

    def bound(node: Node) -> Node:
        if isinstance(node, Scan) and isinstance(node.source, FilesSource):
            return replace(node, source=node.source.bound(states))
        return node

    return transform(plan, bound)


def _is_free(node: Node) -> bool:
    return isinstance(node, Scan) and isinstance(node.source, FilesSource) and node.source.states is None
