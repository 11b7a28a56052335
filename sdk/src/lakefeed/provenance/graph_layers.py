"""The layout of a graph in layers: sources on the left, what was made of them on the right."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Edges: TypeAlias = Sequence[tuple[str, str]]

SWEEPS: Final = 4
MAX_POINTS: Final = 2_000
"""Points that edges pass in the layers between their nodes. Beyond that many, edges are straight."""


@dataclass(frozen=True)
class Arrangement:
    """A graph in layers.

    Attributes:
        layers: the layers, each from top to bottom: nodes, and points that edges pass.
        routes: for an edge over several layers, the points in the layers between.
    """

    layers: list[list[str]]
    routes: Mapping[tuple[str, str], Sequence[str]]


def arrange(nodes: Sequence[str], edges: Edges) -> Arrangement:
    """Returns a graph in layers, such that few edges cross, and edges pass between the nodes.

    Edges that close a cycle do not count: a run may read a version that it has written.
    """
    forward = list(dict.fromkeys(_without_cycles(nodes, edges)))
    layer = _layer_numbers(nodes, forward)
    layers: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in nodes:
        layers[layer[node]].append(node)
    routes = _routes(forward, layer)
    segments: list[tuple[str, str]] = []
    for (source, target), points in routes.items():
        segments += itertools.pairwise([source, *points, target])
        for number, point in enumerate(points, layer[source] + 1):
            layers[number].append(point)
    _sort_layers(layers, segments)
    return Arrangement(layers, routes)


def _routes(forward: Edges, layer: Mapping[str, int]) -> dict[tuple[str, str], list[str]]:
    routes: dict[tuple[str, str], list[str]] = {}
    points = 0
    for source, target in forward:
        between = range(layer[source] + 1, layer[target])
        points += len(between)
        routes[source, target] = [f"{source}\0{target}\0{n}" for n in between] if points <= MAX_POINTS else []
    return routes


def _sort_layers(layers: list[list[str]], segments: Edges) -> None:
    """Orders each layer by the places of the neighbours, to and fro."""
    above, below = _neighbours(segments)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        ordered = layers if downwards else layers[::-1]
        for fixed, free in itertools.pairwise(ordered):
            places = {node: place for place, node in enumerate(fixed)}
            free.sort(key=_barycenter(free, above if downwards else below, places).__getitem__)


def _barycenter(free: Sequence[str], near: Mapping[str, list[str]], places: Mapping[str, int]) -> dict[str, float]:
    """Returns for each node the mean place of its neighbours in the fixed layer; its own place without any."""
    centers = {}
    for place, node in enumerate(free):
        known = [places[other] for other in near.get(node, ()) if other in places]
        centers[node] = sum(known) / len(known) if known else float(place)
    return centers


def _without_cycles(nodes: Iterable[str], edges: Edges) -> list[tuple[str, str]]:
    """Returns the edges without those that lead back to a node on the path of a depth-first search."""
    following: dict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        following[source].append(target)
    forward: list[tuple[str, str]] = []
    finished: set[str] = set()
    path: set[str] = set()
    for start in nodes:
        if start in finished:
            continue
        stack = [(start, iter(following[start]))]
        path.add(start)
        while stack:
            node, targets = stack[-1]
            for target in targets:
                if target in path:
                    continue
                forward.append((node, target))
                if target not in finished:
                    path.add(target)
                    stack.append((target, iter(following[target])))
                    break
            else:
                stack.pop()
                path.discard(node)
                finished.add(node)
    return forward


def _layer_numbers(nodes: Sequence[str], forward: Edges) -> dict[str, int]:
    """Returns the layer of each node: one after the last of its sources, or before the first of its targets."""
    following, waiting = _neighbours(forward)[1], dict.fromkeys(nodes, 0)
    for _, target in forward:
        waiting[target] += 1
    layer = dict.fromkeys(nodes, 0)
    ready = [node for node in nodes if not waiting[node]]
    for node in ready:
        for target in following.get(node, ()):
            layer[target] = max(layer[target], layer[node] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    _pull_right(reversed(ready), following, layer)
    numbers = {each: number for number, each in enumerate(sorted(set(layer.values())))}
    return {node: numbers[each] for node, each in layer.items()}


def _pull_right(order: Iterable[str], following: Mapping[str, list[str]], layer: dict[str, int]) -> None:
    """Moves each node next to the first node that was made of it, so that its edge is short."""
    for node in order:
        targets = following.get(node)
        if targets:
            layer[node] = min(layer[target] for target in targets) - 1


def _neighbours(edges: Edges) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Returns for each node the sources and the targets of its edges."""
    sources: dict[str, list[str]] = defaultdict(list)
    targets: dict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        sources[target].append(source)
        targets[source].append(target)
    return sources, targets
