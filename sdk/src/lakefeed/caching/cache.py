"""What ``Dataset.cache`` does."""

from __future__ import annotations

import os
from collections.abc import Callable

from lakefeed.caching.mirror import mirrored, mirrored_dataset
from lakefeed.caching.output import kept_output
from lakefeed.catalog.lake import Lake
from lakefeed.plan import Node


def cached(
    lake: Lake,
    name: str | None,
    version: int | None,
    plan: Callable[[], Node],
    path: str | os.PathLike[str] | None,
    *,
    load_files: bool,
    overwrite: bool,
) -> Node:
    """The plan over kept rows: mirrors of what it reads, or with ``path`` its whole output.

    ``name`` (and ``version``): of a dataset as it is in the lake, which is found in the cache too.
    """
    if path is not None:
        return kept_output(lake, plan(), path, load_files=load_files, overwrite=overwrite)
    if name is not None:
        return mirrored_dataset(lake, name, version, plan, load_files=load_files)
    return mirrored(lake, plan(), load_files=load_files)
