"""Columns that come, go, are renamed and widened: old versions keep theirs, nothing is written."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.types import StringType

from lakefeed.catalog import (
    Lake,
    add_column,
    append,
    column_types,
    create,
    declared_schema,
    drop_columns,
    rename_column,
    resolve,
    restore,
    widen_column,
)
from lakefeed.catalog.schema import media_of
from lakefeed.errors import ColumnNotFoundError, SchemaError, TypeMismatchError
from tests.sdk.catalog.types import EXACT, column

SCHEMA = pa.schema([("x", pa.uint8()), ("v", pa.list_(pa.float32(), 2)), ("s", pa.string())])


@pytest.fixture
def made(lake: Lake) -> Lake:
    """Dataset ``t`` of three columns, one row."""
    create(lake, "t", SCHEMA, [pa.RecordBatch.from_pylist([{"x": 1, "v": [1, 2], "s": "a"}], SCHEMA)])
    return lake


def now(lake: Lake) -> pa.Schema:
    return declared_schema(lake.table("t"))


def then(lake: Lake, version: int) -> pa.Schema:
    return declared_schema(lake.table("t"), resolve(lake.table("t"), version).snapshot_id)


def test_an_added_column_comes_last(made: Lake) -> None:
    assert add_column(made, "t", pa.field("n", pa.uint16(), nullable=False)) == now(made)
    assert now(made) == SCHEMA.append(pa.field("n", pa.uint16()))
    assert resolve(made.table("t")).version == 1


def test_each_change_keeps_the_declared_types(made: Lake) -> None:
    add_column(made, "t", pa.field("d", pa.dictionary(pa.int32(), pa.string())))
    rename_column(made, "t", "v", "vector")
    widen_column(made, "t", "x", pa.uint16())
    drop_columns(made, "t", ["s"])
    assert now(made) == pa.schema(
        [("x", pa.uint16()), ("vector", pa.list_(pa.float32(), 2)), ("d", pa.dictionary(pa.int32(), pa.string()))]
    )
    assert then(made, 1) == SCHEMA


@pytest.mark.live
def test_added_columns_of_every_type(made: Lake) -> None:
    for name, (kind, _) in EXACT.items():
        add_column(made, "t", pa.field(name, kind))
    cells = {name: column(kind, values[:1]).slice(0, 1) for name, (kind, values) in EXACT.items()}
    batch = pa.record_batch({"x": pa.array([7], pa.uint8()), **cells})
    append(made, "t", [batch], schema=batch.schema)
    create(made, "fresh", pa.schema([(name, kind) for name, (kind, _) in EXACT.items()]), [])
    declared = declared_schema(made.table("fresh"))
    for name in EXACT:
        assert now(made).field(name).type == then(made, 2).field(name).type == declared.field(name).type, name


def test_a_version_has_the_columns_that_it_was_written_with(made: Lake) -> None:
    add_column(made, "t", pa.field("n", pa.int8()))
    append(made, "t", [pa.record_batch({"n": pa.array([1], pa.int8())})], schema=pa.schema([("n", pa.int8())]))
    rename_column(made, "t", "n", "m")
    assert [then(made, version).names for version in (1, 2)] == [["x", "v", "s"], ["x", "v", "s", "n"]]
    assert now(made).names == ["x", "v", "s", "m"]


def test_a_dropped_name_is_free_again(made: Lake) -> None:
    drop_columns(made, "t", ["s"])
    add_column(made, "t", pa.field("s", pa.int64()))
    assert now(made).field("s").type == pa.int64()
    assert then(made, 1).field("s").type == pa.string()


def test_several_columns_go_or_none(made: Lake) -> None:
    with pytest.raises(ColumnNotFoundError, match="'nope'"):
        drop_columns(made, "t", ["s", "nope"])
    assert now(made) == SCHEMA
    assert drop_columns(made, "t", ["s", "v"]).names == ["x"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda lake: add_column(lake, "t", pa.field("x", pa.int8())), SchemaError, "column 'x' exists already"),
        (lambda lake: rename_column(lake, "t", "x", "s"), SchemaError, "column 's' exists already"),
        (lambda lake: rename_column(lake, "t", "xx", "y"), ColumnNotFoundError, "'xx'.*Did you mean 'x'"),
        (lambda lake: drop_columns(lake, "t", ["x", "v", "s"]), SchemaError, "cannot drop all columns"),
        (lambda lake: widen_column(lake, "t", "y", pa.int64()), ColumnNotFoundError, "'y'"),
        (
            lambda lake: widen_column(lake, "t", "x", pa.int8()),
            TypeMismatchError,
            "cannot widen column 'x' from uint8 to int8",
        ),
        (lambda lake: widen_column(lake, "t", "s", pa.int64()), TypeMismatchError, "cannot widen column .* to int64"),
        (lambda lake: widen_column(lake, "t", "v", pa.list_(pa.float64(), 2)), TypeMismatchError, "cannot widen"),
    ],
)
def test_mistakes_change_nothing(made: Lake, change: Any, error: type[Exception], message: str) -> None:
    before = made.table("t").metadata
    with pytest.raises(error, match=message):
        change(made)
    assert made.table("t").metadata == before


def test_nothing_to_do_changes_nothing(made: Lake) -> None:
    before = made.table("t").metadata
    assert rename_column(made, "t", "x", "x") == SCHEMA
    assert widen_column(made, "t", "x", pa.uint8()) == SCHEMA
    assert made.table("t").metadata == before


WIDER = [
    (pa.int8(), pa.int16()), (pa.int8(), pa.int64()), (pa.uint8(), pa.int16()), (pa.uint16(), pa.uint32()),
    (pa.int32(), pa.int64()), (pa.float16(), pa.float32()), (pa.float16(), pa.float64()), (pa.float32(), pa.float64()),
    (pa.timestamp("s"), pa.timestamp("us")), (pa.string(), pa.large_string()),
    (pa.decimal128(9, 2), pa.decimal128(20, 2)),
    (pa.binary(), pa.large_binary()), (pa.time32("s"), pa.time64("us")), (pa.date32(), pa.date64()),
]  # fmt: skip
NOT_WIDER = [
    (pa.int32(), pa.uint32()), (pa.int64(), pa.int32()), (pa.int64(), pa.float64()), (pa.uint32(), pa.uint64()),
    (pa.timestamp("us"), pa.timestamp("ns")), (pa.duration("s"), pa.duration("ms")), (pa.int32(), pa.string()),
    (pa.timestamp("us"), pa.timestamp("us", "UTC")), (pa.decimal128(9, 2), pa.decimal128(20, 3)),
    (pa.time64("us"), pa.time64("ns")),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), WIDER, ids=str)
def test_wider_types(lake: Lake, old: pa.DataType, new: pa.DataType) -> None:
    create(lake, "t", pa.schema([("x", old)]), [])
    assert widen_column(lake, "t", "x", new).field("x").type == new
    assert now(lake).field("x").type == new
    assert then(lake, 1).field("x").type == old


@pytest.mark.parametrize(("old", "new"), NOT_WIDER, ids=str)
def test_types_that_are_not_wider(lake: Lake, old: pa.DataType, new: pa.DataType) -> None:
    create(lake, "t", pa.schema([("x", old)]), [])
    with pytest.raises(TypeMismatchError, match="cannot widen"):
        widen_column(lake, "t", "x", new)


def test_file_columns_follow_their_column(lake: Lake) -> None:
    record = pa.struct([("url", pa.string())])
    schema = pa.schema([("photo", record), ("thumb", record), ("x", pa.int64())])
    create(lake, "t", schema, [], column_types={"photo": "image", "thumb": "image"})
    rename_column(lake, "t", "photo", "picture")
    drop_columns(lake, "t", ["thumb"])
    add_column(lake, "t", pa.field("clip", record, metadata={"lakefeed.type": "file"}))
    assert column_types(lake.table("t")) == media_of(now(lake)) == {"picture": "image", "clip": "file"}
    assert media_of(then(lake, 1)) == {"photo": "image", "thumb": "image"}
    restore(lake, "t", 1, fence=None)
    assert media_of(now(lake)) == {"photo": "image", "thumb": "image"}


def test_restore_brings_columns_back(made: Lake) -> None:
    append(made, "t", [pa.record_batch({"s": ["b"]})], schema=pa.schema([("s", pa.string())]))
    drop_columns(made, "t", ["s"])
    rename_column(made, "t", "x", "y")
    assert restore(made, "t", 2).version == 3
    assert now(made) == SCHEMA
    add_column(made, "t", pa.field("z", pa.float16()))
    assert now(made) == SCHEMA.append(pa.field("z", pa.float16()))
    assert then(made, 1) == then(made, 2) == then(made, 3) == SCHEMA


def test_changes_beside_pyiceberg(made: Lake) -> None:
    widen_column(made, "t", "x", pa.uint16())
    with made.table("t").update_schema() as update:
        update.add_column("theirs", StringType())
    add_column(made, "t", pa.field("n", pa.uint8()))
    assert now(made).types == [pa.uint16(), pa.list_(pa.float32(), 2), pa.string(), pa.string(), pa.uint8()]
    assert then(made, 1) == SCHEMA
