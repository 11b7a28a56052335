"""Values of a projection, bound to the columns of tables and evaluated on batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakefeed._validate import check_data_type
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError, TransformError, TypeMismatchError
from lakefeed.expr import Column, Expr, Term, dtype, evaluate, paths
from lakefeed.expr.parser import parse, parse_value
from lakefeed.keyed.projections import Aux, Call, Cast, Fetch, Tree
from lakefeed.keyed.table_terms import table_root, tables_in

Paths = frozenset[tuple[str | int, ...]]

AUX_MARK = "#"
"""Begins the names of columns of the table of keys, beside those of tables."""


@dataclass(frozen=True)
class Environment:
    """The names that expressions may use: each table as a struct, and the columns of all tables, the first one's first.

    Attributes:
        lake: the lake.
        schemas: the columns of the tables, by name of the table.
    """

    lake: Lake
    schemas: Mapping[str, pa.Schema]

    def schema_for(self, text: str) -> pa.Schema:
        """Returns the names that an expression may use as columns; tables only if it names them."""
        fields, named = {}, frozenset(tables_in(text))
        for index, (name, schema) in enumerate(self.schemas.items()):
            if name in named:  # another table than the first may lack the key of a row
                fields[table_root(name)] = pa.field(table_root(name), pa.struct(list(schema)), nullable=index > 0)
        for index, schema in enumerate(self.schemas.values()):
            for field in schema:
                fields.setdefault(field.name, field.with_nullable(field.nullable or index > 0))
        return pa.schema(list(fields.values()))

    def owner(self, column: str) -> str:
        """Returns the table that an unqualified column is of."""
        return next(name for name, schema in self.schemas.items() if column in schema.names)

    def columns_read(self, read: Paths) -> dict[str, set[str]]:
        """Returns the columns of each table that the paths lead to."""
        columns: dict[str, set[str]] = {name: set() for name in self.schemas}
        for path in read:
            root = str(path[0])
            table = next((name for name in self.schemas if table_root(name) == root), None)
            if table is None:
                columns[self.owner(root)].add(root)
            elif len(path) == 1:
                columns[table].update(self.schemas[table].names)
            else:
                columns[table].add(str(path[1]))
        return columns

    def batch(self, rows: Mapping[str, pa.RecordBatch], aux: pa.RecordBatch | None = None) -> pa.RecordBatch:
        """Returns the rows of the tables, side by side, under the names of the environment.

        ``aux``: further columns of these rows, for values that name them.
        """
        arrays: dict[str, Any] = {}
        for name, batch in rows.items():
            arrays[table_root(name)] = (
                pa.StructArray.from_arrays(batch.columns, fields=list(batch.schema))
                if batch.num_columns
                else pa.nulls(batch.num_rows)
            )
        for batch in rows.values():
            for field, column in zip(batch.schema, batch.columns, strict=True):
                arrays.setdefault(field.name, column)
        if aux is not None:
            arrays |= {AUX_MARK + name: column for name, column in zip(aux.schema.names, aux.columns, strict=True)}
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


@dataclass(frozen=True)
class Bound:
    """A value with its type.

    Attributes:
        field: the column that it makes.
        read: the paths that it reads.
        evaluate: returns the values for a batch of the environment.
    """

    field: pa.Field[Any]
    read: Paths
    evaluate: Callable[[pa.RecordBatch], Any]


def bind_condition(where: str, environment: Environment) -> Expr:
    """Returns a condition over the environment."""
    return parse(where, environment.schema_for(where))


def bind(name: str, value: Any, environment: Environment) -> Bound:
    """Returns a value, bound to the columns.

    Raises:
        ColumnNotFoundError, ExpressionError, TypeMismatchError: it does not fit them.
    """
    match value:
        case dict():
            return _struct(name, value, environment)
        case Term():
            return _term(name, value, environment)
        case Cast():
            return _cast(name, value, environment)
        case Call():
            return _call(name, value, environment)
        case Fetch():
            return _fetch(name, value, environment)
        case Aux():
            return _aux(name, value)
    raise InvalidArgumentError(f"{name!r}: {value!r:.80} is not a value")


def _struct(name: str, tree: Tree, environment: Environment) -> Bound:
    inner = [bind(each, value, environment) for each, value in tree.items()]
    fields = [each.field for each in inner]

    def evaluate_struct(batch: pa.RecordBatch) -> Any:
        return pa.StructArray.from_arrays([each.evaluate(batch) for each in inner], fields=fields)

    read = frozenset(path for each in inner for path in each.read)
    return Bound(pa.field(name, pa.struct(fields)), read, evaluate_struct)


def _term(name: str, term: Term, environment: Environment) -> Bound:
    schema = environment.schema_for(term.text)
    expr = parse_value(term.text, schema)
    if isinstance(expr, Column) and all(isinstance(step, str) for step in expr.path):
        field = _field_at(schema, expr.path).with_name(name)
        return Bound(field, paths(expr), lambda batch: _values_at(batch, expr.path))
    return Bound(pa.field(name, dtype(expr)), paths(expr), lambda batch: evaluate(expr, batch))


def _field_at(schema: pa.Schema, path: tuple[str | int, ...]) -> pa.Field[Any]:
    field = schema.field(str(path[0]))
    for step in path[1:]:
        kind: Any = field.type
        inner = kind.field(str(step))
        field = inner.with_nullable(inner.nullable or field.nullable)
    return field


def _values_at(batch: pa.RecordBatch, path: tuple[str | int, ...]) -> Any:
    column: Any = batch.column(str(path[0]))
    for step in path[1:]:
        index = column.type.get_field_index(str(step))
        column = column.flatten()[index]
    return column


def _cast(name: str, cast: Cast, environment: Environment) -> Bound:
    value = bind(name, cast.value, environment)

    def cast_values(batch: pa.RecordBatch) -> Any:
        try:
            return value.evaluate(batch).cast(cast.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise TypeMismatchError(f"column {name!r}: {value.field.type} as {cast.type}: {error}") from None

    return Bound(pa.field(name, cast.type), value.read, cast_values)


def _call(name: str, call: Call, environment: Environment) -> Bound:
    arguments = [bind(f"argument {index}", each, environment) for index, each in enumerate(call.arguments)]
    given = call.type
    kind = check_data_type(given if isinstance(given, pa.DataType) else given(*(each.field.type for each in arguments)))

    def call_function(batch: pa.RecordBatch) -> Any:
        result = call.function(*(each.evaluate(batch) for each in arguments))
        if isinstance(result, pa.ChunkedArray):
            result = result.combine_chunks()
        if not isinstance(result, pa.Array):
            try:
                result = pa.array(result, kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
                raise TransformError(f"the function for column {name!r} returned no {kind}: {error}") from None
        if len(result) != batch.num_rows or result.type != kind:
            raise TransformError(
                f"the function for column {name!r} returned {len(result)} values of {result.type} for "
                f"{batch.num_rows} rows; it must return as many values of {kind}"
            )
        return result

    return Bound(pa.field(name, kind), frozenset(path for each in arguments for path in each.read), call_function)


def _fetch(name: str, fetch: Fetch, environment: Environment) -> Bound:
    value = bind(name, fetch.value, environment)
    if not (pa.types.is_string(value.field.type) or pa.types.is_large_string(value.field.type)):
        raise TypeMismatchError(f"column {name!r}: fetch takes URLs or paths as text, not {value.field.type}")

    def fetch_files(batch: pa.RecordBatch) -> Any:
        from lakefeed.dataset.core import dataset_of
        from lakefeed.ops import Scan
        from lakefeed.sources.memory_source import MemorySource

        urls = pa.table({"url": value.evaluate(batch)})
        rows = dataset_of(environment.lake, Scan(MemorySource(urls))).with_column_types({"url": "file"})
        on_error = "raise" if fetch.abort_on_error else "null"
        loaded = rows.load_files("bytes", on_error=on_error).to_arrow().column("url")  # type: ignore[arg-type]  # of a flag
        return _whole(loaded).cast(pa.large_binary())

    return Bound(pa.field(name, pa.large_binary()), value.read, fetch_files)


def _aux(name: str, aux: Aux) -> Bound:
    def values(batch: pa.RecordBatch) -> Any:
        if AUX_MARK + aux.name not in batch.schema.names:
            raise InvalidArgumentError(f"column {name!r} is of the table of keys; read the scan with key_table=…")
        return batch.column(AUX_MARK + aux.name)

    return Bound(pa.field(name, aux.type), frozenset(), values)


def _whole(column: pa.ChunkedArray[Any]) -> Any:
    combined: Any = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined
