"""Cells of delivered rows that name files: relative names start from the folder of the delivery.

A row whose file is missing or cannot be read is found before the rows are written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.catalog import Lake
from lakefeed.errors import FileError, LakefeedError
from lakefeed.media.cell_sources import ContentSource, FileColumn
from lakefeed.media.file_column_types import decode_column, is_text
from lakefeed.media.foreign_columns import ForeignColumns
from lakefeed.media.probes import Probes
from lakefeed.storage.archives.url_chains import parse_chain
from lakefeed.storage.listed_urls import is_remote
from lakefeed.storage.urls import local_path, scheme

READ_BYTES = MIB


@dataclass(frozen=True)
class FileCells:
    """The file columns of the rows of one delivered file.

    Attributes:
        types: the media types of the columns.
        location: the path or URL of the delivered file.
        deep: whether files are read to their end, as opposed to opened.
        probes: reads files as their media type, to find damaged ones; None leaves those in.
    """

    types: Mapping[str, str]
    location: str
    deep: bool = False
    probes: Probes | None = None

    def resolve(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Returns the rows with absolute names of files."""
        arrays: list[pa.Array[Any]] = list(batch.columns)
        for name in self.types:
            index = batch.schema.get_field_index(name)
            if index < 0:
                continue
            cells = decode_column(arrays[index])
            if is_text(cells.type):
                names = cells.to_pylist()
                absolute = [None if name is None else absolute_name(self.location, name) for name in names]
                if absolute != names:
                    arrays[index] = pa.array(absolute, cells.type)
        fields = [field.with_type(array.type) for field, array in zip(batch.schema, arrays, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def find_errors(self, batch: pa.RecordBatch, first_row: int = 0) -> dict[int, tuple[str, LakefeedError]]:
        """Returns for each row of which a file cannot be stored the column and the error.

        ``first_row`` is the number of the first row, for messages.
        """
        foreign = ForeignColumns(
            frozenset(self.types) if is_remote(self.location) else frozenset(),
            Lake.current().settings.files.local_folders,
        )
        errors: dict[int, tuple[str, LakefeedError]] = {}
        for name, media in self.types.items():
            if name in batch.schema.names:
                wrong = self._column_errors(batch.column(name), name, media, foreign, first_row)
                errors = {row - first_row: (name, error) for row, error in wrong.items()} | errors
        return errors

    def _column_errors(
        self, column: pa.Array[Any], name: str, media: str, foreign: ForeignColumns, begin: int
    ) -> dict[int, LakefeedError]:
        if not len(column):
            return {}
        try:
            cells = FileColumn(column, name, media, "auto", begin)
            foreign.check(cells.references)
        except LakefeedError as error:
            if len(column) == 1:
                return {begin: error}
            half = len(column) // 2
            first = self._column_errors(column.slice(0, half), name, media, foreign, begin)
            return first | self._column_errors(column.slice(half), name, media, foreign, begin + half)
        errors = self._errors_of(cells)
        if not errors:
            return {}
        if len(column) == 1:
            return {begin: next(iter(errors.values()))}
        texts = decode_column(column)
        if is_text(texts.type):
            rows = enumerate(texts.to_pylist(), begin)
            return {row: errors[text] for row, text in rows if text in errors}
        return {
            row: error
            for index in range(len(column))
            for row, error in self._column_errors(column.slice(index, 1), name, media, foreign, begin + index).items()
        }

    def _errors_of(self, cells: FileColumn) -> dict[str | None, FileError]:
        """Returns the errors of the files of a column, by their names. Contents in memory have no names."""
        reasons = ((source.text, self._error_of(source)) for source in cells.sources)
        errors = {text: reason for text, reason in reasons if reason is not None}
        if self.probes is None:
            return errors
        here = [each for each in cells.sources if (each.path is not None or each.data is not None)]
        readable = [each for each in here if each.text is None or each.text not in errors]
        contents = [each.path or (each.data.to_pybytes() if each.data is not None else b"") for each in readable]
        for source, stats in zip(
            readable, self.probes.submit(cells.kind.name, contents, readable).result(), strict=True
        ):
            if not stats and cells.kind.stat_fields:
                errors[source.text] = self._damage_of(source, cells.kind.name, self.probes.reasons)
        return errors

    def _damage_of(self, source: ContentSource, media: str, reasons: Sequence[str]) -> FileError:
        prefix = f"{source}: "
        reason = next((each.removeprefix(prefix) for each in reasons if each.startswith(prefix)), "it is damaged")
        return FileError(f"{source} cannot be read as {media}: {reason}")

    def _error_of(self, source: ContentSource) -> FileError | None:
        """Returns the error that storing a local file would raise; None if it can be read."""
        if source.path is None:
            return None
        try:
            # Opened, because rights alone do not say whether a file can be read.
            descriptor = os.open(source.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null byte in the path
            return source.missing()
        except OSError as error:
            return source.failure("read", error)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return FileError(f"{source.location}: {source.name} is not a regular file")
            while self.deep and os.read(descriptor, READ_BYTES):
                pass
        except OSError as error:
            return source.failure("read", error)
        finally:
            os.close(descriptor)
        return None


def absolute_name(location: str, name: str) -> str:
    """Returns the name of a file in a row as a path or URL that does not depend on the current folder.

    Args:
        location: the path or URL of the file that has the row.
        name: the name of the file. Absolute paths and URLs are returned unchanged.

    Example:
        >>> absolute_name("/landing/day/rows.csv", "img/a.png"), absolute_name("s3://bucket/in/rows.csv", "a.png")
        ('/landing/day/img/a.png', 's3://bucket/in/a.png')
        >>> absolute_name("https://host/in/rows.csv?sig=a", "a b.png"), absolute_name("/in/rows.csv", "/data/a.png")
        ('https://host/in/a%20b.png', '/data/a.png')
    """
    if not name or scheme(name) or name.startswith(("/", "~", "data:", "file:")):
        return name
    base = parse_chain(location).base
    local = local_path(base)
    if local is not None:
        return os.path.normpath(local.absolute().parent / name)
    if ".." in name.replace("\\", "/").split("/"):
        return name  # another machine must not choose files above its delivery
    if scheme(base) in ("http", "https"):
        parts = urlsplit(base)
        bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        return urljoin(bare, quote(name, safe="/%?=&;+,@!$'()*~"))
    return f"{base.rpartition('/')[0]}/{name}"
