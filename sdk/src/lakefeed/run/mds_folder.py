"""Rows as a folder of MDS shards, for MosaicML's ``StreamingDataset``."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

from lakefeed import _paths
from lakefeed._units import GIB, KIB, MIB
from lakefeed._validate import check_text, is_whole
from lakefeed.errors import AccessDeniedError, FileError, InvalidArgumentError, MissingFileError, StorageError
from lakefeed.formats.mds_compression import ShardEncoding
from lakefeed.formats.mds_shards import INDEX_FILE, MAX_SHARD_BYTES, MDSLayout, build_shards, index_text
from lakefeed.plan import Node
from lakefeed.run.local_runner import LocalRunner
from lakefeed.storage.disk.atomic_write import new_file, sync_directories, sync_file
from lakefeed.storage.disk.disk_errors import cleanup_errors, storage_errors
from lakefeed.storage.remote.retrying_file import LOCAL_PROTOCOLS, OBJECT_STORES, WEB_PROTOCOLS, query_filesystem
from lakefeed.storage.urls import display_url, expand_home, split_protocol

SIZE_TEXT: Final = re.compile(r"(\d+(?:\.\d+)?) *(|b|kb|mb|gb)")
UNITS: Final = {"": 1, "b": 1, "kb": KIB, "mb": MIB, "gb": GIB}
FileWriter: TypeAlias = Callable[[str, Iterable[Any]], None]
"""Writes a file of the name with the content, which is given in parts."""


def write_mds(
    runner: LocalRunner,
    plan: Node,
    folder: Any,
    size_limit: Any,
    compression: Any,
    hashes: Any,
    encodings: Any,
) -> int:
    """Writes the rows of a plan into a new folder, and returns their number; see `Dataset.to_mds`."""
    encoding, limit = ShardEncoding.of(compression, hashes), _bytes_of(size_limit)
    if encodings is not None and not isinstance(encodings, Mapping):
        raise InvalidArgumentError(f"encodings must map columns to encodings, got {encodings!r:.80}")
    for name, value in (encodings or {}).items():
        check_text(name, "a column of encodings")
        check_text(value, f"the encoding of {name!r:.80}")
    layout = MDSLayout.of(plan.schema, limit, encoding, encodings)
    entries: list[dict[str, Any]] = []
    with new_target(folder) as write:
        for number, shard in enumerate(build_shards(layout, runner.batches(plan))):
            file = layout.file(number, shard)
            write(file.name, file.pieces)
            entries.append(file.entry)
        write(INDEX_FILE, [index_text(entries).encode()])
    return sum(entry["samples"] for entry in entries)


def _bytes_of(size_limit: Any) -> int | None:
    """Returns the most bytes of a shard. Text may have a unit, as for ``MDSWriter``."""
    number = size_limit
    match = SIZE_TEXT.fullmatch(size_limit.strip().lower()) if isinstance(size_limit, str) else None
    if match is not None:
        number = int(min(float(match[1]) * UNITS[match[2]], MAX_SHARD_BYTES))
    if number is not None and (not is_whole(number) or not 0 < number < MAX_SHARD_BYTES):
        raise InvalidArgumentError(
            f"size_limit must be a number of bytes from 1 to {MAX_SHARD_BYTES - 1:,}, text such as '64mb', or None, "
            f"got {size_limit!r:.80}"
        )
    return None if number is None else int(number)


def write_file(path: Path, pieces: Iterable[Any]) -> None:
    """Writes byte strings to a new file, and flushes it to the disk."""
    with new_file(path) as stream:
        for piece in pieces:
            stream.write(piece)
        sync_file(stream)


def new_target(folder: Any) -> AbstractContextManager[FileWriter]:
    """Returns the context in which the files of a new folder are written, by a function of names and contents.

    Raises:
        InvalidArgumentError: the folder is malformed, or is not empty.
    """
    text = os.fspath(folder) if isinstance(folder, str | os.PathLike) else None
    if not isinstance(text, str) or not _paths.is_storable(text):
        raise InvalidArgumentError(f"folder must be the path or URL of a folder, got {folder!r:.80}")
    protocol, path = split_protocol(text)
    if protocol not in LOCAL_PROTOCOLS:
        if protocol in WEB_PROTOCOLS or "::" in text:
            raise InvalidArgumentError(
                f"folder={display_url(text)!r}: shards are written to local folders and stores such as s3://bucket/folder"
            )
        return RemoteFolder(text.rstrip("/")).files()
    target = _paths.resolve(expand_home(path))
    if _paths.exists(target) and (not _paths.is_folder(target) or any(target.iterdir())):
        raise InvalidArgumentError(f"{str(target)!r} exists and is not an empty folder; choose another one")
    return _complete_folder(target)


@contextmanager
def _complete_folder(target: Path) -> Iterator[FileWriter]:
    """Gives a folder beside the target, which takes its place at the end; after an error it is removed.

    A killed process leaves it behind, under a name that begins with a dot.
    """
    temporary = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    with storage_errors(target):
        temporary.mkdir(parents=True)
    try:
        yield lambda name, pieces: write_file(temporary / name, pieces)
        sync_directories([temporary])
        with storage_errors(target):
            temporary.rename(target)  # replaces an empty folder, and no other
        sync_directories([target.parent])
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


class RemoteFolder:
    """A folder of a store. The index is written last, so a folder without it is not whole."""

    def __init__(self, url: str) -> None:
        self.url = url

    @contextmanager
    def files(self) -> Iterator[FileWriter]:
        """Gives the function that writes files. After an error, those that it wrote are removed."""
        with self._store_errors():
            self._check_is_empty()
        written: list[str] = []

        def write(name: str, pieces: Iterable[Any]) -> None:
            data = b"".join(pieces)
            written.append(f"{self.url}/{name}")
            with self._store_errors():
                query_filesystem(written[-1], lambda fs, path: _put(fs, path, data))

        try:
            yield write
        except BaseException:
            for url in reversed(written):
                with cleanup_errors(display_url(url)):
                    query_filesystem(url, lambda fs, path: fs.rm_file(path))
            raise

    def _check_is_empty(self) -> None:
        try:
            names = query_filesystem(self.url, lambda fs, path: fs.find(path, maxdepth=1))
        except MissingFileError:
            return
        if names:
            raise InvalidArgumentError(
                f"{display_url(self.url)} is not empty; choose another folder. Shards without {INDEX_FILE} are of an "
                "export that was interrupted; remove them, or choose another folder"
            )

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except (AccessDeniedError, StorageError):
            raise
        except FileError as error:
            raise StorageError(f"cannot write to {display_url(self.url)}: {error}") from error


def _put(fs: Any, path: str, data: bytes) -> None:
    if OBJECT_STORES.isdisjoint([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol):
        fs.makedirs(fs._parent(path), exist_ok=True)  # object stores have no folders
    fs.pipe_file(path, data)
