"""A run of steps over a stream of batches as one flat loop, so that thousands of steps do not nest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext

import pyarrow as pa

from lakefeed.plan import Node, Step
from lakefeed.storage.cache.blob_cache import CacheStatistics


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

    Stops drawing batches as soon as no later row can come out. Batches left without rows are dropped. What works ahead
    is given its rows in portions, ahead of their use.
    """
    places = list(offsets) if offsets is not None else [0] * len(steps)
    last = next((index for index in reversed(range(len(steps))) if steps[index].works_ahead), None)
    if last is not None:
        batches = _ahead(steps[last], run_chain(steps[:last], batches, places[:last]), whole=False)
        steps, places = steps[last + 1 :], places[last + 1 :]
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


def run_whole(
    steps: Sequence[Step], batches: Iterable[pa.RecordBatch], tally: CacheStatistics | None = None
) -> Generator[pa.RecordBatch]:
    """Each batch after every step, one for one and none of them cut: for row-local steps that keep row counts.

    What works ahead (`load_files`) has begun with the batches to come when one is given out, so batches are drawn
    before they are needed: as many rows again as were given out, or at least one batch. ``tally`` counts its files.
    """
    for step in steps:
        batches = _ahead(step, batches, tally, whole=True) if step.works_ahead else _applied(step, batches)
    with _closing(batches):
        yield from batches


def _applied(step: Step, batches: Iterable[pa.RecordBatch]) -> Generator[pa.RecordBatch]:
    with _closing(batches):
        for batch in batches:
            yield step.apply(batch, 0)


def _ahead(
    step: Step, batches: Iterable[pa.RecordBatch], tally: CacheStatistics | None = None, *, whole: bool
) -> Generator[pa.RecordBatch]:
    waiting: deque[Callable[[], pa.RecordBatch]] = deque()
    with _closing(batches), closing(step.ahead(tally)) as ahead:
        for batch in batches:
            for portion in (batch,) if whole else ahead.portions(batch):
                while waiting and not ahead.room(portion.num_rows):
                    yield waiting.popleft()()
                waiting.append(ahead.start(portion))
        while waiting:
            yield waiting.popleft()()


def _closing(batches: Iterable[pa.RecordBatch]) -> AbstractContextManager[object]:
    return closing(batches) if isinstance(batches, Generator) else nullcontext()
