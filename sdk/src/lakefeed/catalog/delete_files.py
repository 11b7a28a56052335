"""Delete files, which list deleted rows by file and position. Other engines read and write them too.

A delete file applies to the data files that it names and whose sequence number is not higher than its own.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cachetools import LRUCache
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakefeed._units import MIB
from lakefeed.catalog.damaged_tables import damage_errors
from lakefeed.catalog.file_io import actual_location
from lakefeed.catalog.file_refs import NONE, DeleteFileRef, Positions
from lakefeed.catalog.manifest_cache import manifest_entries_of
from lakefeed.catalog.version_numbers import NumberedTable
from lakefeed.errors import UnsupportedError

PATH_FIELD_ID: Final = 2147483546
POSITION_FIELD_ID: Final = 2147483545
POSITION_COLUMNS: Final = ["file_path", "pos"]
CACHED_BYTES: Final = 64 * MIB
"""Bytes of decoded delete files that are kept. The files never change."""
BYTES_A_PATH: Final = 256


class DeleteIndex:
    """The delete files of a snapshot, by the data files that they may name."""

    def __init__(self, files: Iterable[DeleteFileRef]) -> None:
        self.files = tuple(files)
        self._of_one: dict[bytes, list[DeleteFileRef]] = defaultdict(list)
        self._of_several: list[DeleteFileRef] = []
        for file in self.files:
            if file.first == file.last:
                self._of_one[file.first].append(file)
            else:
                self._of_several.append(file)

    def __bool__(self) -> bool:
        return bool(self.files)

    def applying_to(self, path: str, sequence: int) -> tuple[DeleteFileRef, ...]:
        """Returns the delete files that may list rows of a data file of this sequence number, in a fixed order."""
        if not self.files:
            return ()
        key = path.encode()
        several = (file for file in self._of_several if file.sequence >= sequence and file.may_name(key))
        one = (file for file in self._of_one.get(key, ()) if file.sequence >= sequence)
        return tuple(sorted((*one, *several), key=lambda file: (file.sequence, file.path)))


def delete_entries(table: Table, snapshot: Snapshot, manifests: Iterable[ManifestFile]) -> list[ManifestEntry]:
    """Returns the manifest entries of the delete files of a snapshot.

    Raises:
        UnsupportedError: one of them has equality deletes.
    """
    return [entry for _, entry in _entries(table, snapshot, manifests)]


def delete_index(table: Table, snapshot: Snapshot, manifests: Iterable[ManifestFile] | None = None) -> DeleteIndex:
    """Returns the delete files of a snapshot. ``manifests``: those of the snapshot, if they are known.

    Raises:
        UnsupportedError: one of them has equality deletes.
    """
    read = snapshot.manifests(table.io) if manifests is None else manifests
    return DeleteIndex(delete_file_ref(manifest, entry) for manifest, entry in _entries(table, snapshot, read))


def delete_file_ref(manifest: ManifestFile, entry: ManifestEntry) -> DeleteFileRef:
    """Returns the delete file of a manifest entry."""
    file = entry.data_file
    return DeleteFileRef(
        path=file.file_path,
        rows=file.record_count,
        sequence=entry.sequence_number or 0,
        first=(file.lower_bounds or {}).get(PATH_FIELD_ID, b""),
        last=(file.upper_bounds or {}).get(PATH_FIELD_ID),
        file_format=file.file_format.name,
        manifest=manifest.manifest_path,
    )


def _entries(
    table: Table, snapshot: Snapshot, manifests: Iterable[ManifestFile]
) -> Iterator[tuple[ManifestFile, ManifestEntry]]:
    for manifest in manifests:
        if manifest.content != ManifestContent.DELETES:
            continue
        with damage_errors(table.name()[-1], manifest.manifest_path):
            entries = manifest_entries_of(table, manifest)
        for entry in entries:
            yield manifest, checked_delete_entry(table, snapshot, entry)


def checked_delete_entry(table: Table, snapshot: Snapshot, entry: ManifestEntry) -> ManifestEntry:
    """Returns the entry with the number of the version that deleted the rows.

    Raises:
        UnsupportedError: the file has equality deletes.
    """
    if isinstance(table, NumberedTable):
        entry.sequence_number = table.number_of(entry.sequence_number, entry.snapshot_id)
    if entry.data_file.content == DataFileContent.EQUALITY_DELETES:
        raise UnsupportedError(
            f"version {snapshot.sequence_number} of {table.name()[-1]!r} has equality deletes of another writer "
            f"in {entry.data_file.file_path}, which lakefeed does not support. Compact the table with that program "
            "(Spark: CALL system.rewrite_data_files), or read an older version"
        )
    return entry


# ------------------------------------------------------------------------------------------ positions


def positions_by_path(table: Table, file: DeleteFileRef) -> Mapping[str, Positions]:
    """Returns the positions that a delete file lists, by data file. They are cached.

    Raises:
        DamagedDatasetError: the file is missing or invalid.
    """
    location = actual_location(table.io, file.path)
    with _lock:
        listed = _decoded.get(location)
    if listed is None:
        with damage_errors(table.name()[-1], file.path):
            listed = {path: united_positions([positions]) for path, positions in _read_positions(table.io, file)}
        size = _decoded_bytes(listed)
        if size <= CACHED_BYTES:
            with _lock:
                _decoded[location] = listed
    return listed


def deleted_positions(table: Table, path: str, files: Sequence[DeleteFileRef]) -> Positions:
    """Returns the positions of the rows of one data file that delete files list."""
    listed = [positions_by_path(table, file).get(path, NONE) for file in files]
    listed = [positions for positions in listed if len(positions)]
    return listed[0] if len(listed) == 1 else united_positions(listed)


def united_positions(listed: Sequence[Positions]) -> Positions:
    """Returns the positions of all lists, sorted and distinct.

    Example:
        >>> united_positions([np.array([1, 4]), np.array([0, 4])]).tolist()
        [0, 1, 4]
    """
    if not listed:
        return NONE
    positions = np.concatenate(listed)
    positions.sort(kind="stable")  # it merges sorted lists, which `np.unique` would hash
    return positions[np.concatenate([[True], positions[1:] != positions[:-1]])] if len(positions) else positions


def subtract_positions(positions: Positions, others: Positions) -> Positions:
    """Returns the positions without the others.

    Example:
        >>> subtract_positions(np.array([1, 3, 4]), np.array([3, 9])).tolist()
        [1, 4]
    """
    if not len(positions) or not len(others):
        return positions
    nearest = np.minimum(np.searchsorted(others, positions), len(others) - 1)
    remaining: Positions = positions[others[nearest] != positions]
    return remaining


def _read_positions(io: FileIO, file: DeleteFileRef) -> Iterator[tuple[str, Positions]]:
    if file.file_format != FileFormat.PARQUET.name:
        yield from _read_with_pyiceberg(io, file)
        return
    with io.new_input(file.path).open() as stream:
        table = pq.read_table(stream, columns=POSITION_COLUMNS, partitioning=None)  # type: ignore[arg-type]  # a pyarrow stream
    if not table.num_rows:
        return
    texts = pa.concat_arrays(table["file_path"].cast(pa.string()).chunks)
    encoded = texts.dictionary_encode()
    paths, codes = encoded.dictionary, encoded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    positions = table["pos"].to_numpy()[order]
    ends = np.searchsorted(codes[order], np.arange(len(paths)), side="right")
    for path, end, start in zip(paths.to_pylist(), ends, [0, *ends[:-1]], strict=True):
        yield str(path), positions[start:end]


def _read_with_pyiceberg(io: FileIO, file: DeleteFileRef) -> Iterator[tuple[str, Positions]]:
    """Reads deletion vectors, and delete files of other formats."""
    from pyiceberg.io.pyarrow import _read_deletes  # loads pandas

    described = DataFile.from_args(file_path=file.path, file_format=FileFormat[file.file_format])
    for path, positions in _read_deletes(io, described).items():
        yield path, positions.to_numpy()


def _decoded_bytes(listed: Mapping[str, Positions]) -> int:
    return sum(positions.nbytes + BYTES_A_PATH for positions in listed.values())


_decoded: LRUCache[str, Mapping[str, Positions]] = LRUCache(CACHED_BYTES, getsizeof=_decoded_bytes)
_lock = threading.Lock()
