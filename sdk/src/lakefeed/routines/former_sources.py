"""The names under which an output stores the position of a routine whose sources were renamed."""

from __future__ import annotations

from collections.abc import Sequence

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import FENCE_PREFIX
from lakefeed.catalog.renaming import first_name
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError


def position_key(stored_name: str, sources: Sequence[str], target: str) -> str:
    """Returns the key of the position of a routine in its output.

    It has the names of the sources. If the output has no such position, but one with the first names of the sources,
    the sources were renamed after the position was stored.
    """
    key = _key(stored_name, sources)
    try:
        properties = Lake.current().table(target).properties
    except (DatasetNotFoundError, DamagedDatasetError):
        return key
    if FENCE_PREFIX + key in properties:
        return key
    former = _key(stored_name, first_names(sources))
    return former if FENCE_PREFIX + former in properties else key


def first_names(sources: Sequence[str]) -> list[str]:
    """Returns the first names of datasets; the names of those that do not exist."""
    return [_first_name(source) for source in sources]


def _key(stored_name: str, sources: Sequence[str]) -> str:
    return f"{stored_name}/{'+'.join(sources)}"


def _first_name(source: str) -> str:
    try:
        return first_name(Lake.current().table(source), source)
    except (DatasetNotFoundError, DamagedDatasetError):
        return source
