"""Random numbers that never change between releases. They decide the order of rows, and checkpoints outlive upgrades.

NumPy promises stable streams for bit generators and ``SeedSequence`` (NEP 19), not for ``Generator`` methods,
so everything here is made of raw 64-bit words.
"""

from __future__ import annotations

import secrets
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lakefeed._validate import check_seed

Indices: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]

SEED_BITS = 31


def fresh_seed() -> int:
    """Returns a random seed."""
    return secrets.randbits(SEED_BITS)


class DrawnSeed(int):
    """A seed that nobody gave: another process that builds the same plan draws another one."""


def choose_seed(given: int | None) -> int:
    """Returns the given seed, checked, or a random one for None."""
    return DrawnSeed(fresh_seed()) if given is None else check_seed(given)


WORDS_A_STEP = 4


def words(count: int, *key: int, start: int = 0) -> Words:
    """Returns ``count`` random 64-bit words from position ``start`` on. They depend on ``key`` only.

    Example:
        >>> bool((words(5, 1, start=3) == words(8, 1)[3:]).all())
        True
    """
    stream = np.random.Philox(np.random.SeedSequence([part & 0xFFFF_FFFF_FFFF_FFFF for part in key]))
    steps, skipped = divmod(start, WORDS_A_STEP)
    if steps:
        stream.advance(steps)
    return np.asarray(stream.random_raw(skipped + count), dtype=np.uint64)[skipped:]


def permutation(count: int, *key: int) -> Indices:
    """Returns a uniformly random permutation of ``range(count)``. It depends on ``key`` only.

    Example:
        >>> sorted(permutation(4, 7).tolist())
        [0, 1, 2, 3]
    """
    drawn = words(count, *key)
    # Sorting that need not be stable is three times as fast, and the same unless two words are equal.
    order = np.argsort(drawn)
    if _repeats(drawn, order):
        order = np.argsort(drawn, kind="stable")
    return order.astype(np.int64, copy=False)


def _repeats(drawn: Words, order: Indices) -> bool:
    """Returns whether two words are equal. Compares a part at a time, so that no copy of all is held."""
    for start in range(0, len(order), PART_WORDS):
        ascending = drawn[order[start : start + PART_WORDS + 1]]
        if np.any(ascending[1:] == ascending[:-1]):
            return True
    return False


PART_WORDS = 1 << 20
DRAWN_CHUNK = 4096


def row_words(offset: int, rows: int, *key: int) -> Words:
    """Returns the random word of each row in ``[offset, offset + rows)``. The cost depends on ``rows`` only.

    Example:
        >>> bool((row_words(5000, 10, 1) == row_words(4000, 1010, 1)[1000:]).all())
        True
    """
    first, last = offset // DRAWN_CHUNK, (offset + rows) // DRAWN_CHUNK
    chunks = np.concatenate([words(DRAWN_CHUNK, *key, chunk) for chunk in range(first, last + 1)])
    return chunks[offset - first * DRAWN_CHUNK :][:rows]
