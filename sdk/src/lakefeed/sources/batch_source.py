"""Batches from a function that can be called again."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakefeed._typing import BatchFactory
from lakefeed.errors import InvalidArgumentError, TransformError
from lakefeed.plan import Fragment, Lineage, Plain, Pushdown, name_of
from lakefeed.plan.arrays import exact_cast
from lakefeed.plan.fingerprint import digest

LIST_ITERATOR: type = type(iter([]))


@dataclass(frozen=True, eq=False)
class BatchesSource(Plain):
    """What ``factory()`` yields, called anew for every pass. ``remote``: it reads files of other machines."""

    factory: BatchFactory
    declared: pa.Schema
    remote: bool = False

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise InvalidArgumentError(
                f"from_batches needs a function that returns the batches anew each time, not a "
                f"{type(self.factory).__name__}: an iterator is empty after one pass. Pass a function: "
                "from_batches(lambda: read(), schema=…)"
            )

    @property
    def schema(self) -> pa.Schema:
        return self.declared

    @property
    def lineage(self) -> Lineage:
        return Lineage(untrusted=frozenset(self.declared.names if self.remote else ()))

    @property
    def identity(self) -> str:
        return f"batches:{digest(self.factory)}"

    @property
    def ranged(self) -> bool:
        return False

    def count(self) -> None:
        return None

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        yield Fragment("all", None)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        for batch in self._batches():
            whole = self._checked(batch)
            yield whole if pushdown.columns is None else whole.select(list(pushdown.columns))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        made = self.factory()
        if not isinstance(made, Iterable):
            raise TransformError(
                f"from_batches: the factory returned a {type(made).__name__}; it must return batches: a list, a "
                "generator, a reader"
            )
        batches = iter(made)
        # An iterator that was handed out before is used up: its rows would silently be missing.
        before = self.__dict__.get("_before")
        if batches is made and before is not None and before() is made:
            raise TransformError(
                "from_batches: the factory returned the very iterator of the pass before, which is empty now; it must "
                "make a new one each time: from_batches(lambda: read(), schema=…)"
            )
        self.__dict__["_before"] = _reference_to(made)
        return batches

    def _checked(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not isinstance(batch, pa.RecordBatch):
            raise TransformError(
                f"from_batches: the factory yielded a {type(batch).__name__}; it must yield pyarrow.RecordBatch "
                "(a Table: yield from table.to_batches())"
            )
        if sorted(batch.schema.names) != sorted(self.declared.names):
            raise self._misfit(batch, "the columns differ")
        try:
            fitted = [exact_cast(batch.column(field.name), field.type) for field in self.declared]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise self._misfit(batch, str(error)) from error
        for field, column in zip(self.declared, fitted, strict=True):
            if column.null_count and not field.nullable:
                raise self._misfit(batch, f"column {field.name!r} holds nulls and must not")
        return pa.RecordBatch.from_arrays(fitted, schema=self.declared)

    def _misfit(self, batch: pa.RecordBatch, why: str) -> TransformError:
        return TransformError(
            f"from_batches: a batch of schema [{_format_schema(batch.schema)}] does not fit the declared "
            f"[{_format_schema(self.declared)}]: {why}"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"factory": self.factory, "declared": self.declared}

    def describe(self, pushdown: Pushdown) -> str:
        return f"batches {name_of(self.factory)}"


def _reference_to(made: object) -> Callable[[], object] | None:
    """A way to recognise it that keeps nothing open, if there is one."""
    if isinstance(made, LIST_ITERATOR):
        return lambda: made
    try:
        return weakref.ref(made)
    except TypeError:
        return None


def _format_schema(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
