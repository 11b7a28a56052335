"""The time in which rows are written: nothing that they rely on is collected as garbage meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.reclaim import reclaim_when_full, report_when_full
from lakefeed.catalog.snapshot_builder import BeforeCommit, PreCommitCheck
from lakefeed.media.cell_sources import CopyFiles
from lakefeed.media.foreign_columns import ForeignColumns
from lakefeed.media.store_columns import FileColumnWriter, check_copy
from lakefeed.ops import StoreFiles
from lakefeed.plan import Node, lineage
from lakefeed.run.progress import counted
from lakefeed.storage.blobs.blob_writer import BlobWriter
from lakefeed.storage.cache.file_fingerprints import FileFingerprints


class WriteContext(NamedTuple):
    """A plan that is about to be written, and what to call right before the commit."""

    plan: Node
    before_commit: BeforeCommit


class PartContext(NamedTuple):
    """A plan of which the rows are a part of a write, and the objects that it has added to the blob store so far."""

    plan: Node
    new_objects: Callable[[], Collection[str]]


@contextmanager
def write_context(lake: Lake) -> Iterator[BeforeCommit]:
    """For writes of rows that bring no files: what they have written is safe for as long as they take.

    Yields what to call right before the commit.
    """
    with reclaim_when_full(lake), lake.blobs.hold_lease() as before_commit:
        yield before_commit


@contextmanager
def content_saving(lake: Lake) -> Iterator[tuple[BlobWriter, BeforeCommit]]:
    """Holds a lease for a commit that names contents. Yields the writer of contents and the check before the commit."""
    writer = lake.blobs.open_writer()
    check = PreCommitCheck(writer.require_alive)
    with reclaim_when_full(lake, lambda: writer.new_objects, check), writer:
        yield writer, check


@contextmanager
def with_files(
    lake: Lake, plan: Node, types: Mapping[str, str], copy: CopyFiles, stats: bool, label: str
) -> Iterator[WriteContext]:
    """The plan with its file columns ``types`` stored as ``copy`` says, for as long as the block takes.

    Where the block raises StorageFullError, the files that it has stored are removed, as `reclaim_when_full` says.
    """
    check_copy(copy)
    if not types:
        with write_context(lake) as before_commit:
            yield WriteContext(plan, before_commit)
        return
    saving = lake.blobs.open_writer()
    commit = PreCommitCheck(saving.require_alive)
    storing = _storing(lake, plan, types, copy, stats, label, saving)
    with reclaim_when_full(lake, lambda: saving.new_objects, commit), saving, storing as typed:
        yield WriteContext(typed, commit)


@contextmanager
def with_files_of_part(
    lake: Lake, plan: Node, types: Mapping[str, str], copy: CopyFiles, stats: bool, label: str
) -> Iterator[PartContext]:
    """As `with_files`, for a part of a write that is committed elsewhere: StorageFullError names what it wrote."""
    check_copy(copy)
    if not types:
        with write_context(lake):
            yield PartContext(plan, tuple)
        return
    saving = lake.blobs.open_writer()
    storing = _storing(lake, plan, types, copy, stats, label, saving)
    with report_when_full(lambda: saving.new_objects), saving, storing as typed:
        yield PartContext(typed, lambda: saving.new_objects)


@contextmanager
def _storing(
    lake: Lake, plan: Node, types: Mapping[str, str], copy: CopyFiles, stats: bool, label: str, saving: BlobWriter
) -> Iterator[Node]:
    with counted(f"files of {label}", "B") as progress:
        fingerprints = FileFingerprints(lake.settings.cache)
        foreign = ForeignColumns(lineage(plan).untrusted, lake.settings.files.local_folders)
        yield StoreFiles(
            plan, FileColumnWriter(dict(sorted(types.items())), saving, fingerprints, copy, stats, progress, foreign)
        )
