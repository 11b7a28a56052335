"""Names of datasets, their newest versions, and their tags, as cheaply as the catalog can tell them.

The command line uses it: of an embedded lake, it imports neither PyIceberg nor pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from lakefeed.catalog import dataset_summary, lake, table_listing
from lakefeed.errors import FileError

if TYPE_CHECKING:
    from lakefeed.catalog.dataset_summary import DatasetSummary


def list_names() -> list[str]:
    """Returns the names of all datasets of the lake, sorted.

    Raises:
        CatalogUnavailableError: the catalog cannot be reached.
    """
    return lake.Lake.current().names()


def list_summaries(names: Iterable[str]) -> Iterator[tuple[str, DatasetSummary | FileError]]:
    """Yields the newest version of each dataset, or the error if its metadata cannot be read.

    Skips datasets that were deleted.

    Raises:
        CatalogUnavailableError: the catalog cannot be reached.
    """
    for name, summary in dataset_summary.summarize(lake.Lake.current(), names):
        if isinstance(summary, FileError) or not summary.file_types:
            yield name, summary
            continue
        from lakefeed.media import MEDIA  # it imports pyarrow

        # Others are of a newer lakefeed, or of a plug-in that is not installed.
        yield name, replace(summary, file_types=tuple(each for each in summary.file_types if each in MEDIA))


def list_pins(name: str) -> list[str]:
    """Returns the tags of a dataset and the numbers of its versions, newest first.

    Raises:
        DatasetNotFoundError: the dataset does not exist.
        DamagedDatasetError: its metadata is missing or invalid.
    """
    facts = table_listing.table_facts(lake.Lake.current(), name)
    if facts is not None:
        return [*facts.tags, *(str(each.version) for each in facts.versions)]
    from lakefeed.dataset import Dataset  # it imports pyarrow

    dataset = Dataset(name)
    return [*dataset.tags(), *(str(each.version) for each in dataset.list_versions())]
