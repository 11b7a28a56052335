"""The move that the rules share: a unary node sinks through the nodes below it that let it pass."""

from __future__ import annotations

from collections.abc import Callable

from lakefeed.plan import Node


def sink(node: Node, passes: Callable[[Node], bool], land: Callable[[Node, Node], Node]) -> Node:
    """The plan with ``node`` moved below every unary node that ``passes`` it; ``land(node, child)`` sets it down."""
    (child,) = node.children
    passed = []
    while len(child.children) == 1 and passes(child):
        passed.append(child)
        (child,) = child.children
    result = land(node, child)
    for above in reversed(passed):
        result = above.with_children((result,))
    return result
