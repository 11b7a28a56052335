"""The rows that a write takes, in any of the forms that users have them in, as a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from lakefeed.catalog.column_union import is_open_struct
from lakefeed.dataset.core import Core, plan_of
from lakefeed.errors import DuplicateKeyError, SchemaError, TypeMismatchError, quoted_list
from lakefeed.ops import Scan
from lakefeed.plan import Node
from lakefeed.plan.arrays import exact_cast
from lakefeed.sources.batch_source import BatchesSource
from lakefeed.sources.memory_source import (
    MemorySource,
    table_from_arrow,
    table_from_columns,
    table_from_pandas,
    table_from_polars,
    table_from_rows,
)

FORMS = (
    "a mapping of columns, a list of dicts, a pyarrow Table, RecordBatch, RecordBatchReader or StructArray, a pandas "
    "or polars DataFrame, a Dataset, or a scan"
)


def plan_of_rows(rows: Any, target: pa.Schema, method: str) -> Node:
    """Returns the rows as a plan. Names with dots become fields of structs.

    Args:
        rows: the rows; see `FORMS`.
        target: the columns of the table. Numbers of Python become numbers of their types.
        method: the call, for errors.

    Raises:
        SchemaError, TypeMismatchError: these are not rows, or values do not fit.
    """
    if isinstance(rows, Core):
        return plan_of(rows, method)
    plan = getattr(rows, "row_plan", None)
    if isinstance(plan, Node):
        return plan
    if isinstance(rows, pa.RecordBatchReader):
        return Scan(BatchesSource(lambda: rows, rows.schema))
    return Scan(MemorySource(_table(rows, target, method)))


def _table(rows: Any, target: pa.Schema, method: str) -> pa.Table:
    if isinstance(rows, pa.Table | pa.RecordBatch):
        return nested(table_from_arrow(rows))
    if isinstance(rows, pa.StructArray | pa.ChunkedArray):
        return nested(table_from_arrow(_from_structs(rows, method)))
    module = type(rows).__module__.partition(".")[0]
    if module == "pandas":
        return _fitted(nested(table_from_pandas(rows)), target)
    if module == "polars":
        return nested(table_from_polars(rows))
    if isinstance(rows, Mapping):
        return _fitted(nested(table_from_columns(_flat(rows), None)), target)
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        return _fitted(nested(table_from_rows(rows, _empty_schema(rows, target))), target)
    raise TypeMismatchError(f"{method} takes {FORMS}; got {rows!r:.80}")


def _empty_schema(rows: Sequence[Any], target: pa.Schema) -> pa.Schema | None:
    return None if rows else target


def _from_structs(rows: Any, method: str) -> pa.Table:
    if not pa.types.is_struct(rows.type):
        raise TypeMismatchError(f"{method} takes an array of structs, got one of {rows.type}")
    if rows.null_count:
        raise SchemaError(f"{method}: {rows.null_count} of the structs are null; each row is a struct")
    chunks: list[Any] = rows.chunks if isinstance(rows, pa.ChunkedArray) else [rows]
    schema = pa.schema(list(rows.type))
    return pa.Table.from_batches([pa.RecordBatch.from_arrays(each.flatten(), schema=schema) for each in chunks], schema)


def _flat(rows: Mapping[Any, Any], above: str = "") -> dict[str, Any]:
    """Returns the columns of a mapping; mappings inside it are structs."""
    flat: dict[str, Any] = {}
    for name, values in rows.items():
        if not isinstance(name, str) or not name:
            raise SchemaError(f"the name of a column must be text, got {name!r:.80}")
        if isinstance(values, Mapping):
            flat.update(_flat(values, f"{above}{name}."))
        else:
            flat[above + name] = values
    return flat


def nested(table: pa.Table) -> pa.Table:
    """Returns the table with columns whose names have dots as fields of structs.

    Raises:
        SchemaError: a name is both a column and the beginning of a path.
    """
    if not any("." in name for name in table.column_names):
        return table
    tree: dict[str, Any] = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        *above, leaf = field.name.split(".")
        inner = tree
        for step in above:
            inner = inner.setdefault(step, {})
            if not isinstance(inner, dict):
                raise SchemaError(f"{field.name!r} is inside {step!r}, which is a column itself")
        if leaf in inner or not all((*above, leaf)):
            raise SchemaError(f"{field.name!r} is not a path of one column; name each column once")
        inner[leaf] = (field, column)
    columns = [_nested_column(name, value, table.num_rows) for name, value in tree.items()]
    return pa.Table.from_arrays([column for _, column in columns], schema=pa.schema([field for field, _ in columns]))


def _nested_column(name: str, value: Any, rows: int) -> tuple[pa.Field[Any], Any]:
    if isinstance(value, tuple):
        field, column = value
        return field.with_name(name), column
    inner = [_nested_column(step, each, rows) for step, each in value.items()]
    arrays = [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for _, column in inner]
    struct = pa.StructArray.from_arrays(
        [pa.concat_arrays(each.chunks) if isinstance(each, pa.ChunkedArray) else each for each in arrays],
        fields=[field for field, _ in inner],
    )
    return pa.field(name, struct.type), struct


def _fitted(table: pa.Table, target: pa.Schema) -> pa.Table:
    """Returns the table with numbers in the types of the target: Python has one type of whole numbers."""
    for place, field in enumerate(table.schema):
        index = target.get_field_index(field.name)
        if index >= 0 and _is_number_of(field.type, target.field(index).type):
            kind = target.field(index).type
            try:
                column = exact_cast(table.column(place), kind)
            except pa.ArrowInvalid:
                continue  # the column becomes wider, or an error names the types
            if column.cast(field.type).equals(table.column(place)):
                table = table.set_column(place, field.with_type(kind), column)
    return table


def _is_number_of(given: pa.DataType, wanted: pa.DataType) -> bool:
    types = pa.types
    if given.equals(wanted):
        return False
    whole = types.is_integer(given) and (types.is_integer(wanted) or types.is_decimal(wanted))
    return whole or (types.is_floating(given) and types.is_floating(wanted))


# ------------------------------------------------------------------------------------------ checks of rows


def push_down_nulls(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the rows in which a null struct is a struct of nulls."""
    columns = [
        _pushed_down(column, field) if is_open_struct(field) else column
        for field, column in zip(batch.schema, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _pushed_down(column: Any, field: pa.Field[Any]) -> Any:
    inner = [
        _pushed_down(values, each) if is_open_struct(each) else values
        for values, each in zip(column.flatten(), field.type, strict=True)
    ]
    return pa.StructArray.from_arrays(inner, fields=list(field.type)) if inner else column


def check_structs(batch: pa.RecordBatch, first: int) -> None:
    """Checks that no struct is null. ``first`` is the number of the first row.

    Raises:
        SchemaError: one is; the message names the column and the row.
    """
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if is_open_struct(field):
            _check_struct(column, field, field.name, first)


def _check_struct(column: Any, field: pa.Field[Any], path: str, first: int) -> None:
    if column.null_count:
        row = first + column.is_null().index(pa.scalar(True)).as_py()
        raise SchemaError(
            f"{path!r} is a null struct in row {row}; leave its columns out, or pass push_down_nulls=True to write a "
            "struct of nulls"
        )
    for place, inner in enumerate(field.type):
        if is_open_struct(inner):
            _check_struct(column.field(place), inner, f"{path}.{inner.name}", first)


def check_keys_present(batch: pa.RecordBatch, keys: Sequence[str], first: int) -> None:
    """Checks that no key is null.

    Raises:
        SchemaError: one is; the message names the column and the row.
    """
    for name in keys:
        column: Any = batch.column(name)
        if column.null_count:
            row = first + column.is_null().index(pa.scalar(True)).as_py()
            raise SchemaError(f"key column {name!r} is null in row {row}; keys identify rows")


def repeated_keys(shown: str, where: str) -> DuplicateKeyError:
    """Returns the error for keys that occur more than once."""
    return DuplicateKeyError(f"{where} more than once: {shown}. Keep one row of each key")


def check_key_names(schema: pa.Schema, keys: Sequence[str], method: str) -> None:
    """Checks that all key columns are there.

    Raises:
        SchemaError: one is not.
    """
    missing = [name for name in keys if name not in schema.names]
    if missing:
        raise SchemaError(
            f"{method}: key column {quoted_list(missing)} missing; the key is {quoted_list(keys)} and the columns are "
            f"{quoted_list(schema.names)}"
        )
