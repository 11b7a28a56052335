"""Distinct counts and quantiles of a stream in bounded memory: exact for few values, estimates for many."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MAX_HASHES = 1024
MAX_VALUES = 4096
WHOLE_NUMBERS = (
    pa.types.is_integer,
    pa.types.is_boolean,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
    pa.types.is_duration,
)
TEXTS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_decimal,
)


class Distinct:
    """Counts distinct values. It keeps the smallest hashes; their density tells the number of values.

    It is exact below `MAX_HASHES`. Above, the standard error is about 3 %. The same values give the same estimate.
    """

    def __init__(self) -> None:
        self._hashes: npt.NDArray[np.uint64] = np.empty(0, np.uint64)

    def add(self, hashes: npt.NDArray[np.uint64]) -> None:
        low = hashes if self.exact else hashes[hashes < self._hashes[-1]]
        self._hashes = np.unique(np.concatenate([self._hashes, low]))[:MAX_HASHES]

    @property
    def exact(self) -> bool:
        return len(self._hashes) < MAX_HASHES

    @property
    def count(self) -> int:
        if self.exact:
            return len(self._hashes)
        return round((MAX_HASHES - 1) / (float(self._hashes[-1]) / 2.0**64))


class Sample:
    """A uniform sample of a stream. Each value gets a random rank, and the values with the lowest ranks stay."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._ranks: npt.NDArray[np.float64] = np.empty(0)
        self._values: npt.NDArray[np.float64] = np.empty(0)

    def add(self, values: npt.NDArray[np.float64]) -> None:
        drawn = self._random.random(len(values))
        low = drawn < (self._ranks.max() if len(self._ranks) == MAX_VALUES else 1)
        ranks = np.concatenate([self._ranks, drawn[low]])
        both = np.concatenate([self._values, values[low]])
        if len(ranks) > MAX_VALUES:
            lowest = np.argpartition(ranks, MAX_VALUES)[:MAX_VALUES]
            ranks, both = ranks[lowest], both[lowest]
        self._ranks, self._values = ranks, both

    def quantiles(self, shares: Sequence[float]) -> tuple[float, ...]:
        """Returns the quantiles at the given shares; nothing for a stream without values."""
        return tuple(float(value) for value in np.quantile(self._values, shares)) if len(self._values) else ()


def hashes(values: pa.Array[Any]) -> npt.NDArray[np.uint64] | None:
    """Returns a hash of each non-null value; None for lists and structs."""
    present = values.drop_null()
    kind = present.type
    if any(is_kind(kind) for is_kind in WHOLE_NUMBERS):
        narrow = pa.types.is_boolean(kind) or kind.bit_width < 64
        whole = present.cast(pa.int8() if pa.types.is_boolean(kind) else pa.int32()) if _is_narrow(kind) else present
        plain = whole.cast(pa.int64()) if narrow else present.view(pa.int64())
        return _mix(plain.to_numpy(zero_copy_only=False).view(np.uint64))
    if pa.types.is_floating(kind):
        floats = present.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) + 0.0  # one zero, not two
        return _mix(floats.view(np.uint64))
    if any(is_kind(kind) for is_kind in TEXTS):
        texts: set[Any] = set((present.cast(pa.string()) if pa.types.is_decimal(kind) else present).to_pylist())
        coded = (each.encode() if isinstance(each, str) else each for each in texts)
        digests = b"".join(hashlib.blake2b(each, digest_size=8).digest() for each in coded)
        return np.frombuffer(digests, np.uint64)
    return None


def _is_narrow(kind: pa.DataType) -> bool:
    """Returns whether Arrow casts the type to int64 only through its own width."""
    return pa.types.is_boolean(kind) or pa.types.is_date32(kind) or pa.types.is_time32(kind)


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Returns the words after the finalizer of splitmix64, which separates neighbouring numbers."""
    mixed = bits + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
