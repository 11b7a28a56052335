"""Scans as Dask DataFrames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed._validate import check_function
from lakefeed.catalog.lake import Lake
from lakefeed.errors import MissingDependencyError, UnsupportedError
from lakefeed.keyed.key_ranges import KeyRange, check_shards
from lakefeed.keyed.pinned_table import PinnedTable
from lakefeed.keyed.projections import Tree, aux_columns
from lakefeed.keyed.scan_reader import ScanReader

if TYPE_CHECKING:
    import dask.dataframe as dd

    from lakefeed.keyed.keyed_scan import Scan


def to_dask(scan: Scan, shards: Any, types_mapper: Any) -> dd.DataFrame:
    """Returns a scan as a Dask DataFrame with a partition for each shard."""
    ranges = check_shards(shards)
    if types_mapper is not None:
        check_function(types_mapper, "to_dask(types_mapper=)")
    try:
        from dask import config
        from dask.dataframe import from_map, from_pandas
    except ImportError as error:
        raise MissingDependencyError("this needs Dask: pip install 'lakefeed[dask,pandas]'") from error
    reader = scan.reader
    if aux_columns(reader.tree):
        raise UnsupportedError("columns of a table of keys are read with key_table=…, which a Dask DataFrame has not")
    frames = ShardFrames.of(reader, types_mapper)
    meta = scan.schema.empty_table().to_pandas(types_mapper=types_mapper)
    parts = [shard.key_range for shard in scan.shards()] if ranges is None else ranges
    with config.set({"dataframe.convert-string": False}):  # else Dask makes texts of decimals, lists and bytes
        if not parts:
            empty: dd.DataFrame = from_pandas(meta, npartitions=1)  # type: ignore[no-untyped-call]  # of Dask
            return empty
        frame: dd.DataFrame = from_map(  # type: ignore[no-untyped-call]  # of Dask
            frames, parts, meta=meta, label="lakefeed-scan"
        )
        return frame


@dataclass(frozen=True, eq=False)
class ShardFrames:
    """Reads shards of a scan as pandas DataFrames. It runs in workers.

    Attributes:
        lake: the lake.
        states: the versions of the tables.
        tree: the columns.
        where: the condition.
        types_mapper: returns the pandas type of an Arrow type.
    """

    lake: Lake
    states: tuple[dict[str, Any], ...]
    tree: Tree
    where: str | None
    types_mapper: Any

    @classmethod
    def of(cls, reader: ScanReader, types_mapper: Any) -> ShardFrames:
        """Returns the reader of shards of a scan."""
        states = tuple(table.state() for table in reader.tables)
        return cls(reader.base.lake, states, reader.tree, reader.where, types_mapper)

    def __call__(self, key_range: KeyRange) -> Any:
        """Returns the rows of a range of keys."""
        return self.rows(key_range).to_pandas(types_mapper=self.types_mapper)

    def rows(self, key_range: KeyRange) -> pa.Table:
        """Returns the rows of a range of keys as an Arrow table."""
        tables = tuple(PinnedTable.resumed(self.lake, state) for state in self.states)
        reader = ScanReader(tables, self.tree, self.where)
        return pa.Table.from_batches(reader.ordered([key_range]), reader.schema)
