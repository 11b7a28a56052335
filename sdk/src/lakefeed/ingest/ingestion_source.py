"""What every source has: a name, a dataset that it feeds, and a way to take what is new, exactly once."""

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
    """One commit: these ``files`` (or other things) became ``rows`` of ``version``.

    ``quarantined``: the files that did not fit, and those of which some rows did not.
    """

    files: tuple[str, ...]
    rows: int
    version: int
    quarantined: tuple[str, ...] = field(default=())


class FencedSource:
    """What our sources share: how far they are is stored with the rows, under a key that their name makes."""

    name: str
    into: str
    description: str | None

    @property
    def fence(self) -> str:
        """The key under which the dataset says what is in."""
        return f"ingest/{self.name}"

    def pointer(self) -> str | None:
        """What it says; None before the first commit."""
        try:
            return fence_value(Lake.current().table(self.into), self.fence)
        except DatasetNotFoundError:
            return None


@runtime_checkable
class Source(Protocol):
    """Something that rows come from. Immutable; ``take`` may be called by several processes at once."""

    @property
    def name(self) -> str: ...
    @property
    def into(self) -> str: ...
    @property
    def description(self) -> str | None: ...

    def waiting(self) -> str | None:
        """What is new, in a few words that change when there is more; None if nothing is. Commits nothing."""

    def take(self, provenance: Provenance) -> Iterator[IngestResult]:
        """Appends what is new; yields each commit as it lands."""


def ingest(source: Source, *, run: str | None = None, code: str | None = None) -> Iterator[IngestResult]:
    """Append what is new, in commits of bounded size; yields each commit as it lands.

    Raises:
        MissingFileError: a file vanished, or one that it refers to is not there; nothing of its commit is in.
        FileError: a file cannot be read, or was changed while it was read; nothing of its commit is in.
        SchemaError: what came does not fit the dataset, and the source says to fail then.
    """
    return source.take(Provenance(run=run, code=code))


@contextmanager
def ignore_lost_race(source: FencedSource, before: str | None) -> Iterator[None]:
    """Leaves the block where another run is first, which moves what the source said ``before``: look at it again.

    Raises:
        FenceError: nothing moved: the next attempt would fail the same way.
    """
    try:
        yield
    except DatasetExistsError:
        logger.info("ingest %s: %r has just been made by another", source.name, source.into)
    except FenceError:
        if source.pointer() == before:
            raise
        logger.info("ingest %s: another run was first", source.name)


def write_rows(
    rows: Dataset, source: FencedSource, provenance: Provenance, fence: Fence, column_types: object
) -> tuple[int, int]:
    """Rows and fence in one commit; the rows that it added, and the version.

    Raises:
        FenceError, DatasetExistsError: another run was first.
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
