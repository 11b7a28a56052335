"""Objects of a store: stand-alone blobs, packs, leases and lists of pending deletes.

An object is complete or absent.
"""

from __future__ import annotations

import datetime as dt
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from lakefeed.errors import UnsupportedError
from lakefeed.storage.disk.atomic_write import publish, staged_file, sync_directories, sync_file
from lakefeed.storage.disk.disk_errors import storage_errors
from lakefeed.storage.disk.local_file import read_cached

BLOBS: Final = "sha256"
MAX_OPEN_FILES = 64


class ObjectInfo(NamedTuple):
    """The key of an object below the URL of the store, its size in bytes, and the time when it was written.

    ``modified`` (seconds since 1970) is by the clock of the store: compare it only with that of other objects.
    """

    key: str
    size: int
    modified: float


class Objects(Protocol):
    """Named objects.

    Safe between threads and processes. A reader sees an object complete, and as soon as it was written.
    """

    def write(self, key: str, data: bytes) -> None: ...
    def upload(self, key: str, path: Path) -> None: ...
    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes: ...
    def info(self, key: str) -> ObjectInfo: ...
    def list(self, folder: str) -> Iterator[ObjectInfo]: ...
    def delete(self, key: str) -> None: ...
    def url(self, key: str) -> str: ...
    def store_errors(self) -> AbstractContextManager[None]: ...


def blob_key(sha256: str) -> str:
    """Returns the key of the stand-alone blob with that digest."""
    return f"{BLOBS}/{sha256[:2]}/{sha256[2:]}"


def digest_of(key: str) -> str:
    """Returns the digest in a key of `blob_key`."""
    return key.removeprefix(f"{BLOBS}/").replace("/", "")


Copy: TypeAlias = tuple[str, int]
"""The key of an object and the position of a content in it."""


class ObjectRange(NamedTuple):
    """The bytes of a content, or of the recipe of a content: the key of the object, and the position in it."""

    key: str
    start: int
    length: int
    is_recipe: bool = False

    @property
    def end(self) -> int:
        """The position after the last byte."""
        return self.start + self.length

    @property
    def copy(self) -> Copy:
        """The key and the position, which identify this copy of the content."""
        return self.key, self.start


@dataclass(frozen=True)
class LocalObjects:
    """Objects as files below ``root``."""

    root: Path

    def write(self, key: str, data: bytes) -> None:
        """Writes an object that may not survive a power cut. Nor do the processes that it concerns."""
        with staged_file(self.root / "tmp") as (temporary, stream):
            stream.write(data)
            stream.flush()
            publish(temporary, self.path(key))

    def upload(self, key: str, path: Path) -> None:
        """Moves a file into the store. The file and its name survive a power cut."""
        with storage_errors(path), path.open("rb") as stream:
            sync_file(stream)
        target = self.path(key)
        publish(path, target)
        sync_directories([target.parent, self.root, self.root.parent])

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Returns the bytes from ``start`` to before ``end``; fewer if the object ends earlier."""
        with io.FileIO(f"{self.root}/{key}") as stream:  # pathlib takes as long as reading a small file
            if start:
                stream.seek(start)
            return stream.readall() if end is None else _read_exactly(stream, end - start)

    def read_all(self, ranges: Sequence[ObjectRange], targets: Sequence[memoryview]) -> bool:
        """Reads ranges of objects that are in memory, without waiting for the disk.

        Returns:
            Whether all ranges had the sizes of their targets and were in memory.
        """
        with ExitStack() as stack:
            opened: dict[str, int] = {}
            for (key, start, length, _), target in zip(ranges, targets, strict=True):
                descriptor = opened.get(key)
                if descriptor is None:
                    if len(opened) == MAX_OPEN_FILES:
                        stack.close()
                        opened.clear()
                    try:
                        descriptor = opened[key] = os.open(f"{self.root}/{key}", os.O_RDONLY | os.O_CLOEXEC)
                    except (FileNotFoundError, NotADirectoryError):
                        return False
                    stack.callback(os.close, descriptor)
                if length and read_cached(descriptor, target, start) != length:
                    return False
        return True

    def info(self, key: str) -> ObjectInfo:
        status = self.path(key).stat()
        return ObjectInfo(key, status.st_size, status.st_mtime)

    def list(self, folder: str) -> Iterator[ObjectInfo]:
        """Yields all objects in a folder and its subfolders. Objects that are deleted meanwhile may be missing."""
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.path(folder)) as entries:
            for entry in entries:
                key = f"{folder}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    yield from self.list(key)
                    continue
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    yield ObjectInfo(key, status.st_size, status.st_mtime)

    def delete(self, key: str) -> None:
        """Deletes an object if it exists."""
        self.path(key).unlink(missing_ok=True)

    def url(self, key: str) -> str:
        return self.path(key).as_uri()

    def store_errors(self) -> AbstractContextManager[None]:
        """Raises the errors of the system unchanged."""
        return nullcontext()

    def path(self, key: str) -> Path:
        return self.root / key


@dataclass(frozen=True)
class RemoteObjects:
    """Objects of a store of fsspec whose later reads and listings show a written object, as in S3, GCS and Azure.

    ``store`` opens the file system and translates its errors.
    """

    store: Any

    def write(self, key: str, data: bytes) -> None:
        with self.store.store_errors():
            self.store.filesystem().pipe_file(self.url(key), data)

    def upload(self, key: str, path: Path) -> None:
        """Uploads a file, which stays."""
        with self.store.store_errors():
            self.store.filesystem().put_file(str(path), self.url(key))

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Returns the bytes from ``start`` to before ``end``; fewer if the object ends earlier."""
        if end is not None and start >= end:
            return b""
        with self.store.store_errors():
            return bytes(self.store.filesystem().cat_file(self.url(key), start=start, end=end))

    def info(self, key: str) -> ObjectInfo:
        with self.store.store_errors():
            filesystem = self.store.filesystem()
            filesystem.invalidate_cache()
            return object_info(key, filesystem.info(self.url(key)))

    def list(self, folder: str) -> Iterator[ObjectInfo]:
        """Yields all objects in a folder and its subfolders."""
        with self.store.store_errors():
            filesystem = self.store.filesystem()
            filesystem.invalidate_cache()  # fsspec would return a cached listing
            url = self.url(folder)
            root = filesystem._strip_protocol(url).strip("/")
            infos = filesystem.find(url, detail=True)
        for name, facts in infos.items():
            if facts.get("type") != "directory":  # some stores list empty folders
                yield object_info(f"{folder}/{name.strip('/')[len(root) + 1 :]}", facts)

    def delete(self, key: str) -> None:
        """Deletes an object if it exists."""
        with self.store.store_errors(), suppress(FileNotFoundError):
            self.store.filesystem().rm_file(self.url(key))

    def url(self, key: str) -> str:
        return f"{self.store.url.rstrip('/')}/{key}"

    def store_errors(self) -> AbstractContextManager[None]:
        """Raises errors of the store's library as errors of lakefeed."""
        store_errors: AbstractContextManager[None] = self.store.store_errors()
        return store_errors


def _read_exactly(stream: io.FileIO, size: int) -> bytes:
    data = stream.read(size) or b""
    while len(data) < size and (more := stream.read(size - len(data))):  # one read returns at most 2 GiB
        data += more
    return data


def object_info(key: str, facts: dict[str, Any]) -> ObjectInfo:
    """Returns the info of an object from that of fsspec."""
    return ObjectInfo(key, int(facts["size"]), _modified(key, facts))


def _modified(key: str, facts: dict[str, Any]) -> float:
    """Returns the time of a change, for which each file system of fsspec has another key."""
    for name in ("LastModified", "last_modified", "updated", "mtime", "modified", "created"):
        value = facts.get(name)
        if isinstance(value, str):
            value = dt.datetime.fromisoformat(value)
        if isinstance(value, dt.datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    raise UnsupportedError(
        f"the store does not give the time at which {key!r} was written, so garbage and new files look the same"
    )
