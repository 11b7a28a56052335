"""Datasets of rows that lie elsewhere: in memory, files, and the objects of other libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed import ops
from lakefeed._typing import BatchFactory, Locations, Row, Words
from lakefeed._validate import check_schema
from lakefeed.catalog import lake
from lakefeed.dataset.core import Core, dataset_of
from lakefeed.loaders import torch_entry
from lakefeed.sources import batch_source, file_source, huggingface_source, memory_source

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from lakefeed.dataset.dataset import Dataset


class Constructors(Core):
    """The class methods that make a `Dataset`: ``Dataset.from_…``."""

    @classmethod
    def from_dict(cls, columns: Mapping[str, Sequence[Any]], schema: pa.Schema | None = None) -> Dataset:
        """Columns in memory, each a list (or Arrow or NumPy array) of one length.

        Paths, images of Pillow, and handles of rows that were read make file columns. Values of several types are no
        column: convert them first.
        """
        return cls.from_arrow(memory_source.table_from_columns(columns, schema))

    @classmethod
    def from_pylist(cls, rows: Sequence[Row], schema: pa.Schema | None = None) -> Dataset:
        """Rows in memory, each a dict; its values as in `from_dict`."""
        return cls.from_arrow(memory_source.table_from_rows(rows, schema))

    @classmethod
    def from_arrow(cls, table: pa.Table | pa.RecordBatch) -> Dataset:
        """An Arrow table or batch; nothing is copied."""
        return dataset_of(
            lake.Lake.current(), ops.Scan(memory_source.MemorySource(memory_source.table_from_arrow(table)))
        )

    @classmethod
    def from_pandas(cls, frame: pd.DataFrame) -> Dataset:
        """A DataFrame; an index that has a name becomes a column."""
        return cls.from_arrow(memory_source.table_from_pandas(frame))

    @classmethod
    def from_polars(cls, frame: pl.DataFrame) -> Dataset:
        """A polars DataFrame; nothing is copied but categories."""
        return cls.from_arrow(memory_source.table_from_polars(frame))

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
        return dataset_of(
            lake.Lake.current(),
            ops.Scan(huggingface_source.create_huggingface_source(name_or_dataset, split, streaming, load_options)),
        )

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
        return dataset_of(lake.Lake.current(), ops.Scan(torch_entry.torch_rows(dataset, schema)))

    @classmethod
    def from_batches(cls, factory: BatchFactory, *, schema: pa.Schema) -> Dataset:
        """What ``factory()`` yields, called anew for each pass, so that the dataset can be read again.

        Example:
            >>> def numbers():
            ...     yield pa.record_batch({"x": [1, 2]})
            >>> Dataset.from_batches(numbers, schema=pa.schema({"x": pa.int64()})).count()
            2
        """
        return dataset_of(lake.Lake.current(), ops.Scan(batch_source.BatchesSource(factory, check_schema(schema))))

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
            MissingFileError: nothing is there, or a member of a tar is a link.
            FileError: it cannot be read, after trying again what may pass.
            FormatError: an unknown suffix, or a file that is cut or not what its suffix says; with the line. So are
                text that is not UTF-8, and a value that does not fit the type of its column.
            InvalidArgumentError: null values for files that are not CSV.
            SchemaError: files that do not fit together; with the file.
        """
        return dataset_of(
            lake.Lake.current(), ops.Scan(file_source.create_file_source(location, schema, format, null_values))
        )
