"""Files in one state: a run, however often it comes back to a file, reads the same one."""

from __future__ import annotations

from dataclasses import replace

from lakefeed.ops.scan import Scan
from lakefeed.plan import Node
from lakefeed.plan.walk import transform
from lakefeed.storage.disk.file_identity import Identities


def bind_files(plan: Node) -> Node:
    """The plan over files that have to stay as they are when they are first read; the same plan if it is so already."""
    states = Identities()

    def bound(node: Node) -> Node:
        if not isinstance(node, Scan):
            return node
        source = node.source.bound(states)
        return node if source is node.source else replace(node, source=source)

    return transform(plan, bound)
