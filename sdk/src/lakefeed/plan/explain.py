"""Plans as text: one line for each node, children indented under their parent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from lakefeed.plan.node import Node

INDENT = "  "


def explain(plan: Node, note: Callable[[Node], str] = lambda node: "") -> str:
    """Returns one line for each node, the root first. ``note`` returns text for the end of a node's line."""
    lines = []
    stack = [(plan, 0)]
    while stack:
        node, depth = stack.pop()
        lines.append(INDENT * depth + node.describe() + note(node))
        stack.extend((child, depth + 1) for child in reversed(node.children))
    return "\n".join(lines)


def name_of(function: Callable[..., Any]) -> str:
    """Returns the name of a function for ``explain()`` and messages, in one line."""
    if isinstance(function, partial):
        return f"partial({name_of(function.func)})"
    return getattr(function, "__qualname__", None) or type(function).__qualname__
