"""The fields of indexes of vectors, and columns of vectors as matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc
from lakefeed.errors import InvalidArgumentError, MissingDependencyError, TypeMismatchError
from lakefeed.search.key_text import encode_keys
from lakefeed.search.text_schema import field_kind

Metric: TypeAlias = Literal["cosine", "l2", "dot"]
METRICS: Final = ("cosine", "l2", "dot")
Matrix: TypeAlias = NDArray[np.float32]
KEY: Final = "\x00key"
"""The column of segments with the keys as text."""
MOST_LENGTH: Final = 1e18
"""The most that a vector may be long for metrics that multiply lengths, so that float32 has the product."""


def faiss() -> Any:
    """Returns the module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingDependencyError("indexes of vectors need faiss: pip install 'lakefeed[search]'") from error
    return faiss


@dataclass(frozen=True)
class VectorSchema:
    """The key and the fields of an index of vectors.

    Attributes:
        key: the key columns.
        filter_schema: the columns of the filter fields.
        name: the name of the field of the vectors.
        type: the type of its column.
        metric: how vectors are compared.
    """

    key: pa.Schema
    filter_schema: pa.Schema
    name: str
    type: pa.DataType
    metric: str

    @classmethod
    def of(cls, key: pa.Schema, columns: pa.Schema, name: str, metric: str) -> VectorSchema:
        """Returns the schema of an index.

        Raises:
            TypeMismatchError: the column does not hold vectors.
            UnsupportedError: a filter field has a type that cannot be filtered by.
        """
        others = [column for column in columns if column.name != name]
        for column in others:
            field_kind(column.name, column.type)
        schema = cls(key, pa.schema(others), name, columns.field(name).type, metric)
        _check_vectors(name, schema.type)
        return schema

    @property
    def width(self) -> int | None:
        """The number of values of a vector; None if the type does not tell it."""
        if isinstance(self.type, pa.FixedShapeTensorType):
            return int(np.prod(self.type.shape))
        return self.type.list_size if isinstance(self.type, pa.FixedSizeListType) else None

    @property
    def row_schema(self) -> pa.Schema:
        """The columns of the rows of a segment."""
        return pa.schema([pa.field(KEY, pa.large_string()), *self.filter_schema])

    def split(self, batch: pa.RecordBatch, width: int | None) -> tuple[pa.RecordBatch, Matrix]:
        """Returns the rows that have a vector, as a segment has them, and the vectors.

        Args:
            batch: rows with the columns of the key and of the fields.
            width: the number of values that the vectors of the index have; None for that of the first vector.

        Raises:
            TypeMismatchError: a vector has another width.
            InvalidArgumentError: a vector has a null, NaN or an infinite value.
        """
        present = pc.is_valid(batch.column(self.name))
        batch = batch.filter(present)
        keys = encode_keys(batch, self.key.names)
        columns: list[Any] = [pa.array(keys, pa.large_string())]
        columns += [batch.column(each.name) for each in self.filter_schema]
        rows = pa.RecordBatch.from_arrays(columns, schema=self.row_schema)
        return rows, self._matrix(batch.column(self.name), keys, self.width or width)

    def _matrix(self, column: Any, keys: list[str], width: int | None) -> Matrix:
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        if not len(lengths):
            return np.empty((0, width or 0), np.float32)
        width = int(lengths[0]) if width is None else width
        wrong = np.flatnonzero(lengths != width)
        if len(wrong):
            raise TypeMismatchError(
                f"field {self.name!r}: the vector of the row with the key {keys[wrong[0]]!r:.80} has "
                f"{lengths[wrong[0]]} values, others have {width}; leave such rows out with where="
            )
        values = pc.cast(column.flatten(), pa.float32(), safe=False).to_numpy(zero_copy_only=False)
        matrix = np.ascontiguousarray(values.reshape(len(lengths), width), np.float32)
        bad = np.flatnonzero(~np.isfinite(matrix.sum(axis=1, dtype=np.float64)))
        if len(bad):
            raise InvalidArgumentError(
                f"field {self.name!r}: the vector of the row with the key {keys[bad[0]]!r:.80} has a value that is "
                "null, NaN, infinite or too large for float32; leave such rows out with where="
            )
        long = np.flatnonzero(self.too_long(matrix))
        if len(long):
            raise InvalidArgumentError(
                f"field {self.name!r}: the vector of the row with the key {keys[long[0]]!r:.80} is longer than "
                f"{MOST_LENGTH:g}, so {self.metric!r} overflows float32; leave such rows out with where="
            )
        return self.prepared(matrix)

    def too_long(self, matrix: Matrix) -> NDArray[np.bool_]:
        """Returns which vectors are so long that their scores are beyond float32."""
        if self.metric == "cosine":
            return np.zeros(len(matrix), np.bool_)
        with np.errstate(over="ignore"):
            squares = np.einsum("ij,ij->i", matrix, matrix)
        within: NDArray[np.bool_] = squares <= MOST_LENGTH**2
        return ~within

    def prepared(self, matrix: Matrix) -> Matrix:
        """Returns vectors as segments have them: for cosine, of length 1."""
        if self.metric != "cosine":
            return matrix
        with np.errstate(over="ignore"):
            squares = np.einsum("ij,ij->i", matrix, matrix)
        if not ((squares > 1e-30) & np.isfinite(squares)).all():  # squares that float32 cannot hold, or zero vectors
            squares = np.square(matrix, dtype=np.float64).sum(axis=1)
        lengths = np.sqrt(squares)
        return np.ascontiguousarray(matrix / np.where(lengths == 0, 1, lengths)[:, None], np.float32)


def _check_vectors(name: str, kind: pa.DataType) -> None:
    if isinstance(kind, pa.FixedShapeTensorType):
        inner: Any = kind.value_type
    elif isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        inner = kind.value_type
    else:
        inner = None
    if inner is None or not (pa.types.is_floating(inner) or pa.types.is_integer(inner)):
        raise TypeMismatchError(f"field {name!r} is {kind}; an index of vectors needs lists of numbers")
