"""Moves nodes of one kind down through the nodes that they commute with."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from lakefeed.plan import Node
from lakefeed.plan.walk import number_nodes

Load = TypeVar("Load")


class Rule(Protocol, Generic[Load]):
    """The rule for one kind of node; ``Load`` represents the effect of the nodes on their way down."""

    empty: Load

    def absorb(self, load: Load, node: Node) -> Load | None:
        """Returns the load with the effect of ``node`` below it, or None if ``node`` is of another kind."""

    def split(self, load: Load, node: Node) -> tuple[Load, Load]:
        """Returns the parts of the load that stay above ``node`` and that move below it."""

    def attach(self, load: Load, node: Node) -> Node:
        """Returns ``node`` with the load on top."""


def push_down(plan: Node, rule: Rule[Load]) -> Node:
    """Returns the plan with every node of the kind as low as possible, in one walk down and one up."""
    walk = number_nodes(plan)
    if all(rule.absorb(rule.empty, node) is None for node, _ in walk):
        return plan
    arriving = [rule.empty] * len(walk)
    staying: list[Load | None] = [None] * len(walk)
    for index, (node, children) in enumerate(walk):
        load = rule.absorb(arriving[index], node)
        if load is None:
            staying[index], load = rule.split(arriving[index], node) if children else (arriving[index], rule.empty)
        for child in children:
            arriving[child] = load
    rewritten = [node for node, _ in walk]
    for index, (node, children) in reversed(list(enumerate(walk))):
        below = tuple(rewritten[child] for child in children)
        stays = staying[index]
        rewritten[index] = below[0] if stays is None else rule.attach(stays, node.over(below))
    return rewritten[0]
