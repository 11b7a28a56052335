"""Files of an index on local disk: links into the cache of blobs, so that only new files are fetched."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from lakefeed.errors import DamagedDatasetError, IntegrityError, LakefeedError, MissingFileError
from lakefeed.search.index_ledger import IndexLedger, IndexState, SegmentFile, mending
from lakefeed.storage.disk.disk_errors import wrap_os_errors
from lakefeed.storage.disk.scratch import scratch_folder
from lakefeed.storage.disk.sealed_files import NO_LINKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakefeed.storage.blobs.blob_store import BlobStore

Result = TypeVar("Result")

FOLDER: Final = "indexes"
SCRATCH: Final = "new-"
THREADS: Final = 8
KEPT_VERSIONS: Final = 3
"""The number of local versions of an index that are not removed."""
MAX_ATTEMPTS: Final = 3


def root_folder(ledger: IndexLedger) -> Path:
    """Returns the folder of the local files of indexes."""
    return ledger.lake.settings.cache / FOLDER


def local_folder(ledger: IndexLedger, state: IndexState) -> Path:
    """Returns a folder with the files of a version of an index. It is created if it is missing.

    Raises:
        DamagedDatasetError: a file of the index is lost or damaged.
        StorageError: the disk is full, or cannot be written to.
    """
    above = root_folder(ledger) / state.ledger_uuid
    folder = above / str(state.snapshot_id)
    if folder.is_dir():
        return folder
    files = read_files(ledger, state)
    with wrap_os_errors(f"cannot keep files of the index {ledger.definition.name!r} in {str(above)!r}"):
        with scratch_folder(above, SCRATCH) as scratch:
            new = scratch / "files"
            new.mkdir()
            link_files(ledger, files, new)
            try:
                new.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise  # else another process was faster
        _remove_old(above, folder)
    return folder


def remove_local_folder(ledger: IndexLedger, state: IndexState) -> None:
    """Removes the local files of a version, which are not as they were."""
    shutil.rmtree(root_folder(ledger) / state.ledger_uuid / str(state.snapshot_id), ignore_errors=True)


def read_files(ledger: IndexLedger, state: IndexState) -> list[SegmentFile]:
    """Returns the files of a version.

    Raises:
        DamagedDatasetError: the ledger cannot be read.
    """
    with damaged_index(ledger):
        return ledger.files(state)


def read_local_files(
    ledger: IndexLedger, state: IndexState, read: Callable[[], Result], forget: Callable[[], None]
) -> Result:
    """Returns what ``read`` returns. If the local copy of a version is damaged, it is fetched again, once.

    Args:
        ledger: the index.
        state: its version.
        read: reads the files of `local_folder`.
        forget: forgets what of them is open.

    Raises:
        DamagedDatasetError: the files cannot be read.
    """
    for is_last in (False, True):
        try:
            return read()
        except LakefeedError:
            raise
        except (RuntimeError, ValueError, OSError) as error:  # those of tantivy, faiss and Arrow
            forget()
            remove_local_folder(ledger, state)
            if is_last:
                name = ledger.definition.name
                raise DamagedDatasetError(
                    f"the index {name!r} cannot be read: {error}. {mending(ledger.definition)}"
                ) from error
    raise AssertionError("unreachable")


@contextmanager
def damaged_index(ledger: IndexLedger) -> Iterator[None]:
    """Makes the loss of a file an error that says how to make the index anew."""
    try:
        yield
    except (MissingFileError, IntegrityError, DamagedDatasetError) as error:
        name = ledger.definition.name
        raise DamagedDatasetError(f"the index {name!r} is damaged: {error}. {mending(ledger.definition)}") from error


def link_files(ledger: IndexLedger, files: Sequence[SegmentFile], folder: Path) -> None:
    """Makes the files of an index appear in an empty folder. They are not to be written to.

    Raises:
        DamagedDatasetError: a file is lost or damaged.
    """
    store = ledger.lake.blobs
    with damaged_index(ledger):
        store.prefetch([file.sha256 for file in files])
        if store.is_local or len(files) < 2:
            for file in files:
                _link(store, file, folder)
            return
        with ThreadPoolExecutor(THREADS, thread_name_prefix="lakefeed-indexes") as threads:
            list(threads.map(lambda file: _link(store, file, folder), files))


def _link(store: BlobStore, file: SegmentFile, folder: Path) -> None:
    target = folder / file.name
    for attempt in range(MAX_ATTEMPTS):
        source = store.local_path(file.sha256)
        if not file.padding:
            try:
                os.link(source, target)
                return
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
        try:
            shutil.copyfile(source, target)
            os.truncate(target, file.size - file.padding)
            return
        except FileNotFoundError:  # the cache made room meanwhile
            if attempt == MAX_ATTEMPTS - 1:
                raise


def _remove_old(above: Path, current: Path) -> None:
    """Removes the local files of older versions. Processes that use them have them open."""
    ages = []
    for folder in above.iterdir():
        with suppress(OSError):
            if folder != current and not folder.name.startswith(SCRATCH):
                ages.append((folder.stat().st_mtime, folder))
    for _, folder in sorted(ages, reverse=True)[KEPT_VERSIONS - 1 :]:
        shutil.rmtree(folder, ignore_errors=True)
