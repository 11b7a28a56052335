"""Splits into disjoint, complete sides: by the hash of a key, or by position."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakefeed._rng import permutation, row_words
from lakefeed._validate import check_seed
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, TypeMismatchError
from lakefeed.plan import Node, Step
from lakefeed.plan.take_rows import filter_by_mask

Side: TypeAlias = Literal["train", "test"]
SIDES: tuple[Side, Side] = ("train", "test")
HASH_BITS = 64
_SPLIT = 11


@dataclass(frozen=True, eq=False, repr=False)
class SplitByKey(Step):
    """Rows whose key hashes below ``test_size`` (side "test") or not ("train").

    The side of a row depends only on its key and the seed, so appends and edits of other columns never change it.
    """

    key: str
    seed: int
    test_size: float
    side: Side

    keeps_columns: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        schema = self.child.schema
        if self.key not in schema.names:
            raise ColumnNotFoundError.of(self.key, schema.names)
        _check_key_type(schema.field(self.key))
        return schema

    def fields_read(self) -> tuple[tuple[str]]:
        return ((self.key,),)

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return self, wanted | {self.key}

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return True

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        test = key_hashes(batch.column(self.key), self.seed) < np.uint64(self.test_size * 2**HASH_BITS)
        return filter_by_mask(batch, pa.array(test if self.side == "test" else ~test))

    def describe(self) -> str:
        return f"SplitByKey {self.key} side={self.side} test_size={self.test_size} seed={self.seed}"


@dataclass(frozen=True, eq=False, repr=False)
class SplitByPlace(Step):
    """A seeded choice of positions as the test side, and the others as the train side.

    If ``rows`` is known, exactly ``round(rows * test_size)`` positions are the test side; if None, each position is
    drawn independently.
    """

    rows: int | None
    seed: int
    test_size: float
    side: Side

    keeps_columns: ClassVar[bool] = True
    positional: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def fields_read(self) -> tuple[()]:
        return ()

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return self, wanted

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        return filter_by_mask(batch, pa.array(self._mask(offset, batch.num_rows)))

    def count_kept(self, offset: int, rows: int) -> int:
        return int(self._mask(offset, rows).sum())

    def _mask(self, offset: int, rows: int) -> npt.NDArray[np.bool_]:
        if self.rows is None:
            test = row_words(offset, rows, self.seed, _SPLIT) < np.uint64(self.test_size * 2**HASH_BITS)
        else:
            test = _test_mask(self.rows, self.seed, self.test_size)[offset : offset + rows]
        return test if self.side == "test" else ~test

    def describe(self) -> str:
        return f"SplitByPlace side={self.side} test_size={self.test_size} seed={self.seed}"


@lru_cache(maxsize=4)
def _test_mask(rows: int, seed: int, test_size: float) -> npt.NDArray[np.bool_]:
    test = np.zeros(rows, bool)
    test[permutation(rows, seed, _SPLIT)[: round(rows * test_size)]] = True
    return test


def key_hashes(column: pa.Array[Any], seed: int) -> npt.NDArray[np.uint64]:
    """Returns a 64-bit hash of each key.

    It never changes between releases. It depends on the text of the value, so int32 7 and int64 7 have the same hash.
    """
    salt = seed.to_bytes(8, "little", signed=True)
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    return np.fromiter((_hash(value, salt) for value in column.to_pylist()), np.uint64, len(column))


def _hash(value: object, salt: bytes) -> int:
    data = value if isinstance(value, bytes) else str(value).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=HASH_BITS // 8, key=salt).digest(), "little")


def _check_key_type(field: pa.Field[Any]) -> None:
    nested = pa.types.is_nested(field.type)
    if nested or pa.types.is_floating(field.type):
        raise TypeMismatchError(
            f"column {field.name!r} of type {field.type} cannot be a split key; use an integer, text, bytes, date or "
            "boolean column"
        )


def split_sides(child: Node, rows: int | None, test_size: Any, seed: int | None, by: Any) -> dict[Side, Node]:
    """Returns the nodes of ``train_test_split``: by a key column, or by position among ``rows`` rows (None: unknown).

    Raises:
        InvalidArgumentError: an argument is invalid.
        ColumnNotFoundError: the key column does not exist.
        TypeMismatchError: the key column has a nested or floating-point type.
    """
    if isinstance(test_size, bool) or not isinstance(test_size, int | float) or not 0 < test_size < 1:
        raise InvalidArgumentError(f"test_size must be a number between 0 and 1, such as 0.2, got {test_size!r}")
    if by is not None and not isinstance(by, str):
        raise InvalidArgumentError(f"by must be the name of a key column, or None, got {by!r}")
    split_seed = 0 if seed is None else check_seed(seed)
    if by is not None:
        return {side: SplitByKey(child, by, split_seed, float(test_size), side) for side in SIDES}
    return {side: SplitByPlace(child, rows, split_seed, float(test_size), side) for side in SIDES}
