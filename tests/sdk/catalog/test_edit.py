"""Edits of rows that are there: one snapshot each, whatever others do meanwhile, and plain Iceberg to all others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.table import Table

from lakefeed.catalog import (
    DatasetVersion,
    Draft,
    Fence,
    Lake,
    Provenance,
    added_rows,
    append,
    create,
    data_files,
    edit,
    fence_value,
    list_versions,
    removed_rows,
    restore,
)
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.snapshot_builder import Contents
from lakefeed.errors import CommitConflictError, FenceError, VersionNotFoundError

SCHEMA = pa.schema([("x", pa.int64())])


def rows(*values: int) -> list[pa.RecordBatch]:
    return [pa.record_batch({"x": pa.array(values, pa.int64())})]


def add(lake: Lake, *values: int) -> DatasetVersion:
    return append(lake, "t", rows(*values), schema=SCHEMA)


def grow(lake: Lake, *groups: list[int]) -> None:
    create(lake, "t", SCHEMA, rows(*groups[0]))
    for group in groups[1:]:
        add(lake, *group)


def content(file: DataFileRef) -> list[int]:
    return [int(value) for value in pq.read_table(local_path(file.path))["x"].to_pylist()]


def values(lake: Lake, snapshot_id: int | None = None) -> list[int]:
    """All rows, in order."""
    return [value for file in data_files(lake, lake.table("t"), snapshot_id) for value in content(file)]


def without(*unwanted: int) -> Callable[[Draft], None]:
    def revise(draft: Draft) -> None:
        for file in draft.files:
            held = content(file)
            places = np.array([place for place, value in enumerate(held) if value in unwanted], np.int64)
            draft.drop(file, places, lambda held=held: rows(*held))

    return revise


def delete(lake: Lake, *unwanted: int, **how: Any) -> DatasetVersion:
    return edit(lake, "t", without(*unwanted), **how)


def files(home: Path) -> set[Path]:
    return {path for path in home.rglob("*") if path.is_file() and path.name != "catalog.db"}


@pytest.fixture
def plain(lake: Lake) -> Iterator[SqlCatalog]:
    """PyIceberg's own catalog on the same database."""
    lake.names()
    with SqlCatalog("lakefeed", uri=lake.settings.catalog_uri, warehouse=lake.settings.warehouse) as catalog:
        yield catalog


def meanwhile(
    lake: Lake, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch, times: int = 1
) -> Callable[[], int]:
    """Before each of the first commits another writer acts; tells how many commits were tried."""
    calls = [0]
    honest = type(lake.catalog).commit_table

    def commit(catalog: Catalog, *args: Any) -> Any:
        calls[0] += 1
        if calls[0] <= times:
            monkeypatch.setattr(type(lake.catalog), "commit_table", honest)
            act()
            monkeypatch.setattr(type(lake.catalog), "commit_table", commit)
        return honest(catalog, *args)

    monkeypatch.setattr(type(lake.catalog), "commit_table", commit)
    return lambda: calls[0]


# ------------------------------------------------------------------------------------------ one edit


def test_an_edit_is_one_version(lake: Lake) -> None:
    grow(lake, [1, 2, 3], [4, 5])
    version = delete(lake, 2, 4)
    assert (version.version, version.operation) == (3, "overwrite")
    assert (version.added_records, version.deleted_records, version.total_records) == (0, 2, 3)
    assert [v.version for v in list_versions(lake.table("t"))] == [3, 2, 1]


def test_rows_that_stay_keep_their_place(lake: Lake) -> None:
    grow(lake, [1, 2, 3], [4, 5], [6])
    delete(lake, 2)
    add(lake, 7)
    delete(lake, 3, 4)
    assert values(lake) == [1, 5, 6, 7]
    assert [file.sequence for file in data_files(lake, lake.table("t"))] == [1, 2, 3, 5]


def test_files_of_one_commit_keep_their_order(home: Path) -> None:
    from lakefeed.config import Settings

    lake = Lake(Settings.load(**{"write.file_bytes": 1, "write.row_group_rows": 2}))
    create(lake, "t", SCHEMA, rows(*range(12)))
    for unwanted in (3, 4, 11, 5, 0):
        delete(lake, unwanted)
    assert values(lake) == [1, 2, 6, 7, 8, 9, 10]
    names = [file.path.rpartition("/")[2] for file in data_files(lake, lake.table("t"))]
    assert max(len(name.split(".")) for name in names) == 3  # names do not grow with every edit
    lake.close()


def test_untouched_files_stay(lake: Lake) -> None:
    grow(lake, [1, 2], [3, 4], [5, 6])
    before = data_files(lake, lake.table("t"))
    delete(lake, 3)
    after = data_files(lake, lake.table("t"))
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1].path != before[1].path


def test_a_file_of_which_nothing_stays_goes(lake: Lake, home: Path) -> None:
    grow(lake, [1, 2], [3, 4])
    before = {path for path in files(home) if path.suffix == ".parquet"}
    version = delete(lake, 3, 4)
    assert (version.operation, version.deleted_records) == ("delete", 2)
    assert values(lake) == [1, 2]
    assert {path for path in files(home) if path.suffix == ".parquet"} == before


def test_an_edit_that_changes_nothing_makes_no_version(lake: Lake, home: Path) -> None:
    grow(lake, [1, 2])
    before = files(home)
    assert delete(lake, 9).version == 1
    assert files(home) == before


def test_old_versions_stay_as_they_were(lake: Lake) -> None:
    grow(lake, [1, 2, 3], [4])
    delete(lake, 2)
    delete(lake, 1, 3, 4)
    versions = {version.version: version.snapshot_id for version in list_versions(lake.table("t"))}
    assert [values(lake, versions[version]) for version in (1, 2, 3, 4)] == [[1, 2, 3], [1, 2, 3, 4], [1, 3, 4], []]


def test_rows_come_in_and_go_in_one_version(lake: Lake) -> None:
    grow(lake, [1, 2], [3])

    def revise(draft: Draft) -> None:
        without(1)(draft)
        draft.add("new", lambda: rows(10, 11))

    version = edit(lake, "t", revise, provenance=Provenance(run="r1", message="swap"))
    assert (version.added_records, version.deleted_records, version.total_records) == (2, 1, 4)
    assert (version.run, version.message) == ("r1", "swap")
    assert values(lake) == [2, 3, 10, 11]


def test_the_removed_rows_of_an_emptied_table(lake: Lake) -> None:
    grow(lake, [1, 2])
    assert delete(lake, 1, 2).total_records == 0
    assert values(lake) == []
    add(lake, 3)
    assert values(lake) == [3]


# ------------------------------------------------------------------------------------------ plain Iceberg


def summary(table: Table) -> dict[str, str]:
    return dict(table.metadata.current_snapshot().summary.additional_properties)


def test_totals_are_those_of_the_files(lake: Lake, plain: SqlCatalog) -> None:
    grow(lake, [1, 2, 3], [4, 5], [6])
    before = data_files(lake, lake.table("t"))
    delete(lake, 2, 6)
    table = plain.load_table("default.t")
    after = data_files(lake, lake.table("t"))
    facts = summary(table)
    assert {key: facts[key] for key in facts if not key.startswith("lakefeed.")} == {
        "added-data-files": "1",
        "added-files-size": str(after[0].size),
        "added-records": "2",
        "deleted-data-files": "2",
        "deleted-records": "4",
        "removed-files-size": str(before[0].size + before[2].size),
        "total-data-files": "2",
        "total-delete-files": "0",
        "total-equality-deletes": "0",
        "total-files-size": str(sum(file.size for file in after)),
        "total-position-deletes": "0",
        "total-records": "4",
    }
    assert sorted(table.scan().to_arrow()["x"].to_pylist()) == [1, 3, 4, 5]


def test_entries_are_as_iceberg_wants_them(lake: Lake) -> None:
    grow(lake, [1, 2], [3])
    delete(lake, 1)
    table = lake.table("t")
    snapshot = table.current_snapshot()
    entries = [
        entry
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
    ]
    told = {
        (e.status, e.sequence_number, e.file_sequence_number, e.snapshot_id == snapshot.snapshot_id) for e in entries
    }
    assert told == {
        (ManifestEntryStatus.ADDED, 1, 3, True),  # rows of version 1, in a file of version 3
        (ManifestEntryStatus.DELETED, 1, 1, True),
        (ManifestEntryStatus.ADDED, 2, 2, False),
    }
    assert min(manifest.min_sequence_number for manifest in snapshot.manifests(table.io)) == 1


def test_removed_files_are_named_once(lake: Lake) -> None:
    grow(lake, [1, 2], [3])
    delete(lake, 1)
    add(lake, 4)
    table = lake.table("t")
    ids = {table.current_snapshot().snapshot_id}
    for manifest in table.current_snapshot().manifests(table.io):
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
            assert entry.status != ManifestEntryStatus.DELETED or entry.snapshot_id not in ids


def test_plain_pyiceberg_goes_on_from_ours(lake: Lake, plain: SqlCatalog) -> None:
    grow(lake, [1, 2, 3], [4])
    delete(lake, 2)
    theirs = plain.load_table("default.t")
    theirs.append(pa.table({"x": [9]}))
    theirs.delete("x = 3")
    delete(lake, 9)
    assert sorted(values(lake)) == [1, 4]
    assert summary(lake.table("t"))["total-records"] == "2"
    assert sorted(plain.load_table("default.t").scan().to_arrow()["x"].to_pylist()) == [1, 4]


@pytest.mark.live
def test_many_edits_stay_readable(lake: Lake, plain: SqlCatalog) -> None:
    grow(lake, list(range(5)))
    for value in range(100, 170):
        add(lake, value)
        if value % 3 == 0:
            delete(lake, value - 1, value - 50)
    expected = [*range(5), *(value for value in range(100, 170) if value % 3 != 2 or value == 169)]
    expected = [value for value in expected if value + 50 not in range(102, 170, 3)]
    assert values(lake) == expected
    assert sorted(plain.load_table("default.t").scan().to_arrow()["x"].to_pylist()) == sorted(expected)


# ------------------------------------------------------------------------------------------ others at the same time


def test_rows_appended_meanwhile_are_looked_at(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(lake, [1, 2], [3])
    tried = meanwhile(lake, lambda: add(lake, 2, 7), monkeypatch)
    assert delete(lake, 2).version == 4
    assert tried() == 2
    assert values(lake) == [1, 3, 7]


def test_what_was_written_for_files_that_stay_is_used_again(
    lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(lake, [1, 2], [3])
    meanwhile(lake, lambda: add(lake, 5), monkeypatch)
    delete(lake, 2)
    assert len([path for path in files(home) if path.suffix == ".parquet"]) == 4


def test_a_file_that_another_edit_took_leaves_nothing(lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(lake, [1, 2, 3], [4])
    meanwhile(lake, lambda: delete(lake, 3), monkeypatch)
    delete(lake, 2)
    assert values(lake) == [1, 4]
    table = lake.table("t")
    named = {
        local_path(entry.data_file.file_path)
        for snapshot in table.metadata.snapshots
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
    }
    assert {path for path in files(home) if path.suffix == ".parquet"} == named


def test_an_edit_of_which_nothing_is_left_to_do(lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(lake, [1, 2])
    meanwhile(lake, lambda: delete(lake, 2), monkeypatch)
    assert delete(lake, 2).version == 2
    assert len([path for path in files(home) if path.suffix == ".parquet"]) == 2


def test_an_edit_that_always_loses_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakefeed.config import Settings

    lake = Lake(Settings.load(**{"commit.retries": 2, "commit.max_wait": 0}))
    grow(lake, [1, 2])
    before = files(home)

    def lose(*_: Any) -> None:
        raise CommitFailedException("lost")

    monkeypatch.setattr(type(lake.catalog), "commit_table", lose)
    with pytest.raises(CommitConflictError, match="gave up after 2"):
        delete(lake, 1)
    assert files(home) == before
    lake.close()


def test_an_edit_that_fails_leaves_nothing(lake: Lake, home: Path) -> None:
    grow(lake, [1, 2], [3, 4])
    before = files(home)

    def revise(draft: Draft) -> None:
        without(1)(draft)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        edit(lake, "t", revise)
    assert files(home) == before
    assert values(lake) == [1, 2, 3, 4]


def test_a_lost_answer_is_found(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(lake, [1, 2])
    honest = type(lake.catalog).commit_table

    def commit(catalog: Catalog, *args: Any) -> Any:
        honest(catalog, *args)
        raise TimeoutError("no answer")

    monkeypatch.setattr(type(lake.catalog), "commit_table", commit)
    assert delete(lake, 1).version == 2
    assert values(lake) == [2]


def test_an_idempotency_key_edits_once(lake: Lake) -> None:
    grow(lake, [1, 2])
    first = delete(lake, 1, idempotency_key="k")
    add(lake, 1)
    assert delete(lake, 1, idempotency_key="k") == first
    assert values(lake) == [2, 1]


def test_a_fence_lets_an_edit_pass_once(lake: Lake) -> None:
    grow(lake, [1, 2])
    assert delete(lake, 9, fence=Fence("f", None, "a")).version == 2  # a fenced action always makes a version
    assert delete(lake, 1, fence=Fence("f", "a", "b")).version == 3
    with pytest.raises(FenceError):
        delete(lake, 2, fence=Fence("f", "a", "c"))
    assert fence_value(lake.table("t"), "f") == "b"
    assert values(lake) == [2]


# ------------------------------------------------------------------------------------------ restoring


def test_restore_brings_rows_and_their_order_back(lake: Lake, home: Path) -> None:
    grow(lake, [1, 2, 3], [4, 5])
    delete(lake, 2, 5)
    add(lake, 6)
    before = {path for path in files(home) if path.suffix == ".parquet"}
    version = restore(lake, "t", 2, provenance=Provenance(message="oops"))
    assert (version.version, version.message, version.total_records) == (5, "oops", 5)
    assert values(lake) == [1, 2, 3, 4, 5]
    assert {path for path in files(home) if path.suffix == ".parquet"} == before
    assert restore(lake, "t", 4).version == 6
    assert values(lake) == [1, 3, 4, 6]


def test_restore_of_what_is_there_makes_no_version(lake: Lake) -> None:
    grow(lake, [1], [2])
    assert restore(lake, "t", 2).version == 2
    assert restore(lake, "t", 2, fence=Fence("f", None, "a")).version == 3


def test_restore_takes_what_was_appended_meanwhile(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(lake, [1], [2])
    meanwhile(lake, lambda: add(lake, 3), monkeypatch)
    assert restore(lake, "t", 1).version == 4
    assert values(lake) == [1]


def test_restore_of_no_version(lake: Lake) -> None:
    grow(lake, [1])
    with pytest.raises(VersionNotFoundError, match="no version 7"):
        restore(lake, "t", 7)


def test_restored_rows_are_not_added_again(lake: Lake) -> None:
    grow(lake, [1], [2])
    delete(lake, 1)
    restore(lake, "t", 2)
    assert added_rows(lake.table("t"), 2, None) == ()
    assert [content(file) for delta in added_rows(lake.table("t")) for file in delta.files] == [[1], [2]]


# ------------------------------------------------------------------------------------------ what changed, by files


def test_an_edit_adds_its_new_files_only(lake: Lake) -> None:
    grow(lake, [1, 2], [3])

    def revise(draft: Draft) -> None:
        without(1)(draft)
        draft.add("new", lambda: rows(10))

    edit(lake, "t", revise)
    (delta,) = added_rows(lake.table("t"), 2, 3)
    assert ([content(file) for file in delta.files], delta.less) == ([[10]], ())
    (delta,) = removed_rows(lake.table("t"), 2, 3)
    assert [content(file) for file in delta.files] == [[1, 2]]
    assert [content(file) for file in delta.less] == [[2]]


def test_compaction_adds_and_removes_nothing(lake: Lake) -> None:
    grow(lake, [1], [2], [3])
    before = added_rows(lake.table("t"))
    _compact(lake)
    assert lake.table("t").current_snapshot().summary.operation.value == "replace"
    assert added_rows(lake.table("t")) == before
    assert added_rows(lake.table("t"), 3, 4) == ()
    assert removed_rows(lake.table("t"), 1, None) == ()
    assert sorted(values(lake)) == [1, 2, 3]
    assert summary(lake.table("t"))["total-records"] == "3"
    add(lake, 4)
    assert [content(file) for delta in added_rows(lake.table("t"), 2, None) for file in delta.files] == [[3], [4]]


def _compact(lake: Lake) -> None:
    from lakefeed.catalog.action import Action
    from lakefeed.catalog.commit_retry import commit_with_retry
    from lakefeed.catalog.snapshot_builder import SnapshotBuilder
    from lakefeed.catalog.table_rows import write_rows

    table = lake.table("t")
    builder = SnapshotBuilder(table, {})
    with builder.discard_on_failure():
        written = write_rows(lake, table, SCHEMA, builder, rows(*values(lake)))
        gone = {file.path: file.manifest for file in data_files(lake, table)}
        builder.contents = Contents(written, removed=gone, replaces=True)
        commit_with_retry(lake, "t", table, builder, Action())
