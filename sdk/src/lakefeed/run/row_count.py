"""Row counts of plans."""

from __future__ import annotations

from lakefeed.ops import Concatenate, Project, Repeat, Scan, Shuffle, Sort
from lakefeed.optimize import optimize
from lakefeed.plan import Node
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.step_chain import parted, peel


def known_rows(plan: Node) -> int | None:
    """The exact number of rows if it is known without reading data, else None."""
    walk = parted(plan, (Shuffle, Sort, Concatenate, Repeat))
    counts: list[int | None] = [None] * len(walk)
    for index, (node, inputs) in reversed(list(enumerate(walk))):
        steps, base = peel(node)
        rows = _base_rows(base, [counts[each] for each in inputs])
        for step in steps:
            if rows is not None and not step.keeps_row_count:
                rows = step.count_kept(0, rows) if step.positional else None
        counts[index] = rows
    return counts[0]


def length(plan: Node) -> int:
    """The exact number of rows, if it is known without reading data.

    Raises:
        TypeError: it is not, as ``len()`` has it.
    """
    known = known_rows(plan)
    if known is None:
        raise TypeError("the number of rows is not known before they are read; count() reads them")
    return known


def _base_rows(base: Node, inputs: list[int | None]) -> int | None:
    if isinstance(base, Scan):
        return _scanned_rows(base)
    known = [rows for rows in inputs if rows is not None]
    if not inputs or len(known) < len(inputs):
        return None
    return sum(known) * (base.times if isinstance(base, Repeat) else 1)


def _scanned_rows(scan: Scan) -> int | None:
    rows = scan.source.count()
    if rows is None or scan.pushdown.rows is None:
        return rows
    start, stop = scan.pushdown.rows
    return max((rows if stop is None else min(stop, rows)) - start, 0)


def count_rows(runner: LocalRunner, plan: Node) -> int:
    """The exact number of rows, found by running the plan over the columns that it takes to tell."""
    known = known_rows(plan)
    if known is not None:
        return known
    runner.track(plan)
    return sum(batch.num_rows for batch in runner.stream(optimize(Project(plan, ()))))
