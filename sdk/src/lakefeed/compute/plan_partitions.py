"""A plan cut into plans over parts of its rows, which give the same rows one after the other."""

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
    """The parts of a plan, in order, each of whole fragments: several for each of ``width`` workers.

    Parts hold about ``most_bytes`` (decoded) at most. Cut between fragments, also what depends on how batches are cut
    comes out as it would in one go.

    Raises:
        InvalidArgumentError: what comes of a row depends on other rows, so only the whole can be run.
    """
    steps, base = peel(optimize(plan))
    if not isinstance(base, Scan) or not base.source.ranged:
        raise _indivisible_error(base)
    for step in steps:
        if step.positional:
            raise _indivisible_error(step)
    return [_apply_steps(steps, _scan_range(base, start, stop)) for start, stop in _ranges(base, width, most_bytes)]


def _ranges(scan: Scan, width: int, most_bytes: int) -> Iterator[tuple[int, int]]:
    """Places of the source's rows at which the parts begin and end."""
    # A predicate leaves fragments out; where the others stand in the whole would be lost with it.
    fragments = list(scan.source.fragments(replace(scan.pushdown, predicate=None)))
    total = sum(max(fragment.size, 1) for fragment in fragments)
    target = max(1, min(most_bytes, total // (width * PARTITIONS_PER_WORKER)))
    begin = place = scan.pushdown.rows[0] if scan.pushdown.rows is not None else 0
    held = 0
    for fragment in fragments:
        place += fragment.length or 0
        held += max(fragment.size, 1)
        if held >= target:
            yield begin, place
            begin, held = place, 0
    if place > begin:
        yield begin, place


def _scan_range(scan: Scan, start: int, stop: int) -> Scan:
    return replace(scan, pushdown=replace(scan.pushdown, rows=(start, stop)))


def _apply_steps(steps: tuple[Step, ...], base: Node) -> Node:
    for step in steps:
        base = step.over((base,))
    return base


def _indivisible_error(node: Node) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"these rows cannot be made in parts: {node.describe()} needs all of them in their place. Save them without an "
        "engine first, and work on the saved dataset; filter, map, map_batches and columns go in parts"
    )
