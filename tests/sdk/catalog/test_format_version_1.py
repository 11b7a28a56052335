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
from lakefeed.errors import StateMismatchError
from lakefeed.routines import Routine, position, run_routine


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


def expire(plain: SqlCatalog, *places: int) -> None:
    """Expires the snapshots at these places of the metadata."""
    table = plain.load_table("default.t")
    chosen = [table.metadata.snapshots[place].snapshot_id for place in places]
    table.maintenance.expire_snapshots().by_ids(chosen).commit()


def test_a_routine_reads_every_row_once_whatever_snapshots_expire(plain: SqlCatalog) -> None:
    doubled = Routine("double", lambda given: pa.table({"x": pc.multiply(given.to_arrow()["x"], 2)}), "t", "doubles")
    make(plain, 3)
    run_routine(doubled)
    expire(plain, 0)
    assert run_routine(doubled) is None
    table = plain.load_table("default.t")
    table.append(rows(30))
    assert numbers() == [3, 2, 1], "the number that was read last is another version now"
    run_routine(doubled)
    assert read(Dataset("doubles")) == [0, 2, 20, 22, 40, 42, 60]
    table.refresh().append(rows(40))
    table.append(rows(50, 51))
    expire(plain, 0, 1, 3)
    assert numbers() == [2, 1]
    run_routine(doubled)
    assert run_routine(doubled) is None
    assert read(Dataset("doubles"))[7:] == [80, 100, 102]
    with table.refresh().transaction() as upgrade:
        upgrade.upgrade_table_version(2)
    table.append(rows(60))
    expire(plain, 0)
    run_routine(doubled)
    assert read(Dataset("doubles"))[10:] == [120]
    table.refresh().append(rows(70))
    expire(plain, 0)
    assert numbers() == [2, 1]
    run_routine(doubled)
    Dataset.from_dict({"x": [80]}).append_to("t")
    expire(plain, 0, 1)
    run_routine(doubled)
    assert run_routine(doubled) is None
    assert read(Dataset("doubles"))[11:] == [140, 160]


def test_a_position_inside_a_version_stays_when_older_snapshots_expire(plain: SqlCatalog) -> None:
    halves = Routine("halves", lambda given: given, "t", "copies", max_rows_per_run=2)
    make(plain, 2)
    run_routine(halves)
    table = plain.load_table("default.t")
    table.append(rows(20, 21, 22))
    for _ in range(2):
        run_routine(halves)
    table.append(rows(30))
    expire(plain, 0)
    while run_routine(halves) is not None:
        pass
    assert read(Dataset("copies")) == [0, 1, 10, 11, 20, 21, 22, 30]


def test_a_position_whose_snapshot_has_expired_is_told(plain: SqlCatalog) -> None:
    copy = Routine("copy", lambda given: given, "t", "copies")
    make(plain, 2)
    run_routine(copy)
    table = plain.load_table("default.t")
    for value in (20, 30):
        table.append(rows(value))
    expire(plain, 0, 1)
    with pytest.raises(StateMismatchError, match=r"'t' are read up to snapshot .* expired"):
        run_routine(copy)
    with pytest.raises(StateMismatchError, match="expired"):
        position(copy)
    assert read(Dataset("copies")) == [0, 1, 10, 11]
    Dataset("copies").delete()
    run_routine(copy)
    assert sorted(read(Dataset("copies"))) == [0, 1, 10, 11, 20, 30]
    Dataset.from_dict({"x": [40]}).append_to("t")  # which stores the numbers
    table.refresh().append(rows(50))
    expire(plain, 0, 1, 2)
    run_routine(copy)
    assert run_routine(copy) is None
    assert read(Dataset("copies"))[6:] == [40, 50]


def test_rows_of_expired_versions_are_among_those_added(plain: SqlCatalog) -> None:
    make(plain, 3)
    expire(plain, 1)
    assert read(Dataset("t").added_since(1)) == [10, 11, 20, 21]
    assert read(Dataset("t").added_since()) == [0, 1, 10, 11, 20, 21]


def test_numbers_follow_the_parents_where_clocks_differ() -> None:
    def snapshot(key: int, parent: int | None, at: int, sequence: int = 0) -> Snapshot:
        return Snapshot(
            snapshot_id=key, parent_snapshot_id=parent, timestamp_ms=at, manifest_list="", sequence_number=sequence
        )

    shuffled = [snapshot(9, 5, 50), snapshot(7, None, 100), snapshot(5, 7, 100), snapshot(3, 9, 60, sequence=2)]
    assert version_numbers(shuffled) == {7: 1, 5: 2, 9: 3, 3: 4}
