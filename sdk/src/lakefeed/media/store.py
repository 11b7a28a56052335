"""A file column on its way into a table: contents go to the blob store, cells become records."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc

from lakefeed.errors import (
    FileError,
    FormatError,
    InvalidArgumentError,
    MissingDependencyError,
    MissingFileError,
    UnsupportedError,
)
from lakefeed.media.base import HEAD_BYTES, MediaType
from lakefeed.media.columns import is_bytes, plain, require_file_column
from lakefeed.media.pool import ordered
from lakefeed.media.records import conformed, from_records
from lakefeed.media.registry import media_type
from lakefeed.storage.blobs import BlobStore
from lakefeed.storage.fetch import open_reference, shown
from lakefeed.storage.urls import file_name, local_path

logger = logging.getLogger(__name__)

UPLOAD_WORKERS = 8
PIECE = 16  # files a thread takes at a time: small ones cost less than handing them over

CopyFiles: TypeAlias = Literal["auto"] | bool
Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """One content to be stored: the row that first names it, and its path or URL (``text``) or its bytes."""

    row: int
    text: str | None
    path: Path | None = None
    data: pa.Buffer | None = None

    @property
    def name(self) -> str:
        return shown(self.text) if self.text is not None else f"{self.data.size if self.data else 0} bytes"

    def open(self) -> BinaryIO:
        if self.path is not None:
            return self.path.open("rb")
        if self.text is not None:
            return open_reference(self.text)
        return cast(BinaryIO, pa.BufferReader(self.data))  # no copy


@dataclass(frozen=True)
class Stored:
    """What became of a source; ``problem`` says why its statistics are null."""

    record: Record
    problem: str | None = None


@dataclass(frozen=True)
class Upload:
    """How the sources of one column are stored. Safe between threads."""

    media: MediaType
    store: BlobStore
    stats: bool
    column: str

    def __call__(self, source: Source) -> Stored:
        with self._opened(source) as stream:
            try:
                return self._stored(source, stream)
            except OSError as error:
                raise FileError(f"{self.place(source)}: cannot store {source.name}: {error}") from error

    def missing(self, source: Source) -> MissingFileError:
        where = f" (looked in {Path.cwd()})" if source.path is not None and not source.path.is_absolute() else ""
        return MissingFileError(
            f"{self.place(source)}: there is no file {source.name}{where}. Nothing was committed. Correct the path; "
            "if the column is text that only looks like paths, save it with column_types=None"
        )

    def place(self, source: Source) -> str:
        return f"column {self.column!r}, row {source.row}"

    def _opened(self, source: Source) -> BinaryIO:
        try:
            return source.open()
        except FileNotFoundError as error:  # gone since it was looked at, or a remote file
            raise self.missing(source) from error
        except UnsupportedError as error:
            raise UnsupportedError(f"{self.place(source)}: {error}") from error
        except OSError as error:
            raise FileError(f"{self.place(source)}: cannot read {source.name}: {error}") from error

    def _stored(self, source: Source, stream: BinaryIO) -> Stored:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        blob = self.store.put(stream, sync=False)
        filename = file_name(source.text) if source.text is not None else None
        record = {
            "url": source.text if source.path is None else None,
            "sha256": blob.sha256,
            "size": blob.size,
            "content_type": self.media.content_type(filename, head),
            "filename": filename,
        }
        stream.seek(0)
        return self._with_stats(record, stream) if self.stats else Stored(record)

    def _with_stats(self, record: Record, stream: BinaryIO) -> Stored:
        try:
            return Stored({**record, **self.media.probe(stream)})
        except FormatError as error:
            return Stored(record, str(error))
        except MissingDependencyError as error:
            _warn_once(f"no statistics are recorded for {self.media.name} files: {error}")
            return Stored(record)


def store_column(
    column: pa.Array[Any],
    media: str,
    store: BlobStore,
    *,
    copy: CopyFiles,
    stats: bool,
    column_name: str,
    first_row: int = 0,
) -> pa.StructArray:
    """The column as records of its media type; every blob that they name is durable on return.

    Contents (binary) and local files are put into the store, each distinct one once; of those ``url`` is null.
    Remote URLs are kept as references (``url`` only, everything else null). Records pass through; one that has a
    ``url`` but no ``sha256`` is treated as that URL or path. Nulls stay null.

    Args:
        column: paths and URLs (text), contents (binary) or records (struct).
        media: the name of the media type.
        store: where the contents go.
        copy: ``"auto"`` as above; True copies remote files too; False opens nothing: a local path is kept as an
            absolute ``file://`` URL, unchecked. Contents in memory are stored in any case.
        stats: whether to record statistics; a file that cannot be read as its type gets nulls, and a log line counts
            these.
        column_name: for messages.
        first_row: the number of the column's first row, for messages.

    Raises:
        MissingFileError: a local file is not there; nothing of this column was stored.
        FileError: a file cannot be read, or is no regular file.
        UnsupportedError: ``copy=True`` and a URL that this version cannot fetch.
        TypeMismatchError: the column cannot hold files.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("a.txt").write_text("hello")
        >>> column = store_column(pa.array(["a.txt", None]), "file", BlobStore("blobs", Path("cache")),
        ...                       copy="auto", stats=True, column_name="doc")
        >>> column[0]["filename"].as_py(), column[0]["size"].as_py(), column[1].as_py()
        ('a.txt', 5, None)
    """
    if copy not in ("auto", True, False):
        raise InvalidArgumentError(f'copy_files is {copy!r}; it is "auto", True or False')
    require_file_column(pa.field(column_name, column.type))
    kind = media_type(media)
    cells, upload = plain(column), Upload(kind, store, stats, column_name)
    if isinstance(cells, pa.StructArray):
        return _store_records(conformed(cells, kind), upload, copy, first_row)
    if is_bytes(cells.type):
        return _store_contents(cells, upload, first_row)
    return _store_texts(cells.to_pylist(), upload, copy, first_row)


def _store_texts(texts: list[str | None], upload: Upload, copy: CopyFiles, first_row: int) -> pa.StructArray:
    rows: dict[str, int] = {}
    for row, text in enumerate(texts, first_row):
        if text is not None:
            rows.setdefault(text, row)
    sources = [Source(row, text, local_path(text)) for text, row in rows.items()]
    found: dict[str | None, Record | None] = {source.text: _reference(source) for source in sources}
    sources = [source for source in sources if copy is True or (copy == "auto" and source.path is not None)]
    found |= {source.text: stored.record for source, stored in zip(sources, _run(sources, upload), strict=True)}
    return from_records([found.get(text) for text in texts], upload.media)


def _store_contents(column: pa.Array[Any], upload: Upload, first_row: int) -> pa.StructArray:
    sources = [Source(row, None, data=cell.as_buffer()) for row, cell in enumerate(column, first_row) if cell.is_valid]
    records = iter([stored.record for stored in _run(sources, upload)])
    return from_records([next(records) if valid.as_py() else None for valid in column.is_valid()], upload.media)


def _store_records(column: pa.StructArray, upload: Upload, copy: CopyFiles, first_row: int) -> pa.StructArray:
    url, sha256, *_ = column.flatten()
    if not pc.and_(sha256.is_null(), url.is_valid()).true_count:
        return column
    texts = pc.if_else(sha256.is_null(), url, None).to_pylist()
    stored = _store_texts(texts, upload, copy, first_row)
    return from_records([_merged(*pair) for pair in zip(_rows(column), _rows(stored), strict=True)], upload.media)


def _rows(column: pa.Array[Any]) -> list[Any]:
    return column.to_pylist()


def _merged(old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any] | None:
    """``new`` over ``old``; what was known of a reference stays known."""
    if old is None or new is None:
        return old
    return new if new["sha256"] is not None else {**old, "url": new["url"]}


def _reference(source: Source) -> Record:
    return {"url": source.text if source.path is None else source.path.absolute().as_uri()}


def _run(sources: list[Source], upload: Upload) -> list[Stored]:
    for source in sources:
        _require_file(source, upload)
    stored = ordered(upload, sources, UPLOAD_WORKERS, PIECE)
    upload.store.sync({item.record["sha256"] for item in stored})
    _report(zip(sources, stored, strict=True), upload)
    return stored


def _require_file(source: Source, upload: Upload) -> None:
    """All paths are looked at before the first file is stored."""
    if source.path is None:
        return
    try:
        mode = source.path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null byte in the path
        raise upload.missing(source) from error
    except OSError as error:
        raise FileError(f"{upload.place(source)}: cannot read {source.name}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise FileError(f"{upload.place(source)}: {source.name} is no regular file")


def _report(outcomes: Iterable[tuple[Source, Stored]], upload: Upload) -> None:
    broken = [(source, stored.problem) for source, stored in outcomes if stored.problem is not None]
    if broken:
        source, problem = broken[0]
        logger.warning(
            "column %r: %d %s files have no statistics; the first is row %d, %s: %s",
            upload.column, len(broken), upload.media.name, source.row, source.name, problem,
        )  # fmt: skip


@cache
def _warn_once(message: str) -> None:
    logger.warning("%s", message)
