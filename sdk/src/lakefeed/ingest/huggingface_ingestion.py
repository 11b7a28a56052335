"""`HuggingFaceSource`: ingests the rows that a growing Hugging Face dataset gained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lakefeed.catalog import Fence, Provenance
from lakefeed.dataset import Dataset
from lakefeed.errors import StateMismatchError
from lakefeed.ingest.ingestion_source import FencedSource, IngestResult, ignore_lost_race, write_rows


@dataclass(frozen=True)
class HuggingFaceSource(FencedSource):
    """Appends the rows of a split to a dataset. Later runs append the rows that the hub gained since.

    It assumes that the split grows at its end, as datasets on the hub do.

    Args:
        name: the name of the source.
        into: the dataset.
        dataset: the name of the dataset on the hub.
        split: the split. None selects the only one.
        options: passed to ``datasets.load_dataset``: ``revision``, ``name``, ``data_files``, …
        max_rows: the most rows of one commit.
        description: the description of a new dataset.
    """

    name: str
    into: str
    dataset: str
    split: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    max_rows: int = 100_000
    description: str | None = None

    def waiting(self) -> str | None:
        """Returns the number of new rows as text; None if there are none. It downloads the split to count them.

        Raises:
            MissingFileError, FileError: the dataset does not exist, or the hub cannot be reached.
        """
        left = len(self._rows()) - int(self.pointer() or 0)
        return f"{left} rows" if left > 0 else None

    def take(self, provenance: Provenance) -> Iterator[IngestResult]:
        """Ingests the new rows, and yields the result of each commit.

        Args:
            provenance: the run and code that write.

        Raises:
            StateMismatchError: the split has fewer rows than were ingested.
            MissingFileError, FileError: the dataset does not exist, or the hub cannot be reached.
        """
        rows = self._rows()
        total = len(rows)
        while True:
            before = self.pointer()
            begin = int(before or 0)
            if begin > total:
                raise StateMismatchError(
                    f"{self.dataset!r} has {total} rows, but ingest {self.name!r} has read {begin}: it was replaced. "
                    "Ingest it under another name"
                )
            if begin == total:
                return
            end = min(begin + self.max_rows, total)
            commit = replace(provenance, message=f"ingest {self.name}: {self.dataset} rows {begin} to {end}")
            with ignore_lost_race(self, before):
                added, version = write_rows(
                    rows.slice(begin, end), self, commit, Fence(self.fence, before, str(end)), "auto"
                )
                yield IngestResult((f"rows {begin} to {end}",), added, version)

    def _rows(self) -> Dataset:
        return Dataset.from_huggingface(self.dataset, self.split, False, **self.options)
