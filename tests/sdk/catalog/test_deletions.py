"""A number of a name never means two versions: what is made anew goes on after what was deleted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import ForbiddenError

from lakefeed import Dataset, Fence
from lakefeed.catalog import Lake, append, create, list_versions, resolve
from lakefeed.catalog.sql_catalog import LakeSqlCatalog
from lakefeed.catalog.tombstones import DELETIONS_RECORDED, deletions, deletions_key, retire
from lakefeed.config import Settings
from lakefeed.errors import DatasetExistsError, DatasetNotFoundError, VersionNotFoundError

BATCH = pa.record_batch({"x": [1]})
NAME = ("default", "t")


@pytest.fixture(params=["embedded", "other"])
def any_lake(request: pytest.FixtureRequest, home: Path) -> Iterator[Lake]:
    home.mkdir()
    other = {"catalog.type": "in-memory", "catalog.uri": f"sqlite:///{home}/other.db"}
    lake = Lake(Settings.load(**(other if request.param == "other" else {})))
    yield lake
    lake.close()


def numbers(lake: Lake) -> list[int]:
    return [version.version for version in list_versions(lake.table("t"))]


def test_a_dataset_made_anew_goes_on_after_the_last_number(any_lake: Lake) -> None:
    lake = any_lake
    create(lake, "t", BATCH.schema, [BATCH])
    for _ in range(2):
        append(lake, "t", [BATCH], schema=BATCH.schema)
    lake.drop("t")
    with pytest.raises(DatasetNotFoundError, match=r"deleted at .* after version 3"):
        lake.table("t")
    assert create(lake, "t", BATCH.schema, [BATCH]).version == 4
    append(lake, "t", [BATCH], schema=BATCH.schema)
    assert numbers(lake) == [5, 4]
    lake.drop("t")
    create(lake, "t", BATCH.schema, [BATCH])
    assert numbers(lake) == [6]
    first, second = deletions(lake.catalog, NAME)
    assert (first.last, second.last) == (3, 5)
    for number, deleted in ((1, first), (3, first), (4, second), (5, second)):
        with pytest.raises(VersionNotFoundError, match=f"deleted at {deleted.deleted_at[:10]}"):
            resolve(lake.table("t"), number)
    with pytest.raises(VersionNotFoundError, match="no version 7; the versions"):
        resolve(lake.table("t"), 7)


def test_pyiceberg_reads_and_writes_a_dataset_that_begins_later(lake: Lake) -> None:
    create(lake, "t", BATCH.schema, [BATCH])
    lake.drop("t")
    create(lake, "t", BATCH.schema, [BATCH])
    theirs = SqlCatalog("lakefeed", uri=lake.settings.catalog_uri, warehouse=lake.settings.warehouse)
    try:
        table = theirs.load_table("default.t")
        assert table.metadata.last_sequence_number == 2
        assert [entry["sequence_number"] for entry in table.inspect.entries().to_pylist()] == [2]
        table.append(pa.table({"x": [2]}))
        assert sorted(table.scan().to_arrow()["x"].to_pylist()) == [1, 2]
    finally:
        theirs.close()
    assert numbers(lake) == [3, 2]


def test_all_edits_and_ranges_work_on_a_dataset_that_begins_later() -> None:
    for x in (1, 2, 3):
        Dataset.from_dict({"x": [x]}).save("t")
        if x < 3:
            Dataset("t").delete()
    Dataset.from_dict({"x": [4]}).append_to("t")
    t = Dataset("t")
    assert t.added_since().to_arrow()["x"].to_pylist() == [3, 4]
    assert t.added_since(3).to_arrow()["x"].to_pylist() == [4]
    t.delete_rows("x == 3")
    assert Dataset("t").removed_since(4).to_arrow()["x"].to_pylist() == [3]
    Dataset.from_dict({"x": [4, 5]}).upsert_into("t", keys="x")
    Dataset.from_dict({"x": [9]}).overwrite("t")
    assert t.restore(3).to_arrow()["x"].to_pylist() == [3]
    assert [version.version for version in t.list_versions()] == [8, 7, 6, 5, 4, 3]
    assert t.changes(3, 8).added == 0
    with pytest.raises(VersionNotFoundError, match="deleted"):
        t.added_since(1)
    with pytest.raises(VersionNotFoundError, match="deleted"):
        t.restore(2)


def test_the_record_stays_small_and_older_numbers_are_errors_still(lake: Lake) -> None:
    for _ in range(DELETIONS_RECORDED + 3):
        create(lake, "t", BATCH.schema, [BATCH])
        lake.drop("t")
    value = lake.catalog.load_namespace_properties(("default",))[deletions_key("t")]
    assert len(value) < 1000
    assert len(json.loads(value)) == DELETIONS_RECORDED
    assert create(lake, "t", BATCH.schema, [BATCH]).version == DELETIONS_RECORDED + 4
    with pytest.raises(VersionNotFoundError, match="deleted at"):
        resolve(lake.table("t"), 1)


def test_a_record_that_cannot_be_read_is_said_and_hinders_nobody(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    create(lake, "t", BATCH.schema, [BATCH])
    lake.drop("t")
    lake.catalog.update_namespace_properties(("default",), updates={deletions_key("t"): "not ours"})
    assert create(lake, "t", BATCH.schema, [BATCH]).version == 1
    assert "invalid record" in caplog.text


def test_a_table_that_another_program_dropped_is_not_on_record(lake: Lake) -> None:
    create(lake, "t", BATCH.schema, [BATCH])
    lake.catalog.drop_table(NAME)
    assert create(lake, "t", BATCH.schema, [BATCH]).version == 1


def test_a_crash_between_record_and_drop_does_no_harm(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    lake = Lake(Settings.load(**{"catalog.type": "in-memory", "catalog.uri": f"sqlite:///{home}/other.db"}))
    create(lake, "t", BATCH.schema, [BATCH])

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(lake.catalog), "drop_table", crash)
        with pytest.raises(KeyboardInterrupt):
            lake.drop("t")
    assert resolve(lake.table("t"), 1).version == 1
    append(lake, "t", [BATCH], schema=BATCH.schema)
    with pytest.raises(VersionNotFoundError, match="no version 7; the versions"):
        resolve(lake.table("t"), 7)
    lake.drop("t")
    assert create(lake, "t", BATCH.schema, [BATCH]).version == 3
    lake.close()


@pytest.mark.parametrize("refusal", [NotImplementedError("no such endpoint"), ForbiddenError("not yours")])
def test_a_catalog_that_keeps_no_record_deletes_and_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refusal: Exception
) -> None:
    home.mkdir()
    lake = Lake(Settings.load(**{"catalog.type": "in-memory", "catalog.uri": f"sqlite:///{home}/other.db"}))
    create(lake, "t", BATCH.schema, [BATCH])

    def refuse(*_: object, **__: object) -> None:
        raise refusal

    monkeypatch.setattr(type(lake.catalog), "update_namespace_properties", refuse)
    lake.drop("t")
    assert "starts at version 1" in caplog.text
    assert create(lake, "t", BATCH.schema, [BATCH]).version == 1
    lake.close()


def test_a_version_that_lands_during_the_delete_is_counted(any_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = any_lake
    create(lake, "t", BATCH.schema, [BATCH])
    _once_before(monkeypatch, lake, lambda: append(lake, "t", [BATCH], schema=BATCH.schema))
    lake.drop("t")
    assert create(lake, "t", BATCH.schema, [BATCH]).version == 3


def test_a_dataset_made_anew_during_the_delete_is_left_alone(any_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = any_lake
    create(lake, "t", BATCH.schema, [BATCH])

    def made_anew() -> None:
        lake.drop("t")
        create(lake, "t", BATCH.schema, [BATCH])

    _once_before(monkeypatch, lake, made_anew)
    with pytest.raises(DatasetNotFoundError, match="created again"):
        lake.drop("t")
    assert numbers(lake) == [2]
    lake.drop("t")
    assert create(lake, "t", BATCH.schema, [BATCH]).version == 3


def test_a_dataset_that_came_and_went_while_another_was_made_leaves_its_numbers_behind(any_lake: Lake) -> None:
    lake = any_lake

    def batches() -> Iterator[pa.RecordBatch]:
        create(lake, "t", BATCH.schema, [BATCH])
        append(lake, "t", [BATCH], schema=BATCH.schema)
        lake.drop("t")
        yield BATCH

    assert create(lake, "t", BATCH.schema, batches()).version == 3


def test_the_catalog_refuses_a_number_that_was_used_since_it_was_looked_up(
    lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, rivals = LakeSqlCatalog.commit_table, [1]

    def late(self: LakeSqlCatalog, *given: object) -> object:
        if rivals and rivals.pop():
            create(lake, "t", BATCH.schema, [BATCH])
            lake.drop("t")
        return original(self, *given)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(LakeSqlCatalog, "commit_table", late)
    assert create(lake, "t", BATCH.schema, [BATCH]).version == 2
    named = {task.file.file_path.rsplit("/", 1)[-1] for task in lake.table("t").scan().plan_files()}
    assert named == {path.name for path in home.rglob("data/*.parquet")}


def test_threads_that_make_and_delete_at_once_use_no_number_twice(lake: Lake) -> None:
    seen: list[tuple[int, int]] = []
    lock = threading.Lock()

    def work(_: int) -> None:
        for _ in range(6):
            try:
                made = create(lake, "t", BATCH.schema, [BATCH])
                with lock:
                    seen.append((made.version, made.snapshot_id))
                lake.drop("t")
            except (DatasetExistsError, DatasetNotFoundError):
                continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert seen
    assert len({number for number, _ in seen}) == len(seen)


def test_an_idempotency_key_and_a_fence_belong_to_the_table() -> None:
    rows = Dataset.from_dict({"x": [1]})
    assert rows.save("t", idempotency_key="k", fence=Fence("f", None, "1")).version == 1
    assert rows.save("t", idempotency_key="k").version == 1
    Dataset("t").delete()
    assert rows.save("t", idempotency_key="k", fence=Fence("f", None, "1")).version == 2


def _once_before(monkeypatch: pytest.MonkeyPatch, lake: Lake, act: Callable[[], object]) -> None:
    """Has something happen once, after a delete has looked at the table and before it takes it out."""
    todo = [act]

    def delayed(catalog: object, load: Callable[[], object], drop: object) -> object:
        looked = [load()]
        if todo:
            todo.pop()()
        return retire(catalog, lambda: looked.pop() if looked else load(), drop)  # type: ignore[arg-type, return-value]

    monkeypatch.setattr("lakefeed.catalog.drop_table.retire", delayed)
