"""The methods of `Dataset` that read rows, or hand them to other libraries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from lakefeed import optimize
from lakefeed._typing import LoadFiles, Ragged, Row, Sparse
from lakefeed._validate import check_flag, is_auto
from lakefeed.dataset.local_data import LocalData
from lakefeed.dataset.operations import Operations
from lakefeed.loaders import batch_positions, torch_entry
from lakefeed.run import display, mds_folder, python_rows, row_count, to_memory
from lakefeed.sources import huggingface_source

if TYPE_CHECKING:
    import os

    import duckdb
    import pandas as pd
    import polars as pl

    from lakefeed.loaders.torch_loader import TorchLoader
    from lakefeed.loaders.world import World
    from lakefeed.run.row_profile import RowProfile


class Reading(Operations, LocalData):
    """The methods that read, count or show rows."""

    def __iter__(self) -> Iterator[Any]:
        """Yields each row as a dict, streamed."""
        return self.rows()

    def rows(self, load_files: LoadFiles = "auto") -> Iterator[Row]:
        """Yields each row as a dict, streamed.

        Args:
            load_files: the form of file cells, as in `load_files`. "auto" and True give lazy handles, False gives
                records.

        Raises:
            InvalidArgumentError, ColumnNotFoundError, TypeMismatchError: ``load_files`` does not fit the columns.
            FileError: a file of the dataset cannot be read.

        Example:
            >>> list(Dataset.from_dict({"x": [1, 2]}).rows())
            [{'x': 1}, {'x': 2}]
        """
        return python_rows.rows(self._batches(load_files), self._lake_for(load_files))

    def batches(
        self, size: int | None = None, format: Literal["dict", "arrow"] = "dict", load_files: LoadFiles = "auto"
    ) -> Iterator[Any]:
        """Yields batches, streamed.

        Args:
            size: the number of rows of each batch except the last. None yields batches of any size.
            format: "dict" yields dicts of lists. "arrow" yields ``pyarrow.RecordBatch``.
            load_files: the form of file cells, as in `load_files`. "auto" and True give handles in dicts and records in
                Arrow.

        Raises:
            InvalidArgumentError: an argument is malformed.
            FileError: a file of the dataset cannot be read.

        Example:
            >>> list(Dataset.from_dict({"x": [1, 2, 3]}).batches(2))
            [{'x': [1, 2]}, {'x': [3]}]
        """
        python_rows.check_batches(size, format)
        batches = self._batches(load_files, size)
        return batches if format == "arrow" else python_rows.dict_batches(batches, self._lake_for(load_files))

    def collect(self, max_bytes: int | None = None, warn: bool = True) -> pa.Table:
        """Returns all rows as an Arrow table.

        Args:
            max_bytes: the most bytes that the rows may take. None sets no limit.
            warn: give a `LargeResultWarning` if the rows take more than 1 GiB.

        Raises:
            BudgetExceededError: the rows take more than ``max_bytes``. It is raised before more than that is held.
            InvalidArgumentError: ``max_bytes`` is negative or not a whole number.
        """
        return to_memory.collect(self._runner, self._plan, max_bytes, warn)

    def to_arrow(self) -> pa.Table:
        """Returns all rows as an Arrow table.

        Raises:
            FileError: a file of the dataset cannot be read.
        """
        return self.collect()

    def to_pandas(self) -> pd.DataFrame:
        """Returns all rows as a pandas DataFrame.

        Integers and booleans that include nulls get pandas' nullable types (``Int64``, ``boolean``), so that no value
        turns into a float.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_memory.to_pandas(self.collect())

    def to_polars(self) -> pl.DataFrame:
        """Returns all rows as a polars DataFrame. It shares the memory of the Arrow table.

        Raises:
            MissingDependencyError: polars is not installed.
        """
        return to_memory.to_polars(self.collect())

    def to_tensors(self, load_files: LoadFiles = "auto") -> dict[str, Any]:
        """Returns all rows as PyTorch tensors by column. Text, bytes and structs become lists.

        Types and nulls are converted as in `to_torch` (see :mod:`lakefeed.loaders.collate`). Fixed-size lists become
        tensors of shape (rows, size). A null becomes NaN in a float column, and is an error in an integer column.
        Numbers share the memory of the rows where possible, so clone a tensor before you write to it.

        Args:
            load_files: the form of file cells, as in `load_files`.

        Raises:
            MissingDependencyError: PyTorch is not installed.
            TypeMismatchError: a column has a type or nulls that tensors cannot hold.

        Example:
            >>> Dataset.from_dict({"x": [1.0, None], "name": ["a", "b"]}).to_tensors()
            {'x': tensor([1., nan], dtype=torch.float64), 'name': ['a', 'b']}
        """
        return torch_entry.tensors(self.load_files(load_files).collect())

    def to_huggingface(self, load_files: LoadFiles = "auto", *, streaming: bool = False) -> Any:
        """Returns all rows as a ``datasets.Dataset`` in memory.

        Images become its ``Image``. Integers with names become its ``ClassLabel``.

        Args:
            load_files: the form of file cells, as in `load_files`.
            streaming: return a ``datasets.IterableDataset``, which reads the rows at each iteration. Where the number
                of rows is known, it has shards that worker processes share.

        Raises:
            MissingDependencyError: `datasets` is not installed; install ``lakefeed[huggingface]``.
            UnsupportedError: a column has a type that `datasets` lacks.
        """
        return huggingface_source.export_rows(
            self.load_files(load_files), self.schema, check_flag(streaming, "streaming")
        )

    def to_mds(
        self,
        folder: str | os.PathLike[str],
        load_files: LoadFiles = "bytes",
        *,
        size_limit: int | str | None = 67_108_864,
        compression: str | None = None,
        hashes: Sequence[str] = (),
        encodings: Mapping[str, str] | None = None,
    ) -> int:
        """Writes the rows as MDS shards, which MosaicML's ``StreamingDataset`` reads. Returns the number of rows.

        The files have the bytes that ``MDSWriter`` writes. Numbers, text, bytes and tensors of a fixed shape are
        columns of these types, and all else is JSON: times in ISO 8601, decimals as text, bytes in base64.

        Args:
            folder: a folder that does not exist, or is empty, or a URL such as ``s3://bucket/folder``. A local folder
                appears with all of its files, or not at all. In a store, ``index.json`` is written last.
            load_files: the form of file cells, as in `load_files`.
            size_limit: the most bytes of a shard before it is compressed, unless one row has more; text may have a
                unit, such as ``"64mb"``. None writes one shard.
            compression: ``"zstd"``, ``"gz"``, ``"br"``, ``"bz2"`` or ``"snappy"``, or with a level ``"zstd:7"``.
            hashes: the names of hashes, such as ``["sha1"]``. The index has them for each file; ``StreamingDataset``
                compares them with ``validate_hash=``.
            encodings: the encodings of columns that do not get the one of their type: ``{"photo": "jpeg", "tokens":
                "ndarray:uint16"}``.

        Raises:
            InvalidArgumentError: the folder is not empty, or an argument is malformed.
            ColumnNotFoundError: ``encodings`` names a column that does not exist.
            TypeMismatchError: an encoding does not fit a column, or a column of integers, text, bytes or tensors holds
                null. Null floats are NaN.
            StorageError: the disk or the store cannot store the shards.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     Dataset.from_dict({"x": [1, 2], "name": ["a", "b"]}).to_mds(f"{folder}/shards")
            2
        """
        plan = self.load_files(load_files)._plan
        return mds_folder.write_mds(self._runner, plan, folder, size_limit, compression, hashes, encodings)

    def to_duckdb(self, table_name: str = "data", connection: Any = None) -> duckdb.DuckDBPyRelation:
        """Returns a DuckDB relation that streams the rows each time it runs.

        The connection also gets a view of them.

        Args:
            table_name: the name of the view.
            connection: the connection. None makes a new one in memory.

        Raises:
            InvalidArgumentError: the name or the connection is malformed.

        Example:
            >>> Dataset.from_dict({"x": [1, 2, 3]}).to_duckdb().aggregate("sum(x) AS total").fetchall()
            [(6,)]
        """
        return to_memory.to_duckdb(self._runner, self._plan, table_name, connection)

    def to_torch(
        self,
        batch_size: int | None = None,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        load_files: LoadFiles = "auto",
        prefetch_batches: int = 2,
        fetch_workers: int = 8,
        fetch_timeout: float = 30.0,
        max_inflight_bytes: int = 256_000_000,
        *,
        world: World | None = None,
        ragged: Ragged = "jagged",
        sparse: Sparse = "csr",
        infinite: bool = False,
        **dataloader_kwargs: Any,
    ) -> TorchLoader:
        """Returns a ``torch.utils.data.DataLoader`` of dicts of tensors that resumes exactly.

        Every rank gets the same number of steps, and together the ranks see every row once. The order depends on
        neither the ranks nor the workers, so a ``state_dict()`` resumes with any number of them. Each iteration is an
        epoch, and each epoch is shuffled anew.

        Args:
            batch_size: the rows of a batch. None yields one row at a time.
            num_workers: the processes for `map`, files and ``collate_fn``. Reading needs none; it has its own threads.
            rank: the number of this process among those that train together, from 0 on.
            world_size: the number of processes that train together.
            drop_last: leave out the last rows that do not fill a batch on every rank.
            load_files: the form of file cells. "auto" and True give bytes of images, and paths of types that need a
                file.
            prefetch_batches: the batches made ahead with ``num_workers=0``; otherwise torch's ``prefetch_factor``.
            fetch_workers: the threads that fetch files.
            fetch_timeout: the seconds that a file may take.
            max_inflight_bytes: the most bytes held while fetching.
            world: rank and world size together, such as `World.from_torch()`.
            ragged: the form of lists of varying length: "jagged" for nested tensors, "pad" for padded tensors with
                lengths in ``<column>_lengths``, or "list" for a list of tensors.
            sparse: the form of sparse columns: "csr" for ``torch.sparse_csr`` tensors, or "dense".
            infinite: start the next epoch without end.
            dataloader_kwargs: passed to torch's DataLoader. ``collate_fn`` gets the dict of tensors.

        Raises:
            MissingDependencyError: PyTorch is not installed.
            InvalidArgumentError: an argument is malformed.
            TypeMismatchError: a column has a type that tensors cannot hold.

        Example:
            >>> loader = Dataset.from_dict({"x": [1.0, 2.0, 3.0]}).to_torch(batch_size=2)
            >>> [batch["x"].tolist() for batch in loader]
            [[1.0, 2.0], [3.0]]
        """
        loaded = self.load_files(load_files, None, fetch_workers, max_inflight_bytes, "raise", fetch_timeout)
        cut = batch_positions.Batching.of(batch_size, drop_last, world, rank, world_size)
        options = {"num_workers": num_workers, **dataloader_kwargs}
        return torch_entry.torch_loader(
            loaded._plan, self._runner, cut, prefetch_batches, ragged, infinite, options, sparse=sparse
        )

    def count(self) -> int:
        """Returns the number of rows. It reads as little as possible.

        Raises:
            FileError: a file of the dataset cannot be read.

        Example:
            >>> Dataset.from_dict({"x": [1, 2, 3]}).filter("x > 1").count()
            2
        """
        return row_count.count_rows(self._runner, self._plan)

    def __len__(self) -> int:
        """Returns the number of rows if it is known without reading data.

        Raises:
            TypeError: the number is not known; call `count`.
        """
        return row_count.length(self._plan)

    def __bool__(self) -> bool:
        return True

    def explain(self) -> str:
        """Returns the plan as text, one line for each step: pushed-down work, snapshot, files and rows.

        Example:
            >>> print(Dataset.from_dict({"x": [1, 2]}).head(1).explain())  # doctest: +ELLIPSIS
            Scan...
        """
        return optimize.explain_run(self._plan)

    def profile(self) -> RowProfile:
        """Returns statistics of each column: nulls, distinct values, extremes, mean and quantiles.

        They print as a table in a shell and in a notebook. The rows are read once, in bounded memory. The number of
        distinct values beyond 1,024, and the quantiles of more than 4,096 values, are estimates. Columns of files have
        statistics of their sizes, widths and so on.

        Raises:
            FileError: a file of the dataset cannot be read.

        Example:
            >>> report = Dataset.from_dict({"x": [1, 2, 2, None]}).profile()
            >>> report.rows, report.columns["x"].nulls, report.columns["x"].distinct
            (4, 1, 2)
            >>> report
            4 rows
            column  type   nulls  distinct  least  mean  median  greatest
            x       int64      1         2      1  1.67       2         2
        """
        from lakefeed.run.row_profile import profile_rows

        return profile_rows(repr(self), self.schema, self._batches(False))

    def __repr__(self) -> str:
        """Returns name, version, rows and columns, as far as they are available. It raises no error."""
        return display.line(
            type(self).__name__, self._name, self._version, lambda: (self._plan, self._name and self.version)
        )

    def _repr_html_(self) -> str:
        """Returns a preview of the first rows for notebooks."""
        return display.preview(repr(self), self.schema, self.head(display.PREVIEW_ROWS))

    def _batches(self, load_files: LoadFiles, size: int | None = None) -> Iterator[pa.RecordBatch]:
        loaded = self if is_auto(load_files) else self.load_files(load_files)
        return self._runner.sized(loaded._plan, size)

    def _lake_for(self, load_files: LoadFiles) -> Any:
        # What is asked for by name means the same in rows as in Arrow batches: only "auto" makes handles.
        return self._lake if is_auto(load_files) else None
