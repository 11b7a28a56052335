"""Results in memory."""

from __future__ import annotations

import warnings
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed._units import GIB, MIB
from lakefeed._validate import check_flag, is_whole
from lakefeed.errors import BudgetExceededError, InvalidArgumentError, MissingDependencyError
from lakefeed.ops import Scan
from lakefeed.optimize import optimize
from lakefeed.plan import Node
from lakefeed.run.local_runner import LocalRunner
from lakefeed.sql import RENAME_ADVICE, QueryTable, require_unambiguous

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl

LARGE_RESULT_BYTES = GIB
NULLABLE = {
    "bool": "boolean",
    **{f"{sign}int{bits}": f"{sign.upper()}Int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""pandas' types that can hold null, by Arrow's."""

POLARS_ENUM = b"_PL_ENUM_VALUES2"
"""The metadata key of polars for a column that was an Enum."""


class LargeResultWarning(UserWarning):
    """A result of more than 1 GiB is being put into memory."""


def collect(runner: LocalRunner, plan: Node, max_bytes: int | None, warn: bool) -> pa.Table:
    """All rows as a table.

    Raises:
        BudgetExceededError: as soon as the rows take more than ``max_bytes``.
    """
    if max_bytes is not None and (not is_whole(max_bytes) or max_bytes < 0):
        raise InvalidArgumentError(f"max_bytes={max_bytes!r}: give a number of bytes from 0 on, or None for no limit")
    check_flag(warn, "warn")
    resident = _resident(plan)
    if resident is not None and resident.nbytes <= (LARGE_RESULT_BYTES if max_bytes is None else max_bytes):
        return resident
    held, size = [], 0
    with closing(runner.batches(plan)) as batches:
        for batch in batches:
            before, size = size, size + batch.nbytes
            if max_bytes is not None and size > max_bytes:
                raise BudgetExceededError(
                    f"the result is larger than max_bytes={max_bytes:,}; select fewer columns or rows, stream it with "
                    "batches(), or allow more"
                )
            if warn and max_bytes is None and before <= LARGE_RESULT_BYTES < size:
                warnings.warn(
                    f"collect() is putting over {LARGE_RESULT_BYTES // MIB} MiB into memory; stream with batches(), or "
                    "pass max_bytes or warn=False",
                    LargeResultWarning,
                    stacklevel=3,
                )
            held.append(batch)
    return pa.Table.from_batches(held, plan.schema)


def _resident(plan: Node) -> pa.Table | None:
    """The rows of a plan that only looks at a table in memory, without a copy."""
    scan = optimize(plan)
    if not isinstance(scan, Scan) or scan.source.memory is None:
        return None
    table = scan.source.memory
    start, stop = scan.pushdown.rows or (0, None)
    return table.select(scan.schema.names).slice(start, None if stop is None else stop - start)


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """A DataFrame.

    Integers and booleans among which are nulls get pandas' nullable types, and so stay what they are; columns of lists,
    structs and maps with such ones inside come as Python lists and dicts.

    Raises:
        MissingDependencyError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingDependencyError("to_pandas needs pandas: pip install 'lakefeed[pandas]'") from error
    frame = table.to_pandas()
    for field, column in zip(table.schema, table.columns, strict=True):
        if column.null_count and str(field.type) in NULLABLE:
            mapped: dict[Any, Any] = {field.type: pd.api.types.pandas_dtype(NULLABLE[str(field.type)])}
            frame[field.name] = column.to_pandas(types_mapper=mapped.get)
        elif pa.types.is_nested(field.type) and any(map(_would_be_floats, column.chunks)):
            frame[field.name] = pd.Series(column.to_pylist(), index=frame.index, dtype=object)
    return frame


def _would_be_floats(values: Any) -> bool:
    """Returns whether nested whole numbers or booleans have nulls, which pandas would turn into floats or objects."""
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return bool(values.null_count)
    if isinstance(values, pa.MapArray):
        return _would_be_floats(values.keys) or _would_be_floats(values.items)
    if isinstance(values, pa.StructArray):
        return any(map(_would_be_floats, values.flatten()))
    return pa.types.is_nested(kind) and kind.num_fields == 1 and _would_be_floats(values.flatten())


def to_polars(table: pa.Table) -> pl.DataFrame:
    """A polars DataFrame over the same memory.

    Raises:
        MissingDependencyError: polars is not installed.
    """
    try:
        import polars as pl
    except ImportError as error:
        raise MissingDependencyError("to_polars needs polars: pip install 'lakefeed[polars]'") from error
    # What polars notes of an Enum beside the column is outdated once rows with other categories were added.
    plain = pa.schema([field.remove_metadata() for field in table.schema])
    frame = pl.from_arrow(pa.table(table.columns, schema=plain))
    assert isinstance(frame, pl.DataFrame)
    enums = {
        field.name: pl.Enum(column.unify_dictionaries().chunk(0).dictionary.to_pylist())  # type: ignore[attr-defined]  # the stubs are older
        for field, column in zip(table.schema, table.columns, strict=True)
        if POLARS_ENUM in (field.metadata or {}) and column.num_chunks
    }
    return frame.with_columns([pl.col(name).cast(kind) for name, kind in enums.items()]) if enums else frame


def to_duckdb(runner: LocalRunner, plan: Node, name: Any, connection: Any) -> duckdb.DuckDBPyRelation:
    """A relation that reads the plan anew, streamed, each time that it is run."""
    import duckdb

    if not isinstance(name, str) or not name:
        raise InvalidArgumentError(f"table_name={name!r}: give the name of a view to be made")
    if connection is not None and not isinstance(connection, duckdb.DuckDBPyConnection):
        raise InvalidArgumentError(f"connection={connection!r:.80}: give a DuckDB connection, or None for a new one")
    require_unambiguous({name: plan.schema}, None, RENAME_ADVICE)
    chosen = duckdb.connect() if connection is None else connection
    chosen.register(name, QueryTable(plan.schema, lambda: runner.batches(plan)))
    return chosen.table(name)
