"""The error that explains why a streamed dataset cannot be indexed."""

from __future__ import annotations

from typing import Any

from lakefeed.errors import SubscriptError


class StreamedRows:
    """A dataset whose rows are streamed, so that it cannot be indexed."""

    def __getitem__(self, index: Any) -> Any:
        """Raises an error. `mapped` returns a dataset that can be indexed.

        Raises:
            SubscriptError: always. The message names the method to call instead.
        """
        raise SubscriptError(f"dataset[{index!r:.80}]: the rows of a dataset are streamed. {_alternative(index)}")


def _alternative(index: Any) -> str:
    random_access = "dataset.mapped() returns one that reads rows by index, fast and in any order"
    if isinstance(index, str):
        return f"For a column use dataset.select([{index!r}]), for its values dataset.to_arrow()[{index!r}]"
    if isinstance(index, slice):
        return f"For a range of rows use dataset.slice(start, stop) or dataset.head(n); {random_access}"
    return f"For rows by index use dataset.take([…]), for the first rows dataset.head(n); {random_access}"
