"""What a plan is apart from its data and the bodies of its functions: operations, arguments, columns, schema."""

from __future__ import annotations

from lakefeed.ops import Scan
from lakefeed.plan import Node, Source
from lakefeed.plan.fingerprint import digest
from lakefeed.plan.walk import nodes
from lakefeed.sources.files import FilesSource
from lakefeed.sources.iceberg import IcebergSource
from lakefeed.sources.memory import MemorySource
from lakefeed.sources.mirror import MirrorSource
from lakefeed.storage.urls import redacted


def structure(plan: Node) -> list[str]:
    """A line for each node, root first; equal for plans that do the same to a source that may have moved on."""
    return [_line(node) for node in nodes(plan)]


def identities(plan: Node) -> list[str]:
    """What the sources hold now."""
    # They are written down beside the rows, and shown where they are not what they were.
    return [redacted(node.source.identity) for node in nodes(plan) if isinstance(node, Scan)]


def _line(node: Node) -> str:
    columns = digest(node.schema)
    if isinstance(node, Scan):
        return f"Scan {_origin(node.source)} {columns}"
    arguments = {name: value for name, value in node.identity().items() if not callable(value)}
    return f"{type(node).__name__} {digest(arguments)} {columns}"


def _origin(source: Source) -> str:
    """Where rows come from: what stays while they move on."""
    match source:
        case IcebergSource():
            return source.name if source.since is None else f"{source.name}+since-v{source.since.version or 0}"
        case MirrorSource():
            return source.origin
        case FilesSource():
            return f"{source.format_name} {redacted(','.join(source.urls))}"
        case MemorySource():
            return source.identity  # other rows in memory are another source
    return type(source).__name__
