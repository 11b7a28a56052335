"""A file column on its way out of a table: records become contents or local paths."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from lakefeed.errors import FileError, InvalidArgumentError, UnsupportedError
from lakefeed.media.base import Mode
from lakefeed.media.columns import LOADED, checked_mode
from lakefeed.media.handles import Handle
from lakefeed.media.records import handles
from lakefeed.storage.blobs import BlobStore

logger = logging.getLogger(__name__)

OnError: TypeAlias = Literal["raise", "null"]
Loaded: TypeAlias = bytes | str | None


def load_column(
    column: pa.Array[Any],
    media: str,
    mode: str,
    store: BlobStore,
    *,
    workers: int,
    on_error: str,
    timeout: float,
) -> pa.Array[Any]:
    """The column's files in row order: contents (large_binary) or paths of read-only local files (string).

    Everything that has a ``sha256`` is verified. Fetched by ``workers`` threads; the whole column is held in memory,
    so its length is what bounds that.

    Args:
        column: media records; or, before a save, paths and URLs (text) or contents (binary).
        media: the name of the media type.
        mode: ``"bytes"`` or ``"path"``.
        store: where the blobs are.
        workers: files fetched at a time.
        on_error: ``"raise"``, or ``"null"`` for null in place of a file that cannot be had (a log line counts them).
        timeout: seconds that one fetch may take.

    Raises:
        MissingFileError: a file is not there.
        IntegrityError: its bytes are not those that were saved.
        UnsupportedError: it lies behind a URL that this version cannot fetch.
        FileError: it cannot be read, or took too long.
        InvalidArgumentError: an argument is none of the above.

    Example:
        >>> from pathlib import Path
        >>> store = BlobStore("blobs", Path("cache"))
        >>> column = pa.array([{"sha256": store.put_bytes(b"hello").sha256, "url": None}, None])
        >>> load_column(column, "file", "bytes", store, workers=8, on_error="raise", timeout=30.0).to_pylist()
        [b'hello', None]
    """
    chosen = checked_mode(mode)
    if on_error not in ("raise", "null"):
        raise InvalidArgumentError(f'on_error is {on_error!r}; it is "raise" or "null"')
    if workers < 1 or timeout <= 0:
        raise InvalidArgumentError(f"workers is {workers} and timeout {timeout}; both are above 0")
    found = _load_all(handles(column, media, store), chosen, workers, timeout, skip=on_error == "null")
    return pa.array(found, LOADED[chosen])


def _load_all(cells: Sequence[Handle | None], mode: Mode, workers: int, timeout: float, *, skip: bool) -> list[Loaded]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lakefeed-files")
    try:
        tasks = [None if cell is None else pool.submit(_load, cell, mode) for cell in cells]
        outcomes = [_outcome(task, timeout, skip=skip) for task in tasks]
    finally:
        # A fetch that hangs must not hold up the caller, who has waited for its timeout already.
        pool.shutdown(wait=False, cancel_futures=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if failures:
        logger.warning(
            "%d of %d files could not be loaded and are null; the first: %s", len(failures), len(cells), failures[0]
        )
    return [None if isinstance(outcome, Exception) else outcome for outcome in outcomes]


def _outcome(task: Future[Loaded] | None, timeout: float, *, skip: bool) -> Loaded | Exception:
    """What a fetch gave; its error as a value if errors are to be skipped."""
    try:
        # Tasks begin in order, so this one has begun by the time that those before it have ended.
        return None if task is None else task.result(timeout)
    except TimeoutError as error:
        late = FileError(f"a file was not fetched within {timeout:g} seconds")
        if not skip:
            raise late from error
        return late
    except (OSError, UnsupportedError) as error:
        if not skip:
            raise
        return error


def _load(cell: Handle, mode: Mode) -> Loaded:
    return cell.bytes() if mode == "bytes" else str(cell.path())
