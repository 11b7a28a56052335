"""Walks over plans without recursion: a plan of thousands of nodes is fine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakefeed.plan.node import Node, nodes_of

if TYPE_CHECKING:
    from lakefeed.plan.source import Source


def nodes(plan: Node) -> Iterator[Node]:
    """Every node, parents before their children, first child first."""
    stack = [plan]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children))


def sources(plan: Node) -> Iterator[Source]:
    """The sources that the plan reads, in the order of `nodes`; one that is read twice comes twice."""
    return (node.leaf_source for node in nodes(plan) if node.leaf_source is not None)


def numbered(plan: Node) -> list[tuple[Node, list[int]]]:
    """Every node with the places of its children in the list, parents before children.

    A node that stands in the plan twice is listed twice, since what lies above it differs.
    """
    walk: list[tuple[Node, list[int]]] = [(plan, [])]
    for node, places in walk:
        for child in node.children:
            places.append(len(walk))
            walk.append((child, []))
    return walk


def transform(plan: Node, rule: Callable[[Node], Node]) -> Node:
    """The plan with ``rule`` applied to every node once, children before parents; unchanged parts are shared."""
    walk = numbered(plan)
    done = [node for node, _ in walk]
    for index, (node, children) in reversed(list(enumerate(walk))):
        done[index] = rule(node.over(tuple(done[child] for child in children)))
    return done[0]


@dataclass(frozen=True)
class FlatNode:
    """A node without its children: its class, its other fields, and the places of its children in the flat plan."""

    kind: type[Node]
    fields: dict[str, Any]
    children: dict[str, int | tuple[int, ...]]


def flatten(plan: Node) -> list[FlatNode]:
    """The plan as a flat list, children before parents: what is pickled, since pickling a tree recurses."""
    order = list(reversed(list(nodes(plan))))
    place: dict[int, int] = {}
    for index, node in enumerate(order):
        place.setdefault(id(node), index)  # a node that stands in it twice: before the first of its parents
    flat = []
    for node in order:
        values = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
        children: dict[str, int | tuple[int, ...]] = {}
        for name, value in values.items():
            if isinstance(value, Node):
                children[name] = place[id(value)]
            elif nodes_of(value):
                children[name] = tuple(place[id(item)] for item in value)
        flat.append(
            FlatNode(type(node), {name: value for name, value in values.items() if name not in children}, children)
        )
    return flat


def rebuild(flat: list[FlatNode]) -> Node:
    """The plan that was flattened."""
    built: list[Node] = []
    for item in flat:
        children = {
            name: built[index] if isinstance(index, int) else tuple(built[each] for each in index)
            for name, index in item.children.items()
        }
        built.append(item.kind(**item.fields, **children))
    return built[-1]
