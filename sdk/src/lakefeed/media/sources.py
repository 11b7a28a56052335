"""What the cells of a file column refer to, and the records that come of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc

from lakefeed.errors import FileError, MissingFileError
from lakefeed.media.base import MediaType
from lakefeed.media.columns import is_bytes, plain
from lakefeed.media.records import conformed, from_records
from lakefeed.media.registry import MEDIA
from lakefeed.storage.fetch import shown
from lakefeed.storage.urls import file_name, local_path

CopyFiles: TypeAlias = Literal["auto"] | bool
Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """One content to be stored: the row that first names it, and its path, its URL (``text``) or its bytes."""

    column: str
    row: int
    text: str | None = None
    path: str | None = None
    data: pa.Buffer | None = None

    @property
    def place(self) -> str:
        """Where it is named, for messages."""
        return f"column {self.column!r}, row {self.row}"

    @property
    def name(self) -> str:
        """What it is called, for messages."""
        return shown(self.text) if self.text is not None else f"{self.data.size if self.data else 0} bytes"

    def missing(self) -> MissingFileError:
        """What is raised where it is not there."""
        relative = self.path is not None and not Path(self.path).is_absolute()
        where = f" (looked in {Path.cwd()})" if relative else ""
        return MissingFileError(
            f"{self.place}: there is no file {self.name}{where}. Nothing was committed. Correct the path; "
            "if the column is text that only looks like paths, save it with column_types=None"
        )

    def failed(self, what: str, error: OSError) -> FileError:
        """What is raised where it cannot be read or stored."""
        return FileError(f"{self.place}: cannot {what} {self.name}: {error.strerror or error}")


class Stored(NamedTuple):
    """What a source turned out to hold, which is in the store: raw SHA-256, size in bytes, first bytes.

    ``probe`` is where statistics can be read from: a path of this machine or the bytes.
    """

    sha256: bytes
    size: int
    head: bytes
    probe: str | bytes | pa.Buffer


class FileColumn:
    """A column of a batch on its way to records.

    ``sources`` are the contents to be stored, each distinct path or URL once.
    """

    def __init__(self, column: pa.Array[Any], name: str, media: str, copy: CopyFiles, first_row: int) -> None:
        self.kind: MediaType = MEDIA[media]
        self._cells: pa.Array[Any] = plain(column)
        self._copy = copy
        self._records = isinstance(self._cells, pa.StructArray)
        if isinstance(self._cells, pa.StructArray):
            self._cells = conformed(self._cells, self.kind)
        self._texts: list[str | None] = self._all_texts()
        contents = _contents(self._cells, name, first_row) if is_bytes(self._cells.type) else ()
        self._named = _named(self._texts, name, first_row)
        self.sources = [*contents, *(source for source in self._named if self._is_copied(source))]

    @property
    def kept(self) -> list[bytes]:
        """The raw SHA-256 of contents that the column names already."""
        if not isinstance(self._cells, pa.StructArray):
            return []
        return [bytes.fromhex(str(digest)) for digest in self._cells.field("sha256").drop_null().unique().to_pylist()]

    def finished(self, stored: Sequence[Stored], stats: Sequence[Record]) -> pa.StructArray:
        """The records, given what became of each of ``sources``."""
        records = [
            self._record(source, *outcome, found)
            for source, outcome, found in zip(self.sources, stored, stats, strict=True)
        ]
        if is_bytes(self._cells.type):
            following = iter(records)
            valid = self._cells.is_valid().to_pylist()
            return from_records([next(following) if is_there else None for is_there in valid], self.kind)
        by_text: dict[str | None, Record | None] = {
            source.text: {"url": _reference(source)} for source in self._named if not self._is_copied(source)
        }
        by_text |= {source.text: record for source, record in zip(self.sources, records, strict=True)}
        return self._merged([by_text.get(text) for text in self._texts])

    def _is_copied(self, source: Source) -> bool:
        return self._copy is True or (self._copy == "auto" and source.path is not None)

    def _all_texts(self) -> list[str | None]:
        if isinstance(self._cells, pa.StructArray):  # those that name a file and no content
            url, sha256, *_ = self._cells.flatten()
            return cast("list[str | None]", pc.if_else(sha256.is_null(), url, None).to_pylist())
        return [] if is_bytes(self._cells.type) else self._cells.to_pylist()

    def _merged(self, records: list[Record | None]) -> pa.StructArray:
        """The records; over those that were there, where the column holds records."""
        if not isinstance(self._cells, pa.StructArray):
            return from_records(records, self.kind)
        if not any(records):
            return self._cells
        cells: pa.Array[Any] = self._cells
        return from_records([_over(*pair) for pair in zip(cells.to_pylist(), records, strict=True)], self.kind)

    def _record(
        self, source: Source, sha256: bytes, size: int, head: bytes, probe: str | bytes | pa.Buffer, stats: Record
    ) -> Record:
        filename = _file_name(source.text) if source.text is not None else None
        return {
            "url": source.text if source.path is None else None,
            "sha256": sha256.hex(),
            "size": size,
            "content_type": self.kind.sniff(head) or _claimed(self.kind, _endings(filename or "")),
            "filename": filename,
            **stats,
        }


def _contents(cells: pa.Array[Any], name: str, first_row: int) -> Iterator[Source]:
    for row, cell in enumerate(cells, first_row):
        if cell.is_valid:
            yield Source(name, row, data=cell.as_buffer())


def _named(texts: Sequence[str | None], name: str, first_row: int) -> list[Source]:
    rows: dict[str, int] = {}
    for row, text in enumerate(texts, first_row):
        if text is not None:
            rows.setdefault(text, row)
    return [Source(name, row, text, _path(text)) for text, row in rows.items()]


def _path(text: str) -> str | None:
    if "://" not in text:
        return text
    path = local_path(text)
    return str(path) if path is not None else None


def _file_name(text: str) -> str:
    if "://" in text or text.endswith((".", "/")):
        return file_name(text)
    return text.rpartition("/")[2]


def _endings(filename: str) -> str:
    """What comes after the first dot, so that names that differ before it are looked at once."""
    return filename[filename.find(".", 1) :] if "." in filename[1:] else ""


@lru_cache(4096)
def _claimed(kind: MediaType, endings: str) -> str:
    return kind.content_type(f"name{endings}", b"")


def _reference(source: Source) -> str | None:
    return source.text if source.path is None else Path(source.path).absolute().as_uri()


def _over(old: dict[str, Any] | None, new: Record | None) -> Record | None:
    """``new`` over ``old``; what was known of a reference stays known."""
    if old is None or new is None:
        return old
    return new if new.get("sha256") is not None else {**old, "url": new["url"]}
