"""Binds the files of a plan to one state, so that a run reads the same contents every time."""

from __future__ import annotations

from dataclasses import replace

from lakefeed.ops.scan import Scan
from lakefeed.plan import Node
from lakefeed.plan.walk import transform
from lakefeed.storage.disk.file_identity import Identities


def bind_files(plan: Node) -> Node:
    """Returns the plan over files that must not change after their first read, or itself if it is bound."""
    states = Identities()

    def bind_source(node: Node) -> Node:
        if not isinstance(node, Scan):
            return node
        source = node.source.bound(states)
        return node if source is node.source else replace(node, source=source)

    return transform(plan, bind_source)
