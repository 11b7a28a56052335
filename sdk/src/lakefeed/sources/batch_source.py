"""A source of batches from a function."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from lakefeed._typing import BatchFactory
from lakefeed.errors import InvalidArgumentError, TransformError
from lakefeed.plan import Fragment, Lineage, PlainSource, Pushdown, name_of
from lakefeed.plan.arrays import exact_cast
from lakefeed.plan.fingerprint import digest

LIST_ITERATOR: type = type(iter([]))


@dataclass(frozen=True, eq=False)
class BatchesSource(PlainSource):
    """The batches of ``factory()``, called for every pass. ``remote``: it reads files of other machines."""

    factory: BatchFactory
    declared: pa.Schema
    remote: bool = False

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise InvalidArgumentError(
                f"from_batches needs a function that returns new batches in every call, got "
                f"{type(self.factory).__name__}; an iterator is empty after one pass. Pass a function: "
                "from_batches(lambda: read(), schema=…)"
            )

    @property
    def schema(self) -> pa.Schema:
        return self.declared

    @property
    def lineage(self) -> Lineage:
        return Lineage(untrusted=frozenset(self.declared.names if self.remote else ()))

    @cached_property
    def identity(self) -> str:
        # Fixed when a loader is made: a factory that counts its calls is another value after each pass.
        return f"batches:{digest(self.factory)}"

    @property
    def ranged(self) -> bool:
        return False

    @property
    def runs_user_code(self) -> bool:
        return not self.remote

    def count(self) -> None:
        return None

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        yield Fragment("all", None)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        for batch in self._batches():
            checked = self._check(batch)
            yield checked if pushdown.columns is None else checked.select(list(pushdown.columns))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            result = self.factory()
        except StopIteration as error:
            raise TransformError("from_batches: the factory raised StopIteration; return no batches instead") from error
        if not isinstance(result, Iterable):
            raise TransformError(
                f"from_batches: the factory returned a {type(result).__name__}; it must return batches: a list, a "
                "generator, a reader"
            )
        batches = iter(result)
        # An iterator that was returned before is exhausted: its rows would silently be missing.
        previous = self.__dict__.get("_previous")
        if batches is result and previous is not None and previous() is result:
            raise TransformError(
                "from_batches: the factory returned the iterator of the previous pass again, which is empty now; it "
                "must return a new one: from_batches(lambda: read(), schema=…)"
            )
        self.__dict__["_previous"] = _reference_to(result)
        return batches

    def _check(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not isinstance(batch, pa.RecordBatch):
            raise TransformError(
                f"from_batches: the factory yielded a {type(batch).__name__}; it must yield pyarrow.RecordBatch "
                "(a Table: yield from table.to_batches())"
            )
        if sorted(batch.schema.names) != sorted(self.declared.names):
            raise self._mismatch(batch, "the columns differ")
        try:
            columns = [exact_cast(batch.column(field.name), field.type) for field in self.declared]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise self._mismatch(batch, str(error)) from error
        for field, column in zip(self.declared, columns, strict=True):
            if column.null_count and not field.nullable:
                raise self._mismatch(batch, f"column {field.name!r} has nulls, but is not nullable")
        return pa.RecordBatch.from_arrays(columns, schema=self.declared)

    def _mismatch(self, batch: pa.RecordBatch, reason: str) -> TransformError:
        return TransformError(
            f"from_batches: a batch of schema [{_format_schema(batch.schema)}] does not match the declared schema "
            f"[{_format_schema(self.declared)}]: {reason}"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"factory": self.factory, "declared": self.declared}

    def describe(self, pushdown: Pushdown) -> str:
        return f"batches {name_of(self.factory)}"


def _reference_to(iterable: object) -> Callable[[], object] | None:
    """Returns a function that returns the iterator while it exists; None if it cannot be referenced."""
    if isinstance(iterable, LIST_ITERATOR):
        return lambda: iterable
    try:
        return weakref.ref(iterable)
    except TypeError:
        return None


def _format_schema(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
