"""A nullable value with required fields inside may be null, however it came to be so."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.catalog.required_fields import fill_required
from lakefeed.errors import SchemaError, TypeMismatchError


def required(name: str, kind: Any) -> Any:
    return pa.field(name, kind, nullable=False)


INNER = pa.struct(
    [
        required("x", pa.int8()),
        required("text", pa.string()),
        required("raw", pa.binary(3)),
        required("list", pa.list_(required("item", pa.float64()))),
        required("map", pa.map_(pa.string(), required("value", pa.int64()))),
        required("struct", pa.struct([required("d", pa.decimal128(5, 2)), pa.field("o", pa.int8())])),
        pa.field("vector", pa.list_(required("item", pa.float32()), 2)),
        required("at", pa.timestamp("ns", "UTC")),
        required("flag", pa.bool_()),
        required("label", pa.dictionary(pa.int32(), pa.string())),
    ]
)
VALUE = {
    "x": 1, "text": "a", "raw": b"abc", "list": [1.0], "map": [("a", 1)], "struct": {"d": 1, "o": None},
    "vector": [1.0, 2.0], "at": 5, "flag": True, "label": "x",
}  # fmt: skip
COLUMNS: dict[str, tuple[pa.DataType, Any]] = {
    "struct": (INNER, VALUE),
    "list": (pa.list_(INNER), [VALUE, None]),
    "vector": (pa.list_(required("item", pa.int64()), 2), [1, 2]),
    "vectors": (pa.list_(pa.list_(required("item", INNER), 2)), [[VALUE, VALUE], None]),
    "map": (pa.map_(pa.string(), INNER), [("a", VALUE), ("b", None)]),
    "large": (pa.large_list(required("item", INNER)), [VALUE]),
}


def test_nulls_of_every_origin_are_saved_and_read() -> None:
    columns = {name: pa.array([value, None], kind) for name, (kind, value) in COLUMNS.items()}
    full = pa.table({"id": [1, 2], **columns})
    Dataset.from_arrow(full).save("required")
    Dataset.from_arrow(pa.table({"id": [3]})).append_to("required")
    untyped: dict[str, Any] = {name: pa.nulls(1) for name in COLUMNS}
    Dataset.from_arrow(pa.table({"id": [4], **untyped})).append_to("required")
    typed: dict[str, Any] = {name: pa.nulls(1, kind) for name, (kind, _) in COLUMNS.items()}
    Dataset.from_arrow(pa.table({"id": [2], **typed})).upsert_into("required", "id")
    rows = Dataset("required").to_arrow().to_pylist()
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert rows[0] == full.to_pylist()[0]
    assert all(row[name] is None for row in rows[1:] for name in COLUMNS)
    Dataset.from_dict({"id": [1, 99]}).join(Dataset("required"), "id", "left outer").save("joined")
    assert Dataset("joined").to_arrow().to_pylist() == [rows[0], {**rows[1], "id": 99}]


def test_a_null_where_a_value_is_required_names_its_column() -> None:
    kind = pa.struct([required("a", pa.int64())])
    loose = pa.array([{"a": None}], pa.struct({"a": pa.int64()}))
    Dataset.from_arrow(pa.table({"s": pa.array([{"a": 1}], kind)})).save("strict")
    with pytest.raises(SchemaError, match=r"'s'.*'a'"):
        Dataset.from_arrow(pa.table({"s": loose})).append_to("strict")


def test_what_parquet_cannot_give_back_is_refused() -> None:
    kind = pa.struct([required("v", pa.list_(pa.int64(), 2))])
    with pytest.raises(TypeMismatchError, match="'v'"):
        Dataset.from_arrow(pa.table({"s": pa.array([{"v": [1, 2]}, None], kind)})).save("fixed")


def test_required_extension_types_are_filled() -> None:
    inner = pa.struct([required("id", pa.uuid())])
    whole: Any = fill_required(pa.nulls(2, pa.struct([required("s", inner)])))
    assert (whole.null_count, whole.field(0).null_count, whole.field(0).field(0).null_count) == (2, 0, 0)
