"""`Scan`, the rows of one or several keyed tables of equal key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed._validate import check_flag, is_whole
from lakefeed.catalog.lake import Lake
from lakefeed.dataset.core import dataset_of
from lakefeed.errors import InvalidArgumentError, SchemaError
from lakefeed.expr import expression_text
from lakefeed.keyed import mds_stream, scan_exports, scan_loader, scan_state
from lakefeed.keyed.as_of import check_asof
from lakefeed.keyed.key_ranges import Shard, check_shards, shards_of_keys
from lakefeed.keyed.key_takes import key_batches
from lakefeed.keyed.pinned_table import PinnedTable
from lakefeed.keyed.projections import aux_columns, check_names, has_functions, merged_tree, table_names
from lakefeed.keyed.scan_reader import ScanReader
from lakefeed.keyed.scan_source import ScanSource
from lakefeed.keyed.table_terms import tables_in
from lakefeed.loaders.world import World
from lakefeed.ops import Scan as SourceScan
from lakefeed.plan import Node
from lakefeed.run.progress import tracked
from lakefeed.run.rebatch import rebatch
from lakefeed.sources.batch_source import BatchesSource

if TYPE_CHECKING:
    import os

    import dask.dataframe as dd
    import duckdb
    import pandas as pd
    import polars as pl
    from datasets import IterableDataset

    from lakefeed.dataset import Dataset
    from lakefeed.keyed.mds_stream import ScanStream
    from lakefeed.keyed.scan_loader import ScanLoader, ShuffleConfig


class Scan:
    """The rows of one or several tables, of versions that were fixed when the scan was made.

    The rows are those of the first table; where another one lacks the key, its columns are null. The columns are those
    of the projections, in their order; the key is among them only if a projection has it.

    Example:
        >>> left = Table.create("left", key_schema={"id": pa.int64()})
        >>> right = Table.create("right", key_schema={"id": pa.int64()})
        >>> _ = left.write({"id": [2, 1], "a": ["x", "y"]}), right.write({"id": [2], "b": [0.5]})
        >>> connect().scan(left, {"score": right["b"] * 2}).to_table().to_pylist()
        [{'id': 1, 'a': 'y', 'score': None}, {'id': 2, 'a': 'x', 'score': 1.0}]
    """

    def __init__(self, reader: ScanReader) -> None:
        self._reader = reader
        _ = reader.schema, reader.condition  # mistakes surface at the call

    @classmethod
    def of(cls, lake: Lake, projections: Sequence[Any], where: Any, asof: Any, base: str | None = None) -> Scan:
        """Returns the scan of projections; see `Client.scan`. ``base`` is the first table, if it is known."""
        pin = check_asof(asof)
        condition = None if where is None else expression_text(where, "where")
        names = [] if base is None else [base]
        names += [name for each in projections for name in table_names(each)]
        names += tables_in(condition or "")
        if not names:
            raise InvalidArgumentError("a scan needs at least one projection of a table, such as the table itself")
        tables = tuple(PinnedTable.of(lake, name, pin) for name in dict.fromkeys(names))
        _check_equal_keys(tables)
        tree = merged_tree(projections, {table.name: table.schema for table in tables})
        check_names(tree)
        return cls(ScanReader(tables, tree, condition))

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self._reader.schema

    @property
    def key_schema(self) -> pa.Schema:
        """The key columns of the tables."""
        return self._reader.base.key_schema

    @property
    def metrics(self) -> dict[str, Any]:
        """The counts of what was read so far.

        They are rows, batches, bytes, files, files_skipped, row_groups, row_groups_skipped, runs and seconds.
        """
        return self._reader.metrics_now()

    def is_empty(self) -> bool:
        """Returns whether the scan is empty; False may be wrong if there is a condition."""
        return not self._reader.base.source.count() or (
            self._reader.where is not None and next(self._reader.unordered(), None) is None
        )

    def shards(self) -> list[Shard]:
        """Returns parts of the scan by the layout of the files: disjoint, in order of the keys, with all rows."""
        ranges = self._reader.ranges
        known = self._reader.base.source.count() if len(ranges) == 1 and self._reader.where is None else None
        return [Shard(each, known) for each in ranges]

    def compute_shards(self, max_batch_size: int) -> list[Shard]:
        """Returns parts of exactly so many rows, the last one of fewer. It reads the keys.

        Args:
            max_batch_size: the number of rows of a shard.

        Raises:
            InvalidArgumentError: it is not a whole number of at least 1.
        """
        rows = _count(max_batch_size, "max_batch_size")
        keys = self._keys_only()
        return shards_of_keys(keys._reader.ordered(), self._reader.keys, rows)

    def state_json(self) -> str:
        """Returns the state as JSON, for `Client.resume_scan`: the same rows, though the tables have changed.

        Raises:
            UnsupportedError: the scan calls a function that cannot be found by a name.
        """
        return scan_state.dump_state(self._reader)

    def to_record_batches(
        self,
        *,
        shards: Sequence[Shard] | None = None,
        key_table: Any = None,
        batch_size: int | None = None,
        batch_readahead: int | None = None,
        hide_progress_bar: bool = False,
    ) -> pa.RecordBatchReader:
        """Returns the rows in the order of their keys.

        Args:
            shards: read only these parts, in this order.
            key_table: read the rows of these keys, in this order and as often as they occur; absent keys are left out.
                A table, batch or reader with the key columns; `lakefeed.expressions.aux` reads further ones. Only row
                groups that can hold the keys are read.
            batch_size: the most rows of a batch.
            batch_readahead: the number of batches to read ahead; a hint.
            hide_progress_bar: show no progress on a terminal.

        Raises:
            InvalidArgumentError: both ``shards`` and ``key_table`` are given, or an argument is malformed.
        """
        return self._reading(True, shards, key_table, batch_size, batch_readahead, hide_progress_bar)

    def to_unordered_record_batches(
        self,
        *,
        shards: Sequence[Shard] | None = None,
        key_table: Any = None,
        batch_size: int | None = None,
        batch_readahead: int | None = None,
        hide_progress_bar: bool = False,
    ) -> pa.RecordBatchReader:
        """Returns the rows in any order, which is faster.

        Args:
            shards: as in `to_record_batches`.
            key_table: as in `to_record_batches`.
            batch_size: as in `to_record_batches`.
            batch_readahead: as in `to_record_batches`.
            hide_progress_bar: as in `to_record_batches`.
        """
        return self._reading(False, shards, key_table, batch_size, batch_readahead, hide_progress_bar)

    def _reading(
        self, ordered: bool, shards: Any, key_table: Any, batch_size: Any, batch_readahead: Any, hidden: Any
    ) -> pa.RecordBatchReader:
        ranges, reader = check_shards(shards), self._reader
        check_flag(hidden, "hide_progress_bar")
        size = None if batch_size is None else _count(batch_size, "batch_size")
        if batch_readahead is not None:
            _count(batch_readahead, "batch_readahead")
        if key_table is not None:
            if ranges is not None:
                raise InvalidArgumentError("give either shards or key_table")
            aux = [pa.field(name, kind) for name, kind in aux_columns(reader.tree).items()]
            keys = key_batches(key_table, pa.schema([*self.key_schema, *aux]), size)
            batches: Iterator[pa.RecordBatch] = (reader.take(each) for each in keys)
        else:
            batches = reader.ordered(ranges) if ordered else reader.unordered(ranges)
            batches = batches if size is None else rebatch(batches, size)
        counted = reader.timed(batches)
        shown = counted if hidden else tracked(counted, f"scan {reader.base.name}")
        return pa.RecordBatchReader.from_batches(self.schema, shown)

    def to_table(self, **options: Any) -> pa.Table:
        """Returns the rows as an Arrow table.

        Args:
            options: as in `to_record_batches`.
        """
        return self.to_record_batches(**options).read_all()

    def to_pandas(self, **options: Any) -> pd.DataFrame:
        """Returns the rows as a pandas DataFrame.

        Args:
            options: as in `to_record_batches`.
        """
        return self.to_table(**options).to_pandas()

    def to_polars(self, **options: Any) -> pl.DataFrame:
        """Returns the rows as a polars DataFrame.

        Args:
            options: as in `to_record_batches`.
        """
        return scan_exports.to_polars(self.to_table(**options))

    def to_dask(self, *, shards: Sequence[Shard] | None = None, types_mapper: Any = None) -> dd.DataFrame:
        """Returns the rows as a Dask DataFrame, which reads a partition for each shard when it computes.

        Args:
            shards: the shards; None for those of `shards`.
            types_mapper: returns the pandas type of an Arrow type, such as ``pandas.ArrowDtype``. By default types are
                those of `to_pandas`; then whole numbers are floats in partitions that have nulls.

        Raises:
            MissingDependencyError: Dask is not installed.
        """
        from lakefeed.keyed.dask_frames import to_dask

        return to_dask(self, shards, types_mapper)

    def to_ray(self, *, shards: Sequence[Shard] | None = None) -> Any:
        """Returns the rows as a ``ray.data.Dataset``, whose workers read a block for each shard.

        Args:
            shards: the shards; None for those of `shards`.

        Raises:
            MissingDependencyError: Ray is not installed.
        """
        from lakefeed.keyed.ray_frames import to_ray

        return to_ray(self, shards)

    def to_lazy_polars(self) -> pl.LazyFrame:
        """Returns the rows as a polars LazyFrame, which reads only the columns that are used."""
        return scan_exports.to_lazy_polars(self)

    def to_arrow_dataset(self) -> Any:
        """Returns the rows as a ``pyarrow.dataset.Dataset``. It holds them in memory."""
        return scan_exports.to_arrow_dataset(self.to_table())

    def to_duckdb(self, table_name: str = "data", connection: Any = None) -> duckdb.DuckDBPyRelation:
        """Returns the rows as a DuckDB relation.

        Args:
            table_name: as in `Dataset.to_duckdb`.
            connection: as in `Dataset.to_duckdb`.
        """
        return self.as_dataset().to_duckdb(table_name, connection)

    def as_dataset(self) -> Dataset:
        """Returns the rows as a dataset, with all of its operations.

        Rows are in the order of the key. A shuffle reads ranges of keys, and loaders resume exactly; of a scan that
        calls functions of your own, rows are streamed.
        """
        return dataset_of(self._reader.base.lake, self.row_plan)

    def to_data_loader(
        self, seed: int = 42, shuffle_buffer_size: int = 0, batch_size: int = 32, **kwargs: Any
    ) -> ScanLoader:
        """Returns a loader of batches for training in one process.

        Args:
            seed: the seed of the order.
            shuffle_buffer_size: the rows that are mixed at a time; 0 keeps the order of the key inside shards.
            batch_size: the rows of a batch.
            kwargs: further arguments of `ScanLoader`.

        Raises:
            MissingDependencyError: PyTorch is not installed.
            InvalidArgumentError: an argument is malformed.

        Example:
            >>> table = Table.create("batched", key_schema={"id": pa.int64()})
            >>> _ = table.write({"id": [1, 2, 3]})
            >>> loader = table.scan().to_data_loader(batch_size=2, transform_fn=lambda batch: batch.num_rows)
            >>> list(loader)
            [2, 1]
        """
        return scan_loader.ScanLoader(
            self, seed=seed, shuffle_buffer_size=shuffle_buffer_size, batch_size=batch_size, **kwargs
        )

    def to_distributed_data_loader(
        self,
        world: World | None = None,
        shards: Sequence[Shard] | None = None,
        seed: int = 42,
        shuffle_buffer_size: int = 0,
        batch_size: int = 32,
        **kwargs: Any,
    ) -> ScanLoader:
        """Returns a loader of the batches of this rank.

        Without ``shards``, all ranks take the same number of steps, together they see every row once, and a state can
        be continued with any number of ranks. With ``shards``, each rank reads those that `World.shards` gives it, and
        nothing else. Its steps and its state are then its own.

        Args:
            world: the rank of this process; None for that of ``torch.distributed``, or of the environment.
            shards: all shards, the same on every rank.
            seed: the seed of the order, the same on every rank.
            shuffle_buffer_size: the rows that are mixed at a time; 0 keeps the order of the key inside shards.
            batch_size: the rows of a batch of a rank.
            kwargs: further arguments of `ScanLoader`.

        Raises:
            MissingDependencyError: PyTorch is not installed.
            InvalidArgumentError: an argument is malformed, or there are fewer rows than ranks.

        Example:
            >>> table = Table.create("ranked", key_schema={"id": pa.int64()})
            >>> _ = table.write({"id": [1, 2, 3, 4]})
            >>> loader = table.scan().to_distributed_data_loader(World(rank=1, world_size=2), batch_size=1)
            >>> [batch["id"].to_pylist() for batch in loader]
            [[2], [4]]
        """
        arguments = {"seed": seed, "shuffle_buffer_size": shuffle_buffer_size, "batch_size": batch_size, **kwargs}
        return scan_loader.distributed_loader(self, world, shards, arguments)

    def resume_data_loader(self, state: Mapping[str, Any], **kwargs: Any) -> ScanLoader:
        """Returns a loader that continues where a state was taken; see `ScanLoader.from_state_dict`.

        Args:
            state: the result of `ScanLoader.state_dict`.
            kwargs: arguments of `ScanLoader`. They take precedence over the state.

        Raises:
            StateMismatchError: the state belongs to other rows or another order.
        """
        return scan_loader.ScanLoader.from_state_dict(self, state, **kwargs)

    def to_iterable_dataset(
        self,
        shards: Sequence[Shard] | None = None,
        shuffle: ShuffleConfig | None = None,
        batch_readahead: int | None = None,
        infinite: bool = False,
    ) -> IterableDataset:
        """Returns the rows as a ``datasets.IterableDataset``, whose ``state_dict()`` is exact, also with a shuffle.

        Worker processes and ``split_dataset_by_node`` divide the shards.

        Args:
            shards: read only these parts. None reads all rows.
            shuffle: permute the shards in each pass, and mix the rows of a shard ``buffer_size`` at a time. None keeps
                the order of the key.
            batch_readahead: the number of batches to read ahead; a hint.
            infinite: start the next pass, in another order, without end.

        Raises:
            MissingDependencyError: `datasets` is not installed; install ``lakefeed[huggingface]``.
            InvalidArgumentError: an argument is malformed.

        Example:
            >>> table = Table.create("streamed", key_schema={"id": pa.int64()})
            >>> _ = table.write({"id": [1, 2]})
            >>> list(table.scan().to_iterable_dataset())
            [{'id': 1}, {'id': 2}]
        """
        return scan_exports.to_iterable_dataset(self, shards, shuffle, batch_readahead, infinite)

    def to_streaming(
        self,
        shards: Sequence[Shard] | None = None,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        shard_row_block_size: int | None = None,
    ) -> ScanStream:
        """Returns a stream for MosaicML's ``StreamingDataset(streams=[stream], …)``.

        Each shard is a shard file of MDS, which is written when it is asked for. The shards of a `KeySpaceIndex` have
        equal sizes, and are not counted again.

        Args:
            shards: the parts to read; None for `shards`.
            cache_dir: the folder for the shard files; None for ``$LAKEFEED_CACHE_DIR/mds``.
            shard_row_block_size: the rows that are encoded at a time; fewer hold less memory. None for 8192.

        Raises:
            UnsupportedError: the scan calls a function that cannot be found by a name.
            InvalidArgumentError: an argument is malformed.
        """
        chosen = self.shards() if shards is None else shards
        return mds_stream.ScanStream.of(self, chosen, cache_dir, shard_row_block_size)

    @property
    def reader(self) -> ScanReader:
        """The reader of the rows."""
        return self._reader

    @property
    def row_plan(self) -> Node:
        """The rows as a plan. They have positions if no function of the user makes a column."""
        return self.plan_of_shards(None)

    def plan_of_shards(self, shards: Sequence[Shard] | None) -> Node:
        """Returns the rows of some shards, in their order, as a plan; None for all rows."""
        if has_functions(self._reader.tree):
            return SourceScan(BatchesSource(partial(self._batches, shards), self.schema))
        return SourceScan(ScanSource.of(self._reader, self.state_json(), shards))

    def _batches(self, shards: Sequence[Shard] | None) -> pa.RecordBatchReader:
        return self.to_record_batches(shards=shards, hide_progress_bar=True)

    def narrowed(self, columns: Sequence[str]) -> Scan:
        """Returns the scan with some of its columns."""
        tree = {name: self._reader.tree[name] for name in columns}
        return Scan(ScanReader(self._reader.tables, tree, self._reader.where))

    def with_keys(self) -> Scan:
        """Returns the scan with the key columns first, if it lacks them."""
        tree = {**self._reader.key_tree(), **self._reader.tree}
        return Scan(ScanReader(self._reader.tables, tree, self._reader.where))

    def _keys_only(self) -> Scan:
        return Scan(self._reader.of_keys())

    def __repr__(self) -> str:
        tables = ", ".join(f"{table.name} v{table.version.version}" for table in self._reader.tables)
        return f"<Scan of {tables}: {', '.join(self.schema.names)}>"


def resume_scan(lake: Lake, state_json: Any) -> Scan:
    """Returns the scan of a state; see `Client.resume_scan`."""
    return Scan(scan_state.load_state(lake, state_json))


def _count(value: Any, name: str) -> int:
    if not is_whole(value) or value < 1:
        raise InvalidArgumentError(f"{name} must be a whole number of at least 1, got {value!r:.80}")
    return int(value)


def _check_equal_keys(tables: Sequence[PinnedTable]) -> None:
    first = tables[0].key_schema
    for table in tables[1:]:
        if table.key_schema.types != first.types or table.keys != tables[0].keys:
            raise SchemaError(
                f"tables of one scan need equal keys: {tables[0].name!r} has {_text(first)}, {table.name!r} has "
                f"{_text(table.key_schema)}"
            )


def _text(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
