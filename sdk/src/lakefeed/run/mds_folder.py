"""Rows as a folder of MDS shards, for MosaicML's ``StreamingDataset``."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lakefeed._validate import is_whole
from lakefeed.errors import InvalidArgumentError
from lakefeed.formats.mds_shards import INDEX_FILE, MAX_SHARD_BYTES, MDSLayout, build_shards, index_text, shard_file
from lakefeed.plan import Node
from lakefeed.run.local_runner import LocalRunner
from lakefeed.storage.disk.atomic_write import new_file, sync_directories, sync_file
from lakefeed.storage.disk.disk_errors import storage_errors
from lakefeed.storage.urls import expand_home


def write_mds(runner: LocalRunner, plan: Node, folder: Any, size_limit: int | None) -> int:
    """Writes the rows of a plan into a new folder, and returns their number; see `Dataset.to_mds`."""
    target = _check_target(folder)
    if size_limit is not None and (not is_whole(size_limit) or not 0 < size_limit < MAX_SHARD_BYTES):
        raise InvalidArgumentError(
            f"size_limit must be a number of bytes from 1 to {MAX_SHARD_BYTES - 1:,}, or None, got {size_limit!r:.80}"
        )
    layout = MDSLayout.of(plan.schema, None if size_limit is None else int(size_limit))
    entries: list[dict[str, Any]] = []
    with _complete_folder(target) as temporary:
        for number, shard in enumerate(build_shards(layout, runner.batches(plan))):
            write_file(temporary / shard_file(number), shard.pieces())
            entries.append(layout.index_entry(number, shard.samples, shard.size))
        write_file(temporary / INDEX_FILE, [index_text(entries).encode()])
    return sum(entry["samples"] for entry in entries)


def write_file(path: Path, pieces: Iterable[Any]) -> None:
    """Writes byte strings to a new file, and flushes it to the disk."""
    with new_file(path) as stream:
        for piece in pieces:
            stream.write(piece)
        sync_file(stream)


def _check_target(folder: Any) -> Path:
    """Returns the folder to write, which does not exist or is empty."""
    text = os.fspath(folder) if isinstance(folder, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidArgumentError(f"folder must be the path of a folder, got {folder!r:.80}")
    if "://" in text:
        raise InvalidArgumentError(f"folder={text!r:.200}: to_mds writes to local folders; copy the folder afterwards")
    target = Path(expand_home(text)).absolute().resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidArgumentError(f"{str(target)!r} exists and is not an empty folder; choose another one")
    return target


@contextmanager
def _complete_folder(target: Path) -> Iterator[Path]:
    """Yields a folder beside the target, which takes its place at the end; after an error it is removed.

    A killed process leaves it behind, under a name that begins with a dot.
    """
    temporary = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    with storage_errors(target):
        temporary.mkdir(parents=True)
    try:
        yield temporary
        sync_directories([temporary])
        with storage_errors(target):
            temporary.rename(target)  # replaces an empty folder, and no other
        sync_directories([target.parent])
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
