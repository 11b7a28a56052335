"""Scans as datasets of Ray Data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed.errors import MissingDependencyError, UnsupportedError
from lakefeed.keyed.dask_frames import ShardFrames
from lakefeed.keyed.key_ranges import Shard, check_shards
from lakefeed.keyed.projections import aux_columns

if TYPE_CHECKING:
    from lakefeed.keyed.keyed_scan import Scan


def to_ray(scan: Scan, shards: Any) -> Any:
    """Returns a scan as a dataset of Ray Data with a block for each shard."""
    given = check_shards(shards)
    try:
        from ray.data import read_datasource
    except ImportError as error:
        raise MissingDependencyError("this needs Ray: pip install 'lakefeed[ray,pandas]'") from error
    reader = scan.reader
    if aux_columns(reader.tree):
        raise UnsupportedError("columns of a table of keys are read with key_table=…, which a Ray dataset has not")
    frames = ShardFrames.of(reader, None)
    parts: Sequence[Shard] = scan.shards() if given is None else list(shards)
    return read_datasource(_datasource(frames, parts, scan.schema))


def _datasource(frames: ShardFrames, shards: Sequence[Shard], schema: pa.Schema) -> Any:
    """Returns the source. Its class is made here, because Ray is loaded only where it is used."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    def read(shard: Shard) -> list[pa.Table]:
        return [frames.rows(shard.key_range)]

    def task(work: Any, rows: int | None, limit: int | None) -> Any:
        metadata = BlockMetadata(num_rows=rows, size_bytes=None, input_files=None, exec_stats=None)
        return ReadTask(work, metadata, schema=schema, per_task_row_limit=limit)

    class ScanDatasource(Datasource):  # type: ignore[misc]  # Ray is not in the environment of the tests
        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
        ) -> list[Any]:
            if not shards:
                return [task(lambda: [schema.empty_table()], 0, per_task_row_limit)]
            return [task(partial(read, shard), shard.cardinality, per_task_row_limit) for shard in shards]

    return ScanDatasource()
