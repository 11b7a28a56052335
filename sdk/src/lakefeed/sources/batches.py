"""Batches from a function that can be called again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from lakefeed._typing import BatchFactory
from lakefeed.errors import InvalidArgumentError, TransformError
from lakefeed.plan import Fragment, Pushdown


@dataclass(frozen=True, eq=False)
class BatchesSource:
    """What ``factory()`` yields, called anew for every pass."""

    factory: BatchFactory
    declared: pa.Schema

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise InvalidArgumentError(
                f"from_batches needs a function that returns the batches anew each time, not {type(self.factory).__name__}: "
                "an iterator is empty after one pass. Pass a function: from_batches(lambda: read(), schema=…)"
            )

    @property
    def schema(self) -> pa.Schema:
        return self.declared

    @property
    def identity(self) -> str:
        return f"batches:{getattr(self.factory, '__module__', '')}.{getattr(self.factory, '__qualname__', '')}"

    @property
    def ranged(self) -> bool:
        return False

    def count(self) -> None:
        return None

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        yield Fragment("all", None)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        for batch in self.factory():
            whole = self._checked(batch)
            yield whole if pushdown.columns is None else whole.select(list(pushdown.columns))

    def _checked(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not isinstance(batch, pa.RecordBatch):
            raise TransformError(
                f"from_batches: the factory yielded a {type(batch).__name__}; it must yield pyarrow.RecordBatch "
                "(a Table: yield from table.to_batches())"
            )
        if batch.schema.equals(self.declared, check_metadata=False):
            return pa.RecordBatch.from_arrays(batch.columns, schema=self.declared)
        try:
            return batch.select(self.declared.names).cast(self.declared)
        except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise TransformError(
                f"from_batches: a batch of schema [{_short(batch.schema)}] does not fit the declared "
                f"[{_short(self.declared)}]: {error}"
            ) from error

    def describe(self) -> str:
        return f"batches {getattr(self.factory, '__qualname__', repr(self.factory))}"


def _short(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
