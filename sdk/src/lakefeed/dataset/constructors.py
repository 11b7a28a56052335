"""The methods that make datasets from memory, files, and objects of other libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from lakefeed import ops
from lakefeed._typing import BatchFactory, Locations, Row, Words
from lakefeed._validate import check_schema
from lakefeed.catalog import lake
from lakefeed.dataset.core import Core, dataset_of
from lakefeed.loaders import torch_entry
from lakefeed.run import plugin_parts
from lakefeed.sources import anndata_source, batch_source, file_source, folder_files, huggingface_source, memory_source

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from anndata import AnnData

    from lakefeed.dataset.dataset import Dataset
    from lakefeed.plan import Source


class Constructors(Core):
    """The class methods that make a `Dataset`: ``Dataset.from_…``."""

    @classmethod
    def from_dict(cls, columns: Mapping[str, Sequence[Any]], schema: pa.Schema | None = None) -> Dataset:
        """Returns a dataset of columns in memory.

        Paths, Pillow images, and file handles from rows that were read become file columns.

        Args:
            columns: a list, Arrow array or NumPy array for each column, all of one length.
            schema: the columns and types. None infers them.

        Raises:
            SchemaError: the lengths differ, or the columns are not those of the schema.
            TypeMismatchError: a column holds values of several types, or values that do not fit its type.

        Example:
            >>> Dataset.from_dict({"id": [1, 2], "name": ["a", "b"]}).count()
            2
        """
        return cls.from_arrow(memory_source.table_from_columns(columns, schema))

    @classmethod
    def from_pylist(cls, rows: Sequence[Row], schema: pa.Schema | None = None) -> Dataset:
        """Returns a dataset of rows in memory.

        Args:
            rows: a dict for each row. Values are as in `from_dict`.
            schema: the columns and types. None infers them.

        Raises:
            SchemaError: there is no column, or the columns are not those of the schema.
            TypeMismatchError: a column holds values of several types, or values that do not fit its type.

        Example:
            >>> Dataset.from_pylist([{"id": 1}, {"id": 2}]).to_arrow().to_pydict()
            {'id': [1, 2]}
        """
        return cls.from_arrow(memory_source.table_from_rows(rows, schema))

    @classmethod
    def from_arrow(cls, table: pa.Table | pa.RecordBatch) -> Dataset:
        """Returns a dataset of an Arrow table or batch. It copies no data.

        Args:
            table: the table or batch.

        Raises:
            TypeMismatchError: this is neither a table nor a batch.
            SchemaError: there is no column, or two columns share a name.
        """
        return dataset_of(
            lake.Lake.current(), ops.Scan(memory_source.MemorySource(memory_source.table_from_arrow(table)))
        )

    @classmethod
    def from_pandas(cls, frame: pd.DataFrame) -> Dataset:
        """Returns a dataset of a pandas DataFrame. An index that has a name becomes a column.

        Args:
            frame: the DataFrame.

        Raises:
            TypeMismatchError: a column holds values of several types, or this is not a DataFrame.
            SchemaError: two columns share a name.
        """
        return cls.from_arrow(memory_source.table_from_pandas(frame))

    @classmethod
    def from_polars(cls, frame: pl.DataFrame) -> Dataset:
        """Returns a dataset of a polars DataFrame. It copies no data except categorical columns.

        Args:
            frame: the DataFrame.

        Raises:
            TypeMismatchError: a column holds Python objects, or this is not a DataFrame.
        """
        return cls.from_arrow(memory_source.table_from_polars(frame))

    @classmethod
    def from_huggingface(
        cls, name_or_dataset: Any, split: str | None = None, streaming: bool = True, **load_options: Any
    ) -> Dataset:
        """Returns a dataset of the Hugging Face hub, or of a ``datasets.Dataset`` or ``IterableDataset``.

        Images, sounds and videos become file columns. Class labels become integers; the metadata of the field keeps
        their names.

        Args:
            name_or_dataset: a name ("imdb"), a folder, a format ("json" with ``data_files=``), or the object.
            split: such as "train" or "test[:10%]". None selects the only split.
            streaming: read a named dataset while iterating, without downloading it first.
            load_options: passed to ``datasets.load_dataset``: ``name`` (the configuration), ``data_files``,
                ``revision``, …

        Raises:
            MissingDependencyError: `datasets` is not installed; install ``lakefeed[huggingface]``.
            MissingFileError: the dataset does not exist.
            FileError: the hub cannot be reached.
            InvalidArgumentError: the split does not exist; the message lists the existing ones.
        """
        return dataset_of(
            lake.Lake.current(),
            ops.Scan(huggingface_source.create_huggingface_source(name_or_dataset, split, streaming, load_options)),
        )

    @classmethod
    def from_torch(cls, dataset: Any, schema: pa.Schema | None = None) -> Dataset:
        """Returns a dataset of a PyTorch dataset, map-style or iterable.

        A tuple gives one value for each column of the schema, in order. A dict gives values by name. Any other sample
        is the value of the only column. Tensors and arrays of one shape fit nested fixed-size lists.

        Args:
            dataset: the PyTorch dataset.
            schema: the columns and types. None infers them from the first sample.

        Raises:
            MissingDependencyError: PyTorch is not installed.
            SchemaError, TypeMismatchError: the samples do not fit the schema.

        Example:
            >>> import torch
            >>> pairs = torch.utils.data.TensorDataset(torch.eye(2), torch.tensor([7, 8]))
            >>> schema = pa.schema({"x": pa.list_(pa.float32(), 2), "y": pa.int64()})
            >>> Dataset.from_torch(pairs, schema=schema).to_arrow().to_pylist()[1]
            {'x': [0.0, 1.0], 'y': 8}
        """
        return dataset_of(lake.Lake.current(), ops.Scan(torch_entry.torch_rows(dataset, schema)))

    @classmethod
    def from_batches(cls, factory: BatchFactory, *, schema: pa.Schema) -> Dataset:
        """Returns a dataset of the batches that ``factory()`` yields. Each pass over the dataset calls it again.

        Args:
            factory: a function without arguments that returns an iterable of ``pyarrow.RecordBatch``.
            schema: the columns and types of the batches.

        Raises:
            TypeMismatchError: the schema is not a ``pyarrow.Schema``. While reading: a batch does not fit it.
            SchemaError: the schema has no column, or two columns share a name.

        Example:
            >>> def numbers():
            ...     yield pa.record_batch({"x": [1, 2]})
            >>> Dataset.from_batches(numbers, schema=pa.schema({"x": pa.int64()})).count()
            2
        """
        return dataset_of(lake.Lake.current(), ops.Scan(batch_source.BatchesSource(factory, check_schema(schema))))

    @classmethod
    def from_folder(cls, folder: str | PathLike[str], label: Literal["parent"] | None = None) -> Dataset:
        """Returns a dataset of the files of a local folder and of the folders below, a row for each, sorted by path.

        The column ``file`` has the type of most files by their suffixes: image, audio, video, …, or file. Hidden and
        unfinished files, and what systems leave in folders (``.x``, ``x.part``, ``Thumbs.db``, …), are left out. Links
        to folders are not entered. No file is opened before it is read or saved.

        Args:
            folder: the path of the folder.
            label: "parent" adds a column ``label`` with the name of the folder of each file. It is null for files in
                ``folder`` itself.

        Raises:
            MissingFileError: the folder does not exist, or has no files.
            FileError: a folder cannot be listed, or a name is not UTF-8.
            InvalidArgumentError: an argument is wrong.

        Example:
            >>> from pathlib import Path
            >>> for name in ("cats/1.png", "dogs/2.png"):
            ...     Path("photos", name).parent.mkdir(parents=True)
            ...     _ = Path("photos", name).write_bytes(b"")
            >>> Dataset.from_folder("photos", label="parent").to_arrow()["label"].to_pylist()
            ['cats', 'dogs']
        """
        return cls.from_arrow(folder_files.table_of_folder(folder, label))

    @classmethod
    def from_file(
        cls, location: Locations, schema: pa.Schema | None = None, format: str | None = None, null_values: Words = None
    ) -> Dataset:
        """Returns a dataset of CSV, JSON lines, Parquet or Arrow files, also compressed or in archives.

        Rows are streamed. The call reads only the beginning of the files; of several remote text files, only the
        beginning of the first.

        Args:
            location: one or several locations. A location is a path; a glob; a URL (``https://``, ``s3://``,
                ``memory://``, …); or a chain that leads into an archive or a compressed file:
                ``zip://folder/*.csv::https://host/data.zip``, ``tar://rows.jsonl::data.tar.gz``,
                ``gzip://rows.jsonl::https://host/download``. Members of an archive come in the archive's order.
            schema: the columns and types to read. Give it where the beginning of the files suggests wrong ones. Other
                columns are left out. A key that a JSON line lacks is null.
            format: "csv", "jsonl", "parquet" or "arrow". None takes it from the suffix.
            null_values: the cells of CSV that are null, such as ``["", "NA"]``. Text columns then have exactly these
                nulls; other columns have these and the empty cell. By default a text column has only the unquoted empty
                cell as null. Other columns also have the quoted empty cell and Arrow's words (``NA``, ``N/A``,
                ``null``, ``NaN``, …), but ``nan`` in a column of floats is not a null.

        Raises:
            MissingFileError: the location does not exist, or a member of a tar is a link.
            FileError: a file cannot be read. Failures that may pass are retried first.
            FormatError: the suffix is unknown; or a file is truncated, has another format, is not UTF-8, or holds a
                value that does not fit its column. The message names the line.
            InvalidArgumentError: ``null_values`` were given for files that are not CSV.
            SchemaError: the files have different columns. The message names the file.

        Example:
            >>> import pyarrow.parquet as pq
            >>> pq.write_table(pa.table({"id": [1, 2]}), "two.parquet")
            >>> Dataset.from_file("two.parquet").to_arrow().to_pydict()
            {'id': [1, 2]}
        """
        return dataset_of(
            lake.Lake.current(), ops.Scan(file_source.create_file_source(location, schema, format, null_values))
        )

    @classmethod
    def from_anndata(
        cls,
        location: Locations | AnnData,
        *,
        layer: str | None = None,
        x: Literal["sparse", "dense"] | None = "sparse",
        obs: Sequence[str] | None = None,
        join_vars: Literal["auto", "inner"] | None = "auto",
    ) -> Dataset:
        """Returns a dataset of the cells of .h5ad files of AnnData: a row for each cell, in the order of the files.

        The index of obs is the column ``obs_names``, the columns of obs have their names, with categories as
        dictionaries, and the matrix is the column ``X``. Rows are read from the chunks of the files, which are not
        converted; without ``X``, nothing of the matrix is read. The dataset is of the files as they are now: one that
        changes later is a `ChangedFileError`.

        Args:
            location: one or several locations: a path, a glob, or a URL (``https://``, ``s3://``, …); or an AnnData
                object in memory.
            layer: the name of a layer, to read in place of ``X``.
            x: "sparse" for a sparse column (see `sparse_field`), "dense" for vectors, or None for no matrix.
            obs: the columns of obs to read. None reads all.
            join_vars: how files are joined that have other variables: "auto" and "inner" take the variables that all
                files have, in the order of the first one; None requires the same variables.

        Raises:
            MissingDependencyError: AnnData is not installed; install ``lakefeed[anndata]``.
            MissingFileError: the location does not exist.
            FormatError: a file is not a .h5ad file, or it is damaged or truncated.
            ColumnNotFoundError: a file has no such layer or column.
            SchemaError: the files have different columns, or no variable in common.
            InvalidArgumentError: an argument is malformed, or a matrix is stored by columns (CSC).

        Example:
            >>> cells = Dataset.from_anndata("atlas/*.h5ad")  # doctest: +SKIP
            >>> train = cells.filter("tissue == 'lung'").shuffle(window=100_000, seed=1)  # doctest: +SKIP
            >>> for batch in train.to_torch(batch_size=128):  # doctest: +SKIP
            ...     batch["X"]  # a torch.sparse_csr tensor
        """
        from lakefeed.arrays import arrow_cells  # not on the way to a first row

        if arrow_cells.is_anndata(location):
            return cls.from_arrow(arrow_cells.cells_table(location, layer, x, obs))
        source = anndata_source.create_anndata_source(location, layer, x, obs, join_vars)
        return dataset_of(lake.Lake.current(), ops.Scan(source))

    @classmethod
    def from_source(cls, source: str | Source | Callable[..., Source], *args: Any, **options: Any) -> Dataset:
        """Returns the rows of a source that another package, or your own code, defines.

        Args:
            source: a `lakefeed.plan.Source`, a function that returns one, or the name of a source that an installed
                package declares in the entry point group ``lakefeed.sources``.
            *args: arguments of the function.
            **options: keyword arguments of the function.

        Raises:
            InvalidArgumentError: no installed package declares a source of this name.
            PluginError: the package that declares it cannot be loaded.
            TypeMismatchError: this is not a source.
        """
        return dataset_of(lake.Lake.current(), plugin_parts.scan_of(source, args, options))
