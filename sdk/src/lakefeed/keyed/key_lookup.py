"""Rows of a version of a table by their keys. Only the row groups that hold a key are decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed.errors import DuplicateKeyError
from lakefeed.expr import Expr
from lakefeed.expr.value_ranges import between, has_order
from lakefeed.keyed.key_matching import key_arrays, key_codes, show_keys
from lakefeed.plan import Fragment, Pushdown
from lakefeed.plan.take_rows import take_rows, take_sorted, take_values
from lakefeed.run.input_keys import ABSENT, InputKeys, Positions, comparable
from lakefeed.run.prefetch import read_ahead
from lakefeed.run.rebatch import joined
from lakefeed.sources.iceberg_source import IcebergSource


@dataclass
class LookupCounts:
    """The row groups that a lookup considered, and those of which it read the other columns."""

    row_groups: int = 0
    row_groups_read: int = 0
    rows: int = 0


def key_hint(schema: pa.Schema, key: str, values: Any) -> Expr | None:
    """Returns a condition that is true for each row with one of these values in its first key column."""
    kind = schema.field(key).type
    return between(key, kind, comparable(values)) if has_order(kind) else None


class WantedKeys:
    """Keys that are looked for among those of rows. They may repeat. A null matches nothing."""

    def __init__(self, keys: pa.RecordBatch, names: Sequence[str]) -> None:
        arrays, self._first = key_arrays(keys, names), names[0]
        self._types = [column.type for column in arrays]
        valid = np.flatnonzero(_are_valid(arrays))
        if len(valid) < keys.num_rows:
            arrays = [take_values(column, valid) for column in arrays]
        (codes,) = key_codes(arrays)
        _, first, numbers = np.unique(codes, return_index=True, return_inverse=True)
        self._index = InputKeys([take_values(column, first) for column in arrays])
        self.count = len(first)
        self.numbers = np.full(keys.num_rows, ABSENT, np.int64)
        """For each key the number of it among the distinct ones, or `ABSENT` for a null."""
        self.numbers[valid] = numbers

    def find(self, columns: Sequence[Any]) -> tuple[Positions, Positions]:
        """Returns the positions of rows that have one of the keys, ascending, and the numbers of these keys."""
        pairs = zip(columns, self._types, strict=True)
        return self._index.find([column if column.type == kind else column.cast(kind) for column, kind in pairs])

    def fragments(self, source: IcebergSource, hint: Expr | None) -> Iterator[Fragment]:
        """Yields the fragments that may hold one of the keys, by the statistics of the first key column.

        Files are opened only if their manifest says that they may hold one.

        Args:
            source: the rows.
            hint: a condition that is true for each row with one of the keys.
        """
        if not self.count:
            return
        for index, file in source.matching_files(hint):
            if not self._index.may_be_in(source.file_bounds(file, self._first)):
                continue
            bounds = source.group_bounds(file, self._first)
            for fragment in source.fragments_of_file(index, hint):
                if self._index.may_be_in(bounds[fragment.key[1]]):
                    yield fragment


@dataclass(frozen=True)
class Hit:
    """The rows of a row group with one of the wanted keys, and the numbers of these keys."""

    rows: pa.RecordBatch
    numbers: Positions


@dataclass(frozen=True)
class KeyLookup:
    """Finds rows of one version by their keys.

    Attributes:
        source: the version.
        keys: the names of the key columns.
    """

    source: IcebergSource
    keys: tuple[str, ...]

    def take(
        self, wanted: pa.RecordBatch, columns: Sequence[str], counts: LookupCounts | None = None
    ) -> tuple[pa.RecordBatch | None, Positions]:
        """Returns rows of ``columns``, and for each wanted key the position of its row, or `ABSENT`.

        Args:
            wanted: the keys; they may repeat and come in any order.
            columns: the columns to read.
            counts: counts what was read.

        Raises:
            DuplicateKeyError: the table has two rows of one of the keys.
        """
        keys = WantedKeys(wanted, self.keys)
        positions = np.full(keys.count + 1, ABSENT, np.int64)  # the last one is that of nulls
        parts: list[pa.RecordBatch] = []
        rows = 0
        for hit in self._hits(keys, wanted, tuple(columns), LookupCounts() if counts is None else counts):
            repeated = hit.numbers[positions[hit.numbers] != ABSENT]
            if len(repeated):
                at = np.flatnonzero(np.isin(keys.numbers, repeated))
                raise doubled_keys(self.source.name, show_keys(wanted, self.keys, at))
            positions[hit.numbers] = rows + np.arange(hit.rows.num_rows)
            rows += hit.rows.num_rows
            parts.append(hit.rows)
        return (joined(parts) if parts else None), positions[keys.numbers]

    def _hits(
        self, keys: WantedKeys, wanted: pa.RecordBatch, columns: tuple[str, ...], counts: LookupCounts
    ) -> Iterator[Hit]:
        """Yields the hits in the row groups, which are read ahead."""
        hint = key_hint(self.source.schema, self.keys[0], wanted.column(self.keys[0]))
        fragments = keys.fragments(self.source, hint)
        look = partial(self._look, keys, columns)
        with closing(read_ahead(fragments, look, self.source.lake.settings.read, lambda each: each.size)) as hits:
            for hit in hits:
                counts.row_groups += 1
                if hit is not None:
                    counts.row_groups_read += 1
                    counts.rows += hit.rows.num_rows
                    yield hit

    def _look(self, keys: WantedKeys, columns: tuple[str, ...], fragment: Fragment) -> Hit | None:
        """Returns the rows of a fragment that have one of the keys; None if it has none."""
        present = joined(list(self.source.read(fragment, Pushdown(self.keys))))
        positions, numbers = keys.find(key_arrays(present, self.keys))
        if not len(positions):
            return None
        values, times = np.unique(numbers, return_counts=True)
        if (times > 1).any():
            repeated = positions[np.isin(numbers, values[times > 1])]
            raise doubled_keys(self.source.name, show_keys(present, self.keys, repeated))
        return Hit(self._rows(fragment, present, positions, columns), numbers)

    def _rows(
        self, fragment: Fragment, present: pa.RecordBatch, positions: Positions, columns: tuple[str, ...]
    ) -> pa.RecordBatch:
        """Returns the columns of rows of a fragment, of which the keys are read."""
        rows = take_rows(present, positions)
        arrays = dict(zip(rows.schema, rows.columns, strict=True))
        others = tuple(name for name in columns if name not in self.keys)
        if others:
            first, last = int(positions[0]), int(positions[-1])
            inside = replace(fragment, start=first, stop=last + 1)
            rest = joined(list(take_sorted(self.source.read(inside, Pushdown(others)), positions - first)))
            arrays |= dict(zip(rest.schema, rest.columns, strict=True))
        by_name = {field.name: (field, array) for field, array in arrays.items()}
        chosen = [by_name[name] for name in columns]
        return pa.RecordBatch.from_arrays(
            [array for _, array in chosen], schema=pa.schema([field for field, _ in chosen])
        )


def _are_valid(columns: Sequence[Any]) -> NDArray[np.bool_]:
    valid = np.ones(len(columns[0]), np.bool_)
    for column in columns:
        if column.null_count:
            valid &= column.is_valid().to_numpy(zero_copy_only=False)
    return valid


def doubled_keys(name: str, shown: str) -> DuplicateKeyError:
    """Returns the error for a table that another program gave two rows of one key."""
    return DuplicateKeyError(
        f"{name!r} has two rows of one key: {shown}. Another program appended them. Write the key again, which "
        "replaces both rows, delete it with delete_keys, or call Table.compact(), which keeps the later row"
    )
