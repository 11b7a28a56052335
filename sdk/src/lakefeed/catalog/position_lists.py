"""The positions of deleted rows that delete files list. Without types of PyIceberg."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cachetools import LRUCache

from lakefeed._units import MIB
from lakefeed.catalog.damaged_tables import damage_errors
from lakefeed.catalog.file_access import FileAccess
from lakefeed.catalog.file_refs import NONE, PARQUET, DataFileRef, DeleteFileRef, Positions, RowSelection

POSITION_COLUMNS: Final = ["file_path", "pos"]
CACHED_BYTES: Final = 64 * MIB
"""Bytes of decoded delete files that are kept. The files never change."""
BYTES_A_PATH: Final = 256


class PositionLists:
    """The positions that delete files of one table list.

    Args:
        access: opens the files.
        name: the name of the table, for messages.
    """

    def __init__(self, access: FileAccess, name: str) -> None:
        self._access, self._name = access, name

    def by_path(self, file: DeleteFileRef) -> Mapping[str, Positions]:
        """Returns the positions that a delete file lists, by data file. They are cached.

        Raises:
            DamagedDatasetError: the file is missing or invalid.
        """
        location = self._access.actual(file.path)
        with _lock:
            listed = _decoded.get(location)
        if listed is None:
            with damage_errors(self._name, file.path):
                listed = {path: united_positions([positions]) for path, positions in self._read(file)}
            size = _decoded_bytes(listed)
            if size <= CACHED_BYTES:
                with _lock:
                    _decoded[location] = listed
        return listed

    def deleted(self, path: str, files: Sequence[DeleteFileRef]) -> Positions:
        """Returns the positions of the rows of one data file that delete files list."""
        listed = [self.by_path(file).get(path, NONE) for file in files]
        listed = [positions for positions in listed if len(positions)]
        return listed[0] if len(listed) == 1 else united_positions(listed)

    def select_rows(self, file: DataFileRef) -> RowSelection:
        """Returns the rows of a data file that are read. Reads only its delete files.

        Raises:
            DamagedDatasetError: a delete file is missing or invalid.
        """
        deleted = self.deleted(file.path, file.deletes)
        if file.among is None:
            return RowSelection(file.rows, deleted, inverted=True)
        return RowSelection(file.rows, subtract_positions(self.deleted(file.path, file.among), deleted))

    def _read(self, file: DeleteFileRef) -> Iterable[tuple[str, Positions]]:
        if file.file_format != PARQUET:
            return self._access.read_positions(file)
        with self._access.open(file.path) as stream:
            return list(_parquet_positions(stream))


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


def _parquet_positions(stream: Any) -> Iterator[tuple[str, Positions]]:
    """Yields the data files that a delete file names, each with the positions, which may be repeated."""
    with pq.ParquetFile(stream) as file:  # `read_table` would load pyarrow.dataset
        table = file.read(columns=POSITION_COLUMNS)
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


def _decoded_bytes(listed: Mapping[str, Positions]) -> int:
    return sum(positions.nbytes + BYTES_A_PATH for positions in listed.values())


_decoded: LRUCache[str, Mapping[str, Positions]] = LRUCache(CACHED_BYTES, getsizeof=_decoded_bytes)
_lock = threading.Lock()
