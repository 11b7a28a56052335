"""A source of PyTorch datasets: samples become rows of a schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import IterableDataset

from lakefeed.errors import InvalidArgumentError, TransformError, quoted_list
from lakefeed.plan import Fragment, PlainSource, Pushdown, cut_fragments, project_schema
from lakefeed.plan.arrays import exact_array, vector_array, vector_shape
from lakefeed.plan.fingerprint import digest

FRAGMENT_ROWS = 256
MAX_DEPTH = 6


@dataclass(frozen=True, eq=False)
class TorchSource(PlainSource):
    """The samples of a dataset. A map-style dataset is read by index; an iterable one is iterated anew in every pass.

    A sample is a tuple (its parts are the columns, in the order of the schema), a mapping (by name) or one value.
    """

    dataset: Any
    declared: pa.Schema

    @property
    def schema(self) -> pa.Schema:
        return self.declared

    @cached_property
    def identity(self) -> str:
        return f"torch:{digest([type(self.dataset).__qualname__, _identity_content(self.dataset), self.count()])}"

    @property
    def ranged(self) -> bool:
        return not isinstance(self.dataset, IterableDataset) and hasattr(self.dataset, "__len__")

    @property
    def runs_user_code(self) -> bool:
        return not self.ranged

    def count(self) -> int | None:
        return len(self.dataset) if self.ranged else None

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        total = self.count()
        if total is None:
            yield Fragment("all", None)
            return
        starts = range(0, total, FRAGMENT_ROWS)
        yield from cut_fragments(
            (Fragment(start, min(FRAGMENT_ROWS, total - start)) for start in starts), pushdown.rows
        )

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        schema = project_schema(self.declared, pushdown)
        if fragment.rows is None:
            yield from self._stream(schema)
            return
        start = fragment.key + fragment.start
        with _dataset_lock:  # a dataset need not be thread-safe
            rows = [self._sample(index) for index in range(start, start + (fragment.length or 0))]
        yield self._batch(rows, schema, start)

    def describe(self, pushdown: Pushdown) -> str:
        rows = self.count()
        return f"torch {type(self.dataset).__name__}{'' if rows is None else f' ({rows} rows)'}"

    def _sample(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except StopIteration as error:
            raise TransformError(f"from_torch: sample {index} raised StopIteration, which ends no rows") from error

    def _stream(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        first, samples = 0, iter(self.dataset)
        while rows := list(islice(samples, FRAGMENT_ROWS)):
            self.__dict__["_has_yielded"] = True
            yield self._batch(rows, schema, first)
            first += len(rows)
        if not first and samples is self.dataset and "_has_yielded" in self.__dict__:
            raise TransformError(
                f"from_torch: {type(self.dataset).__name__} is its own iterator and empty after one pass; return "
                "a new iterator from __iter__"
            )

    def _batch(self, samples: Sequence[Any], schema: pa.Schema, first: int) -> pa.RecordBatch:
        rows = [self._cells(sample, first + index) for index, sample in enumerate(samples)]
        columns = []
        for column in schema:
            cells = [row[column.name] for row in rows]
            try:
                values = _build_column(cells, column.type)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise TransformError(
                    f"from_torch: samples {first} to {first + len(rows) - 1} have values for column {column.name!r} "
                    f"that do not fit {column.type}: {error}"
                ) from error
            if values.null_count and not column.nullable:
                raise TransformError(f"from_torch: column {column.name!r} has None, but is not nullable in the schema")
            columns.append(values)
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _cells(self, sample: Any, index: int) -> Mapping[str, Any]:
        names = self.declared.names
        if isinstance(sample, Mapping):
            missing = [name for name in names if name not in sample]
            extra = [name for name in sample if name not in names]
            if missing or extra:
                raise TransformError(
                    f"from_torch: sample {index} has keys {quoted_list(sample)}; the schema has {quoted_list(names)}"
                )
            return sample
        parts = sample if isinstance(sample, tuple | list) else (sample,)
        if len(parts) != len(names):
            raise TransformError(
                f"from_torch: sample {index} has {len(parts)} parts; the schema has {len(names)} columns, "
                f"{quoted_list(names)}"
            )
        return dict(zip(names, parts, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        return {"dataset": self.dataset, "declared": self.declared}


_dataset_lock = Lock()


def create_torch_source(dataset: Any, schema: pa.Schema) -> TorchSource:
    """Returns the source of a PyTorch dataset.

    Raises:
        InvalidArgumentError: the argument is not a dataset.
    """
    is_other = isinstance(dataset, str | bytes | Mapping | type | pa.Schema)
    map_style = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__") and not is_other
    if not map_style and not isinstance(dataset, IterableDataset):
        raise InvalidArgumentError(
            f"from_torch takes a dataset with __len__ and __getitem__, or an IterableDataset, got "
            f"{type(dataset).__name__}: {dataset!r:.80}"
        )
    return TorchSource(dataset, schema)


def _build_column(cells: Sequence[Any], kind: pa.DataType) -> pa.Array[Any]:
    plain = [_to_numpy(cell) for cell in cells]
    shape = vector_shape(kind)
    if shape and plain and all(isinstance(cell, np.ndarray) and cell.shape == shape for cell in plain):
        return vector_array(np.stack(plain), kind)
    return exact_array([cell.tolist() if isinstance(cell, np.ndarray | np.generic) else cell for cell in plain], kind)


def _to_numpy(cell: Any) -> Any:
    if isinstance(cell, torch.Tensor):
        tensor = cell.detach().cpu()
        # NumPy has no bfloat16.
        return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    return cell


def _identity_content(value: Any, depth: int = 0) -> Any:
    """Returns the content of a dataset for its identity, as far as it is accessible."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy() if value.dtype is not torch.bfloat16 else repr(value)
    if depth > MAX_DEPTH:
        return type(value).__name__
    if isinstance(value, Mapping):
        return {str(key): _identity_content(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple) and len(value) <= FRAGMENT_ROWS:
        return [_identity_content(item, depth + 1) for item in value]
    if hasattr(value, "__getitem__") and hasattr(value, "__dict__"):
        return [type(value).__qualname__, _identity_content(vars(value), depth + 1)]
    return value
