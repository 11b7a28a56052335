"""What the cells of a file column refer to, and the records that come of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed.errors import CredentialsError, FileError, InvalidArgumentError, MissingFileError, StorageError
from lakefeed.media.file_column_types import decode_column, is_bytes
from lakefeed.media.media_records import conform_records, records_array
from lakefeed.media.media_registry import MEDIA
from lakefeed.media.media_type import MediaType
from lakefeed.storage.fetch import shown
from lakefeed.storage.urls import file_name, holds_credentials, local_path, redacted

CopyFiles: TypeAlias = Literal["auto"] | bool
Record: TypeAlias = Mapping[str, Any]


class ContentSource(NamedTuple):
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

    def require_public(self) -> None:
        """Raises CredentialsError where a reference to it would tell a secret to whoever may read the table."""
        if self.path is None and self.text is not None and holds_credentials(self.text):
            raise CredentialsError(
                f"{self.place}: {self.name} holds credentials, and a table keeps its URLs for all its readers. Nothing "
                "was committed. Save it with copy_files=True, which keeps the file and hides them; or save the URL "
                "without them, and let each reader have its own (for s3:// and gs://: the settings files.options)"
            )

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
        context = f"{self.place}: cannot {what} {self.name}"
        if isinstance(error, StorageError):
            return error.prefixed(context)
        return FileError(f"{context}: {error.strerror or error}")


class StoredContent(NamedTuple):
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
        self._cells: pa.Array[Any] = decode_column(column)
        self._copy = copy
        self._records = isinstance(self._cells, pa.StructArray)
        if isinstance(self._cells, pa.StructArray):
            self._cells = _redact_urls(conform_records(self._cells, self.kind))
            _require_digests(_digest_column(self._cells), name, first_row)
        self._place = name, first_row
        self._texts: list[str | None] = self._all_texts()
        contents = _content_sources(self._cells, name, first_row) if is_bytes(self._cells.type) else ()
        self._named = _reference_sources(self._texts, name, first_row)
        self.sources = [*contents, *(source for source in self._named if self._is_copied(source))]
        for source in self._named:
            if not self._is_copied(source):
                source.require_public()

    @property
    def named(self) -> Sequence[ContentSource]:
        """What the column names by path or URL, each once."""
        return self._named

    @property
    def kept(self) -> list[bytes]:
        """The raw SHA-256 of contents that the column names already."""
        if not isinstance(self._cells, pa.StructArray):
            return []
        return [bytes.fromhex(str(digest)) for digest in _digest_column(self._cells).drop_null().unique().to_pylist()]

    def require(self, missing: Collection[bytes]) -> None:
        """Raises MissingFileError where the column names one of these contents, which are not in the store."""
        if not missing:
            return
        name, first_row = self._place
        texts = {digest.hex() for digest in missing}
        digests = _digest_column(cast(pa.StructArray, self._cells)).to_pylist()
        for row, digest in enumerate(digests, first_row):
            if digest in texts:
                raise MissingFileError(
                    f"column {name!r}, row {row}: the blob store has no content with sha256 {digest}. Nothing was "
                    "committed. Save the file itself, by its path, its URL (without a sha256) or its bytes"
                )

    def finished(self, stored: Sequence[StoredContent], stats: Sequence[Record]) -> pa.StructArray:
        """The records, given what became of each of ``sources``."""
        if not (self._named or is_bytes(self._cells.type)) and isinstance(self._cells, pa.StructArray):
            return self._cells
        records = self._stored_records(stored, stats)
        if is_bytes(self._cells.type):
            return _take_records(records, _consecutive_indices(self._cells.is_valid().to_pylist()))
        references = [source for source in self._named if not self._is_copied(source)]
        if references:
            records = pa.concat_arrays(
                [records, records_array([{"url": _reference_url(s)} for s in references], self.kind)]
            )
        places = {source.text: place for place, source in enumerate((*self.sources, *references))}
        found = _take_records(records, [None if text is None else places[text] for text in self._texts])
        if isinstance(self._cells, pa.StructArray):
            cells: pa.Array[Any] = self._cells
            merged = [_merge_record(*pair) for pair in zip(cells.to_pylist(), _values(found), strict=True)]
            return records_array(merged, self.kind)
        return found

    def _is_copied(self, source: ContentSource) -> bool:
        return self._copy is True or (self._copy == "auto" and source.path is not None)

    def _all_texts(self) -> list[str | None]:
        if isinstance(self._cells, pa.StructArray):  # those that name a file and no content
            url, sha256, *_ = self._cells.flatten()
            return cast("list[str | None]", pc.if_else(sha256.is_null(), url, None).to_pylist())
        return [] if is_bytes(self._cells.type) else self._cells.to_pylist()

    def _stored_records(self, stored: Sequence[StoredContent], stats: Sequence[Record]) -> pa.StructArray:
        """The records of what was stored, made column by column: there may be many."""
        names = [None if source.text is None else _file_name(source.text) for source in self.sources]
        sniff, kind = self.kind.sniff, self.kind
        columns: dict[str, list[Any]] = {
            "url": [redacted(source.text) if source.text and source.path is None else None for source in self.sources],
            "sha256": [content.sha256.hex() for content in stored],
            "size": [content.size for content in stored],
            "content_type": [
                sniff(content.head) or _content_type_of(kind, _suffixes(name or ""))
                for content, name in zip(stored, names, strict=True)
            ],
            "filename": names,
        }
        known = any(stats)
        columns |= {field.name: [found.get(field.name) for found in stats] for field in kind.stat_fields if known}
        arrays = [
            pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(stored), field.type)
            for field in kind.struct
        ]
        return pa.StructArray.from_arrays(arrays, fields=list(kind.struct))


def _digest_column(records: pa.StructArray) -> pa.Array[Any]:
    return records.flatten()[records.type.names.index("sha256")]


def _require_digests(digests: pa.Array[Any], name: str, first_row: int) -> None:
    valid = pc.match_substring_regex(digests, "^[0-9a-f]{64}$")
    for row, is_good in enumerate(valid.to_pylist() if pc.all(valid).as_py() is False else (), first_row):
        if is_good is False:
            given = str(digests[row - first_row].as_py())
            raise InvalidArgumentError(
                f"column {name!r}, row {row}: {given[:80]!r} is no sha256: give 64 lower-case hex digits, or null"
            )


def _take_records(records: pa.StructArray, places: Sequence[int | None]) -> pa.StructArray:
    """The record of each place, null for None."""
    if len(places) == len(records) and all(place == row for row, place in enumerate(places)):
        return records
    spread = records.take(pa.array(places, pa.int64()))
    assert isinstance(spread, pa.StructArray), "records"
    return spread


def _consecutive_indices(valid: Sequence[Any]) -> list[int | None]:
    places = iter(range(len(valid)))
    return [next(places) if is_there else None for is_there in valid]


def _redact_urls(records: pa.StructArray) -> pa.StructArray:
    """Records that do not need their URLs, having a digest, with the credentials in these hidden."""
    fields = list(records.type)
    parts = dict(zip(records.type.names, records.flatten(), strict=True))
    urls, held = parts["url"].to_pylist(), parts["sha256"].is_valid().to_pylist()
    if not any(kept and url and holds_credentials(url) for url, kept in zip(urls, held, strict=True)):
        return records
    shown_urls = [redacted(url) if kept and url else url for url, kept in zip(urls, held, strict=True)]
    parts["url"] = pa.array(shown_urls, parts["url"].type)
    return pa.StructArray.from_arrays(list(parts.values()), fields=fields, mask=records.is_null())


def _values(records: pa.Array[Any]) -> list[Any]:
    return records.to_pylist()


def _content_sources(cells: pa.Array[Any], name: str, first_row: int) -> Iterator[ContentSource]:
    for row, cell in enumerate(cells, first_row):
        if cell.is_valid:
            yield ContentSource(name, row, data=cell.as_buffer())


def _reference_sources(texts: Sequence[str | None], name: str, first_row: int) -> list[ContentSource]:
    rows: dict[str, int] = {}
    for row, text in enumerate(texts, first_row):
        if text is not None:
            rows.setdefault(text, row)
    return [ContentSource(name, row, text, _path_of(text)) for text, row in rows.items()]


def _path_of(text: str) -> str | None:
    if "://" not in text:
        return text
    path = local_path(text)
    return str(path) if path is not None else None


def _file_name(text: str) -> str:
    if "://" in text or text.endswith((".", "/")):
        return file_name(text)
    return text.rpartition("/")[2]


def _suffixes(filename: str) -> str:
    """What comes after the first dot, so that names that differ before it are looked at once."""
    return filename[filename.find(".", 1) :] if "." in filename[1:] else ""


@lru_cache(4096)
def _content_type_of(kind: MediaType, endings: str) -> str:
    return kind.content_type(f"name{endings}", b"")


def _reference_url(source: ContentSource) -> str | None:
    return source.text if source.path is None else Path(source.path).absolute().as_uri()


def _merge_record(old: dict[str, Any] | None, new: Record | None) -> Record | None:
    """``new`` over ``old``; what was known of a reference stays known."""
    if old is None or new is None:
        return old
    return new if new.get("sha256") is not None else {**old, "url": new["url"]}
