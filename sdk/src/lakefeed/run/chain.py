"""A run of steps over a stream of batches as one flat loop, so that thousands of steps do not nest."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence

import pyarrow as pa

from lakefeed.plan import Node, Step


def peel(plan: Node) -> tuple[tuple[Step, ...], Node]:
    """The steps on top of a plan, lowest first, and the node that they stand on."""
    steps = []
    while isinstance(plan, Step):
        steps.append(plan)
        plan = plan.child
    return tuple(reversed(steps)), plan


def parted(plan: Node, through: tuple[type[Node], ...]) -> list[tuple[Node, list[int]]]:
    """The plan and the inputs of the nodes ``through`` that its steps lead to, each with the places of those below it.

    Parents come before their inputs.
    """
    walk: list[tuple[Node, list[int]]] = [(plan, [])]
    for node, places in walk:
        _, base = peel(node)
        for child in base.children if isinstance(base, through) else ():
            places.append(len(walk))
            walk.append((child, []))
    return walk


def run_chain(
    steps: Sequence[Step], batches: Iterable[pa.RecordBatch], offsets: Sequence[int] | None = None
) -> Generator[pa.RecordBatch]:
    """The batches after every step; ``offsets``: the place of the first row in each step's input (default 0).

    Stops drawing batches as soon as no later row can come out. Batches left without rows are dropped.
    """
    places = list(offsets) if offsets is not None else [0] * len(steps)
    heavy = next((index for index, step in enumerate(steps) if step.portioned), 0)
    if heavy:
        batches = run_chain(steps[:heavy], batches, places[:heavy])
        steps, places = steps[heavy:], places[heavy:]
    if steps and steps[0].portioned:
        batches = _portions(steps[0], batches)
    source = iter(batches)
    try:
        while not any(step.exhausted(place) for step, place in zip(steps, places, strict=True)):
            batch = next(source, None)
            if batch is None:
                return
            for index, step in enumerate(steps):
                if not batch.num_rows:
                    break
                rows = batch.num_rows
                batch = step.apply(batch, places[index])
                places[index] += rows
            if batch.num_rows:
                yield batch
    finally:
        if isinstance(source, Generator):
            source.close()


def _portions(step: Step, batches: Iterable[pa.RecordBatch]) -> Generator[pa.RecordBatch]:
    for batch in batches:
        if batch.num_rows:
            yield from step.portions(batch)
