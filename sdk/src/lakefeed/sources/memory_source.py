"""A source of a table in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed._validate import check_optional_schema, check_schema
from lakefeed.catalog.categories import with_categories
from lakefeed.errors import SchemaError, TypeMismatchError, quoted_list
from lakefeed.media.python_objects import arrow_values
from lakefeed.plan import RESIDENT, Fragment, Pushdown, RangedSource, cut_fragments
from lakefeed.plan.arrays import check_lossless, exact_array, exact_cast, inferred_array

FRAGMENT_ROWS = 8_192
"""The rows in a batch of a spilled table, so that a fragment of it is a view of the file."""


@dataclass(frozen=True, eq=False)
class MemorySource(RangedSource):
    """The rows of an Arrow table, without copies."""

    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        return self.table.schema

    @cached_property
    def identity(self) -> str:
        """Returns a digest of the content, so another process with the same table can resume a checkpoint."""
        digest = hashlib.sha256(self.schema.to_string(show_schema_metadata=False).encode())
        sink = pa.PythonFile(_HashingFile(digest), mode="w")  # type: ignore[arg-type]  # it has the methods that are used
        with pa.ipc.new_stream(sink, self.schema) as writer:
            for start in range(0, self.table.num_rows, FRAGMENT_ROWS):
                # Slices of equal size, so that the chunks of the table do not change the digest.
                writer.write_table(self.table.slice(start, FRAGMENT_ROWS).combine_chunks())
        return f"memory:{digest.hexdigest()}"

    @property
    def location(self) -> str:
        return self.identity  # other rows in memory are another source

    @property
    def memory(self) -> pa.Table:
        return self.table

    def count(self) -> int:
        return self.table.num_rows

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        # By position alone: a shuffle depends on the fragments, so they must not depend on the chunks.
        total = self.table.num_rows
        starts = range(0, total, FRAGMENT_ROWS)
        return cut_fragments(
            (Fragment(start, min(FRAGMENT_ROWS, total - start), RESIDENT) for start in starts), pushdown.rows
        )

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        table = self.table if pushdown.columns is None else self.table.select(list(pushdown.columns))
        yield from table.slice(fragment.key + fragment.start, fragment.length).to_batches()

    def describe(self, pushdown: Pushdown) -> str:
        return f"memory ({self.table.num_rows} rows)"


class _HashingFile:
    """A file that hashes the bytes that are written."""

    closed = False

    def __init__(self, digest: hashlib._Hash) -> None:
        self._digest = digest

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def table_from_columns(columns: Any, schema: pa.Schema | None) -> pa.Table:
    """Returns a table of columns given as sequences.

    Raises:
        SchemaError: the columns differ in length or from the schema, or values do not fit.
    """
    schema = check_optional_schema(schema)
    if not isinstance(columns, Mapping) or not columns:
        raise SchemaError(f"from_dict takes a mapping of column names to values, got {columns!r:.80}")
    plain = [
        name for name, values in columns.items() if isinstance(values, str | bytes) or not hasattr(values, "__len__")
    ]
    if plain:
        raise SchemaError(f"from_dict takes a list or array for each column; {quoted_list(plain)} are not")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise SchemaError(f"all columns must have the same length, got {lengths}")
    if schema is not None and schema.names != list(columns):
        _check_names("from_dict", list(columns), schema)
    return check_nulls(_build_table(columns, schema, "from_dict"), "from_dict")


def table_from_rows(rows: Any, schema: pa.Schema | None) -> pa.Table:
    """Returns a table of rows given as dicts; missing keys are null.

    Raises:
        SchemaError: the rows are not dicts, differ from the schema, or values do not fit.
    """
    schema = check_optional_schema(schema)
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes) or not all(map(_is_row, rows)):
        raise SchemaError(f"from_pylist takes a list of dicts with text keys, got {rows!r:.80}")
    if not rows and schema is None:
        raise SchemaError(f"from_pylist needs a schema= if there are no rows, got {rows!r}")
    # In order of appearance. Arrow would use only the first row.
    names = list(dict.fromkeys(name for row in rows for name in row))
    if schema is not None:
        _check_names("from_pylist", list(dict.fromkeys([*names, *schema.names])), schema)
    columns = {name: [row.get(name) for row in rows] for name in (names if schema is None else schema.names)}
    return check_nulls(_build_table(columns, schema, "from_pylist"), "from_pylist")


def _is_row(row: Any) -> bool:
    return isinstance(row, Mapping) and all(isinstance(name, str) for name in row)


def table_from_arrow(table: pa.Table | pa.RecordBatch) -> pa.Table:
    """Returns a table of a table or batch, with the categories of its columns.

    Raises:
        TypeMismatchError: the argument is neither a table nor a batch.
        SchemaError: column names repeat, or a column has nulls that is not nullable.
    """
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    if not isinstance(table, pa.Table):
        raise TypeMismatchError(f"from_arrow takes a pyarrow Table or RecordBatch, got {type(table).__name__}")
    check_schema(table.schema)
    return with_categories(check_nulls(table, "from_arrow"))


def table_from_polars(frame: Any) -> pa.Table:
    """Returns the table of a polars frame.

    Raises:
        TypeMismatchError: the argument is not a DataFrame, or a column has a type that Arrow lacks.
    """
    if type(frame).__module__.partition(".")[0] != "polars" or not hasattr(frame, "to_arrow"):
        advice = "; collect() a LazyFrame first" if type(frame).__name__ == "LazyFrame" else ""
        raise TypeMismatchError(f"from_polars takes a polars DataFrame, got {type(frame).__name__}{advice}")
    objects = [name for name, kind in frame.schema.items() if str(kind) == "Object"]
    if objects:
        raise TypeMismatchError(
            f"from_polars: {quoted_list(objects)} are columns of Python objects, which polars cannot export; "
            "convert them to text, bytes, numbers or structs first"
        )
    try:
        table: pa.Table = frame.to_arrow()
    except pa.ArrowInvalid as error:
        raise TypeMismatchError(
            f"from_polars: Arrow lacks the type of a column: {error}. The columns are {frame.schema}"
        ) from error
    return table


def table_from_pandas(frame: Any) -> pa.Table:
    """Returns a table of a DataFrame; named index levels become columns, unnamed ones are dropped.

    Raises:
        SchemaError: the argument is not a DataFrame, a name repeats, or values do not fit.
    """
    if not hasattr(frame, "columns") or not hasattr(frame, "index"):
        raise SchemaError(f"from_pandas takes a DataFrame, got {type(frame).__name__}")
    index_names = [str(name) for name in frame.index.names if name is not None]
    duplicates = [name for name in index_names if name in map(str, frame.columns)]
    if duplicates:
        raise SchemaError(
            f"from_pandas: {quoted_list(duplicates)} name both an index level and a column; rename one of them"
        )
    frame, files = _convert_file_cells(frame)
    with _translate_errors("from_pandas"):
        table = pa.Table.from_pandas(frame, preserve_index=bool(index_names)).replace_schema_metadata()
    for index, field in files.items():
        metadata: Any = field.metadata
        table = table.set_column(index, table.schema.field(index).with_metadata(metadata), table.column(index))
    first = len(frame.columns)  # the levels of the index come after the columns
    levels = [first + level for level, name in enumerate(frame.index.names) if name is not None]
    return table.select([*range(first), *levels])


def _convert_file_cells(frame: Any) -> tuple[Any, dict[int, pa.Field[Any]]]:
    """Returns the frame with file objects as Arrow values, and the fields of these columns by index."""
    files: dict[int, pa.Field[Any]] = {}
    plain = frame
    for index, kind in enumerate(frame.dtypes):
        if not isinstance(kind, np.dtype) or kind.kind != "O":
            continue
        with _translate_errors(f"from_pandas: column {frame.columns[index]!r}"):
            cells = frame.iloc[:, index].tolist()
            values, field = arrow_values(cells)
            if values is not cells:
                plain = plain.copy(deep=False) if plain is frame else plain
                plain.isetitem(index, np.fromiter(values, object, len(values)))
            if field is not None:
                files[index] = field
            column: pa.Array[Any] = pa.array(plain.iloc[:, index], from_pandas=True)
            check_lossless(plain.iloc[:, index], column.type, declared=False)
    return plain, files


def _build_table(columns: Mapping[str, Any], schema: pa.Schema | None, method: str) -> pa.Table:
    arrays: list[Any] = []
    fields: list[pa.Field[Any]] = []
    for name in columns if schema is None else schema.names:
        with _translate_errors(f"{method}: column {name!r}"):
            values, file_field = arrow_values(columns[name])
            kind = schema.field(name).type if schema is not None else None if file_field is None else file_field.type
            arrays.append(_infer_array(values) if kind is None else _cast_exactly(values, kind))
            metadata = None if file_field is None else file_field.metadata
            fields.append(pa.field(name, arrays[-1].type, metadata=metadata))
    with _translate_errors(method):
        return pa.table(arrays, schema=pa.schema(fields) if schema is None else schema)


def _infer_array(values: Any) -> pa.Array[Any] | pa.ChunkedArray[Any]:
    return values if isinstance(values, pa.Array | pa.ChunkedArray) else inferred_array(values)


def _cast_exactly(values: Any, kind: pa.DataType) -> pa.Array[Any] | pa.ChunkedArray[Any]:
    if isinstance(values, pa.ChunkedArray):
        return exact_cast(values, kind)
    return exact_cast(values, kind) if isinstance(values, pa.Array) else exact_array(values, kind)


def check_nulls(table: pa.Table, method: str) -> pa.Table:
    """Returns the table.

    Raises:
        SchemaError: a column has nulls that is not nullable.
    """
    columns = zip(table.schema, table.columns, strict=True)
    wrong = [field.name for field, column in columns if not field.nullable and column.null_count]
    if wrong:
        raise SchemaError(f"{method}: {quoted_list(wrong)} have nulls, but are not nullable in the schema")
    return table


def _check_names(method: str, names: Sequence[str], schema: pa.Schema) -> None:
    known, present = frozenset(schema.names), frozenset(names)
    extra = [name for name in names if name not in known]
    missing = [name for name in schema.names if name not in present]
    if extra or missing:
        raise SchemaError(
            f"{method}: columns do not match the schema {quoted_list(schema.names)}; unexpected: {quoted_list(extra)}; "
            f"missing: {quoted_list(missing)}"
        )


@contextmanager
def _translate_errors(method: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowNotImplementedError, ValueError, TypeError, OverflowError) as error:
        raise SchemaError(
            f"{method}: values of a column do not fit one type: {error}. Convert them to one type, or give schema="
        ) from None
