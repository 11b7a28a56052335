"""The rows that differ between two versions, with their values before and after."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import pyarrow as pa

from lakefeed import ops
from lakefeed.catalog import compatibility, versions
from lakefeed.dataset.core import build
from lakefeed.dataset.dataset import Dataset
from lakefeed.run import version_changes
from lakefeed.sources.iceberg_source import IcebergSource

CHANGE, BEFORE, AFTER = "change", "before", "after"
ADDED, REMOVED, CHANGED = "added", "removed", "changed"


def changed_rows(source: IcebergSource, from_version: int | None, keys: Sequence[str], derived: bool) -> Dataset:
    """Returns the rows that differ; see `Changes.rows`.

    Args:
        source: the newer version.
        from_version: the older version; None for an empty dataset.
        keys: the columns that identify a row; none if rows cannot be changed.
        derived: column files changed values of rows, which are the same rows otherwise.
    """
    fields = [field.with_nullable(True) for field in source.schema]
    gained, lost = _compared(source, from_version) if derived else _parts(source, from_version)
    values = pa.struct(fields)
    schema = pa.schema([(CHANGE, pa.string()), (BEFORE, values), (AFTER, values)])
    if not keys:
        sides = [(lost, REMOVED), (gained, ADDED)]
        packed = [rows.map_batches(partial(_one_side, change, schema), schema=schema) for rows, change in sides]
        return build(Dataset, source.lake, ops.Concatenate(tuple(each._plan for each in packed), False))
    names = [f"key_{number}" for number in range(len(keys))]
    key_fields = [pa.field(name, source.schema.field(key).type) for name, key in zip(names, keys, strict=True)]
    sides = [(lost, BEFORE), (gained, AFTER)]
    before, after = (
        rows.map_batches(partial(_keyed, keys, fields, head), schema=head)
        for rows, name in sides
        for head in (pa.schema([*key_fields, pa.field(name, values)]),)
    )
    both = before.join(after, names, "full outer")
    return both.map_batches(partial(_joined, schema), schema=schema)


def _parts(source: IcebergSource, from_version: int | None) -> tuple[Dataset, Dataset]:
    """Returns the rows that only the newer and only the older version has, as their files tell."""
    directions: tuple[Literal["gained", "lost"], ...] = ("gained", "lost")
    gained, lost = (version_changes.changed_part(source, from_version, each) for each in directions)
    return _rows(gained), _rows(lost)


def _compared(source: IcebergSource, from_version: int | None) -> tuple[Dataset, Dataset]:
    """Returns the same by a comparison of all rows, under the columns of the newer version."""
    older = versions.resolve(source.table, from_version)
    new, old = (
        _rows(IcebergSource.of(source.lake, source.name, source.table, version, None, source.iceberg.schema_id))
        for version in (source.version, older)
    )
    query = "SELECT * FROM data EXCEPT ALL SELECT * FROM other"
    return new.sql(query, tables={"other": old}), old.sql(query, tables={"other": new})


def _rows(source: IcebergSource) -> Dataset:
    return build(Dataset, source.lake, ops.Scan(source))


def _one_side(change: str, schema: pa.Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns rows that only one version has."""
    values = schema.field(BEFORE).type
    packed = _packed(list(values), batch)
    missing = pa.nulls(batch.num_rows, values)
    sides = (packed, missing) if change == REMOVED else (missing, packed)
    return pa.RecordBatch.from_arrays([pa.array([change] * batch.num_rows, pa.string()), *sides], schema=schema)


def _keyed(keys: Sequence[str], fields: Sequence[Any], schema: pa.Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns rows as their keys and a struct."""
    packed = _packed(fields, batch)
    columns = [packed.field(key) for key in keys]
    return pa.RecordBatch.from_arrays([*columns, packed], schema=schema)


def _packed(fields: Sequence[Any], batch: pa.RecordBatch) -> Any:
    return compatibility.cast(batch, pa.schema(fields)).to_struct_array()


def _joined(schema: pa.Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns rows with both sides; a row that one version lacks is null on that side."""
    before, after = batch.column(BEFORE), batch.column(AFTER)
    pairs = zip(before.is_valid().to_pylist(), after.is_valid().to_pylist(), strict=True)
    kinds = [CHANGED if old and new else REMOVED if old else ADDED for old, new in pairs]
    return pa.RecordBatch.from_arrays([pa.array(kinds, pa.string()), before, after], schema=schema)
