"""The layout of a graph in layers: sources on the left, what was made of them on the right."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

Edges: TypeAlias = Sequence[tuple[str, str]]

SWEEPS: Final = 4


def arrange(nodes: Sequence[str], edges: Edges) -> list[list[str]]:
    """Returns the layers of a graph, each from top to bottom, such that few edges cross.

    Edges that close a cycle do not count: a run may read a version that it has written.
    """
    forward = _without_cycles(nodes, edges)
    layers = _layers(nodes, forward)
    above, below = _neighbours(forward)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        ordered = layers if downwards else layers[::-1]
        for fixed, free in itertools.pairwise(ordered):
            places = {node: place for place, node in enumerate(fixed)}
            free.sort(key=_barycenter(free, above if downwards else below, places).__getitem__)
    return layers


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


def _layers(nodes: Sequence[str], forward: Edges) -> list[list[str]]:
    """Returns the layers: a node is one layer after the last of its sources."""
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
    layers: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in nodes:
        layers[layer[node]].append(node)
    return [each for each in layers if each]


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
