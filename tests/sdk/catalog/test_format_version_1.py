"""Tables of format version 1, in which Iceberg numbers no snapshot: their versions have numbers all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table.snapshots import Snapshot

from lakefeed import Dataset
from lakefeed.catalog import Lake
from lakefeed.catalog.version_numbers import version_numbers
from lakefeed.routines import Routine, run_routine


@pytest.fixture
def plain(lake: Lake) -> Iterator[SqlCatalog]:
    """PyIceberg's own catalog on the same database."""
    lake.names()
    with SqlCatalog("lakefeed", uri=lake.settings.catalog_uri, warehouse=lake.settings.warehouse) as catalog:
        yield catalog


def rows(*values: int) -> pa.Table:
    return pa.table({"x": pa.array(values, pa.int64())})


def make(plain: SqlCatalog, commits: int) -> None:
    table = plain.create_table("default.t", rows().schema, properties={"format-version": "1"})
    for number in range(commits):
        table.append(rows(10 * number, 10 * number + 1))


def read(dataset: Dataset) -> list[int]:
    values: list[int] = dataset.to_arrow()["x"].to_pylist()
    return values


def numbers() -> list[int]:
    return [version.version for version in Dataset("t").list_versions()]


def test_versions_of_other_writers_are_numbered_in_order(plain: SqlCatalog) -> None:
    make(plain, 3)
    assert numbers() == [3, 2, 1]
    assert [read(Dataset("t", version=number)) for number in (1, 2)] == [[0, 1], [0, 1, 10, 11]]
    assert read(Dataset("t")) == [0, 1, 10, 11, 20, 21]
    assert read(Dataset("t").added_since(1)) == [10, 11, 20, 21]
    assert read(Dataset("t").added_since(1, 2)) == [10, 11]
    Dataset("t", version=2).tag("good")
    assert Dataset("t", version="good").version == 2
    assert read(Dataset("t", as_of=Dataset("t").list_versions()[1].timestamp_ms)) == [0, 1, 10, 11]
    table = plain.load_table("default.t")
    assert table.format_version == 1
    stored = json.loads(Path(table.metadata_location.removeprefix("file://")).read_text())["snapshots"]
    assert not any(snapshot.get("sequence-number") for snapshot in stored), "a reader must not write numbers"


def test_a_write_upgrades_the_table_and_changes_no_number(plain: SqlCatalog) -> None:
    make(plain, 2)
    plain.load_table("default.t").delete("x = 0")
    assert numbers() == [3, 2, 1]
    assert read(Dataset("t").removed_since(2)) == [0]
    assert Dataset.from_dict({"x": [99]}).append_to("t").version == 4
    table = plain.load_table("default.t")
    assert (table.format_version, table.metadata.last_sequence_number) == (2, 4)
    Dataset("t").delete_rows("x == 11")
    table = plain.load_table("default.t")
    table.append(rows(7))
    assert numbers() == [6, 5, 4, 3, 2, 1]
    assert read(Dataset("t", version=2)) == [0, 1, 10, 11]
    assert read(Dataset("t")) == [10, 1, 99, 7]
    assert sorted(table.scan().to_arrow()["x"].to_pylist()) == [1, 7, 10, 99]
    assert read(Dataset("t").added_since(3)) == [99, 7]
    assert Dataset("t").restore(2).version == 7
    assert sorted(read(Dataset("t"))) == [0, 1, 10, 11]
    table.refresh().maintenance.expire_snapshots().by_id(table.metadata.snapshots[0].snapshot_id).commit()
    assert numbers() == [7, 6, 5, 4, 3, 2]


def test_numbers_stay_when_another_program_upgrades_the_table(plain: SqlCatalog) -> None:
    make(plain, 3)
    table = plain.load_table("default.t")
    with table.transaction() as upgrade:
        upgrade.upgrade_table_version(2)
    table.append(rows(30))
    table.append(rows(40))
    assert [snapshot.sequence_number for snapshot in table.metadata.snapshots] == [0, 0, 0, 1, 2]
    assert numbers() == [5, 4, 3, 2, 1]
    assert read(Dataset("t")) == [0, 1, 10, 11, 20, 21, 30, 40]
    assert read(Dataset("t").added_since(2, 4)) == [20, 21, 30]
    assert Dataset.from_dict({"x": [50]}).append_to("t").version == 6
    assert read(Dataset("t").added_since(4)) == [40, 50]


def test_a_number_that_was_rolled_back_is_not_used_again(plain: SqlCatalog) -> None:
    make(plain, 3)
    table = plain.load_table("default.t")
    table.manage_snapshots().rollback_to_snapshot(table.metadata.snapshots[0].snapshot_id).commit()
    assert numbers() == [1]
    table.append(rows(7))
    assert numbers() == [4, 1]
    assert read(Dataset("t")) == [0, 1, 7]


def test_a_routine_reads_every_row_once(plain: SqlCatalog) -> None:
    doubled = Routine("double", lambda given: pa.table({"x": pc.multiply(given.to_arrow()["x"], 2)}), "t", "doubles")
    make(plain, 2)
    run_routine(doubled)
    table = plain.load_table("default.t")
    table.append(rows(30))
    run_routine(doubled)
    Dataset.from_dict({"x": [40]}).append_to("t")
    run_routine(doubled)
    assert run_routine(doubled) is None
    assert read(Dataset("doubles")) == [0, 2, 20, 22, 60, 80]


def test_numbers_follow_the_parents_where_clocks_differ() -> None:
    def snapshot(key: int, parent: int | None, at: int, sequence: int = 0) -> Snapshot:
        return Snapshot(
            snapshot_id=key, parent_snapshot_id=parent, timestamp_ms=at, manifest_list="", sequence_number=sequence
        )

    shuffled = [snapshot(9, 5, 50), snapshot(7, None, 100), snapshot(5, 7, 100), snapshot(3, 9, 60, sequence=2)]
    assert version_numbers(shuffled) == {7: 1, 5: 2, 9: 3, 3: 4}
