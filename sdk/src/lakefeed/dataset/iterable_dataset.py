"""Rows that have no places."""

from __future__ import annotations

from typing import Any

from lakefeed.errors import SubscriptError


class StreamedRows:
    """A dataset whose rows are streamed: ``dataset[…]`` says what to call instead."""

    def __getitem__(self, place: Any) -> Any:
        """Raises `SubscriptError`; ``mapped()`` gives a dataset that has places."""
        raise SubscriptError(f"dataset[{place!r:.80}]: the rows of a dataset are streamed. {_instead(place)}")


def _instead(place: Any) -> str:
    random_access = "dataset.mapped() gives one that has rows at places, fast and in any order"
    if isinstance(place, str):
        return f"For a column use dataset.select([{place!r}]), for its values dataset.to_arrow()[{place!r}]"
    if isinstance(place, slice):
        return f"For a range of rows use dataset.slice(start, stop) or dataset.head(n); {random_access}"
    return f"For rows at places use dataset.take([…]), for the first ones dataset.head(n); {random_access}"
