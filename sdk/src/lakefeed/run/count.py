"""How many rows a plan has."""

from __future__ import annotations

from lakefeed.ops import Project, Scan, Shuffle
from lakefeed.optimize import optimize
from lakefeed.plan import Node
from lakefeed.run.chain import peel
from lakefeed.run.local import Local


def known_rows(plan: Node) -> int | None:
    """The exact number of rows if it is known without reading data, else None."""
    steps, base = peel(plan)
    while isinstance(base, Shuffle):
        below, base = peel(base.child)
        steps = below + steps
    if not all(step.positional or step.keeps_row_count for step in steps):
        return None
    rows = _base_rows(base)
    for step in steps:
        rows = step.kept(0, rows) if step.positional and rows is not None else rows
    return rows


def length(plan: Node) -> int:
    """The exact number of rows, if it is known without reading data.

    Raises:
        TypeError: it is not, as ``len()`` has it.
    """
    known = known_rows(plan)
    if known is None:
        raise TypeError("the number of rows is not known before they are read; count() reads them")
    return known


def _base_rows(base: Node) -> int | None:
    if not isinstance(base, Scan):
        return None
    rows = base.source.count()
    if rows is None or base.pushdown.rows is None:
        return rows
    start, stop = base.pushdown.rows
    return max((rows if stop is None else min(stop, rows)) - start, 0)


def count_rows(runner: Local, plan: Node) -> int:
    """The exact number of rows, found by running the plan over the columns that it takes to tell."""
    known = known_rows(plan)
    if known is not None:
        return known
    return sum(batch.num_rows for batch in runner.stream(optimize(Project(plan, ()))))
