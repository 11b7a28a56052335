"""New files of a table. A file is closed and removed if writing it fails, which raises StorageError."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from pyiceberg.io import FileIO, InputFile, OutputFile, OutputStream

from lakefeed.catalog.file_io import actual_location
from lakefeed.storage.disk.disk_errors import cleanup_errors, storage_errors
from lakefeed.storage.remote.multipart import abort_multipart, discard_upload

logger = logging.getLogger(__name__)

S3_SCHEMES = ("s3", "s3a", "s3n")


class NewFile(OutputFile):
    """A file that is being written at a location of its own, and that nothing refers to yet.

    ``path`` is the actual path. In a lake that was moved, it differs from the location in metadata.
    """

    def __init__(self, io: FileIO, location: str) -> None:
        super().__init__(location)
        self._io = io
        self.path = actual_location(io, location)
        self._output = io.new_output(location)
        self._stream: Any = None
        self._created = False

    def __len__(self) -> int:
        return len(self._output)

    def exists(self) -> bool:
        return self._output.exists()

    def to_input_file(self) -> InputFile:
        return self._output.to_input_file()

    def create(self, overwrite: bool = False) -> OutputStream:
        """Returns a stream whose failures raise StorageError."""
        self.open_stream(overwrite)
        return _Stream(self)

    def open_stream(self, overwrite: bool = False) -> Any:
        """Returns the underlying stream, for libraries that write to it directly."""
        with storage_errors(self.path):
            try:
                self._created = True
                self._stream = self._output.create(overwrite)
            except FileExistsError:
                self._created = False  # another writer's file
                raise
        return self._stream

    def write(self, data: bytes) -> int:
        with storage_errors(self.path, len(data)):
            return int(self._stream.write(data))

    def close(self) -> None:
        """Completes the file."""
        with storage_errors(self.path):
            self._stream.close()

    def abandon(self) -> None:
        """Closes the file and removes it, even if it is closed already. Raises nothing."""
        if not self._created:
            return
        stream, self._stream = self._stream, None
        if hasattr(stream, "discard"):
            discard_upload(stream)
        elif stream is not None:
            with cleanup_errors(self.path, logging.DEBUG):  # closing may flush a buffer
                stream.close()
        _abort_uploads(self._io, self.location)
        discard_files(self._io, [self.location])


class _Stream:
    """The stream that PyIceberg writes manifests and metadata to, which are small."""

    def __init__(self, file: NewFile) -> None:
        self._file = file
        self._size = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._file.close()

    def __enter__(self) -> _Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


@contextmanager
def new_file(io: FileIO, location: str) -> Iterator[NewFile]:
    """Yields a new file. If the block fails, the file is removed."""
    file = NewFile(io, location)
    try:
        yield file
    except BaseException:
        file.abandon()
        raise


def discard_files(io: FileIO, locations: Iterable[str]) -> None:
    """Removes files that no snapshot refers to. Ignores files that are missing or cannot be removed."""
    for location in locations:
        with cleanup_errors(location):
            io.delete(location)


def _abort_uploads(io: FileIO, location: str) -> None:
    """Aborts every unfinished upload of this object, which only the caller writes. Raises nothing."""
    parts = urlsplit(location)
    if parts.scheme not in S3_SCHEMES:
        return
    if find_spec("s3fs") is None:
        logger.warning(
            "parts of %s may be left in the store: pip install 'lakefeed[s3]', or add a bucket rule that aborts "
            "incomplete multipart uploads",
            location,
        )
        return
    # pyarrow's S3 client cannot abort an upload; s3fs takes the same properties.
    from pyiceberg.io.fsspec import FsspecFileIO

    with cleanup_errors(location):
        own = io if isinstance(io, FsspecFileIO) else FsspecFileIO(io.properties)
        abort_multipart(own.get_fs(parts.scheme, parts.netloc), parts.netloc, parts.path.lstrip("/"))
