"""The writer of position-delete files, and the choice of delete files to merge."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, StringType

from lakefeed.catalog.delete_files import PATH_FIELD_ID, POSITION_FIELD_ID
from lakefeed.catalog.durability import sync_files, sync_folder
from lakefeed.catalog.file_io import actual_location
from lakefeed.catalog.file_refs import DeleteFileRef, Positions
from lakefeed.catalog.snapshot_builder import SnapshotBuilder
from lakefeed.catalog.table_columns import FIELD_ID
from lakefeed.catalog.table_output import new_file
from lakefeed.config import WriteSettings
from lakefeed.storage.disk.disk_errors import storage_errors

MERGED_FILES: Final = 8
"""So many delete files of similar size are merged into the one that is written."""
ROW_GROUP_ROWS: Final = 1 << 20
COLUMNS: Final[list[pa.Field[Any]]] = [
    pa.field("file_path", pa.string(), nullable=False, metadata={FIELD_ID: str(PATH_FIELD_ID)}),
    pa.field("pos", pa.int64(), nullable=False, metadata={FIELD_ID: str(POSITION_FIELD_ID)}),
]
SCHEMA: Final = pa.schema(COLUMNS)


def write_delete_file(
    table: Table, builder: SnapshotBuilder, positions: Mapping[str, Positions], sizes: WriteSettings
) -> DataFile:
    """Writes the positions (sorted) of deleted rows by data file into one delete file.

    The file is registered with ``builder``. Its bounds are whole paths, so that readers skip it for other files.
    """
    location = table.location_provider().new_data_location(f"{uuid.uuid4().hex}-deletes.parquet")
    paths = sorted(positions, key=str.encode)
    with new_file(table.io, location) as output, storage_errors(output.path):
        options: dict[str, Any] = {"compression": sizes.compression, "use_dictionary": ["file_path"]}
        with pq.ParquetWriter(output.open_stream(), SCHEMA, **options) as writer:
            for part in _parts(paths, positions):
                writer.write_table(part, ROW_GROUP_ROWS)
        output.close()
        size = len(output)
    sync_files([actual_location(table.io, location)])
    sync_folder(actual_location(table.io, location))
    lowest, highest = (int(pick(pick(positions[path]) for path in paths)) for pick in (min, max))
    file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=sum(map(len, positions.values())),
        file_size_in_bytes=size,
        lower_bounds=_bounds(paths[0], lowest),
        upper_bounds=_bounds(paths[-1], highest),
    )
    file.spec_id = table.metadata.default_spec_id
    builder.track_files([file])
    return file


def _parts(paths: Iterable[str], positions: Mapping[str, Positions]) -> Iterable[pa.Table]:
    """Yields the rows of the delete file, in tables of bounded size."""
    names: list[str] = []
    listed: list[Positions] = []
    for path in paths:
        for start in range(0, len(positions[path]), ROW_GROUP_ROWS):
            names.append(path)
            listed.append(positions[path][start : start + ROW_GROUP_ROWS])
            if sum(map(len, listed)) >= ROW_GROUP_ROWS:
                yield _part(names, listed)
                names, listed = [], []
    if listed:
        yield _part(names, listed)


def _part(names: list[str], listed: list[Positions]) -> pa.Table:
    codes: Any = np.repeat(np.arange(len(names), dtype=np.int32), [len(each) for each in listed])
    paths = pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string())).cast(pa.string())
    return pa.Table.from_arrays([paths, pa.array(np.concatenate(listed))], schema=SCHEMA)


def _bounds(path: str, position: int) -> dict[int, bytes]:
    return {
        PATH_FIELD_ID: to_bytes(StringType(), path),
        POSITION_FIELD_ID: to_bytes(LongType(), position),
    }


def files_to_merge(files: Iterable[DeleteFileRef], rows: int) -> list[DeleteFileRef]:
    """Returns the delete files to merge with ``rows`` new positions: tiers of similar size that are full.

    So a position is written again once each time that the number of positions grows by the factor `MERGED_FILES`.
    """
    tiers: dict[int, list[DeleteFileRef]] = defaultdict(list)
    for file in files:
        tiers[_tier(file.rows)].append(file)
    merged: list[DeleteFileRef] = []
    for tier in sorted(tiers):
        own = _tier(rows + sum(file.rows for file in merged)) <= tier
        if len(tiers[tier]) + own >= MERGED_FILES:
            merged += tiers[tier]
    return merged


def _tier(rows: int) -> int:
    tier = 0
    while rows >= MERGED_FILES:
        rows //= MERGED_FILES
        tier += 1
    return tier
