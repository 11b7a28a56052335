"""The state of a local copy of a tree, compared with the list of its files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lakefeed.storage.disk.sealed_files import is_sealed
from lakefeed.trees.copy_manifest import CopiedFile
from lakefeed.trees.tree_paths import folders_above


class State(NamedTuple):
    """The state of a copy: the files that are missing or changed, and the first path that somebody added."""

    damaged: list[CopiedFile]
    extra: str | None


def inspect(folder: Path, files: Sequence[CopiedFile], links_to: str | None = None) -> State:
    """Returns the state of a copy. Looks at each file, and reads none.

    Args:
        folder: the copy.
        files: its files.
        links_to: the folder to whose files all files must be symbolic links; None for files.
    """
    expected = {file.path: file for file in files}
    direct = {path.rpartition("/")[0] for path in expected}
    folders = {above for path in direct for above in (path, *folders_above(path))}
    for path, status in _walk(str(folder)):
        if stat.S_ISDIR(status.st_mode):
            if path not in folders:
                return State([], path)
            continue
        file = expected.get(path)
        if file is None:
            return State([], path)
        if links_to is None:
            intact = is_sealed(status, file.size, file.executable)
        else:
            intact = stat.S_ISLNK(status.st_mode) and os.readlink(folder / path) == f"{links_to}/{path}"  # noqa: PTH115
        if intact:
            del expected[path]
    return State(list(expected.values()), None)


def _walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yields relative paths and their status. Follows no links."""
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            entries = os.scandir(f"{folder}/{prefix}")
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield prefix + entry.name, status
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(f"{prefix}{entry.name}/")
