"""Asset keys, and versions as partition keys: ``3`` <-> ``"v3"``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import dropwhile, takewhile

from dagster import AssetKey, DynamicPartitionsDefinition


def versions_of(dataset: str) -> DynamicPartitionsDefinition:
    """Returns the partitions of a dataset: one for each version, which the sensors add in order."""
    return DynamicPartitionsDefinition(name=f"{dataset}_versions")


def key_of(version: int) -> str:
    """Returns the partition key of a version.

    Example:
        >>> key_of(3)
        'v3'
    """
    return f"v{version}"


def version_of(key: str) -> int:
    """Returns the version of a partition key.

    Example:
        >>> version_of("v3")
        3
    """
    return int(key.removeprefix("v"))


def first_adjacent(order: Iterable[str], wanted: Iterable[str]) -> Sequence[str]:
    """Returns the first keys of ``wanted`` that are adjacent in ``order``, so that one range names them.

    Example:
        >>> first_adjacent(["v1", "v2", "v3", "v4"], {"v2", "v3"})
        ['v2', 'v3']
    """
    chosen = set(wanted)
    return list(takewhile(chosen.__contains__, dropwhile(lambda key: key not in chosen, order)))


def dataset_key(name: str) -> AssetKey:
    """Returns the asset key of a dataset."""
    return AssetKey(["datasets", name])


def ingest_key(name: str) -> AssetKey:
    """Returns the asset key of an ingestion."""
    return AssetKey(["ingest", name])


def routine_key(name: str) -> AssetKey:
    """Returns the asset key of a routine."""
    return AssetKey(["routines", name])
