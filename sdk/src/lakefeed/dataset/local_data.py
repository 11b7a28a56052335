"""The methods of `Dataset` that bring files and rows to this machine. Each builds a node of the plan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from lakefeed import caching, ops
from lakefeed._typing import ColumnTypes, LoadFiles
from lakefeed.dataset.core import Core, build
from lakefeed.run import save

if TYPE_CHECKING:
    from lakefeed.dataset.dataset import Dataset
    from lakefeed.dataset.mapped_dataset import MappedDataset


class LocalData(Core):
    """Files of file columns, and copies of rows on local disk. Each returns a new `Dataset`; it reads nothing."""

    def load_files(
        self,
        to: LoadFiles = "auto",
        columns: Sequence[str] | None = None,
        workers: int = 8,
        max_inflight_bytes: int = 256_000_000,
        on_error: Literal["raise", "null", "skip"] = "raise",
        fetch_timeout: float = 30.0,
    ) -> Dataset:
        """Returns the rows with the content of files in file columns.

        Args:
            to: the form of the files. "bytes" is their content, "path" is a read-only local file, "auto" or True is the
                form that suits the type best, and False is the stored record. A mapping of columns to these is exact:
                columns that it does not name stay records.
            columns: load only these columns. None loads all.
            workers: the number of threads that fetch.
            max_inflight_bytes: the most bytes of files that are being loaded or wait to be used. A single larger file
                is still loaded.
            on_error: "raise"; "null" for None in place of a file that cannot be loaded; or "skip" to leave out its row.
                A warning then counts these and names the first reasons.
            fetch_timeout: the seconds in which a server must answer, and must send each 256 KiB.

        Raises:
            ColumnNotFoundError: a column does not exist.
            TypeMismatchError: a column holds no files.
            InvalidArgumentError: an argument is malformed.
            FileError: while reading: a file cannot be loaded, and ``on_error`` is "raise".
        """
        node = ops.LoadFiles.of(
            self._plan, self._lake, to, columns, workers, on_error, fetch_timeout, max_inflight_bytes
        )
        return self._itself if node is None else self._derive(node)

    def cache(
        self, path: str | os.PathLike[str] | None = None, load_files: bool = True, *, overwrite: bool = False
    ) -> Dataset:
        """Returns the rows from local disk. It is shared by all processes of the machine, and works without the lake.

        Without ``path``, the columns that are needed of the snapshots that are read are mirrored under
        ``$LAKEFEED_CACHE_DIR/datasets``. Derived operations run again over the mirror, in the same order. A new version
        gets a new mirror. ``Dataset("photos").cache()`` finds the newest mirror even if the lake cannot be reached.

        With ``path``, all rows are stored there. Later calls read them from there even if the source or the functions
        have changed. A log line says when the source has newer versions.

        Args:
            path: a folder that is used for these rows only.
            load_files: also store the files of file columns locally, including those at URLs and paths.
            overwrite: replace the rows that ``path`` holds.

        Raises:
            InvalidArgumentError: ``path`` holds rows of a plan with other operations, arguments, columns or types.

        Example:
            >>> _ = Dataset.from_dict({"x": [1, 2, 3]}).save("numbers")
            >>> Dataset("numbers").cache().filter("x > 1").count()
            2
        """
        number = self._version if isinstance(self._version, int) else None
        name = self._name if self._complete and number == self._version else None
        cached = caching.cache_rows(
            self._lake, name, number, lambda: self._plan, path, load_files=load_files, overwrite=overwrite
        )
        return self._derive(cached)

    def mapped(self, path: str | os.PathLike[str] | None = None) -> MappedDataset:
        """Returns the rows in a memory-mapped local Arrow file: fast to read again, in any order.

        The file is written once under ``$LAKEFEED_CACHE_DIR/mapped``, uncompressed, and shared by the processes of the
        machine. A new version or another operation gets another file, and so does a function with other code, globals
        or state. Where Python cannot tell these apart (`from_batches`, streams, a function that holds a connection),
        each call writes a file of its own, which is removed with the process. File columns stay references.

        Args:
            path: a folder that is used for these rows only. If it holds the rows of the same plan, they are read.

        Raises:
            InvalidArgumentError: ``path`` holds rows of another plan.
            StorageError: the disk cannot store the rows.

        Example:
            >>> numbers = Dataset.from_dict({"x": [1, 2, 3]}).mapped()
            >>> numbers[1], numbers[[2, -3]]
            ({'x': 2}, [{'x': 3}, {'x': 1}])
        """
        from lakefeed.dataset.mapped_dataset import MappedDataset

        return build(MappedDataset, self._lake, caching.map_rows(self._lake, self._plan, path))

    def with_column_types(self, column_types: ColumnTypes | Literal["auto"] = "auto") -> Dataset:
        """Returns the rows with some columns marked as files.

        Args:
            column_types: "auto" inspects a sample of the rows. A mapping such as ``{"photo": "image"}`` is exact.

        Raises:
            ColumnNotFoundError: a column does not exist.
            TypeMismatchError: a column cannot hold files.
            InvalidArgumentError: a file type is unknown.
        """
        plan = self._plan
        types = save.choose_types(self._runner, plan, column_types)
        if not types:
            return self._itself
        return self._derive(
            ops.FileColumns(plan, tuple(sorted(types.items())), self._lake.blobs, copy=False, stats=False)
        )
