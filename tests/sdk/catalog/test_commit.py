"""One action, one version: creating, appending, keys, fences, conflicts and failures."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException

from lakefeed.catalog import (
    DatasetVersion,
    Fence,
    Lake,
    Provenance,
    append,
    create,
    fence_value,
    list_versions,
    update_properties,
)
from lakefeed.catalog.embedded_tables import EmbeddedTables
from lakefeed.config import Settings
from lakefeed.errors import (
    ColumnNotFoundError,
    CommitConflictError,
    DatasetExistsError,
    DatasetNotFoundError,
    FenceError,
    InvalidArgumentError,
    UnsupportedError,
)

SCHEMA = pa.schema([("x", pa.int64())])


def rows(*values: int) -> list[pa.RecordBatch]:
    return [pa.record_batch({"x": pa.array(values, pa.int64())})]


def add(lake: Lake, *values: int, name: str = "t", **how: Any) -> DatasetVersion:
    return append(lake, name, rows(*values), schema=SCHEMA, **how)


def values(lake: Lake, name: str = "t") -> list[int]:
    return sorted(lake.table(name).scan().to_arrow()["x"].to_pylist())


def files(home: Path) -> set[Path]:
    return {path for path in home.rglob("*") if path.is_file() and path.name != "catalog.db"}


def failing() -> Iterator[pa.RecordBatch]:
    yield from rows(1, 2, 3)
    raise RuntimeError("the input broke")


class Rival:
    """Makes commits of the lake lose: before each of the first ``times``, ``act`` is called."""

    def __init__(self, lake: Lake, times: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        honest = type(lake.catalog).commit_table

        def commit(catalog: Catalog, *args: Any) -> Any:
            self.calls += 1
            if self.calls <= times:
                monkeypatch.setattr(type(lake.catalog), "commit_table", honest)
                act()
                monkeypatch.setattr(type(lake.catalog), "commit_table", commit)
            return honest(catalog, *args)

        monkeypatch.setattr(type(lake.catalog), "commit_table", commit)


def test_create_makes_version_one(lake: Lake) -> None:
    version = create(lake, "t", SCHEMA, rows(1, 2), description="two rows", properties={"team": "a"})
    assert (version.version, version.added_records, version.total_records) == (1, 2, 2)
    assert (version.operation, version.parent_id) == ("append", None)
    assert lake.table("t").properties["lakefeed.description"] == "two rows"
    assert lake.table("t").properties["team"] == "a"


def test_create_of_nothing_makes_version_one(lake: Lake) -> None:
    assert create(lake, "t", SCHEMA, []).version == 1
    assert create(lake, "u", SCHEMA, [pa.RecordBatch.from_pylist([], SCHEMA)]).total_records == 0
    assert values(lake) == []


def test_create_of_a_taken_name_changes_nothing(lake: Lake, home: Path) -> None:
    create(lake, "t", SCHEMA, rows(1))
    before = files(home)
    with pytest.raises(DatasetExistsError, match="'t' exists already"):
        create(lake, "t", SCHEMA, failing())
    assert files(home) == before


def test_failed_create_leaves_nothing(lake: Lake, home: Path) -> None:
    with pytest.raises(RuntimeError, match="the input broke"):
        create(lake, "t", SCHEMA, failing())
    assert lake.names() == []
    assert files(home) == set()


def test_create_that_loses_the_race_leaves_nothing(lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Rival(lake, 1, lambda: create(lake, "t", SCHEMA, rows(7)), monkeypatch)
    with pytest.raises(DatasetExistsError):
        create(lake, "t", SCHEMA, rows(1))
    assert values(lake) == [7]
    assert len({path.parent.parent for path in files(home)}) == 1


def test_column_types_must_name_columns(lake: Lake) -> None:
    with pytest.raises(ColumnNotFoundError, match="'img'"):
        create(lake, "t", SCHEMA, [], column_types={"img": "image"})


def test_append_makes_the_next_version(lake: Lake) -> None:
    create(lake, "t", SCHEMA, rows(1))
    version = add(lake, 2, 3)
    assert (version.version, version.added_records, version.total_records) == (2, 2, 3)
    assert list_versions(lake.table("t"))[0] == version
    assert values(lake) == [1, 2, 3]


def test_append_to_nothing_is_an_error(lake: Lake) -> None:
    with pytest.raises(DatasetNotFoundError):
        add(lake, 1)


def test_append_of_no_rows_is_no_version(lake: Lake) -> None:
    version = create(lake, "t", SCHEMA, rows(1))
    assert append(lake, "t", [], schema=SCHEMA) == version
    assert len(list_versions(lake.table("t"))) == 1


def test_failed_append_leaves_nothing(lake: Lake, home: Path) -> None:
    create(lake, "t", SCHEMA, rows(1))
    before = files(home)
    with pytest.raises(RuntimeError, match="the input broke"):
        append(lake, "t", failing(), schema=SCHEMA)
    assert files(home) == before
    assert len(list_versions(lake.table("t"))) == 1


def test_provenance_stays_with_the_version(lake: Lake) -> None:
    by = Provenance(run="r1", code="abc", message="first rows")
    create(lake, "t", SCHEMA, [], provenance=by)
    version = list_versions(lake.table("t"))[0]
    assert (version.run, version.user, version.code, version.message) == ("r1", getpass.getuser(), "abc", "first rows")


# ------------------------------------------------------------------------------------------ conflicts


def test_losing_a_race_costs_no_row_and_leaves_no_file(lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(lake, "t", SCHEMA, rows(0))
    Rival(lake, 3, lambda: add(lake, 7), monkeypatch)
    version = add(lake, 1)
    assert (version.version, version.total_records) == (5, 5)
    assert values(lake) == [0, 1, 7, 7, 7]
    assert_all_referenced(lake, home)


def test_losing_always_is_reported_and_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(Settings.load(**{"commit.retries": 2, "commit.max_wait": 0.01}))
    create(lake, "t", SCHEMA, rows(0))
    rival = Rival(lake, 99, lambda: add(lake, 7), monkeypatch)
    with pytest.raises(CommitConflictError, match="gave up after 2 retries"):
        add(lake, 1)
    assert rival.calls == 3
    assert values(lake) == [0, 7, 7, 7]
    assert_all_referenced(lake, home)


def test_the_input_is_read_once_however_often_the_commit_is_tried(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    create(lake, "t", SCHEMA, [])
    Rival(lake, 2, lambda: add(lake, 7), monkeypatch)
    assert append(lake, "t", iter(rows(1, 2)), schema=SCHEMA).added_records == 2


def test_property_edits_do_not_disturb_an_append(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    create(lake, "t", SCHEMA, [])
    Rival(lake, 1, lambda: update_properties(lake, "t", {"a": "1"}), monkeypatch)
    add(lake, 1)
    assert lake.table("t").properties["a"] == "1"
    assert values(lake) == [1]


def test_dataset_deleted_meanwhile_is_an_error_and_leaves_nothing(
    lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(lake, "t", SCHEMA, [])
    Rival(lake, 1, lambda: lake.drop("t"), monkeypatch)
    with pytest.raises(DatasetNotFoundError):
        add(lake, 1)
    assert files(home) == set()


def test_dataset_replaced_meanwhile_is_an_error(lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace() -> None:
        lake.drop("t")
        create(lake, "t", SCHEMA, rows(9))

    create(lake, "t", SCHEMA, [])
    Rival(lake, 1, replace, monkeypatch)
    with pytest.raises(DatasetNotFoundError, match="created again"):
        add(lake, 1)
    assert values(lake) == [9]
    assert_all_referenced(lake, home)


def assert_all_referenced(lake: Lake, home: Path) -> None:
    """Every file in the warehouse belongs to a snapshot or to the metadata log."""
    metadata = lake.table("t").metadata
    io = lake.table("t").io
    known = {lake.table("t").metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    for snapshot in metadata.snapshots:
        known.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(io):
            known.add(manifest.manifest_path)
            known |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(io)}
    assert {f"file://{path}" for path in files(home)} == known


# ------------------------------------------------------------------------------------------ lost answers


class _LostAnswerError(OSError):
    """The connection broke."""


def lose_answers(lake: Lake, monkeypatch: pytest.MonkeyPatch, landing: bool, error: type[BaseException]) -> None:
    honest = type(lake.catalog).commit_table

    def commit(catalog: Catalog, *args: Any) -> Any:
        monkeypatch.setattr(type(lake.catalog), "commit_table", honest)
        if landing:
            honest(catalog, *args)
        raise error("lost")

    monkeypatch.setattr(type(lake.catalog), "commit_table", commit)


@pytest.mark.parametrize("error", [_LostAnswerError, CommitFailedException])
def test_commit_that_landed_without_an_answer_counts_once(
    lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    create(lake, "t", SCHEMA, [])
    lose_answers(lake, monkeypatch, landing=True, error=error)
    assert add(lake, 1).version == 2
    assert values(lake) == [1]
    assert_all_referenced(lake, home)


def test_create_that_landed_without_an_answer_counts(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.names()
    lose_answers(lake, monkeypatch, landing=True, error=_LostAnswerError)
    assert create(lake, "t", SCHEMA, rows(1)).version == 1
    assert values(lake) == [1]


def test_commit_that_broke_before_landing_leaves_nothing(
    lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(lake, "t", SCHEMA, [])
    before = files(home)
    lose_answers(lake, monkeypatch, landing=False, error=_LostAnswerError)
    with pytest.raises(_LostAnswerError):
        add(lake, 1)
    assert files(home) == before


def test_interrupt_after_landing_keeps_the_rows(lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(lake, "t", SCHEMA, [])
    lose_answers(lake, monkeypatch, landing=True, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        add(lake, 1)
    assert values(lake) == [1]
    assert_all_referenced(lake, home)


def test_unknown_outcome_removes_nothing(lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(lake, "t", SCHEMA, [])
    lose_answers(lake, monkeypatch, landing=True, error=_LostAnswerError)
    with monkeypatch.context() as patch:
        loads = iter([EmbeddedTables.load_table])

        def load(tables: EmbeddedTables, *args: Any) -> Any:
            return next(loads, _unreachable)(tables, *args)

        patch.setattr(EmbeddedTables, "load_table", load)
        patch.setattr(type(lake.catalog), "load_table", _unreachable)
        with pytest.raises(_LostAnswerError):
            add(lake, 1)
    assert values(lake) == [1]


def _unreachable(*_: Any) -> Any:
    raise _LostAnswerError("still no connection")


# ------------------------------------------------------------------------------------------ idempotency keys


def test_the_same_key_writes_once(lake: Lake, home: Path) -> None:
    create(lake, "t", SCHEMA, [])
    first = add(lake, 1, idempotency_key="k1")
    add(lake, 2)
    before = files(home)
    assert add(lake, 1, idempotency_key="k1") == first
    assert files(home) == before
    assert values(lake) == [1, 2]


def test_the_same_key_creates_once(lake: Lake) -> None:
    first = create(lake, "t", SCHEMA, rows(1), idempotency_key="k1")
    assert create(lake, "t", SCHEMA, rows(1), idempotency_key="k1") == first
    with pytest.raises(DatasetExistsError):
        create(lake, "t", SCHEMA, rows(1), idempotency_key="k2")
    assert values(lake) == [1]


def test_the_same_key_in_a_race_writes_once(lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(lake, "t", SCHEMA, [])
    Rival(lake, 1, lambda: add(lake, 1, idempotency_key="k1"), monkeypatch)
    assert add(lake, 1, idempotency_key="k1").version == 2
    assert values(lake) == [1]
    assert_all_referenced(lake, home)


def test_a_key_that_was_rolled_back_may_write_again(lake: Lake) -> None:
    first = create(lake, "t", SCHEMA, [])
    add(lake, 1, idempotency_key="k1")
    lake.table("t").manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
    add(lake, 1, idempotency_key="k1")
    assert values(lake) == [1]


# ------------------------------------------------------------------------------------------ fences


def test_fence_moves_with_the_rows(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    add(lake, 1, fence=Fence("r/s", None, "p1"))
    assert fence_value(lake.table("t"), "r/s") == "p1"
    add(lake, 2, fence=Fence("r/s", "p1", "p2"))
    assert fence_value(lake.table("t"), "r/s") == "p2"
    assert fence_value(lake.table("t"), "other") is None


def test_fence_without_rows_is_a_version(lake: Lake) -> None:
    create(lake, "t", SCHEMA, rows(1))
    version = append(lake, "t", [], schema=SCHEMA, fence=Fence("f", None, "1"))
    assert (version.version, version.added_records, version.total_records) == (2, 0, 1)
    assert values(lake) == [1]


def test_fence_on_a_new_table(lake: Lake) -> None:
    with pytest.raises(FenceError):
        create(lake, "t", SCHEMA, rows(1), fence=Fence("f", "0", "1"))
    assert lake.names() == []
    create(lake, "t", SCHEMA, rows(1), fence=Fence("f", None, "1"))
    assert fence_value(lake.table("t"), "f") == "1"


def test_moved_fence_stops_the_action_before_it_reads(lake: Lake, home: Path) -> None:
    create(lake, "t", SCHEMA, [], fence=Fence("f", None, "1"))
    before = files(home)
    with pytest.raises(FenceError, match="'f' is at '1', expected '0'"):
        append(lake, "t", failing(), schema=SCHEMA, fence=Fence("f", "0", "2"))
    assert files(home) == before


def test_fence_moved_during_the_write_stops_the_commit(lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(lake, "t", SCHEMA, [])
    Rival(lake, 1, lambda: add(lake, 7, fence=Fence("f", None, "1")), monkeypatch)
    with pytest.raises(FenceError):
        add(lake, 1, fence=Fence("f", None, "1"))
    assert values(lake) == [7]
    assert_all_referenced(lake, home)


def test_fence_holds_against_a_rival_that_only_adds_rows(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    create(lake, "t", SCHEMA, [])
    Rival(lake, 2, lambda: add(lake, 7), monkeypatch)
    add(lake, 1, fence=Fence("f", None, "1"))
    assert values(lake) == [1, 7, 7]


def test_fenced_action_whose_answer_was_lost_is_not_repeated(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    fence = Fence("f", None, "1")
    first = add(lake, 1, fence=fence, idempotency_key="run-1")
    assert add(lake, 1, fence=fence, idempotency_key="run-1") == first
    with pytest.raises(FenceError):
        add(lake, 1, fence=fence)


def test_fences_of_different_keys_do_not_meet(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    add(lake, 1, fence=Fence("a", None, "1"))
    add(lake, 2, fence=Fence("b", None, "1"))
    assert values(lake) == [1, 2]


# ------------------------------------------------------------------------------------------ properties


def test_property_edits_make_no_version(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [], properties={"old": "1"})
    update_properties(lake, "t", {"lakefeed.description": "new"}, remove=["old", "never there"])
    table = lake.table("t")
    assert table.properties["lakefeed.description"] == "new"
    assert "old" not in table.properties
    assert len(list_versions(table)) == 1


def test_property_edits_and_appends_do_not_disturb_each_other(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    create(lake, "t", SCHEMA, [])
    Rival(lake, 1, lambda: add(lake, 7), monkeypatch)
    update_properties(lake, "t", {"a": "1"})
    assert lake.table("t").properties["a"] == "1"
    assert values(lake) == [7]


def test_property_edits_try_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    create(lake, "t", SCHEMA, [])
    lose_answers(lake, monkeypatch, landing=False, error=CommitFailedException)
    update_properties(lake, "t", {"a": "1"})
    assert lake.table("t").properties["a"] == "1"


def test_no_property_edit_moves_a_fence(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    with pytest.raises(InvalidArgumentError, match="fence"):
        update_properties(lake, "t", {"lakefeed.fence.f": "1"})
    with pytest.raises(InvalidArgumentError, match="fence"):
        update_properties(lake, "t", {}, remove=["lakefeed.fence.f"])


# ------------------------------------------------------------------------------------------ metadata files


def test_metadata_files_do_not_pile_up(lake: Lake, home: Path) -> None:
    create(lake, "t", SCHEMA, [], properties={"write.metadata.previous-versions-max": "3"})
    for value in range(10):
        add(lake, value)
    assert len(list(home.rglob("*.metadata.json"))) <= 5
    assert_all_referenced(lake, home)


def test_partitioned_table_is_refused(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    with lake.table("t").update_spec() as spec:
        spec.add_identity("x")
    with pytest.raises(UnsupportedError, match="partitioned"):
        add(lake, 1)
