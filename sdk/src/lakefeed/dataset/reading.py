"""Rows read, and handed to other libraries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from lakefeed import optimize
from lakefeed._typing import LoadFiles, Ragged, Row
from lakefeed._validate import check_flag, is_auto
from lakefeed.dataset.operations import Operations
from lakefeed.loaders import batch_positions, torch_entry
from lakefeed.run import display, python_rows, row_count, to_memory
from lakefeed.sources import huggingface_source

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl

    from lakefeed.loaders.torch_loader import TorchLoader
    from lakefeed.loaders.world import World


class Reading(Operations):
    """The methods that read rows, count them or show them."""

    def __iter__(self) -> Iterator[Any]:
        """One dict a row, streamed."""
        return self.rows()

    def rows(self, load_files: LoadFiles = "auto") -> Iterator[Row]:
        """One dict a row, streamed.

        File cells are lazy handles ("auto", or True); ``load_files`` as in `load_files` makes them bytes, paths, or
        (False) records.
        """
        return python_rows.rows(self._batches(load_files), self._lake_for(load_files))

    def batches(
        self, size: int | None = None, format: Literal["dict", "arrow"] = "dict", load_files: LoadFiles = "auto"
    ) -> Iterator[Any]:
        """Batches, streamed: dicts of lists, or ``pyarrow.RecordBatch`` with ``format="arrow"``.

        Args:
            size: rows a batch, exactly but for the last; None: as they come.
            format: "dict" or "arrow". Under "auto" file cells are handles in dicts, records in Arrow.
            load_files: as in `load_files`; True means "auto".
        """
        python_rows.check_batches(size, format)
        batches = self._batches(load_files, size)
        return batches if format == "arrow" else python_rows.dict_batches(batches, self._lake_for(load_files))

    def collect(self, max_bytes: int | None = None, warn: bool = True) -> pa.Table:
        """All rows as an Arrow table; more than 1 GiB gives a `LargeResultWarning` unless ``warn`` is off.

        Raises:
            BudgetExceededError: the rows take more than ``max_bytes``, noticed before more is held.
        """
        return to_memory.collect(self._runner, self._plan, max_bytes, warn)

    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        return self.collect()

    def to_pandas(self) -> pd.DataFrame:
        """All rows as a DataFrame.

        Integers and booleans with nulls among them get pandas' nullable types (``Int64``, ``boolean``), so that no
        value turns into a float.
        """
        return to_memory.to_pandas(self.collect())

    def to_polars(self) -> pl.DataFrame:
        """All rows as a polars DataFrame, over the memory of the Arrow table."""
        return to_memory.to_polars(self.collect())

    def to_tensors(self, load_files: LoadFiles = "auto") -> dict[str, Any]:
        """All rows as PyTorch tensors, by column; text, bytes and structs as lists.

        What becomes of which type, and of nulls, is as in `to_torch` (see :mod:`lakefeed.loaders.collate`): fixed-size
        lists are 2-d tensors; null is NaN in float columns, and an error in integer columns, whatever the rows. Numbers
        share the memory of the rows where they can: clone a tensor before writing to it.

        Example:
            >>> Dataset.from_dict({"x": [1.0, None], "name": ["a", "b"]}).to_tensors()
            {'x': tensor([1., nan], dtype=torch.float64), 'name': ['a', 'b']}
        """
        return torch_entry.tensors(self.load_files(load_files).collect())

    def to_huggingface(self, load_files: LoadFiles = "auto", *, streaming: bool = False) -> Any:
        """All rows as a ``datasets.Dataset`` in memory; images as its Image, integers with names as its ClassLabel.

        Args:
            load_files: as in `load_files`.
            streaming: a ``datasets.IterableDataset`` instead, which reads the rows each time that it is iterated; where
                their number is known it has shards, which worker processes share.

        Raises:
            MissingDependencyError: install ``lakefeed[huggingface]``.
            UnsupportedError: a column of a type that `datasets` does not have.
        """
        return huggingface_source.export_rows(
            self.load_files(load_files), self.schema, check_flag(streaming, "streaming")
        )

    def to_duckdb(self, table_name: str = "data", connection: Any = None) -> duckdb.DuckDBPyRelation:
        """A DuckDB relation that reads the rows, streamed, each time that it runs; ``table_name`` is a view of them.

        Args:
            table_name: what SQL on the same connection calls it.
            connection: where to; None: a new one in memory.

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
        infinite: bool = False,
        **dataloader_kwargs: Any,
    ) -> TorchLoader:
        """Returns a ``torch.utils.data.DataLoader`` of dicts of tensors, exact to resume.

        Every rank gets the same number of steps, and together they see every row once. The order depends on neither
        ranks nor workers, so ``state_dict()`` continues with any number of them. Each iteration is an epoch; the next
        one is shuffled anew.

        Args:
            batch_size: rows a batch; None: one row at a time.
            num_workers: processes for `map`, files and ``collate_fn``; reading needs none, it has threads of its own.
            rank: this process among those that train together, from 0 on.
            world_size: how many train together.
            drop_last: leave the rows out that do not fill a batch on every rank.
            load_files: what file columns become; "auto" or True: bytes of images, paths of what wants a file.
            prefetch_batches: batches made ahead (``num_workers=0``; else torch's ``prefetch_factor``).
            fetch_workers: threads that fetch files.
            fetch_timeout: seconds that a file may take.
            max_inflight_bytes: bytes held while fetching.
            world: rank and world size together, such as `World.from_torch()`.
            ragged: what lists of varying length become: "jagged" nested tensors, "pad" (with lengths in
                ``<column>_lengths``) or a "list" of tensors.
            infinite: go on from epoch to epoch without end.
            dataloader_kwargs: go to torch's DataLoader; ``collate_fn`` gets the dict of tensors.

        Example:
            >>> loader = Dataset.from_dict({"x": [1.0, 2.0, 3.0]}).to_torch(batch_size=2)
            >>> [batch["x"].tolist() for batch in loader]
            [[1.0, 2.0], [3.0]]
        """
        loaded = self.load_files(load_files, None, fetch_workers, max_inflight_bytes, "raise", fetch_timeout)
        cut = batch_positions.Batching.of(batch_size, drop_last, world, rank, world_size)
        options = {"num_workers": num_workers, **dataloader_kwargs}
        return torch_entry.torch_loader(loaded._plan, self._runner, cut, prefetch_batches, ragged, infinite, options)

    def count(self) -> int:
        """The number of rows; reads what it takes to tell."""
        return row_count.count_rows(self._runner, self._plan)

    def __len__(self) -> int:
        """The number of rows, if it is known without reading data.

        Raises:
            TypeError: it is not; `count` finds out.
        """
        return row_count.length(self._plan)

    def __bool__(self) -> bool:
        return True

    def explain(self) -> str:
        """The plan that runs, a line a step: what was pushed down, the snapshot, files and rows."""
        return optimize.explain_run(self._plan)

    def __repr__(self) -> str:
        """Name, version, rows and columns, as far as they can be had; never an error."""
        return display.line(
            type(self).__name__, self._name, self._version, lambda: (self._plan, self._name and self.version)
        )

    def _repr_html_(self) -> str:
        """A preview of the first rows, for notebooks."""
        return display.preview(repr(self), self.schema, self.head(display.PREVIEW_ROWS))

    def _batches(self, load_files: LoadFiles, size: int | None = None) -> Iterator[pa.RecordBatch]:
        loaded = self if is_auto(load_files) else self.load_files(load_files)
        return self._runner.sized(loaded._plan, size)

    def _lake_for(self, load_files: LoadFiles) -> Any:
        # What is asked for by name means the same in rows as in Arrow batches: only "auto" makes handles.
        return self._lake if is_auto(load_files) else None
