"""The methods of `Dataset` that derive other datasets. Each builds a node of the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from lakefeed import ops
from lakefeed._typing import BatchFn, RowFn, RowPredicate
from lakefeed._validate import check_whole
from lakefeed.dataset.core import Core, plan_of
from lakefeed.expr import Term
from lakefeed.run import plugin_parts
from lakefeed.run import row_count as row_counts

if TYPE_CHECKING:
    from lakefeed.dataset.dataset import Dataset
    from lakefeed.ops.join import JoinType


class Operations(Core):
    """The operations. Each returns a new `Dataset`; it reads and runs nothing."""

    def select(self, columns: Sequence[str]) -> Dataset:
        """Returns the given columns in the given order. Other columns are not read.

        Args:
            columns: the names of the columns.

        Raises:
            ColumnNotFoundError: a column does not exist. The message suggests similar names.
            SchemaError: a column is named twice, or none is named.

        Example:
            >>> Dataset.from_dict({"x": [1], "y": [2]}).select(["y"]).to_arrow().to_pylist()
            [{'y': 2}]
        """
        return self._derive(ops.Project.of(self._plan, columns))

    def filter(self, predicate: str | Term | RowPredicate) -> Dataset:
        """Returns the rows for which an expression or a function is true. Null counts as false.

        An expression is evaluated on whole batches, and skips files and row groups without a match. A function is
        called for each row.

        Args:
            predicate: an expression such as ``"label == 7 and score > 0.5"``, the same as a term,
                ``(col("label") == 7) & (col("score") > 0.5)``, or a function of the row as a dict.

        Raises:
            ExpressionError: the expression cannot be parsed. The message marks the position.
            ColumnNotFoundError: the expression names a column that does not exist.
            TypeMismatchError: the expression compares values of types that cannot be compared.
            InvalidArgumentError: the predicate is neither text, a term nor a function.

        Example:
            >>> Dataset.from_dict({"x": [1, 2, None]}).filter("x >= 2").count()
            1
        """
        if isinstance(predicate, str | Term):
            return self._derive(ops.Filter.of(self._plan, predicate))
        return self._derive(ops.FilterRows.of(self._plan, predicate, self._lake.blobs))

    def head(self, n: int = 5) -> Dataset:
        """Returns the first ``n`` rows, or all rows if there are fewer.

        Args:
            n: the number of rows.

        Raises:
            InvalidArgumentError: ``n`` is negative or not a whole number.
        """
        return self.slice(0, check_whole(n, "head"))

    def slice(self, start: int, stop: int | None = None) -> Dataset:
        """Returns the rows ``[start, stop)``. A range past the end is cut at the end.

        Args:
            start: the index of the first row.
            stop: the index after the last row. None is the end.

        Raises:
            InvalidArgumentError: a bound is negative or not a whole number.

        Example:
            >>> Dataset.from_dict({"x": [1, 2, 3, 4]}).slice(1, 3).to_arrow()["x"].to_pylist()
            [2, 3]
        """
        return self._derive(ops.Slice.of(self._plan, start, stop))

    def skip(self, n: int) -> Dataset:
        """Returns all rows except the first ``n``.

        Args:
            n: the number of rows to leave out.

        Raises:
            InvalidArgumentError: ``n`` is negative or not a whole number.
        """
        return self.slice(check_whole(n, "skip"))

    def take(self, indices: Iterable[int]) -> Dataset:
        """Returns the rows at the given indices, in the given order. An index may occur several times.

        Args:
            indices: the indices of the rows, from 0 on.

        Raises:
            RowIndexError: an index is negative or past the end. If the number of rows is not known yet, reading raises
                it.
            InvalidArgumentError: an index is not a whole number.

        Example:
            >>> Dataset.from_dict({"x": [10, 20, 30]}).take([2, 0]).to_arrow()["x"].to_pylist()
            [30, 10]
        """
        return self._derive(ops.Take.of(self._plan, indices, row_counts.known_rows(self._plan)))

    def sample(self, n: int, seed: int | None = None) -> Dataset:
        """Returns ``n`` random rows without replacement, in their original order, or all rows if there are fewer.

        Args:
            n: the number of rows.
            seed: the seed of the choice. None draws a seed now, which stays with the returned dataset.

        Raises:
            InvalidArgumentError: ``n`` is negative, or an argument is not a whole number.
        """
        return self._derive(ops.Sample.of(self._plan, n, seed))

    def shard(self, index: int, count: int) -> Dataset:
        """Returns one of ``count`` disjoint parts that together hold all rows. `to_torch` does this by itself.

        Args:
            index: the number of the part, from 0 on.
            count: the number of parts.

        Raises:
            InvalidArgumentError: ``index`` does not lie in ``[0, count)``.

        Example:
            >>> numbers = Dataset.from_dict({"x": [1, 2, 3, 4]})
            >>> [numbers.shard(index, 2).to_arrow()["x"].to_pylist() for index in range(2)]
            [[1, 2], [3, 4]]
        """
        rows = row_counts.known_rows(self._plan)
        if rows is None:
            return self._derive(ops.Stride.of(self._plan, index, count))
        return self._derive(ops.Slice(self._plan, *ops.shard_range(rows, index, count)))

    def repeat(self, times: int) -> Dataset:
        """Returns the rows ``times`` times in succession.

        Args:
            times: the number of repetitions.

        Raises:
            InvalidArgumentError: ``times`` is negative or not a whole number.
        """
        return self._derive(ops.Repeat.of(self._plan, times))

    def batch(self, size: int, drop_last: bool = False) -> Dataset:
        """Returns every ``size`` rows as one row whose cells are lists.

        Args:
            size: the number of rows that become one.
            drop_last: leave out the last rows if they are fewer than ``size``.

        Raises:
            InvalidArgumentError: ``size`` is less than 1 or not a whole number.

        Example:
            >>> Dataset.from_dict({"x": [1, 2, 3]}).batch(2).to_arrow()["x"].to_pylist()
            [[1, 2], [3]]
        """
        return self._derive(ops.Batch.of(self._plan, size, drop_last))

    def drop(self, columns: str | Sequence[str]) -> Dataset:
        """Returns all columns except the given ones.

        Args:
            columns: the name of a column, or a list of names.

        Raises:
            ColumnNotFoundError: a column does not exist. The message suggests similar names.
            SchemaError: no column would remain.
        """
        return self._derive(ops.Project.without(self._plan, columns))

    def rename(self, names: Mapping[str, str]) -> Dataset:
        """Returns the rows with some columns renamed.

        Args:
            names: a mapping of current names to new ones: ``{"old": "new"}``.

        Raises:
            ColumnNotFoundError: a column does not exist.
            SchemaError: two columns would share a name.

        Example:
            >>> Dataset.from_dict({"x": [1]}).rename({"x": "y"}).to_arrow().to_pylist()
            [{'y': 1}]
        """
        return self._derive(ops.Rename.of(self._plan, names))

    def with_column(self, name: str, value: str | Term) -> Dataset:
        """Returns the rows with a column that an expression computes. It replaces a column of the same name.

        Args:
            name: the name of the column.
            value: the expression, such as ``"x / 2"`` or ``col("x") / 2``.

        Raises:
            ExpressionError: the expression cannot be parsed. The message marks the position.
            ColumnNotFoundError: the expression names a column that does not exist.
            TypeMismatchError: the types do not fit the operators.

        Example:
            >>> Dataset.from_dict({"x": [1, 2]}).with_column("half", "x / 2").to_arrow()["half"].to_pylist()
            [0.5, 1.0]
        """
        return self._derive(ops.WithColumn.of(self._plan, name, value))

    def join(self, other: Dataset, keys: str | Sequence[str], join_type: JoinType = "inner") -> Dataset:
        """Returns the rows of two datasets side by side where their keys are equal. A null key matches nothing.

        Each key occurs once in the result. A column that both sides have gets the suffix ``_right`` on the right side.
        The result has the order of the left side; the matches of one left row have the order of the right side. Right
        rows without a match come last.

        Args:
            other: the right side.
            keys: the name of a column that both sides have, or a list of names.
            join_type: "inner", "left outer", "right outer" or "full outer".

        Raises:
            ColumnNotFoundError: a side lacks a key.
            TypeMismatchError: the types of a key cannot be compared.
            InvalidArgumentError: ``other`` is not a Dataset, or the join type is unknown.

        Example:
            >>> people = Dataset.from_dict({"id": [1, 2], "name": ["a", "b"]})
            >>> people.join(Dataset.from_dict({"id": [2], "age": [30]}), "id").to_arrow().to_pylist()
            [{'id': 2, 'name': 'b', 'age': 30}]
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
        """Returns the result of a SELECT in DuckDB's SQL. It streams, and spills to local disk beyond the memory limit.

        The query sees only the given datasets: no files, no network, no settings, no variables.
        DuckDB has no half floats and no durations: it sees floats and whole numbers of the unit. A result that is such
        a column, or some of its values (``max(d)``), has the column's type again.

        Args:
            query: one SELECT statement.
            table_name: the name of this dataset in the query.
            seed: the seed of ``random()``. None draws a seed now, which stays with the returned dataset.
            tables: more datasets by name.

        Raises:
            ExpressionError: the query cannot be parsed, or names unknown tables, columns or functions. Nothing was run.
            UnsupportedError: the query does more than select. Nothing was run.

        Example:
            >>> sold = Dataset.from_dict({"item": ["a", "b", "a"], "n": [1, 2, 3]})
            >>> sold.sql("SELECT item, count(*) AS times FROM data GROUP BY item ORDER BY item").to_arrow().to_pylist()
            [{'item': 'a', 'times': 2}, {'item': 'b', 'times': 1}]
        """
        others = ops.check_tables(table_name, tables).items()
        plans = {table_name: self._plan, **{name: plan_of(each, f"sql(tables={name!r})") for name, each in others}}
        return self._derive(ops.Query.of(query, plans, self._lake.settings, seed))

    query = sql

    def map(self, fn: RowFn, *, schema: pa.Schema, on_error: Literal["raise", "skip"] = "raise") -> Dataset:
        """Returns the rows that ``fn`` makes of each row. It runs when rows are read.

        Args:
            fn: a function that takes a row as a dict and returns a dict. File cells are handles.
            schema: the columns and types that it returns.
            on_error: "raise", or "skip" to leave out rows for which ``fn`` fails. A warning then counts these rows and
                names the first reasons.

        Raises:
            SchemaError, TypeMismatchError: the schema is unusable.
            InvalidArgumentError: ``fn`` is not callable, or ``on_error`` is malformed.
            TransformError: while reading: ``fn`` failed for a row, which the message names, or its result does not fit.

        Example:
            >>> schema = pa.schema({"y": pa.int64()})
            >>> doubled = Dataset.from_dict({"x": [1, 2]}).map(lambda row: {"y": 2 * row["x"]}, schema=schema)
            >>> doubled.to_arrow()["y"].to_pylist()
            [2, 4]
        """
        return self._derive(ops.Map.of(self._plan, fn, schema, self._lake.blobs, on_error))

    def map_batches(self, fn: BatchFn, *, schema: pa.Schema) -> Dataset:
        """Returns the batches that ``fn`` makes of each Arrow batch. It may change the number of rows.

        Args:
            fn: a function that takes and returns a ``pyarrow.RecordBatch``. It must treat rows independently of each
                other, because batches may be cut anywhere.
            schema: the columns and types that it returns.

        Raises:
            SchemaError, TypeMismatchError: the schema is unusable. While reading: a batch does not fit it.
            InvalidArgumentError: ``fn`` is not callable.
            TransformError: while reading: ``fn`` failed, or returned something other than a batch.
        """
        return self._derive(ops.MapBatches.of(self._plan, fn, schema))

    def shuffle(self, seed: int | None = None, global_: bool = True, window: int | None = None) -> Dataset:
        """Returns the rows in random order. The same seed gives the same order, on every rank and worker.

        Args:
            seed: None draws a seed now, which stays with the returned dataset.
            global_: a fair shuffle of all rows. It puts the rows on local disk unless they are in memory.
            window: with ``global_=False``, the rows that are mixed at a time. Files are mixed in large blocks first.
                Rows that can only be streamed (CSV, a generator) wait in a buffer of a window. None: 10,000 rows, of a
                stream no more than take 64 MiB.

        Raises:
            InvalidArgumentError: ``seed`` or ``window`` is not a whole number in its range.
        """
        return self._derive(ops.Shuffle.of(self._plan, seed, global_, window))

    def set_epoch(self, epoch: int) -> Dataset:
        """Selects the epoch of this dataset's shuffles, in place. Their seed becomes seed + epoch.

        This is the only method that changes a dataset. Training loops expect it to.

        Args:
            epoch: the number of the epoch.

        Returns:
            This dataset.

        Raises:
            InvalidArgumentError: the epoch is negative or not a whole number.
        """
        number = check_whole(epoch, "set_epoch")
        if self._node is not None:
            self._node = ops.with_epoch(self._node, number)
        return self._itself

    def sort(self, by: str | Sequence[str], descending: bool | Sequence[bool] = False) -> Dataset:
        """Returns the rows in the order of one or several columns. It sorts beyond memory.

        Rows with equal values keep their order. Nulls come last in both directions. NaN is greater than every number.
        Text is compared by code points.

        Args:
            by: the name of a column, or a list of names, the most significant first.
            descending: put the largest values first: one value for all columns, or one for each.

        Raises:
            ColumnNotFoundError: a column does not exist.
            TypeMismatchError: the values of a column have no order.
            InvalidArgumentError: ``descending`` does not fit the columns.

        Example:
            >>> Dataset.from_dict({"x": [2, None, 3]}).sort("x", descending=True).to_arrow()["x"].to_pylist()
            [3, 2, None]
        """
        return self._derive(ops.Sort.of(self._plan, by, descending, self._lake.settings))

    def train_test_split(
        self, *, test_size: float = 0.2, seed: int | None = None, by: str | None = None
    ) -> dict[str, Dataset]:
        """Returns two disjoint datasets, "train" and "test", that together hold all rows.

        Args:
            test_size: the share of rows in "test", between 0 and 1.
            seed: the seed of the choice. The same seed gives the same split; None is 0.
            by: the name of a key column. The side of a row then depends on its key alone, so later appends never move
                it to the other side.

        Raises:
            InvalidArgumentError: ``test_size`` does not lie between 0 and 1.
            ColumnNotFoundError: the column ``by`` does not exist.

        Example:
            >>> sides = Dataset.from_dict({"x": list(range(10))}).train_test_split(test_size=0.3)
            >>> len(sides["train"]), len(sides["test"])
            (7, 3)
        """
        sides = ops.split_sides(self._plan, row_counts.known_rows(self._plan), test_size, seed, by)
        return {side: self._derive(node) for side, node in sides.items()}

    def pipe(self, operation: str | Callable[..., Any], *args: Any, **options: Any) -> Dataset:
        """Returns the dataset that an operation makes of this one.

        Args:
            operation: a function that takes a `Dataset` first and returns one, a class of plan nodes that takes the
                plan first, or the name of either in the entry point group ``lakefeed.operations``.
            *args: further arguments of the operation.
            **options: keyword arguments of the operation.

        Raises:
            InvalidArgumentError: no installed package declares an operation of this name.
            PluginError: the package that declares it cannot be loaded.
            TypeMismatchError: this is not a function, or it does not return a `Dataset`.

        Example:
            >>> def adults(people, age):
            ...     return people.filter(f"age >= {age}")
            >>> Dataset.from_dict({"age": [12, 40]}).pipe(adults, 18).count()
            1
        """
        result = plugin_parts.apply_operation(operation, self, self._plan, args, options, Core)
        return result._itself if isinstance(result, Core) else self._derive(result)
