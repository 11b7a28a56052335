"""`list_mirrors` and `remove_mirror`: the versions of datasets that `Dataset.cache` keeps on local disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from lakefeed.caching.atomic_folder import MANIFEST, Folder
from lakefeed.catalog.lake import Lake
from lakefeed.plan import Lineage
from lakefeed.storage.disk.disk_errors import discard


@dataclass(frozen=True)
class Mirror:
    """A version of a dataset on local disk.

    Attributes:
        dataset: the name of the dataset when it was read.
        version: the version.
        columns: the columns that it holds.
        rows: the number of rows.
        bytes: the size of the rows on disk, without the files that rows refer to.
        written_at: the time at which it was complete, in seconds since 1970.
        path: its folder.
    """

    dataset: str
    version: int
    columns: tuple[str, ...]
    rows: int
    bytes: int
    written_at: float
    path: Path


def list_mirrors() -> list[Mirror]:
    """Returns the mirrors in the cache of this machine, ordered by dataset and version. Incomplete ones are left out.

    Example:
        >>> list_mirrors()
        []
    """
    folders = (Lake.current().settings.cache / "datasets").glob(f"*/*/*/{MANIFEST}")
    mirrors = (_mirror(path.parent) for path in folders)
    return sorted((each for each in mirrors if each), key=lambda each: (each.dataset, each.version, each.columns))


def remove_mirror(mirror: Mirror) -> None:
    """Removes a mirror, and the pins that keep its files in the cache. Processes that read it go on.

    Args:
        mirror: one of `list_mirrors`.
    """
    folder = Folder(mirror.path)
    with folder.locked():
        discard(mirror.path / MANIFEST)  # first, so that nothing counts as complete
        for rows in mirror.path.glob(f"rows-*.{Folder.suffix}"):
            discard(rows)
        shutil.rmtree(mirror.path / "files", ignore_errors=True)


def _mirror(path: Path) -> Mirror | None:
    manifest = Folder(path).manifest()
    if manifest is None:
        return None
    origins = Lineage.from_json(manifest.facts["lineage"]).origins
    if len(origins) != 1:
        return None
    try:
        size, written_at = (path / manifest.file).stat().st_size, (path / MANIFEST).stat().st_mtime
    except FileNotFoundError:  # it was removed meanwhile
        return None
    names = tuple(name for name in manifest.schema.names if name in manifest.columns)
    rows = sum(rows for rows, _ in manifest.parts)
    return Mirror(origins[0].dataset, origins[0].version, names, rows, size, written_at, path)
