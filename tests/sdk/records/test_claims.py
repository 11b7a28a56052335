"""Claims: of processes that save one content at once, one makes the record."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import select, update

from lakefeed.catalog.lake import Lake
from lakefeed.config import Settings
from lakefeed.errors import CommitError
from lakefeed.records import claims
from lakefeed.records.claims import hold_claim
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import CLAIM
from tests.sdk.processes import Program, finish_all

SAVE = """
import sys
import pyarrow as pa
from lakefeed.catalog.commit import create
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import HASH
from lakefeed.records.claims import hold_claim
from lakefeed.records.content_hash import hash_rows
from lakefeed.records.record_registry import Registry

registry = Registry.open(Lake.current())
batch = pa.record_batch({"x": list(range(100))})
hash = hash_rows(batch.schema, [batch])
with hold_claim(registry, hash, "dataset") as claim:
    record = registry.query("dataset").filter(hash=hash).first()
    if record is None:
        name, facts = f"data{sys.argv[1]}", {HASH: hash}
        create(registry.lake, name, batch.schema, [batch], facts=facts, before_commit=claim.require)
        record = registry.query("dataset").filter(hash=hash).one()
print(record.uid)
"""


@pytest.mark.live
def test_the_same_content_saved_by_eight_processes_at_once_is_one_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path))
    printed = finish_all([Program(SAVE, number) for number in range(8)])
    assert len(set(printed)) == 1
    registry = Registry.open(Lake.current())
    assert registry.query().one().uid == printed[0].strip()
    with registry.read() as connection:
        assert connection.scalar(select(CLAIM.c.hash)) is None


def test_a_claim_excludes_others_until_it_ends_or_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, steps = Registry(Lake(Settings(home=tmp_path))), []
    with hold_claim(registry, "h", "dataset") as first:
        with hold_claim(registry, "h", "file"), hold_claim(registry, "other", "dataset"):
            steps.append("others")

        def wait(seconds: float) -> None:  # a minute in which the owner is asleep
            steps.append("waited")
            with registry.write() as connection:
                connection.execute(update(CLAIM).values(renewed=time.time() - claims.EXPIRY_SECONDS - 1))

        monkeypatch.setattr(claims.time, "sleep", wait)
        with hold_claim(registry, "h", "dataset") as second:
            second.require()
            with pytest.raises(CommitError, match="taken it over"):
                first.require()
    assert steps == ["others", "waited"]
    with registry.read() as connection:
        assert connection.scalar(select(CLAIM.c.hash)) is None
    with registry.write() as connection:  # the clock was an hour ahead when its owner, of another machine, died
        later = time.time() + 3600
        connection.execute(CLAIM.insert().values(hash="h", kind="dataset", owner="other", renewed=later))
    with hold_claim(registry, "h", "dataset"):
        assert steps == ["others", "waited"]
    with pytest.raises(KeyError), hold_claim(registry, "h", "dataset"):
        raise KeyError
    with hold_claim(registry, "h", "dataset"):
        pass
