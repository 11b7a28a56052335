"""Progress bars: on a terminal only, and not where ``TQDM_DISABLE`` is set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from tqdm import tqdm


class Rows(Protocol):
    """Some rows; a batch, say."""

    @property
    def num_rows(self) -> int: ...


SomeRows = TypeVar("SomeRows", bound=Rows)


def tracked(batches: Iterable[SomeRows], what: str, total: int | None = None) -> Iterator[SomeRows]:
    """The batches, with their rows shown as they go by."""
    with tqdm(desc=what, total=total, unit=" rows", unit_scale=True, disable=None) as bar:
        for batch in batches:
            yield batch
            bar.update(batch.num_rows)
