"""The commit of a transaction: all its writes and deletes as one edit, one snapshot.

Rows are matched with the newest version at each attempt, so writers that race on one key make one row of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table

from lakefeed.catalog.column_decisions import ColumnDecision
from lakefeed.catalog.column_union import is_open_struct, leaf_paths, united_field
from lakefeed.catalog.edit_commit import Draft
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.table_key import key_columns
from lakefeed.catalog.table_rows import RowWriter, write_rows
from lakefeed.config import Settings
from lakefeed.errors import CommitConflictError, quoted_list
from lakefeed.keyed.column_operations import StagedColumns
from lakefeed.keyed.key_lookup import KeyLookup, WantedKeys, key_hint
from lakefeed.keyed.key_matching import key_arrays, key_codes, one_batch
from lakefeed.keyed.staged_upsert import StagedUpsert
from lakefeed.keyed.transaction_operations import Operation
from lakefeed.ops import Scan
from lakefeed.plan.take_rows import take_rows, take_values
from lakefeed.run.input_keys import ABSENT, Positions
from lakefeed.run.key_compaction import merge_files
from lakefeed.run.row_edits import newest
from lakefeed.run.upsert import Upsert
from lakefeed.sources.iceberg_source import IcebergSource
from lakefeed.sources.memory_source import MemorySource

Removed = list[tuple[DataFileRef, list[Positions], Callable[[], Iterable[pa.RecordBatch]]]]


class GatheredDrops:
    """A draft in which rows of one file may be dropped several times; the file is changed once.

    ``part`` tells the rows that are added from those of other parts of the commit.
    """

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self.part: Hashable = None
        self._dropped: dict[str, tuple[DataFileRef, list[Positions], Callable[[], Iterable[pa.RecordBatch]]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._draft, name)

    def drop(self, file: DataFileRef, positions: Positions, rows: Callable[[], Iterable[pa.RecordBatch]]) -> None:
        """Removes rows of a file when the drops are passed on."""
        self._dropped.setdefault(file.path, (file, [], rows))[1].append(positions)

    def add(
        self, key: Hashable, batches: Callable[[], Iterable[pa.RecordBatch]], write: RowWriter = write_rows
    ) -> None:
        """Adds rows at the end."""
        self._draft.add((self.part, key), batches, write)

    def pass_on(self) -> None:
        """Removes the gathered rows."""
        for file, parts, rows in self._dropped.values():
            self._draft.drop(file, np.unique(np.concatenate(parts)), rows)


@dataclass(eq=False)
class KeyedCommit:
    """The changes of one transaction.

    Attributes:
        settings: the settings of the lake.
        name: the name of the table.
        keys: the key columns.
        writes: the rows to write, each sorted by key and without repeated keys; for one key, different columns.
        deletes: the keys to delete, in the same way.
        dropped: the paths of the columns to drop.
        compare: leaves a row alone that equals the stored one.
        compact: merges all files that are there.
        staged: the operations of writes that are in staged files already, by their index.
        staged_deletes: the same for deletes.
        columns: values of columns in staged column files.
        table_uuid: the table; empty for the one that has the name at the commit.
    """

    settings: Settings
    name: str
    keys: tuple[str, ...]
    writes: list[pa.Table] = field(default_factory=list)
    deletes: list[pa.Table] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    compare: bool = False
    compact: bool = False
    staged: dict[int, Operation] = field(default_factory=dict)
    staged_deletes: dict[int, Operation] = field(default_factory=dict)
    columns: StagedColumns = field(default_factory=StagedColumns)
    table_uuid: str = ""
    _groups: list[tuple[pa.Table, int | None]] | None = None
    _upserts: dict[tuple[int, str], Upsert] = field(default_factory=dict)

    def copied(self) -> KeyedCommit:
        """Returns the same changes, to which more can be added."""
        return replace(
            self,
            writes=list(self.writes),
            deletes=list(self.deletes),
            dropped=list(self.dropped),
            staged=dict(self.staged),
            staged_deletes=dict(self.staged_deletes),
            columns=StagedColumns(list(self.columns.operations)),
            _groups=None,
            _upserts={},
        )

    @property
    def operation_ids(self) -> list[str]:
        """The ids of the operations whose files are staged."""
        staged = (*self.staged.values(), *self.staged_deletes.values(), *self.columns.operations)
        return [each.id for each in staged]

    def decide(self, table: Table) -> ColumnDecision:
        """Returns the columns of the new version."""
        if self.table_uuid not in ("", str(table.metadata.table_uuid)):
            raise CommitConflictError(
                f"{self.name!r} was dropped and created again since the transaction began; nothing was written"
            )
        if key_columns(table) != self.keys:
            raise CommitConflictError(
                f"the key of {self.name!r} is now {quoted_list(key_columns(table))}; nothing was written. Open the "
                "table again"
            )
        incoming = None
        for write in self.writes:
            incoming = write.schema if incoming is None else united_schema(incoming, write.schema)
        return self.columns.decide(table, incoming, self.dropped)

    def revise(self, draft: Draft) -> None:
        """Makes the changes to the newest version."""
        source = newest(draft, self.name) if draft.table.metadata.current_snapshot() is not None else None
        gathered = GatheredDrops(draft)
        if source is not None:
            for keys in self.deletes:
                self._delete(source, gathered, one_batch(keys))
        for index, (group, write) in enumerate(self.groups):
            gathered.part = self._part(index, group, draft)
            self._upsert(index, group, write, draft.schema, source).apply(cast("Draft", gathered), source)
        gathered.pass_on()
        if self.columns.operations:
            self.columns.revise(draft, self.name, self.keys)  # a merge would leave these values behind
        else:
            merge_files(draft, source, self.compact)

    def _part(self, index: int, group: pa.Table, draft: Draft) -> Hashable:
        """Returns what tells the rows of a group from others. Parts of structs depend on the version that is read."""
        current = draft.table.metadata.current_snapshot_id
        return index, current if partial_structs(group.schema, draft.schema) else None

    @property
    def groups(self) -> list[tuple[pa.Table, int | None]]:
        """The rows to write: tables of different keys, each with the columns that its rows were given.

        Each table comes with the index of the write if it is all of its rows.
        """
        if self._groups is None:
            self._groups = grouped(self.writes, self.keys)
        return self._groups

    def _upsert(
        self, index: int, group: pa.Table, write: int | None, target: pa.Schema, source: IcebergSource | None
    ) -> Upsert:
        if source is not None and partial_structs(group.schema, target):
            rows = completed(source, one_batch(group), target, self.keys)
            return Upsert.of(
                self.settings, Scan(MemorySource(pa.Table.from_batches([rows]))), self.keys, target, self.compare
            )
        known = index, str(target)
        if known not in self._upserts:
            operation = None if write is None else self.staged.get(write)
            plan = Scan(MemorySource(group))
            self._upserts[known] = StagedUpsert.of_operation(
                self.settings, plan, self.keys, target, self.compare, operation
            )
        return self._upserts[known]

    def _delete(self, source: IcebergSource, draft: GatheredDrops, keys: pa.RecordBatch) -> None:
        wanted = WantedKeys(keys, self.keys)
        hint = key_hint(source.schema, self.keys[0], keys.column(self.keys[0]))
        groups: dict[int, set[int]] = {}
        for fragment in wanted.fragments(source, hint):
            groups.setdefault(fragment.key[2], set()).add(fragment.key[1])
        for index, numbers in groups.items():
            file = source.files[index]
            gone = [
                position + wanted.find(key_arrays(batch, self.keys))[0]
                for position, batch in source.numbered_batches(file, self.keys, groups=frozenset(numbers))
            ]
            if any(map(len, gone)):
                draft.drop(file, np.concatenate(gone), partial(source.read_file, file))


def united_schema(known: pa.Schema, incoming: pa.Schema) -> pa.Schema:
    """Returns the columns of both schemas."""
    fields = {field.name: field for field in known}
    for each in incoming:
        fields[each.name] = united_field(fields[each.name], each) if each.name in fields else each
    return pa.schema(list(fields.values()))


# ------------------------------------------------------------------------------------------ several writes


def grouped(writes: list[pa.Table], keys: tuple[str, ...]) -> list[tuple[pa.Table, int | None]]:
    """Returns the rows of the writes, the columns of one key joined: one table for each set of writes of a key.

    Each table comes with the index of a write if it is all of its rows.
    """
    numbers = [number for number, write in enumerate(writes) if write.num_rows]
    filled = [writes[number] for number in numbers]
    if len(filled) < 2:
        return list(zip(filled, numbers, strict=True))
    batches = [one_batch(write) for write in filled]
    codes = key_codes(*(key_arrays(batch, keys) for batch in batches))
    members = np.zeros(max(int(each.max()) for each in codes) + 1, object)
    for bit, each in enumerate(codes):
        members[each] += 1 << bit
    tables: list[tuple[pa.Table, int | None]] = []
    for chosen in sorted(set(members.tolist()) - {0}):
        parts = [
            _rows_of(batch, each, members[each] == chosen)
            for bit, (batch, each) in enumerate(zip(batches, codes, strict=True))
            if chosen >> bit & 1
        ]
        whole = len(parts) == 1 and parts[0].num_rows == filled[chosen.bit_length() - 1].num_rows
        rows = pa.Table.from_batches([_joined_columns(parts)])
        tables.append((rows, numbers[chosen.bit_length() - 1] if whole else None))
    return tables


def _rows_of(batch: pa.RecordBatch, codes: Positions, mask: Any) -> pa.RecordBatch:
    """Returns the rows of a mask in the order of their codes, which is the same in each batch."""
    positions = np.flatnonzero(mask)
    return take_rows(batch, positions[np.argsort(codes[positions], kind="stable")])


def _joined_columns(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    first, *others = parts
    columns = dict(zip(first.schema.names, zip(first.schema, first.columns, strict=True), strict=True))
    for part in others:
        for field_, column in zip(part.schema, part.columns, strict=True):
            if field_.name not in columns:
                columns[field_.name] = field_, column
            elif is_open_struct(field_):
                known, values = columns[field_.name]
                union = united_field(known, field_)
                merged = overlay(union, column, values)
                columns[field_.name] = known.with_type(merged.type), merged
    return pa.RecordBatch.from_arrays(
        [column for _, column in columns.values()], schema=pa.schema([field_ for field_, _ in columns.values()])
    )


# ------------------------------------------------------------------------------------------ parts of structs


def partial_structs(given: pa.Schema, target: pa.Schema) -> list[str]:
    """Returns the struct columns of which ``given`` lacks fields that ``target`` has."""
    return [
        each.name
        for each in given
        if each.name in target.names
        and is_open_struct(target.field(each.name))
        and set(leaf_paths([target.field(each.name)])) - set(leaf_paths([each]))
    ]


def completed(source: IcebergSource, rows: pa.RecordBatch, target: pa.Schema, keys: tuple[str, ...]) -> pa.RecordBatch:
    """Returns the rows with the stored values of the struct fields that they lack."""
    names = partial_structs(rows.schema, target)
    old, positions = KeyLookup(source, keys).take(rows.select(list(keys)), names)
    columns, fields = list(rows.columns), list(rows.schema)
    indices: Any = pa.array(positions, mask=positions == ABSENT)
    for name in names:
        index = rows.schema.get_field_index(name)
        kind = target.field(name).type
        stored: Any = pa.nulls(rows.num_rows, kind) if old is None else take_values(old.column(name), indices)
        columns[index] = overlay(target.field(name), columns[index], stored)
        fields[index] = fields[index].with_type(columns[index].type)
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def overlay(target: pa.Field[Any], new: Any, old: Any) -> Any:
    """Returns the values ``new``, with those of ``old`` in the struct fields that ``new`` lacks."""
    if not is_open_struct(target) or not pa.types.is_struct(new.type):
        return new
    given = {each.name: index for index, each in enumerate(new.type)}
    stored = dict(zip((each.name for each in old.type), old.flatten(), strict=True))
    fields, arrays = [], []
    for inner in target.type:
        if inner.name not in given:
            values = stored.get(inner.name)
            arrays.append(pa.nulls(len(new), inner.type) if values is None else values)
            fields.append(pa.field(inner.name, arrays[-1].type))
            continue
        value = new.field(given[inner.name])
        arrays.append(overlay(inner, value, stored[inner.name]) if inner.name in stored else value)
        fields.append(pa.field(inner.name, arrays[-1].type))
    return pa.StructArray.from_arrays(arrays, fields=fields)


def iterate(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yields the batches with the number of their first rows."""
    first = 0
    for batch in batches:
        yield first, batch
        first += batch.num_rows
