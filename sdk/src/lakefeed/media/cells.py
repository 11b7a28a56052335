"""File references: the locations of the files that the cells of a file column name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from lakefeed.errors import FileError
from lakefeed.media.file_column_types import decode_column, is_bytes, is_embedded, is_text
from lakefeed.media.media_type import Mode
from lakefeed.storage.cache.url_copies import UrlCopy
from lakefeed.storage.disk.hashing import is_digest
from lakefeed.storage.urls import file_suffix, suffix


class FileReference(NamedTuple):
    """The location of the content of a cell: a URL, a digest in the store, or the bytes."""

    url: str | None
    sha256: str | None
    suffix: str
    size: int | None
    data: bytes | None = None


class FileCells:
    """A column to load.

    If all cells are plain URLs, `files` are created on first use, because creating one costs about as much as reading
    a small file.

    Attributes:
        urls: the URL of each cell, None for null; None if a cell is more than a URL.
        known: for each cell, the cache entry of its URL, or None.
        mode: the mode in which the files are loaded.
    """

    def __init__(
        self,
        urls: Sequence[str | None] | None,
        files: Sequence[FileReference | None] | None,
        known: Sequence[UrlCopy | None],
        mode: Mode,
    ) -> None:
        self.urls = urls
        self.known = known
        self.mode = mode
        self._files = files

    @property
    def files(self) -> Sequence[FileReference | None]:
        """The location of the content of each cell; None for null."""
        if self._files is None:
            self._files = _url_references(self.urls or ())
        return self._files

    def __len__(self) -> int:
        return len(self.known)

    def part(self, start: int, stop: int) -> FileCells:
        """Returns the cells of the rows ``[start, stop)``."""
        urls, files = self.urls, self._files
        return FileCells(urls and urls[start:stop], files and files[start:stop], self.known[start:stop], self.mode)


def plain_urls(column: pa.Array[Any]) -> list[str | None] | None:
    """Returns the URL or path of each cell, None for null. Returns None if a cell has more than a URL."""
    cells = decode_column(column)
    if isinstance(cells, pa.StructArray):
        parts = dict(zip(cells.type.names, cells.flatten(), strict=True))
        others = (parts[name] for name in ("sha256", "size", "filename") if name in parts)
        if "url" not in parts or any(part.null_count < len(part) for part in others):
            return None
        if parts["url"].null_count > cells.null_count:
            return None
        cells = parts["url"]
    return cells.to_pylist() if is_text(cells.type) else None


def file_references(column: pa.Array[Any]) -> list[FileReference | None]:
    """Returns the location of the content of each cell, None for null.

    Args:
        column: media records; or, before a save, paths and URLs (text), contents (binary), or both (struct).
    """
    cells = decode_column(column)
    if is_embedded(cells.type):
        return _embedded_references(cells.to_pylist())
    if isinstance(cells, pa.StructArray):
        return _record_references(cells)
    if is_bytes(cells.type):
        return [None if cell is None else FileReference(None, None, "", len(cell), cell) for cell in cells.to_pylist()]
    return _url_references(cells.to_pylist())


def require_readable(file: FileReference) -> None:
    """Raises FileError for a record that does not name a file. A table may hold any record."""
    if file.sha256 is not None and not is_digest(file.sha256):
        raise FileError(f"a record has the invalid sha256 {file.sha256[:80]!r}")
    if file.sha256 is None and not file.url and file.data is None:
        raise FileError("a record has neither url nor sha256, so no file can be loaded")


def _url_references(urls: Sequence[str | None]) -> list[FileReference | None]:
    return [None if url is None else FileReference(url, None, file_suffix(url), None) for url in urls]


def _embedded_references(cells: Sequence[Mapping[str, Any] | None]) -> list[FileReference | None]:
    references: list[FileReference | None] = []
    for cell in cells:
        content, path = (cell["bytes"], cell["path"]) if cell is not None else (None, None)
        if content is not None:
            references.append(FileReference(None, None, file_suffix(path or ""), len(content), content))
        else:
            references.append(None if path is None else FileReference(path, None, file_suffix(path), None))
    return references


def _record_references(column: pa.StructArray) -> list[FileReference | None]:
    parts = dict(zip(column.type.names, column.flatten(), strict=True))
    nulls = pa.nulls(len(column))
    url, sha256, size, name = (parts.get(key, nulls).to_pylist() for key in ("url", "sha256", "size", "filename"))
    cells = zip(url, sha256, size, name, column.is_valid().to_pylist(), strict=True)
    return [
        FileReference(url, sha256, suffix(name) if name else file_suffix(url or ""), size) if valid else None
        for url, sha256, size, name, valid in cells
    ]
