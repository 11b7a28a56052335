"""The contents of files, stored before the records that name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lakefeed.catalog.lake import Lake
from lakefeed.errors import FileError, MissingFileError
from lakefeed.media.cell_sources import ContentSource
from lakefeed.media.contents import ContentWriter
from lakefeed.records.inserts import chunks
from lakefeed.registry.anndata_entry import write_h5ad
from lakefeed.registry.data_kinds import AnnotatedData, LocalData, RemoteData, SingleData, TableData
from lakefeed.storage.blobs.blob_writer import BlobWriter
from lakefeed.storage.cache.file_fingerprints import FileFingerprints
from lakefeed.storage.urls import suffix
from lakefeed.trees.external_files import external_of

GROUP_FILES: Final = 4_096


class FileContent(ContentSource):
    """The content of a local file."""

    @property
    def location(self) -> str:
        """The file, for messages."""
        return f"file {self.column!r}"

    def missing(self) -> MissingFileError:
        """Returns the error for a file that does not exist."""
        return MissingFileError(f"there is no file {self.text!r}. Nothing was saved")


@dataclass(frozen=True)
class StoredFile:
    """A content in the blob store, or a link to a file elsewhere.

    Attributes:
        suffix: the suffix in lower case, such as ".csv"; empty if there is none.
        sha256: the digest of the content, in hex; None for a link.
        size: the size in bytes; None if the server does not tell it.
        url: the URL of a link.
        etag: the tag of the state of a file elsewhere.
    """

    suffix: str
    sha256: str | None
    size: int | None
    url: str | None = None
    etag: str | None = None

    @property
    def hash(self) -> str:
        """The digest of the content; of a link, that of its URL, size and tag."""
        if self.sha256 is not None:
            return self.sha256
        from lakefeed.storage.disk.hashing import sha256_bytes

        return sha256_bytes(f"{self.url}\n{self.size}\n{self.etag}".encode())


def store_files(lake: Lake, writer: BlobWriter, datas: Sequence[SingleData]) -> list[StoredFile]:
    """Stores contents, which are durable when this returns. Links are looked up, and nothing of them is copied.

    Args:
        lake: the lake.
        writer: the writer of contents, whose lease lasts until the records are committed.
        datas: the data of the files.

    Raises:
        MissingFileError: a file does not exist.
        FileError: a file cannot be read.
        StorageError: the disk or store cannot store the contents.
    """
    stored: list[StoredFile] = []
    with ContentWriter(writer, FileFingerprints(lake.settings.cache)) as contents:
        for group in chunks(datas, GROUP_FILES):
            local = {number: _local_file(data, writer) for number, data in enumerate(group)}
            sources = [FileContent(Path(each).name, 0, each, each) for each in local.values() if each is not None]
            results = iter(contents.finish(contents.begin(sources)))
            for number, data in enumerate(group):
                path = local[number]
                if path is None:
                    assert isinstance(data, RemoteData), "the only data without a local file"
                    stored.append(_link(data))
                else:
                    content = next(results)
                    stored.append(StoredFile(suffix(path), content.sha256.hex(), content.size))
    writer.flush()
    return stored


def _link(data: RemoteData) -> StoredFile:
    file = external_of(data.url)
    return StoredFile(suffix(data.name), None, file.size, file.url, file.etag)


def _local_file(data: SingleData, writer: BlobWriter) -> str | None:
    """Returns the path of a local file with the data; None for a file elsewhere."""
    match data:
        case LocalData():
            if data.is_folder:
                raise FileError(f"{data.path!r} is a folder; use File.from_dir or Dataset for it")
            return data.path
        case RemoteData():
            return None
        case TableData():
            return _write_table(data, _new_path(writer, ".parquet"))
        case AnnotatedData():
            path = _new_path(writer, ".h5ad")
            write_h5ad(data.value, path)
            return str(path)


def _write_table(data: TableData, path: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    value = data.value
    if hasattr(value, "to_parquet"):  # of pandas, with its index
        value.to_parquet(path)
    else:
        pq.write_table(value if isinstance(value, pa.Table) else data.rows().to_arrow(), path)
    return str(path)


def _new_path(writer: BlobWriter, ending: str) -> Path:
    import uuid

    return writer.scratch / f"{uuid.uuid4().hex}{ending}"
