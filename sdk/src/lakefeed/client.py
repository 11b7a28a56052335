"""Functions that list and find the datasets of the lake."""

from __future__ import annotations

import datetime as dt

from lakefeed.catalog import lake
from lakefeed.dataset import Dataset


def list_datasets() -> list[Dataset]:
    """Returns every dataset of the lake, ordered by name.

    Raises:
        CatalogUnavailableError: the catalog cannot be reached.

    Example:
        >>> _ = Dataset.from_dict({"x": [1]}).save("one")
        >>> "one" in [dataset.name for dataset in list_datasets()]
        True
    """
    return [Dataset(name) for name in lake.Lake.current().names()]


def get_dataset(name: str, *, version: int | str | None = None, as_of: dt.datetime | int | None = None) -> Dataset:
    """Returns a dataset, and checks that it exists; ``Dataset(name)`` does not.

    Args:
        name: the name of the dataset.
        version: the number or the tag of a version. None follows the newest version.
        as_of: read the version that was the newest at this time, as in `Dataset`.

    Raises:
        DatasetNotFoundError: the dataset does not exist. The message suggests similar names.
        VersionNotFoundError: the version does not exist. The message lists the existing ones.

    Example:
        >>> _ = Dataset.from_dict({"x": [1]}).save("numbers")
        >>> len(get_dataset("numbers"))
        1
    """
    dataset = Dataset(name, version=version, as_of=as_of)
    _ = dataset.version
    return dataset
