"""A Hugging Face dataset that grows: each commit takes the rows after those that are in."""

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
    """The rows of a split, appended to dataset ``into``; what was added on the hub since comes with the next run.

    A split is taken to grow at its end, as data sets on the hub do; ``options`` (``revision``, ``name``,
    ``data_files``, …) go to ``datasets.load_dataset``. ``max_rows``: in one commit.

    Raises:
        StateMismatchError: when taken: the split has become shorter than what is in.
    """

    name: str
    into: str
    dataset: str
    split: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    max_rows: int = 100_000
    description: str | None = None

    def waiting(self) -> str | None:
        """Downloads the split, as a run would: how many rows it has is not told before."""
        left = len(self._rows()) - int(self.pointer() or 0)
        return f"{left} rows" if left > 0 else None

    def take(self, provenance: Provenance) -> Iterator[IngestResult]:
        rows = self._rows()
        total = len(rows)
        while True:
            before = self.pointer()
            begin = int(before or 0)
            if begin > total:
                raise StateMismatchError(
                    f"{self.dataset!r} has {total} rows, but ingest {self.name!r} has taken {begin}: it was replaced. "
                    "Ingest it under another name"
                )
            if begin == total:
                return
            end = min(begin + self.max_rows, total)
            said = replace(provenance, message=f"ingest {self.name}: {self.dataset} rows {begin} to {end}")
            with ignore_lost_race(self, before):
                added, version = write_rows(
                    rows.slice(begin, end), self, said, Fence(self.fence, before, str(end)), "auto"
                )
                yield IngestResult((f"rows {begin} to {end}",), added, version)

    def _rows(self) -> Dataset:
        return Dataset.from_huggingface(self.dataset, self.split, False, **self.options)
