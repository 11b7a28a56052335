"""The files of a tree written into a folder: linked to copies that are here, else read from the store and verified."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Final

from lakefeed.errors import ConflictingPathsError, IntegrityError, MissingFileError
from lakefeed.storage.blobs.blob_store import BlobStore
from lakefeed.storage.disk.disk_errors import wrap_os_errors
from lakefeed.storage.disk.sealed_files import folds_names, link_sealed, write_sealed
from lakefeed.trees.copy_manifest import CopiedFile
from lakefeed.trees.external_files import ExternalFile
from lakefeed.trees.tree_rows import TreeRows, column

LOCAL_THREADS: Final = 2
REMOTE_THREADS: Final = 16
GROUP_FILES: Final = 1_024


def copied_files(rows: TreeRows) -> list[CopiedFile]:
    """Returns the files of a tree."""
    sizes = column(rows.table, "file").field("size").to_pylist()
    files = []
    facts = zip(rows.path_list, sizes, *(each.to_pylist() for each in rows.contents), strict=True)
    for path, size, sha256, url, etag, executable in facts:
        external = None if sha256 else ExternalFile(url, size, etag or None)
        content = sha256 or f"{url} {etag}"
        files.append(CopiedFile(path, content, -1 if size is None else size, executable, external))
    return files


@dataclass
class Materialization:
    """Writes files of a tree.

    Attributes:
        store: the blob store.
        tree: the id of the tree, for messages.
        sources: paths of sealed files that may be linked, by content and executable bit.
        workers: the number of threads; None for one that suits the store.
    """

    store: BlobStore
    tree: str
    sources: Mapping[tuple[str, bool], str] = field(default_factory=dict)
    workers: int | None = None
    _first: dict[tuple[str, bool], str] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def write(self, files: Sequence[CopiedFile], folder: Path) -> None:
        """Writes files into a new, empty folder.

        Raises:
            ConflictingPathsError: two paths are one on this file system. Nothing was written.
            MissingFileError, IntegrityError: the store has lost or damaged a content.
            StorageError: the disk is full, or cannot be written to.
        """
        with wrap_os_errors(f"cannot write the files of {self.tree!r}"):
            _prepare(files, folder)
            # The first file of each content is written, then the others are linked to it.
            firsts, others = split_duplicates(files)
            self._each(firsts, folder)
            self._each(others, folder)

    def _each(self, files: Sequence[CopiedFile], folder: Path) -> None:
        workers = self.workers or (LOCAL_THREADS if self.store.is_local else REMOTE_THREADS)
        with ThreadPoolExecutor(workers, thread_name_prefix="lakefeed-trees") as threads:
            groups = _groups(files, GROUP_FILES if self.store.is_local else workers)
            try:
                list(threads.map(lambda group: self._write_group(group, folder), groups))
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _write_group(self, group: Sequence[CopiedFile], folder: Path) -> None:
        self.store.prefetch([each.sha256 for each in group if each.external is None])
        for each in group:
            self.write_file(each, f"{folder}/{each.path}")

    def write_file(self, file: CopiedFile, target: str) -> None:
        """Writes one file, whose folder exists."""
        key = file.inode_key
        for source in (self._first.get(key), self.sources.get(key)):
            if source is not None and link_sealed(source, target, file.size, file.executable):
                return
        try:
            self._write(file, target)
        except (MissingFileError, IntegrityError) as error:
            raise type(error)(f"the file {file.path!r} of {self.tree!r}: {error}") from error
        with self._lock:
            self._first[key] = target  # the newest, because the older ones may have as many links as they can

    def _write(self, file: CopiedFile, target: str) -> None:
        fill = partial(self._fill, file)
        try:
            write_sealed(target, file.executable, fill)
        except IntegrityError:
            if file.external is not None or self.store.find_unsound([file.sha256]):
                raise
            write_sealed(target, file.executable, fill)  # from another copy in the store

    def _fill(self, file: CopiedFile, write: Callable[[bytes], object]) -> int:
        return self.store.copy_to(file.sha256, write) if file.external is None else file.external.copy_to(write)


def write_links(files: Sequence[CopiedFile], folder: Path, target: str) -> None:
    """Fills a new, empty folder with symbolic links to the files of the folder ``target``."""
    _prepare(files, folder)
    for each in files:
        os.symlink(f"{target}/{each.path}", f"{folder}/{each.path}")  # noqa: PTH211 - as in `Materialization`


def _prepare(files: Sequence[CopiedFile], folder: Path) -> None:
    if folds_names(folder):
        check_folded(files)
    for name in sorted({each.path.rpartition("/")[0] for each in files}):
        (folder / name).mkdir(parents=True, exist_ok=True)


def _groups(files: Sequence[CopiedFile], size: int) -> Iterator[Sequence[CopiedFile]]:
    return (files[start : start + size] for start in range(0, len(files), size))


def split_duplicates(files: Iterable[CopiedFile]) -> tuple[list[CopiedFile], list[CopiedFile]]:
    """Returns the first file of each content, and the others."""
    visited: set[tuple[str, bool]] = set()
    firsts: list[CopiedFile] = []
    others: list[CopiedFile] = []
    for file in files:
        (others if file.inode_key in visited else firsts).append(file)
        visited.add(file.inode_key)
    return firsts, others


def check_folded(files: Iterable[CopiedFile]) -> None:
    """Checks that the paths are different ones where capitals and the forms of accents do not count.

    Raises:
        ConflictingPathsError: two are one. The message names both.
    """
    visited: dict[str, str] = {}
    for file in files:
        other = visited.setdefault(unicodedata.normalize("NFC", file.path).casefold(), file.path)
        if other != file.path:
            raise ConflictingPathsError(
                f"{other!r} and {file.path!r} are one file on this file system; copy the tree to another one, or give "
                "files= with only one of them"
            )
