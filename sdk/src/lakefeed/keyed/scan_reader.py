"""The rows of a scan: ranges of keys are read one by one, sorted and joined in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed.expr import Expr, col, conjoin, conjuncts, evaluate, paths, roots, without_root
from lakefeed.keyed.bound_values import Bound, Environment, bind, bind_condition
from lakefeed.keyed.key_lookup import KeyLookup, LookupCounts
from lakefeed.keyed.key_matching import key_arrays, match_keys
from lakefeed.keyed.key_merge import KeyMerge, adjoining
from lakefeed.keyed.key_ranges import KeyRange, layout_ranges
from lakefeed.keyed.pinned_table import PinnedTable
from lakefeed.keyed.projections import Tree
from lakefeed.keyed.table_terms import table_root, table_term
from lakefeed.ops import Filter, Project, Scan
from lakefeed.plan import Node, Pushdown
from lakefeed.plan.take_rows import filter_by_mask, take_rows, take_values
from lakefeed.run.input_keys import ABSENT, Positions
from lakefeed.run.local_runner import LocalRunner


@dataclass
class ScanMetrics:
    """Counts of what a scan has read so far."""

    rows: int = 0
    batches: int = 0
    bytes: int = 0
    seconds: float = 0.0
    row_groups: set[tuple[str, Any]] = field(default_factory=set)
    whole_tables: set[str] = field(default_factory=set)
    groups_taken: int = 0

    def count(self, batch: pa.RecordBatch) -> None:
        """Counts a batch that is given out."""
        self.rows += batch.num_rows
        self.batches += 1
        self.bytes += batch.nbytes


@dataclass(frozen=True, eq=False)
class ScanReader:
    """Reads a scan.

    Attributes:
        tables: the versions of the tables. The rows are those of the first one.
        tree: the columns.
        where: a condition; None for all rows.
    """

    tables: tuple[PinnedTable, ...]
    tree: Tree
    where: str | None
    metrics: ScanMetrics = field(default_factory=ScanMetrics)

    def __getstate__(self) -> dict[str, Any]:
        # The bound columns hold functions that cannot be pickled; they are bound again.
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def base(self) -> PinnedTable:
        """The first table."""
        return self.tables[0]

    @property
    def keys(self) -> tuple[str, ...]:
        """The key columns."""
        return self.base.keys

    @cached_property
    def environment(self) -> Environment:
        """The names that expressions may use."""
        return Environment(self.base.lake, {table.name: table.schema for table in self.tables})

    @cached_property
    def outputs(self) -> tuple[Bound, ...]:
        """The columns, bound to those of the tables."""
        return tuple(bind(name, value, self.environment) for name, value in self.tree.items())

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the scan."""
        return pa.schema([each.field for each in self.outputs])

    @cached_property
    def condition(self) -> Expr | None:
        """The condition."""
        return None if self.where is None else bind_condition(self.where, self.environment)

    @cached_property
    def _pushed(self) -> Expr | None:
        """The part of the condition that concerns the first table alone, over its own columns."""
        own, name = self.environment.schemas[self.base.name].names, table_root(self.base.name)
        parts = () if self.condition is None else conjuncts(self.condition)
        return conjoin(without_root(part, name) for part in parts if roots(part) <= {name, *own})

    @cached_property
    def _rest(self) -> Expr | None:
        own, name = self.environment.schemas[self.base.name].names, table_root(self.base.name)
        parts = () if self.condition is None else conjuncts(self.condition)
        return conjoin(part for part in parts if not roots(part) <= {name, *own})

    @cached_property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """The columns to read of each table, with its key."""
        wanted = self._columns_read
        return {
            table.name: tuple(name for name in table.schema.names if name in wanted[table.name] or name in table.keys)
            for table in self.tables
        }

    def of_keys(self) -> ScanReader:
        """Returns the reader of the key columns of the same rows."""
        return ScanReader(self.tables, self.key_tree(), self.where)

    def key_tree(self) -> Tree:
        """Returns the key columns."""
        return {key: table_term(self.base.name, col(f"`{key}`").text) for key in self.keys}

    @cached_property
    def _columns_read(self) -> dict[str, set[str]]:
        """The columns of each table that the outputs and the rest of the condition read."""
        read = frozenset(path for each in self.outputs for path in each.read)
        if self._rest is not None:
            read |= paths(self._rest)
        return self.environment.columns_read(read)

    # ------------------------------------------------------------------ ranges

    @cached_property
    def ranges(self) -> list[KeyRange]:
        """Ranges of keys that follow the layout of the largest table."""
        largest = max(self.tables, key=lambda table: table.source.count() or 0)
        return layout_ranges(largest.source, self.keys)

    @cached_property
    def _ranges_to_read(self) -> list[KeyRange]:
        """Ranges of all keys; those of one table follow the layout of the files in which a row may match."""
        if self._pushed is None or len(self.tables) > 1:
            return self.ranges
        return layout_ranges(self.base.source, self.keys, where=self._pushed)

    def ordered(self, ranges: Sequence[KeyRange] | None = None) -> Iterator[pa.RecordBatch]:
        """Yields the rows in the order of the keys; those of several ranges range by range."""
        if ranges is None and len(self.tables) == 1 and self.base.is_in_key_order:
            yield from self.unordered()
            return
        for span in adjoining(self._ranges_to_read if ranges is None else ranges):
            hull = KeyRange(span[0].begin, span[-1].end)
            with ExitStack() as stack:
                merges = [stack.enter_context(closing(self._merge(table, hull))) for table in self.tables]
                for key_range in span:
                    rows = self._range(key_range, merges)
                    if rows is not None and rows.num_rows:
                        yield rows

    def unordered(self, ranges: Sequence[KeyRange] | None = None) -> Iterator[pa.RecordBatch]:
        """Yields the rows in any order."""
        if len(self.tables) > 1:
            yield from self.ordered(ranges)
            return
        for key_range in [KeyRange()] if ranges is None else ranges:
            for batch in self._read(self.base, key_range, self._pushed):
                result = self._result({self.base.name: batch})
                if result.num_rows:
                    yield result

    def _merge(self, table: PinnedTable, span: KeyRange) -> KeyMerge:
        where = self._pushed if table is self.base else None
        merge = KeyMerge(table, self.columns[table.name], where, span)
        self.metrics.row_groups.update(fragment.key[:2] for fragment in merge.fragments)
        return merge

    def _range(self, key_range: KeyRange, merges: Sequence[KeyMerge]) -> pa.RecordBatch | None:
        base = merges[0].rows(key_range)
        if base is None:
            return None
        rows = {self.base.name: base}
        for table, merge in zip(self.tables[1:], merges[1:], strict=True):
            rows[table.name] = self._beside(base, table, merge.rows(key_range))
        return self._result(rows)

    def _beside(self, base: pa.RecordBatch, table: PinnedTable, other: pa.RecordBatch | None) -> pa.RecordBatch:
        """Returns for each row of the first table that of another one, or nulls."""
        columns = self.columns[table.name]
        if other is None:
            return _nulls(table, columns, base.num_rows)
        places = match_keys(key_arrays(base, self.keys), key_arrays(other, table.keys))
        return _at(other, places, columns)

    def _read(self, table: PinnedTable, key_range: KeyRange, where: Expr | None) -> Iterator[pa.RecordBatch]:
        hint = key_range.hint(table.schema, table.keys)
        predicate = conjoin(each for each in (where, hint) if each is not None)
        self._count_groups(table, predicate)
        plan: Node = Scan(table.source)
        plan = plan if predicate is None else Filter(plan, predicate)
        with closing(LocalRunner(table.lake.settings).batches(Project(plan, self.columns[table.name]))) as batches:
            for batch in batches:
                mask = key_range.mask(batch, table.keys)
                yield batch if mask is None else filter_by_mask(batch, mask)

    def _count_groups(self, table: PinnedTable, predicate: Expr | None) -> None:
        if predicate is None:  # they are counted when somebody asks, because that opens every file
            self.metrics.whole_tables.add(table.name)
            return
        for fragment in table.source.fragments(Pushdown(predicate=predicate)):
            self.metrics.row_groups.add(fragment.key[:2])

    def _result(self, rows: dict[str, pa.RecordBatch], aux: pa.RecordBatch | None = None) -> pa.RecordBatch:
        """Returns the columns of the scan for rows of the tables that stand side by side."""
        batch = self.environment.batch(rows, aux)
        if self._rest is not None:
            batch = filter_by_mask(batch, evaluate(self._rest, batch))
        columns = [each.evaluate(batch) for each in self.outputs]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    # ------------------------------------------------------------------ takes

    def take(self, keys: pa.RecordBatch) -> pa.RecordBatch:
        """Returns the rows of these keys, in their order and as often as they occur. Absent keys are left out."""
        base, places = self._lookup(self.base, keys)
        present = np.flatnonzero(places != ABSENT)
        if base is None or not len(present):
            return pa.RecordBatch.from_arrays([pa.array([], each.type) for each in self.schema], schema=self.schema)
        rows = {self.base.name: take_rows(base, places[present])}
        if self._pushed is not None:
            chosen = self._true_rows(rows[self.base.name])
            rows[self.base.name], present = take_rows(rows[self.base.name], chosen), present[chosen]
        wanted = take_rows(keys, present)
        others = [name for name in keys.schema.names if name not in self.keys]
        return self._result(rows | self._others(wanted), wanted.select(others) if others else None)

    def _others(self, keys: pa.RecordBatch) -> dict[str, pa.RecordBatch]:
        """Returns for each key the row of each table but the first, or nulls."""
        rows = {}
        for table in self.tables[1:]:
            other, at = self._lookup(table, keys)
            columns = self.columns[table.name]
            rows[table.name] = _nulls(table, columns, len(at)) if other is None else _at(other, at, columns)
        return rows

    def _true_rows(self, rows: pa.RecordBatch) -> Positions:
        """Returns the positions of the rows of the first table for which the condition is true."""
        assert self._pushed is not None
        read = tuple(name for name in self.base.schema.names if name in roots(self._pushed))
        stored, at = KeyLookup(self.base.source, self.keys).take(rows.select(list(self.keys)), read)
        assert stored is not None, "these rows are there"
        return true_positions(evaluate(self._pushed, take_rows(stored, at)))

    def _lookup(self, table: PinnedTable, keys: pa.RecordBatch) -> tuple[pa.RecordBatch | None, Positions]:
        counts = LookupCounts()
        rows = KeyLookup(table.source, table.keys).take(keys, self.columns[table.name], counts)
        self.metrics.groups_taken += counts.row_groups_read
        return rows

    # ------------------------------------------------------------------ rows of one file

    @cached_property
    def columns_to_derive(self) -> tuple[str, ...]:
        """The columns of the first table that `derive` reads."""
        wanted = self._columns_read[self.base.name] | (set(self.keys) if len(self.tables) > 1 else set())
        wanted |= set() if self._pushed is None else roots(self._pushed)
        return tuple(name for name in self.base.schema.names if name in wanted) or self.keys[:1]

    def derive(self, rows: pa.RecordBatch) -> tuple[Positions, pa.RecordBatch]:
        """Returns the columns of the scan for rows of the first table: the positions of the rows, and the columns.

        Rows for which the condition is not true are left out.
        """
        positions, batch = self._chosen(rows)
        columns = [each.evaluate(batch) for each in self.outputs]
        return positions, pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def chosen(self, rows: pa.RecordBatch) -> Positions:
        """Returns the positions of the rows of the first table for which the condition is true."""
        return self._chosen(rows)[0]

    def _chosen(self, rows: pa.RecordBatch) -> tuple[Positions, pa.RecordBatch]:
        positions = np.arange(rows.num_rows)
        if self._pushed is not None:
            positions = true_positions(evaluate(self._pushed, rows))
            rows = take_rows(rows, positions)
        tables = {self.base.name: rows}
        if len(self.tables) > 1:
            tables |= self._others(rows.select(list(self.keys)))
        batch = self.environment.batch(tables)
        if self._rest is not None:
            matching = true_positions(evaluate(self._rest, batch))
            positions, batch = positions[matching], take_rows(batch, matching)
        return positions, batch

    # ------------------------------------------------------------------ metrics

    def timed(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yields the batches, counted."""
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.metrics.seconds += time.perf_counter() - started
            if batch is None:
                return
            self.metrics.count(batch)
            yield batch

    def metrics_now(self) -> dict[str, Any]:
        """Returns what was read so far."""
        files = sum(len(table.source.files) for table in self.tables)
        groups = 0
        for table in self.tables:
            of_table = [fragment.key[:2] for fragment in table.source.fragments(Pushdown())]
            groups += len(of_table)
            if table.name in self.metrics.whole_tables:
                self.metrics.row_groups.update(of_table)
        read = self.metrics.groups_taken or len(self.metrics.row_groups)
        touched = len({path for path, _ in self.metrics.row_groups})
        skipped = files - touched if self.metrics.row_groups else 0
        return {
            "rows": self.metrics.rows,
            "batches": self.metrics.batches,
            "bytes": self.metrics.bytes,
            "files": files,
            "files_skipped": skipped,
            "row_groups": groups,
            "row_groups_skipped": groups - read if read else 0,
            "runs": files,
            "seconds": self.metrics.seconds,
        }


def true_positions(mask: Any) -> Positions:
    """Returns the positions at which a mask is true."""
    return np.flatnonzero(mask.fill_null(False).to_numpy(zero_copy_only=False))


def _nulls(table: PinnedTable, columns: Sequence[str], rows: int) -> pa.RecordBatch:
    fields = [table.schema.field(name).with_nullable(True) for name in columns]
    return pa.RecordBatch.from_arrays([pa.nulls(rows, each.type) for each in fields], schema=pa.schema(fields))


def _at(rows: pa.RecordBatch, places: Positions, columns: Sequence[str]) -> pa.RecordBatch:
    """Returns the rows at these positions; `ABSENT` gives nulls."""
    indices: Any = pa.array(places, mask=places == ABSENT)
    fields = [rows.schema.field(name).with_nullable(True) for name in columns]
    values = [take_values(rows.column(name), indices) for name in columns]
    return pa.RecordBatch.from_arrays(values, schema=pa.schema(fields))
