"""The operations on rows: lazy, each a method that builds a node."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from lakefeed import caching, ops
from lakefeed._typing import BatchFn, ColumnTypes, LoadFiles, RowFn, RowPredicate
from lakefeed._validate import check_whole
from lakefeed.dataset.core import Core, build, plan_of
from lakefeed.run import row_count as row_counts
from lakefeed.run import save

if TYPE_CHECKING:
    from lakefeed.dataset.dataset import Dataset
    from lakefeed.dataset.mapped_dataset import MappedDataset
    from lakefeed.ops.join import JoinType


class Operations(Core):
    """The operations: each returns a new `Dataset`, and reads and runs nothing."""

    def select(self, columns: Sequence[str]) -> Dataset:
        """These columns, in this order; the others are not read.

        Raises:
            ColumnNotFoundError: with the near misses.
        """
        return self._derive(ops.Project.of(self._plan, columns))

    def filter(self, predicate: str | RowPredicate) -> Dataset:
        """The rows for which a SQL-like expression, or a function of the row, is true.

        An expression runs vectorized and skips files and row groups in which nothing can match; a function runs for
        each row. Null is not true.

        Raises:
            ExpressionError, ColumnNotFoundError: at the call, with the place.

        Example:
            >>> Dataset.from_dict({"x": [1, 2, None]}).filter("x >= 2").count()
            1
        """
        if isinstance(predicate, str):
            return self._derive(ops.Filter.of(self._plan, predicate))
        return self._derive(ops.FilterRows.of(self._plan, predicate, self._lake.blobs))

    def head(self, n: int = 5) -> Dataset:
        """The first ``n`` rows (fewer if there are fewer)."""
        return self.slice(0, check_whole(n, "head"))

    def slice(self, start: int, stop: int | None = None) -> Dataset:
        """The rows ``[start, stop)``; past the end is clamped, None is the end."""
        return self._derive(ops.Slice.of(self._plan, start, stop))

    def skip(self, n: int) -> Dataset:
        """All rows but the first ``n``."""
        return self.slice(check_whole(n, "skip"))

    def take(self, indices: Iterable[int]) -> Dataset:
        """The rows at these places, in this order, as often as named.

        Raises:
            RowIndexError: a negative place, or one past the end (at the call where the number of rows is known).
        """
        return self._derive(ops.Take.of(self._plan, indices, row_counts.known_rows(self._plan)))

    def sample(self, n: int, seed: int | None = None) -> Dataset:
        """``n`` rows by chance without replacement (all if there are fewer), in the order in which they stand.

        Args:
            n: how many.
            seed: None: one is drawn now and stays with the returned dataset.
        """
        return self._derive(ops.Sample.of(self._plan, n, seed))

    def shard(self, index: int, count: int) -> Dataset:
        """One of ``count`` disjoint parts that together are everything; `to_torch` does this by itself."""
        rows = row_counts.known_rows(self._plan)
        if rows is None:
            return self._derive(ops.Stride.of(self._plan, index, count))
        return self._derive(ops.Slice(self._plan, *ops.shard_range(rows, index, count)))

    def repeat(self, times: int) -> Dataset:
        """The rows ``times`` times over."""
        return self._derive(ops.Repeat.of(self._plan, times))

    def batch(self, size: int, drop_last: bool = False) -> Dataset:
        """Every ``size`` rows as one row whose cells are lists; a shorter last one is kept unless ``drop_last``."""
        return self._derive(ops.Batch.of(self._plan, size, drop_last))

    def drop(self, columns: str | Sequence[str]) -> Dataset:
        """All columns but these."""
        return self._derive(ops.Project.without(self._plan, columns))

    def rename(self, names: Mapping[str, str]) -> Dataset:
        """Columns by other names: ``rename({"old": "new"})``."""
        return self._derive(ops.Rename.of(self._plan, names))

    def with_column(self, name: str, value: str) -> Dataset:
        """One more column, or another in place of one of that name, computed by an expression.

        Example:
            >>> Dataset.from_dict({"x": [1, 2]}).with_column("half", "x / 2").to_arrow()["half"].to_pylist()
            [0.5, 1.0]
        """
        return self._derive(ops.WithColumn.of(self._plan, name, value))

    def join(self, other: Dataset, keys: str | Sequence[str], join_type: JoinType = "inner") -> Dataset:
        """Rows of both datasets side by side where the keys are equal; null keys have no partner.

        Each key comes once. Another column that both have gets ``_right`` on the right side. Rows stand in the order
        of the left side, for one left row in that of the right side; right rows without a partner come last.

        Args:
            other: the right side.
            keys: a column, or several, that both have.
            join_type: "inner", "left outer", "right outer" or "full outer".

        Raises:
            ColumnNotFoundError, TypeMismatchError, InvalidArgumentError: at the call.
        """
        return self._derive(ops.Join.of(self._plan, plan_of(other, "join"), keys, join_type, self._lake.settings))

    def sql(
        self,
        query: str,
        table_name: str = "data",
        seed: int | None = None,
        *,
        tables: Mapping[str, Dataset] | None = None,
    ) -> Dataset:
        """The result of a SELECT in DuckDB's SQL, streamed, spilling to local disk beyond the memory limit.

        The query sees the datasets that it is given and nothing else: no files, no network, no settings, no variables.

        Args:
            query: one SELECT.
            table_name: what this dataset is called in it.
            seed: of ``random()``.
            tables: more datasets by name.

        Raises:
            ExpressionError, UnsupportedError: at the call; nothing was run.

        Example:
            >>> sold = Dataset.from_dict({"item": ["a", "b", "a"], "n": [1, 2, 3]})
            >>> sold.sql("SELECT item, count(*) AS times FROM data GROUP BY item ORDER BY item").to_arrow().to_pylist()
            [{'item': 'a', 'times': 2}, {'item': 'b', 'times': 1}]
        """
        others = ops.check_tables(table_name, tables).items()
        plans = {table_name: self._plan, **{name: plan_of(each, f"sql(tables={name!r})") for name, each in others}}
        return self._derive(ops.Query.of(query, plans, self._lake.settings, seed))

    query = sql

    def map(self, fn: RowFn, *, schema: pa.Schema) -> Dataset:
        """``fn(row)`` for each row, run when rows are read and checked against ``schema``."""
        return self._derive(ops.Map.of(self._plan, fn, schema, self._lake.blobs))

    def map_batches(self, fn: BatchFn, *, schema: pa.Schema) -> Dataset:
        """``fn(batch)`` for each Arrow batch; the number of rows may change. ``fn`` must treat rows independently."""
        return self._derive(ops.MapBatches.of(self._plan, fn, schema))

    def shuffle(self, seed: int | None = None, global_: bool = True, window: int = 10_000) -> Dataset:
        """The rows in random order; the same seed gives the same order, on every rank and worker.

        Args:
            seed: None: one is drawn now and stays with the returned dataset.
            global_: a fair shuffle of all rows; the rows are put on local disk for it unless they are in memory.
            window: with ``global_=False``: rows that are mixed at a time, after files were mixed in large blocks.
        """
        return self._derive(ops.Shuffle.of(self._plan, seed, global_, window))

    def set_epoch(self, epoch: int) -> Dataset:
        """Makes the shuffles of this very dataset those of ``epoch``: the effective seed is literally seed + epoch.

        The one method that changes a dataset, as training loops expect; it also returns it.
        """
        turned = check_whole(epoch, "set_epoch")
        if self._node is not None:
            self._node = ops.with_epoch(self._node, turned)
        return self._itself

    def sort(self, by: str | Sequence[str], descending: bool | Sequence[bool] = False) -> Dataset:
        """The rows by one or several columns, the first column first; out of core.

        Rows that are equal in them stay in order. Nulls come last in either direction, NaN is above every number, text
        goes by its code points.

        Args:
            by: a column, or several.
            descending: the largest first: for all columns, or one value for each.

        Raises:
            ColumnNotFoundError, InvalidArgumentError, TypeMismatchError: at the call.

        Example:
            >>> Dataset.from_dict({"x": [2, None, 3]}).sort("x", descending=True).to_arrow()["x"].to_pylist()
            [3, 2, None]
        """
        return self._derive(ops.Sort.of(self._plan, by, descending, self._lake.settings))

    def train_test_split(
        self, *, test_size: float = 0.2, seed: int | None = None, by: str | None = None
    ) -> dict[str, Dataset]:
        """Disjoint, complete "train" and "test" sides, the same for the same seed (None: 0).

        Args:
            test_size: the share of the test side, between 0 and 1.
            seed: another seed is another split.
            by: a key column: a row's side depends on its key alone, so later appends never move it to the other side.
        """
        sides = ops.split_sides(self._plan, row_counts.known_rows(self._plan), test_size, seed, by)
        return {side: self._derive(node) for side, node in sides.items()}

    def load_files(
        self,
        to: LoadFiles = "auto",
        columns: Sequence[str] | None = None,
        workers: int = 8,
        max_inflight_bytes: int = 256_000_000,
        on_error: Literal["raise", "null"] = "raise",
        fetch_timeout: float = 30.0,
    ) -> Dataset:
        """File columns as their content.

        Args:
            to: "bytes", "path" (a read-only local file), "auto" or True (what the type is best used as), False
                (records), or a mapping of columns to these, which is exact: other columns stay records.
            columns: only these columns.
            workers: threads that fetch.
            max_inflight_bytes: bytes of files that are being loaded or wait to be taken; one larger file passes alone.
            on_error: "null" gives None for a file that cannot be had; a warning says how many, and why.
            fetch_timeout: seconds in which a server answers, and sends each 256 KiB (or what is left).
        """
        node = ops.LoadFiles.of(
            self._plan, self._lake, to, columns, workers, on_error, fetch_timeout, max_inflight_bytes
        )
        return self._itself if node is None else self._derive(node)

    def cache(
        self, path: str | os.PathLike[str] | None = None, load_files: bool = True, *, overwrite: bool = False
    ) -> Dataset:
        """The rows from local disk: fast, shared by all processes of the machine, and there when the lake is not.

        Without ``path`` the snapshots that are read are mirrored under ``$LAKEFEED_CACHE_DIR/datasets``, with the
        columns that are needed; what was derived from them runs again over the mirror, in the same order. A new version
        gets a new mirror. ``Dataset("photos").cache()`` finds the newest mirror also when the lake cannot be reached.

        With ``path`` all rows are kept there, and later calls take them from there whatever the source and the
        functions are by then; a log line says when the source has moved on.

        Args:
            path: a folder of its own for the rows.
            load_files: keep the files of file columns locally too, those that lie at URLs or paths as well.
            overwrite: make what is at ``path`` anew.

        Raises:
            InvalidArgumentError: at ``path`` are the rows of a plan with other operations, arguments, columns or types.

        Example:
            >>> _ = Dataset.from_dict({"x": [1, 2, 3]}).save("numbers")
            >>> Dataset("numbers").cache().filter("x > 1").count()
            2
        """
        number = self._version if isinstance(self._version, int) else None
        name = self._name if self._complete and number == self._version else None
        kept = caching.cache_rows(
            self._lake, name, number, lambda: self._plan, path, load_files=load_files, overwrite=overwrite
        )
        return self._derive(kept)

    def mapped(self, path: str | os.PathLike[str] | None = None) -> MappedDataset:
        """The rows in a local Arrow file that is mapped into memory: the fastest to read again, and in any order.

        It is made once under ``$LAKEFEED_CACHE_DIR/mapped``, uncompressed, and shared by the processes of a machine; a
        new version or another operation gets another file, and so does a function with other code, globals or state.
        Where Python cannot tell that (`from_batches`, streams, a function that holds a connection), each call makes a
        file of its own, which goes with the process. File columns stay references.

        Args:
            path: a folder of its own for the rows. Rows of the same plan that are there are read again.

        Example:
            >>> numbers = Dataset.from_dict({"x": [1, 2, 3]}).mapped()
            >>> numbers[1], numbers[[2, -3]]
            ({'x': 2}, [{'x': 3}, {'x': 1}])
        """
        from lakefeed.dataset.mapped_dataset import MappedDataset

        return build(MappedDataset, self._lake, caching.map_rows(self._lake, self._plan, path))

    def with_column_types(self, column_types: ColumnTypes | Literal["auto"] = "auto") -> Dataset:
        """The columns marked as files: "auto" looks at a sample, a mapping such as ``{"photo": "image"}`` is exact."""
        plan = self._plan
        types = save.choose_types(self._runner, plan, column_types)
        if not types:
            return self._itself
        return self._derive(
            ops.FileColumns(plan, tuple(sorted(types.items())), self._lake.blobs, copy=False, stats=False)
        )
