"""The datasets of the parents of file trees.

They are remembered in the cache folder by the state of each table, so that only changed tables are loaded.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import TREE
from lakefeed.errors import DatasetNotFoundError, FileError
from lakefeed.storage.disk.atomic_write import staged_file
from lakefeed.trees.finished_tree import history
from lakefeed.trees.tree_identity import TreeId

CACHE: Final = "tree-parents"


def other_datasets(lake: Lake, dataset: str, parents: Iterable[str]) -> list[str]:
    """Returns the names of the datasets of these trees, without ``dataset``, as the catalog lists them, sorted."""
    own = f"{lake.settings.catalog.namespace}."
    names = {TreeId.parse(parent).dataset for parent in parents}
    return sorted(name.removeprefix(own) for name in names if name != dataset)


def parent_datasets(datasets: Collection[str]) -> dict[str, list[str]]:
    """Returns for each file tree the other datasets of which its versions have parents.

    Datasets that are not file trees, and those that cannot be read, are left out. So are names without a namespace.

    Args:
        datasets: names of datasets.

    Raises:
        CatalogUnavailableError: the catalog cannot be reached.
    """
    lake = Lake.current()
    # Datasets without a namespace are not those of trees.
    wanted = [name for name in datasets if name.count(".") == 1]
    heads = lake.heads() if wanted else {}
    path = lake.settings.cache / CACHE / "parents.json"
    known, now = _read(path), dict[str, list[str]]()
    for name in wanted:
        head = heads.get(name, "")
        now[head] = known[head] if head in known else other_datasets(lake, name, _all_parents(lake, name))
    if now.keys() - known.keys():
        _write(path, now)
    return {name: others for name in wanted if (others := now[heads.get(name, "")])}


def _all_parents(lake: Lake, name: str) -> list[str]:
    try:
        table = lake.table(name)
    except (DatasetNotFoundError, FileError):
        return []
    if TREE not in table.properties:
        return []
    return [parent for version in history(lake, name, table) for parent in version.parents]


def _read(path: Path) -> Mapping[str, list[str]]:
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):  # it is missing or damaged, which costs time only
        return {}
    return known if isinstance(known, dict) else {}


def _write(path: Path, parents: Mapping[str, list[str]]) -> None:
    with suppress(OSError), staged_file(path.parent) as (temporary, stream):  # a disk that is full or read-only
        stream.write(json.dumps(parents).encode())
        stream.flush()
        temporary.replace(path)
