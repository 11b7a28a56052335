"""A table in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from lakefeed.errors import SchemaError
from lakefeed.plan import RESIDENT, Fragment, Pushdown, cut

FRAGMENT_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class MemorySource:
    """The rows of an Arrow table. Nothing is copied."""

    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        return self.table.schema

    @cached_property
    def identity(self) -> str:
        """Of the content: another process that builds the same table resumes from the same checkpoint."""
        digest = hashlib.sha256(self.schema.to_string(show_schema_metadata=False).encode())
        sink = pa.PythonFile(_Hashing(digest), mode="w")  # type: ignore[arg-type]  # it has what is called
        with pa.ipc.new_stream(sink, self.schema) as writer:
            # Cut anew, so that the chunks in which the table happens to lie do not count.
            writer.write_table(self.table.combine_chunks(), max_chunksize=FRAGMENT_ROWS)
        return f"memory:{digest.hexdigest()}"

    @property
    def ranged(self) -> bool:
        return True

    def count(self) -> int:
        return self.table.num_rows

    @cached_property
    def _batches(self) -> list[pa.RecordBatch]:
        return self.table.to_batches(max_chunksize=FRAGMENT_ROWS)

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        all_of_them = (Fragment(place, batch.num_rows, RESIDENT) for place, batch in enumerate(self._batches))
        return cut(all_of_them, pushdown.rows)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        batch = self._batches[fragment.key]
        if fragment.length != batch.num_rows:
            batch = batch.slice(fragment.start, fragment.length)
        yield batch if pushdown.columns is None else batch.select(list(pushdown.columns))

    def describe(self) -> str:
        return f"memory ({self.table.num_rows} rows)"


class _Hashing:
    """A file that only hashes what is written."""

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


def table_of_columns(columns: Any, schema: pa.Schema | None) -> pa.Table:
    """A table of columns given as sequences.

    Raises:
        SchemaError: the columns differ in length, or values do not fit.
    """
    if not isinstance(columns, Mapping) or not columns:
        raise SchemaError(f"from_dict takes a mapping of column names to values, not {columns!r:.80}")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise SchemaError(f"all columns must have one length; these have {lengths}")
    with _fitting("from_dict"):
        return pa.table(dict(columns), schema=schema)


def table_of_rows(rows: Any, schema: pa.Schema | None) -> pa.Table:
    """A table of rows given as dicts."""
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise SchemaError("from_pylist takes a list of dicts")
    if not rows and schema is None:
        raise SchemaError("from_pylist needs rows, or a schema= where there are none")
    with _fitting("from_pylist"):
        return pa.Table.from_pylist(list(rows), schema=schema)


def table_of_pandas(frame: Any) -> pa.Table:
    """A table of a DataFrame; a named index becomes a column, an unnamed one is dropped."""
    if not hasattr(frame, "columns") or not hasattr(frame, "index"):
        raise SchemaError(f"from_pandas takes a DataFrame, not a {type(frame).__name__}")
    named = [name for name in frame.index.names if name is not None]
    with _fitting("from_pandas"):
        return pa.Table.from_pandas(frame, preserve_index=bool(named)).replace_schema_metadata()


@contextmanager
def _fitting(what: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError, OverflowError) as error:
        raise SchemaError(f"{what}: values do not fit one type a column: {error}") from error
