"""What the cells of a file column refer to, before anything is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from lakefeed.errors import FileError
from lakefeed.media.file_column_types import is_bytes, is_text, plain
from lakefeed.media.media_type import Mode
from lakefeed.storage.cache.url_copies import Known
from lakefeed.storage.disk.hashing import is_digest
from lakefeed.storage.urls import file_suffix, suffix


class File(NamedTuple):
    """Where the content of a cell is."""

    url: str | None
    sha256: str | None
    suffix: str
    size: int | None
    data: bytes | None = None


class Cells:
    """A column to be loaded as ``mode``: its files, None for null, and what is known of those that are URLs.

    ``urls`` is None where a cell is more than a URL. Where all are just that, `files` are only made when needed: what
    is done for every cell costs about as much as reading a small file.
    """

    def __init__(
        self,
        urls: Sequence[str | None] | None,
        files: Sequence[File | None] | None,
        known: Sequence[Known | None],
        mode: Mode,
    ) -> None:
        self.urls = urls
        self.known = known
        self.mode = mode
        self._files = files

    @property
    def files(self) -> Sequence[File | None]:
        """Where the content of each cell is."""
        if self._files is None:
            self._files = _of_urls(self.urls or ())
        return self._files

    def __len__(self) -> int:
        return len(self.known)

    def part(self, start: int, stop: int) -> Cells:
        """Those of some of the rows."""
        urls, files = self.urls, self._files
        return Cells(urls and urls[start:stop], files and files[start:stop], self.known[start:stop], self.mode)


def only_urls(column: pa.Array[Any]) -> list[str | None] | None:
    """The URL or path of each cell, None for null; None where there is more to a cell than that."""
    cells = plain(column)
    if isinstance(cells, pa.StructArray):
        parts = dict(zip(cells.type.names, cells.flatten(), strict=True))
        others = (parts[name] for name in ("sha256", "size", "filename") if name in parts)
        if "url" not in parts or any(part.null_count < len(part) for part in others):
            return None
        if parts["url"].null_count > cells.null_count:
            return None
        cells = parts["url"]
    return cells.to_pylist() if is_text(cells.type) else None


def files(column: pa.Array[Any]) -> list[File | None]:
    """Where the content of each cell is, None for null. The column may be text or binary too, before its save."""
    cells = plain(column)
    if isinstance(cells, pa.StructArray):
        return _recorded(cells)
    if is_bytes(cells.type):
        return [None if cell is None else File(None, None, "", len(cell), cell) for cell in cells.to_pylist()]
    return _of_urls(cells.to_pylist())


def require_readable(file: File) -> None:
    """Raises FileError for a record that names no file: a table may hold anything."""
    if file.sha256 is not None and not is_digest(file.sha256):
        raise FileError(f"a record has {file.sha256[:80]!r} as its sha256, which is none")
    if file.sha256 is None and not file.url and file.data is None:
        raise FileError("a record has neither url nor sha256, so there is no file to be loaded")


def _of_urls(urls: Sequence[str | None]) -> list[File | None]:
    return [None if url is None else File(url, None, file_suffix(url), None) for url in urls]


def _recorded(column: pa.StructArray) -> list[File | None]:
    parts = dict(zip(column.type.names, column.flatten(), strict=True))
    nothing = pa.nulls(len(column))
    url, sha256, size, name = (parts.get(key, nothing).to_pylist() for key in ("url", "sha256", "size", "filename"))
    cells = zip(url, sha256, size, name, column.is_valid().to_pylist(), strict=True)
    return [
        File(url, sha256, suffix(name) if name else file_suffix(url or ""), size) if valid else None
        for url, sha256, size, name, valid in cells
    ]
