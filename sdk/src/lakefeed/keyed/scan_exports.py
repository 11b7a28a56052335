"""Scans as objects of other libraries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed._validate import check_flag, check_whole
from lakefeed.errors import InvalidArgumentError, MissingDependencyError
from lakefeed.keyed.key_ranges import Shard, check_shards
from lakefeed.sources.huggingface_source import import_datasets

if TYPE_CHECKING:
    import polars as pl
    from datasets import IterableDataset

    from lakefeed.keyed.keyed_scan import Scan


def _polars() -> Any:
    try:
        import polars
    except ModuleNotFoundError as error:
        raise MissingDependencyError("this needs polars: pip install polars") from error
    return polars


def to_polars(table: pa.Table) -> pl.DataFrame:
    """Returns an Arrow table as a polars DataFrame."""
    frame: pl.DataFrame = _polars().from_arrow(table)
    return frame


def to_lazy_polars(scan: Scan) -> pl.LazyFrame:
    """Returns a scan as a polars LazyFrame. It reads the columns that are used, and no more batches than are needed."""
    polars = _polars()
    from polars.io.plugins import register_io_source

    def frames(
        with_columns: list[str] | None, predicate: Any, n_rows: int | None, batch_size: int | None
    ) -> Iterator[Any]:
        narrowed = scan if with_columns is None else scan.narrowed(with_columns)
        left = n_rows
        for batch in narrowed.to_record_batches(hide_progress_bar=True):
            frame = polars.from_arrow(pa.Table.from_batches([batch]))
            frame = frame if left is None else frame.head(left)
            left = None if left is None else left - len(frame)
            yield frame if predicate is None else frame.filter(predicate)
            if left == 0:
                return

    schema = polars.from_arrow(scan.schema.empty_table()).schema
    lazy: pl.LazyFrame = register_io_source(frames, schema=schema)
    return lazy


def to_arrow_dataset(table: pa.Table) -> Any:
    """Returns an Arrow table as a ``pyarrow.dataset.Dataset``."""
    import pyarrow.dataset as ds

    return ds.dataset(table)


def to_iterable_dataset(
    scan: Scan, shards: Sequence[Shard] | None, shuffle: Any, batch_readahead: Any, infinite: Any
) -> IterableDataset:
    """Returns a scan as a ``datasets.IterableDataset``; see `Scan.to_iterable_dataset`."""
    from lakefeed.keyed.scan_loader import ShuffleConfig

    check_shards(shards)
    if shuffle is not None and not isinstance(shuffle, ShuffleConfig):
        raise InvalidArgumentError(f"shuffle must be a ShuffleConfig or None, got {shuffle!r:.80}")
    if batch_readahead is not None:
        check_whole(batch_readahead, "batch_readahead")
    endless = check_flag(infinite, "infinite")
    import_datasets("to_iterable_dataset")
    from lakefeed.keyed.scan_examples import iterable_dataset

    return iterable_dataset(scan, scan.shards() if shards is None else shards, shuffle, endless)
