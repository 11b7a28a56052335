"""Processes that are killed at each step of a save: the record is whole, or there is none; then the next one saves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.records.claims import EXPIRY_SECONDS
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import CLAIM, RECORD, SYNCED
from tests.sdk.killing import killed_by_itself
from tests.sdk.records.record_victims import killed_save, save
from tests.sdk.trees.tree_victims import AFTER, BEFORE, Step

pytestmark = pytest.mark.live

STEPS = [
    ("lakefeed.records.table_layout:_write", BEFORE),
    ("lakefeed.records.claims:Claim._take", BEFORE),
    ("lakefeed.records.claims:Claim._take", AFTER),
    ("lakefeed.records.claims:Claim.require", AFTER),
    ("lakefeed.catalog.sql_catalog:LakeSqlCatalog._swap_metadata_location", BEFORE),
    ("lakefeed.catalog.sql_catalog:LakeSqlCatalog._swap_metadata_location", AFTER),
    ("lakefeed.records.projection:_insert", BEFORE),
    ("lakefeed.records.projection:_insert", AFTER),
    ("lakefeed.records.projection:refresh_latest", AFTER),
    ("lakefeed.records.projection:Projection._write", AFTER),
    ("lakefeed.records.claims:Claim._end", BEFORE),
    ("lakefeed.records.claims:Claim._end", AFTER),
]
COMMITTED = STEPS[5:]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step[1]} {step[0].rpartition(':')[2]}")
def test_a_killed_save_leaves_a_whole_record_or_none(
    step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path))
    killed_by_itself(killed_save, step)
    registry = Registry(Lake.current())
    records = registry.query().all()
    assert len(records) == int(step in COMMITTED)
    assert Dataset.exists("a") == bool(records)
    with registry.write() as connection:  # a minute later
        connection.execute(update(CLAIM).values(renewed=time.time() - EXPIRY_SECONDS - 1))
    uid = save("a" if not records else "b")
    record = registry.query().filter(labels="red", feature="x", run="r", latest=True).one()
    assert (record.uid, record.name, record.rows) == (uid, "My data", 10)
    assert [record.uid] == [each.uid for each in records or [record]]
    with registry.read() as connection:
        assert connection.scalar(select(func.count()).select_from(RECORD)) == 1
        assert connection.scalar(select(func.count()).select_from(SYNCED)) == 1
        assert connection.scalar(select(CLAIM.c.owner)) is None
