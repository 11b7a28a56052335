"""Tells the current run which versions a plan reads, where the plan begins to run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lakefeed.catalog import current_run
from lakefeed.catalog.current_run import VersionRead
from lakefeed.ops import Shuffle
from lakefeed.plan import Node, Origin, fingerprint
from lakefeed.plan.source import Source
from lakefeed.plan.walk import nodes
from lakefeed.sources import iceberg_source

HIDDEN_PREFIX = "_"


class _Version(NamedTuple):
    dataset: str
    table: str
    version: int
    snapshot: int
    since: int | None


def track_reads(plan: Node, epoch: int | None = None) -> None:
    """Tells the current run that a plan begins to run. Outside of a run it does nothing.

    Args:
        plan: the plan.
        epoch: the epoch of a loader; None without a loader.
    """
    state = current_run.current_state()
    if state is None:
        return
    seed, reads = None, []
    for node in nodes(plan):
        if isinstance(node, Shuffle) and seed is None:
            seed = node.seed + node.epoch
        if node.leaf_source is not None:
            reads += [each for each in _versions(node.leaf_source) if each.version]
    text: str | None = None
    for each in reads:
        if state.needs((each.table, each.version), each.since, seed, epoch):
            text = fingerprint(plan) if text is None else text
            state.add(VersionRead(*each, plan=text, seed=seed, epoch=epoch))


def track_origins(origins: Iterable[Origin]) -> None:
    """Tells the current run that versions are read without a plan. Outside of a run it does nothing."""
    state = current_run.current_state()
    if state is None:
        return
    for each in origins:
        if each.version and state.needs((each.table_uuid, each.version), each.from_version, None, None):
            state.add(VersionRead(each.dataset, each.table_uuid, each.version, each.snapshot_id, each.from_version))


def _versions(source: Source) -> Iterator[_Version]:
    """Yields the versions of datasets that a source reads. Tables that no list of datasets shows are left out."""
    if isinstance(source, iceberg_source.IcebergSource):
        lake, version, since = source.lake, source.version, source.since
        if not lake.identifier(source.name)[0].startswith(HIDDEN_PREFIX):
            start = None if since is None else since.version or 0
            table = version.table_uuid or str(source.table.metadata.table_uuid)
            yield _Version(source.name, table, version.version, version.snapshot_id, start)
        return
    for origin in source.lineage.origins:
        yield _Version(origin.dataset, origin.table_uuid, origin.version, origin.snapshot_id, origin.from_version)
