"""Delete files of other writers, which list deleted rows by file and position."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakefeed.catalog.damaged_tables import damage_errors
from lakefeed.catalog.version_numbers import NumberedTable
from lakefeed.errors import UnsupportedError

POSITION_COLUMNS = ["file_path", "pos"]


def delete_entries(table: Table, snapshot: Snapshot, manifests: Iterable[ManifestFile]) -> list[ManifestEntry]:
    """Returns the manifest entries of the delete files of a snapshot.

    Raises:
        UnsupportedError: one of them has equality deletes.
    """
    deletes: list[ManifestEntry] = []
    for manifest in manifests:
        if manifest.content == ManifestContent.DELETES:
            with damage_errors(table.name()[-1], manifest.manifest_path):
                deletes += manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    for entry in deletes:
        if isinstance(table, NumberedTable):
            entry.sequence_number = table.number_of(entry.sequence_number, entry.snapshot_id)
        if entry.data_file.content == DataFileContent.EQUALITY_DELETES:
            raise UnsupportedError(
                f"version {snapshot.sequence_number} of {table.name()[-1]!r} has equality deletes of another writer "
                f"in {entry.data_file.file_path}, which lakefeed does not support. Compact the table with that program "
                "(Spark: CALL system.rewrite_data_files), or read an older version"
            )
    return deletes


def deleted_positions(table: Table, snapshot: Snapshot) -> dict[str, list[tuple[int, NDArray[np.int64]]]]:
    """Returns the positions of deleted rows by data file, each with the sequence number of the deletion.

    A deletion applies to files whose sequence number is not higher.
    """
    deleted: dict[str, list[tuple[int, NDArray[np.int64]]]] = defaultdict(list)
    for entry in delete_entries(table, snapshot, snapshot.manifests(table.io)):
        with damage_errors(table.name()[-1], entry.data_file.file_path):
            for path, positions in _read_positions(table.io, entry.data_file):
                deleted[path].append((entry.sequence_number or 0, positions))
    return deleted


def remaining_positions(
    rows: int, sequence: int, deleted: Sequence[tuple[int, NDArray[np.int64]]]
) -> NDArray[np.int64]:
    """Returns the positions of the rows of a file that are not deleted.

    Example:
        >>> remaining_positions(4, 1, [(2, np.array([1, 3])), (0, np.array([0]))]).tolist()
        [0, 2]
    """
    remaining = np.ones(rows, np.bool_)
    for deletion_sequence, positions in deleted:
        if deletion_sequence >= sequence:
            remaining[positions] = False
    return np.flatnonzero(remaining)


def _read_positions(io: FileIO, file: DataFile) -> Iterator[tuple[str, NDArray[np.int64]]]:
    if file.file_format != FileFormat.PARQUET:
        yield from _read_with_pyiceberg(io, file)
        return
    with io.new_input(file.file_path).open() as stream:
        table = pq.read_table(stream, columns=POSITION_COLUMNS, partitioning=None)  # type: ignore[arg-type]  # a pyarrow stream
    paths, codes = np.unique(table["file_path"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    positions = table["pos"].to_numpy()
    for code, path in enumerate(paths):
        yield str(path), positions[codes == code]


def _read_with_pyiceberg(io: FileIO, file: DataFile) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Reads deletion vectors, and delete files of other formats."""
    from pyiceberg.io.pyarrow import _read_deletes  # loads pandas

    for path, positions in _read_deletes(io, file).items():
        yield path, positions.to_numpy()
