"""The move that the rules share: what nodes of one kind do sinks through the nodes below that let it pass."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from lakefeed.plan import Node
from lakefeed.plan.walk import numbered

Load = TypeVar("Load")


class Rule(Protocol, Generic[Load]):
    """One kind of node that sinks; ``Load`` is what is on its way down."""

    nothing: Load

    def taken(self, load: Load, node: Node) -> Load | None:
        """The load with what ``node`` does under it, if ``node`` is of the kind that sinks."""

    def parted(self, load: Load, node: Node) -> tuple[Load, Load]:
        """What of the load stays above ``node``, and what passes it."""

    def landed(self, load: Load, node: Node) -> Node:
        """The load set down on ``node``."""


def push_down(plan: Node, rule: Rule[Load]) -> Node:
    """The plan with every node of the rule's kind as low as it goes; one walk down and one up, however deep."""
    walk = numbered(plan)
    if all(rule.taken(rule.nothing, node) is None for node, _ in walk):
        return plan
    arriving = [rule.nothing] * len(walk)
    staying: list[Load | None] = [None] * len(walk)
    for index, (node, children) in enumerate(walk):
        load = rule.taken(arriving[index], node)
        if load is None:
            staying[index], load = rule.parted(arriving[index], node) if children else (arriving[index], rule.nothing)
        for child in children:
            arriving[child] = load
    done = [node for node, _ in walk]
    for index, (node, children) in reversed(list(enumerate(walk))):
        below = tuple(done[child] for child in children)
        stays = staying[index]
        done[index] = below[0] if stays is None else rule.landed(stays, node.over(below))
    return done[0]
