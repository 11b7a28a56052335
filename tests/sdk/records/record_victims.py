"""The processes that tests of the registry kill. Light to import: each of them is a process of its own."""

from __future__ import annotations

from lakefeed.catalog.action import Provenance
from lakefeed.catalog.commit import create
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import HASH, RECORD
from tests.sdk.trees.tree_victims import Step, kill_at

FACTS = '{"name": "My data", "labels": ["red"], "feature_sets": {"columns": ["x"]}}'


def save(name: str = "a") -> str:
    """Saves a content once, with a claim, and returns the uid of its record."""
    import pyarrow as pa

    from lakefeed.records.claims import hold_claim
    from lakefeed.records.content_hash import hash_rows
    from lakefeed.records.record_registry import Registry

    registry = Registry.open(Lake.current())
    batch = pa.record_batch({"x": list(range(10))})
    content = hash_rows(batch.schema, [batch])
    with hold_claim(registry, content, "dataset") as claim:
        record = registry.query("dataset").filter(hash=content).first()
        if record is None:
            facts, run = {HASH: content, RECORD: FACTS}, Provenance(run="r")
            create(registry.lake, name, batch.schema, [batch], facts=facts, provenance=run, before_commit=claim.require)
            record = registry.query("dataset").filter(hash=content).one()
    return record.uid


def killed_save(step: Step) -> None:
    """Saves, and dies at a step."""
    kill_at(step)
    save()
