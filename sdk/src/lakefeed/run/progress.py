"""Progress bars: on a terminal only, and not where ``TQDM_DISABLE`` is set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lakefeed._variables import disable_progress

if TYPE_CHECKING:
    from tqdm import tqdm


class Rows(Protocol):
    """Some rows; a batch, say."""

    @property
    def num_rows(self) -> int: ...


SomeRows = TypeVar("SomeRows", bound=Rows)


@contextmanager
def counted(title: str, unit: str) -> Iterator[Callable[[int], object]]:
    """Yields a function to call with the number of units that are done. The bar appears with the first."""
    bar: tqdm[Any] | None = None

    def update(done: int) -> None:
        nonlocal bar
        bar = bar if bar is not None else _bar(title, unit)
        bar.update(done)

    try:
        yield update
    finally:
        if bar is not None:
            bar.close()


def tracked(batches: Iterable[SomeRows], title: str, total: int | None = None) -> Iterator[SomeRows]:
    """The batches, with their rows shown as they go by."""
    with _bar(title, " rows", total) as bar:
        for batch in batches:
            yield batch
            bar.update(batch.num_rows)


def _bar(title: str, unit: str, total: int | None = None) -> tqdm[Any]:
    from tqdm import tqdm

    return tqdm(desc=title, total=total, unit=unit, unit_scale=True, disable=disable_progress())
