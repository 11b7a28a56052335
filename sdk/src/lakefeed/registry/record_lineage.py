"""The lineage of records: the data, code and runs that they were made of, and those that they were used for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakefeed import provenance
from lakefeed.provenance.tracked_run import current as current_run
from lakefeed.provenance.tracked_run import track

if TYPE_CHECKING:
    from lakefeed.provenance import Lineage

__all__ = ["current_run", "lineage", "track"]


def lineage(x: Any, up: int | None = None, down: int | None = None) -> Lineage:
    """Returns what a record or run was made of, and what was made of it, as data and as a picture.

    Args:
        x: a `Dataset`, a `File`, a `Run`, or what `lakefeed.lineage` takes.
        up: the most steps towards what it was made of. 0 is none, None is all.
        down: the most steps towards what was made of it. 0 is none, None is all.

    Raises:
        UnsavedDatasetError: the record is not saved.
        DatasetNotFoundError: nothing of that name is known.
        InvalidArgumentError: an argument is malformed.

    Example:
        >>> import pandas as pd
        >>> from lakefeed.registry import Dataset, track
        >>> with track("making numbers"):
        ...     numbers = Dataset(pd.DataFrame({"x": [1]}), name="numbers")
        ...     numbers.save()
        >>> [node.kind for node in lineage(numbers).nodes if node.label == "making numbers"]
        ['run']
    """
    return provenance.lineage(x, up, down)
