"""The structure of a plan without its data and the bodies of its functions: operations, arguments, columns, schema."""

from __future__ import annotations

from lakefeed.plan import Node
from lakefeed.plan.fingerprint import digest
from lakefeed.plan.walk import nodes, sources
from lakefeed.storage.urls import redact


def structure(plan: Node) -> list[str]:
    """Returns a line for each node, root first; equal for plans that do the same to newer rows of a source."""
    return [_line(node) for node in nodes(plan)]


def identities(plan: Node) -> list[str]:
    """Returns the identities of the sources, for comparison with those that were written beside the rows."""
    return [redact(source.identity) for source in sources(plan)]


def _line(node: Node) -> str:
    columns = digest(node.schema)
    if node.leaf_source is not None:
        return f"Scan {node.leaf_source.location} {columns}"
    arguments = {name: value for name, value in node.identity().items() if not callable(value)}
    return f"{type(node).__name__} {digest(arguments)} {columns}"
