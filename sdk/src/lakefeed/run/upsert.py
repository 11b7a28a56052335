"""Upsert: matches rows of files with rows of the input by their keys, and replaces those that differ.

An input row replaces the row, or rows, of its key; columns that the input lacks keep their values. An input row that
equals the stored row in all of its columns changes nothing. New and changed rows come last in the row order, in the
order of the input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc
from lakefeed.catalog.compatibility import cast, cast_to_storage, check_compatible
from lakefeed.catalog.delete_files import deleted_positions
from lakefeed.catalog.edit_commit import Draft
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.schema import storage_schema
from lakefeed.catalog.table_key import key_columns
from lakefeed.catalog.table_rows import write_rows, write_sorted_rows
from lakefeed.config import Settings
from lakefeed.errors import ColumnNotFoundError, DuplicateKeyError, InvalidArgumentError, SchemaError, TypeMismatchError
from lakefeed.expr import Expr
from lakefeed.expr.value_ranges import between, has_order
from lakefeed.plan import Node
from lakefeed.plan.equality import equal_values
from lakefeed.plan.take_rows import take_rows, take_values
from lakefeed.run.input_keys import InputKeys, has_kernels
from lakefeed.run.key_join import KeyJoin
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.rebatch import joined
from lakefeed.run.spill import spill
from lakefeed.sources.iceberg_source import IcebergSource

Places = NDArray[np.int64]

KEYS_IN_MEMORY = 4_000_000
"""Up to so many keys are matched in memory; more are joined out of core."""
SHOWN_KEYS = 5
INPUT_ROWS = 16_384
MATCHED_ROWS = 262_144
"""Rows of a file whose keys are matched at a time."""


@dataclass(frozen=True)
class Match:
    """The rows of one file whose keys are given: their places, and the places of those keys in the input."""

    places: Places
    given: Places

    def only(self, mask: NDArray[np.bool_]) -> Match:
        return Match(self.places[mask], self.given[mask])


@dataclass(eq=False)
class Upsert:
    """One upsert: the input, read once, and what is known of files, which never change.

    ``compare``: rows that equal the stored ones are left alone. Otherwise each row of a given key is replaced, without
    a look at its other columns.
    """

    settings: Settings
    plan: Node
    keys: tuple[str, ...]
    target: pa.Schema
    compare: bool = True
    _matches: dict[str, Match] = field(default_factory=dict)
    _differing: dict[DataFileRef, NDArray[np.bool_]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, settings: Settings, plan: Node, keys: tuple[str, ...], target: pa.Schema, compare: bool = True
    ) -> Upsert:
        """Returns the upsert, if the input's columns fit and the keys can be keys.

        Raises:
            ColumnNotFoundError, SchemaError, TypeMismatchError, InvalidArgumentError: with the column.
        """
        if not keys or len(set(keys)) < len(keys):
            raise InvalidArgumentError(f"keys={list(keys)}: name one or several different columns")
        for schema, where in ((plan.schema, "the rows to upsert"), (target, "the dataset")):
            missing = [key for key in keys if key not in schema.names]
            if missing:
                raise ColumnNotFoundError.of(missing, schema.names, where)
        check_compatible(plan.schema, target)
        for key in keys:
            _check_key(target.field(key))
        return cls(settings, plan, keys, target, compare)

    def apply(self, draft: Draft, source: IcebergSource | None) -> None:
        """Writes into the draft what the upsert makes of the rows of ``source`` (None: there are none yet)."""
        check_compatible(self.plan.schema, draft.schema)
        matches: dict[str, Match] = {}
        if source is not None and self.rows.num_rows:
            matches = self._matching(source)
        changed = self._changed(source, matches, draft) if source is not None else {}
        for file in draft.files:
            if file.path in changed:
                assert source is not None, "a file without a version"
                draft.drop(file, changed[file.path].places, partial(source.read_file, file))
        self._add(draft, source, matches, changed)

    # ------------------------------------------------------------------ the input

    @cached_property
    def rows(self) -> pa.Table:
        """The input, on local disk.

        Raises:
            DuplicateKeyError: two rows of one key.
            SchemaError: a key that is null.
        """
        with closing(LocalRunner(self.settings).batches(self.plan)) as batches:
            table = spill(batches, self.plan.schema, self.settings.cache / "spill").table
        for key in self.keys:
            nulls = table[key].is_null()
            if table[key].null_count:
                raise SchemaError(
                    f"key column {key!r} is null in row {pc.index(nulls, True).as_py()}: a key tells which row is "
                    "meant; leave rows without one out"
                )
        self._check_distinct(table)
        return table

    def _check_distinct(self, table: pa.Table) -> None:
        repeated = self._index_of(table).repeated()
        if len(repeated):
            shown = self.given_rows(repeated[:SHOWN_KEYS], self.keys, table).to_pylist()
            keys = ", ".join(str(key) for key in shown)
            more = "" if len(repeated) <= SHOWN_KEYS else f" and {len(repeated) - SHOWN_KEYS} more"
            raise DuplicateKeyError(
                f"the rows to upsert have keys more than once: {keys}{more}. Which of them is meant cannot be told; "
                "keep one row of each"
            )

    @cached_property
    def _index(self) -> InputKeys | KeyJoin:
        """The keys of the input."""
        return self._index_of(self.rows)

    def _index_of(self, table: pa.Table) -> InputKeys | KeyJoin:
        stored = storage_schema(self._declared_keys)

        def given() -> Iterator[tuple[int, list[pa.Array[Any]]]]:
            position = 0
            for batch in table.select(list(self.keys)).to_batches(max_chunksize=INPUT_ROWS):
                yield position, self._stored_keys(batch)
                position += batch.num_rows

        if table.num_rows > KEYS_IN_MEMORY or not all(map(has_kernels, stored.types)):
            return KeyJoin(self.settings, tuple(stored.types), given)
        parts = [columns for _, columns in given()]
        return InputKeys(
            [pa.concat_arrays([pa.array([], f.type), *(p[i] for p in parts)]) for i, f in enumerate(stored)]
        )

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.plan.schema.names)

    @cached_property
    def _declared_keys(self) -> pa.Schema:
        return pa.schema([self.target.field(key) for key in self.keys])

    def _stored_keys(self, batch: pa.RecordBatch) -> list[pa.Array[Any]]:
        return cast_to_storage(batch, self._declared_keys, storage_schema(self._declared_keys)).columns

    def given_rows(self, places: Places, columns: tuple[str, ...], table: pa.Table | None = None) -> pa.RecordBatch:
        """The rows of the input (at least one) at these places, in that order."""
        order = np.argsort(places, kind="stable")
        matches, start = [], 0
        for batch in (self.rows if table is None else table).select(list(columns)).to_batches():
            low, high = np.searchsorted(places[order], [start, start + batch.num_rows])
            if low < high:
                matches.append(take_rows(batch, places[order][low:high] - start))
            start += batch.num_rows
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return take_rows(joined(matches), back)

    # ------------------------------------------------------------------ rows of equal keys

    def _matching(self, source: IcebergSource) -> dict[str, Match]:
        """Returns the matches in the files that there are now, without rows that are deleted.

        The keys of files that were looked into already are not read again.
        """
        matches = {}
        for _, file in source.matching_files(self._hint):
            if file.path not in self._matches:
                self._matches[file.path] = self.look_into(source, file)
            match = self._matches[file.path]
            if file.has_deletes and len(match.places):
                deleted = deleted_positions(source.table, file.path, file.deletes)
                match = match.only(np.isin(match.places, deleted, invert=True))
            if len(match.places):
                matches[file.path] = match
        return matches

    def look_into(self, source: IcebergSource, file: DataFileRef) -> Match:
        """Reads the keys of the row groups that may hold a key of the input.

        The file is not opened if its manifest says that it holds none.
        """
        index = self._index
        if isinstance(index, InputKeys) and not index.may_be_in(source.file_bounds(file, self.keys[0])):
            return Match(np.empty(0, np.int64), np.empty(0, np.int64))
        bounds = source.group_bounds(file, self.keys[0])
        if isinstance(index, KeyJoin):
            return Match(*index.find(lambda: self._keys_of(source, file, None)))
        groups = frozenset(group for group, each in enumerate(bounds) if index.may_be_in(each))
        pairs = []
        for position, columns in self._keys_of(source, file, groups):
            places, given = index.find(columns)
            pairs.append((places + position, given))
        if not pairs:
            return Match(np.empty(0, np.int64), np.empty(0, np.int64))
        return Match(*(np.concatenate(side) for side in zip(*pairs, strict=True)))

    def given_keys(self, batches: Iterable[pa.RecordBatch]) -> Places:
        """Returns the positions, in the input, of the keys of other rows."""
        index = self._index

        def keys() -> Iterator[tuple[int, list[pa.Array[Any]]]]:
            position = 0
            for batch in batches:
                yield position, self._stored_keys(batch)
                position += batch.num_rows

        if isinstance(index, KeyJoin):
            return np.asarray(index.find(keys)[1])
        return np.concatenate([np.empty(0, np.int64), *(index.find(columns)[1] for _, columns in keys())])

    def _keys_of(
        self, source: IcebergSource, file: DataFileRef, groups: frozenset[int] | None
    ) -> Iterator[tuple[int, list[pa.Array[Any]]]]:
        """Yields the keys of row groups of a file, each batch with the position of its first row."""
        held: list[pa.RecordBatch] = []
        first = rows = 0
        for position, batch in source.numbered_batches(file, self.keys, groups=groups):
            if held and (position != first + rows or rows >= MATCHED_ROWS):
                yield first, self._stored_keys(joined(held))
                held = []
            if not held:
                first, rows = position, 0
            held.append(batch)
            rows += batch.num_rows
        if held:
            yield first, self._stored_keys(joined(held))

    @cached_property
    def _hint(self) -> Expr | None:
        """Returns a filter that skips files without any of the keys, by the range of the first key column."""
        declared = self._declared_keys.field(0)
        if not self.rows.num_rows or not has_order(declared.type):
            return None
        values = cast(joined(self.rows.select([self.keys[0]]).to_batches()), pa.schema([declared])).column(0)
        return between(declared.name, declared.type, values)

    # ------------------------------------------------------------------ rows that differ

    def _changed(self, source: IcebergSource, matches: dict[str, Match], draft: Draft) -> dict[str, Match]:
        """Returns the matches of which a column differs. A key that several rows have always counts as changed."""
        given = [np.empty(0, np.int64), *(match.given for match in matches.values())]
        values, times = np.unique(np.concatenate(given), return_counts=True)
        if (times > 1).any():
            draft.allow_equal_rows()
        if not self.compare:
            return matches
        changed = {}
        for file in source.files:
            if file.path in matches:
                match = matches[file.path]
                if file not in self._differing:
                    self._differing[file] = self._differs(source, file, match)
                changed[file.path] = match.only(self._differing[file] | np.isin(match.given, values[times > 1]))
        return {path: match for path, match in changed.items() if len(match.places)}

    def _differs(self, source: IcebergSource, file: DataFileRef, match: Match) -> NDArray[np.bool_]:
        fields = [field for field in self.target if field.name in self._names]
        declared = pa.schema(fields)
        stored = storage_schema(declared)
        old = cast_to_storage(rows_at(source, file, match.places, tuple(declared.names)), declared, stored)
        new = cast_to_storage(self.given_rows(match.given, tuple(declared.names)), declared, stored)
        differs = np.zeros(len(match.places), np.bool_)
        for before, after in zip(old.columns, new.columns, strict=True):
            differs |= ~equal_values(before, after)
        return differs

    # ------------------------------------------------------------------ rows that come in

    def _add(
        self, draft: Draft, source: IcebergSource | None, matches: dict[str, Match], changed: dict[str, Match]
    ) -> None:
        rows = self.rows
        comes = np.ones(rows.num_rows, np.bool_)
        for match in matches.values():
            comes[match.given] = False
        for match in changed.values():
            comes[match.given] = True
        if not comes.any():
            return
        key = hashlib.sha256(comes.tobytes() + "\n".join(sorted(changed)).encode()).digest()
        in_order = key_columns(draft.table) == self.keys
        write = write_sorted_rows if in_order else write_rows
        draft.add(key, lambda: self._coming(source, comes, changed, draft.schema, in_order), write)

    def _coming(
        self,
        source: IcebergSource | None,
        comes: NDArray[np.bool_],
        changed: dict[str, Match],
        target: pa.Schema,
        in_order: bool,
    ) -> Iterator[pa.RecordBatch]:
        """Yields the rows that come in, in the order of the input, or of the key."""
        missing = tuple(name for name in target.names if name not in self._names)
        patch, row = self._values_kept(source, changed, missing) if missing else (None, comes)
        for places, coming in self._rows_in_key_order(comes) if in_order else self._rows_in_order(comes):
            if patch is not None and len(places):
                at = row[places]
                indices: Any = pa.array(at, mask=at < 0)
                other_columns = [take_values(patch.column(name), indices) for name in missing]
                fields = [*coming.schema, *(patch.schema.field(name) for name in missing)]
                coming = pa.RecordBatch.from_arrays([*coming.columns, *other_columns], schema=pa.schema(fields))
            yield coming

    def _rows_in_order(self, comes: NDArray[np.bool_]) -> Iterator[tuple[Places, pa.RecordBatch]]:
        start = 0
        for batch in self.rows.to_batches(max_chunksize=INPUT_ROWS):
            here = np.flatnonzero(comes[start : start + batch.num_rows])
            yield here + start, take_rows(batch, here)
            start += batch.num_rows

    def _rows_in_key_order(self, comes: NDArray[np.bool_]) -> Iterator[tuple[Places, pa.RecordBatch]]:
        index = self._index
        order = index.sorted_positions() if isinstance(index, InputKeys) else self._order_by_join()
        order = order[comes[order]]
        for start in range(0, len(order), INPUT_ROWS):
            places = order[start : start + INPUT_ROWS]
            yield places, self.given_rows(places, tuple(self.plan.schema.names))

    def _order_by_join(self) -> Places:
        parts = [self._stored_keys(batch) for batch in self.rows.select(list(self.keys)).to_batches()]
        return InputKeys([pa.concat_arrays(column) for column in zip(*parts, strict=True)]).sorted_positions()

    def _values_kept(
        self, source: IcebergSource | None, changed: dict[str, Match], missing: tuple[str, ...]
    ) -> tuple[pa.RecordBatch | None, Places]:
        """The values of the columns that the input lacks, and for each row of the input which of them is its own."""
        row = np.full(self.rows.num_rows, -1, np.int64)
        if source is None or not changed:
            return None, row
        parts, count = [], 0
        for file in source.files:
            if file.path in changed:
                match = changed[file.path]
                parts.append(rows_at(source, file, match.places, missing))
                row[match.given] = np.arange(count, count + len(match.places))
                count += len(match.places)
        return joined(parts), row


def rows_at(source: IcebergSource, file: DataFileRef, places: Places, columns: tuple[str, ...]) -> pa.RecordBatch:
    """Returns the rows of a file at these places (sorted, at least one), in the order of ``columns``."""
    matches = []
    for position, batch in source.numbered_batches(file, columns, groups=source.groups_of(file, places)):
        low, high = np.searchsorted(places, [position, position + batch.num_rows])
        if low < high:
            matches.append(take_rows(batch, places[low:high] - position))
    return joined(matches).select(list(columns))


def _check_key(column: pa.Field[Any]) -> None:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind) or pa.types.is_floating(kind):
        raise TypeMismatchError(
            f"column {column.name!r} is {column.type} and cannot be a key; keys are whole numbers, text, bytes, dates "
            "and times"
        )
