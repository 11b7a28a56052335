"""The registry on PostgreSQL: it catches up, is queried, and is changed by many processes at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import select

import lakefeed.registry as ln
from lakefeed import Dataset, Provenance, collect_garbage
from lakefeed.catalog.lake import Lake
from lakefeed.records import record_changes as changes
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import CLAIM, METADATA, RECORD, Presence
from lakefeed.records.visible_rows import Visibility
from tests.sdk.processes import Program, finish_all

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.usefixtures("name")]

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
        facts = {HASH: hash}
        create(registry.lake, f"data{sys.argv[1]}", batch.schema, [batch], facts=facts, before_commit=claim.require)
        record = registry.query("dataset").filter(hash=hash).one()
print(record.uid)
"""


def test_versions_become_records_and_are_found() -> None:
    Dataset.from_dict({"x": [1]}).save("a", "Über x", provenance=Provenance(run="r1", user="ann"))
    Dataset.from_dict({"x": [2]}).append_to("a")
    Dataset.from_dict({"x": [2]}).save("team.b")
    registry = Registry.open()
    first, second = registry.query().filter(dataset="a").order_by("revision")
    query = registry.query()
    assert query.filter(latest=True).count() == 2
    assert query.filter(name__startswith="te", rows__gte=1).one().name == "team.b"
    assert query.filter(description__contains="Ü", description__isnull=False).count() == 2
    assert query.filter(description__contains="ü").count() == 0
    assert [each.uid for each in query.search("ÜBER A").order_by("revision")] == [first.uid, second.uid]
    assert query.filter(run="r1", created_by="ann").one() == first
    assert registry.get(first.uid[:10]) == second
    changes.add_labels(registry, first.uid, ["red", "blue"])
    changes.set_features(registry, first.uid, {"columns": ["x"]})
    assert query.filter(labels=["red", "blue"], feature="x").one() == first
    changes.describe(registry, first.uid, description="other")
    assert query.search("other").one().uid == first.uid
    changes.delete_record(registry, second.uid)
    assert query.filter(latest=True, dataset="a").one().uid == first.uid
    Dataset("team.b").move("c")
    Dataset("a").delete()
    assert {(each.name, each.visibility) for each in query.filter(visibility=None)} == {
        ("a", Visibility.TRASH),
        ("c", Visibility.DEFAULT),
    }
    collect_garbage()
    with registry.write() as connection:
        METADATA.drop_all(connection)
    assert registry.query().filter(visibility=None).count() == 3


def test_many_threads_catch_up_at_once() -> None:
    for number in range(6):
        Dataset.from_dict({"x": [number]}).save(f"d{number}")
    lake = Lake.current()
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: Registry(lake).query().count(), range(8)))
    assert counts == [6] * 8
    with Registry(lake).read() as connection:
        rows = connection.execute(select(RECORD.c.latest, RECORD.c.presence)).all()
    assert [tuple(row) for row in rows] == [(True, Presence.PRESENT)] * 6


def test_the_same_content_saved_by_eight_processes_at_once_is_one_record() -> None:
    said = finish_all([Program(SAVE, number) for number in range(8)])
    registry = Registry.open()
    assert {each.strip() for each in said} == {registry.query().one().uid}
    with registry.read() as connection:
        assert connection.scalar(select(CLAIM.c.hash)) is None


FACADE = """
import sys
import pandas as pd
import lakefeed.registry as ln
dataset = ln.Dataset(pd.DataFrame({"x": range(100)}), name="same", labels=["red", ln.ULabel("cat", type="Species")])
dataset.save()
file = ln.File("one.txt", key="one.txt")
file.save()
files = ln.Dataset([ln.File("one.txt"), ln.File("two.txt", labels=["part"])], name="files")
files.save()
first = ln.Dataset.filter(name="numbers").first()
for step in range(2):
    ln.Dataset(pd.DataFrame({"x": [int(sys.argv[1]) * 100 + step]}), is_new_version_of=first).save()
print(dataset.uid, file.uid, files.uid, *(each.uid for each in files.files))
"""


def test_records_that_many_processes_save_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        Path(f"{name}.txt").write_text(name)
    first = ln.Dataset(pd.DataFrame({"x": [-1]}), name="numbers")
    first.save()
    printed = finish_all([Program(FACADE, number) for number in range(5)])
    assert len(set(printed)) == 1
    dataset = ln.Dataset.filter(name="same").one()
    assert [(each.type, each.name) for each in dataset.labels] == [("", "red"), ("Species", "cat")]
    assert ln.File.filter(latest=True).count() == 2
    assert sorted(int(each.version) for each in first.versions) == list(range(1, 12))
    assert [file.load() for file in ln.Dataset.filter(name="files").one().files] == ["one", "two"]
    with Registry.open().read() as connection:
        assert connection.scalar(select(CLAIM.c.hash)) is None
