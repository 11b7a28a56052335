"""New files of a table: closed and removed where their writing fails, which raises StorageError."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from pyiceberg.io import FileIO, InputFile, OutputFile, OutputStream

from lakefeed.catalog.file_io import actual_location
from lakefeed.catalog.uploads import abort_uploads
from lakefeed.storage.disk.disk_errors import cleanup_errors, storage_errors
from lakefeed.storage.remote.multipart import discard_upload


class NewFile(OutputFile):
    """A file being written that nothing refers to yet, under a location that nobody else writes.

    ``path`` is where it is, which metadata of a lake that was moved does not say.
    """

    def __init__(self, io: FileIO, location: str) -> None:
        super().__init__(location)
        self._io = io
        self.path = actual_location(io, location)
        self._output = io.new_output(location)
        self._stream: Any = None
        self._begun = False

    def __len__(self) -> int:
        return len(self._output)

    def exists(self) -> bool:
        return self._output.exists()

    def to_input_file(self) -> InputFile:
        return self._output.to_input_file()

    def create(self, overwrite: bool = False) -> OutputStream:
        """A stream whose failures are StorageErrors."""
        self.opened(overwrite)
        return _Stream(self)

    def opened(self, overwrite: bool = False) -> Any:
        """The stream itself, for libraries that write to it directly."""
        with storage_errors(self.path):
            try:
                self._begun = True
                self._stream = self._output.create(overwrite)
            except FileExistsError:
                self._begun = False  # somebody else's
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
        """Closes the file and removes it, also where it was closed already; raises nothing."""
        if not self._begun:
            return
        stream, self._stream = self._stream, None
        if hasattr(stream, "discard"):
            discard_upload(stream)
        elif stream is not None:
            with cleanup_errors(self.path, logging.DEBUG):  # it may try to write what is left
                stream.close()
        abort_uploads(self._io, self.location)
        discard_files(self._io, [self.location])


class _Stream:
    """What PyIceberg's writers of manifests and metadata write to; small, so that Python in between costs nothing."""

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
    """A file to be written in a block; where that fails, it is removed."""
    file = NewFile(io, location)
    try:
        yield file
    except BaseException:
        file.abandon()
        raise


def discard_files(io: FileIO, locations: Iterable[str]) -> None:
    """Removes files that no snapshot refers to; one that is gone already, or cannot go, does not matter."""
    for location in locations:
        with cleanup_errors(location):
            io.delete(location)
