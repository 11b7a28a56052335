"""A keyed table is a dataset: what works on datasets works on it, and it keeps its key whoever writes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table, collect_garbage, compute, demo
from lakefeed.compute import Processes
from lakefeed.errors import CommitConflictError, DuplicateKeyError, InvalidArgumentError, UnsupportedError
from lakefeed.routines import Routine, run_routine
from tests.sdk.processes import Program, finish_all


@pytest.fixture
def table(home: Path) -> Table:
    table = Table.create("photos", key_schema={"id": pa.int64()})
    table.write({"id": list(range(100)), "x": [float(n) for n in range(100)]})
    return table


def test_versions_tags_changes_and_restoring(table: Table) -> None:
    photos = Dataset("photos")
    table.write({"id": [5, 200], "x": [55.0, 200.0]})
    table.delete_keys([7])
    assert [each.version for each in photos.list_versions()] == [4, 3, 2, 1]
    assert photos.added_since(2).to_arrow().sort_by("id").to_pydict() == {"id": [5, 200], "x": [55.0, 200.0]}
    assert sorted(photos.removed_since(2).to_arrow()["id"].to_pylist()) == [5, 7]
    changes = photos.changes(2, keys="id")
    assert (changes.added, changes.removed) == (1, 1)
    Dataset("photos", version=2).tag("first")
    photos.restore("first")
    assert table.scan().to_table()["x"].to_pylist() == [float(n) for n in range(100)]
    assert table.scan(asof="first").to_table().num_rows == len(photos) == 100


def copied(rows: Dataset) -> Iterator[pa.RecordBatch]:
    yield from rows.batches(format="arrow")


def test_routines_read_the_rows_that_are_new_or_changed(table: Table) -> None:
    routine = Routine("copy", copied, "photos", "copies")
    run_routine(routine)
    table.write({"id": [5, 300], "x": [-5.0, -300.0]})
    run_routine(routine)
    assert run_routine(routine) is None
    assert Dataset("copies").count() == 102
    assert Dataset("copies").slice(100).sort("id").to_arrow()["id"].to_pylist() == [5, 300]


def test_caches_and_loaders_with_exact_resume(table: Table) -> None:
    pytest.importorskip("torch")
    table.write({"id": [5, 7], "x": [55.0, 77.0]})
    table.delete_keys([9])
    expected = Dataset("photos").to_arrow()
    assert Dataset("photos").cache().to_arrow() == expected
    loader = Dataset("photos").shuffle(seed=3).to_torch(batch_size=10)
    batches = [batch["id"].tolist() for batch in Dataset("photos").shuffle(seed=3).to_torch(batch_size=10)]
    first = iter(loader)
    assert [next(first)["id"].tolist() for _ in range(4)] == batches[:4]
    resumed = Dataset("photos").shuffle(seed=3).to_torch(batch_size=7)
    resumed.load_state_dict(loader.state_dict())
    rest = [each for batch in resumed for each in batch["id"].tolist()]
    assert rest == [each for batch in batches[4:] for each in batch]
    assert sorted(each for batch in batches for each in batch) == sorted(expected["id"].to_pylist())


def test_garbage_collection_keeps_the_files_of_all_versions(home: Path) -> None:
    images = demo.images()
    images.write({"id": [0], "label": ["changed"]})
    images.delete_keys([1])
    collect_garbage(dry_run=False, grace=dt.timedelta(0))
    for version in (2, 3, 4):
        loaded = images.as_dataset(version).load_files("bytes").to_arrow()["image"]
        assert all(each.startswith(b"\x89PNG") for each in loaded.to_pylist())


def test_a_keyed_dataset_keeps_its_key_whoever_writes(table: Table) -> None:
    rows = Dataset.from_dict({"id": [99, 100, 100], "x": [0.0, 1.0, 2.0]})
    for wrong in (rows.head(2), rows.slice(1)):
        with pytest.raises(DuplicateKeyError, match=r"'id': (99|100)"):
            wrong.append_to("photos")
    with pytest.raises(InvalidArgumentError, match="key of 'photos' is 'id'"):
        rows.upsert_into("photos", keys="x")
    assert table.snapshot().version == 2
    rows.slice(1, 2).append_to("photos")
    rows.head(1).upsert_into("photos")
    Dataset.from_dict({"id": [1]}).save("plain")
    with pytest.raises(InvalidArgumentError, match=r"'plain' has no key.*keys=.*'id'"):
        rows.head(1).upsert_into("plain")
    assert table.scan(where="id >= 99").to_table().to_pydict() == {"id": [99, 100], "x": [0.0, 1.0]}
    assert table.scan().to_table().num_rows == 101
    with pytest.raises(DuplicateKeyError, match="100"):
        rows.overwrite("photos")
    for write in (compute.append_to, partial(compute.save, if_exists="new_version")):
        with pytest.raises(UnsupportedError, match="'photos' has the key 'id'"):
            write(Dataset.from_dict({"id": [7], "x": [7.0]}), "photos", engine=Processes(1))
    assert table.snapshot().version == 4
    Dataset.from_dict({"id": [9, 3, 5], "x": [9.0, 3.0, 5.0]}).overwrite("photos")
    assert table.scan().to_table().to_pydict() == {"id": [3, 5, 9], "x": [3.0, 5.0, 9.0]}
    assert len(Dataset("photos", version=4)) == 101
    with pytest.raises(CommitConflictError):
        Dataset("photos", version=4).overwrite("photos")
    photos = Dataset("photos")
    photos.filter("id > 3").overwrite("photos")
    table.write({"id": [4], "x": [4.0]})
    assert table.scan().to_table()["id"].to_pylist() == [4, 5, 9]


WRITER = """
import sys
from lakefeed import Table
table, me = Table("raced"), int(sys.argv[1])
for turn in range(int(sys.argv[2])):
    table.write({"id": [turn], f"by{me}": [turn]})
"""


def race(writers: int, turns: int) -> None:
    Table.create("raced", key_schema={"id": pa.int64()}).write({"id": [-1], **{f"by{n}": [0] for n in range(writers)}})
    finish_all([Program(WRITER, number, turns) for number in range(writers)])
    rows = Table("raced").scan(where="id >= 0").to_table().to_pydict()
    assert rows == {"id": list(range(turns)), **{f"by{n}": list(range(turns)) for n in range(writers)}}
    assert Table("raced").snapshot().version == 2 + writers * turns


@pytest.mark.live
def test_racing_writers_of_one_new_key_make_one_row(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__COMMIT__RETRIES", "1000")
    race(4, 5)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_racing_writers_of_new_keys_make_one_row_each(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__COMMIT__RETRIES", "1000")
    race(8, 25)
