"""The contents that the cells of a file column name, and the records that a save writes for them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed.errors import CredentialsError, FileError, InvalidArgumentError, MissingFileError, StorageError
from lakefeed.media.file_column_types import decode_column, is_bytes, is_embedded
from lakefeed.media.media_records import conform_records, records_array
from lakefeed.media.media_registry import MEDIA
from lakefeed.media.media_type import MediaType
from lakefeed.storage.urls import display_url, expand_home, file_name, holds_credentials, local_path, redact

CopyFiles: TypeAlias = Literal["auto"] | bool
Record: TypeAlias = Mapping[str, Any]


class ContentSource(NamedTuple):
    """A content to store: the first row that names it, and its path, its URL (``text``) or its bytes.

    ``filename`` is the name of bytes, if they have one. ``status`` is the size and the fingerprint of a local file, if
    it was looked at a moment ago.
    """

    column: str
    row: int
    text: str | None = None
    path: str | None = None
    data: pa.Buffer | None = None
    filename: str | None = None
    status: tuple[int, bytes] | None = None

    @property
    def location(self) -> str:
        """The column and row that name the content, for messages."""
        return f"column {self.column!r}, row {self.row}"

    @property
    def name(self) -> str:
        """The path, URL or size of the content, for messages."""
        return display_url(self.text) if self.text is not None else f"{self.data.size if self.data else 0} bytes"

    def __str__(self) -> str:
        return f"{self.location}: {self.name}"

    def require_public(self) -> None:
        """Raises CredentialsError if the URL holds credentials, which all readers of the table would see."""
        if self.path is None and self.text is not None and holds_credentials(self.text):
            raise CredentialsError(
                f"{self.location}: {self.name} holds credentials, and all readers of the table see its URLs. "
                "Nothing was committed. Save it with copy_files=True, which stores the file and hides the credentials; "
                "or save the URL without them, and let each reader use its own (for s3:// and gs://: the settings "
                "files.options)"
            )

    def missing(self) -> MissingFileError:
        """Returns the error for a file that does not exist."""
        is_relative = self.path is not None and not Path(self.path).is_absolute()
        folder = f" (looked in {Path.cwd()})" if is_relative else ""
        return MissingFileError(
            f"{self.location}: there is no file {self.name}{folder}. Nothing was committed. Correct the path; "
            "if the column is text that only looks like paths, save it with column_types=None"
        )

    def failure(self, action: str, error: OSError) -> FileError:
        """Returns the error for a content that cannot be read or stored."""
        context = f"{self.location}: cannot {action} {self.name}"
        if isinstance(error, StorageError):
            return error.prefixed(context)
        return FileError(f"{context}: {error.strerror or error}")


class StoredContent(NamedTuple):
    """A content in the store.

    Attributes:
        sha256: the raw SHA-256 digest.
        size: the size in bytes.
        head: the first bytes.
        probe: the source for statistics: a local path or the bytes.
    """

    sha256: bytes
    size: int
    head: bytes
    probe: str | bytes | pa.Buffer


class FileColumn:
    """A column of a batch that is converted to records.

    Attributes:
        kind: the media type.
        sources: the contents to store, each distinct path or URL once.
    """

    def __init__(self, column: pa.Array[Any], name: str, media: str, copy: CopyFiles, first_row: int) -> None:
        self.kind: MediaType = MEDIA[media]
        self._cells: pa.Array[Any] = decode_column(column)
        self._copy = copy
        self._contents, names = _split_contents(self._cells)
        if self._contents is None and isinstance(self._cells, pa.StructArray):
            self._cells = _redact_urls(conform_records(self._cells, self.kind))
            _require_digests(_digest_column(self._cells), name, first_row)
        self._origin = name, first_row
        self._texts: list[str | None] = self._reference_texts()
        contents = _content_sources(self._contents, names, name, first_row) if self._contents is not None else ()
        self._references = _reference_sources(self._texts, name, first_row)
        self.sources = [*contents, *(source for source in self._references if self._is_copied(source))]
        for source in self._references:
            if not self._is_copied(source):
                source.require_public()

    @property
    def references(self) -> Sequence[ContentSource]:
        """The paths and URLs that the column names, each once."""
        return self._references

    @property
    def digests(self) -> list[bytes]:
        """The raw SHA-256 digests that the records of the column name."""
        if self._contents is not None or not isinstance(self._cells, pa.StructArray):
            return []
        return [bytes.fromhex(str(digest)) for digest in _digest_column(self._cells).drop_null().unique().to_pylist()]

    def require(self, missing: Collection[bytes]) -> None:
        """Raises MissingFileError if a record names one of the ``missing`` digests."""
        if not missing:
            return
        name, first_row = self._origin
        missing_texts = {digest.hex() for digest in missing}
        digests = _digest_column(cast(pa.StructArray, self._cells)).to_pylist()
        for row, digest in enumerate(digests, first_row):
            if digest in missing_texts:
                raise MissingFileError(
                    f"column {name!r}, row {row}: the blob store has no content with sha256 {digest}. Nothing was "
                    "committed. Save the file itself, by its path, its URL (without a sha256) or its bytes"
                )

    def records(self, stored: Sequence[StoredContent], stats: Sequence[Record]) -> pa.StructArray:
        """Returns the records of the column from the content and the statistics of each of ``sources``."""
        if not self._references and self._contents is None and isinstance(self._cells, pa.StructArray):
            return self._cells
        records = self._stored_records(stored, stats)
        references = [source for source in self._references if not self._is_copied(source)]
        if references:
            records = pa.concat_arrays(
                [records, records_array([{"url": _reference_url(s)} for s in references], self.kind)]
            )
        indices = {source.text: index for index, source in enumerate((*self.sources, *references))}
        rows = [None if text is None else indices[text] for text in self._texts]
        if self._contents is not None:  # the first sources, in order
            contents = _consecutive_indices(self._contents.is_valid().to_pylist())
            rows = [row if content is None else content for content, row in zip(contents, rows, strict=True)]
        column = _take_records(records, rows)
        if self._contents is None and isinstance(self._cells, pa.StructArray):
            cells, stored_records = cast("pa.Array[Any]", self._cells), cast("pa.Array[Any]", column)
            pairs = zip(cells.to_pylist(), stored_records.to_pylist(), strict=True)
            return records_array([_merge_record(*pair) for pair in pairs], self.kind)
        return column

    def _is_copied(self, source: ContentSource) -> bool:
        return self._copy is True or (self._copy == "auto" and source.path is not None)

    def _reference_texts(self) -> list[str | None]:
        if self._contents is not None:
            if not is_embedded(self._cells.type):
                return [None] * len(self._cells)
            paths = _flat_fields(self._cells)["path"].cast(pa.string())
            return cast("list[str | None]", pc.if_else(self._contents.is_null(), paths, None).to_pylist())
        if isinstance(self._cells, pa.StructArray):  # the URLs of records without a digest
            url, sha256, *_ = self._cells.flatten()
            return cast("list[str | None]", pc.if_else(sha256.is_null(), url, None).to_pylist())
        return self._cells.to_pylist()

    def _stored_records(self, stored: Sequence[StoredContent], stats: Sequence[Record]) -> pa.StructArray:
        """Returns the records of stored contents. Builds them column by column for speed."""
        names = [source.filename if source.text is None else _file_name(source.text) for source in self.sources]
        columns: dict[str, list[Any]] = {
            "url": [redact(source.text) if source.text and source.path is None else None for source in self.sources],
            "sha256": [content.sha256.hex() for content in stored],
            "size": [content.size for content in stored],
            "content_type": [
                self.kind.content_type(name, content.head) for content, name in zip(stored, names, strict=True)
            ],
            "filename": names,
        }
        has_stats = any(stats)
        stat_fields = self.kind.stat_fields if has_stats else ()
        columns |= {field.name: [values.get(field.name) for values in stats] for field in stat_fields}
        arrays = [
            pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(stored), field.type)
            for field in self.kind.struct
        ]
        return pa.StructArray.from_arrays(arrays, fields=list(self.kind.struct))


def _digest_column(records: pa.StructArray) -> pa.Array[Any]:
    return records.flatten()[records.type.names.index("sha256")]


def _require_digests(digests: pa.Array[Any], name: str, first_row: int) -> None:
    valid = pc.match_substring_regex(digests, "^[0-9a-f]{64}$")
    for row, is_good in enumerate(valid.to_pylist() if pc.all(valid).as_py() is False else (), first_row):
        if is_good is False:
            digest = str(digests[row - first_row].as_py())
            raise InvalidArgumentError(
                f"column {name!r}, row {row}: sha256 must be 64 lower-case hex digits or null, got {digest[:80]!r}"
            )


def _take_records(records: pa.StructArray, indices: Sequence[int | None]) -> pa.StructArray:
    """Returns the record at each index, null for None."""
    if len(indices) == len(records) and all(index == row for row, index in enumerate(indices)):
        return records
    column = records.take(pa.array(indices, pa.int64()))
    assert isinstance(column, pa.StructArray), "records"
    return column


def _consecutive_indices(valid: Sequence[Any]) -> list[int | None]:
    indices = iter(range(len(valid)))
    return [next(indices) if is_valid else None for is_valid in valid]


def _redact_urls(records: pa.StructArray) -> pa.StructArray:
    """Hides the credentials in the URLs of records with a digest, which do not need their URLs."""
    fields = list(records.type)
    parts = dict(zip(records.type.names, records.flatten(), strict=True))
    urls, stored = parts["url"].to_pylist(), parts["sha256"].is_valid().to_pylist()
    if not any(is_stored and url and holds_credentials(url) for url, is_stored in zip(urls, stored, strict=True)):
        return records
    redacted_urls = [redact(url) if is_stored and url else url for url, is_stored in zip(urls, stored, strict=True)]
    parts["url"] = pa.array(redacted_urls, parts["url"].type)
    return pa.StructArray.from_arrays(list(parts.values()), fields=fields, mask=records.is_null())


def _split_contents(cells: pa.Array[Any]) -> tuple[pa.Array[Any] | None, Sequence[str | None]]:
    """Returns the contents of cells that hold some, and their paths; None for other cells."""
    if is_embedded(cells.type):
        fields = _flat_fields(cells)
        return decode_column(fields["bytes"]), fields["path"].to_pylist()
    return (cells if is_bytes(cells.type) else None), ()


def _flat_fields(cells: pa.Array[Any]) -> dict[str, pa.Array[Any]]:
    return dict(zip(cells.type.names, cast(pa.StructArray, cells).flatten(), strict=True))


def _content_sources(
    contents: pa.Array[Any], paths: Sequence[str | None], name: str, first_row: int
) -> Iterator[ContentSource]:
    for index, cell in enumerate(contents):
        if cell.is_valid:
            path = paths[index] if paths else None
            filename = _file_name(path) if path else None
            yield ContentSource(name, first_row + index, data=cell.as_buffer(), filename=filename)


def _reference_sources(texts: Sequence[str | None], name: str, first_row: int) -> list[ContentSource]:
    rows: dict[str, int] = {}
    for row, text in enumerate(texts, first_row):
        if text is not None:
            rows.setdefault(text, row)
    return [ContentSource(name, row, text, _path_of(text)) for text, row in rows.items()]


def _path_of(text: str) -> str | None:
    if "://" not in text:
        return expand_home(text)
    path = local_path(text)
    return str(path) if path is not None else None


def _file_name(text: str) -> str:
    if "://" in text or text.endswith((".", "/")):
        return file_name(text)
    return text.rpartition("/")[2]


def _reference_url(source: ContentSource) -> str | None:
    return source.text if source.path is None else Path(source.path).absolute().as_uri()


def _merge_record(old: dict[str, Any] | None, new: Record | None) -> Record | None:
    """Returns ``new`` if it has a digest, else ``old`` with the URL of ``new``."""
    if old is None or new is None:
        return old
    return new if new.get("sha256") is not None else {**old, "url": new["url"]}
