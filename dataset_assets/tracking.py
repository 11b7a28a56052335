"""Runs of Dagster as runs of lakefeed, and the lineage of a version as metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dagster import AssetExecutionContext, MetadataValue

import lakefeed
from lakefeed import DatasetVersion
from lakefeed.catalog.version_uids import version_uid
from lakefeed.provenance import Lineage, Lineages

STEPS = 2
"""Steps in each direction that the picture of a version shows."""
USED_BY = ("version", "run", "file")
MAX_USERS = 20


@contextmanager
def tracked(context: AssetExecutionContext, name: str, code: str | Callable[..., Any]) -> Iterator[None]:
    """Makes the run of Dagster the current run of lakefeed, with its code, until the block ends."""
    with lakefeed.track(name, run_id=f"dagster:{context.run.run_id}", transform=code):
        yield


def version_metadata(lineages: Lineages, version: DatasetVersion) -> dict[str, Any]:
    """Returns the uid and the label of a version, what has used it, and its lineage as mermaid text."""
    graph = lineages.of(version, STEPS, STEPS)
    facts: dict[str, Any] = {"uid": version_uid(version.table_uuid, version.version)}
    if version.label:
        facts["label"] = version.label
    facts["used_by"] = used_by(graph)
    facts["lineage"] = MetadataValue.md(f"```mermaid\n{graph.mermaid}```")
    return facts


def used_by(graph: Lineage) -> str:
    """Returns the names of what was made of a version, and of the runs that have read it."""
    names = dict.fromkeys(node.label for node in graph.nodes if node.steps == 1 and node.kind in USED_BY)
    shown = list(names)[:MAX_USERS]
    more = [f"{len(names) - len(shown)} more"] if len(names) > len(shown) else []
    return ", ".join([*shown, *more])
