"""Versions as partitions: ``3`` <-> ``"v3"``, and the asset keys of everything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import dropwhile, takewhile

from dagster import AssetKey, DynamicPartitionsDefinition


def versions_of(dataset: str) -> DynamicPartitionsDefinition:
    """The partitions of a dataset: one a version, added in version order by the sensors."""
    return DynamicPartitionsDefinition(name=f"{dataset}_versions")


def key_of(version: int) -> str:
    """The partition key of a version.

    Example:
        >>> key_of(3)
        'v3'
    """
    return f"v{version}"


def version_of(key: str) -> int:
    """The version of a partition key.

    Example:
        >>> version_of("v3")
        3
    """
    return int(key.removeprefix("v"))


def first_adjacent(order: Iterable[str], wanted: Iterable[str]) -> Sequence[str]:
    """The first keys of ``wanted`` that stand side by side in ``order``: what one range can name.

    Example:
        >>> first_adjacent(["v1", "v2", "v3", "v4"], {"v2", "v3"})
        ['v2', 'v3']
    """
    chosen = set(wanted)
    return list(takewhile(chosen.__contains__, dropwhile(lambda key: key not in chosen, order)))


def dataset_key(name: str) -> AssetKey:
    return AssetKey(["datasets", name])


def ingest_key(name: str) -> AssetKey:
    return AssetKey(["ingest", name])


def routine_key(name: str) -> AssetKey:
    return AssetKey(["routines", name])
