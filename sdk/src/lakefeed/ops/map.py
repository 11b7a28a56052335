"""Map: a Python function for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from lakefeed._typing import RowFn
from lakefeed._validate import check_function, check_schema
from lakefeed.errors import FailedRow, InvalidArgumentError, LakefeedError, RowMessage, TransformError, quoted_list
from lakefeed.ops.row_failures import failed_row, function_error, is_about_row
from lakefeed.ops.row_functions import build_column, handle_rows
from lakefeed.plan import Failure, Node, Step, name_of
from lakefeed.storage import BlobStore


@dataclass(frozen=True, eq=False, repr=False)
class Map(Step):
    """``fn(row)`` for each row, as rows of ``result``."""

    fn: RowFn
    result: pa.Schema
    store: BlobStore | None = None

    keeps_row_count: ClassVar[bool] = True
    runs_user_code: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, fn: Any, schema: pa.Schema, store: BlobStore, on_error: Any = "raise") -> Map:
        """Returns the node of ``map``.

        Raises:
            InvalidArgumentError: ``fn`` is not callable, or ``on_error`` is neither "raise" nor "skip".
            SchemaError: the schema is invalid.
        """
        if not isinstance(on_error, str) or on_error not in ("raise", "skip"):
            raise InvalidArgumentError(f'on_error must be "raise" or "skip", got {on_error!r:.80}')
        kind = SkippingMap if on_error == "skip" else cls
        return kind(child, check_function(fn, "map"), check_schema(schema), store)

    def output_schema(self) -> pa.Schema:
        return self.result

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        return self.skip_failures(batch, offset)[0]

    def skip_failures(self, batch: pa.RecordBatch, offset: int) -> tuple[pa.RecordBatch, list[Failure]]:
        results: list[tuple[int, Mapping[str, Any]]] = []
        failures: list[Failure] = []
        for index, row in enumerate(handle_rows(batch, self.store)):
            try:
                results.append((index, self._call(row, batch, index, offset)))
            except LakefeedError as error:
                self._fail(error)
                failures.append((index, error))
        arrays = self._arrays(results)
        if isinstance(arrays, LakefeedError):
            results, unfit = self._split(results, batch, offset, arrays)
            failures = sorted([*failures, *unfit], key=lambda failure: failure[0])
            arrays = self._arrays(results)
        if isinstance(arrays, LakefeedError):
            raise arrays
        return pa.RecordBatch.from_arrays(arrays, schema=self.result), failures

    def _fail(self, error: LakefeedError) -> None:
        """Raises the error of a row, unless the step skips such rows."""
        if not (self.skips_rows and is_about_row(error)):
            raise error

    def _call(self, row: dict[str, Any], batch: pa.RecordBatch, index: int, offset: int) -> Mapping[str, Any]:
        function = f"map function {name_of(self.fn)}"
        try:
            result = self.fn(row)
        except Exception as error:
            if not is_about_row(error):
                raise
            failure = function_error(function, failed_row(batch, index, offset), error)
            if failure is error:
                raise
            raise failure from error
        if not isinstance(result, Mapping):
            raise TransformError(
                RowMessage(
                    f"{function} returned {type(result).__name__} for",
                    failed_row(batch, index, offset),
                    f"; it must return a dict with {quoted_list(self.result.names)}",
                )
            )
        if result.keys() != set(self.result.names):
            raise TransformError(
                RowMessage(
                    f"{function} returned columns {quoted_list(result)} for",
                    failed_row(batch, index, offset),
                    f" where its schema says {quoted_list(self.result.names)}",
                )
            )
        return result

    def _arrays(self, results: Sequence[tuple[int, Mapping[str, Any]]]) -> list[pa.Array[Any]] | LakefeedError:
        """Returns the columns of the results, or the error of the first column that cannot be made."""
        arrays = []
        for field in self.result:
            array = self._array(field, [result[field.name] for _, result in results])
            if isinstance(array, LakefeedError):
                return array
            arrays.append(array)
        return arrays

    def _array(self, field: pa.Field[Any], values: list[Any]) -> pa.Array[Any] | LakefeedError:
        function, rows = f"map function {name_of(self.fn)}", FailedRow(None, description="some rows")
        try:
            column = build_column(values, field.type)
        except (pa.ArrowNotImplementedError, ValueError, TypeError, OverflowError) as error:
            message = f"{function} returned a value for column {field.name!r} that does not fit {field.type} for"
            failure = TransformError(RowMessage(message, rows, f": {error}"))
            failure.__cause__ = error
            return failure
        if column.null_count and not field.nullable:
            message = f"{function} returned None for column {field.name!r}, which is not nullable, for"
            return TransformError(RowMessage(message, rows))
        return column

    def _split(
        self, results: list[tuple[int, Mapping[str, Any]]], batch: pa.RecordBatch, offset: int, error: LakefeedError
    ) -> tuple[list[tuple[int, Mapping[str, Any]]], list[Failure]]:
        """Returns the results that fit the schema, and the rows of the others.

        Raises:
            TransformError: a result does not fit, and the step does not skip rows; or each fits but not all together.
        """
        fitting: list[tuple[int, Mapping[str, Any]]] = []
        failures: list[Failure] = []
        for index, result in results:
            alone = self._arrays([(index, result)])
            if isinstance(alone, LakefeedError):
                alone.name_row(failed_row(batch, index, offset))
                self._fail(alone)
                failures.append((index, alone))
            else:
                fitting.append((index, result))
        if not failures:
            raise error
        return fitting, failures

    def identity(self) -> dict[str, object]:
        return {"fn": self.fn, "result": self.result}

    def describe(self) -> str:
        return f"Map {name_of(self.fn)} -> [{', '.join(self.result.names)}]"


@dataclass(frozen=True, eq=False, repr=False)
class SkippingMap(Map):
    """Does as `Map`, and leaves out the rows for which the function fails."""

    keeps_row_count: ClassVar[bool] = False
    skips_rows: ClassVar[bool] = True

    def describe(self) -> str:
        return f"Skipping{super().describe()}"
