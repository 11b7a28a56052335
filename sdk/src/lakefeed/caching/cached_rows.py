"""Chooses the kind of local copy for ``Dataset.cache``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from lakefeed.caching.atomic_folder import check_folder
from lakefeed.caching.cached_output import cache_output
from lakefeed.caching.snapshot_mirror import mirrored, mirrored_dataset
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError
from lakefeed.plan import Node


def cache_rows(
    lake: Lake,
    name: str | None,
    version: int | None,
    plan: Callable[[], Node],
    path: str | os.PathLike[str] | None,
    *,
    load_files: bool,
    overwrite: bool,
) -> Node:
    """Returns the plan over local copies: mirrors of the snapshots that it reads, or with ``path`` its whole output.

    ``name`` and ``version`` name a dataset of the lake whose mirror is used even without the catalog.
    """
    _check(path, load_files, overwrite)
    if path is not None:
        return cache_output(lake, plan(), path, load_files=load_files, overwrite=overwrite)
    if name is not None:
        return mirrored_dataset(lake, name, version, plan, load_files=load_files)
    return mirrored(lake, plan(), load_files=load_files)


def _check(path: Any, load_files: Any, overwrite: Any) -> None:
    check_folder(path, "cache")
    if not isinstance(load_files, bool) or not isinstance(overwrite, bool):
        raise InvalidArgumentError(
            f"cache(load_files={load_files!r}, overwrite={overwrite!r}): both must be True or False"
        )
    if overwrite and path is None:
        raise InvalidArgumentError(
            "cache(overwrite=True) needs path=, because the mirror of a snapshot never becomes stale"
        )
