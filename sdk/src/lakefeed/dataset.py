"""The one class that people use: a lazy, immutable reference to rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import pyarrow as pa

import lakefeed._arguments as arguments
from lakefeed import catalog
from lakefeed._typing import (
    BatchFactory,
    BatchFn,
    ColumnTypes,
    IfExists,
    LoadFiles,
    Locations,
    Ragged,
    Row,
    RowFn,
    RowPredicate,
    Words,
)
from lakefeed.caching import cached, mapped
from lakefeed.catalog.action import Fence, Provenance
from lakefeed.catalog.commit import update_properties
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import COLUMN_TYPES, DESCRIPTION
from lakefeed.catalog.schema import declared_schema
from lakefeed.catalog.versions import DatasetVersion, Pin, list_versions
from lakefeed.errors import UnsavedDatasetError
from lakefeed.ops import (
    Batch,
    FileColumns,
    Join,
    Map,
    MapBatches,
    Project,
    Query,
    Rename,
    Repeat,
    Sample,
    Scan,
    Shuffle,
    Slice,
    Sort,
    Take,
)
from lakefeed.ops.join import JoinType
from lakefeed.ops.shuffle import with_epoch
from lakefeed.optimize import optimize
from lakefeed.plan import Node, explain, lineage
from lakefeed.plan.walk import FlatNode, flatten, rebuild
from lakefeed.run import Local
from lakefeed.run.access import Access, Streamed
from lakefeed.run.changes import Changes, changes
from lakefeed.run.count import count_rows, known_rows, length
from lakefeed.run.edit import delete_rows, overwrite, restore, upsert_into
from lakefeed.run.existing import save_or_add
from lakefeed.run.export import collect, to_duckdb, to_pandas, to_polars
from lakefeed.run.python import dict_batches, rows
from lakefeed.run.reference import Identity, Reference
from lakefeed.run.save import append_to, choose_types, typed_columns
from lakefeed.run.show import PREVIEW_ROWS, line, preview
from lakefeed.sources.batches import BatchesSource
from lakefeed.sources.huggingface import exported, hugging_face
from lakefeed.sources.memory import MemorySource, table_of_columns, table_of_pandas, table_of_rows

if TYPE_CHECKING:
    import datetime as dt

    import duckdb
    import pandas as pd
    import polars as pl

    from lakefeed.loaders.torch import TorchLoader
    from lakefeed.loaders.world import World

AnyDataset = TypeVar("AnyDataset", bound="Dataset")
AnyAddedRows = TypeVar("AnyAddedRows", bound="AddedRows")


class Dataset(Streamed):
    """Rows of a dataset in the lake, of files or of memory, and what is made of them.

    Lazy: nothing is read or run before rows are asked for, and every operation returns a new Dataset.

    A reference without a version follows the dataset: it reads the newest version there is. What is derived from it
    (``filter``, ``select``, …) stays with the version that was newest when it was derived, so that one training run
    reads one version.

    Args:
        name: the dataset's name: ``photos``, or ``team.photos`` in another namespace.
        version: the version to read, for ever the same rows, or a tag (see `tag`); None: the newest.
        as_of: read the version that was the newest at that time: a datetime with a time zone, or milliseconds since
            1970.

    What was resolved once (a pin, a tag, what ``save`` returned, what is derived) stays with its table: once the
    dataset is deleted, reading it is an error, also where another one was made under the name.

    A version is read with the columns that it was written with; the newest rows come with the columns that the dataset
    has now, which `add_column` and its like change without making a version.

    Raises:
        InvalidNameError, InvalidArgumentError: at once. That there is no such dataset or version shows when it is read.

    Example:
        >>> digits = Dataset.from_dict({"id": [1, 2, 3], "label": [7, 2, 7]}).save("digits")
        >>> Dataset("digits", version=1).filter("label == 7").select(["id"]).to_arrow().to_pydict()
        {'id': [1, 3]}
    """

    def __init__(self, name: str, *, version: int | str | None = None, as_of: dt.datetime | int | None = None) -> None:
        self._lake = Lake.current()
        self._lake.identifier(name)
        self._name: str | None = name
        self._version, self._identity = arguments.version(version, as_of), Identity()
        self._node: Node | None = None

    @property
    def name(self) -> str:
        """The name in the lake.

        Raises:
            UnsavedDatasetError: it is derived, or was never saved.
        """
        return arguments.saved(self._name)

    @property
    def version(self) -> int:
        """The version that is read now (the newest one where none was pinned)."""
        return self._reference.resolved().version

    @property
    def schema(self) -> pa.Schema:
        """The columns and their types."""
        return self._plan.schema

    @property
    def description(self) -> str | None:
        """The text that was given with ``save`` or ``update``."""
        return self._reference.table().properties.get(DESCRIPTION)

    @property
    def column_types(self) -> dict[str, str]:
        """The file columns and their types, such as ``{"photo": "image"}``."""
        return typed_columns(self.schema)

    @property
    def metadata(self) -> dict[str, Any]:
        """Name, description, schema, column types, properties, versions, tags and branches, as the catalog has them.

        ``snapshots`` holds an entry for each version, newest first, with ``sequence_number`` (the version),
        ``snapshot_id``, ``operation``, ``added_records``, ``total_records``, ``timestamp_ms`` and what else
        `list_versions` tells.
        """
        return self._reference.metadata()

    def list_versions(self) -> list[DatasetVersion]:
        """Every version, newest first, with who wrote it and how many rows it added."""
        return list_versions(self._reference.table())

    def added_since(self, from_version: int | str | None = None, to_version: int | str | None = None) -> AddedRows:
        """The rows that the versions after ``from_version`` up to ``to_version`` added, oldest commit first.

        Rows that a version left as they were are not among them, whatever it did to the files that hold them: neither
        an upsert's, delete's or compaction's untouched rows, nor what an overwrite has in common with the rows before
        it. An upsert adds the rows that it changed. `restore` adds nothing: what it brings back was added by the
        version that wrote it.

        Args:
            from_version: exclusive; None: from the beginning.
            to_version: inclusive; None: up to this reference's version.

        Raises:
            VersionNotFoundError, InvalidArgumentError: no such versions, or not in order.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("growing")
            >>> _ = Dataset.from_dict({"x": [2, 3]}).append_to("growing")
            >>> Dataset("growing").added_since(1).to_arrow()["x"].to_pylist()
            [2, 3]
        """
        return self._since(AddedRows, "added", from_version, to_version)

    def removed_since(self, from_version: int | str | None = None, to_version: int | str | None = None) -> RemovedRows:
        """The rows that the versions after ``from_version`` up to ``to_version`` removed, oldest commit first.

        Among them is what an upsert replaced, as it was before. Arguments and errors as for `added_since`.

        Example:
            >>> _ = Dataset.from_dict({"x": [1, 2, 3]}).save("shrinking")
            >>> _ = Dataset("shrinking").delete_rows("x == 2")
            >>> Dataset("shrinking").removed_since(1).to_arrow()["x"].to_pylist()
            [2]
        """
        return self._since(RemovedRows, "removed", from_version, to_version)

    def changes(
        self,
        from_version: int | str | None = None,
        to_version: int | str | None = None,
        keys: str | Sequence[str] | None = None,
    ) -> Changes:
        """How two versions differ, counted: rows and columns, whatever happened in between; reads what differs only.

        Args:
            from_version: the older one; None: no rows at all.
            to_version: the newer one; None: this reference's version.
            keys: columns that tell which row is which, so that a row can be changed rather than removed and added.

        Raises:
            VersionNotFoundError, InvalidArgumentError, ColumnNotFoundError: nothing was read.

        Example:
            >>> _ = Dataset.from_dict({"id": [1, 2], "x": [10, 20]}).save("edited")
            >>> _ = Dataset.from_dict({"id": [2, 3], "x": [21, 30]}).upsert_into("edited", keys="id")
            >>> report = Dataset("edited").changes(1, 2, keys="id")
            >>> report.added, report.removed, report.changed
            (1, 0, 1)
        """
        source, first = self._reference.since("gained", *arguments.versions(from_version, to_version))
        return changes(source, first, () if keys is None else arguments.keys(keys))

    def tag(self, tag: str, version: int | str | None = None, *, move: bool = False) -> int:
        """Names a version (None: this reference's) for ``Dataset(name, version=tag)``. Returns its number.

        Raises:
            TagExistsError: the tag stands for another version, and is not to ``move``.
            VersionNotFoundError, InvalidNameError: nothing is changed.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("tagged")
            >>> Dataset("tagged").tag("stable")
            1
            >>> _ = Dataset.from_dict({"x": [2]}).append_to("tagged")
            >>> len(Dataset("tagged", version="stable"))
            1
        """
        chosen = self._version if version is None else arguments.version(version)
        return catalog.tag(self._lake, self._changed, tag, chosen, arguments.flag(move, "move"))

    def untag(self, tag: str) -> None:
        """Removes a tag; the version stays.

        Raises:
            TagNotFoundError: with those that exist.
        """
        catalog.untag(self._lake, self._changed, tag)

    def tags(self) -> dict[str, int]:
        """The tags and the versions that they stand for."""
        return catalog.tags(self._reference.table())

    # ------------------------------------------------------------------ making one

    @classmethod
    def from_dict(cls, columns: Mapping[str, Sequence[Any]], schema: pa.Schema | None = None) -> Dataset:
        """Columns in memory, each a list (or Arrow or NumPy array) of one length."""
        return cls.from_arrow(table_of_columns(columns, arguments.maybe_schema(schema)))

    @classmethod
    def from_pylist(cls, rows: Sequence[Row], schema: pa.Schema | None = None) -> Dataset:
        """Rows in memory, each a dict."""
        return cls.from_arrow(table_of_rows(rows, arguments.maybe_schema(schema)))

    @classmethod
    def from_arrow(cls, table: pa.Table | pa.RecordBatch) -> Dataset:
        """An Arrow table or batch; nothing is copied."""
        return _made(Dataset, Lake.current(), Scan(MemorySource(arguments.table(table))))

    @classmethod
    def from_pandas(cls, frame: pd.DataFrame) -> Dataset:
        """A DataFrame; an index that has a name becomes a column."""
        return cls.from_arrow(table_of_pandas(frame))

    @classmethod
    def from_polars(cls, frame: pl.DataFrame) -> Dataset:
        """A polars DataFrame; nothing is copied but categories."""
        return cls.from_arrow(arguments.polars_table(frame))

    @classmethod
    def from_huggingface(
        cls, name_or_dataset: Any, split: str | None = None, streaming: bool = True, **load_options: Any
    ) -> Dataset:
        """A dataset of the Hugging Face hub by its name, or a ``datasets.Dataset`` or ``IterableDataset``.

        Images, sounds and videos become file columns; class labels are integers whose names the field's metadata keeps.

        Args:
            name_or_dataset: "imdb", a folder, a format ("json" with ``data_files=``), or the object.
            split: "train", "test[:10%]", …; None: the only one there is.
            streaming: by name: read while iterating, with nothing downloaded before.
            load_options: go to ``datasets.load_dataset``: ``name`` (the configuration), ``data_files``, ``revision``, …

        Raises:
            MissingDependencyError: install ``lakefeed[huggingface]``.
            MissingFileError, FileError: there is no such dataset, or no way to it.
            InvalidArgumentError: no such split; those that exist are listed.
        """
        return _made(Dataset, Lake.current(), Scan(hugging_face(name_or_dataset, split, streaming, load_options)))

    @classmethod
    def from_torch(cls, dataset: Any, schema: pa.Schema | None = None) -> Dataset:
        """A PyTorch dataset, map-style or iterable.

        The parts of a sample that is a tuple are the schema's columns, in order; a dict goes by name; anything else is
        the only column. Tensors and arrays of one shape fit nested fixed-size lists.

        Example:
            >>> import torch
            >>> pairs = torch.utils.data.TensorDataset(torch.eye(2), torch.tensor([7, 8]))
            >>> schema = pa.schema({"x": pa.list_(pa.float32(), 2), "y": pa.int64()})
            >>> Dataset.from_torch(pairs, schema=schema).to_arrow().to_pylist()[1]
            {'x': [0.0, 1.0], 'y': 8}
        """
        return _made(Dataset, Lake.current(), Scan(arguments.torch_source(dataset, schema)))

    @classmethod
    def from_batches(cls, factory: BatchFactory, *, schema: pa.Schema) -> Dataset:
        """What ``factory()`` yields, called anew for each pass, so that the dataset can be read again.

        Example:
            >>> def numbers():
            ...     yield pa.record_batch({"x": [1, 2]})
            >>> Dataset.from_batches(numbers, schema=pa.schema({"x": pa.int64()})).count()
            2
        """
        return _made(Dataset, Lake.current(), Scan(BatchesSource(factory, arguments.schema(schema))))

    @classmethod
    def from_file(
        cls, location: Locations, schema: pa.Schema | None = None, format: str | None = None, null_values: Words = None
    ) -> Dataset:
        """Files by path, glob or URL, streamed: CSV, JSON lines, Parquet and Arrow, also compressed and in archives.

        Only their beginning is read now; of several remote text files, that of the first.

        Args:
            location: one or several of: a path; a URL (``https://``, ``s3://``, ``memory://``, …); a chain that leads
                into an archive or a compressed file: ``zip://folder/*.csv::https://host/data.zip``,
                ``tar://rows.jsonl::data.tar.gz``, ``gzip://rows.jsonl::https://host/download``. Members of an archive
                come in the order in which it has them.
            schema: the columns and types to read, where the beginning of the files tells them wrong. Other columns are
                left out; a key that a JSON line lacks is null.
            format: "csv", "jsonl", "parquet" or "arrow", where the suffix does not tell.
            null_values: of CSV, the cells that are null, such as ``["", "NA"]``. By default in text only the empty cell
                that is not quoted; in other columns also a quoted empty cell and Arrow's words (``NA``, ``N/A``,
                ``null``, ``NaN``, …), but ``nan`` in a column of floats is that. Where they are given, exactly these
                are null in text, and these and the empty cell in other columns.

        Raises:
            MissingFileError: nothing is there.
            FileError: it cannot be read, after trying again what may pass.
            FormatError: an unknown suffix, or a file that is not what its suffix says; with the line. So are text that
                is not UTF-8, and a value that does not fit the type of its column.
            InvalidArgumentError: null values for files that are not CSV.
            SchemaError: files that do not fit together; with the file.
        """
        return _made(Dataset, Lake.current(), Scan(arguments.files(location, schema, format, null_values)))

    # ------------------------------------------------------------------ reading

    def __iter__(self) -> Iterator[Any]:
        """One dict a row, streamed."""
        return self.rows()

    def rows(self, load_files: LoadFiles = "auto") -> Iterator[Row]:
        """One dict a row, streamed.

        File cells are lazy handles ("auto", or True); ``load_files`` as in `load_files` makes them bytes, paths, or
        (False) records.
        """
        return rows(self._batches(load_files), self._store_for(load_files))

    def batches(
        self, size: int | None = None, format: Literal["dict", "arrow"] = "dict", load_files: LoadFiles = "auto"
    ) -> Iterator[Any]:
        """Batches, streamed: dicts of lists, or ``pyarrow.RecordBatch`` with ``format="arrow"``.

        Args:
            size: rows a batch, exactly but for the last; None: as they come.
            format: "dict" or "arrow". Under "auto" file cells are handles in dicts, records in Arrow.
            load_files: as in `load_files`; True means "auto".
        """
        arguments.batches(size, format)
        batches = self._batches(load_files, size)
        return batches if format == "arrow" else dict_batches(batches, self._store_for(load_files))

    def collect(self, max_bytes: int | None = None, warn: bool = True) -> pa.Table:
        """All rows as an Arrow table; more than 1 GiB gives a `LargeResultWarning` unless ``warn`` is off.

        Raises:
            BudgetExceededError: the rows take more than ``max_bytes``, noticed before more is held.
        """
        return collect(self._runner, self._plan, arguments.budget(max_bytes), arguments.flag(warn, "warn"))

    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        return self.collect()

    def to_pandas(self) -> pd.DataFrame:
        """All rows as a DataFrame.

        Integers and booleans with nulls among them get pandas' nullable types (``Int64``, ``boolean``), so that no
        value turns into a float.
        """
        return to_pandas(self.collect())

    def to_polars(self) -> pl.DataFrame:
        """All rows as a polars DataFrame, over the memory of the Arrow table."""
        return to_polars(self.collect())

    def to_tensors(self, load_files: LoadFiles = "auto") -> dict[str, Any]:
        """All rows as PyTorch tensors, by column; text, bytes and structs as lists.

        What becomes of which type, and of nulls, is as in `to_torch` (see :mod:`lakefeed.loaders.collate`): fixed-size
        lists are 2-d tensors; null is NaN in float columns, and an error in integer columns, whatever the rows. Numbers
        share the memory of the rows where they can: clone a tensor before writing to it.

        Example:
            >>> Dataset.from_dict({"x": [1.0, None], "name": ["a", "b"]}).to_tensors()
            {'x': tensor([1., nan], dtype=torch.float64), 'name': ['a', 'b']}
        """
        return arguments.tensors(self.load_files(load_files).collect())

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
        return exported(self.load_files(load_files), self.schema, arguments.flag(streaming, "streaming"))

    def to_duckdb(self, table_name: str = "data", connection: Any = None) -> duckdb.DuckDBPyRelation:
        """A DuckDB relation that reads the rows, streamed, each time that it runs; ``table_name`` is a view of them.

        Args:
            table_name: what SQL on the same connection calls it.
            connection: where to; None: a new one in memory.

        Example:
            >>> Dataset.from_dict({"x": [1, 2, 3]}).to_duckdb().aggregate("sum(x) AS total").fetchall()
            [(6,)]
        """
        return to_duckdb(self._runner, self._plan, table_name, connection)

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
        """A ``torch.utils.data.DataLoader`` of dicts of tensors, exact to resume. See :mod:`lakefeed.loaders.torch`.

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
        cut = arguments.batching(batch_size, drop_last, world, rank, world_size)
        options = {"num_workers": num_workers, **dataloader_kwargs}
        return arguments.torch_loader(loaded._plan, self._runner, cut, prefetch_batches, ragged, infinite, options)

    def count(self) -> int:
        """The number of rows; reads what it takes to tell."""
        return count_rows(self._runner, self._plan)

    def __len__(self) -> int:
        """The number of rows, if it is known without reading data.

        Raises:
            TypeError: it is not; `count` finds out.
        """
        return length(self._plan)

    def __bool__(self) -> bool:
        return True

    # ------------------------------------------------------------------ deriving

    def select(self, columns: Sequence[str]) -> Dataset:
        """These columns, in this order; the others are not read.

        Raises:
            ColumnNotFoundError: with the near misses.
        """
        return self._derive(Project(self._plan, arguments.columns(columns)))

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
        return self._derive(arguments.filtered(self._plan, predicate, self._lake.blobs))

    def head(self, n: int = 5) -> Dataset:
        """The first ``n`` rows (fewer if there are fewer)."""
        return self.slice(0, arguments.whole(n, "head"))

    def slice(self, start: int, stop: int | None = None) -> Dataset:
        """The rows ``[start, stop)``; past the end is clamped, None is the end."""
        return self._derive(Slice(self._plan, *arguments.row_range(start, stop)))

    def skip(self, n: int) -> Dataset:
        """All rows but the first ``n``."""
        return self.slice(arguments.whole(n, "skip"))

    def take(self, indices: Iterable[int]) -> Dataset:
        """The rows at these places, in this order, as often as named.

        Raises:
            RowIndexError: a negative place, or one past the end (at the call where the number of rows is known).
        """
        return self._derive(Take(self._plan, arguments.indices(indices, known_rows(self._plan))))

    def sample(self, n: int, seed: int | None = None) -> Dataset:
        """``n`` rows by chance without replacement (all if there are fewer), in the order in which they stand.

        Args:
            n: how many.
            seed: None: one is drawn now and stays with the returned dataset.
        """
        return self._derive(Sample(self._plan, arguments.whole(n, "sample"), arguments.chosen_seed(seed)))

    def shard(self, index: int, count: int) -> Dataset:
        """One of ``count`` disjoint parts that together are everything; `to_torch` does this by itself."""
        return self._derive(arguments.shard(self._plan, index, count))

    def repeat(self, times: int) -> Dataset:
        """The rows ``times`` times over."""
        return self._derive(Repeat(self._plan, arguments.whole(times, "repeat")))

    def batch(self, size: int, drop_last: bool = False) -> Dataset:
        """Every ``size`` rows as one row whose cells are lists; a shorter last one is kept unless ``drop_last``."""
        return self._derive(Batch(self._plan, *arguments.batch(size, drop_last)))

    def drop(self, columns: str | Sequence[str]) -> Dataset:
        """All columns but these."""
        return self._derive(Project(self._plan, arguments.remaining(self._plan, columns)))

    def rename(self, names: Mapping[str, str]) -> Dataset:
        """Columns by other names: ``rename({"old": "new"})``."""
        return self._derive(Rename(self._plan, arguments.renames(self._plan, names)))

    def with_column(self, name: str, value: str) -> Dataset:
        """One more column, or another in place of one of that name, computed by an expression.

        Example:
            >>> Dataset.from_dict({"x": [1, 2]}).with_column("half", "x / 2").to_arrow()["half"].to_pylist()
            [0.5, 1.0]
        """
        return self._derive(arguments.with_column(self._plan, name, value))

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
        right = arguments.other(other, "join")
        return self._derive(Join(self._plan, right, arguments.keys(keys), join_type, self._lake.settings))

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
        names, plans = arguments.tables(self._plan, table_name, tables)
        chosen = None if seed is None else arguments.seed(seed)
        return self._derive(Query(query, names, plans, self._lake.settings, chosen))

    query = sql

    def map(self, fn: RowFn, *, schema: pa.Schema) -> Dataset:
        """``fn(row)`` for each row, run when rows are read and checked against ``schema``."""
        return self._derive(Map(self._plan, arguments.function(fn, "map"), arguments.schema(schema), self._lake.blobs))

    def map_batches(self, fn: BatchFn, *, schema: pa.Schema) -> Dataset:
        """``fn(batch)`` for each Arrow batch; the number of rows may change. ``fn`` must treat rows independently."""
        return self._derive(MapBatches(self._plan, arguments.function(fn, "map_batches"), arguments.schema(schema)))

    def shuffle(self, seed: int | None = None, global_: bool = True, window: int = 10_000) -> Dataset:
        """The rows in random order; the same seed gives the same order, on every rank and worker.

        Args:
            seed: None: one is drawn now and stays with the returned dataset.
            global_: a fair shuffle of all rows; the rows are put on local disk for it unless they are in memory.
            window: with ``global_=False``: rows that are mixed at a time, after files were mixed in large blocks.
        """
        chosen, rows = arguments.chosen_seed(seed), arguments.window(window)
        return self._derive(Shuffle(self._plan, chosen, None if arguments.flag(global_, "global_") else rows))

    def set_epoch(self, epoch: int) -> Dataset:
        """Makes the shuffles of this very dataset those of ``epoch``: the effective seed is literally seed + epoch.

        The one method that changes a dataset, as training loops expect; it also returns it.
        """
        turned = arguments.whole(epoch, "set_epoch")
        if self._node is not None:
            self._node = with_epoch(self._node, turned)
        return self

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
        return self._derive(Sort(self._plan, *arguments.sort_keys(by, descending), self._lake.settings))

    def train_test_split(
        self, *, test_size: float = 0.2, seed: int | None = None, by: str | None = None
    ) -> dict[str, Dataset]:
        """Disjoint, complete "train" and "test" sides, the same for the same seed (None: 0).

        Args:
            test_size: the share of the test side, between 0 and 1.
            seed: another seed is another split.
            by: a key column: a row's side depends on its key alone, so later appends never move it to the other side.
        """
        sides = arguments.split(self._plan, test_size, seed, by)
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
        node = arguments.load_files(
            self._plan, self._lake.blobs, to, columns, workers, on_error, fetch_timeout, max_inflight_bytes
        )
        return self if node is None else self._derive(node)

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
        name = self._name if type(self) is Dataset and number == self._version else None
        flags = arguments.caching(path, load_files, overwrite)
        return self._derive(cached(self._lake, name, number, lambda: self._plan, path, **flags))

    def mapped(self, path: str | os.PathLike[str] | None = None) -> MappedDataset:
        """The rows in a local Arrow file that is mapped into memory: the fastest to read again, and in any order.

        It is made once under ``$LAKEFEED_CACHE_DIR/mapped``, uncompressed, and shared by the processes of a machine; a
        new version or another operation gets another file. File columns stay references.

        Args:
            path: a folder of its own for the rows.

        Example:
            >>> numbers = Dataset.from_dict({"x": [1, 2, 3]}).mapped()
            >>> numbers[1], numbers[[2, -3]]
            ({'x': 2}, [{'x': 3}, {'x': 1}])
        """
        return _made(MappedDataset, self._lake, mapped(self._lake, self._plan, arguments.folder(path, "mapped")))

    def with_column_types(self, column_types: ColumnTypes | Literal["auto"] = "auto") -> Dataset:
        """The columns marked as files: "auto" looks at a sample, a mapping such as ``{"photo": "image"}`` is exact."""
        plan = self._plan
        types = choose_types(self._runner, plan, column_types)
        if not types:
            return self
        return self._derive(FileColumns(plan, tuple(sorted(types.items())), self._lake.blobs, copy=False, stats=False))

    # ------------------------------------------------------------------ writing

    def save(
        self,
        name: str,
        description: str | None = None,
        column_types: ColumnTypes | Literal["auto"] | None = "auto",
        copy_files: Literal["auto"] | bool = "auto",
        stats: bool = True,
        *,
        provenance: Provenance | None = None,
        idempotency_key: str | None = None,
        fence: Fence | None = None,
        if_exists: IfExists = "error",
    ) -> Dataset:
        """The first version of a new dataset. Streams; a failure leaves no table and no file.

        Args:
            name: must be free, unless ``if_exists`` says otherwise.
            description: shown with the dataset; of a new one only.
            column_types: which columns hold files: "auto" looks at a sample, a mapping is exact, None is none; of a new
                dataset only.
            copy_files: "auto" stores local files and keeps remote URLs as references; True stores remote ones too;
                False stores nothing.
            stats: record what files are (an image's width and height).
            provenance: which run and code wrote it.
            idempotency_key: a save that landed under this key is not repeated but returned.
            fence: see `Fence`.
            if_exists: where there is a dataset of that name: "error"; "append" the rows to it, as `append_to`;
                "new_version": the rows take the place of its rows, as `overwrite`, and older versions stay. So a cell
                of a notebook can be run twice.

        Returns:
            The dataset at the version written.

        Raises:
            DatasetExistsError, SchemaError, MissingFileError: nothing is written.

        Example:
            >>> for _ in range(2):
            ...     saved = Dataset.from_dict({"x": [1, 2]}).save("again", if_exists="new_version")
            >>> saved.version, saved.count()
            (2, 2)
        """
        writing = arguments.writing(copy_files, stats, provenance, idempotency_key, fence, description, if_exists)
        return self._written(name, save_or_add(self._lake, self._plan, name, description, column_types, writing))

    def append_to(
        self,
        name: str,
        copy_files: Literal["auto"] | bool = "auto",
        stats: bool = True,
        *,
        provenance: Provenance | None = None,
        idempotency_key: str | None = None,
        fence: Fence | None = None,
    ) -> Dataset:
        """The rows appended to a dataset as its next version; safe with any number of writers. Arguments as in `save`.

        Columns go by name: a missing nullable one becomes null, types may widen. File columns follow the dataset.

        Returns:
            The dataset at the version written.

        Raises:
            DatasetNotFoundError, SchemaError, MissingFileError, CommitConflictError: nothing is written.
        """
        writing = arguments.writing(copy_files, stats, provenance, idempotency_key, fence)
        return self._written(name, append_to(self._lake, self._plan, name, writing))

    def overwrite(
        self,
        name: str,
        copy_files: Literal["auto"] | bool = "auto",
        stats: bool = True,
        *,
        provenance: Provenance | None = None,
        idempotency_key: str | None = None,
        fence: Fence | None = None,
    ) -> Dataset:
        """These rows in place of all rows of a dataset, as its next version. Arguments as in `save`.

        Rows that another writer appends meanwhile are replaced too, as if they had come before. Only rows that were
        read from the very dataset do not take away what came after them: then nothing is written.

        Returns:
            The dataset at the version written.

        Raises:
            DatasetNotFoundError, SchemaError, MissingFileError: nothing is written.
            CommitConflictError: these rows were read from the dataset itself, which has moved on since.

        Example:
            >>> _ = Dataset.from_dict({"x": [3, 1, 2]}).save("sorted")
            >>> Dataset("sorted").sql("SELECT * FROM data ORDER BY x").overwrite("sorted").to_arrow()["x"].to_pylist()
            [1, 2, 3]
        """
        writing = arguments.writing(copy_files, stats, provenance, idempotency_key, fence)
        return self._written(name, overwrite(self._lake, self._plan, name, writing))

    def upsert_into(
        self,
        name: str,
        keys: str | Sequence[str],
        copy_files: Literal["auto"] | bool = "auto",
        stats: bool = True,
        *,
        provenance: Provenance | None = None,
        idempotency_key: str | None = None,
        fence: Fence | None = None,
    ) -> Dataset:
        """These rows in place of those of equal keys, and the others as new rows: the dataset's next version.

        Columns that these rows lack keep their value (null in new rows). Rows that change nothing are left alone, and
        if all are such, the newest version is returned; null equals null, NaN equals NaN, -0.0 equals 0.0. What is new
        or changed comes last in the row order. Writers that race on a new key make one row of it. Other arguments as in
        `save`.

        Args:
            name: the dataset.
            keys: the column or columns that tell which row is which: whole numbers, text, bytes, dates or times.
            copy_files: as in `save`.
            stats: as in `save`.
            provenance: as in `save`.
            idempotency_key: as in `save`.
            fence: as in `save`.

        Returns:
            The dataset at the version written.

        Raises:
            DuplicateKeyError: two of these rows have one key; the message shows it.
            DatasetNotFoundError, SchemaError, MissingFileError, CommitConflictError: nothing is written.

        Example:
            >>> _ = Dataset.from_dict({"id": [1, 2], "x": [10, 20]}).save("prices")
            >>> Dataset.from_dict({"id": [2, 3], "x": [21, 30]}).upsert_into("prices", keys="id").to_arrow().to_pydict()
            {'id': [1, 2, 3], 'x': [10, 21, 30]}
        """
        writing = arguments.writing(copy_files, stats, provenance, idempotency_key, fence)
        return self._written(name, upsert_into(self._lake, self._plan, name, arguments.keys(keys), writing))

    def delete_rows(
        self,
        predicate: str,
        *,
        provenance: Provenance | None = None,
        idempotency_key: str | None = None,
        fence: Fence | None = None,
    ) -> Dataset:
        """The newest rows without those for which an expression is true, as the next version. See `filter`.

        Only files that hold such a row are written again; where none does, there is no new version. Rows that another
        writer appends meanwhile are looked at too.

        Returns:
            The dataset at the version written.

        Raises:
            ExpressionError, ColumnNotFoundError, CommitConflictError: nothing is written.

        Example:
            >>> _ = Dataset.from_dict({"x": [1, 2, None]}).save("cleaned")
            >>> Dataset("cleaned").delete_rows("x is null").to_arrow()["x"].to_pylist()
            [1, 2]
        """
        writing = arguments.writing("auto", True, provenance, idempotency_key, fence)
        wanted = arguments.text(predicate, "predicate")
        return self._written(self.name, delete_rows(self._lake, self._changed, wanted, writing))

    def restore(
        self,
        version: int | str,
        *,
        provenance: Provenance | None = None,
        idempotency_key: str | None = None,
        fence: Fence | None = None,
    ) -> Dataset:
        """Rows and columns of an old version (a number or tag) as the next version; no data is written.

        `added_since` does not tell rows that come back: whoever follows the dataset has read them when they were new.
        `removed_since` tells what goes.

        Returns:
            The dataset at the version written.

        Raises:
            VersionNotFoundError, CommitConflictError: nothing is written.

        Example:
            >>> _ = Dataset.from_dict({"x": [1, 2]}).save("regretted")
            >>> _ = Dataset("regretted").delete_rows("x == 1")
            >>> Dataset("regretted").restore(1).to_arrow()["x"].to_pylist()
            [1, 2]
        """
        writing = arguments.writing("auto", True, provenance, idempotency_key, fence)
        return self._written(self.name, restore(self._lake, self._changed, arguments.restored(version), writing))

    def add_column(self, name: str, type: Any) -> pa.Schema:
        """A new column at the end, null in the rows that there are: an Arrow type, or a file type such as ``"image"``.

        Like the other changes of columns it makes no version and writes no row: versions keep their columns, and the
        newest rows (``Dataset(name)``) are read with the columns that there are now. Returns the schema.

        Raises:
            SchemaError: there is such a column, or the type cannot be kept.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("widening")
            >>> _ = Dataset("widening").add_column("score", pa.float32())
            >>> Dataset("widening").to_arrow().to_pylist()
            [{'x': 1, 'score': None}]
        """
        return catalog.add_column(self._lake, self._changed, arguments.column(name, type))

    def rename_column(self, old: str, new: str) -> pa.Schema:
        """A column under another name; see `add_column`.

        Raises:
            ColumnNotFoundError, SchemaError: there is no ``old``, or a ``new``.
        """
        return catalog.rename_column(self._lake, self._changed, *arguments.renaming(old, new))

    def drop_column(self, columns: str | Sequence[str]) -> pa.Schema:
        """Without a column or several (all or none); older versions still have them. See `add_column`.

        Raises:
            ColumnNotFoundError, SchemaError: there is no such column, or no other.
        """
        return catalog.drop_columns(self._lake, self._changed, arguments.keys(columns))

    def widen_column(self, name: str, type: pa.DataType) -> pa.Schema:
        """A column of a type that holds more, such as ``int64`` for ``int32``; see `add_column`.

        Raises:
            ColumnNotFoundError, TypeMismatchError: there is no such column, or the type does not hold all it may hold.
        """
        return catalog.widen_column(self._lake, self._changed, arguments.text(name, "name"), arguments.data_type(type))

    def update(self, *, description: str | None = None, column_types: ColumnTypes | None = None) -> dict[str, Any]:
        """New description or column types (exactly those named); no new version. Returns `metadata`."""
        columns = declared_schema(self._lake.table(self._changed))
        changes = arguments.metadata_changes(columns, description, column_types, DESCRIPTION, COLUMN_TYPES)
        update_properties(self._lake, self._changed, changes)
        return self.metadata

    def set_column_types(self, column_types: ColumnTypes) -> None:
        """Which columns hold files, exactly; no new version.

        Raises:
            ColumnNotFoundError, InvalidArgumentError, TypeMismatchError: nothing is changed.
        """
        self.update(column_types=arguments.exact_types(column_types))

    def delete(self, *, force: bool = False) -> None:
        """Removes the dataset and its versions; files in the blob store stay, others may use them.

        Files go that lie at the table's own location in the lake and that no other table names. Files elsewhere, such
        as those that PyIceberg's ``add_files`` registered, stay; with the table property ``gc.enabled=false`` all do.

        Args:
            force: also where metadata of the dataset is damaged.

        Raises:
            DatasetNotFoundError: there is no such dataset.
            DamagedDatasetError: its metadata is lost or cannot be read; nothing was removed.
            SharedWarehouseError: the warehouse belongs to another catalog; nothing was removed.
        """
        self._lake.drop(self._changed, force=arguments.flag(force, "force"))

    @staticmethod
    def exists(name: str) -> bool:
        """Whether the lake has a dataset of that name."""
        return Lake.current().exists(name)

    def explain(self) -> str:
        """The plan that runs, a line a step: what was pushed down, the snapshot, files and rows."""
        return explain(optimize(self._plan))

    def __repr__(self) -> str:
        """Name, version, rows and columns, as far as they can be had; never an error."""
        return line(type(self).__name__, self._name, self._version, lambda: (self._plan, self._name and self.version))

    def _repr_html_(self) -> str:
        """A preview of the first rows, for notebooks."""
        return preview(repr(self), self.schema, self.head(PREVIEW_ROWS))

    # ------------------------------------------------------------------ inside

    @property
    def _plan(self) -> Node:
        if self._node is None and isinstance(self._version, int):  # a tag may move
            self._node = self._reference.scan()
        return self._reference.scan() if self._node is None else self._node

    @property
    def _reference(self) -> Reference:
        return Reference(self._lake, self.name, self._version, self._identity)

    @property
    def _changed(self) -> str:
        return self._reference.changed()

    def _since(
        self, kind: type[AnyAddedRows], what: Literal["added", "removed"], *given: int | str | None
    ) -> AnyAddedRows:
        source, _ = self._reference.since(what, *arguments.versions(*given))
        return _made(kind, self._lake, Scan(source), self.name, source.version.version, source.version.table_uuid)

    def _written(self, name: str, written: DatasetVersion) -> Dataset:
        return _made(Dataset, self._lake, None, name, written.version, written.table_uuid)

    @property
    def _runner(self) -> Local:
        return Local(self._lake.settings)

    def _derive(self, node: Node) -> Dataset:
        return _made(Dataset, self._lake, node)

    def _batches(self, load_files: LoadFiles, size: int | None = None) -> Iterator[pa.RecordBatch]:
        loaded = self if arguments.is_auto(load_files) else self.load_files(load_files)
        return self._runner.sized(loaded._plan, size)

    def _store_for(self, load_files: LoadFiles) -> Any:
        # What is asked for by name means the same in rows as in Arrow batches: only "auto" makes handles.
        return self._lake.blobs if arguments.is_auto(load_files) else None

    def __reduce__(self) -> tuple[Callable[..., Dataset], tuple[Any, ...]]:
        flat = None if self._node is None else flatten(self._node)
        return _restored, (type(self), self._lake, flat, self._name, self._version, self._identity.table_uuid)


class AddedRows(Dataset):
    """The rows that a range of versions added: a Dataset whose iteration gives Arrow batches.

    ``from_version`` (exclusive, None: the beginning) and ``version`` (inclusive) are the range.
    """

    @property
    def from_version(self) -> int | None:
        """The version that the rows came after."""
        (origin,) = lineage(self._plan).origins
        return origin.from_version or None

    @property
    def _changed(self) -> str:
        raise UnsavedDatasetError(
            f"these are some rows of {self._name!r}, read between two versions; to change or delete the dataset, "
            f"use Dataset({self._name!r})"
        )

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """``pyarrow.RecordBatch``, streamed."""
        return self.batches(format="arrow")

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self._name!r}, from_version={self.from_version}, version={self._version})"


class RemovedRows(AddedRows):
    """The rows that a range of versions removed: a Dataset whose iteration gives Arrow batches."""


class MappedDataset(Dataset):
    """Rows by their places, so that it is also a map-style dataset for a plain ``torch.utils.data.DataLoader``.

    Example:
        >>> len(Dataset.from_dict({"x": [1, 2, 3]}).mapped()[1:])
        2
    """

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice | Sequence[int]) -> list[Row]: ...
    def __getitem__(self, place: int | slice | Sequence[int]) -> Row | list[Row]:
        """One row as a dict, or a list of them; file cells are handles. Negative places count from the end.

        Raises:
            RowIndexError: there is no such row.
        """
        found = list(rows([self._access.at(arguments.places(place, len(self)))], self._lake.blobs))
        return found[0] if arguments.is_place(place) else found

    def __getitems__(self, places: Sequence[int]) -> list[Row]:
        """As torch asks for the rows of a batch."""
        return self[places]

    @cached_property
    def _access(self) -> Access:
        return Access(self._runner.pieces(self._plan))


def pinned(name: str, version: int, table_uuid: str) -> Dataset:
    """A version of the dataset while it is that very table; an error once it is another one."""
    return _made(Dataset, Lake.current(), None, name, version, table_uuid)


def changed_after(version: Dataset, what: Literal["added", "removed"], known: int) -> AddedRows:
    """The rows that the versions after the number ``known`` up to a version added or removed, oldest commit first.

    The version ``known`` may have expired, which `added_since` does not take.
    """
    kind = AddedRows if what == "added" else RemovedRows
    return _made(kind, version._lake, Scan(version._reference.after(what, known)), version.name, version.version)


def _made(
    kind: type[AnyDataset],
    lake: Lake,
    node: Node | None,
    name: str | None = None,
    version: Pin | None = None,
    table_uuid: str = "",
) -> AnyDataset:
    made = kind.__new__(kind)
    made._lake, made._node, made._name, made._version = lake, node, name, version
    made._identity = Identity(table_uuid)
    return made


def _restored(
    kind: type[AnyDataset],
    lake: Lake,
    flat: list[FlatNode] | None,
    name: str | None,
    version: Pin | None,
    table_uuid: str = "",
) -> AnyDataset:
    return _made(kind, lake, None if flat is None else rebuild(flat), name, version, table_uuid)
