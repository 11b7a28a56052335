"""The interface of ingestion sources, `ingest`, and the fenced commit that all sources share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from lakefeed.catalog import Fence, Lake, Provenance, fence_value, resolve
from lakefeed.dataset import Dataset
from lakefeed.errors import DatasetExistsError, DatasetNotFoundError, FenceError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestResult:
    """One commit of an ingestion.

    Attributes:
        files: the files, or other inputs, that were read.
        rows: the number of rows that were added.
        version: the version that was made.
        quarantined: the files that did not fit, or some of whose rows did not fit.
        failed: the files that could not be read. They are tried again later.
    """

    files: tuple[str, ...]
    rows: int
    version: int
    quarantined: tuple[str, ...] = field(default=())
    failed: tuple[str, ...] = field(default=())


class FencedSource:
    """The base of our sources. It stores their progress with the rows, under a key made of the source's name."""

    name: str
    into: str
    description: str | None

    @property
    def fence(self) -> str:
        """The key under which the dataset stores the progress."""
        return f"ingest/{self.name}"

    def pointer(self) -> str | None:
        """Returns the stored progress; None before the first commit."""
        try:
            return fence_value(Lake.current().table(self.into), self.fence)
        except DatasetNotFoundError:
            return None


@runtime_checkable
class Source(Protocol):
    """The interface of a source of rows. It is immutable. Several processes may call ``take`` at once."""

    @property
    def name(self) -> str: ...
    @property
    def into(self) -> str: ...
    @property
    def description(self) -> str | None: ...

    def waiting(self) -> str | None:
        """Returns a short description of the new rows, which changes when there are more; None if there are none.

        It commits nothing.
        """

    def take(self, provenance: Provenance) -> Iterator[IngestResult]:
        """Appends the new rows, and yields the result of each commit.

        Args:
            provenance: the run and code that write.
        """


def ingest(source: Source, *, run: str | None = None, code: str | None = None) -> Iterator[IngestResult]:
    """Appends the new rows of a source, in commits of bounded size. Yields the result of each commit.

    Args:
        source: the source.
        run: the id of the run, for the provenance.
        code: the version of the code, for the provenance.

    Raises:
        MissingFileError: a file vanished, or names a file that does not exist. The other files are ingested first.
        FileError: a file cannot be read, or changed while it was read. The other files are ingested first.
        SchemaError, FormatError: a file does not fit the dataset, or is broken. Its commit is not made.

    A source of files with ``drift="quarantine"`` raises none of these for a single file or row: it puts them into the
    quarantine, or tries them again later, and logs it.
    """
    return source.take(Provenance(run=run, code=code))


@contextmanager
def ignore_lost_race(source: FencedSource, before: str | None) -> Iterator[None]:
    """Suppresses the error of a commit if another run committed first, so that the caller looks again.

    Raises:
        FenceError: the progress is still ``before``, so another attempt would fail in the same way.
    """
    try:
        yield
    except DatasetExistsError:
        logger.info("ingest %s: another run has just created %r", source.name, source.into)
    except FenceError:
        if source.pointer() == before:
            raise
        logger.info("ingest %s: another run committed first", source.name)


def write_rows(
    rows: Dataset, source: FencedSource, provenance: Provenance, fence: Fence, column_types: object
) -> tuple[int, int]:
    """Commits rows and fence. Returns the number of added rows and the version.

    Raises:
        FenceError, DatasetExistsError: another run committed first.
    """
    lake = Lake.current()
    if lake.exists(source.into):
        written = rows.append_to(source.into, provenance=provenance, fence=fence)
    else:
        written = rows.save(
            source.into,
            description=source.description,
            column_types=column_types,  # type: ignore[arg-type]  # checked by save
            provenance=provenance,
            fence=fence,
        )
    version = resolve(lake.table(source.into), written.version)
    return version.added_records, version.version
