"""Walks over plans without recursion, so that a plan may have thousands of nodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakefeed.plan.node import Node, nodes_of

if TYPE_CHECKING:
    from lakefeed.plan.source import Source


def nodes(plan: Node) -> Iterator[Node]:
    """Yields every node, parents before their children, first child first."""
    stack = [plan]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children))


def sources(plan: Node) -> Iterator[Source]:
    """Yields the sources that the plan reads, in the order of `nodes`; a source that is read twice comes twice."""
    return (node.leaf_source for node in nodes(plan) if node.leaf_source is not None)


def number_nodes(plan: Node) -> list[tuple[Node, list[int]]]:
    """Returns every node with the indices of its children in the list, parents before children.

    A node that occurs twice in the plan is listed twice, because the nodes above it differ.
    """
    walk: list[tuple[Node, list[int]]] = [(plan, [])]
    for node, places in walk:
        for child in node.children:
            places.append(len(walk))
            walk.append((child, []))
    return walk


def transform(plan: Node, rule: Callable[[Node], Node]) -> Node:
    """Returns the plan with ``rule`` applied to every node once, children before parents. Shares unchanged parts."""
    walk = number_nodes(plan)
    done = [node for node, _ in walk]
    for index, (node, children) in reversed(list(enumerate(walk))):
        done[index] = rule(node.over(tuple(done[child] for child in children)))
    return done[0]


@dataclass(frozen=True)
class FlatNode:
    """A node without its children: its class, its other fields, and the indices of its children in the flat plan."""

    kind: type[Node]
    fields: dict[str, Any]
    children: dict[str, int | tuple[int, ...]]


def flatten(plan: Node) -> list[FlatNode]:
    """Returns the plan as a flat list for pickling, children before parents. To pickle a tree would recurse."""
    order = list(reversed(list(nodes(plan))))
    positions: dict[int, int] = {}
    for index, node in enumerate(order):
        positions.setdefault(id(node), index)  # a node that occurs twice: before the first of its parents
    flat = []
    for node in order:
        values = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
        children: dict[str, int | tuple[int, ...]] = {}
        for name, value in values.items():
            if isinstance(value, Node):
                children[name] = positions[id(value)]
            elif nodes_of(value):
                children[name] = tuple(positions[id(item)] for item in value)
        flat.append(
            FlatNode(type(node), {name: value for name, value in values.items() if name not in children}, children)
        )
    return flat


def rebuild(flat: list[FlatNode]) -> Node:
    """Returns the plan of a flat list."""
    built: list[Node] = []
    for item in flat:
        children = {
            name: built[index] if isinstance(index, int) else tuple(built[each] for each in index)
            for name, index in item.children.items()
        }
        built.append(item.kind(**item.fields, **children))
    return built[-1]
