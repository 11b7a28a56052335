"""What is in the lake."""

from __future__ import annotations

import datetime as dt

from lakefeed.catalog import lake
from lakefeed.dataset import Dataset


def list_datasets() -> list[Dataset]:
    """Every dataset of the lake, by name.

    Example:
        >>> _ = Dataset.from_dict({"x": [1]}).save("one")
        >>> [dataset.name for dataset in list_datasets()]
        ['one']
    """
    return [Dataset(name) for name in lake.Lake.current().names()]


def get_dataset(name: str, *, version: int | str | None = None, as_of: dt.datetime | int | None = None) -> Dataset:
    """The dataset of that name, which must exist (``Dataset(name)`` does not look).

    Raises:
        DatasetNotFoundError: with the near misses.
        VersionNotFoundError: with the versions that exist.

    Example:
        >>> _ = Dataset.from_dict({"x": [1]}).save("one")
        >>> len(get_dataset("one"))
        1
    """
    dataset = Dataset(name, version=version, as_of=as_of)
    _ = dataset.version
    return dataset
