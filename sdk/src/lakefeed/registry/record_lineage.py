"""The lineage of records: the data, code and runs that they were made of, and those that they were used for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakefeed import provenance
from lakefeed.provenance.origin_index import VersionKey
from lakefeed.provenance.tracked_run import current as current_run
from lakefeed.provenance.tracked_run import track
from lakefeed.records.record_tables import Presence
from lakefeed.registry.record_base import Record
from lakefeed.registry.run_records import Run

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
    return provenance.lineage(_thing_of(x), up, down)


def _thing_of(x: Any) -> Any:
    """Returns the thing that lineages know of a record."""
    from lakefeed.registry.file_records import File

    if isinstance(x, Run):
        return x.external or x.uid
    if isinstance(x, File):
        return x._require_row("lineage")["uid"]
    if not isinstance(x, Record):
        return x
    row = x._current_row("lineage")
    if row["presence"] == Presence.GONE:  # the lineage names it still
        return VersionKey(row["table_uuid"], row["revision"])
    return x.dataset  # type: ignore[attr-defined]  # a Dataset
