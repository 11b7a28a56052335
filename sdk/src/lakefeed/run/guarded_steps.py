"""`GuardedSteps`: steps that record the rows on which they raise, and go on with the others or end before them."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed.catalog.compatibility import cast
from lakefeed.errors import SchemaError, quoted_list
from lakefeed.expr import evaluate
from lakefeed.ops import Filter, FilterRows, Map, Scan, Take
from lakefeed.ops.common_schema import conform_batch
from lakefeed.optimize.column_pruning import prune_columns
from lakefeed.optimize.pushdown import push_down
from lakefeed.optimize.slice_pushdown import PushSlices
from lakefeed.plan import Node, Step, flatten, rebuild
from lakefeed.plan.take_rows import filter_by_mask, take_rows
from lakefeed.plan.walk import FlatNode, nodes
from lakefeed.run.rebatch import joined
from lakefeed.run.row_errors import OF_THE_MACHINE, RowError, RowErrors, file_column, key_column, names_of_row
from lakefeed.run.step_chain import SkippedRows, peel, run_chain

Part = tuple[Indices, pa.RecordBatch]
"""Rows that were made, and for each the position of the input row (or of the first of several) it is made of."""


@dataclass(frozen=True, eq=False, repr=False)
class CastRows(Step):
    """The rows with the types of ``result``."""

    result: pa.Schema

    keeps_row_count: ClassVar[bool] = True
    keeps_columns: ClassVar[bool] = True
    vectorized: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        return self.result

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        return cast(batch, self.result)


class Steps:
    """Steps over an input. They are not children of a plan, so that rewrites neither move them nor look into them."""

    def __init__(self, top: Node) -> None:
        self._top = top
        self.steps, self.base = peel(top)

    @property
    def schema(self) -> pa.Schema:
        """The columns of the result."""
        return self._top.schema

    def __reduce__(self) -> tuple[Callable[[list[FlatNode]], Steps], tuple[list[FlatNode]]]:
        return _rebuild_steps, (flatten(self._top),)


def _rebuild_steps(flat: list[FlatNode]) -> Steps:
    return Steps(rebuild(flat))


@dataclass(frozen=True, eq=False, repr=False)
class GuardedSteps(Step):
    """Runs steps over the rows of a scan, and records the rows on which they raise.

    A function of a row is called once for each row. A function of a batch that raises is called again with halves of
    the batch, down to one row, unless the policy is "fail".

    The node belongs to one write. A second pass over the first batch, such as that of a sample, repeats its result.
    """

    inner: Steps
    errors: RowErrors
    key: str | None = None
    first: _FirstBatch = field(default_factory=lambda: _FirstBatch())

    batchwise: ClassVar[bool] = True
    runs_user_code: ClassVar[bool] = True

    @classmethod
    def of(cls, plan: Node, base: Node, errors: RowErrors, key: str | None) -> GuardedSteps | None:
        """Returns the plan with its steps guarded; None if it is more than steps over the rows of ``base``.

        Args:
            plan: the plan.
            base: a scan, or selected rows of one; perhaps with a range of rows and a choice of columns.
            errors: records the errors.
            key: the column that identifies a row.

        Raises:
            SchemaError: the policy is "null", and a column of the plan is not nullable.
        """
        steps, leaf = peel(prune_columns(push_down(plan, PushSlices())))
        if any(step.positional for step in steps) or not _is_same_input(leaf, base):
            return None
        if errors.policy == "null":
            check_nullable(plan.schema, key)
        inner = Steps(steps[-1] if steps else leaf)
        return cls(_with_names(leaf, key), inner, errors, key)

    def output_schema(self) -> pa.Schema:
        return self.inner.schema

    def exhausted(self, offset: int) -> bool:
        return offset > 0 and self.errors.stop is not None

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        repeated = self.first.repeat(batch, offset, self.errors)
        if repeated is not None:
            return repeated
        if offset == 0:
            self.errors.clear()
        rows = _Pass(self, batch, self._positions(offset, batch.num_rows)).run()
        self.first.remember(batch, offset, rows, self.errors)
        return rows

    def made_of(self, column: str) -> Sequence[tuple[int, str]] | None:
        origins = [column]
        for step in reversed(self.inner.steps):
            below = [step.made_of(name) for name in origins]
            if any(each is None for each in below):
                return None
            origins = [name for each in below for _, name in each or ()]
        return [(0, name) for name in dict.fromkeys(origins)]

    def identity(self) -> dict[str, Any]:
        return {"steps": tuple((type(step).__name__, step.identity()) for step in self.inner.steps)}

    def describe(self) -> str:
        return f"Guarded {' -> '.join(step.describe() for step in self.inner.steps)}"

    def _positions(self, offset: int, rows: int) -> Indices:
        if isinstance(self.child, Take):
            return np.asarray(self.child.places[offset : offset + rows], np.int64)
        begin = self.child.pushdown.rows[0] if isinstance(self.child, Scan) and self.child.pushdown.rows else 0
        return np.arange(begin + offset, begin + offset + rows)


class _FirstBatch:
    """The result for the first batch, until there is a second one: a sample of the rows has been taken from it."""

    def __init__(self) -> None:
        self._result: tuple[int, pa.RecordBatch, RowErrors] | None = None

    def repeat(self, batch: pa.RecordBatch, offset: int, errors: RowErrors) -> pa.RecordBatch | None:
        """Returns the result, if there is one and this is the first batch. ``errors`` are then those of the batch."""
        if offset or self._result is None or self._result[0] != batch.num_rows:
            return None
        _, rows, recorded = self._result
        errors.clear()
        errors.add_all([recorded])
        return rows

    def remember(self, batch: pa.RecordBatch, offset: int, rows: pa.RecordBatch, errors: RowErrors) -> None:
        """Stores the result of the first batch, and gives it up at the second."""
        self._result = None if offset else (batch.num_rows, rows, errors.copy())

    def __getstate__(self) -> dict[str, Any]:
        return {"_result": None}


class _Calls:
    """A function that stores the results of its calls."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self.results: list[Any] = []
        self.raised = False
        self._call = call
        functools.update_wrapper(self, call)

    def __call__(self, row: Any) -> Any:
        try:
            result = self._call(row)
        except Exception:
            self.raised = True
            raise
        self.results.append(result)
        return result


class _Pass:
    """The steps over one batch."""

    def __init__(self, guard: GuardedSteps, batch: pa.RecordBatch, positions: Indices) -> None:
        self._guard, self._batch, self._positions = guard, batch, positions
        self._errors = guard.errors

    def run(self) -> pa.RecordBatch:
        inner = self._guard.inner
        self._errors.begin_batch()
        parts = self._run_steps(inner.steps, self._batch.select(inner.base.schema.names), self._positions)
        if self._errors.policy == "null":
            parts = [*parts, self._null_rows()]
        positions, rows = _join(parts, inner.schema)
        if np.all(positions[:-1] <= positions[1:]):
            return rows
        return take_rows(rows, np.argsort(positions, kind="stable"))

    def _run_steps(self, steps: Sequence[Step], batch: pa.RecordBatch, positions: Indices) -> list[Part]:
        for index, step in enumerate(steps):
            if not batch.num_rows:
                return []
            if type(step) in (Map, FilterRows):
                positions, batch = self._call_each(step, batch, positions)
            elif isinstance(step, Filter):
                positions, batch = _filter(step, batch, positions)
            elif not (step.keeps_row_count and step.row_local):
                return self._run_rest(steps[index:], batch, positions)
            elif step.works_ahead:
                return self._load(step, steps[index + 1 :], batch, positions)
            else:
                positions, batch = self._halve(step.apply, step.schema, batch, positions)
        return [(positions, batch)]

    def _record(self, positions: Indices, error: Exception) -> bool:
        """Records the error of a row, or of one of several. Returns whether rows after it are wanted."""
        row, last = int(positions[0]), int(positions[-1])
        index = int(np.searchsorted(self._positions, row))
        details = RowError.of(row, error, *names_of_row(self._batch, index, self._guard.key))
        self._errors.add(details, error, last)
        return not self._errors.is_past_end(row)

    # ------------------------------------------------------------------ functions of rows

    def _call_each(self, step: Any, batch: pa.RecordBatch, positions: Indices) -> Part:
        """Calls the function of a step once for each row."""
        parts: list[Part] = []
        while batch.num_rows:
            calls = _Calls(step.fn if isinstance(step, Map) else step.predicate)
            try:
                rows = _calling(step, calls).apply(batch, int(positions[0]))
            except Exception as error:  # noqa: BLE001 - any error of a function of the user
                unfit = isinstance(step, Map) and not calls.raised and len(calls.results) == batch.num_rows
                good = len(calls.results) - (0 if calls.raised or unfit else 1)
                parts.append(self._replay(step, calls.results[:good], batch.slice(0, good), positions[:good]))
                if unfit or not self._record(positions[good : good + 1], error):
                    break
                batch, positions = batch.slice(good + 1), positions[good + 1 :]
            else:
                parts.append((_remaining(step, positions, calls.results), rows))
                break
        return _join(parts, step.schema)

    def _replay(self, step: Any, results: list[Any], batch: pa.RecordBatch, positions: Indices) -> Part:
        """Makes the rows of results of calls, without another call."""

        def make(part: pa.RecordBatch, offset: int) -> pa.RecordBatch:
            begin = int(np.searchsorted(positions, offset))
            left = iter(results[begin:])
            return _calling(step, lambda _: next(left)).apply(part, offset)

        if isinstance(step, Map):
            return self._halve(make, step.schema, batch, positions)
        rows = make(batch, int(positions[0])) if results else batch
        return _remaining(step, positions, results), rows

    # ------------------------------------------------------------------ other steps

    def _halve(
        self,
        make: Callable[[pa.RecordBatch, int], pa.RecordBatch],
        schema: pa.Schema,
        batch: pa.RecordBatch,
        positions: Indices,
    ) -> Part:
        """Makes a row of each row, by halves where that raises."""
        if not batch.num_rows:
            return positions, _no_rows(schema)
        try:
            return positions, make(batch, int(positions[0]))
        except Exception as error:  # noqa: BLE001 - it may be that of one row
            if _is_settled(positions, error):
                self._record(positions, error)
                return positions[:0], _no_rows(schema)
        half = batch.num_rows // 2
        first = self._halve(make, schema, batch.slice(0, half), positions[:half])
        if self._errors.is_past_end(int(positions[half])):
            return first
        return _join([first, self._halve(make, schema, batch.slice(half), positions[half:])], schema)

    def _run_rest(self, steps: Sequence[Step], batch: pa.RecordBatch, positions: Indices) -> list[Part]:
        """Runs steps that may change the number of rows."""
        if self._errors.policy != "null":
            return self._run_together(steps, batch, positions)
        # Rows between these have failed, and nulls go there.
        edges = [0, *(np.flatnonzero(np.diff(positions) > 1) + 1).tolist(), len(positions)]
        return [
            part
            for begin, end in pairwise(edges)
            for part in self._run_together(steps, batch.slice(begin, end - begin), positions[begin:end])
        ]

    def _run_together(self, steps: Sequence[Step], batch: pa.RecordBatch, positions: Indices) -> list[Part]:
        if self._errors.is_past_end(int(positions[0])):
            return []
        skipped = SkippedRows()
        try:
            parts = [(np.full(rows.num_rows, positions[0]), rows) for rows in run_chain(steps, [batch], None, skipped)]
        except Exception as error:  # noqa: BLE001 - it may be that of one row
            # A function of batches is not called again unless rows are looked for that can be left out.
            if self._errors.policy == "fail" or _is_settled(positions, error):
                self._record(positions, error)
                return []
        else:
            self._errors.skipped.add_report(*skipped.report())
            return parts
        half = batch.num_rows // 2
        first = self._run_together(steps, batch.slice(0, half), positions[:half])
        return [*first, *self._run_together(steps, batch.slice(half), positions[half:])]

    def _load(self, step: Step, rest: Sequence[Step], batch: pa.RecordBatch, positions: Indices) -> list[Part]:
        """Runs a step that works ahead, and the rest of the steps on each portion of it."""
        parts: list[Part] = []
        waiting: deque[tuple[Callable[[], pa.RecordBatch], pa.RecordBatch, Indices]] = deque()

        def finish() -> None:
            result, portion, at = waiting.popleft()
            if self._errors.is_past_end(int(at[0])):
                return
            try:
                rows = result()
            except Exception:  # noqa: BLE001 - it may be that of one row
                at, rows = self._halve(step.apply, step.schema, portion, at)
            parts.extend(self._run_steps(rest, rows, at))

        begin = 0
        with closing(step.ahead()) as ahead:
            for portion in ahead.portions(batch):
                while waiting and not ahead.room(portion.num_rows):
                    finish()
                if self._errors.is_past_end(int(positions[begin])):
                    return parts
                waiting.append((ahead.start(portion), portion, positions[begin : begin + portion.num_rows]))
                begin += portion.num_rows
            while waiting:
                finish()
        return parts

    def _null_rows(self) -> Part:
        """Returns a row of nulls for each row that failed; only its key has a value."""
        schema, names = self._guard.schema, self._batch.schema.names
        failed = np.asarray([row for row in self._positions.tolist() if row in self._errors.errors], np.int64)
        source = take_rows(self._batch, np.searchsorted(self._positions, failed))
        key = key_column(self._batch.schema, self._guard.key)
        same = key in names and key in schema.names and source.schema.field(key).type == schema.field(key).type
        rows = conform_batch(source.select([key] if key is not None and same else []), schema)
        return failed, rows


def _is_settled(positions: Indices, error: Exception) -> bool:
    """Returns whether it is known what raised an error: one row, or the machine."""
    return len(positions) == 1 or isinstance(error, OF_THE_MACHINE)


def _calling(step: Any, function: Callable[[Any], Any]) -> Step:
    """Returns a step with another function."""
    changed: Step = replace(step, **{"fn" if isinstance(step, Map) else "predicate": function})
    return changed


def _remaining(step: Any, positions: Indices, results: Sequence[Any]) -> Indices:
    """Returns the positions of the rows that a step has left."""
    return positions if isinstance(step, Map) else positions[np.asarray(results, bool)]


def _filter(step: Filter, batch: pa.RecordBatch, positions: Indices) -> Part:
    mask: Any = evaluate(step.predicate, batch)
    chosen = np.flatnonzero(mask.fill_null(False).to_numpy(zero_copy_only=False))
    return positions[chosen], filter_by_mask(batch.select(step.schema.names), mask)


def _join(parts: Sequence[Part], schema: pa.Schema) -> Part:
    some = [(positions, rows) for positions, rows in parts if rows.num_rows]
    if not some:
        return np.empty(0, np.int64), _no_rows(schema)
    return np.concatenate([positions for positions, _ in some]), joined([rows for _, rows in some])


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def _is_same_input(leaf: Node, base: Node) -> bool:
    if isinstance(leaf, Take) and isinstance(base, Take):
        return leaf.places == base.places and _is_same_input(leaf.child, base.child)
    return isinstance(leaf, Scan) and isinstance(base, Scan) and leaf.source is base.source and leaf.source.ranged


def _with_names(leaf: Node, key: str | None) -> Node:
    """Returns the input with the columns that name a row in messages."""
    if isinstance(leaf, Take):
        return replace(leaf, child=_with_names(leaf.child, key))
    assert isinstance(leaf, Scan), "checked before"
    schema = leaf.source.schema
    wanted = {*leaf.schema.names, key_column(schema, key), file_column(schema)}
    return leaf if leaf.pushdown.columns is None else leaf.pushed(columns=tuple(n for n in schema.names if n in wanted))


def check_nullable(schema: pa.Schema, key: str | None) -> None:
    """Checks that a row may be nulls but for its key.

    Raises:
        SchemaError: a column is not nullable.
    """
    strict = [field.name for field in schema if not field.nullable and field.name != key_column(schema, key)]
    if strict:
        raise SchemaError(
            f'on_error="null" needs columns that may be null, but {quoted_list(strict)} may not: declare them '
            'nullable, or use on_error="quarantine"'
        )


def guard_of(plan: Node) -> GuardedSteps | None:
    """Returns the guarded steps of a plan; None if there are none."""
    return next((node for node in nodes(plan) if isinstance(node, GuardedSteps)), None)
