"""Writes to keyed tables: rows stay unique by key, other columns keep their values, all or nothing is visible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from lakefeed import Dataset, Fence, Table, connect
from lakefeed.errors import (
    ColumnNotFoundError,
    DatasetExistsError,
    DatasetNotFoundError,
    DuplicateKeyError,
    FenceError,
    InvalidArgumentError,
    SchemaError,
    TypeMismatchError,
)

ID = {"id": pa.int64()}


def rows(table: Table, **options: Any) -> list[dict[str, Any]]:
    return table.scan(**options).to_table().to_pylist()


def columns(table: Table) -> dict[str, list[Any]]:
    return table.scan().to_table().to_pydict()


@pytest.fixture
def table(home: Path) -> Table:
    table = Table.create("photos", key_schema=ID)
    table.write({"id": [3, 1, 2], "label": ["c", "a", "b"], "size.w": [30, 10, 20], "size.h": [3, 1, 2]})
    return table


def test_key_schemas_in_each_form(home: Path) -> None:
    expected = pa.schema([pa.field("a", pa.string(), False), pa.field("b", pa.int32(), False)])
    forms = [
        pa.schema({"a": pa.string(), "b": pa.int32()}),
        [pa.field("a", pa.string()), pa.field("b", pa.int32())],
        [("a", pa.string()), ("b", pa.int32())],
        {"a": pa.string(), "b": pa.int32()},
    ]
    for number, form in enumerate(forms):
        assert Table.create(f"form{number}", key_schema=form).key_schema == expected
    for bad in ({}, {"a": pa.float64()}, {"a": pa.list_(pa.int8())}, {"a": pa.null()}, [("a", pa.int8())] * 2):
        with pytest.raises(SchemaError, match="key"):
            Table.create("bad", key_schema=bad)
    assert not Dataset.exists("bad")


def test_iceberg_and_other_programs_see_the_key_and_its_order(table: Table) -> None:
    stored = connect().catalog().load_table(("default", "photos"))
    assert stored.schema().identifier_field_names() == {"id"}
    assert [stored.schema().find_column_name(field.source_id) for field in stored.sort_order().fields] == ["id"]
    assert stored.scan().to_arrow().sort_by("id")["label"].to_pylist() == ["a", "b", "c"]


def test_a_written_key_keeps_the_columns_that_are_not_written(table: Table) -> None:
    snapshot = table.write({"id": [2, 4], "size.h": [22, 44], "score": [0.5, 0.25]})
    assert snapshot.version == 3
    assert rows(table)[1:] == [
        {"id": 2, "label": "b", "size": {"w": 20, "h": 22}, "score": 0.5},
        {"id": 3, "label": "c", "size": {"w": 30, "h": 3}, "score": None},
        {"id": 4, "label": None, "size": {"w": None, "h": 44}, "score": 0.25},
    ]
    assert table.snapshot(2).scan().schema.names == ["id", "label", "size"]
    table.write({"id": [1], "size": [{"d": 7}]})
    assert rows(table)[0]["size"] == {"w": 10, "h": 1, "d": 7}


FORMS = {
    "mapping": lambda: {"id": [1, 2], "x": [5, 6]},
    "rows": lambda: [{"id": 1, "x": 5}, {"id": 2, "x": 6}],
    "table": lambda: pa.table({"id": [1, 2], "x": [5, 6]}),
    "batch": lambda: pa.record_batch({"id": [1, 2], "x": [5, 6]}),
    "reader": lambda: pa.table({"id": [1, 2], "x": [5, 6]}).to_reader(),
    "structs": lambda: pa.array([{"id": 1, "x": 5}, {"id": 2, "x": 6}]),
    "pandas": lambda: pd.DataFrame({"id": [1, 2], "x": [5, 6]}),
    "polars": lambda: pl.DataFrame({"id": [1, 2], "x": [5, 6]}),
    "dataset": lambda: Dataset.from_dict({"id": [1, 2], "x": [5, 6]}),
    "scan": lambda: _other().scan(),
}


def _other() -> Table:
    other = Table.create("other", key_schema=ID)
    other.write({"id": [1, 2], "x": [5, 6]})
    return other


def test_rows_in_each_form(home: Path) -> None:
    for name, form in FORMS.items():
        table = Table.create(name, key_schema={"id": pa.int32()} if name in ("mapping", "rows", "pandas") else ID)
        table.write(form())
        assert columns(table) == {"id": [1, 2], "x": [5, 6]}, name
    for bad in (7, "text", None, [1], {"id": 1}, pa.array([1])):
        with pytest.raises((TypeMismatchError, SchemaError)):
            table.write(bad)


def test_types_become_wider_and_never_lose(table: Table) -> None:
    small = Table.create("small", key_schema={"id": pa.int32()})
    small.write(pa.table({"id": pa.array([1], pa.int32()), "x": pa.array([1], pa.int32())}))
    small.write({"id": [1], "x": [2**40]})
    assert small.schema().field("x").type == pa.int64()
    assert columns(small) == {"id": [1], "x": [2**40]}
    with pytest.raises(TypeMismatchError, match="'label'"):
        table.write({"id": [1], "label": [7]})
    with pytest.raises(TypeMismatchError, match=r"'size\.w'"):
        table.write({"id": [1], "size.w": ["wide"]})
    assert table.snapshot().version == 2


def test_what_a_write_refuses(table: Table) -> None:
    refused = [
        ({"id": [5, 5, 6]}, DuplicateKeyError, "'id': 5"),
        ({"x": [1]}, SchemaError, "'id'"),
        ({"id": [None]}, SchemaError, "null in row 0"),
        ({"id": [7], "size": pa.array([None], pa.struct({"w": pa.int64()}))}, SchemaError, "'size' is a null struct"),
        ({"id": [7], "a": [1], "a.b": [2]}, SchemaError, "'a'"),
    ]
    for given, kind, said in refused:
        with pytest.raises(kind, match=said):
            table.write(given)
    assert table.snapshot().version == 2


def test_nulls_are_pushed_down_into_structs(table: Table) -> None:
    inner = pa.struct({"w": pa.int64(), "deep": pa.struct({"v": pa.int8()})})
    table.write({"id": [1, 9], "size": pa.array([None, {"w": 5, "deep": None}], inner)}, push_down_nulls=True)
    assert rows(table, where="id in (1, 9)") == [
        {"id": 1, "label": "a", "size": {"w": None, "h": 1, "deep": {"v": None}}},
        {"id": 9, "label": None, "size": {"w": 5, "h": None, "deep": {"v": None}}},
    ]


def test_nothing_to_write_makes_no_version(table: Table) -> None:
    assert table.write(pa.table({"id": pa.array([], pa.int64())})).version == 2
    assert table.delete_keys([77]).version == 2
    assert table.txn().commit() is None
    with table.txn() as txn:
        assert txn.is_empty()
    assert (txn.status, table.snapshot().version) == ("committed", 2)


def test_keys_are_deleted(table: Table) -> None:
    table.delete_keys([1])
    table.delete_keys({"id": [3, 99]})
    assert columns(table)["id"] == [2]
    table.write({"id": [1]})
    assert columns(table) == {"id": [1, 2], "label": [None, "b"], "size": [None, {"w": 20, "h": 2}]}
    for bad in ({"id": [1], "label": ["a"]}, {"x": [1]}, {"id": [None]}, ["text"]):
        with pytest.raises(SchemaError):
            table.delete_keys(bad)


def test_keys_of_several_columns(home: Path) -> None:
    table = Table.create("pairs", key_schema=[("a", pa.string()), ("b", pa.int32())])
    table.write({"a": ["y", "x", "x"], "b": [1, 2, 1], "v": [1, 2, 3]})
    table.write({"a": ["x", "y"], "b": [2, 2], "v": [20, 40]})
    table.delete_keys({"a": ["y"], "b": [1]})
    assert rows(table) == [{"a": "x", "b": 1, "v": 3}, {"a": "x", "b": 2, "v": 20}, {"a": "y", "b": 2, "v": 40}]


def test_columns_are_dropped_all_or_none(table: Table) -> None:
    for bad, kind in (
        (["label", "gone"], ColumnNotFoundError),
        (["id"], SchemaError),
        (["size.w", "size.h"], SchemaError),
    ):
        with pytest.raises(kind):
            table.drop_columns(bad)
    assert table.snapshot().version == 2
    table.drop_columns(["label", "size.w"])
    assert rows(table)[0] == {"id": 1, "size": {"h": 1}}
    assert rows(table, asof=2)[0] == {"id": 1, "label": "a", "size": {"w": 10, "h": 1}}
    table.write({"id": [1], "label": [5], "size.w": ["new"]})
    assert rows(table)[0] == {"id": 1, "size": {"h": 1, "w": "new"}, "label": 5}
    with pytest.raises(SchemaError, match="key column"):
        Dataset("photos").drop_column("id")


def test_a_transaction_is_one_version(table: Table) -> None:
    with table.txn() as txn:
        txn.write({"id": [1, 5], "label": ["A", "E"]})
        txn.write({"id": [5, 6], "size.w": [50, 60]})
        txn.write({"id": [6], "size.h": [6]})
        txn.delete_keys([2])
        assert columns(table)["label"] == ["a", "b", "c"]
    assert (txn.status, table.snapshot().version) == ("committed", 3)
    assert rows(table) == [
        {"id": 1, "label": "A", "size": {"w": 10, "h": 1}},
        {"id": 3, "label": "c", "size": {"w": 30, "h": 3}},
        {"id": 5, "label": "E", "size": {"w": 50, "h": None}},
        {"id": 6, "label": None, "size": {"w": 60, "h": 6}},
    ]
    with pytest.raises(InvalidArgumentError, match="committed"):
        txn.write({"id": [1]})


def test_what_a_transaction_refuses(table: Table) -> None:
    txn = table.txn()
    txn.write({"id": [1, 5], "label": ["A", "E"]})
    with pytest.raises(DuplicateKeyError, match="'id': 5"):
        txn.write({"id": [5, 6], "label": ["e", "f"]})
    with pytest.raises(DuplicateKeyError, match="'id': 1"):
        txn.delete_keys([1])
    with pytest.raises(SchemaError, match="label"):
        txn.drop_columns(["label"])
    txn.abort()
    assert (txn.status, table.snapshot().version) == ("aborted", 2)
    failing = table.txn()
    with pytest.raises(SchemaError), failing:  # noqa: PT012 - the second write fails
        failing.write({"id": [7]})
        failing.write({"id": [None]})
    assert (failing.status, table.snapshot().version) == ("aborted", 2)


def test_a_scan_is_written_back(table: Table) -> None:
    with table.txn() as txn:
        txn.writeback(table.scan({"double": table["size.w"] * 2}, where="id > 1"))
    assert columns(table)["double"] == [None, 40, 60]


def test_options_of_a_write(table: Table) -> None:
    for _ in range(2):
        assert table.write({"id": [8]}, idempotency_key="once").version == 3
    assert table.write({"id": [9]}, fence=Fence("f", None, "1")).version == 4
    with pytest.raises(FenceError):
        table.write({"id": [10]}, fence=Fence("f", None, "1"))
    assert columns(table)["id"] == [1, 2, 3, 8, 9]
    with pytest.raises(TypeError, match="nonsense"):
        table.write({"id": [1]}, nonsense=1)  # type: ignore[call-arg]


def test_names_and_projects(home: Path) -> None:
    client = connect()
    project = client.create_project(name="vision")
    made = project.create_table("web.pages", key_schema=ID, description="pages")
    made.write({"id": [1]})
    assert (made.identifier, made.project, made.dataset, made.name) == ("vision.web.pages", "vision", "web", "pages")
    assert project.create_table("web.pages", key_schema=ID, exist_ok=True) == project.table("web.pages")
    with pytest.raises(DatasetExistsError, match="exist_ok"):
        project.create_table("web.pages", key_schema=ID)
    with pytest.raises(SchemaError, match="exists with the key"):
        project.create_table("web.pages", key_schema={"id": pa.string()}, exist_ok=True)
    moved = project.move_table("web.pages", "old")
    renamed = project.rename_table("old.pages", "sites")
    assert (moved.identifier, renamed.identifier) == ("vision.old.pages", "vision.old.sites")
    assert columns(renamed) == {"id": [1]}
    assert Dataset("vision.old.sites").count() == 1
    assert [each.name for each in client.list_projects()] == ["vision"]
    Dataset.from_dict({"x": [1]}).save("plain")
    with pytest.raises(InvalidArgumentError, match="without a key"):
        client.table("plain")
    assert client.list_tables() == project.list_tables() == [renamed]
    project.create_table("web.pages", key_schema=ID)
    project.rename_table("web.pages", "sites")
    with pytest.raises(DatasetExistsError, match="exists already"):
        project.move_table("web.sites", "old")
    project.drop_table("old.sites")
    with pytest.raises(DatasetNotFoundError):
        project.table("old.sites")


def test_settings_of_a_client(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lakefeed.toml").write_text(
        "[commit]\nretries = 3\n[read]\nthreads = 3\n[sql]\nmemory_bytes = 99999999\n"
    )
    monkeypatch.setenv("LAKEFEED_CONFIG", str(tmp_path / "lakefeed.toml"))
    monkeypatch.setenv("LAKEFEED__READ__THREADS", "4")
    config = connect(overrides={"sql.memory_bytes": 88888888}).config
    assert (config.commit.retries, config.read.threads, config.sql.memory_bytes) == (3, 4, 88888888)
    again = connect(config, overrides={"commit.retries": "9"}).config
    assert (again.commit.retries, again.read.threads, again.sql.memory_bytes) == (9, 4, 88888888)
    assert connect(config) != connect(config)
    assert connect(config).iceberg.catalog() is connect(config).catalog()
