"""Rows that delete files remove: what edits write, what changes between versions tell, and what others read."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import ManifestContent

from lakefeed import Dataset
from lakefeed.catalog import Lake, data_files, edit_commit
from lakefeed.catalog.delete_files import delete_index
from lakefeed.run import upsert

ROWS = 200


@pytest.fixture
def plain(lake: Lake) -> Iterator[SqlCatalog]:
    """PyIceberg's own catalog on the same database."""
    lake.names()
    with SqlCatalog("lakefeed", uri=lake.settings.catalog_uri, warehouse=lake.settings.warehouse) as catalog:
        yield catalog


def save(first: int = 0, rows: int = ROWS) -> Dataset:
    return values(first, rows).save("t", if_exists="append")


def values(first: int, rows: int, shift: int = 0) -> Dataset:
    ids = range(first, first + rows)
    return Dataset.from_dict({"id": list(ids), "s": [f"text {i + shift}" for i in ids]})


def ids(rows: Any) -> list[int]:
    return list(rows.to_arrow()["id"].to_pylist())


def theirs(plain: SqlCatalog) -> list[int]:
    return sorted(plain.load_table("default.t").scan().to_arrow()["id"].to_pylist())


def summary(lake: Lake) -> dict[str, str]:
    return dict(lake.table("t").metadata.current_snapshot().summary.additional_properties)


def delete_files(lake: Lake) -> int:
    table = lake.table("t")
    return len(delete_index(table, table.metadata.current_snapshot()).files)


def test_a_few_deleted_rows_are_one_delete_file(lake: Lake, plain: SqlCatalog) -> None:
    save()
    save(ROWS)
    before = data_files(lake, lake.table("t"))
    deleted = Dataset("t").delete_rows("id in (3, 7, 250)")
    after = data_files(lake, lake.table("t"))
    assert [file.path for file in after] == [file.path for file in before]
    assert len({file.deletes for file in after}) == 1
    assert all(file.has_deletes for file in after)
    left = [i for i in range(2 * ROWS) if i not in (3, 7, 250)]
    assert (ids(deleted), theirs(plain)) == (left, left)
    facts = summary(lake)
    assert (facts["total-delete-files"], facts["total-position-deletes"], facts["total-records"]) == ("1", "3", "400")
    newest = deleted.list_versions()[0]
    assert (len(deleted), newest.total_records, newest.deleted_records, newest.net_records) == (397, 397, 3, -3)
    assert newest.operation == "overwrite"
    assert ids(deleted.removed_since(2)) == [3, 7, 250]
    assert ids(deleted.added_since(2)) == []
    report = deleted.changes(1)
    assert (report.added, report.removed) == (ROWS - 1, 2)


def test_filters_ranges_orders_and_resumes_pass_over_deleted_rows(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "32")
    save()
    gone = [0, 5, 31, 32, 63, 64, 65, 199]
    rows = Dataset("t").delete_rows(f"id in ({', '.join(map(str, gone))})")
    left = [i for i in range(ROWS) if i not in gone]
    assert ids(rows.filter("id >= 60 and id < 70")) == [60, 61, 62, 66, 67, 68, 69]
    assert ids(rows.filter("s == 'text 64'")) == []
    assert ids(rows.filter("s == 'text 66'").select(["id"])) == [66]
    assert rows.filter("id < 70").count() == 63
    assert ids(rows.slice(3, 33)) == left[3:33]
    shuffled = ids(rows.shuffle(seed=3))
    assert sorted(shuffled) == left
    assert ids(rows.cache()) == left
    assert Counter(ids(rows.mapped())) == Counter(left)
    assert ids(rows.shuffle(seed=3)) == shuffled
    assert rows.sql("SELECT count(*) AS n, min(id) AS low FROM data").to_arrow().to_pylist() == [{"n": 192, "low": 1}]


def test_a_large_share_is_written_again_without_its_rows(lake: Lake, plain: SqlCatalog) -> None:
    save()
    Dataset("t").delete_rows("id < 40")
    assert delete_files(lake) == 1
    Dataset("t").delete_rows("id < 60 or id == 100")
    (file,) = data_files(lake, lake.table("t"))
    assert (file.rows, file.deletes, file.sequence, delete_files(lake)) == (139, (), 1, 0)
    left = [i for i in range(60, ROWS) if i != 100]
    assert (ids(Dataset("t")), theirs(plain)) == (left, left)
    assert ids(Dataset("t").removed_since(2)) == [*range(40, 60), 100]
    assert len(Dataset("t")) == Dataset("t").list_versions()[0].total_records == 139
    Dataset("t").delete_rows("id >= 0")
    assert (ids(Dataset("t")), data_files(lake, lake.table("t"))) == ([], ())


@pytest.mark.live
def test_many_delete_files_are_merged(lake: Lake, plain: SqlCatalog) -> None:
    save()
    for i in range(40):
        Dataset("t").delete_rows(f"id == {i}")
        assert delete_files(lake) <= 17
    assert ids(Dataset("t")) == theirs(plain) == list(range(40, ROWS))
    assert ids(Dataset("t").removed_since(1)) == list(range(40))
    assert ids(Dataset("t").removed_since(14, 20)) == list(range(13, 19))
    assert ids(Dataset("t", version=18)) == list(range(17, ROWS))
    kinds = {m.content for m in lake.table("t").metadata.current_snapshot().manifests(lake.table("t").io)}
    assert kinds == {ManifestContent.DATA, ManifestContent.DELETES}


def test_restore_brings_deleted_rows_back_and_takes_them_away(lake: Lake, plain: SqlCatalog) -> None:
    save()
    Dataset("t").delete_rows("id in (1, 2)")
    Dataset("t").delete_rows("id in (5, 6)")
    assert ids(Dataset("t").restore(1)) == theirs(plain) == list(range(ROWS))
    assert (delete_files(lake), summary(lake)["total-position-deletes"]) == (0, "0")
    assert Dataset("t").restore(2).list_versions()[0].deleted_records == 2
    assert ids(Dataset("t")) == theirs(plain) == [0, *range(3, ROWS)]
    assert ids(Dataset("t").removed_since(4)) == [1, 2]
    assert ids(Dataset("t").removed_since(3, 4)) == ids(Dataset("t").added_since(1)) == []
    report = Dataset("t").changes(3)
    assert (report.added, report.removed) == (2, 0)
    assert [version.total_records for version in Dataset("t").list_versions()] == [198, 200, 196, 198, 200]


def test_pyiceberg_goes_on_from_delete_files(lake: Lake, plain: SqlCatalog) -> None:
    save()
    Dataset("t").delete_rows("id in (1, 2)")
    plain.load_table("default.t").delete("id in (3, 150)")
    left = [i for i in range(ROWS) if i not in (1, 2, 3, 150)]
    assert sorted(ids(Dataset("t"))) == theirs(plain) == left
    assert Dataset("t").list_versions()[0].total_records == len(left)
    save(ROWS, 10)
    Dataset("t").delete_rows("id == 205")
    assert ids(Dataset("t").removed_since(2)) == [3, 150, 205]
    rows = pa.table({"id": pa.array([4, 900]), "s": ["new", "new"]})
    plain.load_table("default.t").upsert(rows, join_cols=["id"])
    left = sorted({*left, *range(ROWS, ROWS + 10), 900} - {205})
    assert sorted(ids(Dataset("t"))) == theirs(plain) == left
    assert Dataset("t").filter("s == 'new'").count() == 2


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.live)])
def test_random_deletes_upserts_and_restores(
    seed: int, lake: Lake, plain: SqlCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, what each version added and removed, against sets in memory; with files that are seldom written again."""
    monkeypatch.setattr(edit_commit, "REWRITTEN_SHARE", (0.6, 2.0)[seed])
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "16")
    chance = random.Random(seed)
    save(0, 60)
    versions = [set(range(60))]
    changes: list[tuple[set[int], set[int]]] = [(set(range(60)), set())]
    for _ in range(18):
        now, kind = versions[-1], chance.choice(["delete", "append", "upsert", "restore"])
        some = set(chance.sample(sorted(now), min(len(now), chance.randint(1, 9))))
        if kind == "append":
            first = 1000 * len(versions)
            save(first, 20)
            came, went = set(range(first, first + 20)), set()
        elif kind == "delete":
            Dataset("t").delete_rows(f"id in ({', '.join(map(str, some))})")
            came, went = set(), some
        elif kind == "upsert":
            rows = sorted(some)
            given = {"id": rows, "s": [f"text {i} of {len(versions)}" for i in rows]}
            Dataset.from_dict(given).upsert_into("t", keys="id")
            came, went = some, some
        else:
            at = chance.randrange(len(versions))
            Dataset("t").restore(at + 1)
            if Dataset("t").version == len(versions):
                continue
            versions.append(versions[at])
            changes.append((set(), set()))
            assert sorted(ids(Dataset("t"))) == theirs(plain) == sorted(versions[-1])
            continue
        versions.append(now - went | came)
        changes.append((came, went))
        newest = Dataset("t")
        assert sorted(ids(newest)) == theirs(plain) == sorted(versions[-1])
        assert len(newest) == newest.list_versions()[0].total_records == len(versions[-1])
    for number, (came, went) in enumerate(changes[1:], 2):
        assert sorted(ids(Dataset("t").added_since(number - 1, number))) == sorted(came)
        if came or went:
            assert sorted(ids(Dataset("t").removed_since(number - 1, number))) == sorted(went)


@pytest.mark.parametrize("in_memory", [True, False])
def test_upserts_see_what_delete_files_removed(
    lake: Lake, plain: SqlCatalog, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    monkeypatch.setattr(upsert, "KEYS_IN_MEMORY", 1_000 if in_memory else 0)
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "32")
    save()
    Dataset("t").delete_rows("id in (3, 4)")
    # The row of a deleted key comes back, and equal rows are left alone.
    assert values(2, 3).upsert_into("t", keys="id").list_versions()[0].added_records == 2
    assert ids(Dataset("t")) == [i for i in range(ROWS) if i not in (3, 4)] + [3, 4]
    version = Dataset("t").version
    assert values(0, ROWS).upsert_into("t", keys="id").version == version
    values(10, 5, shift=1).upsert_into("t", keys="id")
    values(12, 3, shift=2).upsert_into("t", keys="id")
    newest = {row["id"]: row["s"] for row in Dataset("t").to_arrow().to_pylist()}
    assert [newest[i] for i in range(9, 16)] == [f"text {n}" for n in (9, 11, 12, 14, 15, 16, 15)]
    assert (len(Dataset("t")), len(theirs(plain))) == (ROWS, ROWS)
    assert sorted(ids(Dataset("t").removed_since(version))) == sorted([*range(10, 15), *range(12, 15)])
    Dataset.from_dict({"id": [20, 999], "x": [1, 2]}).select(["id"]).upsert_into("t", keys="id")
    assert Dataset("t").filter("id in (20, 999)").to_arrow()["s"].to_pylist() == ["text 20", None]


def test_an_upsert_of_a_key_that_several_rows_have_removes_all_of_them(lake: Lake) -> None:
    save()
    save(0, 10)
    values(5, 1).upsert_into("t", keys="id")
    assert ids(Dataset("t")).count(5) == 1
    assert ids(Dataset("t").removed_since(2)) == [5]
    assert ids(Dataset("t").added_since(2)) == [5]
