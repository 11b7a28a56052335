"""Upsert: matches rows of files with rows of the input by their keys, and replaces those that differ.

An input row replaces the row, or rows, of its key; columns that the input lacks keep their values. An input row that
equals the stored row in all of its columns changes nothing. New and changed rows come last in the row order, in the
order of the input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc
from lakefeed.catalog.compatibility import cast, cast_to_storage, check_compatible
from lakefeed.catalog.edit_commit import Draft
from lakefeed.catalog.schema import storage_schema
from lakefeed.catalog.version_files import DataFileRef
from lakefeed.config import Settings
from lakefeed.errors import ColumnNotFoundError, DuplicateKeyError, InvalidArgumentError, SchemaError, TypeMismatchError
from lakefeed.expr import Column, Expr, In, Literal
from lakefeed.plan import Node
from lakefeed.plan.equality import equal_values
from lakefeed.plan.take_rows import take_rows, take_values
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.rebatch import joined
from lakefeed.run.spill import spill
from lakefeed.sources.iceberg_source import IcebergSource
from lakefeed.sql import QueryTable, run_query

Places = NDArray[np.int64]

KEYS_IN_A_FILTER = 1_000
SHOWN_KEYS = 5
INPUT_ROWS = 16_384
PAIR = pa.schema([("file", pa.int64()), ("place", pa.int64()), ("given", pa.int64())])
TWICE = pa.schema([("first", pa.int64()), ("times", pa.int64())])


@dataclass(frozen=True)
class Match:
    """The rows of one file whose keys are given: their places, and the places of those keys in the input."""

    places: Places
    given: Places

    def only(self, mask: NDArray[np.bool_]) -> Match:
        return Match(self.places[mask], self.given[mask])


@dataclass(eq=False)
class Upsert:
    """One upsert: the input, read once, and what is known of files, which never change."""

    settings: Settings
    plan: Node
    keys: tuple[str, ...]
    target: pa.Schema
    _matches: dict[str, Match] = field(default_factory=dict)
    _differing: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, plan: Node, keys: tuple[str, ...], target: pa.Schema) -> Upsert:
        """The upsert, if the input's columns fit and the keys can be keys.

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
        return cls(settings, plan, keys, target)

    def apply(self, draft: Draft, source: IcebergSource | None) -> None:
        """Writes into the draft what the upsert makes of the rows of ``source`` (None: there are none yet)."""
        check_compatible(self.plan.schema, draft.schema)
        found: dict[str, Match] = {}
        if source is not None and self.rows.num_rows:
            found = self._matching(source)
        changed = self._changed(source, found) if source is not None else {}
        for file in draft.files:
            if file.path in changed:
                assert source is not None, "a file without a version"
                draft.drop(file, changed[file.path].places, partial(source.read_file, file))
        self._add(draft, source, found, changed)

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
        columns = self._key_columns
        query = (
            f"SELECT min(place) AS first, count(*) AS times FROM given GROUP BY {columns} "
            "HAVING count(*) > 1 ORDER BY 1"
        )
        twice = pa.Table.from_batches(run_query(self.settings, query, {"given": self._given(table)}, TWICE), TWICE)
        if twice.num_rows:
            shown = self._given_at(twice["first"].slice(0, SHOWN_KEYS).to_numpy(), self.keys, table).to_pylist()
            keys = ", ".join(str(key) for key in shown)
            more = "" if twice.num_rows <= SHOWN_KEYS else f" and {twice.num_rows - SHOWN_KEYS} more"
            raise DuplicateKeyError(
                f"the rows to upsert have keys more than once: {keys}{more}. Which of them is meant cannot be told; "
                "keep one row of each"
            )

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.plan.schema.names)

    @property
    def _key_columns(self) -> str:
        return ", ".join(f"k{index}" for index in range(len(self.keys)))

    def _given(self, table: pa.Table) -> QueryTable:
        schema = self._key_schema.append(pa.field("place", pa.int64()))

        def batches() -> Iterator[pa.RecordBatch]:
            place = 0
            for batch in table.select(list(self.keys)).to_batches(max_chunksize=INPUT_ROWS):
                places = pa.array(np.arange(place, place + batch.num_rows))
                place += batch.num_rows
                yield pa.RecordBatch.from_arrays([*self._stored_keys(batch), places], schema=schema)

        return QueryTable(schema, batches)

    @cached_property
    def _declared_keys(self) -> pa.Schema:
        return pa.schema([self.target.field(key) for key in self.keys])

    @cached_property
    def _key_schema(self) -> pa.Schema:
        return pa.schema([pa.field(f"k{i}", f.type) for i, f in enumerate(storage_schema(self._declared_keys))])

    def _stored_keys(self, batch: pa.RecordBatch) -> list[pa.Array[Any]]:
        return cast_to_storage(batch, self._declared_keys, storage_schema(self._declared_keys)).columns

    def _given_at(self, places: Places, columns: tuple[str, ...], table: pa.Table | None = None) -> pa.RecordBatch:
        """The rows of the input (at least one) at these places, in that order."""
        order = np.argsort(places, kind="stable")
        found, start = [], 0
        for batch in (self.rows if table is None else table).select(list(columns)).to_batches():
            low, high = np.searchsorted(places[order], [start, start + batch.num_rows])
            if low < high:
                found.append(take_rows(batch, places[order][low:high] - start))
            start += batch.num_rows
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return take_rows(joined(found), back)

    # ------------------------------------------------------------------ rows of equal keys

    def _matching(self, source: IcebergSource) -> dict[str, Match]:
        """The matches in the files that there are now; files that were looked into already are not read again."""
        candidates = [file for _, file in source.matching_files(self._hint)]
        fresh = [file for file in candidates if file.path not in self._matches]
        if fresh:
            self._look_into(source, fresh)
        found = {file.path: self._matches[file.path] for file in candidates}
        return {path: match for path, match in found.items() if len(match.places)}

    def _look_into(self, source: IcebergSource, files: list[DataFileRef]) -> None:
        schema = self._key_schema.append(pa.field("file", pa.int64())).append(pa.field("place", pa.int64()))

        def batches() -> Iterator[pa.RecordBatch]:
            for index, file in enumerate(files):
                for place, batch in source.numbered_batches(file, self.keys, self._hint):
                    numbers = np.full(batch.num_rows, index, np.int64)
                    places = np.arange(place, place + batch.num_rows)
                    columns = [*self._stored_keys(batch), pa.array(numbers), pa.array(places)]
                    yield pa.RecordBatch.from_arrays(columns, schema=schema)

        on = " AND ".join(f"there.k{i} = given.k{i}" for i in range(len(self.keys)))
        query = (
            "SELECT file, there.place AS place, given.place AS given FROM there "
            f"JOIN given ON {on} ORDER BY file, there.place"
        )
        tables = {"there": QueryTable(schema, batches), "given": self._given(self.rows)}
        pairs = pa.Table.from_batches(run_query(self.settings, query, tables, PAIR), PAIR)
        file, place, given = (pairs[name].to_numpy() for name in PAIR.names)
        for index, one in enumerate(files):
            self._matches[one.path] = Match(place, given).only(file == index)

    @cached_property
    def _hint(self) -> Expr | None:
        """Returns a filter that skips files and row groups without any of the keys; None for too many keys."""
        declared = self._declared_keys.field(0)
        if self.rows.num_rows > KEYS_IN_A_FILTER or not _in_filters(declared.type):
            return None
        values = cast(joined(self.rows.select([self.keys[0]]).to_batches()), pa.schema([declared]))
        distinct: set[Any] = set(values.column(0).to_pylist())
        literals = tuple(Literal(value, declared.type) for value in sorted(distinct))
        return In(Column((self.keys[0],), declared.type), literals)

    # ------------------------------------------------------------------ rows that differ

    def _changed(self, source: IcebergSource, found: dict[str, Match]) -> dict[str, Match]:
        """Of the matches, those of which a column differs; a key that several rows have always counts as changed."""
        given = [np.empty(0, np.int64), *(match.given for match in found.values())]
        values, times = np.unique(np.concatenate(given), return_counts=True)
        changed = {}
        for file in source.files:
            if file.path in found:
                match = found[file.path]
                if file.path not in self._differing:
                    self._differing[file.path] = self._differs(source, file, match)
                changed[file.path] = match.only(self._differing[file.path] | np.isin(match.given, values[times > 1]))
        return {path: match for path, match in changed.items() if len(match.places)}

    def _differs(self, source: IcebergSource, file: DataFileRef, match: Match) -> NDArray[np.bool_]:
        fields = [field for field in self.target if field.name in self._names]
        declared = pa.schema(fields)
        kept = storage_schema(declared)
        old = cast_to_storage(_rows_at(source, file, match.places, tuple(declared.names)), declared, kept)
        new = cast_to_storage(self._given_at(match.given, tuple(declared.names)), declared, kept)
        differs = np.zeros(len(match.places), np.bool_)
        for before, after in zip(old.columns, new.columns, strict=True):
            differs |= ~equal_values(before, after)
        return differs

    # ------------------------------------------------------------------ rows that come in

    def _add(
        self, draft: Draft, source: IcebergSource | None, found: dict[str, Match], changed: dict[str, Match]
    ) -> None:
        rows = self.rows
        comes = np.ones(rows.num_rows, np.bool_)
        for match in found.values():
            comes[match.given] = False
        for match in changed.values():
            comes[match.given] = True
        if not comes.any():
            return
        key = hashlib.sha256(comes.tobytes() + "\n".join(sorted(changed)).encode()).digest()
        draft.add(key, lambda: self._coming(source, comes, changed, draft.schema))

    def _coming(
        self, source: IcebergSource | None, comes: NDArray[np.bool_], changed: dict[str, Match], target: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        missing = tuple(name for name in target.names if name not in self._names)
        patch, row = self._values_kept(source, changed, missing) if missing else (None, comes)
        start = 0
        for batch in self.rows.to_batches(max_chunksize=INPUT_ROWS):
            stop = start + batch.num_rows
            here = np.flatnonzero(comes[start:stop])
            coming = take_rows(batch, here)
            if patch is not None and len(here):
                at = row[start:stop][here]
                indices: Any = pa.array(at, mask=at < 0)
                kept = [take_values(patch.column(name), indices) for name in missing]
                fields = [*coming.schema, *(patch.schema.field(name) for name in missing)]
                coming = pa.RecordBatch.from_arrays([*coming.columns, *kept], schema=pa.schema(fields))
            start = stop
            yield coming

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
                parts.append(_rows_at(source, file, match.places, missing))
                row[match.given] = np.arange(count, count + len(match.places))
                count += len(match.places)
        return joined(parts), row


def _rows_at(source: IcebergSource, file: DataFileRef, places: Places, columns: tuple[str, ...]) -> pa.RecordBatch:
    """The rows of a file at these places (sorted, at least one), in the order of ``columns``."""
    found = []
    for place, batch in source.numbered_batches(file, columns):
        low, high = np.searchsorted(places, [place, place + batch.num_rows])
        if low < high:
            found.append(take_rows(batch, places[low:high] - place))
    return joined(found).select(list(columns))


def _check_key(column: pa.Field[Any]) -> None:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind) or pa.types.is_floating(kind):
        raise TypeMismatchError(
            f"column {column.name!r} is {column.type} and cannot be a key; keys are whole numbers, text, bytes, dates "
            "and times"
        )


def _in_filters(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
