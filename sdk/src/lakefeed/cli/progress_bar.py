"""Progress on standard error: on a terminal only, and not where ``TQDM_DISABLE`` is set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def show_progress(items: Iterable[Item], unit: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items, and shows their number. An item with ``num_rows`` counts as that many."""
    from tqdm import tqdm

    from lakefeed._variables import disable_progress

    with tqdm(total=total, unit=f" {unit}", unit_scale=True, disable=disable_progress(), leave=False) as bar:
        for item in items:
            yield item
            bar.update(getattr(item, "num_rows", 1))
