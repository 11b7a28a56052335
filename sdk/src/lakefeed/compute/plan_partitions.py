"""The division of a plan into plans over parts of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lakefeed.errors import InvalidArgumentError
from lakefeed.ops import Scan
from lakefeed.optimize import optimize
from lakefeed.plan import Node, Step
from lakefeed.run.step_chain import peel

PARTITIONS_PER_WORKER = 4
"""So that all are busy to the end, and little is lost with one of them."""


def divide_plan(plan: Node, width: int, most_bytes: int) -> list[Node]:
    """Returns the parts of a plan in order, several for each of ``width`` workers. Each part has whole fragments.

    A part has about ``most_bytes`` (decoded) at most. Because parts are cut between fragments, results that depend on
    the boundaries of batches are the same as in one run.

    Raises:
        InvalidArgumentError: the result of a row depends on other rows, so the plan cannot be divided.
    """
    steps, base = peel(optimize(plan))
    if not isinstance(base, Scan) or not base.source.ranged:
        raise _indivisible_error(base)
    for step in steps:
        if step.positional:
            raise _indivisible_error(step)
    return [_apply_steps(steps, _scan_range(base, start, stop)) for start, stop in _ranges(base, width, most_bytes)]


def _ranges(scan: Scan, width: int, most_bytes: int) -> Iterator[tuple[int, int]]:
    """Yields the row ranges of the parts."""
    # A predicate leaves fragments out; where the others stand in the whole would be lost with it.
    fragments = list(scan.source.fragments(replace(scan.pushdown, predicate=None)))
    total = sum(max(fragment.size, 1) for fragment in fragments)
    target = max(1, min(most_bytes, total // (width * PARTITIONS_PER_WORKER)))
    begin = row = scan.pushdown.rows[0] if scan.pushdown.rows is not None else 0
    held = 0
    for fragment in fragments:
        row += fragment.length or 0
        held += max(fragment.size, 1)
        if held >= target:
            yield begin, row
            begin, held = row, 0
    if row > begin:
        yield begin, row


def _scan_range(scan: Scan, start: int, stop: int) -> Scan:
    return replace(scan, pushdown=replace(scan.pushdown, rows=(start, stop)))


def _apply_steps(steps: tuple[Step, ...], base: Node) -> Node:
    for step in steps:
        base = step.over((base,))
    return base


def _indivisible_error(node: Node) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"these rows cannot be made in parts: {node.describe()} needs all of them in order. Save them without an "
        "engine first, and use the saved dataset; filter, map, map_batches and operations on columns can be divided"
    )
