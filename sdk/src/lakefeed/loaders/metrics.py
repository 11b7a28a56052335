"""Metrics of a loader: what it delivered, and the time that the training loop waited."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from lakefeed.run.epoch_reader import Part
from lakefeed.run.step_chain import SkippedRows
from lakefeed.run.text_table import html_table, text_table
from lakefeed.storage.cache.blob_cache import CacheStatistics

HEADINGS = ("metric", "value")
COUNTS = ("batches", "rows", "bytes", "rows_read", "rows_skipped", "cache_hits", "cache_misses")


@dataclass(frozen=True)
class LoaderMetrics:
    """Counts since the loader was made.

    ``waited``: seconds that the training loop waited for batches; ``seconds``: those from the first request to the
    latest batch. Where ``waited`` is most of ``seconds`` the loader is the bottleneck, else the training is.
    ``rows`` and ``bytes`` were read for this rank (those made ahead are among them), ``batches`` were delivered.
    ``rows_read`` are the rows that this process read for them: of a stream also those of other ranks.
    ``rows_skipped`` are rows that `map` or `load_files` with ``on_error="skip"`` left out: those of this rank, or of
    all that this process read where they are left out before rows are dealt to ranks (below a filter).
    ``cache_hits`` are files of `load_files` that were on this machine, ``cache_misses`` those that were fetched.
    """

    batches: int = 0
    rows: int = 0
    bytes: int = 0
    waited: float = 0.0
    seconds: float = 0.0
    cache_hits: int = 0
    cache_misses: int = 0
    rows_read: int = 0
    rows_skipped: int = 0

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        return text_table(HEADINGS, self._lines(), frozenset(HEADINGS[:1]))

    def _repr_html_(self) -> str:
        """Returns the counts as a table for notebooks."""
        return html_table(HEADINGS, self._lines())

    def _lines(self) -> list[tuple[str, str]]:
        share = f" ({self.waited / self.seconds:.0%})" if self.seconds else ""
        counts = [(name, getattr(self, name)) for name in COUNTS]
        return [
            *((name, f"{count:,}") for name, count in counts),
            ("seconds", f"{self.seconds:,.2f}"),
            ("waited", f"{self.waited:,.2f}{share}"),
            ("rows_per_second", f"{self.rows_per_second:,.0f}"),
        ]


class Meter:
    """Counts; cheap enough for every batch."""

    __slots__ = ("_batches", "_begun", "_bytes", "_ended", "_rows", "_rows_read", "_waited", "files", "skipped")

    def __init__(self, skipped: SkippedRows | None = None) -> None:
        self._batches = self._rows = self._bytes = self._rows_read = 0
        self.files = CacheStatistics()
        self.skipped = SkippedRows() if skipped is None else skipped
        self._waited = 0.0
        self._begun: float | None = None
        self._ended = 0.0

    def delivered(self, asked: float, given: float) -> None:
        """A batch was asked for and given at these moments."""
        if self._begun is None:
            self._begun = asked
        self._batches += 1
        self._waited += given - asked
        self._ended = given

    def metered(self, parts: Generator[Part], *, of_all_ranks: bool = False) -> Generator[Part]:
        """Yields the parts and counts their rows, those of this rank unless `keep` counts them."""
        with closing(parts):
            for part in parts:
                rows = sum(stop - start for (start, stop), _ in part.ranges)
                self._rows_read += rows
                if not of_all_ranks:
                    self.keep(part.rows, rows)
                yield part

    def keep(self, batch: pa.RecordBatch, rows: int) -> None:
        """Counts so many rows of a batch as rows of this rank."""
        self._rows += rows
        self._bytes += batch.nbytes * rows // max(batch.num_rows, 1)

    def read(self) -> LoaderMetrics:
        """The counts by now."""
        seconds = 0.0 if self._begun is None else self._ended - self._begun
        files = self.files.read()
        return LoaderMetrics(
            self._batches, self._rows, self._bytes, self._waited, seconds, *files, self._rows_read, self.skipped.count
        )
